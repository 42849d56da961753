"""A build from end to end: requirements -> versions -> wheels -> layer -> proof -> zip where it should be."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_builder import delivery
from layer_builder.ground import cooldown, wording
from layer_builder.ground.errors import LayerTooLargeError, RequirementsError
from layer_builder.ground.target import Target
from layer_builder.indexes import sources
from layer_builder.layer import archive, companions, fit
from layer_builder.layer.fit import Fitted
from layer_builder.requirements import parser
from layer_builder.resolution import fixing, lock
from layer_builder.results import record, storage
from layer_builder.results.report import Layer, Package, Zip
from layer_builder.results.storage import S3Url
from layer_builder.wheels.fetch import fetch, is_cached, path_of
from layer_builder.wheels.publishers import Attested, Search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from layer_builder.ground.cooldown import Cooldown
    from layer_builder.ground.errors import BuildError
    from layer_builder.ground.settings import Settings
    from layer_builder.layer.archive import Plan
    from layer_builder.layer.bytecode import Compilation, Compiler
    from layer_builder.options import Options
    from layer_builder.proof.import_check import Modules
    from layer_builder.proof.prove import Proof
    from layer_builder.requirements.parser import Requirements
    from layer_builder.resolution.waiting import Waiting
    from layer_builder.results.report import Report
    from layer_builder.system_libraries.bundling import Bundled
    from layer_builder.wheels.pick import Pick
    from layer_builder.wheels.wheel import Wheel

_MAX_ROUNDS = 5

log = logging.getLogger("layer_builder")


@dataclass(slots=True)
class Build:
    """The build at hand.

    Attributes:
        options: what the command line asks for.
        settings: of the installation; once code of packages has run, with a cache of the build's own.
        report: what is found, as it is found.
        target: what the layer is for.
        wanted: what was asked for, by requirements or by a lock.
        picks: the file chosen for each package.
        ran_code: whether code of packages may have run.
        compiler: of bytecode, where that is wanted and can be had.
        bundled: system libraries that complete the layer.
        not_bundled: why none can be had, if some are wanted.
        lacking: libraries that imports failed for want of, and the packages whose imports those were.
        rounds: how many times imports were tried again with more libraries.
        said: how many of the report's warnings are about the choice, and so not about the layer.
        counting: the cooldown that counts, if there is one.
        search: for who published the files.
    """

    options: Options
    settings: Settings
    report: Report
    target: Target
    wanted: Requirements
    picks: Sequence[Pick]
    ran_code: bool = False
    compiler: Compiler | None = None
    bundled: tuple[Bundled, ...] = ()
    not_bundled: BuildError | None = None
    lacking: dict[str, str] = field(default_factory=dict)
    rounds: int = 0
    counting: Cooldown | None = None
    search: Search | None = None
    said: int = field(init=False)

    def __post_init__(self) -> None:
        """Draw the line between what was said of the choice and what will be said of the layer."""
        self.said = len(self.report.warnings)

    @property
    def digest(self) -> str:
        """The layer's name by what goes into it, as far as that is known."""
        asked = [line.project for line in self.wanted.lines]
        return digest(self.picks, self.target, self.options, self.compiler, self.bundled, asked)


def build(options: Options, settings: Settings, report: Report) -> None:
    """Build one layer and put it where the options say; the report is filled in as far as the build comes.

    Raises:
        BuildError: see `errors` for what can go wrong.
    """
    delivery.connect(options)
    target = Target.of(options.runtime, options.architecture)
    compiler = _compiler(target) if options.bytecode else None
    at_hand = choose(options, settings, report)
    at_hand.compiler = compiler() if compiler else None
    # What system packages bring is known only later; without them, wheels alone may be all it takes.
    if not _needs_more(at_hand) and reuse(at_hand, at_hand.digest):
        return
    with ExitStack() as end:
        compilation = _compilation(at_hand, end)
        wheels = _fetch(at_hand, end, compilation)
        layer = _make(at_hand, _plan(at_hand, wheels), wheels, compilation)
        if layer is None:
            return
        _attest(at_hand)
        if delivery.is_for_others(options):
            _record(at_hand, layer)
        _describe(at_hand, layer)


