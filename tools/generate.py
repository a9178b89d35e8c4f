"""Generate `gen/` from `proto/`: typed messages, typed clients, and the descriptors with their comments.

usage: generate.py [--check]

The imports of our files come from installed packages, never from copies: `google/api` from googleapis-common-protos, the
well-known types from grpcio-tools, and `buf/validate` from the descriptors inside protovalidate. `--check` generates into a
temporary folder and fails when it differs from `gen/`.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from protobuf import DescFile
from protobuf.wkt import FileDescriptorSet
from protovalidate._gen.buf.validate import validate_pb

from adapters.rest.descriptors import read

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def main() -> int:
    """Generate, or compare when `--check` is given."""
    if "--check" not in sys.argv[1:]:
        shutil.rmtree(ROOT / "gen", ignore_errors=True)
        generate(ROOT / "gen")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "gen"
        generate(fresh)
        stale = differences(fresh, ROOT / "gen")
    for path in stale:
        print(f"gen/{path} is stale: run `make gen` and commit the result")
    return 1 if stale else 0


def generate(out: Path) -> None:
    """Write everything generated below `out`."""
    out.mkdir(parents=True)
    image = out / "descriptors.binpb"
    build_image(image)
    template = (ROOT / "buf.gen.yaml").read_text().replace("out: gen", f"out: {out}")
    run("buf", "generate", f"{image}#format=binpb", "--template", template)
    (out / "__init__.py").touch()
    # What every start needs of the descriptors, which take long to read.
    (out / "json_names.txt").write_text("".join(f"{name}\n" for name in sorted(read(image).json_names)))
    # The runtime carries the well-known types; a second copy would be a trap for importers.
    shutil.rmtree(out / "google" / "protobuf")


def build_image(image: Path) -> None:
    """Compile all our files, with comments and everything they import, into one FileDescriptorSet."""
    sources = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        imports = Path(folder) / "imports.binpb"
        imports.write_bytes(installed_descriptors())
        run(
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--descriptor_set_in={imports}",
            f"-I{ROOT / 'proto'}",
            f"--descriptor_set_out={image}",
            "--include_imports",
            "--include_source_info",
            *sources,
            # Nothing of ours imports these two; the doors answer errors with them.
            "google/rpc/status.proto",
            "google/rpc/error_details.proto",
        )


def installed_descriptors() -> bytes:
    """Return the files that ours import, as one FileDescriptorSet in order of dependency."""
    files: dict[str, bytes] = {}

    def add(file: DescFile) -> None:
        for dependency in file.dependencies:
            add(dependency)
        files.setdefault(file.name, file.proto.to_binary())

    add(validate_pb.desc())
    with tempfile.TemporaryDirectory() as folder:
        googleapis = Path(folder) / "googleapis.binpb"
        roots = [package_folder("grpc_tools") / "_proto", site_packages()]
        run(
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            *(f"-I{root}" for root in roots),
            f"--descriptor_set_out={googleapis}",
            "--include_imports",
            "google/api/annotations.proto",
            "google/api/field_behavior.proto",
            "google/api/httpbody.proto",
            "google/rpc/status.proto",
            "google/rpc/error_details.proto",
            "google/protobuf/struct.proto",
            "google/protobuf/field_mask.proto",
            "google/protobuf/empty.proto",
        )
        for file in FileDescriptorSet.from_binary(googleapis.read_bytes()).file:
            files.setdefault(file.name, file.to_binary())
    merged = FileDescriptorSet()
    merged.file.extend(type(validate_pb.desc().proto).from_binary(file) for file in files.values())
    return merged.to_binary()


def package_folder(name: str) -> Path:
    """Return the folder of an installed package."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{name} is not installed: run `make setup`")
    return Path(next(iter(spec.submodule_search_locations)))


def site_packages() -> Path:
    """Return the folder that holds `google/api/*.proto`."""
    return package_folder("google.api").parent.parent


def differences(left: Path, right: Path) -> list[str]:
    """Return the files that are in one tree only or differ, caches left out."""

    def listing(root: Path) -> set[str]:
        return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts}

    names = listing(left) ^ listing(right)
    shared = listing(left) & listing(right)
    names |= set(filecmp.cmpfiles(left, right, shared, shallow=False)[1])
    return sorted(names)


def run(*command: str) -> None:
    """Run a tool of this environment; stop with its exit status when it fails."""
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    found = shutil.which(command[0], path=path) or command[0]
    done = subprocess.run([found, *command[1:]], cwd=ROOT, env={**os.environ, "PATH": path}, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    raise SystemExit(main())
