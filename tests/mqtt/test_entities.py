"""How widgets decide what a pin is in a home."""

from __future__ import annotations

from typing import Any

import pytest

from core.homes.announcements import Topics
from core.maker.home_entities import HomeDevice, bound_widgets, describe

DEVICE = HomeDevice("brd-1", "Bench", "esp32", "1.2.0")
TOPICS = Topics("plynx")


def component(*widgets: dict[str, Any], pin: int = 1) -> dict[str, Any]:
    """Return what the widgets make of a pin, without what every component has."""
    bound = bound_widgets([{"boardId": "brd-1", "pinIndex": pin, **widget} for widget in widgets], "brd-1")
    found = describe(DEVICE, {}, bound, TOPICS)["cmps"][f"v{pin}"]
    return {name: value for name, value in found.items() if name not in ("uniq_id", "stat_t")}


@pytest.mark.parametrize(
    ("widget", "expected"),
    [
        ({"type": "GAUGE", "label": "Temp"}, {"p": "sensor", "name": "Temp"}),
        ({"type": "LED"}, {"p": "sensor", "name": "V1"}),
        (
            {"type": "VALUE", "config": {"unit": "°C", "deviceClass": "temperature"}},
            {"p": "sensor", "name": "V1", "unit_of_meas": "°C", "dev_cla": "temperature"},
        ),
        (
            {"type": "BUTTON", "label": "Relay", "config": {"mode": "switch"}},
            {"p": "switch", "name": "Relay", "cmd_t": "plynx/brd-1/v/1/set", "pl_on": "1", "pl_off": "0"},
        ),
        ({"type": "BUTTON", "config": {"mode": "push"}}, {"p": "sensor", "name": "V1"}),
        (
            {"type": "SLIDER", "label": "Level", "min": 0, "max": 255, "step": 1},
            {"p": "number", "name": "Level", "cmd_t": "plynx/brd-1/v/1/set", "min": 0, "max": 255, "step": 1},
        ),
        ({"type": "STEP", "min": None}, {"p": "number", "name": "V1", "cmd_t": "plynx/brd-1/v/1/set"}),
    ],
)
def test_the_widget_of_a_pin_says_what_it_is(widget: dict[str, Any], expected: dict[str, Any]) -> None:
    assert component(widget) == expected


def test_a_pin_without_a_widget_is_a_sensor_of_its_label() -> None:
    foreign = {"boardId": "brd-2", "pinIndex": 4, "type": "SLIDER"}
    wired = {"boardId": "brd-1", "pinIndex": 4, "pinType": "digital", "type": "SLIDER"}
    found = describe(DEVICE, {4: "Humidity"}, bound_widgets([foreign, wired], "brd-1"), TOPICS)
    assert found["cmps"]["v4"] == {"p": "sensor", "name": "Humidity", "uniq_id": "plynx_brd-1_v4", "stat_t": "plynx/brd-1/v/4"}
    assert found["dev"]["sw"] == "1.2.0"


def test_of_several_widgets_on_a_pin_a_control_says_what_it_is() -> None:
    slider, gauge = {"type": "SLIDER", "max": 9}, {"type": "GAUGE"}
    for widgets in ((slider, gauge), (gauge, slider)):
        assert component(*widgets)["p"] == "number"
    assert component(slider, {"type": "BUTTON", "config": {"mode": "switch"}})["p"] == "switch"