def digest(
    picks: Sequence[Pick],
    target: Target,
    options: Options,
    compiler: Compiler | None,
    bundled: Sequence[Bundled] = (),
    asked: Sequence[str] = (),
) -> str:
    """Name what goes into a layer: the same wheels for the same target give the same zip.

    System libraries count by their own digests, where a layer has some; with bytecode, so do compiler and
    limit: whether it is added depends on the room there is. Of a package that is built from source, the
    source counts; its wheel is not known yet. The projects that may be built so count by name, needed or not.
    What is left out to make the layer fit, or slim, follows from all that, the limit, and those of the
    packages that are `asked` for which would go otherwise.
    """
    content: dict[str, object] = {
        "format": archive.FORMAT,
        "architecture": target.architecture,
        "runtime": target.runtime.name,
        "wheels": sorted(pick.sha256 for pick in picks),
    }
    if compiler:
        content["bytecode"] = [compiler.identity, options.size_limit]
    if options.fit or options.slim:
        kept = fit.asked_for(asked)
        content["left_out"] = [options.slim, options.size_limit if options.fit else None, kept]
    # With them, code of packages may run before the zip is made: no layer without is ever taken from there.
    if options.sdist_projects:
        content["sources"] = sorted(options.sdist_projects)
    if bundled:
        content["libraries"] = sorted([one.path, one.library.sha256] for one in bundled)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def choose(options: Options, settings: Settings, report: Report) -> Build:
    """Find the file of each package: from requirements, or as a lock has it.

    Raises:
        BuildError: see `resolution.resolve` and `resolution.lock`.
    """
    target = Target.of(options.runtime, options.architecture)
    ran_code = False
    counting = _cooldown(options, settings, report)
    if lock.is_lock(options.path):
        content = storage.read(options.path, options.version_id, limit=lock.MAX_BYTES)
        locked = lock.read(content, target, options.sdist_projects, settings.allowed)
        wanted, picks = locked.requirements, locked.picks
        fixing.check_locked(options.fixed, picks)
        counting = _with_fixes(options, settings, wanted, counting, report)
        report.requirements = wanted.asked
        report.warnings += locked.remarks.warnings
        if report.cooldown:
            report.cooldown["left_out"] = list(locked.remarks.left_out)
        log.info("a lock of %d packages for %s", len(picks), target)
    else:
        wanted = parser.parse(_read(options), settings.allowed, options.constraints)
        report.requirements = wanted.asked
        log.info("%d requirements for %s", len(wanted.lines), target)
        threading.Thread(target=_get_ready, args=(settings,), daemon=True).start()
        with report.timed("resolve"):
            counting = _with_fixes(options, settings, wanted, counting, report)
            resolution = fixing.resolve_with(
                options.fixed, wanted, target, settings, options.sdist_projects, counting
            )
        report.warnings += resolution.warnings
        if report.cooldown:
            report.cooldown["left_out"] = [_waiting(one) for one in resolution.waiting]
        picks, ran_code = resolution.picks, resolution.ran_code
        names = {pick.name for pick in picks}
        report.warnings += [
            f"Nothing requires {fix.project}, so the fix {fix} changes nothing."
            for fix in options.fixed
            if fix.project not in names
        ]
    picks = _without_excluded(picks, options, report)
    if counting and lock.is_lock(options.path):
        # Before anything is taken for known: a lock may name what is as young as can be.
        with report.timed("resolve"):
            picks = tuple(lock.located(picks, settings, wanted.origins, counting))
    return Build(options, settings, report, target, wanted, picks, ran_code, counting=counting)


def _cooldown(options: Options, settings: Settings, report: Report) -> Cooldown | None:
    """Fix for the whole build before when what is chosen must have been uploaded."""
    asked, floor = options.rule, settings.cooldown
    counting = cooldown.cooldown(asked, floor)
    if counting is None:
        if options.cooldown_exempt:
            report.warnings.append("There is no cooldown, so --cooldown-exempt exempts from nothing.")
        return None
    if asked and floor and asked.age < floor.age:
        report.warnings.append(
            f"The installation's cooldown of {cooldown.worded(floor.age)} counts, which is longer than the "
            f"{cooldown.worded(asked.age)} asked for."
        )
    names = cooldown.normalized(options.cooldown_exempt)
    if floor and (barred := sorted(names - floor.exempt)):
        report.warnings.append(
            f"The installation's cooldown of {cooldown.worded(floor.age)} counts for "
            f"{wording.listed(barred)}, too: --cooldown-exempt does not lower it."
        )
    report.cooldown = {
        "duration": cooldown.worded(counting.longest),
        "cutoff": cooldown.stamp(counting.cutoff),
        "exempt": _exempt(counting),
        "fixes": [],
        "left_out": [],
    }
    return counting


