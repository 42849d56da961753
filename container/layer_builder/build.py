"""A build from end to end: requirements -> target -> versions -> wheels -> zip -> where it should be."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder import archive, files, lock, record, requirements, storage
from layer_builder.fetch import fetch, is_cached, path_of
from layer_builder.limits import MAX_DESCRIPTION
from layer_builder.options import staged
from layer_builder.report import Layer, Package, Zip
from layer_builder.resolve import resolve
from layer_builder.storage import S3Url
from layer_builder.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from layer_builder.archive import Plan, Written
    from layer_builder.bytecode import Compiler
    from layer_builder.import_check import Modules
    from layer_builder.options import Options
    from layer_builder.prove import Proof
    from layer_builder.report import Report
    from layer_builder.requirements import Requirements
    from layer_builder.resolve import Pick
    from layer_builder.settings import Settings
    from layer_builder.system_libraries import Bundled
    from layer_builder.wheel import Wheel

_STAGED = "layer.zip"

log = logging.getLogger("layer_builder")


def build(options: Options, settings: Settings, report: Report) -> None:
    """Build one layer and put it where the options say; the report is filled in as far as the build comes.

    Raises:
        BuildError: see `errors` for what can go wrong.
    """
    with ExitStack() as end:
        _build(options, settings, report, end)


def _build(options: Options, settings: Settings, report: Report, end: ExitStack) -> None:
    target = Target.of(options.runtime, options.architecture)
    places = (options.path, options.output, options.report, options.staging)
    if options.publish_bucket or any(map(storage.is_s3, places)):
        storage.connect(publishing=bool(options.publish_bucket))
    wanted, picks, ran_code = _choose(options, target, settings, report)
    compiler = _compiler(target) if options.bytecode else None
    name = digest(picks, target, options, compiler)
    # What named system packages bring is known only later; without them, wheels alone may be all it takes.
    if not options.system_packages and _reuse(options, name, wanted, picks, target, report):
        return

    cached = sum(is_cached(pick, settings) for pick in picks)
    log.info("%d packages, %d of them in the cache", len(picks), cached)
    with report.timed("fetch"):
        ran_code |= any(pick.is_sdist for pick in picks)
        built = _without_sources(options, wanted, picks, target, settings)
        own = end.enter_context(_own_cache()) if ran_code else None
        wheels = fetch(built, settings, wanted.origins, own)
    picks = [_measured(pick, settings) for pick in picks]
    if own:
        settings = replace(settings, cache=own)
    said_before = len(report.warnings)

    with report.timed("plan"):
        plan = archive.plan(wheels, target)
    report.warnings += plan.warnings
    report.packages = [_package(wheel, plan) for wheel in wheels]

    with report.timed("prove"):
        bundled = _prove(plan, target, options, settings, report)
    if bundled:
        plan, name = _with_libraries(plan, bundled, picks, target, options, compiler, report)
        found = report.warnings[said_before:]
        del report.warnings[said_before:]
        if _reuse(options, name, wanted, picks, target, report):
            return
        report.warnings += found
    if options.bytecode:
        plan = _with_bytecode(plan, wheels, target, compiler, options, report)
        report.packages = [_package(wheel, plan) for wheel in wheels]

    modules = _asked_for(wanted, plan, target)

    def check(file: Path, code_sha256: str) -> None:
        _check_imports(file, code_sha256, modules, name, target, options, settings, report)

    layer = _deliver(options, target, name, plan, check, report)
    if options.staging or _is_shared(options):
        _record(options, layer, wanted, picks, report, report.warnings[said_before:])
    _describe(options, layer, wanted, picks, target, report)
    report.layer = layer


def digest(
    picks: Sequence[Pick],
    target: Target,
    options: Options,
    compiler: Compiler | None,
    bundled: Sequence[Bundled] = (),
) -> str:
    """Name what goes into a layer: the same wheels for the same target give the same zip.

    System libraries count by their own digests, where a layer has some; with bytecode, so do compiler and
    limit: whether it is added depends on the room there is. Of a package that is built from source, the
    source counts; its wheel is not known yet. The projects that may be built so count by name, needed or not.
    """
    content: dict[str, object] = {
        "format": archive.FORMAT,
        "architecture": target.architecture,
        "runtime": target.runtime.name,
        "wheels": sorted(pick.sha256 for pick in picks),
    }
    if compiler:
        content["bytecode"] = [compiler.identity, options.size_limit]
    # With them, code of packages may run before the zip is made: no layer without is ever taken from there.
    if options.sdist_projects:
        content["sources"] = sorted(options.sdist_projects)
    if bundled:
        content["libraries"] = sorted([one.path, one.library.sha256] for one in bundled)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _choose(
    options: Options, target: Target, settings: Settings, report: Report
) -> tuple[Requirements, list[Pick], bool]:
    """Find the file of each package, from requirements or as a lock has it; tell whether foreign code ran."""
    if lock.is_lock(options.path):
        content = storage.read(options.path, options.version_id, limit=lock.MAX_BYTES)
        locked = lock.read(content, target, options.sdist_projects, settings.allowed)
        report.requirements = locked.requirements.asked
        log.info("a lock of %d packages for %s", len(locked.picks), target)
        return locked.requirements, list(locked.picks), False

    wanted = requirements.parse(_read(options), settings.allowed, options.constraints)
    report.requirements = wanted.asked
    log.info("%d requirements for %s", len(wanted.lines), target)
    threading.Thread(target=_get_ready, args=(settings,), daemon=True).start()
    with report.timed("resolve"):
        resolution = resolve(wanted, target, settings, options.sdist_projects)
    report.warnings += resolution.warnings
    return wanted, list(resolution.picks), resolution.ran_code


def _get_ready(settings: Settings) -> None:
    """Load what comes after the resolving while that waits for uv; with a new cache, for downloads too."""
    if not (settings.cache / "wheels").exists():
        from elftools.elf import elffile  # noqa: F401

        from layer_builder import web

        web.prepare()
    from layer_builder import import_check, prove  # noqa: F401


def _read(options: Options) -> str:
    if options.inline:
        return options.inline.replace("|", "\n")
    return requirements.decode(storage.read(options.path, options.version_id, limit=requirements.MAX_BYTES))


@contextmanager
def _own_cache() -> Iterator[Path]:
    """Give a build in which code of packages has run a cache of its own, for all that comes after.

    That code could write into the shared one: wheels in the place of others, what was found out about them,
    imports that are said to have passed.
    """
    with tempfile.TemporaryDirectory(prefix="layer-builder-") as folder:
        yield Path(folder)


def _without_sources(
    options: Options, wanted: Requirements, picks: Sequence[Pick], target: Target, settings: Settings
) -> Sequence[Pick]:
    """Say where the files of a lock are, and build those that are sources."""
    origins = wanted.origins
    if lock.is_lock(options.path):
        picks = lock.located(picks, settings, origins)
    if any(pick.is_sdist for pick in picks):
        from layer_builder import sdist

        picks = sdist.as_wheels(picks, target, settings, origins)
    return picks


def _measured(pick: Pick, settings: Settings) -> Pick:
    """Note the length of a package's file, which indexes need not tell."""
    path = path_of(pick, settings)
    return replace(pick, size=path.stat().st_size) if path.exists() else pick


