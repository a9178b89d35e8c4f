"""Which class stands behind which service of the lab."""

from __future__ import annotations

from protobuf import DescService

from core.foundations import Foundations
from core.identity.external import ExternalUsers
from core.identity.members import Members
from core.identity.signing import Signer
from core.lab.access_tokens import AccessTokens
from core.lab.auth import AuthService
from core.lab.log_book import LogBook
from core.lab.logging import LoggingService
from core.lab.oidc import Provider
from core.lab.sso import SsoService
from core.lab.sso_store import SsoStore
from core.lab.sso_users import SsoUsers
from core.lab.startup import StartUpEntry
from core.lab.tokens import TokenService
from core.lab.users import UserService
from core.lab.users_gone import UsersGone
from gen.busbar.lab.v1 import auth_pb, logging_pb, sso_pb, tokens_pb, users_pb


def services(found: Foundations) -> list[tuple[DescService, object]]:
    """Build the services and what they share."""
    database, credentials, clock = found.database, found.credentials, found.clock
    members = Members(database, credentials, clock)
    signer = Signer(found.secret, "lab-access", clock)
    tokens = found.keep(AccessTokens(credentials, signer, clock, found.settings.lab.access_token_minutes))
    gone = UsersGone()
    book = LogBook(clock)
    gone.on_forget(book.forget_user)
    external = ExternalUsers(clock)
    found.keep(StartUpEntry(database, external, book, found.settings.lab.version))
    store = SsoStore(database, clock)
    gone.on_forget(store.forget_user)
    provider = found.keep(Provider(found.settings, clock))
    sso_users = SsoUsers(external, found.settings)
    return [
        (auth_pb.desc().services[0], AuthService(database, found.identity, members, tokens, book)),
        (
            sso_pb.desc().services[0],
            SsoService(
                database,
                settings=found.settings,
                provider=provider,
                store=store,
                users=sso_users,
                members=members,
                tokens=tokens,
                book=book,
            ),
        ),
        (tokens_pb.desc().services[0], TokenService(database, credentials)),
        (users_pb.desc().services[0], UserService(database, members, credentials, gone)),
        (logging_pb.desc().services[0], LoggingService(database, book)),
    ]
