"""How large the layer is unzipped, what makes it so, and what could go."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from layer_builder.ground.errors import LayerTooLargeError
from layer_builder.ground.limits import MAX_UNZIPPED_BYTES
from layer_builder.layer.fit import SOURCES
from layer_builder.layer.layout import TEST_FOLDERS
from layer_builder.wheels import gpu

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layer_builder.wheels.pick import Pick

_SHOWN = 10
_TIGHT = 0.9  # of the limit: from here on we say how little is left

# The runtimes bring boto3 and what only it needs (AWS Lambda Developer Guide, "Building Lambda functions with
# Python", "Runtime-included SDK versions").
_IN_RUNTIME = frozenset({"boto3", "botocore", "s3transfer", "jmespath"})
_SDK = "the AWS SDK, which the runtime has too (in a version AWS chooses)"
_ELSEWHERE = "Several layers count together; a container image function may be larger."
# A layer has at least so much of its wheels' length: they are no larger than what is in them, but for zip's
# own part, a tenth if all files were of a kilobyte. Of one that is made to fit, at most half is left out.
_LEAST_SHARE, _LEAST_SHARE_UNFITTED = 0.5, 0.8
_EXCLUDE = 'To leave that out: exclude = ["boto3", "botocore", "s3transfer", "jmespath"] (--exclude).'


class LayerFile(NamedTuple):
    """A file of the layer: its path in it, the package it came from (normalized name), its unzipped bytes."""

    path: str
    package: str
    size: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """The layer's size.

    Attributes:
        total: unzipped bytes.
        limit: how many there may be.
        packages: bytes by package, the largest first.
        could_go: bytes by what they are for, and by package, of files that many layers can do without.
    """

    total: int
    limit: int
    packages: dict[str, int]
    could_go: dict[str, dict[str, int]]

    @property
    def check(self) -> dict[str, Any]:
        """The part of the report."""
        return {
            "status": "passed" if self.total <= self.limit else "failed",
            "unzipped_bytes": self.total,
            "limit_bytes": self.limit,
            "left_bytes": self.limit - self.total,
            "largest": [
                {"package": name, "bytes": size, "share": round(size / self.total, 3)}
                for name, size in list(self.packages.items())[:_SHOWN]
                if size
            ],
            "could_go": [
                {
                    "what": what,
                    "bytes": sum(packages.values()),
                    "packages": dict(list(packages.items())[:_SHOWN]),
                }
                for what, packages in self.could_go.items()
            ],
        }

    @property
    def error(self) -> LayerTooLargeError | None:
        """What to raise when the layer is too large for any function."""
        if self.total <= self.limit:
            return None
        could_go = ", ".join(
            f"{what} {_megabytes(sum(sizes.values()))}" for what, sizes in self.could_go.items()
        )
        return LayerTooLargeError(
            f"The layer unzips to {self.total:,} bytes; {_allowed(self.limit)}.",
            hint=f"The largest packages: {_largest(self.packages)}."
            + (f" What many layers can do without: {could_go}." if could_go else "")
            + (f" {_EXCLUDE}" if _SDK in self.could_go else "")
            + f" {_ELSEWHERE}",
            details=self.check,
        )

    @property
    def warning(self) -> str | None:
        """A word when little is left for the function itself."""
        left = self.limit - self.total
        if left < 0 or self.total < _TIGHT * self.limit:
            return None
        return f"The layer leaves {_megabytes(left)} unzipped for the function and its other layers."


def measure(files: Iterable[LayerFile], limit: int = MAX_UNZIPPED_BYTES) -> Sizes:
    """Sum up the layer's files, which may have so many bytes."""
    packages: Counter[str] = Counter()
    could_go: dict[str, Counter[str]] = {}
    for path, package, size in files:
        packages[package] += size
        if what := _dispensable(path, package):
            could_go.setdefault(what, Counter())[package] += size
    ordered = sorted(could_go.items(), key=lambda item: (-item[1].total(), item[0]))
    return Sizes(
        packages.total(),
        limit,
        _largest_first(packages),
        {what: _largest_first(sizes) for what, sizes in ordered},
    )


def outlook(picks: Iterable[Pick], limit: int, *, fit: bool) -> LayerTooLargeError | None:
    """Tell by the lengths of its wheels, before they are fetched, that a layer is certainly too large.

    Args:
        picks: the chosen files; those whose lengths the index does not tell count nothing.
        limit: bytes that the layer may have unzipped.
        fit: whether it is made to fit if it is larger.
    """
    packages = Counter(
        {pick.name: pick.size for pick in picks if pick.size and not (fit and gpu.is_gpu(pick.name))}
    )
    total = packages.total()
    if total * (_LEAST_SHARE if fit else _LEAST_SHARE_UNFITTED) <= limit:
        return None
    largest = _largest_first(packages)
    return LayerTooLargeError(
        f"The layer's packages have {total:,} bytes before they are unzipped; {_allowed(limit)}.",
        hint=f"The largest packages, zipped: {_largest(largest)}. {_ELSEWHERE}",
        details={
            "zipped_bytes": total,
            "limit_bytes": limit,
            "largest": [
                {"package": name, "bytes": size, "share": round(size / total, 3)}
                for name, size in list(largest.items())[:_SHOWN]
            ],
        },
    )


def _allowed(limit: int) -> str:
    if limit == MAX_UNZIPPED_BYTES:
        return f"Lambda takes {limit:,} for a function with all its layers"
    return f"the limit for it is {limit:,}"


def _largest(packages: dict[str, int]) -> str:
    return ", ".join(f"{name} {_megabytes(size)}" for name, size in list(packages.items())[:4])


def _dispensable(path: str, package: str) -> str | None:
    """Say what a file that may not be needed is for; each file counts once."""
    if package in _IN_RUNTIME:
        return _SDK
    suffix = posixpath.splitext(path)[1]
    if suffix == ".pyc":
        return "bytecode (imports get slower)"
    if not TEST_FOLDERS.isdisjoint(path.split("/")[:-1]):
        return "tests (a few packages use theirs at run time)"
    if suffix == ".pyi":
        return "type stubs"
    return "sources, headers and static libraries" if suffix in SOURCES else None


def _largest_first(sizes: Counter[str]) -> dict[str, int]:
    return dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
