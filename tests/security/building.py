"""Runs the real builder on hostile packages: as root and as somebody, on this kernel and on lesser ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layer_builder.ground.target import RUNTIMES
from tests.conftest import sampled
from tests.security import lesser_kernel
from tests.security.lesser_kernel import FILTERS, LANDLOCK, NAMESPACES
from tests.unit.builder.native_maker import HERE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.builder.wheel_maker import Index

ROOT = Path(__file__).parents[2]
SOMEBODY = 12345  # a user that no machine has
KERNELS: dict[str, tuple[str, ...]] = {
    "this one": (),
    "no namespaces": (NAMESPACES,),
    "no Landlock": (LANDLOCK,),
    "as on Fargate": (NAMESPACES, LANDLOCK),
    "nothing": (NAMESPACES, LANDLOCK, FILTERS),
}
SAMPLE = sampled(KERNELS, lambda kernel: kernel == "this one")
"""For parametrize: what a developer has, and with all tests the others."""
_SEARCH = [str(ROOT / "container"), *(path for path in sys.path if path.endswith("site-packages"))]


@dataclass(frozen=True)
class User:
    """Who the builder runs as, and a Python that they can start."""

    number: int
    python: str

    @property
    def runtime(self) -> str:
        return f"python{_version(self.python)}"

    @property
    def becoming(self) -> dict[str, Any]:
        """What `subprocess` needs to start something as this user."""
        if os.geteuid() == self.number:
            return {}
        return {"user": self.number, "group": self.number, "extra_groups": []}


@cache
def _version(python: str) -> str:
    asked = [python, "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def user_of(name: str) -> User:
    """Root, or an ordinary user, if we can be that and a Python of Lambda's can."""
    if name == "root" and os.geteuid() != 0:
        pytest.skip("only root can build as root")
    user = User(0, sys.executable) if name == "root" else _somebody()
    if not HERE or user.runtime not in RUNTIMES:
        pytest.skip("this Python, or this machine, is not one of Lambda's")
    return user


@cache
def _somebody() -> User:
    if os.geteuid() != 0:
        return User(os.geteuid(), sys.executable)
    minor = "python{}.{}".format(*sys.version_info[:2])
    for python in (sys.executable, f"/usr/bin/{minor}", f"/usr/local/bin/{minor}"):
        user = User(SOMEBODY, python)
        asked = [python, "-I", "-c", f"open({__file__!r}); open({_SEARCH[-1] + '/packaging/version.py'!r})"]
        try:
            subprocess.run(asked, capture_output=True, check=True, cwd="/", **user.becoming)
        except (OSError, subprocess.CalledProcessError):
            continue
        return user
    return pytest.skip(f"an ordinary user cannot start a {minor} here, or not read this project")


@dataclass(frozen=True)
class Outcome:
    """How a build ended."""

    status: int
    report: dict[str, Any]
    stderr: str
    zip: Path

    @property
    def error(self) -> dict[str, Any]:
        assert self.report.get("error"), (self.status, self.report, self.stderr)
        found: dict[str, Any] = self.report["error"]
        return found

    @property
    def imports(self) -> dict[str, Any]:
        found: dict[str, Any] = self.report["checks"]["imports"]
        return found

    @property
    def told(self) -> Any:
        """What the module printed last."""
        assert self.error["details"].get("output"), (self.status, self.report, self.stderr)
        return json.loads(self.error["details"]["output"].strip().splitlines()[-1])


@contextmanager
def open_folder(where: str | None = None) -> Iterator[Path]:
    """Make a folder that every user may go to: pytest's are one user's alone."""
    with tempfile.TemporaryDirectory(prefix="attacked-", dir=where, ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def own(place: Path, user: User) -> None:
    """Make a folder that is the user's."""
    place.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != user.number:
        os.chown(place, user.number, user.number)


def build(
    folder: Path,
    index: Index,
    user: User,
    *options: str,
    lines: str = "evil",
    lacking: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Build a layer with the command line, in a home of the user's own; the output goes to `folder`/out."""
    home, out, temporary = folder / "home", folder / "out", folder / "temporary"
    for place in (home, out, temporary):
        own(place, user)
    done = subprocess.run(
        [
            *(user.python, "-I", lesser_kernel.__file__, ",".join(lacking), ":".join(_SEARCH)),
            *("-r", lines, "--architecture", HERE or "", "--runtime", user.runtime),
            *(() if "-s" in options else ("--output", str(out / "layer.zip"))),
            *("--report", str(out / "report.json"), *options),
        ],
        env={
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "TMPDIR": str(temporary),
            "LAYER_BUILDER_CACHE": str(home / ".cache"),
            "LAYER_BUILDER_INDEX_URL": index.url,
            **(environment or {}),
        },
        cwd=home,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=300,
        **user.becoming,
    )
    report = out / "report.json"
    told = json.loads(report.read_text()) if report.exists() else {}
    return Outcome(done.returncode, told, done.stderr, out / "layer.zip")
