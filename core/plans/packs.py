"""What an organisation may choose from: models, providers and packs, built in, of the server, or brought along by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.clock import to_exact_timestamp
from core.kernel.settings import Settings as ServerSettings
from core.plans.builtin_models import built_in_models
from core.plans.builtin_packs import DEFAULT_PACK, built_in_packs
from core.plans.model_tables import CustomRow, OrgSettingsRow
from core.plans.own_models import OwnPack, default_pack, own_packs
from core.plans.pack_roles import role_in
from core.plans.state import Settings
from core.storage.database import Database
from gen.busbar.plans.v1.models_pb import CustomModel, CustomProvider, ModelPack

MODEL, PROVIDER, PACK = "model", "provider", "pack"


@dataclass
class Stock:
    """What an organisation has besides what is built in, by name, oldest first; the server's own first.

    Attributes:
        own: The server's own packs, by name.
        default: Which pack stands for none.
    """

    models: dict[str, CustomModel] = field(default_factory=dict[str, CustomModel])
    providers: dict[str, CustomProvider] = field(default_factory=dict[str, CustomProvider])
    packs: dict[str, ModelPack] = field(default_factory=dict[str, ModelPack])
    own: dict[str, OwnPack] = field(default_factory=dict[str, OwnPack])
    default: Settings = field(default_factory=Settings)

    def model(self, model_id: str) -> CustomModel | None:
        """Return a model, whoever brought it; None for an unknown one."""
        return built_in_models().get(model_id) or self.models.get(model_id)

    def pack(self, name: str) -> ModelPack | None:
        """Return a pack, whoever brought it; None for an unknown one."""
        return built_in_packs().get(name) or self.packs.get(name)

    def chosen(self, settings: Settings) -> Settings:
        """Return the settings, or the default of the organisation where they choose nothing."""
        return settings if settings.model_pack is not None or settings.model_pack_name else self.default

    def resolve(self, settings: Settings) -> ModelPack:
        """Return the chosen pack, whole: an inline one, one that is built in, one of the organisation, or the default."""
        chosen = self.chosen(settings)
        if chosen.model_pack is not None:
            return chosen.model_pack
        return self.pack(chosen.model_pack_name) or built_in_packs()[DEFAULT_PACK]


@dataclass(frozen=True, slots=True)
class Limits:
    """What fits into a model.

    Attributes:
        max_tokens: Tokens that it can read.
        max_output_tokens: Tokens that it can write.
        reserved_output_tokens: Tokens to keep free for what it writes.
        max_convo_tokens: Tokens of conversation beyond which it is summarised.
        has_image_support: Whether it sees images.
        calls_functions: Whether structured answers are calls of functions; they are tags otherwise.
    """

    max_tokens: int
    max_output_tokens: int
    reserved_output_tokens: int
    max_convo_tokens: int
    has_image_support: bool
    calls_functions: bool

    @property
    def input_tokens(self) -> int:
        """Tokens that may be sent to it."""
        return max(self.max_tokens - self.reserved_output_tokens, 0)


class PackBook:
    """Looks packs and models up."""

    def __init__(self, database: Database, settings: ServerSettings) -> None:
        self._database = database
        self._settings = settings
        self.own = own_packs(settings)

    async def stock(self, org_id: str) -> Stock:
        """Return what an organisation has."""
        async with self._database.read() as session:
            return await self.stock_in(session, org_id)

    async def stock_in(self, session: AsyncSession, org_id: str) -> Stock:
        """Return what an organisation has, as a unit of work sees it."""
        stock = Stock(own={own.name: own for own in self.own})
        for own in self.own:
            stock.models |= {model.model_id: model for model in own.models}
            stock.providers[own.name] = own.provider
            stock.packs[own.name] = own.pack
        ordered = select(CustomRow).where(col(CustomRow.org_id) == org_id)
        for row in await session.exec(ordered.order_by(col(CustomRow.created_us), col(CustomRow.name))):
            if row.kind == MODEL and row.name not in stock.models:
                stock.models[row.name] = model_of(row)
            elif row.kind == PROVIDER and row.name not in stock.providers:
                stock.providers[row.name] = provider_of(row)
            elif row.kind == PACK and row.name not in stock.packs:
                stock.packs[row.name] = pack_in(row)
        kept = await session.get(OrgSettingsRow, org_id)
        stock.default = settings_in(kept) if kept else Settings(default_pack(self._settings) or DEFAULT_PACK)
        return stock

    async def resolve(self, org_id: str, settings: Settings) -> ModelPack:
        """Return the chosen pack, whole."""
        return (await self.stock(org_id)).resolve(settings)

    async def planner_limit(self, org_id: str, settings: Settings) -> int:
        """Return how many tokens of context the planner can read."""
        stock = await self.stock(org_id)
        return context_limit(stock, stock.resolve(settings), "planner")

    async def architect_limit(self, org_id: str, settings: Settings) -> int:
        """Return how many tokens of context, maps above all, the architect can read."""
        stock = await self.stock(org_id)
        return context_limit(stock, stock.resolve(settings), "architect")


def context_limit(stock: Stock, pack: ModelPack, role: str) -> int:
    """Return how many tokens a role can read, with the model that takes over when there is much."""
    best = 0
    found = role_in(pack, role)
    while found is not None:
        model = stock.model(found.model_id)
        if model is not None:
            best = max(best, model.max_tokens - (found.reserved_output_tokens or model.reserved_output_tokens))
        found = found.large_context_fallback
    return best


def model_of(row: CustomRow) -> CustomModel:
    """Return the message of a custom model."""
    model = CustomModel.from_json(row.body)
    model.id = row.id
    model.created_at, model.updated_at = to_exact_timestamp(row.created_us), to_exact_timestamp(row.updated_us)
    return model


def provider_of(row: CustomRow) -> CustomProvider:
    """Return the message of a custom provider."""
    found = CustomProvider.from_json(row.body)
    found.id = row.id
    found.created_at, found.updated_at = to_exact_timestamp(row.created_us), to_exact_timestamp(row.updated_us)
    return found


def pack_in(row: CustomRow) -> ModelPack:
    """Return the message of a custom pack."""
    pack = ModelPack.from_json(row.body)
    pack.id = row.id
    return pack


def settings_in(row: OrgSettingsRow) -> Settings:
    """Return the default settings of an organisation."""
    return Settings(row.model_pack_name, ModelPack.from_json(row.model_pack) if row.model_pack else None)
