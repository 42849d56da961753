"""An execution's history, read as the state of each step; docs/architecture.md tells what the steps are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FIRST, LAST = "PlanBuild", "WriteManifest"
OF_TARGETS = ("ResolveLayer", "BuildLayer", "PublishLayer", "TryLayer", "ReleaseLayer")
STEPS = (FIRST, *OF_TARGETS, LAST)
"""In their order."""

_JOB_STATES = {"SUBMITTED": "queued", "PENDING": "queued", "RUNNABLE": "queued", "STARTING": "starting"}


class State(StrEnum):
    """How far a step is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class Step:
    """A step of a target or of the whole build.

    Attributes:
        since: When it was entered, in seconds since the epoch.
        seconds: How long it took, once it has ended.
        job: The Batch job's id, while it runs.
        note: What the job is doing.
    """

    state: State = State.WAITING
    since: float = 0.0
    seconds: float = 0.0
    job: str | None = None
    note: str = ""
    tried: bool = False
    """Whether the last try of it failed."""


@dataclass
class Progress:
    """How far an execution has come.

    Attributes:
        shared: The steps of the whole build, by name.
        targets: Those of each target, by its id and then by name.
    """

    shared: dict[str, Step] = field(default_factory=lambda: {FIRST: Step(), LAST: Step()})
    targets: dict[str, dict[str, Step]] = field(default_factory=dict)

    def rows(self, name: str) -> list[tuple[str, Mapping[str, Step]]]:
        """A row for each target, or one for the build while its targets are not known."""
        if not self.targets:
            return [(name, self.shared)]
        several = len(self.targets) > 1
        return [
            (f"{name} {target.split('-')[0]}" if several else name, self.shared | steps)
            for target, steps in self.targets.items()
        ]


def read(events: Iterable[Mapping[str, Any]], job_state: Callable[[str], str]) -> Progress:
    """Work out the state of every step.

    Args:
        events: The history, oldest first.
        job_state: Says what a Batch job is doing, by its id.
    """
    progress = Progress()
    ids: list[str] = []  # of the targets, in the order of the Map's items
    item_of: dict[int, int] = {}  # an event's id -> the Map's item that it belongs to
    for event in events:
        kind, number, before = event["type"], event["id"], event.get("previousEventId", 0)
        if kind == "MapIterationStarted":
            item_of[number] = event["mapIterationStartedEventDetails"]["index"]
        elif before in item_of and not kind.startswith("MapIteration"):
            item_of[number] = item_of[before]
        if kind == "MapStateEntered":
            ids = [
                target["id"] for target in json.loads(event["stateEnteredEventDetails"]["input"])["targets"]
            ]
            progress.targets = {target: {step: Step() for step in OF_TARGETS} for target in ids}
        _apply(progress.targets[ids[item_of[number]]] if number in item_of else progress.shared, event)
    for step in _all_steps(progress):
        if step.state is State.RUNNING and step.job:
            step.note = job_state(step.job)
    return progress


def in_words(batch_status: str) -> str:
    """What is said of a job in a state of Batch's."""
    return _JOB_STATES.get(batch_status, "building")


def _all_steps(progress: Progress) -> list[Step]:
    return [step for steps in (progress.shared, *progress.targets.values()) for step in steps.values()]


def _apply(steps: dict[str, Step], event: Mapping[str, Any]) -> None:
    kind, at = event["type"], event["timestamp"].timestamp()
    running = next((step for step in steps.values() if step.state is State.RUNNING), None)
    if kind.endswith("StateEntered"):
        if (name := event["stateEnteredEventDetails"]["name"]) in steps:
            steps[name] = Step(State.RUNNING, since=at)
    elif kind.endswith("StateExited"):
        if step := steps.get(event["stateExitedEventDetails"]["name"]):
            # What failed and was caught: the state machine goes on elsewhere.
            step.state, step.seconds = State.FAILED if step.tried else State.DONE, at - step.since
    elif running and kind == "TaskSubmitted":
        # Of submitJob the output is Batch's answer; of a function there is none.
        output = json.loads(event["taskSubmittedEventDetails"].get("output") or "{}")
        running.job = output.get("JobId")
    elif running and kind in ("TaskFailed", "TaskTimedOut"):
        running.tried = True
    elif running and kind == "TaskScheduled":
        running.tried = False  # the first try, or another
