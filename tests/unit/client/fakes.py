"""A stack in memory, with as much of `Aws` as commands call."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from layerdrop_client.aws import Claim, UsingFunction
from layerdrop_client.keys import short
from layerdrop_client.manifests import Manifest
from layerdrop_client.place import Place
from layerdrop_client.syncing import Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from layerdrop_client.history import Progress

ARN = "arn:aws:lambda:eu-west-1:123456789012:layer:{}:{}"


class FakeAws:
    """Answers each upload at once, by its content."""

    def __init__(self) -> None:
        self.place = Place(endpoint_url="http://127.0.0.1:1")
        self.bucket = "box"
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.uploads: list[str] = []
        self.deleted: list[str] = []
        self.claims: dict[str, Claim] = {}
        self.pointed: dict[str, str] = {}
        self.published: dict[str, list[int]] = {}
        self.shared: dict[tuple[str, int], set[str]] = {}
        self.using: list[UsingFunction] = []
        self.note: dict[str, Any] | None = None
        self.busy: str | None = None
        self.answers = True
        self.catalogue_address: str | None = None
        self.kept: dict[str, bytes] = {}
        self.known: list[dict[str, Any]] = []

    def upload(self, key: str, content: bytes) -> str:
        self.uploads.append(key)
        version = f"v{len(self.uploads)}"
        self.objects[key] = (version, content)
        return version

    def stored(self, key: str) -> Stored | None:
        if key not in self.objects:
            return None
        version, content = self.objects[key]
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        return Stored(version, "etag", digest, datetime.now(UTC))

    def inputs(self) -> list[str]:
        return list(self.objects)

    def delete(self, key: str) -> None:
        self.deleted.append(key)
        del self.objects[key]

    def manifest(self, key: str) -> Manifest | None:
        if key not in self.objects or not self.answers:
            return None
        version, content = self.objects[key]
        text, name = content.decode(), f"{short(key).split('/')[-1]}-py313-arm64"
        code = text.partition("FAIL ")[2].strip()
        error = (
            {"code": code, "message": "Line 1 is bad.", "hint": "Mend it.", "details": {"line": 1}}
            if code
            else None
        )
        layer = {
            "layer_name": name,
            "architecture": "arm64",
            "runtime": "python3.13",
            "version": None if code else 1,
            "layer_version_arn": None if code else ARN.format(name, 1),
            "reused": "same" in text,
            "zip": None if code else {"bytes": 1000, "unzipped_bytes": 2000},
            "packages": [],
            "error": error,
        }
        return Manifest(
            {
                "schema": "layerdrop/manifest/1",
                "status": "FAILED" if code else "SUCCEEDED",
                "input": {"key": key, "version_id": version},
                "execution": None,
                "layers": [layer],
                "error": error,
            }
        )

    def is_there(self, key: str) -> bool:
        return key in self.kept

    def presigned(self, key: str, good_for: timedelta) -> str:
        return f"https://box.example/{key}?X-Amz-Expires={int(good_for.total_seconds())}"

    def fetch(self, key: str, most: int) -> bytes | None:
        return self.kept.get(key)

    def findings(self, key: str, name: str, version: int) -> list[dict[str, Any]]:
        return self.known

    def progress(self, execution: str) -> Progress | None:
        return None

    def layer_names(self) -> list[str]:
        return list(self.claims)

    def claim(self, name: str) -> Claim | None:
        return self.claims.get(name)

    def unclaim(self, name: str, claim: Claim) -> bool:
        self.claims[name] = Claim(None, True, 0.0, "new", claim.lease)
        return True

    def candidate(self, name: str) -> dict[str, Any] | None:
        return self.note

    def pointers(self) -> dict[str, str]:
        return self.pointed

    def pointer(self, name: str) -> str | None:
        return self.pointed.get(name)

    def point(self, name: str, arn: str) -> None:
        self.pointed[name] = arn

    def versions(self, name: str) -> list[dict[str, Any]]:
        return [{"Version": number} for number in reversed(self.published.get(name, []))]

    def version(self, name: str, number: int) -> dict[str, Any] | None:
        if number not in self.published.get(name, []):
            return None
        return {"LayerVersionArn": ARN.format(name, number), "Content": {"CodeSha256": f"sha-{number}"}}

    def grants(self, name: str, number: int) -> set[str]:
        return self.shared.get((name, number), set())

    def functions(self) -> Iterator[UsingFunction]:
        yield from self.using

    def running(self, key: str) -> str | None:
        return self.busy

    def for_each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return [function(item) for item in items]


def document(text: str) -> Any:
    """The one document on standard output."""
    return json.loads(text)
