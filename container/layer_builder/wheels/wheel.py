"""One wheel: what is inside, and whether it can be trusted to be what it says.

A wheel is a zip (PEP 427). Its members are not unpacked here, only found: where their compressed bytes lie,
so that these can be copied as they are. Every member is inflated once, when the wheel is first seen, to prove
that lengths and checksums hold; the findings are kept beside the wheel in the cache.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from zlib_ng import zlib_ng

from layer_builder.ground import files
from layer_builder.ground.errors import LayerTooLargeError, UnsafeWheelError, WheelTooComplexError
from layer_builder.ground.limits import MAX_UNZIPPED_BYTES
from layer_builder.wheels import gpu, paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from layer_builder.wheels.elf import Collector
    from layer_builder.wheels.pick import Pick

_RECORD_FORMAT = 3  # raise it when wheels are found otherwise, or judged more strictly
_RECORD_NAME = f"contents-{_RECORD_FORMAT}.json"
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_USUAL_NAME = 512  # bytes that name and extra field of most members do not exceed
_EXTRA_HEADER = struct.Struct("<2H")
_UNICODE_PATH = 0x7075  # Info-ZIP's, which gives a member another name (APPNOTE.TXT 4.6.9)
_UNICODE_PATH_NAME = 5  # bytes before the name there: a version and a checksum
_UTF8_NAME = 0x800
# How hard it was compressed, lengths after the data, a UTF-8 name; the others are encryption and patches.
_HARMLESS_FLAGS = 0x2 | 0x4 | 0x8 | _UTF8_NAME
_CHUNK = 1 << 18
_BROKEN: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    zlib_ng.error,  # type: ignore[assignment]  # its stub calls the class an instance
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    UnicodeError,
    csv.Error,
)
# Bytes that we read as a whole; of real wheels, READMEs and some ten thousand files make the longest.
_MAX_TEXT = {"METADATA": 4 << 20, "WHEEL": 1 << 18, "RECORD": 16 << 20, "entry_points.txt": 1 << 20}
_MAX_ROWS = 200_000  # of RECORD
_MAX_ROW = 16 << 10  # characters: a path, its digest and a length
_MAX_LICENSE = 256  # characters
# A field's name, and those that count: https://packaging.python.org/en/latest/specifications/core-metadata/
_FIELD = re.compile(rb"([!-9;-~]*):")
_FIELDS_READ = frozenset(
    b"metadata-version name version license license-expression classifier requires-dist".split()
)
_MAX_FIELD_LINES = 20_000  # a license can be a text of hundreds
_SCRIPT = re.compile(r"^(?P<module>[\w.]+)\s*:\s*(?P<attribute>[\w.]+)\s*(?:\[.*\])?$")


class Member(NamedTuple):
    """A file inside a wheel: its path there, and where and how its bytes lie in the wheel.

    A tuple, because a layer can have tens of thousands and they are read from JSON at every build.
    """

    path: str
    executable: bool
    method: int
    crc: int
    compressed: int
    size: int
    offset: int


class Script(NamedTuple):
    """A command that the wheel asks for: `name` calls `attribute` of `module`."""

    name: str
    module: str
    attribute: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel in the cache, verified.

    Attributes:
        pick: what was chosen: name, version, file name, digest.
        file: where the wheel is.
        license: as the metadata has it, shortened; None if it says nothing.
        requires: the metadata's Requires-Dist lines.
        dist_info: the name of the `.dist-info` folder.
        scripts: its console and GUI entry points.
        members: its files, in the wheel's order, each path once.
    """

    pick: Pick
    file: Path
    license: str | None
    requires: tuple[str, ...]
    dist_info: str
    scripts: tuple[Script, ...]
    members: tuple[Member, ...]

    @property
    def unzipped_bytes(self) -> int:
        """The sum of the files' lengths."""
        return sum(member.size for member in self.members)

    def read(self, path: str, length: int = -1) -> bytes:
        """Inflate one member, or its first bytes."""
        with zipfile.ZipFile(self.file) as archive, archive.open(path) as content:
            return content.read(length)

    def feed(self, member: Member, take: Callable[[bytes], object]) -> None:
        """Hand over a member's content, piece by piece; of odd methods of zip, the compressed one.

        It is read from where it is known to lie: to open the zip takes as long as it has members.
        """
        with self.file.open("rb") as stream:
            if member.method == zipfile.ZIP_DEFLATED:
                _inflated(self.pick, stream.fileno(), member, take)
            else:
                _copied(stream.fileno(), member, take)

    def record(self, path: str) -> list[list[str]]:
        """Read the RECORD at `path`: rows of a path, its digest, its length."""
        return _rows(self.read(path))


