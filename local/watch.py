"""What became of an upload: its execution, the state of each step, the manifest in the end."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import ClientError

from local.clients import Clients

INPUT: Final = "requirements.txt"
LOCK: Final = "pylock.toml"
MANIFEST: Final = "manifest.json"
STEPS: Final = (
    "PlanBuild",
    "ResolveLayer",
    "BuildLayer",
    "PublishLayer",
    "TryLayer",
    "ReleaseLayer",
    "WriteManifest",
)
"""In their order; what of it a state machine has is shown."""
SHARED: Final = ("PlanBuild", "WriteManifest")
FAILED: Final = "failed"
SHOWN: Final = {"SUBMITTED": "queued", "PENDING": "queued", "RUNNABLE": "queued"}
"""What is said of a job; of any other state, that it is building."""


@dataclass(frozen=True)
class Upload:
    """One object version that was put under ``requirements/``."""

    bucket: str
    key: str
    version_id: str

    @property
    def manifest_key(self) -> str:
        """Where the answer goes: ``manifest_key`` of the functions says why it is called so."""
        stem = self.key.removesuffix(INPUT)
        if self.key.endswith(LOCK) or re.search(r"pylock-(requirements-)*\Z", stem):
            return f"{self.key.rpartition('.')[0]}-{MANIFEST}"
        return stem + MANIFEST


@dataclass
class Step:
    """A state of the state machine: ``waiting``, ``running``, ``done`` or ``failed``.

    Attributes:
        state: One of these four.
        since: When it was entered, in seconds since the epoch.
        seconds: How long it took, once it ended.
        note: What it is doing: the job's own state.
    """

    state: str = "waiting"
    since: float = 0.0
    seconds: float = 0.0
    note: str = ""


@dataclass
class Progress:
    """How far an upload has come.

    Attributes:
        status: ``UPLOADED`` until there is an execution, then the execution's status.
        started: When the execution was started, in seconds since the epoch.
        finished: When it ended.
        shared: The steps of the whole upload, by name.
        targets: The steps of each target, by its id and then by name.
        steps: The names of all that there can be, in their order.
    """

    status: str = "UPLOADED"
    started: float = 0.0
    finished: float = 0.0
    shared: dict[str, Step] = field(default_factory=lambda: {"PlanBuild": Step(), "WriteManifest": Step()})
    targets: dict[str, dict[str, Step]] = field(default_factory=dict)
    steps: Sequence[str] = STEPS

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status not in ("UPLOADED", "RUNNING")


class Watcher:
    """Looks at the executions of one state machine."""

    def __init__(self, clients: Clients, state_machine: str) -> None:
        self._clients = clients
        self._state_machine = state_machine
        self._uploads: dict[str, Upload] = {}  # by the ARN of the execution
        self._ended: set[str] = set()
        self._steps: Sequence[str] = ()

    @property
    def steps(self) -> Sequence[str]:
        """The steps that the state machine has."""
        if not self._steps:
            machine = self._clients.stepfunctions.describe_state_machine(stateMachineArn=self._state_machine)
            self._steps = [step for step in STEPS if f'"{step}"' in machine["definition"]]
        return self._steps

    def execution(self, upload: Upload) -> str | None:
        """Return the ARN of the execution that an upload started, if it has."""
        if upload not in self._uploads.values():
            self._look()
        return next((arn for arn, known in self._uploads.items() if known == upload), None)

    def newly_ended(self) -> list[tuple[Upload, float]]:
        """Return the uploads whose executions ended since the last call, each with the seconds it took."""
        ended = [
            execution
            for execution in self._look()
            if execution["status"] != "RUNNING" and execution["executionArn"] not in self._ended
        ]
        self._ended |= {execution["executionArn"] for execution in ended}
        return [
            (
                self._uploads[execution["executionArn"]],
                (execution["stopDate"] - execution["startDate"]).total_seconds(),
            )
            for execution in ended
        ]

    def _look(self) -> list[Any]:
        paginator = self._clients.stepfunctions.get_paginator("list_executions")
        pages = paginator.paginate(stateMachineArn=self._state_machine, PaginationConfig={"PageSize": 1000})
        executions = [execution for page in pages for execution in page["executions"]]
        for execution in executions:
            arn = execution["executionArn"]
            if arn not in self._uploads:
                described = self._clients.stepfunctions.describe_execution(executionArn=arn)
                given = json.loads(described["input"])["input"]
                self._uploads[arn] = Upload(given["bucket"], given["key"], given["version_id"])
        return executions

    def progress(self, upload: Upload) -> Progress:
        """Return how far an upload has come."""
        arn = self.execution(upload)
        if arn is None:
            return Progress(steps=self.steps)
        # The status first: a history read afterwards is whole if the status says that all is over.
        described = self._clients.stepfunctions.describe_execution(executionArn=arn)
        history = self._clients.stepfunctions.get_execution_history(executionArn=arn)["events"]
        progress = read_history(history, self._job_state, self.steps)
        progress.status = described["status"]
        progress.started = described["startDate"].timestamp()
        if progress.ended and history:
            progress.finished = history[-1]["timestamp"].timestamp()
        return progress

    def manifest(self, upload: Upload) -> Mapping[str, Any] | None:
        """Return the manifest beside an upload, if it is the answer to this very version."""
        try:
            stored = self._clients.s3.get_object(Bucket=upload.bucket, Key=upload.manifest_key)
        except ClientError:
            return None
        manifest: dict[str, Any] = json.load(stored["Body"])
        return manifest if manifest["input"]["version_id"] == upload.version_id else None

    def _job_state(self, job_id: str) -> str:
        [job] = self._clients.batch.describe_jobs(jobs=[job_id])["jobs"]
        tries = len(job.get("attempts", []))
        shown = SHOWN.get(job["status"], "building")
        return f"{shown}, try {tries}" if tries > 1 else shown


def read_history(
    events: Sequence[Mapping[str, Any]], job_state: Callable[[str], str], steps: Sequence[str] = STEPS
) -> Progress:
    """Work out the state of every step from an execution's history.

    Args:
        events: The history, oldest first.
        job_state: Says what a Batch job is doing, by its id.
        steps: Those of the state machine, in their order.
    """
    progress = Progress(steps=steps)
    ids: list[str] = []  # of the targets, in the order of the Map's items
    item_of: dict[int, int] = {}  # event id -> index of the Map's item that it belongs to
    for event in events:
        kind, event_id = event["type"], event["id"]
        if kind == "MapIterationStarted":
            item_of[event_id] = event["mapIterationStartedEventDetails"]["index"]
        elif event.get("previousEventId", 0) in item_of and not kind.startswith("MapIteration"):
            item_of[event_id] = item_of[event["previousEventId"]]
        if kind == "MapStateEntered":
            planned = json.loads(event["stateEnteredEventDetails"]["input"])["targets"]
            ids = [target["id"] for target in planned]
            progress.targets = {
                target_id: {step: Step() for step in steps if step not in SHARED} for target_id in ids
            }
        whose = progress.targets[ids[item_of[event_id]]] if event_id in item_of else progress.shared
        _apply(whose, event, job_state)
    return progress


def _apply(steps: dict[str, Step], event: Mapping[str, Any], job_state: Callable[[str], str]) -> None:
    kind, at = event["type"], event["timestamp"].timestamp()
    running = next((step for step in steps.values() if step.state == "running"), None)
    if kind.endswith("StateEntered"):
        name = event["stateEnteredEventDetails"]["name"]
        if name in steps:
            steps[name] = Step("running", since=at)
    elif kind.endswith("StateExited"):
        step = steps.get(event["stateExitedEventDetails"]["name"])
        if step:
            failed = step.note == FAILED  # and caught: the state machine goes on elsewhere
            step.state, step.seconds, step.note = "failed" if failed else "done", at - step.since, ""
    elif running and kind == "TaskSubmitted":
        running.note = job_state(json.loads(event["taskSubmittedEventDetails"]["output"])["JobId"])
    elif running and kind == "TaskFailed":
        running.note = FAILED
    elif running and kind == "TaskScheduled":
        running.note = ""  # the first try, or another after a failed one


def follow(
    watcher: Watcher, uploads: Sequence[Upload], interval: float = 0.1, seconds: float = 3600
) -> Iterator[dict[Upload, Progress]]:
    """Yield the progress of all uploads again and again, the last time when all have ended.

    Raises:
        TimeoutError: It took longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        progress = {upload: watcher.progress(upload) for upload in uploads}
        yield progress
        if all(entry.ended for entry in progress.values()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"No answer within {seconds:.0f} seconds")
        time.sleep(interval)
