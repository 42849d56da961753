"""The manifest's place in the bucket, which the newest upload wins."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.conditional_write import ATTEMPTS, write_if_unchanged
from layerdrop.input_key import manifest_key
from layerdrop.input_versions import InputVersions, Place
from layerdrop.manifest import Found, Manifest, Status
from layerdrop.sequencer import is_newer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mypy_boto3_s3 import S3Client

    from layerdrop.build_input import BuildInput

_MAX_BYTES = 64 * 1024 * 1024


class Put(Enum):
    """What became of a manifest."""

    WRITTEN = auto()
    SUPERSEDED = auto()
    """The place belongs to a newer upload."""
    ANSWERED = auto()
    """The same upload has an answer already, which stays."""


@dataclass(frozen=True)
class ManifestStore:
    """Writes manifests beside their inputs, never over that of a newer upload."""

    s3: S3Client
    versions: InputVersions

    def put(self, manifest: Manifest, unless: Collection[Status] = ()) -> Put:
        """Write it, unless there is a newer upload of the same key.

        Args:
            manifest: The manifest.
            unless: If the same upload's manifest says one of these, it stays.

        Raises:
            RuntimeError: others kept writing at the same time.
        """
        build_input = manifest.build_input
        key = manifest_key(build_input.key)
        for _ in range(ATTEMPTS):
            etag, found = self._read(build_input.bucket, key)
            if self._is_superseded(build_input, found):
                return Put.SUPERSEDED
            written_for = found.written_for(build_input.key)
            same = written_for.get("version_id") == build_input.version_id
            if same and found.document.get("status") in unless:
                return Put.ANSWERED
            if write_if_unchanged(self.s3, build_input.bucket, key, etag, manifest.to_bytes()):
                return Put.WRITTEN
        raise RuntimeError(f"the manifest {key} changed at each of {ATTEMPTS} attempts to write it")

    def find(self, build_input: BuildInput) -> Mapping[str, Any]:
        """What lies in the manifest's place; empty if it is no manifest."""
        return self._read(build_input.bucket, manifest_key(build_input.key))[1].document

    def _is_superseded(self, build_input: BuildInput, found: Found) -> bool:
        """By the manifest of a newer upload; or by the upload itself, for a manifest can be deleted."""
        sequencer = found.written_for(build_input.key).get("sequencer")
        if isinstance(sequencer, str) and is_newer(sequencer, than=build_input.sequencer):
            return True
        return self.versions.place(build_input) is Place.OLDER

    def _read(self, bucket: str, key: str) -> tuple[str | None, Found]:
        """ETag of what lies there, and what it is."""
        try:
            response = self.s3.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise
            return None, Found({})
        with response["Body"] as body:
            return response["ETag"], Found.read(body.read(_MAX_BYTES).decode("utf-8", errors="replace"))
