"""Bytecode that Lambda really uses: a `.pyc` for each module, by an interpreter of the target's version.

Lambda mounts layers read-only and our zips have fixed dates. So Python neither keeps what it compiles there,
nor takes a `.pyc` that it is to check against its source's date: every cold start would compile every module
anew. An unchecked hash-based one (PEP 552) is taken as it is.

What lies in folders for tests is left to Python: nobody imports it at a cold start, and it is up to three
quarters of the work (of pandas 1,379 of 1,972 modules).

What is compiled is kept beside the wheel in the cache, as a pack: a zip of the `.pyc` of all its modules,
from which they are copied into layers as other files are from wheels. A pack is a function of the wheel and
of the compiler's identity, down to the byte. For that, a wheel's modules are always dealt out in the same
parts, and each part has a fresh process: what Python writes depends a little on what the process has compiled
before (whether a string was interned already shows in marshal's references).
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import signal
import struct
import subprocess
import tempfile
import threading
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from layer_builder.ground import files, interpreter
from layer_builder.ground.limits import MAX_UNZIPPED_BYTES
from layer_builder.ground.wording import listed
from layer_builder.layer import archive, layout
from layer_builder.layer.layout import Entry
from layer_builder.wheels import paths
from layer_builder.wheels.wheel import Member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from layer_builder.ground.interpreter import Interpreter
    from layer_builder.ground.target import Target
    from layer_builder.layer.archive import Plan
    from layer_builder.wheels.wheel import Wheel

FORMAT = 3  # raise it when the same wheel and compiler would give another pack

_LEVEL = 6  # zlib's
_PART_BYTES = 4_000_000  # of sources: most of a second's work, to which starting a process adds a twentieth
_TIME_LIMIT = 120.0  # seconds, for a part
# What compiling may take grows with what was downloaded for it: a few kB that inflate to megabytes of source
# take little. Of real modules, the largest (of AWS CDK, 16.7 MB, 1.4 MB compressed) takes 560 MB and 7 s.
_MEMORY = 192 << 20  # bytes of a module without any source
_MEMORY_FACTOR = 1_000  # bytes for each compressed byte of it
_MOST_MEMORY = 1 << 30
_SECONDS = 15  # of processor time, of a part without any source
_BYTES_A_SECOND = 16_000  # compressed; real source takes a twentieth of that time
_ROOM_SHARE = 10  # of the limit, one part of so many is the function's own
_WORKER = Path(__file__).with_name("bytecode_worker.py")
_OPTIONS = ("-I", "-S", "-B", "-W", "ignore", "-X", "utf8")
_NO_MEMORY = "memory"  # what the worker says of a module that takes more than it may
_LENGTH_BYTES = 8  # at the end of what the worker writes
_RECORD_NAME = "modules.json"
_NAME_LENGTHS = 26  # where a local header has the lengths of name and extra field, before these
# Where Lambda mounts layers (AWS Lambda Developer Guide, "Managing Lambda dependencies with layers").
_MOUNT = "/opt"


class BytecodeError(Exception):
    """A process that compiles a wheel's modules crashed or hung (one that is no valid Python is no error)."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """An interpreter of the target's minor version, and all of it that the bytes depend on.

    Attributes:
        interpreter: where it is.
        build: its full version with date and C compiler, as `sys.version` has it.
        zlib: the version of its zlib.
    """

    interpreter: Interpreter
    build: str
    zlib: str

    @classmethod
    def find(cls, target: Target) -> Compiler | None:
        """Look for one on this machine; None when there is none."""
        found = interpreter.find(_minor(target))
        if found is None:
            return None
        question = "import sys, zlib; print(zlib.ZLIB_RUNTIME_VERSION, sys.version.replace('\\n', ' '))"
        try:
            answer = subprocess.run(
                [found.path, *_OPTIONS, "-c", question],
                env=found.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIME_LIMIT,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None  # an interpreter without zlib cannot read wheels
        zlib, _, build = answer.stdout.decode().strip().partition(" ")
        return cls(found, build, zlib)

    @property
    def identity(self) -> str:
        """What a layer's digest needs of the compiler: it and the wheels determine the bytecode."""
        memory = [_MEMORY, _MEMORY_FACTOR, _MOST_MEMORY]
        content = [FORMAT, self.build, self.zlib, _LEVEL, _PART_BYTES, memory]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Bytecode:
    """What came of compiling a layer.

    Attributes:
        plan: the layer's plan with the bytecode in it, or as it was.
        reason: why there is none; empty when there is.
        interpreter: the full version of who compiled; empty when nobody did.
        modules: how many modules have got a `.pyc`.
        not_compiled: how many modules are no Python of this version (templates, test data).
        too_large: by package, the modules that would take too much memory to compile, as people know them.
        unzipped_bytes: the length of the `.pyc`.
    """

    plan: Plan
    reason: str = ""
    interpreter: str = ""
    modules: int = 0
    not_compiled: int = 0
    too_large: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unzipped_bytes: int = 0

    @property
    def check(self) -> dict[str, Any]:
        """The part of the report."""
        if self.reason:
            return {"status": "skipped", "reason": self.reason}
        return {
            "status": "added",
            "interpreter": self.interpreter,
            "modules": self.modules,
            "not_compiled": self.not_compiled,
            "too_large": [path for paths in self.too_large.values() for path in paths],
            "unzipped_bytes": self.unzipped_bytes,
        }

    @property
    def warning(self) -> str | None:
        """A word to a person when there is none, or not of all modules."""
        if self.reason:
            return f"The layer has no compiled bytecode: {self.reason}."
        if not self.too_large:
            return None
        modules = [f"{path} ({package})" for package, paths in self.too_large.items() for path in paths]
        return (
            f"No bytecode of {listed(modules)}: compiling takes too much memory for so little source;"
            f" Lambda will compile at each cold start what is imported of it."
        )


