"""The manifest: the answer beside the input. Its schema is schemas/manifest.schema.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from layerdrop import wording
from layerdrop.layer_versions import pin_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerdrop.build_input import BuildInput, Execution
    from layerdrop.errors import Problem
    from layerdrop.report import Report
    from layerdrop.target import Target
    from layerdrop.trial import Trial

SCHEMA = "layerdrop/manifest/1"


class Status(StrEnum):
    """How far a build is."""

    BUILDING = "BUILDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class PublishedVersion:
    """A layer version; `reused` when an unchanged layer made a new one unnecessary, `zip_key` its zip's.

    `alongside` says what other layers of a function have of its paths.
    """

    layer_version_arn: str
    version: int
    reused: bool
    zip_key: str
    alongside: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The version as the state machine carries it."""
        return {
            "layer_version_arn": self.layer_version_arn,
            "version": self.version,
            "reused": self.reused,
            "zip_key": self.zip_key,
            **({"alongside": [dict(one) for one in self.alongside]} if self.alongside else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        return cls(
            document["layer_version_arn"],
            document["version"],
            document["reused"],
            document["zip_key"],
            # Not of what was published before there was such a setting.
            tuple(document.get("alongside", ())),
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a target: a released version with the builder's report and its trial, or a problem.

    `lock_key` is where the job left the lock of what is in the version. `warnings` are those that neither the
    builder nor the trial could give.
    """

    target: Target
    published: PublishedVersion | None = None
    report: Report | None = None
    problem: Problem | None = None
    trial: Trial | None = None
    lock_key: str | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The outcome as an entry of the manifest's `layers`."""
        layer = self.report.layer if self.report else None
        return {
            "architecture": self.target.architecture,
            "runtime": self.target.runtime,
            "layer_name": self.target.layer_name,
            "layer_version_arn": self.published.layer_version_arn if self.published else None,
            "version": self.published.version if self.published else None,
            "pinned_parameter": pin_of(self.target.layer_name, self.published.version)
            if self.published
            else None,
            "reused": self.published.reused if self.published else False,
            "code_sha256": layer.code_sha256 if layer else None,
            "zip": {
                "key": self.published.zip_key,
                "bytes": layer.zip.bytes,
                "unzipped_bytes": layer.zip.unzipped_bytes,
            }
            if layer and self.published  # before that, it is nobody's but the job's
            else None,
            "lock": {"key": self.lock_key} if self.lock_key else None,
            "packages": [dict(package) for package in self.report.packages] if self.report else [],
            "system_packages": [dict(one) for one in self.report.system_packages] if self.report else [],
            "alongside": [dict(one) for one in self.published.alongside] if self.published else [],
            "cooldown": dict(self.report.cooldown) if self.report and self.report.cooldown else None,
            "checks": self._checks(),
            "trial": self._trial(),
            "warnings": [
                *(self.report.warnings if self.report else ()),
                *(self.trial.warnings if self.trial else ()),
                *self.warnings,
            ],
            "error": self.problem.to_json() if self.problem else None,
        }

    def _checks(self) -> dict[str, Any]:
        """What the builder proved; of the modules that it left to the trial, that tells."""
        checks = dict(self.report.checks) if self.report else {}
        imports = checks.get("imports")
        if isinstance(imports, dict) and "packages" in imports:
            checks["imports"] = {"status": "not_run", "reason": "left to the trial"}
        return checks

    def _trial(self) -> dict[str, Any] | None:
        if self.trial is None:
            return None
        return {name: value for name, value in self.trial.to_json().items() if name != "warnings"}


@dataclass(frozen=True)
class Manifest:
    """The state of one upload; `problem` is that of the whole build or of its first failed target."""

    status: Status
    build_input: BuildInput
    execution: Execution | None
    finished: str | None = None
    outcomes: Sequence[Outcome] = field(default=())
    problem: Problem | None = None

    def to_bytes(self) -> bytes:
        """The manifest as it lies in the bucket: for people as well, so indented."""
        document = self.to_json()
        # What the input is called stays as it is. The rest was told by packages and indexes: it may hold what
        # a terminal obeys, or half a surrogate pair, which UTF-8 cannot write.
        told = {name: part if name == "input" else wording.shown(part) for name, part in document.items()}
        text = json.dumps(told, indent=2, ensure_ascii=False)
        return (wording.escaped(text) + "\n").encode()

    def to_json(self) -> dict[str, Any]:
        """The manifest by its schema."""
        return {
            "schema": SCHEMA,
            "status": str(self.status),
            "input": {
                "bucket": self.build_input.bucket,
                "key": self.build_input.key,
                "version_id": self.build_input.version_id,
                "etag": self.build_input.etag,
                "sequencer": self.build_input.sequencer,
            },
            "execution": {
                "arn": self.execution.arn,
                "started": self.execution.started,
                "finished": self.finished,
            }
            if self.execution
            else None,
            "layers": [outcome.to_json() for outcome in self.outcomes],
            "error": self.problem.to_json() if self.problem else None,
        }


def building(build_input: BuildInput, execution: Execution) -> Manifest:
    """The manifest of a build under way."""
    return Manifest(Status.BUILDING, build_input, execution)


def finished(
    build_input: BuildInput,
    execution: Execution | None,
    at: str,
    outcomes: Sequence[Outcome] = (),
    problem: Problem | None = None,
) -> Manifest:
    """The manifest of a build that ended at a time (ISO 8601): it succeeded if no target failed.

    Without an execution it never began.
    """
    first = problem or next((outcome.problem for outcome in outcomes if outcome.problem), None)
    status = Status.FAILED if first else Status.SUCCEEDED
    return Manifest(status, build_input, execution, at, tuple(outcomes), first)


@dataclass(frozen=True)
class Found:
    """What lies in the place of a manifest; users may write there, so anything may be missing."""

    document: Mapping[str, Any]

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a manifest out of the bucket; what is none is an empty one."""
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        return cls(document if isinstance(document, dict) else {})

    def written_for(self, key: str) -> Mapping[str, Any]:
        """Its `input`; empty if that is another key's, as when it was copied here along with its folder."""
        found = self.document.get("input")
        return found if isinstance(found, dict) and found.get("key") == key else {}
