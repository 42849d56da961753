"""One embedded AWS with the real stack on it for all of these tests; each takes keys of its own."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.responses import CloudFormationResponse
from moto.core import responses
from moto.core.responses import ActionResult

from local.deploy import Deployment
from local.server import EmbeddedAws
from local.settings import BUCKET
from local.watch import Upload, Watcher, follow

from .owner import Owner, stack_of, write_config

Result = TypeVar("Result")
SECONDS = 120


def eventually(look: Callable[[], Result], seconds: float = SECONDS) -> Result:
    """Return the first result that is true; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (result := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return result


@dataclass(frozen=True)
class Pipeline:
    """A stack that builds layers from the files in its bucket."""

    aws: EmbeddedAws
    stack: Deployment
    bucket: str = BUCKET

    @property
    def watcher(self) -> Watcher:
        return Watcher(self.aws.clients, self.state_machine)

    @property
    def state_machine(self) -> str:
        return self.stack.outputs["StateMachine"]

    def upload(self, key: str, content: str) -> Upload:
        stored = self.aws.clients.s3.put_object(Bucket=self.bucket, Key=key, Body=content.encode())
        return Upload(self.bucket, key, stored["VersionId"])

    def answer(self, upload: Upload) -> Mapping[str, Any]:
        """Wait for the end of the upload's execution and return its manifest."""
        for _ in follow(self.watcher, [upload], seconds=SECONDS):
            pass
        manifest = self.watcher.manifest(upload)
        assert manifest is not None, "the execution ended without a manifest"
        return manifest

    def build(self, key: str, content: str) -> Mapping[str, Any]:
        return self.answer(self.upload(key, content))

    def executions_of(self, upload: Upload) -> list[str]:
        sfn = self.aws.clients.stepfunctions
        pages = sfn.get_paginator("list_executions").paginate(stateMachineArn=self.state_machine)
        arns = [execution["executionArn"] for page in pages for execution in page["executions"]]
        inputs = {arn: json.loads(sfn.describe_execution(executionArn=arn)["input"])["input"] for arn in arns}
        return [arn for arn, given in inputs.items() if given["version_id"] == upload.version_id]


# moto's state is global: this one must be gone before other packages' tests mock AWS their own way.
@pytest.fixture(scope="package")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws(images={"local/shell": ["/bin/sh", "-c"]}) as running:
        yield running


@pytest.fixture(scope="package")
def pipeline(aws: EmbeddedAws) -> Pipeline:
    stack = aws.deploy()
    aws.warm()
    return Pipeline(aws, stack)


@pytest.fixture
def termination_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto keeps the flag, but can neither change it nor obey it."""

    def update(response: CloudFormationResponse) -> ActionResult:
        stack = response.cloudformation_backend.get_stack(response._get_param("StackName"))
        stack.enable_termination_protection = response._get_bool_param("EnableTerminationProtection")
        return ActionResult({"StackId": stack.stack_id})

    original = CloudFormationBackend.delete_stack

    def delete(backend: CloudFormationBackend, name: str) -> None:
        if backend.get_stack(name).enable_termination_protection:
            raise ValidationError(message=f"Stack [{name}] has TerminationProtection enabled")
        original(backend, name)

    monkeypatch.setattr(CloudFormationResponse, "update_termination_protection", update, raising=False)
    responses.method_names_from_class.cache_clear()  # local/gaps/core.py keeps what a service could before
    monkeypatch.setattr(CloudFormationBackend, "delete_stack", delete)


@pytest.fixture
def owner(aws: EmbeddedAws, tmp_path: Path, termination_protection: None) -> Owner:
    """A person in a folder with a samconfig.toml, and no stack yet."""
    write_config(tmp_path)
    return Owner(aws, tmp_path)


@pytest.fixture
def deployed(owner: Owner) -> Iterator[Owner]:
    """The same with a stack."""
    with stack_of(owner):
        yield owner


@pytest.fixture
def linger(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    """Makes moto take its time over new objects of a class, so that threads that race for one meet."""

    def slow(of: type) -> None:
        original = of.__init__

        def init(self: object, *args: Any, **kwargs: Any) -> None:
            time.sleep(0.01)
            original(self, *args, **kwargs)

        monkeypatch.setattr(of, "__init__", init)

    return slow


@pytest.fixture
def folder() -> str:
    """A folder below ``requirements/arm64/`` that no other test uses."""
    return f"requirements/arm64/{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a template, and the code of its functions."""

    def write(template: str, **modules: str) -> Path:
        root = tmp_path_factory.mktemp("project")
        (root / "code").mkdir()
        for name, source in modules.items():
            (root / "code" / f"{name}.py").write_text(source)
        (root / "template.yaml").write_text(template)
        return root / "template.yaml"

    return write