def _exempt(counting: Cooldown) -> list[str]:
    return [name for name in counting.named if counting.before(name) != counting.cutoff]


def _with_fixes(
    options: Options, settings: Settings, wanted: Requirements, counting: Cooldown | None, report: Report
) -> Cooldown | None:
    """Have the cooldown admit what the fixes are for, and say so."""
    if counting and report.cooldown and options.fixed:
        counting = fixing.admitted(options.fixed, counting, sources.of(settings, wanted.origins))
        until = dict(counting.fixed)
        report.cooldown["exempt"] = _exempt(counting)
        report.cooldown["fixes"] = [
            {"package": fix.project, "version": str(fix.version), "until": cooldown.stamp(until[fix.project])}
            for fix in options.fixed
            if fix.project in until
        ]
    return counting


def _waiting(one: Waiting) -> dict[str, str | None]:
    return {
        "package": one.package,
        "version": one.version,
        "taken": one.taken,
        "uploaded": cooldown.stamp(one.uploaded) if one.uploaded else None,
        "admitted_from": cooldown.stamp(one.admitted_from) if one.admitted_from else None,
    }


def _without_excluded(picks: Sequence[Pick], options: Options, report: Report) -> tuple[Pick, ...]:
    """Leave out what is to come from elsewhere; it was resolved, so the rest fits its version.

    Raises:
        RequirementsError: nothing is left.
    """
    names = {pick.name for pick in picks}
    # A lock of ours has been written without them.
    for name in () if lock.is_lock(options.path) else sorted(options.excluded - names):
        near = get_close_matches(name, names, n=1)
        report.warnings.append(
            f"Nothing requires {name}, so there is nothing of it to exclude."
            + (f" Did you mean {near[0]}?" if near else "")
        )
    if names and names <= options.excluded:
        raise RequirementsError(
            f"All {len(names)} packages are excluded, so the layer would be empty.",
            hint="Exclude only what the runtime or another layer of the function has.",
        )
    return tuple(pick for pick in picks if pick.name not in options.excluded)


def _get_ready(settings: Settings) -> None:
    """Load what comes after the resolving while that waits for uv; with a new cache, for downloads too."""
    if not (settings.cache / "wheels").exists():
        from elftools.elf import elffile  # noqa: F401

        from layer_builder.indexes import web

        web.prepare()
    from layer_builder.proof import prove  # noqa: F401


def _read(options: Options) -> str:
    if options.inline:
        return options.inline.replace("|", "\n")
    return parser.decode(storage.read(options.path, options.version_id, limit=parser.MAX_BYTES))


def _compiler(target: Target) -> Callable[[], Compiler | None]:
    """Look for who compiles bytecode, while versions are being resolved."""
    found: list[Compiler | None] = []

    def find() -> None:
        from layer_builder.layer.bytecode import Compiler

        found.append(Compiler.find(target))

    def wait() -> Compiler | None:
        thread.join()
        return found[0]

    thread = threading.Thread(target=find, daemon=True)
    thread.start()
    return wait


def _compilation(build: Build, end: ExitStack) -> Compilation | None:
    """Have the wheels' modules compiled as they arrive, if that is wanted."""
    if not build.options.bytecode:
        return None
    from layer_builder.layer.bytecode import Compilation

    return end.enter_context(Compilation(build.target, build.compiler))


