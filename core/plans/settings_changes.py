"""What a change of settings comes to, in the words of the log."""

from __future__ import annotations

from collections.abc import Iterator

from core.plans.pack_roles import FALLBACKS, ROLES
from core.plans.packs import Stock
from core.plans.state import Settings
from gen.busbar.plans.v1.models_pb import ModelPack, ModelRole

BRANCH_TITLE = "⚙️  Updated model settings:"
DEFAULT_TITLE = "⚙️  Updated org-wide default settings:"
NO_CHANGES = "No changes to settings"

_VALUES = ("model_id", "temperature", "top_p", "reserved_output_tokens", "max_convo_tokens", "local_provider")
_DEPTH = 8


def changes(stock: Stock, old: Settings, new: Settings) -> list[str]:
    """Return a line for each thing that changes; none when nothing does.

    Between two packs that have names, that is the name; otherwise it is every field that differs.
    """
    old, new = stock.chosen(old), stock.chosen(new)
    before, after = stock.resolve(old), stock.resolve(new)
    names = (old.model_pack_name or before.name, new.model_pack_name or after.name)
    lines = [_line("model-pack", *names)] if names[0] != names[1] else []
    if old.model_pack is None and new.model_pack is None:
        return lines
    values, wanted = dict(_pack_values(before)), dict(_pack_values(after))
    differing = [path for path in dict.fromkeys((*values, *wanted)) if values.get(path, "") != wanted.get(path, "")]
    return lines + [_line(path, values.get(path, ""), wanted.get(path, "")) for path in differing]


def _line(path: str, old: str, new: str) -> str:
    return f"  • {path} | {old or 'none'} → {new or 'none'}"


def _pack_values(pack: ModelPack) -> Iterator[tuple[str, str]]:
    """Yield the values of a pack by path."""
    for name in ROLES:
        role: ModelRole | None = getattr(pack, name)
        if role is not None:
            yield from _role_values(name.replace("_", "-"), role, 0)


def _role_values(path: str, role: ModelRole, depth: int) -> Iterator[tuple[str, str]]:
    for name in _VALUES:
        value: str | float = getattr(role, name)
        if value:
            yield f"{path}-{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)
    for name in FALLBACKS:
        fallback: ModelRole | None = getattr(role, name)
        if fallback is not None and depth < _DEPTH:
            yield from _role_values(f"{path}-{name.replace('_', '-')}", fallback, depth + 1)
