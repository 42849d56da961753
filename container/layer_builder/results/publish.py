"""Publishing a layer version, as the `-s` option asks. (In the pipeline a function of its own does this.)"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from layer_builder.ground.errors import PublishRefusedError, StorageUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

    from layer_builder.ground.target import Target
    from layer_builder.results.storage import S3Url

_BUSY = {"TooManyRequestsException", "ServiceException", "ThrottlingException", "500", "503"}


@cache
def client() -> LambdaClient:
    """Make the client, credentials included.

    Raises:
        botocore.exceptions.BotoCoreError: there is no region, or the configuration makes no sense.
    """
    import boto3
    from botocore.config import Config

    return boto3.client("lambda", config=Config(retries={"mode": "standard", "max_attempts": 5}))


def publish(name: str, description: str, license_info: str | None, zip_url: S3Url, target: Target) -> str:
    """Publish the zip as a new version; return the version's ARN.

    Raises:
        PublishRefusedError: Lambda does not take it.
        StorageUnavailableError: Lambda does not answer, or is busy.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    optional = {"LicenseInfo": license_info} if license_info else {}
    try:
        answer = client().publish_layer_version(
            LayerName=name,
            Description=description,
            Content={"S3Bucket": zip_url.bucket, "S3Key": zip_url.key},
            CompatibleRuntimes=[target.runtime.name],  # type: ignore[list-item]
            CompatibleArchitectures=[target.architecture],  # type: ignore[list-item]
            **optional,
        )
    except ClientError as error:
        code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        if code in _BUSY:
            raise StorageUnavailableError(
                f"Lambda could not publish {name}: {message or code}.", hint="Try again."
            ) from error
        raise PublishRefusedError(
            f"Lambda does not publish {name}: {message or code}.",
            hint=f"The zip is at {zip_url}; check the permissions and the layer's settings.",
        ) from error
    except BotoCoreError as error:
        raise StorageUnavailableError(
            f"Lambda could not publish {name}: {error}.", hint="Try again."
        ) from error
    return answer["LayerVersionArn"]