class Compilation:
    """The bytecode of a layer's modules under way: what the cache has not yet is compiled wheel by wheel.

    Of those that are still being compiled at the end of the `with` block, nothing is left.

    Args:
        target: what the layer is for.
        compiler: who compiles; None when there is nobody, which is then the reason for none.
        workers: how many processes compile at once; by default one a processor.
        time_limit: for one process, in seconds. It does a part of a wheel, normally within a second.
    """

    def __init__(
        self,
        target: Target,
        compiler: Compiler | None,
        *,
        workers: int | None = None,
        time_limit: float = _TIME_LIMIT,
    ) -> None:
        self._target = target
        self._compiler = compiler
        self._workers = workers or os.cpu_count() or 1
        self._time_limit = time_limit
        self._lock = threading.Lock()
        self._crew: _Crew | None = None
        self._packs: dict[Path, _Pack] = {}
        self._parts: dict[Path, list[_Part]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._crew:
            self._crew.close()

    def start(self, wheel: Wheel) -> None:
        """Have a wheel's modules compiled, unless they are; from any thread, once it is there."""
        compiler = self._compiler
        if compiler is None:
            return
        with self._lock:
            if wheel.file in self._packs or wheel.file in self._parts:
                return
            if pack := _load(wheel, _place(wheel, compiler)):
                self._packs[wheel.file] = pack
                return
            self._crew = self._crew or _Crew(compiler, self._workers, self._time_limit)
            self._parts[wheel.file] = self._crew.start(wheel, self._target)

    def add(self, plan: Plan, wheels: Sequence[Wheel], room: int) -> Bytecode:
        """Add to a layer's plan the bytecode of the modules it has.

        A `.pyc` that a wheel brings for such a module gives way to ours. If not all fits, none is added.

        Args:
            plan: the layer, merged.
            wheels: what it is merged from.
            room: how many bytes, unzipped, the bytecode may take.

        Raises:
            BytecodeError: a process crashed or took too long.
        """
        compiler = self._compiler
        if compiler is None:
            return Bytecode(plan, f"there is no Python {_minor(self._target)} where the layer is built")
        if room < 0:
            return Bytecode(plan, _no_room(room))
        for wheel in wheels:
            self.start(wheel)
        packs = (self._pack(wheel, compiler) for wheel in wheels)
        return _added(plan, packs, self._target, compiler, room)

    def _pack(self, wheel: Wheel, compiler: Compiler) -> _Pack:
        """Give a wheel's pack, once it is there."""
        if wheel.file not in self._packs:
            place = _place(wheel, compiler)
            self._packs[wheel.file] = _join(wheel, place, self._parts[wheel.file], self._target)
        return self._packs[wheel.file]


def room(plan: Plan, limit: int = MAX_UNZIPPED_BYTES) -> int:
    """Say how many bytes of bytecode a layer may have: a tenth of the limit is the function's own."""
    return limit - limit // _ROOM_SHARE - plan.unzipped_bytes


def _no_room(room: int) -> str:
    return (
        f"it takes more than the {max(room, 0):,} bytes that the layer has left, a tenth of the limit being"
        " kept for the function's own code"
    )


def _added(plan: Plan, packs: Iterable[_Pack], target: Target, compiler: Compiler, room: int) -> Bytecode:
    """Put the packs' modules into the plan, if they fit."""
    layer = {entry.path: entry for entry in plan.entries}
    folders = _cache_folders(layer)
    modules: dict[str, Entry] = {}
    sizes = dict(plan.sizes)
    too_large: dict[str, list[str]] = {}
    not_compiled = growth = 0
    for pack in packs:
        not_compiled += pack.not_compiled
        if left_out := list(pack.left_out(layer, target)):
            too_large[pack.wheel.pick.name] = left_out
        for entry in pack.entries(layer, target):
            if entry.path.rpartition("/")[0] in layer or entry.path in folders:
                continue  # a file called __pycache__, a folder called x.pyc: nothing imports from there
            modules[entry.path] = entry
            sizes[entry.wheel.pick.name] += entry.size
            growth += entry.size
            if (shipped := layer.get(entry.path)) is not None:
                sizes[shipped.wheel.pick.name] -= shipped.size
                growth -= shipped.size
        if growth > room:
            return Bytecode(plan, _no_room(room))
    entries = sorted((layer | modules).values(), key=lambda entry: (entry.wheel.pick.name, entry.path))
    return Bytecode(
        replace(plan, entries=tuple(entries), sizes=sizes),
        interpreter=compiler.interpreter.version,
        modules=len(modules),
        not_compiled=not_compiled,
        too_large=too_large,
        unzipped_bytes=sum(entry.size for entry in modules.values()),
    )


def _minor(target: Target) -> str:
    return "{}.{}".format(*target.runtime.version)


def _cache_folders(paths: Iterable[str]) -> set[str]:
    """Name every folder below a `__pycache__`, whatever wheels put there."""
    folders = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while "/__pycache__/" in folder:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


class _Row(NamedTuple):
    """A compiled module: which source in the layer it is of, and how its bytes lie in the pack."""

    source: str
    source_crc: int
    source_size: int
    crc: int
    compressed: int
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Pack:
    """The bytecode of one wheel, in a zip."""

    wheel: Wheel
    file: Path
    rows: tuple[_Row, ...]
    not_compiled: int
    too_large: tuple[str, ...]

    def left_out(self, layer: Mapping[str, Entry], target: Target) -> Iterator[str]:
        """Name the modules that took too much memory, of those that the layer has from this wheel."""
        for path in self.too_large:
            if (source := layer.get(path)) is not None and source.wheel.pick == self.wheel.pick:
                yield path.removeprefix(f"{target.site_packages}/")

    def entries(self, layer: Mapping[str, Entry], target: Target) -> Iterator[Entry]:
        """Give the entries of the modules that the layer has from this wheel, not from another one."""
        pick = replace(self.wheel.pick, filename=self.file.name)
        zipped = replace(self.wheel, pick=pick, file=self.file, scripts=(), members=())
        for row in self.rows:
            source = layer.get(row.source)
            if source is None or source.wheel.pick != self.wheel.pick:
                continue
            if (source.crc, source.size) != (row.source_crc, row.source_size):
                continue
            path = _cached(row.source, target)
            within = path.removeprefix(f"{target.site_packages}/")
            member = Member(
                within, False, zipfile.ZIP_DEFLATED, row.crc, row.compressed, row.size, row.offset
            )
            yield Entry(path, False, zipped, member)


def _cached(source: str, target: Target) -> str:
    """Say where import looks for a module's bytecode."""
    folder, _, name = source.rpartition("/")
    return "{}/__pycache__/{}.cpython-{}{}.pyc".format(
        folder, name.removesuffix(".py"), *target.runtime.version
    )


def _place(wheel: Wheel, compiler: Compiler) -> Path:
    """Name the file of a wheel's pack, in a folder that is named after all that the pack depends on."""
    key = hashlib.sha256(f"{compiler.identity} {wheel.pick.sha256}".encode()).hexdigest()
    return wheel.file.parent / f"bytecode-{key[:32]}" / f"{wheel.file.stem}.zip"


class _Module(NamedTuple):
    """A module to compile: its path in the layer, and how it lies in the wheel."""

    path: str
    member: Member


def _modules(wheel: Wheel, target: Target) -> Iterator[_Module]:
    """Choose what to compile, sorted by path: what can be imported, no data, scripts or headers."""
    for entry in layout.entries(wheel, target):
        *folders, name = entry.path.split("/")
        member = entry.member
        if member is None or not name.endswith(".py") or name == ".py" or "__pycache__" in folders:
            continue
        if not layout.TEST_FOLDERS.isdisjoint(folders):
            continue
        if not paths.is_name(posixpath.basename(_cached(entry.path, target))):
            continue  # Python could not write it either
        top, _, rest = member.path.partition("/")
        if top.endswith(".data") and not rest.startswith(("purelib/", "platlib/")):
            continue
        if member.method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            yield _Module(entry.path, member)


def _dealt(modules: Iterable[_Module]) -> Iterator[list[_Module]]:
    """Deal modules out into parts, the same way whatever the machine."""
    part: list[_Module] = []
    size = 0
    for module in modules:
        part.append(module)
        size += module.member.size
        if size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


class _Part(NamedTuple):
    """Some modules of a wheel, and the file with their bytecode once that is done."""

    modules: list[_Module]
    output: Future[Path]


class _Crew:
    """Processes that compile, several at once. None of them outlives `close`, nor do their files."""

    def __init__(self, compiler: Compiler, workers: int, time_limit: float) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._interpreter = compiler.interpreter
        self._time_limit = time_limit
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="bytecode")
        self._folder = tempfile.TemporaryDirectory(prefix="layer-builder-")
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def close(self) -> None:
        """End them."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in tuple(self._running):
            process.kill()
        self._pool.shutdown()
        self._folder.cleanup()

    def start(self, wheel: Wheel, target: Target) -> list[_Part]:
        """Have a wheel's modules compiled, part by part."""
        return [
            _Part(modules, self._pool.submit(self._compile, wheel, modules))
            for modules in _dealt(_modules(wheel, target))
        ]

    def _compile(self, wheel: Wheel, modules: list[_Module]) -> Path:
        """Run one process to its end.

        Raises:
            BytecodeError: it crashed or took too long.
        """
        descriptor, name = tempfile.mkstemp(dir=self._folder.name)
        with os.fdopen(descriptor, "wb") as output:
            process = subprocess.Popen(
                [self._interpreter.path, *_OPTIONS, _WORKER],
                env=self._interpreter.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.PIPE,
            )
        self._running.add(process)
        try:
            if self._closed:
                process.kill()
            _, complaint = process.communicate(_job(wheel, modules), self._time_limit)
        except subprocess.TimeoutExpired:
            raise self._failed(wheel, f"took longer than {self._time_limit:g} seconds") from None
        finally:
            process.kill()
            process.communicate()
            self._running.discard(process)
        if process.returncode < 0:
            ended = signal.strsignal(-process.returncode) or f"signal {-process.returncode}"
            raise self._failed(wheel, f"was ended ({ended})")
        if process.returncode > 0:
            said = (complaint.decode(errors="replace").strip().splitlines() or ["it did not say why"])[-1]
            raise self._failed(wheel, f"failed ({said})")
        return Path(name)

    def _failed(self, wheel: Wheel, what: str) -> BytecodeError:
        version = self._interpreter.version
        return BytecodeError(f"of the modules of {wheel.pick.filename} Python {version} {what}")


