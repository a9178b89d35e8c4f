"""The rules of the tree that no type checker knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
AREAS = {"maker", "lab", "telemetry", "plans"}
TRANSPORTS = {"adapters", "fastapi", "grpc", "mcp", "starlette", "uvicorn"}
CORE = sorted((ROOT / "core").rglob("*.py"))
ADAPTERS = sorted((ROOT / "adapters").rglob("*.py"))
SCRIPTS = [path for folder in ("cmd", "tools", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]

LATE = {
    "aiomqtt",
    "alembic",
    "asyncpg",
    "authlib",
    "cryptography",
    "joserfc",
    "jsonschema",
    "mcp",
    "nats",
    "openai",
    "opentelemetry",
    "pygit2",
    "segno",
    "tree_sitter",
    "tree_sitter_language_pack",
    "typst",
    "yaml",
}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def area_of(name: str) -> str | None:
    """Return the area to which a module of core belongs."""
    parts = name.split(".")
    return parts[1] if parts[0] == "core" and len(parts) > 1 and parts[1] in AREAS else None


def is_foundation(path: Path) -> bool:
    """Whether a file is shared by the areas. Migrations know the tables of all, and the composition root knows everything."""
    parts = path.relative_to(ROOT / "core").parts
    return len(parts) > 1 and parts[0] not in AREAS and "migrations" not in parts


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_core_knows_no_door(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in TRANSPORTS}


@pytest.mark.parametrize("path", [path for path in CORE if path.relative_to(ROOT / "core").parts[0] in AREAS], ids=relative)
def test_an_area_imports_no_other_area(path: Path) -> None:
    own = path.relative_to(ROOT / "core").parts[0]
    assert {area_of(name) for name in imports(path)} <= {own, None}


@pytest.mark.parametrize("path", ADAPTERS, ids=relative)
def test_a_door_knows_no_area(path: Path) -> None:
    assert {area_of(name) for name in imports(path)} <= {None}


@pytest.mark.parametrize("path", [path for path in CORE if is_foundation(path)], ids=relative)
def test_a_foundation_knows_no_area(path: Path) -> None:
    assert {area_of(name) for name in imports(path)} <= {None}


@pytest.mark.parametrize("folder", ["cmd", "proto"])
def test_a_folder_that_would_hide_another_package_is_no_package(folder: str) -> None:
    assert not list((ROOT / folder).rglob("__init__.py"))


@pytest.mark.parametrize("path", [*CORE, *ADAPTERS, *SCRIPTS], ids=relative)
def test_a_module_says_why_it_exists(path: Path) -> None:
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source)) or not source.strip()


@pytest.mark.parametrize("path", sorted((ROOT / "proto").rglob("*.proto")), ids=relative)
def test_a_proto_lies_where_its_package_says(path: Path) -> None:
    package = ".".join(path.relative_to(ROOT / "proto").parts[:-1])
    assert f"\npackage {package};\n" in path.read_text()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


def test_the_server_starts_without_what_only_some_calls_need() -> None:
    """Each of these takes megabytes or a good part of the start; whoever needs one imports it where it is used."""
    loaded = subprocess.run(
        [sys.executable, "-c", f"import busbar, sys; print(*({LATE!r} & set(sys.modules)))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert loaded.stdout.split() == []
