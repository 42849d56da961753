"""Makes ELF files that no compiler makes: as many needs, versions and search paths as one likes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_BASE = 64 + 2 * 56  # behind the header and two program headers
_NEEDED, _STRTAB, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
_VERNEED, _VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
X86_64, AARCH64 = 62, 183


@dataclass
class Elf:
    """A shared library for 64-bit machines.

    Attributes:
        needed: DT_NEEDED, each string of its own in the file unless it is there already.
        repeated: how often each need is listed.
        symbols: further strings of the table, such as `PyInit_x`.
        versions: the version needs' bytes, and how many libraries they claim to be of.
    """

    needed: list[str] = field(default_factory=list)
    repeated: int = 1
    soname: str = ""
    rpath: str = ""
    runpath: str = ""
    symbols: list[str] = field(default_factory=list)
    versions: tuple[bytes, int] = (b"", 0)
    machine: int = AARCH64

    def content(self) -> bytes:
        strings, places = bytearray(b"\0"), {"": 0}

        def place(text: str) -> int:
            if text not in places:
                places[text] = len(strings)
                strings.extend(text.encode() + b"\0")
            return places[text]

        tags = [(_NEEDED, place(name)) for name in self.needed for _ in range(self.repeated)]
        for tag, text in ((_SONAME, self.soname), (_RPATH, self.rpath), (_RUNPATH, self.runpath)):
            if text:
                tags.append((tag, place(text)))
        for symbol in self.symbols:
            place(symbol)
        needs, count = self.versions
        if count:
            tags += [(_VERNEED, _BASE), (_VERNEEDNUM, count)]
        tags += [(_STRTAB, _BASE + len(needs)), (10, len(strings))]
        dynamic = b"".join(struct.pack("<2Q", *tag) for tag in [*tags, (0, 0)])
        start = _BASE + len(needs) + len(strings)
        size = start + len(dynamic)
        header = struct.pack(
            "<16s2HL3QL6H", b"\x7fELF\2\1\1", 3, self.machine, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0
        )
        load = struct.pack("<2L6Q", 1, 5, 0, 0, 0, size, size, 4096)
        segment = struct.pack("<2L6Q", 2, 6, start, start, start, len(dynamic), len(dynamic), 8)
        return header + load + segment + needs + bytes(strings) + dynamic


def library_versions(count: int) -> bytes:
    """Write so many Elf64_Verneed without any version, each pointing to the next."""
    return b"".join(struct.pack("<2H3L", 1, 0, 0, 16, 16) for _ in range(count))


def versions_of_one(count: int, names: int = 0, step: int = 0) -> bytes:
    """Write one library, called by the table's first string, that needs so many versions.

    Their names are in the table from `names` on, in steps; by default the empty one each.
    """
    rows = (struct.pack("<L2H2L", 0, 0, 0, names + step * row, 16) for row in range(count))
    return struct.pack("<2H3L", 1, 0xFFFF, 1, 16, 0) + b"".join(rows)
