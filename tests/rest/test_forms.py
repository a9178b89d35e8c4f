"""Files that arrive as forms or as bare bytes: piece by piece, within bounds, and with the texts beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from adapters.rest.forms import MOST_PARTS, MOST_TEXT
from adapters.rest.openapi import build_document
from core.kernel.call import Call
from core.kernel.rpc import BindingError, bind
from tests.rest.fakes import client, rest_app
from tests.rest.protos import serve, service

MIB = 1 << 20
MESSAGES = """
message Upload {
  // Shelf to put it on.
  string shelf = 1;
  // Bytes of the file, or the next of them.
  google.api.HttpBody file = 2;
  // Name of the file.
  string file_name = 3;
  // Words to find it by.
  repeated string tags = 4;
  int32 size = 5;
}
message Answer { int32 pieces = 1; double bytes = 2; }
"""
BARE = "| option (busbar.api.v1.rest) = {max_body_bytes: 16777216};"
FORM = '| option (busbar.api.v1.rest) = {multipart {part: "file" filename: "file_name"} max_body_bytes: 16777216};'
RPCS = f"""
Send(Upload) returns (Answer) {{post: "/shelves/{{shelf}}" body: "file"}} {FORM}
Stream(stream Upload) returns (Answer) {{post: "/streams/{{shelf}}" body: "file"}} {FORM}
Bare(stream Upload) returns (Answer) {{post: "/bare/{{shelf}}" body: "file"}} {BARE}
"""
BOTH = pytest.mark.parametrize("path", ["/shelves/s", "/streams/s"])
PLAIN = {"content-type": "multipart/form-data; boundary=x"}

BROKEN = "request body is not valid multipart/form-data"
MANY = (
    b'--x\r\nContent-Disposition: form-data; name="size"\r\n\r\nmany\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n--x--\r\n'
)


class Files:
    """A door before a service that keeps the files it was sent."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        desc = service(MESSAGES, RPCS)
        answer = desc.methods[0].output.type

        def keep(request: Any, _call: Call) -> Any:
            self.seen = request if isinstance(request, list) else [request]
            return answer(pieces=len(self.seen), bytes=float(len(self.data)))

        self.rpcs = serve(desc, keep)
        self.app = rest_app(self.rpcs)
        self.web = client(self.app)

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return b"".join(message.file.data for message in self.seen)


@pytest.fixture
def files() -> Files:
    return Files()


@BOTH
async def test_a_form_fills_the_file_its_name_and_the_fields_beside_it(files: Files, path: str) -> None:
    texts = {"tags": ["a", "b & c=d"], "size": "3", "unknown": "x", "fileName": "forged", "shelf": "other"}
    answer = await files.web.post(path, data=texts, files={"file": ("../up/a b.whl", b"\x00\r\n--x\xff", "application/zip")})
    assert answer.status_code == 200, answer.text
    last = files.seen[-1]
    assert (files.data, last.file.content_type) == (b"\x00\r\n--x\xff", "application/zip")
    assert (last.shelf, last.file_name, last.tags, last.size) == ("s", "a b.whl", ["a", "b & c=d"], 3)


@BOTH
async def test_texts_after_the_file_count_too_and_an_empty_file_is_one(files: Files, path: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = part % (b"file", b'; filename="C:\\tmp\\e.bin"', b"") + part % (b"size", b"", b"7") + b"--x--\r\n"
    assert (await files.web.post(path, content=body, headers=PLAIN)).status_code == 200
    assert (files.data, files.seen[-1].size, files.seen[-1].file_name) == (b"", 7, "e.bin")


@BOTH
@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, BROKEN),
        (b"nonsense", 400, BROKEN),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc', 400, BROKEN),
        (b'--x\r\nContent-Disposition: form-data; name="size"\r\n\r\n1\r\n--x--\r\n', 400, "file: required"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n' * 2 + b"--x--\r\n", 400, "file: must be one file"),
        (MANY, 400, "size: must be an integer"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * (MOST_TEXT + 1) + b"\r\n--x--\r\n",
         413, "request body is larger than 65536 bytes"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * (MOST_PARTS + 1) + b"--x--\r\n",
         400, "request body has more than 100 parts"),
        (b"--x\r\nX: " + b"h" * 9000 + b"\r\n\r\n1\r\n--x--\r\n", 400, BROKEN),
    ],
)  # fmt: skip
async def test_a_form_that_is_wrong_is_refused(files: Files, path: str, body: bytes, status: int, sentence: str) -> None:
    answer = await files.web.post(path, content=body, headers=PLAIN)
    assert (answer.status_code, answer.json()) == (status, {"error": sentence})


