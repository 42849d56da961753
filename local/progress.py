"""The progress of several uploads: a live table on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from local.watch import INPUT, Progress, Step, Upload

SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
HEADS: Final = {
    "PlanBuild": "Plan",
    "ResolveLayer": "Resolve",
    "BuildLayer": "Build",
    "PublishLayer": "Publish",
    "TryLayer": "Try",
    "ReleaseLayer": "Release",
    "WriteManifest": "Answer",
}
"""What steps are called over narrow columns: seven of them are to fit 80 characters."""
NARROW: Final = 6
WIDE: Final = 112
MARKS: Final = {"waiting": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "bold red")}

State = Mapping[Upload, Progress]


def show(states: Iterable[State], began: Mapping[Upload, float], console: Console) -> State:
    """Show states as they come; return the last.

    Args:
        states: What ``follow`` yields.
        began: When each upload began, in seconds since the epoch.
        console: Where to.
    """
    return _show_table(states, began, console) if console.is_terminal else _show_lines(states, began, console)


def label(upload: Upload) -> str:
    """Return the part of a key that tells it from others."""
    return upload.key.removeprefix("requirements/").removesuffix(f"/{INPUT}")


def rows(upload: Upload, progress: Progress) -> list[tuple[str, Mapping[str, Step]]]:
    """Return a row for each target, or one for the upload while its targets are not known."""
    if not progress.targets:
        return [(label(upload), progress.shared)]
    several = len(progress.targets) > 1
    return [
        (f"{label(upload)} {target.split('-')[0]}" if several else label(upload), progress.shared | steps)
        for target, steps in progress.targets.items()
    ]


class Board:
    """The live table; rendered anew ten times a second out of the newest state."""

    def __init__(self, began: Mapping[Upload, float], width: int) -> None:
        self._width = width
        self.state: State = {upload: Progress() for upload in began}
        self._began = began

    def __rich__(self) -> Table:
        steps = next(iter(self.state.values())).steps
        narrow = len(steps) > 4 and self._width < WIDE
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=narrow, header_style="bold")
        table.add_column("Upload", no_wrap=True)
        for step in steps:
            # A job says what it is doing.
            width = NARROW if narrow and step != "BuildLayer" else 10
            table.add_column(HEADS[step] if narrow else step, no_wrap=True, min_width=width)
        table.add_column("Time", justify="right", no_wrap=True)
        for upload, progress in self.state.items():
            seconds = (progress.finished or time.time()) - self._began[upload]
            for name, own in rows(upload, progress):
                cells = [_cell(own.get(step, Step()), "" if narrow else " ") for step in steps]
                table.add_row(name, *cells, f"{seconds:.1f} s")
        return table


def _cell(step: Step, space: str) -> Text:
    if step.state == "running":
        seconds = time.time() - step.since
        frame = SPINNER[int(time.monotonic() * 10) % len(SPINNER)]
        return Text(f"{frame} {step.note or f'{seconds:.1f}{space}s'}", style="yellow")
    mark, style = MARKS[step.state]
    return Text(f"{mark} {step.seconds:.1f}{space}s" if step.seconds else mark, style=style)


def _show_table(states: Iterable[State], began: Mapping[Upload, float], console: Console) -> State:
    board = Board(began, console.width)
    rest = iter(states)
    board.state = next(rest, board.state)  # which knows the steps
    with Live(board, console=console, refresh_per_second=10):
        for state in rest:
            board.state = state
    return board.state


def _show_lines(states: Iterable[State], began: Mapping[Upload, float], console: Console) -> State:
    shown: dict[tuple[str, str], str] = {}
    state: State = {}
    for state in states:
        for name, step_name, step, upload in _all_steps(state):
            news = step.note if step.state == "running" and step.note else step.state
            if shown.get((name, step_name), "waiting") != news:
                shown[name, step_name] = news
                took = f" in {step.seconds:.1f} s" if step.state in ("done", "failed") else ""
                since = time.time() - began[upload]
                line = f"{since:6.1f} s  {name}  {step_name} {news}{took}"
                console.print(line, soft_wrap=True, highlight=False, markup=False)
    return state


def _all_steps(state: State) -> Iterator[tuple[str, str, Step, Upload]]:
    for upload, progress in state.items():
        for name, steps in rows(upload, progress):
            for step_name in progress.steps:
                # A step of the whole upload is told once, not for each target.
                whose = label(upload) if step_name in progress.shared else name
                yield whose, step_name, steps.get(step_name, Step()), upload
