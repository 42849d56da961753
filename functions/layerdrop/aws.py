"""How the functions call AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient

_RETRIES: dict[str, object] = {"mode": "standard", "max_attempts": 5}
_CONFIG = Config(retries=_RETRIES, connect_timeout=3, read_timeout=10)  # type: ignore[arg-type]


def s3_client() -> S3Client:
    """S3."""
    return boto3.client("s3", config=_CONFIG)


def ssm_client() -> SSMClient:
    """Systems Manager's Parameter Store."""
    return boto3.client("ssm", config=_CONFIG)


def step_functions_client() -> SFNClient:
    """Step Functions."""
    return boto3.client("stepfunctions", config=_CONFIG)


def lambda_client() -> LambdaClient:
    """Lambda, with the patience that publishing 250 MB takes: asked twice, it would publish twice."""
    return boto3.client("lambda", config=_CONFIG.merge(Config(read_timeout=170)))


def error_code(error: Exception) -> str:
    """The service's name for an error, such as `NoSuchKey`."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
