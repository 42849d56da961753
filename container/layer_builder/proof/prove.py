"""Proof, before anything is uploaded, that a layer's native files load on the runtime and its size is taken.

Nothing is run: the facts of the ELF files (see `elf`) are held against the runtime (see `base_libraries`), so
an arm64 layer is proved on any machine. This is the authority; the import check (see `import_check`) comes on
top where it can. What is wrong with files that an import may reach (see `native`) stops the build; what is
wrong with the others is a warning.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from layer_builder.ground.errors import BuildError, WheelTooComplexError
from layer_builder.ground.limits import MAX_UNZIPPED_BYTES
from layer_builder.ground.target import RUNTIMES
from layer_builder.ground.wording import listed, more
from layer_builder.layer.layout import BIN
from layer_builder.proof import base_libraries, libraries, sizes
from layer_builder.proof.loader import LAYER_ROOT, LIBRARY_FOLDER
from layer_builder.proof.native import LayerElf, NativeFiles
from layer_builder.proof.sizes import LayerFile
from layer_builder.wheels import elf

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from layer_builder.ground.target import Target
    from layer_builder.layer.archive import Plan
    from layer_builder.proof.libraries import MissingLibrary
    from layer_builder.wheels.elf import ElfFacts, VersionNeed

_MAX_DETAILS = 50  # files that an error's details name
_FAMILIES = ("GLIBC", "GLIBCXX", "CXXABI")  # what the report shows; those of libgcc and zlib are compared too


class WrongMachineError(BuildError):
    """A native file of the layer is made for another processor."""

    code: ClassVar[str] = "WRONG_MACHINE"


class RuntimeTooOldError(BuildError):
    """A native file needs newer base libraries (glibc, libstdc++ …) than the runtime's."""

    code: ClassVar[str] = "RUNTIME_TOO_OLD"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found.

    Attributes:
        checks: for the report, by the check's name, each with a `status`.
        warnings: what a person should know though it stops nothing.
        errors: what does stop the build, the most telling first.
        missing: the libraries that the layer lacks, for whoever can add them to its `lib/`.
        by_name: those among them that no file names: pairs of the package that loads one, and its soname.
    """

    checks: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    errors: tuple[BuildError, ...] = ()
    missing: tuple[MissingLibrary, ...] = ()
    by_name: tuple[tuple[str, str], ...] = ()

    @property
    def error(self) -> BuildError | None:
        """The error to raise, with the others' messages in its details."""
        if not self.errors:
            return None
        first, *others = self.errors
        if others:
            first.details["also"] = [{"code": error.code, "message": error.message} for error in others]
        return first


def prove(
    plan: Plan,
    target: Target,
    *,
    added: Sequence[LayerElf] = (),
    accepted: Collection[str] = (),
    limit: int = MAX_UNZIPPED_BYTES,
) -> Proof:
    """Prove a planned layer; the wheels' facts come from the cache, or go into it.

    Args:
        plan: the layer.
        target: the runtime and architecture it is for.
        added: native files that the layer will have beside the plan's, such as system libraries in `lib/`.
        accepted: sonames that may be missing.
        limit: how many bytes the layer may have unzipped.

    Raises:
        UnsafeWheelError: a wheel's data is damaged.
        WheelTooComplexError: judging its native files takes more than those of any real layer.
    """
    files = files_of(plan)
    files += [LayerFile(item.path, item.package, item.facts.size) for item in added]
    return check(files, [*native_files(plan), *added], target, accepted=accepted, limit=limit)


def files_of(plan: Plan) -> list[LayerFile]:
    """List the files of a planned layer."""
    return [LayerFile(entry.path, entry.wheel.pick.name, entry.size) for entry in plan.entries]


def native_files(plan: Plan) -> list[LayerElf]:
    """List the ELF files of a planned layer, where they will be in it.

    Raises:
        WheelTooComplexError: they name more than `elf.MAX_WEIGHT` together.
    """
    wheels = {entry.wheel.pick.filename: entry.wheel for entry in plan.entries}
    facts: dict[tuple[str, str], ElfFacts] = {}
    left = elf.MAX_WEIGHT
    for name, one in wheels.items():
        of_wheel = elf.load(one.file)
        left -= elf.weight(of_wheel)
        if left < 0:
            raise WheelTooComplexError.of(
                name, "it and the others name too many libraries, versions and paths in native files"
            )
        facts.update(((name, fact.path), fact) for fact in of_wheel)
    found = []
    for entry in plan.entries if facts else ():
        wheel = entry.wheel.pick.filename
        if entry.member and (fact := facts.get((wheel, entry.member.path))):
            found.append(LayerElf(entry.path, entry.wheel.pick.name, wheel, fact))
    return found


