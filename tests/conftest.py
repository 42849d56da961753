"""The table of faults at the end of a run.

Its rows travel as properties of test reports: the tests may have run in other processes.
"""

import pytest

FAULT = "fault"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
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
