"""A stack that is made again takes over the bucket that the one before has left."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult
from moto.s3.models import FakeBucket, s3_backends

from local.deploy import Deployment
from local.server import EmbeddedAws
from local.settings import ACCOUNT_ID
from tests.unit.builder.wheel_maker import Index, make_wheel
from tests.whole import parts

from .conftest import Pipeline, eventually
from .owner import Owner

BUCKET = f"removable-{ACCOUNT_ID}-us-east-1"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT_ID}:key/0123abcd-12ab-34cd-56ef-0123456789ab"
CLAIM = {"schema": "layerdrop/claim/1", "key": "requirements/arm64/web/requirements.txt", "lease": None}


pytestmark = pytest.mark.long


@pytest.fixture
def importing(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto takes an import for a creation; this is what CloudFormation asks of one.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources-manually.html
    """
    original = CloudFormationResponse.create_change_set

    def create(response: CloudFormationResponse) -> ActionResult:
        if response._get_param("ChangeSetType") == "IMPORT":
            template = json.loads(response._get_param("TemplateBody"))
            given = response._get_param("ResourcesToImport")
            named = {(each["LogicalResourceId"], each["ResourceType"]) for each in given}
            if named != {(name, each["Type"]) for name, each in template["Resources"].items()}:
                raise ValidationError(message="You have modified resources that are not being imported")
            if template.get("Outputs"):
                raise ValidationError(message="you cannot modify or add [Outputs]")
            for each in given:
                resource = template["Resources"][each["LogicalResourceId"]]
                if "DeletionPolicy" not in resource:
                    raise ValidationError(message="Resources to import must have a DeletionPolicy")
                assert each["ResourceIdentifier"].items() <= resource["Properties"].items()
                assert each["ResourceIdentifier"]["BucketName"] in s3_backends[ACCOUNT_ID]["aws"].buckets
        return original(response)

    made = FakeBucket.create_from_cloudformation_json.__func__  # type: ignore[attr-defined]

    def make(kind: type[FakeBucket], name: str, *rest: Any, **named: Any) -> FakeBucket:
        there = s3_backends[ACCOUNT_ID]["aws"].buckets.get(name)
        found: FakeBucket = there or made(kind, name, *rest, **named)
        return found

    execute = CloudFormationBackend.execute_change_set

    def executed(backend: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
        execute(backend, change_set_name, stack_name)
        for stack in backend.stacks.values():
            stack.description = json.loads(stack.template).get("Description")

    monkeypatch.setattr(CloudFormationBackend, "execute_change_set", executed)
    monkeypatch.setattr(CloudFormationResponse, "create_change_set", create)
    monkeypatch.setattr(FakeBucket, "create_from_cloudformation_json", classmethod(make))


@pytest.fixture
def left(owner: Owner, importing: None) -> Iterator[Owner]:
    """A person, no stack, and a bucket of the name that the stack's would have."""
    s3, cloudformation = owner.aws.clients.s3, owner.aws.clients.get("cloudformation")
    s3.create_bucket(Bucket=BUCKET)
    yield owner
    for stack in cloudformation.describe_stacks()["Stacks"]:
        if stack["StackName"] == "removable":
            cloudformation.delete_stack(StackName="removable")
    for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=item["Key"])
    s3.delete_bucket_tagging(Bucket=BUCKET)  # moto remembers it beyond the bucket
    s3.delete_bucket(Bucket=BUCKET)


def claim(owner: Owner, name: str = "web-py313-arm64", **other: Any) -> None:
    owner.aws.clients.s3.put_object(
        Bucket=BUCKET, Key=f"claims/{name}.json", Body=json.dumps(CLAIM | other).encode()
    )


def no_stack(owner: Owner) -> bool:
    try:
        owner.stack()
    except ClientError:
        return True
    return False


