"""A target: one runtime on one architecture, and the job that builds its layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

Architecture = Literal["arm64", "x86_64"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)

# Those that Lambda still takes new functions for; the builder knows the platform tags of each.
Runtime = Literal["python3.11", "python3.12", "python3.13", "python3.14"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)


def target_id(runtime: Runtime, architecture: Architecture) -> str:
    """The short name of a target, `py313-arm64`."""
    return f"py{runtime.removeprefix('python').replace('.', '')}-{architecture}"


@dataclass(frozen=True)
class Job:
    """A Batch job to submit: its name, the ARNs of queue and definition, and the builder's arguments."""

    name: str
    queue: str
    definition: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """One layer to build, as it travels through the state machine."""

    id: str
    architecture: Architecture
    runtime: Runtime
    layer_name: str
    description: str | None
    license: str | None
    share_with: tuple[str, ...]
    job: Job
    report_key: str

    def to_json(self) -> dict[str, Any]:
        """The target as the state machine carries it."""
        return {
            "id": self.id,
            "architecture": self.architecture,
            "runtime": self.runtime,
            "layer_name": self.layer_name,
            "description": self.description,
            "license": self.license,
            "share_with": list(self.share_with),
            "job": {
                "name": self.job.name,
                "queue": self.job.queue,
                "definition": self.job.definition,
                "command": list(self.job.command),
            },
            "report_key": self.report_key,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote; a KeyError means that the state machine was edited."""
        job = document["job"]
        return cls(
            id=document["id"],
            architecture=document["architecture"],
            runtime=document["runtime"],
            layer_name=document["layer_name"],
            description=document["description"],
            license=document["license"],
            share_with=tuple(document["share_with"]),
            job=Job(job["name"], job["queue"], job["definition"], tuple(job["command"])),
            report_key=document["report_key"],
        )
