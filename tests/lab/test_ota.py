"""Updates of the installation: their states, their bundles, and what is newer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from sqlalchemy import update as sql_update

from core.lab.plugin_tables import UpdateRow
from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.ota_pb import UploadBundleRequest
from gen.google.api.httpbody_pb import HttpBody
from tests.conftest import Person, Running, Start
from tests.lab.conftest import person, sign_in
from tests.lab.things import until

BUNDLE = b"a bundle of firmware" * 100
SHA256 = hashlib.sha256(BUNDLE).hexdigest()
OWNER_ONLY = "Only the organisation that owns the installation may do this."

Reply = tuple[int, dict[str, str], bytes]


@asynccontextmanager
async def web(replies: dict[str, Reply], *, hold: asyncio.Event | None = None) -> AsyncGenerator[str]:
    """Serve fixed answers by path; those of `/slow` wait for `hold`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1].decode()
        while (await reader.readline()).strip():
            pass
        if hold is not None and path == "/slow":
            await hold.wait()
        status, headers, body = replies.get(path, (404, {}, b""))
        lines = [f"{name}: {value}" for name, value in {"Content-Length": str(len(body)), **headers}.items()]
        writer.write("\r\n".join([f"HTTP/1.1 {status} x", "Connection: close", *lines, "", ""]).encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def update(client: httpx.AsyncClient, version: str = "2.1.0", **body: Any) -> str:
    """Register an update and return its id."""
    answer = await client.post("/api/v1/ota", json={"version": version, **body})
    told = {"status": "success", "message": "Firmware update successfully registered."}
    assert (answer.status_code, answer.json()) == (201, told)
    data = (await client.get("/api/v1/ota", params={"page_size": 100})).json()["data"]
    return next(one["public_id"] for one in data if one["version"] == version)


async def read(client: httpx.AsyncClient, public_id: str) -> dict[str, Any]:
    """Read an update."""
    return (await client.get(f"/api/v1/ota/{public_id}")).json()


async def apply(client: httpx.AsyncClient, public_id: str, **body: Any) -> tuple[int, str]:
    """Apply an update; return the status and what is told."""
    answer = await client.post(f"/api/v1/ota/{public_id}/apply", json=body)
    return answer.status_code, answer.json().get("message") or answer.json()["detail"]


DONE = (200, "Firmware update applied successfully.")


def bundles(busbar: Running) -> list[str]:
    """Return the names of all files in the folder of bundles."""
    return sorted(path.name for path in (busbar.app.settings.data / "updates").rglob("*") if path.is_file())


async def test_an_update_is_registered_once_and_shows_no_path(admin: httpx.AsyncClient, alice: Person) -> None:
    found = await read(admin, await update(admin, changelog="Better."))
    assert set(found) == {
        "public_id", "version", "changelog", "file_hash_sha256", "file_size_bytes", "status", "error_message", "created_on",
        "started_on", "completed_on", "user_public_id", "has_firmware_file",
    }  # fmt: skip
    assert (found["version"], found["changelog"], found["status"]) == ("2.1.0", "Better.", "pending")
    assert (found["user_public_id"], found["has_firmware_file"], found["file_size_bytes"]) == (alice.id, False, None)
    answer = await admin.post("/api/v1/ota", json={"version": "2.1.0"})
    assert (answer.status_code, answer.json()) == (409, {"detail": "FirmwareUpdate already exists."})


@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1.2.3-rc1", "1" * 60 + ".0.0", 1, None])
async def test_a_version_is_three_integers(admin: httpx.AsyncClient, version: object) -> None:
    answer = await admin.post("/api/v1/ota", json={"version": version})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "version"])
    assert (await admin.get("/api/v1/ota")).json()["total"] == 0


