"""Manifests as the pipeline writes them (docs/manifest.md), read with what may be missing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from layerdrop_client.problems import UNTOLD, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

BUILDING = "BUILDING"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"


@dataclass(frozen=True)
class Layer:
    """A target's entry: a version of a layer, or why there is none."""

    told: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The layer's."""
        return str(self.told.get("layer_name", ""))

    @property
    def version(self) -> int | None:
        """Its number."""
        return self.told.get("version")

    @property
    def arn(self) -> str | None:
        """The version's."""
        return self.told.get("layer_version_arn")

    @property
    def reused(self) -> bool:
        """Whether that version was there before."""
        return bool(self.told.get("reused"))

    @property
    def target(self) -> str:
        """Runtime and architecture, as people say it."""
        return f"{self.told.get('runtime', '')} {self.told.get('architecture', '')}"

    @property
    def zip_bytes(self) -> int | None:
        """Size of the zip."""
        return (self.told.get("zip") or {}).get("bytes")

    @property
    def unzipped_bytes(self) -> int | None:
        """Size of what is in it."""
        return (self.told.get("zip") or {}).get("unzipped_bytes")

    @property
    def packages(self) -> list[Mapping[str, Any]]:
        """What went in, by name and version."""
        return list(self.told.get("packages", ()))

    @property
    def imports_ms(self) -> Mapping[str, float]:
        """How long modules took to import in a function, in milliseconds; empty if that was not tried."""
        return (self.told.get("trial") or {}).get("imports_ms") or {}

    @property
    def cold_start_ms(self) -> float | None:
        """A function's start with all of these imports, in milliseconds."""
        return (self.told.get("trial") or {}).get("cold_start_ms")

    @property
    def not_tried(self) -> str | None:
        """Why it was not imported in a function; None if it was, or if nothing is known."""
        trial = self.told.get("trial") or {}
        return trial.get("reason") if trial.get("result") == "not_run" else None

    @property
    def warnings(self) -> list[str]:
        """What is to be known of it."""
        return [str(one) for one in self.told.get("warnings", ())]

    @property
    def problem(self) -> Problem | None:
        """Why there is no version."""
        return _problem(self.told.get("error"))


@dataclass(frozen=True)
class Manifest:
    """The state of one upload."""

    told: Mapping[str, Any]

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """Read a manifest; what is none is None: users may write in its place."""
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return None
        match document:
            case {
                "schema": str(),
                "status": str(),
                "input": {"key": str(), "version_id": str()},
                "layers": list(),
            }:
                return cls(document) if all(map(_is_layer, document["layers"])) else None
        return None

    @property
    def status(self) -> str:
        """BUILDING, SUCCEEDED or FAILED."""
        return str(self.told["status"])

    @property
    def ended(self) -> bool:
        """Whether it is the answer."""
        return self.status != BUILDING

    @property
    def key(self) -> str:
        """The input's."""
        return str(self.told["input"]["key"])

    @property
    def version_id(self) -> str:
        """The input's version in the bucket."""
        return str(self.told["input"]["version_id"])

    @property
    def execution(self) -> str | None:
        """The execution's ARN; None if none could be started."""
        return (self.told.get("execution") or {}).get("arn")

    @property
    def seconds(self) -> float | None:
        """How long the execution took."""
        execution = self.told.get("execution") or {}
        if not (execution.get("started") and execution.get("finished")):
            return None
        began, ended = (datetime.fromisoformat(execution[name]) for name in ("started", "finished"))
        return (ended - began).total_seconds()

    @property
    def finished(self) -> str | None:
        """When it ended, in UTC."""
        return (self.told.get("execution") or {}).get("finished")

    @property
    def layers(self) -> list[Layer]:
        """One a target."""
        return [Layer(layer) for layer in self.told["layers"]]

    def layer(self, name: str) -> Layer | None:
        """That of a name."""
        return next((layer for layer in self.layers if layer.name == name), None)

    @property
    def problem(self) -> Problem | None:
        """Why it failed."""
        return _problem(self.told.get("error"))

    @property
    def problems(self) -> list[Problem]:
        """All that failed: the build as a whole, or target by target."""
        each = [layer.problem for layer in self.layers if layer.problem]
        if not each and self.status == FAILED:
            told = self.problem or Problem(
                UNTOLD, "The manifest does not say what went wrong.", "Upload again."
            )
            return [told]
        return each


def _is_layer(entry: Any) -> bool:
    """Whether it has what is read of it, in the types of the schema."""
    match entry:
        case {"layer_name": str(), "packages": list() as packages}:
            named = all(isinstance(one, dict) and {"name", "version"} <= one.keys() for one in packages)
            parts = (entry.get("zip"), entry.get("trial"), entry.get("error"))
            return named and all(part is None or isinstance(part, dict) for part in parts)
    return False


def _problem(error: Any) -> Problem | None:
    match error:
        case {"code": str() as code, "message": str() as message}:
            details = error.get("details")
            return Problem(
                code,
                message,
                error.get("hint") or "",
                details if isinstance(details, dict) else {},
                error.get("log"),
            )
    return None
