"""Has models write a change that cannot be merged by rule: they name the lines to replace, or else write the file whole."""

from __future__ import annotations

import structlog

from core.kernel.errors import DomainError
from core.plans.completion import RoleModels
from core.plans.replacing import write_replacements
from core.plans.whole_file import write_whole
from core.plans.writing import CannotWrite, Progress, Wanted

log = structlog.get_logger("busbar.plans")


class Writers:
    """Asks the builder, and the whole-file-builder when it is of no help."""

    def __init__(self, models: RoleModels) -> None:
        self._models = models

    async def write(self, wanted: Wanted, progress: Progress) -> str:
        """Return the new text of a file.

        Raises:
            CannotWrite: No answer can be used.
            Unavailable: No provider can be asked.
        """
        # An empty file has no lines that could be replaced.
        if wanted.original.strip():
            try:
                return await write_replacements(self._models, wanted, progress)
            except (CannotWrite, DomainError) as fault:
                log.info("plan_builder_failed", reason=str(fault))
        return await write_whole(self._models, wanted, progress)
