"""The functions' environment variables, as the template sets them; each handler reads its own once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Self

from layerdrop.failure import LogGroups
from layerdrop.plan import Workshop
from layerdrop.target import ARCHITECTURES, RUNTIMES, Architecture, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_READ: Final = "read"


def _read_by(read: Callable[[Mapping[str, str]], object]) -> dict[str, Any]:
    """The metadata of a field that is read from several variables."""
    return {_READ: read}


def _variable(name: str, read: Callable[[str], object] = str) -> dict[str, Any]:
    """The metadata of a field that is read from one variable."""
    return _read_by(lambda environ: read(environ[name]))


@dataclass(frozen=True)
class _Environment:
    """What a function is told: each field says by which variable."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read all fields; Lambda itself sets the region's variable and that of the function's log group.

        Raises:
            KeyError: a variable is missing.
            ValueError: a number is none, or the runtime is unknown.
        """
        return cls(**{one.name: one.metadata[_READ](environ) for one in fields(cls)})


def _runtime(name: str) -> Runtime:
    for runtime in RUNTIMES:
        if runtime == name:
            return runtime
    raise ValueError(f"DEFAULT_RUNTIME is {name!r}, which is none of {RUNTIMES}")


def _is_enabled(text: str) -> bool:
    return text == "ENABLED"


def _workshops(environ: Mapping[str, str]) -> Mapping[Architecture, Workshop]:
    """A definition for builds from source is empty where these are forbidden."""
    return {
        architecture: Workshop(
            queue=environ[f"{architecture.upper()}_QUEUE_ARN"],
            definition=environ[f"{architecture.upper()}_JOB_DEFINITION_ARN"],
            source_definition=environ[f"{architecture.upper()}_SOURCE_JOB_DEFINITION_ARN"] or None,
        )
        for architecture in ARCHITECTURES
    }


def _log_groups(environ: Mapping[str, str]) -> LogGroups:
    return LogGroups(
        start=environ["START_LOG_GROUP"],
        plan=environ["PLAN_LOG_GROUP"],
        build=environ["BUILD_LOG_GROUP"],
        publish=environ["PUBLISH_LOG_GROUP"],
        trial=environ["TRY_LOG_GROUP"],
        release=environ["RELEASE_LOG_GROUP"],
        write=environ["AWS_LAMBDA_LOG_GROUP_NAME"],
    )


@dataclass(frozen=True)
class StartBuildEnvironment(_Environment):
    """What StartBuild is told: the ARN of the state machine."""

    state_machine_arn: str = field(metadata=_variable("STATE_MACHINE_ARN"))


@dataclass(frozen=True)
class PlanBuildEnvironment(_Environment):
    """What PlanBuild is told: the bucket with the claims, the runtime that needs no naming, and where each
    architecture is built. `try_layers` is whether layers are tried in a function, `resolve_layers` whether a
    function resolves them before there is a job.
    """

    bucket: str = field(metadata=_variable("BUCKET_NAME"))
    default_runtime: Runtime = field(metadata=_variable("DEFAULT_RUNTIME", _runtime))
    workshops: Mapping[Architecture, Workshop] = field(metadata=_read_by(_workshops))
    try_layers: bool = field(metadata=_variable("TRY_LAYERS", _is_enabled))
    resolve_layers: bool = field(metadata=_variable("RESOLVE_LAYERS", _is_enabled))


@dataclass(frozen=True)
class PublishLayerEnvironment(_Environment):
    """What PublishLayer is told: the only bucket it takes zips from."""

    bucket: str = field(metadata=_variable("BUCKET_NAME"))


@dataclass(frozen=True)
class TryLayerEnvironment(_Environment):
    """What TryLayer is told: the bucket with the reports, the role that functions get which try a layer, what
    their names begin with, and for how many seconds they may be on their way to being active.
    """

    bucket: str = field(metadata=_variable("BUCKET_NAME"))
    role_arn: str = field(metadata=_variable("TRIAL_ROLE_ARN"))
    prefix: str = field(metadata=_variable("TRIAL_PREFIX"))
    pending_seconds: int = field(metadata=_variable("PENDING_SECONDS", int))


@dataclass(frozen=True)
class ReleaseLayerEnvironment(_Environment):
    """What ReleaseLayer is told: the bucket with the claims, and how many versions to keep, 0 for all."""

    bucket: str = field(metadata=_variable("BUCKET_NAME"))
    keep_versions: int = field(metadata=_variable("KEEP_VERSIONS", int))


@dataclass(frozen=True)
class UpdateCatalogueEnvironment(_Environment):
    """What UpdateCatalogue is told: the bucket with the catalogue, and whose layers are in it: the stack's,
    in this region and account.
    """

    bucket: str = field(metadata=_variable("BUCKET_NAME"))
    stack: str = field(metadata=_variable("STACK_NAME"))
    region: str = field(metadata=_variable("AWS_REGION"))
    account: str = field(metadata=_variable("ACCOUNT_ID"))


@dataclass(frozen=True)
class WatchLayersEnvironment(UpdateCatalogueEnvironment):
    """What WatchLayers is told: the same, the runtime that needs no naming, whom it asks (a database's
    address, empty for nobody), which function resolves (empty for none), what builds.
    """

    default_runtime: Runtime = field(metadata=_variable("DEFAULT_RUNTIME", _runtime))
    vulnerability_database: str = field(metadata=_variable("VULNERABILITY_DATABASE"))
    resolve_layer: str = field(metadata=_variable("RESOLVE_LAYER"))
    state_machine_arn: str = field(metadata=_variable("STATE_MACHINE_ARN"))


@dataclass(frozen=True)
class WriteManifestEnvironment(_Environment):
    """What WriteManifest is told: the bucket with the reports, the state machine, the parts' logs."""

    bucket: str = field(metadata=_variable("BUCKET_NAME"))
    state_machine_arn: str = field(metadata=_variable("STATE_MACHINE_ARN"))
    logs: LogGroups = field(metadata=_read_by(_log_groups))
