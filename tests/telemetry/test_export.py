"""Points as files, of any length."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import Any

import httpx
import pytest

from core.kernel.call import Call, Principal
from core.signals.model import Column
from core.telemetry.export import ExportService
from gen.busbar.api.v1.options_pb import CredentialKind
from gen.busbar.telemetry.v1.export_pb import ExportTelemetryRequest
from tests.conftest import Person, Running

EPOCH_MS = 1_700_000_000_000
POINTS: list[dict[str, Any]] = [
    {"metric": "wave", "value": 1, "timestamp": EPOCH_MS, "session_id": "run 1/ä", "tags": {"a": 'x"y,z'}},
    {"metric": "wave", "value": 2.5, "timestamp": EPOCH_MS + 1000, "session_id": "run 1/ä"},
    {"metric": "note", "value": '=1+1, "quoted"\nline', "timestamp": EPOCH_MS},
    {"metric": "switch", "value": True, "timestamp": EPOCH_MS + 500.125},
    {"metric": "shape", "value": {"b": [1, None]}, "timestamp": EPOCH_MS + 2000},
]


@pytest.fixture
async def reader(busbar: Running, alice: Person) -> httpx.AsyncClient:
    """A client of somebody who sent a few points of every kind."""
    client = busbar.http(**{"x-api-key": await busbar.key(alice, CredentialKind.TELEMETRY_KEY, "write", "read")})
    assert (await client.post("/ingest", json={"source_id": "rig-1", "points": POINTS})).status_code == 200
    return client


async def device_token(busbar: Running, person: Person, source: str) -> str:
    """Issue a token that is bound to one source."""
    async with busbar.app.database.unit_of_work() as session:
        issued = await busbar.app.credentials.issue(
            session, CredentialKind.DEVICE_TOKEN, person.org_id, scopes=["read", "write"], bound_to=source
        )
    return issued.secret


async def export(client: httpx.AsyncClient, **question: str) -> httpx.Response:
    answer = await client.get("/api/v1/telemetry/export", params=question)
    assert answer.status_code == 200
    return answer


async def test_csv_holds_every_point_as_it_is_in_the_order_of_time(reader: httpx.AsyncClient) -> None:
    answer = await export(reader)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="telemetry.csv"'
    header, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert ",".join(header) == "source_id,metric,timestamp,value,class,session_id,tags"
    assert rows[:2] == [
        ["rig-1", "wave", str(EPOCH_MS), "1", "metric", "run 1/ä", '{"a":"x\\"y,z"}'],
        ["rig-1", "note", str(EPOCH_MS), '=1+1, "quoted"\nline', "event", "", ""],
    ]
    assert [row[2:5] for row in rows[2:]] == [
        [f"{EPOCH_MS + 500}.125", "true", "event"],
        [str(EPOCH_MS + 1000), "2.5", "metric"],
        [str(EPOCH_MS + 2000), '{"b":[1,null]}', "event"],
    ]


async def test_lines_of_json_are_the_points_of_the_api(reader: httpx.AsyncClient) -> None:
    answer = await export(reader, format="ndjson", source="rig-1")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="telemetry-rig-1.ndjson"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    question = {"from": "2023-11-14T00:00:00Z", "to": "2023-11-16T00:00:00Z"}
    assert lines == (await reader.get("/api/v1/telemetry", params=question)).json()["data"]


async def test_source_metric_range_and_recording_narrow_an_export(reader: httpx.AsyncClient) -> None:
    async def metrics(**question: str) -> list[str]:
        return [json.loads(line)["metric"] for line in (await export(reader, format="ndjson", **question)).text.splitlines()]

    assert await metrics(metric="note,shape") == ["note", "shape"]
    assert await metrics(source="nobody") == []
    assert await metrics(**{"from": "2023-11-14T22:13:20.5Z", "to": "2023-11-14T22:13:22Z"}) == ["switch", "wave"]
    assert await metrics(recording="run 1/ä") == ["wave", "wave"]
    answer = await export(reader, recording="run 1/ä")
    assert answer.headers["content-disposition"] == 'attachment; filename="telemetry-run-1.csv"'


async def test_an_export_without_points_is_a_file_too(reader: httpx.AsyncClient) -> None:
    assert (await export(reader, source="nobody")).text == "source_id,metric,timestamp,value,class,session_id,tags\r\n"
    empty = await export(reader, source="nobody", format="ndjson")
    assert (empty.text, empty.headers["content-type"]) == ("", "application/x-ndjson")


@pytest.mark.parametrize(("question", "status"), [({"format": "xls"}, 400), ({"from": "x"}, 400), ({"recording": "no"}, 404)])
async def test_a_bad_question_is_refused(reader: httpx.AsyncClient, question: dict[str, str], status: int) -> None:
    assert (await reader.get("/api/v1/telemetry/export", params=question)).status_code == status


async def test_others_see_nothing_of_it(busbar: Running, eve: Person, reader: httpx.AsyncClient) -> None:
    await export(reader)
    stranger = busbar.http(**{"x-api-key": await busbar.key(eve, CredentialKind.TELEMETRY_KEY)})
    assert (await export(stranger, format="ndjson")).text == ""
    assert (await stranger.get("/api/v1/telemetry/export", params={"recording": "run 1/ä"})).status_code == 404


async def test_a_token_of_one_source_exports_that_source_only(
    busbar: Running, alice: Person, reader: httpx.AsyncClient
) -> None:
    await reader.post("/ingest", json={"source_id": "rig-2", "points": [{"metric": "m", "value": 1}]})
    token = await device_token(busbar, alice, "rig-2")
    bound = busbar.client("grpc", token)
    for question in ({}, {"source": "rig-2"}):
        found = b"".join([m.data async for m in bound.stream("ExportService.ExportTelemetry", format="ndjson", **question)])
        assert [json.loads(line)["source_id"] for line in found.splitlines()] == ["rig-2"]
    found = b"".join([m.data async for m in bound.stream("ExportService.ExportTelemetry", format="ndjson", source="rig-1")])
    assert found == b""


async def test_a_long_export_is_complete_and_needs_no_more_memory(busbar: Running, alice: Person) -> None:
    signals, each, channels = busbar.app.signals, 10_000, 4
    for first in range(0, 50_000, each):
        times = [(EPOCH_MS + first + n) * 1000 for n in range(each)]
        columns = [Column("rig", f"m{k}", times, [float(first + n) for n in range(each)]) for k in range(channels)]
        await signals.write(alice.org_id, columns)
    service = ExportService(signals, busbar.clock)
    caller = Principal("c", CredentialKind.TELEMETRY_KEY, alice.org_id)
    lines, size = 0, 0
    tracemalloc.start()
    try:
        async for message in service.export_telemetry(ExportTelemetryRequest(), Call(principal=caller)):
            lines += message.data.count(b"\n")
            size += len(message.data)
            if lines < 10_000:
                tracemalloc.reset_peak()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lines == 50_000 * channels + 1
    assert size > 7_000_000
    assert peak < 3_500_000
