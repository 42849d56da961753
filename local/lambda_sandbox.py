"""Runs one worker of a function that is not the stack's own, confined: a program between server and function.

The confinement is the builder's, and takes a process that does nothing else: it adopts and ends whatever its
children leave. So the server starts this, one a worker, and talks to it over a socket in JSON lines. A
function is believed in its own answer only; time, memory and the end of its process are looked at from here.

To us, first: ``Setting``'s fields. From us, when the function's module is imported or has failed for good:
``{"init_ms"}``. Then for each event ``{"event", "request_id", "timeout"}`` and back ``Said``'s fields.
"""

import json
import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from layer_builder.ground import confinement, confinement_worker

INIT_SECONDS: Final = 10.0
"""Lambda gives a module this long to import, and then the time of the first event:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib"""
LIFE_SECONDS: Final = 7 * 24 * 3600
LOOK_SECONDS: Final = 0.05
END_SECONDS: Final = 10.0
LOG_BYTES: Final = 1 << 20
"""Of what an event prints, the end that is kept."""
ANSWER_BYTES: Final = 16 << 20
"""The longest line that is taken: six megabytes of an answer, escaped, for which the server has a limit."""
SPARE_BYTES: Final = 3 << 30
"""Address space beside what is measured: threads reserve more than they use."""
FILES: Final = 1024
"""https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Setting:
    """What a worker is started with.

    Attributes:
        command: The interpreter and its arguments; the number of a socket, the function's ARN and the place
            of its layers are added.
        environment: All of it.
        places: What the function has at Lambda's paths.
        layers: Where its layers are among these.
        cwd: Where it starts.
        read: What it may read beside.
        machine: What it may read of the machine.
        needs: What another user must be able to read, or it runs as this one.
        scratch: Bytes that it may write, by place.
        root: An empty folder.
        arn: The function's.
        memory: Its memory in MiB.
    """

    command: list[str]
    environment: dict[str, str]
    places: dict[str, str]
    layers: str
    cwd: str
    read: list[str]
    machine: list[str]
    needs: list[str]
    scratch: dict[str, int]
    root: str
    arn: str
    memory: int


@dataclass(frozen=True)
class Said:
    """What came of an event.

    Attributes:
        payload: The function's answer, JSON; empty if there is none.
        error: ``Unhandled`` if it describes an error.
        log: What was printed, from the last event's end on.
        init_log: What was printed before the first event.
        milliseconds: How long it took.
        memory: The most that the process has ever held, in MiB.
        ended: Why there is no more: ``timeout``, ``memory``, or ``exit``; empty while the process lives.
        status: The process's return code at ``exit``, negative for a signal; None if nobody knows.
    """

    payload: str = ""
    error: str | None = None
    log: str = ""
    init_log: str = ""
    milliseconds: float = 0.0
    memory: int = 0
    ended: str = ""
    status: int | None = None


class LostError(Exception):
    """The function's process has ended, or has to."""

    def __init__(self, ended: str) -> None:
        super().__init__(ended)
        self.ended = ended


