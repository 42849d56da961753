"""What can go wrong: which exit status it has, and whether trying again can mend it.

The exit statuses are the builder's: 2 the user's to mend, 75 try again (sysexits' EX_TEMPFAIL), 70 ours to
mend (EX_SOFTWARE), 130 interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DONE = 0
USER = 2
BUG = 70
AGAIN = 75
INTERRUPTED = 130

UNTOLD = "UNTOLD"
"""The code of a failure that a manifest does not explain."""

OURS = frozenset({"INTERNAL", "INTERNAL_ERROR", UNTOLD})
"""Codes of faults that are Layerdrop's own, or AWS's."""

MENDED_BY_TRYING_AGAIN = OURS | frozenset(
    {
        # Gone before it was read: what is uploaded again is there.
        "INPUT_NOT_FOUND",
        "REQUIREMENTS_NOT_FOUND",
        "OPTIONS_FILE_INVALID",
        # Somebody else's server, or time.
        "INDEX_UNREACHABLE",
        "REPOSITORY_UNREACHABLE",
        "SYSTEM_PACKAGE_BROKEN",
        "STORAGE_DENIED",
        "STORAGE_UNAVAILABLE",
        "PACKAGE_TOO_YOUNG",
        # What whoever runs the stack has put right since.
        "INDEX_DENIED",
        "OUTPUT_UNWRITABLE",
        "JOB_NOT_STARTED",
        "JOB_OUT_OF_MEMORY",
        "JOB_TIMED_OUT",
        "IMAGE_NOT_PULLED",
        # The build was stopped, or lost its place.
        "INTERRUPTED",
        "JOB_INTERRUPTED",
        "BUILD_NOT_STARTED",
        "BUILD_ABORTED",
        "BUILD_TIMED_OUT",
        "STACK_UPDATED",
        "TRIAL_NOT_POSSIBLE",
        "SUPERSEDED",
        "JOB_FAILED",
        "BUILD_FAILED",
        "REPORT_INVALID",
    }
)
"""Codes in a manifest after which the same file, uploaded again, may be built; see docs/manifest.md."""


@dataclass(frozen=True)
class Problem:
    """A failure as it is told: what a manifest's `error` says, or what the command itself found.

    Attributes:
        code: One of docs/manifest.md's, or of docs/client.md's.
        message: One sentence.
        hint: What to do; may be empty.
        details: For programs; a line's number, a setting.
        log: Where the log is, as `{"group": …, "stream": … or None}`.
    """

    code: str
    message: str
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    log: Mapping[str, Any] | None = None

    @property
    def exit_status(self) -> int:
        """What the command ends with."""
        if self.code in OURS:
            return BUG
        return AGAIN if self.code in MENDED_BY_TRYING_AGAIN else USER

    def to_json(self) -> dict[str, Any]:
        """The problem in a document."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": dict(self.details),
            "log": dict(self.log) if self.log else None,
        }


class CommandError(Exception):
    """A command that cannot go on; `status` is what it ends with."""

    def __init__(self, code: str, message: str, hint: str = "", status: int = USER) -> None:
        self.problem = Problem(code, message, hint)
        self.status = status
        super().__init__(message)


def worst(statuses: Iterable[int]) -> int:
    """The exit status of several: first what only we can mend, then what the user can, then what passes."""
    found = set(statuses)
    return next((status for status in (BUG, USER, AGAIN) if status in found), DONE)
