"""Calls to addresses that users gave reach what they may reach, and nothing else."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.kernel.http import (
    LOCAL_NETWORKS,
    AddressPolicy,
    AddressRefused,
    AnswerTooLarge,
    GuardedTransport,
    OutgoingClient,
    OutgoingTimeout,
    TransportFailed,
)
from core.kernel.settings import Outgoing
from tests.kernel.receiver import Received, receiving

LOOPBACK = AddressPolicy(("127.0.0.0/8",))

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
LOCAL = [
    "127.0.0.1",
    "127.8.8.8",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd12::1",
    "::ffff:127.0.0.1",
    "::ffff:192.168.1.1",
]
SPECIAL = [
    "0.0.0.0",
    "169.254.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "224.0.0.1",
    "239.1.1.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "::ffff:0.0.0.0",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
]
NEVER_PUBLIC = [
    "0.1.2.3",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "240.0.0.1",
    "::8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2606:4700::5efe:10.0.0.1",
    "fec0::1",
    "100::1",
    "3fff::1",
    "not an address",
]


class Names:
    """A name server that a test writes, and that counts what it was asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return self._answers.pop(0)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called(address: str) -> None:
    AddressPolicy().check(address)


@pytest.mark.parametrize("address", LOCAL + SPECIAL + NEVER_PUBLIC)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        AddressPolicy().check(address)


@pytest.mark.parametrize("address", LOCAL + PUBLIC)
def test_local_addresses_may_be_called_where_the_allow_list_says_so(address: str) -> None:
    AddressPolicy(LOCAL_NETWORKS).check(address)


def test_the_settings_say_which_networks_are_open() -> None:
    AddressPolicy.of(Outgoing()).check("192.168.1.1")
    closed = AddressPolicy.of(Outgoing(local=False, allow_networks=["10.0.0.0/8"]))
    closed.check("10.0.0.1")
    with pytest.raises(AddressRefused):
        closed.check("192.168.1.1")


@pytest.mark.parametrize("address", SPECIAL)
def test_no_allow_list_opens_link_local_multicast_or_metadata(address: str) -> None:
    with pytest.raises(AddressRefused):
        AddressPolicy(("0.0.0.0/0", "::/0")).check(address)


@pytest.mark.parametrize("address", ["2002:7f00:1::", "2001:0:7f00:1::", "64:ff9b::7f00:1"])
def test_a_tunnel_is_judged_by_where_it_leads(address: str) -> None:
    with pytest.raises(AddressRefused):
        AddressPolicy(("2002::/16", "2001::/32", "64:ff9b::/96")).check(address)


async def test_an_answer_comes_back_whole() -> None:
    async with receiving() as receiver, OutgoingClient(LOOPBACK) as client:
        answer = await client.request("POST", receiver.url, headers={"X-Test": "1"}, content=b"body")
    assert (answer.status, answer.body, answer.cut) == (200, b"OK", False)
    (received,) = receiver.requests
    assert (received.method, received.path, received.body) == ("POST", "/hook", b"body")
    assert received.headers["x-test"] == "1"


async def test_a_refused_address_is_not_connected_to() -> None:
    async with receiving() as receiver, OutgoingClient(AddressPolicy()) as client:
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "localhost"):
            with pytest.raises(AddressRefused):
                await client.request("GET", f"http://{host}:{receiver.port}/")
    assert receiver.requests == []


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "//example.com/", "nonsense", "http://", "http://[::1"]
)
async def test_only_http_and_https_can_be_called(url: str) -> None:
    async with OutgoingClient(LOOPBACK) as client:
        with pytest.raises(AddressRefused):
            await client.request("GET", url)


async def test_a_name_is_looked_up_once_and_kept_in_the_host_header() -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with receiving() as receiver, OutgoingClient(LOOPBACK, resolver=names) as client:
        answer = await client.request("GET", f"http://lab.example:{receiver.port}/")
        assert answer.status == 200
        assert names.asked == [("lab.example", receiver.port)]
        assert receiver.requests[0].headers["host"] == f"lab.example:{receiver.port}"
        with pytest.raises(AddressRefused):
            await client.request("GET", f"http://lab.example:{receiver.port}/")
    assert len(receiver.requests) == 1


async def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    names = Names(["127.0.0.1", "10.0.0.1"])
    async with receiving() as receiver, OutgoingClient(LOOPBACK, resolver=names) as client:
        with pytest.raises(AddressRefused):
            await client.request("GET", f"http://lab.example:{receiver.port}/")
    assert receiver.requests == []


