"""Tells what would keep a server with these settings from running well, before it is started or while it runs."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from adapters.console.accounts import open_database
from core.kernel.errors import DomainError
from core.kernel.logging import redact_text
from core.kernel.settings import Settings, split_address, unknown_names

Verdict = Literal["ok", "warn", "fail"]

GIB = 1 << 30
LOW_DISK, NO_DISK = GIB, GIB // 10
"""Free bytes below which the disk is worth a warning, and below which writes are about to fail."""

EARLIEST = 1_735_689_600
"""Seconds since the epoch, 2025-01-01: a clock before it was never set."""

CLOCK_SLACK_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    text: str


async def examine(settings: Settings) -> list[Finding]:
    """Run every check. Creates nothing and changes nothing."""
    return [
        _data(settings.data),
        _disk(settings.data),
        _clock(settings.data),
        await _database(settings),
        *_ports(settings),
        *_tls(settings),
        _names(settings),
    ]


def effective(settings: Settings) -> dict[str, str]:
    """Return every setting by its dotted name, secrets masked."""
    return {name: redact_text(str(value)) for name, value in _flat("", settings.model_dump(mode="json"))}


def _flat(prefix: str, tree: dict[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(f"{prefix}{name}.", cast("dict[str, object]", value))
        else:
            yield f"{prefix}{name}", value


def _existing(path: Path) -> Path:
    """Return the path, or its nearest parent that is there."""
    path = path.resolve()
    return next(place for place in (path, *path.parents) if place.exists())


def _data(data: Path) -> Finding:
    place = _existing(data)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding("data", "fail", f"{place} is not a directory that this user may write to")
    if place != data.resolve():
        return Finding("data", "ok", f"{data.resolve()} is not there yet; the first start makes it")
    return Finding("data", "ok", f"{place} can be written to")


def _disk(data: Path) -> Finding:
    free = shutil.disk_usage(_existing(data)).free
    verdict: Verdict = "fail" if free < NO_DISK else "warn" if free < LOW_DISK else "ok"
    return Finding("disk", verdict, f"{free / GIB:.1f} GiB free")


def _clock(data: Path) -> Finding:
    now = time.time()
    newest = max((path.stat().st_mtime for path in data.glob("*") if path.is_file()), default=0.0)
    if now < EARLIEST:
        return Finding("clock", "fail", "the clock was never set: times of points would be wrong")
    if newest > now + CLOCK_SLACK_SECONDS:
        return Finding("clock", "fail", f"the clock is {newest - now:.0f} s behind the newest file in {data}")
    return Finding("clock", "ok", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)))


async def _database(settings: Settings) -> Finding:
    url = redact_text(settings.database_url)
    if _is_missing(settings.database_url):
        return Finding("database", "ok", f"{url} is not there yet; the first start makes it")
    try:
        async with open_database(settings) as database:
            await database.ping()
            revision, head = await database.current_revision(), database.head_revision()
    except (DomainError, OSError, ValueError) as error:
        return Finding("database", "fail", f"{url}: {redact_text(str(error.__cause__ or error))}")
    if revision != head:
        return Finding("database", "warn", f"{url} is at revision {revision or 'none'}, not {head}: run `busbar migrate`")
    return Finding("database", "ok", f"{url} is at revision {revision}")


def _is_missing(url: str) -> bool:
    return url.startswith("sqlite") and not Path(url.partition(":///")[2]).exists()


def _ports(settings: Settings) -> Iterator[Finding]:
    yield _port("http", settings.http)
    yield _port("grpc", settings.grpc)
    for surface, address in settings.listen.items():
        yield _port(f"listen {surface}", address)


def _port(check: str, address: str) -> Finding:
    host, port = split_address(address)
    if port == 0:
        return Finding(check, "ok", f"{address} picks a free port")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return Finding(check, "warn", f"{address} is in use; fine if this server is running")
        return Finding(check, "fail", f"{address}: {error.strerror}")
    return Finding(check, "ok", f"{address} is free")


def _tls(settings: Settings) -> Iterator[Finding]:
    if settings.tls_certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        yield Finding("tls", "fail", f"{settings.tls_certificate} and {settings.tls_key}: {error.strerror or error}")
    else:
        yield Finding("tls", "ok", f"{settings.tls_certificate} and its key belong together")


def _names(settings: Settings) -> Finding:
    unknown = unknown_names(settings)
    if unknown:
        return Finding("settings", "warn", f"nothing is called {', '.join(unknown)}")
    return Finding("settings", "ok", "every name in the environment and in the files is known")
