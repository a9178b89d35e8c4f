"""The peer of the lab: FastAPI and SQLAlchemy's async ORM, with the same paths and the same JSON, written as is usual.

Same file format and durability (WAL, synchronous=FULL). Writers wait for each other on a lock in memory, which is faster than
SQLite's busy waiting. Credentials cost nothing here, rules and live watchers neither. The file is streamed by a cursor of the
database rather than loaded whole. It fills its database by itself before it answers: BUSBAR_BENCH_SERIES rows in the last day
of the first event, BUSBAR_BENCH_ROWS in an experiment of all events.
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import uvloop
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import ForeignKey, Index, event, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.asgi import serve
from benchmarks.lab_shape import EVENTS, EXPERIMENT, event_id

PAGE = 1000
FILLED = 20_000


class Base(DeclarativeBase):
    """Tables."""


class EventRow(Base):
    """An event."""

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    unit: Mapped[str]


class DatapointRow(Base):
    """A datapoint."""

    __tablename__ = "datapoint"
    __table_args__ = (Index("ix_datapoint_event", "event_id", "timestamp"), Index("ix_datapoint_experiment", "experiment_id"))
    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True, default=lambda: str(uuid.uuid4()))
    event_id: Mapped[int] = mapped_column(ForeignKey("event.id"))
    experiment_id: Mapped[str | None]
    value: Mapped[float]
    timestamp: Mapped[datetime] = mapped_column(index=True)


class NewDatapoint(BaseModel):
    """A value to store."""

    value: Annotated[float, Field(allow_inf_nan=False)]
    event_public_id: str


class Batch(BaseModel):
    """Values to store."""

    datapoints: Annotated[list[NewDatapoint], Field(max_length=500)]


class Status(BaseModel):
    """What was done."""

    status: str = "success"
    message: str


class SeriesQuery(BaseModel):
    """Which series to read."""

    event_public_ids: Annotated[list[str], Field(min_length=1, max_length=20)]
    minutes: Annotated[int, Field(ge=1, le=14400)] = 60
    max_points: Annotated[int, Field(ge=10, le=2000)] = 500


class Datapoint(BaseModel):
    """A measured value."""

    public_id: str
    value: float
    timestamp: datetime
    event_public_id: str
    experiment_public_id: str | None


app = FastAPI()
_folder = tempfile.TemporaryDirectory()
_path = Path(_folder.name) / "lab.db"
_engine = create_async_engine(f"sqlite+aiosqlite:///{_path}")
_lock = asyncio.Lock()


def _session() -> AsyncSession:
    return AsyncSession(_engine, expire_on_commit=False)


@app.post("/api/v1/datapoints/batch", status_code=201)
async def create_datapoints(batch: Batch) -> Status:
    """Store a batch in one commit."""
    async with _lock, _session() as session:
        wanted = {point.event_public_id for point in batch.datapoints}
        found = await session.execute(select(EventRow).where(EventRow.public_id.in_(wanted)))
        events = {row.public_id: row for row in found.scalars()}
        now = datetime.now(UTC)
        rows = [
            DatapointRow(event_id=events[point.event_public_id].id, value=point.value, timestamp=now)
            for point in batch.datapoints
            if point.event_public_id in events
        ]
        session.add_all(rows)
        await session.commit()
    return Status(message=f"{len(rows)} datapoints successfully created.")


@app.post("/api/v1/datapoints/series")
async def read_series(query: SeriesQuery) -> dict[str, list[Datapoint]]:
    """Read all rows of a range, then take some of them."""
    since = datetime.now(UTC) - timedelta(minutes=query.minutes)
    series: dict[str, list[Datapoint]] = {public_id: [] for public_id in query.event_public_ids}
    async with _session() as session:
        found = await session.execute(select(EventRow).where(EventRow.public_id.in_(query.event_public_ids)))
        for row in found.scalars():
            of_event = select(DatapointRow).where(DatapointRow.event_id == row.id, DatapointRow.timestamp >= since)
            rows = (await session.execute(of_event.order_by(DatapointRow.timestamp))).scalars().all()
            step = len(rows) / query.max_points
            if step > 1:
                rows = [rows[int(i * step)] for i in range(query.max_points - 1)] + [rows[-1]]
            series[row.public_id] = [_datapoint(point, row) for point in rows]
    return series


@app.get("/api/v1/datapoints")
async def list_datapoints(page: int = 1, page_size: int = 25) -> dict[str, object]:
    """List datapoints, newest first, and count all of them."""
    async with _session() as session:
        total = (await session.execute(select(func.count()).select_from(DatapointRow))).scalar_one()
        newest = select(DatapointRow, EventRow).join(EventRow, EventRow.id == DatapointRow.event_id)
        newest = newest.order_by(DatapointRow.timestamp.desc()).offset((page - 1) * page_size).limit(page_size)
        data = [_datapoint(point, row) for point, row in (await session.execute(newest)).tuples()]
    return {"page": page, "page_size": page_size, "total": total, "data": data}


@app.get("/api/v1/experiments/{public_id}/export/csv")
async def export_experiment(public_id: str) -> StreamingResponse:
    """Stream the rows of an experiment."""
    return StreamingResponse(_lines(public_id), media_type="text/csv")


async def _lines(public_id: str) -> AsyncIterator[str]:
    yield "timestamp,event_name,event_public_id,value,unit,datapoint_public_id\r\n"
    query = select(DatapointRow, EventRow).join(EventRow, EventRow.id == DatapointRow.event_id)
    query = query.where(DatapointRow.experiment_id == public_id).order_by(DatapointRow.timestamp)
    async with _session() as session:
        found = await session.stream(query.execution_options(yield_per=PAGE))
        async for rows in found.partitions(PAGE):
            out = io.StringIO()
            writer = csv.writer(out)
            for point, row in rows:
                at = point.timestamp.replace(tzinfo=UTC).isoformat()
                writer.writerow((at, row.name, row.public_id, point.value, row.unit, point.public_id))
            yield out.getvalue()


def _datapoint(point: DatapointRow, row: EventRow) -> Datapoint:
    return Datapoint(
        public_id=point.public_id,
        value=point.value,
        timestamp=point.timestamp,
        event_public_id=row.public_id,
        experiment_public_id=point.experiment_id,
    )


def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


async def _fill() -> None:
    listen: Callable[..., object] = event.listen
    listen(_engine.sync_engine, "connect", _pragmas)
    async with _engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(
            insert(EventRow),
            [{"id": n + 1, "public_id": event_id(n), "name": f"Event {n}", "unit": "C"} for n in range(EVENTS)],
        )
    series, rows = int(os.environ["BUSBAR_BENCH_SERIES"]), int(os.environ["BUSBAR_BENCH_ROWS"])
    now = time.time()
    await _insert((1, None, now - 86_400 + n * 86_400 / series) for n in range(series))
    await _insert((n % EVENTS + 1, EXPERIMENT, now - 200_000 + n / 100) for n in range(rows))


async def _insert(rows: Iterable[tuple[int, str | None, float]]) -> None:
    values: list[dict[str, object]] = []
    for event_number, experiment, at in rows:
        when = datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
        values.append({"event_id": event_number, "experiment_id": experiment, "value": at % 97, "timestamp": when})
        if len(values) == FILLED:
            await _flush(values)
    await _flush(values)


async def _flush(values: list[dict[str, object]]) -> None:
    if values:
        async with _engine.begin() as connection:
            await connection.execute(insert(DatapointRow), values)
        values.clear()


async def main() -> None:
    """Fill the database, then serve until SIGTERM."""
    await _fill()
    await serve(app)


if __name__ == "__main__":
    uvloop.run(main())
