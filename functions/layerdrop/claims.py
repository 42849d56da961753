"""Who may publish a layer's name: one requirements file, and of its builds one at a time.

A claim is an object of the bucket, `claims/<layer name>.json`. S3's conditional writes decide between two who
want the same; Lambda's own API has neither conditions nor tokens that would.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from layerdrop.aws import TryLaterError, error_code
from layerdrop.conditional_write import ATTEMPTS, write_if_unchanged
from layerdrop.errors import BuildError, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

PREFIX = "claims/"
SCHEMA = "layerdrop/claim/1"

_MAX_BYTES = 64 * 1024
# Clocks differ a little, and a request that was sent last may still be under way.
_MARGIN_SECONDS = 2.0


@dataclass(frozen=True)
class Claim:
    """The requirements file that a name belongs to; who publishes it right now, until when (Unix time)."""

    key: str
    holder: str | None = None
    until: float = 0.0

    def to_bytes(self) -> bytes:
        """The claim as it lies in the bucket."""
        lease = {"holder": self.holder, "until": self.until} if self.holder else None
        return (json.dumps({"schema": SCHEMA, "key": self.key, "lease": lease}) + "\n").encode()


@dataclass(frozen=True)
class ClaimStore:
    """The claims in the bucket."""

    s3: S3Client
    bucket: str

    def claim(self, layer_name: str, key: str, is_still_named: Callable[[str], bool]) -> None:
        """Make a name the key's own; nothing happens if it is already.

        Args:
            layer_name: The name.
            key: The key of the requirements file that names it.
            is_still_named: Whether another file, its owner so far, is there and still names it.

        Raises:
            BuildError: LAYER_NAME_TAKEN.
        """
        for _ in range(ATTEMPTS):
            etag, found = self._read(layer_name)
            if found and found.key == key:
                return
            if found and is_still_named(found.key):
                raise _taken(layer_name, found.key)
            # Whoever publishes under the former owner may finish: the lease stays.
            wanted = replace(found, key=key) if found else Claim(key)
            if self._write(layer_name, etag, wanted):
                return
        raise TryLaterError(f"the claim of {layer_name} kept changing")

    @contextmanager
    def held(self, layer_name: str, key: str, holder: str, seconds: float) -> Iterator[None]:
        """Be the only one to publish a name, for as long as the block runs.

        Args:
            layer_name: The name.
            key: The key that must own it.
            holder: The caller's name, another at each try: an earlier one may still be at work.
            seconds: After so long the caller cannot be alive; then the name is free whatever happened.

        Raises:
            BuildError: LAYER_NAME_TAKEN, the name has another owner by now.
            TryLaterError: someone else publishes it.
        """
        self._take(layer_name, key, holder, seconds)
        try:
            yield
        finally:
            self._release(layer_name, holder)

    def _take(self, layer_name: str, key: str, holder: str, seconds: float) -> None:
        for _ in range(ATTEMPTS):
            etag, found = self._read(layer_name)
            if found and found.key != key:
                raise _taken(layer_name, found.key)
            if found and found.holder not in (None, holder) and found.until > time.time():
                raise TryLaterError(f"{layer_name} is being published by {found.holder}")
            if self._write(layer_name, etag, Claim(key, holder, time.time() + seconds + _MARGIN_SECONDS)):
                return
        raise TryLaterError(f"the claim of {layer_name} kept changing")

    def _release(self, layer_name: str, holder: str) -> None:
        try:
            for _ in range(ATTEMPTS):
                etag, found = self._read(layer_name)
                if found is None or found.holder != holder:
                    return
                if self._write(layer_name, etag, Claim(found.key)):
                    return
        except (ClientError, BotoCoreError):
            # What was done is done; the next one has to wait until the time is over.
            logger.warning("The layer's name is not free again before its time is over", exc_info=True)

    def _read(self, layer_name: str) -> tuple[str | None, Claim | None]:
        try:
            response = self.s3.get_object(Bucket=self.bucket, Key=f"{PREFIX}{layer_name}.json")
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise
            return None, None
        with response["Body"] as body:
            return response["ETag"], _claim(body.read(_MAX_BYTES))

    def _write(self, layer_name: str, etag: str | None, claim: Claim) -> bool:
        return write_if_unchanged(self.s3, self.bucket, f"{PREFIX}{layer_name}.json", etag, claim.to_bytes())


def _claim(content: bytes) -> Claim | None:
    """The claim, or None if it is none: then nobody owns the name."""
    try:
        document = json.loads(content)
        lease = document["lease"] or {"holder": None, "until": 0.0}
        return Claim(str(document["key"]), lease["holder"], float(lease["until"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _taken(layer_name: str, owner: str) -> BuildError:
    return BuildError(
        ErrorCode.LAYER_NAME_TAKEN,
        f'The layer "{layer_name}" already belongs to "{owner}".',
        "Give this one another name, by its path or by the setting name; or delete that file first.",
        {"layer_name": layer_name, "owner": owner},
    )
