"""Wheels that bring plugins: what is taken, what is refused and why, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import os
import resource
import stat
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from gen.busbar.lab.v1.common_pb import StatusResponse
from gen.busbar.lab.v1.packages_pb import UploadPackageRequest
from gen.google.api.httpbody_pb import HttpBody
from tests.conftest import Person, Running, Start
from tests.lab.conftest import person, sign_in
from tests.lab.wheel import file_of, wheel

UPLOAD = "/api/v1/plugins/packages/upload"
INFO = "oven_plugin-1.0.0.dist-info"


async def upload(client: httpx.AsyncClient, data: bytes | None = None, name: str | None = None) -> httpx.Response:
    """Upload a wheel as a browser does."""
    return await client.post(UPLOAD, files={"file": (name or file_of(), wheel() if data is None else data)})


async def uploaded(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return the packages that were uploaded."""
    return [one for one in (await client.get("/api/v1/plugins/packages")).json() if one["source"] == "uploaded"]


def left(busbar: Running) -> list[str]:
    """Return every file below the folder of plugins but those of the environment."""
    folder = busbar.app.settings.data / "plugins"
    return [str(path) for path in folder.rglob("*") if path.is_file() and folder / "environment" not in path.parents]


async def test_an_uploaded_wheel_brings_a_plugin_whose_instances_have_its_channels(admin: httpx.AsyncClient) -> None:
    data = wheel()
    answer = await upload(admin, data)
    told = f"Plugin package 'oven-plugin' v1.0.0 installed ({len(data):,} bytes). Restart the controller to activate."
    assert (answer.status_code, answer.json()) == (201, {"status": "success", "message": told})
    found = (await uploaded(admin))[0]
    assert (found["package_name"], found["version"], found["plugin_ids"]) == ("oven-plugin", "1.0.0", ["oven"])
    assert (found["file_size_bytes"], found["removable"]) == (len(data), True)
    available = {one["id"]: one for one in (await admin.get("/api/v1/plugins/available")).json()}
    assert (available["oven"]["name"], available["oven"]["vendor"]) == ("Oven", "Ovens Ltd")
    await admin.post("/api/v1/plugins", json={"plugin_id": "oven", "instance_name": "Oven", "enabled": False})
    made = (await admin.get("/api/v1/plugins")).json()["data"][0]
    assert [one["channel_id"] for one in made["channel_mappings"]] == ["temp", "echo", "heater"]


async def test_bundled_plugins_are_listed_first_and_cannot_be_removed(admin: httpx.AsyncClient) -> None:
    await upload(admin)
    found = (await admin.get("/api/v1/plugins/packages")).json()
    assert [(one["source"], one["removable"]) for one in found] == [*[("bundled", False)] * 3, ("uploaded", True)]
    answer = await admin.delete(f"/api/v1/plugins/packages/{found[0]['public_id']}")
    assert (answer.status_code, answer.json()) == (400, {"detail": "Bundled plugins cannot be removed."})


async def test_an_uninstalled_package_leaves_nothing_and_may_come_again(busbar: Running, admin: httpx.AsyncClient) -> None:
    await upload(admin)
    found = (await uploaded(admin))[0]
    answer = await admin.delete(f"/api/v1/plugins/packages/{found['public_id']}")
    told = "Plugin package 'oven-plugin' uninstalled. Restart the controller to apply."
    assert (answer.status_code, answer.json()["message"]) == (200, told)
    assert (await uploaded(admin), left(busbar)) == ([], [])
    assert "oven" not in {one["id"] for one in (await admin.get("/api/v1/plugins/available")).json()}
    missing = await admin.delete(f"/api/v1/plugins/packages/{found['public_id']}")
    assert (missing.status_code, missing.json()) == (404, {"detail": f"Plugin package '{found['public_id']}' not found."})
    assert (await upload(admin)).status_code == 201


