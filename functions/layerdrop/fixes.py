"""Versions that mend what the watch found, for the next build of a file with `rebuild = "fixed"`.

They are kept under a digest of the key and the content's ETag, so a file that changed has none. The watch
writes them, PlanBuild hands them to the builder. Their schema is schemas/fixes.schema.json.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from layerdrop.objects import read_at_most

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_s3 import S3Client

SCHEMA: Final = "layerdrop/fixes/1"
PREFIX: Final = "fixes/"
MOST: Final = 50

# A normalized name or any other, and a version: https://packaging.python.org/en/latest/specifications/
_FIX: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}", re.ASCII
)
_MAX_BYTES: Final = 64 * 1024


def fixes_key(key: str, etag: str) -> str:
    """Where the fixes of a file's content lie; the ETag with its quotes or without."""
    return f"{PREFIX}{hashlib.sha256(json.dumps([key, _bare(etag)]).encode()).hexdigest()}.json"


def _bare(etag: str) -> str:
    return etag.strip('"')


@dataclass(frozen=True)
class Fixes:
    """The fixes in the bucket."""

    s3: S3Client
    bucket: str

    def find(self, key: str, etag: str) -> tuple[str, ...]:
        """Those of a file's content, each as `NAME==VERSION`; none if what is there is no such document."""
        content = read_at_most(self.s3, self.bucket, fixes_key(key, etag), _MAX_BYTES)
        try:
            document = json.loads(content or b"null")
            if (document["schema"], document["key"], document["etag"]) != (SCHEMA, key, _bare(etag)):
                return ()
            found = tuple(document["fixes"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return ()
        fit = len(found) <= MOST and all(isinstance(one, str) and _FIX.fullmatch(one) for one in found)
        return found if fit else ()

    def keep(self, key: str, etag: str, fixes: Sequence[str]) -> None:
        """Write down those of a file's content, in the place of any that were there.

        Raises:
            ValueError: one of them is no `NAME==VERSION`, or there are none or too many.
        """
        if not 1 <= len(fixes) <= MOST or not all(map(_FIX.fullmatch, fixes)):
            raise ValueError(f"no fixes: {fixes!r}"[:1000])
        document = {"schema": SCHEMA, "key": key, "etag": _bare(etag), "fixes": list(fixes)}
        self.s3.put_object(
            Bucket=self.bucket,
            Key=fixes_key(key, etag),
            Body=(json.dumps(document) + "\n").encode(),
            ContentType="application/json",
        )
