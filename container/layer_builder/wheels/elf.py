"""What the ELF files of a wheel say about themselves: machine, needed libraries, search paths, version needs.

Facts are a pure function of the wheel's bytes, so they are found once per wheel and kept as JSON beside it.
pyelftools reads the structures; only program headers and the dynamic segment are looked at, as the dynamic
loader does it, since section headers may be stripped (System V gABI, chapter 5). Files are inflated to disk,
never into memory.
"""

from __future__ import annotations

import errno
import json
import lzma
import os
import re
import tempfile
import zipfile
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal

from layer_builder.ground import files
from layer_builder.ground.errors import UnsafeWheelError, WheelTooComplexError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Self

Kind = Literal["library", "executable", "other", "broken"]

FORMAT = 2  # of the JSON; raise it when facts are added or found differently

# What the native files of a wheel, or of a layer, may name: see `weight`. The largest real ones, of VTK and
# Qt, come to less than half of it. Reading so much takes some seconds, and what is found some 30 MB.
MAX_WEIGHT = 100_000

_MAGIC = b"\x7fELF"
_CHUNK = 1 << 18  # bytes
# Bounds on what a hostile file may make us read. Real files have some 60 tags, 30 needs and 300-byte paths.
_MAX_SEGMENTS = 256
_MAX_TAGS = 4096
_CHARACTERS = 64  # of a text, for which it weighs one more
_FILE_WEIGHT = 20
_USUAL_STRING = 256
_MAX_STRING = 1 << 16
_PF_EXECUTE = 0x1
_DF_1_PIE = 0x08000000
_VER_FLG_WEAK = 0x2
_VERSION = re.compile(r"([A-Za-z]+)_(\d+(?:\.\d+)*)")
# Names of extension modules, such as _core.cpython-313-x86_64-linux-gnu.so, _rust.abi3.so, speedups.so.
_MODULE_NAME = re.compile(r"([A-Za-z_]\w*)(?:\.(?:cpython-[\w-]+|abi3t?))?\.so", re.ASCII)


@dataclass(frozen=True, slots=True)
class VersionNeed:
    """The highest version of one family that a file needs of one library, as the loader will check it.

    Attributes:
        library: the soname that must define it, such as `libc.so.6`.
        family: `GLIBC`, `GLIBCXX`, `CXXABI` …; the whole name when it is no number: `GLIBC_PRIVATE`.
        version: `2.34`; empty when the name is no number.
    """

    library: str
    family: str
    version: str

    def __str__(self) -> str:
        return f"{self.family}_{self.version}" if self.version else self.family

    @property
    def number(self) -> tuple[int, ...]:
        """The version to compare by: (2, 34); empty when there is none."""
        return tuple(map(int, self.version.split("."))) if self.version else ()


@dataclass(frozen=True, slots=True)
class ElfFacts:
    """One ELF file.

    Attributes:
        path: its place in the wheel.
        machine: `x86_64`, `aarch64`, else pyelftools' name in lower case (`arm`, `386`), `x86_64-x32` and
            `aarch64_be` for the odd variants; empty when broken.
        kind: `library` (can be loaded), `executable` (a program), `other` (object files, core dumps, separate
            debug information), `broken` (has ELF's magic and is no readable ELF file).
        needed: DT_NEEDED, in order.
        soname: DT_SONAME.
        rpath: DT_RPATH's folders.
        runpath: DT_RUNPATH's folders; None when there is no such tag, which is not the same as an empty one:
            its presence switches every DT_RPATH off.
        versions: what it needs of the versions that its libraries define, weak needs left out.
        interpreter: PT_INTERP, a program's dynamic loader.
        is_module: it defines `PyInit_<its name>`, so Python can import it.
        size: bytes.
    """

    path: str
    machine: str
    kind: Kind
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] | None = None
    versions: tuple[VersionNeed, ...] = ()
    interpreter: str | None = None
    is_module: bool = False
    size: int = 0


def weight(facts: Iterable[ElfFacts]) -> int:
    """Sum up what files name: libraries, versions, folders, and the lengths of these names.

    Facts are held in memory of all files of a layer at once, and the work to judge them grows with them.
    """
    return sum(
        _FILE_WEIGHT
        + sum(_weight(name) for name in (*fact.needed, *fact.rpath, *(fact.runpath or ())))
        + sum(_weight(need.library) + _weight(need.family) for need in fact.versions)
        for fact in facts
    )


def load(file: Path, scratch: Path | None = None) -> tuple[ElfFacts, ...]:
    """Return the facts of a wheel in the cache: those kept beside it, else scan it and keep them.

    Raises:
        UnsafeWheelError, WheelTooComplexError, OSError: as `scan`.
    """
    with suppress(OSError):
        if (kept := from_json(_record(file).read_text(encoding="utf-8"))) is not None:
            return kept
    found = scan(file, scratch)
    keep(file, found)
    return found


