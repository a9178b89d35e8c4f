"""What a scrape and the access log tell of calls."""

from __future__ import annotations

from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from core.kernel.call import Call, Principal
from core.kernel.rpc import Rpc
from core.kernel.settings import Settings
from core.kernel.telemetry import AccessLog, CallMetrics, observers, render_metrics
from gen.busbar.api.v1.options_pb import CredentialKind

NAME = "busbar.maker.v1.PinService/ReadPin"


class NamedRpc:
    """All that an observer asks of an rpc."""

    name = NAME


@pytest.fixture
def rpc() -> Rpc:
    return cast("Rpc", NamedRpc())


def samples(metrics: CallMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(render_metrics(metrics).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_calls_are_counted_by_rpc_door_and_code(rpc: Rpc) -> None:
    metrics = CallMetrics()
    for call, code in (
        (Call(door="rest"), "OK"),
        (Call(door="rest"), "OK"),
        (Call(door="rest"), "NOT_FOUND"),
        (Call(door="grpc"), "OK"),
    ):
        metrics.ended(rpc, call, code, 0.001)
    found = samples(metrics)
    assert found["busbar_calls_total", (("code", "OK"), ("door", "rest"), ("rpc", NAME))] == 2
    assert found["busbar_calls_total", (("code", "NOT_FOUND"), ("door", "rest"), ("rpc", NAME))] == 1
    assert found["busbar_calls_total", (("code", "OK"), ("door", "grpc"), ("rpc", NAME))] == 1


def test_durations_fall_into_cumulative_buckets(rpc: Rpc) -> None:
    metrics = CallMetrics()
    for seconds in (0.00005, 0.001, 0.3, 60.0):
        metrics.ended(rpc, Call(door="grpc"), "OK", seconds)
    found = samples(metrics)

    def at_most(bound: str) -> float:
        return found["busbar_call_seconds_bucket", (("door", "grpc"), ("le", bound), ("rpc", NAME))]

    assert [at_most(bound) for bound in ("0.0001", "0.001", "0.25", "10.0", "+Inf")] == [1, 2, 2, 3, 4]
    assert found["busbar_call_seconds_sum", (("door", "grpc"), ("rpc", NAME))] == pytest.approx(60.30105)


def test_the_access_log_names_the_caller_but_not_the_credential(rpc: Rpc) -> None:
    call = Call(door="rest", credential="s3cret", principal=Principal("cred_1", CredentialKind.SESSION, "org_1", "usr_1"))
    with capture_logs() as lines:
        AccessLog().ended(rpc, call, "OK", 0.0015)
    (line,) = lines
    assert (line["rpc"], line["code"], line["milliseconds"], line["user"]) == (NAME, "OK", 1.5, "usr_1")
    assert "s3cret" not in str(line)


def test_only_what_is_asked_for_watches_calls() -> None:
    assert len(observers(Settings())) == 1
    assert len(observers(Settings(access_log=True))) == 2
