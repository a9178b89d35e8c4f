"""The newest release of the project whose updates the lab follows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from core.kernel.http import LOCAL_NETWORKS, AddressPolicy, Answer, OutgoingClient, OutgoingError, OutgoingTimeout
from core.kernel.settings import Lab

SECONDS = 8.0
_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})", re.ASCII)
_NONE, _FOUND = 404, 200


@dataclass(frozen=True, slots=True)
class Release:
    """What the project said.

    Attributes:
        version: Version of its newest release.
        download_url: Address of the bundle.
        page_url: Address of the page.
        error: Why it could not be asked.
    """

    version: str | None = None
    download_url: str | None = None
    page_url: str | None = None
    error: str | None = None


def numbers(version: str | None) -> tuple[int, int, int] | None:
    """Return a version for comparison; None for what is not three integers, which is never newer."""
    match = _VERSION.fullmatch(version or "")
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


class Releases:
    """Asks the API that was set; it may stand in the local network, since the one who runs the server chose it."""

    def __init__(self, settings: Lab) -> None:
        self._repo = settings.github_repo.strip("/")
        self._url = f"{settings.github_api.rstrip('/')}/repos/{quote(self._repo)}/releases/latest"
        self._client = OutgoingClient(AddressPolicy(LOCAL_NETWORKS), seconds=SECONDS)

    async def stop(self) -> None:
        """Close connections."""
        await self._client.close()

    async def newest(self) -> Release:
        """Return the newest release; never raises."""
        if not self._repo:
            return Release(error="github_repo not configured")
        try:
            return _release(await self._client.request("GET", self._url, headers={"Accept": "application/vnd.github+json"}))
        except OutgoingTimeout:
            return Release(error="Connection timed out")
        except OutgoingError as error:
            return Release(error=f"Connection failed: {error}")
        except (ValueError, TypeError, AttributeError):
            return Release(error="GitHub API returned no release")


def _release(answer: Answer) -> Release:
    if answer.status != _FOUND:
        return Release(error=None if answer.status == _NONE else f"GitHub API returned {answer.status}")
    found: dict[str, Any] = orjson.loads(answer.body)
    assets: list[dict[str, Any]] = found.get("assets") or []
    nothing: dict[str, Any] = {}
    bundle = next((asset for asset in assets if _is_bundle(str(asset.get("name", "")))), nothing)
    tag = found.get("tag_name")
    return Release(
        version=str(tag).removeprefix("v") if tag else None,
        download_url=bundle.get("browser_download_url"),
        page_url=found.get("html_url"),
    )


def _is_bundle(name: str) -> bool:
    return "webmacs-update" in name and name.endswith(".tar.gz")
