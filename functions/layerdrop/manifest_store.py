"""The manifest's place in the bucket, which the newest upload wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.input_key import manifest_key
from layerdrop.manifest import Manifest, input_of
from layerdrop.sequencer import is_newer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A conditional write fails when someone else wrote in between, as two uploads at once may.
_ATTEMPTS = 10
# 412: the condition does not hold; 409: another write is under way; 404: If-Match finds no object:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
_LOST_RACE = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class ManifestStore:
    """Writes manifests beside their inputs, never over that of a newer upload."""

    s3: S3Client

    def put(self, manifest: Manifest) -> bool:
        """Write it, unless the manifest that lies there belongs to a newer upload of the same key.

        Returns:
            Whether it was written.

        Raises:
            RuntimeError: others kept writing at the same time.
        """
        build_input = manifest.build_input
        key = manifest_key(build_input.key)
        for _ in range(_ATTEMPTS):
            etag, sequencer = self._current(build_input.bucket, key, build_input.key)
            if sequencer is not None and is_newer(sequencer, than=build_input.sequencer):
                return False
            try:
                self._put_if_unchanged(build_input.bucket, key, etag, manifest.to_bytes())
            except ClientError as error:
                if error_code(error) not in _LOST_RACE:
                    raise
            else:
                return True
        raise RuntimeError(f"the manifest {key} changed at each of {_ATTEMPTS} attempts to write it")

    def _current(self, bucket: str, key: str, input_key: str) -> tuple[str | None, str | None]:
        """ETag of what lies there, and the sequencer of the upload of that input that wrote it."""
        try:
            response = self.s3.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise
            return None, None
        with response["Body"] as body:
            text = body.read(_MAX_BYTES).decode("utf-8", errors="replace")
        written_for = input_of(text)
        sequencer = written_for.get("sequencer")
        # A manifest that was copied here along with its folder says nothing of this key's order.
        if written_for.get("key") != input_key or not isinstance(sequencer, str):
            sequencer = None
        return response["ETag"], sequencer

    def _put_if_unchanged(self, bucket: str, key: str, etag: str | None, body: bytes) -> None:
        if etag is None:
            self.s3.put_object(
                Bucket=bucket,
                Key=key,
                Body=body,
                ContentType="application/json",
                IfNoneMatch="*",
            )
        else:
            self.s3.put_object(
                Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfMatch=etag
            )
