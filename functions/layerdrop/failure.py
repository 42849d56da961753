"""From what the state machine caught to what the manifest tells.

Step Functions hands on `{"Error": name, "Cause": text}`. The text is JSON when a Lambda function raised
(its `errorMessage` is ours if it is JSON again) or a Batch job failed (the job's description), else plain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from layerdrop.errors import ErrorCode, Problem
from layerdrop.target import attempts_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# Exit codes that the builder itself gives: requirements at fault, try again, its own fault.
_BUILDER_EXITS = (2, 75, 70)
# By signal 9, which the kernel sends when memory is short.
_KILLED = 137
# Why a queue's time limit may cancel a job before it starts: what happened, and what to do. All there are:
# https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable_time_limit_actions.html
_NOT_STARTED = {
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": (
        "The build job asks for more vCPUs than the stack lets be at work at once.",
        "Raise the stack's parameter MaxVcpus, or lower the vCPUs of this architecture's jobs.",
    ),
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": (
        "There is nothing of the size that the build job asks for.",
        "Choose memory for this architecture's jobs that Fargate has for their vCPUs.",
    ),
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": (
        "AWS had no capacity for the build job.",
        "Upload the file again later; with FARGATE_SPOT, set this architecture's capacity to FARGATE.",
    ),
}

NOT_POSSIBLE = "TrialNotPossibleError"
"""How the state machine calls a trial that Lambda did not let happen: the exception's name, in `trying`."""
# An account that has no room even for TryLayer.
_THROTTLED = "Lambda.TooManyRequestsException"


@dataclass(frozen=True)
class LogGroups:
    """Where each part writes its log."""

    start: str
    plan: str
    build: str
    publish: str
    trial: str
    release: str
    write: str


def plan_problem(error: Mapping[str, str], logs: LogGroups) -> Problem:
    """Why no target was even tried."""
    return _function_problem(error, "planning the build", logs.plan)


def target_problem(
    error: Mapping[str, str], reported: Problem | None, logs: LogGroups, step: str | None = None
) -> Problem:
    """Why a target has no layer; `reported` is the error in the builder's report, if it left one.

    `step` is the state that failed, if that was one after the layer was published.
    """
    cause = _json_object(error["Cause"])
    if step == "TryLayer":
        return _trial_problem(error, cause, logs.trial)
    if step == "ReleaseLayer":
        return _function_problem(error, "releasing the layer", logs.release)
    if "Container" in cause or "JobId" in cause:
        return _job_problem(cause, reported, logs.build)
    if "errorMessage" in cause:
        return _function_problem(error, "publishing the layer", logs.publish)
    if error["Error"] == "States.Timeout":
        return Problem(
            ErrorCode.JOB_TIMED_OUT,
            "The build did not end within the time that the state machine waits for it.",
            "Upload the file again; if that does not help, look in Batch for what keeps jobs from starting.",
            log={"group": logs.build, "stream": None},
        )
    if error["Error"].startswith("Batch."):
        return Problem(
            ErrorCode.JOB_FAILED,
            f"Batch did not take the build job: {error['Cause']}.",
            "This is a fault of the stack; compare its queue and job definition with the template.",
            {"error": error["Error"]},
        )
    return _function_problem(error, "building the layer", logs.publish)


def _trial_problem(error: Mapping[str, str], cause: Mapping[str, Any], group: str) -> Problem:
    if error["Error"] not in (NOT_POSSIBLE, _THROTTLED, "States.Timeout"):
        return _function_problem(error, "trying the layer in a function", group)
    otherwise = error["Cause"] if error["Error"] == _THROTTLED else "it took too long"
    said = str(cause.get("errorMessage") or otherwise).rstrip(".")
    return Problem(
        ErrorCode.TRIAL_NOT_POSSIBLE,
        f"The layer could not be tried in a function, so it is not released: {said}.",
        "Upload the file again later; if that does not help, see what keeps this account from making and "
        "invoking functions, or ask whoever runs the stack to set TryLayers to DISABLED.",
        {"error": error["Error"]},
        {"group": group, "stream": None},
    )


def attempts_made(error: Mapping[str, str]) -> int:
    """How many attempts a job made that failed; 0 when what was caught does not say."""
    return attempts_of(_json_object(error["Cause"]))


