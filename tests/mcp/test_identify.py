"""Who calls, asked before it is known which rpc is meant."""

from __future__ import annotations

import pytest

from core.kernel.call import Call
from core.kernel.errors import Unauthenticated, Unavailable
from core.kernel.pipeline import Platform
from gen.busbar.api.v1.error_reason_pb import ErrorReason
from gen.busbar.api.v1.options_pb import CredentialKind
from tests.mcp.fakes import KEY, SESSION, FakeKeys


async def test_the_holder_of_a_credential_is_known_without_an_rpc(platform: Platform) -> None:
    call = Call(credential=SESSION)
    assert (await platform.identify(call)).kind == CredentialKind.SESSION
    assert call.admitted is None


async def test_what_is_known_in_memory_is_not_asked_for_again(
    platform: Platform, keys: FakeKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = keys.holders[KEY]
    monkeypatch.setattr(keys, "known", lambda _: holder)
    keys.revoke(KEY)
    assert await platform.identify(Call(credential=KEY)) is holder


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (Call(), ErrorReason.CREDENTIAL_MISSING),
        (Call(credential="unknown"), ErrorReason.CREDENTIAL_INVALID),
        (Call(credential=KEY, accepts=frozenset({CredentialKind.SESSION})), ErrorReason.CREDENTIAL_INVALID),
    ],
)
async def test_who_cannot_be_identified_is_refused_with_the_reason(platform: Platform, call: Call, reason: ErrorReason) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await platform.identify(call)
    assert caught.value.reason == reason


async def test_nobody_is_identified_while_the_server_goes_down(platform: Platform) -> None:
    platform.draining = True
    with pytest.raises(Unavailable):
        await platform.identify(Call(credential=KEY))
