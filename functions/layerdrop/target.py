"""A target: one runtime on one architecture, and the job that builds its layer.

What is here travels through the state machine, and so do the classes of `build_input.py` and
`manifest.PublishedVersion`. An execution goes on with the definition that it began with, while the functions
may be updated meanwhile, forwards or, when a deployment fails, backwards. So, of all of them:

- a field keeps its name and its meaning, and is written for as long as some definition may read it;
- a field that is new is read with a default, one that is safe for builds that do not have it;
- a field that is not known is passed over, and one that no function needs is not asked for.

`tests/unit/functions/states/` has states as versions wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

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


MAX_UNZIPPED_BYTES: Final = 262_144_000
"""What a function may have with all its layers (AWS Lambda Developer Guide, "Lambda quotas")."""

REBUILD_FIXED: Final = "fixed"
"""The setting rebuild that has a layer built again when a version mends what the watch found in it."""

LAYERS: Final = "layers/"
"""The shelf that all builds take finished layers from."""


@dataclass(frozen=True)
class Job:
    """A Batch job to submit: its name, the ARNs of queue and definition, and the builder's arguments.

    `attempts` is how many there were, once it has succeeded.
    """

    name: str
    queue: str
    definition: str
    command: tuple[str, ...]
    attempts: int | None = None


@dataclass(frozen=True)
class Target:
    """One layer to build, as it travels through the state machine.

    Attributes:
        staging: The key's prefix that the job may write below, which nobody else can guess; it ends in `/`.
        from_source: Whether code of packages may run in the job before its zip is made.
        alongside: The ARNs of other layers' versions that a function is to have beside this one.
        exclude: Packages that the layer leaves out, because a function has them from elsewhere.
        is_tried: Whether the layer is tried in a function before it is released.
        bundles: Whether libraries that a trial finds missing may be added to the layer.
        round: How often it was built again because of such libraries.
        lock: The id that the build's lock is to be kept under; empty for none.
        resolves: Whether ResolveLayer is asked before there is a job.
        choice: How ResolveLayer calls the wheels that it chose, for this job definition; empty for none.
        is_known: Whether ResolveLayer has found the layer, so that there is no job.
        rebuild: `fixed`, or empty for a layer that is built only when its file is uploaded.
        vulnerability_ignore: Which findings are none for this layer and why, each as `ID: reason`.
    """

    id: str
    architecture: Architecture
    runtime: Runtime
    layer_name: str
    description: str | None
    license: str | None
    share_with: tuple[str, ...]
    job: Job
    staging: str
    from_source: bool = False
    alongside: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    is_tried: bool = False
    bundles: bool = False
    round: int = 0
    lock: str = ""
    resolves: bool = False
    choice: str = ""
    is_known: bool = False
    rebuild: str = ""
    vulnerability_ignore: tuple[str, ...] = ()

    @property
    def execution(self) -> str:
        """The name of the execution that it belongs to."""
        return self.staging.split("/")[1]

    @property
    def own_shelf(self) -> str:
        """Where layers of this very name lie, which no other file's build takes anything from."""
        return f"{LAYERS}{self.layer_name}/"

    @property
    def shelf(self) -> str:
        """Where this layer is looked for, and kept.

        A digest is found out by the job. Where code of packages ran before, it says nothing to others.
        """
        return self.own_shelf if self.from_source else LAYERS

    @property
    def attempts(self) -> int:
        """How many attempts there were that may have left something; what ResolveLayer leaves is one's."""
        return 1 if self.is_known else self.job.attempts or 0

    def staged(self, name: str, attempt: int) -> str:
        """The key of what an attempt of the job left."""
        return f"{self.staging}{attempt}/{name}"

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
            "staging": self.staging,
            "from_source": self.from_source,
            "alongside": list(self.alongside),
            "exclude": list(self.exclude),
            "is_tried": self.is_tried,
            "bundles": self.bundles,
            "round": self.round,
            "lock": self.lock,
            "resolves": self.resolves,
            "choice": self.choice,
            "is_known": self.is_known,
            "rebuild": self.rebuild,
            "vulnerability_ignore": list(self.vulnerability_ignore),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote, in this version or another, and what the state machine added.

        That is how the job ended; how it was to be submitted matters no more. A KeyError means that the state
        machine was edited.
        """
        job = document["job"]
        return cls(
            id=document["id"],
            architecture=document["architecture"],
            runtime=document["runtime"],
            layer_name=document["layer_name"],
            description=document["description"],
            license=document["license"],
            share_with=tuple(document["share_with"]),
            job=Job(
                job.get("name", ""),
                job.get("queue", ""),
                job.get("definition", ""),
                tuple(job.get("command", ())),
                attempts_of(job["ended"]) if "ended" in job else None,
            ),
            staging=document["staging"],
            from_source=document["from_source"],
            # Not in what was planned before there was such a setting.
            alongside=tuple(document.get("alongside", ())),
            exclude=tuple(document.get("exclude", ())),
            is_tried=document.get("is_tried", False),
            bundles=document.get("bundles", False),
            round=document.get("round", 0),
            lock=document.get("lock", ""),
            resolves=document.get("resolves", False),
            choice=document.get("choice", ""),
            is_known=document.get("is_known", False),
            rebuild=document.get("rebuild", ""),
            vulnerability_ignore=tuple(document.get("vulnerability_ignore", ())),
        )


def attempts_of(job: Mapping[str, Any]) -> int:
    """How many attempts Batch made, from its description of a job that has ended."""
    attempts = job.get("Attempts")
    return len(attempts) if isinstance(attempts, list) else 0
