"""The tables at the end of a run: of faults, and of attacks.

Their rows travel as properties of test reports: the tests may have run in other processes.
"""

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

SHARING = ("tests/e2e", "tests/faults", "tests/integration")
FAULT = "fault"
ATTACK = "attack"
_LONGEST = 90


def sampled(cases: Iterable[Any], sample: Callable[[Any], bool]) -> list[Any]:
    """Return a set's cases for ``parametrize``, those that are not in the sample marked ``long``."""
    return [case if sample(case) else pytest.param(case, marks=pytest.mark.long) for case in cases]


def in_two_sizes(part: Any, whole: Any) -> list[Any]:
    """Return two cases for ``parametrize``, of which the part is left out where the whole runs."""
    return [pytest.param(part, marks=pytest.mark.part), pytest.param(whole, marks=pytest.mark.long)]


def pytest_configure(config: pytest.Config) -> None:
    """Have fewer examples tried of each property, too, where a sample is wanted."""
    settings.register_profile("sample", max_examples=25)
    if config.getoption("markexpr") == "not long":
        settings.load_profile("sample")


class _Together(LoadFileScheduling):
    """Gives a process all tests of a file, or of a folder that shares an embedded AWS: it starts once.

    Only where a sample is wanted: all of such a folder's tests would be too much for one process.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = file.rpartition("/")[0]
        return folder if folder in SHARING else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """For a sample one process more than there are cores: tests that wait take a third of the time.

    The large sets start so many processes of their own that they need none beside them.
    """
    return (os.cpu_count() or 1) + 1 if config.getoption("markexpr") == "not long" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    sample = config.getoption("markexpr") == "not long" and config.getoption("dist") == "loadfile"
    return _Together(config, log) if sample else None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Say by the tests' marks which run, and give each test marked `attack(what)` its row.

    All but the first cases of a test marked `sample(count)` are left out of the sample; a case marked `part`
    is left out where a case of the same test that is none has been selected.
    """
    _mark(items)
    yield
    whole = {_test_of(item) for item in items if not item.get_closest_marker("part")}
    left_out = [item for item in items if item.get_closest_marker("part") and _test_of(item) in whole]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _test_of(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _mark(items: list[pytest.Item]) -> None:
    cases: Counter[str] = Counter()
    for item in items:
        if marker := item.get_closest_marker("sample"):
            cases[_test_of(item)] += 1
            if cases[_test_of(item)] > marker.args[0]:
                item.add_marker(pytest.mark.long)
        for marker in item.iter_markers(ATTACK):
            callspec = getattr(item, "callspec", None)
            what = f"{marker.args[0]}: {callspec.id}" if callspec else marker.args[0]
            row = what if len(what) <= _LONGEST else what[: _LONGEST - 1] + "…"
            item.user_properties.append((ATTACK, row))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _write_faults(terminalreporter)
    _write_attacks(terminalreporter)
    if terminalreporter.config.getoption("markexpr") == "not long":
        terminalreporter.write_line("Of large sets this was a sample: make test-all runs every test.")


def _write_faults(terminalreporter: pytest.TerminalReporter) -> None:
    merged: dict[str, tuple[int, int, str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, row in getattr(report, "user_properties", ()):
                if name == FAULT and report.when == "call":
                    fault, tries, held, figures = row
                    before = merged.get(fault, (0, 0, ""))
                    merged[fault] = (before[0] + tries, before[1] + held, figures or before[2])
    if not merged:
        return
    width = max(map(len, merged))
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'fault':{width}}  tries   held")
    for fault, (tries, held, figures) in merged.items():
        terminalreporter.write_line(f"{fault:{width}}  {tries:5}  {held:5}  {figures}".rstrip())


def _write_attacks(terminalreporter: pytest.TerminalReporter) -> None:
    outcomes: dict[tuple[str, str], str] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if not isinstance(report, pytest.TestReport):  # a test that was deselected
                continue
            for name, row in report.user_properties:
                # A test that does not come to its call failed before it, or was left out.
                if name == ATTACK and (report.when == "call" or not report.passed):
                    key = (row, report.nodeid)
                    held = "held" if report.passed else "not tried" if report.skipped else "NOT HELD"
                    outcomes[key] = max(outcomes.get(key, held), held, key=_WORSE.index)
    if not outcomes:
        return
    width = max(len(row) for row, _ in outcomes)
    terminalreporter.section("attacks")
    terminalreporter.write_line(f"{'attack':{width}}  outcome")
    for (row, _), outcome in sorted(outcomes.items()):
        terminalreporter.write_line(f"{row:{width}}  {outcome}")
    count = {outcome: sum(1 for found in outcomes.values() if found == outcome) for outcome in _WORSE}
    told = ", ".join(f"{number} {outcome}" for outcome, number in count.items() if number)
    terminalreporter.write_line(f"{len(outcomes)} attacks: {told}")


_WORSE = ("held", "not tried", "NOT HELD")
