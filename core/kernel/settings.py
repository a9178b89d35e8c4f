"""The typed tree of settings: default < file < `BUSBAR_...` environment < flag.

Nested settings are spelled with two underscores in the environment: `BUSBAR_QUOTAS__BOARDS=100`. Lists are separated by commas,
`BUSBAR_CORS_ORIGINS=https://a.example,https://b.example`, and so are pairs, `BUSBAR_LISTEN=maker=:8788,plans=:8099`; JSON will
do as well.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_FILE = "busbar.toml"
"""Name of the settings file, looked for in the working directory and in the data directory, whose file has the last word."""

PREFIX = "BUSBAR_"
"""How the names of environment variables begin."""

MOST_PORT = 65_535


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; an IPv6 host is in brackets, an empty host is every address.

    Raises:
        ValueError: The text has another form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > MOST_PORT or (":" in host and host[:1] != "["):
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8787 or [::1]:8787")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host. A name is one by what it says: nothing is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(text: str) -> str:
    split_address(text)
    return text


def _checked_url(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be an http or https address, such as http://127.0.0.1:11434/v1")
    return text


Address = Annotated[str, AfterValidator(_checked)]
WebAddress = Annotated[str, AfterValidator(_checked_url)]
Surface = Literal["maker", "lab", "telemetry", "plans"]


class Quotas(BaseModel):
    """How much an account may hold."""

    boards: int = Field(default=50, description="Boards of one user.")
    projects: int = Field(default=100, description="Projects of one user.")
    agent_keys: int = Field(default=25, description="Live agent keys of one user.")
    artifacts: int = Field(default=200, description="Firmware artifacts of one project.")
    plugin_instances: int = Field(default=200, description="Plugin instances of one organisation.")
    points_per_request: int = Field(default=10_000, description="Points of one ingest request.")
    ingest_body_bytes: int = Field(default=5_242_880, description="Bytes of an ingest body, as received and after inflation.")


class Storage(BaseModel):
    """How storage behaves."""

    group_commit_ms: float = Field(default=0.0, description="Milliseconds to wait for further writes before a commit.")
    busy_timeout_s: float = Field(default=5.0, description="Seconds to wait for a locked SQLite database before answering 503.")
    retention_days: int = Field(default=0, description="Days after which points are deleted; 0 keeps them for ever.")
    pool_size: int = Field(default=5, description="Connections of the control plane.")


class Live(BaseModel):
    """How live streams behave."""

    replay_events: int = Field(default=4096, description="Events that a topic remembers for those who resume.")
    queue_events: int = Field(default=256, description="Events that may wait for one subscriber before it has lagged.")
    ping_seconds: float = Field(default=30.0, description="Seconds between pings on WebSockets.")
    offline_after_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds of silence after which a board is offline, of which its owner is told.",
    )


class Stream(BaseModel):
    """How live telemetry behaves."""

    execute: bool = Field(default=False, description="Whether dashboards may run commands in the shell of a device.")
    resume_hours: float = Field(
        default=24.0,
        ge=0,
        le=168,
        description="Hours after which a subscription that comes back is told that it missed points, not the points.",
    )


class Mqtt(BaseModel):
    """The MQTT broker through which boards are announced to homes."""

    url: str = Field(
        default="",
        pattern=r"^$|^mqtts?://[^/\s]+/?$",
        description="Address of the broker, mqtt://HOST:PORT or mqtts://HOST:PORT; no board is announced when empty.",
    )
    username: str = Field(default="", description="Name to sign in with; empty where the broker asks for none.")
    password: SecretStr = Field(default=SecretStr(""), description="Password to sign in with.")
    prefix: str = Field(
        default="homeassistant", pattern=r"^[^+#\s]+$", description="First words of discovery topics, as set in Home Assistant."
    )
    topics: str = Field(default="plynx", pattern=r"^[^+#\s/]+$", description="First word of the topics of boards.")


class Classrooms(BaseModel):
    """How classrooms behave."""

    teachers_only: bool = Field(
        default=False, description="Whether only users of the role teacher or admin may make classrooms."
    )


class Lab(BaseModel):
    """How the lab behaves."""

    access_token_minutes: int = Field(default=1440, ge=1, description="Minutes for which a sign-in to the lab counts.")
    version: str = Field(default="2.0.0", description="Version that the lab tells its clients, which compare it with theirs.")
    cors_origins: list[str] = Field(
        default=["http://localhost:3000", "http://localhost:5173"],
        description="Further origins whose pages may call the lab; it takes no cookies as credentials.",
    )
    rate_limit_per_minute: int = Field(default=300, ge=1, description="Calls from one address that is not local, in a minute.")
    plugin_poll_seconds: float = Field(
        default=1.0, ge=0, description="Seconds between two polls of a plugin instance; 0 polls none."
    )
    plugin_timeout_seconds: float = Field(default=10.0, gt=0, description="Seconds that a plugin may take for one answer.")
    plugin_yield_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Seconds for which an instance is not polled after others stored values of its channels.",
    )
    plugin_uploads: bool = Field(
        default=True, description="Whether administrators of the oldest organisation may install wheels, which are code."
    )
    update_folder: Path | None = Field(
        default=None, description="Folder of update bundles, which an updater may watch; `updates` in the data directory."
    )
    github_repo: str = Field(
        default="stefanposs/webmacs", description="Project whose newest release the lab compares with; none when empty."
    )
    github_api: WebAddress = Field(default="https://api.github.com", description="Address of the API that tells its releases.")


class Plans(BaseModel):
    """How coding plans behave."""

    version: str = Field(default="2.2.1", description="Version that plans tell their clients, which compare it with theirs.")
    body_bytes: int = Field(default=268_435_456, ge=1024, description="Largest body of a request of the plans area, in bytes.")
    run_days: int = Field(default=30, ge=0, description="Days for which ended runs can be replayed; 0 keeps them for ever.")
    pace_ms: int = Field(
        default=500,
        ge=0,
        description="Milliseconds for which a run tells nothing but text at first, while its client draws; 0 paces nothing.",
    )


class Mail(BaseModel):
    """How the server sends mail: pins and invites of coding plans."""

    smtp_url: SecretStr = Field(
        default=SecretStr(""),
        description="Mail server, smtp://USER:PASSWORD@HOST:PORT or smtps://...; files in the data directory if empty.",
    )
    sender: str = Field(default="busbar@localhost", description="Address that mails come from.")
    timeout_seconds: float = Field(default=20.0, gt=0, description="Seconds that the mail server may take for one mail.")

    @model_validator(mode="after")
    def _smtp_is_an_address(self) -> Mail:
        parts = urlsplit(self.smtp_url.get_secret_value())
        if self.smtp_url.get_secret_value() and (parts.scheme not in ("smtp", "smtps") or not parts.hostname):
            raise ValueError("smtp_url must be an address such as smtp://mail.example:587")
        return self


class Outgoing(BaseModel):
    """Which addresses that users gave the server may call, for webhooks and downloads. Public ones always."""

    local: bool = Field(default=True, description="Private and loopback addresses too, where receivers in a lab stand.")
    allow_networks: list[str] = Field(default_factory=list[str], description="Further networks, such as 198.18.0.0/15.")


class Payments(BaseModel):
    """Who takes the money for priced listings of the marketplace. Without any they cannot be published."""

    manual: Literal["off", "at_once", "on_confirmation"] = Field(
        default="off",
        description="Money that changes hands elsewhere: purchases are complete at once, or when the creator confirms them.",
    )
    checkout_url: str = Field(
        default="",
        description="Address of a checkout server, which goes before `manual`; core/maker/checkout.py has the protocol.",
    )
    checkout_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Secret shared with the checkout server; several with blanks between them, of which the first signs.",
    )
    checkout_name: str = Field(
        default="checkout", pattern="^[a-z][a-z0-9-]{0,31}$", description="Name of the checkout server, shown on purchases."
    )
    checkout_timeout_seconds: float = Field(default=10.0, gt=0, description="Seconds that the checkout server may take.")
    checkout_hours: float = Field(default=24.0, gt=0, description="Hours after which a checkout that nobody has paid expires.")
    webhook_tolerance_seconds: int = Field(
        default=300, gt=0, description="Seconds by which the time of a signed event may differ from the server's."
    )

    @model_validator(mode="after")
    def _checkout_is_whole(self) -> Payments:
        if bool(self.checkout_url) != bool(self.checkout_secret.get_secret_value().strip()):
            raise ValueError("checkout_url and checkout_secret go together")
        if self.checkout_url and not self.checkout_url.startswith(("http://", "https://")):
            raise ValueError("checkout_url must be an http or https address")
        if self.checkout_name in ("free", "manual"):
            raise ValueError("checkout_name must not be that of a provider of the server's own")
        return self


class PlanModels(BaseModel):
    """How the models of coding plans are asked."""

    dev_model: bool = Field(
        default=False, description="Whether serving starts a development model beside the server, which answers by rule."
    )
    dev_port: int = Field(default=0, ge=0, le=MOST_PORT, description="Its port on this machine; 0 picks a free one.")
    dev_pace_seconds: float = Field(default=0.01, ge=0, description="Seconds between two pieces of its answers.")
    dev_url: WebAddress = Field(
        default="", description="Address of a development model that runs already; plans use it where they chose no other."
    )
    ollama_url: WebAddress = Field(default="http://127.0.0.1:11434/v1", description="Address of Ollama, for local models.")
    server_max_tokens: int = Field(
        default=128_000, ge=1000, description="Tokens that the model of the server can read, where plans use it."
    )
    first_token_seconds: float = Field(
        default=90.0, gt=0, description="Seconds until a model begins to answer; more for long prompts."
    )
    longest_first_token_seconds: float = Field(
        default=900.0, gt=0, description="The same for the longest prompts, and for local models."
    )
    chunk_seconds: float = Field(default=60.0, gt=0, description="Seconds for which a model may pause in its answer.")
    retries: int = Field(default=3, ge=0, le=20, description="Further tries when a model fails before it says anything.")
    retry_seconds: float = Field(default=1.0, ge=0, description="Seconds between two tries where the model names none.")
    longest_retry_seconds: float = Field(
        default=30.0, ge=0, description="Seconds for which a model that names some is waited for; it is passed over beyond."
    )


class Environment(EnvSettingsSource):
    """The environment, in which lists and pairs need no JSON."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 - as in the base
        """Return the value of a variable."""
        kind = get_origin(getattr(field, "annotation", None))
        text = str(value).strip()
        if kind not in (list, dict) or text[:1] in ("[", "{"):
            return super().decode_complex_value(field_name, field, value)
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return parts if kind is list else dict(_pair(part) for part in parts)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text} is not NAME=VALUE")
    return name.strip(), value.strip()


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="ignore")

    data: Path = Field(default=Path("data"), description="Directory of the database and of everything else that is kept.")
    database: str = Field(default="", description="Database URL; a SQLite file in the data directory when empty.")
    http: Address = Field(default="127.0.0.1:8787", description="Address of the HTTP doors; port 0 picks a free one.")
    grpc: Address = Field(default="127.0.0.1:50051", description="Address of the gRPC door; port 0 picks a free one.")
    listen: dict[Surface, Address] = Field(
        default_factory=dict[Surface, Address], description="Further HTTP listeners, by surface."
    )
    local_mode: bool = Field(
        default=False,
        description="Believe everybody who reaches the server: coding plans ask for no pin. Only on loopback addresses.",
    )
    tool_call_days: int = Field(default=90, ge=0, description="Days for which calls of tools are kept; 0 keeps them for ever.")
    public_url: str = Field(
        default="", description="Address under which browsers and devices reach the server; guessed when empty."
    )
    tls_certificate: Path | None = Field(default=None, description="Certificate chain, PEM; serves TLS on every door.")
    tls_key: Path | None = Field(default=None, description="Private key of the certificate, PEM.")
    cors_origins: list[str] = Field(default_factory=list[str], description="Origins whose pages may use cookies here.")
    trusted_proxies: list[str] = Field(
        default=["127.0.0.1", "::1"], description="Peers whose X-Forwarded headers are believed."
    )
    rate_limits: Literal["on", "off"] = Field(default="on", description="Rate limits of all doors.")
    grace_seconds: float = Field(default=10.0, ge=0, description="Seconds that running calls get to end when the server stops.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level to log.")
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="Form of the log; text on a terminal, else JSON."
    )
    access_log: bool = Field(default=False, description="One log line for each call.")
    traces: bool = Field(default=False, description="OpenTelemetry spans around calls; needs an SDK set up by the environment.")
    admin_email: str = Field(default="", description="Mail address of the first administrator.")
    admin_username: str = Field(default="", description="Username of the first administrator.")
    admin_password: SecretStr = Field(
        default=SecretStr(""), description="Password of the first administrator; random when empty."
    )
    secret_key: SecretStr = Field(
        default=SecretStr(""),
        description="Secret that signs short-lived tokens and seals secrets of webhooks, one for all servers on a database;"
        " a file in the data directory when empty.",
    )
    oidc_enabled: bool = Field(default=False, description="Whether people of the lab may sign in through an identity provider.")
    oidc_provider_name: str = Field(default="SSO", max_length=100, description="Label of the identity provider.")
    oidc_issuer_url: str = Field(default="", description="Address of the identity provider, under which it describes itself.")
    oidc_client_id: str = Field(default="", description="Name by which the identity provider knows this server.")
    oidc_client_secret: SecretStr = Field(default=SecretStr(""), description="Secret that goes with it; none when empty.")
    oidc_scopes: str = Field(default="openid email profile", description="What to ask the identity provider for.")
    oidc_redirect_uri: str = Field(
        default="", description="Where the identity provider sends browsers back to; guessed if empty."
    )
    oidc_frontend_url: str = Field(
        default="", description="Address of the lab's frontend; the first of the allowed origins when empty."
    )
    oidc_default_role: Literal["viewer", "operator", "admin"] = Field(
        default="viewer", description="Role of users that are made when they first come from the identity provider."
    )
    oidc_auto_create_users: bool = Field(default=True, description="Whether such users are made at all.")
    oidc_org_id: str = Field(default="", description="Their organisation; that of the first administrator when empty.")
    ai_base_url: WebAddress = Field(
        default="", description="Address of a model provider that speaks the OpenAI protocol; without it nothing asks a model."
    )
    ai_key: SecretStr = Field(default=SecretStr(""), description="Key for the model provider; empty where it asks for none.")
    ai_model: str = Field(default="", description="Model to ask where the caller names none.")
    ai_timeout_seconds: float = Field(default=30.0, gt=0, description="Seconds that the model provider may take to answer.")
    ai_completions: Literal["chat", "completions"] = Field(
        default="chat",
        description="How code is completed: by a prompt to /chat/completions, or by /completions with prefix and suffix.",
    )
    quotas: Quotas = Field(default_factory=Quotas, description="How much an account may hold.")
    storage: Storage = Field(default_factory=Storage, description="How storage behaves.")
    live: Live = Field(default_factory=Live, description="How live streams behave.")
    stream: Stream = Field(default_factory=Stream, description="How live telemetry behaves.")
    mqtt: Mqtt = Field(default_factory=Mqtt, description="The broker through which boards are announced to homes.")
    classrooms: Classrooms = Field(default_factory=Classrooms, description="How classrooms behave.")
    lab: Lab = Field(default_factory=Lab, description="How the lab behaves.")
    mail: Mail = Field(default_factory=Mail, description="How the server sends mail.")
    plans: Plans = Field(default_factory=Plans, description="How coding plans behave.")
    outgoing: Outgoing = Field(default_factory=Outgoing, description="Which addresses that users gave may be called.")
    payments: Payments = Field(default_factory=Payments, description="Who takes the money for priced listings.")
    plan_models: PlanModels = Field(default_factory=PlanModels, description="How the models of coding plans are asked.")

    @property
    def database_url(self) -> str:
        """The database in use, as an async SQLAlchemy URL."""
        return self.database or f"sqlite+aiosqlite:///{self.data.resolve() / 'busbar.db'}"

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        return self

    @model_validator(mode="after")
    def _local_mode_is_local(self) -> Settings:
        doors = {"http": self.http, "grpc": self.grpc, **{f"listen {name}": at for name, at in self.listen.items()}}
        if self.local_mode:
            for name, address in doors.items():
                if not is_loopback(split_address(address)[0]):
                    raise ValueError(f"local_mode believes everybody, so {name} must be a loopback address, not {address}")
            if self.public_url:
                # It would stand for the name by which a caller really reached the server, which is looked at.
                raise ValueError("local_mode believes everybody, so it goes with no public_url")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the flags before the environment, and the environment before the files."""
        del env_settings, dotenv_settings, file_secret_settings
        here = TomlConfigSettingsSource(settings_cls, Path(CONFIG_FILE))
        flags = getattr(init_settings, "init_kwargs", {})
        data = flags.get("data") or os.environ.get(f"{PREFIX}DATA") or here().get("data") or "data"
        kept = TomlConfigSettingsSource(settings_cls, Path(data) / CONFIG_FILE)
        return init_settings, Environment(settings_cls), kept, here


def unknown_names(settings: Settings) -> list[str]:
    """Return the names in the environment and in the settings files that set nothing, such as misspelt ones."""
    known = type(settings).model_fields
    environment = (name for name in os.environ if name.upper().startswith(PREFIX))
    unknown = [name for name in environment if name[len(PREFIX) :].lower().partition("__")[0] not in known]
    for file in (Path(CONFIG_FILE), settings.data / CONFIG_FILE):
        if file.is_file():
            unknown += [f"{name} ({file})" for name in tomllib.loads(file.read_text()) if name not in known]
    return sorted(set(unknown))
