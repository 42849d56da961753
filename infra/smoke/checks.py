"""What was checked and how it went, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

PASSED: Final = "passed"
FAILED: Final = "FAILED"
NOT_CHECKED: Final = "not checked"
NOTHING: Final = "-"
_STYLES: Final = {PASSED: "green", FAILED: "bold red", NOT_CHECKED: "yellow"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, or could not be.

    Attributes:
        what: What.
        result: ``passed``, ``FAILED`` or ``not checked``.
        detail: What was found, or why nothing was.
    """

    what: str
    result: str
    detail: str = ""


@dataclass(frozen=True)
class Times:
    """How long an upload took, in seconds; None for what did not happen or is not known.

    Attributes:
        title: Which upload.
        architecture: For which architecture.
        got: ``SUCCEEDED``, the error's code, or what there was instead of an answer.
        answer: From the beginning of the upload to the answer's being seen.
        queued: From the upload to the job's being in its queue.
        started: From there to its container's start, the pull of the image included.
        ran: From there to its end.
        attempts: How often it was started.
    """

    title: str
    architecture: str
    got: str
    answer: float | None = None
    queued: float | None = None
    started: float | None = None
    ran: float | None = None
    attempts: int = 0


def failed(checks: Sequence[Check]) -> bool:
    """Whether any check failed."""
    return any(check.result == FAILED for check in checks)


def show(checks: Sequence[Check], times: Sequence[Times], console: Console) -> None:
    """Show the times, then every check."""
    if times:
        console.print(_times(times))
    console.print(_checks(checks))
    count = {result: sum(check.result == result for check in checks) for result in _STYLES}
    console.print(", ".join(f"{number} {result}" for result, number in count.items() if number))


def _times(times: Sequence[Times]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold",
        caption="Answered and queued: since the upload. Started: since queued, the image's pull included.",
    )  # fmt: skip
    for name in ("Upload", "For", "Answer"):
        table.add_column(name, no_wrap=True)
    for name in ("Answered", "Queued", "Started", "Ran", "Tries"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in times:
        table.add_row(
            row.title, row.architecture, row.got,
            *(_seconds(value) for value in (row.answer, row.queued, row.started, row.ran)),
            str(row.attempts) if row.attempts else NOTHING,
        )  # fmt: skip
    return table


def _checks(checks: Sequence[Check]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("Checked", overflow="fold")
    table.add_column("Result", no_wrap=True)
    table.add_column("Found", overflow="fold")
    for check in checks:
        table.add_row(check.what, Text(check.result, style=_STYLES[check.result]), Text(check.detail))
    return table


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f} s"
