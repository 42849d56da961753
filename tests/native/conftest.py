"""Real package managers over a repository made on the spot, and the command that is to use them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.container.debian import DebianError
from tests.native import repository

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".cache/native"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "index: reads the real package index")


_HEAD = """\
#!/bin/sh
printf '%s\\n' "$*" >>LOG
[ -z "$LD_LIBRARY_PATH$AWS_SECRET_ACCESS_KEY" ] || exit 9
HOME=RPM_HOME
real() { DNF --config=CONFIG --releasever=2023 --disableplugin=local "$@"; }
options=
for argument; do
    case $argument in
        --setopt=cachedir=*) options="$options $argument" ;;
        --forcearch=*) FOREIGN ;;
        -*) echo "error: Unknown option $argument" >&2; exit 1 ;;
    esac
done
"""
_DNF = f'{_HEAD}real "$@"\n'
# It takes what there is of what it is asked for, and ends well even if that is nothing: see the sources of
# microdnf 3.8, dnf/plugins/download/dnf-command-download.c. libdnf, below it, passes over a repository that
# it cannot read.
_MICRODNF = (
    _HEAD
    + """\
case " $* " in *" download "*) ;; *) exit 1 ;; esac
for argument; do
    case $argument in
        -* | download) ;;
        *) said=$(real $options download "$argument" 2>&1) || case $said in
               *"No package"*) ;;
               *) echo "(process:1): libdnf-WARNING **: Skipping refresh of test: $said" >&2 ;;
           esac ;;
    esac
done
echo Complete.
"""
)


@dataclass(frozen=True)
class Manager:
    """A package manager on the PATH.

    Attributes:
        folder: where its program is.
    """

    folder: Path

    @property
    def asked(self) -> list[list[str]]:
        """What it was asked, command by command."""
        log = self.folder / "log"
        return [shlex.split(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture(scope="session")
def repositories() -> dict[str, Path]:
    """The repositories by machine."""
    if absent := repository.missing_programs():
        pytest.skip(f"there is no {', no '.join(absent)} on this machine")
    try:
        return {machine: repository.make(KEPT, machine) for machine in ("x86_64", "aarch64")}
    except DebianError as error:
        pytest.skip(f"no RPM repository can be made here: {error}")


@pytest.fixture
def manager(tmp_path: Path, repositories: dict[str, Path]) -> Callable[..., Manager]:
    """Make a dnf that has the repositories' packages: the real one, or one with microdnf's narrow ways."""

    def make(kind: str = "dnf", exclude: str = "", address: str = "", home: str = "") -> Manager:
        folder = tmp_path / f"{kind}-{exclude}"
        (folder / "repositories").mkdir(parents=True)
        address = address or f"file://{folder}/$basearch"
        for machine, place in repositories.items():
            (folder / machine).symlink_to(place)
        (folder / "repositories/test.repo").write_text(
            f"[test]\nname=test\nbaseurl={address}\nenabled=1\ngpgcheck=0\nexcludepkgs={exclude}\nretries=1\n"
        )
        (folder / "dnf.conf").write_text(f"[main]\nreposdir={folder}/repositories\n")
        program = folder / kind
        program.write_text(
            (_DNF if kind == "dnf" else _MICRODNF)
            .replace("FOREIGN", 'options="$options $argument"' if kind == "dnf" else "exit 1")
            .replace("RPM_HOME", home or "$HOME")
            .replace("LOG", str(folder / "log"))
            .replace("DNF", str(shutil.which("dnf")))
            .replace("CONFIG", str(folder / "dnf.conf"))
        )
        program.chmod(0o755)
        if kind != "dnf":
            (folder / "dnf").symlink_to(kind)
        return Manager(folder)

    return make


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