def choice(build: Build, workshop: str) -> str:
    """Name what was chosen and what was asked, before anything is fetched; for a workshop by its name.

    What else goes into a layer (who compiles, which system libraries there are) is the workshop's, and does
    not change while it has that name: what it made of a choice it would make of it again.
    """
    options = build.options
    content = [
        workshop,
        digest(build.picks, build.target, options, None, asked=[line.project for line in build.wanted.lines]),
        _asked(build),
        sorted(options.system_libraries),
        sorted(options.needed_libraries),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _asked(build: Build) -> dict[str, Any]:
    """Name what a build's findings depend on beside the digest: what it checked, and against which limit."""
    return {
        "bytecode": build.options.bytecode,
        "exclude": sorted(build.options.excluded),
        "import_check": build.options.import_check,
        "size_limit": build.options.size_limit,
        "system_libraries": build.options.bundles,
        "projects": sorted({line.project for line in build.wanted.lines}),
    }


def _needs_more(build: Build) -> bool:
    """Tell whether it is known before any wheel is fetched that wheels alone are not to be the layer."""
    from layer_builder.proof import base_libraries

    if _asks_for_libraries(build.options):
        return True
    names = {pick.name for pick in build.picks} if build.options.bundles else set()
    return any(
        base_libraries.RUN_TIME_NEEDS[name].libraries
        and names.isdisjoint(base_libraries.RUN_TIME_NEEDS[name].brought_by)
        for name in names & base_libraries.RUN_TIME_NEEDS.keys()
    )


def _asks_for_libraries(options: Options) -> bool:
    """Tell whether libraries are asked for by name, or packages that have some."""
    return bool(options.system_packages or options.needed_libraries)


def reuse(build: Build, name: str) -> bool:
    """Take the zip of this digest that is there already, with what was found of it; tell whether it is.

    Raises:
        StorageDeniedError, StorageUnavailableError: lock or bill of materials cannot be left.
    """
    report, shelf = build.report, delivery.shelf(build.options)
    if not shelf:
        return False
    url = S3Url.parse(f"{shelf}{name}.zip")
    with report.timed("lookup"):
        known = record.load(url, _asked(build))
    if known is None:
        return False
    log.info("%s is there already", url)
    report.packages = list(known.packages)
    report.system_packages = list(known.system_packages)
    report.checks |= known.checks
    report.warnings[build.said :] = known.warnings
    sizes = known.file_bytes
    build.picks = [replace(pick, size=sizes.get(pick.filename, pick.size)) for pick in build.picks]
    place = Zip(str(url), url.bucket, url.key, known.bytes, known.unzipped_bytes)
    description = delivery.description(build.options, report)
    layer = Layer(build.options.name, description, build.options.license, name, known.code_sha256, place)
    _describe(build, layer)
    return True


def _fetch(build: Build, end: ExitStack, compilation: Compilation | None) -> list[Wheel]:
    """Get the wheels: those of a lock from where the index has them, those of sources by building them."""
    cached = sum(is_cached(pick, build.settings) for pick in build.picks)
    log.info("%d packages, %d of them in the cache", len(build.picks), cached)
    origins, picks = build.wanted.origins, build.picks
    with build.report.timed("fetch"):
        if lock.is_lock(build.options.path) and not build.counting:
            picks = lock.located(picks, build.settings, origins)
        attested = picks
        if any(pick.is_sdist for pick in picks):
            from layer_builder.resolution import sdist

            build.ran_code = True
            picks = sdist.as_wheels(picks, build.target, build.settings, origins, build.counting)
        # That code could write into the shared cache: wheels in the place of others, what was found out about
        # them, imports that are said to have passed.
        own = Path(end.enter_context(_folder())) if build.ran_code else None
        arrived = (compilation.start,) if compilation else ()
        build.search = Search(attested, build.settings, origins, own)
        end.callback(build.search.stop)
        wheels = fetch(picks, build.settings, origins, own, *arrived)
    build.picks = [_measured(pick, build.settings) for pick in build.picks]
    if own:
        build.settings = replace(build.settings, cache=own)
    return wheels


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="layer-builder-")


def _measured(pick: Pick, settings: Settings) -> Pick:
    """Note the length of a package's file, which indexes need not tell."""
    path = path_of(pick, settings)
    return replace(pick, size=path.stat().st_size) if path.exists() else pick


def _plan(build: Build, wheels: Sequence[Wheel]) -> Plan:
    """Lay out what goes where."""
    report = build.report
    with report.timed("plan"):
        plan = archive.plan(wheels, build.target)
    report.warnings += plan.warnings
    report.warnings += companions.warnings(wheel.pick.name for wheel in wheels)
    report.packages = [_package(wheel, plan) for wheel in wheels]
    return plan


