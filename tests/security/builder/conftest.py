"""What the attacks on the builder share: an index of the attacker's packages, a build from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

import layer_builder
from tests.unit.builder.conftest import index, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.builder.wheel_maker import Index

    Build = Callable[..., "Answer"]

__all__ = ["index", "settings"]

_SCHEMA = Path(layer_builder.__file__).with_name("schemas") / "report.schema.json"
_WATCHDOG = 120.0  # seconds; what is refused takes a second or two
# A process keeps, through exec, the peak of what it was forked from, which must not be all of pytest. What
# wait4 says is the highest peak of any process below the one that is waited for, and of that.
_MEASURED = """
import json, os, sys
pid = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024], file)
"""


@dataclass(frozen=True)
class Answer:
    """What came of a build: its exit status, its report, what it said, the peak of its processes in bytes."""

    status: int
    report: dict[str, Any]
    stderr: str
    peak: int
    layer: Path

    @property
    def code(self) -> str | None:
        return str(self.report["error"]["code"]) if self.report["error"] else None

    @property
    def message(self) -> str:
        return str(self.report["error"]["message"])


@pytest.fixture
def build(tmp_path: Path, index: Index) -> Build:
    """Run the command, measured, in a folder of its own against the index."""
    validator = Draft202012Validator(json.loads(_SCHEMA.read_text()))
    work = tmp_path / "work"

    def run(*arguments: str) -> Answer:
        work.mkdir(exist_ok=True)
        builder = [sys.executable, "-m", "layer_builder", *arguments]
        builder += ["--output", "layer.zip", "--report", "report.json"]
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MEASURED, tmp_path / "usage.json", *builder],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "LAYER_BUILDER_CACHE": str(tmp_path / "cache"),
                "LAYER_BUILDER_INDEX_URL": index.url,
            },
            cwd=work,
            capture_output=True,
            text=True,
            timeout=_WATCHDOG,
            check=True,
        )
        status, peak = json.loads((tmp_path / "usage.json").read_text())
        report = json.loads((work / "report.json").read_bytes())
        validator.validate(report)
        if status:
            assert not (work / "layer.zip").exists()
        return Answer(status, report, done.stderr, peak, work / "layer.zip")

    return run
