"""What a layer can do without, left out: as much as makes it fit (`fit`), or all of it (`slim`).

Only whole files are left out, and no package's `.dist-info`: packages look themselves up there. What goes is
a function of the plan alone, so that a layer's digest need not wait for it: nothing is imported to find out,
the packages' files are read. In doubt a file stays: deleting what only looks like tests or stubs is how other
tools break packages.

- *Headers and sources* (also static libraries) stay where a module of their package names them, or all
  files of their kind: Cython and cffi read such files.
- *Type stubs* stay where a module of their package mentions stubs: lazy_loader makes a package's modules
  out of them, jedi and mypy have them as data.
- *Tests* are folders called so that have test modules; one stays if anything outside of such folders names
  it: in an import, an entry point or a native module, or in the path of a file.
- *GPU packages* have no GPU on Lambda. One stays that the requirements name, that a module of another package
  imports as that is imported, or that has a library which another file cannot be loaded without.
"""

from __future__ import annotations

import math
import posixpath
import re
import zipfile
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from layer_builder.ground.target import SITE_PACKAGES
from layer_builder.ground.wording import listed
from layer_builder.layer.layout import BIN, TEST_FOLDERS
from layer_builder.wheels import elf
from layer_builder.wheels.gpu import is_gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from layer_builder.layer.archive import Plan
    from layer_builder.layer.layout import Entry

HEADERS = "headers, static libraries and sources"
STUBS = "type stubs"
TESTS = "tests"
GPU = "GPU packages"

SOURCES = (
    *(".a", ".c", ".cc", ".cpp", ".cu", ".cuh", ".cxx", ".f", ".f90", ".h", ".hh", ".hpp", ".hxx"),
    *(".pxd", ".pxi", ".pyx"),
)

_TEST_MODULE = re.compile(r"(?:test_.*|.*_test|conftest)\.py")
# Modules that only those run who test or build the package.
_NOT_RUN = frozenset({"conftest.py", "setup.py"})
_SEARCHED_FIRST = f"{SITE_PACKAGES}/lib/python3."
_MAX_COMMAND = 1 << 20  # bytes of a script in `bin`; what is longer is a program
_MAX_SOURCE = 64 << 20  # bytes of a module that we read as a whole; the largest real one has 17 MB
# All patterns begin with what is rare and look back from there, or are bounded, since anybody may have
# written what they search.
_FILE_NAMED = re.compile(rb"(\.(?:%s))[\"']" % b"|".join(one[1:].encode() for one in SOURCES))
_STUBS_NAMED = re.compile(rb"attach_stub|\.pyi\b")
_TESTS_NAMED = re.compile(rb"\.tests?\b")
_TESTS_IMPORTED = re.compile(
    rb"\bfrom[ \t]+([.\w]{1,300})[ \t]+import[ \t]+(\([^)]{0,2000}\)|(?:[^\n\\]|\\\r?\n){0,2000})"
)
_TESTS_AT_TOP = re.compile(rb"\b(?:from|import)[ \t]+(tests?)\b")
# What lies in a folder of tests, as one text or as several: `"tests/data"`, `"tests", "data"`.
_IN_TESTS = re.compile(
    rb"[\"'](?:[^\"'\n]{0,200}/)?(tests?)(?:/[^\"'\n]{1,200}[\"']|[\"']\s{0,20}[,/]\s{0,20}[\"'])"
)
_LOOKS_FOR_FILES = re.compile(rb"__file__|__path__|resources|pkgutil|import_module|__import__")
_IMPORTED = re.compile(rb"^(?:from|import)[ \t]+([\w.]{1,300})", re.MULTILINE)
_WORD = re.compile(rb"\w+")
_NAME = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
_LOOK_BACK = 300  # bytes
_NATIVE = re.compile(r"\.so(?:\.[\d.]+)?$|\.pyc$")


@dataclass(frozen=True, slots=True)
class Group:
    """What was left out of one kind: what that is, how many files, bytes by package, the largest first."""

    what: str
    files: int
    packages: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """How much it is, unzipped."""
        return sum(self.packages.values())


