"""Who may publish a layer's name: one requirements file or lock, and of its builds one at a time.

A claim is an object of the bucket, `claims/<layer name>.json`. S3's conditional writes decide between two who
want the same; Lambda's own API has neither conditions nor tokens that would.

Nothing that whoever may upload can do ends a claim: neither deleting the file nor taking the name out of it.
Others trust what the name leads to, so only an operator gives it up (`make release`, in infra/stack).
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
from layerdrop.input_key import LOCK_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

PREFIX = "claims/"
SCHEMA = "layerdrop/claim/1"

_MAX_BYTES = 64 * 1024
# Clocks differ a little, and a request that was sent last may still be under way.
_MARGIN_SECONDS = 2.0


@dataclass(frozen=True)
class Claim:
    """The file that a name belongs to; who publishes it right now, until when (Unix time).

    `key` is None when an operator has released the name.
    """

    key: str | None
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

    def claim(self, layer_names: Sequence[str], key: str) -> None:
        """Make names the key's own, all or none; nothing happens to those that are already.

        A build that cannot be must not keep names from others. Only of two files that claim at the same
        moment, the loser may keep a name that nobody else had.

        Args:
            layer_names: The names.
            key: The key of the requirements file that asks for them.

        Raises:
            BuildError: LAYER_NAME_TAKEN.
        """
        for _ in range(ATTEMPTS):
            found = {name: self._read(name) for name in layer_names}
            if taken := {n: c.key for n, (_, c) in found.items() if c and c.key not in (None, key)}:
                raise _taken(taken, key)
            free = [(name, *of) for name, of in found.items() if of[1] is None or of[1].key is None]
            # Whoever publishes under the former owner may finish: the lease stays.
            if all(self._write(n, etag, replace(c, key=key) if c else Claim(key)) for n, etag, c in free):
                return
        raise TryLaterError(f"the claims of {', '.join(layer_names)} kept changing")

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
            if found and found.key not in (None, key):
                raise _taken({layer_name: found.key}, key)
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
        except (ClientError, BotoCoreError, BuildError):
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
            return response["ETag"], _claim(layer_name, body.read(_MAX_BYTES))

    def _write(self, layer_name: str, etag: str | None, claim: Claim) -> bool:
        return write_if_unchanged(self.s3, self.bucket, f"{PREFIX}{layer_name}.json", etag, claim.to_bytes())


def _claim(layer_name: str, content: bytes) -> Claim:
    """Read a claim.

    Raises:
        BuildError: LAYER_NAME_TAKEN, it is none. Whose the name is can be found out by an operator only.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    match document:
        case {"key": str() | None as key, "lease": None}:
            return Claim(key)
        case {
            "key": str() | None as key,
            "lease": {"holder": str() as holder, "until": int() | float() as until},
        }:
            return Claim(key, holder, until)
    raise _taken({layer_name: None})


def _taken(owners: Mapping[str, str | None], key: str | None = None) -> BuildError:
    """The error that names, which a key asks for, belong to others; to None where that cannot be read."""
    layer_name, owner = next(iter(owners.items()))
    released = " ".join(owners)
    command = f'make release NAME="{released}"' if len(owners) > 1 else f"make release NAME={released}"
    sides = {one.endswith(LOCK_SUFFIX) for one in (key, *owners.values()) if one}
    beside = "Upload the requirements file or the lock, not both; or give" if len(sides) > 1 else "Give"
    return BuildError(
        ErrorCode.LAYER_NAME_TAKEN,
        " ".join(
            f'The layer "{name}" belongs to "{owner}", which claimed it first.'
            if owner
            else f'Whose the layer "{name}" is cannot be read: {PREFIX}{name}.json is no claim.'
            for name, owner in owners.items()
        ),
        f"{beside} this one another name, by its path or by the setting name. A name stays with its file "
        "even when that is moved or deleted: to hand it on, ask whoever runs the stack for "
        f"`{command}`, then upload this file again.",
        {"layer_name": layer_name, "owner": owner},
    )
