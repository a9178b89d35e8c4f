"""Ingest: points of sources on their way in. What is acknowledged is committed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from core.kernel.call import Call, Principal
from core.kernel.clock import Clock
from core.kernel.errors import DomainError, PermissionDenied
from core.kernel.settings import Quotas
from core.signals.model import Column, Written
from core.signals.service import Signals
from core.telemetry.columns import decode_columns
from core.telemetry.decode import decode_points
from core.telemetry.quotas import PointQuotas
from gen.busbar.telemetry.v1.ingest_pb import (
    IngestColumnsRequest,
    IngestColumnsResponse,
    IngestRequest,
    IngestResponse,
)


class IngestService:
    """Stores points of sources."""

    def __init__(self, signals: Signals, clock: Clock, quotas: Quotas, point_quotas: PointQuotas) -> None:
        self._signals = signals
        self._clock = clock
        self._quotas = quotas
        self._point_quotas = point_quotas

    async def ingest(self, request: IngestRequest, call: Call) -> IngestResponse:
        """Store one batch, all or none."""
        caller = call.caller
        # gRPC brings the message; REST the body as it came, which is decoded here many times faster.
        raw = call.raw if call.raw is not None else _as_body(request)
        columns = decode_points(raw, self._clock.now_us(), self._quotas.points_per_request, caller.bound_to)
        sources = {column.device for column in columns}
        _require_bound(sources, caller)
        written = await self._store(columns, call)
        return IngestResponse(
            success=True,
            count=written.received,
            persisted=written.stored > 0 or not columns,
            persisted_count=written.stored,
            source_id=next(iter(sources)) if len(sources) == 1 else None,
        )

    async def _store(self, columns: list[Column], call: Call) -> Written:
        if not columns:
            return Written(0, 0, 0)
        with self._point_quotas.counted(call, sum(len(column.times_us) for column in columns)):
            return await self._signals.write(call.caller.org_id, columns)

    async def ingest_columns(
        self, requests: AsyncIterator[IngestColumnsRequest], call: Call
    ) -> AsyncIterator[IngestColumnsResponse]:
        """Store batch after batch; a refused one is answered and the stream goes on."""
        caller = call.caller
        async for request in requests:
            received = sum(len(column.values) for column in request.columns)
            try:
                columns = decode_columns(request)
                _require_bound({column.device for column in columns}, caller)
                stored = (await self._store(columns, call)).stored
            except DomainError as error:
                yield IngestColumnsResponse(seq=request.seq, received=received, error=error.message)
            else:
                yield IngestColumnsResponse(seq=request.seq, received=received, stored=stored)


def _as_body(request: IngestRequest) -> bytes:
    """Return a message as the body that it stands for; fields without presence are printed, so that no points are no points."""
    return request.to_json(use_proto_field_name=True, always_emit_implicit=True).encode()


def _require_bound(sources: set[str], caller: Principal) -> None:
    """A credential that is bound to one source may write only there."""
    if caller.bound_to is not None and sources - {caller.bound_to}:
        raise PermissionDenied(f"this token is bound to the source {caller.bound_to}")
