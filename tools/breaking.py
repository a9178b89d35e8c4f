"""Fail when the protos break what clients of the present version rely on, on the wire or in JSON.

usage: breaking.py

Within one version the protos only grow. The descriptors are compared with those of the commit that set the version in
pyproject.toml, which every full clone holds; a change that must break clients comes with a new version.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "gen/descriptors.binpb"
BUF = Path(sys.executable).parent / "buf"


def main(root: Path = ROOT) -> int:
    """Compare, or say why there is nothing to compare with."""
    commit = baseline(root)
    image = git(root, "show", f"{commit}:{IMAGE}") if commit else None
    if not image:
        print("breaking: no earlier descriptors of this version to compare with")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old.binpb"
        old.write_bytes(image)
        new = root / IMAGE
        command = [BUF, "breaking", f"{new}#format=binpb", "--against", f"{old}#format=binpb", "--config", ROOT / "buf.yaml"]
        done = subprocess.run(command, cwd=root, check=False)  # noqa: S603 - no part of it comes from outside
    verdict = "breaks" if done.returncode else "keeps"
    print(f"breaking: {IMAGE} {verdict} what {commit[:12]} promised")
    return done.returncode


def baseline(root: Path) -> str:
    """Return the commit that set the present version; empty when there is none."""
    found = git(root, "log", "-1", "--format=%H", "-G^version = ", "--", "pyproject.toml")
    return found.decode().strip() if found else ""


def git(root: Path, *arguments: str) -> bytes | None:
    """Return what git prints, or None when it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)  # noqa: S603, S607
    return None if done.returncode else done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