def _fit(build: Build, plan: Plan, added: int = 0) -> Fitted:
    """Leave out what the layer can do without: if that is wanted, or if it will be too large otherwise."""
    options = build.options
    asked = {line.project for line in build.wanted.lines}
    if options.slim:
        with build.report.timed("fit"):
            return fit.slim(plan, asked)
    if options.fit and plan.unzipped_bytes + added > options.size_limit:
        with build.report.timed("fit"):
            return fit.fit(plan, options.size_limit, asked, added)
    return Fitted(plan)


def _make(build: Build, plan: Plan, wheels: Sequence[Wheel], compilation: Compilation | None) -> Layer | None:
    """Prove a layer, complete it, write it, import it: again if an import names libraries that can be had.

    Returns:
        The layer; None if it was there already.
    """
    from layer_builder.proof.import_check import ImportCheckError
    from layer_builder.proof.libraries import MissingLibraryError

    report, failed = build.report, None
    said = len(report.warnings)
    while True:
        del report.warnings[said:]
        report.checks.pop("left_out", None)
        before = {one.path for one in build.bundled}
        complete = _prove(build, plan)
        if failed and {one.path for one in build.bundled} == before:
            _tell_of_bundling(build, failed)
            raise failed
        if build.bundled:
            if reuse(build, build.digest):
                return None
            complete = _with_libraries(build, complete)
        report.packages = [_package(wheel, complete) for wheel in wheels]
        if compilation:
            complete = _with_bytecode(build, complete, wheels, compilation)
        lacked = dict(build.lacking)
        try:
            return _deliver(build, complete)
        except (ImportCheckError, MissingLibraryError) as error:
            if build.lacking == lacked or not _may_try_again(build):
                _tell_of_bundling(build, error)
                raise
            build.rounds += 1
            failed = error
            log.info("imports lack %s", ", ".join(sorted(build.lacking.keys() - lacked.keys())))


def _may_try_again(build: Build) -> bool:
    """Tell whether to go on after an import that failed for want of libraries.

    Not where the modules could reach the builder's files: what comes next is made of those.
    """
    confined = build.report.checks.get("imports", {}).get("files") == "its own"
    return build.options.bundles and confined and build.rounds < _MAX_ROUNDS


def _prove(build: Build, plan: Plan) -> Plan:
    """Prove what can be proved before there is a zip; find the system libraries that have to complete it.

    Returns:
        The plan as it was proved: made to fit, those libraries considered.
    """
    from layer_builder.proof.prove import prove

    report, target, limit = build.report, build.target, build.options.size_limit
    fitted = _fit(build, plan)
    with report.timed("prove"):
        proof = prove(fitted.plan, target, limit=limit)
        build.bundled = _find_libraries(build, fitted.plan, proof)
        if build.bundled:
            native = [one.native for one in build.bundled]
            larger = _fit(build, plan, sum(one.facts.size for one in native))
            completed = prove(larger.plan, target, added=native, limit=limit)
            # What the layer may do without, and nobody asked for by its name, is not worth an error.
            if completed.error and not proof.errors and not _asks_for_libraries(build.options):
                build.bundled, build.not_bundled = (), completed.error
            else:
                fitted, proof = larger, completed
    report.checks |= proof.checks
    if fitted.groups:
        report.checks["left_out"] = fitted.check
        report.warnings.append(fitted.sentence)
    report.warnings += proof.warnings
    if proof.by_name and build.not_bundled:
        report.warnings.append(f"Missing libraries could not be bundled: {build.not_bundled.message}")
    if error := proof.error:
        if isinstance(error, LayerTooLargeError) and fitted.groups:
            error.hint = f"{fitted.sentence} That was not enough. {error.hint}"
            error.details["left_out"] = fitted.check["left_out"]
        _tell_of_bundling(build, error)
        raise error
    needed = ", ".join(str(one) for one in proof.checks["libraries"]["from_runtime"]) or "nothing"
    log.info("proved %d native files; of the runtime they need %s", proof.checks["elf"]["files"], needed)
    return fitted.plan


