"""The plugin `revpi`: what it says without its device, and what it does with one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from core.lab import plugin_revpi
from core.lab.plugin_revpi import RevPiPlugin
from tests.conftest import Running, Start
from tests.lab.conftest import sign_in
from tests.lab.test_plugin_runner import becomes, total
from tests.lab.test_plugins import instance

SETTINGS = {
    "channels": [
        {"id": "AIn_1", "name": "Pressure", "unit": "bar", "low": 0, "high": 6, "factor": 0.001},
        {"id": "DIn_1"},
        {"id": "AOut_1", "direction": "output", "factor": 0.5},
        {"id": "DOut_1", "direction": "bidirectional"},
    ]
}


class Points(dict[str, Any]):
    """Inputs and outputs by name; going over them yields them, as the library has it."""

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride] - as the library has it
        return iter(self.values())


class Device:
    """What the library gives of a device with two inputs and two outputs."""

    opened: list[Device] = []  # noqa: RUF012 - reset by each test

    def __init__(self, **options: object) -> None:
        self.options = options
        self.works = True
        self.closed = False
        kinds = {"AIn_1": (300, 2500), "DIn_1": (300, True), "AOut_1": (301, 0), "DOut_1": (301, False), "Serial": (302, b"x")}
        self.io = Points({name: SimpleNamespace(name=name, type=kind, value=value) for name, (kind, value) in kinds.items()})
        self.opened.append(self)

    def readprocimg(self) -> bool:
        return self.works

    def writeprocimg(self) -> bool:
        return self.works

    def cleanup(self) -> None:
        self.closed = True


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that is a Revolution Pi."""
    (tmp_path / "piControl0").touch()
    monkeypatch.setattr(plugin_revpi, "PROCESS_IMAGE", tmp_path / "piControl0")
    monkeypatch.setattr(Device, "opened", [])
    monkeypatch.setitem(sys.modules, "revpimodio2", SimpleNamespace(RevPiModIO=Device))  # pyright: ignore[reportArgumentType] - as a module


async def configured(config: dict[str, Any], *, demo: bool = False) -> RevPiPlugin:
    """Return a plugin with its settings."""
    plugin = RevPiPlugin()
    plugin.configure(config, demo_mode=demo)
    return plugin


async def test_elsewhere_an_instance_says_what_is_missing_and_stores_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plugin_revpi, "PROCESS_IMAGE", tmp_path / "none")
    busbar: Running = await start(lab={"plugin_poll_seconds": 0.05})
    admin: httpx.AsyncClient = await sign_in(busbar, (await busbar.person("alice")).email)
    made = await instance(admin, plugin_id="revpi", config_json='{"channels": [{"id": "DIn_1"}]}')
    assert [(one["channel_id"], one["direction"]) for one in made["channel_mappings"]] == [("DIn_1", "input")]
    failed = await becomes(admin, "error")
    assert failed["error_message"] == f"RuntimeError: this machine is no Revolution Pi: it has no {tmp_path / 'none'}"
    assert await total(admin) == 0
    # Without settings there is nothing to ask either, so there are no channels.
    assert (await instance(admin, "Other", plugin_id="revpi"))["channel_mappings"] == []


@pytest.mark.usefixtures("device")
async def test_a_device_without_its_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "revpimodio2", None)  # pyright: ignore[reportArgumentType] - this is how an import is refused
    with pytest.raises(RuntimeError, match="the library revpimodio2 is not installed"):
        await (await configured(SETTINGS)).connect()


@pytest.mark.usefixtures("device")
async def test_inputs_are_read_and_outputs_set_in_their_units() -> None:
    plugin = await configured(SETTINGS)
    await plugin.connect()
    (opened,) = Device.opened
    # Other programs of the device go on using it.
    assert opened.options["shared_procimg"] is True
    assert await plugin.read() == {"AIn_1": 2.5, "DIn_1": 1.0, "DOut_1": 0.0}
    await plugin.write("AOut_1", 10.2)
    await plugin.write("DOut_1", 1.0)
    assert (opened.io["AOut_1"].value, opened.io["DOut_1"].value) == (20, True)
    opened.works = False
    with pytest.raises(RuntimeError, match="could not be read"):
        await plugin.read()
    with pytest.raises(RuntimeError, match="could not be written"):
        await plugin.write("AOut_1", 1)
    await plugin.disconnect()
    assert opened.closed


@pytest.mark.usefixtures("device")
async def test_without_settings_it_has_all_that_is_configured_on_the_device() -> None:
    plugin = await configured({})
    assert [(channel.id, channel.direction, channel.high) for channel in plugin.channels] == [
        ("AIn_1", "input", 65_535.0), ("DIn_1", "input", 1.0), ("AOut_1", "output", 65_535.0), ("DOut_1", "output", 1.0),
    ]  # fmt: skip
    assert [one.closed for one in Device.opened] == [True]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("channel", [{}, {"id": ""}, {"id": 5}, {"id": "a", "direction": "up"}, {"id": "a", "factor": 0}, "a"])
async def test_settings_that_name_no_channel_are_refused(channel: object) -> None:
    with pytest.raises(ValueError, match="a channel needs"):
        await configured({"channels": [channel]})
    plugin = await configured({"channels": [{"id": "Nothing"}]})
    with pytest.raises(RuntimeError, match="no input or output named Nothing"):
        await plugin.connect()


async def test_a_demonstration_needs_no_device() -> None:
    plugin = await configured(SETTINGS, demo=True)
    await plugin.connect()
    assert set(await plugin.read()) == {"AIn_1", "DIn_1", "DOut_1"}
    await plugin.write("DOut_1", 1)
    await plugin.disconnect()
