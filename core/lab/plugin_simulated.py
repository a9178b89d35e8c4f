"""The plugin `simulated`: a reactor that is not there, for demonstrations and for trying out rules and dashboards."""

from __future__ import annotations

from core.lab.plugin_api import Channel, DevicePlugin, PluginMeta

_CHANNELS = (
    Channel("temp_reactor", "Reactor temperature", unit="°C", low=20, high=500),
    Channel("temp_inlet", "Inlet temperature", unit="°C", low=15, high=200),
    Channel("temp_outlet", "Outlet temperature", unit="°C", low=15, high=300),
    Channel("pressure_chamber", "Chamber pressure", unit="bar", low=0, high=6),
    Channel("pressure_diff", "Differential pressure", unit="mbar", low=0, high=100),
    Channel("volume_flow", "Volume flow", unit="m³/h", low=0, high=40),
    Channel("humidity", "Humidity", unit="%", low=0, high=100),
    Channel("heater_power", "Heater power", direction="output", unit="%", low=0, high=100),
    Channel("valve_position", "Valve position", direction="output", unit="%", low=0, high=100),
)


class SimulatedPlugin(DevicePlugin):
    """Slow waves, each channel out of step with the others. The heater warms what is measured in °C."""

    meta = PluginMeta(
        id="simulated",
        name="Simulated Device",
        version="0.2.0",
        vendor="Busbar",
        description="Makes up the values of a reactor: temperatures, pressures, flow and humidity.",
    )
    channels = _CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self._outputs = {channel.id: 0.0 for channel in _CHANNELS if channel.direction == "output"}

    async def read(self) -> dict[str, float]:
        """Return a value within its range for every input."""
        values, heat = self.made_up(), self._outputs["heater_power"] / 100
        for channel in _CHANNELS:
            if channel.unit == "°C":
                values[channel.id] += (channel.high - values[channel.id]) * heat
        return values

    async def write(self, channel: str, value: float) -> None:
        """Keep an output, held within its range."""
        if channel not in self._outputs:
            raise KeyError(channel)
        self._outputs[channel] = min(max(value, 0.0), 100.0)
