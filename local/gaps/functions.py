"""Lambda's functions as AWS makes them: what is refused at CreateFunction, and the states until Active.

The stack's own functions are those whose package this process made of the template's code; they have no
layers. All others run confined, on the Python of their runtime, and are Active once that is found and all is
unpacked.
"""

import hashlib
import json
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from moto.awslambda.exceptions import InvalidParameterValueException, LambdaClientError, UnknownLayerException
from moto.awslambda.models import LambdaFunction, LayerVersion, lambda_backends
from moto.iam.models import iam_backends

from layer_builder.ground.interpreter import Interpreter
from local.lambda_code import LIMIT, Code, CodeError, UnfitError, interpreter_of, unzipped_bytes
from local.policies import matches
from local.settings import ACCOUNT_ID, REGION

MOST_LAYERS: Final = 5
"""https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html"""
SERVICE: Final = "lambda.amazonaws.com"


class NotNowError(LambdaClientError):
    """A call that a function's state does not allow.

    https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
    """

    code = 409

    def __init__(self, state: str) -> None:
        super().__init__(
            "ResourceConflictException",
            "The operation cannot be performed at this time. "
            f"The function is currently in the following state: {state}",
        )


@dataclass(frozen=True)
class State:
    """A function's state; the code and the reason as AWS has them, empty while it is Active."""

    name: str
    code: str = ""
    reason: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """The part of a function's configuration."""
        words = {"State": self.name}
        if self.code:
            words |= {"StateReason": self.reason, "StateReasonCode": self.code}
        return words


ACTIVE: Final = State("Active")
PENDING: Final = State("Pending", "Creating", "The function is being created.")


class Creation:
    """Gets functions ready that are not the stack's own.

    Attributes:
        going_on: While it is cleared, functions stay Pending.

    Args:
        code: Where packages and layers are unpacked.
    """

    def __init__(self, code: Code) -> None:
        self.going_on = threading.Event()
        self.going_on.set()
        self._code = code
        self._own: set[str] = set()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="creation of a function")

    def trust(self, content: bytes) -> None:
        """Take a package for the stack's own."""
        self._own.add(hashlib.sha256(content).hexdigest())

    def is_own(self, function: LambdaFunction) -> bool:
        """Whether a function is one of the stack's, which runs as its handlers always did."""
        return not function.layers and vars(function).get("code_digest") in self._own

    def begin(self, function: LambdaFunction) -> None:
        """Get a new function ready, in the background."""
        if not self.is_own(function):
            vars(function)["getting_ready"] = self._threads.submit(self._get_ready, function)

    def begin_anew(self, function: LambdaFunction) -> None:
        """Get a function ready whose code or configuration was changed, and wait for it."""
        self.begin(function)
        if getting_ready := vars(function).get("getting_ready"):
            wait([getting_ready])

    def clean_up(self) -> None:
        """Remove what no function uses any more, in the background."""
        with suppress(RuntimeError):  # it is closed, and all of it goes
            self._threads.submit(self._code.forget, in_use)

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown(cancel_futures=True)

    def state_of(self, function: LambdaFunction) -> State:
        """Return a function's state."""
        getting_ready: Future[State] | None = vars(function).get("getting_ready")
        if getting_ready is None:
            return ACTIVE
        if not self.going_on.is_set() or not getting_ready.done() or getting_ready.cancelled():
            return PENDING
        return getting_ready.result()

    def check(self, function: LambdaFunction) -> None:
        """Refuse what only an active function can do.

        Raises:
            NotNowError: It is none.
        """
        if (state := self.state_of(function)) != ACTIVE:
            raise NotNowError(state.name)

    def interpreter(self, function: LambdaFunction) -> Interpreter:
        """Return the Python that runs a function.

        Raises:
            UnfitError: This machine has none.
        """
        return interpreter_of(str(function.run_time or "container image"), function.architectures[0])

    def _get_ready(self, function: LambdaFunction) -> State:
        try:
            self.interpreter(function)
            self._code.package(function.code_digest, function.code_bytes)
            self._code.layers(layers_key(function), [version.code_bytes for version in layers_of(function)])
        except UnfitError as error:
            return State("Failed", "InvalidRuntime", str(error))
        except CodeError as error:
            return State("Failed", "InvalidZipFileException", f"Could not unzip uploaded file: {error}")
        except Exception as error:  # noqa: BLE001 (or it would be Pending for ever)
            return State("Failed", "InternalError", f"{type(error).__name__}: {error}")
        return ACTIVE