@BOTH
@pytest.mark.parametrize(
    "kind", ["application/json", "application/octet-stream", "multipart/form-data", "multipart/mixed; boundary=x"]
)
async def test_a_body_that_is_no_form_is_415(files: Files, path: str, kind: str) -> None:
    answer = await files.web.post(path, content=b"{}", headers={"content-type": kind})
    assert (answer.status_code, list(answer.json())) == (415, ["error"])


@pytest.mark.parametrize("path", ["/shelves/s", "/streams/s", "/bare/s"])
async def test_a_file_over_the_limit_is_413_with_and_without_its_length(files: Files, path: str) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        for _ in range(16):
            yield bytes(MIB)
        yield b"\r\n--x--\r\n"

    assert (await files.web.post(path, content=pieces(), headers=PLAIN)).status_code == 413
    assert (await files.web.post(path, content=head + bytes(16 * MIB), headers=PLAIN)).status_code == 413


async def test_an_upload_of_no_bytes_still_reaches_the_service(files: Files) -> None:
    assert (await files.web.post("/bare/s", content=b"")).json()["pieces"] == 1
    assert (files.seen[0].shelf, files.data) == ("s", b"")


class Sender:
    """A client that sends a large file in pieces, and knows how much of it the door took.

    Attributes:
        pulled: Bytes that the door asked for so far.
        status: Status of the answer.
    """

    piece = 64 * 1024
    size = 15 * MIB

    def __init__(self, path: str, *, form: bool) -> None:
        self.pulled = self.status = 0
        pieces = [bytes(self.piece)] * (self.size // self.piece)
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        self._parts = iter([head, *pieces, b"\r\n--x--\r\n"] if form else pieces)
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
            "client": ("203.0.113.9", 1),
            "server": ("box.test", 80),
            "scheme": "http",
        }

    async def receive(self) -> MutableMapping[str, Any]:
        """Hand out the next piece."""
        part = next(self._parts, b"")
        self.pulled += len(part)
        return {"type": "http.request", "body": part, "more_body": bool(part)}

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """Take the answer."""
        self.status = event.get("status", self.status)


@pytest.mark.parametrize(("rpc", "form"), [("Stream", True), ("Bare", False)])
async def test_fifteen_mebibytes_pass_through_without_being_gathered(rpc: str, *, form: bool) -> None:
    desc = service(MESSAGES, next(line for line in RPCS.splitlines() if line.startswith(f"{rpc}(")))
    sender = Sender("/streams/s" if form else "/bare/s", form=form)
    go, taken, ahead = asyncio.Event(), 0, 0

    async def take(_self: object, request: Any, call: Any) -> Any:
        nonlocal taken, ahead
        await go.wait()
        async for message in request:
            taken += len(message.file.data)
            ahead = max(ahead, sender.pulled - taken)
        return desc.methods[0].output.type()

    kinds = desc.methods[0]
    take.__annotations__ = {"request": AsyncIterator[kinds.input.type], "call": Call, "return": kinds.output.type}
    app = rest_app(bind(desc, type("Things", (), {rpc.lower(): take})()))
    task = asyncio.create_task(app(sender.scope, sender.receive, sender.send))
    for _ in range(100):
        await asyncio.sleep(0)
    assert sender.pulled == 0, "the door reads before the service asks"
    go.set()
    await asyncio.wait_for(task, 20)
    assert (sender.status, taken) == (200, sender.size)
    assert ahead <= 2 * sender.piece


@pytest.mark.parametrize("more", ['multipart {part: "file" filename: "nope"}', "multipart {}"])
def test_a_form_that_the_request_cannot_hold_stops_the_start(more: str) -> None:
    desc = service(
        MESSAGES, f'Send(Upload) returns (Answer) {{post: "/x" body: "file"}} | option (busbar.api.v1.rest) = {{{more}}};'
    )
    with pytest.raises(BindingError, match="takes a form"):
        rest_app(serve(desc, lambda request, _call: request))


def test_the_document_describes_the_parts_of_a_form(files: Files) -> None:
    document = build_document(files.rpcs)
    OpenAPIV31SpecValidator(document).validate()
    operation = document["paths"]["/shelves/{shelf}"]["post"]
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["file"]["format"] == "binary"
    assert set(schema["properties"]) == {"file", "tags", "size"}
    assert schema["required"] == ["file"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["shelf"]
    bare = document["paths"]["/bare/{shelf}"]["post"]
    assert list(bare["requestBody"]["content"]) == ["*/*"]
    assert {"413", "415"} <= operation["responses"].keys()
