"""Workers of functions that are not the stack's own: each in a process without what it must not have.

`lambda_sandbox` runs between this and the function's code.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from layer_builder.ground import confinement
from layer_builder.ground.interpreter import Interpreter
from layer_builder.proof import surroundings
from local.lambda_code import remove
from local.lambda_log import end_lines, exit_reason, start_line
from local.lambda_runtime import Answer, Function, Sandbox, WriteLog, lost, new_stream, variables_of
from local.lambda_sandbox import INIT_SECONDS, Said, Setting
from local.settings import REGION

PROGRAM: Final = (sys.executable, "-P", str(Path(__file__).with_name("lambda_sandbox.py")))
TASK: Final = "/var/task"
LAYERS: Final = "/opt"
RUNTIME: Final = "/var/runtime"
SCRATCH: Final = "/tmp"  # noqa: S108 (a function's own)
ANSWER_BYTES: Final = 6_291_556
"""https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, synchronous payloads"""
END_SECONDS: Final = 15.0
SPARE_SECONDS: Final = 30.0
"""How much later than the function the process in between is given up."""


class ConfinedWorker:
    """One execution environment.

    Args:
        function: What it runs; it has a sandbox.
        key: What its role signs with, as variables.
        write_log: Takes what it prints, if its role may write logs.
    """

    def __init__(self, function: Function, key: Mapping[str, str], write_log: WriteLog) -> None:
        if function.sandbox is None:
            raise ValueError(f"{function.name} has no sandbox")
        self.function = function
        self.stream = new_stream(function)
        self.closed = False
        self._sandbox = function.sandbox
        self._write_log = write_log
        self._init_ms: float | None = None
        self._life = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="worker-", dir=function.sandbox.folder))
        self._folder.chmod(0o755)  # the function runs as nobody, if that can be
        for name, mode in (("root", 0o755), ("tmp", 0o1777)):
            (self._folder / name).mkdir()
            (self._folder / name).chmod(mode)
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*PROGRAM, str(theirs.fileno())],
                cwd="/",
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._lines = self._socket.makefile("rw", encoding="utf-8", errors="surrogatepass")
        with suppress(OSError):
            self._send(asdict(self._setting(key)))

    def wait_until_ready(self) -> None:
        """Wait for the import of the module; how it failed is found out by the next event."""
        self._init_ms = (self._receive(INIT_SECONDS + SPARE_SECONDS) or {}).get("init_ms")

    def invoke(self, event: object, request_id: str) -> Answer:
        """Give one event to the handler and wait for its answer; when it takes too long, it is ended."""
        timeout = self.function.timeout
        with suppress(OSError):
            self._send({"event": event, "request_id": request_id, "timeout": timeout})
        told = self._receive(timeout + SPARE_SECONDS)
        said = Said(**told) if told else Said(ended="exit")
        if said.ended:
            self.close()
        return self._answer(said, request_id)

    def _answer(self, said: Said, request_id: str) -> Answer:
        status, answer = "", Answer(said.payload, said.error)
        if said.ended == "timeout":
            reason = f"Task timed out after {self.function.timeout:.2f} seconds"
            status, answer = "timeout", self._lost("Sandbox.Timedout", reason, request_id)
        elif said.ended:
            reason = exit_reason(-signal.SIGKILL if said.ended == "memory" else said.status)
            status = "error\tError Type: Runtime.ExitError"
            answer = self._lost("Runtime.ExitError", reason, request_id)
        elif len(said.payload) > ANSWER_BYTES:
            message = f"Response payload size exceeded maximum allowed payload size ({ANSWER_BYTES} bytes)."
            answer = lost("Function.ResponseSizeTooLarge", message, "")
        log = [
            *said.init_log.split("\n"),
            start_line(request_id, self.function.version),
            *said.log.split("\n"),
            *([json.loads(answer.payload)["errorMessage"]] if said.ended else []),
            *end_lines(
                request_id, said.milliseconds, self.function.memory, said.memory, self._init_ms, status
            ),
        ]
        self._init_ms = None
        log = [line for line in log if line]
        if self._sandbox.logs:
            for line in log:
                self._write_log(self.function.log_group, self.stream, line)
        return Answer(answer.payload, answer.error, "\n".join(log) + "\n")

    def _lost(self, error_type: str, reason: str, request_id: str) -> Answer:
        return lost(error_type, f"RequestId: {request_id} Error: {reason}", "")

    def kill(self) -> None:
        """End the function and all that it started."""
        with self._life:
            if not self.closed:
                self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Kill it and let go of everything."""
        self.kill()
        with self._life:
            if self.closed:
                return
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()  # what it started ends with it
                self._process.wait()
            self.closed = True
        with suppress(OSError):
            self._lines.close()
        self._socket.close()
        remove(self._folder)

    def _send(self, words: Mapping[str, Any]) -> None:
        self._lines.write(json.dumps(words) + "\n")
        self._lines.flush()

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """Return what the process in between says, or None if it is gone or silent for so long."""
        self._socket.settimeout(seconds)
        try:
            line = self._lines.readline()
        except (OSError, ValueError):
            return None
        return json.loads(line) if line.endswith("\n") else None

    def _setting(self, key: Mapping[str, str]) -> Setting:
        function, sandbox = self.function, self._sandbox
        python = str(sandbox.python.path)
        return Setting(
            command=[python, "-S", "-s", "-B", "-u", f"{RUNTIME}/bootstrap.py"],
            environment=environment_of(function, sandbox, self.stream) | dict(key),
            places={
                TASK: str(function.code),
                LAYERS: str(sandbox.layers),
                RUNTIME: str(sandbox.runtime),
                SCRATCH: str(self._folder / "tmp"),
            },
            layers=LAYERS,
            cwd=TASK,
            read=[*sandbox.read],
            machine=_machine(sandbox.python),
            needs=[python, str(function.code), str(sandbox.layers), str(sandbox.runtime / "bootstrap.py")],
            scratch={SCRATCH: sandbox.disk << 20},
            root=str(self._folder / "root"),
            arn=function.arn,
            memory=function.memory,
        )


def _machine(python: Interpreter) -> list[str]:
    """Name what functions have of this machine: what Lambda has too, where its loader tells that."""
    seen = surroundings.of(python, platform.machine())
    if seen is None:
        return [*confinement.SYSTEM, *confinement.SETTINGS, *confinement.parts_of(python)]
    return [*seen.read]


def environment_of(function: Function, sandbox: Sandbox, stream: str) -> dict[str, str]:
    """Return the environment that Lambda gives a function, but for its role's key.

    Its own variables replace what Lambda does not reserve, such as PATH and PYTHONPATH.
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
    """
    libraries = sandbox.python.environment.get("LD_LIBRARY_PATH", "")
    defaults = {
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": ":".join(
            [*filter(None, [libraries]), RUNTIME, TASK, f"{TASK}/lib", f"{LAYERS}/lib"]
        ),
        "PATH": f"/usr/local/bin:/usr/bin:/bin:{LAYERS}/bin",
        "TMPDIR": SCRATCH,
    }
    reserved = variables_of(function, stream) | {
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": REGION,
        "HOME": "/home/sbx_user1051",  # and it does not exist, as in Lambda
        "LAMBDA_RUNTIME_DIR": RUNTIME,
        "LAMBDA_TASK_ROOT": TASK,
    }
    for name in ("POWERTOOLS_TRACE_DISABLED", "AWS_XRAY_SDK_ENABLED"):
        reserved.pop(name, None)
    return defaults | dict(function.environment) | reserved
