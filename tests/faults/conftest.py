"""One embedded AWS for these tests, and rows for the table of what they tried."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import FAULT

from .harness import Pipeline


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
    pipeline.lost.clear()


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Notes a row of the table: what was tried, how often, how often the promise held, and figures."""

    def note(fault: str, tries: int, held: int, figures: str = "") -> None:
        record_property(FAULT, [fault, tries, held, figures])

    return note
