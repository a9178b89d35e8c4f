"""What a question to the model provider comes to, with a real server that speaks its protocol and fails as providers do."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from core.kernel.errors import (
    DeadlineExceeded,
    DomainError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    UpstreamFailed,
)
from core.kernel.logging import configure_logging
from core.kernel.settings import Settings
from core.models.answers import Reply, Turn, Usage, Wishes
from core.models.provider import Models
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from tests.provider import KEY, MODEL, Provider, serving, settings

QUESTION = [Turn("user", "Which pin drives the relay?")]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider on this machine."""
    async with serving() as provider:
        yield provider


@pytest.fixture
async def models(provider: Provider) -> AsyncIterator[Models]:
    """Models that ask it."""
    models = asking(provider)
    yield models
    await models.stop()


def asking(provider: Provider, **more: Any) -> Models:
    """Return models that ask a provider."""
    return Models(Settings(**settings(provider, **more)))


async def streamed(models: Models) -> list[str | Reply]:
    """Return all pieces of an answer."""
    return [piece async for piece in models.stream(QUESTION)]


async def gathered(models: Models, into: list[str | Reply]) -> None:
    """Put the pieces of an answer into a list, as far as they come."""
    async for piece in models.stream(QUESTION):
        into.append(piece)  # noqa: PERF401 - what came before a failure counts


async def asked(models: Models, how: str) -> object:
    """Ask in one of the two ways."""
    return await (models.chat(QUESTION) if how == "whole" else streamed(models))


async def test_an_answer_comes_with_its_model_its_end_and_its_price(models: Models, provider: Provider) -> None:
    reply = await models.chat(QUESTION, Wishes(temperature=0.2, max_tokens=50))
    assert reply == Reply("Use pin 4.", MODEL, "stop", Usage(11, 3, 14))
    assert provider.requests == [
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Which pin drives the relay?"}],
            "temperature": 0.2,
            "max_tokens": 50,
        }
    ]


async def test_an_answer_comes_in_pieces_and_then_whole(models: Models) -> None:
    pieces = await streamed(models)
    assert pieces == ["Use ", "pin ", "4.", Reply("Use pin 4.", MODEL, "stop", Usage(11, 3, 14))]


@pytest.mark.parametrize("how", ["whole", "streamed"])
async def test_an_empty_answer_is_an_answer(models: Models, provider: Provider, how: str) -> None:
    provider.pieces, provider.usage = [], False
    answer = await asked(models, how)
    assert answer in (Reply("", MODEL, "stop", None), [Reply("", MODEL, "stop", None)])


@pytest.mark.parametrize(
    ("said", "told"), [("length", "length"), ("content_filter", "content_filter"), ("tool_calls", "stop"), ("stop", "stop")]
)
async def test_the_end_is_told_in_three_words(models: Models, provider: Provider, said: str, told: str) -> None:
    provider.finish = said
    assert (await models.chat(QUESTION)).finish_reason == told


async def test_code_is_completed_between_prefix_and_suffix_where_the_provider_can(provider: Provider) -> None:
    models = asking(provider, ai_completions="completions")
    assert models.completes_text
    reply = await models.complete("int a = ", ";", Wishes(max_tokens=8))
    assert reply.text == "Use pin 4."
    assert (provider.paths, provider.requests[0]["prompt"], provider.requests[0]["suffix"]) == (
        ["/v1/completions"],
        "int a = ",
        ";",
    )
    await models.stop()


@pytest.mark.parametrize("missing", ["ai_base_url", "ai_model"])
async def test_without_a_provider_there_is_no_answer(provider: Provider, missing: str) -> None:
    models = asking(provider, **{missing: ""})
    with pytest.raises(Unavailable, match="AI provider is not configured") as refusal:
        await models.chat(QUESTION)
    assert (refusal.value.reason, refusal.value.metadata) == (ErrorReason.NOT_CONFIGURED, {"setting": missing})
    assert provider.requests == []


@pytest.mark.parametrize("how", ["whole", "streamed"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidArgument), (401, Unavailable), (403, Unavailable), (404, Unavailable), (408, DeadlineExceeded),
        (422, InvalidArgument), (429, ResourceExhausted), (500, UpstreamFailed), (503, UpstreamFailed), (504, DeadlineExceeded),
    ],
)  # fmt: skip
async def test_a_refusal_of_the_provider_is_told_in_our_words(
    models: Models, provider: Provider, status: int, kind: type[DomainError], how: str
) -> None:
    provider.status = status
    with pytest.raises(kind) as refusal:
        await asked(models, how)
    assert KEY not in str(refusal.value)
    assert len(provider.requests) == 1


