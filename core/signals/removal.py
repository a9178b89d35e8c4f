"""Taking away: devices with all that they have, and points that are too old. In steps, so that writers never wait long."""

from __future__ import annotations

from core.signals.points import Points
from core.signals.rollups import WIDTHS_US
from core.storage.database import Database
from core.storage.tx import Tx, fetch_one

STEP_ROWS = 5000
"""Rows deleted in one commit."""


async def hide_device(tx: Tx, device_id: int, now_us: int) -> None:
    """Mark a device as being taken away and free its slug. No slug of a client holds a tilde."""
    await tx.execute("UPDATE device SET slug = $2, deleted_us = $3 WHERE id = $1", device_id, f"~{device_id}", now_us)


async def erase_device(database: Database, device_id: int) -> None:
    """Delete a hidden device with its points, rollups, latest values and channels.

    Recordings stay and name a device that is gone, since those that name none are of all devices.
    """

    async def channels(tx: Tx) -> list[int]:
        return [row[0] for row in await tx.fetch("SELECT id FROM channel WHERE device_id = $1", device_id)]

    for channel_id in await database.query(channels):
        await _erase_measured(database, channel_id)

    async def finish(tx: Tx) -> None:
        await tx.execute("DELETE FROM latest WHERE channel_id IN (SELECT id FROM channel WHERE device_id = $1)", device_id)
        of_device = "channel_id IN (SELECT id FROM channel WHERE device_id = $1)"
        await tx.execute(f"DELETE FROM recording_span WHERE {of_device}", device_id)  # noqa: S608 - a constant
        await tx.execute("DELETE FROM channel WHERE device_id = $1", device_id)
        await tx.execute("DELETE FROM device WHERE id = $1", device_id)

    await database.submit(finish)


async def erase_channel(database: Database, channel_id: int) -> None:
    """Delete a channel with its points, rollups and latest value."""
    await _erase_measured(database, channel_id)

    async def finish(tx: Tx) -> None:
        # A point may have come meanwhile from somebody who still knew the channel.
        await tx.execute("DELETE FROM point WHERE channel_id = $1", channel_id)
        await tx.execute("DELETE FROM rollup WHERE channel_id = $1", channel_id)
        await tx.execute("DELETE FROM latest WHERE channel_id = $1", channel_id)
        await tx.execute("DELETE FROM channel WHERE id = $1", channel_id)

    await database.submit(finish)


async def _erase_measured(database: Database, channel_id: int) -> None:
    await _delete_points(database, channel_id, None)
    await _delete_rollups(database, channel_id, None)


async def finish_deletions(database: Database) -> None:
    """Delete what is left of devices whose deletion was interrupted."""

    async def hidden(tx: Tx) -> list[int]:
        return [row[0] for row in await tx.fetch("SELECT id FROM device WHERE deleted_us IS NOT NULL")]

    for device_id in await database.query(hidden):
        await erase_device(database, device_id)


async def delete_older(database: Database, cutoff_us: int, points: Points) -> int:
    """Delete points before a time, and rollups that end before it; return how many points went."""
    deleted = 0
    if database.dialect == "postgresql":
        deleted += await database.submit(lambda tx: points.partitions.drop_before(tx, cutoff_us))

    async def affected(tx: Tx) -> list[int]:
        sql = (
            "SELECT c.id FROM channel c WHERE EXISTS (SELECT 1 FROM point p WHERE p.channel_id = c.id AND p.at_us < $1)"
            " OR EXISTS (SELECT 1 FROM rollup r WHERE r.channel_id = c.id AND r.width_us = $2 AND r.bucket_us <= $3)"
        )
        return [row[0] for row in await tx.fetch(sql, cutoff_us, WIDTHS_US[0], cutoff_us - WIDTHS_US[0])]

    for channel_id in await database.query(affected):
        deleted += await _delete_points(database, channel_id, cutoff_us)
        await _delete_rollups(database, channel_id, cutoff_us)
    return deleted


async def _delete_points(database: Database, channel_id: int, before_us: int | None) -> int:
    return await _delete(database, "point", "at_us", "channel_id = $1", (channel_id,), before_us)


async def _delete_rollups(database: Database, channel_id: int, before_us: int | None) -> None:
    for width in WIDTHS_US:
        before = None if before_us is None else before_us - width + 1
        await _delete(database, "rollup", "bucket_us", f"channel_id = $1 AND width_us = {width}", (channel_id,), before)


async def _delete(database: Database, table: str, time: str, where: str, arguments: tuple[int, ...], before: int | None) -> int:
    """Delete rows of one series before a time, the oldest first, each step in its own commit; None deletes all."""
    if before is not None:
        where += f" AND {time} < {before}"

    async def step(tx: Tx) -> tuple[int, bool]:
        # Constants of this module and integers; nothing of a client gets into the text.
        last = await fetch_one(
            tx,
            f"SELECT {time} FROM {table} WHERE {where} ORDER BY {time} LIMIT 1 OFFSET {STEP_ROWS - 1}",  # noqa: S608
            *arguments,
        )
        bound = "" if last is None else f" AND {time} <= {last[0]}"
        return await tx.execute(f"DELETE FROM {table} WHERE {where}{bound}", *arguments), last is not None  # noqa: S608

    total, more = 0, True
    while more:
        deleted, more = await database.submit(step)
        total += deleted
    return total
