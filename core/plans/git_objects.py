"""Objects of git as bytes: blobs, trees, commits, and packs of them.

Git itself reads all of it. They are made here rather than by a library, which would store each object as a file of its own and
wait for the disk twice for it. A pack is two files, however many objects a change has.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COMMIT, TREE, BLOB = 1, 2, 3
"""Kinds of objects, by their number in packs."""

_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob"}
_ID_BYTES = 20
_FILE_MODE, _FOLDER_MODE = b"100644", b"40000"


@dataclass(frozen=True, slots=True)
class GitObject:
    """An object.

    Attributes:
        kind: COMMIT, TREE or BLOB.
        data: Its bytes.
        id: SHA-1 by which git knows it.
    """

    kind: int
    data: bytes
    id: bytes


def make(kind: int, data: bytes) -> GitObject:
    """Make an object of its bytes."""
    digest = hashlib.sha1(b"%s %d\0" % (_NAMES[kind], len(data)), usedforsecurity=False)
    digest.update(data)
    return GitObject(kind, data, digest.digest())


def tree_of(files: Mapping[str, bytes], folders: Mapping[str, bytes]) -> GitObject:
    """Make a tree of the ids of its files and folders, by name."""
    entries = [(name.encode(), _FILE_MODE, name.encode(), oid) for name, oid in files.items()]
    # Git sorts a folder as if its name ended in a slash.
    entries += [(name.encode() + b"/", _FOLDER_MODE, name.encode(), oid) for name, oid in folders.items()]
    return make(TREE, b"".join(b"%s %s\0%s" % (mode, name, oid) for _, mode, name, oid in sorted(entries)))


def commit_of(tree: GitObject, parent: str, message: str, *, author: str, entry_id: str, seconds: int) -> GitObject:
    """Make a commit. The id of the entry makes it unlike every other one, even one of the same content and second."""
    lines = [f"tree {tree.id.hex()}"]
    if parent:
        lines.append(f"parent {parent}")
    lines.append(f"author {author} <{entry_id}> {seconds} +0000")
    lines.append(f"committer Busbar <{entry_id}> {seconds} +0000")
    # Git takes a NUL for the end of the message.
    return make(COMMIT, ("\n".join(lines) + "\n\n" + message.replace("\0", "")).encode())


def pack_of(objects: Sequence[GitObject]) -> tuple[bytes, bytes, str]:
    """Return a pack of objects, its index of version 2, and the name that both have."""
    pack = bytearray(struct.pack(">4sLL", b"PACK", 2, len(objects)))
    places: list[tuple[bytes, int, int]] = []
    for one in objects:
        start = len(pack)
        pack += _head(one.kind, len(one.data)) + zlib.compress(one.data)
        places.append((one.id, zlib.crc32(memoryview(pack)[start:]), start))
    checksum = hashlib.sha1(pack, usedforsecurity=False).digest()
    pack += checksum
    places.sort()
    return bytes(pack), _index(places, checksum), checksum.hex()


def ids_in(index: bytes) -> list[bytes]:
    """Return the ids of the objects in a pack, from its index of version 2."""
    (total,) = struct.unpack_from(">L", index, 8 + 255 * 4)
    start = 8 + 256 * 4
    return [index[place : place + _ID_BYTES] for place in range(start, start + total * _ID_BYTES, _ID_BYTES)]


def _head(kind: int, size: int) -> bytes:
    """Return kind and size: four bits of the size, then seven in each further byte, least first."""
    head, size = bytearray([kind << 4 | size & 15]), size >> 4
    while size:
        head[-1] |= 128
        head.append(size & 127)
        size >>= 7
    return bytes(head)


def _index(places: Sequence[tuple[bytes, int, int]], checksum: bytes) -> bytes:
    counts = [0] * 256
    for oid, _, _ in places:
        counts[oid[0]] += 1
    total, fanout = 0, list[int]()
    for count in counts:
        total += count
        fanout.append(total)
    index = b"\xfftOc" + struct.pack(">L256L", 2, *fanout)
    index += b"".join(oid for oid, _, _ in places)
    index += struct.pack(f">{total}L", *(crc for _, crc, _ in places))
    # Enough for 2 GiB, twice of what a plan may hold.
    index += struct.pack(f">{total}L", *(start for _, _, start in places))
    index += checksum
    return index + hashlib.sha1(index, usedforsecurity=False).digest()
