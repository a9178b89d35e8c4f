"""Tables of plugins and packages. Times are microseconds since the Unix epoch; `id` is the order in which rows were made."""

from __future__ import annotations

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel


class PluginInstanceRow(SQLModel, table=True):
    """An instance of a plugin.

    Attributes:
        config_json: Settings as they came; may be no JSON at all.
    """

    __tablename__ = "lab_plugin"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("org_id", "instance_name", name="lab_plugin_name"),)

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    user_id: str | None = Field(default=None, max_length=64, index=True)
    plugin_id: str = Field(max_length=100)
    instance_name: str = Field(max_length=255)
    demo_mode: bool = False
    enabled: bool = True
    config_json: str | None = None
    created_us: int = Field(sa_type=BigInteger)
    updated_us: int | None = Field(default=None, sa_type=BigInteger)


class PluginChannelRow(SQLModel, table=True):
    """A channel of an instance.

    Attributes:
        event_id: Public id of the event that it feeds.
    """

    __tablename__ = "lab_plugin_channel"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("instance_id", "channel_id", name="lab_plugin_channel_once"),)

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    instance_id: int = Field(foreign_key="lab_plugin.id", ondelete="CASCADE")
    channel_id: str = Field(max_length=100)
    channel_name: str = Field(max_length=255)
    direction: str = Field(max_length=16)
    unit: str = Field(max_length=50)
    event_id: str | None = Field(default=None, max_length=36, index=True)
    created_us: int = Field(sa_type=BigInteger)


class PackageRow(SQLModel, table=True):
    """A wheel that was uploaded. It serves every organisation, as the server itself does.

    Attributes:
        normal_name: Name of the package in the form in which names of packages are compared.
    """

    __tablename__ = "lab_package"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    package_name: str = Field(max_length=255)
    normal_name: str = Field(unique=True, max_length=255)
    version: str = Field(max_length=100)
    file_name: str = Field(unique=True, max_length=255)
    file_size: int = Field(sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)


class PackagePluginRow(SQLModel, table=True):
    """A plugin that a package brings: one package only can bring a plugin of an id."""

    __tablename__ = "lab_package_plugin"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name

    plugin_id: str = Field(primary_key=True, max_length=100)
    package_id: int = Field(foreign_key="lab_package.id", ondelete="CASCADE", index=True)


class UpdateRow(SQLModel, table=True):
    """An update of the installation. Of a user who is gone it stays, without an owner.

    Attributes:
        has_file: Whether its bundle lies in the folder of bundles.
    """

    __tablename__ = "lab_update"  # pyright: ignore[reportAssignmentType] - SQLModel takes a plain name
    __table_args__ = (UniqueConstraint("org_id", "version", name="lab_update_version"),)

    id: int | None = Field(default=None, primary_key=True)
    public_id: str = Field(unique=True, max_length=36)
    org_id: str = Field(foreign_key="org.id", max_length=64)
    user_id: str | None = Field(default=None, max_length=64, index=True)
    version: str = Field(max_length=50)
    changelog: str | None = None
    file_hash: str | None = Field(default=None, max_length=64)
    file_size: int | None = Field(default=None, sa_type=BigInteger)
    has_file: bool = False
    status: str = Field(default="pending", max_length=16)
    error_message: str | None = Field(default=None, max_length=500)
    created_us: int = Field(sa_type=BigInteger)
    started_us: int | None = Field(default=None, sa_type=BigInteger)
    completed_us: int | None = Field(default=None, sa_type=BigInteger)
