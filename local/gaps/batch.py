"""Batch: jobs run as subprocesses, tried again, timed out, ended and described as Batch does."""

# ruff: noqa: SLF001 (replacing moto's insides is what this module is for)
import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final, cast

from moto.batch import models
from moto.batch.exceptions import ClientException
from moto.batch.models import BatchBackend, ComputeEnvironment, Job, batch_backends
from moto.batch.responses import BatchResponse
from moto.batch.utils import JobStatus
from moto.events.models import events_backends

from local.batch_jobs import ExitRule, Outcome, Slots, Stop, run_attempt, tries_again
from local.environment import key_variables
from local.gaps import Replacements
from local.keys import KeyOf
from local.settings import ACCOUNT_ID, REGION

logger = logging.getLogger(__name__)

# https://docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable.html
TOO_FEW_VCPUS: Final = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - "
    "CE(s) associated with the job queue cannot meet the CPU requirement of the job."
)
# In all, the characters of the JSON included:
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
MOST_OVERRIDES: Final = 8192
# What Batch itself says of a larger request: https://github.com/ASFHyP3/hyp3/issues/3041
MOST_OF_A_JOB: Final = 30 * 1024
JOBS = 5_000
"""That have ended, the newest, are kept, 9 kB each. AWS keeps all of them, for seven days."""
OVERRIDE: Final[ContextVar[dict[str, Any] | None]] = ContextVar("retry strategy of SubmitJob", default=None)


class BatchService:
    """moto's queues and job definitions, with real jobs.

    Args:
        images: Entry points on this machine that stand in for those of images, by patterns of image names.
        environment: What a job gets beside its own variables.
        slots: Room for jobs.
        key_of: What a job's role signs with.
    """

    def __init__(
        self,
        images: Mapping[str, Sequence[str]],
        environment: Mapping[str, str],
        slots: Slots,
        key_of: KeyOf,
    ) -> None:
        self._images = images
        self.environment = environment
        self.slots = slots
        self.key_of = key_of
        self._ended: deque[str] = deque()

    def entry_point(self, image: str) -> Sequence[str] | None:
        """Return what to run for an image, or None when there is no such image."""
        return next((command for name, command in self._images.items() if fnmatchcase(image, name)), None)

    def forget_old_jobs(self, ended: str) -> None:
        """Keep the newest of the jobs that have ended, this one among them; moto keeps all."""
        self._ended.append(ended)
        while len(self._ended) > JOBS:
            with suppress(IndexError):  # another thread was there first
                batch_backends[ACCOUNT_ID][REGION]._jobs.pop(self._ended.popleft(), None)

    def install(self, replacements: Replacements) -> None:
        """Replace moto's jobs by ours."""
        # moto runs a job in a Docker container, once.
        replacements.put(LocalJob, "service", self)
        replacements.put(models, "Job", LocalJob)
        replacements.put(BatchBackend, "describe_jobs", _describe_jobs)
        replacements.put(BatchResponse, "submitjob", _with_retry_strategy(BatchResponse.submitjob))
        replacements.put(BatchBackend, "submit_job", _if_acceptable(BatchBackend.submit_job))
        replacements.put(BatchResponse, "createjobqueue", _with_time_limits(BatchResponse.createjobqueue))

    def stop(self, seconds: float) -> None:
        """Terminate every job and wait until it has ended."""
        known = dict(batch_backends[ACCOUNT_ID][REGION]._jobs)
        jobs = [job for job in known.values() if isinstance(job, LocalJob)]
        for job in jobs:
            job.terminate("The embedded AWS is shutting down")
        for job in jobs:
            job.join(seconds)


def job_by_id(job_id: str) -> "LocalJob":
    """Return a job that was submitted."""
    return cast("LocalJob", batch_backends[ACCOUNT_ID][REGION].get_job_by_id(job_id))


