"""One embedded AWS for these tests, and the table of what they tried."""

from collections.abc import Iterator
from typing import Any

import pytest

from .harness import Pipeline

TABLE: list[tuple[str, int, int, str]] = []


@pytest.fixture(scope="package")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        running = Pipeline(folder, patch)
        running.start()
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(autouse=True)
def no_rules_left(pipeline: Pipeline) -> Iterator[None]:
    yield
    pipeline.proxy.rules.clear()
    pipeline.held = None


@pytest.fixture
def tried() -> Any:
    """Notes a row of the table: what was tried, how often, how often the promise held, and figures."""

    def note(fault: str, tries: int, held: int, figures: str = "") -> None:
        TABLE.append((fault, tries, held, figures))

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not TABLE:
        return
    merged: dict[str, tuple[int, int, str]] = {}
    for fault, tries, held, figures in TABLE:
        before = merged.get(fault, (0, 0, ""))
        merged[fault] = (before[0] + tries, before[1] + held, figures or before[2])
    width = max(map(len, merged))
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'fault':{width}}  tries   held")
    for fault, (tries, held, figures) in merged.items():
        terminalreporter.write_line(f"{fault:{width}}  {tries:5}  {held:5}  {figures}".rstrip())
