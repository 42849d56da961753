"""Where things are read from and put: files, or objects in S3. boto3 is imported only for the latter."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_builder.ground import files
from layer_builder.ground.errors import (
    OutputError,
    RequirementsNotFoundError,
    StorageDeniedError,
    StorageUnavailableError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

_SCHEME = "s3://"
_METADATA_BYTES = 2048  # Amazon S3 User Guide, "Working with object metadata": names and values together
_MISSING = {"NoSuchKey", "NoSuchVersion", "NoSuchBucket", "404"}
_DENIED = {
    "AccessDenied",
    "403",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "PermanentRedirect",
}


@dataclass(frozen=True, slots=True)
class S3Url:
    """An object, or a prefix, in a bucket."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str) -> S3Url:
        """Take `s3://bucket/key` apart.

        Raises:
            UsageError: it names no bucket.
        """
        bucket, _, key = url.removeprefix(_SCHEME).partition("/")
        if not bucket:
            raise UsageError(f"{url!r} names no bucket.", hint="Write s3://BUCKET/KEY.")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"


def is_s3(location: str) -> bool:
    """Tell an `s3://` URL from a path."""
    return location.startswith(_SCHEME)


def read(location: str, version_id: str = "", *, limit: int) -> bytes:
    """Read a file or an object, of which at most `limit` bytes and one more.

    Raises:
        RequirementsNotFoundError: there is none.
        StorageDeniedError, StorageUnavailableError: S3 does not give it.
    """
    if not is_s3(location):
        try:
            with Path(location).open("rb") as stream:
                return stream.read(limit + 1)
        except OSError as error:
            raise RequirementsNotFoundError(
                f"{location} cannot be read: {error.strerror}.", hint="Check the path."
            ) from error
    url = S3Url.parse(location)
    versioned = {"VersionId": version_id} if version_id else {}
    with _errors(f"read {url}"):
        body = _s3().get_object(Bucket=url.bucket, Key=url.key, **versioned)["Body"]  # type: ignore[arg-type]
        return body.read(limit + 1)


def write(location: str, content: bytes, content_type: str, *, is_new: bool = False) -> None:
    """Write a small file or object; one that `is_new` must not be there yet.

    Raises:
        OutputError, StorageDeniedError, StorageUnavailableError: it cannot be written.
    """
    if not is_s3(location):
        with unwritable(location):
            files.write_atomically(Path(location), content)
        return
    url = S3Url.parse(location)
    with _errors(f"write {url}"):
        _s3().put_object(
            Bucket=url.bucket, Key=url.key, Body=content, ContentType=content_type, **_only(is_new)
        )


def checksum(url: S3Url) -> tuple[int, str] | None:
    """Ask for an object's length and its SHA-256 in base64, without reading it; None if S3 keeps none.

    Raises:
        RequirementsNotFoundError: there is no such object.
        StorageDeniedError, StorageUnavailableError: S3 does not say.
    """
    with _errors(f"read {url}"):
        head = _s3().head_object(Bucket=url.bucket, Key=url.key, ChecksumMode="ENABLED")
    sha256 = head.get("ChecksumSHA256")
    return (head["ContentLength"], sha256) if sha256 else None


def upload_zip(
    file: Path, url: S3Url, metadata: dict[str, str], code_sha256: str, *, is_new: bool = False
) -> None:
    """Upload a layer's zip with its metadata and its SHA-256 in base64, which S3 compares and keeps.

    In one part, because S3 has a SHA-256 of a whole object only then (Amazon S3 User Guide, "Checking object
    integrity"); a zip that Lambda takes is far below the 5 GB of one request.

    Raises:
        StorageDeniedError, StorageUnavailableError: S3 does not take it.
    """
    with _errors(f"write {url}"), file.open("rb") as stream:
        _s3().put_object(
            Bucket=url.bucket,
            Key=url.key,
            Body=stream,
            Metadata=fitted(metadata),
            ContentType="application/zip",
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=code_sha256,
            **_only(is_new),
        )


def _only(is_new: bool) -> dict[str, Any]:
    """Have S3 refuse to replace an object (Amazon S3 User Guide, "How to prevent object overwrites with
    conditional writes").

    That one is there need not be somebody else's doing: the answer to a first try may have been lost. Who may
    not read there cannot tell, so it is an error, and another attempt of the job writes elsewhere.
    """
    return {"IfNoneMatch": "*"} if is_new else {}


def fitted(metadata: dict[str, str]) -> dict[str, str]:
    """Make metadata that S3 takes: ASCII, no control characters, 2 KB in all; the longest value is cut."""
    clean = {
        name: "".join(char if " " <= char <= "~" else "?" for char in value).strip()
        for name, value in metadata.items()
        if value
    }
    excess = sum(len(name) + len(value) for name, value in clean.items()) - _METADATA_BYTES
    if excess > 0:
        longest = max(clean, key=lambda name: len(clean[name]))
        clean[longest] = clean[longest][: -excess - 3] + "..."
    return clean


@contextmanager
def unwritable(location: str) -> Iterator[None]:
    """Turn an error of the file system into one that names the output."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{location} cannot be written: {error.strerror or error}.",
            hint="Check the folder and the space in it.",
        ) from error


def connect(*others: Callable[[], object]) -> None:
    """Make the clients that a build needs, before code of others runs.

    A client takes its credentials and service descriptions when it is made, from the user's files too: from
    then on, a `credential_process` in ~/.aws/config or a folder ~/.aws/models that was put there means
    nothing (AWS SDKs and Tools Reference Guide, "Process credential provider"; botocore's `loaders`).

    Args:
        others: make further clients.

    Raises:
        StorageDeniedError: there is no region, or the configuration makes no sense.
    """
    with _errors("use AWS"):
        _s3()
        for make in others:
            make()


@cache
def _s3() -> S3Client:
    import boto3
    from botocore.config import Config

    return boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 5}))


@contextmanager
def _errors(what: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        # The transfer manager's errors hide S3's own.
        cause = error.__context__ if isinstance(error.__context__, ClientError) else error
        code, reason = _answer(cause)
        message = f"Cannot {what}: {reason}."
        if code in _MISSING and what.startswith("read"):
            raise RequirementsNotFoundError(message, hint="Check bucket, key and version.") from error
        if code in _DENIED | _MISSING:
            raise StorageDeniedError(message, hint="Check the bucket and the role's permissions.") from error
        if isinstance(error, NoCredentialsError | NoRegionError):
            raise StorageDeniedError(message, hint="Configure AWS credentials and a region.") from error
        raise StorageUnavailableError(message, hint="Try again.") from error


def _answer(error: BaseException) -> tuple[str, str]:
    """Take S3's code and words out of boto3's error."""
    answer = getattr(error, "response", {}).get("Error", {})
    code = str(answer.get("Code", ""))
    return code, (answer.get("Message") or code or str(error)).rstrip(".")
