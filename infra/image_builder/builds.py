"""Builds in CodeBuild: started for a request, read when they have ended."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config

from image_builder.answer import Callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from image_builder.image import Image

log = logging.getLogger(__name__)

_CALLBACK = "CALLBACK"
_IMAGE = "IMAGE"
_LOG_LINES = 40
_LOG_CHARACTERS = 1500
# CodeBuild's own lines, such as "[Container] 2026/11/20 10:00:00.000000 Phase complete: BUILD State: FAILED".
_CHATTER = "[Container] "

# All tries of all calls for one event stay within the function's timeout.
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})


@dataclass(frozen=True, slots=True)
class Build:
    """A build that was started for a request.

    Attributes:
        status: CodeBuild's word, ``IN_PROGRESS`` while it runs.
        callback: where the answer belongs.
        image: URI of the image that it was to push.
        reasons: what CodeBuild says went wrong, in order.
        log_group, log_stream: its log, empty when there is none.
        log_url: the log in the console.
    """

    status: str
    callback: Callback
    image: str
    reasons: tuple[str, ...]
    log_group: str
    log_stream: str
    log_url: str

    @classmethod
    def of(cls, build: Mapping[str, Any]) -> Self | None:
        """Read CodeBuild's description; None for a build that nobody waits for, as one started by hand."""
        variables = {each["name"]: each["value"] for each in build["environment"]["environmentVariables"]}
        if _CALLBACK not in variables:
            return None
        contexts = [
            f"{phase['phaseType']} {context.get('statusCode', '')}: {context.get('message', '')}"
            for phase in build.get("phases", ())
            if phase.get("phaseStatus", "SUCCEEDED") != "SUCCEEDED"
            for context in phase.get("contexts") or ({"statusCode": phase["phaseStatus"]},)
        ]
        logs = build.get("logs", {})
        return cls(
            status=build["buildStatus"],
            callback=Callback.from_json(variables[_CALLBACK]),
            image=variables[_IMAGE],
            reasons=tuple(context.strip(": ") for context in contexts),
            log_group=logs.get("groupName", ""),
            log_stream=logs.get("streamName", ""),
            log_url=logs.get("deepLink", ""),
        )


def image_uri(image: Image) -> str:
    """Return the image's URI, whether it is there or not."""
    content = _lambda().get_layer_version_by_arn(Arn=image.source)["Content"]
    return f"{image.repository_uri}:{image.tag(content['CodeSha256'])}"


def tag_of(uri: str) -> str:
    """Return the tag of an image's URI."""
    return uri.rpartition(":")[2]


def exists(uri: str) -> bool:
    """Tell whether the image has been pushed."""
    repository, _, tag = uri.partition("/")[2].rpartition(":")
    try:
        _ecr().describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except _ecr().exceptions.ImageNotFoundException:
        return False
    return True


def start(image: Image, uri: str, callback: Callback) -> None:
    """Start the build of an image; the answer will be given at its end.

    A request that Lambda brings twice starts one build.
    """
    variables = {
        _IMAGE: uri,
        "SOURCE": image.source,
        "BASE_IMAGE": image.base_image,
        "SYSTEM_PACKAGES": image.system_packages,
        _CALLBACK: callback.to_json(),
    }
    _codebuild().start_build(
        projectName=image.project,
        idempotencyToken=callback.request_id,
        environmentVariablesOverride=[
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items() if value
        ],
    )


def read(arn: str) -> Build | None:
    """Return a build that somebody waits for, else None.

    Args:
        arn: the build's, as in its events.
    """
    (build,) = _codebuild().batch_get_builds(ids=[arn.rpartition("/")[2]])["builds"]
    return Build.of(build)


def last_lines(build: Build) -> str:
    """Return the end of a build's log, without CodeBuild's own lines; empty when it cannot be read."""
    if not build.log_stream:
        return ""
    try:
        events = _logs().get_log_events(
            logGroupName=build.log_group,
            logStreamName=build.log_stream,
            limit=_LOG_LINES,
            startFromHead=False,
        )["events"]
    except Exception:
        # Good to have, but no reason to give no answer.
        log.warning("The build's log cannot be read", exc_info=True)
        return ""
    lines = [line for event in events for line in event["message"].splitlines()]
    text = "\n".join(line for line in lines if line.strip() and not line.startswith(_CHATTER))
    return text[-_LOG_CHARACTERS:]


@cache
def _codebuild() -> Any:
    return boto3.client("codebuild", config=_CONFIG)


@cache
def _ecr() -> Any:
    return boto3.client("ecr", config=_CONFIG)


@cache
def _lambda() -> Any:
    return boto3.client("lambda", config=_CONFIG)


@cache
def _logs() -> Any:
    return boto3.client("logs", config=_CONFIG)