@dataclass(frozen=True, slots=True)
class Fitted:
    """A plan, and what is not in it any more.

    Attributes:
        plan: what is left.
        groups: what was left out, in the order in which it was.
        limit: what the layer was to fit into, in bytes; None if all was left out that can be.
    """

    plan: Plan
    groups: tuple[Group, ...] = ()
    limit: int | None = None

    @property
    def check(self) -> dict[str, Any]:
        """The part of the report."""
        return {
            "status": "slim" if self.limit is None else "fitted",
            "bytes": sum(group.bytes for group in self.groups),
            "left_out": [
                {
                    "what": group.what,
                    "files": group.files,
                    "bytes": group.bytes,
                    "packages": dict(group.packages),
                }
                for group in self.groups
            ],
        }

    @property
    def sentence(self) -> str:
        """What a person should know, if anything was left out."""
        parts = [f"{one.what} ({one.bytes / 1e6:.1f} MB of {listed(one.packages)})" for one in self.groups]
        why = "as slim asks" if self.limit is None else f"to fit into {self.limit:,} bytes"
        return f"Left out of the layer, {why}: {'; '.join(parts)}."


def fit(plan: Plan, limit: int, asked: Collection[str], added: int = 0) -> Fitted:
    """Leave out of a plan what makes it fit, by kind and then by package, and no more.

    Args:
        plan: the layer, merged.
        limit: how many bytes it may have, unzipped.
        asked: the projects that the requirements name.
        added: how many bytes will be added to the plan.

    Returns:
        The plan as it was if it fits, else a smaller one, which may still be too large.
    """
    return _without(plan, asked, limit, added)


def slim(plan: Plan, asked: Collection[str]) -> Fitted:
    """Leave out of a plan all that `fit` would."""
    return _without(plan, asked, None, 0)


def asked_for(asked: Iterable[str]) -> list[str]:
    """Name the projects on which it depends what is left out, of those that the requirements name."""
    return sorted(name for name in set(asked) if is_gpu(name))


def _without(plan: Plan, asked: Collection[str], limit: int | None, added: int) -> Fitted:
    excess = math.inf if limit is None else plan.unzipped_bytes + added - limit
    gone: dict[str, Entry] = {}
    groups = []
    layer = _Layer(plan)
    kinds: tuple[tuple[str, Callable[[], Iterable[Entry]]], ...] = (
        (HEADERS, layer.headers),
        (STUBS, layer.stubs),
        (TESTS, layer.tests),
        (GPU, lambda: layer.gpu(asked)),
    )
    for what, find in kinds:
        if excess > 0 and (taken := _enough([one for one in find() if one.path not in gone], excess)):
            sizes = {name: sum(entry.size for entry in entries) for name, entries in taken.items()}
            groups.append(Group(what, sum(map(len, taken.values())), sizes))
            gone.update((entry.path, entry) for entries in taken.values() for entry in entries)
            excess -= groups[-1].bytes
    sizes = dict(plan.sizes)
    for entry in gone.values():
        sizes[entry.wheel.pick.name] -= entry.size
    entries = tuple(entry for entry in plan.entries if entry.path not in gone)
    return Fitted(replace(plan, entries=entries, sizes=sizes), tuple(groups), limit)


def _enough(found: Iterable[Entry], excess: float) -> dict[str, list[Entry]]:
    """Take the files of as many packages as are needed, those with the most bytes first."""
    packages: dict[str, list[Entry]] = defaultdict(list)
    for entry in found:
        packages[entry.wheel.pick.name].append(entry)
    sizes = {name: sum(entry.size for entry in entries) for name, entries in packages.items()}
    taken = {}
    for name, size in sorted(sizes.items(), key=lambda one: (-one[1], one[0])):
        if excess > 0 and size:
            taken[name] = packages[name]
            excess -= size
    return taken


