"""WriteManifest: the answer beside the input."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop.aws import events_client, s3_client, step_functions_client
from layerdrop.build_input import BuildInput, Execution
from layerdrop.bus import Bus
from layerdrop.catalogue.releases import Releases, publisher_changes, release_of
from layerdrop.end_event import DETAIL_TYPE, SUPERSEDED, end_event
from layerdrop.environment import WriteManifestEnvironment
from layerdrop.errors import BuildError
from layerdrop.failure import attempts_made, plan_problem, target_problem
from layerdrop.input_versions import InputVersions
from layerdrop.locks import NAME as LOCK
from layerdrop.manifest import Manifest, Outcome, PublishedVersion, Status, finished
from layerdrop.manifest_store import ManifestStore, Put
from layerdrop.objects import ReportReader
from layerdrop.target import Target
from layerdrop.telemetry import failures_logged, logger, metrics, name_work, tracer
from layerdrop.timestamps import iso
from layerdrop.trial import Trial
from layerdrop.unanswered import unanswered

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = WriteManifestEnvironment.read(os.environ)
S3 = s3_client()
STEP_FUNCTIONS = step_functions_client()
REPORTS = ReportReader(S3, ENVIRONMENT.bucket)
MANIFESTS = ManifestStore(S3, InputVersions(S3))
RELEASES = Releases(S3, ENVIRONMENT.bucket)
BUS = Bus(events_client(), DETAIL_TYPE)

_SECONDS_OF_THE_ANSWER = 15.0


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
@failures_logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    """Write the end state of a build, unless there is a newer upload, and tell of it on the bus.

    What was released is written down for the catalogue before.

    The state machine calls it as its last step, and goes by the status returned. Others call it for builds
    that ended otherwise: see `unanswered`.
    """
    clock = datetime.now(UTC)
    now = iso(clock)
    lost = unanswered(event, STEP_FUNCTIONS, ENVIRONMENT.state_machine_arn, ENVIRONMENT.logs, clock)
    if lost is None:
        return {"status": _answer(_manifest(event, now, context))}
    if arn := event.get("detail", {}).get("executionArn"):
        name_work(arn.rpartition(":")[2])
    for build in lost:
        name_work(build.execution.name if build.execution else None, key=build.build_input.key)
        manifest = finished(build.build_input, build.execution, now, problem=build.problem)
        _answer(manifest, build.unless, told=build.told)
    return {}


def _answer(manifest: Manifest, unless: Collection[Status] = (), *, told: bool = False) -> str:
    """Write and tell; return the end state.

    Args:
        manifest: The answer.
        unless: If the manifest that is there says one of these, it stays.
        told: Whether the outside knows already what is there.
    """
    put = MANIFESTS.put(manifest, unless)
    if told and put is not Put.WRITTEN:
        return str(manifest.status)
    document = manifest.to_json()
    status = str(manifest.status)
    if put is Put.SUPERSEDED:
        status = SUPERSEDED
    elif put is Put.ANSWERED:
        document = dict(MANIFESTS.find(manifest.build_input))
        status = str(document.get("status"))
    code = manifest.problem.code if manifest.problem else None
    logger.info("Build ended", status=status, error=code, put=put.name)
    if status != Status.BUILDING:
        BUS.send(end_event(document, status))
        metrics.add_metric(f"Builds{status.capitalize()}", MetricUnit.Count, 1)
    return status


def _manifest(event: Mapping[str, Any], now: str, context: LambdaContext) -> Manifest:
    build_input = BuildInput.from_json(event["input"])
    execution = Execution.from_json(event["execution"])
    name_work(execution.name, key=build_input.key)
    if "error" in event:
        return finished(build_input, execution, now, problem=plan_problem(event["error"], ENVIRONMENT.logs))
    outcomes = [_outcome(outcome) for outcome in event["outcomes"]]
    noted = [_noted(build_input, outcome, now, context) for outcome in outcomes]
    return finished(build_input, execution, now, noted)


def _noted(build_input: BuildInput, outcome: Outcome, now: str, context: LambdaContext) -> Outcome:
    """Write down what was released. That is no part of the answer, which comes whatever becomes of it."""
    try:
        seconds = context.get_remaining_time_in_millis() / 1000
        return replace(outcome, warnings=_note(build_input, outcome, now, seconds))
    except Exception:  # noqa: BLE001 (whatever it is, the answer comes)
        logger.exception("A release was not written down", layer=outcome.target.layer_name)
        metrics.add_metric("CatalogueWriteFailed", MetricUnit.Count, 1)
        return outcome


def _note(build_input: BuildInput, outcome: Outcome, now: str, seconds: float) -> tuple[str, ...]:
    """Write a release document, if there was a release; return what people are to be warned of, too."""
    report, published = outcome.report, outcome.published
    if published is None or report is None or report.layer is None:
        return ()
    if seconds < _SECONDS_OF_THE_ANSWER:
        raise TimeoutError(f"{seconds} seconds are left for the answer")
    release = release_of(build_input, outcome.target, published, report, report.layer, outcome.trial, now)
    told: tuple[str, ...] = ()
    try:
        told = publisher_changes(release, RELEASES.earlier(release.layer_name, release.version))
    finally:
        RELEASES.write(replace(release, warnings=(*release.warnings, *told)))
    return told


def _outcome(document: Mapping[str, Any]) -> Outcome:
    target = Target.from_json(document["target"])
    if "error" in document:
        report = REPORTS.find(target, target.attempts or attempts_made(document["error"]))
        reported = report.error if report else None
        problem = target_problem(document["error"], reported, ENVIRONMENT.logs, document.get("step"))
        return Outcome(target, report=report, problem=problem)
    published = PublishedVersion.from_json(document["layer"])
    trial = Trial.from_json(document["trial"])
    try:
        report, attempt = REPORTS.read(target, target.attempts)
        return Outcome(target, published, report, trial=trial, lock_key=target.staged(LOCK, attempt))
    except BuildError as error:
        return Outcome(target, published, problem=error.problem, trial=trial)
