"""TryLayer: a layer version -> how it does in a real function; and hourly, no function is left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop.aws import invoking_client, lambda_client, s3_client
from layerdrop.build_input import BuildInput
from layerdrop.environment import TryLayerEnvironment
from layerdrop.manifest import PublishedVersion
from layerdrop.objects import ReportReader
from layerdrop.plan import build_again
from layerdrop.target import Target
from layerdrop.telemetry import failures_logged, logger, metrics, name_work, tracer
from layerdrop.trial import TIMEOUT_SECONDS, TrialRecords, differs_wrapped, modules
from layerdrop.trying import FunctionTrial, now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = TryLayerEnvironment.read(os.environ)
S3 = s3_client()
REPORTS = ReportReader(S3, ENVIRONMENT.bucket)
RECORDS = TrialRecords(S3, ENVIRONMENT.bucket)
TRIALS = FunctionTrial(
    lambda_client(),
    invoking_client(TIMEOUT_SECONDS + 30),
    ENVIRONMENT.role_arn,
    ENVIRONMENT.prefix,
    ENVIRONMENT.pending_seconds,
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
@failures_logged
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Try the version that was published or found, unless it passed before.

    Returns:
        The trial; and the target, which has another job if libraries are missing that can be added.

    Raises:
        BuildError: a module cannot be imported, or Lambda takes no function with the layer.
        TrialNotPossibleError: not now.
    """
    if event.get("detail-type") == "Scheduled Event":
        swept = TRIALS.sweep(now())
        logger.info("Looked for functions that were left", deleted=swept)
        metrics.add_metric("TrialFunctionsSwept", MetricUnit.Count, len(swept))
        return {}
    return _try(event)


def _try(event: Mapping[str, Any]) -> dict[str, Any]:
    build_input = BuildInput.from_json(event["input"])
    target = Target.from_json(event["target"])
    published = PublishedVersion.from_json(event["published"])
    name_work(target.execution, key=build_input.key, target=target.id, layer=target.layer_name)
    report, _ = REPORTS.read(target, target.attempts)
    wanted = modules(report.checks)
    trial = RECORDS.find(target.layer_name, published.version, wanted, target.alongside)
    if trial is None:
        differs = differs_wrapped(report.checks)
        trial = TRIALS.run(target, published.layer_version_arn, wanted, differs=differs)
        metrics.add_metric("LayersTried", MetricUnit.Count, 1)
        if trial.result == "passed":
            RECORDS.keep(target.layer_name, published.version, wanted, target.alongside, trial)
    logger.info("Layer tried", arn=published.layer_version_arn, result=trial.result, reason=trial.reason)
    if trial.libraries:
        logger.info("Libraries are missing", libraries=trial.libraries, round=target.round)
        target = build_again(target, ENVIRONMENT.bucket, trial.libraries)
    return {"trial": trial.to_json(), "target": target.to_json()}
