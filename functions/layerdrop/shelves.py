"""The shelves: where finished layers are kept for all builds, and how one that a job staged gets there.

A job may run code of packages, so it writes only below a prefix of its own. What it left is looked at here,
where nothing foreign runs, and copied: `<digest>.zip`, and then `<digest>.json`, its record. A record counts
only with a zip of the length and the SHA-256 that it names, by which whoever finds both knows that they are
whole. So both may be half there, as after a kill: the next one completes them.

What ResolveLayer chose leads to a digest by a note, `choices/<choice>.json`: the next build that chooses the
same needs no job.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.objects import GONE, read_at_most
from layerdrop.record import MAX_BYTES, Record
from layerdrop.report import invalid
from layerdrop.target import LAYERS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from layerdrop.report import BuiltLayer
    from layerdrop.target import Target


CHOICES: Final = "choices/"
CHOICE_SCHEMA: Final = "layerdrop/choice/1"


@dataclass(frozen=True)
class Stored:
    """A version of an object; `sha256` is S3's own, in Base64, of the whole object."""

    key: str
    version_id: str
    bytes: int
    sha256: str | None

    def is_zip_of(self, layer: BuiltLayer) -> bool:
        """Whether it is the zip that a report describes."""
        return (self.bytes, self.sha256) == (layer.zip.bytes, layer.code_sha256)


@dataclass(frozen=True)
class Shelves:
    """The kept layers of a bucket. Every step may be repeated, and several may be at it."""

    s3: S3Client
    bucket: str

    def keep(self, target: Target, attempt: int, layer: BuiltLayer) -> Stored:
        """See to it that a layer is kept with its record; return that very version of its zip.

        Raises:
            BuildError: REPORT_INVALID, when zip or record are not what the report says.
        """
        if layer.is_reused:
            return self._reused(target, layer)
        staged = self._zip(target.staged("layer.zip", attempt))
        if staged is None or not staged.is_zip_of(layer):
            raise invalid(f'The zip of "{target.layer_name}" is not the one that the build reported.')
        record = Record.read(self._read(target.staged("layer.json", attempt)))
        if record is None or not record.is_of(layer):
            raise invalid(f'The record of "{target.layer_name}" is not that of the zip that was reported.')
        name = f"{target.shelf}{layer.digest}"
        if target.shelf != target.own_shelf and self._has_another(name, layer):
            # Whatever made them differ: those who know that one go on getting it.
            name = f"{target.own_shelf}{layer.digest}"
        kept = self._zip(f"{name}.zip")
        if kept is None or not kept.is_zip_of(layer):
            kept = self._copy(staged, f"{name}.zip")
            if not kept.is_zip_of(layer):
                raise invalid(f'The zip of "{target.layer_name}" changed when it was copied.')
        self._record(f"{name}.json", record)
        return kept

    def note(self, target: Target, layer: BuiltLayer, kept: Stored) -> None:
        """Note which layer a job came to with what ResolveLayer chose, for builds that choose the same.

        Not of one that is kept apart: others would not find it.
        """
        if not target.choice or target.is_known or kept.key != f"{LAYERS}{layer.digest}.zip":
            return
        key = f"{LAYERS}{CHOICES}{target.choice}.json"
        body = json.dumps({"schema": CHOICE_SCHEMA, "digest": layer.digest}).encode()
        if self._read(key) != body:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="application/json")

    def _reused(self, target: Target, layer: BuiltLayer) -> Stored:
        name = f"{target.shelf}{layer.digest}"
        kept, record = self._zip(f"{name}.zip"), Record.read(self._read(f"{name}.json"))
        if kept is None or record is None or not (kept.is_zip_of(layer) and record.is_of(layer)):
            raise invalid(f'The layer that "{target.layer_name}" was to be taken from is not there any more.')
        return kept

    def _has_another(self, name: str, layer: BuiltLayer) -> bool:
        """Whether there is a whole layer with other bytes."""
        record, kept = Record.read(self._read(f"{name}.json")), self._zip(f"{name}.zip")
        if record is None or kept is None or kept.is_zip_of(layer):
            return False
        return record.zip == (kept.bytes, kept.sha256)

    def _zip(self, key: str) -> Stored | None:
        """What S3 says of an object's newest version.

        Of an object that came in several parts it gives a checksum of checksums, with their number at its
        end, which is never equal to that of a zip (Amazon S3 User Guide, "Checking object integrity").
        """
        try:
            head = self.s3.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if error_code(error) not in GONE:
                raise
            return None
        return Stored(key, head["VersionId"], head["ContentLength"], head.get("ChecksumSHA256"))

    def _copy(self, staged: Stored, key: str) -> Stored:
        """Copy that very version within S3, which computes the checksum of what it wrote."""
        answer = self.s3.copy_object(
            Bucket=self.bucket,
            Key=key,
            CopySource={"Bucket": self.bucket, "Key": staged.key, "VersionId": staged.version_id},
            ChecksumAlgorithm="SHA256",
        )
        sha256 = answer["CopyObjectResult"].get("ChecksumSHA256")
        return Stored(key, answer["VersionId"], staged.bytes, sha256)

    def _record(self, key: str, record: Record) -> None:
        if Record.read(self._read(key)) == record:
            return
        self.s3.put_object(
            Bucket=self.bucket, Key=key, Body=record.to_bytes(), ContentType="application/json"
        )

    def _read(self, key: str) -> bytes | None:
        return read_at_most(self.s3, self.bucket, key, MAX_BYTES)