def layers_of(function: LambdaFunction) -> list[LayerVersion]:
    """Return the layer versions that a function was given; they may be deleted since."""
    return list(vars(function)["layer_versions"])


def layers_key(function: LambdaFunction) -> str:
    """Name what a function has in /opt."""
    return hashlib.sha256(
        " ".join(version.code_sha_256 for version in layers_of(function)).encode()
    ).hexdigest()


def in_use() -> tuple[set[str], set[str]]:
    """Return the digests of the packages of all functions that are there, and the keys of their layers."""
    functions = list(lambda_backends[ACCOUNT_ID][REGION].list_functions())
    digests = {str(vars(function).get("code_digest")) for function in functions}
    return digests, {layers_key(function) for function in functions}


def check_and_keep_layers(
    function: LambdaFunction, arns: Sequence[str], look: Callable[[str], LayerVersion]
) -> None:
    """Note a function's layers.

    Args:
        function: Gets them.
        arns: Of the versions.
        look: Returns the version of an ARN.

    Raises:
        InvalidParameterValueException: There is no such version, or they are too many, or two of a layer.
    """
    if len(arns) > MOST_LAYERS:
        raise InvalidParameterValueException(f"Cannot reference more than {MOST_LAYERS} layers.")
    seen: dict[str, str] = {}
    for arn in arns:
        other = seen.setdefault(arn.rpartition(":")[0], arn)
        if other != arn:
            raise InvalidParameterValueException(
                "Two different versions of the same layer are not allowed to be referenced in the same "
                f"function. {other} and {arn}"
            )
    versions = []
    for arn in arns:
        try:
            versions.append(look(arn))
        except UnknownLayerException as error:
            raise InvalidParameterValueException(f"Layer version {arn} does not exist.") from error
    vars(function)["layer_versions"] = versions


def check_size(function: LambdaFunction) -> None:
    """Refuse what is too large.

    Raises:
        InvalidParameterValueException: It is, or the package is no zip file.
    """
    if function.package_type == "Image":
        return
    try:
        own = unzipped_bytes(function.code_bytes)
        whole = own + sum(unzipped_bytes(version.code_bytes) for version in layers_of(function))
    except zipfile.BadZipFile as error:
        raise InvalidParameterValueException(
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        ) from error
    if own > LIMIT:
        raise InvalidParameterValueException(f"Unzipped size must be smaller than {LIMIT} bytes")
    if whole > LIMIT:
        raise InvalidParameterValueException(
            f"Function code combined with layers exceeds the maximum allowed size of {LIMIT} bytes. "
            f"The actual size is {whole} bytes."
        )


def check_role(arn: str) -> None:
    """Refuse a role that Lambda may not take on.

    Raises:
        InvalidParameterValueException: It may not, or there is none.
    """
    roles = list(iam_backends[ACCOUNT_ID]["aws"].roles.values())
    role = next((role for role in roles if role.arn == arn), None)
    if role is None or not trusts(json.loads(role.assume_role_policy_document or "{}"), SERVICE):
        raise InvalidParameterValueException("The role defined for the function cannot be assumed by Lambda.")


def trusts(document: Mapping[str, Any], service: str) -> bool:
    """Whether a trust policy lets a service take on its role; conditions are not looked at.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
    """
    verdicts = set()
    for statement in _listed(document.get("Statement", [])):
        principal = statement.get("Principal", {})
        services = _listed(principal.get("Service", [])) if isinstance(principal, dict) else []
        actions = _listed(statement.get("Action", []))
        if (service in services or principal == "*") and any(
            matches(one, "sts:AssumeRole") for one in actions
        ):
            verdicts.add(statement.get("Effect"))
    return verdicts == {"Allow"}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
