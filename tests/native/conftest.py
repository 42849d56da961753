"""Real package managers over a repository made on the spot, and the command that is to use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.native import repository
from tests.native.manager import Manager, make

if TYPE_CHECKING:
    from collections.abc import Callable


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "index: reads the real package index")


@pytest.fixture(scope="session")
def repositories() -> dict[str, Path]:
    """The repositories by machine."""
    return {machine: repository.at_hand(machine) for machine in ("x86_64", "aarch64")}


@pytest.fixture
def manager(tmp_path: Path, repositories: dict[str, Path]) -> Callable[..., Manager]:
    """Make a dnf that has the repositories' packages: the real one, or one with microdnf's narrow ways."""

    def call(kind: str = "dnf", exclude: str = "", **other: str) -> Manager:
        return make(tmp_path / f"{kind}-{exclude}", repositories, kind, exclude, **other)

    return call


@dataclass(frozen=True)
class Built:
    """What a build left: its exit status, what it said, its report, its zip if there is one."""

    status: int
    said: str
    report: dict[str, Any]
    zip: Path | None


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of wheels that all tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def build(tmp_path: Path, wheels: Path) -> Callable[..., Built]:
    """Run the command with a package manager; each run has a folder of its own."""
    count = iter(range(100))

    def call(manager: Manager | None, lines: str, *options: str, **environment: str) -> Built:
        folder = tmp_path / f"build-{next(count)}"
        path = os.pathsep.join(filter(None, [str(manager.folder) if manager else "", os.environ["PATH"]]))
        done = subprocess.run(
            [
                sys.executable, "-m", "layer_builder", "-r", lines, "--architecture", "x86_64",
                *("--runtime", "python3.13"), *options,
                *("--output", f"{folder}/", "--report", f"{folder}/report.json"),
            ],
            env={
                "PATH": path,
                "HOME": str(tmp_path),
                "PYENV_ROOT": os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv"),
                "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
                "LAYER_BUILDER_CACHE": str(wheels),
                # The build must not hand this on.
                "LD_LIBRARY_PATH": str(tmp_path / "nothing"),
                "AWS_SECRET_ACCESS_KEY": "secret",
                **{name: value for name, value in os.environ.items() if "SSL_CERT" in name},
                **environment,
            },
            capture_output=True,
            text=True,
        )  # fmt: skip
        report = json.loads((folder / "report.json").read_text())
        return Built(done.returncode, done.stderr, report, next(folder.glob("*.zip"), None))

    return call
