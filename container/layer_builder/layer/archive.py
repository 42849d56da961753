"""The merge: wheels into one zip, by copying their compressed bytes as they are.

Nothing is inflated and nothing deflated, so it takes about as long as copying the files, and the bytes that
come out depend on the wheels alone: entries in a fixed order with a fixed date, and what is made here is
stored, not compressed, so that no version of zlib shows.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import stat
import struct
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from layer_builder.ground.errors import UnsafeWheelError
from layer_builder.layer import layout, shadows
from layer_builder.layer.precedence import ranked
from layer_builder.wheels import paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from layer_builder.ground.target import Target
    from layer_builder.layer.layout import Entry
    from layer_builder.wheels.wheel import Member, Wheel

# Raise it when the same wheels would give other bytes, or are judged more strictly than those that went into
# the layers that are there: it is part of a layer's digest.
FORMAT = 3

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_DIRECTORY_HEADER = struct.Struct("<4s6H3L5H2L")
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")
_UNIX = 3 << 8
_VERSION, _VERSION64 = 20, 45
_UTF8_NAME = 0x800
_DATE = 1 << 5 | 1  # 1980-01-01, the first day that a zip can name
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What a layer will hold: its entries in their final order, what to know about them, sizes by package."""

    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]
    sizes: dict[str, int]

    @property
    def unzipped_bytes(self) -> int:
        """The sum of the files' lengths: what Lambda counts against its limit."""
        return sum(self.sizes.values())


@dataclass(frozen=True, slots=True)
class Written:
    """A zip that has been written: its length, and its SHA-256 in base64, as Lambda shows it."""

    bytes: int
    code_sha256: str


def plan(wheels: Sequence[Wheel], target: Target) -> Plan:
    """Decide what goes into the layer and where.

    Only what two wheels have at the same path is read, and files that Python runs unasked (`.pth`).

    Raises:
        UnsafeWheelError: the packages cannot lie in one folder.
    """
    by_path: dict[str, Entry] = {}
    losers: dict[tuple[str, str], list[str]] = defaultdict(list)
    rank: dict[str, int] = {}
    for wheel in sorted(wheels, key=lambda wheel: wheel.pick.name):
        for entry in layout.entries(wheel, target):
            other = by_path.setdefault(entry.path, entry)
            if other is entry:
                continue
            rank = rank or {name: place for place, name in enumerate(ranked(wheels, target))}
            kept, dropped = sorted((entry, other), key=lambda one: rank[one.wheel.pick.name])
            by_path[entry.path] = kept
            if not _are_equal(kept, dropped):
                losers[kept.wheel.pick.name, dropped.wheel.pick.name].append(entry.path)
    _check_folders(by_path)
    warnings = [_conflict(*pair, paths) for pair, paths in sorted(losers.items())]
    warnings += shadows.warnings(by_path, target)
    ordered = tuple(sorted(by_path.values(), key=lambda entry: (entry.wheel.pick.name, entry.path)))
    sizes = {wheel.pick.name: 0 for wheel in wheels}
    for entry in ordered:
        sizes[entry.wheel.pick.name] += entry.size
    return Plan(ordered, tuple(warnings), sizes)


def write(plan: Plan, file: BinaryIO) -> Written:
    """Write the zip to an open, empty file.

    Raises:
        UnsafeWheelError: a file would lie where a layer has nothing, whatever let it pass until here.
        OSError: the file cannot be written, or a wheel not read.
    """
    for entry in plan.entries:
        if fault := paths.layer_fault(entry.path):
            pick = entry.wheel.pick
            raise UnsafeWheelError(
                f"The layer cannot have {entry.path!r} of {pick.filename}: that {fault}.",
                hint=f"Take another version of {pick.name}, and tell its authors.",
                details={"package": pick.name, "wheel": pick.filename, "path": entry.path},
            )
    return pack(plan.entries, file)


def pack(entries: Sequence[Entry], file: BinaryIO) -> Written:
    """Write a zip of entries that is no layer, to an open, empty file.

    Raises:
        OSError: the file cannot be written, or a wheel not read.
    """
    return _Writer(file).write(entries)


def _are_equal(one: Entry, other: Entry) -> bool:
    """Compare two files by content: anybody can make a CRC-32 come out as wanted."""
    if (one.crc, one.size) != (other.crc, other.size):
        return False
    return one.size == 0 or _sha256(one) == _sha256(other)


