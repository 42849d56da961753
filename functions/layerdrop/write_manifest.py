"""WriteManifest: the answer beside the input."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop.aws import s3_client
from layerdrop.build_input import BuildInput, Execution
from layerdrop.environment import WriteManifestEnvironment
from layerdrop.errors import BuildError
from layerdrop.failure import plan_problem, target_problem
from layerdrop.manifest import Manifest, Outcome, PublishedVersion, Status, finished
from layerdrop.manifest_store import ManifestStore
from layerdrop.objects import ReportReader
from layerdrop.target import Target
from layerdrop.telemetry import logger, metrics, tracer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = WriteManifestEnvironment.read(os.environ)
S3 = s3_client()
REPORTS = ReportReader(S3, ENVIRONMENT.bucket)
MANIFESTS = ManifestStore(S3)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, str]:
    """Write the end state of a build, unless a newer upload has its own; the status ends the execution."""
    manifest = _manifest(event, datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    logger.append_keys(key=manifest.build_input.key, execution=manifest.execution.name)
    written = MANIFESTS.put(manifest)
    if not written:
        logger.info("A newer upload has its manifest here; it stays")
    code = manifest.problem.code if manifest.problem else None
    logger.info("Build ended", status=manifest.status, error=code, written=written)
    succeeded = manifest.status is Status.SUCCEEDED
    metrics.add_metric("BuildsSucceeded" if succeeded else "BuildsFailed", MetricUnit.Count, 1)
    return {"status": str(manifest.status)}


def _manifest(event: Mapping[str, Any], now: str) -> Manifest:
    build_input = BuildInput.from_json(event["input"])
    execution = Execution.from_json(event["execution"])
    if "error" in event:
        return finished(build_input, execution, now, problem=plan_problem(event["error"], ENVIRONMENT.logs))
    return finished(build_input, execution, now, [_outcome(outcome) for outcome in event["outcomes"]])


def _outcome(document: Mapping[str, Any]) -> Outcome:
    target = Target.from_json(document["target"])
    if "error" in document:
        report = REPORTS.find(target)
        reported = report.error if report else None
        problem = target_problem(document["error"], reported, ENVIRONMENT.logs)
        return Outcome(target, report=report, problem=problem)
    published = PublishedVersion.from_json(document["layer"])
    try:
        return Outcome(target, published, REPORTS.read(target))
    except BuildError as error:
        return Outcome(target, published, problem=error.problem)