class Runtime:
    """The function's process, seen from outside."""

    def __init__(
        self,
        confined: confinement.Confined,
        connection: socket.socket,
        output: int,
        memory: int,
        server: socket.socket,
    ) -> None:
        self.init_ms: float | None = None
        self.init_log = ""
        self.peak = 0  # bytes
        self._confined, self._connection, self._output, self._memory = confined, connection, output, memory
        self._server = server
        self._received = bytearray()
        self._printed = bytearray()
        self._started = time.monotonic()
        connection.setblocking(False)
        os.set_blocking(output, False)

    def import_module(self, seconds: float) -> None:
        """Wait until the function's module is imported, as long as that; ``init_ms`` is None while it is not.

        Raises:
            LostError: The process ended.
        """
        deadline = time.monotonic() + seconds
        while self.init_ms is None:
            message = self._receive(deadline)
            if message is None:
                return
            if isinstance(began := message.get("started"), float) and math.isfinite(began):
                # Said before anybody's code ran; when it is heard depends on how busy this machine is.
                self._started = min(max(began, self._started), time.monotonic())
            elif "ready" in message:
                self.init_ms = (time.monotonic() - self._started) * 1000
        self._take_output()
        self.init_log = self._log()

    def answer(self, event: Any, request_id: str, timeout: float) -> Said:
        """Give an event to the function."""
        started = time.monotonic()
        deadline = started + timeout
        said: dict[str, Any] = {}
        try:
            if self.init_ms is None:
                self.import_module(timeout)
            if self.init_ms is None:
                raise LostError("timeout")  # noqa: TRY301
            request = {"event": event, "request_id": request_id, "deadline": time.time() + timeout}
            self._send(json.dumps(request).encode() + b"\n", deadline)
            while said.get("request_id") != request_id:
                message = self._receive(deadline)
                if message is None:
                    raise LostError("timeout")  # noqa: TRY301
                said = message
        except LostError as lost:
            return self._end(lost.ended, started)
        self._measure()
        self._take_output()
        payload, error = said.get("payload"), said.get("error")
        return Said(
            payload=payload if isinstance(payload, str) else "null",
            error="Unhandled" if error else None,
            log=self._log(),
            init_log=self._init_log(),
            milliseconds=(time.monotonic() - started) * 1000,
            memory=self.megabytes,
        )

    def _end(self, ended: str, started: float) -> Said:
        milliseconds = (time.monotonic() - started) * 1000
        if ended == "exit":
            with suppress(subprocess.TimeoutExpired):
                self._confined.process.wait(END_SECONDS)
            self._confined.learn()
        self._take_output()
        if self._confined.failure:
            self._printed += f"The function's process was not started: {self._confined.failure}\n".encode()
        log = self._log()
        return Said(
            log=log,
            init_log=self._init_log(),
            milliseconds=milliseconds,
            memory=min(self.megabytes, self._memory) if ended != "memory" else self._memory,
            ended=ended,
            status=self._confined.status if ended == "exit" else None,
        )

    @property
    def megabytes(self) -> int:
        """The most memory that was held, as far as it was seen."""
        return -(-self.peak >> 20)

    def _send(self, data: bytes, deadline: float) -> None:
        while data:
            try:
                data = data[self._connection.send(data) :]
            except BlockingIOError:
                self._look(deadline, selectors.EVENT_WRITE)
            except OSError:
                raise LostError("exit") from None

    def _receive(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message, or None at the deadline; what is no message is passed over."""
        while True:
            while b"\n" not in self._received:
                if time.monotonic() > deadline:
                    return None
                self._look(deadline, selectors.EVENT_READ)
            line, _, rest = self._received.partition(b"\n")
            self._received = bytearray(rest)
            with suppress(ValueError, RecursionError):
                message = json.loads(line)
                if isinstance(message, dict):
                    return message

    def _look(self, deadline: float, wanted: int) -> None:
        """Wait a little, take what came, and see that the process keeps its limits."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, wanted)
            selector.register(self._output, selectors.EVENT_READ)
            selector.register(self._server, selectors.EVENT_READ)
            left = max(0.0, min(LOOK_SECONDS, deadline - time.monotonic()))
            ready = {key.fd for key, _ in selector.select(left)}
        if self._server.fileno() in ready:  # it says nothing while it waits, so it is gone
            raise SystemExit(0)
        if self._output in ready and not self._take_output() and len(ready) == 1:
            time.sleep(LOOK_SECONDS)  # closed by the function, which may go on
        if self._connection.fileno() in ready and wanted == selectors.EVENT_READ:
            try:
                chunk = self._connection.recv(1 << 16)
            except OSError:
                chunk = b""
            if not chunk or len(self._received) > ANSWER_BYTES:
                raise LostError("exit")
            self._received += chunk
        self._measure()
        if self.peak > self._memory << 20:
            raise LostError("memory")
        if self._confined.process.poll() is not None and b"\n" not in self._received:
            raise LostError("exit")

    def _take_output(self) -> bool:
        took = False
        with suppress(OSError):
            while chunk := os.read(self._output, 1 << 16):
                self._printed = (self._printed + chunk)[-LOG_BYTES:]
                took = True
        return took

    def _log(self) -> str:
        text = self._printed.decode("utf-8", "replace")
        self._printed.clear()
        return text

    def _init_log(self) -> str:
        text, self.init_log = self.init_log, ""
        return text

    def _measure(self) -> None:
        """See what the function's processes hold; what they share is counted once."""
        self._confined.learn()
        below = confinement_worker.descendants(self._confined.process.pid)
        # The first process of a namespace is the builder's.
        mine = below[1:] if "pid namespace" in self._confined.held.get("by", "pid namespace") else below
        if mine:
            others = sum(_held(pid)[1] for pid in mine[1:])
            self.peak = max(self.peak, _held(mine[0])[0] + others, _most(mine[0]))


def _held(pid: int) -> tuple[int, int]:
    """Return the bytes in memory of a process, and those of them that are its alone."""
    with suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123
        resident, shared = map(int, file.read().split()[1:3])
        return resident * PAGE, (resident - shared) * PAGE
    return 0, 0


def _most(pid: int) -> int:
    """Return the most bytes that a process has ever held."""
    with suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123
        return next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM")), 0)
    return 0


def serve(server: socket.socket) -> None:
    """Start the function and pass events to it until it or the server ends."""
    lines = server.makefile("rw", encoding="utf-8", errors="surrogatepass")

    def send(words: dict[str, Any]) -> None:
        lines.write(json.dumps(words) + "\n")
        lines.flush()

    setting = Setting(**json.loads(lines.readline()))
    ours, theirs = socket.socketpair()
    output, printing = os.pipe()
    rules = confinement.Rules(
        root=Path(setting.root),
        read=setting.read,
        machine=setting.machine,
        scratch=setting.scratch,
        needs=setting.needs,
        places=setting.places,
        limits={
            "DATA": (setting.memory << 20) + SPARE_BYTES,
            "FSIZE": max(setting.scratch.values(), default=0),
            "NOFILE": FILES,
        },
        wall_seconds=LIFE_SECONDS,
    )
    command = [*setting.command, str(theirs.fileno()), setting.arn, setting.layers]
    with confinement.confined(
        rules,
        command,
        setting.environment,
        cwd=setting.cwd,
        keep=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=printing,
        stderr=printing,
    ) as confined:
        theirs.close()
        os.close(printing)
        runtime = Runtime(confined, ours, output, setting.memory, server)
        with suppress(LostError):  # the first event finds it out again
            runtime.import_module(INIT_SECONDS)
        send({"init_ms": runtime.init_ms})
        for line in lines:
            request = json.loads(line)
            said = runtime.answer(request["event"], request["request_id"], request["timeout"])
            if said.ended:
                break
            send(asdict(said))
        else:
            return
    send(asdict(said))  # once nothing of it runs any more


def _stop(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough, and may not come between what follows
    raise SystemExit(0)


def main(descriptor: int) -> None:
    """Be the worker whose server is at the other end of a socket."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = socket.socket(fileno=descriptor)
    try:
        with suppress(BrokenPipeError, SystemExit):
            serve(server)
    except Exception:  # noqa: BLE001 (shown, and then it ends all the same)
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
