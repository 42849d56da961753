"""Debian packages, fetched and unpacked beside the system: nothing is installed or changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class DebianError(Exception):
    """A suite or package cannot be had from this machine's mirror."""


class Suite:
    """One suite of the mirror that this machine uses, with apt's state for it in a folder of its own."""

    def __init__(self, folder: Path, name: str = "", architecture: str = "") -> None:
        """Read the suite's package lists.

        Args:
            folder: for apt's state and what it downloads.
            name: such as ``trixie``; empty for what this machine itself installs from.
            architecture: as Debian names it, ``arm64``; empty for this machine's.

        Raises:
            DebianError: there is no apt, no mirror, or no such suite on it.
        """
        if not shutil.which("apt-get") or not _SOURCES.is_file():
            raise DebianError("there is no apt with its sources in the form that Debian 12 and later use")
        self._folder = folder
        self._name = name
        for needed in ("lists/partial", "cache", "packages"):
            (folder / needed).mkdir(parents=True, exist_ok=True)
        lines = [
            f'Dir::State::lists "{folder}/lists";',
            f'Dir::Cache "{folder}/cache";',
            'Acquire::Languages "none";',
            'APT::Sandbox::User "";',
        ]
        if architecture:
            lines += [f'APT::Architecture "{architecture}";', f'APT::Architectures {{ "{architecture}"; }};']
        if name:
            mirror = re.search(r"^URIs:\s*(\S+)", _SOURCES.read_text(), re.MULTILINE)
            if not mirror:
                raise DebianError(f"{_SOURCES} names no mirror")
            (folder / "suite.sources").write_text(
                f"Types: deb\nURIs: {mirror[1]}\nSuites: {name}\nComponents: main\nSigned-By: {_KEYRING}\n"
            )
            lines += [f'Dir::Etc::sourcelist "{folder}/suite.sources";', 'Dir::Etc::sourceparts "-";']
        (folder / "apt.conf").write_text("\n".join(lines) + "\n")
        self._apt("apt-get", "-qq", "update", "-o", "APT::Update::Error-Mode=any")

    def fetch(self, *packages: str) -> list[Path]:
        """Download packages and return their files.

        Raises:
            DebianError: there is no such package.
        """
        folder = self._folder / "packages"
        self._apt("apt-get", "-qq", "download", *packages, folder=folder)
        return [max(folder.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime) for name in packages]

    def closure(self, *packages: str) -> list[str]:
        """Return the packages and all that they depend on, as on a machine that has nothing installed.

        Raises:
            DebianError: there is no such package, or it cannot be installed.
        """
        plan = self._apt(
            "apt-get", "install", "--simulate", "--no-install-recommends",
            "-o", f"Dir::State::status={os.devnull}", *packages,
        )  # fmt: skip
        return re.findall(r"^Inst (\S+)", plan, re.MULTILINE)

    def _apt(self, *command: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            suite = f" of {self._name}" if self._name else ""
            raise DebianError(f"{command[0]}{suite}: {done.stderr.strip()[-300:]}")
        return done.stdout


def unpack(packages: list[Path], root: Path) -> None:
    """Unpack packages into a folder, running none of their scripts."""
    root.mkdir(parents=True, exist_ok=True)
    for package in packages:
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other test processes from making the same things in the folder at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
