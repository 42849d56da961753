"""Causes as Step Functions hands them on -> what the manifest tells."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdrop.errors import BuildError, ErrorCode, Problem
from layerdrop.failure import LogGroups, plan_problem, target_problem
from layerdrop.trying import TrialNotPossibleError

START = "Task failed to start"
LOGS = LogGroups(
    start="start-log",
    plan="plan-log",
    build="build-log",
    publish="publish-log",
    trial="trial-log",
    release="release-log",
    write="write-log",
)
REPORTED = Problem("RESOLUTION_FAILED", "No such thing.", "Take another.", {"package": "nothing"})


def job(
    exit_code: int | None = None, status_reason: str = "Essential container in task exited", reason: str = ""
) -> dict[str, str]:
    """A failed job as `batch:submitJob.sync` describes it: DescribeJobs in Pascal case."""
    container: dict[str, Any] = {"LogStreamName": "arm64/default/1"}
    if exit_code is not None:
        container["ExitCode"] = exit_code
    if reason:
        container["Reason"] = reason
    description = {
        "JobId": "1",
        "JobName": "web-1-py313-arm64",
        "Status": "FAILED",
        "StatusReason": status_reason,
        "Attempts": [{"Container": container, "StatusReason": status_reason}],
        "Container": {"Image": "image", **container},
    }
    return {"Error": "States.TaskFailed", "Cause": json.dumps(description)}


def raised(error: Exception) -> dict[str, str]:
    """An exception as Lambda describes it."""
    description = {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "requestId": "1",
        "stackTrace": ["  File …"],
    }
    return {"Error": type(error).__name__, "Cause": json.dumps(description)}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (job(1), "JOB_FAILED"),
        (job(2), "BUILD_FAILED"),
        (job(75), "BUILD_FAILED"),
        (job(137, reason="OutOfMemoryError: Container killed due to memory usage"), "JOB_OUT_OF_MEMORY"),
        (job(137), "JOB_OUT_OF_MEMORY"),
        (job(143, "Job attempt duration exceeded timeout"), "JOB_TIMED_OUT"),
        (job(None, START, "CannotPullContainerError: pull image manifest"), "IMAGE_NOT_PULLED"),
        (job(143, "Your Spot Task was interrupted."), "JOB_INTERRUPTED"),
        (job(None, START, "ResourceInitializationError: unable to pull secrets"), "IMAGE_NOT_PULLED"),
        (job(None, "ResourceInitializationError: unable to pull secrets"), "IMAGE_NOT_PULLED"),
        (job(None, "Canceled by JobStateTimeLimit action due to reason: NEW:ONE"), "JOB_NOT_STARTED"),
        ({"Error": "States.Timeout", "Cause": ""}, "JOB_TIMED_OUT"),
        ({"Error": "Batch.ClientException", "Cause": "JobQueue x not found"}, "JOB_FAILED"),
        (raised(ConnectionError("reset")), "INTERNAL_ERROR"),
        (raised(BuildError(ErrorCode.PUBLISH_REFUSED, "Said no.", "Do.")), "PUBLISH_REFUSED"),
        ({"Error": "Lambda.TooManyRequestsException", "Cause": "Rate Exceeded."}, "INTERNAL_ERROR"),
        ({"Error": "States.Runtime", "Cause": '{"cut": "off'}, "INTERNAL_ERROR"),
    ],
)  # fmt: skip
def test_each_way_to_fail_has_its_code(error: dict[str, str], code: str) -> None:
    problem = target_problem(error, None, LOGS)
    assert problem.code == code
    assert problem.message.endswith(".")
    assert not problem.message.endswith("..")
    assert problem.hint
    assert "Traceback" not in problem.message + problem.hint


def test_a_job_s_problem_names_its_log_and_reason() -> None:
    problem = target_problem(job(1, reason="odd"), None, LOGS)
    assert problem.log == {"group": "build-log", "stream": "arm64/default/1"}
    assert problem.details["exit_code"] == 1
    assert "odd" in problem.message


def test_a_job_that_found_no_place_says_which_parameter_to_change() -> None:
    canceled = "Canceled by JobStateTimeLimit action due to reason: "
    problem = target_problem(
        job(None, f"{canceled}MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"), None, LOGS
    )
    assert "MaxVcpus" in problem.hint
    problem = target_problem(job(None, f"{canceled}CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"), None, LOGS)
    assert "FARGATE_SPOT" in problem.hint


@pytest.mark.parametrize("exit_code", [2, 70, 75])
def test_the_builder_s_own_words_come_first(exit_code: int) -> None:
    problem = target_problem(job(exit_code), REPORTED, LOGS)
    assert (problem.code, problem.message, problem.details) == (
        REPORTED.code,
        REPORTED.message,
        REPORTED.details,
    )
    assert problem.log == {"group": "build-log", "stream": "arm64/default/1"}


@pytest.mark.parametrize(
    "error",
    [
        job(137),
        job(1),
        job(None, "Task failed to start"),
        # The builder answers SIGTERM with exit code 75 and a report that it was told to stop.
        job(75, "Job attempt duration exceeded timeout"),
        job(75, "Your Spot Task was interrupted."),
    ],
)
def test_a_report_does_not_speak_for_a_job_cut_short(error: dict[str, str]) -> None:
    assert target_problem(error, REPORTED, LOGS).code != REPORTED.code


def test_the_last_attempt_counts() -> None:
    description = json.loads(job(137)["Cause"])
    description["Attempts"].append({"Container": {"ExitCode": 2, "LogStreamName": "arm64/default/2"}})
    problem = target_problem({"Error": "States.TaskFailed", "Cause": json.dumps(description)}, REPORTED, LOGS)
    assert problem.code == REPORTED.code
    assert problem.log == {"group": "build-log", "stream": "arm64/default/2"}


codes = st.sampled_from(list(ErrorCode))


@given(
    codes, st.text(), st.text(min_size=1), st.dictionaries(st.text(), st.integers() | st.text(), max_size=3)
)
def test_what_a_function_says_arrives_unchanged(
    code: ErrorCode, message: str, hint: str, details: dict[str, Any]
) -> None:
    error = BuildError(code, message, hint, details)
    problem = plan_problem(raised(error), LOGS)
    told = error.problem
    assert (problem.code, problem.message) == (code, told.message)
    assert problem.message == message or not message.isprintable()
    assert (problem.hint, problem.details) == (told.hint, told.details)


def test_the_unforeseen_names_where_to_look() -> None:
    problem = plan_problem(raised(KeyError("key")), LOGS)
    assert problem.code == ErrorCode.INTERNAL_ERROR
    assert problem.log == {"group": "plan-log", "stream": None}
    assert problem.details["error"] == "KeyError"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(
        st.sampled_from(["errorMessage", "errorType", "Container", "Attempts", "JobId"]), values
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.text(), st.text() | json_values.map(json.dumps))
def test_whatever_the_cause_there_is_an_answer(error: str, cause: str) -> None:
    for problem in (
        plan_problem({"Error": error, "Cause": cause}, LOGS),
        target_problem({"Error": error, "Cause": cause}, None, LOGS),
    ):
        assert problem.code in list(ErrorCode)
        json.dumps(problem.to_json())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (raised(TrialNotPossibleError("CodeStorageExceededException: No room.")), "Exception: No room."),
        # The text of Step Functions' for a function that could not even be invoked.
        ({"Error": "Lambda.TooManyRequestsException", "Cause": "Rate Exceeded. (Status Code: 429)"}, "429)."),
        ({"Error": "States.Timeout", "Cause": ""}, "it took too long."),
    ],
)
def test_a_trial_that_an_account_has_no_room_for_says_so(error: dict[str, str], said: str) -> None:
    problem = target_problem(error, None, LOGS, "TryLayer")
    assert problem.code == "TRIAL_NOT_POSSIBLE"
    assert problem.message.endswith(said)
    assert problem.log == {"group": "trial-log", "stream": None}
