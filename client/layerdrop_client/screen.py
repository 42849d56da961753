"""What is shown, on a terminal and elsewhere: the only module that knows rich."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from layerdrop_client.following import DETAILED, REPLACED
from layerdrop_client.history import STEPS, State, Step
from layerdrop_client.keys import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment

    from layerdrop_client.following import Seen, Upload
    from layerdrop_client.problems import Problem
    from layerdrop_client.quoting import Quote

# Control characters but newline and tab, direction marks and overrides, line separators, halves of surrogate
# pairs, tags: what a terminal would obey, or hide.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {State.WAITING: ("·", "dim"), State.DONE: ("✓", "green"), State.FAILED: ("✗", "bold red")}
_HEADS = dict(zip(STEPS, ("Plan", "Resolve", "Build", "Publish", "Try", "Release", "Answer"), strict=True))
"""What steps are called over columns: seven of them are to fit 80 characters."""
_ROOMY = 100
_SHORTEST_LABEL = 12
_TIME_WIDTH = 5

Cell = str | Text
Row = tuple[Cell, ...]


class _Console(Console):
    """Shows nobody's words as more than words."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_OBEYED.sub(_escaped, segment.text))


class Screen:
    """Where a command tells: what it found on standard output, all else on standard error.

    Args:
        as_json: One document on standard output, and nothing else there.
        out, err: Other places than the process's own.
        width: Of a terminal; default: its own.
    """

    def __init__(
        self,
        as_json: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
        width: int | None = None,
    ) -> None:
        self.as_json = as_json
        self._out = _Console(file=out, width=width, highlight=False, markup=False, emoji=False)
        self._err = _Console(file=err or sys.stderr, width=width, highlight=False, markup=False, emoji=False)

    @property
    def is_watched(self) -> bool:
        """Whether somebody reads this as it is written."""
        return not self.as_json and self._out.is_terminal

    # ------------------------------------------------------------ what was found

    def document(self, document: Mapping[str, Any]) -> None:
        """Print a document, if that is what is wanted."""
        if self.as_json:
            # Escaped beyond ASCII: whatever reads it needs no encoding, and no terminal obeys it.
            self._out.file.write(json.dumps(document, indent=2) + "\n")

    def line(self, text: Cell = "") -> None:
        """Print a line of what was found."""
        if not self.as_json:
            self._out.print(text, soft_wrap=True)

    def title(self, text: str) -> None:
        """Print a heading."""
        self.line(Text(text, style="bold"))

    def facts(self, facts: Iterable[tuple[str, Cell]]) -> None:
        """Print names and values, one below the other."""
        told = [(name, value) for name, value in facts if value]
        width = max((len(name) for name, _ in told), default=0)
        for name, value in told:
            self.line(Text.assemble((f"{name:{width}}  ", "dim"), value))

    def table(
        self, heads: Sequence[str], rows: Iterable[Row], right: Sequence[str] = (), spare: Sequence[str] = ()
    ) -> None:
        """Print a table.

        Args:
            heads: The columns.
            rows: A cell for each.
            right: Columns of numbers.
            spare: Columns that narrow terminals do without.
        """
        if self.as_json:
            return
        if self._out.width < _ROOMY:
            kept = [number for number, head in enumerate(heads) if head not in spare]
            heads = [heads[number] for number in kept]
            rows = [tuple(row[number] for number in kept) for row in rows]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
        for number, head in enumerate(heads):
            # The last column gives way; all others are wanted whole.
            wraps = number == len(heads) - 1
            table.add_column(
                head, justify="right" if head in right else "left", no_wrap=not wraps, overflow="fold"
            )
        for row in rows:
            table.add_row(*row)
        self._out.print(table)

    # ------------------------------------------------------------ what happens meanwhile

    def news(self, text: Cell) -> None:
        """Print a line about what is being done."""
        self._err.print(text, soft_wrap=True)

    def warning(self, text: str) -> None:
        """Print a warning."""
        self.news(Text.assemble(("warning", "bold yellow"), ": ", text))

    def hint(self, text: str) -> None:
        """Print a way out."""
        self.news(Text.assemble(("hint", "bold cyan"), ": ", text))

    def problem(self, problem: Problem, where: str = "", quote: Quote | None = None) -> None:
        """Print what went wrong: the message, the line of the file that it is about, what to do."""
        self.news(Text.assemble(("error", "bold red"), ": ", problem.message))
        if where:
            place = f"{where}:{quote.number}:{quote.start + 1}" if quote else where
            margin = " " * len(str(quote.number)) if quote else "  "
            self.news(Text.assemble((f"{margin}--> ", "bold blue"), place))
        if quote:
            for line in quoted(quote, self._err.width):
                self.news(line)
        if problem.hint:
            self.hint(problem.hint)
        if problem.code:
            self.news(Text(f"code: {problem.code}", style="dim"))

    def follow(self, states: Iterable[Mapping[Upload, Seen]]) -> Mapping[Upload, Seen]:
        """Show states as they come, live on a terminal, else a line for each change; return the last."""
        return self._live(states) if self._err.is_terminal else self._lines(states)

    def _live(self, states: Iterable[Mapping[Upload, Seen]]) -> Mapping[Upload, Seen]:
        board = Board(self._err.width)
        with Live(board, console=self._err, refresh_per_second=10):
            for board.state in states:
                pass
        self.news("")
        return board.state

    def _lines(self, states: Iterable[Mapping[Upload, Seen]]) -> Mapping[Upload, Seen]:
        shown: dict[tuple[str, str], str] = {}
        state: Mapping[Upload, Seen] = {}
        for state in states:
            for upload, seen in state.items():
                for name, step_name, step in _steps(upload, seen):
                    told = step.note or str(step.state) if step.state is State.RUNNING else str(step.state)
                    if shown.get((name, step_name), "waiting") != told:
                        shown[name, step_name] = told
                        took = f" in {step.seconds:.1f} s" if step.state in (State.DONE, State.FAILED) else ""
                        self.news(f"{time.time() - upload.since:6.1f} s  {name}  {step_name} {told}{took}")
                if seen.ended and shown.get((upload.key, "")) != "ended":
                    shown[upload.key, ""] = "ended"
                    self.news(f"{time.time() - upload.since:6.1f} s  {short(upload.key)}  {in_a_word(seen)}")
        return state


