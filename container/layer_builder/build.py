"""A build from end to end: requirements -> target -> versions -> wheels -> zip -> where it should be."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder import archive, files, requirements, storage
from layer_builder.fetch import fetch, is_cached
from layer_builder.limits import MAX_DESCRIPTION
from layer_builder.report import Layer, Package, Zip
from layer_builder.resolve import resolve
from layer_builder.storage import S3Url
from layer_builder.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layer_builder.archive import Plan, Written
    from layer_builder.options import Options
    from layer_builder.report import Report
    from layer_builder.settings import Settings
    from layer_builder.wheel import Wheel

log = logging.getLogger("layer_builder")


def build(options: Options, settings: Settings, report: Report) -> None:
    """Build one layer and put it where the options say; the report is filled in as far as the build comes.

    Raises:
        BuildError: see `errors` for what can go wrong.
    """
    target = Target.of(options.runtime, options.architecture)
    wanted = requirements.parse(_read(options))
    report.requirements = wanted.texts
    report.warnings += _not_done(options)
    log.info("%d requirements for %s", len(wanted.lines), target)

    with report.timed("resolve"):
        resolution = resolve(wanted, target, settings)
    report.warnings += resolution.warnings

    cached = sum(is_cached(pick, settings) for pick in resolution.picks)
    log.info("%d packages, %d of them in the cache", len(resolution.picks), cached)
    with report.timed("fetch"):
        wheels = fetch(resolution.picks, settings)

    with report.timed("plan"):
        plan = archive.plan(wheels, target)
    report.warnings += plan.warnings
    report.packages = [_package(wheel, plan) for wheel in wheels]

    report.layer = _deliver(options, target, wheels, plan, report)


def digest(wheels: Sequence[Wheel], target: Target) -> str:
    """Name what goes into a layer: the same wheels for the same target give the same zip."""
    content = {
        "format": archive.FORMAT,
        "architecture": target.architecture,
        "runtime": target.runtime.name,
        "wheels": sorted(wheel.pick.sha256 for wheel in wheels),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(options: Options) -> str:
    if options.inline:
        return options.inline.replace("|", "\n")
    return requirements.decode(storage.read(options.path, options.version_id, limit=requirements.MAX_BYTES))


def _deliver(options: Options, target: Target, wheels: Sequence[Wheel], plan: Plan, report: Report) -> Layer:
    """Write the zip where it is wanted; with `-s`, publish it too."""
    name = digest(wheels, target)
    description = options.description
    if description is None:
        description = "|".join(report.requirements)[:MAX_DESCRIPTION]
    url = _s3_url(options, name)
    if url is None:
        file = _file(options, name)
        written = _write(plan, file, report)
        place = Zip(str(file), None, None, written.bytes, plan.unzipped_bytes)
        return Layer(options.name, description, options.license, name, written.code_sha256, place)

    with tempfile.TemporaryDirectory(prefix="layer-builder-") as folder:
        file = Path(folder, "layer.zip")
        written = _write(plan, file, report)
        with report.timed("upload"):
            storage.upload_zip(file, url, _metadata(options, target, report))
    log.info("uploaded %s", url)
    arn = None
    if options.publish_bucket:
        from layer_builder.publish import publish

        with report.timed("publish"):
            arn = publish(options.name, description, options.license, url, target)
        log.info("published %s", arn)
    place = Zip(str(url), url.bucket, url.key, written.bytes, plan.unzipped_bytes)
    return Layer(options.name, description, options.license, name, written.code_sha256, place, arn)


def _write(plan: Plan, file: Path, report: Report) -> Written:
    with report.timed("merge"), storage.unwritable(str(file)), files.written_atomically(file) as stream:
        written = archive.write(plan, stream)
    log.info(
        "%d files, %.1f MB, %.1f MB unzipped",
        len(plan.entries),
        written.bytes / 1e6,
        plan.unzipped_bytes / 1e6,
    )
    return written


def _s3_url(options: Options, name: str) -> S3Url | None:
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


def _not_done(options: Options) -> list[str]:
    """Name what was asked for and this version leaves out, rather than leave it out in silence."""
    warnings = []
    if options.allow_sdist:
        warnings.append(f"Nothing is built from source: {', '.join(options.allow_sdist)} must have a wheel.")
    if options.bytecode:
        warnings.append("The layer has no compiled bytecode: this version does not compile any.")
    return warnings
