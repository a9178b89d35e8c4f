"""The version that the server tells the plans command line."""

from __future__ import annotations

from core.kernel.call import Call
from core.kernel.settings import Settings
from gen.busbar.plans.v1.version_pb import GetVersionRequest, Version


class VersionService:
    """Tells the version."""

    def __init__(self, settings: Settings) -> None:
        self._version = settings.plans.version

    async def get_version(self, request: GetVersionRequest, call: Call) -> Version:
        """Return the version that is set."""
        del request, call
        return Version(version=self._version)
