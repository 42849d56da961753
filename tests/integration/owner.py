"""A person with a shell and a deployed stack, or as much of one as is looked at."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from local.environment import aws_variables, key_variables
from local.server import EmbeddedAws
from local.settings import ROOT

ROLE = "arn:aws:iam::123456789012:role/r"
WAITING = json.dumps({"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}})
TEMPLATE: dict[str, Any] = {
    "Description": "Layerdrop: as much of it as is looked at",
    "Resources": {
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "Properties": {"BucketName": "kept", "VersioningConfiguration": {"Status": "Enabled"}},
        },
        "UnansweredUploads": {"Type": "AWS::SQS::Queue"},
        "UnansweredBuilds": {"Type": "AWS::SQS::Queue"},
        "BuildLayers": {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {"StateMachineName": "removable", "DefinitionString": WAITING, "RoleArn": ROLE},
        },
    },
}


@dataclass(frozen=True)
class Owner:
    """A person with a shell, in a folder with a samconfig.toml."""

    aws: EmbeddedAws
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return (
            own
            | aws_variables(self.aws.endpoint)
            | key_variables(self.aws.keys.owner)
            | {"PYTHONPATH": str(ROOT / "infra"), "NO_PROXY": "127.0.0.1"}
        )

    @property
    def session(self) -> Any:
        """What makes clients of it, as boto3's session does."""
        return SimpleNamespace(client=self.aws.clients.get)

    def run(
        self, *command: str, answer: str = "", **variables: str | None
    ) -> subprocess.CompletedProcess[str]:
        environment: dict[str, Any] = self.environment | variables
        return subprocess.run(
            [sys.executable, "-m", "stack", *command],
            cwd=self.folder,
            env={name: value for name, value in environment.items() if value is not None},
            input=answer,
            capture_output=True,
            text=True,
            check=False,
        )

    def stack(self, name: str = "removable") -> dict[str, Any]:
        found: list[dict[str, Any]] = self.aws.clients.get("cloudformation").describe_stacks(StackName=name)[
            "Stacks"
        ]
        return found[0]


def write_config(folder: Path) -> None:
    """Write a samconfig.toml as sam leaves it."""
    (folder / "samconfig.toml").write_text(
        '[default.global.parameters]\nstack_name = "other"\n'
        '[default.deploy.parameters]\nstack_name = "removable"\nregion = "us-east-1"\n'
    )


@contextmanager
def stack_of(owner: Owner) -> Iterator[Owner]:
    """Deploy the stack, and take away whatever is left of it in the end."""
    client, s3 = owner.aws.clients.get("cloudformation"), owner.aws.clients.s3
    client.create_stack(StackName="removable", TemplateBody=json.dumps(TEMPLATE))
    # moto's CloudFormation makes it where its interpreter does not see it.
    machines = owner.aws.clients.stepfunctions
    machine = machines.create_state_machine(name="removable", definition=WAITING, roleArn=ROLE)[
        "stateMachineArn"
    ]
    for layer in ("web-py313-arm64", "data-py313-x86_64"):
        s3.put_object(Bucket="kept", Key=f"claims/{layer}.json", Body=b"{}")
        s3.put_object(Bucket="kept", Key=f"claims/{layer}.json", Body=b'{"again": true}')
    yield owner
    for execution in machines.list_executions(stateMachineArn=machine)["executions"]:
        machines.stop_execution(executionArn=execution["executionArn"])
    machines.delete_state_machine(stateMachineArn=machine)
    for stack in client.list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"]:
        client.update_termination_protection(StackName=stack["StackName"], EnableTerminationProtection=False)
        client.delete_stack(StackName=stack["StackName"])
    try:
        versions = s3.list_object_versions(Bucket="kept").get("Versions", [])
        for version in versions:
            s3.delete_object(Bucket="kept", Key=version["Key"], VersionId=version["VersionId"])
        s3.delete_bucket(Bucket="kept")
    except ClientError:
        pass  # the test has removed it