async def test_the_next_address_is_tried_when_one_takes_no_connection() -> None:
    names = Names(["127.0.0.2", "127.0.0.1"])
    async with receiving() as receiver, OutgoingClient(LOOPBACK, resolver=names) as client:
        answer = await client.request("POST", f"http://lab.example:{receiver.port}/", content=b"body")
    assert answer.status == 200
    assert receiver.requests[0].body == b"body"


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with receiving() as receiver, OutgoingClient(LOOPBACK) as client:
        receiver.answer = saying(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
        answer = await client.request("GET", receiver.url)
        assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")
        await client.request("GET", receiver.url)
    assert [received.path for received in receiver.requests] == ["/hook", "/hook"]
    assert "cookie" not in receiver.requests[1].headers


async def test_an_answer_larger_than_wanted_is_refused_or_cut() -> None:
    async with receiving() as receiver, OutgoingClient(LOOPBACK, max_bytes=1000) as client:
        receiver.answer = saying(b"HTTP/1.1 202 OK\r\n\r\n" + b"x" * 1_000_000)
        with pytest.raises(AnswerTooLarge) as refused:
            await client.request("GET", receiver.url)
        assert refused.value.status == 202
        answer = await client.request("GET", receiver.url, cut=True, max_bytes=10)
    assert (answer.status, answer.body, answer.cut) == (202, b"x" * 10, True)


async def test_an_answer_of_exactly_the_limit_is_whole() -> None:
    async with receiving() as receiver, OutgoingClient(LOOPBACK, max_bytes=2) as client:
        assert (await client.request("GET", receiver.url)).body == b"OK"


async def test_an_answer_that_never_ends_is_given_up() -> None:
    async with receiving() as receiver, OutgoingClient(LOOPBACK, seconds=0.05) as client:
        gone = asyncio.Event()

        async def hang(_: Received) -> bytes:
            await gone.wait()
            return b""

        receiver.answer = hang
        with pytest.raises(OutgoingTimeout):
            await client.request("GET", receiver.url)
        gone.set()


async def test_what_cannot_be_reached_or_does_not_speak_http_is_told_apart() -> None:
    async with receiving() as receiver, OutgoingClient(LOOPBACK, resolver=Names([])) as client:
        receiver.answer = saying(b"220 mail.example ESMTP\r\n")
        with pytest.raises(TransportFailed):
            await client.request("GET", receiver.url)
        with pytest.raises(TransportFailed):
            await client.request("GET", "http://nowhere.example/")
    async with OutgoingClient(LOOPBACK) as client:
        with pytest.raises(TransportFailed):
            await client.request("GET", receiver.url)


async def test_a_name_that_cannot_be_resolved_is_a_failed_transport() -> None:
    async def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("Name or service not known")

    async with OutgoingClient(LOOPBACK, resolver=unknown) as client:
        with pytest.raises(TransportFailed, match="resolved"):
            await client.request("GET", "http://nowhere.example/")


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with receiving() as receiver, OutgoingClient(LOOPBACK) as client:
        assert (await client.request("GET", receiver.url)).status == 200


async def test_certificates_are_checked_for_the_name_and_not_the_address(tmp_path: Path) -> None:
    server, trust = certificate(tmp_path, "lab.example")
    names = Names(["127.0.0.1"], ["127.0.0.1"])
    async with receiving(server) as receiver, OutgoingClient(LOOPBACK, resolver=names, verify=trust) as client:
        answer = await client.request("GET", f"https://lab.example:{receiver.port}/")
        assert answer.status == 200
        with pytest.raises(TransportFailed, match="certificate"):
            await client.request("GET", f"https://other.example:{receiver.port}/")
    assert receiver.server_names == ["lab.example", "other.example"]


async def test_any_httpx_client_can_be_guarded() -> None:
    async with receiving() as receiver, httpx.AsyncClient(transport=GuardedTransport(AddressPolicy())) as client:
        with pytest.raises(AddressRefused):
            await client.get(receiver.url)


def saying(answer: bytes) -> Callable[[Received], Awaitable[bytes]]:
    async def say(_: Received) -> bytes:
        return answer

    return say


def certificate(directory: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context with a new certificate for a name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "server.pem").write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "server.pem")
    return server, ssl.create_default_context(cadata=pem.decode())