def test_the_bucket_is_taken_over_once_and_the_rest_is_an_update(left: Owner) -> None:
    claim(left)
    claim(left, "data-py313-arm64")
    done = left.run("preflight", "--ci")
    assert done.returncode == 0, done.stderr
    assert f"Taking over the bucket {BUCKET}, which an earlier stack has left" in done.stderr
    assert "have their owners: 2" in done.stderr
    assert done.stdout == "--no-confirm-changeset --no-fail-on-empty-changeset\n"
    # sam updates a stack that is there in any state but REVIEW_IN_PROGRESS.
    assert left.stack()["StackStatus"] == "IMPORT_COMPLETE"
    [resource] = left.aws.clients.get("cloudformation").list_stack_resources(StackName="removable")[
        "StackResourceSummaries"
    ]
    assert (resource["LogicalResourceId"], resource["PhysicalResourceId"]) == ("Bucket", BUCKET)
    assert len(left.aws.clients.s3.list_objects_v2(Bucket=BUCKET)["Contents"]) == 2

    again = left.run("preflight", "--ci")
    assert again.returncode == 0, again.stderr
    assert "Taking over" not in again.stderr
    # Whoever changes their mind now gets the bucket back as it was.
    gone = left.run("delete", answer="removable\n")
    assert gone.returncode == 0, gone.stderr
    assert "takes the bucket over" in gone.stdout


def test_a_tag_is_enough(left: Owner) -> None:
    """A bucket in which nothing was built yet."""
    left.aws.clients.s3.put_bucket_tagging(
        Bucket=BUCKET, Tagging={"TagSet": [{"Key": "project", "Value": "layerdrop"}]}
    )
    done = left.run("preflight", "--ci")
    assert "Taking over" in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("schema", [None, "somebody/claim/1"])
def test_a_bucket_for_something_else_is_left_alone(left: Owner, schema: str | None) -> None:
    if schema:
        claim(left, schema=schema)
    done = left.run("preflight", "--ci")
    assert done.returncode == 1
    assert (
        f"There is a bucket {BUCKET} of yours already, and nothing tells that it was Layerdrop's."
        in done.stderr
    )
    assert "hint: Give another BucketName" in done.stderr
    assert done.stdout == ""
    assert no_stack(left)


def test_a_policy_of_somebody_is_not_replaced(left: Owner) -> None:
    claim(left)
    policy = {"Version": "2012-10-17", "Statement": []}
    left.aws.clients.s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    done = left.run("preflight", "--ci")
    assert done.returncode == 1
    assert f"aws s3api delete-bucket-policy --bucket {BUCKET}" in done.stderr
    assert no_stack(left)


@pytest.mark.parametrize("given", ["", KEY.replace("0123", "4567")])
def test_a_bucket_under_a_key_is_for_a_stack_with_that_key(left: Owner, given: str) -> None:
    claim(left)
    under = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    left.aws.clients.s3.put_bucket_encryption(
        Bucket=BUCKET,
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": under}]},
    )
    config = left.folder / "samconfig.toml"
    written = config.read_text()
    config.write_text(f"{written}parameter_overrides = 'KmsKeyArn=\"{given}\"'\n")
    done = left.run("preflight", "--ci")
    assert done.returncode == 1
    assert f"is under the key {KEY}; a stack with {given or 'no key'} could not read" in done.stderr
    assert f'hint: Give KmsKeyArn="{KEY}"' in done.stderr
    assert no_stack(left)
    config.write_text(f"{written}parameter_overrides = 'KmsKeyArn=\"{KEY}\"'\n")
    done = left.run("preflight", "--ci")
    assert done.returncode == 0, done.stderr
    assert "Taking over" in done.stderr


def test_nothing_is_taken_over_by_a_deployment_that_something_stands_against(left: Owner) -> None:
    config = left.folder / "samconfig.toml"
    config.write_text(config.read_text().replace('"removable"', f'"{"r" * 60}"'))
    left.aws.clients.s3.create_bucket(
        Bucket=f"{'r' * 60}"
    )  # too long a name for the stack's, so not asked for
    try:
        done = left.run("preflight", "--ci")
    finally:
        left.aws.clients.s3.delete_bucket(Bucket=f"{'r' * 60}")
    assert done.returncode == 1
    assert "Taking over" not in done.stderr


