"""The machine's package manager, asked for RPM packages by name or by what they provide.

The image's is microdnf under the name dnf. What is used here is what it has in common with dnf 4 and 5:
`--setopt=cachedir`, and `download`, which puts files into the working folder and does not look at what is
installed on the machine. Their statuses differ (microdnf ends well when it has found nothing), so what counts
is which files are there.

Signatures are checked as the repositories' configuration has it (`gpgcheck`) by microdnf itself. dnf's own
`download` compares packages with the repository's index only.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from layer_builder.ground.errors import EXIT_RETRY, BuildError
from layer_builder.proof.base_libraries import SYSTEM_GLIBC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layer_builder.ground.target import Target

_TIME_LIMIT = 600.0  # seconds for one command, which may have to read a repository's index first
_NAMES = ("dnf", "microdnf")
_READERS = ("rpm", "rpm2archive")
_REPOSITORIES = "Amazon Linux 2023"
# Nothing else of the environment: credentials are nobody's business, and LD_LIBRARY_PATH is for others.
_PASSED_ON = re.compile(r"(https?|ftp|all|no)_proxy|SSL_CERT_(FILE|DIR)|PATH", re.IGNORECASE)
# All of them may go on without a repository that they cannot read, and what is only there is then nowhere:
# microdnf's words, then dnf's, one of whose plugins has a repository that is rarely there.
_SKIPPED = re.compile(r"Skipping refresh of (.+)|(Ignoring repositories: (?!_dnf_local$).+)", re.MULTILINE)
_NO_REPOSITORY = re.compile(r"no enabled repositories")
_INDEX = "repomd.xml"  # of every repository that was read, in the folder for indexes
_NOTHING = re.compile(r"No packages? |No match for|Unable to find a match|Failed to resolve")


class SystemLibrariesUnavailableError(BuildError):
    """System libraries are wanted where none can be had."""

    code: ClassVar[str] = "SYSTEM_LIBRARIES_UNAVAILABLE"


class RepositoryError(BuildError):
    """A package repository does not answer, or not as it should."""

    code: ClassVar[str] = "REPOSITORY_UNREACHABLE"
    exit_status = EXIT_RETRY


@dataclass(frozen=True, slots=True)
class PackageManager:
    """What finds packages for a machine.

    Attributes:
        program: its path.
        machine: whose packages it finds: `aarch64` or `x86_64`.
        foreign: whether that is another machine than this one.
    """

    program: str
    machine: str
    foreign: bool = False

    @classmethod
    def find(cls, target: Target) -> PackageManager:
        """Find what gives libraries for a target.

        Raises:
            SystemLibrariesUnavailableError: there is none on this machine, or its packages would not load.
        """
        if target.runtime.glibc < SYSTEM_GLIBC:
            raise SystemLibrariesUnavailableError(
                f"{target.runtime.name} runs on Amazon Linux 2: the libraries of {_REPOSITORIES} need a newer"
                f" glibc than its {'.'.join(map(str, target.runtime.glibc))}.",
                hint="Take python3.12 or newer, or a package that brings its libraries.",
            )
        program = next(filter(None, map(shutil.which, _NAMES)), None)
        lacking = [name for name in _READERS if not shutil.which(name)]
        if program is None or lacking:
            absent = lacking[0] if program else _NAMES[0]
            raise SystemLibrariesUnavailableError(
                f"System libraries come out of RPM packages, and there is no {absent} on this machine.",
                hint=f"Build in the image, which has {_REPOSITORIES}'s; or take a package that brings its"
                " libraries.",
            )
        foreign = platform.machine() != target.machine
        if foreign and Path(program).resolve().name == "microdnf":
            raise SystemLibrariesUnavailableError(
                f"This machine's microdnf finds packages of {platform.machine()} only, the layer is for"
                f" {target.machine}.",
                hint=f"Build on {target.architecture}, or where the full dnf is.",
            )
        return cls(program, target.machine, foreign)

    def download(self, wanted: Sequence[str], folder: Path) -> list[Path]:
        """Download the newest packages that have these names or provide these things.

        Some may be nowhere, and several packages may provide the same. Indexes are kept in the folder, so
        that a second question is quick.

        Returns:
            All packages that are in the folder now.

        Raises:
            RepositoryError: a repository cannot be read, or a package is not what it should be.
            SystemLibrariesUnavailableError: there is no repository at all.
        """
        place = folder / "packages"
        place.mkdir(exist_ok=True)
        done = self._run(wanted, folder, place)
        self._check_repositories(done, folder / "cache")
        # dnf takes all or nothing, and does not say all that it has not.
        if done.returncode and len(wanted) > 1:
            for one in wanted:
                self._check(self._run([one], folder, place))
        else:
            self._check(done)
        return sorted(place.glob("*.rpm"))

    def command(self, wanted: Sequence[str], cache: Path) -> list[str]:
        """Word the question."""
        machine = [f"--forcearch={self.machine}"] if self.foreign else []
        return [self.program, f"--setopt=cachedir={cache}", *machine, "download", *wanted]

    def _run(self, wanted: Sequence[str], folder: Path, place: Path) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        home = folder / "home"
        home.mkdir(exist_ok=True)
        try:
            return subprocess.run(
                self.command(wanted, folder / "cache"),
                cwd=place,
                env=environment | {"HOME": str(home), "TMPDIR": str(folder), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIME_LIMIT,
            )
        except subprocess.TimeoutExpired as error:
            raise RepositoryError(
                f"The package repositories did not answer within {_TIME_LIMIT:.0f} seconds.",
                hint="Try again; if it stays so, check the network's way to them.",
            ) from error

    def _check_repositories(self, done: subprocess.CompletedProcess[str], cache: Path) -> None:
        """Tell a machine that has no repositories from repositories that have not what is asked for."""
        said = f"{done.stdout}\n{done.stderr}"
        nothing = _NOTHING.search(said) and not _SKIPPED.search(said)
        if _NO_REPOSITORY.search(said) or (nothing and next(cache.rglob(_INDEX), None) is None):
            raise SystemLibrariesUnavailableError(
                f"This machine's {Path(self.program).name} has no package repository.",
                hint=f"Build in the image, which has {_REPOSITORIES}'s; or take a package that brings its"
                " libraries.",
            )

    def _check(self, done: subprocess.CompletedProcess[str]) -> None:
        """Tell a package that is not there, which is an answer, from a question that was not answered."""
        said = f"{done.stdout}\n{done.stderr}"
        skipped = _SKIPPED.search(said)
        if not skipped and (done.returncode == 0 or _NOTHING.search(said)):
            return
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        error = next((line for line in reversed(lines) if line.lower().startswith("error")), "")
        reason = error.partition(":")[2].strip() or (lines[-1] if lines else f"status {done.returncode}")
        if skipped:
            reason = skipped[1] or skipped[2]
        raise RepositoryError(
            f"A system package could not be had: {reason.rstrip('.')}.",
            hint="Try again; if it stays so, check the network's way to the package repositories.",
            details={"output": "\n".join(lines[-20:])},
        )
