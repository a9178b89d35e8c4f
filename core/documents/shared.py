"""What one area lets others read and change of its documents. The area that keeps them says how."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from core.kernel.call import Call, Principal


@dataclass(frozen=True, slots=True)
class SharedProject:
    """The documents of a project, as texts.

    Attributes:
        firmware: Text of each file, by path; none where it was never saved.
        revision: Revision of the firmware; 0 where it was never saved.
        wiring: The wiring as JSON; None where it was never saved.
    """

    firmware: Mapping[str, str]
    revision: int
    wiring: str | None


class SharedProjects(ABC):
    """Projects whose documents other areas may work on, as far as their caller may."""

    @abstractmethod
    async def read(self, project_id: str, caller: Principal) -> SharedProject:
        """Return the documents of a project.

        Raises:
            NotFound: The caller may not know of the project.
            PermissionDenied: The caller may not read its firmware.
        """

    @abstractmethod
    def saving(
        self, project_id: str, files: Mapping[str, str], revision: int, call: Call
    ) -> AbstractAsyncContextManager[Callable[[AsyncSession], Awaitable[int]]]:
        """Hand out what saves the firmware in the caller's unit of work and returns its new revision.

        Whoever watches the project is told when the block has ended well.

        Args:
            project_id: The project.
            files: Text of each file that the firmware is to have, by path.
            revision: Revision that the caller has read.
            call: On whose behalf.

        Raises:
            NotFound: The caller may not know of the project.
            PermissionDenied: The caller may not change it.
            Aborted: The firmware has another revision meanwhile.
            InvalidArgument: A path is not what it must be, or the entry of the firmware is gone.
            TooLarge: The files hold too much.
        """
