"""People of the plans area: they sign in by mail as the command line does, and call over REST or gRPC for an organisation."""

from __future__ import annotations

import asyncio
import base64
import email
import itertools
import json
import re
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import httpx

from adapters.server import Server
from core.app import App
from core.kernel.rpc import Rpc
from core.kernel.settings import Settings
from core.plans.permissions import Role
from tests.conftest import MovableClock, Person, Running
from tests.doors import Door, GrpcClient, RestClient

MAIL_SECONDS = 10

_numbers = itertools.count(1)


def bearer(token: str, org_id: str = "") -> str:
    """Return the credential that the command line makes of a token and an organisation."""
    content = {"token": token, "orgId": org_id, "hash": "0" * 64}
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


class _Grpc(GrpcClient):
    def __init__(self, rpcs: list[Rpc], credential: str, address: str, org_id: str) -> None:
        super().__init__(rpcs, credential, address)
        self.org_id = org_id

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The credential, and the organisation beside it."""
        return (*super().metadata, *((("x-org-id", self.org_id),) if self.org_id else ()))


class Someone:
    """Somebody who signed in.

    Attributes:
        session: What the sign-in answered.
        org_id: Organisation for which calls are made.
    """

    def __init__(self, busbar: Running, session: Any, org_id: str = "") -> None:
        self.busbar = busbar
        self.session = session
        self.org_id = org_id

    @property
    def id(self) -> str:
        """Id of the user."""
        return self.session.user_id

    def at(self, org_id: str) -> Someone:
        """Return the same person, calling for another organisation."""
        return Someone(self.busbar, self.session, org_id)

    async def call(self, name: str, door: str = "grpc", /, **fields: Any) -> Any:
        """Call an rpc."""
        token, rpcs = self.session.token, self.busbar.rpcs
        if door == "grpc":
            client: Door = _Grpc(rpcs, token, self.busbar.server.grpc_address, self.org_id)
        else:
            client = RestClient(rpcs, bearer(token, self.org_id), self.busbar.url)
        try:
            return await client.call(name, **fields)
        finally:
            await client.close()

    async def http(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request as the command line does."""
        async with httpx.AsyncClient(base_url=self.busbar.url) as client:
            headers = {"Authorization": f"Bearer {bearer(self.session.token, self.org_id)}", "X-Client-Version": "2.2.1"}
            return await client.request(method, path, headers=headers, **more)


class Plans:
    """A server, with what people of plans do on it."""

    def __init__(self, busbar: Running) -> None:
        self.busbar = busbar
        number = next(_numbers)
        self.corp, self.other = f"corp{number}.example", f"other{number}.example"
        self._read: set[str] = set()

    def at(self, name: str) -> str:
        """Return somebody's address."""
        return f"{name}@{self.corp}"

    async def person(self, name: str) -> Person:
        """Register somebody as makers do."""
        return await self.busbar.person(f"{name}-{self.corp.partition('.')[0]}")

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Send a request without a credential."""
        async with httpx.AsyncClient(base_url=self.busbar.url) as client:
            return await client.post(path, json=body, headers=headers)

    async def mail(self, to: str) -> EmailMessage:
        """Return the next mail to somebody."""
        async with asyncio.timeout(MAIL_SECONDS):
            while True:
                for file in sorted((self.busbar.app.settings.data / "mail").glob("*.eml")):
                    message = email.message_from_bytes(file.read_bytes(), policy=default)
                    if file.name not in self._read and message["To"] == to:
                        self._read.add(file.name)
                        return message
                await asyncio.sleep(0.01)

    async def pin(self, address: str) -> str:
        """Ask for a pin and return it from the mail."""
        await self.busbar.client("grpc").call("AccountService.CreateEmailVerification", email=address)
        found = re.search(r"pin is (\w{6})\n", (await self.mail(address)).get_content())
        assert found is not None
        return found[1]

    async def sign_up(self, name: str, domain: str = "") -> Someone:
        """Make an account."""
        address = f"{name}@{domain or self.corp}"
        pin = await self.pin(address)
        fields = {"email": address, "pin": pin, "user_name": name.title()}
        return Someone(self.busbar, await self.busbar.client("grpc").call("AccountService.CreateAccount", **fields))

    async def sign_in(self, address: str) -> Someone:
        """Sign in by a pin."""
        pin = await self.pin(address)
        return Someone(self.busbar, await self.busbar.client("grpc").call("AccountService.SignIn", email=address, pin=pin))

    async def owner(self, name: str, org: str = "Org", *, domain: str = "", claims: bool = False) -> Someone:
        """Make an account with an organisation."""
        someone = await self.sign_up(name, domain)
        made = await someone.call("OrgService.CreateOrg", name=org, auto_add_domain_users=claims)
        return someone.at(made.id)

    async def member(self, owner: Someone, name: str, role: Role) -> Someone:
        """Make an account, and a member of somebody's organisation of it by an invite."""
        address = f"{name}@{self.other}"
        await owner.call("InviteService.CreateInvite", email=address, name=name, org_role_id=role.id)
        await self.mail(address)
        someone = (await self.sign_up(name, self.other)).at(owner.org_id)
        await someone.call("OrgService.GetOrgSession")
        return someone


async def serve(folder: Path, **settings: Any) -> AsyncIterator[Running]:
    """Run a server for a module of tests; each makes people of its own."""
    clock = MovableClock()
    defaults: dict[str, Any] = {"data": folder, "http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "rate_limits": "off"}
    app = await App.create(Settings(**{**defaults, **settings}), clock=clock)
    busbar = Running(app, await Server.start(app), clock)
    yield busbar
    await busbar.close()
    await busbar.server.stop(1)
    await app.close()
