"""What pins are in Home Assistant, and boards as its MQTT discovery describes them: one device, one component for each pin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from core.homes.announcements import Json, Topics, component_id

SWITCH_MODE = "switch"
"""What `config.mode` of a button says that stays as it was set."""
SENSOR, BINARY_SENSOR, SWITCH, NUMBER = "sensor", "binary_sensor", "switch", "number"
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


@dataclass(frozen=True, slots=True)
class Entity:
    """What a pin is in a home.

    Attributes:
        platform: Platform of the entity.
        bounds: `min`, `max` and `step`, as far as the widget says them; of numbers only.
    """

    platform: str
    bounds: dict[str, float]


def entity_of(widget: Json | None, *, boolean: bool = False) -> Entity:
    """Return what a pin is, by the widget that is bound to it; a pin without one is by its value.

    Args:
        widget: The widget; None when there is none.
        boolean: Whether the value is true or false, where the platform may follow the value.
    """
    if widget is None:
        return Entity(BINARY_SENSOR if boolean else SENSOR, {})
    if widget.get("type") == "BUTTON" and _config(widget).get("mode") == SWITCH_MODE:
        return Entity(SWITCH, {})
    if widget.get("type") not in NUMBERS:
        return Entity(SENSOR, {})
    return Entity(NUMBER, {name: value for name in ("min", "max", "step") if (value := widget.get(name)) is not None})


def bound_widgets(widgets: Iterable[Json], board_id: str) -> dict[int, Json]:
    """Return the widgets of a board's virtual pins: of several on one pin a control rather than a display, else the last."""
    bound: dict[int, Json] = {}
    for widget in widgets:
        pin = _pin_of(widget, board_id)
        if pin is None or (pin in bound and _controls(bound[pin]) and not _controls(widget)):
            continue
        bound[pin] = widget
    return bound


def describe(device: HomeDevice, labels: Mapping[int, str], bound: Mapping[int, Json], topics: Topics) -> Json:
    """Return the discovery message of a board; who announces it is for the door to add.

    Args:
        device: The board.
        labels: Labels of the pins that were ever written.
        bound: The widget of each pin that has one.
        topics: Names under which it talks.
    """
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
    if widget.get("boardId") != board_id or widget.get("pinType") not in (None, "virtual"):
        return None
    pin = widget.get("pinIndex")
    return pin if isinstance(pin, int) and not isinstance(pin, bool) else None


def _controls(widget: Json) -> bool:
    return entity_of(widget).platform in (SWITCH, NUMBER)


def _config(widget: Json | None) -> Json:
    return cast("Json", widget.get("config") or {}) if widget else {}


def _component(board_id: str, pin: int, label: str | None, widget: Json | None, topics: Topics) -> Json:
    entity, config = entity_of(widget), _config(widget)
    component: Json = {
        "p": entity.platform,
        "name": (widget or {}).get("label") or label or f"V{pin}",
        "uniq_id": f"plynx_{board_id}_v{pin}",
        "stat_t": topics.state(board_id, pin),
    }
    if entity.platform == SENSOR:
        return component | {short: config[name] for name, short in SENSOR_CONFIG.items() if config.get(name)}
    component["cmd_t"] = topics.command(board_id, pin)
    if entity.platform == SWITCH:
        return {**component, "pl_on": "1", "pl_off": "0"}
    return {**component, **entity.bounds}
