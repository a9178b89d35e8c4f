"""A client made of stubs by the ordinary tools. Runs in a process of its own, where only the runtime of those tools is loaded.

usage: stock_client.py STUBS ADDRESS TELEMETRY_KEY
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any


def columns(ingest_pb2: Any, seq: int, metric: str, values: list[float]) -> Any:
    """Return one batch of columns."""
    times = [1_700_000_000_000_000 + index for index in range(len(values))]
    column = ingest_pb2.Column(source_id="rig-1", metric=metric, timestamps_us=times, values=values)
    return ingest_pb2.IngestColumnsRequest(seq=seq, columns=[column])


def main(stubs: str, address: str, key: str) -> None:
    """Register, make a board, work its pins, send columns, plan, and print what came back."""
    sys.path[0] = stubs

    grpc = import_module("grpc")
    auth_pb2, auth_pb2_grpc = stub("busbar.maker.v1.auth")
    boards_pb2, boards_pb2_grpc = stub("busbar.maker.v1.boards")
    pins_pb2, pins_pb2_grpc = stub("busbar.maker.v1.pins")
    ingest_pb2, ingest_pb2_grpc = stub("busbar.telemetry.v1.ingest")
    projects_pb2, projects_pb2_grpc = stub("busbar.plans.v1.projects")
    plans_pb2, plans_pb2_grpc = stub("busbar.plans.v1.plans")

    with grpc.insecure_channel(address) as channel:
        auth = auth_pb2_grpc.AuthServiceStub(channel)
        session = auth.Register(
            auth_pb2.RegisterRequest(email="stock@example.com", username="stock", password="correct horse battery"), timeout=20
        )
        as_user = [("authorization", f"Bearer {session.token}")]
        boards = boards_pb2_grpc.BoardServiceStub(channel)
        board = boards.CreateBoard(boards_pb2.CreateBoardRequest(name="Bench"), metadata=as_user, timeout=20)
        pins = pins_pb2_grpc.PinServiceStub(channel)
        request = pins_pb2.WritePinRequest(board_id=board.id, pin_index=7)
        request.value.number_value = 21.5
        written = pins.WritePin(request, metadata=as_user, timeout=20)
        read = pins.ReadPin(pins_pb2.ReadPinRequest(board_id=board.id, pin_index=7), metadata=as_user, timeout=20)

        ingest = ingest_pb2_grpc.IngestServiceStub(channel)
        batches = [
            columns(ingest_pb2, 1, "a", [1.0, 2.0, 3.0]),
            columns(ingest_pb2, 2, "", [1.0]),
            columns(ingest_pb2, 3, "b", [4.0]),
        ]
        acknowledged = [
            [answer.seq, answer.received, answer.stored, answer.HasField("error")]
            for answer in ingest.IngestColumns(iter(batches), metadata=[("x-api-key", key)], timeout=20)
        ]

        projects = projects_pb2_grpc.ProjectServiceStub(channel)
        project = projects.CreateProject(projects_pb2.CreateProjectRequest(name="Rig"), metadata=as_user, timeout=20)
        plans = plans_pb2_grpc.PlanServiceStub(channel)
        plans.CreatePlan(plans_pb2.CreatePlanRequest(project_id=project.id, name="parser"), metadata=as_user, timeout=20)
        asked = plans_pb2.ListPlansRequest(project_id=[project.id])
        listed = [plan.name for plan in plans.ListPlans(asked, metadata=as_user, timeout=20).plans]

        refusals = {}
        wrong = pins_pb2.ReadPinRequest(board_id=board.id, pin_index=300)
        foreign = pins_pb2.ReadPinRequest(board_id="brd-of-nobody", pin_index=3)
        for name, bad, metadata in (("range", wrong, as_user), ("board", foreign, as_user), ("caller", wrong, None)):
            try:
                pins.ReadPin(bad, metadata=metadata, timeout=20)
            except grpc.RpcError as error:
                refusals[name] = explain(error)
    pin = [written.seq, written.updated_by, read.value.number_value, read.text]
    print(json.dumps({"pin": pin, "columns": acknowledged, "plans": listed, "refusals": refusals}))  # noqa: T201 - the test reads it


def stub(name: str) -> tuple[Any, Any]:
    """Return the messages and the services of a proto."""
    return import_module(f"{name}_pb2"), import_module(f"{name}_pb2_grpc")


def explain(error: Any) -> dict[str, Any]:
    """Return what the details of a refusal say."""
    statuses, details = import_module("google.rpc.status_pb2"), import_module("google.rpc.error_details_pb2")
    reasons = import_module("busbar.api.v1.error_reason_pb2")
    trailers = dict(error.trailing_metadata())
    status = statuses.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    said = {"code": error.code().name}
    for packed in status.details:
        info, bad = details.ErrorInfo(), details.BadRequest()
        if packed.Unpack(info):
            said["reason"] = info.reason
            said["known"] = info.reason in set(reasons.ErrorReason.keys())
            said["domain"] = info.domain
        if packed.Unpack(bad):
            said["fields"] = [violation.field for violation in bad.field_violations]
    return said


if __name__ == "__main__":
    main(*sys.argv[1:])
