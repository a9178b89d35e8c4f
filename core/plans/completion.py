"""Asks the models that play the roles of a plan: which one, by whom, how often, and who takes over when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeVar, cast, overload

import structlog

from core.kernel.errors import DeadlineExceeded, DomainError, ResourceExhausted, Unavailable, UpstreamFailed
from core.kernel.settings import Settings
from core.models.answers import broken_off
from core.models.endpoints import Endpoints
from core.plans.answer_reader import AnswerReader
from core.plans.builtin_models import TOOL_CALLS
from core.plans.builtin_providers import OLLAMA
from core.plans.pack_roles import role_in
from core.plans.packs import Limits, PackBook, Stock, context_limit
from core.plans.questions import Function, Message, Question, calls_function, request_for
from core.plans.role_providers import Providers, Way
from core.plans.state import Settings as PlanChoice
from core.plans.tokens import count_tokens
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.plans.v1.models_pb import CustomModel, ModelPack, ModelRole

T = TypeVar("T")

TOKENS_PER_STEP = 150_000
"""Tokens of a prompt for which the first token of the answer may take as long again."""

log = structlog.get_logger("busbar.plans.completion")


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one answer cost.

    Attributes:
        role: Role that was played.
        model_id: Model that played it.
        provider: Who answered.
        input_tokens: Tokens that were read.
        output_tokens: Tokens that were written.
        cost: What the provider charges, in US dollars; None where it does not say.
        estimated: Whether the tokens are counted here, since the provider does not tell.
        finish_reason: Why the answer ended: `stop`, `length` or `content_filter`.
    """

    role: str
    model_id: str
    provider: str
    input_tokens: int
    output_tokens: int
    cost: float | None = None
    estimated: bool = False
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class _Attempt:
    role: ModelRole
    model: CustomModel
    way: Way


class Roles:
    """Makes the models of a branch ready to be asked."""

    def __init__(self, settings: Settings, packs: PackBook, endpoints: Endpoints) -> None:
        self._settings = settings
        self._packs = packs
        self._endpoints = endpoints

    async def for_branch(self, org_id: str, settings: PlanChoice, auth_vars: Mapping[str, str]) -> RoleModels:
        """Return the models that settings choose, to be asked with a caller's variables. Nothing is asked yet."""
        stock = await self._packs.stock(org_id)
        return RoleModels(self._settings, stock, stock.resolve(settings), auth_vars, self._endpoints)


