"""Writing an object only if nobody else did meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from layerdrop.aws import error_code

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS = 10
"""How often to read and write again before giving up: each loss means that someone else got on."""

# 412: the condition does not hold; 409: another write is under way; 404: If-Match finds no object:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
_LOST_RACE = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")


def write_if_unchanged(s3: S3Client, bucket: str, key: str, etag: str | None, body: bytes) -> bool:
    """Write JSON if the object still has this ETag, or with None if there still is no object.

    Returns:
        Whether it was written; else read again. A write whose answer got lost counts as lost, too.
    """
    return put_if_unchanged(s3, bucket, key, etag, body, ContentType="application/json") is not None


def put_if_unchanged(
    s3: S3Client, bucket: str, key: str, etag: str | None, body: bytes, **more: Any
) -> str | None:
    """The same for any object.

    Args:
        s3: S3.
        bucket: The bucket.
        key: The object's.
        etag: The one that it has; None for no object.
        body: What to write.
        more: What else PutObject is to be told, such as ContentType.

    Returns:
        The new object's ETag; None if the race is lost.
    """
    condition: dict[str, Any] = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    try:
        return s3.put_object(Bucket=bucket, Key=key, Body=body, **condition, **more)["ETag"]
    except ClientError as error:
        if error_code(error) not in _LOST_RACE:
            raise
        return None
