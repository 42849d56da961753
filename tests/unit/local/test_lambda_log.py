import base64
import signal

import pytest

from local.lambda_log import end_lines, exit_reason, start_line, tail

ID = "5b3aa800-5ff2-4756-89f4-8b01418f8b79"


def test_a_cold_start_is_reported_and_billed() -> None:
    """The report of a real function, of a Java one at that: only its end differs from a good one."""
    end, report = end_lines(ID, 1248.31, 128, 94, 293.05, "error\tError Type: Runtime.ExitError")
    assert start_line(ID, "$LATEST") == f"START RequestId: {ID} Version: $LATEST"
    assert end == f"END RequestId: {ID}"
    assert report == (
        f"REPORT RequestId: {ID}\tDuration: 1248.31 ms\tBilled Duration: 1542 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 94 MB\tInit Duration: 293.05 ms\tStatus: error\tError Type: Runtime.ExitError\t"
    )


def test_a_warm_event_has_no_init() -> None:
    _, report = end_lines(ID, 1.0, 1024, 40)
    assert "Init" not in report
    assert "Billed Duration: 1 ms" in report
    assert "Status" not in report


@pytest.mark.parametrize("text", ["short\n", "ü" * 5000, "\ud800", ""])
def test_of_a_log_the_last_four_kilobytes_are_told(text: str) -> None:
    told = base64.b64decode(tail(text))
    assert text.encode("utf-8", "replace").endswith(told)
    assert len(told) == min(4096, len(text.encode("utf-8", "replace")))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "Runtime exited without providing a reason"),
        (0, "Runtime exited without providing a reason"),
        (1, "Runtime exited with error: exit status 1"),
        (-signal.SIGSEGV, "Runtime exited with error: signal: segmentation fault"),
        (-signal.SIGABRT, "Runtime exited with error: signal: aborted"),
        (-signal.SIGKILL, "Runtime exited with error: signal: killed"),
    ],
)
def test_ends_have_the_words_that_lambda_has(code: int | None, words: str) -> None:
    assert exit_reason(code) == words
