"""Builds that ended without an answer of their own, as AWS tells of them.

Three senders invoke WriteManifest besides the state machine: EventBridge, when an execution failed, timed out
or was aborted; Lambda, when StartBuild failed for good; and the clock, for EventBridge may lose the first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.data_classes import S3Event

from layerdrop.build_input import BuildInput, Execution
from layerdrop.errors import ErrorCode, Problem
from layerdrop.manifest import Status
from layerdrop.timestamps import iso

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime

    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.literals import ExecutionStatusType

    from layerdrop.failure import LogGroups

# The Fail state at the end of the state machine: its error says that the answer was written before.
ANSWERED_ERROR = "BuildFailed"

_ENDS: tuple[ExecutionStatusType, ...] = ("FAILED", "TIMED_OUT", "ABORTED")
# Thrice the time between two looks, so that one that fails is made up for.
_LOOK_BACK = timedelta(hours=3)
# The state machine's own time limit, after which nothing runs any more.
_LONGEST_RUN = timedelta(hours=24)


@dataclass(frozen=True)
class Unanswered:
    """A build that went without its answer.

    Attributes:
        build_input: the upload.
        execution: the state machine's run, if there was one.
        problem: what to answer.
        unless: the states of a manifest that is an answer, or will become one.
        told: whether the outside was told of the answer, if there is one.
    """

    build_input: BuildInput
    execution: Execution | None
    problem: Problem
    unless: Collection[Status]
    told: bool = False


def unanswered(
    event: Mapping[str, Any],
    step_functions: SFNClient,
    state_machine_arn: str,
    logs: LogGroups,
    now: datetime,
) -> Iterator[Unanswered] | None:
    """The builds that an event tells of; None when it comes from the state machine."""
    kind = event.get("detail-type")
    if kind == "Step Functions Execution Status Change":
        return _ended(event["detail"]["executionArn"], step_functions, logs)
    if kind == "Scheduled Event":
        return _ended_lately(step_functions, state_machine_arn, logs, now)
    if "requestPayload" in event:
        return _not_started(event, logs)
    return None


def _ended_lately(
    step_functions: SFNClient, state_machine_arn: str, logs: LogGroups, now: datetime
) -> Iterator[Unanswered]:
    pages = step_functions.get_paginator("list_executions")
    for status in _ENDS:
        # The newest come first: https://docs.aws.amazon.com/step-functions/latest/apireference/API_ListExecutions.html
        for page in pages.paginate(stateMachineArn=state_machine_arn, statusFilter=status):
            executions = page["executions"]
            for execution in executions:
                if execution.get("stopDate", now) > now - _LOOK_BACK:
                    for build in _ended(execution["executionArn"], step_functions, logs):
                        yield replace(build, told=True)
            if executions and executions[-1]["startDate"] < now - _LOOK_BACK - _LONGEST_RUN:
                break


def _ended(arn: str, step_functions: SFNClient, logs: LogGroups) -> Iterator[Unanswered]:
    # The event may lack the input, and has no error:
    # https://docs.aws.amazon.com/step-functions/latest/dg/cw-events.html
    described = step_functions.describe_execution(executionArn=arn)
    error = described.get("error", "")
    if error == ANSWERED_ERROR:
        return
    yield Unanswered(
        BuildInput.from_json(json.loads(described["input"])["input"]),
        Execution(arn, described["name"], iso(described["startDate"])),
        _problem_of_status(described["status"], error, described.get("cause", ""), logs),
        (Status.SUCCEEDED, Status.FAILED),
    )


def _problem_of_status(status: str, error: str, cause: str, logs: LogGroups) -> Problem:
    if status == "ABORTED":
        return Problem(
            ErrorCode.BUILD_ABORTED,
            "Somebody stopped the build.",
            "Upload the file again to build it.",
            {"error": error, "cause": cause[:2000]},
        )
    if status == "TIMED_OUT":
        return Problem(
            ErrorCode.BUILD_TIMED_OUT,
            "The build did not end within the time that the stack allows.",
            "Upload the file again; if that does not help, look in Batch for what keeps jobs from starting.",
        )
    return Problem(
        ErrorCode.INTERNAL_ERROR,
        "The build ended, but its answer could not be written at the time.",
        "Upload the file again; if that does not help, the log has more.",
        {"error": error, "cause": cause[:2000]},
        {"group": logs.write, "stream": None},
    )


def _not_started(record: Mapping[str, Any], logs: LogGroups) -> Iterator[Unanswered]:
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    said = record.get("responsePayload") or {}
    details = {"error": str(said.get("errorType", "")), "cause": str(said.get("errorMessage", ""))[:2000]}
    for upload in S3Event(dict(record["requestPayload"])).records:
        yield Unanswered(
            BuildInput.from_record(upload),
            None,
            Problem(
                ErrorCode.BUILD_NOT_STARTED,
                "The upload was seen, but its build could not be started.",
                "Upload the file again; if that does not help, the log has more.",
                details,
                {"group": logs.start, "stream": None},
            ),
            # If it had started after all, the execution answers.
            tuple(Status),
        )
