"""Models that an organisation brings along: their providers, and packs that say which model plays which role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TypeVar

from protobuf.wkt import Empty
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call
from core.kernel.clock import Clock
from core.kernel.errors import AlreadyExists, NotFound
from core.plans.access import user_of
from core.plans.custom_sets import check_cast, check_pack_name, check_set
from core.plans.ids import new_uuid
from core.plans.model_tables import CustomRow
from core.plans.pack_roles import pack_of
from core.plans.packs import MODEL, PACK, PROVIDER, PackBook, Stock
from core.storage.database import Database
from gen.busbar.plans.v1.models_pb import (
    CreateModelSetRequest,
    CreateModelSetResponse,
    CustomModel,
    CustomProvider,
    GetCustomModelRequest,
    GetCustomProviderRequest,
    ListCustomModelsRequest,
    ListCustomModelsResponse,
    ListCustomProvidersRequest,
    ListCustomProvidersResponse,
    ListModelSetsRequest,
    ListModelSetsResponse,
    ModelPack,
    ModelPackSchema,
    UpdateModelSetRequest,
    UpsertCustomModelsRequest,
)

T = TypeVar("T")


class ModelService:
    """Keeps custom models, providers and packs of an organisation."""

    def __init__(self, database: Database, packs: PackBook, clock: Clock) -> None:
        self._database = database
        self._packs = packs
        self._clock = clock

    async def list_custom_models(self, request: ListCustomModelsRequest, call: Call) -> ListCustomModelsResponse:
        """List the custom models of the organisation."""
        del request
        stock = await self._packs.stock(call.caller.org_id)
        return ListCustomModelsResponse(models=list(stock.models.values()))

    async def upsert_custom_models(self, request: UpsertCustomModelsRequest, call: Call) -> Empty:
        """Replace the whole set, without what the server brings itself, which clients that edit the set send back."""
        user_of(call.caller)
        org_id = call.caller.org_id
        async with self._database.unit_of_work() as session:
            stock = await self._packs.stock_in(session, org_id)
            own = stock.own.values()
            models = _without(request.models, "model_id", {model.model_id for one in own for model in one.models})
            providers = _without(request.providers, "name", set(stock.own))
            schemas = _without(request.model_packs, "name", set(stock.own))
            check_set(models, providers, schemas, stock, call)
            packs = [pack_of(schema, "") for schema in schemas]
            for pack in packs:
                check_cast(pack, {model.model_id for model in models} | set(stock.models), call)
            await self._replace(session, org_id, MODEL, {model.model_id: _body(model) for model in models})
            await self._replace(session, org_id, PROVIDER, {provider.name: _body(provider) for provider in providers})
            await self._replace(session, org_id, PACK, {pack.name: _body(pack) for pack in packs})
        return Empty()

    async def get_custom_model(self, request: GetCustomModelRequest, call: Call) -> CustomModel:
        """Read a custom model by the id of its record, or by its model id."""
        stock = await self._packs.stock(call.caller.org_id)
        for model in stock.models.values():
            if request.model_id in (model.id, model.model_id):
                return model
        raise NotFound("Custom model not found", model=request.model_id)

    async def list_custom_providers(self, request: ListCustomProvidersRequest, call: Call) -> ListCustomProvidersResponse:
        """List the custom providers of the organisation."""
        del request
        stock = await self._packs.stock(call.caller.org_id)
        return ListCustomProvidersResponse(providers=list(stock.providers.values()))

    async def get_custom_provider(self, request: GetCustomProviderRequest, call: Call) -> CustomProvider:
        """Read a custom provider."""
        stock = await self._packs.stock(call.caller.org_id)
        for provider in stock.providers.values():
            if provider.id == request.provider_id:
                return provider
        raise NotFound("Custom provider not found", provider=request.provider_id)

    async def list_model_sets(self, request: ListModelSetsRequest, call: Call) -> ListModelSetsResponse:
        """List the custom packs of the organisation."""
        del request
        stock = await self._packs.stock(call.caller.org_id)
        return ListModelSetsResponse(packs=list(stock.packs.values()))

    async def create_model_set(self, request: CreateModelSetRequest, call: Call) -> CreateModelSetResponse:
        """Make a pack."""
        user_of(call.caller)
        async with self._database.unit_of_work() as session:
            stock = await self._packs.stock_in(session, call.caller.org_id)
            pack = _checked_pack(request.pack or ModelPackSchema(), stock, call)
            if pack.name in stock.packs:
                raise _taken(pack.name)
            row = self._row(call.caller.org_id, PACK, pack.name, _body(pack))
            session.add(row)
        return CreateModelSetResponse(id=row.id)

    async def update_model_set(self, request: UpdateModelSetRequest, call: Call) -> Empty:
        """Replace a pack."""
        user_of(call.caller)
        async with self._database.unit_of_work() as session:
            row = await session.get(CustomRow, request.set_id)
            if row is None or row.org_id != call.caller.org_id or row.kind != PACK:
                raise NotFound("Model pack not found", pack=request.set_id)
            stock = await self._packs.stock_in(session, call.caller.org_id)
            pack = _checked_pack(request.pack or ModelPackSchema(), stock, call)
            if pack.name != row.name and pack.name in stock.packs:
                raise _taken(pack.name)
            row.name, row.body, row.updated_us = pack.name, _body(pack), self._clock.now_us()
            session.add(row)
        return Empty()

    async def _replace(self, session: AsyncSession, org_id: str, kind: str, bodies: Mapping[str, str]) -> None:
        """Make the rows of a kind those that are given; rows that stay the same are left alone."""
        found = await session.exec(select(CustomRow).where(col(CustomRow.org_id) == org_id, col(CustomRow.kind) == kind))
        kept = {row.name: row for row in found}
        for name, row in kept.items():
            if name not in bodies:
                await session.delete(row)
            elif row.body != bodies[name]:
                row.body, row.updated_us = bodies[name], self._clock.now_us()
                session.add(row)
        session.add_all(self._row(org_id, kind, name, body) for name, body in bodies.items() if name not in kept)

    def _row(self, org_id: str, kind: str, name: str, body: str) -> CustomRow:
        now = self._clock.now_us()
        return CustomRow(id=new_uuid(), org_id=org_id, kind=kind, name=name, body=body, created_us=now, updated_us=now)


def _checked_pack(schema: ModelPackSchema, stock: Stock, call: Call) -> ModelPack:
    check_pack_name(schema, call)
    pack = pack_of(schema, "")
    check_cast(pack, stock.models, call)
    return pack


def _without(messages: Sequence[T], name: str, names: set[str]) -> list[T]:
    """Return messages but those of some names."""
    return [message for message in messages if getattr(message, name) not in names]


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"model pack {name} already exists", pack=name)


def _body(message: CustomModel | CustomProvider | ModelPack) -> str:
    """Return what is stored of a message: all but what the server sets."""
    kept = copy(message)
    kept.id = ""
    if not isinstance(kept, ModelPack):
        kept.created_at = kept.updated_at = None
    return kept.to_json()
