"""Lambda functions in warm worker processes: several at once a function, killed at their timeout, kept.

A worker is what AWS calls an execution environment: it imports the handler once and answers one event at a
time. A call takes the first worker that is free; when none is, one more is started meanwhile, up to a limit.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from layer_builder.ground.interpreter import Interpreter
from local.environment import key_variables
from local.keys import KeyOf
from local.lambda_log import exit_reason

BOOTSTRAP: Final = Path(__file__).with_name("lambda_bootstrap.py")
INIT_SECONDS: Final = 10.0
"""Lambda gives a module this long to import; the function's own timeout counts from the event on."""
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
LOG_SETTLE_SECONDS: Final = 1.0
LOG_LINES: Final = 500
"""Of an event that are kept for its caller, who gets the last of them."""

WriteLog = Callable[[str, str, str], None]
"""Takes a log group, a log stream and a line."""


@dataclass(frozen=True)
class Sandbox:
    """What a function has that is not the stack's own: nobody here has read its code, so it is confined.

    Attributes:
        python: Runs it.
        layers: Its layers, one upon the other.
        runtime: What Lambda has in /var/runtime.
        read: Where what is in there leads to.
        disk: Its /tmp, in MiB.
        folder: Where its workers may have folders.
        logs: Whether its role may write logs.
    """

    python: Interpreter
    layers: Path
    runtime: Path
    read: tuple[str, ...]
    disk: int
    folder: Path
    logs: bool


@dataclass(frozen=True)
class Function:
    """What a worker needs to know of a function; a change in any of it means new workers.

    ``role`` is the ARN of its role, ``memory`` is in MiB, ``timeout`` in seconds, ``code`` the unpacked
    deployment package; ``sandbox`` is None for the stack's own functions.
    """

    arn: str
    name: str
    version: str
    handler: str
    runtime: str
    role: str
    code: Path
    environment: tuple[tuple[str, str], ...]
    memory: int
    timeout: float
    log_group: str
    most_workers: int
    sandbox: Sandbox | None = None


@dataclass(frozen=True)
class Answer:
    """What an invocation returned: the JSON text, ``Unhandled`` if that describes an error, and the log."""

    payload: str
    error: str | None
    log: str = ""


class ProcessLostError(Exception):
    """The worker's process is gone."""


class AnyWorker(Protocol):
    """What answers a function's events, one at a time.

    Attributes:
        closed: Nothing of it is left.
    """

    closed: bool

    def wait_until_ready(self) -> None:
        """Wait until the function's module is imported, or could not be."""

    def invoke(self, event: object, request_id: str) -> Answer:
        """Answer an event."""

    def kill(self) -> None:
        """End what runs; may come from another thread."""

    def close(self) -> None:
        """Kill it and let go of everything."""


