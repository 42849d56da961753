"""The catalogue in the bucket: `catalogue/index.json`, and the page made from it, `catalogue/index.html`.

Several write at once: those who follow events, the hourly sweep, the watch. So each writes only over what it
has read, and starts again if somebody was quicker:

1. The page's ETag is noted, then the index is read.
2. What has changed is put into the index, which is written if it is still the one that was read.
3. The page is made from it, and written if it is still the one that was noted.

Whoever wrote the index last so writes the page last: a page made from an older index was noted before, and
meets another one. A page says in its metadata which index it shows, so one whose writer died is found.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.catalogue.documents import OUTDATED, VULNERABILITIES
from layerdrop.catalogue.index import Place, Watch, fold, read, same, sound, to_bytes
from layerdrop.catalogue.looking import Layers
from layerdrop.catalogue.page import render
from layerdrop.conditional_write import put_if_unchanged
from layerdrop.objects import GONE
from layerdrop.timestamps import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient

    from layerdrop.catalogue.layers import Entry
    from layerdrop.catalogue.looking import Seen

INDEX: Final = "catalogue/index.json"
PAGE: Final = "catalogue/index.html"

_MADE_FROM: Final = "made-from"
"""The page's metadata that says of which index it was made, and by which code."""
_ATTEMPTS: Final = 20
_LONGEST_PAUSE: Final = 4.0  # seconds


class CatalogueBusyError(Exception):
    """Others kept writing the catalogue, so this was not written; it can be tried again at any time."""


@dataclass(frozen=True)
class Catalogue:
    """Index and page of one bucket.

    Attributes:
        now: tells the time.
        pause: waits for so many seconds before it is tried again.
    """

    s3: S3Client
    ssm: SSMClient
    bucket: str
    place: Place
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    pause: Callable[[float], None] = time.sleep

    def update(self, names: Collection[str] | None, until: float = float("inf")) -> dict[str, Any]:
        """Bring index and page to what pointers, release documents and the watch say now.

        Args:
            names: The layers to look at; None for all. What the watch says is renewed for all of them.
            until: When to stop reading release documents, by `time.monotonic()`. Layers that were not come to
                stay as they are in the index until the next time.

        Returns:
            The index.

        Raises:
            CatalogueBusyError: others kept writing.
        """
        look = _Look(Layers(self.s3, self.ssm, self.bucket, until), names)
        for attempt in range(_ATTEMPTS):
            if attempt:
                self.pause(random.uniform(0, min(_LONGEST_PAUSE, 0.05 * 2**attempt)))  # noqa: S311
            page, made_from = self._page()
            etag, found = self._index()
            entries = look.over(found)
            watch = Watch.read(self._get(VULNERABILITIES)[1], self._get(OUTDATED)[1])
            index = fold(self.place, iso(self.now()), entries, watch)
            if found is not None and same(index, found):
                index = found
            else:
                etag = self._put(INDEX, etag, to_bytes(index), ContentType="application/json")
            if etag is not None and (made_from == _mark(etag) or self._put_page(page, index, etag)):
                return index
        raise CatalogueBusyError(f"{INDEX} changed at each of {_ATTEMPTS} attempts to write it")

    def read(self) -> dict[str, Any] | None:
        """The index as it lies there; None if there is none."""
        return self._index()[1]

    def _index(self) -> tuple[str | None, dict[str, Any] | None]:
        etag, content = self._get(INDEX)
        return etag, read(content)

    def _put_page(self, before: str | None, index: Mapping[str, Any], index_etag: str) -> bool:
        written = self._put(
            PAGE,
            before,
            gzip.compress(render(index), mtime=0),
            ContentType="text/html; charset=utf-8",
            ContentEncoding="gzip",
            CacheControl="no-cache",  # asked for again each time, and answered by its ETag
            Metadata={_MADE_FROM: _mark(index_etag)},
        )
        return written is not None

    def _put(self, key: str, etag: str | None, body: bytes, **more: Any) -> str | None:
        return put_if_unchanged(self.s3, self.bucket, key, etag, body, **more)

    def _page(self) -> tuple[str | None, str | None]:
        """The page's ETag, and what it was made from."""
        try:
            found = self.s3.head_object(Bucket=self.bucket, Key=PAGE)
        except ClientError as error:
            if error_code(error) not in GONE:
                raise
            return None, None
        return found["ETag"], found["Metadata"].get(_MADE_FROM)

    def _get(self, key: str) -> tuple[str | None, bytes | None]:
        try:
            response = self.s3.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error_code(error) not in GONE:
                raise
            return None, None
        with response["Body"] as body:
            return response["ETag"], body.read()


def _mark(index_etag: str) -> str:
    return index_etag.strip('"') + "/" + _renderer()


@cache
def _renderer() -> str:
    """A digest of the page's code and templates: once they are others, so is the page."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@dataclass
class _Look:
    """What was found out about layers, over several attempts to write it.

    Finding out about all layers takes longer than others take to write. So what was found out counts as long
    as the index has the entry that it had before: if somebody else has written it since, theirs may be newer,
    and the layer is looked at once more.
    """

    layers: Layers
    names: Collection[str] | None
    seen: dict[str, tuple[Seen, str | None]] = field(default_factory=dict)
    has_all: bool = False

    def over(self, index: Mapping[str, Any] | None) -> dict[str, Entry]:
        """The entries of the index, with what is known of the layers in their place."""
        entries = sound(index) if index else {}
        before = {name: entry["digest"] for name, entry in entries.items()}
        # Of an index that was spoilt or is gone nobody knows what it lacks.
        is_whole = index is not None and len(entries) == len(index["layers"])
        if (self.names is None or not is_whole) and not self.has_all:
            found = self.layers.all(entries)
            self.seen, self.has_all = {}, True
        else:
            asked = self.seen.keys() | set(self.names or ())
            self.seen = {name: one for name, one in self.seen.items() if one[1] == before.get(name)}
            found = self.layers.some(asked - self.seen.keys(), entries)
        self.seen |= {name: (one, before.get(name)) for name, one in found.items()}
        folded = dict(entries)
        for name, (one, _) in self.seen.items():
            folded.pop(name, None)
            if one.entry is not None:
                folded[name] = one.entry
        return folded