def _find_libraries(build: Build, plan: Plan, proof: Proof) -> tuple[Bundled, ...]:
    """Find the system libraries that the layer lacks, if they are wanted and that is all that is wrong.

    Where none can be had, what is missing stays missing: an error or a warning, as where none are wanted.
    """
    options = build.options
    if not options.bundles:
        return ()
    from layer_builder.proof.libraries import MissingLibraryError

    asked = _asks_for_libraries(options)
    if not (proof.missing or proof.by_name or asked or build.lacking):
        return ()
    if any(not isinstance(error, MissingLibraryError) for error in proof.errors):
        return ()
    from layer_builder.proof import prove
    from layer_builder.system_libraries import bundling
    from layer_builder.system_libraries.package_manager import (
        RepositoryError,
        SystemLibrariesUnavailableError,
    )

    wanted = bundling.wanted(proof.missing)
    by_name = [bundling.LoadedByName(library, package) for package, library in proof.by_name]
    by_name += [bundling.LoadedByName(library, stops=True) for library in options.needed_libraries]
    by_name += [bundling.LoadedByName(library, package) for library, package in build.lacking.items()]
    stopping = [one.library for one in wanted if one.stops]
    if not all(map(bundling.can_be_had, stopping)) or len(wanted) > bundling.MOST:
        return ()
    if not wanted and not by_name and not options.system_packages:
        return ()
    with build.report.timed("system_libraries"), storage.unwritable(tempfile.gettempdir()):
        native = prove.native_files(plan)
        try:
            return bundling.find(native, build.target, options.system_packages, build.settings, by_name)
        except (SystemLibrariesUnavailableError, RepositoryError) as reason:
            if asked:
                raise
            build.not_bundled = reason
            return ()


def _tell_of_bundling(build: Build, error: BuildError) -> None:
    """Add to the error of missing libraries how to have them bundled, or why they could not be."""
    from layer_builder.proof import base_libraries
    from layer_builder.proof.libraries import MissingLibraryError

    if not isinstance(error, MissingLibraryError) and not build.lacking:
        return
    if reason := build.not_bundled:
        error.hint = wording.sentence(
            f"{error.hint} The libraries could not be bundled: {reason.message} {reason.hint}"
        )
        error.details["bundling"] = {"code": reason.code, "message": reason.message}
        error.exit_status = reason.exit_status
    elif not build.options.bundles and build.target.runtime.glibc >= base_libraries.SYSTEM_GLIBC:
        error.hint = wording.sentence(
            f'{error.hint} Or have them bundled from Amazon Linux: system-libraries = "auto"'
            " (--system-libraries auto)."
        )


def _with_libraries(build: Build, plan: Plan) -> Plan:
    """Add the system libraries to the layer."""
    from layer_builder.system_libraries import bundling

    build.report.system_packages = bundling.packages_of(build.bundled)
    for package in build.report.system_packages:
        names = ", ".join(file.path for file in package.files)
        log.info("%s of %s %s (%s)", names, package.name, package.version, package.license)
    return bundling.add(plan, build.bundled)


def _with_bytecode(build: Build, plan: Plan, wheels: Sequence[Wheel], compilation: Compilation) -> Plan:
    """Add the modules' bytecode, if it can be compiled and fits."""
    from layer_builder.layer.bytecode import Bytecode, BytecodeError, room
    from layer_builder.proof import prove, sizes

    report, limit = build.report, build.options.size_limit
    with report.timed("bytecode"):
        try:
            compiled = compilation.add(plan, wheels, room(plan, limit))
        except BytecodeError as error:
            # The layer without is another one, and has its name.
            build.compiler = None
            compiled = Bytecode(plan, str(error))
    report.checks["bytecode"] = compiled.check
    report.checks["size"] = sizes.measure(prove.files_of(compiled.plan), limit).check
    if compiled.warning:
        report.warnings.append(compiled.warning)
    report.packages = [_package(wheel, compiled.plan) for wheel in wheels]
    return compiled.plan


def _deliver(build: Build, plan: Plan) -> Layer:
    """Write the zip, and put it where it is wanted once its imports have passed."""

    def check(file: Path, code_sha256: str) -> None:
        _check_imports(build, plan, file, code_sha256)

    return delivery.deliver(plan, build.options, build.digest, build.report, check)