def _is_shared(options: Options) -> bool:
    """Tell whether the zip goes, under its digest, where other builds look for theirs."""
    return storage.is_s3(options.output) and options.output.endswith("/")


def _reuse(
    options: Options,
    name: str,
    wanted: Requirements,
    picks: Sequence[Pick],
    target: Target,
    report: Report,
) -> bool:
    """Take the zip that is there already, if it is the one, with what was found of it."""
    shelf = options.reuse if options.staging else options.output if _is_shared(options) else ""
    if not shelf:
        return False
    url = S3Url.parse(f"{shelf}{name}.zip")
    with report.timed("lookup"):
        known = record.load(url, record.asked_of(options, wanted))
    if known is None:
        return False
    log.info("%s is there already", url)
    report.packages = list(known.packages)
    report.system_packages = list(known.system_packages)
    report.checks |= known.checks
    report.warnings += known.warnings
    place = Zip(str(url), url.bucket, url.key, known.bytes, known.unzipped_bytes)
    layer = Layer(
        options.name, _description(options, report), options.license, name, known.code_sha256, place
    )
    sizes = known.file_bytes
    picks = [replace(pick, size=sizes.get(pick.filename, pick.size)) for pick in picks]
    _describe(options, layer, wanted, picks, target, report)
    report.layer = layer
    return True


def _record(
    options: Options,
    layer: Layer,
    wanted: Requirements,
    picks: Sequence[Pick],
    report: Report,
    warnings: Sequence[str],
) -> None:
    """Leave what was found of the layer for builds that will come to the same one."""
    known = record.Record(
        record.asked_of(options, wanted),
        layer.code_sha256,
        layer.zip.bytes,
        layer.zip.unzipped_bytes,
        tuple(report.packages),
        tuple(report.system_packages),
        {pick.filename: pick.size for pick in picks if pick.size is not None},
        report.checks,
        tuple(warnings),
    )
    url = _s3_url(options, layer.digest)
    if url is not None:
        record.save(url, known, is_new=bool(options.staging))