async def test_the_name_of_the_file_is_looked_at_before_anything_else(busbar: Running, admin: httpx.AsyncClient) -> None:
    for name in ("oven.zip", "oven.whl.exe", "oven"):
        answer = await upload(admin, b"", name)
        assert (answer.status_code, answer.json()) == (400, {"detail": "File must be a .whl (Python wheel) package."})
    answer = await upload(admin, wheel(), "ov en-1.0.0-py3-none-any.whl")
    assert answer.status_code == 400
    answer = await admin.post(UPLOAD, files={"other": ("x.whl", b"x")})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "file"])
    assert left(busbar) == []


async def test_a_file_or_a_package_or_a_plugin_that_is_there_is_a_conflict(busbar: Running, admin: httpx.AsyncClient) -> None:
    await upload(admin)
    before = left(busbar)
    answer = await upload(admin, b"no wheel at all")
    assert (answer.status_code, answer.json()) == (409, {"detail": f"Package '{file_of()}' already exists."})
    answer = await upload(admin, wheel(version="2.0.0"), file_of(version="2.0.0"))
    assert (answer.status_code, answer.json()) == (409, {"detail": "Package 'oven-plugin' already exists."})
    for plugin in ("oven", "system"):
        entry_points = f"[webmacs.plugins]\n{plugin} = other:Oven\n"
        answer = await upload(admin, wheel("other", entry_points=entry_points), file_of("other"))
        assert (answer.status_code, answer.json()) == (409, {"detail": f"Plugin '{plugin}' already exists."})
    assert left(busbar) == before


