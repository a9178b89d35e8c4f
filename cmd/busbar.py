"""The command line of Busbar. It only reads arguments and prints; what it does lies in adapters/console."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import typer
import uvloop
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapters.console import accounts, doctor, serving
from adapters.mcp.document import PATHS
from adapters.rest.openapi import build_document
from core.app import App
from core.identity.accounts import FirstAdmin
from core.kernel.clock import Clock
from core.kernel.errors import DomainError
from core.kernel.logging import configure_logging
from core.kernel.settings import Settings

T = TypeVar("T")

Data = Annotated[Path | None, typer.Option(help="Directory of everything that is kept. [default: data]")]
Database = Annotated[str | None, typer.Option(help="Database URL. [default: a SQLite file in the data directory]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

cli = typer.Typer(
    help="One server for boards, rigs, and the agents that work on them.", no_args_is_help=True, add_completion=False
)
users = typer.Typer(help="Users.", no_args_is_help=True)
orgs = typer.Typer(help="Organisations.", no_args_is_help=True)
keys = typer.Typer(help="Keys of programs and devices.", no_args_is_help=True)
cli.add_typer(users, name="user")
cli.add_typer(orgs, name="org")
cli.add_typer(keys, name="key")

out = Console(soft_wrap=True, highlight=False)


def main() -> None:
    """Run the command line."""
    cli(prog_name="busbar")


@cli.command()
def serve(  # noqa: PLR0913 - an argument for each flag
    *,
    http: Annotated[str | None, typer.Option(help="HOST:PORT of HTTP; port 0 picks one. [default: 127.0.0.1:8787]")] = None,
    grpc: Annotated[str | None, typer.Option(help="HOST:PORT of gRPC; port 0 picks one. [default: 127.0.0.1:50051]")] = None,
    listen: Annotated[list[str] | None, typer.Option(help="SURFACE=HOST:PORT of a further HTTP listener.")] = None,
    database: Database = None,
    data: Data = None,
    local_mode: Annotated[
        bool, typer.Option("--local-mode", help="Believe everybody: coding plans ask for no pin. Loopback addresses only.")
    ] = False,
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, PEM.")] = None,
    dev_model: Annotated[
        bool, typer.Option("--dev-model", help="Run a model for development, which answers by rule; plans use it by default.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Serve every door until SIGINT or SIGTERM. A fresh directory is set up first."""
    listeners = dict(_listener(text) for text in listen or ()) or None
    settings = _settings(
        http=http,
        grpc=grpc,
        listen=listeners,
        database=database,
        data=data,
        # A flag that is not given leaves the say to the environment and the files.
        local_mode=local_mode or None,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        plan_models={"dev_model": True} if dev_model else None,
    )
    announce = _announce_json if as_json else _announce
    _run(serving.serve(settings, announce))


def _listener(text: str) -> tuple[str, str]:
    surface, equals, address = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text} is not SURFACE=HOST:PORT", param_hint="--listen")
    return surface, address


def _announce_json(ready: serving.Ready, admin: FirstAdmin | None) -> None:
    if admin is not None and admin.password is not None:
        print(f"administrator {admin.email}, password {admin.password} (shown once)", file=sys.stderr, flush=True)
    print(json.dumps(ready.as_dict()), flush=True)


def _announce(ready: serving.Ready, admin: FirstAdmin | None) -> None:
    out.print(f"[bold]Busbar {ready.version}[/bold] is running.\n")
    out.print(f"  HTTP  {ready.http}  (documentation: {ready.http}/docs)", markup=False)
    out.print(f"  gRPC  {ready.grpc}", markup=False)
    out.print(f"  data  {ready.data}\n", markup=False)
    if admin is not None:
        shown = f"{admin.password}  (shown once)" if admin.password else "as set"
        out.print("  First administrator:")
        out.print(f"    username  {admin.username}\n    email     {admin.email}\n    password  {shown}\n", markup=False)
    program = "busbar" if shutil.which("busbar") else sys.argv[0]
    out.print("  Next, in another terminal, make a key for an agent:")
    out.print(f"    {program} key create --data {ready.data} --kind maker --scopes '*'\n", markup=False)


@cli.command("dev-model")
def serve_dev_model(
    *,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 picks one.")] = 0,
    pace: Annotated[float, typer.Option(help="Seconds between two pieces of an answer.")] = 0.01,
) -> None:
    """Serve a model for development alone, and print its address, which is for BUSBAR_PLAN_MODELS__DEV_URL."""
    settings = _settings(plan_models={"dev_port": port, "dev_pace_seconds": pace})
    _run(serving.serve_dev_model(settings, lambda url: print(url, flush=True)))


@cli.command()
def migrate(*, data: Data = None, database: Database = None) -> None:
    """Bring the database to the newest schema. Serving does so by itself."""
    before, after = _run(accounts.migrate(_settings(data=data, database=database)))
    print(f"at revision {after} already" if before == after else f"from revision {before or 'none'} to {after}")