async def test_without_an_address_an_update_is_only_marked_and_may_be_rolled_back(admin: httpx.AsyncClient) -> None:
    public_id = await update(admin)
    answer = await admin.post(f"/api/v1/ota/{public_id}/apply")
    assert (answer.status_code, answer.json()["message"]) == DONE
    found = await read(admin, public_id)
    assert (found["status"], found["has_firmware_file"]) == ("completed", False)
    assert found["started_on"] == found["completed_on"] is not None
    conflict = (409, "Cannot transition from 'completed' to 'completed'")
    assert await apply(admin, public_id) == conflict
    answer = await admin.post(f"/api/v1/ota/{public_id}/rollback")
    assert (answer.status_code, answer.json()["message"]) == (200, "Firmware update rolled back successfully.")
    assert (await read(admin, public_id))["status"] == "rolled_back"
    answer = await admin.post(f"/api/v1/ota/{public_id}/rollback")
    assert (answer.status_code, answer.json()["detail"]) == (409, "Cannot transition from 'rolled_back' to 'rolled_back'")
    assert await apply(admin, public_id) == (409, "Cannot transition from 'rolled_back' to 'completed'")


async def test_a_pending_update_cannot_be_rolled_back(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(f"/api/v1/ota/{await update(admin)}/rollback")
    assert (answer.status_code, answer.json()["detail"]) == (409, "Cannot transition from 'pending' to 'rolled_back'")


async def test_a_bundle_is_downloaded_over_redirects_checked_and_kept(busbar: Running, admin: httpx.AsyncClient) -> None:
    public_id = await update(admin)
    replies: dict[str, Reply] = {
        "/a": (302, {"Location": "/b"}, b""),
        "/b": (307, {"Location": "/c"}, b""),
        "/c": (200, {}, BUNDLE),
    }
    async with web(replies) as url:
        assert await apply(admin, public_id, download_url=f"{url}/a", file_hash_sha256=SHA256.upper()) == DONE
    found = await read(admin, public_id)
    assert (found["status"], found["file_size_bytes"], found["file_hash_sha256"]) == ("completed", len(BUNDLE), SHA256)
    assert found["has_firmware_file"] is True
    assert bundles(busbar) == ["firmware-2.1.0.tar.gz"]
    assert (busbar.app.settings.data / "updates" / "firmware-2.1.0.tar.gz").read_bytes() == BUNDLE
    answer = await admin.delete(f"/api/v1/ota/{public_id}")
    assert (answer.status_code, answer.json()["message"]) == (200, "FirmwareUpdate successfully deleted.")
    assert bundles(busbar) == []


async def test_without_a_hash_none_is_claimed(admin: httpx.AsyncClient) -> None:
    public_id = await update(admin)
    async with web({"/c": (200, {}, BUNDLE)}) as url:
        assert await apply(admin, public_id, download_url=f"{url}/c", file_hash_sha256=None) == DONE
    found = await read(admin, public_id)
    assert (found["file_hash_sha256"], found["file_size_bytes"]) == (None, len(BUNDLE))


async def test_a_failed_download_is_kept_with_its_reason_and_may_be_tried_again(
    busbar: Running, admin: httpx.AsyncClient
) -> None:
    public_id = await update(admin)
    replies: dict[str, Reply] = {"/c": (200, {}, BUNDLE), "/gone": (404, {}, b""), "/loop": (302, {"Location": "/loop"}, b"")}
    async with web(replies) as url:
        for body, reason in (
            ({"download_url": f"{url}/gone"}, "download_failed: status 404"),
            ({"download_url": f"{url}/loop"}, "download_failed: status 302"),
            ({"download_url": f"{url}/c", "file_hash_sha256": "0" * 64}, "SHA-256 hash verification failed"),
        ):
            assert await apply(admin, public_id, **body) == (400, reason)
            found = await read(admin, public_id)
            assert (found["status"], found["error_message"], found["has_firmware_file"]) == ("failed", reason, False)
            assert bundles(busbar) == []
        assert await apply(admin, public_id, download_url=f"{url}/c", file_hash_sha256=SHA256) == DONE
    found = await read(admin, public_id)
    assert (found["status"], found["error_message"]) == ("completed", None)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "http://169.254.169.254/latest", "file:///etc/passwd", "nonsense"])
async def test_an_address_that_must_not_be_called_is_not(admin: httpx.AsyncClient, url: str) -> None:
    public_id = await update(admin)
    status, reason = await apply(admin, public_id, download_url=url)
    assert (status, reason.split(":")[0]) == (400, "download_failed")
    assert (await read(admin, public_id))["status"] == "failed"