def test_what_cloudformation_refuses_is_told_and_leaves_no_stack(
    left: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(left)

    def refuse(_response: CloudFormationResponse) -> ActionResult:
        raise ValidationError(message=f"{BUCKET} belongs to another stack")

    monkeypatch.setattr(CloudFormationResponse, "execute_change_set", refuse)
    done = left.run("preflight", "--ci")
    assert done.returncode == 1
    assert f"The bucket {BUCKET} could not be taken over:" in done.stderr
    assert "belongs to another stack" in done.stderr
    assert no_stack(left)
    assert left.aws.clients.s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1


def test_a_new_bucket_is_given_its_time(deployed: Owner) -> None:
    done = deployed.run("protect")
    assert done.returncode == 0, done.stderr
    assert "Its bucket is new: until " in done.stdout


# ---------------------------------------------------------------- the real stack, twice


Clients = Callable[[str], Any]


def delete_role(get: Clients, name: str) -> None:
    for policy in get("iam").list_role_policies(RoleName=name)["PolicyNames"]:
        get("iam").delete_role_policy(RoleName=name, PolicyName=policy)
    get("iam").delete_role(RoleName=name)


def delete_job_queue(get: Clients, name: str) -> None:
    get("batch").update_job_queue(jobQueue=name, state="DISABLED")
    get("batch").delete_job_queue(jobQueue=name)


def delete_compute_environment(get: Clients, name: str) -> None:
    get("batch").update_compute_environment(computeEnvironment=name, state="DISABLED")
    get("batch").delete_compute_environment(computeEnvironment=name)


def delete_rule(get: Clients, name: str) -> None:
    targets = get("events").list_targets_by_rule(Rule=name)["Targets"]
    get("events").remove_targets(Rule=name, Ids=[target["Id"] for target in targets])
    get("events").delete_rule(Name=name)


# What another stack cannot stand beside, in an order in which it can go.
DELETERS: Mapping[str, Callable[[Clients, str], Any]] = {
    "AWS::Events::Rule": delete_rule,
    "AWS::Lambda::Function": lambda get, made: get("lambda").delete_function(FunctionName=made),
    "AWS::StepFunctions::StateMachine": lambda get, made: get("stepfunctions").delete_state_machine(
        stateMachineArn=made
    ),
    "AWS::Logs::LogGroup": lambda get, made: get("logs").delete_log_group(logGroupName=made),
    "AWS::SQS::Queue": lambda get, made: get("sqs").delete_queue(QueueUrl=made),
    "AWS::IAM::Role": delete_role,
    "AWS::Batch::JobQueue": delete_job_queue,
    "AWS::Batch::ComputeEnvironment": delete_compute_environment,
    "AWS::EC2::SecurityGroup": lambda get, made: get("ec2").delete_security_group(GroupId=made),
}


def delete(aws: EmbeddedAws, stack: Deployment, template: Mapping[str, Any]) -> None:
    """As CloudFormation deletes a stack: all but the bucket, which keeps its notification."""
    for name, nested in stack.nested.items():
        delete(aws, nested, parts().nested[name])
    for kind, deleter in DELETERS.items():
        for name, made in stack.values.items():
            if template["Resources"][name]["Type"] == kind:
                deleter(aws.clients.get, made)
    if "BucketPolicy" in stack.values:
        aws.clients.s3.delete_bucket_policy(Bucket=stack.values["Bucket"])


@pytest.mark.parametrize("name, earlier", [("same", "same"), ("another", "one")])
def test_what_the_bucket_holds_is_used_by_the_next_stack(
    aws: EmbeddedAws, tmp_path: Path, name: str, earlier: str
) -> None:
    """Locks, releases and the catalogue, too, whether it has the same name or the same BucketName alone."""
    s3, bucket = aws.clients.s3, f"kept-for-{name}"
    fixed = "# /// layer\n# refresh = false\n# ///\napp\n"

    def catalogue() -> dict[str, Any]:
        try:
            read = json.loads(s3.get_object(Bucket=bucket, Key="catalogue/index.json")["Body"].read())
        except ClientError:
            return {}
        return {each["name"]: each["pointer"] for each in read["layers"]}

    def keys(*folders: str) -> set[tuple[str, str]]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {
            (item["Key"], item["ETag"])
            for page in pages
            for item in page.get("Contents", [])
            if item["Key"].startswith(folders)
        }

    with Index(tmp_path) as index:
        port = index.url.split(":")[2].partition("/")[0]
        given = {"BucketName": bucket, "IndexUrl": index.url, "OutboundPort": port}

        def build(stack: Deployment, folder: str, text: str) -> Any:
            pipeline = Pipeline(aws, stack, bucket)
            manifest = pipeline.build(f"requirements/x86_64/{name}/{folder}/requirements.txt", text)
            assert manifest["status"] == "SUCCEEDED", manifest["error"]
            [layer] = manifest["layers"]
            return layer

        make_wheel(tmp_path, "app", "1.0", files={"app.py": f"x = {name!r}\n"})
        first = aws.deploy(stack=earlier, parameters=given)
        layer = build(first, "fixed", fixed)
        assert layer["packages"][0]["version"] == "1.0"
        eventually(lambda: layer["layer_name"] in catalogue())
        s3.put_object(Bucket=bucket, Key="fixes/0123.json", Body=b"{}")
        before = keys("locks/", "fixes/", "catalogue/releases/", "layers/", "claims/")
        assert {key.partition("/")[0] for key, _ in before} == {
            "locks", "fixes", "catalogue", "layers", "claims",
        }  # fmt: skip

        delete(aws, first, parts().root)
        make_wheel(tmp_path, "app", "2.0", files={"app.py": f"x = 'newer {name}'\n"})
        second = aws.deploy(stack=name, parameters=given)
        assert keys("locks/", "fixes/", "catalogue/releases/", "layers/", "claims/") == before
        # The lock is still the file's, and its layer the same version.
        again = build(second, "fixed", fixed)
        assert (again["layer_version_arn"], again["reused"]) == (layer["layer_version_arn"], True)
        newer = build(second, "new", "app\n")
        assert newer["packages"][0]["version"] == "2.0"
        eventually(lambda: catalogue().keys() == {layer["layer_name"], newer["layer_name"]})
        assert all(catalogue().values())
        delete(aws, second, parts().root)


def test_files_names_and_pointers_go_on_where_they_were(aws: EmbeddedAws) -> None:
    clients, given = aws.clients, {"BucketName": "taken-over"}
    key, content = "requirements/arm64/taken-over/requirements.txt", "idna == 3.10\n"
    first = aws.deploy(stack="again", parameters=given)
    pipeline = Pipeline(aws, first, "taken-over")
    built = pipeline.build(key, content)
    assert built["status"] == "SUCCEEDED", built["error"]
    [layer] = built["layers"]

    def kept() -> tuple[Any, Any]:
        claimed = clients.s3.get_object(Bucket="taken-over", Key=f"claims/{layer['layer_name']}.json")
        pointer = clients.ssm.get_parameter(Name=f"/layerdrop/{layer['layer_name']}")["Parameter"]
        return json.loads(claimed["Body"].read())["key"], (pointer["Value"], pointer["Version"])

    before = kept()
    assert before == (key, (layer["layer_version_arn"], 1))

    delete(aws, first, parts().root)
    assert kept() == before
    # The import leaves the bucket as it is, and the update brings it to what the template says. So does a
    # creation here: in us-east-1, S3 takes making a bucket that is there for done.
    second = aws.deploy(stack="again", parameters=given)
    pipeline = Pipeline(aws, second, "taken-over")
    again = pipeline.build(key, content)
    assert again["status"] == "SUCCEEDED", again["error"]
    [reused] = again["layers"]
    assert (reused["layer_version_arn"], reused["reused"]) == (layer["layer_version_arn"], True)
    assert kept() == before
    # The name is still its owner's.
    other = pipeline.build("requirements/arm64/taken/over-requirements.txt", content)
    assert other["error"]["code"] == "LAYER_NAME_TAKEN"
    assert reused["code_sha256"] == layer["code_sha256"]
