"""Looking at layers: what their pointers and release documents say now."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from layerdrop.catalogue.layers import entry, made_from, sources, wanted
from layerdrop.catalogue.releases import Releases, is_layer_name, version_in
from layerdrop.claims import PREFIX as CLAIMS
from layerdrop.layer_versions import POINTER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient

    from layerdrop.catalogue.layers import Entry

_THREADS: Final = 8  # fewer than the ten connections that a client keeps
_AT_ONCE: Final = 10  # https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Seen:
    """A layer as it was seen: its entry, None if there is no such layer of ours."""

    entry: Entry | None


@dataclass(frozen=True)
class Layers:
    """The layers of a bucket: those that have a claim in it or a release document, and a pointer.

    Pointers of an account's other stacks lie in the same place.

    Attributes:
        until: when to stop reading documents, by `time.monotonic()`.
    """

    s3: S3Client
    ssm: SSMClient
    bucket: str
    until: float = float("inf")

    def all(self, entries: Mapping[str, Entry]) -> dict[str, Seen]:
        """Look at all layers, and at what has an entry in the index; those for which time remains."""
        etags = Releases(self.s3, self.bucket).listed()
        ours = etags.keys() | self._claimed()
        pointers = {name: arn for name, arn in self._pointers().items() if name in ours}
        return self._seen(pointers.keys() | entries.keys(), pointers, etags, entries)

    def some(self, names: Collection[str], entries: Mapping[str, Entry]) -> dict[str, Seen]:
        """Look at some layers by their names."""
        listed = _in_threads(Releases(self.s3, self.bucket).listed, names)
        etags = {name: found.get(name, {}) for name, found in listed.items()}
        claimed = _in_threads(self._claimed, [name for name in names if not etags[name]])
        pointers = self._pointed([name for name in names if etags[name] or name in claimed[name]])
        return self._seen(names, pointers, etags, entries)

    def _seen(
        self,
        names: Iterable[str],
        pointers: Mapping[str, str],
        etags: Mapping[str, Mapping[int, str]],
        entries: Mapping[str, Entry],
    ) -> dict[str, Seen]:
        seen = _in_threads(
            lambda name: self._look(name, pointers.get(name), etags.get(name, {}), entries.get(name)),
            sorted(names),
        )
        return {name: one for name, one in seen.items() if one}

    def _look(
        self, name: str, arn: str | None, etags: Mapping[int, str], before: Entry | None
    ) -> Seen | None:
        """Make a layer's entry, unless the one before is made from the same; None if no time is left."""
        if arn is None:
            return Seen(None)
        source = sources(arn, etags)
        if before is not None and made_from(before) == source:
            return Seen(before)
        if time.monotonic() > self.until:
            return None
        releases = Releases(self.s3, self.bucket)
        read = (releases.read(name, version) for version in wanted(arn, name, etags))
        return Seen(entry(name, arn, [release for release in read if release], source))

    def _pointers(self) -> dict[str, str]:
        """All pointers, by layer name; those of single versions lie deeper."""
        pages = self.ssm.get_paginator("get_parameters_by_path").paginate(
            Path=POINTER_PREFIX, Recursive=False
        )
        return _arns((one["Name"], one.get("Value")) for page in pages for one in page["Parameters"])

    def _pointed(self, names: Collection[str]) -> dict[str, str]:
        """The pointers of some layers; one that is not there is left out."""
        listed = sorted(names)
        found: dict[str, str] = {}
        for start in range(0, len(listed), _AT_ONCE):
            asked = [f"{POINTER_PREFIX}{name}" for name in listed[start : start + _AT_ONCE]]
            answer = self.ssm.get_parameters(Names=asked)
            found |= _arns((one["Name"], one.get("Value")) for one in answer["Parameters"])
        return found

    def _claimed(self, name: str = "") -> set[str]:
        """The names that inputs of this bucket have asked for: all, or those that begin like this one."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{CLAIMS}{name}"
        )
        keys = (item["Key"] for page in pages for item in page.get("Contents", ()))
        return {key.removeprefix(CLAIMS).removesuffix(".json") for key in keys}


def _arns(parameters: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """What pointers lead to, by layer name. Others may have put anything there: ARNs of that layer count."""
    named = ((parameter.removeprefix(POINTER_PREFIX), value) for parameter, value in parameters)
    return {
        name: arn
        for name, arn in named
        if arn is not None and is_layer_name(name) and version_in(arn, name) is not None
    }


def _in_threads(call: Callable[[Item], Result], items: Collection[Item]) -> dict[Item, Result]:
    """What a call says of each item; most of its time is waiting for AWS."""
    if not items:
        return {}
    with ThreadPoolExecutor(min(_THREADS, len(items))) as threads:
        return dict(zip(items, threads.map(call, items), strict=True))
