"""The image's custom resource: what CloudFormation is told, whatever happens on the way."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from image_builder import answer
from image_builder.answer import AnswerError, Callback
from image_builder.handler import handler
from image_builder.image import Image

from tests.unit.infra.conftest import BUILD, REPOSITORY, SOURCE, STACK

if TYPE_CHECKING:
    from tests.unit.infra.conftest import Aws, Formation

SUCCEEDED = {"buildStatus": "SUCCEEDED"}
FAILED = {
    "buildStatus": "FAILED",
    "phases": [
        {"phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED"},
        {"phaseType": "PRE_BUILD", "phaseStatus": "SUCCEEDED", "contexts": [{"message": ""}]},
        {
            "phaseType": "BUILD", "phaseStatus": "FAILED",
            "contexts": [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": "docker build: exit status 1"}],
        },
        {"phaseType": "COMPLETED"},
    ],
    "logs": {"groupName": "g", "streamName": "s", "deepLink": "https://console.example.com/log"},
}  # fmt: skip


def end(build: str = BUILD) -> dict[str, Any]:
    return {
        "source": "aws.codebuild",
        "detail-type": "CodeBuild Build State Change",
        "detail": {"build-id": build, "build-status": "FAILED", "project-name": "arm64"},
    }


def build_arn(build: str) -> str:
    return BUILD.rpartition("/")[0] + "/" + build


# ---------------------------------------------------------------- requests


def test_image_that_is_missing_is_built_and_answered_at_the_end(aws: Aws, formation: Formation) -> None:
    handler(formation.request("Create", BaseImage="base@sha256:1", SystemPackages="gcc"), None)
    assert not formation.answers
    ((build, variables),) = aws.builds.items()
    assert variables["SOURCE"] == SOURCE
    assert (variables["BASE_IMAGE"], variables["SYSTEM_PACKAGES"]) == ("base@sha256:1", "gcc")
    aws.ended = SUCCEEDED
    handler(end(build_arn(build)), None)
    assert formation.answer() == {
        "Status": "SUCCESS",
        "PhysicalResourceId": variables["IMAGE"].removeprefix(f"{REPOSITORY}:"),
        "StackId": STACK,
        "RequestId": "request-0",
        "LogicalResourceId": "Arm64Image",
    }
    # The address was signed without a content type.
    assert formation.content_types == [""]


def test_image_that_is_there_is_not_built_again(aws: Aws, formation: Formation) -> None:
    handler(formation.request("Create"), None)
    tag = aws.builds["arm64:0"]["IMAGE"].partition(":")[2]
    aws.images.add(tag)
    handler(formation.request("Update", 1), None)
    assert len(aws.builds) == 1
    assert formation.answer(1)["PhysicalResourceId"] == tag


def test_request_that_lambda_brings_twice_starts_one_build(aws: Aws, formation: Formation) -> None:
    for _ in range(3):
        handler(formation.request("Create"), None)
    assert len(aws.builds) == 1


def test_delete_calls_nothing_and_succeeds(aws: Aws, formation: Formation) -> None:
    handler(formation.request("Delete"), None)
    assert formation.answer()["Status"] == "SUCCESS"
    assert formation.answer()["PhysicalResourceId"] == "old-arm64"
    assert not aws.calls


def test_delete_of_what_was_never_made(aws: Aws, formation: Formation) -> None:
    """A rollback: what failed to be created is deleted, by the id that the failure was answered with."""
    aws.faults["StartBuild"] = ["AccessDeniedException"]
    handler(formation.request("Create"), None)
    failed = formation.answer()
    handler(formation.request("Delete", 1) | {"PhysicalResourceId": failed["PhysicalResourceId"]}, None)
    assert formation.answer(1)["Status"] == "SUCCESS"


def test_properties_that_are_wrong_are_answered(aws: Aws, formation: Formation) -> None:
    request = formation.request("Create")
    del request["ResourceProperties"]["Source"]
    handler(request, None)
    assert formation.answer()["Status"] == "FAILED"
    assert "Source" in formation.answer()["Reason"]


# ---------------------------------------------------------------- ends of builds


def test_failure_says_what_codebuild_said(aws: Aws, formation: Formation) -> None:
    handler(formation.request("Update"), None)
    aws.ended = FAILED
    aws.log = [
        "[Container] 2026/11/20 Entering phase BUILD",
        "",
        "#5 ERROR: No package matches 'pyton3.11'",
        " ",
    ]
    handler(end(build_arn("arm64:0")), None)
    told = formation.answer()
    assert told["Status"] == "FAILED"
    # What there was stays; another id would have it deleted.
    assert told["PhysicalResourceId"] == "old-arm64"
    assert told["Reason"].splitlines() == [
        "CodeBuild could not build the image (FAILED).",
        "BUILD COMMAND_EXECUTION_ERROR: docker build: exit status 1",
        "The whole log: https://console.example.com/log",
        "It ends with:",
        "#5 ERROR: No package matches 'pyton3.11'",
    ]


@pytest.mark.parametrize("status", ["FAULT", "TIMED_OUT", "STOPPED"])
def test_every_other_end_is_a_failure(aws: Aws, formation: Formation, status: str) -> None:
    handler(formation.request("Create"), None)
    aws.ended = {"buildStatus": status, "phases": [{"phaseType": "QUEUED", "phaseStatus": status}]}
    handler(end(build_arn("arm64:0")), None)
    assert formation.answer()["Status"] == "FAILED"
    assert f"QUEUED {status}" in formation.answer()["Reason"]


def test_build_that_nobody_waits_for(aws: Aws, formation: Formation) -> None:
    aws.builds["arm64:by-hand"] = {"IMAGE": "x"}
    aws.ended = SUCCEEDED
    handler(end(build_arn("arm64:by-hand")), None)
    assert not formation.answers


@given(status=st.sampled_from(["SUCCEEDED", "FAILED"]), reason=st.text(max_size=6000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_answer_is_json_of_at_most_4096_bytes(formation: Formation, status: str, reason: str) -> None:
    formation.answers.clear()
    callback = Callback.of(formation.request("Update"))
    if status == "SUCCEEDED":
        answer.succeed(callback, "id")
    else:
        answer.fail(callback, reason)
    ((body,),) = formation.answers.values()
    assert len(body) <= 4096
    kept = json.loads(body).get("Reason", "")
    assert reason.encode(errors="replace").decode().startswith(kept.removesuffix("…"))


# ---------------------------------------------------------------- one answer to each request

CALLS = ("GetLayerVersionByArn", "DescribeImages", "StartBuild", "BatchGetBuilds", "GetLogEvents")
FAULTS = ("UNREACHABLE", "AccessDeniedException", "ThrottlingException", "BUG")
numbers = itertools.count(1)


@given(
    kind=st.sampled_from(["Create", "Update", "Delete"]),
    status=st.sampled_from(["SUCCEEDED", "FAILED", "FAULT", "TIMED_OUT", "STOPPED"]),
    faults=st.dictionaries(
        st.sampled_from(CALLS), st.lists(st.sampled_from(FAULTS), min_size=1, max_size=2), max_size=3
    ),
    refused=st.lists(st.sampled_from([500, 503, 403]), max_size=2),
    deliveries=st.integers(1, 3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_each_request_gets_one_answer(
    aws: Aws,
    formation: Formation,
    kind: str,
    status: str,
    faults: dict[str, list[str]],
    refused: list[int],
    deliveries: int,
) -> None:
    """AWS fails twice at any call, CloudFormation's address twice; events come up to three times."""
    # Lambda calls three times and no more.
    assume(len(faults.get("BatchGetBuilds", ())) + refused.count(403) <= 2)
    number = next(numbers)
    aws.builds.clear()
    aws.faults = {name: list(each) for name, each in faults.items()}
    aws.ended = FAILED | {"buildStatus": status}
    formation.statuses = list(refused)
    request = formation.request(kind, number, Source=f"{SOURCE}{number}")
    as_lambda_calls(request)
    started = list(aws.builds)
    for build, _ in itertools.product(started, range(deliveries)):
        as_lambda_calls(end(build_arn(build)))
    received = formation.answers[f"/{number}?signature=secret"]
    # The end of a build may be told more than once, and is answered alike; CloudFormation takes the first.
    assert len(set(received)) == 1
    assert len(received) == (deliveries if started else 1)
    told = json.loads(received[0])
    assert (told["RequestId"], told["StackId"]) == (f"request-{number}", STACK)
    expected = kind == "Delete" or (bool(started) and status == "SUCCEEDED")
    assert told["Status"] == ("SUCCESS" if expected else "FAILED")
    if told["Status"] == "FAILED":
        assert told["Reason"]
        assert "signature" not in told["Reason"]