def _describe(
    options: Options,
    layer: Layer,
    wanted: Requirements,
    picks: Sequence[Pick],
    target: Target,
    report: Report,
) -> None:
    """Leave lock and bill of materials beside the report."""
    place = options.report_place
    if not place:
        return
    from layer_builder import sbom

    folder, is_new = place.rpartition("/")[0], bool(options.staging)
    beside = f"{folder}/" if folder or place.startswith("/") else ""
    storage.write(f"{beside}{sbom.NAME}", sbom.document(layer, report), "application/json", is_new=is_new)
    place = f"{beside}{lock.NAME}"
    if lock.is_anothers(place):
        report.warnings.append(f"{place} is not layer-builder's own, so the lock was not written.")
    else:
        storage.write(place, lock.text(wanted, picks, target).encode(), "application/toml", is_new=is_new)


def _compiler(target: Target) -> Compiler | None:
    from layer_builder.bytecode import Compiler

    return Compiler.find(target)


def _prove(
    plan: Plan, target: Target, options: Options, settings: Settings, report: Report
) -> tuple[Bundled, ...]:
    """Prove what can be proved before there is a zip; return the system libraries that are to complete it."""
    from layer_builder.prove import prove

    proof = prove(plan, target, limit=options.size_limit)
    bundled = _find_libraries(plan, proof, target, options, settings, report)
    if bundled:
        proof = prove(plan, target, added=[one.native for one in bundled], limit=options.size_limit)
    report.checks |= proof.checks
    report.warnings += proof.warnings
    if error := proof.error:
        raise error
    needed = ", ".join(str(one) for one in proof.checks["libraries"]["from_runtime"]) or "nothing"
    log.info("proved %d native files; of the runtime they need %s", proof.checks["elf"]["files"], needed)
    return bundled


def _find_libraries(
    plan: Plan, proof: Proof, target: Target, options: Options, settings: Settings, report: Report
) -> tuple[Bundled, ...]:
    """Find the system libraries that the layer lacks, if they are wanted and that is all that is wrong."""
    if not options.bundles:
        return ()
    from layer_builder import prove, system_libraries
    from layer_builder.libraries import MissingLibraryError
    from layer_builder.package_manager import SystemLibrariesUnavailableError

    wanted = system_libraries.wanted(proof.missing)
    if not wanted and not options.system_packages:
        return ()
    if any(not isinstance(error, MissingLibraryError) for error in proof.errors):
        return ()
    with report.timed("system_libraries"), storage.unwritable(tempfile.gettempdir()):
        native = prove.native_files(plan)
        try:
            return system_libraries.find(native, target, options.system_packages, settings)
        except SystemLibrariesUnavailableError:
            if options.system_packages or any(one.stops for one in wanted):
                raise
            return ()  # the runtime may have what is missing: the proof's warning remains


def _with_libraries(
    plan: Plan,
    bundled: Sequence[Bundled],
    picks: Sequence[Pick],
    target: Target,
    options: Options,
    compiler: Compiler | None,
    report: Report,
) -> tuple[Plan, str]:
    """Add the system libraries to the layer and to its digest."""
    from layer_builder import system_libraries

    report.system_packages = system_libraries.packages_of(bundled)
    for package in report.system_packages:
        names = ", ".join(file.path for file in package.files)
        log.info("%s of %s %s (%s)", names, package.name, package.version, package.license)
    return system_libraries.add(plan, bundled), digest(picks, target, options, compiler, bundled)


def _with_bytecode(
    plan: Plan,
    wheels: Sequence[Wheel],
    target: Target,
    compiler: Compiler | None,
    options: Options,
    report: Report,
) -> Plan:
    """Add the modules' bytecode, if it can be compiled and fits."""
    from layer_builder import bytecode, prove, sizes

    with report.timed("bytecode"):
        room = options.size_limit - plan.unzipped_bytes
        compiled = bytecode.add(plan, wheels, target, compiler, room=room)
    report.checks["bytecode"] = compiled.check
    report.checks["size"] = sizes.measure(prove.files_of(compiled.plan), options.size_limit).check
    if compiled.warning:
        report.warnings.append(compiled.warning)
    return compiled.plan


def _asked_for(wanted: Requirements, plan: Plan, target: Target) -> list[Modules]:
    """Find the modules of the packages that the requirements name, not of those that came along."""
    from layer_builder.import_check import modules_of

    paths: dict[str, list[str]] = {line.project: [] for line in wanted.lines}
    for entry in plan.entries:
        if (name := entry.wheel.pick.name) in paths:
            paths[name].append(entry.path)
    return [modules_of(name, found, target) for name, found in sorted(paths.items()) if found]


