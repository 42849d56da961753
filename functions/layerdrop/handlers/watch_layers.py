"""WatchLayers: once an hour, what is due -> findings, events, rebuilds, and the catalogue with them."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools.metrics import MetricUnit

from layerdrop.aws import events_client, invoking_client, s3_client, ssm_client, step_functions_client
from layerdrop.bus import Bus
from layerdrop.catalogue.index import Place
from layerdrop.catalogue.looking import Layers
from layerdrop.catalogue.releases import Releases
from layerdrop.catalogue.store import Catalogue, CatalogueBusyError
from layerdrop.environment import WatchLayersEnvironment
from layerdrop.fixes import Fixes
from layerdrop.telemetry import failures_logged, logger, metrics, tracer
from layerdrop.watch.inquiry import Inquiry
from layerdrop.watch.looking import LOOK_SECONDS, Resolver
from layerdrop.watch.mending import Builds
from layerdrop.watch.osv import Database, base_of, connections
from layerdrop.watch.outlooks import Outlooks
from layerdrop.watch.state import Store
from layerdrop.watch.telling import DETAIL_TYPE
from layerdrop.watch.uploads import Uploads
from layerdrop.watch.watching import gone, pointed_to, read, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from layerdrop.watch.schedule import Counts

ENVIRONMENT = WatchLayersEnvironment.read(os.environ)
# What is known of thousands of layers comes and goes in one call.
S3 = s3_client(read_timeout=60)
SSM = ssm_client()
CATALOGUE = Catalogue(
    S3,
    SSM,
    ENVIRONMENT.bucket,
    Place(ENVIRONMENT.stack, ENVIRONMENT.region, ENVIRONMENT.account),
)
LAYERS = Layers(S3, SSM, ENVIRONMENT.bucket)
RELEASES = Releases(S3, ENVIRONMENT.bucket)
STORE = Store(S3, ENVIRONMENT.bucket)
UPLOADS = Uploads(S3, ENVIRONMENT.bucket, ENVIRONMENT.default_runtime)
FIXES = Fixes(S3, ENVIRONMENT.bucket)
BUS = Bus(events_client(), DETAIL_TYPE)
BUILDS = Builds(step_functions_client(), ENVIRONMENT.state_machine_arn)
ADDRESS = base_of(ENVIRONMENT.vulnerability_database) if ENVIRONMENT.vulnerability_database else ""
HTTP = connections()
RESOLVING = invoking_client(LOOK_SECONDS)

_FOR_WRITING_SECONDS: Final = 180.0
"""Kept of the function's time for what comes after asking and looking."""


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
@metrics.log_metrics
@failures_logged
def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Do what is due, whoever calls; what there is no time for is done an hour later.

    Raises:
        RuntimeError: others kept writing what only this function writes.
    """
    seconds = context.get_remaining_time_in_millis() / 1000
    until = time.monotonic() + max(seconds - _FOR_WRITING_SECONDS, seconds * 0.8)
    counts = _watch(lambda: until - time.monotonic())
    try:
        CATALOGUE.update((), until)
    except CatalogueBusyError as error:
        # The catalogue's own sweep comes to it.
        logger.warning("The catalogue does not show yet what was found", reason=str(error))
    logger.info("Watched", **asdict(counts))
    for name, number in (
        ("LayersAsked", counts.asked),
        ("LayersLooked", counts.looked),
        ("LayersLeft", counts.left),
        ("NewFindings", counts.new_findings),
        ("RebuildsBegun", counts.rebuilds),
        ("WatchFailures", counts.failures),
    ):
        metrics.add_metric(name, MetricUnit.Count, number)
    return asdict(counts)


def _watch(seconds_left: Callable[[], float]) -> Counts:
    # Of thousands of layers the index is large: only names and versions are kept of it.
    pointed = pointed_to(CATALOGUE.read() or CATALOGUE.update(None, time.monotonic() + seconds_left() / 2))
    releases = partial(read, RELEASES)
    database = Database(ADDRESS, HTTP, seconds_left) if ADDRESS else None
    inquiry = outlooks = None
    if database:
        inquiry = Inquiry(
            STORE, releases, partial(gone, LAYERS), database, BUS, ENVIRONMENT.stack, _now, seconds_left
        )
    if ENVIRONMENT.resolve_layer:
        resolver = Resolver(RESOLVING, ENVIRONMENT.resolve_layer, seconds_left)
        outlooks = Outlooks(STORE, releases, resolver, UPLOADS, FIXES, BUILDS, database, _now, seconds_left)
    return watch(pointed, STORE, inquiry, outlooks)


def _now() -> datetime:
    return datetime.now(UTC)
