"""The messages that a run tells its clients, as the contract spells them."""

from __future__ import annotations

from copy import copy

from core.kernel.errors import DomainError, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from gen.busbar.plans.v1.runs_pb import ApiError, BuildInfo, StreamMessage

LAST = frozenset({"finished", "error", "aborted"})
"""After one of these a client closes its connection."""
ALONE = LAST | {"start", "connectActive", "promptMissingFile", "loadContext"}
"""What a client understands only outside of a `multi`."""
QUESTIONS = frozenset({"promptMissingFile", "loadContext"})
"""What a client has to answer."""
AT_ONCE = frozenset({"start", "reply", "error"})
"""What a client keeps that has not drawn its screen yet."""

_STATUSES: tuple[tuple[type[DomainError], int], ...] = (
    (InvalidArgument, 400),
    (NotFound, 404),
    (ResourceExhausted, 429),
    (Unavailable, 503),
)


def start() -> StreamMessage:
    """Return the first message of every stream."""
    return StreamMessage(type="start")


def reply(chunk: str) -> StreamMessage:
    """Return text to append to the reply."""
    return StreamMessage(type="reply", reply_chunk=chunk)


def describing() -> StreamMessage:
    """Return the message between two replies."""
    return StreamMessage(type="describing")


def replies_finished() -> StreamMessage:
    """Return the message that the model is done, while files are still built."""
    return StreamMessage(type="repliesFinished")


def building(path: str, tokens: int = 0, *, finished: bool = False, removed: bool = False) -> StreamMessage:
    """Return how the build of a file stands."""
    info = BuildInfo(path=path, num_tokens=tokens, finished=finished, removed=removed)
    return StreamMessage(type="buildInfo", build_info=info)


def missing_file(path: str, *, auto_context: bool) -> StreamMessage:
    """Return the question about a file that the model has not read."""
    return StreamMessage(type="promptMissingFile", missing_file_path=path, missing_file_auto_context=auto_context)


def load_context(paths: list[str]) -> StreamMessage:
    """Return the wish for files."""
    return StreamMessage(type="loadContext", load_context_files=paths)


def finished() -> StreamMessage:
    """Return the end of a run that did what it was asked for."""
    return StreamMessage(type="finished")


def aborted() -> StreamMessage:
    """Return the end of a run that was stopped."""
    return StreamMessage(type="aborted")


def error(kind: str, status: int, text: str) -> StreamMessage:
    """Return the end of a run that failed."""
    return StreamMessage(type="error", error=ApiError(type=kind, status=status, msg=text))


def failure(refusal: DomainError) -> StreamMessage:
    """Return the end of a run that was refused something."""
    status = next((status for kind, status in _STATUSES if isinstance(refusal, kind)), 500)
    return error("other", status, refusal.message)


def several(messages: list[StreamMessage]) -> StreamMessage:
    """Return messages as one."""
    return messages[0] if len(messages) == 1 else StreamMessage(type="multi", stream_messages=messages)


def numbered(message: StreamMessage, position: int) -> StreamMessage:
    """Return a message with its position."""
    told = copy(message)
    told.position = position
    return told


def without_nul(text: str) -> str:
    """Return a text without the one character that PostgreSQL does not keep."""
    return text.replace("\x00", "")


def parts(message: StreamMessage) -> list[StreamMessage]:
    """Return what a message holds: itself, or what a `multi` collects."""
    return list(message.stream_messages) if message.type == "multi" else [message]


def text_of(message: StreamMessage) -> str:
    """Return the text of replies in a message."""
    return "".join(part.reply_chunk for part in parts(message) if part.type == "reply")