def _sha256(entry: Entry) -> bytes:
    digest = hashlib.sha256()
    if entry.member and entry.member.method not in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        digest.update(b"compressed in another way, so that it only equals what is compressed as it is")
    entry.feed(digest.update)
    return digest.digest()


def _check_folders(by_path: dict[str, Entry]) -> None:
    folders: dict[str, Entry] = {}
    for path, entry in by_path.items():
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = entry
            folder = folder.rpartition("/")[0]
    for path in by_path.keys() & folders.keys():
        one, two = by_path[path].wheel.pick.filename, folders[path].wheel.pick.filename
        raise UnsafeWheelError(
            f"{path} is a file in {one} and a folder in {two}, so they cannot be in one layer.",
            hint="Put the two packages into two layers.",
            details={"path": path, "wheels": [one, two]},
        )


def _conflict(kept: str, dropped: str, paths: list[str]) -> str:
    files = f"{paths[0]} is" if len(paths) == 1 else f"{len(paths)} files, such as {min(paths)}, are"
    return f"{files} in both {kept} and {dropped}; the layer has the one of {kept}, as with pip."


class _Writer:
    """Writes a zip front to back, hashing what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._written = 0

    def write(self, entries: Sequence[Entry]) -> Written:
        directory = bytearray()
        for wheel, group in itertools.groupby(entries, key=lambda entry: entry.wheel):
            with wheel.file.open("rb") as source:
                for entry in group:
                    directory += self._add(entry, source.fileno())
        start = self._position
        self._put(directory)
        for part in _end(len(entries), len(directory), start):
            self._put(part)
        self._flush()
        return Written(self._written, base64.b64encode(self._digest.digest()).decode())

    def _add(self, entry: Entry, source: int) -> bytes:
        """Write one entry; return its row of the directory."""
        name, position, member = entry.path.encode(), self._position, entry.member
        method, compressed = zipfile.ZIP_STORED, entry.size
        content: Iterable[bytes]
        if member is None:
            content = (entry.made,)
        elif member.method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            method, compressed = member.method, member.compressed
            content = _raw(source, member)
        else:  # zip knows more methods than those who unpack layers may
            content = _inflated(entry.wheel, member)
        flags = 0 if entry.path.isascii() else _UTF8_NAME
        common = (flags, method, 0, _DATE, entry.crc, compressed, entry.size, len(name), 0)
        mode = (stat.S_IFREG | (0o755 if entry.executable else 0o644)) << 16
        self._put(_LOCAL_HEADER.pack(b"PK\3\4", _VERSION, *common) + name)
        for chunk in content:
            self._put(chunk)
        row = _DIRECTORY_HEADER.pack(b"PK\1\2", _UNIX | _VERSION, _VERSION, *common, 0, 0, 0, mode, position)
        return row + name

    @property
    def _position(self) -> int:
        return self._written + len(self._buffer)

    def _put(self, data: bytes | bytearray) -> None:
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        self._digest.update(self._buffer)
        view = memoryview(self._buffer)
        while view:
            view = view[self._file.write(view) :]
        self._written += len(self._buffer)
        self._buffer = bytearray()


def _raw(source: int, member: Member) -> Iterator[bytes]:
    """Read a member's bytes as they are in the wheel."""
    offset, length = member.offset, member.compressed
    while length:
        chunk = os.pread(source, min(length, _BUFFER), offset)
        if not chunk:
            raise OSError(f"the wheel ends within {member.path}")
        yield chunk
        offset, length = offset + len(chunk), length - len(chunk)


def _inflated(wheel: Wheel, member: Member) -> Iterator[bytes]:
    with zipfile.ZipFile(wheel.file) as archive, archive.open(member.path) as content:
        while chunk := content.read(_BUFFER):
            yield chunk


def _end(count: int, size: int, start: int) -> Iterator[bytes]:
    """End the zip; from 65,535 entries on with the zip64 records (lengths stay far below 4 GiB)."""
    if count >= _MAX16:
        yield _END64.pack(
            b"PK\6\6", _END64.size - 12, _UNIX | _VERSION64, _VERSION64, 0, 0, count, count, size, start
        )
        yield _END64_LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
    shown = min(count, _MAX16)
    yield _END.pack(b"PK\5\6", 0, 0, shown, shown, size, start, 0)
