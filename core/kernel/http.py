"""The one way out over HTTP: calls to addresses that users gave.

A name is resolved once, every address it resolves to is checked, and the connection goes to a checked address, so an answer of
the name server that changes in between has no effect. `Host` and the TLS name stay those of the URL. Redirects are not
followed, since each would be a new address, but where the caller says so, and then each is checked like the first; proxies and
credentials of the environment are not used.

OutgoingError
├── AddressRefused    the URL or the address behind it is not one to call; a later try will not help
├── OutgoingTimeout   no whole answer in time
├── TransportFailed   no connection, no TLS, or no HTTP
└── AnswerTooLarge    the body is larger than the caller takes
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import TracebackType
from typing import Self

import httpx

from core.kernel.settings import Outgoing

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Returns the numeric addresses of a host name and port, best first. Raises OSError when there is none."""

LOCAL_NETWORKS = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
)
"""What an allow-list holds where receivers may stand beside the server."""

_METADATA = frozenset(
    map(ip_address, ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
# Written out, since the tables of `ipaddress` differ between the versions of Python that this runs on.
_PUBLIC = tuple(map(ip_network, ("0.0.0.0/0", "2000::/3", "64:ff9b::/96")))
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",
            "2001::/23",
            "2001:db8::/32",
            "2002::/16",
            "3fff::/20",
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_MASK = 0xFFFFFFFF


class OutgoingError(Exception):
    """A call to another server that brought no usable answer."""


class AddressRefused(OutgoingError):
    """The URL, or an address behind its name, is not one to call."""


class OutgoingTimeout(OutgoingError):
    """The other server did not answer whole in time."""


class TransportFailed(OutgoingError):
    """The other server cannot be reached or does not speak HTTP."""


class AnswerTooLarge(OutgoingError):
    """The body of the answer is larger than the caller takes.

    Attributes:
        status: Status of the answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What another server said.

    Attributes:
        status: HTTP status, redirects among them.
        headers: Header fields; names compare without regard to case.
        body: Body as it was sent, without undoing any content coding.
        cut: Whether the body was longer and its rest was not read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Incoming:
    """An answer whose body is on its way.

    Attributes:
        status: HTTP status.
        body: Its bytes as they arrive.
    """

    status: int
    body: AsyncIterator[bytes]


def forms(address: Address) -> list[Address]:
    """Return an address and every IPv4 address that it stands for: mapped, compatible, NAT64, 6to4, Teredo, ISATAP."""
    if isinstance(address, IPv4Address):
        return [address]
    found: list[Address] = [address]
    number = int(address)
    last = IPv4Address(number & _MASK)
    embeds = address.ipv4_mapped is not None or address in _NAT64 or (address in _COMPATIBLE and number > 1)
    if embeds or number >> 32 & _MASK in _ISATAP:
        found.append(last)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    return found


class AddressPolicy:
    """Says which addresses may be called: public ones, and those of the networks in `allow`.

    Link-local, multicast, unspecified and cloud metadata addresses are refused whatever `allow` holds, and so are addresses
    that reach an IPv4 network through a tunnel or a translator when that network is refused.
    """

    def __init__(self, allow: tuple[str, ...] = ()) -> None:
        self._allow: tuple[Network, ...] = tuple(ip_network(network) for network in allow)

    @classmethod
    def of(cls, settings: Outgoing) -> AddressPolicy:
        """Return the policy that the settings ask for.

        Raises:
            ValueError: One of the networks is none.
        """
        return cls((*(LOCAL_NETWORKS if settings.local else ()), *settings.allow_networks))

    def check(self, address: str) -> Address:
        """Return the parsed address.

        Raises:
            AddressRefused: It is not one to call, or no address at all.
        """
        try:
            parsed = ip_address(address)
        except ValueError:
            raise AddressRefused(f"{address!r} is not an address") from None
        shown = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped else parsed
        for form in forms(shown):
            if _never(form) or not (_is_public(form) or _within(form, self._allow)):
                raise AddressRefused(f"address {address} is not allowed")
        return shown


def _never(address: Address) -> bool:
    return (
        address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA or int(address) == _MASK
    )


def _is_public(address: Address) -> bool:
    return _within(address, _PUBLIC) and not _within(address, _NOT_PUBLIC)


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


@cache
def _authorities() -> ssl.SSLContext:
    """Return what verifies certificates by the system's authorities; reading them is slow, so all clients share it."""
    return ssl.create_default_context()


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, as the system resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedTransport(httpx.AsyncBaseTransport):
    """Connects only to checked addresses. Fits any httpx client, such as those inside other libraries."""

    def __init__(self, policy: AddressPolicy, *, resolver: Resolver = resolve, verify: ssl.SSLContext | None = None) -> None:
        self._policy = policy
        self._resolver = resolver
        self._verify = verify
        self._made: httpx.AsyncHTTPTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first checked address of its host that takes the connection."""
        failure: Exception = httpx.ConnectError("the name has no address", request=request)
        for address in await self._addresses(request.url):
            try:
                return await self._transport().handle_async_request(_readdressed(request, address))
            except httpx.ConnectError as error:
                failure = error
        raise failure

    async def _addresses(self, url: httpx.URL) -> list[Address]:
        """Return the checked addresses of a URL. One bad address among good ones refuses the name."""
        if url.scheme not in ("http", "https") or not url.host:
            raise AddressRefused("only http and https addresses can be called")
        host = url.raw_host.decode("ascii")
        if _is_numeric(host):
            return [self._policy.check(host)]
        try:
            found = await self._resolver(host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError("the name cannot be resolved") from error
        return [self._policy.check(address) for address in found]

    async def aclose(self) -> None:
        """Close open connections."""
        if self._made is not None:
            await self._made.aclose()

    def _transport(self) -> httpx.AsyncHTTPTransport:
        """Return what connects, made by the first call: reading the authorities takes time and memory that a start spares."""
        if self._made is None:
            # Connections are pooled by address, but certificates are checked by name: one connection must not serve two names.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            verify = self._verify or _authorities()
            self._made = httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=limits)
        return self._made


def _is_numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _readdressed(request: httpx.Request, address: Address) -> httpx.Request:
    """Return the request for another address, with `Host` and the TLS name of the first."""
    extensions = {**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii")}
    url = request.url.copy_with(host=str(address))
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


class OutgoingClient:
    """Calls addresses that users gave.

    Args:
        policy: Which addresses may be called.
        seconds: Limit for a whole exchange, from the look-up of the name to the last byte.
        max_bytes: Bytes of a body to take.
        resolver: How names are looked up.
        verify: How certificates are verified; by the system's authorities when None.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        seconds: float = 10.0,
        max_bytes: int = 1_048_576,
        resolver: Resolver = resolve,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        transport = GuardedTransport(policy, resolver=resolver, verify=verify)
        # An answer is counted as it is sent, so that a small one cannot unfold into a large one.
        headers = {"User-Agent": "busbar", "Accept-Encoding": "identity"}
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx.AsyncClient(
            transport=transport,
            headers=headers,
            cookies=no_cookies,
            timeout=None,  # noqa: S113 - asyncio.timeout limits the whole exchange
            follow_redirects=False,
            trust_env=False,
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        seconds: float | None = None,
        max_bytes: int | None = None,
        cut: bool = False,
    ) -> Answer:
        """Make one call, and return the answer whatever its status.

        Args:
            method: HTTP method.
            url: Where to; http or https.
            headers: Further header fields.
            content: Body.
            seconds: Limit for this exchange.
            max_bytes: Bytes of the body to take.
            cut: Whether to return the first bytes of a larger body rather than refuse it.

        Raises:
            AddressRefused: The URL, or an address behind its name, is not one to call.
            OutgoingTimeout: The answer did not come whole in time.
            TransportFailed: There was no connection, or no HTTP on it.
            AnswerTooLarge: The body has more than `max_bytes`, and `cut` was not asked for.
        """
        seconds = self._seconds if seconds is None else seconds
        limit = self._max_bytes if max_bytes is None else max_bytes
        with _failures(seconds):
            async with asyncio.timeout(seconds):
                answer = await self._exchange(method, url, headers, content, limit)
        if answer.cut and not cut:
            raise AnswerTooLarge(f"the answer is larger than {limit} bytes", answer.status)
        return answer

    @asynccontextmanager
    async def download(self, url: str, *, seconds: float, redirects: int = 0) -> AsyncGenerator[Incoming]:
        """Get something that is too large to be kept in memory. The caller reads the body, and says how much is enough.

        Args:
            url: Where from; http or https.
            seconds: Limit for everything until the context ends.
            redirects: How many to follow. Each leads to an address that is checked as the first one is.

        Raises:
            AddressRefused: The URL, one that it leads to, or an address behind its name, is not one to call.
            OutgoingTimeout: The body did not come whole in time.
            TransportFailed: There was no connection, or no HTTP on it.
        """
        with _failures(seconds):
            async with asyncio.timeout(seconds):
                request = self._client.build_request("GET", url)
                for left in range(redirects, -1, -1):
                    response = await self._client.send(request, stream=True)
                    try:
                        if response.next_request is None or not left:
                            yield Incoming(response.status_code, response.aiter_raw())
                            return
                        request = response.next_request
                    finally:
                        await response.aclose()

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str] | None, content: bytes | None, limit: int
    ) -> Answer:
        body = bytearray()
        async with self._client.stream(method, url, headers=headers, content=content) as response:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    break
        return Answer(response.status_code, response.headers, bytes(body[:limit]), len(body) > limit)

    async def close(self) -> None:
        """Close open connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


@contextmanager
def _failures(seconds: float) -> Generator[None]:
    """Turn what httpx and the system raise into the errors of this module."""
    try:
        yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise OutgoingTimeout(f"no whole answer within {seconds:g} seconds") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise AddressRefused("only http and https addresses can be called") from error
    except (httpx.HTTPError, OSError) as error:
        raise TransportFailed(str(error) or type(error).__name__) from error
