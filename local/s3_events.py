"""S3 event notifications as Lambda receives them.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

import itertools
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus


@dataclass(frozen=True)
class Created:
    """One object version that came into being.

    ``event`` is the name without ``s3:``, ``etag`` without quotes, ``size`` in bytes; ``version_id`` is None
    in a bucket without versioning.
    """

    event: str
    bucket: str
    key: str
    version_id: str | None
    etag: str
    size: int


class Sequencer:
    """Numbers that tell the order of one key's events: hexadecimal, of one length, growing."""

    def __init__(self) -> None:
        self._numbers = itertools.count(time.time_ns())

    def next(self) -> str:
        """Return a number greater than all before it, also those of an earlier run."""
        return f"{next(self._numbers):018X}"


def event_document(
    created: Created, configuration_id: str, sequencer: str, region: str, account: str
) -> dict[str, Any]:
    """Return the notification for one new object version."""
    s3_object = {
        "key": quote_plus(created.key, safe="/"),  # form-encoded: a space is a plus sign
        "size": created.size,
        "eTag": created.etag,
        "sequencer": sequencer,
    }
    if created.version_id:
        s3_object["versionId"] = created.version_id
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": created.event,
        "userIdentity": {"principalId": f"AWS:{account}"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": sequencer, "x-amz-id-2": sequencer},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {
                "name": created.bucket,
                "ownerIdentity": {"principalId": account},
                "arn": f"arn:aws:s3:::{created.bucket}",
            },
            "object": s3_object,
        },
    }
    return {"Records": [record]}