def load(pick: Pick, file: Path) -> Wheel:
    """Take a wheel from the cache; verify it first if nobody has.

    Raises:
        UnsafeWheelError: the wheel is broken, lies about its contents, or would write outside its place.
        WheelTooComplexError: reading it takes more than any real one does.
        LayerTooLargeError: it alone is more than Lambda takes.
    """
    record = file.with_name(_RECORD_NAME)
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _from_json(json.loads(record.read_bytes()), pick, file)
    from layer_builder.wheels import elf

    with elf.Collector(wheel=pick.filename) as collector:  # while everything is inflated anyhow
        wheel = verify(pick, file, collector)
        elf.keep(file, collector.facts)
    files.write_atomically(record, json.dumps(_to_json(wheel), separators=(",", ":")).encode())
    return wheel


def verify(pick: Pick, file: Path, collector: Collector | None = None) -> Wheel:
    """Read a wheel and check everything there is to check, inflating each member once.

    Args:
        pick: what it should be.
        file: where it is.
        collector: gets to see each member, to find the native files.

    Raises:
        UnsafeWheelError, WheelTooComplexError, LayerTooLargeError: as `load`.
    """
    try:
        with file.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                _check_path(pick, info.orig_filename.removesuffix("/"))
                _check_name(pick, info)
            # The last of several members of one name counts, as it does for zipfile and so for pip.
            infos = {info.filename: info for info in archive.infolist()}
            infos = {path: info for path, info in infos.items() if not path.endswith("/")}
            _check_sizes(pick, infos.values())
            _check_texts(pick, infos)
            members = tuple(_members(pick, stream, infos.values()))
            for info, member in zip(infos.values(), members, strict=True):
                if collector:
                    collector.start(member.path)
                _check_content(pick, stream, archive, info, member, collector.write if collector else _drop)
                if collector:
                    collector.finish()
            dist_info = _dist_info(pick, infos)
            license_, requires = _metadata(pick, archive.read(f"{dist_info}/METADATA"))
            _check_format(pick, archive.read(f"{dist_info}/WHEEL"))
            rows = len(_rows(archive.read(f"{dist_info}/RECORD")))
            if rows > _MAX_ROWS:
                raise WheelTooComplexError.of(pick.filename, f"its RECORD has more than {_MAX_ROWS:,} rows")
            scripts = tuple(_scripts(pick, archive, f"{dist_info}/entry_points.txt"))
    except _BROKEN as error:
        raise _unsafe(pick, f"it is no intact wheel ({error})") from error
    return Wheel(pick, file, license_, requires, dist_info, scripts, members)


def _check_sizes(pick: Pick, infos: Iterable[zipfile.ZipInfo]) -> None:
    """Sum what the wheel says it will unzip to, before any of it is inflated."""
    total = sum(info.file_size for info in infos)
    if total > (gpu.MAX_UNZIPPED_BYTES if gpu.is_gpu(pick.name) else MAX_UNZIPPED_BYTES):
        raise LayerTooLargeError(
            f"{pick.name} {pick.version} alone unzips to {total:,} bytes; "
            f"Lambda takes {MAX_UNZIPPED_BYTES:,} for a function with all its layers.",
            hint="Take a smaller package, or a container image function.",
            details={"unzipped_bytes": total, "limit": MAX_UNZIPPED_BYTES, "packages": {pick.name: total}},
        )