class Board:
    """The live table; rendered anew ten times a second out of the newest state."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._wide = width >= _ROOMY
        self.state: Mapping[Upload, Seen] = {}

    def __rich__(self) -> RenderableType:
        """Return steps for a few uploads, counts for many."""
        if len(self.state) > DETAILED:
            return self._counted()
        gap = int(self._wide)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        table.padding = (0, gap, 0, 0)
        # A job says what it is doing.
        widths = [10 if step == "BuildLayer" else max(len(_HEADS[step]), 6 + gap) for step in STEPS]
        # A space between columns, and the gap.
        room = max(_SHORTEST_LABEL, self._width - sum(widths) - _TIME_WIDTH - (1 + gap) * (len(STEPS) + 1))
        table.add_column("Upload", no_wrap=True)
        for step, width in zip(STEPS, widths, strict=True):
            table.add_column(_HEADS[step], no_wrap=True, min_width=width)
        table.add_column("Time", justify="right", no_wrap=True, min_width=_TIME_WIDTH)
        for upload, seen in self.state.items():
            ended = seen.manifest.seconds if seen.ended and seen.manifest else None
            seconds = ended or time.time() - upload.since
            for name, steps in seen.progress.rows(short(upload.key)):
                cells = [self._cell(steps.get(step, Step()), seen.ended) for step in STEPS]
                table.add_row(_end_of(name, room), *cells, self._took(seconds))
        return table

    def _cell(self, step: Step, over: bool) -> Text:
        """A step, with its seconds: whole ones where there is little room."""
        if step.state is State.RUNNING and not over:
            frame = _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]
            return Text(f"{frame} {step.note or self._took(time.time() - step.since)}", style="yellow")
        if step.state is State.RUNNING:  # WriteManifest wrote the answer, and is about to end
            return Text("✓", style="green")
        mark, style = _MARKS[step.state]
        return Text(f"{mark} {self._took(step.seconds)}" if step.seconds else mark, style=style)

    def _took(self, seconds: float) -> str:
        return f"{seconds:.1f}s" if self._wide and seconds < 100 else f"{seconds:.0f}s"

    def _counted(self) -> Text:
        words = [in_a_word(seen) for seen in self.state.values()]
        told = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
        frame = _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]
        done = sum(seen.ended for seen in self.state.values())
        return Text(f"{frame} {done} of {len(self.state)} answered: {told}" if self.state else "")


def in_a_word(seen: Seen) -> str:
    """What is to be said of an upload."""
    if seen.state == REPLACED:
        return "replaced"
    if seen.ended and seen.manifest:
        return "failed" if seen.problems else "done"
    return seen.state


def quoted(quote: Quote, width: int) -> Iterator[Text]:
    """The line and the mark below; of a long line the part that is meant."""
    margin = len(str(quote.number))
    room = max(20, width - margin - 4)
    text, start = quote.text.replace("\t", " "), quote.start
    if len(text) > room:
        left = max(0, min(start - 8, len(text) - room))
        text, start = text[left : left + room], start - left
    length = max(1, min(quote.length, len(text) - start))
    bar = ("|", "bold blue")
    yield Text.assemble(" " * (margin + 1), bar)
    yield Text.assemble((f"{quote.number} ", "bold blue"), bar, " ", text)
    yield Text.assemble(" " * (margin + 1), bar, " " * (start + 1), ("^" * length, "bold red"))


def _end_of(name: str, room: int) -> str:
    """A name that fits; of a long one the end, where names differ."""
    return name if len(name) <= room else f"…{name[1 - room :]}"


def _steps(upload: Upload, seen: Seen) -> Iterator[tuple[str, str, Step]]:
    label = short(upload.key)
    for name, steps in seen.progress.rows(label):
        for step_name in STEPS:
            # A step of the whole upload is told once, not for each target.
            whose = label if step_name in seen.progress.shared else name
            yield whose, step_name, steps.get(step_name, Step())


def good(text: str) -> Text:
    """A result that is well."""
    return Text.assemble(("✓ ", "green"), text)


def bad(text: str) -> Text:
    """A result that is not."""
    return Text.assemble(("✗ ", "bold red"), text)


def grown(text: str) -> Text:
    """What has come."""
    return Text(text, style="green")


def gone(text: str) -> Text:
    """What is not there any more."""
    return Text(text, style="red")


def changed(text: str) -> Text:
    """What is another."""
    return Text(text, style="yellow")


def dim(text: str) -> Text:
    """What is beside the point."""
    return Text(text, style="dim")


def size(number: int | None) -> str:
    """Bytes for people: 1.1 MB."""
    if number is None:
        return "-"
    return f"{number / 1e6:,.1f} MB" if number >= 100_000 else f"{number / 1e3:,.1f} kB"


def count(number: int, what: str) -> str:
    """A number of things: 1 package, 2 packages."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def milliseconds(number: float | None) -> str:
    """Milliseconds for people."""
    return "-" if number is None else f"{number:,.0f} ms"


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\{'u' if number < 0x10000 else 'U000'}{number:04x}"
