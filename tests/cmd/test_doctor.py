"""`busbar doctor` and the other commands that only tell."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from core.kernel.settings import CONFIG_FILE
from tests.cmd.conftest import Done, Run, Serve


def verdicts(done: Done) -> dict[str, str]:
    return {finding["check"]: finding["verdict"] for finding in done.json["findings"]}


def test_a_fresh_directory_is_well_and_stays_untouched(run: Run, data: Path) -> None:
    free = {"BUSBAR_HTTP": "127.0.0.1:0", "BUSBAR_GRPC": "127.0.0.1:0"}
    done = run("doctor", "--data", data, "--json", **free)
    assert done.status == 0
    assert set(verdicts(done)) == {"data", "disk", "clock", "database", "http", "grpc", "settings"}
    assert verdicts(done)["database"] == "ok"
    assert not data.exists()


def test_secrets_are_masked_in_what_it_prints(run: Run, data: Path) -> None:
    database = "postgresql://busbar:hunter22@127.0.0.1:1/busbar"
    done = run("doctor", "--data", data, "--database", database, BUSBAR_ADMIN_PASSWORD="open sesame 1")
    assert "hunter22" not in done.out + done.err
    assert "sesame" not in done.out + done.err
    assert "postgresql://busbar:***@127.0.0.1:1/busbar" in done.out


def test_a_database_that_does_not_answer_is_a_failure(run: Run, data: Path) -> None:
    done = run("doctor", "--data", data, "--database", "postgresql://127.0.0.1:1/busbar", "--json")
    assert (done.status, verdicts(done)["database"]) == (1, "fail")


def test_a_file_in_place_of_the_directory_is_a_failure(run: Run, data: Path) -> None:
    data.write_text("")
    done = run("doctor", "--data", data, "--json")
    assert (done.status, verdicts(done)["data"]) == (1, "fail")


def test_a_port_in_use_and_a_misspelt_setting_are_warnings(run: Run, data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        http = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("doctor", "--data", data, "--json", BUSBAR_HTTP=http, BUSBAR_GRPC="127.0.0.1:0", BUSBAR_LOGLEVEL="x")
    assert done.status == 0
    assert (verdicts(done)["http"], verdicts(done)["settings"]) == ("warn", "warn")


def test_a_running_server_is_well(serve: Serve, run: Run, data: Path) -> None:
    serve("--json")
    done = run("doctor", "--data", data, "--json", BUSBAR_HTTP="127.0.0.1:0", BUSBAR_GRPC="127.0.0.1:0")
    assert set(verdicts(done).values()) <= {"ok", "warn"}
    assert verdicts(done)["database"] == "ok"


def test_a_broken_settings_file_is_reported_in_a_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text("http = ")
    done = run("doctor")
    assert done.status == 2
    assert done.err.startswith("busbar: ")
    assert "Traceback" not in done.err


def test_the_openapi_document_describes_what_is_served(run: Run, data: Path) -> None:
    done = run("openapi", BUSBAR_DATA=str(data))
    assert done.json["openapi"].startswith("3.")
    assert "/health" in done.json["paths"]
    assert not data.exists()


def test_the_version_is_a_version(run: Run) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", run("version").out)