def check(
    files: Collection[LayerFile],
    native: Iterable[LayerElf],
    target: Target,
    *,
    accepted: Collection[str] = (),
    limit: int = MAX_UNZIPPED_BYTES,
) -> Proof:
    """Prove a layer from lists of its files and of its ELF files: see `prove`."""
    layer = NativeFiles(native, target)
    measured = sizes.measure(files, limit)
    wrong = list(_wrong_machine(layer))
    too_new = list(_too_new(layer, essential=True))
    missing = libraries.missing(layer, accepted)
    absent = list(_run_time_needs(layer, files))
    errors = (
        _machine_error(wrong, layer),
        _version_error(too_new, layer),
        libraries.error(missing, layer),
        measured.error,
    )
    return Proof(
        checks={
            "elf": {"status": _status(wrong), "machine": target.machine, "files": len(layer.files)},
            "glibc": {"status": _status(too_new), **_versions(layer)},
            "libraries": libraries.check(missing, layer),
            "size": measured.check,
        },
        warnings=(
            *_machine_warnings(layer, wrong),
            *_version_warnings(layer),
            *libraries.warnings(missing, layer),
            *_run_time_warnings(absent),
            *filter(None, [measured.warning]),
        ),
        errors=tuple(error for error in errors if error),
        missing=missing,
        by_name=tuple(
            (package, name) for package, verb, names in absent if verb == "loads" for name in names
        ),
    )


def _status(faults: Sequence[object]) -> str:
    return "failed" if faults else "passed"


def _wrong_machine(layer: NativeFiles) -> Iterator[LayerElf]:
    for path, item in layer.files.items():
        if path not in layer.fitting and item.facts.kind != "broken" and layer.must_fit(item):
            yield item


def _machine_error(wrong: Sequence[LayerElf], layer: NativeFiles) -> WrongMachineError | None:
    if not wrong:
        return None
    first, machine = wrong[0], layer.target.machine
    return WrongMachineError(
        f"{first.package}: {layer.shown(first.path)} is made for {first.facts.machine}, the layer for"
        f" {machine}{more(len(wrong) - 1)}.",
        hint=f"The wheel {first.wheel} does not hold what its name says: take another version of"
        f" {first.package}, and tell its authors.",
        details={
            "machine": machine,
            "files": [_file(item) | {"machine": item.facts.machine} for item in wrong[:_MAX_DETAILS]],
        },
    )


def _machine_warnings(layer: NativeFiles, wrong: Sequence[LayerElf]) -> Iterator[str]:
    foreign: dict[tuple[str, str], list[str]] = defaultdict(list)
    told = {item.path for item in wrong}
    for path, item in layer.files.items():
        # What only begins like an ELF file and does not claim to be a library is test data.
        if item.facts.kind == "broken" and ".so" in path:
            foreign[item.package, ""].append(layer.shown(path))
        elif item.facts.kind != "broken" and path not in layer.fitting and path not in told:
            foreign[item.package, item.facts.machine].append(layer.shown(path))
    for (package, machine), paths in sorted(foreign.items()):
        if machine:
            what = f"made for {machine} and will not load here"
        else:
            what = "not to be read as ELF and will not load"
        yield f"{package}: {listed(paths)} {'is' if len(paths) == 1 else 'are'} {what}."


def _versions(layer: NativeFiles) -> dict[str, Any]:
    """Tell the highest symbol versions that are needed of the runtime, and those that it has."""
    highest: dict[str, tuple[VersionNeed, LayerElf]] = {}
    for item, need in _version_needs(layer):
        if need.family in _FAMILIES:
            known = highest.setdefault(need.family, (need, item))
            if need.number > known[0].number:
                highest[need.family] = (need, item)
    ceilings = base_libraries.ceilings(layer.target.runtime.glibc)
    return {
        "runtime": {family: ceilings[family] for family in _FAMILIES},
        "highest": {
            family: {"version": need.version, **_file(item)}
            for family, (need, item) in sorted(highest.items())
        },
    }


