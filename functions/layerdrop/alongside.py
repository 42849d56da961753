"""Other layers of the same function: how much room they leave, and which paths they have too.

What a layer unzips to is told nowhere but in its zip, so the end of that is read, by its address: the list of
its files, and nothing of what they hold. Somebody else may have made it.
"""

from __future__ import annotations

import struct
import urllib.request
import zipfile
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from layerdrop import wording
from layerdrop.aws import TryLaterError, error_code
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.target import MAX_UNZIPPED_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client

# Of a zip's list of files: the largest layer that we know has 45,000 files and 5 MB.
_LONGEST_READ: Final = 10 << 20
_MOST_READS: Final = 20
_SHOWN: Final = 20
_LONGEST_PATH: Final = 500
_SECONDS: Final = 10
# Lambda's answers when there is no such version, or none that may be read from here.
_UNREADABLE = (
    "ResourceNotFoundException",
    "AccessDeniedException",
    "InvalidParameterValueException",
    "ValidationException",
)

Range = tuple[int, int]
"""First byte, and the one after the last."""


@dataclass(frozen=True)
class Files:
    """A zip's files, CRC-32 and length by path, and what all of them have unzipped."""

    by_path: Mapping[str, tuple[int, int]]
    unzipped_bytes: int


@dataclass(frozen=True)
class Neighbors:
    """Looks at the versions of other layers.

    Attributes:
        lambda_client: tells where their zips are.
        s3: has ours.
    """

    lambda_client: LambdaClient
    s3: S3Client

    def room(self, arns: Sequence[str]) -> int:
        """How many bytes the layers of these ARNs leave of a function's.

        Raises:
            BuildError: SETTINGS_INVALID, when one of them cannot be read, or nothing is left.
        """
        taken = {arn: self.files(arn).unzipped_bytes for arn in arns}
        left = MAX_UNZIPPED_BYTES - sum(taken.values())
        if left < 1:
            raise _invalid(
                f"The layers that the setting alongside names take {sum(taken.values()):,} of the"
                f" {MAX_UNZIPPED_BYTES:,} bytes that a function may have with all its layers.",
                "There is no room for another layer beside them: name fewer.",
                {"unzipped_bytes": taken},
            )
        return left

    def shared_paths(
        self, arns: Sequence[str], bucket: str, key: str, size: int
    ) -> tuple[Mapping[str, Any], ...]:
        """For the manifest: what each of these layers has of the paths of the zip that is kept there."""
        if not arns:
            return ()

        def read(part: Range) -> bytes:
            said = f"bytes={part[0]}-{part[1] - 1}"
            with self.s3.get_object(Bucket=bucket, Key=key, Range=said)["Body"] as body:
                return body.read()

        ours = listed(read, size)
        return tuple(_shared(arn, ours, self.files(arn)) for arn in arns)

    def files(self, arn: str) -> Files:
        """The files of a layer's version.

        Raises:
            BuildError: SETTINGS_INVALID, when there is none such for us, or it is no zip that we read.
            TryLaterError: its zip did not come.
        """
        try:
            content = self.lambda_client.get_layer_version_by_arn(Arn=arn)["Content"]
        except ClientError as error:
            if error_code(error) not in _UNREADABLE:
                raise
            said = error.response["Error"].get("Message", "").rstrip(".")
            raise _invalid(
                f'The setting alongside names "{arn}", which cannot be read: {wording.word(said)}.',
                "Take the ARN of a version, in this region, that is this account's or shared with it.",
                {"layer_version_arn": arn},
            ) from error
        address = content["Location"]
        schemes = ("https", urlsplit(self.lambda_client.meta.endpoint_url).scheme)
        if urlsplit(address).scheme not in schemes:
            raise ValueError("Lambda gives an address for a layer that is none")
        try:
            return listed(lambda part: _fetched(address, part), content["CodeSize"])
        except _UnreadableZipError as error:
            raise _invalid(
                f'The setting alongside names "{arn}", whose zip cannot be read: {error}.',
                "Leave it out, and say with size-limit how much room there is.",
                {"layer_version_arn": arn},
            ) from error