def _members(pick: Pick, stream: BinaryIO, infos: Iterable[zipfile.ZipInfo]) -> Iterator[Member]:
    """Find each member's bytes, checking that directory and headers agree and no two share bytes."""
    taken: list[tuple[int, int, str]] = []
    length = os.fstat(stream.fileno()).st_size
    for info in infos:
        path, mode = info.filename, info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _unsafe(pick, f"{path!r} is not a plain file but a link or a device")
        if not 0 <= info.header_offset < length:
            raise _unsafe(pick, f"{path!r} lies outside of it")
        offset = _offset(pick, stream.fileno(), info)
        taken.append((info.header_offset, offset + info.compress_size, path))
        executable = bool(mode & 0o111)
        yield Member(
            path, executable, info.compress_type, info.CRC, info.compress_size, info.file_size, offset
        )
    taken.sort()
    for (_, stop, path), (start, _, other) in itertools.pairwise(taken):
        if stop > start:
            raise _unsafe(pick, f"{path!r} and {other!r} overlap")
    if taken and taken[-1][1] > length:
        raise _unsafe(pick, f"it ends within {taken[-1][2]!r}")


def _offset(pick: Pick, descriptor: int, info: zipfile.ZipInfo) -> int:
    """Find where a member's data begins: behind its header, which must say what the directory says."""
    path = info.filename
    start = info.header_offset + _LOCAL_HEADER.size
    header = os.pread(descriptor, _LOCAL_HEADER.size + _USUAL_NAME, info.header_offset)
    signature, _, flags, method, *_, name_length, extra_length = _LOCAL_HEADER.unpack(
        header[: _LOCAL_HEADER.size]
    )
    texts = header[_LOCAL_HEADER.size :]
    if len(texts) < name_length + extra_length:
        texts = os.pread(descriptor, name_length + extra_length, start)
    name, extra = texts[:name_length], texts[name_length : name_length + extra_length]
    if (info.flag_bits | flags) & ~_HARMLESS_FLAGS:
        raise _unsafe(pick, f"{path!r} is encrypted or otherwise special")
    if signature != b"PK\3\4" or method != info.compress_type:
        raise _unsafe(pick, f"the header of {path!r} does not match the directory")
    if name.decode("utf-8" if flags & _UTF8_NAME else "cp437") != info.orig_filename:
        raise _unsafe(pick, f"{path!r} has another name in its header")
    _check_extra(pick, info, extra)
    return int(start + name_length + extra_length)


def _check_path(pick: Pick, path: str) -> None:
    if fault := paths.fault(path):
        raise _unsafe(pick, f"{path!r} {fault}")


def _check_name(pick: Pick, info: zipfile.ZipInfo) -> None:
    """Refuse a member that has a second name: which one counts differs from reader to reader.

    zipfile takes the one in the extra field from Python 3.12 on, and has the header's in `orig_filename`.
    """
    if info.filename != info.orig_filename:
        raise _unsafe(pick, f"{info.orig_filename!r} has another name, {info.filename!r}")
    _check_extra(pick, info, info.extra)


def _check_extra(pick: Pick, info: zipfile.ZipInfo, extra: bytes) -> None:
    """Look for names in a member's extra field, be it the directory's or the header's."""
    while len(extra) >= _EXTRA_HEADER.size:
        kind, length = _EXTRA_HEADER.unpack_from(extra)
        content, extra = extra[_EXTRA_HEADER.size :][:length], extra[_EXTRA_HEADER.size + length :]
        if len(content) < length:
            raise _unsafe(pick, f"the extra field of {info.orig_filename!r} is damaged")
        # Its version and checksum say whether it counts, which not every reader looks at.
        if kind == _UNICODE_PATH and content[_UNICODE_PATH_NAME:] != info.orig_filename.encode():
            shown = content[_UNICODE_PATH_NAME:].decode(errors="backslashreplace")
            raise _unsafe(pick, f"{info.orig_filename!r} has another name, {shown!r}")


def _check_texts(pick: Pick, infos: dict[str, zipfile.ZipInfo]) -> None:
    """Refuse texts about the wheel that are too long to be taken into memory and apart."""
    for path, info in infos.items():
        folder, _, name = path.partition("/")
        if folder.endswith(".dist-info") and info.file_size > _MAX_TEXT.get(name, info.file_size):
            raise WheelTooComplexError.of(pick.filename, f"its {name} has {info.file_size:,} bytes")


