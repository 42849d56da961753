"""Lambda: functions run, and layers are checked as AWS checks them."""

# ruff: noqa: SLF001 (replacing moto's insides is what this module is for)
import io
import json
import re
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from moto.awslambda import models
from moto.awslambda.exceptions import (
    InvalidParameterValueException,
    LambdaClientError,
    UnknownLayerException,
)
from moto.awslambda.models import (
    LambdaBackend,
    LambdaFunction,
    LayerStorage,
    LayerVersion,
    lambda_backends,
)
from moto.awslambda.policy import Policy
from moto.awslambda.responses import LambdaResponse
from moto.s3.models import s3_backends

from local.calls import model_of
from local.gaps import Replacements
from local.gaps.functions import (
    ACTIVE,
    Creation,
    check_and_keep_layers,
    check_role,
    check_size,
    layers_key,
    layers_of,
)
from local.lambda_async import AsyncInvocations, FailureHandling
from local.lambda_code import LIMIT, Code
from local.lambda_log import tail
from local.lambda_runtime import Answer, Function, Sandbox, ShutDownError, Workers
from local.settings import ACCOUNT_ID, REGION

KNOWN_RUNTIMES: Final = frozenset(f"python3.{minor}" for minor in range(8, 15))
"""The Python runtimes that may be named by a layer, current and deprecated ones."""
LAYER_VERSION: Final = re.compile(
    r"arn:aws:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:(?P<name>[\w-]+):(?P<version>\d+)",
    re.ASCII,
)


LayerAddress = Callable[[str, int], str]
"""Returns where a layer's zip file is fetched from, by its name and version."""
MayLog = Callable[[str, str], bool]
"""Tells whether a role, by its ARN, may write to a log group."""


