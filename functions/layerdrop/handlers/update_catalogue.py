"""UpdateCatalogue: builds that ended, or an hour that has passed -> index and page."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop.aws import s3_client, ssm_client
from layerdrop.catalogue.index import Place
from layerdrop.catalogue.releases import is_layer_name
from layerdrop.catalogue.store import Catalogue
from layerdrop.end_event import DETAIL_TYPE
from layerdrop.environment import UpdateCatalogueEnvironment
from layerdrop.telemetry import failures_logged, logger, metrics, tracer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext

ENVIRONMENT = UpdateCatalogueEnvironment.read(os.environ)
# The index of thousands of layers comes and goes in one call.
CATALOGUE = Catalogue(
    s3_client(read_timeout=60),
    ssm_client(),
    ENVIRONMENT.bucket,
    Place(ENVIRONMENT.stack, ENVIRONMENT.region, ENVIRONMENT.account),
)

_SCHEDULED = "Scheduled Event"
_FOR_WRITING_SECONDS = 60.0
"""Kept of the function's time for what comes after reading."""


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
@failures_logged
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Look at the layers that messages of the queue name, or hourly at all.

    What an event says of a layer is not believed, but for its name.

    Raises:
        CatalogueBusyError: others kept writing; the messages come again.
        ValueError: it is neither.
    """
    names = _names(event)
    seconds = context.get_remaining_time_in_millis() / 1000
    index = CATALOGUE.update(names, time.monotonic() + max(seconds - _FOR_WRITING_SECONDS, seconds / 2))
    looked = "all" if names is None else len(names)
    logger.info("Catalogue is up to date", layers=len(index["layers"]), looked_at=looked)
    metrics.add_metric("CatalogueUpdates", MetricUnit.Count, 1)
    return {"layers": len(index["layers"])}


def _names(event: Mapping[str, Any]) -> list[str] | None:
    """The layers to look at, None for all."""
    if event.get("detail-type") == _SCHEDULED:
        return None
    if "Records" not in event:
        raise ValueError(f"neither messages of a queue nor a {_SCHEDULED}: {list(event)}")
    return sorted({name for record in event["Records"] for name in _told(record)})


def _told(record: Mapping[str, Any]) -> set[str]:
    """The names of layers in a message; whoever may send events may send anything."""
    try:
        event = json.loads(record["body"])
        listed = event["detail"]["layers"] if event["detail-type"] == DETAIL_TYPE else []
        return {layer["layer_name"] for layer in listed if is_layer_name(layer["layer_name"])}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        logger.warning("A message tells of no layer", reason=type(error).__name__)
        return set()
