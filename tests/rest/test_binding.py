"""google.api.http: where the fields of a request come from, and how they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from protobuf import message_to_json_value as to_json

from core.kernel.call import Call
from tests.rest.fakes import client, rest_app
from tests.rest.protos import serve, service

MESSAGES = """
enum Color { COLOR_UNSPECIFIED = 0; COLOR_RED = 1; }
message Inner { string name = 1; int32 big_size = 2; repeated string tags = 3; }
message Ask {
  string id = 1;
  Inner inner = 2;
  repeated int32 numbers = 3;
  Color color = 4;
  bool flag = 5;
  google.protobuf.Timestamp at = 6;
  google.protobuf.Duration wait = 7;
  google.protobuf.FieldMask read_mask = 8;
  double ratio = 9;
  uint32 count = 10;
  bytes data = 11;
  google.protobuf.Value any = 12;
  google.protobuf.Struct object = 13;
  google.protobuf.ListValue list = 14;
  repeated Inner items = 15;
  google.protobuf.FieldMask update_mask = 16;
  map<string, int32> sizes = 17;
  google.api.HttpBody file = 18;
}
message Answer { repeated Inner items = 1; google.protobuf.Value any = 2; google.api.HttpBody file = 3; Inner inner = 4; }
"""
RPCS = """
Look(Ask) returns (Answer) {get: "/things/{id}"}
Nest(Ask) returns (Answer) {post: "/in/{inner.name}/{inner.big_size}" body: "*" additional_bindings {put: "/a" body: "inner"}}
Deep(Ask) returns (Answer) {get: "/files/{id=**}"}
Shelf(Ask) returns (Answer) {get: "/shelves/{id=shelves/*/books/*}"}
Part(Ask) returns (Answer) {patch: "/part/{id}" body: "inner"}
Any(Ask) returns (Answer) {post: "/any/{id}" body: "any" response_body: "any"}
Object(Ask) returns (Answer) {post: "/object" body: "object"}
List(Ask) returns (Answer) {post: "/list" body: "list"}
Items(Ask) returns (Answer) {post: "/items" body: "items" response_body: "items"}
Upload(Ask) returns (Answer) {post: "/upload/{id}" body: "file" response_body: "file"}
Raw(google.api.HttpBody) returns (google.api.HttpBody) {post: "/raw" body: "*"}
All(Ask) returns (Answer) {post: "/all" body: "*"}
Many(stream google.api.HttpBody) returns (Answer) {post: "/many" body: "*"}
Lines(stream Ask) returns (Answer) {post: "/lines/{id}" body: "*"}
Download(Ask) returns (stream google.api.HttpBody) {get: "/download"}
"""


class Things:
    """A door before a service that keeps what it was asked and answers what it is given."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answer: Callable[[Any], Any] = lambda request: request
        desc = service(MESSAGES, RPCS)
        self.types = {m.name: m.type for m in desc.file.messages}
        self.rpcs = serve(desc, self._handle)
        self.web = client(rest_app(self.rpcs))

    def _handle(self, request: Any, _call: Call) -> Any:
        self.asked.append(request)
        return self.answer(request)

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        """Send a request that must succeed, and return the message that the service saw."""
        answer = await self.web.request(method, path, **more)
        assert answer.status_code == 200, answer.text
        return self.asked[-1]

    async def refused(self, method: str, path: str, **more: Any) -> str:
        """Send a request that must be wrong, and return the sentence."""
        answer = await self.web.request(method, path, **more)
        assert answer.status_code == 400, answer.text
        return answer.json()["error"]


@pytest.fixture
def things() -> Things:
    made = Things()
    made.answer = lambda _request: made.types["Answer"]()
    return made


async def test_a_variable_in_the_path_fills_its_field(things: Things) -> None:
    assert (await things.ask("GET", "/things/a%20b")).id == "a b"


async def test_variables_reach_into_messages(things: Things) -> None:
    asked = await things.ask("POST", "/in/x/12", json={"inner": {"tags": ["t"], "name": "other"}, "flag": True})
    assert (asked.inner.name, asked.inner.big_size, asked.inner.tags, asked.flag) == ("x", 12, ["t"], True)


async def test_a_further_binding_serves_the_same_rpc(things: Things) -> None:
    asked = await things.ask("PUT", "/a?id=7&ratio=0.5", json={"name": "n"})
    assert (asked.id, asked.inner.name, asked.ratio) == ("7", "n", 0.5)


async def test_a_variable_may_take_several_segments(things: Things) -> None:
    assert (await things.ask("GET", "/files/a/b/c.txt")).id == "a/b/c.txt"
    assert (await things.ask("GET", "/shelves/shelves/1/books/2")).id == "shelves/1/books/2"


