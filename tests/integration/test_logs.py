"""What the functions write down: every line names its execution."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Pipeline, eventually

FUNCTIONS = ("StartBuild", "PlanBuild", "PublishLayer", "WriteManifest")


def calls(pipeline: Pipeline, function: str) -> Iterator[list[dict[str, Any]]]:
    """What a function wrote, call by call; lines of Lambda itself are left out, tracebacks included."""
    logs = pipeline.aws.clients.get("logs")
    group = f"/aws/lambda/layerdrop/{function}"
    for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]:
        name = stream["logStreamName"]
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, logStreamNames=[name])
        written: list[dict[str, Any]] = []
        for message in (event["message"] for page in pages for event in page["events"]):
            if message.startswith("{"):
                written.append(json.loads(message))
            elif message.startswith("END "):
                yield written
                written = []


def about(pipeline: Pipeline, function: str, execution: str) -> list[dict[str, Any]]:
    """The lines of an execution, and whatever else was written in the same calls."""
    return [
        line
        for written in calls(pipeline, function)
        if any(line.get("execution") == execution for line in written)
        for line in written
    ]


@pytest.mark.parametrize(
    "content, status",
    [
        ("idna == 3.10\n", "SUCCEEDED"),
        ("idna == 999\n", "FAILED"),
        ("# /// layer\n# colour = 1\n# ///\n", "FAILED"),
    ],
    ids=["published", "not built", "not planned"],
)
def test_every_line_names_the_execution(pipeline: Pipeline, folder: str, content: str, status: str) -> None:
    upload = pipeline.upload(f"{folder}/requirements.txt", content)
    assert pipeline.answer(upload)["status"] == status
    [arn] = pipeline.executions_of(upload)
    execution = arn.rpartition(":")[2]

    reached = {"StartBuild", "PlanBuild", "WriteManifest"} | (
        {"PublishLayer"} if status == "SUCCEEDED" else set()
    )
    for function in FUNCTIONS:
        if function not in reached:
            assert not about(pipeline, function, execution)
            continue
        told = eventually(lambda function=function: about(pipeline, function, execution))
        # From the first line of a call on: nothing is worth a line before it is known what it is about.
        assert {line.get("execution") for line in told} == {execution}, function
        # What is counted is found by execution, too.
        assert any("_aws" in line for line in told), function
        assert any(re.fullmatch(r"[A-Z][A-Za-z ]+", line.get("message", "")) for line in told), function


def test_a_refusal_is_in_the_log_with_its_code(pipeline: Pipeline, folder: str) -> None:
    upload = pipeline.upload(f"{folder}/requirements.txt", "# /// layer\n# colour = 1\n# ///\n")
    pipeline.answer(upload)
    execution = pipeline.executions_of(upload)[0].rpartition(":")[2]
    [refused] = eventually(
        lambda: [line for line in about(pipeline, "PlanBuild", execution) if line.get("message") == "Refused"]
    )
    assert refused["code"] == "SETTINGS_INVALID"
    assert "colour" in refused["reason"]
