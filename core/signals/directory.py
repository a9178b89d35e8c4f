"""Devices, channels and latest values in memory, so that reading the latest of anything never waits for the database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

from core.signals.model import Channel, Device, Latest
from core.signals.values import decode
from core.storage.tx import Row, Tx

K = TypeVar("K", bound=Hashable)

DEVICE_COLUMNS = "id, org_id, slug, name, kind, seq, recording, last_seen_us, created_us"
CHANNEL_COLUMNS = "id, device_id, name, kind, unit, label, created_us"
_REMEMBERED_IDS = 20_000


class RecentIds(Generic[K]):
    """Ids by key; the oldest are forgotten, since there may be more recordings and tag sets than memory should hold."""

    def __init__(self) -> None:
        self._ids: OrderedDict[K, int] = OrderedDict()

    def get(self, key: K) -> int | None:
        """Return a remembered id."""
        return self._ids.get(key)

    def update(self, ids: dict[K, int]) -> None:
        """Remember ids whose rows are committed."""
        self._ids.update(ids)
        while len(self._ids) > _REMEMBERED_IDS:
            self._ids.popitem(last=False)

    def forget(self, key: K) -> None:
        """Forget an id whose row is gone."""
        self._ids.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._ids.clear()


class Directory:
    """Devices, channels and latest values by every key that somebody asks for. Holds only what is committed."""

    def __init__(self) -> None:
        self._devices: dict[int, Device] = {}
        self._by_slug: dict[str, dict[str, Device]] = {}
        self._channels: dict[int, dict[str, Channel]] = {}
        self._by_id: dict[int, Channel] = {}
        self._latest: dict[int, Latest] = {}
        self.recordings: RecentIds[tuple[str, str]] = RecentIds()
        self.tagsets: RecentIds[str] = RecentIds()

    @property
    def newest_us(self) -> int | None:
        """When the newest latest value was taken. Looks at all of them, which is fit for a health check only."""
        return max((latest.written_us for latest in self._latest.values()), default=None)

    async def load(self, tx: Tx) -> None:
        """Load everything from the database."""
        for row in await tx.fetch(f"SELECT {DEVICE_COLUMNS} FROM device WHERE deleted_us IS NULL"):  # noqa: S608 - constants
            self.put_device(device_of(row))
        for row in await tx.fetch(f"SELECT {CHANNEL_COLUMNS} FROM channel"):  # noqa: S608 - constants
            if row[1] in self._devices:
                self.put_channel(Channel(*row))
        for row in await tx.fetch("SELECT channel_id, at_us, num, text, seq, updated_by, written_us FROM latest"):
            if row[0] in self._by_id:
                self._latest[row[0]] = Latest(row[1], decode(row[2], row[3]), row[4], row[5], row[6])

    def put_device(self, device: Device) -> Device:
        """Add a device and return the shared object, which is an earlier one when the device is known already."""
        shared = self._devices.setdefault(device.id, device)
        return self._by_slug.setdefault(device.org_id, {}).setdefault(device.slug, shared)

    def put_channel(self, channel: Channel) -> Channel:
        """Add a channel and return the shared object."""
        shared = self._by_id.setdefault(channel.id, channel)
        self._channels.setdefault(channel.device_id, {}).setdefault(channel.name, shared)
        return shared

    def put_latest(self, channel_id: int, latest: Latest) -> None:
        """Set the latest value of a channel."""
        self._latest[channel_id] = latest

    def set_latest(self, channel_id: int, latest: Latest | None) -> None:
        """Set the latest value of a channel, or with None take it away."""
        if latest is None:
            self._latest.pop(channel_id, None)
        else:
            self._latest[channel_id] = latest

    def forget_channel(self, channel_id: int) -> None:
        """Drop a channel that is gone, with its latest value."""
        channel = self._by_id.pop(channel_id, None)
        if channel is not None:
            self._channels.get(channel.device_id, {}).pop(channel.name, None)
        self._latest.pop(channel_id, None)

    def forget(self, device_id: int) -> None:
        """Drop a device that is gone, with its channels and latest values."""
        device = self._devices.pop(device_id, None)
        if device is not None:
            del self._by_slug[device.org_id][device.slug]
        for channel in self._channels.pop(device_id, {}).values():
            self._by_id.pop(channel.id, None)
            self._latest.pop(channel.id, None)

    def find(self, org_id: str, slug: str) -> Device | None:
        """Return the device with a slug."""
        return self._by_slug.get(org_id, {}).get(slug)

    def get(self, device_id: int) -> Device | None:
        """Return a device."""
        return self._devices.get(device_id)

    def of_org(self, org_id: str) -> list[Device]:
        """Return the devices of an organisation by slug."""
        return sorted(self._by_slug.get(org_id, {}).values(), key=lambda device: device.slug)

    def of_kind(self, kind: str) -> list[Device]:
        """Return the devices of a kind, of all organisations."""
        return [device for device in self._devices.values() if device.kind == kind]

    def channel(self, device_id: int, name: str) -> Channel | None:
        """Return a channel of a device."""
        return self._channels.get(device_id, {}).get(name)

    def channel_by_id(self, channel_id: int) -> Channel | None:
        """Return a channel."""
        return self._by_id.get(channel_id)

    def channels(self, device_id: int) -> list[Channel]:
        """Return the channels of a device by name."""
        return sorted(self._channels.get(device_id, {}).values(), key=lambda channel: channel.name)

    def latest(self, device_id: int, name: str) -> Latest | None:
        """Return the latest value of a channel."""
        channel = self._channels.get(device_id, {}).get(name)
        return None if channel is None else self._latest.get(channel.id)

    def latest_of(self, channel_id: int) -> Latest | None:
        """Return the latest value of a channel."""
        return self._latest.get(channel_id)

    def latest_all(self, device_id: int) -> dict[str, Latest]:
        """Return the latest values of a device by the names of its channels."""
        channels = self._channels.get(device_id, {})
        return {name: self._latest[channel.id] for name, channel in channels.items() if channel.id in self._latest}

    def select(self, org_id: str, slugs: Collection[str] | None, names: Collection[str] | None) -> dict[int, tuple[str, str]]:
        """Return slug and channel name by channel id, for all that the arguments name; None names all."""
        known = self._by_slug.get(org_id, {})
        devices = list(known.values()) if slugs is None else [known[slug] for slug in dict.fromkeys(slugs) if slug in known]
        chosen: dict[int, tuple[str, str]] = {}
        for device in devices:
            for name, channel in self._channels.get(device.id, {}).items():
                if names is None or name in names:
                    chosen[channel.id] = device.slug, name
        return chosen


def device_of(row: Row) -> Device:
    """Return the device of a row of DEVICE_COLUMNS."""
    identity, org_id, slug, name, kind, seq, recording, last_seen_us, created_us = row
    return Device(identity, org_id, slug, name, kind, seq, bool(recording), last_seen_us, created_us)