@users.command("create")
def create_user(
    email: Annotated[str, typer.Argument(help="Mail address.")],
    *,
    username: Annotated[str, typer.Option(help="3-32 of a-z, 0-9, _ and -. [default: made from the address]")] = "",
    role: Annotated[str, typer.Option(help="user or admin.")] = "user",
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input; else make one up.")] = False,
    data: Data = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a user with an organisation of their own."""
    if role not in ("user", "admin"):
        raise typer.BadParameter("must be user or admin", param_hint="--role")
    password = sys.stdin.readline().rstrip("\n") if password_stdin else ""
    settings = _settings(data=data, database=database)
    _show(asdict(_run(accounts.create_user(settings, email, username, password, role))), as_json=as_json)


@orgs.command("create")
def create_org(name: str, *, data: Data = None, database: Database = None, as_json: AsJson = False) -> None:
    """Make an organisation without members."""
    _show(asdict(_run(accounts.create_org(_settings(data=data, database=database), name))), as_json=as_json)


@orgs.command("list")
def list_orgs(*, data: Data = None, database: Database = None, as_json: AsJson = False) -> None:
    """Print all organisations, oldest first."""
    found = _run(accounts.list_orgs(_settings(data=data, database=database)))
    if as_json:
        print(json.dumps([asdict(org) for org in found]))
        return
    table = Table("id", "name", box=None)
    for org in found:
        table.add_row(org.id, Text(org.name))
    out.print(table)


@keys.command("create")
def create_key(
    *,
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(accounts.KEY_KINDS)}.")],
    scopes: Annotated[str, typer.Option(help="Scopes, with commas between them; * is everything.")] = "*",
    org: Annotated[str, typer.Option(help="Id of the organisation that holds it.")] = "",
    user: Annotated[str, typer.Option(help="Mail address or username of who holds it. [default: first administrator]")] = "",
    name: Annotated[str, typer.Option(help="Name by which to know it again.")] = "",
    data: Data = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Issue a key and print it, once. Works while a server runs on the same data."""
    if kind not in accounts.KEY_KINDS:
        raise typer.BadParameter(f"must be one of {', '.join(accounts.KEY_KINDS)}", param_hint="--kind")
    if org and user:
        raise typer.BadParameter("--org and --user exclude each other")
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    work = accounts.create_key(_settings(data=data, database=database), kind, wanted, org=org, user=user, name=name)
    _show(asdict(_run(work)), as_json=as_json)


@keys.command("list")
def list_keys(
    *,
    org: Annotated[str, typer.Option(help="Id of the organisation that holds them. [default: all]")] = "",
    data: Data = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Print keys, oldest first, revoked ones too."""
    found = _run(accounts.list_keys(_settings(data=data, database=database), org))
    if as_json:
        print(json.dumps([asdict(key) for key in found]))
        return
    table = Table("id", "kind", "prefix", "name", "scopes", "organisation", "revoked", box=None)
    for key in found:
        scopes = ", ".join(key.scopes)
        table.add_row(key.id, key.kind, key.prefix, Text(key.name), scopes, key.org_id, key.revoked_at or "")
    out.print(table)


@keys.command("revoke")
def revoke_key(key_id: str, *, data: Data = None, database: Database = None, as_json: AsJson = False) -> None:
    """End a key. A running server refuses it within some seconds."""
    _show(asdict(_run(accounts.revoke_key(_settings(data=data, database=database), key_id))), as_json=as_json)


@cli.command("doctor")
def examine(*, data: Data = None, database: Database = None, as_json: AsJson = False) -> None:
    """Print the effective settings, secrets masked, and what would keep the server from running well."""
    settings = _settings(data=data, database=database)
    findings = _run(doctor.examine(settings))
    if as_json:
        print(json.dumps({"settings": doctor.effective(settings), "findings": [asdict(finding) for finding in findings]}))
    else:
        _print_findings(doctor.effective(settings), findings)
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(1)


def _print_findings(settings: dict[str, str], findings: list[doctor.Finding]) -> None:
    table = Table("setting", "value", box=None)
    for name, value in settings.items():
        table.add_row(name, Text(value))
    out.print(table)
    out.print()
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for finding in findings:
        verdict = finding.verdict
        out.print(f"[{colours[verdict]}]{verdict:4}[/]", end=" ")
        out.print(f"{finding.check}: {finding.text}", markup=False)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document of everything served."""
    settings = _settings()
    document = build_document(App(settings, Clock()).platform.rpcs, settings, extra_paths=PATHS)
    print(json.dumps(document, indent=2))


@cli.command()
def version() -> None:
    """Print the version."""
    print(serving.program_version())


def _settings(**flags: object) -> Settings:
    """Return the settings; flags that were not given leave the say to the environment and the files."""
    try:
        settings = Settings(**{name: value for name, value in flags.items() if value is not None})  # pyright: ignore[reportArgumentType]
    except ValidationError as error:
        _fail("; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()), status=2)
    except ValueError as error:
        _fail(str(error), status=2)
    configure_logging(settings)
    return settings


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except DomainError as error:
        _fail(error.message)


def _show(values: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(values))
        return
    for name, value in values.items():
        if value is not None:
            text = ", ".join(map(str, cast("list[object]", value))) if isinstance(value, list) else value
            out.print(f"{name:9} {text}", markup=False)


def _fail(message: str, status: int = 1) -> NoReturn:
    print(f"busbar: {message}", file=sys.stderr)
    raise typer.Exit(status)


if __name__ == "__main__":
    main()
