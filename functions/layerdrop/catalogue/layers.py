"""A layer's entry in the index, from its pointer and its release documents."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from layerdrop.catalogue.releases import version_in
from layerdrop.layer_versions import POINTER_PREFIX
from layerdrop.target import MAX_UNZIPPED_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from layerdrop.catalogue.releases import Release

Entry = dict[str, Any]

MAX_HISTORY: Final = 50
OF_THE_WATCH: Final = ("findings", "asked", "outdated")
"""The parts that come from the watch, which the digest leaves out."""

# Goes up when entries are made otherwise, so that all are made anew.
_FORM: Final = 1
_TARGET: Final = re.compile(r".+-py3(\d{1,2})-(arm64|x86_64)", re.ASCII)
_HALF: Final = 16


def sources(arn: str, etags: Mapping[int, str]) -> str:
    """A digest of what an entry is made from: the pointer's value, and its documents' ETags by version."""
    return _digest([_FORM, arn, sorted(etags.items())])


def wanted(arn: str, layer_name: str, etags: Mapping[int, str]) -> list[int]:
    """The versions whose documents are to be read: those that are shown, each with the one before it."""
    versions = sorted(etags, reverse=True)
    found = set(versions[: MAX_HISTORY + 1])
    pointed = version_in(arn, layer_name)
    if pointed is not None and pointed in etags:
        at = versions.index(pointed)
        found.update(versions[at : at + 2])
    return sorted(found)


def entry(layer_name: str, arn: str, releases: Iterable[Release], source: str) -> Entry:
    """The entry of a layer whose pointer holds this ARN, without the parts of the watch.

    Args:
        layer_name: The layer's.
        arn: One of its versions'.
        releases: The documents of its versions, as far as they are `wanted`.
        source: The digest of its `sources`.

    Raises:
        ValueError: there is no layer of this name, or the ARN is another's.
    """
    known = {release.version: release for release in releases}
    version = version_in(arn, layer_name)
    current = known.get(version or 0)
    target = _TARGET.fullmatch(layer_name)
    if version is None or target is None:
        raise ValueError(f"{layer_name!r} is no layer with the version {arn!r}")
    made: Entry = {
        "name": layer_name,
        "architecture": target[2],
        "runtime": f"python3.{target[1]}",
        "input_key": current.input["key"] if current else None,
        "version": version,
        "layer_version_arn": arn,
        "pointer": f"{POINTER_PREFIX}{layer_name}",
        "limit_bytes": MAX_UNZIPPED_BYTES,
        **_told(current),
        "history": _history(known, version),
    }
    return {**made, "digest": source + _digest([source, made])}


def _told(release: Release | None) -> Entry:
    """What the pointed-to version's document tells; of a version without one nothing is known."""
    told = release.to_json() if release else {}
    single = ("released", "built", "description", "license", "bytes", "unzipped_bytes", "import_seconds")
    several = ("shared_with", "packages", "system_packages", "warnings")
    return {
        **{name: told.get(name) for name in single},
        **{name: told.get(name, []) for name in several},
        "watch": told.get("watch", {"rebuild": None, "ignore": {}}),
    }


def _history(known: Mapping[int, Release], version: int) -> list[Entry]:
    """The newest versions that are known, the pointed-to one among them."""
    newest = sorted(known, reverse=True)
    shown = newest[:MAX_HISTORY]
    if version in known and version not in shown:
        shown[-1] = version
    return [_version(known[number], _before(known, number)) for number in shown]


def _before(known: Mapping[int, Release], version: int) -> Release | None:
    return known[max(earlier)] if (earlier := [one for one in known if one < version]) else None


def _version(release: Release, before: Release | None) -> Entry:
    return {
        "version": release.version,
        "layer_version_arn": release.layer_version_arn,
        "released": release.released,
        "unzipped_bytes": release.unzipped_bytes,
        "changes": changes(before.packages, release.packages) if before else None,
    }


def changes(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Entry:
    """What changed from some packages to others, by name."""
    was = {package["name"]: package["version"] for package in old}
    now = {package["name"]: package["version"] for package in new}
    return {
        "added": [{"package": name, "version": now[name]} for name in sorted(now.keys() - was.keys())],
        "removed": [{"package": name, "version": was[name]} for name in sorted(was.keys() - now.keys())],
        "changed": [
            {"package": name, "from": was[name], "to": now[name]}
            for name in sorted(now.keys() & was.keys())
            if was[name] != now[name]
        ],
    }


def made_from(layer: object) -> str | None:
    """The digest of the `sources` of an entry out of an index; None if it is not as it was made.

    Whatever somebody changed in it, or left of it, shows: then it has to be made anew.
    """
    if not isinstance(layer, dict) or not isinstance(digest := layer.get("digest"), str):
        return None
    made = {name: value for name, value in layer.items() if name not in (*OF_THE_WATCH, "digest")}
    source = digest[:_HALF]
    return source if digest == source + _digest([source, made]) else None


def _digest(value: object) -> str:
    # Sorted: of an index that was read and written by something else only what it says counts.
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_HALF]
