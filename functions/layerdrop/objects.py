"""The bucket's objects, read with a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.input_versions import input_gone
from layerdrop.report import Report

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from layerdrop.build_input import BuildInput
    from layerdrop.target import Target

MAX_REQUIREMENTS_BYTES = 1024 * 1024
MAX_REPORT_BYTES = 4 * 1024 * 1024

# MethodNotAllowed is S3's answer when the version is a delete marker.
_GONE = ("NoSuchKey", "NoSuchVersion", "NoSuchBucket", "MethodNotAllowed", "404")


@dataclass(frozen=True)
class RequirementsReader:
    """Reads that version of a requirements file that started the build."""

    s3: S3Client

    def read(self, build_input: BuildInput) -> str:
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
            if error_code(error) not in _GONE:
                raise
            raise input_gone(build_input) from error
        with response["Body"] as body:
            content = body.read(MAX_REQUIREMENTS_BYTES + 1)
        if len(content) > MAX_REQUIREMENTS_BYTES:
            raise BuildError(
                ErrorCode.REQUIREMENTS_INVALID,
                f'"{build_input.key}" is larger than {MAX_REQUIREMENTS_BYTES:,} bytes.',
                "A requirements file lists packages by name; remove whatever else is in it.",
                {"bytes": response["ContentLength"]},
            )
        return _text(build_input.key, content)


@dataclass(frozen=True)
class ReportReader:
    """Reads what the builder left for a target."""

    s3: S3Client
    bucket: str

    def read(self, target: Target) -> Report:
        """The report of a build that ended well.

        Raises:
            BuildError: REPORT_INVALID, when it is unreadable, or there is none.
        """
        text = self._text(target)
        if text is None:
            raise BuildError(
                ErrorCode.REPORT_INVALID,
                "The build ended well, but left no report.",
                "This is a fault of the pipeline; the job's log has more.",
                {"report": target.report_key},
            )
        return Report.from_text(text)

    def find(self, target: Target) -> Report | None:
        """The report of a build that failed, or None when it left none that can be read."""
        text = self._text(target)
        try:
            return Report.from_text(text) if text is not None else None
        except BuildError:
            return None

    def _text(self, target: Target) -> str | None:
        try:
            response = self.s3.get_object(Bucket=self.bucket, Key=target.report_key)
        except ClientError as error:
            if error_code(error) not in _GONE:
                raise
            return None
        with response["Body"] as body:
            return body.read(MAX_REPORT_BYTES).decode("utf-8", errors="replace")


def _text(key: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_text(key, f"byte {error.start + 1} is no UTF-8") from error
    if "\0" in text:
        raise _no_text(key, f"character {text.index(chr(0)) + 1} is a NUL")
    return text


def _no_text(key: str, why: str) -> BuildError:
    return BuildError(
        ErrorCode.REQUIREMENTS_INVALID,
        f'"{key}" is no text file: {why}.',
        "Save it as UTF-8 text, one requirement a line.",
    )
