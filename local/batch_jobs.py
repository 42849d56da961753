"""Batch jobs as subprocesses of the builder: retries by exit code and reason, timeouts, queueing.

What AWS does and this does not: images are not pulled (the builder on this machine stands in for the image),
and the memory of a job is not limited.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

GRACE_SECONDS: Final = 2.0
"""From SIGTERM to SIGKILL. AWS gives 30 seconds."""
REMOVAL_SECONDS: Final = 10.0
ESSENTIAL_EXITED: Final = "Essential container in task exited"
TIMED_OUT: Final = "Job attempt duration exceeded timeout"

WriteLine = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        exit_code: The container's; None when it never ran. A signal's number is added to 128, as Docker does.
        reason: The container's own reason (``CannotPullContainerError: …``), empty for a plain exit.
        status_reason: Batch's reason.
        final: No rule may try again: it was terminated or ran out of time.
    """

    exit_code: int | None
    reason: str = ""
    status_reason: str = ESSENTIAL_EXITED
    final: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the job is done."""
        return self.exit_code == 0 and not self.final


@dataclass(frozen=True)
class ExitRule:
    """One ``evaluateOnExit`` entry; a pattern that is not given matches anything.

    https://docs.aws.amazon.com/batch/latest/APIReference/API_EvaluateOnExit.html
    """

    action: str
    on_exit_code: str | None = None
    on_reason: str | None = None
    on_status_reason: str | None = None

    def matches(self, outcome: Outcome) -> bool:
        """Whether all given patterns match."""
        exit_code = "" if outcome.exit_code is None else str(outcome.exit_code)
        return (
            glob_matches(self.on_exit_code, exit_code)
            and glob_matches(self.on_reason, outcome.reason)
            and glob_matches(self.on_status_reason, outcome.status_reason)
        )


def glob_matches(pattern: str | None, text: str) -> bool:
    """Match as Batch does: the whole text, or its start when the pattern ends with an asterisk."""
    if pattern is None:
        return True
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def tries_again(outcome: Outcome, attempt: int, attempts: int, rules: Sequence[ExitRule]) -> bool:
    """Whether a failed attempt is followed by another one.

    The first rule that matches decides; when none does the job is tried again. A job that was terminated or
    timed out never is: https://docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html

    Args:
        outcome: How the attempt ended.
        attempt: Its number, from 1.
        attempts: How many the retry strategy allows in all.
        rules: The retry strategy's ``evaluateOnExit``.
    """
    if outcome.final or attempt >= attempts:
        return False
    action = next((rule.action for rule in rules if rule.matches(outcome)), "RETRY")
    return action.upper() == "RETRY"


class Stop:
    """Asks a job to end; the first reason given stays."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def asked(self) -> bool:
        """Whether someone wants the job to end."""
        return self.reason is not None

    def ask(self, reason: str) -> None:
        """End the job for this reason."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
        for listener in self._listeners:
            listener()

    def when_asked(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` once asked; at once when that is past."""
        with self._lock:
            self._listeners.append(listener)
        if self.asked:
            listener()