def _function_problem(error: Mapping[str, str], doing: str, group: str) -> Problem:
    cause = _json_object(error["Cause"])
    told = _json_object(cause.get("errorMessage"))
    if {"code", "message", "hint"} <= told.keys():
        return Problem(
            str(told["code"]), str(told["message"]), str(told["hint"]), _mapping(told.get("details"))
        )
    name = str(cause.get("errorType") or error["Error"])
    text = str(cause.get("errorMessage") or error["Cause"])
    return Problem(
        ErrorCode.INTERNAL_ERROR,
        f"Something unforeseen went wrong while {doing}: {name}.",
        "Upload the file again; if that does not help, the log has more.",
        {"error": name, "cause": text[:2000]},
        {"group": group, "stream": None},
    )


def _job_problem(job: Mapping[str, Any], reported: Problem | None, group: str) -> Problem:
    attempts = job["Attempts"] if isinstance(job.get("Attempts"), list) else []
    last = _mapping(attempts[-1]) if attempts else {}
    container = _mapping(job.get("Container")) | _mapping(last.get("Container"))
    exit_code = container["ExitCode"] if isinstance(container.get("ExitCode"), int) else None
    stream = container.get("LogStreamName")
    reasons = (job.get("StatusReason"), last.get("StatusReason"), container.get("Reason"))
    said = " ".join(dict.fromkeys(str(reason) for reason in reasons if reason))
    log = {"group": group, "stream": stream if isinstance(stream, str) else None}
    cut_short = _cut_short(exit_code, said)
    # The report may be an earlier attempt's, when the last one was killed: only an own exit vouches for it.
    if cut_short is None and reported is not None and exit_code in _BUILDER_EXITS:
        return replace(reported, log=log)
    code, message, hint = cut_short or _ended(exit_code, said)
    details = {"exit_code": exit_code, "reason": said or None, "attempts": len(attempts)}
    return Problem(code, message, hint, details, log)


def _cut_short(exit_code: int | None, said: str) -> tuple[ErrorCode, str, str] | None:
    """What kept the builder from ending by itself, in the words that Batch and Fargate use for it.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
    https://docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html
    https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable.html
    """
    if "JobStateTimeLimit" in said:
        message, hint = next(
            (told for reason, told in _NOT_STARTED.items() if reason in said),
            ("The build job could not start.", "The stack's Batch queue says what keeps jobs from starting."),
        )
        return ErrorCode.JOB_NOT_STARTED, message, hint
    if "attempt duration exceeded timeout" in said:
        return (
            ErrorCode.JOB_TIMED_OUT,
            "The build took longer than the stack allows.",
            "Ask for fewer packages, or raise the stack's parameter JobTimeoutSeconds.",
        )
    if "OutOfMemory" in said or exit_code == _KILLED:
        return (
            ErrorCode.JOB_OUT_OF_MEMORY,
            "The build was killed, most likely because it needed more memory than it has.",
            "Raise the stack's parameter for the memory of this architecture's jobs.",
        )
    if "CannotPull" in said or "ResourceInitializationError" in said:
        return (
            ErrorCode.IMAGE_NOT_PULLED,
            "The builder's image could not be fetched.",
            "Check that the image is in the stack's repository and that the job's subnets reach ECR and S3.",
        )
    if "Spot Task was interrupted" in said:
        return (
            ErrorCode.JOB_INTERRUPTED,
            "Spot capacity was taken away at every attempt.",
            "Upload the file again, or set this architecture's capacity to FARGATE.",
        )
    return None


def _ended(exit_code: int | None, said: str) -> tuple[ErrorCode, str, str]:
    if exit_code in _BUILDER_EXITS:
        return (
            ErrorCode.BUILD_FAILED,
            f"The builder ended with exit code {exit_code} and left no report.",
            "The job's log has more.",
        )
    ended = "before it could start" if exit_code is None else f"with exit code {exit_code}"
    return (
        ErrorCode.JOB_FAILED,
        f"The build job ended {ended}: {(said or 'no reason given').rstrip('.')}.",
        "The job's log has more; upload the file again to try again.",
    )


def _json_object(text: object) -> dict[str, Any]:
    """The object that a text holds, or an empty one: causes may be cut, or be no JSON at all."""
    if not isinstance(text, str):
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return _mapping(document)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