def _version_needs(layer: NativeFiles) -> Iterator[tuple[LayerElf, VersionNeed]]:
    """List what is needed of the runtime's own libraries, not of copies in the layer found before them."""
    from_layer = {
        need
        for closure in layer.closures.values()
        for need, answer in closure.answers.items()
        if answer is not None
    }
    for path, item in layer.fitting.items():
        for need in item.facts.versions:
            if need.library in layer.base and (path, need.library) not in from_layer:
                yield item, need


def _too_new(layer: NativeFiles, *, essential: bool) -> Iterator[tuple[LayerElf, VersionNeed]]:
    ceilings = base_libraries.ceilings(layer.target.runtime.glibc)
    for item, need in _version_needs(layer):
        newer = base_libraries.is_newer(need.family, need.version, ceilings)
        if newer and (item.path in layer.essential) == essential:
            yield item, need


def _version_error(
    too_new: Sequence[tuple[LayerElf, VersionNeed]], layer: NativeFiles
) -> RuntimeTooOldError | None:
    if not too_new:
        return None
    item, need = too_new[0]
    runtime = layer.target.runtime
    ceilings = base_libraries.ceilings(runtime.glibc)
    family = need.family if need.family in ceilings else "GLIBC"
    ways_out = f"take an older version of {item.package}"
    if enough := _runtimes_with([other for _, other in too_new]):
        ways_out += f", or the runtime {listed(enough)}"
    hint = f"The wheel {item.wheel} needs more than its name says: {ways_out}."
    if not item.wheel:
        hint = "This machine's packages are made for a newer system than the runtime's: build in the image."
    return RuntimeTooOldError(
        f"{item.package}: {layer.shown(item.path)} needs {need} of {need.library}; {runtime.name} has"
        f" {family}_{ceilings[family]}{more(len({other.path for other, _ in too_new}) - 1)}.",
        hint=hint,
        details={
            "runtime": ceilings,
            "files": [
                _file(item) | {"needs": str(need), "of": need.library}
                for item, need in too_new[:_MAX_DETAILS]
            ],
        },
    )


def _runtimes_with(needs: Sequence[VersionNeed]) -> list[str]:
    return [
        runtime.name
        for runtime in RUNTIMES.values()
        if not any(
            base_libraries.is_newer(need.family, need.version, base_libraries.ceilings(runtime.glibc))
            for need in needs
        )
    ]


def _version_warnings(layer: NativeFiles) -> Iterator[str]:
    too_new: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for item, need in _too_new(layer, essential=False):
        too_new[item.package, str(need)][layer.shown(item.path)] = None
    for (package, version), paths in sorted(too_new.items()):
        yield (
            f"{package}: {listed(paths)} will not load, {layer.target.runtime.name} has no {version};"
            f" imports can do without."
        )


def _run_time_needs(
    layer: NativeFiles, files: Iterable[LayerFile]
) -> Iterator[tuple[str, Literal["loads", "starts"], list[str]]]:
    """Find the libraries that no list in a file names, and the programs, that packages lack."""
    present = {item.facts.soname or "" for item in layer.fitting.values()}
    packages = set()
    for path, package, _ in files:
        packages.add(package)
        if path in layer.fitting or path.startswith((f"{BIN}/", f"{LIBRARY_FOLDER}/")):
            present.add(path.rpartition("/")[2])
    for package in sorted(packages & base_libraries.RUN_TIME_NEEDS.keys()):
        needs = base_libraries.RUN_TIME_NEEDS[package]
        if not packages.isdisjoint(needs.brought_by):
            continue
        if libraries := [name for name in needs.libraries if name not in present]:
            yield package, "loads", libraries
        if programs := [name for name in needs.programs if name not in present]:
            yield package, "starts", programs


def _run_time_warnings(absent: Iterable[tuple[str, str, Sequence[str]]]) -> Iterator[str]:
    for package, verb, names in absent:
        advice = base_libraries.RUN_TIME_NEEDS[package].advice
        yield f"{package} {verb} {listed(names)}, which the layer has not. {advice}"


def _file(item: LayerElf) -> dict[str, Any]:
    return {"package": item.package, "file": f"{LAYER_ROOT}/{item.path}"}