class _Layer:
    """A plan's files, sorted by what they may be."""

    def __init__(self, plan: Plan) -> None:
        prefix = f"{SITE_PACKAGES}/"
        infos = {entry.wheel.dist_info for entry in plan.entries}
        self._plan = plan
        self._files = {
            path: entry
            for entry in plan.entries
            if (path := entry.path.removeprefix(prefix)) != entry.path and path.partition("/")[0] not in infos
        }

    def headers(self) -> Iterator[Entry]:
        """Find headers, static libraries and sources that no module of their package reads."""
        for path, entry in self._files.items():
            suffix = posixpath.splitext(path)[1]
            if suffix in SOURCES:
                named = self._sources.files_named[entry.wheel.pick.name]
                if not named.intersection((suffix, posixpath.basename(path))) and not self._sources.unread:
                    yield entry

    def stubs(self) -> Iterator[Entry]:
        """Find type stubs that no module of their package reads."""
        for path, entry in self._files.items():
            if (
                path.endswith(".pyi")
                and entry.wheel.pick.name not in self._sources.read_stubs
                and not self._sources.unread
            ):
                yield entry

    def tests(self) -> Iterator[Entry]:
        """Find the tests that nothing needs."""
        if self._sources.unread:
            return
        left = {unit: files for unit, files in self._tests.items() if unit not in self._sources.tests_named}
        if left:
            named = self._named_by_native_modules(left)
            for unit, files in left.items():
                if unit not in named:
                    yield from files.values()

    def gpu(self, asked: Collection[str]) -> Iterator[Entry]:
        """Find packages that nothing here can use without a GPU."""
        names = {entry.wheel.pick.name for entry in self._plan.entries}
        going = {name for name in names if is_gpu(name) and name not in asked}
        if not going or self._sources.unread:
            return
        provides: dict[str, set[str]] = {}
        needs: dict[str, set[str]] = defaultdict(set)
        imports = self._sources.imported
        for wheel in {entry.wheel.pick.name: entry.wheel for entry in self._plan.entries}.values():
            facts = elf.load(wheel.file)
            provides[wheel.pick.name] = {posixpath.basename(fact.path) for fact in facts}
            provides[wheel.pick.name] |= {fact.soname for fact in facts if fact.soname}
            needs[wheel.pick.name] = {name for fact in facts for name in fact.needed}
        while True:
            staying = names - going
            needed = {soname for name in staying for soname in needs[name] - provides[name]}
            imported = {module for name in staying for module in imports[name]}
            back = {name for name in going if provides[name] & needed or self._is_imported(name, imported)}
            if not back:
                break
            going -= back
        for entry in self._files.values():
            if entry.wheel.pick.name in going:
                yield entry

    def _is_imported(self, package: str, imported: Collection[str]) -> bool:
        tops = set()
        for path, entry in self._files.items():
            if entry.wheel.pick.name == package:
                # All of nvidia's packages share one namespace.
                first, second = (*path.split("/"), "")[:2]
                tops.add(f"{first}.{second}" if first == "nvidia" else first.partition(".")[0])
        return any(
            name == top or name.startswith(f"{top}.") or top.startswith(f"{name}.")
            for name in imported
            for top in tops
        )

    @cached_property
    def _tests(self) -> dict[str, dict[str, Entry]]:
        """The folders of tests, each with its files, by path in the layer's folder of modules."""
        found: dict[str, dict[str, Entry]] = defaultdict(dict)
        for path, entry in self._files.items():
            if unit := _unit_of(path):
                found[unit][path] = entry
        return {
            unit: files
            for unit, files in found.items()
            if any(_TEST_MODULE.fullmatch(posixpath.basename(path)) for path in files)
        }

    @cached_property
    def _sources(self) -> _Sources:
        """What the modules say that are not tests, or are tests that those need."""
        sources = _Sources(self._tests)
        for entry in self._plan.entries:
            if entry.path.startswith(_SEARCHED_FIRST):
                sources.unread = True  # its modules have other names than their paths say
            elif entry.path.endswith(".dist-info/entry_points.txt") or (
                entry.path.startswith(f"{BIN}/") and entry.size <= _MAX_COMMAND
            ):
                sources.read(entry.path, entry)
        waiting = {path: entry for path, entry in self._files.items() if path.endswith(".py")}
        while True:
            ready = [path for path in waiting if self._unit(path) in sources.tests_named]
            if not ready:
                return sources
            for path in ready:
                entry = waiting.pop(path)
                if posixpath.basename(path) not in _NOT_RUN:
                    sources.read(path, entry)

    def _unit(self, path: str) -> str:
        unit = _unit_of(path)
        return unit if unit in self._tests else ""

    def _named_by_native_modules(self, units: Iterable[str]) -> set[str]:
        """Find the tests whose dotted names stand in compiled modules."""
        names = {unit: unit.replace("/", ".").encode() for unit in units}
        found: set[bytes] = set()
        for path, entry in self._files.items():
            if _NATIVE.search(path) and not self._unit(path):
                tail = b""

                def take(chunk: bytes) -> None:
                    nonlocal tail
                    window = tail + chunk
                    found.update(_names_of_tests(window))
                    tail = window[-_LOOK_BACK:]

                entry.feed(take)
        return {unit for unit, name in names.items() if name in found}


