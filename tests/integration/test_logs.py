"""What the functions write down: every line names its execution."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Pipeline, eventually

FUNCTIONS = ("StartBuild", "PlanBuild", "PublishLayer", "WriteManifest")


def lines(pipeline: Pipeline, function: str) -> Iterator[str]:
    """All lines of a function; those of Lambda itself are left out, as are tracebacks, which are its, too."""
    logs = pipeline.aws.clients.get("logs")
    group = f"/aws/lambda/layerdrop/{function}"
    for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group):
        for event in page["events"]:
            if event["message"].startswith("{"):
                yield event["message"]


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

    def about(function: str) -> list[dict[str, Any]]:
        written = [json.loads(line) for line in lines(pipeline, function)]
        # Nothing is written by our functions that names no execution.
        assert [line for line in written if not line.get("execution")] == []
        return [line for line in written if line["execution"] == execution]

    expected = {"StartBuild", "PlanBuild", "WriteManifest"} | (
        {"PublishLayer"} if status == "SUCCEEDED" else set()
    )
    for function in FUNCTIONS:
        if function not in expected:
            assert not about(function)
            continue
        told = eventually(lambda function=function: about(function))
        # What is counted is found by execution, too.
        assert any("_aws" in line for line in told), function
        assert any(re.fullmatch(r"[A-Z][A-Za-z ]+", line.get("message", "")) for line in told), function


def test_a_refusal_is_in_the_log_with_its_code(pipeline: Pipeline, folder: str) -> None:
    upload = pipeline.upload(f"{folder}/requirements.txt", "# /// layer\n# colour = 1\n# ///\n")
    pipeline.answer(upload)
    execution = pipeline.executions_of(upload)[0].rpartition(":")[2]
    [refused] = eventually(
        lambda: [
            line for line in map(json.loads, lines(pipeline, "PlanBuild"))
            if line["execution"] == execution and line.get("message") == "Refused"
        ]
    )  # fmt: skip
    assert refused["code"] == "SETTINGS_INVALID"
    assert "colour" in refused["reason"]