def _check_content(
    pick: Pick,
    stream: BinaryIO,
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    member: Member,
    take: Callable[[bytes], None],
) -> None:
    """Inflate a member, never beyond the length it declares, and compare length and checksum."""
    if member.method == zipfile.ZIP_DEFLATED:
        size, crc = _inflated(pick, stream.fileno(), member, take)
    elif member.method == zipfile.ZIP_STORED:
        size, crc = member.compressed, _copied(stream.fileno(), member, take)
    else:
        size, crc = 0, 0
        try:
            with archive.open(info) as content:  # zipfile stops at the declared length
                while chunk := content.read(_CHUNK):
                    size, crc = size + len(chunk), zlib_ng.crc32(chunk, crc)
                    take(chunk)
        except OSError as error:  # bz2 says so of damaged data
            raise _unsafe(pick, f"{member.path!r} cannot be unzipped ({error})") from error
    if size != member.size or crc != member.crc:
        raise _unsafe(pick, f"the content of {member.path!r} does not match its checksum")


def _drop(_: bytes) -> None:
    """Look at nothing."""


def _copied(descriptor: int, member: Member, take: Callable[[bytes], object]) -> int:
    """Hand over a member's bytes as they are; return their CRC-32."""
    crc = 0
    for start in range(0, member.compressed, _CHUNK):
        chunk = os.pread(descriptor, min(_CHUNK, member.compressed - start), member.offset + start)
        crc = zlib_ng.crc32(chunk, crc)
        take(chunk)
    return crc


def _inflated(
    pick: Pick, descriptor: int, member: Member, take: Callable[[bytes], object]
) -> tuple[int, int]:
    inflater, size, crc, read = zlib_ng.decompressobj(-15), 0, 0, 0
    while not inflater.eof:
        chunk = inflater.unconsumed_tail
        if not chunk and read < member.compressed:
            chunk = os.pread(descriptor, min(_CHUNK, member.compressed - read), member.offset + read)
            read += len(chunk)
        # With no input left there can still be output that the last call had no room for.
        out = inflater.decompress(chunk, min(_CHUNK * 2, member.size - size + 1))
        if not out and not chunk:
            break
        size, crc = size + len(out), zlib_ng.crc32(out, crc)
        if size > member.size:
            raise _unsafe(pick, f"{member.path!r} unzips to more than the {member.size:,} bytes it declares")
        take(out)
    if not inflater.eof or inflater.unused_data or inflater.unconsumed_tail or read != member.compressed:
        raise _unsafe(pick, f"the compressed length of {member.path!r} is wrong")
    return size, crc


def _dist_info(pick: Pick, infos: dict[str, zipfile.ZipInfo]) -> str:
    from packaging.utils import canonicalize_name

    folders = {path.partition("/")[0] for path in infos if "/" in path}
    found = [folder for folder in folders if folder.endswith(".dist-info")]
    if len(found) != 1:
        raise _unsafe(pick, f"it has {len(found)} .dist-info folders instead of one")
    name = found[0].removesuffix(".dist-info").rpartition("-")[0]
    if canonicalize_name(name) != pick.name:
        raise _unsafe(pick, f"its .dist-info folder {found[0]!r} is another package's")
    for needed in ("METADATA", "WHEEL", "RECORD"):
        if f"{found[0]}/{needed}" not in infos:
            raise _unsafe(pick, f"it has no {needed}")
    return found[0]


def _metadata(pick: Pick, content: bytes) -> tuple[str | None, tuple[str, ...]]:
    from packaging.metadata import parse_email
    from packaging.utils import canonicalize_name, canonicalize_version

    raw, _ = parse_email(_fields(pick, content))
    name, version = raw.get("name", ""), raw.get("version", "")
    if canonicalize_name(name) != pick.name or canonicalize_version(version) != canonicalize_version(
        pick.version
    ):
        raise _unsafe(pick, f"its METADATA is of {name or 'no package'} {version}".rstrip())
    return _license(raw), tuple(raw.get("requires_dist", ()))