async def test_each_address_that_a_redirect_leads_to_is_checked(admin: httpx.AsyncClient) -> None:
    public_id = await update(admin)
    async with web({"/a": (302, {"Location": "http://169.254.169.254/latest"}, b"")}) as url:
        status, reason = await apply(admin, public_id, download_url=f"{url}/a")
    assert (status, reason) == (400, "download_failed: address 169.254.169.254 is not allowed")


async def test_a_hash_has_64_characters(admin: httpx.AsyncClient) -> None:
    public_id = await update(admin)
    answer = await admin.post(f"/api/v1/ota/{public_id}/apply", json={"file_hash_sha256": "abc"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "file_hash_sha256"])
    answer = await admin.post(f"/api/v1/ota/{public_id}/apply", json={"download_url": "x" * 2049})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "download_url"])
    assert (await read(admin, public_id))["status"] == "pending"


async def test_of_many_who_apply_an_update_at_once_one_does(admin: httpx.AsyncClient) -> None:
    public_id, hold = await update(admin), asyncio.Event()
    async with web({"/slow": (200, {}, BUNDLE)}, hold=hold) as url:
        tries = [asyncio.create_task(apply(admin, public_id, download_url=f"{url}/slow")) for _ in range(4)]
        refused = 0
        for done in asyncio.as_completed(tries):
            status, told = await done
            if status == 409:
                refused += 1
                assert told.startswith("Cannot transition from 'downloading' to '")
            if refused == 3:
                hold.set()
        assert sorted([task.result()[0] for task in tries]) == [200, 409, 409, 409]
    assert (await read(admin, public_id))["status"] == "completed"


async def test_what_a_stop_interrupted_has_failed_after_the_next_start(start: Start) -> None:
    busbar = await start()
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    public_id = await update(admin)
    async with busbar.app.database.unit_of_work() as session:
        await session.exec(sql_update(UpdateRow).values(status="verifying"))
    again = await start()
    found = await read(await sign_in(again, "alice@example.com"), public_id)
    assert (found["status"], found["error_message"]) == ("failed", "the server stopped meanwhile")


async def test_the_newest_of_what_is_registered_is_told(start: Start) -> None:
    busbar = await start(lab={"github_repo": ""})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    viewer = await person(busbar, admin, "Vera", "viewer")
    empty = (await viewer.get("/api/v1/ota/check")).json()
    assert empty == {
        "current_version": "2.0.0", "latest_version": None, "update_available": False, "github_latest_version": None,
        "github_download_url": None, "github_release_url": None, "github_error": "github_repo not configured",
    }  # fmt: skip
    for version in ("1.9.9", "2.0.0", "2.9.0", "2.10.0", "10.0.0"):
        await update(admin, version)
    failed = next(one for one in (await admin.get("/api/v1/ota")).json()["data"] if one["version"] == "10.0.0")
    await apply(admin, failed["public_id"], download_url="ftp://x")
    told = (await viewer.get("/api/v1/ota/check")).json()
    assert (told["latest_version"], told["update_available"]) == ("2.10.0", True)
    assert (await viewer.get("/api/v1/ota")).status_code == 403


RELEASE = b"""{"tag_name": "v2.3.0", "html_url": "https://example.com/r", "assets": [
    {"name": "notes.txt", "browser_download_url": "https://example.com/n"},
    {"name": "webmacs-update-2.3.0.tar.gz", "browser_download_url": "https://example.com/b"}]}"""


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ((200, {}, RELEASE), ("2.3.0", "https://example.com/b", "https://example.com/r", None, "2.3.0")),
        ((200, {}, b'{"tag_name": "nightly"}'), ("nightly", None, None, None, None)),
        ((200, {}, b"no json"), (None, None, None, "GitHub API returned no release", None)),
        ((200, {}, b"[]"), (None, None, None, "GitHub API returned no release", None)),
        ((404, {}, b"{}"), (None, None, None, None, None)),
        ((403, {}, b"{}"), (None, None, None, "GitHub API returned 403", None)),
    ],
)
async def test_the_release_of_a_project_is_told_or_why_it_is_not(start: Start, reply: Reply, told: tuple[Any, ...]) -> None:
    async with web({"/repos/acme/lab/releases/latest": reply}) as url:
        busbar = await start(lab={"github_repo": "acme/lab", "github_api": url})
        admin = await sign_in(busbar, (await busbar.person("alice")).email)
        found = (await admin.get("/api/v1/ota/check")).json()
    names = ("github_latest_version", "github_download_url", "github_release_url", "github_error", "latest_version")
    assert tuple(found[name] for name in names) == told
    assert found["update_available"] is (told[4] is not None)


