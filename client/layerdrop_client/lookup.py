"""What is known of a layer: by its name, by its versions."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

from layerdrop_client.changes import Content
from layerdrop_client.problems import CommandError
from layerdrop_client.remote_file import RemoteFile

if TYPE_CHECKING:
    from layerdrop_client.aws import Aws
    from layerdrop_client.manifests import Layer

_DIST_INFO = re.compile(r"(?:.*/)?([^/]+)-([^/-]+)\.dist-info/METADATA")
_TARGET = re.compile(r"-py3\d+-(arm64|x86_64)")


def resolve(aws: Aws, word: str) -> str:
    """The whole name of a layer that a person means, who may leave the target out.

    Raises:
        CommandError: LAYER_NOT_FOUND, none or several.
    """
    names = aws.layer_names()
    if word in names:
        return word
    meant = [name for name in names if name.startswith(word) and _TARGET.fullmatch(name.removeprefix(word))]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise CommandError(
            "LAYER_NOT_FOUND", f"{word} can be several layers.", f"Say which: {', '.join(meant)}."
        )
    near = [name for name in names if word in name][:5]
    hint = f"Did you mean {' or '.join(near)}?" if near else "See `layerdrop list`."
    raise CommandError("LAYER_NOT_FOUND", f"There is no layer {word}.", hint)


def number_in(arn: str | None) -> int | None:
    """The version that an ARN ends in."""
    last = (arn or "").rpartition(":")[2]
    return int(last) if last.isdigit() else None


def told_of(aws: Aws, name: str, number: int) -> Layer | None:
    """What the newest manifest tells that names a version; manifests are kept for `BuildRecordDays`."""
    claim = aws.claim(name)
    if claim is None or claim.key is None:
        return None
    for manifest in aws.manifests(claim.key):
        layer = manifest.layer(name)
        if layer and layer.version == number:
            return layer
    return None


def content_of(aws: Aws, name: str, number: int) -> Content:
    """What a version has: by a manifest, else by the zip itself, which tells no import times.

    Raises:
        CommandError: VERSION_NOT_FOUND.
    """
    found = aws.version(name, number)
    if found is None:
        numbers = [str(item["Version"]) for item in aws.versions(name)]
        hint = f"There are {', '.join(numbers)}." if numbers else "It has none."
        raise CommandError("VERSION_NOT_FOUND", f"{name} has no version {number}.", hint)
    layer = told_of(aws, name, number)
    if layer is None:
        return _of_zip(number, found["Content"]["Location"], found["Content"]["CodeSize"])
    return Content(
        version=number,
        packages={one["name"]: one["version"] for one in layer.packages},
        package_bytes={
            one["name"]: one["unzipped_bytes"] for one in layer.packages if "unzipped_bytes" in one
        },
        zip_bytes=layer.zip_bytes,
        unzipped_bytes=layer.unzipped_bytes,
        imports_ms=layer.imports_ms,
        cold_start_ms=layer.cold_start_ms,
        source="manifest",
    )


def _of_zip(number: int, address: str, size: int) -> Content:
    """Read the names in a zip, without fetching what is in it."""
    with zipfile.ZipFile(RemoteFile(address, size)) as archive:
        entries = archive.infolist()
    found = [match for entry in entries if (match := _DIST_INFO.fullmatch(entry.filename))]
    return Content(
        version=number,
        packages={_normalized(match[1]): match[2] for match in found},
        package_bytes={},
        zip_bytes=size,
        unzipped_bytes=sum(entry.file_size for entry in entries),
        imports_ms={},
        cold_start_ms=None,
        source="zip",
    )


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