async def test_a_wrong_key_is_the_servers_fault_and_is_not_repeated(provider: Provider) -> None:
    models = asking(provider, ai_key="sk-wrong-987654321")
    with pytest.raises(Unavailable, match="AI provider rejected the configured credentials") as refusal:
        await models.chat(QUESTION)
    assert "987654321" not in str(refusal.value)
    await models.stop()


async def test_a_model_that_the_caller_named_and_nobody_serves_is_the_callers_fault(models: Models, provider: Provider) -> None:
    provider.status = 404
    with pytest.raises(InvalidArgument, match="model: is not served"):
        await models.chat(QUESTION, Wishes(model="nobody-7b"))


@pytest.mark.parametrize(("header", "seconds"), [("17", 17.0), ("0.5", 0.5), (None, 1.0), ("soon", 1.0), ("-3", 0.0)])
async def test_the_wait_that_the_provider_asks_for_is_passed_on(
    models: Models, provider: Provider, header: str | None, seconds: float
) -> None:
    provider.status, provider.headers = 429, {} if header is None else {"Retry-After": header}
    with pytest.raises(ResourceExhausted) as refusal:
        await models.chat(QUESTION)
    assert refusal.value.retry_after == seconds


async def test_a_wait_may_be_a_date(models: Models, provider: Provider) -> None:
    provider.status = 429
    provider.headers = {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)}
    with pytest.raises(ResourceExhausted) as refusal:
        await models.chat(QUESTION)
    assert 3500 < (refusal.value.retry_after or 0) <= 3600


@pytest.mark.parametrize("how", ["whole", "streamed"])
async def test_a_provider_that_cannot_be_reached_is_told_so(provider: Provider, unused_tcp_port: int, how: str) -> None:
    models = asking(provider, ai_base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
    with pytest.raises(UpstreamFailed, match="cannot be reached"):
        await asked(models, how)
    await models.stop()


@pytest.mark.parametrize("how", ["whole", "streamed"])
async def test_a_provider_that_never_answers_ends_in_time(provider: Provider, how: str) -> None:
    provider.hangs = True
    models = asking(provider, ai_timeout_seconds=0.2)
    with pytest.raises(DeadlineExceeded):
        await asked(models, how)
    assert provider.asked.is_set()
    await models.stop()


@pytest.mark.parametrize("how", ["whole", "streamed"])
@pytest.mark.parametrize(
    "garbage", [b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": "x"}', b'{"choices": [7]}', b""]
)
async def test_an_answer_that_is_none_is_never_made_up(models: Models, provider: Provider, garbage: bytes, how: str) -> None:
    provider.garbage = garbage
    with pytest.raises(UpstreamFailed):
        await asked(models, how)


async def test_a_stream_that_goes_silent_ends_in_time(provider: Provider) -> None:
    provider.hangs_after = 1
    models = asking(provider, ai_timeout_seconds=0.3)
    pieces: list[str | Reply] = []
    with pytest.raises(DeadlineExceeded):
        await gathered(models, pieces)
    assert pieces == ["Use "]
    await models.stop()


@pytest.mark.parametrize("fault", ["cut", "error"])
async def test_a_stream_that_breaks_off_has_no_end(models: Models, provider: Provider, fault: str) -> None:
    setattr(provider, fault, True)
    pieces: list[str | Reply] = []
    with pytest.raises(UpstreamFailed):
        await gathered(models, pieces)
    assert pieces == ["Use ", "pin ", "4."]


async def test_a_reader_who_leaves_ends_the_question(models: Models, provider: Provider) -> None:
    provider.hangs_after = 1
    pieces = models.stream(QUESTION)
    assert await anext(pieces) == "Use "
    await pieces.aclose()
    await asyncio.wait_for(provider.left.wait(), 10)


async def test_neither_prompts_nor_keys_are_logged(provider: Provider) -> None:
    written = io.StringIO()
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        configure_logging(Settings(log_level="debug", log_format="json"), written)
        models = asking(provider)
        await models.chat([Turn("user", "my wifi is called Hedgehog")])
        provider.status = 500
        with pytest.raises(UpstreamFailed):
            await models.chat([Turn("user", "my wifi is called Hedgehog")])
        await models.stop()
    finally:
        root.handlers, root.level = before
    assert "Hedgehog" not in written.getvalue()
    assert KEY not in written.getvalue()