def keep(file: Path, facts: Iterable[ElfFacts]) -> None:
    """Keep a wheel's facts beside it, for `load` to find.

    Raises:
        OSError: the cache cannot be written.
    """
    files.write_atomically(_record(file), to_json(facts).encode())


def _record(file: Path) -> Path:
    return file.with_name(f"elf-{FORMAT}.json")


def scan(wheel: Path, scratch: Path | None = None) -> tuple[ElfFacts, ...]:
    """Return the facts of every ELF file in a wheel (or any zip), by path.

    Of each member a few bytes are inflated to see the magic; the ELF files then go through a temporary file
    in `scratch` (default: the system's folder for them), so memory stays small whatever their size.

    Raises:
        UnsafeWheelError: the wheel is no readable zip, or a member's data is damaged.
        WheelTooComplexError: its files name more than `MAX_WEIGHT`.
        OSError: the wheel or the temporary file cannot be read or written.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, Collector(scratch, wheel.name) as collector:
            # Of members with the same name the last one counts, as for every reader of zips.
            for member in {member.filename: member for member in archive.infolist()}.values():
                if not member.is_dir():
                    _collect(archive, member, collector)
            return collector.facts
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise UnsafeWheelError(
            f"The wheel {wheel.name} is refused: it is no intact zip file ({error}).",
            hint="Take another version of the package.",
            details={"wheel": wheel.name},
        ) from error


class Collector:
    """Finds the ELF files among members that someone else inflates, chunk by chunk; to be closed after use.

    Whoever goes through a wheel anyhow (to check it) calls `start`, `write` for each chunk, and `finish` for
    every member, and has the wheel's facts in the end without inflating it a second time.
    """

    def __init__(self, scratch: Path | None = None, wheel: str = "") -> None:
        self._scratch = scratch
        self._wheel = wheel
        self._work = _Work()
        self._spool: IO[bytes] | None = None
        self._facts: list[ElfFacts] = []
        self._path = ""
        self._head = b""
        self._state: Literal["undecided", "elf", "other"] = "other"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spool:
            self._spool.close()

    @property
    def facts(self) -> tuple[ElfFacts, ...]:
        """The facts found so far, by path."""
        return tuple(sorted(self._facts, key=lambda fact: fact.path))

    @property
    def wants_more(self) -> bool:
        """Whether the rest of the present member is of interest: it may be an ELF file."""
        return self._state != "other"

    def start(self, path: str) -> None:
        """Begin with the member of this path."""
        self._path, self._head, self._state = path, b"", "undecided"

    def write(self, chunk: bytes) -> None:
        """Take the member's next bytes."""
        if self._state == "undecided":
            chunk = self._head = self._head + chunk
            if len(chunk) < len(_MAGIC):
                return
            self._state = "elf" if chunk.startswith(_MAGIC) else "other"
            if self._state == "elf":
                self._spool = self._spool or tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115
                self._spool.seek(0)
                self._spool.truncate()
            self._head = b""
        if self._state == "elf" and self._spool:
            self._spool.write(chunk)

    def finish(self) -> None:
        """End the member.

        Raises:
            WheelTooComplexError: with it, the files name more than `MAX_WEIGHT`.
        """
        if self._state == "elf" and self._spool:
            try:
                self._facts.append(_read(self._spool, self._path, self._work))
            except _TooMuchError:
                raise WheelTooComplexError.of(
                    self._wheel, f"{self._path} makes too many libraries, versions and paths in native files"
                ) from None
        self._state = "other"


def read(stream: IO[bytes], path: str) -> ElfFacts:
    """Return the facts of one open, seekable ELF file that will be known as `path`, whatever is in it.

    Raises:
        WheelTooComplexError: it names more than `MAX_WEIGHT`.
        OSError: the file cannot be read.
    """
    try:
        return _read(stream, path, _Work())
    except _TooMuchError:
        raise WheelTooComplexError.of(path, "it names too many libraries, versions and paths") from None


def _read(stream: IO[bytes], path: str, work: _Work) -> ElfFacts:
    from elftools.common.exceptions import ELFError

    size = stream.seek(0, os.SEEK_END)
    work.spend(_FILE_WEIGHT)
    try:
        return _Reader(_opener()(stream), stream, work).facts(path, size)
    except (ELFError, _NotReadableError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError):
        pass  # what pyelftools makes of nonsensical lengths and offsets
    except OSError as error:
        if error.errno != errno.EINVAL:  # an offset that no file can have
            raise
    return ElfFacts(path, machine="", kind="broken", size=size)