class Worker:
    """One process that has the handler imported.

    Used by one thread at a time; only ``kill`` may come from another.
    """

    def __init__(self, function: Function, environment: dict[str, str], write_log: WriteLog) -> None:
        self.function = function
        self.stream = new_stream(function)
        self.closed = False
        self._write_log = write_log
        self._received = b""
        self._ended = ""  # the request id of the last END line
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._log_moved = threading.Condition()
        self._life = threading.Lock()
        # Each environment has a /tmp of its own, and keeps it from event to event.
        self._tmp = tempfile.TemporaryDirectory(prefix="layerdrop-function-")
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: the bootstrap's own folder stays off the path, the handler would find our modules there.
                [sys.executable, "-P", str(BOOTSTRAP), str(theirs.fileno()), function.arn],
                cwd=function.code,
                env=environment | variables_of(function, self.stream) | {"TMPDIR": self._tmp.name},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # so that a kill reaches what the handler started, too
            )
        self._logger = threading.Thread(target=self._copy_log, name=f"log of {function.name}", daemon=True)
        self._logger.start()

    def wait_until_ready(self) -> None:
        """Wait for the import of the handler; a process that dies at it is found out by the next event."""
        with contextlib.suppress(TimeoutError, ProcessLostError):
            self._receive(time.monotonic() + INIT_SECONDS)

    def invoke(self, event: object, request_id: str) -> Answer:
        """Give one event to the handler and wait for its answer; kill the process when it takes too long."""
        timeout = self.function.timeout
        request = {"event": event, "request_id": request_id, "deadline": time.time() + timeout}
        self._lines.clear()
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            message = self._receive(time.monotonic() + timeout, self.function.memory)
        except (ConnectionError, ProcessLostError):
            self.close()
            return self._lost(request_id, "Runtime.ExitError", exit_reason(self._process.returncode))
        except TimeoutError:
            self.close()
            return self._lost(request_id, "Sandbox.Timedout", f"Task timed out after {timeout:.2f} seconds")
        with self._log_moved:
            self._log_moved.wait_for(lambda: self._ended == request_id, LOG_SETTLE_SECONDS)
        return Answer(json.dumps(message["payload"]), message["error"], "\n".join(self._lines))

    def kill(self) -> None:
        """Kill the process and all that it started."""
        with self._life:
            # Until it is closed the process is not reaped, so its number cannot have become someone else's.
            if not self.closed:
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the process and let go of everything."""
        self.kill()
        with self._life:
            self.closed = True
            self._process.wait()
        self._socket.close()
        self._logger.join()
        if self._process.stdout:
            self._process.stdout.close()
        self._tmp.cleanup()

    def _receive(self, deadline: float, memory: int | None = None) -> dict[str, Any]:
        """Return the next message.

        Raises:
            TimeoutError: None came before the deadline.
            ProcessLostError: The process ended, or had to be ended for its memory.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while b"\n" not in self._received:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                # Woken now and then to look at the memory: Lambda, too, kills from outside.
                if selector.select(min(left, 0.1)):
                    chunk = self._socket.recv(1 << 20)
                    if not chunk:
                        raise ProcessLostError
                    self._received += chunk
                elif memory and resident_bytes(self._process.pid) > memory << 20:
                    self.kill()
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)  # type: ignore[no-any-return]

    def _copy_log(self) -> None:
        if self._process.stdout:
            for line in self._process.stdout:
                self._write_log(self.function.log_group, self.stream, line.rstrip("\n"))
                self._lines.append(line.rstrip("\n"))
                if line.startswith("END RequestId: "):
                    with self._log_moved:
                        self._ended = line.split()[-1]
                        self._log_moved.notify_all()

    def _lost(self, request_id: str, error_type: str, reason: str) -> Answer:
        message = f"RequestId: {request_id} Error: {reason}"
        self._write_log(self.function.log_group, self.stream, message)
        return lost(error_type, message, "\n".join([*self._lines, message]))


def new_stream(function: Function) -> str:
    """Return a name for the log of a new worker."""
    return f"{datetime.now(UTC):%Y/%m/%d}/[{function.version}]{uuid.uuid4().hex}"


def lost(error_type: str, message: str, log: str) -> Answer:
    """Return what the caller of a function is told whose process did not answer."""
    return Answer(json.dumps({"errorType": error_type, "errorMessage": message}), "Unhandled", log)


class ShutDownError(Exception):
    """No worker is given out any more."""


MakeWorker = Callable[[Function, dict[str, str], WriteLog], AnyWorker]
"""Takes a function, its role's key as variables, and where its log goes."""


class Workers:
    """All workers of all functions.

    Args:
        environment: What all of them get.
        write_log: Takes what they print.
        key_of: Returns what a function's role signs with.
        confined: Makes the worker of a function that has a sandbox.
    """

    def __init__(
        self,
        environment: dict[str, str],
        write_log: WriteLog,
        key_of: KeyOf,
        confined: MakeWorker | None = None,
    ) -> None:
        self._confined = confined
        self._environment = environment
        self._write_log = write_log
        self._key_of = key_of
        self._pools: dict[str, _Pool] = {}
        self._retired: list[_Pool] = []
        self._lock = threading.Lock()

    def invoke(self, function: Function, event: object, request_id: str | None = None) -> Answer:
        """Run one event in a worker of ``function``, waiting for one when all are busy."""
        pool = self._pool(function)
        worker = pool.take()
        try:
            return worker.invoke(event, request_id or str(uuid.uuid4()))
        finally:
            pool.give_back(worker)

    def warm(self, function: Function) -> None:
        """Have one worker ready before the first event comes."""
        pool = self._pool(function)
        pool.give_back(pool.take())

    def close(self) -> None:
        """Kill every worker; an invocation that is under way ends as a crash."""
        with self._lock:
            pools = [*self._pools.values(), *self._retired]
        for pool in pools:
            pool.close()

    def _pool(self, function: Function) -> "_Pool":
        with self._lock:
            pool = self._pools.get(function.arn)
            if pool is None or pool.function != function:
                if pool:  # AWS, too, lets an invocation end with the code that it began with
                    self._retired.append(pool)
                    pool.retire()
                key = key_variables(self._key_of(function.role))
                start: Callable[[], AnyWorker]
                if function.sandbox and self._confined:
                    start = partial(self._confined, function, key, self._write_log)
                else:
                    start = partial(Worker, function, self._environment | key, self._write_log)
                pool = self._pools[function.arn] = _Pool(function, start)
            return pool

    def forget(self, arn: str) -> None:
        """End the workers of a function that is deleted."""
        with self._lock:
            pool = self._pools.pop(arn, None)
        if pool:
            pool.close()


