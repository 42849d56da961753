"""What CloudFormation's calls tell of the stack that the embedded AWS has made."""

import pytest
from botocore.exceptions import ClientError

from local.settings import BUCKET, STACK

from .conftest import Pipeline


def test_the_stack_is_described_with_its_outputs(pipeline: Pipeline) -> None:
    client = pipeline.aws.clients.get("cloudformation")
    [stack] = client.describe_stacks(StackName=STACK)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert outputs == pipeline.stack.outputs
    assert outputs["Bucket"] == BUCKET
    assert stack["Description"].startswith("Layerdrop")
    assert client.describe_stacks(StackName=stack["StackId"])["Stacks"] == [stack]
    assert STACK in [one["StackName"] for one in client.describe_stacks()["Stacks"]]


def test_its_resources_are_listed_and_those_of_nested_stacks(pipeline: Pipeline) -> None:
    client = pipeline.aws.clients.get("cloudformation")

    def made(name: str) -> dict[str, tuple[str, str]]:
        listed = client.list_stack_resources(StackName=name)["StackResourceSummaries"]
        return {one["LogicalResourceId"]: (one["ResourceType"], one["PhysicalResourceId"]) for one in listed}

    resources = made(STACK)
    assert resources["Bucket"] == ("AWS::S3::Bucket", BUCKET)
    assert resources["BuildLayers"][1] == pipeline.state_machine
    kind, trial = resources["Trial"]
    assert kind == "AWS::CloudFormation::Stack"
    assert made(trial)["TryLayer"][0] == "AWS::Lambda::Function"
    [described] = client.describe_stacks(StackName=trial)["Stacks"]
    assert {output["OutputKey"] for output in described["Outputs"]} >= {"TryLayer", "ReleaseLayer"}


def test_what_is_not_there_is_refused_as_by_aws(pipeline: Pipeline) -> None:
    client = pipeline.aws.clients.get("cloudformation")
    with pytest.raises(ClientError, match="does not exist"):
        client.describe_stacks(StackName="nobodys")
