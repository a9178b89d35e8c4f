"""The datapoints of an experiment as CSV, a page at a time."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import quote

from core.kernel.clock import to_datetime
from core.lab.event_directory import EventDirectory
from core.signals.point_ids import pack
from core.signals.service import Signals
from core.signals.sweep import SweptPoint
from core.signals.tables import RecordingRow

CSV = "text/csv; charset=utf-8"
HEADER = b"timestamp,event_name,event_public_id,value,unit,datapoint_public_id\r\n"
PAGE = 4000
"""Points read, written and sent at a time."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_UNSAFE = re.compile(r'[^ -~]|["\\]')

Cells = Mapping[int, tuple[str, str]]
"""What stands before and after the value, by channel."""


class ExperimentCsv:
    """Writes experiments."""

    def __init__(self, signals: Signals, events: EventDirectory) -> None:
        self._signals = signals
        self._events = events

    async def parts(self, experiment: RecordingRow) -> AsyncIterator[bytes]:
        """Yield the text in parts, the header first."""
        yield HEADER
        events = self._events.of_org(experiment.org_id)
        cells = {event.channel_id: (f",{_text(event.name)},{event.public_id},", f",{_text(event.unit)},") for event in events}
        chosen = await self._signals.select_recording(experiment, None, None, None, None)
        sweep = self._signals.numbers.sweep([stretch for stretch in chosen.stretches if stretch.channel_id in cells], PAGE)
        while page := await sweep.read():
            yield _lines(page, cells)


def _lines(points: Sequence[SweptPoint], cells: Cells) -> bytes:
    lines: list[str] = []
    last, time = None, ""
    for at_us, n, channel_id, value in points:
        if at_us != last:
            last, time = at_us, to_datetime(at_us).isoformat()
        before, after = cells[channel_id]
        lines.append(f"{time}{before}{value!r}{after}{pack(channel_id, at_us, n)}\r\n")
    return "".join(lines).encode()


def _text(value: str) -> str:
    """Return a text as a cell, such that no spreadsheet takes it for a formula."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([f"'{value}" if value.startswith(_FORMULA) else value, ""])
    return out.getvalue()[:-1]


def disposition(name: str, public_id: str) -> str:
    """Return the header that names the file: in ASCII for old clients, and exactly for all others."""
    file = f"experiment_{name.replace(' ', '_').replace('/', '-')}_{public_id[:8]}.csv"
    return f"attachment; filename=\"{_UNSAFE.sub('_', file)}\"; filename*=UTF-8''{quote(file, safe='')}"