async def test_the_project_is_that_of_the_clients_unless_another_one_is_set(start: Start) -> None:
    async with web({"/repos/stefanposs/webmacs/releases/latest": (200, {}, RELEASE)}) as url:
        busbar = await start(lab={"github_api": url})
        admin = await sign_in(busbar, (await busbar.person("alice")).email)
        found = (await admin.get("/api/v1/ota/check")).json()
    assert (found["github_latest_version"], found["github_error"]) == ("2.3.0", None)


async def test_a_project_that_cannot_be_reached_fails_no_check(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.lab.releases.SECONDS", 0.1)
    hold = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hold.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    busbar = await start(lab={"github_repo": "acme/lab", "github_api": f"http://127.0.0.1:{port}"})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    found = await admin.get("/api/v1/ota/check")
    assert (found.status_code, found.json()["github_error"]) == (200, "Connection timed out")
    hold.set()
    server.close()
    await server.wait_closed()
    found = (await admin.get("/api/v1/ota/check")).json()
    assert found["github_error"].startswith("Connection failed: ")


async def test_a_bundle_is_uploaded_under_its_name(busbar: Running, admin: httpx.AsyncClient) -> None:
    name = "webmacs-update-2.1.0.tar.gz"
    answer = await admin.post("/api/v1/ota/upload", files={"file": (name, BUNDLE)})
    told = f"Bundle '{name}' uploaded (2,000 bytes). Update will be applied automatically."
    assert (answer.status_code, answer.json()) == (201, {"status": "success", "message": told})
    assert bundles(busbar) == [name]
    answer = await admin.post("/api/v1/ota/upload", files={"file": (name, b"another")})
    assert (answer.status_code, answer.json()) == (409, {"detail": f"Bundle '{name}' already exists."})
    assert (busbar.app.settings.data / "updates" / name).read_bytes() == BUNDLE
    assert (await admin.get("/api/v1/ota")).json()["total"] == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x.tgz", "File must be a .tar.gz update bundle."),
        ("x.tar.gz.sh", "File must be a .tar.gz update bundle."),
        (".tar.gz", "File name may hold letters, digits and . _ + - only."),
        (".hidden.tar.gz", "File name may hold letters, digits and . _ + - only."),
        ("a b.tar.gz", "File name may hold letters, digits and . _ + - only."),
        ("a\x00b.tar.gz", "File name may hold letters, digits and . _ + - only."),
    ],
)
async def test_a_bundle_of_another_name_is_refused(busbar: Running, admin: httpx.AsyncClient, name: str, told: str) -> None:
    answer = await admin.post("/api/v1/ota/upload", files={"file": (name, BUNDLE)})
    assert (answer.status_code, answer.json()) == (400, {"detail": told})
    assert bundles(busbar) == []


async def test_folders_in_a_name_lead_nowhere(busbar: Running, admin: httpx.AsyncClient) -> None:
    for name in ("../../etc/a.tar.gz", "C:\\b.tar.gz"):
        assert (await admin.post("/api/v1/ota/upload", files={"file": (name, BUNDLE)})).status_code == 201
    assert bundles(busbar) == ["a.tar.gz", "b.tar.gz"]


async def test_of_many_who_upload_one_bundle_at_once_one_succeeds(busbar: Running, admin: httpx.AsyncClient) -> None:
    files = [{"file": ("a.tar.gz", bytes([n]) * 100_000)} for n in range(4)]
    answers = await asyncio.gather(*(admin.post("/api/v1/ota/upload", files=file) for file in files))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    kept = (busbar.app.settings.data / "updates" / "a.tar.gz").read_bytes()
    winner = next(n for n, answer in enumerate(answers) if answer.status_code == 201)
    assert kept == bytes([winner]) * 100_000
    assert bundles(busbar) == ["a.tar.gz"]