class _Sources:
    """What Python modules name, as far as it matters here.

    Attributes:
        unread: whether there was one that could not be read.
        files_named: by package, names and suffixes of headers and sources.
        read_stubs: the packages that mention stubs.
        tests_named: the folders of tests that are needed, and the empty one, for what is no test.
        imported: by package, the modules that are imported as a module of it is.
    """

    def __init__(self, tests: Collection[str]) -> None:
        self._tests = frozenset(tests)
        self._dotted: dict[str, list[str]] = defaultdict(list)
        for unit in tests:
            self._dotted[unit.replace("/", ".")].append(unit)
        self.unread = False
        self.files_named: dict[str, set[str]] = defaultdict(set)
        self.read_stubs: set[str] = set()
        self.tests_named = {""}
        self.imported: dict[str, set[str]] = defaultdict(set)

    def read(self, path: str, entry: Entry) -> None:
        """Take note of a module."""
        member = entry.member
        if entry.size > _MAX_SOURCE or (
            member and member.method not in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)
        ):
            self.unread = True
            return
        content = bytearray()
        entry.feed(content.extend)
        data, package = bytes(content), entry.wheel.pick.name
        for match in _FILE_NAMED.finditer(data):
            name = _before(data, match.start(), _NAME + b"+-.")
            self.files_named[package].add((name + match[1]).decode("ascii", "replace"))
        if _STUBS_NAMED.search(data):
            self.read_stubs.add(package)
        self.imported[package].update(
            match[1].decode("utf-8", "replace") for match in _IMPORTED.finditer(data)
        )
        if self._tests and b"test" in data:
            self._note_tests(path.split("/")[:-1], data)

    def _note_tests(self, folder: Sequence[str], data: bytes) -> None:
        names = [
            _before(data, match.start(), _NAME + b".") + match[0] for match in _TESTS_NAMED.finditer(data)
        ]
        for match in _TESTS_IMPORTED.finditer(data):
            words = {word[0] for word in _WORD.finditer(match[2])}
            parent = match[1] if match[1].endswith(b".") else match[1] + b"."
            names += [parent + word for word in words & {b"test", b"tests"}]
        names += [match[1] for match in _TESTS_AT_TOP.finditer(data)]
        for name in {name.decode("utf-8", "replace") for name in names}:
            self.tests_named.update(self._dotted.get(_absolute(name, folder), ()))
        if _LOOKS_FOR_FILES.search(data):
            for called in {match[1].decode() for match in _IN_TESTS.finditer(data)}:
                for depth in range(len(folder) + 1):
                    unit = "/".join((*folder[:depth], called))
                    if unit in self._tests:
                        self.tests_named.add(unit)


def _unit_of(path: str) -> str:
    """Name the outermost folder of tests that a file is in; empty if it is in none."""
    folders = path.split("/")[:-1]
    for depth, folder in enumerate(folders, 1):
        if folder in TEST_FOLDERS:
            return "/".join(folders[:depth])
    return ""


def _names_of_tests(data: bytes) -> Iterator[bytes]:
    """Find words that may be the dotted names of folders of tests."""
    place = data.find(b".test")
    while place >= 0:
        before = _before(data, place, _NAME + b".")
        yield before + b".test"
        yield before + b".tests"
        place = data.find(b".test", place + 1)


def _before(data: bytes, end: int, characters: bytes) -> bytes:
    """Take the characters that stand right before a place."""
    window = data[max(0, end - _LOOK_BACK) : end]
    return window[len(window.rstrip(characters)) :]


def _absolute(name: str, folder: Sequence[str]) -> str:
    """Resolve a module's name, which may begin with dots, in a module of a folder."""
    rest = name.lstrip(".")
    dots = len(name) - len(rest)
    if not dots:
        return name
    return ".".join((*folder[: max(0, len(folder) - dots + 1)], rest))
