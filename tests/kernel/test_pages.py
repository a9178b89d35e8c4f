"""Cursors: what a list gave out leads on, and anything else is refused by name."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from core.kernel.errors import InvalidArgument
from core.kernel.pages import decode_cursor, encode_cursor
from tests.conftest import Person, Running


def forged(*key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


@pytest.mark.parametrize("key", [(0, "a"), (-(2**63) + 1, "é"), (2**63 - 1, "")])
def test_a_cursor_leads_back_to_its_row(key: tuple[int, str]) -> None:
    assert decode_cursor(encode_cursor(*key), int, str) == key


@pytest.mark.parametrize("cursor", ["%00", "zzz", "é", forged(1), forged("a", 1), forged(*[True, "a"]), forged(1.0, "a"),
                                    forged(2**63, "a"), forged(-(2**70), "a"), forged(10**400, "a"), forged(1, "\0"),
                                    forged(1, "\ud800")])  # fmt: skip
def test_what_no_list_gave_out_is_no_cursor(cursor: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid cursor"):
        decode_cursor(cursor, int, str)


async def test_what_no_column_holds_is_400(busbar: Running, alice: Person) -> None:
    for key in ((2**63, "a"), (-(2**63) - 1, "a"), (10**300, "a"), (1, "\0"), (1, "\ud800")):
        answer = await busbar.http(alice.session).get("/api/me/notifications", params={"cursor": forged(*key)})
        assert (answer.status_code, answer.json()) == (400, {"error": "invalid cursor"})