@pytest.mark.parametrize("name", ["inner.bigSize", "inner.big_size"])
async def test_query_parameters_reach_into_messages_by_either_name(things: Things, name: str) -> None:
    assert (await things.ask("GET", "/things/1", params={name: "9"})).inner.big_size == 9


async def test_repeated_query_parameters_make_lists(things: Things) -> None:
    asked = await things.ask("GET", "/things/1?numbers=1&numbers=2&inner.tags=a&inner.tags=b")
    assert (asked.numbers, asked.inner.tags) == ([1, 2], ["a", "b"])


@pytest.mark.parametrize("text", ["COLOR_RED", "1"])
async def test_an_enum_is_given_by_name_or_number(things: Things, text: str) -> None:
    assert int((await things.ask("GET", "/things/1", params={"color": text})).color) == 1


async def test_well_known_types_are_read_from_the_query(things: Things) -> None:
    query = "at=2026-01-31T12:00:00+02:00&wait=1.5s&readMask=id,inner.bigSize&flag=true&any=text&data=aGk%3D&count=4000000000"
    asked = await things.ask("GET", f"/things/1?{query}")
    assert asked.at.seconds == 1_769_853_600
    assert (asked.wait.seconds, asked.wait.nanos) == (1, 500_000_000)
    assert asked.read_mask.paths == ["id", "inner.big_size"]
    assert (asked.flag, to_json(asked.any), asked.data, asked.count) == (True, "text", b"hi", 4_000_000_000)


async def test_unknown_query_parameters_are_ignored(things: Things) -> None:
    assert (await things.ask("GET", "/things/1?_t=5&inner.nope=1&inner=1&sizes.a=1")).inner is None


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("numbers=x", "numbers: must be an integer"),
        ("inner.bigSize=1.5", "inner.bigSize: must be an integer"),
        ("inner.big_size=99999999999", "inner.bigSize: must be an integer"),
        ("count=-1", "count: must be an integer"),
        ("flag=maybe", "flag: must be true or false"),
        ("ratio=much", "ratio: must be a number"),
        ("color=COLOR_BLUE", "color: must be one of COLOR_UNSPECIFIED, COLOR_RED"),
        ("color=5", "color: must be one of COLOR_UNSPECIFIED, COLOR_RED"),
        ("at=today", "at: must be a time such as 2026-01-31T12:00:00Z"),
        ("wait=long", "wait: must be a duration such as 1.5s"),
        ("data=*", "data: must be base64 text"),
        ("id=%ff&flag=%ff", "the query string is not valid UTF-8"),
    ],
)
async def test_a_bad_query_value_is_refused_by_name(things: Things, query: str, sentence: str) -> None:
    assert await things.refused("GET", f"/things/1?{query}") == sentence


async def test_the_query_cannot_change_what_the_path_says(things: Things) -> None:
    assert (await things.ask("GET", "/things/1?id=2")).id == "1"


async def test_the_body_cannot_change_what_the_path_says(things: Things) -> None:
    asked = await things.ask("POST", "/in/x/1", json={"inner": {"name": "y", "big_size": 5, "bigSize": 6}})
    assert (asked.inner.name, asked.inner.big_size) == ("x", 1)


async def test_a_body_that_is_one_field_leaves_the_others_to_the_query(things: Things) -> None:
    asked = await things.ask("PATCH", "/part/1?flag=true&inner.name=no", json={"bigSize": 3})
    assert (asked.id, asked.flag, asked.inner.big_size, asked.inner.name) == ("1", True, 3, "")


async def test_the_mask_names_the_members_of_a_body_that_is_one_field(things: Things) -> None:
    asked = await things.ask("PATCH", "/part/1", json={"bigSize": None, "name": "x", "unknown": 1})
    assert asked.update_mask.paths == ["big_size", "name"]


async def test_a_mask_of_the_caller_stands(things: Things) -> None:
    assert (await things.ask("POST", "/all", json={"flag": True, "updateMask": "id"})).update_mask.paths == ["id"]


@pytest.mark.parametrize("value", [None, True, 5, 2.5, "x", [1, [2]], {"a": {"b": None}}])
async def test_a_body_may_be_any_json_and_comes_back_as_it_was(things: Things, value: object) -> None:
    things.answer = lambda request: things.types["Answer"](any=request.any)
    answer = await things.web.post("/any/1", json=value)
    assert (answer.status_code, answer.json()) == (200, value)


