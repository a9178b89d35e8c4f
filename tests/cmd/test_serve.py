"""What `busbar serve` promises to whoever starts it."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import grpc
import httpx
import pytest
from websockets.sync.client import connect

from tests.cmd.conftest import WAIT_SECONDS, Run, Serve


def test_the_first_line_says_where_every_door_answers(serve: Serve, data: Path) -> None:
    server = serve("--json")
    assert sorted(server.ready) == ["data", "grpc", "http", "version"]
    assert server.ready["data"] == str(data)
    with httpx.Client() as client:
        assert client.get(server.ready["http"] + "/health").status_code == 200
    with grpc.insecure_channel(server.ready["grpc"]) as channel:
        grpc.channel_ready_future(channel).result(timeout=WAIT_SECONDS)
    assert server.stop().out == ""


def test_the_administrator_of_a_fresh_directory_signs_in_with_the_password_printed_once(serve: Serve) -> None:
    server = serve("--json")
    done = server.stop()
    found = re.search(r"^administrator (\S+), password (\S+) \(shown once\)$", done.err, re.MULTILINE)
    assert found is not None
    email, password = found.groups()

    server = serve("--json")
    with httpx.Client(base_url=server.ready["http"]) as client:
        answer = client.post("/api/auth/login", json={"email": email, "password": password})
    assert answer.status_code == 200
    assert "administrator" not in server.stop().err


def test_a_chosen_administrator_is_made_and_the_chosen_password_is_not_printed(serve: Serve) -> None:
    chosen = {"BUSBAR_ADMIN_EMAIL": "ann@example.com", "BUSBAR_ADMIN_USERNAME": "ann", "BUSBAR_ADMIN_PASSWORD": "long enough 1"}
    server = serve("--json", **chosen)
    with httpx.Client(base_url=server.ready["http"]) as client:
        answer = client.post("/api/auth/login", json={"email": "ann@example.com", "password": "long enough 1"})
    assert answer.status_code == 200
    assert "long enough 1" not in server.stop().err


def test_people_are_told_the_addresses_the_password_and_what_to_type_next(serve: Serve, data: Path) -> None:
    server = serve()
    printed = server.first_line + server.stop().out
    assert re.search(r"HTTP\s+http://127\.0\.0\.1:\d+", printed)
    assert re.search(r"gRPC\s+127\.0\.0\.1:\d+", printed)
    assert re.search(r"password\s+\S{12,}", printed)
    assert f"key create --data {data} --kind maker" in printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_stop_ends_with_success(serve: Serve, number: signal.Signals) -> None:
    server = serve("--json")
    done = server.stop(number)
    assert done.status == 0
    assert "Traceback" not in done.err


def test_logs_are_lines_of_json_on_standard_error(serve: Serve) -> None:
    server = serve("--json", BUSBAR_ADMIN_PASSWORD="long enough 1", BUSBAR_LOG_FORMAT="json", BUSBAR_ACCESS_LOG="true")
    with httpx.Client() as client:
        client.get(server.ready["http"] + "/health")
    lines = [json.loads(line) for line in server.stop().err.splitlines()]
    (call,) = [line for line in lines if line["event"] == "call"]
    assert (call["door"], call["code"], call["level"]) == ("rest", "OK", "info")


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_port_that_is_taken_is_reported_in_a_sentence(run: Run, data: Path, door: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        addresses = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", door: f"127.0.0.1:{taken.getsockname()[1]}"}
        done = run("serve", "--http", addresses["http"], "--grpc", addresses["grpc"], "--data", data)
    assert done.status == 1
    assert "busbar: cannot listen: " in done.err
    assert "Traceback" not in done.err


def test_a_surface_can_have_a_listener_of_its_own(serve: Serve) -> None:
    with_listener = serve("--json", "--listen", "maker=127.0.0.1:0")
    assert with_listener.stop().status == 0


def test_a_certificate_serves_tls_on_every_door(serve: Serve, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*make, *name, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = serve("--json", "--tls-certificate", certificate, "--tls-key", key)
    url, trust = server.ready["http"], ssl.create_default_context(cafile=certificate)
    assert url.startswith("https://127.0.0.1:")
    with httpx.Client(verify=trust, base_url=url) as client:
        assert client.get("/healthz").status_code == 200
        registered = client.post("/api/auth/register", json={"email": "ann@example.com", "password": "long enough 1"})
        assert registered.headers["set-cookie"].endswith("; Secure")
        session = {"Authorization": f"Bearer {registered.json()['token']}"}
        board = client.post("/api/boards", json={"name": "Bench"}, headers=session).json()
    with connect(f"{url.replace('https', 'wss', 1)}/ws/boards/{board['id']}/pins", additional_headers=session, ssl=trust) as ws:
        assert json.loads(ws.recv(timeout=WAIT_SECONDS))["type"] == "snapshot"
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    with grpc.secure_channel(server.ready["grpc"].replace("127.0.0.1", "localhost"), credentials) as channel:
        grpc.channel_ready_future(channel).result(timeout=WAIT_SECONDS)


def test_a_certificate_without_its_key_is_refused_before_anything_starts(run: Run, data: Path) -> None:
    done = run("serve", "--data", data, "--tls-certificate", data / "certificate.pem")
    assert (done.status, "tls_certificate and tls_key go together" in done.err) == (2, True)
    assert not data.exists()


@pytest.mark.parametrize(("flag", "value"), [("--http", "nowhere"), ("--listen", "kitchen=127.0.0.1:0"), ("--listen", "maker")])
def test_a_flag_that_makes_no_sense_is_refused_before_anything_starts(run: Run, data: Path, flag: str, value: str) -> None:
    done = run("serve", "--data", data, flag, value)
    assert done.status == 2
    assert not data.exists()
