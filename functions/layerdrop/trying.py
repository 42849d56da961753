"""Trying a layer version in a throw-away function of its runtime and architecture, on Lambda itself.

The function has a name that only this trial of this version has, so whoever comes again after being killed
finds its own, and a role that may do nothing: it runs code of packages. It is deleted whatever happens; what
is left all the same, because nobody came again, `sweep` deletes.
"""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
import time
import zipfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from layerdrop import trial, trial_answer, wording
from layerdrop.aws import TryLaterError, error_code, is_busy
from layerdrop.layer_versions import version_of
from layerdrop.publishing import refused
from layerdrop.trial import MEMORY_MB, TIMEOUT_SECONDS, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef

    from layerdrop.target import Target
    from layerdrop.trial import Modules
    from layerdrop.trial_answer import Answer

LEFT_OVER = timedelta(hours=1)
"""After so long no trial is at work any more."""

# https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html#lambda-CreateFunction-request-FunctionName
_LONGEST_NAME = 64
_LONGEST_DIGEST = 20
_MODULE = "layerdrop_trial"
_FIRST_LOOK_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 2.0
# Lambda has not this runtime here; or it cannot unzip what a function is made of, nor could it another time:
# https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConfiguration.html, StateReasonCode
_NO_RUNTIME = "InvalidRuntime"
_NO_ZIP = "InvalidZipFileException"


class TrialNotPossibleError(TryLaterError):
    """Lambda does not let a function be made or invoked right now; the state machine waits for long."""


@dataclass(frozen=True)
class FunctionTrial:
    """Tries layers. Every step may be repeated.

    Attributes:
        lambda_client: for what may be asked again.
        invoking: for Invoke, which waits for as long as the imports may take.
        role: the ARN of the role with no permission.
        prefix: what the functions' names begin with.
        pending_seconds: how long a function may take to become active.
        pause: waits for so many seconds.
        clock: seconds that pass.
    """

    lambda_client: LambdaClient
    invoking: LambdaClient
    role: str
    prefix: str
    pending_seconds: int
    pause: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)

    def run(
        self, target: Target, arn: str, wanted: Sequence[Modules], *, differs: bool | None = None
    ) -> Trial:
        """Import modules from a layer version in a function that is there for nothing else.

        Where a wrapper's PYTHONPATH may change what the imports find (`differs`), another such function, with
        that, imports them once more.

        Raises:
            BuildError: IMPORT_FAILED; PUBLISH_REFUSED, Lambda takes no function with this layer.
            TrialNotPossibleError: the account is full or busy, or the function does not become active.
        """
        if not trial.order(wanted):
            return Trial("not_run", "the required packages have no modules")
        said = self._ask(target, arn, wanted, {})
        if isinstance(said, str):
            return Trial("not_run", wording.sentence(said))
        tried = trial.judge(target, wanted, said)
        if tried.result != "passed" or differs is None:
            return tried
        if not (differs and said.imported):
            return replace(tried, with_pythonpath="same")
        again = trial.imported(wanted, said)
        said = self._ask(target, arn, again, {"PYTHONPATH": trial.WRAPPERS_PYTHONPATH})
        return tried if isinstance(said, str) else trial.wrapped(tried, again, said)

    def _ask(
        self, target: Target, arn: str, wanted: Sequence[Modules], variables: Mapping[str, str]
    ) -> Answer | str:
        """Have a function import the modules, and delete it; say why Lambda has no such runtime, if so."""
        name = self.name(target, arn, variables)
        try:
            if reason := self._create(name, target, arn, variables) or self._unfit(name):
                return reason
            return self._answer(name, wanted)
        except ClientError as error:
            if explained := _explained(error, target):
                raise explained from error
            raise
        finally:
            self._delete(name)

    def name(self, target: Target, arn: str, variables: Iterable[str] = ()) -> str:
        """The function's name: the same for each try of one trial, and for no other."""
        identity = "\0".join((target.execution, target.layer_name, str(version_of(arn)), *variables))
        room = min(_LONGEST_DIGEST, _LONGEST_NAME - len(self.prefix))
        return self.prefix + sha256(identity.encode()).hexdigest()[:room]

    def sweep(self, now: datetime) -> list[str]:
        """Delete functions whose trial cannot be at work any more; return their names.

        Raises:
            TrialNotPossibleError: one of them cannot be deleted; the others are.
        """
        # A stack may be called as functions of ours begin: its own functions have more in their names.
        ours = re.compile(rf"{re.escape(self.prefix)}[0-9a-f]{{1,{_LONGEST_DIGEST}}}")
        swept, failed = [], []
        for page in self.lambda_client.get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                name = function["FunctionName"]
                modified = datetime.fromisoformat(function["LastModified"])
                if not ours.fullmatch(name) or modified >= now - LEFT_OVER:
                    continue
                try:
                    self._delete(name)
                except TrialNotPossibleError as error:
                    failed.append(str(error))
                else:
                    swept.append(name)
        if failed:
            raise TrialNotPossibleError("; ".join(failed))
        return swept

    def _create(self, name: str, target: Target, arn: str, variables: Mapping[str, str]) -> str:
        """Make the function; say why Lambda has no such runtime, if so.

        One that is there already is an earlier try's. It may have been invoked, and would not start cold.
        """
        more: Any = {"Environment": {"Variables": variables}} if variables else {}
        for attempt in (1, 2):
            try:
                self.lambda_client.create_function(
                    FunctionName=name,
                    Description=f"Tries {target.layer_name} version {version_of(arn)}, and is deleted then",
                    Runtime=target.runtime,
                    Architectures=[target.architecture],
                    Role=self.role,
                    Handler=f"{_MODULE}.handler",
                    Code={"ZipFile": code()},
                    # As in a function that is to use it: a layer may leave to others what they have.
                    Layers=[*target.alongside, arn],
                    MemorySize=MEMORY_MB,
                    Timeout=TIMEOUT_SECONDS,
                    **more,
                )
            except self.lambda_client.exceptions.ResourceConflictException:
                if attempt == 2:
                    raise
                self._delete(name)
            except self.lambda_client.exceptions.InvalidParameterValueException as error:
                said = error.response["Error"].get("Message", "")
                if not _is_about_the_runtime(said):
                    raise
                return said
            else:
                break
        return ""

    def _unfit(self, name: str) -> str:
        """Wait until the function is active; say why Lambda has no such runtime, if so.

        https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html

        Raises:
            ClientError: as Invoke would raise it, the layers cannot be unzipped.
            TrialNotPossibleError: it does not become active.
        """
        deadline, pause = self.clock() + self.pending_seconds, _FIRST_LOOK_SECONDS
        while True:
            found = self.lambda_client.get_function_configuration(FunctionName=name)
            state, code = found.get("State"), found.get("StateReasonCode")
            reason = found.get("StateReason", "")
            if state == "Active":
                return ""
            if state == "Failed" and code == _NO_RUNTIME:
                return reason or f"Lambda says {_NO_RUNTIME}"
            if state == "Failed" and code == _NO_ZIP:
                raise ClientError({"Error": {"Code": _NO_ZIP, "Message": reason or code}}, "CreateFunction")
            if state == "Failed" or self.clock() >= deadline:
                raise TrialNotPossibleError(_stuck(found))
            self.pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _answer(self, name: str, wanted: Sequence[Modules]) -> Answer:
        """What the function says of all modules; if one ends it that need not be imported, of the others.

        Also if nobody knows which one did: the end of the log may be full of other words.
        """
        all_of_them, must = trial.order(wanted), trial.must(wanted)
        first = self._invoke(name, all_of_them)
        if not first.ended or first.at in must or not 0 < len(must) < len(all_of_them):
            return first
        return trial.joined(first, self._invoke(name, must), all_of_them[len(must)])

    def _invoke(self, name: str, modules: Sequence[str]) -> Answer:
        mark = secrets.token_hex(8)
        response = self.invoking.invoke(
            FunctionName=name,
            LogType="Tail",
            Payload=json.dumps({"modules": list(modules), "mark": mark}).encode(),
        )
        with response["Payload"] as body:
            payload = body.read(trial_answer.MAX_BYTES + 1)
        log = base64.b64decode(response.get("LogResult", ""))
        is_error = "FunctionError" in response
        return trial_answer.read(payload, log, modules, mark, is_error=is_error)

    def _delete(self, name: str) -> None:
        try:
            self.lambda_client.delete_function(FunctionName=name)
        except self.lambda_client.exceptions.ResourceNotFoundException:
            return
        except (ClientError, BotoCoreError) as error:
            # Whatever the trial said: it is done again, and ends with nothing left.
            raise TrialNotPossibleError(f"its function {name} cannot be deleted: {error}") from error


