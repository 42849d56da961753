"""What is known of a layer in a bucket, beside its zip: `<digest>.json` beside `<digest>.zip`.

A layer's digest says what goes in before anything is fetched. If the bucket has its zip already, with a
record of what a build found of it, there is nothing to do: the report is written from the record.

The record is written after the zip, so a build that dies between leaves a zip without a record, which the
next build replaces by the same bytes. The zip is uploaded with its SHA-256, which S3 checks and keeps; a
record counts only if the zip has the checksum that it names. So both may be half there, old, or of different
builds: the worst that follows is a build. What is trusted is whoever may write there: both can be replaced
together. So in the pipeline a job writes both where nobody looks for them, and a function that runs nothing
foreign takes them from there (`--staging`).
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from layer_builder import __version__
from layer_builder.ground.errors import BuildError
from layer_builder.results import storage
from layer_builder.results.report import Package, SystemFile, SystemPackage
from layer_builder.results.storage import S3Url

SCHEMA = "layerdrop/layer/1"

_MAX_BYTES = 8 << 20
_TYPES: dict[str, type] = {
    "asked": dict,
    "code_sha256": str,
    "bytes": int,
    "unzipped_bytes": int,
    "packages": list,
    "system_packages": list,
    "file_bytes": dict,
    "checks": dict,
    "warnings": list,
}

log = logging.getLogger("layer_builder")


@dataclass(frozen=True, slots=True)
class Record:
    """What a build found of a layer.

    Attributes:
        asked: what was asked of the build that the digest does not tell: which checks, against which limit,
        of whose modules.
        code_sha256: of the zip, in base64.
        bytes: the zip's length.
        unzipped_bytes: the length of what is in it.
        packages: as in the report.
        system_packages: as in the report.
        file_bytes: the length of each package's file, by the file's name.
        checks: as in the report.
        warnings: what a person should know of the layer.
    """

    asked: dict[str, Any]
    code_sha256: str
    bytes: int
    unzipped_bytes: int
    packages: tuple[Package, ...]
    system_packages: tuple[SystemPackage, ...]
    file_bytes: dict[str, int]
    checks: dict[str, Any]
    warnings: tuple[str, ...]


def load(zip_url: S3Url, asked: dict[str, Any]) -> Record | None:
    """Take the record of a zip, if both are there, belong together, and the record answers what is asked.

    A bucket that does not let us look is one without a record.
    """
    try:
        content = storage.read(str(_url(zip_url)), limit=_MAX_BYTES)
        record = _parse(content)
        if record is None or record.asked != asked:
            return None
        if storage.checksum(zip_url) != (record.bytes, record.code_sha256):
            log.info("%s is not what its record says", zip_url)
            return None
    except BuildError:
        return None
    return record


def save(zip_url: S3Url, record: Record, *, is_new: bool = False) -> None:
    """Write the record of a zip that has been uploaded; one that `is_new` must not be there yet.

    Raises:
        StorageDeniedError, StorageUnavailableError: S3 does not take it.
    """
    document = {"schema": SCHEMA, "builder": {"version": __version__}, **asdict(record)}
    content = json.dumps(document, ensure_ascii=False).encode()
    storage.write(str(_url(zip_url)), content, "application/json", is_new=is_new)


def _url(zip_url: S3Url) -> S3Url:
    return S3Url(zip_url.bucket, zip_url.key.removesuffix(".zip") + ".json")


def _parse(content: bytes) -> Record | None:
    """Read a record; one of another version of the builder, which may prove more, is none."""
    try:
        document = json.loads(content)
        if document.pop("schema") != SCHEMA or document.pop("builder") != {"version": __version__}:
            return None
        if {name: type(value) for name, value in document.items()} != _TYPES:
            return None
        packages = tuple(map(_package, document.pop("packages")))
        system = tuple(_system_package(package) for package in document.pop("system_packages"))
        return Record(
            **document | {"warnings": tuple(document["warnings"])}, packages=packages, system_packages=system
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _package(fields: dict[str, Any]) -> Package:
    # A record of before the builder looked for publishers has none.
    return Package(**fields | {"publishers": tuple(fields.get("publishers", ()))})


def _system_package(fields: dict[str, Any]) -> SystemPackage:
    files = (SystemFile(**file | {"needed_by": tuple(file["needed_by"])}) for file in fields["files"])
    return SystemPackage(**fields | {"files": tuple(files)})
