"""The bucket's objects, read with a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.input_versions import input_gone
from layerdrop.report import Report, invalid

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from layerdrop.build_input import BuildInput
    from layerdrop.target import Target

MAX_REQUIREMENTS_BYTES = 1024 * 1024
MAX_LOCK_BYTES = 8 * 1024 * 1024  # as the builder reads
MAX_REPORT_BYTES = 4 * 1024 * 1024
MAX_ATTEMPTS = 10  # of a job: https://docs.aws.amazon.com/batch/latest/APIReference/API_RetryStrategy.html

# MethodNotAllowed is S3's answer when the version is a delete marker.
GONE = ("NoSuchKey", "NoSuchVersion", "NoSuchBucket", "MethodNotAllowed", "404")


@dataclass(frozen=True)
class RequirementsReader:
    """Reads that version of a requirements file, or of a lock, that started the build."""

    s3: S3Client

    def read(self, build_input: BuildInput, *, is_lock: bool = False) -> str:
        """The file's text.

        Raises:
            BuildError: INPUT_NOT_FOUND, when the version is gone; REQUIREMENTS_INVALID, when it is too
                large or no text.
        """
        try:
            response = self.s3.get_object(
                Bucket=build_input.bucket, Key=build_input.key, VersionId=build_input.version_id
            )
        except ClientError as error:
            if error_code(error) not in GONE:
                raise
            raise input_gone(build_input) from error
        limit = MAX_LOCK_BYTES if is_lock else MAX_REQUIREMENTS_BYTES
        with response["Body"] as body:
            content = body.read(limit + 1)
        if len(content) > limit:
            raise BuildError(
                ErrorCode.REQUIREMENTS_INVALID,
                f'"{build_input.key}" is larger than {limit:,} bytes.',
                "Lock fewer packages at once, in several layers."
                if is_lock
                else "A requirements file lists packages by name; remove whatever else is in it.",
                {"bytes": response["ContentLength"]},
            )
        what = "as the tool wrote it" if is_lock else "one requirement a line"
        return _text(build_input.key, content, f"Save it as UTF-8 text, {what}.")


@dataclass(frozen=True)
class ReportReader:
    """Reads what the builder left for a target."""

    s3: S3Client
    bucket: str

    def read(self, target: Target, attempts: int) -> tuple[Report, int]:
        """The report of a build that ended well after so many attempts, and which of these left it.

        Raises:
            BuildError: REPORT_INVALID, when it is unreadable, or there is none.
        """
        text, attempt = self._last(target, attempts)
        if text is None:
            raise invalid("The build ended well, but left no report.")
        return Report.from_text(text), attempt

    def find(self, target: Target, attempts: int) -> Report | None:
        """The report of a build that failed, or None when it left none that can be read."""
        text, _ = self._last(target, attempts)
        try:
            return Report.from_text(text) if text is not None else None
        except BuildError:
            return None

    def _last(self, target: Target, attempts: int) -> tuple[str | None, int]:
        """What the last attempt left, or the one before, as when the last could not even start.

        Never a later one's than there was: what the code of a package might leave for it is not looked at.
        """
        for attempt in range(min(attempts, MAX_ATTEMPTS), 0, -1):
            content = read_at_most(
                self.s3, self.bucket, target.staged("report.json", attempt), MAX_REPORT_BYTES
            )
            if content is not None:
                return content.decode("utf-8", errors="replace"), attempt
        return None, 0


def read_at_most(s3: S3Client, bucket: str, key: str, limit: int) -> bytes | None:
    """An object's first bytes, or None when there is none."""
    try:
        response = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) not in GONE:
            raise
        return None
    with response["Body"] as body:
        return body.read(limit)


def _text(key: str, content: bytes, hint: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_text(key, f"byte {error.start + 1} is no UTF-8", hint) from error
    if "\0" in text:
        raise _no_text(key, f"character {text.index(chr(0)) + 1} is a NUL", hint)
    return text


def _no_text(key: str, why: str, hint: str) -> BuildError:
    return BuildError(ErrorCode.REQUIREMENTS_INVALID, f'"{key}" is no text file: {why}.', hint)
