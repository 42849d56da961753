"""How the functions call AWS."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient

_RETRIES: dict[str, object] = {"mode": "standard", "max_attempts": 5}
_CONFIG = Config(retries=_RETRIES, connect_timeout=3, read_timeout=10)  # type: ignore[arg-type]


def s3_client(read_timeout: int = 10) -> S3Client:
    """S3; of an answer's next byte it is waited for so many seconds."""
    return boto3.client("s3", config=_CONFIG.merge(Config(read_timeout=read_timeout)))


def ssm_client() -> SSMClient:
    """Systems Manager's Parameter Store."""
    return boto3.client("ssm", config=_CONFIG)


def step_functions_client() -> SFNClient:
    """Step Functions."""
    return boto3.client("stepfunctions", config=_CONFIG)


def events_client() -> EventBridgeClient:
    """EventBridge."""
    return boto3.client("events", config=_CONFIG)


def lambda_client() -> LambdaClient:
    """Lambda, for calls that may be made again without harm."""
    return boto3.client("lambda", config=_CONFIG)


def publishing_client() -> LambdaClient:
    """Lambda, for PublishLayerVersion: asked twice, it publishes twice.

    So it is never asked again on its own account, and has the patience that unpacking 250 MB takes.
    """
    retries: dict[str, object] = {"total_max_attempts": 1}
    config = Config(retries=retries, connect_timeout=3, read_timeout=170)  # type: ignore[arg-type]
    return boto3.client("lambda", config=config)


def invoking_client(read_timeout: int) -> LambdaClient:
    """Lambda, for Invoke of a function that may take so many seconds: asked once, as it may be at it."""
    retries: dict[str, object] = {"total_max_attempts": 1}
    config = Config(retries=retries, connect_timeout=3, read_timeout=read_timeout)  # type: ignore[arg-type]
    return boto3.client("lambda", config=config)


class TryLaterError(Exception):
    """Nothing is wrong, it is just not the time: the state machine knows this name and has long patience."""


# Each service has its own names for "too much at once".
_BUSY = (
    "TooManyRequestsException",
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "RequestLimitExceeded",
    "TooManyUpdates",
    "SlowDown",
)


@contextmanager
def patient() -> Iterator[None]:
    """Leave to the state machine, which waits for longer than a function may, what AWS throttles.

    Raises:
        TryLaterError: instead of such an error.
    """
    try:
        yield
    except ClientError as error:
        if not is_busy(error):
            raise
        raise TryLaterError(str(error)) from error


def is_busy(error: Exception) -> bool:
    """Whether a service says that it is asked too much."""
    return error_code(error) in _BUSY


def error_code(error: Exception) -> str:
    """The service's name for an error, such as `NoSuchKey`."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
