"""PlanBuild: path and settings block -> targets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop import input_key, settings
from layerdrop.aws import s3_client
from layerdrop.build_input import BuildInput, Execution
from layerdrop.environment import PlanBuildEnvironment
from layerdrop.manifest import building
from layerdrop.manifest_store import ManifestStore
from layerdrop.objects import RequirementsReader
from layerdrop.plan import plan
from layerdrop.telemetry import logger, metrics, tracer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = PlanBuildEnvironment.read(os.environ)
S3 = s3_client()


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Say BUILDING, read the file, and return what to build.

    Raises:
        BuildError: the path, the file or its settings are at fault.
    """
    build_input = BuildInput.from_json(event["input"])
    execution = Execution.from_json(event["execution"])
    logger.append_keys(key=build_input.key, execution=execution.name)

    # First of all, so that even a wrong path is answered.
    if not ManifestStore(S3).put(building(build_input, execution)):
        logger.info("A newer upload has its manifest here; this build goes on without")
    metrics.add_metric("BuildsBegun", MetricUnit.Count, 1)

    key = input_key.parse(build_input.key)
    text = RequirementsReader(S3).read(build_input)
    targets = plan(
        build_input,
        execution,
        key,
        settings.parse(text),
        ENVIRONMENT.default_runtime,
        ENVIRONMENT.workshops,
    )
    logger.info("Build planned", targets=[target.id for target in targets])
    metrics.add_metric("LayersPlanned", MetricUnit.Count, len(targets))
    return {
        "input": build_input.to_json(),
        "execution": execution.to_json(),
        "manifest_key": input_key.manifest_key(build_input.key),
        "targets": [target.to_json() for target in targets],
    }
