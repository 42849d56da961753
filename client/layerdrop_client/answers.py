"""What became of uploads, as documents for programs; docs/client.md describes each field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerdrop_client import changes
from layerdrop_client.changes import Content
from layerdrop_client.following import ANSWERED, BUILDING, REPLACED
from layerdrop_client.keys import manifest_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerdrop_client.following import Seen, Upload
    from layerdrop_client.manifests import Layer


def document(command: str, **fields: Any) -> dict[str, Any]:
    """A command's document."""
    return {"schema": f"layerdrop/client/{command}/1", **fields}


def answer(upload: Upload, seen: Seen) -> dict[str, Any]:
    """What became of an upload."""
    return {
        "key": upload.key,
        "version_id": upload.version_id,
        "manifest": manifest_key(upload.key),
        "status": status(seen),
        "seconds": seen.manifest.seconds if seen.manifest else None,
        "layers": [layer(one) for one in seen.manifest.layers] if seen.manifest else [],
        "problems": [problem.to_json() for problem in seen.problems],
    }


def status(seen: Seen) -> str:
    """UPLOADED, BUILDING, REPLACED, or the manifest's."""
    if seen.state == ANSWERED and seen.manifest:
        return seen.manifest.status
    return {BUILDING: "BUILDING", REPLACED: "REPLACED"}.get(seen.state, "UPLOADED")


def layer(told: Layer) -> dict[str, Any]:
    """A target's entry, in short."""
    return {
        "name": told.name,
        "architecture": told.told.get("architecture"),
        "runtime": told.told.get("runtime"),
        "version": told.version,
        "arn": told.arn,
        "reused": told.reused,
        "packages": len(told.packages),
        "zip_bytes": told.zip_bytes,
        "unzipped_bytes": told.unzipped_bytes,
        "imports_ms": sum(told.imports_ms.values()) if told.imports_ms else None,
        "cold_start_ms": told.cold_start_ms,
        "warnings": told.warnings,
    }


def change(before: Layer, after: Layer) -> dict[str, Any]:
    """What a layer's version has that the one of the earlier answer has not, and the other way round."""
    sides = [
        Content(
            version=one.version or 0,
            packages={package["name"]: package["version"] for package in one.packages},
            package_bytes={},
            zip_bytes=one.zip_bytes,
            unzipped_bytes=one.unzipped_bytes,
            imports_ms=one.imports_ms,
            cold_start_ms=one.cold_start_ms,
            source="manifest",
        )
        for one in (before, after)
    ]
    return {"layer": after.name, **changes.to_json(*sides)}


def kind(seen: Seen) -> str:
    """What is counted at the end of a sync: built, reused, failed, or building."""
    if seen.problems:
        return "failed"
    if seen.state != ANSWERED or seen.manifest is None:
        return "building"
    return "reused" if all(one.reused for one in seen.manifest.layers) else "built"


def counts(kinds: Mapping[str, int]) -> str:
    """All counts in a line, those of nothing left out."""
    return ", ".join(f"{number} {name}" for name, number in kinds.items() if number) or "nothing to do"
