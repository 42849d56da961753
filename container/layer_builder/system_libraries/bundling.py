"""Shared libraries that wheels leave to the system, found in its packages and put into the layer's `lib/`.

Lambda has `/opt/lib` on LD_LIBRARY_PATH. What is missing, and what that needs in turn, is for the proof to
say (see `libraries`): from the layer's own files and the explicit list of what the runtime has, never from
what is installed where the layer is built. What is loaded by its name only (dlopen) is for whoever knows of
it to tell: a table, or a failed import. Each need is a question to the package manager by capability, and of
the packages it knows only the files that answer a need are taken.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from layer_builder.ground.errors import BuildError
from layer_builder.ground.wording import listed
from layer_builder.layer.layout import Entry
from layer_builder.proof import base_libraries, libraries
from layer_builder.proof.loader import LIBRARY_FOLDER
from layer_builder.proof.native import LayerElf, NativeFiles
from layer_builder.results.report import SystemFile, SystemPackage
from layer_builder.system_libraries import rpm
from layer_builder.system_libraries.package_manager import PackageManager
from layer_builder.system_libraries.rpm import Rpm, SharedLibrary
from layer_builder.wheels.pick import Pick
from layer_builder.wheels.wheel import Member, Wheel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from layer_builder.ground.settings import Settings
    from layer_builder.ground.target import Target
    from layer_builder.layer.archive import Plan
    from layer_builder.proof.libraries import MissingLibrary

# What may be asked of a package manager, and become a path: files can claim to need options, or patterns.
_SONAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,200}")
# What is asked for at once at most: a package manager that cannot have it all is asked for each by itself.
MOST = 100
_MOST_TAKERS = 20
# How RPM names what a 64-bit library provides (rpm's elfdeps).
_CAPABILITY = "{}()(64bit)"


class NotInRepositoryError(BuildError):
    """A library or a package that no repository has."""

    code: ClassVar[str] = "LIBRARY_NOT_IN_REPOSITORY"


@dataclass(frozen=True, slots=True)
class Bundled:
    """A library of a system package, as it goes into the layer.

    Attributes:
        path: its place in the layer.
        package: what it comes from.
        library: the file.
        needed_by: the packages whose files need it, or that load it by its name.
    """

    path: str
    package: Rpm
    library: SharedLibrary
    needed_by: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its package's name, told apart from a Python project's of the same name."""
        return f"{self.package.name} (rpm)"

    @property
    def native(self) -> LayerElf:
        """The file as the proof takes it."""
        return LayerElf(self.path, self.label, "", replace(self.library.facts, path=self.path))


@dataclass(frozen=True, slots=True)
class LoadedByName:
    """A library that no file says it needs, and that something loads all the same.

    Attributes:
        library: its soname.
        package: who loads it; empty if nobody knows.
        stops: whether the layer is of no use without it.
    """

    library: str
    package: str = ""
    stops: bool = False


def wanted(missing: Iterable[MissingLibrary]) -> list[MissingLibrary]:
    """Choose what is to be bundled of what is missing: all that an import may need, but not Python itself."""
    return [
        one
        for one in missing
        if one.essential and not one.accepted and not base_libraries.is_interpreter(one.library)
    ]


def can_be_had(library: str) -> bool:
    """Tell whether there is any use in asking for a library."""
    return bool(_SONAME.fullmatch(library)) and base_libraries.in_linux(library)


def find(
    native: Sequence[LayerElf],
    target: Target,
    packages: Sequence[str],
    settings: Settings,
    by_name: Sequence[LoadedByName] = (),
) -> tuple[Bundled, ...]:
    """Find the system libraries that complete a layer, by path.

    Args:
        native: the layer's native files.
        target: what it is for.
        packages: names of system packages all of whose libraries are wanted, needed or not.
        settings: say where the cache is.
        by_name: libraries that are loaded by their names.

    Raises:
        SystemLibrariesUnavailableError: there is no package manager here that has any for the target.
        NotInRepositoryError: it knows nothing of a library, or of a package.
        RepositoryError: a package repository cannot be read.
        PackageBrokenError: a package cannot be read.
    """
    manager = PackageManager.find(target)
    with tempfile.TemporaryDirectory(prefix="layer-builder-") as folder:
        shelf = _Shelf(manager, Path(folder), settings.cache / "system", packages)
        bundled = {one.path: one for one in shelf.packages(packages, base_libraries.base(target.machine))}
        asked: set[str] = set()
        while True:
            layer = NativeFiles([*native, *(one.native for one in bundled.values())], target)
            needs = {one.library: one for one in wanted(libraries.missing(layer, ()))}
            named = {one.library: one for one in by_name if not _is_there(one.library, layer)}
            if not (new := sorted((needs.keys() | named.keys()) - asked)):
                takers = _takers(layer, by_name)
                return tuple(
                    replace(one, needed_by=tuple(sorted(takers.get(path, ()))[:_MOST_TAKERS]))
                    for path, one in sorted(bundled.items())
                )
            asked.update(new)
            shelf.stock(new)
            for name in new:
                if found := shelf.best(name, {one.package for one in bundled.values()}):
                    bundled[found.path] = found
                elif name in needs and needs[name].stops:
                    raise _not_there(needs[name], layer)
                elif name in named and named[name].stops:
                    raise _not_there_by_name(named[name])


