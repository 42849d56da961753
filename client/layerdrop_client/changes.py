"""What is different between two versions of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True)
class Content:
    """What a version has, as far as it can still be read.

    Attributes:
        packages: Versions by name.
        package_bytes: Unzipped size by name; of a version read from its zip there is none.
        zip_bytes: Size of the zip.
        unzipped_bytes: Size of what is in it.
        imports_ms: How long modules took to import in a function, in milliseconds.
        cold_start_ms: A function's start with all of these, in milliseconds.
        source: "manifest", or "zip" when no manifest that names the version is kept any more.
    """

    version: int
    packages: Mapping[str, str]
    package_bytes: Mapping[str, int]
    zip_bytes: int | None
    unzipped_bytes: int | None
    imports_ms: Mapping[str, float]
    cold_start_ms: float | None
    source: str


@dataclass(frozen=True)
class PackageChange:
    """A package that is not the same in both; None where it is not there."""

    name: str
    before: str | None
    after: str | None
    bytes_before: int | None
    bytes_after: int | None

    @property
    def kind(self) -> str:
        """What happened to it."""
        return ADDED if self.before is None else REMOVED if self.after is None else CHANGED


def package_changes(before: Content, after: Content) -> list[PackageChange]:
    """The packages that differ, by name."""
    names = sorted(before.packages.keys() | after.packages.keys())
    return [
        PackageChange(
            name,
            before.packages.get(name),
            after.packages.get(name),
            before.package_bytes.get(name),
            after.package_bytes.get(name),
        )
        for name in names
        if before.packages.get(name) != after.packages.get(name)
    ]


def import_changes(before: Content, after: Content) -> list[tuple[str, float | None, float | None]]:
    """The milliseconds of each module that was imported in a trial of either."""
    names = dict.fromkeys([*before.imports_ms, *after.imports_ms])
    return [(name, before.imports_ms.get(name), after.imports_ms.get(name)) for name in names]


def to_json(before: Content, after: Content) -> dict[str, Any]:
    """Both, and what differs, for a document."""
    return {
        "from": _side(before),
        "to": _side(after),
        "packages": [
            {
                "name": change.name,
                "change": change.kind,
                "from": change.before,
                "to": change.after,
                "from_bytes": change.bytes_before,
                "to_bytes": change.bytes_after,
            }
            for change in package_changes(before, after)
        ],
        "imports": [
            {"module": name, "from_ms": was, "to_ms": now} for name, was, now in import_changes(before, after)
        ],
    }


def _side(content: Content) -> dict[str, Any]:
    return {
        "version": content.version,
        "source": content.source,
        "packages": len(content.packages),
        "zip_bytes": content.zip_bytes,
        "unzipped_bytes": content.unzipped_bytes,
        "cold_start_ms": content.cold_start_ms,
    }
