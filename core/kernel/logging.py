"""Logs: one line per event, as text or JSON, on standard error, with nothing secret in them.

Our own loggers and those of the libraries (uvicorn, alembic, SQLAlchemy) run through one chain. Its last step before the text
is made looks at every key and value, tracebacks included, so that a careless log line cannot leak a credential.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO, cast

import structlog

from core.kernel.call import current_call

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from core.kernel.settings import Settings

MASK = "***"

_SECRET_WORDS = frozenset(
    {
        "apikey",
        "authorization",
        "bearer",
        "cookie",
        "cookies",
        "credential",
        "credentials",
        "key",
        "passphrase",
        "passwd",
        "password",
        "secret",
        "secrets",
        "token",
        "tokens",
    }
)
_LAST_WORD = re.compile(r"[A-Za-z][a-z]*(?=[^A-Za-z]*$)|[A-Z]+(?=[^A-Za-z]*$)")

# What each secret looks like inside a longer text; the first group is kept, so that a reader can tell what stood there.
_SECRET_TEXTS = (
    re.compile(r"\b((?:plnx|plxd|plx|pbt|wm)_)[A-Za-z0-9_-]{6,}"),
    re.compile(r"\b(eyJ)[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"),
    re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)((?:^|[?&\s])(?:access_token|api_key|apikey|key|password|secret|token)=)[^&\s\"'#]+"),
    re.compile(r"(://[^\s:/@]*:)[^\s/@]+(?=@)"),
)

# Libraries whose own chatter is about their insides, or about what passes through them.
_QUIET = ("aiosqlite", "alembic", "httpcore", "httpcore2", "httpx", "httpx2", "openai", "sqlalchemy")


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every log of this process through one chain to a stream, standard error by default. May be called again."""
    out = stream or sys.stderr
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and out.isatty())
    shared: list[Processor] = [
        add_call,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, _renderer(out, as_text=as_text)],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    _route_everything_to(handler, settings.log_level.upper())


def _renderer(out: TextIO, *, as_text: bool) -> Processor:
    if not as_text:
        return structlog.processors.JSONRenderer(default=str)
    # Tracebacks are text by now, made before the secrets were taken out.
    return structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _route_everything_to(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name in list(logging.Logger.manager.loggerDict):
        # Libraries that were imported earlier may have handlers of their own.
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # One line per call comes from the pipeline, for every door alike.
    logging.getLogger("uvicorn.access").setLevel(logging.CRITICAL)


def add_call(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Name the call during which a line was logged."""
    del logger, method
    call = current_call.get()
    if call is not None:
        event.setdefault("request_id", call.request_id)
    return event


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Mask every value that is secret by its key or by its look."""
    del logger, method
    return {key: MASK if hides(key, value) else redact_value(value) for key, value in event.items()}


def hides(key: str, value: object) -> bool:
    """Whether the value of a key must not be shown: `api_key` and `sessionToken` hide texts, but `tokens=3` is a number."""
    if value is None or value == "" or isinstance(value, bool | int | float):
        return False
    word = _LAST_WORD.search(key)
    return word is not None and word.group().lower() in _SECRET_WORDS


def redact_value(value: object) -> object:
    """Return a value with everything masked that looks like a secret, at any depth."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return redact_text(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        members = cast("Mapping[object, object]", value)
        return {key: MASK if hides(str(key), member) else redact_value(member) for key, member in members.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [redact_value(member) for member in cast("Sequence[object]", value)]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))


def redact_text(text: str) -> str:
    """Return a text without the secrets in it: our own credentials, JWTs, authorization headers, query parameters, URLs."""
    for pattern in _SECRET_TEXTS:
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text
