"""Which versions of a layer are published and not released yet, and which execution has to see to them.

A note is an object of the bucket, `trials/<layer name>/candidate.json`, written before the version is made:
whoever finds it knows what a build that died left behind, and never takes an older version for that. Only who
holds the layer's name (see `claims`) reads or writes it, so one note a layer is enough: the next build of the
layer takes over what an earlier one left.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from layerdrop.layer_versions import version_of
from layerdrop.objects import read_at_most

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from layerdrop.layer_versions import LayerVersions

PREFIX = "trials/"
SCHEMA = "layerdrop/candidate/1"

_MAX_BYTES = 4096


@dataclass(frozen=True)
class Candidate:
    """The versions above `after` whose zip has this SHA-256 (Base64), and the execution they are for."""

    execution: str
    after: int
    code_sha256: str

    def covers(self, arn: str, code_sha256: str) -> bool:
        """Whether a version with a zip of this SHA-256 is one of them."""
        return version_of(arn) > self.after and code_sha256 == self.code_sha256

    @classmethod
    def read(cls, content: bytes | None) -> Self | None:
        """Read a note; what is none, or says that all are released, is None."""
        try:
            document = json.loads(content or b"null")
        except (ValueError, RecursionError):
            return None
        match document:
            case {
                "schema": "layerdrop/candidate/1",
                "candidate": {
                    "execution": str() as execution,
                    "after": int() as after,
                    "code_sha256": str() as code_sha256,
                },
            }:
                return cls(execution, after, code_sha256)
        return None


@dataclass(frozen=True)
class Candidates:
    """The notes in the bucket, and what they say is to be done. The caller holds the layer's name."""

    s3: S3Client
    bucket: str
    versions: LayerVersions

    def find(self, layer_name: str) -> Candidate | None:
        """The layer's note, if something is not released."""
        return Candidate.read(read_at_most(self.s3, self.bucket, _key(layer_name), _MAX_BYTES))

    def note(self, layer_name: str, candidate: Candidate | None) -> None:
        """Write the layer's note; None: all that there is, is released."""
        told = candidate and {
            "execution": candidate.execution,
            "after": candidate.after,
            "code_sha256": candidate.code_sha256,
        }
        body = json.dumps({"schema": SCHEMA, "candidate": told}) + "\n"
        self.s3.put_object(
            Bucket=self.bucket, Key=_key(layer_name), Body=body.encode(), ContentType="application/json"
        )

    def clear(self, layer_name: str, candidate: Candidate, keep: str | None = None) -> None:
        """Delete the versions that a note is about; then the note.

        But not that to keep, that pointed to, nor one with its own parameter: that passed and was shared, and
        whoever pinned it would be left with nothing.

        Args:
            layer_name: The layer.
            candidate: Its note.
            keep: A version's ARN.
        """
        kept = {keep, self.versions.pointer(layer_name)}
        for item in list(self.versions.listed(layer_name)):
            if item["Version"] <= candidate.after:
                break  # the newest come first
            if item["LayerVersionArn"] in kept:
                continue
            version = item["Version"]
            if self.versions.code_sha256(layer_name, version) != candidate.code_sha256:
                continue
            if self.versions.pinned(layer_name, version) != item["LayerVersionArn"]:
                self.versions.delete(layer_name, version)
        self.note(layer_name, None)


def _key(layer_name: str) -> str:
    return f"{PREFIX}{layer_name}/candidate.json"