def _job(wheel: Wheel, modules: Sequence[_Module]) -> bytes:
    """Write what the worker reads. What it shows in tracebacks is where the module lies on Lambda."""
    rows = [(_memory(member), f"{_MOUNT}/{path}", *_place_of(member)) for path, member in modules]
    seconds = _SECONDS + sum(member.compressed for _, member in modules) // _BYTES_A_SECOND
    job = {"wheel": str(wheel.file), "level": _LEVEL, "seconds": seconds, "modules": rows}
    return json.dumps(job).encode()


def _memory(member: Member) -> int:
    return min(_MEMORY + _MEMORY_FACTOR * member.compressed, _MOST_MEMORY)


def _place_of(member: Member) -> tuple[int, ...]:
    return member.method, member.offset, member.compressed, member.size, member.crc


def _join(wheel: Wheel, file: Path, parts: Iterable[_Part], target: Target) -> _Pack:
    """Make a wheel's pack out of its parts, as they get done, and leave it in the cache."""
    entries: list[Entry] = []
    sources: list[_Module] = []
    too_large: list[str] = []
    not_compiled = 0
    for modules, done in parts:
        output = done.result()
        part = replace(wheel, file=output)
        offset = 0
        for module, result in zip(modules, _results(output), strict=True):
            if result is None:
                not_compiled += 1
                continue
            if result == _NO_MEMORY:
                too_large.append(module.path)
                continue
            path = _cached(module.path, target).removeprefix(f"{target.site_packages}/")
            crc, compressed, size = result
            member = Member(path, False, zipfile.ZIP_DEFLATED, crc, compressed, size, offset)
            entries.append(Entry(path, False, part, member))
            sources.append(module)
            offset += compressed
    with files.written_atomically(file) as stream:
        length = archive.pack(entries, stream).bytes
        places = list(_places(stream))
    rows = tuple(
        _Row(path, source.crc, source.size, *place)
        for (path, source), place in zip(sources, places, strict=True)
    )
    record = {"bytes": length, "not_compiled": not_compiled, "too_large": too_large, "rows": rows}
    files.write_atomically(file.with_name(_RECORD_NAME), json.dumps(record, separators=(",", ":")).encode())
    return _Pack(wheel, file, rows, not_compiled, tuple(too_large))


def _results(output: Path) -> Any:
    """Read what a worker says of each of its modules."""
    with output.open("rb") as stream:
        end = stream.seek(-_LENGTH_BYTES, os.SEEK_END)
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "big")
        stream.seek(end - length)
        return json.loads(stream.read(length))


def _places(stream: BinaryIO) -> Iterator[tuple[int, int, int, int]]:
    """Find the members of a zip: CRC-32, compressed bytes, bytes, offset of each."""
    with zipfile.ZipFile(stream) as pack:
        for info in pack.infolist():
            stream.seek(info.header_offset + _NAME_LENGTHS)
            name, extra = struct.unpack("<2H", stream.read(4))
            yield info.CRC, info.compress_size, info.file_size, stream.tell() + name + extra


def _load(wheel: Wheel, file: Path) -> _Pack | None:
    """Take a wheel's pack from the cache; None when it is not there, or not whole."""
    with suppress(OSError, ValueError, TypeError, LookupError):
        record = json.loads(file.with_name(_RECORD_NAME).read_bytes())
        if file.stat().st_size == record["bytes"]:
            rows = tuple(map(_Row._make, record["rows"]))
            return _Pack(wheel, file, rows, record["not_compiled"], tuple(record["too_large"]))
    return None
