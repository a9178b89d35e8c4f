"""Plans without doors: a database of each kind, the store, and some people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from core.identity.tables import OrgRow, UserRow
from core.kernel.call import Call, Principal
from core.kernel.errors import Unavailable
from core.plans.access import Opened
from core.plans.branches import BranchService
from core.plans.changes import ChangeService
from core.plans.conversation import ConversationService
from core.plans.history import HistoryService
from core.plans.plans import PlanService
from core.plans.projects import ProjectService
from core.plans.repositories import Repositories
from core.plans.run_tables import PlanRunRow
from core.plans.state import PlanState, Settings
from core.plans.store import PlanStore
from core.plans.summaries import Summaries
from core.plans.tables import BranchRow, PlanProjectRow, PlanRow
from core.storage.database import Database
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.plans.v1.configs_pb import PlanConfig
from gen.busbar.plans.v1.contexts_pb import Context
from tests.conftest import MovableClock

US = 1_750_000_000_000_000


def principal(org_id: str, user_id: str) -> Principal:
    """Return a user of an organisation as a caller."""
    return Principal(f"credential of {user_id}", CredentialKind.SESSION, org_id, user_id)


@dataclass
class Desk:
    """A store of plans and who uses it: Alice and Bob of one organisation, Eve of another."""

    database: Database
    folder: Path
    clock: MovableClock = field(default_factory=MovableClock)
    alice: Principal = field(default_factory=lambda: principal("org-1", "alice"))
    bob: Principal = field(default_factory=lambda: principal("org-1", "bob"))
    eve: Principal = field(default_factory=lambda: principal("org-2", "eve"))

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all that is in memory, as a new process would."""
        self.repositories = Repositories(self.folder)
        self.store = PlanStore(self.database, self.repositories, self.clock)
        self.summaries = Summaries(self.database, self.clock)
        self.projects = ProjectService(self.database, self.clock)
        self.plans = PlanService(self.database, self.store, _semi, self.clock)
        self.branches = BranchService(self.database, self.store, self.clock)
        self.conversation = ConversationService(self.store, self.summaries)
        self.history = HistoryService(self.database, self.store, self.clock)
        self.changes = ChangeService(self.database, self.store, self.condense, self.clock)

    async def condense(self, org_id: str, settings: Settings, auth_vars: Mapping[str, str], messages: Sequence[str]) -> str:
        """Stand where a model writes commit messages; without a key there is none."""
        if "KEY" not in auth_vars:
            raise Unavailable("no model provider for the role commit-messages")
        return f"{len(messages)} changes"

    async def people(self) -> None:
        """Make the organisations and users."""
        async with self.database.unit_of_work() as session:
            session.add_all(OrgRow(id=org, name=org, created_us=US) for org in ("org-1", "org-2"))
            await session.flush()
            for name in ("alice", "bob", "eve"):
                email = f"{name}@example.com"
                session.add(UserRow(id=name, email=email, username=name, display_name=name, password_hash="", created_us=US))

    async def plan(self, owner: Principal | None = None, plan_id: str = "plan-1", project_id: str = "") -> str:
        """Make a plan with a branch `main`, and its project unless one is named."""
        caller = owner or self.alice
        user_id, project = caller.user_id or "", project_id or f"project-of-{plan_id}"
        org_id = caller.org_id
        async with self.database.unit_of_work() as session:
            if not project_id:
                session.add(PlanProjectRow(id=project, org_id=org_id, name="Project", created_us=US))
                await session.flush()
            plan = PlanRow(
                id=plan_id,
                org_id=org_id,
                owner_id=user_id,
                project_id=project,
                name="plan",
                config="{}",
                created_us=US,
                updated_us=US,
            )
            session.add(plan)
            await session.flush()
            branch = BranchRow(
                id=f"main-of-{plan_id}",
                org_id=org_id,
                plan_id=plan_id,
                owner_id=user_id,
                name="main",
                created_us=US,
                updated_us=US,
            )
            session.add(branch)
        return plan_id

    async def main(self, plan_id: str = "plan-1") -> Opened:
        """Open a plan's branch `main` as Alice."""
        return await self.store.open(self.alice, plan_id, "main")

    async def state(self, plan_id: str = "plan-1", branch: str = "main") -> PlanState:
        """Read a branch as Alice."""
        return await self.store.read(await self.store.open(self.alice, plan_id, branch))

    async def load(self, name: str, body: str = "text\n", *, plan_id: str = "plan-1", branch: str = "main") -> str:
        """Put a file into the context and return the sha of the entry."""
        async with self.store.change(self.alice, plan_id, branch) as change:
            item = Context(
                id=f"context-{name}", context_type="file", name=name, file_path=name, body=body, num_tokens=len(body)
            )
            change.state.contexts[item.id] = item
            change.branch.context_tokens += item.num_tokens
            change.message = f"Loaded {name} into context"
        return change.sha

    async def run_on(self, branch_id: str) -> None:
        """Let a run be active on a branch."""
        now_us = self.clock.now_us()
        row = PlanRunRow(
            id=f"run-{branch_id}",
            org_id="org-1",
            plan_id="plan-1",
            branch_id=branch_id,
            branch="branch",
            user_id="alice",
            kind="tell",
            request="{}",
            prompt="",
            owner="process",
            lease_us=now_us,
            started_us=now_us,
        )
        async with self.database.unit_of_work() as session:
            session.add(row)


async def _semi(_session: AsyncSession, _caller: Principal) -> PlanConfig:
    return PlanConfig(auto_mode="semi", auto_continue=True)


def call_of(caller: Principal) -> Call:
    """Return a call of somebody."""
    return Call(principal=caller)


async def _desk(database: Database, folder: Path) -> Desk:
    made = Desk(database, folder)
    await made.people()
    return made


@pytest.fixture
async def desk(sqlite: Database, tmp_path: Path) -> Desk:
    """A desk on SQLite."""
    return await _desk(sqlite, tmp_path / "plans")


@pytest.fixture
async def any_desk(database: Database, tmp_path: Path) -> Desk:
    """A desk on a database of each kind."""
    return await _desk(database, tmp_path / "plans")