def _check_imports(
    file: Path,
    code_sha256: str,
    modules: Sequence[Modules],
    name: str,
    target: Target,
    options: Options,
    settings: Settings,
    report: Report,
) -> None:
    """Import from the finished zip what was asked for; a zip that fails goes nowhere."""
    from layer_builder import import_check

    if not options.import_check:
        report.checks["imports"] = {"status": "not_run", "reason": "--no-import-check was given"}
        return
    with report.timed("imports"):
        try:
            result = import_check.check(
                file,
                target,
                modules,
                kept=settings.cache / "imports",
                digest=name,
                code_sha256=code_sha256,
            )
        except OSError as problem:  # no room to unpack the layer once more says nothing about it
            result = import_check.Result("not_run", f"the layer could not be unpacked ({problem})")
    report.checks["imports"] = result.check
    report.warnings += result.warnings
    if error := result.error:
        raise error
    if result.status == "not_run":
        log.info("imports not checked: %s", result.reason)
    else:
        log.info("imported %s with Python %s", ", ".join(result.modules), result.python)


def _deliver(
    options: Options,
    target: Target,
    name: str,
    plan: Plan,
    check: Callable[[Path, str], None],
    report: Report,
) -> Layer:
    """Write the zip where it is wanted, once it has passed the check; with `-s`, publish it too."""
    description = _description(options, report)
    url = _s3_url(options, name)
    if url is None:
        file = _file(options, name)
        written = _write(plan, file, check, report)
        place = Zip(str(file), None, None, written.bytes, plan.unzipped_bytes)
        return Layer(options.name, description, options.license, name, written.code_sha256, place)

    with tempfile.TemporaryDirectory(prefix="layer-builder-") as folder:
        file = Path(folder, "layer.zip")
        written = _write(plan, file, check, report)
        with report.timed("upload"):
            storage.upload_zip(
                file,
                url,
                _metadata(options, target, report),
                written.code_sha256,
                is_new=bool(options.staging),
            )
    log.info("uploaded %s", url)
    arn = None
    if options.publish_bucket:
        from layer_builder.publish import publish

        with report.timed("publish"):
            arn = publish(options.name, description, options.license, url, target)
        log.info("published %s", arn)
    place = Zip(str(url), url.bucket, url.key, written.bytes, plan.unzipped_bytes)
    if options.staging:  # it lies beside the report, wherever that is
        place = replace(place, location=_STAGED, bucket=None, key=None)
    return Layer(options.name, description, options.license, name, written.code_sha256, place, arn)


def _description(options: Options, report: Report) -> str:
    if options.description is not None:
        return options.description
    return "|".join(report.requirements)[:MAX_DESCRIPTION]


def _write(plan: Plan, file: Path, check: Callable[[Path, str], None], report: Report) -> Written:
    with storage.unwritable(str(file)), files.written_atomically(file) as stream:
        with report.timed("merge"):
            written = archive.write(plan, stream)
        check(Path(stream.name), written.code_sha256)
    log.info(
        "%d files, %.1f MB, %.1f MB unzipped",
        len(plan.entries),
        written.bytes / 1e6,
        plan.unzipped_bytes / 1e6,
    )
    return written


def _s3_url(options: Options, name: str) -> S3Url | None:
    if options.staging:
        return S3Url.parse(staged(_STAGED, options.staging, options.attempt))
    if options.publish_bucket:
        prefix = options.publish_prefix.strip("/")
        return S3Url(
            options.publish_bucket, f"{prefix}/{options.name}.zip" if prefix else f"{options.name}.zip"
        )
    if not storage.is_s3(options.output):
        return None
    url = S3Url.parse(options.output)
    return S3Url(url.bucket, f"{url.key}{name}.zip") if url.key.endswith("/") or not url.key else url


def _file(options: Options, name: str) -> Path:
    if not options.output:
        return Path(f"{options.name}.zip")
    path = Path(options.output)
    return path / f"{name}.zip" if options.output.endswith("/") or path.is_dir() else path


def _metadata(options: Options, target: Target, report: Report) -> dict[str, str]:
    """Describe the zip on the object itself, under the names the original tool used."""
    return {
        "layer-name": options.name,
        "requirements": "|".join(report.requirements),
        "license-info": options.license or "",
        "python-version": "{}.{}".format(*target.runtime.version),
        "compatible-runtimes": target.runtime.name,
        "compatible-architectures": target.architecture,
        "create-date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _package(wheel: Wheel, plan: Plan) -> Package:
    pick = wheel.pick
    return Package(pick.name, pick.version, pick.filename, pick.sha256, plan.sizes[pick.name], wheel.license)
