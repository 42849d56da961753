"""Uploads and the answers to them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from smoke.cases import SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import boto3

    from smoke.cases import Case

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Answer:
    """What became of one upload.

    Attributes:
        case: Which.
        uploaded: When its upload began, in seconds since the epoch.
        seconds: From then until the answer was seen; None if none came.
        manifest: The answer; empty if none came.
    """

    case: Case
    uploaded: float
    seconds: float | None
    manifest: Mapping[str, Any]

    @property
    def got(self) -> str:
        """``SUCCEEDED``, the code of what went wrong, or what there is instead."""
        if self.seconds is None:
            return f"no answer ({self.manifest.get('status', 'not even seen')})"
        if self.manifest["status"] == SUCCEEDED:
            return SUCCEEDED
        return str((self.manifest.get("error") or {}).get("code", "no code"))

    @property
    def layer(self) -> Mapping[str, Any] | None:
        """The one layer that was published."""
        layers = [layer for layer in self.manifest.get("layers", ()) if layer.get("layer_version_arn")]
        return layers[0] if len(layers) == 1 else None


def build(session: boto3.Session, bucket: str, cases: Iterable[Case], patience: float) -> Iterator[Answer]:
    """Upload all files at once, and yield the answer to each as it comes.

    Args:
        session: The account.
        bucket: The stack's.
        cases: What to upload.
        patience: Seconds until an upload is given up.

    Raises:
        ClientError: The bucket cannot be written or read.
    """
    s3 = session.client("s3")
    waiting = {}
    for case in cases:
        began = time.time()
        version = s3.put_object(Bucket=bucket, Key=case.key, Body=case.text.encode())["VersionId"]
        waiting[case] = (began, version)
    deadline = time.monotonic() + patience
    while waiting:
        for case, (began, version) in list(waiting.items()):
            manifest = _manifest(s3, bucket, case, version)
            ended = manifest.get("status", "BUILDING") != "BUILDING"
            if ended or time.monotonic() > deadline:
                yield Answer(case, began, time.time() - began if ended else None, manifest)
                del waiting[case]
        if waiting:
            time.sleep(_LOOK_SECONDS)


def _manifest(s3: Any, bucket: str, case: Case, version: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.load(s3.get_object(Bucket=bucket, Key=case.manifest_key)["Body"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return {}
        raise
    return found if found["input"]["version_id"] == version else {}
