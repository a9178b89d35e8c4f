"""Which hosts and origins are a server's own."""

from __future__ import annotations

import pytest

from adapters.mcp.guard import OriginGuard
from core.kernel.settings import Settings


@pytest.mark.parametrize("bound", ["127.0.0.1:8787", "localhost:8787", "[::1]:8787", "127.8.8.8:0"])
def test_a_server_on_a_loopback_address_answers_only_to_names_of_this_machine(bound: str) -> None:
    guard = OriginGuard(Settings(http=bound))
    assert guard.admits_host("localhost:1234")
    assert not guard.admits_host("busbar.example")
    assert not guard.admits_host("")
    assert not guard.admits_host("[::1")
    assert not guard.admits_origin("http://busbar.example", "busbar.example")


@pytest.mark.parametrize("bound", ["0.0.0.0:8787", ":8787", "192.168.1.7:8787", "busbar.example:80"])
def test_a_server_on_the_network_answers_to_every_name_and_to_its_own_pages(bound: str) -> None:
    guard = OriginGuard(Settings(http=bound))
    assert guard.admits_host("busbar.example")
    assert guard.admits_origin(None, "busbar.example")
    assert guard.admits_origin("https://busbar.example:8787", "Busbar.example:8787")
    assert not guard.admits_origin("https://evil.example", "busbar.example:8787")
    assert not guard.admits_origin("null", "null")


def test_the_public_address_and_configured_origins_are_admitted() -> None:
    guard = OriginGuard(Settings(public_url="https://busbar.example/", cors_origins=["https://App.example"]))
    assert guard.admits_host("busbar.example")
    assert guard.admits_origin("https://busbar.example", "localhost")
    assert guard.admits_origin("https://app.example", "localhost")
    assert not guard.admits_origin("https://app.example.evil.example", "localhost")
