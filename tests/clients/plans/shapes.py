"""What the command line reads of answers, as strictly as its language does.

A shape is a type, a list of one shape, a `Map` of one shape, or a dict of members. A member whose name ends with `?` may be
left out; every other one must be there. Null stands for every list, map and time, and for what is wrapped in `Maybe`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

TIME = "time"
UUID = "uuid"
ANY = "any"

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Map:
    """A map of texts to values of one shape."""

    of: Any


@dataclass(frozen=True)
class Maybe:
    """A value, or null."""

    of: Any


def check(value: Any, shape: Any, path: str = "answer") -> Any:
    """Return a value after holding it to a shape."""
    if isinstance(shape, Maybe):
        return None if value is None else check(value, shape.of, path)
    if isinstance(shape, dict):
        return _object(value, shape, path)
    if isinstance(shape, list):
        assert value is None or isinstance(value, list), f"{path} is no list: {value!r}"
        return [check(item, shape[0], f"{path}[{index}]") for index, item in enumerate(value or [])]
    if isinstance(shape, Map):
        assert value is None or isinstance(value, dict), f"{path} is no object: {value!r}"
        return {name: check(item, shape.of, f"{path}.{name}") for name, item in (value or {}).items()}
    _scalar(value, shape, path)
    return value


def _object(value: Any, shape: dict[str, Any], path: str) -> Any:
    assert isinstance(value, dict), f"{path} is no object: {value!r}"
    for spelled, inner in shape.items():
        name = spelled.removesuffix("?")
        if name in value:
            check(value[name], inner, f"{path}.{name}")
        else:
            assert spelled.endswith("?"), f"{path} lacks {name}: {value!r}"
    return value


def _scalar(value: Any, shape: Any, path: str) -> None:
    if shape == ANY:
        return
    if shape == TIME:
        assert value is None or _TIME.fullmatch(value), f"{path} is no time with a zone: {value!r}"
    elif shape == UUID:
        assert isinstance(value, str), f"{path} is no id: {value!r}"
        assert _UUID.fullmatch(value), f"{path} is no id: {value!r}"
    elif shape is int:
        assert type(value) is int, f"{path} is no whole number: {value!r}"
    elif shape is float:
        assert type(value) in (int, float), f"{path} is no number: {value!r}"
    else:
        assert type(value) is shape, f"{path} is no {shape.__name__}: {value!r}"


ORG = {"id": UUID, "name": str, "isTrial": bool, "autoAddDomainUsers": bool, "integratedModelsMode?": bool}
SESSION = {"userId": UUID, "token": UUID, "email": str, "userName": str, "orgs": [ORG], "isLocalMode": bool}
ORG_USER_CONFIG = {"promptedClaudeMax": bool, "useClaudeSubscription": bool, "claudeSubscriptionCooldownStartedAt": TIME}
PLAN_CONFIG = {
    "autoMode": str,
    "editor": str,
    "editorCommand": str,
    "editorArgs": [str],
    "autoDebugTries": int,
    **dict.fromkeys(
        [
            "editorOpenManually",
            "autoContinue",
            "autoBuild",
            "autoUpdateContext",
            "autoContext",
            "smartContext",
            "autoApply",
            "autoCommit",
            "skipCommit",
            "canExec",
            "autoExec",
            "autoDebug",
            "autoRevertOnRewind",
            "skipChangesMenu",
        ],
        bool,
    ),
}
PLAN = {
    "id": UUID,
    "ownerId": UUID,
    "projectId": UUID,
    "name": str,
    "sharedWithOrgAt?": TIME,
    "totalReplies": int,
    "activeBranches": int,
    "planConfig?": PLAN_CONFIG,
    "archivedAt?": TIME,
    "createdAt": TIME,
    "updatedAt": TIME,
}
BRANCH = {
    "id": UUID,
    "planId": UUID,
    "ownerId": UUID,
    "parentBranchId": Maybe(UUID),
    "name": str,
    "status": str,
    "contextTokens": int,
    "convoTokens": int,
    "createdAt": TIME,
    "updatedAt": TIME,
}
CONTEXT = {
    "id": UUID,
    "ownerId": UUID,
    "contextType": str,
    "name": str,
    "url": str,
    "file_path": str,
    "sha": str,
    "numTokens": int,
    "body?": str,
    "bodySize?": int,
    "forceSkipIgnore": bool,
    "imageDetail?": str,
    "mapParts?": Map(str),
    "mapShas?": Map(str),
    "mapTokens?": Map(int),
    "mapSizes?": Map(int),
    "autoLoaded": bool,
    "createdAt": TIME,
    "updatedAt": TIME,
}
LOADED = {"tokensAdded": int, "totalTokens": int, "maxTokensExceeded": bool, "maxTokens": int, "msg": str}
SUBTASK = {"title": str, "description": str, "usesFiles": [str], "isFinished": bool}
FLAGS = {
    "CurrentStage": {"TellStage": str, "PlanningPhase": str},
    **dict.fromkeys(
        [
            "didMakePlan",
            "didRemoveTasks",
            "didMakeDebuggingPlan",
            "didLoadContext",
            "isChat",
            "didWriteCode",
            "didCompleteTask",
            "didCompletePlan",
            "hasUnfinishedSubtasks",
            "isApplyDebug",
            "isUserDebug",
            "hasError",
        ],
        bool,
    ),
}
MESSAGE = {
    "id": UUID,
    "userId": UUID,
    "role": str,
    "tokens": int,
    "num": int,
    "message": str,
    "stopped": bool,
    "flags": FLAGS,
    "subtask?": SUBTASK,
    "addedSubtasks?": [SUBTASK],
    "removedSubtasks?": [str],
    "activeContextIds": [str],
    "createdAt": TIME,
}
OPERATION = {
    "Type": str,
    "Path": str,
    "Destination": str,
    "Content": str,
    "Description": str,
    "ReplyBefore": str,
    "NumTokens": int,
}
DESCRIPTION = {
    "id": UUID,
    "convoMessageId": UUID,
    "summarizedToMessageId": str,
    "wroteFiles": bool,
    "commitMsg": str,
    "operations": [OPERATION],
    "didBuild": bool,
    "buildPathsInvalidated": Map(bool),
    "error": str,
    "appliedAt?": TIME,
    "createdAt": TIME,
    "updatedAt": TIME,
}
REPLACEMENT = {
    "id": UUID,
    "old": str,
    "summary": str,
    "entireFile": bool,
    "new": str,
    "failed": bool,
    "rejectedAt?": TIME,
    "streamedChange": Maybe(ANY),
}
RESULT = {
    "id": UUID,
    "typeVersion": int,
    "replaceWithLineNums": bool,
    "convoMessageId": UUID,
    "planBuildId": UUID,
    "path": str,
    "content": str,
    "anyFailed": bool,
    "appliedAt?": TIME,
    "rejectedAt?": TIME,
    "replacements": [REPLACEMENT],
    "removedFile": bool,
    "createdAt": TIME,
    "updatedAt": TIME,
}
APPLY = {
    "id": UUID,
    "userId": UUID,
    "convoMessageIds": [UUID],
    "convoMessageDescriptionIds": [UUID],
    "planFileResultIds": [UUID],
    "commitMsg": str,
    "createdAt": TIME,
}
STATE = {
    "planResult": {
        "sortedPaths": [str],
        "fileResultsByPath": Map([RESULT]),
        "results": [RESULT],
        "replacementsByPath": Map([REPLACEMENT]),
    },
    "currentPlanFiles": {"files": Map(str), "removedByPath": Map(bool), "updatedAtByPath": Map(TIME)},
    "convoMessageDescriptions": [DESCRIPTION],
    "planApplies": [APPLY],
    "contextsByPath": Map(CONTEXT),
}
ROLE: dict[str, Any] = {"role": str, "modelId": str, "temperature": float, "topP": float, "reservedOutputTokens": int}
for _fallback in ("largeContextFallback", "largeOutputFallback", "errorFallback", "strongModel"):
    ROLE[_fallback] = Maybe(ANY)
PACK = {
    "id": str,
    "name": str,
    "localProvider?": str,
    "description": str,
    "planner": {**ROLE, "maxConvoTokens": int},
    "coder": Maybe(ROLE),
    "planSummary": ROLE,
    "builder": ROLE,
    "wholeFileBuilder": Maybe(ROLE),
    "namer": ROLE,
    "commitMsg": ROLE,
    "execStatus": ROLE,
    "contextLoader": Maybe(ROLE),
}
USES = {"provider": str, "customProvider?": str, "modelName": str}
MODEL = {
    "id?": str,
    "modelId": str,
    "publisher": str,
    "description": str,
    "defaultMaxConvoTokens": int,
    "maxTokens": int,
    "maxOutputTokens": int,
    "reservedOutputTokens": int,
    "preferredOutputFormat": str,
    "hasImageSupport": bool,
    "providers": [USES],
}
PROVIDER = {"id?": str, "name": str, "baseUrl": str, "skipAuth?": bool, "apiKeyEnvVar?": str}
SETTINGS = {
    "modelPackName": str,
    "modelPack": Maybe(PACK),
    "customModelPacks": [PACK],
    "customModels": [MODEL],
    "customModelsById": Map(MODEL),
    "customProviders": [PROVIDER],
    "usesCustomProviderByModelId": Map([USES]),
    "isCloud": bool,
    "configured": bool,
    "updatedAt": TIME,
}
RUNNING = {
    "branches": [BRANCH],
    "streamStartedAtByBranchId": Map(TIME),
    "streamFinishedAtByBranchId": Map(TIME),
    "streamIdByBranchId": Map(str),
    "plansById": Map(PLAN),
}
BUILD_INFO = {"path": str, "numTokens": int, "finished": bool, "removed?": bool}
STREAMED = {
    "type": str,
    "replyChunk?": str,
    "buildInfo?": BUILD_INFO,
    "error?": {"type": str, "status": int, "msg": str},
    "missingFilePath?": str,
    "missingFileAutoContext?": bool,
    "loadContextFiles?": [str],
    "initPrompt?": str,
    "initReplies?": [str],
    "initBuildOnly?": bool,
}