async def test_a_body_may_be_an_object_a_list_or_a_list_of_messages(things: Things) -> None:
    assert to_json((await things.ask("POST", "/object", json={"a": [1]})).object) == {"a": [1]}
    assert to_json((await things.ask("POST", "/list", json=[1, "x"])).list) == [1, "x"]
    things.answer = lambda request: things.types["Answer"](items=request.items)
    answer = await things.web.post("/items", json=[{"name": "a"}, {"bigSize": 2}])
    assert answer.json() == [{"name": "a", "bigSize": 0, "tags": []}, {"name": "", "bigSize": 2, "tags": []}]


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/object", [1], "object: must be an object"),
        ("/list", {"a": 1}, "list: must be a list"),
        ("/items", {"a": 1}, "items: must be a list"),
        ("/items", [{"name": "ok"}, {"bigSize": "x"}], "items[1].bigSize: must be an integer"),
        ("/items", [None], "items[0]: must not be null"),
        ("/all", {"inner": {"tags": ["a", 5]}}, "inner.tags[1]: must be a string"),
        ("/all", {"inner": 5}, "inner: must be an object"),
        ("/all", {"flag": "true"}, "flag: must be true or false"),
        ("/all", {"color": "BLUE", "flag": 1}, "color: must be one of COLOR_UNSPECIFIED, COLOR_RED"),
        ("/all", {"sizes": {"a": "x"}}, "sizes.a: must be an integer"),
        ("/all", {"sizes": [1]}, "sizes: must be an object"),
        ("/all", {"ratio": True}, "ratio: must be a number"),
        ("/all", {"at": 5}, "at: must be a time such as 2026-01-31T12:00:00Z"),
    ],
)
async def test_a_wrong_type_in_the_body_is_refused_by_its_path(things: Things, path: str, body: object, sentence: str) -> None:
    assert await things.refused("POST", path, json=body) == sentence


async def test_opaque_bodies_arrive_with_their_type(things: Things) -> None:
    asked = await things.ask("POST", "/upload/1?flag=true", content=b"\x00\xff", headers={"content-type": "image/png"})
    assert (asked.id, asked.flag, asked.file.content_type, asked.file.data) == ("1", True, "image/png", b"\x00\xff")
    asked = await things.ask("POST", "/upload/1", content=b"ON")
    assert (asked.file.content_type, asked.file.data) == ("", b"ON")


async def test_opaque_answers_leave_with_their_type(things: Things) -> None:
    things.answer = lambda request: type(request)(content_type="text/csv", data=request.data * 2)
    answer = await things.web.post("/raw", content=b"a;", headers={"content-type": "text/plain"})
    assert (answer.content, answer.headers["content-type"]) == (b"a;a;", "text/csv")
    things.answer = lambda request: things.types["Answer"](file=request.file)
    answer = await things.web.post("/upload/1", content=b"x", headers={"content-type": "image/gif"})
    assert (answer.content, answer.headers["content-type"]) == (b"x", "image/gif")


async def test_an_opaque_upload_arrives_in_chunks(things: Things) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"one", b"two"):
            yield part

    chunks = await things.ask("POST", "/many", content=parts(), headers={"content-type": "video/mp4"})
    assert [(c.content_type, c.data) for c in chunks] == [("video/mp4", b"one"), ("video/mp4", b"two")]


async def test_an_upload_of_lines_makes_a_message_of_each(things: Things) -> None:
    content = b'{"flag": true}\n\n{"numbers": [1]}'
    messages = await things.ask("POST", "/lines/7", content=content, headers={"content-type": "application/x-ndjson"})
    assert [(m.id, m.flag, m.numbers) for m in messages] == [("7", True, []), ("7", False, [1])]


async def test_an_opaque_download_has_the_type_of_its_first_message(things: Things) -> None:
    body = next(r.response for r in things.rpcs if r.name.endswith("Download"))
    things.answer = lambda _request: [body(content_type="text/csv", data=b"a\n"), body(data=b"b\n")]
    answer = await things.web.get("/download")
    assert (answer.content, answer.headers["content-type"]) == (b"a\nb\n", "text/csv")


@pytest.mark.parametrize("kind", ["application/protobuf", "application/x-protobuf"])
async def test_messages_may_be_sent_and_asked_for_in_wire_format(things: Things, kind: str) -> None:
    inner = things.types["Inner"]
    content = things.types["Ask"](flag=True, inner=inner(name="body", tags=["t"])).to_binary()
    things.answer = lambda request: things.types["Answer"](inner=request.inner)
    answer: httpx.Response = await things.web.post(
        "/in/path/3", content=content, headers={"content-type": kind, "accept": kind}
    )
    assert answer.headers["content-type"] == "application/protobuf"
    sent: Any = things.types["Answer"].from_binary(answer.content)
    assert sent.inner == inner(name="path", big_size=3, tags=["t"])


async def test_a_damaged_message_in_wire_format_is_refused(things: Things) -> None:
    headers = {"content-type": "application/protobuf"}
    assert await things.refused("POST", "/all", content=b"\xff", headers=headers) == "request body is not a valid message"
