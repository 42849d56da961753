"""Texts that are made to cost time, to burst what carries them, or to steer the terminal that shows them."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import layerdrop
from layerdrop import settings, wording
from layerdrop.build_input import BuildInput, Execution
from layerdrop.errors import BuildError, ErrorCode, Problem
from layerdrop.failure import LogGroups, plan_problem
from layerdrop.manifest import Manifest, Outcome, Status, finished
from layerdrop.report import Report
from tests.unit.functions.test_report import TARGET, document

ESCAPES = "\x1b]52;c;ZXZpbA==\x07 \x9b31m \x7f \r \u202e \u2066 \u200f \u2028 \U000e0041"
LIMIT = 256 * 1024  # bytes that a state may have
LOGS = LogGroups("start", "plan", "build", "publish", "trial", "release", "write")

SEVERAL = "abcdefghijklmnopqrstuvwxyz"
BLOCKS = {
    "a key of 50,000 dots": ["a." * 50_000 + "a = 1"],
    "dots in as many keys as there is room for": [f"{letter}." * 499 + "a = 1" for letter in SEVERAL],
    "a table of dots": ["[" + "a." * 20_000 + "a]"],
    "brackets within brackets": ["name = " + "[" * 9_000],
    "tables within tables": ["name = " + "{a=" * 3_000],
    "a number of 9,000 digits": ["name = " + "9" * 9_000],
    "a hexadecimal number of 36,000 bits": ["name = 0x" + "f" * 9_000],
    "a number in a list": ["runtimes = [0x" + "f" * 9_000 + "]"],
    "an unknown key of 900 kB": ["a" * 900_000 + " = 1"],
    "an unknown key as long as may be": ["a" * 10_000 + " = 1"],
    "a value as long as may be": ['name = "' + "a" * 10_000 + '"'],
    "a list of long values": ['share-with = ["' + "a" * 10_000 + '"]'],
    "quotes, which are escaped again and again": ["'" + '"' * 10_000 + "' = 1"],
    "what four bytes take": ['"' + "\U0001f600" * 10_000 + '" = 1'],
    "thousands of keys": [f"a{number} = 1" for number in range(3_000)],
    "what a terminal obeys": ['"\\u001b]52;c;ZXZpbA==\\u0007\\u202e" = 1'],
}
# ru_maxrss would have the memory of the process that started it, too.
READ = """
import resource, sys
from pathlib import Path
from layerdrop import settings
from layerdrop.errors import BuildError
try:
    settings.parse(sys.stdin.read())
except BuildError as error:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    memory = int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]) << 10
    print(usage.ru_utime + usage.ru_stime, memory)
    print(error)
