"""The Batch jobs behind an answer: when they were queued, started and ended, on what, with which image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3


@dataclass(frozen=True)
class Job:
    """The job of one target.

    Attributes:
        created, started, stopped: In seconds since the epoch; None for what did not happen.
        attempts: How often it was started.
        image: URI of its image; empty where Batch does not tell, as on the embedded AWS.
        capacity: ``FARGATE`` or ``FARGATE_SPOT``.
        reason: Batch's words for its end.
    """

    created: float
    started: float | None
    stopped: float | None
    attempts: int
    image: str
    capacity: str
    reason: str


def job_of(session: boto3.Session, manifest: Mapping[str, Any]) -> Job | None:
    """Return the job that a manifest's execution submitted last; None if it needed none.

    Raises:
        ClientError: Step Functions or Batch refuses to tell.
    """
    execution = (manifest.get("execution") or {}).get("arn")
    if not execution:
        return None
    pages = (
        session.client("stepfunctions")
        .get_paginator("get_execution_history")
        .paginate(executionArn=execution, reverseOrder=True)
    )
    submitted = (
        json.loads(event["taskSubmittedEventDetails"]["output"])
        for page in pages
        for event in page["events"]
        if event["type"] == "TaskSubmitted" and event["taskSubmittedEventDetails"]["resourceType"] == "batch"
    )
    job = next(submitted, None)
    if job is None:
        return None
    batch = session.client("batch")
    described = batch.describe_jobs(jobs=[job["JobId"]])["jobs"]
    if not described:
        return None  # Batch forgets jobs after a while
    [found] = described
    return Job(
        created=found["createdAt"] / 1000,
        started=_seconds(found.get("startedAt")),
        stopped=_seconds(found.get("stoppedAt")),
        attempts=len(found.get("attempts", ())),
        image=found["container"].get("image", ""),
        capacity=_capacity(batch, found["jobQueue"]),
        reason=found.get("statusReason", ""),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def _capacity(batch: Any, queue: str) -> str:
    try:
        [found] = batch.describe_job_queues(jobQueues=[queue])["jobQueues"]
        environment = found["computeEnvironmentOrder"][0]["computeEnvironment"]
        [described] = batch.describe_compute_environments(computeEnvironments=[environment])[
            "computeEnvironments"
        ]
    except (ClientError, ValueError, IndexError):
        return "not known"
    return str(described["computeResources"]["type"])