async def test_of_many_who_upload_one_wheel_at_once_one_succeeds(busbar: Running, admin: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(upload(admin) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert len(await uploaded(admin)) == 1
    assert len(list((busbar.app.settings.data / "plugins" / "packages").iterdir())) == 1


async def test_a_wheel_over_the_limit_is_refused_while_it_arrives(busbar: Running, admin: httpx.AsyncClient) -> None:
    answer = await upload(admin, bytes(50 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.json()) == (413, {"detail": "Wheel exceeds maximum size (50 MB)."})
    assert left(busbar) == []


def link(archive: zipfile.ZipFile) -> None:
    """Put a symbolic link to a file of the system into an archive."""
    member = zipfile.ZipInfo("oven_link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(member, "/etc/passwd")


def twice(archive: zipfile.ZipFile) -> None:
    """Put a second file of a name into an archive."""
    archive.writestr("OVEN_plugin.py", "import os")


def truncated(data: bytes) -> bytes:
    """Return a file that broke off."""
    return data[: len(data) // 2]


def overwritten(data: bytes) -> bytes:
    """Return an archive in which some bytes of a file are others."""
    at = data.index(b"oven_plugin.py") + len(b"oven_plugin.py") + 20
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 10]) + data[at + 10 :]


BAD = {
    "no archive": (b"PK but no archive", "File is not a valid ZIP archive."),
    "empty": (b"", "File is not a valid ZIP archive."),
    "broken off": (truncated(wheel()), "File is not a valid ZIP archive."),
    "damaged": (overwritten(wheel()), ""),
    "no entry points": (wheel(entry_points=None), "Wheel has no [webmacs.plugins] entry points."),
    "other entry points": (wheel(entry_points="[console_scripts]\na = b:c\n"), "Wheel has no [webmacs.plugins] entry points."),
    "module that is not there": (
        wheel(entry_points="[webmacs.plugins]\noven = os.path:Oven\n"),
        "Entry point 'oven' names the module os.path, which the wheel does not hold.",
    ),
    "no module": (
        wheel(entry_points="[webmacs.plugins]\noven = __import__('os')\n"),
        "Entry point 'oven' is not of the form id = module:class.",
    ),
    "unreadable entry points": (wheel(entry_points="oven"), "entry_points.txt of the wheel is not readable."),
    "climbs out": (wheel(files={"../../evil.py": b"x"}), "Wheel holds a file that would leave its folder."),
    "climbs out within": (wheel(files={"a/../../evil.py": b"x"}), "Wheel holds a file that would leave its folder."),
    "absolute": (wheel(files={"/tmp/evil.py": b"x"}), "Wheel holds a file that would leave its folder."),  # noqa: S108 - is refused
    "other slashes": (wheel(files={"..\\evil.py": b"x"}), "Wheel holds a file that would leave its folder."),
    "drive": (wheel(files={"C:/evil.py": b"x"}), "Wheel holds a file that would leave its folder."),
    "link": (wheel(mutate=link), "Wheel holds a file that would leave its folder."),
    "two of one name": (wheel(mutate=twice), "Wheel holds two files of one name."),
    "bomb": (wheel(files={"bomb": bytes(201 * 1024 * 1024)}), "Wheel is larger than 209,715,200 bytes when it is unpacked."),
    "many files": (wheel(files={f"f{n}": b"" for n in range(2_000)}), "Wheel holds more than 2,000 files."),
    "wrong hash": (
        wheel(record={"oven_plugin.py": "sha256=" + "A" * 43}),
        "Wheel does not match its RECORD: hash / size of oven_plugin.py didn't match RECORD",
    ),
    "file that is not recorded": (
        wheel(mutate=lambda archive: archive.writestr("extra.py", "x")),
        "Wheel does not match its RECORD: extra.py is not mentioned in RECORD",
    ),
    "other name": (
        wheel(metadata="Metadata-Version: 2.1\nName: other\nVersion: 1.0.0\n"),
        "Name and version of the wheel are not those of its file.",
    ),
    "no name": (wheel(metadata="Metadata-Version: 2.1\n"), "Name or version of the wheel is not valid."),
    "other Python": (
        wheel(metadata="Metadata-Version: 2.1\nName: oven-plugin\nVersion: 1.0.0\nRequires-Python: <3.0\n"),
        "Wheel is not for this machine or version of Python.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
async def test_a_wheel_that_is_not_right_is_refused_with_its_reason_and_leaves_nothing(
    busbar: Running, admin: httpx.AsyncClient, kind: str
) -> None:
    data, reason = BAD[kind]
    answer = await upload(admin, data)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
    assert answer.json()["detail"].startswith(reason)
    assert str(busbar.app.settings.data) not in answer.text
    assert (await uploaded(admin), left(busbar)) == ([], [])


async def test_no_metadata_is_no_wheel(admin: httpx.AsyncClient, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("oven_plugin.py", "x")
    answer = await upload(admin, (tmp_path / "x").read_bytes())
    assert (answer.status_code, answer.json()) == (422, {"detail": "Wheel has no single .dist-info/METADATA."})


async def failed(busbar: Running, admin: httpx.AsyncClient, answer: httpx.Response, reason: str) -> None:
    """See that a wheel was not installed, why, and that nothing of it is left."""
    assert (answer.status_code, answer.json()) == (500, {"detail": f"Plugin install failed: {reason}"})
    assert (await uploaded(admin), left(busbar)) == ([], [])
    assert (await upload(admin)).status_code == 201


async def test_a_wheel_whose_files_stand_in_each_others_way_is_not_installed(busbar: Running, admin: httpx.AsyncClient) -> None:
    answer = await upload(admin, wheel(files={"data": b"a file", "data/more": b"and a folder of its name"}))
    await failed(busbar, admin, answer, "Not a directory")


async def test_a_wheel_for_which_the_disk_has_no_room_is_not_installed(busbar: Running, admin: httpx.AsyncClient) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Large once it is unpacked; what the database writes meanwhile is far smaller.
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000_000, before[1]))
    try:
        answer = await upload(admin, wheel(files={"zeros": bytes(40_000_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await failed(busbar, admin, answer, "File too large")


async def test_a_plugin_that_cannot_be_loaded_is_not_listed_and_harms_nobody(admin: httpx.AsyncClient) -> None:
    code = "raise RuntimeError('broken at import')\n"
    assert (await upload(admin, wheel(code=code))).status_code == 201
    assert [one["id"] for one in (await admin.get("/api/v1/plugins/available")).json()] == ["revpi", "simulated", "system"]
    assert (await admin.post("/api/v1/plugins", json={"plugin_id": "oven", "instance_name": "Oven"})).status_code == 201


async def test_code_of_a_wheel_runs_neither_in_the_server_nor_with_its_packages_or_secrets(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSBAR_SECRET_KEY", "not for plugins " * 3)
    busbar = await start()
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    code = """
import importlib.util, os
from core.lab.plugin_api import DevicePlugin, PluginMeta

found = [name for name in ("grpc", "sqlmodel", "core.kernel", "gen", "pip", "psutil") if importlib.util.find_spec(name)]
secrets = [name for name in os.environ if name.startswith("BUSBAR")]

class Oven(DevicePlugin):
    meta = PluginMeta(id="oven", name=f"{os.getpid()} {found} {secrets}", version="1")
"""
    assert (await upload(admin, wheel(code=code))).status_code == 201
    name = next(one["name"] for one in (await admin.get("/api/v1/plugins/available")).json() if one["id"] == "oven")
    pid, _, rest = name.partition(" ")
    assert (int(pid) != os.getpid(), rest) == (True, "[] []")


async def test_uploads_can_be_forbidden(start: Start) -> None:
    busbar = await start(lab={"plugin_uploads": False})
    admin = await sign_in(busbar, (await busbar.person("alice")).email)
    answer = await upload(admin)
    assert (answer.status_code, answer.json()) == (403, {"detail": "Plugin uploads are disabled."})
    assert left(busbar) == []


async def test_only_administrators_of_the_organisation_that_owns_the_installation_bring_code(
    busbar: Running, admin: httpx.AsyncClient, eve: Person
) -> None:
    operator, stranger = await person(busbar, admin, "Otto", "operator"), await sign_in(busbar, eve.email)
    answer = await upload(operator)
    assert (answer.status_code, answer.json()) == (403, {"detail": "Admin privileges required."})
    told = {"detail": "Only the organisation that owns the installation may do this."}
    answer = await upload(stranger)
    assert (answer.status_code, answer.json()) == (403, told)
    await upload(admin)
    package = (await uploaded(admin))[0]["public_id"]
    assert (await stranger.delete(f"/api/v1/plugins/packages/{package}")).json() == told
    assert len(await uploaded(stranger)) == 1


async def test_a_wheel_comes_in_chunks_over_grpc(busbar: Running, alice: Person, admin: httpx.AsyncClient) -> None:
    async def chunks(name: str, data: bytes) -> AsyncIterator[UploadPackageRequest]:
        yield UploadPackageRequest(file_name=name, body=HttpBody(data=data[:100]))
        for at in range(100, len(data), 100):
            yield UploadPackageRequest(body=HttpBody(data=data[at : at + 100]))

    client = busbar.client("grpc", alice.session)
    send = client.channel.stream_unary(
        "/busbar.lab.v1.PackageService/UploadPackage",
        request_serializer=UploadPackageRequest.to_binary,
        response_deserializer=StatusResponse.from_binary,
    )
    answer = await send(chunks(f"/some/folder/{file_of()}", wheel()), metadata=client.metadata, timeout=20)
    assert answer.message.startswith("Plugin package 'oven-plugin' v1.0.0 installed (")
    assert len(await uploaded(admin)) == 1
    with pytest.raises(grpc.aio.AioRpcError, match="not a valid ZIP"):
        await send(chunks("x-1-py3-none-any.whl", b"nonsense"), metadata=client.metadata, timeout=20)


async def test_what_a_stop_left_of_an_upload_is_gone_after_the_next_start(start: Start, tmp_path: Path) -> None:
    for name in ("staging/a/x.whl", "packages/a/site/x.py", "incoming/in_1"):
        path = tmp_path / "data" / "plugins" / name
        path.parent.mkdir(parents=True)
        path.write_text("left")
    busbar = await start()
    assert left(busbar) == []
