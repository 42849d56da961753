"""`layerdrop sync` with exactly the role of infra/ci-role.yaml, whose statements the embedded AWS judges."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.clients import Clients
from local.intrinsics import Scope, TemplateError, evaluate, parameter_values, pseudo_parameters
from local.settings import REGION, ROOT, STACK
from local.translate import read_template

from .conftest import Pipeline

TEMPLATE: dict[str, Any] = read_template((ROOT / "infra/ci-role.yaml").read_text())
LAYERDROP = Path(sys.executable).with_name("layerdrop")
GITHUB = {"Repository": "octo@1/layers@2"}


pytestmark = pytest.mark.long


def role(pipeline: Pipeline, **given: str) -> dict[str, Any]:
    """The role's properties as CloudFormation works them out."""
    outputs = {"BucketName": pipeline.bucket, "StateMachineArn": pipeline.state_machine}
    values = parameter_values(TEMPLATE["Parameters"], {"StackName": STACK, **outputs, **given})
    scope = Scope({**pseudo_parameters("ci"), **values}, conditions=TEMPLATE["Conditions"])
    found: dict[str, Any] = evaluate(TEMPLATE["Resources"]["CiRole"]["Properties"], scope)
    return found


def made(pipeline: Pipeline, name: str, **given: str) -> str:
    """Make the role; return its ARN."""
    iam, properties = pipeline.aws.clients.get("iam"), role(pipeline, **given)
    trust = json.dumps(properties["AssumeRolePolicyDocument"])
    arn = str(iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"])
    for policy in properties["Policies"]:
        document = json.dumps(policy["PolicyDocument"])
        iam.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)
    return arn


def sync(clients: Clients, endpoint: str, folder: Path, *more: str) -> tuple[int, Mapping[str, Any], str]:
    credentials = clients._session.get_credentials()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
    }
    command = [LAYERDROP, "sync", folder, f"--stack={STACK}", "--output=json", *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout), done.stderr


def write(folder: Path, path: str, text: str = "idna == 3.10\n") -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)


def denied(call: Any, **parameters: Any) -> bool:
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return error.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException", "403")


def test_the_role_syncs_its_prefixes_and_may_do_nothing_else(
    pipeline: Pipeline, folder: str, tmp_path: Path
) -> None:
    name = folder.rpartition("/")[2]
    arn = made(pipeline, f"ci-{name}", **GITHUB, Prefix=f"arm64/{name}/", ThirdPrefix=f"x86_64/{name}/")
    clients = pipeline.aws.clients.of_role(arn)
    endpoint = pipeline.aws.endpoint
    write(tmp_path, f"arm64/{name}/requirements.txt")
    write(tmp_path, f"x86_64/{name}/api-requirements.txt")
    refused = len(pipeline.aws.authorization.refused)
    status, told, said = sync(clients, endpoint, tmp_path)
    assert status == 0, said
    assert told["counts"]["built"] + told["counts"]["reused"] == 2
    # With what it was given each step is seen, but for the job's state.
    assert "ReleaseLayer done in" in said
    kinds = {
        why.split()[0] for who, why in pipeline.aws.authorization.refused[refused:] if f"ci-{name}" in who
    }
    assert kinds <= {"batch:DescribeJobs"}
    assert sync(clients, endpoint, tmp_path)[1]["counts"]["unchanged"] == 2
    layer = told["files"][0]["layers"][0]["name"]
    assert clients.ssm.get_parameter(Name=f"/layerdrop/{layer}")["Parameter"]["Value"]
    # Other prefixes, manifests, deletions, pointers, layers.
    other = {"Bucket": pipeline.bucket, "Key": f"requirements/arm64/other-{name}/requirements.txt"}
    mine = {"Bucket": pipeline.bucket, "Key": f"requirements/arm64/{name}/requirements.txt"}
    manifest = {"Bucket": pipeline.bucket, "Key": f"requirements/arm64/{name}/manifest.json"}
    assert denied(clients.s3.put_object, **other, Body=b"")
    assert denied(clients.s3.get_object, **other)
    assert denied(clients.s3.put_object, **manifest, Body=b"{}")
    assert denied(clients.s3.delete_object, **mine)
    assert denied(clients.s3.list_object_versions, Bucket=pipeline.bucket)
    assert denied(clients.s3.get_object, Bucket=pipeline.bucket, Key=f"claims/{layer}.json")
    assert denied(clients.ssm.put_parameter, Name=f"/layerdrop/{layer}", Value="x", Type="String")
    assert denied(clients.lambda_.list_layer_versions, LayerName=layer)
    assert denied(clients.stepfunctions.start_execution, stateMachineArn=pipeline.state_machine)
    # A folder with more than its prefixes says what was denied.
    write(tmp_path, f"arm64/other-{name}/requirements.txt")
    status, told, said = sync(clients, endpoint, tmp_path)
    assert (status, told["error"]["code"]) == (2, "ACCESS_DENIED")


def test_deletions_are_asked_for(pipeline: Pipeline, folder: str) -> None:
    name = folder.rpartition("/")[2]
    arn = made(pipeline, f"ci-{name}", **GITHUB, Prefix=f"arm64/{name}/", MayDelete="yes")
    clients = pipeline.aws.clients.of_role(arn)
    clients.s3.delete_object(Bucket=pipeline.bucket, Key=f"{folder}/requirements.txt")
    assert denied(clients.s3.delete_object, Bucket=pipeline.bucket, Key=f"{folder}/manifest.json")
    assert denied(clients.s3.delete_object, Bucket=pipeline.bucket, Key="requirements/arm64/requirements.txt")


@pytest.mark.parametrize(
    ("given", "subject"),
    [
        (GITHUB, "repo:octo@1/layers@2:ref:refs/heads/main"),
        ({"Repository": "octo/layers", "Branch": "release/1"}, "repo:octo/layers:ref:refs/heads/release/1"),
        ({**GITHUB, "Environment": "prod"}, "repo:octo@1/layers@2:environment:prod"),
        ({"GitLabProject": "a/b/c"}, "project_path:a/b/c:ref_type:branch:ref:main"),
    ],
)
def test_one_repository_and_one_branch_are_trusted(
    pipeline: Pipeline, given: dict[str, str], subject: str
) -> None:
    [statement] = role(pipeline, **given, Prefix="arm64/")["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    # Exactly, and with the audience: no wildcard lets another repository or a pull request in.
    [(operator, conditions)] = statement["Condition"].items()
    assert operator == "StringEquals"
    assert sorted(key.rpartition(":")[2] for key in conditions) == ["aud", "sub"]
    assert subject in conditions.values()


@pytest.mark.parametrize(
    "given",
    [
        {"Prefix": "*"},
        {"Prefix": "arm64/*/"},
        {"Prefix": ""},
        {"Prefix": "arm64/we"},
        {"Prefix": "arm64/", "Repository": "octo/*"},
        {"Prefix": "arm64/", "Branch": "*"},
        {"Prefix": "arm64/", "Environment": "*"},
    ],
)
def test_wildcards_are_refused(pipeline: Pipeline, given: dict[str, str]) -> None:
    with pytest.raises(TemplateError):
        role(pipeline, **{**GITHUB, **given})