async def test_a_bundle_over_the_limit_is_refused_and_leaves_nothing(
    busbar: Running, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.lab.bundles.MOST_BYTES", 1_000_000)
    answer = await admin.post("/api/v1/ota/upload", files={"file": ("a.tar.gz", bytes(1_000_001))})
    assert (answer.status_code, answer.json()) == (413, {"detail": "Bundle exceeds maximum allowed size (500 MB)."})
    assert bundles(busbar) == []


async def test_a_bundle_that_is_cut_off_leaves_nothing(busbar: Running, admin: httpx.AsyncClient) -> None:
    host, port = busbar.url.removeprefix("http://").split(":")
    head = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.tar.gz"\r\n\r\n'
    lines = [
        "POST /api/v1/ota/upload HTTP/1.1",
        "Host: x",
        f"Authorization: {admin.headers['authorization']}",
        "Content-Type: multipart/form-data; boundary=x",
        "Content-Length: 5000000",
    ]
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(("\r\n".join([*lines, "", ""]) + head).encode() + bytes(200_000))
    await writer.drain()
    await until(lambda: found(busbar, 1))
    writer.close()
    await until(lambda: found(busbar, 0))


async def found(busbar: Running, files: int) -> bool:
    """Whether there are so many files in the folder of bundles, those on their way included."""
    return len(bundles(busbar)) == files


async def test_bundles_lie_in_the_folder_that_is_set(start: Start, tmp_path: Path) -> None:
    busbar = await start(lab={"update_folder": str(tmp_path / "watched")})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    assert (await admin.post("/api/v1/ota/upload", files={"file": ("a.tar.gz", BUNDLE)})).status_code == 201
    assert (tmp_path / "watched" / "a.tar.gz").read_bytes() == BUNDLE


async def test_a_bundle_comes_in_chunks_over_grpc(busbar: Running, alice: Person) -> None:
    async def chunks() -> AsyncIterator[UploadBundleRequest]:
        yield UploadBundleRequest(file_name="a.tar.gz")
        for at in range(0, len(BUNDLE), 300):
            yield UploadBundleRequest(body=HttpBody(data=BUNDLE[at : at + 300]))

    client = busbar.client("grpc", alice.session)
    send = client.channel.stream_unary(
        "/busbar.lab.v1.OtaService/UploadBundle",
        request_serializer=UploadBundleRequest.to_binary,
        response_deserializer=StatusResponse.from_binary,
    )
    assert "(2,000 bytes)" in (await send(chunks(), metadata=client.metadata, timeout=20)).message
    with pytest.raises(grpc.aio.AioRpcError, match="already exists"):
        await send(chunks(), metadata=client.metadata, timeout=20)
    with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
        await send(iter([]), metadata=client.metadata, timeout=20)


async def test_updates_are_for_administrators_of_the_owner(busbar: Running, admin: httpx.AsyncClient, eve: Person) -> None:
    public_id = await update(admin)
    stranger, operator = await sign_in(busbar, eve.email), await person(busbar, admin, "Otto", "operator")
    for answer in (
        await stranger.post("/api/v1/ota", json={"version": "9.9.9"}),
        await stranger.post("/api/v1/ota/upload", files={"file": ("a.tar.gz", b"x")}),
    ):
        assert (answer.status_code, answer.json()) == (403, {"detail": OWNER_ONLY})
    calls: list[Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]] = [
        lambda client: client.get(f"/api/v1/ota/{public_id}"),
        lambda client: client.post(f"/api/v1/ota/{public_id}/apply"),
        lambda client: client.post(f"/api/v1/ota/{public_id}/rollback"),
        lambda client: client.delete(f"/api/v1/ota/{public_id}"),
    ]
    for call in calls:
        answer = await call(stranger)
        assert (answer.status_code, answer.json()) == (404, {"detail": f"FirmwareUpdate '{public_id}' not found."})
        assert (await call(operator)).json() == {"detail": "Admin privileges required."}
    assert bundles(busbar) == []


async def test_an_update_stays_when_its_user_is_gone(busbar: Running, admin: httpx.AsyncClient) -> None:
    other = await person(busbar, admin, "Ada", "admin")
    public_id = await update(other)
    owner = (await read(admin, public_id))["user_public_id"]
    assert (await admin.delete(f"/api/v1/users/{owner}")).status_code == 200
    assert (await admin.get("/api/v1/ota")).json()["data"][0]["user_public_id"] is None
