"""``make delete`` and the end of ``make deploy``, as commands against the embedded AWS's CloudFormation."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from moto.cloudformation.models import CloudFormationBackend, Event

from local.settings import ACCOUNT_ID

from .owner import TEMPLATE, Owner

LAMBDA_MAY = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}


def small_layer(content: bytes) -> bytes:
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        archive.writestr("python/module.py", content)
    return layer.getvalue()


def test_a_stack_that_is_deployed_is_protected(deployed: Owner) -> None:
    done = deployed.run("protect")
    assert done.returncode == 0, done.stderr
    assert deployed.stack()["EnableTerminationProtection"] is True
    with pytest.raises(ClientError, match="TerminationProtection"):
        deployed.aws.clients.get("cloudformation").delete_stack(StackName="removable")


def test_it_says_what_goes_and_what_stays_before_it_asks(deployed: Owner) -> None:
    [queue] = deployed.aws.clients.get("sqs").list_queues(QueueNamePrefix="removable-UnansweredU")[
        "QueueUrls"
    ]
    deployed.aws.clients.get("sqs").send_message(QueueUrl=queue, MessageBody="{}")
    [machine] = [
        machine["stateMachineArn"]
        for machine in deployed.aws.clients.stepfunctions.list_state_machines()["stateMachines"]
        if machine["name"] == "removable"
    ]
    deployed.aws.clients.stepfunctions.start_execution(stateMachineArn=machine, input="{}")
    done = deployed.run("delete", answer="no\n")
    assert done.returncode == 1
    before, _, after = done.stdout.partition("Type the stack's name")
    assert "Stack removable in us-east-1, account 123456789012" in before
    assert "1 message in the dead-letter queues" in before
    assert "1 build under way" in before
    assert "the bucket kept" in before
    assert "2 layers: data-py313-x86_64, web-py313-arm64" in before
    assert "Nothing was deleted." in after
    assert deployed.stack()["StackStatus"] == "CREATE_COMPLETE"


@pytest.mark.sample(1)
@pytest.mark.parametrize("answer", ["", "\n", "y\n", "yes\n", "Removable\n"])
def test_nothing_but_the_name_deletes(deployed: Owner, answer: str) -> None:
    deployed.run("protect")
    assert deployed.run("delete", answer=answer).returncode == 1
    assert deployed.stack()["StackStatus"] == "CREATE_COMPLETE"
    assert deployed.stack()["EnableTerminationProtection"] is True


@pytest.mark.long
def test_a_protected_stack_is_deleted_and_what_it_keeps_can_be_removed_as_printed(deployed: Owner) -> None:
    clients = deployed.aws.clients
    for layer in ("web-py313-arm64", "somebody-elses"):
        for content in (b"one", b"two"):
            clients.lambda_.publish_layer_version(LayerName=layer, Content={"ZipFile": small_layer(content)})
        for name in (f"/layerdrop/{layer}", *(f"/layerdrop/{layer}/{number}" for number in range(1, 13))):
            clients.ssm.put_parameter(Name=name, Value="arn", Type="String", Overwrite=True)
    role = clients.get("iam").create_role(
        RoleName="any", AssumeRolePolicyDocument=json.dumps({"Statement": [LAMBDA_MAY]})
    )
    others = {"removable2-try-0123", "removable-try-out-PlanBuild-1A2B3C"}
    for name in ("removable-try-0123", *others):
        clients.lambda_.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=role["Role"]["Arn"],
            Handler="module.handler",
            Code={"ZipFile": small_layer(b"")},
        )
    deployed.run("protect")

    done = deployed.run("delete", answer="removable\n")

    assert done.returncode == 0, done.stderr
    assert "The stack removable is gone." in done.stdout
    assert "Deleted, too: functions that were trying a layer, 1 of them." in done.stdout
    functions = {each["FunctionName"] for each in clients.lambda_.list_functions()["Functions"]}
    assert {name for name in functions if "-try-" in name} == others, "of stacks with names alike"
    for name in others:
        clients.lambda_.delete_function(FunctionName=name)
    clients.get("iam").delete_role(RoleName="any")
    with pytest.raises(ClientError, match="does not exist"):
        deployed.stack()
    assert clients.s3.list_object_versions(Bucket="kept")["Versions"]
    assert clients.ssm.get_parameter(Name="/layerdrop/web-py313-arm64")

    commands = done.stdout.partition("uses the layers any more:\n")[2].replace(
        ".venv/bin/python", sys.executable
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    pasted = subprocess.run(
        ["bash", "-euc", commands],
        env=deployed.environment | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert pasted.returncode == 0, pasted.stderr
    with pytest.raises(ClientError, match=r"NoSuchBucket|404"):
        clients.s3.head_bucket(Bucket="kept")
    pages = clients.lambda_.get_paginator("list_layers").paginate()
    assert "somebody-elses" in {layer["LayerName"] for page in pages for layer in page["Layers"]}
    assert not clients.lambda_.list_layer_versions(LayerName="web-py313-arm64")["LayerVersions"]
    below = clients.ssm.get_paginator("get_parameters_by_path").paginate(Path="/layerdrop", Recursive=True)
    names = {each["Name"] for page in below for each in page["Parameters"]}
    assert {"/layerdrop/somebody-elses", "/layerdrop/somebody-elses/1"} <= names
    assert not {name for name in names if name.startswith("/layerdrop/web-py313-arm64")}


SAM = {
    "Resources": {
        "SamCliSourceBucket": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Retain",
            "Properties": {"BucketName": "sams", "VersioningConfiguration": {"Status": "Enabled"}},
        }
    },
    "Outputs": {"SourceBucket": {"Value": {"Ref": "SamCliSourceBucket"}}},
}


def test_all_versions_of_what_sam_uploaded_can_be_removed_as_printed(deployed: Owner) -> None:
    """sam's bucket keeps versions, and serves other stacks as well."""
    config = deployed.folder / "samconfig.toml"
    config.write_text(config.read_text() + 's3_prefix = "removable"\n')
    client, s3 = deployed.aws.clients.get("cloudformation"), deployed.aws.clients.s3
    client.create_stack(StackName="aws-sam-cli-managed-default", TemplateBody=json.dumps(SAM))
    try:
        for key in ("removable/a.template", "removable/a.template", "removable-2/b.template"):
            s3.put_object(Bucket="sams", Key=key, Body=b"x")
        s3.delete_object(Bucket="sams", Key="removable/a.template")
        done = deployed.run("delete", answer="removable\n")
        assert "what sam uploaded: s3://sams/removable/" in done.stdout
        [command] = [line for line in done.stdout.splitlines() if '"sams"' in line]
        pasted = subprocess.run(
            ["bash", "-euc", command.replace(".venv/bin/python", sys.executable)],
            env=deployed.environment | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert pasted.returncode == 0, pasted.stderr
        left = s3.list_object_versions(Bucket="sams")
        assert [version["Key"] for version in left["Versions"]] == ["removable-2/b.template"]
        assert "DeleteMarkers" not in left
    finally:
        client.delete_stack(StackName="aws-sam-cli-managed-default")


def test_the_kept_bucket_calls_nobody_who_is_gone(deployed: Owner) -> None:
    clients = deployed.aws.clients
    clients.get("iam").create_role(
        RoleName="theirs", AssumeRolePolicyDocument=json.dumps({"Statement": [LAMBDA_MAY]})
    )
    theirs = clients.lambda_.create_function(
        FunctionName="theirs",
        Runtime="python3.13",
        Role=f"arn:aws:iam::{ACCOUNT_ID}:role/theirs",
        Handler="a.b",
        Code={"ZipFile": small_layer(b"")},
    )["FunctionArn"]
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT_ID}:theirs"
    gone = theirs.replace("theirs", "removable-StartBuild-1ABC")
    clients.s3.put_bucket_notification_configuration(
        Bucket="kept",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {"Id": arn[-4:], "LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}
                for arn in (theirs, gone)
            ],
            "QueueConfigurations": [{"Id": "queue", "QueueArn": queue, "Events": ["s3:ObjectCreated:*"]}],
        },
        SkipDestinationValidation=True,
    )
    try:
        done = deployed.run("delete", answer="removable\n")
        assert done.returncode == 0, done.stderr
        assert "The bucket kept calls no function of the stack any more." in done.stdout
        left = clients.s3.get_bucket_notification_configuration(Bucket="kept")
        assert [call["LambdaFunctionArn"] for call in left["LambdaFunctionConfigurations"]] == [theirs]
        assert [call["QueueArn"] for call in left["QueueConfigurations"]] == [queue]
    finally:
        clients.lambda_.delete_function(FunctionName="theirs")
        clients.get("iam").delete_role(RoleName="theirs")


