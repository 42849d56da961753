"""The record of a kept layer: what a build found of it, for builds that come to the same one.

The builder writes it beside the zip; see its `record.py`, which also reads it again. Here it is looked at
whether it is a record, and of that zip.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerdrop.report import BuiltLayer

SCHEMA = "layerdrop/layer/1"
MAX_BYTES = 8 * 1024 * 1024

_TYPES: Mapping[str, type] = {
    "schema": str,
    "builder": dict,
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


@dataclass(frozen=True)
class Record:
    """A record as it was read."""

    document: Mapping[str, Any]

    @classmethod
    def read(cls, content: bytes | None) -> Self | None:
        """Read a record; None is no record, and so is what is none."""
        if content is None:
            return None
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            return None
        if {name: type(value) for name, value in document.items()} != _TYPES:
            return None
        return cls(document)

    @property
    def zip(self) -> tuple[int, str]:
        """The length and the SHA-256, in Base64, of the zip that it is of."""
        return self.document["bytes"], self.document["code_sha256"]

    def is_of(self, layer: BuiltLayer) -> bool:
        """Whether it says of a layer what the report says of it."""
        sizes = (layer.zip.bytes, layer.code_sha256), layer.zip.unzipped_bytes
        return (self.zip, self.document["unzipped_bytes"]) == sizes

    def to_bytes(self) -> bytes:
        """The record as it lies in the bucket."""
        return json.dumps(self.document).encode()
