"""The function's entry point: CloudFormation's requests and the ends of builds."""

from __future__ import annotations

import logging
from typing import Any

from image_builder import answer, builds
from image_builder.answer import Callback
from image_builder.image import Image

log = logging.getLogger()


def handler(event: dict[str, Any], _context: object) -> None:
    """Answer a request of CloudFormation, or leave that to the end of the build that it starts.

    What is raised has Lambda call again, twice: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html.

    Raises:
        AnswerError: the answer was known, and could not be given.
    """
    if "RequestType" in event:
        _on_request(event)
    else:
        _on_build_end(event["detail"]["build-id"])


def _on_request(event: dict[str, Any]) -> None:
    callback = Callback.of(event)
    log.info("%s %s of %s", event["RequestType"], callback.logical_resource_id, callback.stack_id)
    if event["RequestType"] == "Delete":
        # The image goes with its repository, or by its lifecycle; until then a rollback finds it.
        answer.succeed(callback, callback.physical_resource_id)
        return
    try:
        image = Image.of(event["ResourceProperties"])
        uri = builds.image_uri(image)
        there = builds.exists(uri)
        if not there:
            builds.start(image, uri, callback)
    except Exception as error:
        # Without an answer CloudFormation waits until ServiceTimeout is over.
        log.exception("The build cannot be started")
        answer.fail(callback, f"The build of the image cannot be started. {type(error).__name__}: {error}")
        return
    if there:
        log.info("%s is there already", uri)
        answer.succeed(callback, builds.tag_of(uri))


def _on_build_end(arn: str) -> None:
    build = builds.read(arn)
    if build is None or build.status == "IN_PROGRESS":
        log.info("Nobody waits for %s", arn)
        return
    log.info("%s %s", build.status, arn)
    if build.status == "SUCCEEDED":
        answer.succeed(build.callback, builds.tag_of(build.image))
    else:
        answer.fail(build.callback, _reason(build))


def _reason(build: builds.Build) -> str:
    parts = [f"CodeBuild could not build the image ({build.status}).", *build.reasons]
    if build.log_url:
        parts.append(f"The whole log: {build.log_url}")
    if end := builds.last_lines(build):
        parts.append(f"It ends with:\n{end}")
    return "\n".join(parts)
