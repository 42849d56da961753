"""What started a build: one version of one requirements file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_lambda_powertools.utilities.data_classes.s3_event import S3EventRecord


@dataclass(frozen=True)
class BuildInput:
    """One version of a requirements file; `sequencer` orders the events of one key, `size` is in bytes."""

    bucket: str
    key: str
    version_id: str
    etag: str
    sequencer: str
    size: int

    @classmethod
    def from_record(cls, record: S3EventRecord) -> Self:
        """Read an ObjectCreated record.

        The key in an event is encoded as in a form, a space as `+`:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html

        Raises:
            ValueError: the bucket keeps no versions, so the event names none.
        """
        s3_object = record.s3.get_object
        if not s3_object.version_id:
            raise ValueError(f"bucket {record.s3.bucket.name} keeps no versions; turn versioning on")
        return cls(
            bucket=record.s3.bucket.name,
            key=unquote_plus(s3_object.key),
            version_id=s3_object.version_id,
            etag=s3_object.etag,
            sequencer=s3_object.sequencer,
            size=s3_object.size,
        )

    def to_json(self) -> dict[str, Any]:
        """The input as the state machine carries it."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote; a KeyError means that someone started the execution by hand."""
        return cls(
            bucket=document["bucket"],
            key=document["key"],
            version_id=document["version_id"],
            etag=document["etag"],
            sequencer=document["sequencer"],
            size=document["size"],
        )


@dataclass(frozen=True)
class Execution:
    """The state machine's run for an input; `started` is ISO 8601 in UTC."""

    arn: str
    name: str
    started: str

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what the state machine says of itself."""
        return cls(arn=document["arn"], name=document["name"], started=document["started"])

    def to_json(self) -> dict[str, Any]:
        """The execution as the state machine carries it."""
        return asdict(self)
