"""Maps of source files, as rpcs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from core.kernel.call import Call
from core.kernel.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted
from core.plans.access import user_of
from core.plans.context_keeper import ContextKeeper
from core.plans.map_cache import MapCache
from core.plans.source_maps import map_of
from core.plans.store import PlanStore
from gen.busbar.plans.v1.file_maps_pb import (
    CachedPaths,
    CreateFileMapRequest,
    CreateFileMapResponse,
    LoadCachedFileMapRequest,
    LoadCachedFileMapResponse,
)

MOST_PATHS = 500
MOST_BYTES = 10 * 1024 * 1024
MOST_FILE = 512_000
MOST_WAITING = 20
MOST_SECONDS = 60.0
REQUEST_TIMEOUT = 408
RETRY_SECONDS = 1.0


class FileMapService:
    """Makes maps in threads of their own, so that a large project holds nobody up."""

    def __init__(self, store: PlanStore, keeper: ContextKeeper, maps: MapCache) -> None:
        self._store = store
        self._keeper = keeper
        self._maps = maps
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="file-map")
        self._waiting = 0

    async def stop(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def create_file_map(self, request: CreateFileMapRequest, call: Call) -> CreateFileMapResponse:
        """Make a map of each file."""
        _check(request.map_inputs)
        if self._waiting >= MOST_WAITING:
            raise ResourceExhausted("too many maps are being made, try again", retry_after=RETRY_SECONDS)
        given_up = Event()
        self._waiting += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, _maps, dict(request.map_inputs), given_up)
        try:
            async with asyncio.timeout(MOST_SECONDS):
                return CreateFileMapResponse(map_bodies=await work)
        except TimeoutError:
            call.status = REQUEST_TIMEOUT
            raise DeadlineExceeded("the maps took too long to make") from None
        finally:
            given_up.set()
            self._waiting -= 1

    async def load_cached_file_map(self, request: LoadCachedFileMapRequest, call: Call) -> LoadCachedFileMapResponse:
        """Load what the project has had of some directories."""
        opened = await self._store.open(call.caller, request.plan_id, request.branch)
        found = await self._maps.find(opened.plan.project_id, request.file_paths)
        if not found:
            return LoadCachedFileMapResponse()
        async with self._store.change(call.caller, request.plan_id, request.branch) as change:
            loaded = await self._keeper.load(change, found.values(), owner=user_of(call.caller))
        return LoadCachedFileMapResponse(load_res=loaded, cached_by_path=CachedPaths(paths=dict.fromkeys(found, True)))


def _check(files: Mapping[str, str]) -> None:
    if len(files) > MOST_PATHS:
        raise InvalidArgument.field("map_inputs", f"must have at most {MOST_PATHS} files")
    total = 0
    for path, text in files.items():
        size = len(text.encode())
        total += size
        if size > MOST_FILE:
            raise InvalidArgument.field("map_inputs", f"must have at most {MOST_FILE} bytes in a file: {path}")
    if total > MOST_BYTES:
        raise InvalidArgument.field("map_inputs", f"must have at most {MOST_BYTES} bytes together")


def _maps(files: Mapping[str, str], given_up: Event) -> dict[str, str]:
    made: dict[str, str] = {}
    for path, text in files.items():
        if given_up.is_set():
            break
        made[path] = map_of(path, text)
    return made
