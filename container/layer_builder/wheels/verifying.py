"""Wheels verified by processes of their own, while this one downloads.

Both in one process wait for each other: downloads need Python's lock for each few kilobytes, and whoever
verifies holds it in between. A process does what `wheel.load` does, which leaves its findings beside the
wheel; whoever needs them loads them from there. So nothing depends on it: without an answer, the wheel is
verified where it is needed.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder.wheels import wheel
from layer_builder.wheels.pick import Pick

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

_WORTHWHILE = 16 << 20  # bytes of wheels; below that, to start a process takes longer than it saves
_MOST = 4
# What Python and temporary files need of the environment, and nothing that is secret.
_PASSED_ON = ("LD_LIBRARY_PATH", "PATH", "TMPDIR")


class Verifiers:
    """Processes that verify wheels, until the context ends; none for few bytes, or on a single core."""

    def __init__(self, picks: Sequence[Pick]) -> None:
        cores = len(os.sched_getaffinity(0))
        wanted = cores > 1 and sum(pick.size or 0 for pick in picks) >= _WORTHWHILE
        self._count = min(cores, len(picks), _MOST) if wanted else 0
        self._free: queue.Queue[subprocess.Popen[bytes]] = queue.Queue()
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for _ in range(self._count):
            with suppress(OSError):
                self._all.append(_started())
                self._free.put(self._all[-1])
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.kill()
        for process in self._all:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what nobody took any more
                    if pipe:
                        pipe.close()

    def verify(self, pick: Pick, file: Path) -> None:
        """Have a wheel verified, if there is somebody for it; what is wrong with it is not said here."""
        if not self._all:
            return
        question = [str(file), pick.name, pick.version, pick.filename, pick.sha256]
        with self._one() as process, suppress(OSError, ValueError):
            if process.stdin and process.stdout:
                process.stdin.write(json.dumps(question).encode() + b"\n")
                process.stdout.readline()

    @contextmanager
    def _one(self) -> Iterator[subprocess.Popen[bytes]]:
        process = self._free.get()
        try:
            yield process
        finally:
            self._free.put(process)


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-m", __name__],
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for the builder, which ends this
    )


def main() -> None:
    """Verify what standard input names, until it ends."""
    for line in sys.stdin:
        file, name, version, filename, sha256 = json.loads(line)
        with suppress(Exception):  # who loads the wheel will come to it again, and says so
            wheel.load(Pick(name, version, filename, "", sha256), Path(file))
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
