"""Which rpc serves a path, and what happens where none does."""

from __future__ import annotations

import pytest

from adapters.rest.routing import Match, Router
from core.kernel.rpc import BindingError
from tests.rest.fakes import client, rest_app
from tests.rest.protos import serve, service


def routes(*templates: str) -> Router[str]:
    router: Router[str] = Router()
    for template in templates:
        method, path = template.split(" ")
        router.add(method, path, template, template)
    return router


def found(router: Router[str], method: str, path: str, raw: bytes | None = None) -> object:
    match = router.find(method, path, raw)
    return (match.target, *match.values) if isinstance(match, Match) else match.allowed


def test_a_literal_path_wins_over_a_variable() -> None:
    router = routes("GET /a/{x}", "GET /a/b", "GET /{y}/b", "GET /{z=**}")
    assert found(router, "GET", "/a/b") == ("GET /a/b",)
    assert found(router, "GET", "/a/c") == ("GET /a/{x}", "c")
    assert found(router, "GET", "/c/b") == ("GET /{y}/b", "c")
    assert found(router, "GET", "/c/d/e") == ("GET /{z=**}", "c/d/e")


def test_a_less_literal_path_serves_a_method_that_the_literal_one_lacks() -> None:
    router = routes("POST /a/b", "GET /a/{x}")
    assert found(router, "GET", "/a/b") == ("GET /a/{x}", "b")
    assert found(router, "PUT", "/a/b") == ("POST", "GET")


def test_a_verb_after_a_variable_is_no_part_of_its_value() -> None:
    router = routes("POST /a/{x}:cancel", "POST /a/{x}", "POST /f/{x=**}:undo", "GET /a/{x}/b:watch")
    assert found(router, "POST", "/a/1:cancel") == ("POST /a/{x}:cancel", "1")
    assert found(router, "POST", "/a/1:other") == ("POST /a/{x}", "1:other")
    assert found(router, "POST", "/f/1/2:undo") == ("POST /f/{x=**}:undo", "1/2")
    assert found(router, "POST", "/f/1/2") == ()
    assert found(router, "GET", "/a/1/b:watch") == ("GET /a/{x}/b:watch", "1")


def test_several_variables_come_in_order() -> None:
    assert found(routes("GET /a/{x}/b/{y=c/*}/{z}"), "GET", "/a/1/b/c/2/3") == ("GET /a/{x}/b/{y=c/*}/{z}", "1", "c/2", "3")


@pytest.mark.parametrize(
    "raw", [b"/a/%ff", b"/a/%2F", b"/a/x%2fy", b"/a/%00", b"/a/..", b"/a/%2e%2e", b"/a/.", b"/a/", b"/a//b"]
)
def test_what_could_not_be_a_value_is_an_unknown_path(raw: bytes) -> None:
    assert found(routes("GET /a/{x}", "GET /a/{x}/b"), "GET", raw.decode(), raw) == ()


def test_a_path_of_many_segments_cannot_climb_and_keeps_its_encoded_slashes() -> None:
    router = routes("GET /f/{x=**}")
    assert found(router, "GET", "/f/a/../b", b"/f/a/../b") == ()
    assert found(router, "GET", "", b"/f/a/b%20c") == ("GET /f/{x=**}", "a/b c")


def test_percent_encoding_is_undone_within_segments() -> None:
    assert found(routes("GET /a/{x}"), "GET", "", b"/a/caf%C3%A9%20%25") == ("GET /a/{x}", "café %")


def test_two_rpcs_with_one_path_stop_the_start_and_are_both_named() -> None:
    desc = service("message Ask { string id = 1; string name = 2; }", """
        First(Ask) returns (Ask) {get: "/same/{id}"}
        Second(Ask) returns (Ask) {get: "/same/{name}"}
        """)  # fmt: skip
    with pytest.raises(BindingError, match=r"Things/First and testing\.\w+\.Things/Second both want GET /same/\{name\}"):
        rest_app(serve(desc, lambda request, _call: request))


@pytest.mark.parametrize("path", ["no-slash", "/a/{x", "/a/**/b", "/a/{x=**}/b"])
def test_a_path_that_is_no_template_stops_the_start(path: str) -> None:
    with pytest.raises(BindingError, match="is no path template"):
        Router[str]().add("GET", path, "Rpc", "Rpc")


SLASHES = 'Look(Ask) returns (Ask) {get: "/api/v1/things/{id}" additional_bindings {get: "/api/v1/things"}}'


async def test_the_lab_serves_both_spellings_of_a_path_and_no_head() -> None:
    rpcs = serve(service("message Ask { string id = 1; }", SLASHES, "LAB"), lambda request, _call: request)
    async with client(rest_app(rpcs)) as web:
        assert (await web.get("/api/v1/things/")).status_code == 200
        assert (await web.get("/api/v1/things/7/")).json() == {"id": "7"}
        head = await web.head("/api/v1/things/7")
        assert (head.status_code, head.headers["allow"]) == (405, "GET")


async def test_other_surfaces_serve_one_spelling() -> None:
    rpcs = serve(service("message Ask { string id = 1; }", SLASHES), lambda request, _call: request)
    async with client(rest_app(rpcs)) as web:
        assert (await web.get("/api/v1/things/")).status_code == 404