def code() -> bytes:
    """The function's code as a zip, the same bytes each time."""
    source = resources.files("layerdrop").joinpath("trial_function.py").read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(f"{_MODULE}.py")  # of a fixed date
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, source)
    return buffer.getvalue()


def _stuck(found: FunctionConfigurationResponseTypeDef) -> str:
    told: dict[str, Any] = {"state": found.get("State"), "code": found.get("StateReasonCode")}
    words = ", ".join(f"{name} {value}" for name, value in told.items() if value)
    reason = found.get("StateReason")
    return f"its function does not become active ({words})" + (f": {reason}" if reason else "")


def _is_about_the_runtime(said: str) -> bool:
    """Whether Lambda refuses a function for its runtime ("The runtime parameter of python3.9 is no longer…").

    It quotes ARNs, in which a layer may be called anything.
    """
    return "runtime" in re.sub(r"\barn:\S+", "", said).lower()


# A full account is not the layer's fault, and others' trials end within minutes; a role that is new cannot be
# taken on at once, nor is known at once what it may. What is forbidden for ever is said in the end.
_WAITED_FOR = (
    "AccessDeniedException",
    "CodeStorageExceededException",
    "ResourceConflictException",
    "ResourceNotReadyException",
)


def _explained(error: ClientError, target: Target) -> Exception | None:
    """What to raise for what Lambda says to making, looking at and invoking the function; None for itself."""
    said = error.response["Error"].get("Message", "")
    if is_busy(error) or error_code(error) in _WAITED_FOR or "cannot be assumed" in said:
        return TrialNotPossibleError(f"{error_code(error)}: {said}")
    if error_code(error) in ("InvalidParameterValueException", _NO_ZIP):
        return refused(f'a function with the layer "{target.layer_name}"', error, {})
    return None


def now() -> datetime:
    """The time, as Lambda tells it."""
    return datetime.now(UTC)
