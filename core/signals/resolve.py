"""Names become ids inside the transaction that needs them.

Each insert is written so that losing a race to another writer yields the winner's row.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence

from core.signals.directory import CHANNEL_COLUMNS, DEVICE_COLUMNS, device_of
from core.signals.model import Channel, Device
from core.storage.tx import Row, Tx

_DEVICE = (
    "INSERT INTO device (org_id, slug, name, kind, seq, recording, created_us) VALUES ($1, $2, $3, $4, 0, $5, $6)"  # noqa: S608 - constants
    f" ON CONFLICT (org_id, slug) DO UPDATE SET slug = excluded.slug RETURNING {DEVICE_COLUMNS}"
)
_CHANNEL = (
    "INSERT INTO channel (device_id, name, kind, created_us) VALUES ($1, $2, $3, $4)"  # noqa: S608 - constants
    f" ON CONFLICT (device_id, name) DO UPDATE SET name = excluded.name RETURNING {CHANNEL_COLUMNS}"
)
_RECORDING = (
    "INSERT INTO recording (public_id, org_id, external_id, name, device_id, kind, status, started_us, attributes)"
    " VALUES ($1, $2, $3, '', $4, 'session', 'running', $5, '{}')"
    " ON CONFLICT (org_id, external_id) DO UPDATE SET external_id = excluded.external_id RETURNING id"
)
_TAGSET = "INSERT INTO tagset (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash RETURNING id"

_TOUCH_SQLITE = (
    "UPDATE device SET last_seen_us = coalesce($1, last_seen_us)"
    " WHERE id IN (SELECT value FROM json_each($2)) AND deleted_us IS NULL"
)
# Locked in the order of their ids, so that two servers that write for the same devices do not wait for each other.
_TOUCH_POSTGRES = (
    "WITH found AS (SELECT id FROM device WHERE id = ANY($2::integer[]) AND deleted_us IS NULL ORDER BY id FOR UPDATE)"
    " UPDATE device SET last_seen_us = coalesce($1::bigint, last_seen_us) FROM found WHERE device.id = found.id"
)


class StaleError(Exception):
    """A device that memory knows is gone from the database: another process deleted it."""

    def __init__(self, device_id: int) -> None:
        super().__init__(f"device {device_id} is gone")
        self.device_id = device_id


async def upsert_device(tx: Tx, org_id: str, slug: str, *, kind: str, name: str, now_us: int) -> Device:
    """Return the device with a slug, making it if there is none."""
    return device_of(await _one(tx, _DEVICE, org_id, slug, name, kind, True, now_us))  # noqa: FBT003 - a column's value


async def upsert_channel(tx: Tx, device_id: int, name: str, *, kind: str, now_us: int) -> Channel:
    """Return the channel with a name, making it if there is none."""
    return Channel(*await _one(tx, _CHANNEL, device_id, name, kind, now_us))


async def upsert_recording(tx: Tx, org_id: str, external_id: str, *, device_id: int, started_us: int) -> int:
    """Return the id of a recording, opening a session if there is none."""
    return (await _one(tx, _RECORDING, str(uuid.uuid4()), org_id, external_id, device_id, started_us))[0]


async def upsert_tagset(tx: Tx, body: str) -> int:
    """Return the id of a set of labels given as JSON text with sorted keys."""
    return (await _one(tx, _TAGSET, hashlib.sha256(body.encode()).hexdigest(), body))[0]


async def touch_devices(tx: Tx, device_ids: Sequence[int], seen_us: int | None) -> None:
    """Note when devices were heard of; None leaves it.

    One statement for all of them: on SQLite each statement waits once more for the interpreter's lock, which is worth more than
    the statement itself as soon as hundreds of devices send at once.

    Raises:
        StaleError: A device is gone.
    """
    ids = sorted(device_ids)
    if tx.dialect == "postgresql":
        touched = await tx.execute(_TOUCH_POSTGRES, seen_us, ids)
    else:
        touched = await tx.execute(_TOUCH_SQLITE, seen_us, json.dumps(ids))
    if touched < len(ids):
        for device_id in ids:
            if not await tx.fetch("SELECT id FROM device WHERE id = $1 AND deleted_us IS NULL", device_id):
                raise StaleError(device_id)


async def _one(tx: Tx, sql: str, *arguments: object) -> Row:
    return (await tx.fetch(sql, *arguments))[0]
