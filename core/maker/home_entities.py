"""Boards as Home Assistant's MQTT discovery describes them: one device, one component for each pin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from core.homes.announcements import Json, Topics, component_id

SWITCH_MODE = "switch"
"""What `config.mode` of a button says that stays as it was set."""
SENSOR_CONFIG = {"unit": "unit_of_meas", "deviceClass": "dev_cla"}
"""What the config of a widget says of a sensor, by the short names of discovery."""
NUMBERS = frozenset({"SLIDER", "STEP"})


@dataclass(frozen=True, slots=True)
class HomeDevice:
    """What is told of a board besides its pins."""

    id: str
    name: str
    model: str
    firmware: str | None


def describe(device: HomeDevice, labels: Mapping[int, str], widgets: Iterable[Json], topics: Topics) -> Json:
    """Return the discovery message of a board; who announces it is for the door to add.

    Args:
        device: The board.
        labels: Labels of the pins that were ever written.
        widgets: Widgets of all projects that have the board, the more telling one of a pin last.
        topics: Names under which it talks.
    """
    bound = {pin: widget for widget in widgets if (pin := _pin_of(widget, device.id)) is not None}
    pins = sorted({*labels, *bound})
    description: Json = {"ids": [f"plynx_{device.id}"], "name": device.name, "mf": "Plynx-compatible", "mdl": device.model}
    if device.firmware:
        description["sw"] = device.firmware
    return {
        "dev": description,
        "avty": [{"t": topics.status(device.id)}, {"t": topics.bridge}],
        "avty_mode": "all",
        "cmps": {component_id(pin): _component(device.id, pin, labels.get(pin), bound.get(pin), topics) for pin in pins},
    }


def _pin_of(widget: Json, board_id: str) -> int | None:
    pin = widget.get("pinIndex")
    return pin if widget.get("boardId") == board_id and isinstance(pin, int) and not isinstance(pin, bool) else None


def _component(board_id: str, pin: int, label: str | None, widget: Json | None, topics: Topics) -> Json:
    config = cast("Json", widget.get("config") or {}) if widget else {}
    platform = _platform(widget, config)
    component: Json = {
        "p": platform,
        "name": (widget or {}).get("label") or label or f"V{pin}",
        "uniq_id": f"plynx_{board_id}_v{pin}",
        "stat_t": topics.state(board_id, pin),
    }
    if platform == "sensor":
        component |= {
            short: config[name] for name, short in (("unit", "unit_of_meas"), ("deviceClass", "dev_cla")) if config.get(name)
        }
        return component
    component["cmd_t"] = topics.command(board_id, pin)
    if platform == "switch":
        return {**component, "pl_on": "1", "pl_off": "0"}
    bounds = {name: value for name in ("min", "max", "step") if (value := (widget or {}).get(name)) is not None}
    return {**component, **bounds}


def _platform(widget: Json | None, config: Json) -> str:
    kind = "" if widget is None else widget.get("type")
    if kind == "BUTTON" and config.get("mode") == SWITCH_MODE:
        return "switch"
    return "number" if kind in NUMBERS else "sensor"
