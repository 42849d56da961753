"""What the watch knows, in the bucket: `catalogue/vulnerabilities.json` and `catalogue/outdated.json`.

Only WatchLayers writes them, and only as it has read them.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from botocore.exceptions import ClientError

from layerdrop import wording
from layerdrop.aws import error_code
from layerdrop.catalogue.documents import (
    OUTDATED,
    OUTDATED_SCHEMA,
    VULNERABILITIES,
    VULNERABILITIES_SCHEMA,
)
from layerdrop.conditional_write import put_if_unchanged
from layerdrop.input_key import manifest_key
from layerdrop.watch.advisories import Advisory
from layerdrop.watch.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

Entry = TypeVar("Entry")
_MAX_BYTES: Final = 256 << 20
_MALFORMED: Final = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Known:
    """What is known against one layer.

    Attributes:
        asked: when the database was asked about this version last, ISO 8601 in UTC.
    """

    version: int
    layer_version_arn: str
    input_key: str
    asked: str
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """What is known by its schema."""
        return {
            "version": self.version,
            "layer_version_arn": self.layer_version_arn,
            "input_key": self.input_key,
            "asked": self.asked,
            "findings": [one.to_json() for one in self.findings],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        return cls(
            version=document["version"],
            layer_version_arn=document["layer_version_arn"],
            input_key=document["input_key"],
            asked=document["asked"],
            findings=tuple(Finding.from_json(one) for one in document["findings"]),
        )


@dataclass
class Vulnerabilities:
    """What is known against all layers.

    Attributes:
        etag: of the object that it was read from; None where there is none.
        advisories: what the findings were made of, so that it is asked for only when it changes.
        unwritten: keys of inputs that the document beside is to be written of once more.
    """

    etag: str | None = None
    layers: dict[str, Known] = field(default_factory=dict)
    advisories: dict[str, Advisory] = field(default_factory=dict)
    unwritten: set[str] = field(default_factory=set)

    def to_bytes(self, now: str, database: str) -> bytes:
        """The document by its schema."""
        return as_bytes(
            {
                "schema": VULNERABILITIES_SCHEMA,
                "written": now,
                "database": database,
                "layers": {name: self.layers[name].to_json() for name in sorted(self.layers)},
                "advisories": {name: self.advisories[name].to_json() for name in sorted(self.advisories)},
                "unwritten": sorted(self.unwritten),
            }
        )

    def beside(self, layers: Iterable[str], now: str, database: str) -> bytes:
        """The document beside an input: what is known against its layers."""
        return as_bytes(
            {
                "schema": VULNERABILITIES_SCHEMA,
                "written": now,
                "database": database,
                "layers": {name: self.layers[name].to_json() for name in sorted(layers)},
            },
            indent=2,
        )


@dataclass(frozen=True)
class Outlook:
    """What a rebuild would change, when that was looked at (ISO 8601 in UTC), or why it would fail."""

    version: int
    looked: str
    changes: tuple[Mapping[str, str | None], ...] = ()
    error: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """The outlook by its schema."""
        return {
            "version": self.version,
            "looked": self.looked,
            "changes": [dict(one) for one in self.changes],
            "error": dict(self.error) if self.error else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        return cls(document["version"], document["looked"], tuple(document["changes"]), document["error"])


@dataclass
class Outdated:
    """The outlook for all layers, and the ETag of the object that it was read from."""

    etag: str | None = None
    layers: dict[str, Outlook] = field(default_factory=dict)

    def to_bytes(self, now: str) -> bytes:
        """The document by its schema."""
        layers = {name: self.layers[name].to_json() for name in sorted(self.layers)}
        return as_bytes({"schema": OUTDATED_SCHEMA, "written": now, "layers": layers})


@dataclass(frozen=True)
class Store:
    """The documents in the bucket."""

    s3: S3Client
    bucket: str

    def vulnerabilities(self) -> Vulnerabilities:
        """What is known; nothing, where the document was lost or broken."""
        etag, document = self._read(VULNERABILITIES, VULNERABILITIES_SCHEMA)
        unwritten = document.get("unwritten")
        return Vulnerabilities(
            etag,
            layers=_readable(document, "layers", lambda _, known: Known.from_json(known)),
            advisories=_readable(document, "advisories", Advisory.from_json),
            unwritten=set(map(str, unwritten)) if isinstance(unwritten, list) else set(),
        )

    def outdated(self) -> Outdated:
        """The outlook as it was; nothing, where the document was lost or broken."""
        etag, document = self._read(OUTDATED, OUTDATED_SCHEMA)
        return Outdated(etag, _readable(document, "layers", lambda _, outlook: Outlook.from_json(outlook)))

    def write(self, key: str, etag: str | None, body: bytes) -> str | None:
        """Write a document if it still has this ETag; return the new one, or None: read again."""
        return put_if_unchanged(self.s3, self.bucket, key, etag, body, ContentType="application/json")

    def write_beside(self, input_key: str, body: bytes) -> None:
        """Write the document beside an input."""
        key = beside(input_key)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="application/json")

    def _read(self, key: str, schema: str) -> tuple[str | None, Mapping[str, Any]]:
        try:
            response = self.s3.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error_code(error) != "NoSuchKey":
                raise
            return None, {}
        with response["Body"] as body:
            content = body.read(_MAX_BYTES)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or document.get("schema") != schema:
            logger.error("%s is no document of the watch, and is begun anew", key)
            return response["ETag"], {}
        return response["ETag"], document


def beside(input_key: str) -> str:
    """The key of the document beside an input, named as its manifest is: no two inputs share one."""
    return manifest_key(input_key).removesuffix("manifest.json") + "vulnerabilities.json"


def as_bytes(document: Mapping[str, Any], indent: int | None = None) -> bytes:
    """A document as it lies in the bucket: what others wrote in it can be shown."""
    return (wording.escaped(json.dumps(document, indent=indent, ensure_ascii=False)) + "\n").encode()


def _readable(
    document: Mapping[str, Any], part: str, read: Callable[[str, Mapping[str, Any]], Entry | None]
) -> dict[str, Entry]:
    """The entries of a part by name: one that was spoilt is left out, and says nothing of the others."""
    entries = document.get(part)
    found: dict[str, Entry] = {}
    for name, kept in entries.items() if isinstance(entries, dict) else ():
        try:
            entry = read(name, kept)
        except _MALFORMED:
            logger.warning("What was kept of %s among the %s cannot be read", wording.word(name), part)
            continue
        if entry is not None:
            found[name] = entry
    return found
