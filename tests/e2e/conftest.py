"""Everything here runs as a person runs it: commands in processes of their own, with the real aws command."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from local.clients import Clients
from local.keys import Key, Keyring
from local.settings import ROOT

Result = TypeVar("Result")
AWS = Path(sys.executable).with_name("aws")
# A developer's shell, with an account that must not be touched.
SHELL = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
    "AWS_ACCESS_KEY_ID": "real",
    "AWS_SECRET_ACCESS_KEY": "real",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_PROFILE": "nobody-has-this",
    "AWS_SESSION_TOKEN": "real",
}


def eventually(look: Callable[[], Result], seconds: float = 60) -> Result:
    deadline = time.monotonic() + seconds
    while not (result := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return result


class Served:
    """``make up`` in a process of its own."""

    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, "-m", "local", "up", "--port", str(port)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=SHELL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        eventually(lambda: "Answers:" in self.lines or self.process.poll() is not None)
        variables = self.variables()
        key = Key(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])
        self.clients = Clients(self.endpoint, Keyring(key))

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(line.rstrip("\n") for line in self.process.stdout)
        self.process.stdout.close()

    @property
    def endpoint(self) -> str:
        [found] = re.findall(r"endpoint +(http://127\.0\.0\.1:\d+)$", "\n".join(self.lines), re.MULTILINE)
        return str(found)

    def command(self, part: str) -> str:
        [found] = [line for line in self.lines if part in line]
        return found

    @property
    def exports(self) -> str:
        """What is told to paste first."""
        return exports(self.lines)

    def variables(self) -> dict[str, str]:
        """What a shell has once that is pasted."""
        told = subprocess.run(
            ["bash", "-c", f"{self.exports}\nenv -0"], env=SHELL, capture_output=True, text=True, check=True
        )
        pairs = (entry.partition("=") for entry in told.stdout.rstrip("\0").split("\0"))
        return {name: value for name, _, value in pairs}

    def paste(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line in a shell that has it."""
        return paste(f"{self.exports}\n{command}")

    def aws(self, *arguments: str) -> str:
        """Run the real aws command against it."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run it with some variables changed, and whatever comes of it."""
        environment = self.variables() | changed
        return subprocess.run([AWS, *arguments], env=environment, capture_output=True, text=True, check=False)

    def stop(self, number: int = signal.SIGINT) -> int:
        self.clients.close()
        self.process.send_signal(number)
        status = self.process.wait(30)
        self._reader.join()
        return status


def exports(lines: list[str]) -> str:
    """The lines that `make up` tells to paste into a shell."""
    return "\n".join(line for line in lines if line.startswith(("export ", "unset ")))


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    running = Served()
    yield running
    assert running.stop() == 0


def paste(command: str, environment: Mapping[str, str] = SHELL) -> subprocess.CompletedProcess[str]:
    """Run a line as if pasted into a shell in the project's folder."""
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