def _asked_for(build: Build, plan: Plan) -> list[Modules]:
    """Find the modules of the packages that the requirements name, not of those that came along."""
    from layer_builder.proof.import_check import modules_of

    paths: dict[str, list[str]] = {line.project: [] for line in build.wanted.lines}
    for entry in plan.entries:
        if (name := entry.wheel.pick.name) in paths:
            paths[name].append(entry.path)
    return [modules_of(name, found, build.target) for name, found in sorted(paths.items()) if found]


def _check_imports(build: Build, plan: Plan, file: Path, code_sha256: str) -> None:
    """Import from the finished zip what was asked for; a zip that fails goes nowhere."""
    from layer_builder.proof import import_check

    report, modules = build.report, _asked_for(build, plan)
    if not build.options.import_check:
        differs = import_check.differs_wrapped((entry.path for entry in plan.entries), build.target)
        report.checks["imports"] = import_check.left(modules, differs=differs)
        return
    with report.timed("imports"):
        try:
            result = import_check.check(
                file,
                build.target,
                modules,
                kept=build.settings.cache / "imports",
                digest=build.digest,
                code_sha256=code_sha256,
                elsewhere=build.options.excluded,
            )
        except OSError as problem:  # no room to unpack the layer once more says nothing about it
            result = import_check.Result("not_run", f"the layer could not be unpacked ({problem})")
    report.checks["imports"] = result.check
    for failure in result.failures:
        build.lacking |= dict.fromkeys(failure.libraries, failure.package)
    report.warnings += result.warnings
    if error := result.error:
        error.hint = " ".join((error.hint, *_not_in_it(build)))
        raise error
    if result.status == "not_run":
        log.info("imports not checked: %s", result.reason)
    else:
        log.info("imported %s with Python %s", ", ".join(result.modules), result.python)


def _not_in_it(build: Build) -> Iterator[str]:
    """Say what an import may lack because the layer was to do without."""
    if "left_out" in build.report.checks:
        yield (
            "Files were left out of this layer (left_out among its checks): without slim, and with"
            " fit = false, they stay."
        )
    if build.options.excluded:
        yield f"Excluded from it: {wording.listed(sorted(build.options.excluded))}."


def _attest(build: Build) -> None:
    """Note who published the files, as far as that was found by now or is within moments."""
    report = build.report
    with report.timed("publishers"):
        found = build.search.found() if build.search else {}
    unknown = Attested()
    report.packages = [
        replace(
            package,
            attested=(one := found.get(package.name, unknown)).attested,
            provenance=one.provenance and lock.without_credentials(one.provenance),
            publishers=one.publishers,
        )
        for package in report.packages
    ]


def _record(build: Build, layer: Layer) -> None:
    """Leave what was found of the layer for builds that will come to the same one."""
    report = build.report
    known = record.Record(
        _asked(build),
        layer.code_sha256,
        layer.zip.bytes,
        layer.zip.unzipped_bytes,
        tuple(report.packages),
        tuple(report.system_packages),
        {pick.filename: pick.size for pick in build.picks if pick.size is not None},
        report.checks,
        tuple(report.warnings[build.said :]),
    )
    url = delivery.s3_url(build.options, layer.digest)
    if url is not None:
        record.save(url, known, is_new=bool(build.options.staging))


def _describe(build: Build, layer: Layer) -> None:
    """Tell of the layer, and leave lock and bill of materials beside the report."""
    build.report.layer = layer
    if not (place := build.options.report_place):
        return
    from layer_builder.results import sbom

    folder, is_new = place.rpartition("/")[0], bool(build.options.staging)
    beside = f"{folder}/" if folder or place.startswith("/") else ""
    bill = sbom.document(layer, build.report)
    storage.write(f"{beside}{sbom.NAME}", bill, "application/json", is_new=is_new)
    place = f"{beside}{lock.NAME}"
    if lock.is_anothers(place):
        build.report.warnings.append(f"{place} is not layer-builder's own, so the lock was not written.")
    else:
        publishers = {package.name: package.publishers for package in build.report.packages}
        text = lock.text(build.wanted, build.picks, build.target, build.counting, publishers=publishers)
        storage.write(place, text.encode(), "application/toml", is_new=is_new)


def _package(wheel: Wheel, plan: Plan) -> Package:
    pick = wheel.pick
    return Package(pick.name, pick.version, pick.filename, pick.sha256, plan.sizes[pick.name], wheel.license)
