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
from local.settings import ROOT

Result = TypeVar("Result")
AWS = Path(sys.executable).with_name("aws")
# A developer's shell, with an account that must not be touched.
SHELL = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
    "AWS_ACCESS_KEY_ID": "real",
    "AWS_SECRET_ACCESS_KEY": "real",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_REGION": "eu-west-1",
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
        self.clients = Clients(self.endpoint)

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

    def aws(self, *arguments: str) -> str:
        """Run the real aws command against it."""
        environment = SHELL | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        done = subprocess.run([AWS, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self, number: int = signal.SIGINT) -> int:
        self.clients.close()
        self.process.send_signal(number)
        status = self.process.wait(30)
        self._reader.join()
        return status


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
