"""The typed tree of settings: default < file < `BUSBAR_...` environment < flag.

Nested settings are spelled with two underscores in the environment: `BUSBAR_LIMITS__BOARDS=100`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

CONFIG_FILE = "busbar.toml"
"""Name of the settings file, looked for in the data directory and in the working directory."""


class Quotas(BaseModel):
    """How much an account may hold."""

    boards: int = Field(50, description="Boards of one user.")
    agent_keys: int = Field(25, description="Live agent keys of one user.")
    points_per_request: int = Field(10_000, description="Points of one ingest request.")
    ingest_body_bytes: int = Field(5_242_880, description="Bytes of an ingest body, as received and after inflation.")


class Storage(BaseModel):
    """How storage behaves."""

    group_commit_ms: float = Field(0.0, description="Milliseconds to wait for further writes before a commit.")
    busy_timeout_s: float = Field(5.0, description="Seconds to wait for a locked SQLite database before answering 503.")
    retention_days: int = Field(0, description="Days after which points are deleted; 0 keeps them for ever.")
    pool_size: int = Field(5, description="Connections of the control plane.")


class Live(BaseModel):
    """How live streams behave."""

    replay_events: int = Field(4096, description="Events that a topic remembers for those who resume.")
    queue_events: int = Field(256, description="Events that may wait for one subscriber before it has lagged.")
    ping_seconds: float = Field(30.0, description="Seconds between pings on WebSockets.")
    offline_after_seconds: float = Field(60.0, description="Seconds of silence after which a board that only posts is offline.")


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix="BUSBAR_", env_nested_delimiter="__", extra="ignore")

    data: Path = Field(Path("data"), description="Directory of the database and of everything else that is kept.")
    database: str = Field("", description="Database URL; a SQLite file in the data directory when empty.")
    http: str = Field("127.0.0.1:8787", description="Address of the HTTP doors; port 0 picks a free one.")
    grpc: str = Field("127.0.0.1:50051", description="Address of the gRPC door; port 0 picks a free one.")
    listen: dict[str, str] = Field(default_factory=dict[str, str], description="Further HTTP listeners, by surface.")
    public_url: str = Field("", description="Address under which browsers and devices reach the server; guessed when empty.")
    tls_certificate: Path | None = Field(None, description="Certificate chain, PEM; serves TLS on every door.")
    tls_key: Path | None = Field(None, description="Private key of the certificate, PEM.")
    cors_origins: list[str] = Field(default_factory=list[str], description="Origins whose pages may use cookies here.")
    trusted_proxies: list[str] = Field(["127.0.0.1", "::1"], description="Peers whose X-Forwarded headers are believed.")
    rate_limits: Literal["on", "off"] = Field("on", description="Rate limits of all doors.")
    log_level: str = Field("info", description="Least level to log.")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="Form of the log; text on a terminal, else JSON.")
    access_log: bool = Field(False, description="One log line for each call.")
    traces: bool = Field(False, description="OpenTelemetry spans around calls; needs an SDK set up by the environment.")
    admin_email: str = Field("", description="Mail address of the first administrator.")
    admin_username: str = Field("", description="Username of the first administrator.")
    admin_password: SecretStr = Field(SecretStr(""), description="Password of the first administrator; random when empty.")
    quotas: Quotas = Field(default_factory=Quotas, description="How much an account may hold.")
    storage: Storage = Field(default_factory=Storage, description="How storage behaves.")
    live: Live = Field(default_factory=Live, description="How live streams behave.")

    @property
    def database_url(self) -> str:
        """The database in use, as an async SQLAlchemy URL."""
        return self.database or f"sqlite+aiosqlite:///{self.data.resolve() / 'busbar.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the flags before the environment, and the environment before the file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(CONFIG_FILE))