@cache
def _opener() -> Callable[[IO[bytes]], Any]:
    """Open ELF files as ELFFile does, but for its parsers, which it makes anew each time, at great length."""
    from elftools.elf.elffile import ELFFile

    class Opened(ELFFile):
        def __init__(self, stream: IO[bytes]) -> None:
            self.stream = stream
            self._identify_file()
            self.structs = _parsers(self.little_endian, self.elfclass)
            self.header = self._parse_elf_header()
            kind = self["e_type"], self["e_machine"], self["e_ident"]["EI_OSABI"]
            self.structs = _parsers(self.little_endian, self.elfclass, kind)

    return Opened


@lru_cache(maxsize=32)
def _parsers(little_endian: bool, bits: int, kind: tuple[Any, Any, Any] | None = None) -> Any:
    """Make what parses an ELF header, or with its kind all else: type, machine and operating system."""
    from elftools.elf.structs import ELFStructs

    structs = ELFStructs(little_endian, bits)
    structs.create_basic_structs()
    if kind:
        structs.create_advanced_structs(*kind)
    return structs


def to_json(facts: Iterable[ElfFacts]) -> str:
    """Write facts down, to be kept with the wheel."""
    return json.dumps({"format": FORMAT, "files": [asdict(fact) for fact in facts]}, separators=(",", ":"))


def from_json(text: str) -> tuple[ElfFacts, ...] | None:
    """Read what `to_json` wrote; None when it is of another format, or no such text: scan the wheel again."""
    try:
        document = json.loads(text)
        return tuple(map(_revive, document["files"])) if document["format"] == FORMAT else None
    except (ValueError, TypeError, KeyError):
        return None


def _revive(fields: dict[str, Any]) -> ElfFacts:
    lists = {name: tuple(fields[name]) for name in ("needed", "rpath")}
    runpath = None if fields["runpath"] is None else tuple(fields["runpath"])
    versions = tuple(VersionNeed(**need) for need in fields["versions"])
    return ElfFacts(**{**fields, **lists, "runpath": runpath, "versions": versions})


def _collect(archive: zipfile.ZipFile, member: zipfile.ZipInfo, collector: Collector) -> None:
    with archive.open(member) as data:
        collector.start(member.filename)
        chunk = data.read(len(_MAGIC))
        while chunk:
            collector.write(chunk)
            chunk = data.read(_CHUNK) if collector.wants_more else b""
        collector.finish()


class _NotReadableError(Exception):
    """The file's structures point outside it, or are larger than any real file's."""


class _TooMuchError(Exception):
    """There is more to read than in any real wheel."""


class _Work:
    """What may still be read of a wheel: structures, and names by their length."""

    def __init__(self) -> None:
        self._left = MAX_WEIGHT

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _TooMuchError


def _weight(name: str) -> int:
    return 1 + len(name) // _CHARACTERS


