"""Within one version the protos only grow, and the check finds the commit to compare with in any clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from protobuf.wkt import FileDescriptorSet

from tools.breaking import IMAGE, ROOT, main


def git(root: Path, *arguments: str) -> None:
    who = (
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.com",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "core.hooksPath=/dev/null",
    )
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path, version: str, image: bytes) -> None:
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    (root / IMAGE).parent.mkdir(exist_ok=True)
    (root / IMAGE).write_bytes(image)
    git(root, "add", ".")
    git(root, "commit", "--allow-empty", "--message", version)


@pytest.fixture
def image() -> bytes:
    return (ROOT / IMAGE).read_bytes()


@pytest.fixture
def without_a_field(image: bytes) -> bytes:
    """The descriptors, with the last field of a request gone."""
    files = FileDescriptorSet.from_binary(image)
    pins = next(file for file in files.file if file.name == "busbar/maker/v1/pins.proto")
    pins.source_code_info = None
    next(message for message in pins.message_type if message.name == "ReadPinRequest").field.pop()
    return files.to_binary()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    return tmp_path


def test_a_field_that_goes_within_a_version_is_found(tree: Path, image: bytes, without_a_field: bytes) -> None:
    commit(tree, "1.0.0", image)
    (tree / IMAGE).write_bytes(without_a_field)
    assert main(tree) != 0


def test_a_break_is_found_however_many_commits_ago_it_was_made(tree: Path, image: bytes, without_a_field: bytes) -> None:
    commit(tree, "1.0.0", image)
    commit(tree, "1.0.0", without_a_field)
    commit(tree, "1.0.0", without_a_field)
    assert main(tree) != 0


def test_a_new_version_may_break(tree: Path, image: bytes, without_a_field: bytes) -> None:
    commit(tree, "1.0.0", image)
    commit(tree, "2.0.0", without_a_field)
    assert main(tree) == 0


def test_a_new_field_breaks_nothing(tree: Path, image: bytes, without_a_field: bytes) -> None:
    commit(tree, "1.0.0", without_a_field)
    (tree / IMAGE).write_bytes(image)
    assert main(tree) == 0


def test_without_a_history_there_is_nothing_to_break(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gen").mkdir()
    assert main(tmp_path) == 0
    assert "no earlier descriptors" in capsys.readouterr().out
