"""What can go wrong, as a code, a sentence and a way out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from layerdrop import wording

if TYPE_CHECKING:
    from collections.abc import Mapping


class ErrorCode(StrEnum):
    """Codes that the pipeline itself gives; the builder's report brings its own beside them."""

    KEY_INVALID = "KEY_INVALID"
    """The path of the requirements file does not say what to build."""
    SETTINGS_INVALID = "SETTINGS_INVALID"
    """The settings block has an unknown key, a bad type, a bad value, or is no settings block."""
    INPUT_NOT_FOUND = "INPUT_NOT_FOUND"
    """That version of the requirements file was deleted before it could be read."""
    REQUIREMENTS_INVALID = "REQUIREMENTS_INVALID"
    """The file is too large, or no text."""
    BUILD_FAILED = "BUILD_FAILED"
    """The builder said no, but left no report that says why."""
    JOB_FAILED = "JOB_FAILED"
    """The build job could not start or did not end by itself."""
    JOB_NOT_STARTED = "JOB_NOT_STARTED"
    """Batch could not give the build job a place to run, and canceled it after a while."""
    JOB_TIMED_OUT = "JOB_TIMED_OUT"
    """The build took longer than the stack allows, or found no capacity in time."""
    JOB_OUT_OF_MEMORY = "JOB_OUT_OF_MEMORY"
    """The build needed more memory than the stack gives it."""
    JOB_INTERRUPTED = "JOB_INTERRUPTED"
    """Spot capacity was taken away at every attempt."""
    IMAGE_NOT_PULLED = "IMAGE_NOT_PULLED"
    """The builder's image could not be fetched."""
    REPORT_INVALID = "REPORT_INVALID"
    """The build left no report, or one that contradicts what was asked for."""
    PUBLISH_REFUSED = "PUBLISH_REFUSED"
    """Lambda does not take the layer as it is."""
    IMPORT_FAILED = "IMPORT_FAILED"
    """A module of the layer cannot be imported in a function; the builder says the same of its own check."""
    TRIAL_NOT_POSSIBLE = "TRIAL_NOT_POSSIBLE"
    """Lambda did not let the layer be tried in a function, for all the patience there was."""
    STACK_UPDATED = "STACK_UPDATED"
    """The build began with a state machine that does not fit the functions of today."""
    LAYER_NAME_TAKEN = "LAYER_NAME_TAKEN"
    """The layer's name belongs to another requirements file, even if that is gone by now."""
    SUPERSEDED = "SUPERSEDED"
    """A newer version of the file was uploaded meanwhile; seen only if that one is deleted for good."""
    BUILD_NOT_STARTED = "BUILD_NOT_STARTED"
    """The upload was seen, but its build could not be started."""
    BUILD_ABORTED = "BUILD_ABORTED"
    """Somebody stopped the execution."""
    BUILD_TIMED_OUT = "BUILD_TIMED_OUT"
    """The execution reached its time limit."""
    INTERNAL_ERROR = "INTERNAL_ERROR"
    """A fault of the pipeline or of AWS, none of the user's."""


@dataclass(frozen=True)
class Problem:
    """A failure as the manifest tells it.

    `code` is an `ErrorCode` or one of the builder's; `message` is one sentence, `hint` says what to do.
    What others wrote in them is made visible, and cut: see `wording`.
    `log` names where the log is: `{"group": …, "stream": … or None}`.
    """

    code: str
    message: str
    hint: str
    details: Mapping[str, Any] = field(default_factory=dict)
    log: Mapping[str, str | None] | None = None

    def __post_init__(self) -> None:
        """Bring the texts into bounds, wherever they come from."""
        object.__setattr__(self, "message", wording.sentence(self.message))
        object.__setattr__(self, "hint", wording.sentence(self.hint))
        object.__setattr__(self, "details", wording.bounded(self.details))

    def to_json(self) -> dict[str, Any]:
        """The problem as the manifest's `error`."""
        return {
            "code": str(self.code),
            "message": self.message,
            "hint": self.hint,
            "details": dict(self.details),
            "log": dict(self.log) if self.log else None,
        }


class BuildError(Exception):
    """A failure that is explained and that trying again cannot mend; the state machine knows it by this name.

    Its text is JSON, because the text is all that Lambda hands to the state machine.
    """

    def __init__(
        self, code: ErrorCode, message: str, hint: str, details: Mapping[str, Any] | None = None
    ) -> None:
        self.problem = Problem(code, message, hint, details or {})
        super().__init__(self.problem.message)

    def __str__(self) -> str:
        problem = self.problem.to_json()
        del problem["log"]
        return json.dumps(problem)
