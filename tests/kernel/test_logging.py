"""Logs are one line an event, tell which call they belong to, and never hold a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from core.kernel.call import Call, current_call
from core.kernel.logging import MASK, configure_logging, hides, redact_text
from core.kernel.settings import Settings

SECRETS = [
    "plnx_" + "a" * 43,
    "plx_" + "B" * 32,
    "plxd_" + "c" * 32,
    "pbt_" + "d" * 43,
    "wm_" + "e" * 43,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    out = io.StringIO()
    configure_logging(Settings(log_format="json", log_level="info"), out)
    return out


def last(stream: io.StringIO) -> dict[str, Any]:
    return json.loads(stream.getvalue().splitlines()[-1])


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_a_value_is_masked(stream: io.StringIO, secret: str) -> None:
    structlog.get_logger("t").info(f"got {secret}", header=f"Bearer {secret}", frames=[{"auth": secret}], raw=secret.encode())
    assert secret not in stream.getvalue()
    assert MASK in stream.getvalue()


@pytest.mark.parametrize("key", ["password", "new_password", "token", "apiKey", "API_KEY", "Authorization", "set-cookie"])
def test_a_value_is_masked_when_its_name_says_that_it_is_secret(stream: io.StringIO, key: str) -> None:
    structlog.get_logger("t").info("seen", **{key: "open sesame"}, nested={key: "open sesame"})
    assert "sesame" not in stream.getvalue()


@pytest.mark.parametrize(("key", "value"), [("tokens", 3), ("credential_id", "cred_1"), ("keyword", "x"), ("token", None)])
def test_what_only_sounds_secret_is_shown(key: str, value: object) -> None:
    assert not hides(key, value)


def test_a_secret_in_a_traceback_is_masked(stream: io.StringIO) -> None:
    try:
        int(SECRETS[0])
    except ValueError:
        structlog.get_logger("t").exception("failed")
    assert SECRETS[0] not in stream.getvalue()
    assert "Traceback" in last(stream)["exception"]


def test_query_parameters_and_passwords_of_addresses_are_masked() -> None:
    assert redact_text("GET /ws?board=b1&token=abc123&x=1") == f"GET /ws?board=b1&token={MASK}&x=1"
    assert redact_text("postgresql://busbar:hunter2@db/busbar") == f"postgresql://busbar:{MASK}@db/busbar"


def test_lines_of_libraries_take_the_same_way(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("refused %s", f"/ws?token={SECRETS[1]}")
    line = last(stream)
    assert (line["logger"], line["level"], line["event"]) == ("uvicorn.error", "warning", f"refused /ws?token={MASK}")


def test_a_line_names_the_call_during_which_it_was_written(stream: io.StringIO) -> None:
    mark = current_call.set(Call(request_id="req-1"))
    try:
        logging.getLogger("sqlalchemy").warning("slow")
    finally:
        current_call.reset(mark)
    assert last(stream)["request_id"] == "req-1"


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    structlog.get_logger("t").debug("detail")
    logging.getLogger("httpx").info("HTTP Request: GET")
    assert stream.getvalue() == ""


def test_text_is_written_without_colours_when_nobody_sees_them() -> None:
    out = io.StringIO()
    configure_logging(Settings(log_format="text"), out)
    structlog.get_logger("t").info("started", port=1, password="open sesame")
    assert "started" in out.getvalue()
    assert "port=1" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert "sesame" not in out.getvalue()