class _Pool:
    """The workers of one function."""

    def __init__(self, function: Function, start: Callable[[], AnyWorker]) -> None:
        self.function = function
        self._start = start
        self._idle: deque[AnyWorker] = deque()
        self._all: set[AnyWorker] = set()
        self._starting = 0
        self._failure: OSError | None = None
        self._closed = False
        self._waiting = 0
        self._retired = False
        self._changed = threading.Condition()

    def take(self) -> AnyWorker:
        """Return an idle worker; start one more when there is none and the limit allows."""
        with self._changed:
            if not self._idle:
                self._start_another()
            self._waiting += 1
            self._changed.wait_for(lambda: self._idle or self._closed or self._failure)
            self._waiting -= 1
            if self._failure:
                failure, self._failure = self._failure, None
                raise failure
            if self._closed:
                raise ShutDownError(f"The embedded AWS is shutting down; {self.function.name} is not invoked")
            return self._idle.pop()  # the one used last: its caches are the warmest

    def give_back(self, worker: AnyWorker) -> None:
        """Make a worker available again, or forget it when its process is gone."""
        with self._changed:
            if (self._closed or (self._retired and not self._waiting)) and not worker.closed:
                worker.close()
            if worker.closed:
                self._all.discard(worker)
            else:
                self._idle.append(worker)
            self._tell()

    def _start_another(self) -> None:
        if len(self._all) + self._starting < self.function.most_workers:
            self._starting += 1
            threading.Thread(target=self._start_one, name=f"start of {self.function.name}").start()

    def _tell(self) -> None:
        if self._closed:
            self._changed.notify_all()
            return
        # One takes the worker; of a thousand that wait, all the others would look and wait on.
        self._changed.notify()
        if self._waiting > len(self._idle) + self._starting:  # for one that died
            self._start_another()

    def retire(self) -> None:
        """End each worker as soon as nobody needs it any more."""
        with self._changed:
            self._retired = True
            idle = list(self._idle)
            self._idle.clear()
            for worker in idle:
                self.give_back(worker)

    def close(self) -> None:
        """Kill all workers and wait until those in use and those being started are gone."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._all or self._starting:
                for worker in self._all:
                    worker.kill()
                while self._idle:
                    self.give_back(self._idle.pop())
                self._changed.wait(0.05)

    def _start_one(self) -> None:
        try:
            worker = self._start()
        except OSError as error:
            with self._changed:
                self._failure = error
        else:
            with self._changed:
                self._all.add(worker)
            worker.wait_until_ready()
            self.give_back(worker)
        finally:
            with self._changed:
                self._starting -= 1
                self._tell()


def variables_of(function: Function, stream: str) -> dict[str, str]:
    """Return the function's own variables and those that Lambda defines.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
    """
    return dict(function.environment) | {
        "_HANDLER": function.handler,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "LAMBDA_TASK_ROOT": str(function.code),
        "TZ": ":UTC",
        "PYTHONUNBUFFERED": "1",  # what was printed before a crash is in the log
        # There is no X-Ray daemon here, and without one the SDK logs an error at every call.
        "POWERTOOLS_TRACE_DISABLED": "true",
        "AWS_XRAY_SDK_ENABLED": "false",
    }


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds; 0 where the system does not say (no /proc) or it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0
