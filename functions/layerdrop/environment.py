"""The functions' environment variables, as the template sets them; each handler reads its own once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from layerdrop.failure import LogGroups
from layerdrop.plan import Workshop
from layerdrop.target import ARCHITECTURES, RUNTIMES, Architecture, Runtime

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class StartBuildEnvironment:
    """What StartBuild is told: the ARN of the state machine."""

    state_machine_arn: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises KeyError when a variable is missing."""
        return cls(environ["STATE_MACHINE_ARN"])


@dataclass(frozen=True)
class PlanBuildEnvironment:
    """What PlanBuild is told: the bucket with the claims, where each architecture is built, and the runtime
    that needs no naming. A definition for builds from source is empty where these are forbidden.
    `try_layers` is whether layers are tried in a function, `resolve_layers` whether a function resolves them
    before there is a job.
    """

    bucket: str
    default_runtime: Runtime
    workshops: Mapping[Architecture, Workshop]
    try_layers: bool
    resolve_layers: bool

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises KeyError when a variable is missing, ValueError when the runtime is unknown."""
        return cls(
            environ["BUCKET_NAME"],
            _runtime(environ["DEFAULT_RUNTIME"]),
            {
                architecture: Workshop(
                    queue=environ[f"{architecture.upper()}_QUEUE_ARN"],
                    definition=environ[f"{architecture.upper()}_JOB_DEFINITION_ARN"],
                    source_definition=environ[f"{architecture.upper()}_SOURCE_JOB_DEFINITION_ARN"] or None,
                )
                for architecture in ARCHITECTURES
            },
            environ["TRY_LAYERS"] == "ENABLED",
            environ["RESOLVE_LAYERS"] == "ENABLED",
        )


@dataclass(frozen=True)
class PublishLayerEnvironment:
    """What PublishLayer is told: the only bucket it takes zips from."""

    bucket: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises KeyError when a variable is missing."""
        return cls(environ["BUCKET_NAME"])


@dataclass(frozen=True)
class TryLayerEnvironment:
    """What TryLayer is told: the bucket with the reports, the role that functions get which try a layer, what
    their names begin with, and for how many seconds they may be on their way to being active.
    """

    bucket: str
    role_arn: str
    prefix: str
    pending_seconds: int

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises KeyError when a variable is missing, ValueError when a number is none."""
        return cls(
            environ["BUCKET_NAME"],
            environ["TRIAL_ROLE_ARN"],
            environ["TRIAL_PREFIX"],
            int(environ["PENDING_SECONDS"]),
        )


@dataclass(frozen=True)
class ReleaseLayerEnvironment:
    """What ReleaseLayer is told: the bucket with the claims, and how many versions to keep, 0 for all."""

    bucket: str
    keep_versions: int

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises KeyError when a variable is missing, ValueError when a number is none."""
        return cls(environ["BUCKET_NAME"], int(environ["KEEP_VERSIONS"]))


@dataclass(frozen=True)
class UpdateCatalogueEnvironment:
    """What UpdateCatalogue is told: the bucket with the catalogue, and whose layers are in it: the stack's,
    in this region and account.
    """

    bucket: str
    stack: str
    region: str
    account: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises KeyError when a variable is missing; Lambda sets the region's."""
        return cls(
            environ["BUCKET_NAME"], environ["STACK_NAME"], environ["AWS_REGION"], environ["ACCOUNT_ID"]
        )


@dataclass(frozen=True)
class WatchLayersEnvironment:
    """What WatchLayers is told: the bucket, whose layers these are, the runtime that needs no naming, whom it
    asks (a database's address, empty for nobody), which function resolves (empty for none), what builds.
    """

    bucket: str
    stack: str
    region: str
    account: str
    default_runtime: Runtime
    vulnerability_database: str
    resolve_layer: str
    state_machine_arn: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises KeyError when a variable is missing, ValueError when the runtime is unknown."""
        return cls(
            environ["BUCKET_NAME"],
            environ["STACK_NAME"],
            environ["AWS_REGION"],
            environ["ACCOUNT_ID"],
            _runtime(environ["DEFAULT_RUNTIME"]),
            environ["VULNERABILITY_DATABASE"],
            environ["RESOLVE_LAYER"],
            environ["STATE_MACHINE_ARN"],
        )


@dataclass(frozen=True)
class WriteManifestEnvironment:
    """What WriteManifest is told: the bucket with the reports, the state machine, the parts' logs."""

    bucket: str
    state_machine_arn: str
    logs: LogGroups

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises KeyError when a variable is missing."""
        return cls(
            environ["BUCKET_NAME"],
            environ["STATE_MACHINE_ARN"],
            LogGroups(
                start=environ["START_LOG_GROUP"],
                plan=environ["PLAN_LOG_GROUP"],
                build=environ["BUILD_LOG_GROUP"],
                publish=environ["PUBLISH_LOG_GROUP"],
                trial=environ["TRY_LOG_GROUP"],
                release=environ["RELEASE_LOG_GROUP"],
                write=environ["AWS_LAMBDA_LOG_GROUP_NAME"],
            ),
        )


def _runtime(name: str) -> Runtime:
    for runtime in RUNTIMES:
        if runtime == name:
            return runtime
    raise ValueError(f"DEFAULT_RUNTIME is {name!r}, which is none of {RUNTIMES}")
