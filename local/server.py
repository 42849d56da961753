"""The embedded AWS itself: a moto server on 127.0.0.1, the stack on it, and everything that runs for it."""

import hashlib
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from moto.awslambda.exceptions import UnknownLayerException
from moto.awslambda.models import lambda_backends
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.logs.models import logs_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Response

from local.authorization import Authorization
from local.batch_jobs import Slots
from local.clients import Clients
from local.connections import Server
from local.deploy import Deployment, deploy
from local.environment import FOR_THE_BUILDER, FOR_THE_FUNCTIONS, child_environment
from local.errors import CallError, answer
from local.gaps import Replacements, core
from local.gaps.awslambda import LambdaService
from local.gaps.batch import BatchService
from local.gaps.cloudformation import CloudFormationService
from local.gaps.events import EventsService
from local.gaps.s3 import S3Service
from local.gaps.sqs import SqsService
from local.gaps.stepfunctions import StepFunctionsService
from local.gate import ROLE, Gate
from local.keys import Key, Keyring
from local.lambda_async import AsyncInvocations
from local.lambda_confined import ConfinedWorker
from local.lambda_runtime import ShutDownError, Workers
from local.settings import ACCOUNT_ID, BUCKET, HOST, REGION, STACK, TEMPLATE
from local.signatures import presigned
from local.translate import translate
from local.unknown_calls import KnownCalls

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LAYERS_PATH: Final = "/_layers"
LAYER_SECONDS: Final = 600
"""How long the address of a layer's zip file is good, as AWS's is:
https://docs.aws.amazon.com/lambda/latest/api/API_LayerVersionContentOutput.html"""
ARTIFACTS: Final = "layerdrop-local-artifacts"
"""The bucket that holds packaged code, as ``sam deploy`` makes one."""
STOP_SECONDS: Final = 10.0
HOUR_SECONDS: Final = 3600.0
LOG_LINES: Final = 10_000
"""Of a log stream that are kept, the newest, at least. AWS keeps all of them, or for so many days."""