class LambdaService:
    """moto's functions, run by our workers.

    Attributes:
        creation: Gets functions ready that are not the stack's own.

    Args:
        folder: Where deployment packages are unpacked.
        workers: Runs them.
        asynchronous: Takes events whose sender does not wait.
        most_workers: Of one function, unless its reserved concurrency is smaller.
        may_log: Of functions that are not the stack's own.
    """

    def __init__(
        self,
        folder: Path,
        workers: Workers,
        asynchronous: AsyncInvocations,
        most_workers: int,
        may_log: MayLog,
    ) -> None:
        self._folder = folder
        self._code = Code(folder)
        self.creation = Creation(self._code)
        self._may_log = may_log
        self._workers = workers
        self._asynchronous = asynchronous
        self._most_workers = most_workers
        self._lock = threading.Lock()

    def warm(self, function: LambdaFunction) -> None:
        """Start a worker of one of the stack's functions before it is needed."""
        if self.creation.is_own(function):
            self._workers.warm(self._described(function))

    def send(self, function: LambdaFunction, event: object) -> None:
        """Invoke asynchronously, with the retries and destinations that the function is configured with.

        What is sent to one that is not active is lost.
        """
        if self.creation.state_of(function) != ACTIVE:
            return
        # moto keeps every configuration that was ever put; the last counts.
        configurations = function.event_invoke_config
        config: dict[str, Any] = configurations[-1].config if configurations else {}
        handling = FailureHandling(
            retries=config.get("MaximumRetryAttempts", 2),
            destination=config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"),
            dead_letters=vars(function).get("dead_letter_config", {}).get("TargetArn"),
        )
        self._asynchronous.accept(self._described(function), event, handling)

    def invoke(self, function: LambdaFunction, event: object) -> Answer:
        """Invoke as Lambda does for an event source mapping: once, and with the answer to the caller.

        Raises:
            ShutDownError: The embedded AWS stops.
        """
        return self._workers.invoke(self._described(function), event)

    def layer_content(self, name: str, version: str) -> bytes:
        """Return the zip file of a layer version, as Lambda serves it."""
        return lambda_backends[ACCOUNT_ID][REGION].get_layer_version(name, version).code_bytes

    def install(self, replacements: Replacements, layer_address: LayerAddress) -> None:
        """Replace what moto does about functions and layers.

        Args:
            replacements: Keeps what was there.
            layer_address: Returns where ``layer_content`` is served.
        """
        put = replacements.put
        put(LambdaFunction, "__init__", _keeping_configuration(LambdaFunction.__init__))
        configured = _with_configuration(LambdaFunction.get_configuration, self.creation)
        put(LambdaFunction, "get_configuration", configured)
        # moto takes layers and packages of any size, a role that trusts nobody, and has no function wait.
        put(LambdaBackend, "create_function", self._creating(LambdaBackend.create_function))
        put(LambdaBackend, "delete_function", self._deleting(LambdaBackend.delete_function))
        for name in ("update_configuration", "update_function_code"):
            put(LambdaFunction, name, self._updating(getattr(LambdaFunction, name)))
        # moto runs a function in a Docker container, anew for each call, and knows no asynchronous
        # invocation.
        put(LambdaFunction, "invoke", lambda function, *call: self._invoke(function, *call))
        # moto takes the newest version of a zip, whichever was asked for.
        put(models, "_validate_s3_bucket_and_key", _that_version(models._validate_s3_bucket_and_key))
        put(LayerStorage, "put_layer_version", _checked(LayerStorage.put_layer_version))
        put(LayerVersion, "get_layer_version", _with_location(LayerVersion.get_layer_version, layer_address))
        # moto knows no GetLayerVersionByArn.
        replacements.add(LambdaResponse, "get_layer_version_by_arn", _get_layer_version_by_arn)
        put(Policy, "add_statement", _once(Policy.add_statement))

    def _invoke(
        self, function: LambdaFunction, body: str, request: Mapping[str, str], response: dict[str, str]
    ) -> str | bytes:
        self.creation.check(function)
        event = json.loads(body or "{}")
        how = request.get("x-amz-invocation-type", "RequestResponse")
        if how == "Event":
            self.send(function, event)
        if how != "RequestResponse":
            return ""
        try:
            answer = self._workers.invoke(self._described(function), event)
        except ShutDownError as error:
            raise ServiceError(str(error)) from error
        if answer.error:
            response["x-amz-function-error"] = answer.error
        response["x-amz-executed-version"] = str(function.version)
        response["x-amz-log-result"] = tail(answer.log)  # moto leaves it out if nobody asked
        return answer.payload.encode("utf-8", "replace")

    def _creating(self, original: Any) -> Any:
        def create_function(backend: LambdaBackend, spec: dict[str, Any]) -> LambdaFunction:
            check_role(spec["Role"])
            function: LambdaFunction = original(backend, spec)
            self.creation.begin(function)
            return function

        return create_function

    def _deleting(self, original: Any) -> Any:
        def delete_function(backend: LambdaBackend, name: str, qualifier: str | None = None) -> None:
            function = backend.get_function(name, qualifier)
            original(backend, name, qualifier)
            self._workers.forget(function.function_arn)
            self.creation.clean_up()

        return delete_function

    def _updating(self, original: Any) -> Any:
        def update(function: LambdaFunction, changes: dict[str, Any]) -> dict[str, Any]:
            self.creation.check(function)
            if "Layers" in changes:
                check_and_keep_layers(function, changes["Layers"], _layer_version)
            original(function, changes)
            self.creation.begin_anew(function)
            described: dict[str, Any] = function.get_configuration()
            return described

        return update

    def _sandbox(self, function: LambdaFunction) -> Sandbox:
        runtime, read = self._code.runtime()
        return Sandbox(
            python=self.creation.interpreter(function),
            layers=self._code.layers(
                layers_key(function), [version.code_bytes for version in layers_of(function)]
            ),
            runtime=runtime,
            read=tuple(read),
            disk=int(function.ephemeral_storage),
            folder=self._folder,
            logs=self._may_log(str(function.role), function.logs_group_name),
        )

    def _described(self, function: LambdaFunction) -> Function:
        reserved = function.reserved_concurrency
        own = self.creation.is_own(function)
        package = self._unpacked if own else self._packaged
        return Function(
            arn=function.function_arn,
            name=function.function_name,
            version=str(function.version),
            handler=str(function.handler),
            runtime=str(function.run_time),
            role=str(function.role),
            code=package(function),
            environment=tuple(sorted(function.environment_vars.items())),
            memory=int(function.memory_size),
            timeout=float(function.timeout),
            log_group=function.logs_group_name,
            most_workers=self._most_workers if reserved is None else min(self._most_workers, int(reserved)),
            sandbox=None if own else self._sandbox(function),
        )

    def _packaged(self, function: LambdaFunction) -> Path:
        return self._code.package(function.code_digest, function.code_bytes)

    def _unpacked(self, function: LambdaFunction) -> Path:
        folder = self._folder / function.code_digest
        with self._lock:
            if not folder.exists():
                partial = Path(tempfile.mkdtemp(dir=self._folder))
                with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as package:
                    package.extractall(partial)
                shutil.move(partial, folder)
        return folder


class ServiceError(LambdaClientError):
    """Lambda's own failure."""

    code = 500

    def __init__(self, message: str) -> None:
        super().__init__("ServiceException", message)


def _keeping_configuration(original: Any) -> Any:
    # moto forgets LoggingConfig and DeadLetterConfig.
    def init(
        function: LambdaFunction, account_id: str, spec: dict[str, Any], *rest: Any, **named: Any
    ) -> None:
        check_and_keep_layers(function, spec.get("Layers", []), _layer_version)
        original(function, account_id, spec, *rest, **named)
        check_size(function)
        state = vars(function)
        state["logging_config"] = spec.get("LoggingConfig", {})
        state["dead_letter_config"] = spec.get("DeadLetterConfig", {})
        function.logs_group_name = state["logging_config"].get("LogGroup", function.logs_group_name)

    return init