def test_revisions_that_updates_have_kept_go_as_well(deployed: Owner) -> None:
    batch = deployed.aws.clients.get("batch")
    container = {"image": "x", "command": ["x"], "memory": 512, "vcpus": 1}
    for name in ("removable-arm64", "removable-arm64", "removable-x86_64-source", "removable-2-arm64"):
        batch.register_job_definition(jobDefinitionName=name, type="container", containerProperties=container)
    done = deployed.run("delete", answer="removable\n")
    assert done.returncode == 0, done.stderr
    assert "3 earlier revisions" in done.stdout
    left = batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    assert {one["jobDefinitionName"] for one in left if "removable" in one["jobDefinitionName"]} == {
        "removable-2-arm64"
    }


def test_what_cannot_be_deleted_is_named_with_its_reason(
    deployed: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(backend: CloudFormationBackend, name: str) -> None:
        stack = backend.get_stack(name)
        for logical_id, reason in (("UnansweredUploads", "In use by somebody"), ("removable", "See above")):
            stack.events.append(
                Event(
                    stack_id=stack.stack_id,
                    stack_name=stack.name,
                    logical_resource_id=logical_id,
                    physical_resource_id=stack.stack_id if logical_id == stack.name else "queue",
                    resource_type="AWS::SQS::Queue",
                    resource_status="DELETE_FAILED",
                    resource_status_reason=reason,
                    resource_properties=None,
                )
            )
        stack.status = "DELETE_FAILED"

    with monkeypatch.context() as failing:
        failing.setattr(CloudFormationBackend, "delete_stack", delete)
        done = deployed.run("delete", answer="removable\n")
    assert done.returncode == 1
    assert "UnansweredUploads: In use by somebody\n" in done.stderr
    assert "See above" not in done.stderr
    assert "run make delete again" in done.stderr
    # Mended, it goes.
    again = deployed.run("delete", answer="removable\n")
    assert again.returncode == 0, again.stderr


def test_a_stack_of_that_name_that_is_not_ours_is_left_alone(owner: Owner) -> None:
    client = owner.aws.clients.get("cloudformation")
    template = {"Description": "Something else", "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    client.create_stack(StackName="removable", TemplateBody=json.dumps(template))
    try:
        done = owner.run("delete", answer="removable\n")
        assert done.returncode == 1
        assert done.stderr == "The stack removable is there, but it is not one of Layerdrop's.\n"
        assert owner.stack()["StackStatus"] == "CREATE_COMPLETE"
    finally:
        client.delete_stack(StackName="removable")


@pytest.mark.parametrize("command, status", [("delete", 1), ("protect", 0)])
def test_a_change_set_that_was_declined_is_no_stack(owner: Owner, command: str, status: int) -> None:
    client = owner.aws.clients.get("cloudformation")
    client.create_change_set(
        StackName="removable",
        ChangeSetName="first",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps(TEMPLATE),
    )
    try:
        done = owner.run(command, answer="removable\n")
        assert done.returncode == status
        assert "was never deployed" in done.stdout + done.stderr
        assert owner.stack()["StackStatus"] == "REVIEW_IN_PROGRESS"
    finally:
        client.delete_stack(StackName="removable")


@pytest.mark.parametrize("command", ["delete", "protect"])
def test_without_a_stack_it_says_so(owner: Owner, command: str) -> None:
    done = owner.run(command, answer="removable\n")
    assert done.returncode == 1
    assert done.stderr == "There is no stack removable in us-east-1 of account 123456789012.\n"
    assert done.stdout == ""


def test_without_credentials_it_says_so(owner: Owner) -> None:
    done = owner.run("delete", AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert done.returncode == 1
    assert done.stderr.startswith("There are no valid AWS credentials: sign in")
    assert "Traceback" not in done.stderr


def test_a_profile_that_is_gone_is_named(owner: Owner) -> None:
    with (owner.folder / "samconfig.toml").open("a") as config:
        config.write('profile = "gone"\n')
    done = owner.run("delete")
    assert done.returncode == 1
    assert "(gone)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [None, "", "[default", "[default.deploy.parameters]\n"])
def test_without_a_stack_s_name_nothing_is_asked_of_aws(owner: Owner, content: str | None) -> None:
    config = owner.folder / "samconfig.toml"
    if content is None:
        config.unlink()
    else:
        config.write_text(content)
    done = owner.run("delete", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith("samconfig.toml does not say which stack is meant")
