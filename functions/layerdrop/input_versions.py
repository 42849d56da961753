"""The order of a key's uploads, as the bucket itself keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from layerdrop.errors import BuildError, ErrorCode

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from layerdrop.build_input import BuildInput


class Place(Enum):
    """Where an upload stands among those of its key."""

    NEWEST = auto()
    """Nothing was uploaded after it; that the file was deleted since changes nothing."""
    OLDER = auto()
    """A newer upload is there, whether its event has come or not."""
    GONE = auto()
    """This version was deleted for good, so nothing can be said."""


@dataclass(frozen=True)
class InputVersions:
    """The versions of requirements files. They outlive manifests, and no event is needed to know them."""

    s3: S3Client

    def place(self, build_input: BuildInput) -> Place:
        """Where an upload stands.

        S3 lists a key's versions from the newest to the oldest:
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
        """
        newest = None
        pages = self.s3.get_paginator("list_object_versions").paginate(
            Bucket=build_input.bucket, Prefix=build_input.key
        )
        for page in pages:
            for version in page.get("Versions", []):
                if version["Key"] != build_input.key:  # a longer key, so all of this one were before it
                    return Place.GONE
                newest = newest or version["VersionId"]
                if version["VersionId"] == build_input.version_id:
                    return Place.NEWEST if newest == build_input.version_id else Place.OLDER
        return Place.GONE

    def require_newest(self, build_input: BuildInput) -> None:
        """Go on only with the newest upload.

        Raises:
            BuildError: SUPERSEDED, when there is a newer one; INPUT_NOT_FOUND, when this one was deleted.
        """
        place = self.place(build_input)
        if place is Place.OLDER:
            raise BuildError(
                ErrorCode.SUPERSEDED,
                f'A newer version of "{build_input.key}" was uploaded, which is built instead.',
                "Nothing needs to be done.",
                {"version_id": build_input.version_id},
            )
        if place is Place.GONE:
            raise input_gone(build_input)


def input_gone(build_input: BuildInput) -> BuildError:
    """The error that an upload's version is not there any more."""
    return BuildError(
        ErrorCode.INPUT_NOT_FOUND,
        f'The uploaded version of "{build_input.key}" was deleted before it was built.',
        "Upload the file again.",
        {"version_id": build_input.version_id},
    )