def container_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return what DescribeJobs says of a container that has ended."""
    told = {"exitCode": outcome.exit_code, "reason": outcome.reason or None}
    return {name: value for name, value in told.items() if value is not None}


def _describe_jobs(backend: BatchBackend, jobs: list[str] | None) -> list[dict[str, Any]]:
    # moto walks through its dictionary of all jobs while other threads submit more.
    known = dict(backend._jobs) if not jobs else {}
    asked = [backend._jobs.get(job.rpartition("/")[2]) for job in jobs or known]
    return [job.describe() for job in asked if job]


def _if_acceptable(original: Any) -> Any:
    # moto submits jobs by revisions that were deregistered.
    def submit_job(backend: BatchBackend, name: str, definition: str, *rest: Any, **more: Any) -> Any:
        found = backend.get_job_definition(definition)
        if found and found.status == "INACTIVE":
            raise ClientException(f"JobDefinition {found.arn} is not in ACTIVE status")
        return original(backend, name, definition, *rest, **more)

    return submit_job


def _with_retry_strategy(original: Any) -> Any:
    # moto leaves SubmitJob's own retry strategy unread, and takes requests of any size.
    def submitjob(response: BatchResponse) -> str:
        if (size := len(response.body)) > MOST_OF_A_JOB:
            raise ClientException(f"Job size must be less than 30 KiB, got {size >> 10} KiB")
        token = OVERRIDE.set(response._get_param("retryStrategy"))
        try:
            return original(response)  # type: ignore[no-any-return]
        finally:
            OVERRIDE.reset(token)

    return submitjob


def _with_time_limits(original: Any) -> Any:
    # moto leaves a queue's time limits unread.
    def createjobqueue(response: BatchResponse) -> str:
        answer: str = original(response)
        queue = batch_backends[ACCOUNT_ID][REGION].get_job_queue(json.loads(answer)["jobQueueArn"])
        limits = response._get_param("jobStateTimeLimitActions") or []
        vars(queue)["canceled_for"] = {limit["reason"] for limit in limits}
        return answer

    return createjobqueue


class LocalJob(Job):
    """A job whose container is a process of this machine.

    Attributes:
        finished: Set when the job has SUCCEEDED or FAILED.
    """

    service: ClassVar[BatchService | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.finished = threading.Event()
        self._listeners: list[Callable[[], object]] = []
        self._stopping = Stop()
        self._outcome: Outcome | None = None
        strategy: dict[str, Any] = OVERRIDE.get() or self.job_definition.retry_strategy or {}
        self._attempts_allowed = int(strategy.get("attempts", 1))
        self._rules = [
            ExitRule(rule["action"], rule.get("onExitCode"), rule.get("onReason"), rule.get("onStatusReason"))
            for rule in strategy.get("evaluateOnExit", [])
        ]
        container = self.job_definition.container_properties or {}
        log = container.get("logConfiguration", {}).get("options", {})
        self._log_group = log.get("awslogs-group", "/aws/batch/job")
        self._log_prefix = log.get("awslogs-stream-prefix", self.job_definition.name)

    def run(self) -> None:
        """Try until an attempt succeeds or may not be followed by another."""
        try:
            outcome = self._try_until_done()
        except Exception as error:
            logger.exception("Job %s was lost", self.job_id)
            outcome = Outcome(None, status_reason=f"Host terminated: {error}")
        self._outcome = outcome
        self.exit_code = outcome.exit_code
        if not outcome.succeeded:
            self.job_stopped_reason = outcome.status_reason
        self.job_stopped_at = datetime.now()  # noqa: DTZ005 (moto's times are naive)
        self.job_stopped = True
        self.status = JobStatus.SUCCEEDED if outcome.succeeded else JobStatus.FAILED
        self.finished.set()
        for listener in self._listeners:
            listener()
        if self.service:
            self.service.forget_old_jobs(self.job_id)

    def terminate(self, reason: str) -> None:
        """End the job, wherever it is; one that has ended stays as it is."""
        if not self.finished.is_set():
            self._stopping.ask(reason)

    def when_finished(self, listener: Callable[[], object]) -> None:
        """Call ``listener`` once finished; at once when that is past. It may be called twice."""
        self._listeners.append(listener)
        if self.finished.is_set():
            listener()

    def describe(self) -> dict[str, Any]:
        """Return DescribeJobs' entry; moto's own forgets the exit code, and where the log is."""
        described: dict[str, Any] = super().describe()
        described["isTerminated"] = self._stopping.asked
        if self._outcome:
            described["container"] |= container_outcome(self._outcome)
        described["retryStrategy"] = {"attempts": self._attempts_allowed}
        options = {"awslogs-group": self._log_group, "awslogs-stream-prefix": self._log_prefix}
        described["container"]["logConfiguration"] = {"logDriver": "awslogs", "options": options}
        return described

    def _try_until_done(self) -> Outcome:
        if self.service is None:
            raise RuntimeError("A job outlived the embedded AWS")
        if self.depends_on:
            raise NotImplementedError("The embedded AWS does not make a job wait for others")
        environment: ComputeEnvironment = self.job_queue.environments[0]
        vcpus = float(self._get_container_property("vcpus", 1))
        most = float(environment.compute_resources["maxvCpus"])
        if vcpus > most:
            return self._stuck(TOO_FEW_VCPUS)
        if len(json.dumps(self._overrides())) > MOST_OVERRIDES:
            # What DescribeJobs says then: https://github.com/Netflix/metaflow/issues/977
            why = f"Container Overrides length must be at most {MOST_OVERRIDES}"
            return Outcome(None, status_reason=why, final=True)
        for attempt in range(1, self._attempts_allowed + 1):
            self.status = JobStatus.RUNNABLE
            with self.service.slots.take(environment.name, most, vcpus, self._stopping) as granted:
                if not granted:
                    return Outcome(None, status_reason=str(self._stopping.reason), final=True)
                outcome = self._attempt(self.service, attempt)
            if outcome.succeeded or not tries_again(outcome, attempt, self._attempts_allowed, self._rules):
                break
        return outcome

    def _overrides(self) -> dict[str, Any]:
        """What Batch gives ECS beside the task definition: what SubmitJob asked for, and Batch's own."""
        given = self.container_overrides
        own = {"AWS_BATCH_JOB_ID": self.job_id, "AWS_BATCH_JQ_NAME": self.job_queue.name}
        own |= {"AWS_BATCH_CE_NAME": self.job_queue.environments[0].name, "AWS_BATCH_JOB_ATTEMPT": "1"}
        variables = [{"name": name, "value": value} for name, value in own.items()]
        task = {"name": "default", "command": given.get("command", [])}
        return {"containerOverrides": [task | {"environment": [*given.get("environment", []), *variables]}]}

    def _stuck(self, reason: str) -> Outcome:
        """Wait to be ended: by the queue's time limit, which here is none, or by somebody."""
        self.status = JobStatus.RUNNABLE
        self.job_stopped_reason = reason  # what DescribeJobs gives as the status reason
        detail = {
            "jobArn": self.arn, "jobName": self.job_name, "jobId": self.job_id,
            "jobQueue": self.job_queue.arn, "status": "RUNNABLE", "statusReason": reason,
        }  # fmt: skip
        entry = {"Source": "aws.batch", "DetailType": "Batch Job Queue Blocked", "Detail": json.dumps(detail)}
        events_backends[ACCOUNT_ID][REGION].put_events([entry | {"Resources": [self.arn]}])
        cause = reason.split(" - ")[0]
        if cause in vars(self.job_queue)["canceled_for"]:
            self._stopping.ask(f"Canceled by JobStateTimeLimit action due to reason: {cause}")
        ended = threading.Event()
        self._stopping.when_asked(ended.set)
        ended.wait()
        return Outcome(None, status_reason=str(self._stopping.reason), final=True)

    def _attempt(self, service: BatchService, number: int) -> Outcome:
        self.status = JobStatus.STARTING
        self.job_started_at = datetime.now()  # noqa: DTZ005
        image = self._get_container_property("image", "")
        entry_point = service.entry_point(image)
        if entry_point is None:
            self.log_stream_name = None
            self._start_attempt()
            outcome = Outcome(None, f"CannotPullContainerError: {image} not found", "Task failed to start")
        else:
            # A task's id, new each time.
            self.log_stream_name = f"{self._log_prefix}/default/{uuid.uuid4().hex}"
            self._log_backend.ensure_log_group(self._log_group)
            self._log_backend.ensure_log_stream(self._log_group, self.log_stream_name)
            self._start_attempt()
            self.status = JobStatus.RUNNING
            outcome = self._run_container(service, entry_point, number)
        self.job_stopped_at = datetime.now()  # noqa: DTZ005
        self._stop_attempt()
        self.attempts[-1]["container"] |= container_outcome(outcome)
        self.attempts[-1]["statusReason"] = outcome.status_reason
        return outcome

    def _run_container(self, service: BatchService, entry_point: Sequence[str], number: int) -> Outcome:
        command = self._add_parameters_to_command(self._get_container_property("command", []))
        variables = {e["name"]: e["value"] for e in self._get_container_property("environment", [])}
        role = self._get_container_property("jobRoleArn", "")
        own = {
            **(key_variables(service.key_of(role)) if role else {}),
            "AWS_BATCH_JOB_ID": self.job_id,
            "AWS_BATCH_JOB_ATTEMPT": str(number),
            "AWS_BATCH_JQ_NAME": self.job_queue.name,
            "AWS_BATCH_CE_NAME": self.job_queue.environments[0].name,
        }
        return run_attempt(
            [*entry_point, *command],
            {**service.environment, **variables, **own},
            self._get_attempt_duration(),
            self._stopping,
            self._log_line,
        )

    def _log_line(self, line: str) -> None:
        event = {"timestamp": int(time.time() * 1000), "message": line}
        self._log_backend.put_log_events(self._log_group, str(self.log_stream_name), [event])

    def _get_container_property(self, p: str, default: Any) -> Any:
        if p != "environment":
            return super()._get_container_property(p, default)
        # moto adds AWS_BATCH_JOB_ID to one and the same list each time the job is described.
        container = self.job_definition.container_properties or {}
        entries = [*container.get(p, []), *self.container_overrides.get(p, [])]
        # Batch takes variables with an empty value and leaves them out.
        given = {entry["name"]: entry["value"] for entry in entries}
        return [{"name": name, "value": value} for name, value in given.items() if value]