class _UnreadableZipError(Exception):
    """A zip that is broken, or whose list of files is longer than we read."""


def listed(read: Callable[[Range], bytes], size: int) -> Files:
    """List a zip's files; of its bytes only the list at its end is read.

    Raises:
        _UnreadableZipError: it is none, or too much.
    """
    by_path: dict[str, tuple[int, int]] = {}
    total = 0
    try:
        with zipfile.ZipFile(_Window(read, size)) as archive:
            for info in archive.infolist():
                total += info.file_size
                # A newer zipfile takes another name for `filename`, from an extra field.
                if not info.orig_filename.endswith("/"):
                    by_path[info.orig_filename] = (info.CRC, info.file_size)
    except (
        zipfile.BadZipFile,
        struct.error,
        NotImplementedError,
        OverflowError,
        ValueError,
        OSError,
    ) as error:
        raise _UnreadableZipError(wording.word(str(error) or type(error).__name__)) from error
    return Files(by_path, total)


class _Window:
    """As much of a file that lies elsewhere as zipfile asks for to list what is in it."""

    def __init__(self, read: Callable[[Range], bytes], size: int) -> None:
        self._read, self._size = read, size
        self._position = self._reads = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        start = (0, self._position, self._size)[whence]
        if start + offset < 0:
            raise OSError("it is cut off")  # as of any file: zipfile relies on it
        self._position = start + offset
        return self._position

    def read(self, length: int = -1) -> bytes:
        end = self._size if length < 0 else min(self._position + length, self._size)
        start = min(self._position, end)
        self._reads += 1
        if end - start > _LONGEST_READ or self._reads > _MOST_READS:
            raise _UnreadableZipError(f"its list of files is longer than {_LONGEST_READ:,} bytes")
        if start == end:
            return b""
        content = self._read((start, end))
        if len(content) != end - start:
            raise _UnreadableZipError("it is shorter than Lambda says")
        self._position = end
        return content

    def close(self) -> None:
        """Nothing is open."""


class _Staying(urllib.request.HTTPRedirectHandler):
    """The address that Lambda signed is the one that is asked."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_Staying)


def _fetched(address: str, part: Range) -> bytes:
    request = urllib.request.Request(address, headers={"Range": f"bytes={part[0]}-{part[1] - 1}"})  # noqa: S310
    try:
        with _OPENER.open(request, timeout=_SECONDS) as response:
            status, content = response.status, response.read(part[1] - part[0] + 1)
    except (OSError, HTTPException) as error:  # zipfile would take it for the file's own
        raise TryLaterError(f"A layer's zip could not be read: {error}") from error
    if status != HTTPStatus.PARTIAL_CONTENT:
        raise TryLaterError(f"A part of a layer's zip was asked for, and the status was {status}")
    return bytes(content)


def _shared(arn: str, ours: Files, theirs: Files) -> Mapping[str, Any]:
    paths = sorted(ours.by_path.keys() & theirs.by_path.keys())
    different = [path for path in paths if ours.by_path[path] != theirs.by_path[path]]
    return {
        "layer_version_arn": arn,
        "unzipped_bytes": theirs.unzipped_bytes,
        "same_paths": len(paths),
        "of_other_content": len(different),
        "examples": [path[:_LONGEST_PATH] for path in _first(different, paths)],
    }


def _first(different: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Some paths, those first of which both layers have different files."""
    return list(dict.fromkeys((*different, *paths)))[:_SHOWN]


def _invalid(message: str, hint: str, details: Mapping[str, Any]) -> BuildError:
    return BuildError(ErrorCode.SETTINGS_INVALID, message, hint, {"setting": "alongside", **details})
