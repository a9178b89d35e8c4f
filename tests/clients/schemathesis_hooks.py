"""What requests of schemathesis lack to be valid: rules that a JSON Schema cannot say, and the document says in words.

Loaded by schemathesis itself. Requests that are meant to be broken stay as they are.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import schemathesis

from core.plans.permissions import MEMBER

Body = dict[str, Any]
FAR = "2100-01-01T00:00:00Z"
NUMBERS = itertools.count(1)
PLAN = {"planId": os.environ.get("PLAN_ID", ""), "branch": "main", "projectId": os.environ.get("PROJECT_ID", "")}
"""The plan on which requests work that are meant to be valid, where the test has made one."""


def _one_of(*names: str) -> Callable[[Body], None]:
    """Keep the first of some members that stands there, or put in the first where none does."""

    def mend(body: Body) -> None:
        given = [name for name in names if body.get(name)] or [names[0]]
        body[given[0]] = body.get(given[0]) or "bench"
        for name in names:
            if name != given[0]:
                body.pop(name, None)

    return mend


def _key(body: Body) -> None:
    """An expiry lies in the future; lists that may be null are of texts."""
    if body.get("expiresAt"):
        body["expiresAt"] = FAR
    body["boardIds"] = body["tools"] = None


def _firmware(body: Body) -> None:
    """Source and files exclude each other, and one of them is needed; the entry is one of the files."""
    body.pop("files", None)
    body["source"] = body.get("source") or "void setup() {}"


def _document(body: Body) -> None:
    """Only designs have a schema."""
    body.pop("schemaVersion", None)


def _widgets(body: Any) -> None:
    """Ids are unique, and `min` is not over `max`."""
    widgets: list[Body] = body if isinstance(body, list) else body.get("widgets") or []
    for number, widget in enumerate(widgets):
        widget["id"] = f"w{number}"
        widget.pop("max", None)


def _assignment(body: Body) -> None:
    """No more points are needed than there are."""
    body["passPoints"] = min(body.get("passPoints") or 0, body.get("maxPoints") or 1)


def _listing(body: Body) -> None:
    """The status is refused by name, wherever it stands."""
    body.pop("status", None)


def _register(body: Body) -> None:
    """A referral code is somebody's."""
    body.pop("referralCode", None)


def _notices(body: Body) -> None:
    """Some are named, or all of them."""
    body["all"] = True


def _chat(body: Body) -> None:
    """Either one message or several, the last of them by the user."""
    body.pop("message", None)
    body["messages"] = [*(body.get("messages") or [])[:3], {"role": "user", "content": "hello"}]


def _address(body: Body) -> None:
    """An address is one of mail, and of the user where one is named; a pin is looked up by it."""
    body["email"] = "bench@example.com"
    body.pop("userId", None)
    body.pop("isSignInCode", None)


def _invite(body: Body) -> None:
    """The role is one of the server's, and nobody is invited twice."""
    body["email"], body["orgRoleId"] = f"bench{next(NUMBERS)}@example.com", MEMBER.id


MEND: dict[str, Callable[[Any], None]] = {
    "AccountService_CheckPin": _address,
    "AccountService_CreateAccount": _address,
    "AccountService_CreateEmailVerification": _address,
    "AccountService_SignIn": _address,
    "AgentKeyService_CreateAgentKey": _key,
    "AssignmentService_CreateAssignment": _assignment,
    "AssignmentService_UpdateAssignment": _assignment,
    "AuthService_Register": _register,
    "CollaboratorService_AddCollaborator": _one_of("username", "email", "userId"),
    "DocumentHistoryService_SaveDocument": _document,
    "FirmwareService_SaveFirmware": _firmware,
    "InviteService_CreateInvite": _invite,
    "ListingService_UpdateListing": _listing,
    "MeService_MarkNotificationsRead": _notices,
    "OtaService_PushOta": _one_of("artifactId", "projectId"),
    "SubmissionService_CreateSubmission": _one_of("content", "url", "projectId"),
    "WidgetService_ReplaceWidgets": _widgets,
    "WorkbenchService_Chat": _chat,
}


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Mend a request that is meant to be valid."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.query, dict):
        # A cursor is one that the server made.
        case.query.pop("cursor", None)
    # Not where every member is tried one by one: work on a real plan takes its time.
    real = PLAN["planId"] and case.method != "DELETE" and case.meta.phase.name.value != "coverage"
    if real and isinstance(case.path_parameters, dict):
        case.path_parameters.update({name: PLAN[name] for name in case.path_parameters.keys() & PLAN.keys()})
    mend = MEND.get(case.operation.definition.raw["operationId"])
    if mend is None:
        return
    if not isinstance(case.body, dict | list):
        case.body, case.media_type = {}, "application/json"
    mend(case.body)
