import io
import re
import time

import pytest
from rich.console import Console

from layerdrop_client.following import BUILDING, Seen, Upload
from layerdrop_client.history import OF_TARGETS, Progress, State, Step
from layerdrop_client.problems import Problem
from layerdrop_client.quoting import Quote
from layerdrop_client.screen import Board, Screen, quoted, size

UPLOAD = Upload("requirements/arm64/a-team-with-a-long-name/web/requirements.txt", "v1", time.time() - 150)


def states() -> list[dict[Upload, Seen]]:
    def at(build: State, note: str = "") -> dict[Upload, Seen]:
        shared = {"PlanBuild": Step(State.DONE, 1.0, 0.5), "WriteManifest": Step()}
        own = {step: Step() for step in OF_TARGETS} | {
            "BuildLayer": Step(build, time.time() - 123, 1.5, note=note)
        }
        return {
            UPLOAD: Seen(BUILDING, None, Progress(shared, {"py312-arm64": own, "py313-arm64": dict(own)}))
        }

    return [{UPLOAD: Seen()}, at(State.RUNNING, "queued"), at(State.RUNNING, "building"), at(State.FAILED)]


def screen(width: int = 80) -> tuple[Screen, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Screen(out=out, err=err, width=width), out, err


def test_elsewhere_than_on_a_terminal_each_change_is_a_line() -> None:
    where, out, err = screen()
    assert list(where.follow(states())) == [UPLOAD]
    lines = [re.sub(r"^ *\d+\.\d s +", "", line) for line in err.getvalue().splitlines()]
    name = "arm64/a-team-with-a-long-name/web"
    assert lines == [
        f"{name}  PlanBuild done in 0.5 s",
        *(
            f"{name} {target}  BuildLayer {what}"
            for what in ("queued", "building", "failed in 1.5 s")
            for target in ("py312", "py313")
        ),
    ]
    assert out.getvalue() == ""


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_table_fits_the_terminal(width: int) -> None:
    board = Board(width)
    for board.state in states():
        console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        console.print(board)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert max(map(len, lines)) <= width
        assert lines[0].split() == [
            "Upload",
            "Plan",
            "Resolve",
            "Build",
            "Publish",
            "Try",
            "Release",
            "Answer",
            "Time",
        ]
        assert all(line.count("…") <= 1 and "…" not in line[40:] for line in lines), lines


def test_a_crowd_is_counted() -> None:
    board = Board(80)
    board.state = {Upload(f"requirements/arm64/{n}/requirements.txt", "v"): Seen() for n in range(50)}
    assert "0 of 50 answered: 50 waiting" in str(board.__rich__())


@pytest.mark.parametrize("width", [40, 80])
def test_a_long_line_is_shown_where_it_is_wrong(width: int) -> None:
    text = "x" * 300 + " == bad " + "y" * 300
    _, line, mark = (part.plain for part in quoted(Quote(12, text, 301, 6), width))
    assert len(line) <= width
    assert line[mark.index("^") : mark.rindex("^") + 1] == "== bad"


def test_nobodys_words_are_obeyed() -> None:
    where, out, err = screen()
    evil = "a\x1b]0;title\x07\u202eb"
    where.problem(Problem("X", evil, evil), "file", Quote(1, evil, 0, 1))
    where.line(evil)
    where.table(["A"], [(evil,)])
    for text in (out.getvalue(), err.getvalue()):
        assert "\x1b" not in text and "\u202e" not in text
        assert "\\x1b" in text


def test_in_json_there_is_one_document_and_nothing_else() -> None:
    out, err = io.StringIO(), io.StringIO()
    where = Screen(as_json=True, out=out, err=err)
    where.line("x")
    where.title("x")
    where.facts([("a", "b")])
    where.table(["A"], [("x",)])
    where.document({"a": "ü\x1b"})
    assert out.getvalue() == '{\n  "a": "\\u00fc\\u001b"\n}\n'


def test_sizes_are_told_for_people() -> None:
    assert [size(n) for n in (None, 0, 31_900, 262_144_000)] == ["-", "0.0 kB", "31.9 kB", "262.1 MB"]


def test_who_wants_no_colors_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> str:
        out = io.StringIO()
        Screen(out=out, err=out).problem(Problem("X", "message", "hint"))
        return out.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31m" in told()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*3\d[;m]", told())