class Slots:
    """Room for jobs: the vCPUs of each compute environment, and the cores of this machine.

    As in a Batch queue without a scheduling policy, the jobs of one environment start in the order in which
    they came; another environment's need not wait for them.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._vcpus: dict[str, float] = {}
        self._queue: deque[_Turn] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def take(self, environment: str, most: float, vcpus: float, stop: Stop) -> "Iterator[bool]":
        """Wait for room for one job; yield False when it was asked to stop meanwhile.

        Args:
            environment: Name of the compute environment.
            most: Its ``maxvCpus``.
            vcpus: What the job wants of it. Of the machine every job takes one core.
            stop: Ends the waiting.
        """
        turn = _Turn(environment, vcpus)
        stop.when_asked(turn.called.set)
        with self._lock:
            self._vcpus.setdefault(environment, most)
            self._queue.append(turn)
            taken = self._taken(turn, stop)
        while not taken:
            turn.called.wait()
            with self._lock:
                turn.called.clear()
                taken = self._taken(turn, stop)
        granted = taken == "granted"
        try:
            yield granted
        finally:
            if granted:
                with self._lock:
                    self._vcpus[environment] += vcpus
                    self._cores += 1
                    self._call_next()

    def _taken(self, turn: "_Turn", stop: Stop) -> str:
        """Take a turn out of the queue if it is its turn, ``granted``, or was ``stopped``."""
        granted = not stop.asked and self._next() is turn
        if not granted and not stop.asked:
            return ""
        self._queue.remove(turn)
        if granted:
            self._vcpus[turn.environment] -= turn.vcpus
            self._cores -= 1
        self._call_next()
        return "granted" if granted else "stopped"

    def _call_next(self) -> None:
        # This one alone: of a thousand that wait, all the others would look and wait on.
        if turn := self._next():
            turn.called.set()

    def _next(self) -> "_Turn | None":
        blocked: set[str] = set()
        for turn in self._queue if self._cores else ():
            if turn.environment not in blocked and self._vcpus[turn.environment] >= turn.vcpus:
                return turn
            blocked.add(turn.environment)
        return None


@dataclass(eq=False)
class _Turn:
    environment: str
    vcpus: float
    called: threading.Event = field(default_factory=threading.Event)


def run_attempt(
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout: float | None,
    stop: Stop,
    write_line: WriteLine,
) -> Outcome:
    """Run one attempt in a process group and a folder of its own, which is gone afterwards.

    Args:
        command: Entry point and arguments.
        environment: All of the process's environment.
        timeout: Seconds, or None for no limit.
        stop: Ends it early.
        write_line: Takes each line of output as it comes.
    """
    with _folder_of_its_own() as folder:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, "TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            # What Batch says when the image has no such entry point.
            return Outcome(None, f"CannotStartContainerError: {error}", "Task failed to start")
        with process:
            ended_by = _wait(process, timeout, stop, write_line)
        code = process.returncode
    exit_code = 128 - code if code < 0 else code
    if ended_by:
        return Outcome(exit_code, status_reason=ended_by, final=True)
    return Outcome(exit_code)


def _end_those_who_know(folder: str) -> None:
    """End the processes in whose environment a folder is named."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if folder.encode() in environment.read_bytes():
                os.kill(int(environment.parent.name), signal.SIGKILL)


@contextmanager
def _folder_of_its_own() -> Iterator[str]:
    """Make a folder that is gone afterwards, with the processes in sessions of their own that know of it.

    A container would take those along: uv is one, and lives on for a moment when the builder is killed.
    """
    folder = tempfile.TemporaryDirectory(prefix="layerdrop-job-")
    try:
        yield folder.name
    finally:
        deadline = time.monotonic() + REMOVAL_SECONDS
        _end_those_who_know(folder.name)
        while Path(folder.name).exists():
            try:
                folder.cleanup()
            except OSError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)


def _wait(
    process: "subprocess.Popen[bytes]", timeout: float | None, stop: Stop, write_line: WriteLine
) -> str | None:
    """Copy the output until the process has ended; return the reason if it was made to."""
    output = _Output(process, write_line)
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    ended_by: str | None = None
    while process.poll() is None:
        now = time.monotonic()
        if ended_by is None and (stop.asked or now >= deadline):
            ended_by, deadline = stop.reason or TIMED_OUT, now + GRACE_SECONDS
            _signal_group(process.pid, signal.SIGTERM)
        elif ended_by and now >= deadline:
            _signal_group(process.pid, signal.SIGKILL)
        output.copy(0.05)
    _signal_group(process.pid, signal.SIGKILL)  # what the job left behind ends with it, as in a container
    output.finish()
    return ended_by


class _Output:
    """Lines out of a process's standard output, without ever waiting for its end."""

    def __init__(self, process: "subprocess.Popen[bytes]", write_line: WriteLine) -> None:
        self._pipe = process.stdout
        self._write_line = write_line
        self._rest = b""
        self._open = True

    def copy(self, seconds: float) -> bool:
        """Wait that long for output; return whether there was some."""
        if not self._open or self._pipe is None:
            time.sleep(min(seconds, 0.01))
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            if not selector.select(seconds):
                return False
        chunk = os.read(self._pipe.fileno(), 1 << 16)
        self._open = bool(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._write_line(line.decode(errors="replace"))
        return self._open

    def finish(self) -> None:
        """Copy what is left."""
        while self.copy(0):
            pass
        if self._rest:
            self._write_line(self._rest.decode(errors="replace"))


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
