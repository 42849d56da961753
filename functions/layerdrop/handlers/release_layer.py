"""ReleaseLayer: a version that passed -> shared and pointed to; one that did not -> gone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop.aws import lambda_client, patient, s3_client, ssm_client
from layerdrop.build_input import BuildInput
from layerdrop.candidates import Candidates
from layerdrop.catalogue.releases import Releases
from layerdrop.claims import ClaimStore
from layerdrop.environment import ReleaseLayerEnvironment
from layerdrop.input_versions import InputVersions
from layerdrop.layer_users import LayerUsers
from layerdrop.layer_versions import LayerVersions
from layerdrop.locks import Locks
from layerdrop.manifest import PublishedVersion
from layerdrop.releasing import LayerReleaser
from layerdrop.target import Target
from layerdrop.telemetry import failures_logged, logger, metrics, name_work, tracer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = ReleaseLayerEnvironment.read(os.environ)
S3 = s3_client()
VERSIONS = InputVersions(S3)
CLAIMS = ClaimStore(S3, ENVIRONMENT.bucket)
LOCKS = Locks(S3, ENVIRONMENT.bucket)
LAYERS = LayerVersions(lambda_client(), ssm_client())
RELEASER = LayerReleaser(
    LAYERS,
    Candidates(S3, ENVIRONMENT.bucket, LAYERS),
    LayerUsers(LAYERS.lambda_client),
    Releases(S3, ENVIRONMENT.bucket),
    ENVIRONMENT.keep_versions,
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
@failures_logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Release a version, or with `discard` take back what the execution published and did not release.

    Raises:
        BuildError: a newer upload is there, the name is another file's, or Lambda does not take the grants.
        TryLaterError: another build of the layer is at it, or AWS is busy.
    """
    build_input = BuildInput.from_json(event["input"])
    target = Target.from_json(event["target"])
    name_work(target.execution, target=target.id, layer=target.layer_name)
    seconds_left = context.get_remaining_time_in_millis() / 1000
    holder = context.aws_request_id
    with patient(), CLAIMS.held(target.layer_name, build_input.key, holder, seconds_left):
        if event.get("discard"):
            RELEASER.discard(target, target.execution)
            logger.info("What was not released is gone")
            return {}
        published = PublishedVersion.from_json(event["published"])
        # Asked with the name in hand: whoever uploads from now on releases after this.
        VERSIONS.require_newest(build_input)
        RELEASER.release(target, published.layer_version_arn, target.execution)
        LOCKS.keep(target)
    logger.info("Layer released", arn=published.layer_version_arn)
    metrics.add_metric("LayersReleased", MetricUnit.Count, 1)
    return {}
