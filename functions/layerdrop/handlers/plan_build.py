"""PlanBuild: path and settings block -> targets."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop import input_key, settings
from layerdrop.alongside import Neighbors
from layerdrop.aws import lambda_client, patient, s3_client
from layerdrop.build_input import BuildInput, Execution
from layerdrop.claims import ClaimStore
from layerdrop.environment import PlanBuildEnvironment
from layerdrop.fixes import Fixes
from layerdrop.input_versions import InputVersions
from layerdrop.locks import Locks, lock_id
from layerdrop.manifest import building
from layerdrop.manifest_store import ManifestStore
from layerdrop.objects import RequirementsReader
from layerdrop.options_file import OptionsFiles
from layerdrop.plan import plan
from layerdrop.telemetry import failures_logged, logger, metrics, name_work, tracer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = PlanBuildEnvironment.read(os.environ)
S3 = s3_client()
VERSIONS = InputVersions(S3)
MANIFESTS = ManifestStore(S3, VERSIONS)
REQUIREMENTS = RequirementsReader(S3)
CLAIMS = ClaimStore(S3, ENVIRONMENT.bucket)
OPTIONS = OptionsFiles(S3, ENVIRONMENT.bucket)
LOCKS = Locks(S3, ENVIRONMENT.bucket)
NEIGHBORS = Neighbors(lambda_client(), S3)
FIXES = Fixes(S3, ENVIRONMENT.bucket)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
@failures_logged
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Say BUILDING, read the file, claim the layers' names, and return what to build.

    Raises:
        BuildError: a newer upload is there, or the path, the file or its settings are at fault.
        TryLaterError: another layer that the settings name could not be looked at.
    """
    build_input = BuildInput.from_json(event["input"])
    execution = Execution.from_json(event["execution"])
    name_work(execution.name, key=build_input.key)

    # First of all, so that even a wrong path is answered.
    MANIFESTS.put(building(build_input, execution))
    metrics.add_metric("BuildsBegun", MetricUnit.Count, 1)
    VERSIONS.require_newest(build_input)

    key = input_key.parse(build_input.key)
    text = REQUIREMENTS.read(build_input, is_lock=key.is_lock)
    wanted = settings.parse(text)
    with patient():
        room = NEIGHBORS.room(wanted.alongside)
    targets = plan(
        build_input,
        execution,
        key,
        wanted,
        ENVIRONMENT.default_runtime,
        ENVIRONMENT.workshops,
        room,
        try_layers=ENVIRONMENT.try_layers,
        resolve_layers=ENVIRONMENT.resolve_layers,
        fixes=FIXES.find(build_input.key, build_input.etag) if wanted.rebuild else (),
    )
    if not wanted.refresh and not key.is_lock:
        # What is uploaded as a lock is one that never changes.
        targets = tuple(replace(one, lock=lock_id(build_input.key, text, one.id)) for one in targets)
    CLAIMS.claim([target.layer_name for target in targets], build_input.key)
    logger.info("Build planned", targets=[target.id for target in targets])
    metrics.add_metric("LayersPlanned", MetricUnit.Count, len(targets))
    return {
        "input": build_input.to_json(),
        "execution": execution.to_json(),
        "manifest_key": input_key.manifest_key(build_input.key),
        "targets": [
            OPTIONS.put(LOCKS.lend(target, execution.name), execution.name).to_json() for target in targets
        ],
    }