class EmbeddedAws:
    """An AWS of one process: start it, deploy to it, talk to ``endpoint``, stop it. One at a time.

    Attributes:
        endpoint: ``http://127.0.0.1:PORT``.
        keys: What its requests are signed with; nothing else is answered.
        clients: boto3 clients of it.
        authorization: What roles did, and what they were refused.
        creation: Of functions that are not the stack's own, once it is started.
        folder: What it has on disk, once it is started: functions and layers, unpacked. It ends with it.

    Args:
        port: Where to listen; 0 takes a free one.
        images: Entry points of images by their names, beside the builder's own.
        cores: How many jobs, and workers of a function, run at once; default: what this machine has.
        reached_at: Where handlers and builders find it, when something listens between.
        key: Its owner's; default: one that ends with it.
    """

    _one_at_a_time = threading.Lock()

    def __init__(
        self,
        port: int = 0,
        images: Mapping[str, Sequence[str]] | None = None,
        cores: int | None = None,
        reached_at: str | None = None,
        key: Key | None = None,
    ) -> None:
        builder = Path(sys.executable).with_name("layer-builder")
        self._port = port
        self._images = {f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/*": [str(builder)], **(images or {})}
        self._cores = cores or machine_cores()
        self._reached_at = reached_at
        self._undo = ExitStack()
        self.endpoint = ""
        self.keys = Keyring(key)
        self.authorization = Authorization(KnownCalls(_MOTO))
        self._gate = Gate(self._answer, self.keys)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve an empty account.

        Raises:
            PortInUseError: Someone else listens on the port.
            RuntimeError: This process has one already; moto's state is global.
        """
        if not self._one_at_a_time.acquire(blocking=False):
            raise RuntimeError("There is an embedded AWS in this process already")
        # moto logs the insides of its interpreter for each state that fails, also where that is caught.
        logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)
        with ExitStack() as undo:
            undo.callback(self._one_at_a_time.release)
            server = Server(self._port, self._gate)
            self.endpoint = f"http://{HOST}:{server.port}"
            reached_at = self._reached_at or self.endpoint
            names = (f"{HOST}:{server.port}", f"localhost:{server.port}", urlsplit(reached_at).netloc)
            self._gate.hosts = frozenset(names)
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="layerdrop-local-")))
            self.folder = folder
            replacements = Replacements()
            self.clients = Clients(self.endpoint, self.keys)
            key_of = self.keys.of_role
            self._workers = Workers(
                child_environment(reached_at, FOR_THE_FUNCTIONS), self._write_log, key_of, ConfinedWorker
            )
            asynchronous = AsyncInvocations(self._workers.invoke, self._send_message)
            most = max(2, self._cores)
            self._lambda = LambdaService(
                folder, self._workers, asynchronous, most, self.authorization.may_log
            )
            self.creation = self._lambda.creation
            objects = S3Service(self._lambda.send)
            environment = child_environment(reached_at, FOR_THE_BUILDER)
            batch = BatchService(self._images, environment, Slots(self._cores), key_of)
            step_functions = StepFunctionsService(self.clients)
            queues = SqsService(self.clients, self._lambda.invoke)
            self._stacks = CloudFormationService()

            # Stopping goes through this list upwards: what starts work ends first, what remembers it last.
            undo.callback(_forget_everything)
            undo.callback(replacements.put_back)
            undo.callback(self.clients.close)
            undo.callback(server.stop)
            undo.callback(step_functions.join, STOP_SECONDS)
            undo.callback(queues.close)
            undo.callback(asynchronous.close)
            undo.callback(self._workers.close)
            undo.callback(self.creation.close)
            undo.callback(batch.stop, STOP_SECONDS)
            undo.callback(step_functions.stop)

            replacements.put(DomainDispatcherApplication, "get_backend_for_host", _finding_services())
            core.install(replacements)
            self._lambda.install(replacements, self._layer_address)
            objects.install(replacements)
            batch.install(replacements)
            step_functions.install(replacements)
            queues.install(replacements)
            self._events = EventsService(self._lambda.send)
            self._events.install(replacements)
            self._stacks.install(replacements)
            server.start()
            self._undo = undo.pop_all()

    def deploy(
        self,
        template: Path = TEMPLATE,
        stack: str = STACK,
        parameters: Mapping[str, str] | None = None,
        earlier: Deployment | None = None,
    ) -> Deployment:
        """Translate a SAM template and make its resources, or update those that stand.

        Args:
            template: The template; its code is packaged from beside it.
            stack: The stack's name.
            parameters: Values that differ from the template's defaults and from what fits this account (the
            bucket's
                name, the default network, no watch).
            earlier: The stack as it stands, if it is to be updated.

        Raises:
            TemplateError: It has something that the embedded AWS does not deploy.
        """
        self.clients.s3.create_bucket(Bucket=ARTIFACTS)
        document = translate(template, self._upload)
        # Nobody expects this machine to tell others what is in its layers.
        fitting = {"BucketName": BUCKET, "VulnerabilityDatabase": "NONE", **self._default_network()}
        declared = document.get("Parameters", {})
        given = {name: value for name, value in fitting.items() if name in declared} | dict(parameters or {})
        deployment = deploy(document, stack, given, self.clients, earlier)
        self._stacks.stands(stack, document, deployment)
        return deployment

    def warm(self) -> None:
        """Start one worker for each function, so that the first upload does not wait for imports."""
        with suppress(ShutDownError):
            for function in lambda_backends[ACCOUNT_ID][REGION].list_functions():
                self._lambda.warm(function)

    def warm_in_background(self) -> None:
        """Do that while others go on."""
        warming = threading.Thread(target=self.warm, name="warming")
        warming.start()
        self._undo.callback(warming.join)
        self._undo.callback(self._workers.close)

    def keep_time(self) -> None:
        """Call once an hour what a schedule calls once an hour, from an hour from now."""
        stop = threading.Event()
        clock = threading.Thread(target=_strike_hourly, args=(stop, self._events.strike), name="clock")
        clock.start()
        self._undo.callback(clock.join)
        self._undo.callback(stop.set)

    def stop(self) -> None:
        """End everything that runs and forget everything that was made."""
        self._undo.close()

    def _answer(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        # The address is presigned by the owner, as Lambda hands it out; a role's own signature is not enough.
        if path.startswith(f"{LAYERS_PATH}/") and environ[ROLE] is None:
            name, _, version = path.removeprefix(f"{LAYERS_PATH}/").partition("/")
            try:
                content = self._lambda.layer_content(name, version)
            except (UnknownLayerException, ValueError):
                missing = CallError(HTTPStatus.NOT_FOUND, "NoSuchKey", f"There is no layer at {path}.")
                return answer(missing, environ, start_response)
            # S3 gives parts, too: whoever only wants to know what is in it reads the zip's end.
            response = Response(content, content_type="application/zip")
            response.make_conditional(environ, accept_ranges=True, complete_length=len(content))
            return response(environ, start_response)
        return self.authorization(environ, start_response)

    def _layer_address(self, name: str, version: int) -> str:
        url = f"{self.endpoint}{LAYERS_PATH}/{name}/{version}"
        return presigned(url, self.keys.owner, LAYER_SECONDS)

    def _upload(self, name: str, content: bytes) -> str:
        self.creation.trust(content)
        key = f"{hashlib.sha256(content).hexdigest()}/{name}"
        self.clients.s3.put_object(Bucket=ARTIFACTS, Key=key, Body=content)
        return f"s3://{ARTIFACTS}/{key}"

    def _default_network(self) -> dict[str, str]:
        subnets = self.clients.get("ec2").describe_subnets()["Subnets"]
        vpc = subnets[0]["VpcId"]
        ids = [subnet["SubnetId"] for subnet in subnets if subnet["VpcId"] == vpc]
        return {"VpcId": vpc, "SubnetIds": ",".join(ids)}

    def _write_log(self, group: str, stream: str, line: str) -> None:
        backend = logs_backends[ACCOUNT_ID][REGION]
        backend.ensure_log_group(group)
        backend.ensure_log_stream(group, stream)
        backend.put_log_events(group, stream, [{"timestamp": int(time.time() * 1000), "message": line}])
        kept = backend.groups[group].streams[stream].events
        if len(kept) > 2 * LOG_LINES:
            del kept[:-LOG_LINES]

    def _send_message(self, role: str, queue: str, body: str, attributes: Mapping[str, str]) -> None:
        clients = self.clients.of_role(role)
        if ":lambda:" in queue:  # an on-failure destination can be a function, too
            clients.lambda_.invoke(FunctionName=queue, InvocationType="Event", Payload=body)
            return
        sqs = clients.get("sqs")
        url = self.clients.get("sqs").get_queue_url(QueueName=queue.rsplit(":", 1)[1])["QueueUrl"]
        texts = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=texts)


def _strike_hourly(stop: threading.Event, strike: Callable[[], None]) -> None:
    while not stop.wait(HOUR_SECONDS):
        strike()


def _finding_services() -> Any:
    # moto looks through its own folders and hundreds of patterns for the service of each request; and fails
    # over one that it does not have.
    look = cache(DomainDispatcherApplication.get_backend_for_host)

    def find(dispatcher: DomainDispatcherApplication, host: str | None) -> Any:
        service = look(dispatcher, host)
        if host and not service:
            raise NotImplementedError(host)
        return service

    return find


_MOTO: Final = DomainDispatcherApplication(create_backend_app)


def _forget_everything() -> None:
    BackendDict.reset()
    reset_model_data()


def machine_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
