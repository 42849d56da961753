"""The embedded AWS with the real template, seen through the fault proxy, its events in the test's hand."""

import json
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from local.gaps.awslambda import LambdaService
from local.gaps.batch import LocalJob
from local.server import EmbeddedAws
from local.settings import ACCOUNT_ID, BUCKET, REGION
from local.watch import Upload

from .index import Index
from .proxy import Call, FaultProxy, owner_of_port

HASTE = 0.1
"""The state machine's waits before retries are this much shorter; there are as many."""
PUBLISH_SECONDS = 6
"""Timeout of who holds a layer's name, so that one that was killed does not hold it for three minutes."""
ATTEMPT_SECONDS = 8
"""Time limit of a job whose name says that it would take for ever."""

STAND_IN = Path(__file__).with_name("stand_in_builder.py")


class Pipeline:
    """What the tests hold of the pipeline."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.bucket = BUCKET
        self.index = Index()
        self.plans = folder / "plans"
        self.plans.mkdir()
        cache = folder / "cache"
        patch.setenv("LAYER_BUILDER_INDEX_URL", self.index.url)
        patch.setenv("LAYER_BUILDER_CACHE", str(cache))
        # A place of its own for temporary files: what is left there was left by us.
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        patch.setenv("TMPDIR", str(self.temporary))
        patch.setattr(tempfile, "tempdir", str(self.temporary))
        self.cache = cache
        self.held: list[tuple[Any, Any]] | None = None
        self._looking = Lock()
        self._executions: dict[str, list[Any]] = defaultdict(list)
        self._looked_at: Counter[str] = Counter()
        self._told: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self.lost: set[str] = set()
        self._patch = patch
        # Where nothing answers yet: the embedded AWS has no address before it is started.
        self.proxy = FaultProxy("http://127.0.0.1:9")
        builder = Path(sys.executable).with_name("layer-builder")
        stand_in = [sys.executable, "-I", "-S", str(STAND_IN), str(builder), str(self.plans)]
        send = LambdaService.send
        pipeline = self

        def holding(service: LambdaService, function: Any, event: Any) -> None:
            if event.get("detail-type") in pipeline.lost:
                return
            if pipeline.held is not None and "Records" in event:
                pipeline.held.append((function, event))
            else:
                send(service, function, event)

        patch.setattr(LambdaService, "send", holding)
        timeout = LocalJob._get_attempt_duration

        def attempt_duration(job: LocalJob) -> Any:
            return ATTEMPT_SECONDS if "forever" in str(job.job_name) else timeout(job)

        patch.setattr(LocalJob, "_get_attempt_duration", attempt_duration)
        registry = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/*"
        self.aws = EmbeddedAws(images={registry: stand_in}, cores=6, reached_at=self.proxy.address)

    def start(self) -> None:
        self.aws.start()
        self.proxy.upstream = urlsplit(self.aws.endpoint)
        self.proxy.kill_caller = self._kill_caller
        self.proxy.start()
        self.index.start()
        self._send = self.aws._lambda.send
        waiting = retrier_decl.time.sleep
        self._patch.setattr(retrier_decl, "time", SimpleNamespace(sleep=lambda s: waiting(s * HASTE)))
        # The stand-in builds what no index has.
        stack = self.aws.deploy(parameters={"ResolveLayers": "DISABLED"})
        self.outputs, self.values = stack.outputs, stack.all_values()
        clients = self.aws.clients
        # Its calls are about several uploads at once: only those who ask for it hear of ends.
        self.tell_catalogue(False)
        functions = clients.lambda_.list_functions()["Functions"]
        holders = [
            item
            for item in functions
            if "PublishLayer" in item["FunctionName"] or "ReleaseLayer" in item["FunctionName"]
        ]
        self._holders = {item["FunctionName"]: item["Timeout"] for item in holders}
        for name in self._holders:
            clients.lambda_.update_function_configuration(FunctionName=name, Timeout=PUBLISH_SECONDS)
        (self.trier,) = (item for item in functions if "TryLayer" in item["FunctionName"])
        sqs, events = clients.get("sqs"), clients.get("events")
        self._ends = sqs.create_queue(QueueName="ends")["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:ends"
        events.put_rule(Name="ends", EventPattern=json.dumps({"source": ["layerdrop"]}))
        events.put_targets(Rule="ends", Targets=[{"Id": "ends", "Arn": arn}])
        self.aws.warm()

    def another(self, name: str, parameters: Mapping[str, str]) -> "Pipeline":
        """Deploy one more stack; return what tests hold of it."""
        one = copy(self)
        one.bucket = f"layerdrop-{name}"
        stack = self.aws.deploy(stack=name, parameters={"BucketName": one.bucket, **parameters})
        one.outputs, one.values = stack.outputs, stack.all_values()
        one.tell_catalogue(False)
        return one

    def stop(self) -> None:
        self.aws.stop()
        self.proxy.stop()
        self.index.stop()

    def _kill_caller(self, port: int) -> bool:
        workers = [worker for pool in self.aws._workers._pools.values() for worker in pool._all]
        pid = owner_of_port(port, [worker._process.pid for worker in workers if not worker.closed])
        for worker in workers:
            if worker._process.pid == pid:
                worker.kill()
                return True
        return False

    # ---------------------------------------------------------------- doing

    def upload(self, key: str, text: str | bytes) -> str:
        """Upload; return the version's id."""
        body = text.encode() if isinstance(text, str) else text
        return self.aws.clients.s3.put_object(Bucket=self.bucket, Key=key, Body=body)["VersionId"]

    def tell_catalogue(self, tells: bool) -> None:
        """Have the rule that tells UpdateCatalogue of ends of builds do so, or not."""
        events = self.aws.clients.get("events")
        (events.enable_rule if tells else events.disable_rule)(Name=self.values["Catalogue.BuildEnded"])

    def deliver(self, function: Any, event: Any) -> None:
        """Deliver an event that was held back."""
        held, self.held = self.held, None
        try:
            self._send(function, event)
        finally:
            self.held = held

    def fail(self, where: Callable[[Call], bool], kind: str, times: int = 1) -> Callable[[Call], str | None]:
        """Let the first so many calls of a sort fail."""
        left = [times]

        def rule(call: Call) -> str | None:
            if left[0] > 0 and where(call):
                left[0] -= 1
                return kind
            return None

        self.proxy.rules.append(rule)
        return rule

    # ---------------------------------------------------------------- looking

    def executions(self) -> dict[str, list[Any]]:
        """The executions by the version that was uploaded."""
        # There are thousands in the end, and a wait asks twenty times a second: only new ones are looked at.
        with self._looking:
            for machine in stepfunctions_parser_backends[ACCOUNT_ID][REGION].state_machines:
                for execution in machine.executions[self._looked_at[machine.arn] :]:
                    self._executions[execution.input_data["input"]["version_id"]].append(execution)
                    self._looked_at[machine.arn] += 1
        return self._executions

    def wait(self, versions: Iterable[str], seconds: float = 240) -> None:
        """Wait until each upload's execution has ended; give up when none has for so long."""
        left, deadline = set(versions), time.monotonic() + seconds
        while left:
            executions = self.executions()
            ended = {
                version
                for version in left
                if executions.get(version)
                and all(execution.exec_status != ExecutionStatus.RUNNING for execution in executions[version])
            }
            left -= ended
            if ended:
                deadline = time.monotonic() + seconds
            assert time.monotonic() < deadline, self._unended(left)
            time.sleep(0.05)

    @contextmanager
    def patient(self) -> Iterator[None]:
        """PublishLayer and ReleaseLayer have their own time limits while this lasts."""
        client = self.aws.clients.lambda_
        for name, seconds in self._holders.items():
            client.update_function_configuration(FunctionName=name, Timeout=seconds)
        yield
        for name in self._holders:
            client.update_function_configuration(FunctionName=name, Timeout=PUBLISH_SECONDS)

    def _unended(self, versions: set[str]) -> str:
        found = self.executions()
        keys = [execution.input_data["input"]["key"] for v in versions for execution in found[v]]
        return f"{len(versions)} uploads have not ended: {keys}"

    def until(self, look: Callable[[], Any], seconds: float = 240) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)
        return found

    def json(self, key: str) -> Any:
        """An object that holds JSON, or None."""
        try:
            return json.load(self.aws.clients.s3.get_object(Bucket=self.bucket, Key=key)["Body"])
        except ClientError:
            return None

    def manifest(self, key: str) -> Any:
        return self.json(Upload(BUCKET, key, "").manifest_key)

    def versions(self, layer: str) -> dict[int, str]:
        """A layer's versions: their numbers, and the hashes of their content."""
        client = self.aws.clients.lambda_
        numbers = [item["Version"] for item in client.list_layer_versions(LayerName=layer)["LayerVersions"]]
        return {
            number: client.get_layer_version(LayerName=layer, VersionNumber=number)["Content"]["CodeSha256"]
            for number in numbers
        }

    def pointer(self, layer: str) -> str | None:
        try:
            return self.aws.clients.ssm.get_parameter(Name=f"/layerdrop/{layer}")["Parameter"]["Value"]
        except ClientError:
            return None

    def grants(self, layer: str, version: int) -> set[str]:
        policy = self.aws.clients.lambda_.get_layer_version_policy(LayerName=layer, VersionNumber=version)
        return {statement["Sid"] for statement in json.loads(policy["Policy"])["Statement"]}

    def ends(self) -> dict[str, list[Mapping[str, Any]]]:
        """The end events so far, by the version that was uploaded."""
        # moto goes through all of a queue's messages each time it gets one more.
        messages = sqs_backends[ACCOUNT_ID][REGION].get_queue("ends")._messages
        with self._looking:
            while messages:
                detail = json.loads(messages.pop(0).body)["detail"]
                if version := detail["input"].get("version_id"):  # not what tests tell the catalogue
                    self._told[version].append(detail)
        return self._told

    def trials(self) -> list[str]:
        """The functions that try a layer and are there right now."""
        functions = self.aws.clients.lambda_.list_functions()["Functions"]
        return [item["FunctionName"] for item in functions if "-try-" in item["FunctionName"]]

    def leftovers(self) -> list[str]:
        """Temporary files and folders of builds."""
        names = [path.name for path in self.temporary.iterdir()]
        # What the embedded AWS has for itself, and for each of its workers, ends with them.
        return [name for name in names if not name.startswith(("layerdrop-local-", "layerdrop-function-"))]

    def objects(self, prefix: str) -> list[str]:
        pages = self.aws.clients.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


def memory() -> int:
    """Most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
