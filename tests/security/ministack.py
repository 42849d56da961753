"""ministack, an emulator of AWS by others: deploys the translated templates and gives its opinion on roles.

It runs in an environment of its own (`.venv-ministack`), on the loopback, as a process of its own.
"""

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from local.settings import ACCOUNT_ID, REGION, ROOT

PYTHON = ROOT / ".venv-ministack/bin/python"
STAMP = ".venv-ministack/ministack.stamp"
CODE = "code"
"""The bucket for packaged code."""


class Ministack:
    """A running one.

    Attributes:
        stacks: The physical ids of what was deployed, by stack and logical id.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.stacks: dict[str, dict[str, str]] = {}
        # A client takes long to make, and hundreds of questions are asked.
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, key: Mapping[str, str] | None = None) -> Any:
        """The boto3 client of the account's owner, or of an access key."""
        # An account's number as a key is its root user, whom it believes anything.
        name, secret = (key["AccessKeyId"], key["SecretAccessKey"]) if key else (ACCOUNT_ID, "any")
        if (service, name) not in self._clients:
            self._clients[service, name] = boto3.client(
                service,
                endpoint_url=self._endpoint,
                region_name=REGION,
                aws_access_key_id=name,
                aws_secret_access_key=secret,
                config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={}),
            )
        return self._clients[service, name]

    def upload(self, name: str, content: bytes) -> str:
        """Keep a packaged file; return its URL."""
        self.client("s3").put_object(Bucket=CODE, Key=name, Body=content)
        return f"s3://{CODE}/{name}"

    def deploy(self, stack: str, template: Mapping[str, Any], **parameters: str) -> str:
        """Deploy a template by CloudFormation; return why it failed, or nothing."""
        cloudformation = self.client("cloudformation")
        self.upload("template.json", json.dumps(template).encode())
        try:
            cloudformation.create_stack(
                StackName=stack,
                TemplateURL=f"{self._endpoint}/{CODE}/template.json",
                Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
                Capabilities=["CAPABILITY_NAMED_IAM"],
            )
        except ClientError as error:
            return str(error)
        deadline = time.monotonic() + 60
        while (
            status := cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
        ).endswith("_IN_PROGRESS"):
            assert time.monotonic() < deadline, f"the stack {stack} does not become ready"
            time.sleep(0.05)
        self.stacks[stack] = self.resources(stack)
        if status == "CREATE_COMPLETE":
            return ""
        events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        failed = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
        return "; ".join(f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}" for event in failed)

    def resources(self, stack: str) -> dict[str, str]:
        """The physical ids of a stack's resources, by logical id."""
        found = self.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
        return {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in found}

    def allows(self, role: str, action: str, resource: str) -> bool:
        """What its policy simulator says of a role, by its name."""
        found = self.client("iam").simulate_principal_policy(
            PolicySourceArn=f"arn:aws:iam::{ACCOUNT_ID}:role/{role}",
            ActionNames=[action],
            ResourceArns=[resource],
        )
        return decided(found)

    def would_allow(self, statements: Sequence[Mapping[str, Any]], action: str, resource: str) -> bool:
        """What it says of a policy of these statements."""
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        found = self.client("iam").simulate_custom_policy(
            PolicyInputList=[document], ActionNames=[action], ResourceArns=[resource]
        )
        return decided(found)


def decided(answer: Mapping[str, Any]) -> bool:
    """Whether a simulation's one result is that it is allowed."""
    [result] = answer["EvaluationResults"]
    assert result["EvalDecision"] in ("allowed", "implicitDeny", "explicitDeny")
    return bool(result["EvalDecision"] == "allowed")


@contextmanager
def running(folder: Path) -> Iterator[Ministack]:
    """Serve on a free port; skip the test where it is not installed."""
    if not PYTHON.exists():
        pytest.skip(f"ministack is not installed here: make {STAMP}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Nothing of the developer's: no credentials, no Docker, and no address but the loopback.
    environment = {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "S3_DATA_DIR": str(folder / "s3"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PYTHON, "-m", "ministack"], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            made = Ministack(f"http://127.0.0.1:{port}")
            _wait(made, process, folder / "log")
            yield made
        finally:
            process.terminate()
            process.wait(30)


def _wait(made: Ministack, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            made.client("s3").create_bucket(Bucket=CODE)
        except EndpointConnectionError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "ministack does not answer"
            time.sleep(0.1)
        else:
            return


def without(template: Mapping[str, Any], dropped: Mapping[str, str]) -> dict[str, Any]:
    """A template less some resources; where these are referred to, there is a text instead."""

    def less(value: Any) -> Any:
        if isinstance(value, list):
            return [less(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.get("Ref") in dropped:
            return dropped[value["Ref"]]
        if "Fn::GetAtt" in value and value["Fn::GetAtt"][0] in dropped:
            return dropped[value["Fn::GetAtt"][0]]
        if isinstance(text := value.get("Fn::Sub"), str):
            for name, instead in dropped.items():
                text = text.replace(f"${{{name}}}", instead).replace(f"${{{name}.Arn}}", instead)
            return {"Fn::Sub": text}
        return {name: less(item) for name, item in value.items()}

    resources = {name: item for name, item in template["Resources"].items() if name not in dropped}
    return less({**template, "Resources": resources})  # type: ignore[no-any-return]
