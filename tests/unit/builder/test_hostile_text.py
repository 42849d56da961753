"""Texts that are made to cost time or memory, or to steer the terminal that shows them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import unicodedata
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.utils import InvalidWheelFilename

import layer_builder
from layer_builder import cli
from layer_builder.ground import redaction, wording
from layer_builder.ground.errors import BuildError, IndexUnreachableError, RequirementsError
from layer_builder.ground.filenames import wheel_of
from layer_builder.ground.target import Target
from layer_builder.indexes import index, web
from layer_builder.indexes.access import Access
from layer_builder.requirements import origins, parser
from layer_builder.resolution import explain
from layer_builder.results.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from layer_builder.ground.settings import Settings

SHA256 = "a" * 64
ESCAPES = "\x1b]52;c;ZXZpbA==\x07 \x9b31m \x7f \r \u202e \u2066 \u200f \u2028 \U000e0041"
# ru_maxrss would have the memory of the process that started it, too.
READ = """
import resource, sys
from pathlib import Path
from layer_builder.requirements import parser
from layer_builder.ground.errors import BuildError
try:
    parser.parse(parser.decode(sys.stdin.buffer.read()), ["https://e.example/"])
    code, message = "", ""
except BuildError as error:
    code, message = error.code, error.message
usage = resource.getrusage(resource.RUSAGE_SELF)
memory = int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]) << 10
print(usage.ru_utime + usage.ru_stime, memory, code, len(message))
"""

# Each grows with its argument; about as many characters.
LINES: dict[str, Callable[[int], str]] = {
    "spaces within": lambda n: "a" + " " * n + "b",
    "spaces before a comment that is none": lambda n: "a" + " " * n + "b#",
    "spaces and signs": lambda n: "a" + " #" * (n // 2),
    "tabs": lambda n: "a" + "\t" * n + "==1",
    "spaces before an option": lambda n: "a" + " " * n + "--x",
    "dashes": lambda n: "a " + "-a " * (n // 3),
    "spaces in a hash": lambda n: "a --hash" + " " * n + "x",
    "a hash without an end": lambda n: "a --hash=sha256:" + "a" * n + "!",
    "an algorithm without an end": lambda n: "a --hash=" + "a" * n,
    "an option without an end": lambda n: "--" + "x" * n,
    "spaces in an index": lambda n: "--index-url" + " " * n + "x y",
    "an index with an equals sign": lambda n: "--index-url" + " " * n + "=" + " " * n,
    "a long address": lambda n: "a @ https://" + "/" * n,
    "an address of an allowed place": lambda n: "a @ https://e.example/" + "%2e/" * (n // 4) + "#sha256=x",
    "names in addresses": lambda n: "https://" + "a@" * (n // 2),
    "slashes": lambda n: "//" * (n // 2) + "@",
    "a path": lambda n: "a" * n + ".whl.zi",
    "dots in a name": lambda n: "a." * (n // 2),
    "versions": lambda n: "a" + "==1," * (n // 4) + "==1",
    "a version of many parts": lambda n: "a==" + "1." * (n // 2) + "1",
    "a version of many digits": lambda n: "a==" + "1" * n,
    "brackets": lambda n: "a; " + "(" * n,
    "brackets that close": lambda n: "a; " + "(" * (n // 2) + "os_name == 'x'" + ")" * (n // 2),
    "markers": lambda n: "a; " + " and ".join(["os_name == 'x'"] * (n // 19)),
    "extras": lambda n: "a[" + "b," * (n // 2) + "b]",
    "an open quote": lambda n: "a; os_name == '" + "x" * n,
    "an open bracket": lambda n: "a[" + "b" * n,
}
WHOLE: dict[str, Callable[[int], str]] = {
    "continued lines": lambda n: "\\\n" * (n // 2) + "a",
    "continued spaces": lambda n: " \\\n" * (n // 3) + "a",
    "hashes of one project": lambda n: "".join(
        f"a --hash=sha256:{number:064}\n" for number in range(min(n // 80, 4_999))
    ),
    "empty lines": lambda n: "\n" * n + "a",
    "comments": lambda n: "#\n" * (n // 2) + "a",
    "carriage returns": lambda n: "\r" * n + "a",
    "--require-hashes": lambda n: "--require-hashes\n" * (n // 17),
}


def seconds(work: Callable[[], object]) -> float:
    """CPU time, the best of three: others are at work here, too."""
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        work()
        best = min(best, time.process_time() - begun)
    return best


def is_linear(work: Callable[[int], object], size: int) -> bool:
    """Tell whether four times as much takes about four times as long; the square would be sixteen."""
    return seconds(lambda: work(4 * size)) < 10 * seconds(lambda: work(size)) + 0.01


def taken(text: str) -> None:
    try:
        parser.parse(text, ["https://e.example/"])
    except RequirementsError as error:
        assert len(error.message) <= wording.MAX_SENTENCE
        assert error.message.isprintable()


@pytest.mark.sample(9)
@pytest.mark.attack("uploader: a requirements file of 1 MB that costs much to read")
@pytest.mark.parametrize("make", [*LINES.values(), *WHOLE.values()], ids=[*LINES, *WHOLE])
def test_a_file_is_read_or_refused_soon(make: Callable[[int], str]) -> None:
    text = make((1 << 20) - 200)
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=text.encode()[: 1 << 20],
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(layer_builder.__file__).parents[1])},
    )
    spent, size, *answer = done.stdout.decode().split()
    assert float(spent) < 5
    assert int(size) < 300 << 20
    if len(answer) == 2:
        assert answer[0] == "REQUIREMENTS_INVALID"
        assert int(answer[1]) <= wording.MAX_SENTENCE


@pytest.mark.attack("uploader: lines whose cost grows with their square")
@pytest.mark.parametrize("make", LINES.values(), ids=LINES)
def test_a_line_takes_time_in_proportion_to_its_length(make: Callable[[int], str]) -> None:
    assert is_linear(lambda size: taken(make(size)), parser.MAX_CHARACTERS // 5)


@given(
    st.lists(
        st.sampled_from([" ", "#", "a", "-", "--hash=", "=", "[", "(", "'", ";", "@", "/", ".", "1", ","])
    ),
    st.sampled_from([" ", "#", "a", "--", "(", ".", ",1", "a "]),
)
@example(["a"], " ")
def test_whatever_is_repeated_is_read_soon(parts: list[str], more: str) -> None:
    text = "".join(parts) + more * 10_000 + "".join(parts)
    begun = time.process_time()
    taken(text)
    assert time.process_time() - begun < 1


def test_a_line_at_its_longest_is_taken() -> None:
    hashes = "".join(f" \\\n  --hash=sha256:{number:064}" for number in range(800))
    assert len(parser.parse(f"a==1{hashes}").sha256["a"]) == 800
    with pytest.raises(RequirementsError, match="65,536 characters"):
        parser.parse("a==1" + hashes * 2)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a; " + "(" * 5_000, "parentheses"),
        ("a==" + "1" * 5_000, "digits"),
        ("a<=1." + "1" * 5_000, "digits"),
    ],
)
def test_what_python_cannot_read_is_an_error_of_the_line(line: str, reason: str) -> None:
    with pytest.raises(RequirementsError, match=reason):
        parser.parse(line)
    with pytest.raises(RequirementsError, match="constraint"):
        parser.parse("a", (), [line])


@pytest.mark.parametrize("ends", ["", "@", "/..", "?", "\\"])
def test_addresses_are_compared_in_proportion(ends: str) -> None:
    def compare(size: int) -> None:
        for unit in ("a", "/", "a@", "%2f", ":"):
            origins.why_not("https://e.example/" + unit * size + ends, ["https://e.example/"])

    assert is_linear(compare, 20_000)


# ---------------------------------------------------------------- indexes


def page_of(content: str) -> list[index.IndexedFile] | None:
    try:
        return index._files_in_html(content.encode(), "https://e.example/simple/x/")
    except ValueError:
        return None


@pytest.mark.sample(3)
@pytest.mark.attack("index: a page that costs much to read")
@pytest.mark.parametrize(
    "unit",
    [
        "<!--",
        "<a ",
        "<a href='",
        '<a "',
        "<a ' \" ' \"",
        "<!",
        "</",
        "<a x=",
        "<!-- -->",
        "<a href=x>",
        "<a b>",
        "&#",
    ],
)
def test_a_page_takes_time_in_proportion_to_its_length(unit: str) -> None:
    assert is_linear(lambda size: page_of(unit * (size // len(unit))), 100_000)


@pytest.mark.attack("index: a page of brackets or links that takes all memory")
@pytest.mark.parametrize("html", [False, True])
def test_a_page_of_nothing_but_structure_is_refused(html: bool) -> None:
    with pytest.raises(ValueError, match="any page does"):
        if html:
            index._files_in_html(b"<a href=x>" * 300_000, "https://e.example/simple/x/")
        else:
            index._files_in_json(b'{"files": [' + b"[]," * 500_000 + b"1]}", "https://e.example/simple/x/")


def test_links_are_found_as_they_are_written() -> None:
    digest = f"#sha256={SHA256}"
    found = page_of(
        f"""<!DOCTYPE html><!-- <a href="no-1.0.tar.gz">no</a> --><body>
        <a href="../a-1.0.tar.gz{digest}">a</a><A HREF='/b-1.0.tar.gz' data-requires-python=">=3.8">b</A>
        <a
          data-yanked="it's > bad" href="c-1.0.tar.gz">c</a><abbr href="no">no</abbr><a name="no">no</a>
        <a data-core-metadata href=d&amp;e-1.0.tar.gz>d</a>"""
    )
    assert found is not None
    assert [(file.url, file.sha256, file.requires_python, file.yanked) for file in found] == [
        ("https://e.example/simple/a-1.0.tar.gz", SHA256, None, ""),
        ("https://e.example/b-1.0.tar.gz", None, ">=3.8", ""),
        ("https://e.example/simple/x/c-1.0.tar.gz", None, None, "it's > bad"),
        ("https://e.example/simple/x/d&e-1.0.tar.gz", None, None, ""),
    ]


@pytest.mark.attack("index: a wheel whose name stands for millions of tags")
def test_a_wheel_with_too_many_tags_is_none() -> None:
    many = ".".join(f"p{number}" for number in range(20))
    assert len(wheel_of("a-1-py2.py3-none-any.whl")[3]) == 2
    with pytest.raises(InvalidWheelFilename, match="tags"):
        wheel_of(f"a-1-{many}-{many}-{many}.whl")
    with pytest.raises(InvalidWheelFilename, match="long"):
        wheel_of(f"a-{'1' * 300}-py3-none-any.whl")
    files = [index.IndexedFile(f"a-1-{many}-{many}-{many}.whl", "https://e.example/", SHA256)]
    assert index.wheels_among(files) == []


@pytest.mark.attack("index: a page of wheels whose names stand for a million tags together")
def test_a_page_with_too_many_tags_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = "-".join(".".join("abcdefghij") for _ in range(3))
    links = "".join(f"<a href='evil-1-{number}-{tags}.whl#sha256={SHA256}'></a>" for number in range(300))

    def answer(*_: object, **__: object) -> AbstractContextManager[Any]:
        said = {
            "status": 200,
            "url": "https://e.example/",
            "content_type": "text/html",
            "read": lambda _: links.encode(),
        }
        return nullcontext(SimpleNamespace(**said))

    monkeypatch.setattr(web, "ask", answer)
    with pytest.raises(IndexUnreachableError, match="no page of a package index"):
        index.files_of("evil", "https://e.example/simple", Access())
    links = links[: len(links) // 2]
    assert len(index.files_of("evil", "https://e.example/simple", Access()) or ()) == 150


@pytest.mark.attack("index: names that cost much in uv's explanation")
@pytest.mark.parametrize(
    "text",
    [
        "Because {} has no wheels",
        "{} was not found in the package registry",
        "cause: Because {}. And because {}",
    ],
)
@pytest.mark.parametrize("unit", ["a.", "a-", "a", "`a", "Because ", ". because "])
def test_explanations_are_read_in_proportion(text: str, unit: str, settings: Settings) -> None:
    wanted, target = parser.parse("a"), Target.of("python3.13", "x86_64")

    def explained(size: int) -> None:
        told = text.replace("{}", unit * (size // len(unit)))
        assert len(explain.failure(told, wanted, [], target, settings).message) <= wording.MAX_SENTENCE

    begun = time.process_time()
    explained(1_000_000)
    assert time.process_time() - begun < 2


# ---------------------------------------------------------------- what is shown


def obeyed(text: str) -> list[str]:
    """List what a terminal would do something about, but newlines and tabs."""
    kinds, bidi = {"Cc", "Zl", "Zp", "Cs"}, {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    found = [
        one for one in text if unicodedata.category(one) in kinds or unicodedata.bidirectional(one) in bidi
    ]
    return [one for one in found if one not in "\n\t"]


@given(st.text(st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Lu"))))
@example("".join(map(chr, range(0x2100))))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = wording.visible(text)
    assert obeyed(shown) == []
    assert wording.visible(shown) == shown
    assert not {"\n", "\t"} & {*wording.visible(text, one_line=True)}


def test_what_may_be_shown_stays_as_it_is() -> None:
    text = "Zeile 1, “so”\n\tund ü → 日本 👩‍💻"
    assert wording.visible(text) == text


def texts_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in texts_in(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts_in(one)]
    return [value] if isinstance(value, str) else []


@pytest.mark.attack("package or index: steers the terminal by the report")
def test_a_report_shows_what_others_wrote_and_obeys_nothing() -> None:
    said = f"said {ESCAPES} \ud800"
    error = BuildError(said, hint=said, details={said: [said, {"path": Path(f"/{said}")}]})
    report = Report(requirements=[said], warnings=[said], checks={said: {"x": [said]}}, error=error)
    told = "".join(texts_in(json.loads(report.to_json())))
    assert obeyed(told) == []
    assert r"\x1b]52;c;ZXZpbA==\x07" in told
    assert r"\ud800" in told


@pytest.mark.attack("package or index: steers the terminal by the log")
def test_a_log_shows_what_others_wrote_and_obeys_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    said = f"said {ESCAPES}\nerror FORGED: yes"
    cli.log_to_stderr()
    log = logging.getLogger("layer_builder")
    log.info("imported %s", said)
    try:
        raise ValueError(said)  # noqa: TRY301
    except ValueError:
        log.exception("met a bug")
    cli._close(Report(warnings=[said], error=BuildError(said, hint=said)), "", 0.0)
    assert logging.lastResort  # what writes libraries' warnings
    logging.lastResort.handle(
        logging.makeLogRecord({"msg": f"a library: {said}", "levelno": logging.WARNING})
    )
    shown = capsys.readouterr().err
    assert obeyed(shown) == []
    assert shown.count(r"\x1b]52;c;ZXZpbA==\x07") == 6
    lines = shown.splitlines()
    assert "  File " in shown, "a traceback keeps its lines"
    assert sum(line.startswith("error FORGED") for line in lines) == 1, "only in the traceback"


@pytest.mark.attack("uploader: steers the terminal by the requirements")
@pytest.mark.parametrize("line", [f"a {ESCAPES}", f"--{ESCAPES}", f"./{ESCAPES}", f"a @ https://{ESCAPES}"])
def test_a_line_that_is_refused_is_shown_and_obeys_nothing(line: str) -> None:
    for text in line.splitlines():
        try:
            parser.parse(text.replace("\r", ""))
        except RequirementsError as error:
            assert error.message.isprintable()
            assert obeyed(redaction.shown(error.details)["text"]) == []


@given(st.text() | st.integers(0, 300_000).map(lambda count: "ab" * count))
@example("\x1b" * 5_000)
def test_a_sentence_is_one_line_of_bounded_length(text: str) -> None:
    error = BuildError(text, hint=text)
    for shown in (error.message, error.hint, str(error)):
        assert len(shown) <= wording.MAX_SENTENCE
        assert "\n" not in shown
        assert wording.sentence(shown) == shown


@pytest.mark.attack("index: an explanation of megabytes in the report")
@pytest.mark.parametrize(
    "details",
    [
        {"explanation": "x" * 9_000_000},
        {"versions": ["1.0"] * 1_000_000},
        {"a": {str(number): "x" * 1_000 for number in range(10_000)}},
        {"a": [[["x" * 1_000] * 1_000] * 1_000]},
        {"a": 1 << 50_000},
    ],
    ids=["a text", "a list", "a table", "lists of lists", "a number"],
)
def test_details_are_bounded(details: dict[str, Any]) -> None:
    written = Report(error=BuildError("x", details=details)).to_json()
    assert len(written) < 200_000
    told = json.loads(written)["error"]["details"]
    assert told
