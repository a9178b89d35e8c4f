"""What people do in the plans area wherever a secret goes in: sign in by mail, bring keys of their own, ask for a reply."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.plans.people import bearer
from tests.plans.things import pack
from tests.provider import Provider

if TYPE_CHECKING:
    from tests.faults.test_secrets import Told

ADDRESS = "dora@example.com"
OWN_KEY = "a-key-of-the-user-0123456789"
"""Key for a provider that refuses it, and shows it in the refusal."""
MAIL_SECONDS = 20


async def pin_in(mails: Path) -> str:
    """Wait for the newest pin of somebody, and return it."""
    async with asyncio.timeout(MAIL_SECONDS):
        while True:
            for mail in mails.glob("*.eml"):
                if (found := re.search(r"pin is (\w{6})\n", mail.read_text())) is not None:
                    return found[1]
            await asyncio.sleep(0.02)


async def sign_in(told: Told, mails: Path) -> None:
    """Make an account by a pin, sign in once more by a code, and sign out of the first."""
    await told.hears(200, "POST", "/accounts/email_verifications", json={"email": ADDRESS})
    pin = await pin_in(mails)
    told.secrets.add(pin)
    await told.hears(404, "POST", "/accounts/email_verifications/check_pin", json={"email": ADDRESS, "pin": pin[::-1] + "x"})
    new = {"email": ADDRESS, "pin": pin, "userName": "Dora"}
    made = await told.once("POST", "/accounts", "token", json=new)
    await told.hears(409, "POST", "/accounts", json=new)
    org = await told.hears(200, "POST", "/orgs", json={"name": "Dora's"}, headers=_as(told, made["token"]))
    first = _as(told, made["token"], org["id"])
    code = await told.http.post("/accounts/sign_in_codes", headers=first)
    assert code.status_code == 200, code.text
    told.secrets.add(code.text)
    by_code = {"pin": code.text, "isSignInCode": True}
    again = await told.once("POST", "/accounts/sign_in", "token", json=by_code)
    await told.hears(401, "POST", "/accounts/sign_in", json=by_code)
    await told.hears(200, "POST", "/accounts/sign_out", headers=first)
    await told.hears(401, "GET", "/orgs/session", headers=first)
    for path in ("/orgs", "/orgs/session", "/users", "/projects"):
        await told.hears(200, "GET", path, headers=_as(told, again["token"], org["id"]))


async def plan(told: Told, models: Provider) -> None:
    """Work on a plan with a key of one's own, which its provider refuses."""
    served = [{"provider": "custom", "customProvider": "gate", "modelName": "one"}]
    own = {
        "providers": [{"name": "gate", "baseUrl": models.url, "apiKeyEnvVar": "OWN_KEY"}],
        "models": [{"modelId": "ours/one", "publisher": "ours", "maxTokens": 100_000, "providers": served}],
        "modelPacks": [pack("ours", "ours/one")],
    }
    await told.hears(200, "POST", "/custom_models", json=own)
    project = await told.hears(200, "POST", "/projects", json={"name": "Rig"})
    made = await told.hears(200, "POST", f"/projects/{project['id']}/plans", json={"name": "parser"})
    path, keys = f"/plans/{made['id']}/main", {"authVars": {"OWN_KEY": OWN_KEY}}
    await told.hears(200, "PUT", f"{path}/settings", json={"modelPackName": "ours"})
    note = {"contextType": "note", "name": "n", "body": "b", **keys}
    loaded = await told.hears(200, "POST", f"{path}/context", json=[note])
    tell = {"prompt": "What is it?", "isChatOnly": True, "connectStream": True, **keys}
    run = await told.http.post(f"{path}/tell", json=tell)
    told.hear(run)
    assert "error" in run.text, run.text
    assert f"Bearer {OWN_KEY}" in models.credentials
    await told.hears(404, "PATCH", f"{path}/build", json=keys)
    await told.hears(200, "PATCH", f"{path}/apply", json=keys)
    await told.hears(400, "POST", f"{path}/tell", content=f'{{"prompt": 5, "authVars": {{"OWN_KEY": "{OWN_KEY}"}}}}')
    assert loaded["tokensAdded"] > 0
    told.named |= {"plan_id": made["id"], "branch": "main", "run_id": "latest", "plan_project_id": project["id"]}


def _as(told: Told, token: str, org_id: str = "") -> dict[str, str]:
    """Return the header of the command line, which is a secret itself."""
    credential = bearer(token, org_id)
    told.secrets.add(credential)
    return {"authorization": f"Bearer {credential}"}
