"""The report: what a build took in, what came out, or why nothing did. Its schema is in `schemas/`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from layer_builder import __version__
from layer_builder.ground import redaction, wording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_builder.ground.errors import BuildError

SCHEMA = "layerdrop/report/1"
_MAX_WARNINGS = 200
# Of what was proved, by entries of a list and by characters: others' names are among it.
_MAX_FINDINGS, _MAX_FINDINGS_TEXT = 1_000, 150_000


@dataclass(frozen=True, slots=True)
class Zip:
    """Where the zip is, for S3 with bucket and key; its length and that of what is in it, in bytes."""

    location: str
    bucket: str | None
    key: str | None
    bytes: int
    unzipped_bytes: int


@dataclass(frozen=True, slots=True)
class Layer:
    """The layer that was made.

    Attributes:
        digest: of what went in, in hexadecimal: known before the zip is written.
        code_sha256: of the zip, in base64, as Lambda shows it.
        layer_version_arn: of the version that was published, if one was.
    """

    name: str
    description: str
    license: str | None
    digest: str
    code_sha256: str
    zip: Zip
    layer_version_arn: str | None = None


# Who published a file: its `kind`, such as GitHub, and what identifies it there.
Publisher = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Package:
    """One package of the layer: the wheel that was taken, its SHA-256, its share of the layer in bytes.

    Attributes:
        attested: whether the index has an attestation of who published it (PEP 740); None if not known.
        provenance: where the index has it, without credentials.
        publishers: whom it names.
    """

    name: str
    version: str
    wheel: str
    sha256: str
    unzipped_bytes: int
    license: str | None
    attested: bool | None = None
    provenance: str | None = None
    publishers: tuple[Publisher, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The package as the report has it."""
        return {**asdict(self), "publisher": self.publishers[0] if self.publishers else None}


@dataclass(frozen=True, slots=True)
class SystemFile:
    """A shared library of a system package: its path in the layer, its SHA-256, its length in bytes, and the
    packages that need it, or load it by its name.
    """

    path: str
    sha256: str
    bytes: int
    needed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SystemPackage:
    """A system package (RPM) that libraries were taken from.

    Attributes:
        name: its name.
        version: with epoch and release.
        architecture: as RPM names it.
        license: as the package says it.
        source: the source package it was built from.
        files: what was taken.
    """

    name: str
    version: str
    architecture: str
    license: str
    source: str
    files: tuple[SystemFile, ...]


@dataclass(slots=True)
class Report:
    """A build's findings, filled in as it goes, so that a build that fails still says how far it came."""

    architecture: str = ""
    runtime: str = ""
    requirements: list[str] = field(default_factory=list)
    layer: Layer | None = None
    packages: list[Package] = field(default_factory=list)
    system_packages: list[SystemPackage] = field(default_factory=list)
    checks: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    error: BuildError | None = None
    cooldown: dict[str, Any] | None = None

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long a step takes, also when it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[step] = round(time.perf_counter() - start, 4)

    def to_json(self) -> bytes:
        """Write the report as JSON (UTF-8), without any credentials that got into it.

        What packages and indexes said is bounded in length, and shows what a terminal would obey.
        """
        error = self.error
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "status": "FAILED" if error else "SUCCEEDED",
            "builder": {"version": __version__},
            "target": {"architecture": self.architecture or None, "runtime": self.runtime or None},
            "requirements": self.requirements,
            "cooldown": self.cooldown,
            "layer": asdict(self.layer) if self.layer and not error else None,
            "packages": [package.document for package in self.packages],
            "system_packages": [asdict(package) for package in self.system_packages],
            "checks": wording.bounded(self.checks, entries=_MAX_FINDINGS, characters=_MAX_FINDINGS_TEXT),
            "warnings": [wording.sentence(warning) for warning in self.warnings[:_MAX_WARNINGS]],
            "timings": self.timings,
            "error": error
            and {
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
                "details": wording.bounded(error.details),
            },
        }
        text = json.dumps(redaction.shown(document), ensure_ascii=False, indent=1)
        return redaction.clean(text).encode() + b"\n"
