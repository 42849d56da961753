"""Where a layer's zip goes: a file here, a bucket, a place that one attempt of a job was given."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder.ground import files
from layer_builder.ground.limits import MAX_DESCRIPTION
from layer_builder.ground.target import Target
from layer_builder.layer import archive
from layer_builder.options import staged
from layer_builder.results import storage
from layer_builder.results.report import Layer, Zip
from layer_builder.results.storage import S3Url

if TYPE_CHECKING:
    from collections.abc import Callable

    from layer_builder.layer.archive import Plan, Written
    from layer_builder.options import Options
    from layer_builder.results.report import Report

_STAGED = "layer.zip"

log = logging.getLogger("layer_builder")


def connect(options: Options) -> None:
    """Make the AWS clients that the build will need, if any, before code of others can run.

    Raises:
        StorageDeniedError: there is no region, or the configuration makes no sense.
    """
    places = (options.path, options.output, options.report, options.staging)
    if options.publish_bucket:
        from layer_builder.results import publish

        storage.connect(publish.client)
    elif any(map(storage.is_s3, places)):
        storage.connect()


def shelf(options: Options) -> str:
    """Say under which prefix zips of other builds may be taken, by their digests; empty for none."""
    if options.staging:
        return options.reuse
    return options.output if _is_shared(options) else ""


def is_for_others(options: Options) -> bool:
    """Tell whether other builds may take the zip, and so need a record of it."""
    return bool(options.staging) or _is_shared(options)


def _is_shared(options: Options) -> bool:
    """Tell whether the zip goes, under its digest, where other builds look for theirs."""
    return storage.is_s3(options.output) and options.output.endswith("/")


def deliver(
    plan: Plan, options: Options, digest: str, report: Report, check: Callable[[Path, str], None]
) -> Layer:
    """Write the zip where it is wanted, once it has passed the check; with `-s`, publish it too.

    Args:
        plan: what is in it.
        options: say where it goes.
        digest: its name by what is in it.
        report: of the build.
        check: takes the zip and its SHA-256, and raises what keeps it from going anywhere.

    Raises:
        StorageDeniedError, StorageUnavailableError, OutputError: it cannot be written there.
        PublishRefusedError: Lambda does not take it.
    """
    words, url = description(options, report), s3_url(options, digest)
    if url is None:
        file = _file(options, digest)
        written = _write(plan, file, check, report)
        place = Zip(str(file), None, None, written.bytes, plan.unzipped_bytes)
        return Layer(options.name, words, options.license, digest, written.code_sha256, place)

    with tempfile.TemporaryDirectory(prefix="layer-builder-") as folder:
        file = Path(folder, "layer.zip")
        written = _write(plan, file, check, report)
        with report.timed("upload"):
            storage.upload_zip(
                file, url, _metadata(options, report), written.code_sha256, is_new=bool(options.staging)
            )
    log.info("uploaded %s", url)
    arn = None
    if options.publish_bucket:
        from layer_builder.results.publish import publish

        with report.timed("publish"):
            target = Target.of(options.runtime, options.architecture)
            arn = publish(options.name, words, options.license, url, target)
        log.info("published %s", arn)
    place = Zip(str(url), url.bucket, url.key, written.bytes, plan.unzipped_bytes)
    if options.staging:  # it lies beside the report, wherever that is
        place = replace(place, location=_STAGED, bucket=None, key=None)
    return Layer(options.name, words, options.license, digest, written.code_sha256, place, arn)


def description(options: Options, report: Report) -> str:
    """Describe the layer as the user does, else by what was asked for."""
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


def s3_url(options: Options, digest: str) -> S3Url | None:
    """Say which object the zip becomes; None where it becomes a file."""
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
    return S3Url(url.bucket, f"{url.key}{digest}.zip") if url.key.endswith("/") or not url.key else url


def _file(options: Options, digest: str) -> Path:
    if not options.output:
        return Path(f"{options.name}.zip")
    path = Path(options.output)
    return path / f"{digest}.zip" if options.output.endswith("/") or path.is_dir() else path


def _metadata(options: Options, report: Report) -> dict[str, str]:
    """Describe the zip on the object itself, under the names the original tool used."""
    return {
        "layer-name": options.name,
        "requirements": "|".join(report.requirements),
        "license-info": options.license or "",
        "python-version": options.runtime.removeprefix("python"),
        "compatible-runtimes": options.runtime,
        "compatible-architectures": options.architecture,
        "create-date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
