import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdrop.errors import BuildError
from layerdrop.settings import parse
from layerdrop_client.problems import Problem
from layerdrop_client.quoting import Quote, quote

FILE = """\
# /// layer
# name = "web"
# runtime = "python3.12"
# ///
requests[socks] == 2.32.3 \\
    --hash=sha256:00
  Num_Py == 99   # why not
tzdata
"""


@pytest.mark.parametrize(
    ("problem", "number", "meant"),
    [
        (
            Problem("REQUIREMENTS_INVALID", "Line 7 …", details={"line": 7, "text": "Num_Py == 99"}),
            7,
            "Num_Py == 99",
        ),
        (Problem("REQUIREMENTS_INVALID", "Line 8 is odd."), 8, "tzdata"),
        (
            Problem("SETTINGS_INVALID", '"runtime" is no setting.', details={"setting": "runtime"}),
            3,
            'runtime = "python3.12"',
        ),
        (Problem("RESOLUTION_FAILED", "num-py has no version that matches ==99."), 7, "Num_Py == 99"),
        (
            Problem("NO_WHEEL_FOR_TARGET", "No wheel.", details={"package": "requests"}),
            5,
            "requests[socks] == 2.32.3",
        ),
    ],
)
def test_the_line_is_found_and_the_part_that_is_meant(problem: Problem, number: int, meant: str) -> None:
    found = quote(problem, FILE)
    assert found and found.number == number
    assert found.text[found.start : found.start + found.length] == meant


def test_what_the_pipeline_says_of_settings_is_found() -> None:
    text = '# /// layer\n# share-with = ["1"]\n# ///\n'
    with pytest.raises(BuildError) as error:
        parse(text)
    told = error.value.problem
    assert quote(Problem(told.code, told.message, told.hint, told.details), text) == Quote(
        2, text.splitlines()[1], 2, 18
    )


@pytest.mark.parametrize(
    "problem",
    [Problem("INTERNAL", "Sorry."), Problem("X", "Line 99."), Problem("X", "", details={"line": 0})],
)
def test_what_cannot_be_found_is_not_made_up(problem: Problem) -> None:
    assert quote(problem, FILE) is None


@given(
    st.text(),
    st.text(max_size=200),
    st.dictionaries(
        st.sampled_from(["line", "text", "package", "setting"]), st.one_of(st.text(), st.integers())
    ),
)
def test_whatever_they_say_a_quote_is_of_the_file(text: str, message: str, details: dict) -> None:
    found = quote(Problem("X", message, details=details), text)
    if found:
        assert found.text in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert 0 <= found.start <= found.start + found.length <= len(found.text)
