import re
from pathlib import Path

import pytest

from layer_builder.ground.errors import EXIT_BUG, EXIT_INPUT, EXIT_OK, EXIT_RETRY, BuildError
from layerdrop.errors import ErrorCode
from layerdrop_client import problems
from layerdrop_client.problems import AGAIN, BUG, DONE, MENDED_BY_TRYING_AGAIN, OURS, USER, Problem, worst

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTED = set(re.findall(r"`([A-Z][A-Z_]+)`", (ROOT / "docs/manifest.md").read_text()))


def test_exit_statuses_are_the_builders() -> None:
    assert (DONE, USER, BUG, AGAIN) == (EXIT_OK, EXIT_INPUT, EXIT_BUG, EXIT_RETRY)


def test_every_code_that_is_told_apart_is_one_of_a_manifests() -> None:
    assert MENDED_BY_TRYING_AGAIN - {problems.UNTOLD} <= DOCUMENTED
    assert not MENDED_BY_TRYING_AGAIN & {"REQUIREMENTS_INVALID", "SETTINGS_INVALID", "RESOLUTION_FAILED"}


def test_the_page_lists_what_a_sync_tries_again() -> None:
    page = (ROOT / "docs/client.md").read_text()
    [listed] = re.findall(r"The codes: (.*?)\.\n", page, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == MENDED_BY_TRYING_AGAIN


def test_what_the_builder_would_try_again_may_be_uploaded_again() -> None:
    import layer_builder.cli  # noqa: F401 (which imports all rooms, and so all errors)

    kinds, found = [BuildError], []
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found.append(kind)
    again = {kind.code for kind in found if kind.exit_status == EXIT_RETRY}
    assert len(again) > 2
    assert again <= MENDED_BY_TRYING_AGAIN


def test_the_pipelines_own_codes_are_told_apart() -> None:
    mine = {str(code) for code in ErrorCode} - MENDED_BY_TRYING_AGAIN
    assert mine == {
        "KEY_INVALID",
        "SETTINGS_INVALID",
        "REQUIREMENTS_INVALID",
        "PUBLISH_REFUSED",
        "IMPORT_FAILED",
        "LAYER_NAME_TAKEN",
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [("REQUIREMENTS_INVALID", 2), ("INDEX_UNREACHABLE", 75), ("INTERNAL_ERROR", 70), ("NEW", 2)],
)
def test_a_code_has_its_status(code: str, status: int) -> None:
    assert Problem(code, "").exit_status == status
    assert OURS <= MENDED_BY_TRYING_AGAIN


def test_of_several_the_worst_counts() -> None:
    assert worst([]) == worst([DONE, DONE]) == DONE
    assert worst([AGAIN, DONE]) == AGAIN
    assert worst([AGAIN, USER]) == USER
    assert worst([USER, BUG, AGAIN]) == BUG
    assert problems.INTERRUPTED == 130
