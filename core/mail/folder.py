"""Mails as files, for servers without a mail server: whoever runs the server hands them on."""

from __future__ import annotations

import asyncio
import os
from email.message import EmailMessage
from pathlib import Path

from core.outbox.delivery import AttemptFailed


class FolderCarrier:
    """Writes each mail as a file that mail programs open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def carry(self, message: EmailMessage, name: str) -> None:
        """Write a mail; one that is tried again replaces itself."""
        try:
            await asyncio.to_thread(self._write, message.as_bytes(), name)
        except OSError as error:
            raise AttemptFailed(f"cannot write the mail: {error.strerror}") from error

    def _write(self, content: bytes, name: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / f"{name}.eml"
        # Under another name first: a file of the right name is always whole.
        draft = file.with_suffix(".part")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
