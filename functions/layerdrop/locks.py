"""Locks of builds that succeeded, for files that ask for the same layer while they stay the same.

With `refresh = false`, a file whose content has been built before is built from the lock of that build, so
it comes to the same wheels, whatever was uploaded to the indexes since. A lock is kept under a digest of the
key, the content (with the settings block in it) and the target. So nobody else's build takes it, and it says
no more than what that very file was resolved to. The builder reads it as strictly as any.

What a job left is copied when its layer is published (`stage`), and kept once that is released (`keep`): a
layer that does not pass its trial must not come again. Jobs read nothing of it: what one is to build from is
put where it is told of it (`lend`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.objects import GONE, read_at_most
from layerdrop.options_file import PREFIX as PLANS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from layerdrop.target import Target

STAGED: Final = "locks/staged/"
KEPT: Final = "locks/kept/"
NAME: Final = "pylock.toml"
"""What the builder calls a lock, and knows one by."""

_MAX_BYTES: Final = 8 * 1024 * 1024  # as the builder reads


def lock_id(key: str, text: str, target: str) -> str:
    """Name the lock of a file's content, for a target by its id."""
    return hashlib.sha256(json.dumps([key, text, target]).encode()).hexdigest()


@dataclass(frozen=True)
class Locks:
    """The locks in the bucket. Every step may be repeated."""

    s3: S3Client
    bucket: str

    def lend(self, target: Target, execution: str) -> Target:
        """Have the target's job build from the lock that is kept for it, if there is one."""
        if not target.lock:
            return target
        content = read_at_most(self.s3, self.bucket, f"{KEPT}{target.lock}.toml", _MAX_BYTES + 1)
        if content is None or len(content) > _MAX_BYTES:
            return target
        key = f"{PLANS}{execution}/{target.id}/{secrets.token_urlsafe(18)}/{NAME}"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=content, ContentType="application/toml")
        others = [word for word in target.job.command if not word.startswith(("--path=", "--version-id="))]
        command = (f"--path=s3://{self.bucket}/{key}", *others)
        return replace(target, job=replace(target.job, command=command))

    def stage(self, target: Target, attempt: int) -> None:
        """Take the lock of a layer that is published, out of what an attempt of its job left."""
        if target.lock:
            self._copy(target.staged(NAME, attempt), _staged(target))

    def keep(self, target: Target) -> None:
        """Keep that lock, as its layer is released."""
        if target.lock:
            self._copy(_staged(target), f"{KEPT}{target.lock}.toml")

    def _copy(self, source: str, key: str) -> None:
        place = {"Bucket": self.bucket, "Key": source}
        try:
            self.s3.copy_object(Bucket=self.bucket, Key=key, CopySource=place)  # type: ignore[arg-type]
        except ClientError as error:
            # Then the next build resolves again; this one's layer is as good without.
            if error_code(error) not in GONE:
                raise


def _staged(target: Target) -> str:
    return f"{STAGED}{target.execution}/{target.id}.toml"
