"""What a sync has to do: each file of the folder held against what the bucket has, by content."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from layerdrop_client.manifests import BUILDING, FAILED
from layerdrop_client.problems import MENDED_BY_TRYING_AGAIN

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from layerdrop_client.manifests import Manifest


class Action(StrEnum):
    """What is done about a file."""

    UPLOAD = "upload"
    WATCH = "watch"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Stored:
    """An object as S3 has it.

    Attributes:
        version_id: Of its newest version.
        etag: Without quotes; the MD5 of what was uploaded in one part and not encrypted by a KMS key.
        sha256: Base64, if it was uploaded with that checksum.
        modified: When it was put there.
    """

    version_id: str
    etag: str
    sha256: str | None
    modified: datetime


@dataclass(frozen=True)
class Decision:
    """What is done about a file, and why."""

    action: Action
    why: str


def decide(content: bytes, stored: Stored | None, manifest: Manifest | None, patience: timedelta) -> Decision:
    """Say what to do about a file.

    Args:
        content: The file's.
        stored: What the bucket has under its key.
        manifest: What lies in the place of its answer.
        patience: How long ago the object came; an answer may still be on its way.
    """
    if stored is None:
        return Decision(Action.UPLOAD, "new")
    if not is_same(content, stored):
        return Decision(Action.UPLOAD, "changed")
    if manifest is None or manifest.version_id != stored.version_id:
        if patience.total_seconds() < ANSWER_SECONDS:
            return Decision(Action.WATCH, "on its way")
        return Decision(Action.UPLOAD, "never answered")
    if manifest.status == BUILDING:
        return Decision(Action.WATCH, "building")
    if manifest.status == FAILED:
        if can_be_mended(manifest):
            return Decision(Action.UPLOAD, "failed, and may succeed")
        return Decision(Action.NOTHING, "failed, and would again")
    return Decision(Action.NOTHING, "unchanged")


ANSWER_SECONDS = 300
"""After this time an upload without any manifest is taken for one that nobody saw. A manifest says BUILDING
within seconds of the event, which S3 delivers "typically in seconds but can sometimes take a minute or
longer":
https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html"""


def is_same(content: bytes, stored: Stored) -> bool:
    """Whether an object has this content: by its SHA-256, else by its ETag."""
    if stored.sha256 and "-" not in stored.sha256:  # of several parts it is a checksum of checksums
        return stored.sha256 == base64.b64encode(hashlib.sha256(content).digest()).decode()
    return stored.etag == hashlib.md5(content, usedforsecurity=False).hexdigest()


def can_be_mended(manifest: Manifest) -> bool:
    """Whether the same file may succeed: all that failed is of a kind that passes."""
    problems = manifest.problems
    return bool(problems) and all(problem.code in MENDED_BY_TRYING_AGAIN for problem in problems)
