"""Device tokens, as pairing issues them."""

from __future__ import annotations

from gen.busbar.api.v1.options_pb import CredentialKind
from tests.conftest import Person, Running


async def device_token(busbar: Running, person: Person, source: str, *scopes: str) -> str:
    """Issue a token that is bound to one source."""
    credentials = busbar.app.credentials
    async with busbar.app.database.unit_of_work() as session:
        issued = await credentials.issue(
            session, CredentialKind.DEVICE_TOKEN, person.org_id, scopes=scopes or ("write",), bound_to=source
        )
    return issued.secret
