"""Release documents: what is in each released version, `catalogue/releases/<layer name>/<version>.json`.

Neither whoever uploads nor jobs may write them: WriteManifest does, for each version that was released, and
ReleaseLayer deletes those of versions that it retires. The catalogue and the watch go by them, never by
manifests. Their schema is schemas/release.schema.json.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from botocore.exceptions import ClientError

from layerdrop import wording
from layerdrop.aws import error_code
from layerdrop.conditional_write import ATTEMPTS, write_if_unchanged
from layerdrop.objects import GONE
from layerdrop.sequencer import is_newer
from layerdrop.target import ARCHITECTURES, REBUILD_FIXED, RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mypy_boto3_s3 import S3Client

    from layerdrop.build_input import BuildInput
    from layerdrop.manifest import PublishedVersion
    from layerdrop.report import BuiltLayer, Report
    from layerdrop.target import Target
    from layerdrop.trial import Trial

SCHEMA: Final = "layerdrop/release/1"
PREFIX: Final = "catalogue/releases/"

_LAYER_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,127}-py3\d{1,2}-(?:arm64|x86_64)", re.ASCII)
_LONGEST_NAME: Final = 140
_KEY: Final = re.compile(r"catalogue/releases/([A-Za-z0-9_-]{1,140})/([1-9]\d{0,9})\.json", re.ASCII)
_ARN: Final = re.compile(
    r"arn:aws[a-z-]{0,20}:lambda:[a-z0-9-]{1,30}:\d{12}:layer:([A-Za-z0-9_-]{1,140}):([1-9]\d{0,9})", re.ASCII
)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
# Of what packages say of themselves; the page has a row for each.
_LONGEST_TEXT: Final = 200
_LONGEST_LICENSE: Final = 512  # API_PublishLayerVersion
_MOST_PACKAGES: Final = 5000
_MOST_WARNINGS: Final = 50
_MOST_FIELDS: Final = 10
_MOST_EARLIER: Final = 5
_MAX_BYTES: Final = 8 * 1024 * 1024


def is_layer_name(name: object) -> bool:
    """Whether it is a name that a layer of ours can have: it ends in the id of a target."""
    return isinstance(name, str) and len(name) <= _LONGEST_NAME and bool(_LAYER_NAME.fullmatch(name))


def version_in(arn: object, layer_name: str) -> int | None:
    """The version that an ARN is of, if it is one of this layer's."""
    match = _ARN.fullmatch(arn) if isinstance(arn, str) else None
    return int(match[2]) if match and match[1] == layer_name else None


def release_key(layer_name: str, version: int) -> str:
    """Where a version's document lies."""
    return f"{PREFIX}{layer_name}/{version}.json"


def released_by(key: str) -> tuple[str, int] | None:
    """The layer's name and the version of a document, by its key."""
    match = _KEY.fullmatch(key)
    return (match[1], int(match[2])) if match and is_layer_name(match[1]) else None