def add(plan: Plan, bundled: Sequence[Bundled]) -> Plan:
    """Give a layer's plan the libraries, stored as they are: no compressor's version shows in the bytes."""
    entries, sizes = list(plan.entries), dict(plan.sizes)
    for one in bundled:
        size = one.library.facts.size
        pick = Pick(one.label, one.package.version, one.library.file.name, "", one.library.sha256, size)
        member = Member(one.path, True, zipfile.ZIP_STORED, one.library.crc, size, size, 0)
        # To the archive it is a container of one file that begins at its first byte.
        source = Wheel(pick, one.library.file, one.package.license, (), "", (), (member,))
        entries.append(Entry(one.path, True, source, member))
        sizes[one.label] = sizes.get(one.label, 0) + size
    entries.sort(key=lambda entry: (entry.wheel.pick.name, entry.path))
    return replace(plan, entries=tuple(entries), sizes=sizes)


def packages_of(bundled: Iterable[Bundled]) -> list[SystemPackage]:
    """List the packages for the report, by name, each with the files that were taken."""
    files: dict[Rpm, list[SystemFile]] = {}
    for one in bundled:
        file = SystemFile(one.path, one.library.sha256, one.library.facts.size, one.needed_by)
        files.setdefault(one.package, []).append(file)
    return [
        SystemPackage(
            package.name, package.version, package.architecture, package.license, package.source, tuple(taken)
        )
        for package, taken in sorted(files.items(), key=lambda item: item[0].name)
    ]


def _is_there(name: str, layer: NativeFiles) -> bool:
    """Tell whether dlopen finds a library by its name: in the runtime, or in the layer's folder for them."""
    return (
        name in layer.base
        or base_libraries.is_interpreter(name)
        or f"{LIBRARY_FOLDER}/{name}" in layer.fitting
    )


def _takers(layer: NativeFiles, by_name: Iterable[LoadedByName]) -> Mapping[str, set[str]]:
    """Find out for whom each file of the layer is loaded, by path."""
    takers: dict[str, set[str]] = {}
    for closure in layer.closures.values():
        for (path, _), answer in closure.answers.items():
            if answer is not None:
                takers.setdefault(answer, set()).add(layer.files[path].package)
    for one in by_name:
        if one.package:
            takers.setdefault(f"{LIBRARY_FOLDER}/{one.library}", set()).add(one.package)
    return takers


class _Shelf:
    """The packages that were downloaded, unpacked."""

    def __init__(
        self, manager: PackageManager, folder: Path, store: Path, preferred: Collection[str]
    ) -> None:
        self._manager = manager
        self._folder = folder
        self._store = store
        self._preferred = preferred
        self._unpacked: dict[Path, tuple[Rpm, tuple[SharedLibrary, ...]]] = {}

    def packages(self, names: Sequence[str], base: Collection[str]) -> list[Bundled]:
        """Give all public libraries of packages, but for those that the runtime has."""
        if not names:
            return []
        self._download(names)
        known = {package.name for package, _ in self._unpacked.values()}
        if unknown := [name for name in names if name not in known]:
            raise NotInRepositoryError(
                f"No package repository has a package {listed(unknown)} for {self._manager.machine}.",
                hint="system-libraries takes names of Amazon Linux 2023's packages, such as unixODBC: see"
                " docs/native-libraries.md for how to look them up.",
                details={"packages": unknown},
            )
        return [
            Bundled(f"{LIBRARY_FOLDER}/{library.soname}", package, library)
            for package, found in self._unpacked.values()
            if package.name in names
            for library in found
            if library.is_public and library.soname not in base
        ]

    def stock(self, names: Sequence[str]) -> None:
        """Download the packages that provide libraries which no package here has yet."""
        there = {name for _, found in self._unpacked.values() for one in found for name in one.names}
        if absent := [name for name in names if name not in there and _SONAME.fullmatch(name)]:
            self._download([_CAPABILITY.format(name) for name in absent])

    def best(self, name: str, used: Collection[Rpm]) -> Bundled | None:
        """Choose the library that answers to a name.

        Of a package that the settings name, then of one that the layer has files of already, then of the one
        with the shortest name: variants have longer ones.
        """
        candidates = [
            (
                (
                    package.name not in self._preferred,
                    package not in used,
                    len(package.name),
                    package.name,
                    not library.is_public,
                    library.place,
                ),
                Bundled(f"{LIBRARY_FOLDER}/{name}", package, library),
            )
            for package, found in self._unpacked.values()
            for library in found
            if name in library.names
        ]
        return min(candidates, key=lambda candidate: candidate[0])[1] if candidates else None

    def _download(self, wanted: Sequence[str]) -> None:
        for file in self._manager.download(wanted, self._folder):
            if file not in self._unpacked:
                package = Rpm.read(file)
                found = rpm.unpack(package, self._manager.machine, self._store)
                fitting = tuple(one for one in found if _SONAME.fullmatch(one.soname))
                self._unpacked[file] = package, fitting


def _not_there(need: MissingLibrary, layer: NativeFiles) -> NotInRepositoryError:
    package, path = need.needed_by[0]
    return NotInRepositoryError(
        f"No package repository has {need.library}, which {package} needs (for {layer.shown(path)}).",
        hint=base_libraries.remedy(package, [need.library]),
        details={"library": need.library, "needed_by": [package, layer.shown(path)]},
    )


def _not_there_by_name(need: LoadedByName) -> NotInRepositoryError:
    who = f"which {need.package} loads by its name" if need.package else "which a trial of the layer lacked"
    return NotInRepositoryError(
        f"No package repository has {need.library}, {who}.",
        hint=base_libraries.remedy(need.package or "the package", [need.library]),
        details={"library": need.library, "needed_by": [need.package] if need.package else []},
    )
