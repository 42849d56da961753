"""A small AWS and a small CloudFormation for the image's custom resource.

Calls end before the network: botocore checks each against its own model, and the answer comes from here.
CloudFormation's side is a real server that answers are put to.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from botocore.validate import validate_parameters

ROOT = Path(__file__).parents[3]
# The function's package is deployed from infra/.
sys.path.insert(0, str(ROOT / "infra"))

from image_builder import answer, builds  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    import urllib3

REPOSITORY = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/layerdrop"
STACK = "arn:aws:cloudformation:eu-west-1:111122223333:stack/layerdrop-image/1"
SOURCE = "arn:aws:lambda:eu-west-1:111122223333:layer:layerdrop-source:7"
BUILD = "arn:aws:codebuild:eu-west-1:111122223333:build/arm64:1234"


@dataclass
class Aws:
    """What the function sees of AWS.

    Attributes:
        images: tags in the repository.
        builds: environment variables of the builds that were started, by id.
        ended: what CodeBuild says about a build beyond its variables.
        log: the lines of every build's log.
        faults: for an operation, the error codes to give, in turn; UNREACHABLE and BUG are raised.
        calls: how often each operation was called, as IAM names it.
    """

    images: set[str] = field(default_factory=set)
    builds: dict[str, dict[str, str]] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, str] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        made = boto3.client(
            service, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x",
            config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        made.meta.events.register("provide-client-params", self._keep)
        made.meta.events.register("before-call", self._answer)
        return made

    def _keep(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["given"] = params

    def _answer(self, model: Any, context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        service = model.service_model.service_name
        self.calls[f"{service}:{model.name}"] += 1
        if self.faults.get(model.name):
            fault = self.faults[model.name].pop(0)
            if fault == "UNREACHABLE":
                raise EndpointConnectionError(endpoint_url="https://example.com")
            if fault == "BUG":
                raise RuntimeError(fault)
            return self._refuse(fault)
        result = getattr(self, f"_{model.name}")(**context["given"])
        if isinstance(result, str):
            return self._refuse(result)
        if model.output_shape:
            validate_parameters(result, model.output_shape)
        return SimpleNamespace(status_code=200), result

    @staticmethod
    def _refuse(code: str) -> tuple[Any, dict[str, Any]]:
        return SimpleNamespace(status_code=400), {"Error": {"Code": code, "Message": f"{code}, it says"}}

    def _GetLayerVersionByArn(self, Arn: str) -> dict[str, Any]:  # noqa: N802, N803
        return {"Content": {"CodeSha256": f"sha256 of {Arn}", "Location": "https://example.com/"}}

    def _DescribeImages(self, repositoryName: str, imageIds: list[dict[str, str]]) -> Any:  # noqa: N802, N803
        assert repositoryName == REPOSITORY.partition("/")[2]
        return {"imageDetails": []} if imageIds[0]["imageTag"] in self.images else "ImageNotFoundException"

    def _StartBuild(  # noqa: N802
        self,
        projectName: str,  # noqa: N803
        idempotencyToken: str,  # noqa: N803
        environmentVariablesOverride: list[dict[str, str]],  # noqa: N803
    ) -> dict[str, Any]:
        known = self.tokens.setdefault(idempotencyToken, f"{projectName}:{len(self.builds)}")
        self.builds[known] = {each["name"]: each["value"] for each in environmentVariablesOverride}
        return {"build": {"id": known}}

    def _BatchGetBuilds(self, ids: list[str]) -> dict[str, Any]:  # noqa: N802
        variables = [{"name": name, "value": value} for name, value in self.builds[ids[0]].items()]
        environment = {
            "type": "ARM_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": variables,
        }  # fmt: skip
        return {"builds": [{"id": ids[0], "environment": environment, **self.ended}]}

    def _GetLogEvents(self, logGroupName: str, logStreamName: str, limit: int, startFromHead: bool) -> Any:  # noqa: N802, N803
        assert not startFromHead
        return {"events": [{"message": f"{line}\n"} for line in self.log[-limit:]]}


@dataclass
class Formation:
    """CloudFormation, waiting for answers.

    Attributes:
        address: where to put them.
        answers: what came, per path.
        content_types: that they came with.
        statuses: to give instead of 200, in turn.
    """

    address: str = ""
    answers: dict[str, list[bytes]] = field(default_factory=dict)
    content_types: list[str | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def request(self, kind: str, number: int = 0, **properties: str) -> dict[str, Any]:
        """Return a custom resource's event; its answers come to the path of its number."""
        event: dict[str, Any] = {
            "RequestType": kind,
            "ResponseURL": f"{self.address}/{number}?signature=secret",
            "StackId": STACK,
            "RequestId": f"request-{number}",
            "ResourceType": "Custom::ContainerImage",
            "LogicalResourceId": "Arm64Image",
            "ResourceProperties": {
                "ServiceToken": "arn", "Architecture": "arm64", "Project": "arm64", "Source": SOURCE,
                "RepositoryUri": REPOSITORY, "BaseImage": "", "SystemPackages": "", "Recipe": "build it",
                **properties,
            },
        }  # fmt: skip
        if kind != "Create":
            event["PhysicalResourceId"] = "old-arm64"
        return event

    def answer(self, number: int = 0) -> dict[str, str]:
        """Return the one answer to a request."""
        (body,) = self.answers[f"/{number}?signature=secret"]
        read: dict[str, str] = json.loads(body)
        return read


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    made = Aws()
    for service in ("codebuild", "ecr", "lambda", "logs"):
        client = made.client(service)
        monkeypatch.setattr(builds, f"_{service}", lambda client=client: client)
    return made


@pytest.fixture
def formation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Formation]:
    made = Formation()

    class Server(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = made.statuses.pop(0) if made.statuses else 200
            if status < 300:
                made.answers.setdefault(self.path, []).append(body)
                made.content_types.append(self.headers["Content-Type"])
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    retries: urllib3.Retry = answer._http.connection_pool_kw["retries"]
    # The same tries, without the time between.
    monkeypatch.setitem(answer._http.connection_pool_kw, "retries", retries.new(backoff_factor=0))
    answer._http.clear()
    yield made
    answer._http.clear()
    server.shutdown()
    thread.join()
    server.server_close()
