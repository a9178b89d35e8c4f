"""What a telemetry key may do."""

from __future__ import annotations

from core.kernel.call import Call
from gen.busbar.telemetry.v1.keys_pb import VerifyKeyRequest, VerifyKeyResponse


class KeyService:
    """Tells devices and agents about the key they hold."""

    async def verify_key(self, request: VerifyKeyRequest, call: Call) -> VerifyKeyResponse:
        """Tell whose key it is."""
        del request
        return VerifyKeyResponse(org_id=call.caller.org_id, scopes=sorted(call.caller.scopes))