@dataclass(frozen=True)
class Release:
    """A released version of a layer.

    Attributes:
        released: when it was released first, ISO 8601 in UTC.
        built: when a build came to it last.
        input: bucket, key, version_id and sequencer of the upload that this build was of.
        import_seconds: of all imports of the trial; None if it was not run.
        rebuild: `fixed`, when it is to be built again as soon as that mends a finding.
        ignore: why findings are none for this layer, by id.
    """

    layer_name: str
    version: int
    layer_version_arn: str
    architecture: str
    runtime: str
    released: str
    built: str
    input: Mapping[str, str]
    zip_key: str
    code_sha256: str
    zip_bytes: int
    unzipped_bytes: int
    description: str | None
    license: str | None
    packages: tuple[Mapping[str, Any], ...]
    system_packages: tuple[Mapping[str, Any], ...]
    import_seconds: float | None
    shared_with: tuple[str, ...]
    warnings: tuple[str, ...]
    rebuild: str | None = None
    ignore: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Where it lies."""
        return release_key(self.layer_name, self.version)

    def to_json(self) -> dict[str, Any]:
        """The document by its schema. What others wrote in it can be shown: see `wording`."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "layer_name": self.layer_name,
            "version": self.version,
            "layer_version_arn": self.layer_version_arn,
            "architecture": self.architecture,
            "runtime": self.runtime,
            "released": self.released,
            "built": self.built,
            "input": dict(self.input),
            "zip_key": self.zip_key,
            "code_sha256": self.code_sha256,
            "bytes": self.zip_bytes,
            "unzipped_bytes": self.unzipped_bytes,
            "description": _text(self.description, _LONGEST_LICENSE),
            "license": _text(self.license, _LONGEST_LICENSE),
            "packages": [_package(one) for one in self.packages[:_MOST_PACKAGES]],
            "system_packages": [_system_package(one) for one in self.system_packages[:_MOST_PACKAGES]],
            "import_seconds": self.import_seconds,
            "shared_with": list(self.shared_with),
            "warnings": _warnings(self.warnings),
            "watch": {
                "rebuild": self.rebuild,
                "ignore": {str(name): wording.sentence(why) for name, why in self.ignore.items()},
            },
        }
        return document

    def to_bytes(self) -> bytes:
        """The document as it lies in the bucket."""
        return (wording.escaped(json.dumps(self.to_json(), ensure_ascii=False)) + "\n").encode()

    @classmethod
    def read(cls, content: bytes | None) -> Self | None:
        """Read a document; None is none, and so is what is none."""
        if content is None:
            return None
        try:
            return cls.from_json(json.loads(content))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote; a field that is not known is passed over.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is none.
        """
        name, version = document["layer_name"], document["version"]
        _require(document["schema"] == SCHEMA, "schema")
        _require(is_layer_name(name), "layer_name")
        _require(version_in(document["layer_version_arn"], name) == version, "layer_version_arn")
        _require(document["architecture"] in ARCHITECTURES, "architecture")
        _require(document["runtime"] in RUNTIMES, "runtime")
        for moment in ("released", "built"):
            _require(bool(_TIME.fullmatch(document[moment])), moment)
        seconds = document["import_seconds"]
        _require(seconds is None or 0 <= float(seconds) < math.inf, "import_seconds")
        watch = document["watch"]
        _require(watch["rebuild"] in (None, REBUILD_FIXED), "rebuild")
        return cls(
            layer_name=name,
            version=version,
            layer_version_arn=document["layer_version_arn"],
            architecture=document["architecture"],
            runtime=document["runtime"],
            released=document["released"],
            built=document["built"],
            input={
                part: str(document["input"][part]) for part in ("bucket", "key", "version_id", "sequencer")
            },
            zip_key=str(document["zip_key"]),
            code_sha256=str(document["code_sha256"]),
            zip_bytes=int(document["bytes"]),
            unzipped_bytes=int(document["unzipped_bytes"]),
            description=_text(document["description"], _LONGEST_LICENSE),
            license=_text(document["license"], _LONGEST_LICENSE),
            packages=tuple(_package(one) for one in document["packages"]),
            system_packages=tuple(_system_package(one) for one in document["system_packages"]),
            import_seconds=None if seconds is None else float(seconds),
            shared_with=tuple(map(str, document["shared_with"])),
            warnings=tuple(map(str, document["warnings"])),
            rebuild=watch["rebuild"],
            ignore={str(one): str(why) for one, why in watch["ignore"].items()},
        )


def _require(holds: bool, part: str) -> None:
    if not holds:
        raise ValueError(f"its {part} is none")


def _text(value: Any, longest: int = _LONGEST_TEXT) -> str | None:
    if value is None:
        return None
    return wording.shortened(wording.visible(wording.shortened(str(value), longest)), longest)


def _package(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": _text(document["name"]),
        "version": _text(document["version"]),
        "license": _text(document["license"]),
        "unzipped_bytes": int(document["unzipped_bytes"]),
        # Nobody tells it of what was built before it was asked for, or of an index that does not say.
        "publisher": _publisher(document.get("publisher")),
        "attested": attested if isinstance(attested := document.get("attested"), bool) else None,
    }


def _publisher(document: Mapping[str, Any] | None) -> dict[str, str | None] | None:
    if document is None:
        return None
    fields = sorted(document.items())[:_MOST_FIELDS]
    return {
        "kind": _text(document["kind"]),
        **{str(_text(str(name))): _text(value) for name, value in fields},
    }


def _system_package(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _text(document[name]) for name in ("name", "version", "license")}


def _warnings(warnings: Iterable[str]) -> list[str]:
    listed = [wording.sentence(str(one)) for one in warnings]
    rest = len(listed) - _MOST_WARNINGS
    return [*listed[:_MOST_WARNINGS], *([f"And {rest} more, in the manifest."] if rest > 0 else [])]


def release_of(
    build_input: BuildInput,
    target: Target,
    published: PublishedVersion,
    report: Report,
    layer: BuiltLayer,
    trial: Trial | None,
    at: str,
) -> Release:
    """What there is to say of a version that was released at a time (ISO 8601 in UTC)."""
    passed = trial is not None and trial.result == "passed"
    return Release(
        layer_name=target.layer_name,
        version=published.version,
        layer_version_arn=published.layer_version_arn,
        architecture=target.architecture,
        runtime=target.runtime,
        released=at,
        built=at,
        input={
            "bucket": build_input.bucket,
            "key": build_input.key,
            "version_id": build_input.version_id,
            "sequencer": build_input.sequencer,
        },
        zip_key=published.zip_key,
        code_sha256=layer.code_sha256,
        zip_bytes=layer.zip.bytes,
        unzipped_bytes=layer.zip.unzipped_bytes,
        description=layer.description,
        license=layer.license,
        packages=tuple(map(_package, report.packages)),
        system_packages=tuple(map(_system_package, report.system_packages)),
        import_seconds=round(sum(trial.imports_ms.values()) / 1000, 3) if trial and passed else None,
        shared_with=target.share_with,
        warnings=(*report.warnings, *(trial.warnings if trial else ())),
        rebuild=target.rebuild or None,
        ignore=_ignored(target.vulnerability_ignore),
    )


def _ignored(entries: Iterable[str]) -> dict[str, str]:
    """The reasons by id, of texts such as `GHSA-48p4-8xcf-vxj5: no redirects`."""
    parted = (entry.partition(":") for entry in entries)
    return {name.strip(): reason.strip() for name, _, reason in parted}


def publisher_changes(release: Release, earlier: Iterable[Release]) -> tuple[str, ...]:
    """Say which packages were published by somebody else than they were in the layer's versions before.

    Of some builds it is not known who published a package, as when the index did not answer in time. Then the
    version before counts.

    Args:
        release: The new one.
        earlier: The versions before it, the newest first; read as far as need be.
    """
    unsettled = {one["name"]: one for one in release.packages if one["publisher"] or one["attested"] is False}
    warnings = {}
    for before in earlier:
        for old in before.packages:
            if old["publisher"] is None and old["attested"] is not False:
                continue
            package = unsettled.pop(old["name"], None)
            if package and old["publisher"] and _who(package) != _who(old):
                warnings[package["name"]] = _warning(package, old)
        if not unsettled:
            break
    return tuple(wording.sentence(warnings[name]) for name in sorted(warnings))


def _who(package: Mapping[str, Any]) -> dict[str, str] | None:
    """What identifies a publisher, however it is written.

    Workflow and environment are left aside: who may change the one, may change the other.
    """
    publisher = package["publisher"]
    if publisher is None:
        return None
    fields = publisher.items()
    return {name: str(one).casefold() for name, one in fields if name not in ("workflow", "environment")}


def _warning(package: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    now, was = f"{package['name']} {package['version']}", _named(old["publisher"])
    if package["publisher"]:
        told = f"{now} was published by {_named(package['publisher'])}, {old['version']} by {was}"
    else:
        told = f"Nothing attests who published {now}; {old['version']} was published by {was}"
    return f"{told}: see whether its project says so, too."


def _named(publisher: Mapping[str, Any]) -> str:
    rest = (str(value) for name, value in sorted(publisher.items()) if name != "kind" and value)
    who = publisher.get("repository") or ", ".join(rest) or "somebody"
    return f"{who} ({publisher['kind']})"


@dataclass(frozen=True)
class Releases:
    """The documents in the bucket."""

    s3: S3Client
    bucket: str

    def write(self, release: Release) -> None:
        """Write a document; when the version was released first stays, and so does what is newer.

        Raises:
            RuntimeError: others kept writing at the same time.
        """
        for _ in range(ATTEMPTS):
            etag, found = self._find(release.key)
            written = release
            if found and found.layer_version_arn == release.layer_version_arn:
                if found.input["key"] == release.input["key"] and is_newer(
                    found.input["sequencer"], than=release.input["sequencer"]
                ):
                    return
                written = replace(release, released=found.released)
            if write_if_unchanged(self.s3, self.bucket, release.key, etag, written.to_bytes()):
                return
        raise RuntimeError(f"{release.key} changed at each of {ATTEMPTS} attempts to write it")

    def read(self, layer_name: str, version: int) -> Release | None:
        """A version's document; None if there is none, or what is there is none of it."""
        return self._find(release_key(layer_name, version))[1]

    def delete(self, layer_name: str, version: int) -> None:
        """Delete a version's document, if there is one."""
        self.s3.delete_object(Bucket=self.bucket, Key=release_key(layer_name, version))

    def listed(self, layer_name: str | None = None) -> dict[str, dict[int, str]]:
        """The ETags of the documents of a layer, or of all layers: by layer name and version."""
        found: defaultdict[str, dict[int, str]] = defaultdict(dict)
        prefix = f"{PREFIX}{layer_name}/" if layer_name else PREFIX
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                if of := released_by(item["Key"]):
                    found[of[0]][of[1]] = item["ETag"]
        return dict(found)

    def earlier(self, layer_name: str, version: int) -> Iterator[Release]:
        """The documents of some versions before this one, the newest first, even if they were deleted since.

        ReleaseLayer may have retired them only just, so S3 is asked for what the bucket keeps of them.
        """
        newest: dict[int, tuple[str, str]] = {}
        pages = self.s3.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, Prefix=f"{PREFIX}{layer_name}/"
        )
        for page in pages:
            for item in page.get("Versions", ()):  # of each key the newest first
                of = released_by(item["Key"])
                if of and of[0] == layer_name and of[1] < version:
                    newest.setdefault(of[1], (item["Key"], item["VersionId"]))
        for number in sorted(newest, reverse=True)[:_MOST_EARLIER]:
            if release := self._find(*newest[number])[1]:
                yield release

    def _find(self, key: str, version_id: str | None = None) -> tuple[str | None, Release | None]:
        """ETag of what lies there, and what it is, if it is of that key."""
        place: dict[str, Any] = {"VersionId": version_id} if version_id else {}
        try:
            response = self.s3.get_object(Bucket=self.bucket, Key=key, **place)
        except ClientError as error:
            if error_code(error) not in GONE:
                raise
            return None, None
        with response["Body"] as body:
            release = Release.read(body.read(_MAX_BYTES))
        return response["ETag"], release if release and release.key == key else None
