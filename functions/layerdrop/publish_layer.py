"""PublishLayer: a proved zip -> a layer version, shared and pointed to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop.aws import lambda_client, s3_client, ssm_client
from layerdrop.environment import PublishLayerEnvironment
from layerdrop.objects import ReportReader
from layerdrop.publishing import LayerPublisher
from layerdrop.target import Target
from layerdrop.telemetry import logger, metrics, tracer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = PublishLayerEnvironment.read(os.environ)
REPORTS = ReportReader(s3_client(), ENVIRONMENT.bucket)
PUBLISHER = LayerPublisher(lambda_client(), ssm_client())


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Publish the layer that the target's report describes, or find the version that it already is.

    Raises:
        BuildError: the report does not fit the target, or Lambda does not take the layer.
    """
    target = Target.from_json(event["target"])
    logger.append_keys(execution=target.report_key.split("/")[1], target=target.id, layer=target.layer_name)
    metrics.add_metric("LayersBuilt", MetricUnit.Count, 1)
    layer = REPORTS.read(target).layer_for(target, ENVIRONMENT.bucket)
    published = PUBLISHER.publish(target, layer)
    logger.info("Layer reused" if published.reused else "Layer published", arn=published.layer_version_arn)
    metrics.add_metric("LayersReused" if published.reused else "LayersPublished", MetricUnit.Count, 1)
    return published.to_json()
