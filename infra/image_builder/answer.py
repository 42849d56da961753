"""Answers to CloudFormation, which waits for one at an address that comes with its request."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import urllib3

# CloudFormation takes a response of 4096 bytes at most:
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
_BODY_BYTES = 4096
_NO_RESOURCE = "none"
_CUT = "…"

_http = urllib3.PoolManager(
    timeout=urllib3.Timeout(connect=5, read=10),
    retries=urllib3.Retry(
        total=4,
        backoff_factor=0.5,
        allowed_methods=None,
        status_forcelist=(500, 502, 503, 504),
        raise_on_status=False,
    ),
)


class AnswerError(Exception):
    """CloudFormation's address does not take the answer."""


@dataclass(frozen=True, slots=True)
class Callback:
    """Where and for what an answer is waited for.

    Attributes:
        url: the presigned address; whoever has it can answer, so it is never logged.
        stack_id: the stack's ARN.
        request_id: unique to the request.
        logical_resource_id: the resource's name in the template.
        physical_resource_id: what the resource is known by so far; empty before it exists.
    """

    url: str
    stack_id: str
    request_id: str
    logical_resource_id: str
    physical_resource_id: str

    @classmethod
    def of(cls, event: dict[str, Any]) -> Self:
        """Take it from a custom resource's event.

        Raises:
            KeyError: it is none.
        """
        return cls(
            event["ResponseURL"],
            event["StackId"],
            event["RequestId"],
            event["LogicalResourceId"],
            event.get("PhysicalResourceId", ""),
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Write it down for whoever will answer."""
        return json.dumps(asdict(self))


def succeed(callback: Callback, physical_resource_id: str) -> None:
    """Answer that the resource is there.

    Args:
        callback: the request.
        physical_resource_id: what ``Ref`` gives. If it is not the one of before, that one is deleted next.

    Raises:
        AnswerError: the answer cannot be given.
    """
    _send(callback, "SUCCESS", physical_resource_id or _NO_RESOURCE, "")


def fail(callback: Callback, reason: str) -> None:
    """Answer that the resource cannot be made or changed, and why; what there was stays.

    Raises:
        AnswerError: the answer cannot be given.
    """
    _send(callback, "FAILED", callback.physical_resource_id or _NO_RESOURCE, reason)


def _send(
    callback: Callback, status: Literal["SUCCESS", "FAILED"], physical_resource_id: str, reason: str
) -> None:
    answer = {
        "Status": status,
        "PhysicalResourceId": physical_resource_id,
        "StackId": callback.stack_id,
        "RequestId": callback.request_id,
        "LogicalResourceId": callback.logical_resource_id,
    }
    if reason:
        answer["Reason"] = reason
        if (excess := len(_encoded(answer)) - _BODY_BYTES) > 0:
            # Each character that goes is a byte or more.
            answer["Reason"] = reason[: -excess - len(_CUT.encode())] + _CUT
    try:
        # Without a content type: the address was signed so.
        response = _http.request("PUT", callback.url, body=_encoded(answer), headers={"Content-Type": ""})
    except urllib3.exceptions.HTTPError as error:
        # The error's own text has the address in it.
        raise AnswerError(f"CloudFormation does not take the answer: {type(error).__name__}") from None
    if response.status >= 400:
        raise AnswerError(f"CloudFormation does not take the answer: status {response.status}")


def _encoded(answer: dict[str, str]) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode(errors="replace")