class _Reader:
    """Reads one file's program headers and dynamic segment."""

    def __init__(self, elf: Any, stream: IO[bytes], work: _Work) -> None:
        self._elf = elf
        self._stream = stream
        self._work = work
        self._segments = self._read_segments()
        self._tags = self._read_tags()
        self._strings = self._offset(self._tag("DT_STRTAB")) if self._tags else 0

    def facts(self, path: str, size: int) -> ElfFacts:
        runpath = self._tag("DT_RUNPATH")
        kind = self._kind(path)
        return ElfFacts(
            path,
            machine=self._machine(),
            kind=kind,
            needed=tuple(self._string(offset) for tag, offset in self._tags if tag == "DT_NEEDED"),
            soname=self._named("DT_SONAME"),
            rpath=_folders(self._named("DT_RPATH")),
            runpath=None if runpath is None else _folders(self._string(runpath)),
            versions=self._versions(),
            interpreter=self._interpreter(),
            is_module=kind == "library" and self._is_module(path),
            size=size,
        )

    def _machine(self) -> str:
        name = str(self._elf.header["e_machine"]).removeprefix("EM_").lower()
        if name == "x86_64" and self._elf.elfclass == 32:
            return "x86_64-x32"
        if name == "aarch64" and not (self._elf.little_endian and self._elf.elfclass == 64):
            return "aarch64_be" if self._elf.elfclass == 64 else "aarch64_ilp32"
        return name

    def _kind(self, path: str) -> Kind:
        kind = self._elf.header["e_type"]
        if kind == "ET_EXEC":
            return "executable"
        # A file of separate debug information keeps the headers and not the contents of what it belongs to.
        if kind != "ET_DYN" or not self._tags:
            return "other"
        if (self._tag("DT_FLAGS_1") or 0) & _DF_1_PIE:
            return "executable"
        # Some libraries are programs too (libc.so.6 prints its version): their name decides.
        named_library = ".so" in PurePosixPath(path).name
        return "executable" if self._interpreter() and not named_library else "library"

    def _read_segments(self) -> list[Any]:
        from elftools.common.utils import struct_parse

        # Not ELFFile.iter_segments: it would go through every section header for a dynamic segment.
        count, header = self._elf.header["e_phnum"], self._elf.header
        if count > _MAX_SEGMENTS:
            raise _NotReadableError
        self._work.spend(count)
        return [
            struct_parse(
                self._elf.structs.Elf_Phdr, self._stream, header["e_phoff"] + index * header["e_phentsize"]
            )
            for index in range(count)
        ]

    def _read_tags(self) -> list[tuple[str | int, int]]:
        from elftools.common.utils import struct_parse

        layout = self._elf.structs.Elf_Dyn
        size = layout.sizeof()
        for segment in self._segments:
            if segment["p_type"] != "PT_DYNAMIC" or not segment["p_filesz"]:
                continue
            tags = []
            for index in range(min(segment["p_filesz"] // size, _MAX_TAGS)):
                entry = struct_parse(layout, self._stream, segment["p_offset"] + index * size)
                if entry["d_tag"] == "DT_NULL":
                    break
                self._work.spend(1)
                tags.append((entry["d_tag"], entry["d_val"]))
            return tags
        return []

    def _tag(self, name: str) -> int | None:
        return next((value for tag, value in self._tags if tag == name), None)

    def _named(self, name: str) -> str | None:
        offset = self._tag(name)
        return None if offset is None else self._string(offset)

    def _offset(self, address: int | None) -> int:
        """Find where in the file an address of the loaded program is."""
        for segment in self._segments:
            if address is not None and segment["p_type"] == "PT_LOAD":
                distance = address - segment["p_vaddr"]
                if 0 <= distance < segment["p_filesz"]:
                    return int(segment["p_offset"] + distance)
        raise _NotReadableError

    def _string(self, offset: int) -> str:
        for length in (_USUAL_STRING, _MAX_STRING):
            self._stream.seek(self._strings + offset)
            text, end, _ = self._stream.read(length).partition(b"\0")
            if end:
                found = text.decode("utf-8", "backslashreplace")
                self._work.spend(_weight(found))
                return found
        raise _NotReadableError

    def _interpreter(self) -> str | None:
        for segment in self._segments:
            if segment["p_type"] == "PT_INTERP":
                self._stream.seek(segment["p_offset"])
                name = self._stream.read(min(segment["p_filesz"], _MAX_STRING)).partition(b"\0")[0]
                return name.decode("ascii", "replace") or None
        return None

    def _versions(self) -> tuple[VersionNeed, ...]:
        """Read the version needs (LSB Core, "Symbol Versioning"), the highest of each library and family."""
        from elftools.common.utils import struct_parse

        start, count = self._tag("DT_VERNEED"), self._tag("DT_VERNEEDNUM")
        if start is None or not count:
            return ()
        highest: dict[tuple[str, str], VersionNeed] = {}
        position = self._offset(start)
        for _ in range(count):
            library = struct_parse(self._elf.structs.Elf_Verneed, self._stream, position)
            soname, entry = self._string(library["vn_file"]), position + library["vn_aux"]
            for _ in range(library["vn_cnt"]):
                self._work.spend(1)
                version = struct_parse(self._elf.structs.Elf_Vernaux, self._stream, entry)
                if not version["vna_flags"] & _VER_FLG_WEAK:
                    need = _version_need(soname, self._string(version["vna_name"]))
                    self._work.spend(_weight(soname))
                    key = (soname, need.family)
                    highest[key] = max(highest.get(key, need), need, key=lambda item: item.number)
                if not version["vna_next"]:
                    break
                entry += version["vna_next"]
            if not library["vn_next"]:
                break
            position += library["vn_next"]
        return tuple(highest[key] for key in sorted(highest))

    def _is_module(self, path: str) -> bool:
        """Look for the module's entry point among the names of the dynamic symbols."""
        name = _MODULE_NAME.fullmatch(PurePosixPath(path).name)
        if not name:
            return False
        symbol = f"PyInit_{name[1]}\0".encode()
        left, tail = self._tag("DT_STRSZ") or 0, b""
        self._stream.seek(self._strings)
        while left > 0:
            chunk = self._stream.read(min(left, _CHUNK))
            if not chunk:
                break
            if symbol in tail + chunk:
                return True
            tail = chunk[-len(symbol) :]
            left -= len(chunk)
        return False


def _folders(path: str | None) -> tuple[str, ...]:
    return tuple(path.split(":")) if path else ()


def _version_need(library: str, name: str) -> VersionNeed:
    if match := _VERSION.fullmatch(name):
        return VersionNeed(library, match[1], match[2])
    return VersionNeed(library, name, "")
