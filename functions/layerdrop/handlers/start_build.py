"""StartBuild: an upload's event -> one named execution."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import S3Event

from layerdrop.aws import step_functions_client
from layerdrop.build_input import BuildInput
from layerdrop.environment import StartBuildEnvironment
from layerdrop.execution_name import execution_name
from layerdrop.telemetry import failures_logged, logger, metrics, name_work, tracer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = StartBuildEnvironment.read(os.environ)
STEP_FUNCTIONS = step_functions_client()


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
@failures_logged
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, list[str]]:
    """Start an execution for each record of an S3 event; return the names of those started and known."""
    outcome: dict[str, list[str]] = {"started": [], "duplicates": []}
    # S3 sends a test event without records when the notification is set up.
    records = S3Event(event).records if "Records" in event else ()
    for record in records:
        build_input = BuildInput.from_record(record)
        name = execution_name(build_input)
        name_work(name, key=build_input.key)
        outcome["started" if _start(name, build_input) else "duplicates"].append(name)
    metrics.add_metric("BuildsStarted", MetricUnit.Count, len(outcome["started"]))
    metrics.add_metric("DuplicateEvents", MetricUnit.Count, len(outcome["duplicates"]))
    return outcome


def _start(name: str, build_input: BuildInput) -> bool:
    try:
        STEP_FUNCTIONS.start_execution(
            stateMachineArn=ENVIRONMENT.state_machine_arn,
            name=name,
            input=json.dumps({"input": build_input.to_json()}),
        )
    except STEP_FUNCTIONS.exceptions.ExecutionAlreadyExists:
        logger.info("This event came before; nothing is started")
        return False
    logger.info("Build started")
    return True