def _fields(pick: Pick, content: bytes) -> bytes:
    """Take the fields of METADATA that are read, and not the text below them.

    Python's parser of messages takes time that grows with the square of how many different fields there are,
    and of the parts that a text may claim to have. It ends the fields where this does.
    """
    kept: list[bytes] = []
    keeps = False
    for line in content.splitlines(keepends=True):
        if match := _FIELD.match(line):
            keeps = match[1].lower() in _FIELDS_READ
        elif not line.startswith((b" ", b"\t", b"From ")):
            break
        if keeps:
            kept.append(line)
        if len(kept) > _MAX_FIELD_LINES:
            raise WheelTooComplexError.of(
                pick.filename, f"its METADATA has more than {_MAX_FIELD_LINES:,} fields"
            )
    return b"".join([*kept, b"\n"])


def _check_format(pick: Pick, content: bytes) -> None:
    match = re.search(rb"^Wheel-Version:\s*(\d+)\.\d+", content, re.MULTILINE)
    if match is None or match[1] != b"1":
        raise _unsafe(pick, "its WHEEL file names no version of the format that is known (1.x)")


def _rows(record: bytes) -> list[list[str]]:
    rows = (row for row in csv.reader(map(_short, io.StringIO(record.decode()))) if row)
    return list(itertools.islice(rows, _MAX_ROWS + 1))


def _short(line: str) -> str:
    if len(line) > _MAX_ROW:
        raise csv.Error(f"RECORD has a line of {len(line):,} characters")
    return line


def _license(raw: Any) -> str | None:
    """Take the license expression (PEP 639), else a license field that is one, though older than that, else
    the classifiers, which say less ("BSD License"), else a license field of one line.
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if expression := raw.get("license_expression"):
        return _shortened(str(expression))
    text = (raw.get("license") or "").strip()
    text = text if "\n" not in text and len(text) <= 100 else ""  # the license itself, not its name
    with suppress(InvalidLicenseExpression):
        return str(canonicalize_license_expression(text))
    prefix = "License :: "
    named = [line.rpartition(" :: ")[2] for line in raw.get("classifiers", ()) if line.startswith(prefix)]
    named = [name for name in named if name != "OSI Approved"]
    if named:
        return _shortened(", ".join(named))
    return text if text and text != "UNKNOWN" else None


def _scripts(pick: Pick, archive: zipfile.ZipFile, path: str) -> Iterator[Script]:
    try:
        text = archive.read(path).decode()
    except KeyError:
        return
    import configparser

    parser = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise _unsafe(pick, "its entry_points.txt cannot be read") from error
    for section in ("console_scripts", "gui_scripts"):
        for name, value in parser.items(section) if parser.has_section(section) else ():
            match = _SCRIPT.match(value.strip())
            if match is None:
                raise _unsafe(pick, f"its entry point {name!r} names no function: {value!r}")
            _check_path(pick, name)
            if "/" in name:
                raise _unsafe(pick, f"its entry point {name!r} is a path")
            yield Script(name, match["module"], match["attribute"])


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_LICENSE else f"{text[:_MAX_LICENSE]}…"


def _unsafe(pick: Pick, reason: str) -> UnsafeWheelError:
    return UnsafeWheelError(
        f"The wheel {pick.filename} is refused: {reason}.",
        hint=f"Take another version of {pick.name}, and tell its authors.",
        details={"package": pick.name, "version": pick.version, "wheel": pick.filename, "reason": reason},
    )


def _to_json(wheel: Wheel) -> dict[str, Any]:
    return {
        "bytes": wheel.file.stat().st_size,
        "license": wheel.license,
        "requires": wheel.requires,
        "dist_info": wheel.dist_info,
        "scripts": wheel.scripts,
        "members": wheel.members,
    }


def _from_json(record: dict[str, Any], pick: Pick, file: Path) -> Wheel:
    if file.stat().st_size != record["bytes"]:
        raise ValueError("the wheel is not the one that was verified")
    return Wheel(
        pick,
        file,
        record["license"],
        tuple(record["requires"]),
        record["dist_info"],
        tuple(Script(*script) for script in record["scripts"]),
        tuple(map(Member._make, record["members"])),
    )