"""


def block(lines: list[str]) -> str:
    return "\n".join(["# /// layer", *(f"# {line}" for line in lines), "# ///"])


def answered(text: str) -> str:
    """Read a file in a process of its own; return what the state machine gets, if that took little."""
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(layerdrop.__file__).parents[1])},
    )
    figures, error = done.stdout.split("\n", 1)
    seconds, size = map(float, figures.split())
    assert seconds < 5
    assert size < 300 << 20
    return error


@pytest.mark.attack("uploader: settings that cost much to read")
@pytest.mark.parametrize("lines", BLOCKS.values(), ids=BLOCKS)
def test_settings_are_refused_soon_and_in_few_words(lines: list[str]) -> None:
    told = json.loads(answered(block(lines)))
    assert told["code"] == ErrorCode.SETTINGS_INVALID
    assert told["hint"]
    assert told["message"].isprintable()
    # Lambda writes the text into JSON, and the state machine that into JSON again.
    cause = json.dumps({"Cause": json.dumps({"errorMessage": json.dumps(told)})})
    assert len(cause.encode()) < LIMIT / 2


@pytest.mark.attack("uploader: a line that is almost an opening, of 1 MB")
@pytest.mark.parametrize("line", ["#" + " " * 900_000 + "/// layer", "#" * 900_000 + "/// layer"])
def test_a_long_line_that_opens_no_block_is_quoted_in_part(line: str) -> None:
    told = json.loads(answered(line))
    assert len(told["message"]) < 300


def test_lists_at_their_longest_are_taken() -> None:
    """The limits are beyond what anybody may ask for."""
    constraints = [f"{'p' * 100}{number:02}>=1.2.3,<4" for number in range(50)]
    packages = [f"{'p' * 126}{number:02}" for number in range(50)]
    lines = [f"{key} = {json.dumps(value)}" for key, value in (
        ("constraints", constraints), ("allow-sdist", packages), ("system-libraries", packages),
        ("exclude", packages), ("cooldown-exempt", packages),
        ("alongside", [f"arn:aws:lambda:eu-west-1:111122223333:layer:{'l' * 140}:{n}" for n in range(1, 5)]),
        ("share-with", [f"{number:012}" for number in range(50)]),
        ("description", "d" * 256), ("license", "l" * 512),
        ("vulnerability-ignore", [f"GHSA-{'x' * 28}{number:02}: {'w' * 100}" for number in range(30)]),
    )]  # fmt: skip
    assert len(settings.parse(block(lines)).constraints) == 50


# ---------------------------------------------------------------- what is told

texts = st.text(max_size=50) | st.integers(0, 300_000).map(lambda count: '"' * count) | st.just(ESCAPES)
values = st.recursive(
    texts | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


@given(texts, texts, st.dictionaries(texts, values, max_size=5))
@example("a" * 900_000, "\U0001f600" * 900_000, {"x": ['"' * 9_000] * 9_000})
@example("x", "y", {"deep": [[[[[[[[[[[["z"]]]]]]]]]]]], "many": list(range(9_000)), "big": 10**5_000})
def test_no_problem_is_too_large_to_travel(message: str, hint: str, details: dict[str, Any]) -> None:
    error = BuildError(ErrorCode.SETTINGS_INVALID, message, hint, details)
    cause = json.dumps({"errorMessage": str(error), "errorType": "BuildError"})
    assert len(json.dumps({"Error": "BuildError", "Cause": cause}).encode()) < LIMIT
    problem = plan_problem({"Error": "BuildError", "Cause": cause}, LOGS)
    assert (problem.message, problem.hint) == (error.problem.message, error.problem.hint)
    for text in (problem.message, problem.hint):
        assert len(text) <= wording.MAX_SENTENCE
        assert "\n" not in text
        text.encode()


def test_what_is_short_stays_as_it_is() -> None:
    details = {"a": 1, "b": [True, None, 1.5, "Zeile\n\tü"], "c": {"d": list(range(100))}}
    problem = Problem("X", "Ein Satz, “so”.", "Ein Rat.", details)
    assert (problem.message, problem.hint, problem.details) == ("Ein Satz, “so”.", "Ein Rat.", details)


def obeyed(text: str) -> list[str]:
    """What a terminal would do something about, but newlines and tabs."""
    kinds = {"Cc", "Zl", "Zp", "Cs"}
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return [
        one
        for one in text
        if one not in "\n\t"
        and (unicodedata.category(one) in kinds or unicodedata.bidirectional(one) in bidi)
    ]


@given(st.text(st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Lu"))))
@example("".join(map(chr, range(0x2100))))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert obeyed(wording.visible(text)) == []
    assert wording.visible(wording.visible(text)) == wording.visible(text)
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # halves may meet
    assert json.loads(wording.escaped(json.dumps(text, ensure_ascii=False))) == whole


def manifest_of(warning: str, key: str = "requirements/arm64/web/requirements.txt") -> bytes:
    told = document(warnings=[warning], checks={warning: [warning]})
    told["packages"][0]["license"] = warning
    report = Report.from_text(json.dumps(told))
    build_input = BuildInput("bucket", key, "v", "e", "00", 1)
    problem = Problem("RESOLUTION_FAILED", warning, warning, {"explanation": warning})
    outcome = Outcome(TARGET, report=report, problem=problem)
    execution = Execution("arn", "name", "2026-11-20T10:00:00Z")
    return finished(build_input, execution, "2026-11-20T10:00:01Z", [outcome]).to_bytes()


@pytest.mark.attack("package or index: steers the terminal by the manifest")
def test_a_manifest_shows_what_others_wrote_and_obeys_nothing() -> None:
    text = manifest_of(f"said {ESCAPES} \ud800")
    assert obeyed(text.decode()) == []

    def texts_in(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for pair in value.items() for one in pair for text in texts_in(one)]
        if isinstance(value, list):
            return [text for one in value for text in texts_in(one)]
        return [value] if isinstance(value, str) else []

    told = texts_in(json.loads(text))  # as `jq -r` writes them
    assert obeyed("".join(told)) == []
    assert any(r"\x1b]52;c;ZXZpbA==\x07" in one for one in told)


@pytest.mark.attack("uploader: steers the terminal by the file's name")
def test_a_key_stays_what_it_is_and_the_manifest_can_be_shown() -> None:
    key = f"requirements/arm64/{ESCAPES}/requirements.txt"
    text = manifest_of("", key)
    assert obeyed(text.decode()) == []
    assert json.loads(text)["input"]["key"] == key


@pytest.mark.attack("job: a report with a million warnings")
def test_warnings_are_bounded() -> None:
    report = Report.from_text(json.dumps(document(warnings=["x" * 3_000] * 1_000)))
    assert len("".join(report.warnings)) < 1 << 20
    manifest = Manifest(Status.SUCCEEDED, BuildInput("b", "k", "v", "e", "0", 1), None)
    assert len(manifest.to_bytes()) < 1 << 20
