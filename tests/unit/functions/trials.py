"""What tests of trials share: a Lambda that really runs functions, each in a process of its own."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from layerdrop.target import Job
from layerdrop.trial import Modules
from layerdrop.trying import FunctionTrial

from . import conftest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ARN = "arn:aws:lambda:us-east-1:123456789012:layer:web-py313-arm64:7"
ROLE = "arn:aws:iam::123456789012:role/layerdrop-trial"
TARGET = replace(
    conftest.TARGET,
    job=Job("web-1-py313-arm64", "q", "d", ("--staging=s3://b/builds/web-1/py313-arm64/secret/",)),
    is_tried=True,
    bundles=True,
)
EXCEPTIONS = boto3.client("lambda", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x").exceptions
# Lambda's own part, as far as the function sees it.
BOOTSTRAP = """
import json, site, sys
sys.path[:0] = [sys.argv[1], sys.argv[3]]
if sys.argv[4] == "":
    site.addsitedir(sys.argv[3])
import layerdrop_trial
answer = layerdrop_trial.handler(json.loads(sys.argv[2]), None)
if sys.stdout and not sys.stdout.closed:
    sys.stdout.flush()
sys.__stderr__.write(json.dumps(answer))
"""


def refusal(code: str, message: str = "no") -> ClientError:
    """What boto3 raises when Lambda says no."""
    kinds: dict[str, type[ClientError]] = {
        name: getattr(EXCEPTIONS, name)
        for name in (
            "ResourceConflictException",
            "ResourceNotFoundException",
            "InvalidParameterValueException",
            "CodeStorageExceededException",
            "TooManyRequestsException",
        )
    }
    return kinds.get(code, ClientError)({"Error": {"Code": code, "Message": message}}, "Operation")


@dataclass
class Lambda:
    """As much of Lambda as a trial calls.

    Attributes:
        layer: the folder that is `/opt/python` to its functions.
        pending: how often a new function is looked at until it is active.
        state: what becomes of it then.
        before: is called with each operation's name before that is done, and may raise.
        after: the same, once it is done.
    """

    layer: Path
    pending: int = 1
    state: dict[str, str] = field(default_factory=lambda: {"State": "Active"})
    before: Callable[[str], None] = lambda _: None
    after: Callable[[str], None] = lambda _: None
    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    answer: bytes | None = None
    exceptions: Any = EXCEPTIONS

    def __getattr__(self, name: str) -> Any:
        operation = getattr(type(self), f"do_{name}")

        def call(**given: Any) -> Any:
            self.calls.append(name)
            self.before(name)
            result = operation(self, **given)
            self.after(name)
            return result

        return call

    def get_paginator(self, _: str) -> Any:
        class Pages:
            paginate = staticmethod(lambda: [{"Functions": list(self.functions.values())}])

        return Pages

    def do_create_function(self, **given: Any) -> None:
        name = given["FunctionName"]
        if name in self.functions:
            raise refusal("ResourceConflictException", f"Function already exist: {name}")
        modified = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
        self.functions[name] = {**given, "LastModified": modified, "left": self.pending}

    def do_get_function_configuration(self, FunctionName: str) -> dict[str, str]:  # noqa: N803
        function = self.functions[FunctionName]
        function["left"] -= 1
        return (
            dict(self.state) if function["left"] < 0 else {"State": "Pending", "StateReasonCode": "Creating"}
        )

    def do_delete_function(self, FunctionName: str) -> None:  # noqa: N803
        if FunctionName not in self.functions:
            raise refusal("ResourceNotFoundException", "Function not found")
        del self.functions[FunctionName]

    def do_invoke(self, FunctionName: str, LogType: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        assert LogType == "Tail"
        folder = self.layer.parent / "task"
        with zipfile.ZipFile(io.BytesIO(self.functions[FunctionName]["Code"]["ZipFile"])) as archive:
            archive.extractall(folder)
        variables = self.functions[FunctionName].get("Environment", {"Variables": {}})["Variables"]
        searched = variables.get("PYTHONPATH", "")
        assert searched in ("", "/var/runtime:/opt/python")
        done = subprocess.run(
            [sys.executable, "-I", "-c", BOOTSTRAP, str(folder), Payload.decode(), str(self.layer), searched],
            capture_output=True,
            check=False,
        )
        log = b"START RequestId: 1\n" + done.stdout + b"END RequestId: 1\n"
        log += (
            b"REPORT RequestId: 1\tDuration: 9.10 ms\tBilled Duration: 10 ms\tMemory Size: 1024 MB\t"
            b"Max Memory Used: 85 MB\tInit Duration: 120.50 ms\t\n"
        )
        answer = {"LogResult": base64.b64encode(log[-4096:]).decode()}
        payload = self.answer if self.answer is not None else done.stderr
        if done.returncode:
            answer["FunctionError"] = "Unhandled"
            said = "RequestId: 01234567-89ab-cdef-0123-456789abcdef Error: "
            said += "Runtime exited with error: exit status 1"
            payload = json.dumps({"errorType": "Runtime.ExitError", "errorMessage": said}).encode()
        return {**answer, "Payload": StreamingBody(io.BytesIO(payload), len(payload))}


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> float:
        return self.now


def a_trial(service: Any) -> FunctionTrial:
    """Trials on that Lambda, which wait for nobody."""
    clock = Clock()
    return FunctionTrial(service, service, ROLE, "layerdrop-try-", 120, clock.pause, clock.read)


def wanted(*essential: str, others: tuple[str, ...] = (), advice: str = "") -> tuple[Modules, ...]:
    """Modules of one package."""
    return (Modules("app", essential, others, advice),)
