"""Wheels from strangers: what is checked before any of their code may run, and how they are unpacked.

A wheel is unpacked, not installed by pip: nothing of it runs meanwhile, every file is compared with the hash that the wheel
records, packages cannot overwrite each other's files, and uninstalling is deleting a folder.
"""

from __future__ import annotations

import configparser
import os
import re
import stat
import struct
import sys
import zipfile
import zlib
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path, PurePosixPath

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.sources import WheelFile
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from core.lab.plugin_api import GROUP

MOST_FILES = 2_000
MOST_BYTES = 200 * 1024 * 1024
"""Bytes of all files together, inflated."""
MOST_TEXT = 1_048_576
MOST_PLUGINS = 50

_PLUGIN = re.compile(r"[A-Za-z0-9._-]{1,100}")
_TARGET = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class WheelRefused(Exception):
    """A file is no wheel to unpack; the text says why."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that passed.

    Attributes:
        name: Name of the package, as the wheel writes it.
        version: Version.
        plugins: Ids of the plugins that it brings.
    """

    name: str
    version: str
    plugins: tuple[str, ...]


def inspect(path: Path) -> Wheel:
    """Check a wheel, whose file has the name with which it came.

    Raises:
        WheelRefused: It is not safe, not whole, not for this machine, or brings no plugin.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _inspect(archive, path.name)
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise WheelRefused("File is not a valid ZIP archive.") from error


def unpack(path: Path, folder: Path) -> None:
    """Unpack a wheel that passed into a folder of its own, durably; `site` below it is what Python searches."""
    schemes = {name: str(folder / "site") for name in ("purelib", "platlib")}
    schemes |= {name: str(folder / name) for name in ("scripts", "headers", "data")}
    destination = SchemeDictionaryDestination(schemes, interpreter=sys.executable, script_kind="posix")
    with WheelFile.open(path) as source:
        install(source, destination, additional_metadata={"INSTALLER": b"busbar"})
    for file in (file for file in folder.rglob("*") if file.is_file()):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _inspect(archive: zipfile.ZipFile, file_name: str) -> Wheel:
    _check_members(archive.infolist())
    folder = _info_folder(archive)
    name, version = _identity(archive, folder, file_name)
    plugins = _plugins(archive, folder)
    try:
        WheelFile(archive).validate_record()
    except (InstallerError, ValueError) as error:
        found = str((getattr(error, "issues", None) or [error])[0])
        # Without the path of the archive, which is nobody's business.
        found = found.removeprefix(f"In {archive.filename}, ").replace(str(archive.filename), file_name)
        raise WheelRefused(f"Wheel does not match its RECORD: {found}"[:400]) from error
    return Wheel(name, version, plugins)


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Refuse what could leave the folder or fill the disk. No more of a file is inflated than its size says."""
    if len(members) > MOST_FILES:
        raise WheelRefused(f"Wheel holds more than {MOST_FILES:,} files.")
    if sum(member.file_size for member in members) > MOST_BYTES:
        raise WheelRefused(f"Wheel is larger than {MOST_BYTES:,} bytes when it is unpacked.")
    seen: set[str] = set()
    for member in members:
        name = member.orig_filename
        parts = PurePosixPath(name).parts
        kind = stat.S_IFMT(member.external_attr >> 16)
        outside = name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
        if outside or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise WheelRefused("Wheel holds a file that would leave its folder.")
        if member.flag_bits & 0x1 or member.compress_type not in _METHODS:
            raise WheelRefused("Wheel holds an encrypted file, or one of an unknown compression.")
        # Where letter case does not count, two names could be one file.
        if name.casefold() in seen:
            raise WheelRefused("Wheel holds two files of one name.")
        seen.add(name.casefold())


def _info_folder(archive: zipfile.ZipFile) -> str:
    found = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
    if len(found) != 1:
        raise WheelRefused("Wheel has no single .dist-info/METADATA.")
    return found[0].rpartition("/")[0]


def _identity(archive: zipfile.ZipFile, folder: str, file_name: str) -> tuple[str, str]:
    """Return name and version, on which the name of the file, its folder and its metadata must agree."""
    metadata = BytesHeaderParser().parsebytes(_text(archive, f"{folder}/METADATA"))
    name, version = str(metadata.get("Name", "")), str(metadata.get("Version", ""))
    try:
        said, version_said, _, tags = parse_wheel_filename(file_name)
        same = canonicalize_name(name, validate=True) == said and Version(version) == version_said
        wanted = SpecifierSet(str(metadata.get("Requires-Python", "")))
    except (InvalidWheelFilename, InvalidVersion, InvalidSpecifier, ValueError) as error:
        raise WheelRefused("Name or version of the wheel is not valid.") from error
    if not same:
        raise WheelRefused("Name and version of the wheel are not those of its file.")
    if tags.isdisjoint(sys_tags()) or not wanted.contains(".".join(map(str, sys.version_info[:3])), prereleases=True):
        raise WheelRefused("Wheel is not for this machine or version of Python.")
    return name, version


def _plugins(archive: zipfile.ZipFile, folder: str) -> tuple[str, ...]:
    path = f"{folder}/entry_points.txt"
    names = frozenset(archive.namelist())
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - ids keep their letter case
    try:
        parser.read_string(_text(archive, path).decode() if path in names else "")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise WheelRefused("entry_points.txt of the wheel is not readable.") from error
    found = dict(parser[GROUP]) if parser.has_section(GROUP) else {}
    if not found:
        raise WheelRefused(f"Wheel has no [{GROUP}] entry points.")
    if len(found) > MOST_PLUGINS:
        raise WheelRefused(f"Wheel brings more than {MOST_PLUGINS} plugins.")
    for plugin, target in found.items():
        match = _TARGET.fullmatch(target.strip())
        if not _PLUGIN.fullmatch(plugin) or match is None:
            raise WheelRefused(f"Entry point '{plugin[:100]}' is not of the form id = module:class.")
        if not _has_module(names, match[1]):
            raise WheelRefused(f"Entry point '{plugin}' names the module {match[1]}, which the wheel does not hold.")
    return tuple(found)


def _has_module(names: frozenset[str], module: str) -> bool:
    path = module.replace(".", "/")
    pattern = re.compile(rf"([^/]+\.data/(purelib|platlib)/)?{path}(\.py|/__init__\.py|\.[\w.-]*so)", re.ASCII)
    return any(pattern.fullmatch(name) for name in names)


def _text(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MOST_TEXT:
        raise WheelRefused(f"{name.rpartition('/')[2]} of the wheel is too long.")
    return archive.read(name)
