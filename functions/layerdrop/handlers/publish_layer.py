"""PublishLayer: a proved zip -> kept for all builds, and a layer version that nobody is pointed to yet."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop.alongside import Neighbors
from layerdrop.aws import lambda_client, patient, publishing_client, s3_client, ssm_client
from layerdrop.build_input import BuildInput
from layerdrop.candidates import Candidates
from layerdrop.claims import ClaimStore
from layerdrop.environment import PublishLayerEnvironment
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.input_versions import InputVersions
from layerdrop.layer_versions import LayerVersions
from layerdrop.locks import Locks
from layerdrop.objects import ReportReader
from layerdrop.publishing import LayerPublisher
from layerdrop.shelves import Shelves
from layerdrop.target import Target
from layerdrop.telemetry import failures_logged, logger, metrics, name_work, tracer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = PublishLayerEnvironment.read(os.environ)
# A zip is copied within one call.
S3 = s3_client(read_timeout=60)
VERSIONS = InputVersions(S3)
REPORTS = ReportReader(S3, ENVIRONMENT.bucket)
CLAIMS = ClaimStore(S3, ENVIRONMENT.bucket)
SHELVES = Shelves(S3, ENVIRONMENT.bucket)
NEIGHBORS = Neighbors(lambda_client(), S3)
LOCKS = Locks(S3, ENVIRONMENT.bucket)
LAYERS = LayerVersions(lambda_client(), ssm_client())
PUBLISHER = LayerPublisher(
    LAYERS, publishing_client(), Candidates(S3, ENVIRONMENT.bucket, LAYERS), ENVIRONMENT.bucket
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
@failures_logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Keep the layer that the target's report describes, and publish it, or find the version that it is.

    Raises:
        BuildError: report, zip, target and state machine do not fit each other, a newer upload is there, the
            name is another file's, or Lambda does not take the layer.
        TryLaterError: the layer is being published already, or AWS is busy.
    """
    if "released_by" not in event:
        # The definition that this execution began with ends here: nobody would be pointed to the version.
        raise BuildError(
            ErrorCode.STACK_UPDATED,
            "The stack was updated while this layer was being built.",
            "Upload the file again.",
        )
    build_input = BuildInput.from_json(event["input"])
    target = Target.from_json(event["target"])
    name_work(target.execution, target=target.id, layer=target.layer_name)
    metrics.add_metric("LayersKnown" if target.is_known else "LayersBuilt", MetricUnit.Count, 1)
    report, attempt = REPORTS.read(target, target.attempts)
    layer = report.layer_for(target, ENVIRONMENT.bucket)
    seconds_left = context.get_remaining_time_in_millis() / 1000
    holder = context.aws_request_id
    with patient(), CLAIMS.held(target.layer_name, build_input.key, holder, seconds_left):
        # Asked with the name in hand: whoever uploads from now on publishes after this.
        VERSIONS.require_newest(build_input)
        kept = SHELVES.keep(target, attempt, layer)
        SHELVES.note(target, layer, kept)
        LOCKS.stage(target, attempt)
        shared = NEIGHBORS.shared_paths(target.alongside, ENVIRONMENT.bucket, kept.key, layer.zip.bytes)
        published = PUBLISHER.publish(target, layer, kept, target.execution)
        published = replace(published, alongside=shared)
    logger.info("Layer reused" if published.reused else "Layer published", arn=published.layer_version_arn)
    metrics.add_metric("LayersReused" if published.reused else "LayersPublished", MetricUnit.Count, 1)
    return published.to_json()