def _with_configuration(original: Any, creation: Creation) -> Any:
    def get_configuration(function: LambdaFunction, on_create: bool = False) -> dict[str, Any]:
        state = vars(function)
        logging = {"LogFormat": "Text", "LogGroup": function.logs_group_name} | state["logging_config"]
        configuration: dict[str, Any] = original(function, on_create)
        configuration["LoggingConfig"] = logging
        if state["dead_letter_config"]:
            configuration["DeadLetterConfig"] = state["dead_letter_config"]
        configuration |= creation.state_of(function).fields
        return configuration

    return get_configuration


def _that_version(original: Any) -> Any:
    def find(account_id: str, partition: str, data: dict[str, Any]) -> Any:
        version = data.get("S3ObjectVersion")
        if not version:
            return original(account_id, partition=partition, data=data)
        return s3_backends[account_id][partition].get_object(
            data["S3Bucket"], data["S3Key"], version_id=version
        )

    return find


def _checked(original: Any) -> Any:
    # moto makes a layer version of anything, each with a copy of the zip, and in a race two of one number.
    one_by_one = threading.Lock()

    def put_layer_version(storage: LayerStorage, version: LayerVersion) -> None:
        check_layer(version.code_bytes, version.compatible_runtimes)
        with one_by_one:
            known = (one for layer in storage._layers.values() for one in layer.layer_versions.values())
            same = (one.code_bytes for one in known if one.code_sha_256 == version.code_sha_256)
            version.code_bytes = next(same, version.code_bytes)
            original(storage, version)

    return put_layer_version


def check_layer(content: bytes, runtimes: Sequence[str]) -> None:
    """Refuse what Lambda refuses.

    Raises:
        InvalidParameterValueException: The zip file is not there, is no zip file or one of more than
        262,144,000 bytes
            unzipped, or a runtime is not one of Lambda's.
    """
    unknown = sorted(set(runtimes) - KNOWN_RUNTIMES)
    if unknown:
        raise InvalidParameterValueException(f"Value {unknown} at 'compatibleRuntimes' is not a runtime")
    if not content:  # what moto reads from a key that does not exist
        raise InvalidParameterValueException(
            "Error occurred while GetObject. S3 Error Code: NoSuchKey. "
            "S3 Error Message: The specified key does not exist."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as layer:
            unzipped = sum(entry.file_size for entry in layer.infolist())
    except zipfile.BadZipFile as error:
        raise InvalidParameterValueException(
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        ) from error
    if unzipped > LIMIT:
        raise InvalidParameterValueException(f"Unzipped size must be smaller than {LIMIT} bytes")


def _with_location(original: Any, layer_address: LayerAddress) -> Any:
    # moto gives no address to fetch a layer's zip file from.
    def get_layer_version(version: LayerVersion) -> dict[str, Any]:
        described: dict[str, Any] = original(version)
        described["Content"]["Location"] = layer_address(str(version.name), int(str(version.version)))
        return described

    return get_layer_version


class LayerRefusedError(LambdaClientError):
    """GetLayerVersionByArn of what is no version's ARN, of none that is there, or of somebody else's."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = status


def _get_layer_version_by_arn(response: LambdaResponse) -> str:
    # https://docs.aws.amazon.com/lambda/latest/api/API_GetLayerVersionByArn.html
    arn = response._get_param("Arn") or ""
    try:
        return json.dumps(_layer_version(arn).get_layer_version())
    except UnknownLayerException as error:
        raise LayerRefusedError(
            404, "ResourceNotFoundException", f"The layer version {arn} does not exist."
        ) from error


def _layer_version(arn: str) -> LayerVersion:
    """Return a layer version by its ARN.

    Raises:
        UnknownLayerException: There is none of this account.
        LayerRefusedError: It is somebody else's, or nobody's.
    """
    form = model_of("lambda").shape_for("LayerVersionArn").metadata["pattern"]
    found = LAYER_VERSION.fullmatch(arn)
    if not re.fullmatch(form, arn) or found is None:
        raise LayerRefusedError(
            400,
            "ValidationException",
            f"1 validation error detected: Value '{arn}' at 'arn' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {form}",
        )
    if (found["region"], found["account"]) != (REGION, ACCOUNT_ID):
        raise LayerRefusedError(
            403,
            "AccessDeniedException",
            f"No policy of another account or region allows lambda:GetLayerVersion on {arn}: "
            f"the embedded AWS has {ACCOUNT_ID} in {REGION} alone.",
        )
    return lambda_backends[ACCOUNT_ID][REGION].get_layer_version(found["name"], found["version"])


class StatementExistsError(LambdaClientError):
    """AddPermission or AddLayerVersionPermission with a statement id that is taken."""

    code = 409

    def __init__(self, statement_id: str) -> None:
        super().__init__(
            "ResourceConflictException",
            f"The statement id ({statement_id}) provided already exists. Please provide a new statement id, "
            "or remove the existing statement.",
        )


def _once(original: Any) -> Any:
    # moto adds a statement as often as asked.
    def add_statement(policy: Policy, raw: str, qualifier: str | None = None) -> Any:
        wanted = json.loads(raw).get("StatementId")
        if wanted and any(statement.get("Sid") == wanted for statement in policy.statements):
            raise StatementExistsError(wanted)
        return original(policy, raw, qualifier)

    return add_statement
