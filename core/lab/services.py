"""Which class stands behind which service of the lab."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.lab.log_book import LogBook
from core.lab.logging import LoggingService
from core.lab.users_gone import UsersGone
from gen.busbar.lab.v1 import logging_pb


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, clock = found.database, found.clock
    gone = UsersGone()
    book = LogBook(clock)
    gone.on_forget(book.forget_user)
    return [
        (logging_pb.desc().services[0], LoggingService(database, book)),
    ]