class RoleModels:
    """The models of a branch.

    Every question may raise:
        Unavailable: No provider is usable, or it rejects its key; says which variables are missing.
        UpstreamFailed: It cannot be reached, fails, or sends what is no answer, in spite of retries and fallbacks.
        DeadlineExceeded: It takes too long.
        ResourceExhausted: It is asked too often.
        InvalidArgument: It does not accept the question, or its address must not be called.

    Attributes:
        pack: The pack.
        usage: What the answers so far cost, in order.
    """

    def __init__(
        self, settings: Settings, stock: Stock, pack: ModelPack, auth_vars: Mapping[str, str], endpoints: Endpoints
    ) -> None:
        self.pack = pack
        self.usage: list[ModelUsage] = []
        self._stock = stock
        self._providers = Providers(settings, stock, auth_vars)
        self._endpoints = endpoints
        self._limits = settings.plan_models

    def limits(self, role: str) -> Limits:
        """Return what fits into the model of a role."""
        found = role_in(self.pack, role)
        model = self._stock.model(found.model_id) or CustomModel(model_id=found.model_id)
        return Limits(
            max_tokens=model.max_tokens,
            max_output_tokens=model.max_output_tokens,
            reserved_output_tokens=found.reserved_output_tokens or model.reserved_output_tokens,
            max_convo_tokens=found.max_convo_tokens or model.default_max_convo_tokens,
            has_image_support=model.has_image_support,
            calls_functions=model.preferred_output_format == TOOL_CALLS,
        )

    def room(self, role: str) -> int:
        """Return how many tokens a role can read, with the model that takes over when there is much."""
        return context_limit(self._stock, self.pack, role)

    def require(self, *roles: str) -> None:
        """Check that roles can be played, without asking anybody.

        Raises:
            Unavailable: One of them has no usable provider.
        """
        for role in roles:
            self._attempts(role, Question(()))

    async def stream(
        self, role: str, messages: Sequence[Message], *, stop: Sequence[str] = (), writes: int = 0, strong: bool = False
    ) -> AsyncGenerator[str]:
        """Answer in pieces of text. Once a piece has come, a failure ends the answer: nothing is said twice.

        Args:
            role: Role that answers.
            messages: The question.
            stop: Marks at which the answer ends; they are left out.
            writes: Tokens that the answer has at least, where that is known.
            strong: Whether to ask the strong model of the role.
        """
        question = Question(messages, tuple(stop), writes=writes, strong=strong).counted()
        async with aclosing(self._tried(role, question, lambda attempt: self._texts(role, attempt, question))) as texts:
            async for text in texts:
                yield text

    @overload
    async def ask(self, role: str, messages: Sequence[Message], *, function: None = None, strong: bool = False) -> str: ...

    @overload
    async def ask(
        self, role: str, messages: Sequence[Message], *, function: Function, strong: bool = False
    ) -> dict[str, Any]: ...

    async def ask(
        self, role: str, messages: Sequence[Message], *, function: Function | None = None, strong: bool = False
    ) -> str | dict[str, Any]:
        """Answer at once: with text, or with the values of a function. An answer that cannot be read is asked for again."""
        question = Question(messages, function=function, strong=strong).counted()

        def whole(attempt: _Attempt) -> AsyncGenerator[str | dict[str, Any]]:
            return self._whole(role, attempt, question)

        async with aclosing(self._tried(role, question, whole)) as answers:
            async for answer in answers:
                return answer
        raise broken_off()

    async def _tried(self, role: str, question: Question, once: Callable[[_Attempt], AsyncGenerator[T]]) -> AsyncGenerator[T]:
        """Yield the answer of the first attempt that brings any."""
        failure: DomainError | None = None
        for attempt in self._attempts(role, question):
            for left in range(self._limits.retries, -1, -1):
                came = False
                try:
                    async with aclosing(once(attempt)) as answer:
                        async for piece in answer:
                            came = True
                            yield piece
                except DomainError as error:
                    failure = _named(error, attempt.way)
                    log.info("model_failed", role=role, model=attempt.model.model_id, provider=attempt.way.provider, tries=left)
                    if came:
                        raise failure from error
                    wait = self._wait(error)
                    if wait is None or not left:
                        break
                    await asyncio.sleep(wait)
                else:
                    return
        raise failure or broken_off()

    def _wait(self, error: DomainError) -> float | None:
        """Return for how long to wait before the same is asked again; None where that is of no use."""
        if isinstance(error, ResourceExhausted):
            wait = self._limits.retry_seconds if error.retry_after is None else error.retry_after
            return wait if wait <= self._limits.longest_retry_seconds else None
        return self._limits.retry_seconds if isinstance(error, UpstreamFailed | DeadlineExceeded) else None

    def _attempts(self, role: str, question: Question) -> list[_Attempt]:
        """Return whom to ask, in order: the model, who stands in for it on errors, and its other providers.

        Raises:
            Unavailable: Nobody can be asked.
        """
        first = self._fitting(role_in(self.pack, role), question)
        attempts: list[_Attempt] = []
        others: list[_Attempt] = []
        found: ModelRole | None = first
        while found is not None:
            model = self._stock.model(found.model_id)
            ways = self._providers.ways(model) if model is not None else []
            for number, way in enumerate(ways):
                attempt = _Attempt(found, cast("CustomModel", model), way)
                (others if number else attempts).append(attempt)
            found = found.error_fallback
        if not attempts:
            raise self._providers.none(role, first.model_id, self._stock.model(first.model_id))
        return attempts + others

    def _fitting(self, role: ModelRole, question: Question) -> ModelRole:
        """Return who plays a role for a question: it may be hard, too long to read, or have too long an answer."""
        if question.strong and role.strong_model is not None:
            role = role.strong_model
        while role.large_context_fallback is not None and question.tokens > self._room(role):
            role = role.large_context_fallback
        while role.large_output_fallback is not None and question.writes > self._kept(role):
            role = role.large_output_fallback
        return role

    def _room(self, role: ModelRole) -> int:
        """Return the tokens that a model can read, by our count, which may be short by what the model says."""
        model = self._stock.model(role.model_id)
        if model is None:
            return 0
        return int((model.max_tokens - self._kept(role)) / (1 + max(model.token_estimate_padding_pct, 0) / 100))

    def _kept(self, role: ModelRole) -> int:
        model = self._stock.model(role.model_id)
        return role.reserved_output_tokens or (model.reserved_output_tokens if model else 0)

    async def _whole(self, role: str, attempt: _Attempt, question: Question) -> AsyncGenerator[str | dict[str, Any]]:
        async with aclosing(self._texts(role, attempt, question)) as texts:
            text = "".join([piece async for piece in texts])
        yield text if question.function is None else question.function.read(text)

    async def _texts(self, role: str, attempt: _Attempt, question: Question) -> AsyncGenerator[str]:
        """Ask once, and yield the text of the answer, or the arguments of the function that it calls."""
        model, way = attempt.model, attempt.way
        arguments = request_for(model, attempt.role, way.kind, way.model_name, question)
        first = self._first_seconds(way, question)
        read = AnswerReader(question, calls_function=calls_function(model, question))
        answer = self._endpoints.stream(way.endpoint, arguments, first_seconds=first, seconds=self._limits.chunk_seconds)
        try:
            async with aclosing(answer) as pieces:
                async for piece in pieces:
                    text = read.take(piece)
                    if text:
                        yield text
                    if read.stopped:
                        break
            rest = read.finish()
            if rest:
                yield rest
        finally:
            self._record(role, attempt, question, read)

    def _first_seconds(self, way: Way, question: Question) -> float:
        longest = self._limits.longest_first_token_seconds
        if way.kind == OLLAMA:
            return longest
        return min(self._limits.first_token_seconds * (1 + question.tokens // TOKENS_PER_STEP), longest)

    def _record(self, role: str, attempt: _Attempt, question: Question, read: AnswerReader) -> None:
        """Note what an answer cost, one that was broken off as well; one that never began cost nothing."""
        if not read.began:
            return
        usage = read.usage
        self.usage.append(
            ModelUsage(
                role=role,
                model_id=attempt.model.model_id,
                provider=attempt.way.provider,
                input_tokens=usage.prompt_tokens if usage else question.tokens,
                output_tokens=usage.completion_tokens if usage else count_tokens("x" * read.length),
                cost=read.cost,
                estimated=usage is None,
                finish_reason=read.reason or "stop",
            )
        )


def _named(error: DomainError, way: Way) -> DomainError:
    """Return a failure with the provider whose it is, since the caller may have several."""
    if error.reason == ErrorReason.NOT_CONFIGURED:
        return Unavailable(f"the model provider {way.provider} rejected its key", reason=error.reason, provider=way.provider)
    named = copy(error)
    named.message = f"{error.message} ({way.provider}, model {way.model_name})"
    named.args = (named.message,)
    return named
