"""Projects: the directories of source code that plans are about."""

from __future__ import annotations

from protobuf.wkt import Empty
from sqlmodel import col, select

from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import InvalidArgument, NotFound
from core.plans import permissions
from core.plans.access import require_plan, require_project, user_of
from core.plans.ids import new_uuid
from core.plans.tables import ChosenPlanRow, PlanProjectRow
from core.storage.database import Database
from gen.busbar.plans.v1.projects_pb import (
    CreateProjectRequest,
    CreateProjectResponse,
    ListProjectsRequest,
    ListProjectsResponse,
    Project,
    RenameProjectRequest,
    SetProjectPlanRequest,
)


class ProjectService:
    """Keeps projects."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def list_projects(self, request: ListProjectsRequest, call: Call) -> ListProjectsResponse:
        """List the projects of the organisation, oldest first."""
        del request
        wanted = select(PlanProjectRow).where(col(PlanProjectRow.org_id) == call.caller.org_id)
        async with self._database.read() as session:
            rows = (await session.exec(wanted.order_by(col(PlanProjectRow.created_us), col(PlanProjectRow.id)))).all()
        return ListProjectsResponse(projects=[Project(id=row.id, name=row.name) for row in rows])

    async def create_project(self, request: CreateProjectRequest, call: Call) -> CreateProjectResponse:
        """Make a project."""
        user_of(call.caller)
        name = _required("name", request.name)
        row = PlanProjectRow(id=new_uuid(), org_id=call.caller.org_id, name=name, created_us=self._clock.now_us())
        async with self._database.unit_of_work() as session:
            session.add(row)
        return CreateProjectResponse(id=row.id)

    async def set_project_plan(self, request: SetProjectPlanRequest, call: Call) -> Empty:
        """Remember which plan of a project the caller works on."""
        plan_id = _required("planId", request.plan_id)
        async with self._database.unit_of_work() as session:
            project = await require_project(session, call.caller, request.project_id)
            plan = await require_plan(session, call.caller, plan_id)
            if plan.project_id != project.id:
                raise NotFound("plan not found in the project", plan=plan_id)
            chosen = ChosenPlanRow(project_id=project.id, user_id=user_of(call.caller), plan_id=plan.id)
            await session.merge(chosen)
        return Empty()

    async def rename_project(self, request: RenameProjectRequest, call: Call) -> Empty:
        """Rename a project, which takes a permission."""
        name = _required("name", request.name)
        async with self._database.unit_of_work() as session:
            project = await require_project(session, call.caller, request.project_id)
            await permissions.require(call.caller, "rename_any_project")
            project.name = name
        return Empty()


def _required(field: str, value: str) -> str:
    if not value.strip():
        raise InvalidArgument(f"{field} field is required", field=field)
    return value.strip()
