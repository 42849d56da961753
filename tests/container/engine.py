"""A Docker engine: the one at hand, else one out of Debian packages that lives as long as the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.container.debian import DebianError, Suite, locked, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_START_SECONDS = 60
_STOP_SECONDS = 30


class EngineError(Exception):
    """No engine is at hand and none can be started; the text says why."""


@dataclass(frozen=True)
class Engine:
    """An engine's client.

    Attributes:
        client: the docker command.
        environment: what it needs in its environment.
    """

    client: str
    environment: Mapping[str, str]

    @property
    def has_init(self) -> bool:
        """Whether it has an init program to put before a container's own."""
        return bool(shutil.which("docker-init", path=self.environment.get("PATH")))

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a docker command and return what it printed.

        Raises:
            AssertionError: it failed, and ``check`` says that it must not.
        """
        done = subprocess.run(
            [self.client, *arguments], env=self.environment, capture_output=True, text=True, timeout=600
        )
        assert not check or done.returncode == 0, f"docker {arguments[0]}: {done.stderr[-4000:]}"
        return done


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """Give an engine; one that had to be started ends with the block, and everything of it is removed.

    Args:
        folder: where the packages are kept for the next time.

    Raises:
        EngineError: there is none and cannot be one.
    """
    if _answers(at_hand := Engine("docker", dict(os.environ))):
        yield at_hand
        return
    if os.geteuid() != 0:
        raise EngineError("no Docker engine answers here, and only root can start one")
    if not Path("/proc/self/ns/net").exists():
        raise EngineError("no Docker engine answers here, and only Linux can run one")
    try:
        with locked(folder):
            programs = _programs(folder)
    except DebianError as error:
        raise EngineError(
            f"no Docker engine answers here, and its packages cannot be had: {error}"
        ) from error
    # Not in the system's temporary folder, which may be a small file system in memory.
    with tempfile.TemporaryDirectory(dir=folder, prefix="engine-") as name:
        started = Path(name)
        path = f"{programs / 'usr/sbin'}:{programs / 'usr/bin'}:{os.environ['PATH']}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")} | {"PATH": path}
        with (started / "log").open("wb") as log:
            daemon = subprocess.Popen(
                [
                    # Should this process be killed, the engine ends as well.
                    "setpriv", "--pdeathsig=TERM", "--",
                    "dockerd", f"--host=unix://{started}/socket", f"--data-root={started}/data",
                    f"--exec-root={started}/exec", f"--pidfile={started}/pid",
                    # Containers use the machine's own network: nothing of it is touched.
                    "--bridge=none", "--iptables=false", "--ip6tables=false",
                ],
                env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        # A user's configuration may name plugins and credential helpers. 20.10 must be told to use BuildKit.
        client = environment | {
            "DOCKER_HOST": f"unix://{started}/socket", "DOCKER_CONFIG": str(programs), "DOCKER_BUILDKIT": "1"
        }  # fmt: skip
        try:
            ours = Engine(str(programs / "usr/bin/docker"), client)
            _await(ours, daemon, started / "log")
            yield ours
        finally:
            _stop(daemon, started)


def _programs(folder: Path) -> Path:
    """Return the folder of the engine's programs: of this machine's own Debian, so that its libraries fit."""
    programs = folder / "docker"
    if not programs.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            suite = Suite(Path(scratch))
            packages = suite.fetch("docker.io", "containerd", "runc")
            # From Debian 13 on, client and build command are packages of their own. tini is for --init.
            for name in ("docker-cli", "docker-buildx", "tini"):
                with contextlib.suppress(DebianError):
                    packages += suite.fetch(name)
            root = Path(scratch, "root")
            unpack(packages, root)
            plugins = root / "usr/libexec/docker/cli-plugins"
            if plugins.is_dir():
                (root / "cli-plugins").symlink_to("usr/libexec/docker/cli-plugins")
            root.rename(programs)
    return programs


def _answers(candidate: Engine) -> bool:
    return bool(shutil.which(candidate.client)) and candidate.run("info", check=False).returncode == 0


def _await(started: Engine, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(started):
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise EngineError(
                f"the Docker engine does not start here: {log.read_text(errors='replace')[-600:]}"
            )
        time.sleep(0.2)


def _stop(daemon: subprocess.Popen[bytes], folder: Path) -> None:
    daemon.terminate()
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # Its containerd and shims are of its session.
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
    # A mount that was left behind would keep the folder from being removed.
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (point := line.split(" ")[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", point], check=False)