def as_lambda_calls(event: dict[str, Any]) -> None:
    """An asynchronous event is given to the function up to three times, until it does not raise."""
    for attempt in range(3):
        try:
            handler(event, None)
        except Exception:
            if attempt == 2:
                raise
        else:
            return


def test_address_that_takes_no_answer(aws: Aws, formation: Formation) -> None:
    formation.statuses = [403]
    with pytest.raises(AnswerError) as caught:
        handler(formation.request("Delete"), None)
    assert "signature" not in str(caught.value)


def test_address_out_of_reach(aws: Aws, formation: Formation) -> None:
    request = formation.request("Delete") | {"ResponseURL": "http://127.0.0.1:1/?signature=secret"}
    with pytest.raises(AnswerError) as caught:
        handler(request, None)
    assert "signature" not in str(caught.value)


# ---------------------------------------------------------------- the tag

PROPERTIES = st.fixed_dictionaries(
    {
        name: st.text(max_size=5)
        for name in (
            "Architecture",
            "Project",
            "RepositoryUri",
            "Source",
            "BaseImage",
            "SystemPackages",
            "Recipe",
        )
    }
)


@given(one=PROPERTIES, other=PROPERTIES, sources=st.tuples(st.text(max_size=5), st.text(max_size=5)))
def test_tags_are_equal_just_when_the_content_is(
    one: dict[str, str], other: dict[str, str], sources: tuple[str, str]
) -> None:
    """Where the source lies and who builds it has no part in it."""
    content = ("Architecture", "BaseImage", "SystemPackages", "Recipe")
    tags = [Image.of(each).tag(source) for each, source in zip((one, other), sources, strict=True)]
    same = sources[0] == sources[1] and all(one[name] == other[name] for name in content)
    assert (tags[0] == tags[1]) == same
    assert Image.of({**other, **{name: one[name] for name in content}}).tag(sources[0]) == tags[0]
