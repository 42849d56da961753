"""The templates against the code that they deploy, and against CloudFormation's rules."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from image_builder.handler import handler
from image_builder.image import Image
from moto import mock_aws
from moto.events.models import EventPattern

from tests.unit.infra.templates import IMAGE, NETWORK, ROOT, commands, translated
from tests.unit.infra.test_image_builder import FAILED, build_arn, end

if TYPE_CHECKING:
    from tests.unit.infra.conftest import Aws, Formation


@pytest.fixture(scope="module")
def image() -> dict[str, Any]:
    return translated(IMAGE)


def statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for policy in role["Properties"]["Policies"]:
        document = (policy["Fn::If"][1] if "Fn::If" in policy else policy)["PolicyDocument"]
        found += document["Statement"]
    return found


def actions(statement: dict[str, Any]) -> set[str]:
    given = statement["Action"]
    return {given} if isinstance(given, str) else set(given)


@pytest.mark.parametrize("template", [IMAGE, NETWORK], ids=lambda path: path.name)
def test_cloudformation_would_take_it(template: Path, tmp_path: Path) -> None:
    """Circular dependencies and misspelled IAM actions show only after translation."""
    written = tmp_path / "template.json"
    written.write_text(json.dumps(translated(template)))
    lint = [Path(sys.executable).with_name("cfn-lint"), written]
    done = subprocess.run(lint, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------- image.yaml


def test_handler_is_where_the_template_says(image: dict[str, Any]) -> None:
    module, _, name = image["Resources"]["ImageBuilder"]["Properties"]["Handler"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is handler


def test_images_have_the_properties_that_the_function_reads(image: dict[str, Any]) -> None:
    projects = set()
    for architecture, name in (("arm64", "Arm64Image"), ("x86_64", "X8664Image")):
        properties = image["Resources"][name]["Properties"]
        assert Image.of(properties).architecture == architecture
        assert {"ServiceToken", "ServiceTimeout"} | set(Image.__slots__) == {
            re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower()
            if key not in ("ServiceToken", "ServiceTimeout")
            else key
            for key in properties
        }
        project = image["Resources"][properties["Project"]["Ref"]]["Properties"]
        projects.add((architecture, project["Environment"]["Type"]))
        # CodeBuild gives up before CloudFormation does: its reason is the one to hear.
        minutes = project["TimeoutInMinutes"] + project["QueuedTimeoutInMinutes"]
        assert minutes * 60 < properties["ServiceTimeout"] <= 3600
    assert projects == {("arm64", "ARM_CONTAINER"), ("x86_64", "LINUX_CONTAINER")}


def test_function_may_do_what_it_does_and_no_more(
    image: dict[str, Any], aws: Aws, formation: Formation
) -> None:
    handler(formation.request("Create"), None)
    aws.ended = FAILED
    handler(end(build_arn("arm64:0")), None)
    called = {call.replace("GetLayerVersionByArn", "GetLayerVersion") for call in aws.calls}
    own = {"logs:CreateLogStream", "logs:PutLogEvents"}
    allowed = statements(image["Resources"]["ImageBuilderRole"])
    assert set().union(*map(actions, allowed)) - own == called
    assert all(statement["Resource"] != "*" for statement in allowed)


def test_only_what_has_no_resource_is_allowed_on_all(image: dict[str, Any]) -> None:
    for name, resource in image["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            for statement in statements(resource):
                assert statement["Resource"] != "*" or actions(statement) == {"ecr:GetAuthorizationToken"}, (
                    name
                )


def test_rule_hears_the_end_of_both_projects(image: dict[str, Any]) -> None:
    pattern = image["Resources"]["BuildEnded"]["Properties"]["EventPattern"]
    projects = {each["Ref"] for each in pattern["detail"]["project-name"]}
    assert projects == {
        name for name, resource in image["Resources"].items() if resource["Type"] == "AWS::CodeBuild::Project"
    }
    assert pattern["source"] == ["aws.codebuild"]
    # A project's name in the template stands for its own.
    rule = EventPattern.load(re.sub(r'\{"Ref": ("\w+")\}', r"\1", json.dumps(pattern)))

    def heard(project: str, kind: str, **detail: str) -> bool:
        named = {"project-name": project} | {name.replace("_", "-"): value for name, value in detail.items()}
        event = {"source": "aws.codebuild", "detail-type": f"CodeBuild Build {kind} Change", "detail": named}
        return rule.matches_event(event)

    for project in (*projects, "SomebodyElses"):
        for status in ("SUCCEEDED", "FAILED", "FAULT", "TIMED_OUT", "STOPPED", "IN_PROGRESS"):
            ended = project in projects and status != "IN_PROGRESS"
            assert heard(project, "State", build_status=status) == ended
        for done in ("BUILD", "FINALIZING", "COMPLETED"):
            ended = project in projects and done == "COMPLETED"
            assert heard(project, "Phase", completed_phase=done) == ended


def test_lifecycle_keeps_the_newest_of_each_architecture(image: dict[str, Any]) -> None:
    text = image["Resources"]["Repository"]["Properties"]["LifecyclePolicy"]["LifecyclePolicyText"]
    rules = json.loads(text)["rules"]
    patterns = {pattern for rule in rules for pattern in rule["selection"]["tagPatternList"]}
    assert patterns == {"*-arm64", "*-x86_64"}
    assert all(rule["selection"]["countType"] == "imageCountMoreThan" for rule in rules)


# ---------------------------------------------------------------- how CodeBuild builds


def test_recipe_uses_what_the_build_is_given(aws: Aws, formation: Formation) -> None:
    handler(formation.request("Create", BaseImage="b", SystemPackages="p"), None)
    given = set(aws.builds["arm64:0"]) - {"CALLBACK"}
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", "\n".join(commands())))
    assert used == given | {"DOCKER_USER", "DOCKER_TOKEN"}
    arguments = set(re.findall(r"--build-arg ([A-Z_]+)=", "\n".join(commands())))
    dockerfile = (ROOT / "container/Dockerfile").read_text()
    assert arguments == set(re.findall(r"^ARG ([A-Z_]+)", dockerfile, re.MULTILINE))


FAKE = """\
#!{python}
import os, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
given = "" if sys.stdin.isatty() or arguments[:1] != ["login"] else sys.stdin.read()
with open(os.environ["CALLS"], "a") as calls:
    print(repr((name, arguments, given)), file=calls)
if " ".join([name, *arguments]).startswith(os.environ.get("FAILING") or "nothing"):
    sys.exit("it fails")
answers = {{"aws lambda": "https://example.com/source", "aws ecr": "registry token"}}
print(answers.get(" ".join([name, *arguments[:1]]), ""))
"""


def build(folder: Path, **variables: str) -> tuple[int, list[tuple[str, list[str], str]]]:
    """Run the recipe as CodeBuild does, one command after the other in one shell; its programs only note."""
    (folder / "bin").mkdir()
    for name in ("aws", "curl", "docker", "unzip"):
        program = folder / "bin" / name
        program.write_text(FAKE.format(python=sys.executable))
        program.chmod(0o755)
    script = "\n".join(f"{command} || exit" for command in commands())
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env={"PATH": f"{folder}/bin:{os.environ['PATH']}", "CALLS": str(folder / "calls"), **variables},
    )
    calls = (folder / "calls").read_text().splitlines()
    return done.returncode, [eval(call) for call in calls]


GIVEN = {"IMAGE": "1.dkr.ecr.eu-west-1.amazonaws.com/layerdrop:t-arm64", "SOURCE": "arn:aws:lambda:layer:s:1"}


def test_recipe_builds_tries_and_pushes(tmp_path: Path) -> None:
    status, calls = build(tmp_path, **GIVEN)
    assert status == 0
    image = GIVEN["IMAGE"]
    assert [call[0] for call in calls] == [
        "aws",
        "curl",
        "unzip",
        "aws",
        "docker",
        "docker",
        "docker",
        "docker",
    ]
    login, built, tried, pushed = [(arguments, given) for name, arguments, given in calls if name == "docker"]
    assert login[0][-1] == image.partition("/")[0]
    assert login[1] == "registry token\n"
    assert built[0] == ["build", "--progress", "plain", "--tag", image, "source"]
    assert tried[0][-2:] == [image, "--version"]
    assert pushed[0] == ["push", image]
    assert "https://example.com/source" in calls[1][1]


# https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
PUSH = {
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
}
# What a role needs for a command, where IAM has another word for it.
IAM = {
    "lambda get-layer-version-by-arn": "lambda:GetLayerVersion",
    "ecr get-login-password": "ecr:GetAuthorizationToken",
}


def test_project_may_do_what_the_recipe_does_and_no_more(image: dict[str, Any], tmp_path: Path) -> None:
    _, calls = build(tmp_path, **GIVEN)
    called = {IAM[" ".join(arguments[:2])] for name, arguments, _ in calls if name == "aws"}
    role = image["Resources"]["ProjectRole"]
    always = {action for statement in statements(role)[:-2] for action in actions(statement)}
    assert always == called | PUSH | {"logs:CreateLogStream", "logs:PutLogEvents"}
    assert [actions(statement) for statement in statements(role)[-2:]] == [
        {"secretsmanager:GetSecretValue"},
        {"ssm:GetParameters"},
    ]


def test_recipe_hands_on_build_arguments_and_logs_in_to_docker_hub(tmp_path: Path) -> None:
    status, calls = build(
        tmp_path,
        **GIVEN,
        BASE_IMAGE="base@sha256:1",
        SYSTEM_PACKAGES="gcc gcc-c++",
        DOCKER_USER="u",
        DOCKER_TOKEN="%s t",
    )
    assert status == 0
    logins = [call for call in calls if call[1][0] == "login"]
    assert logins[1][1:] == (["login", "--username", "u", "--password-stdin"], "%s t")
    built = next(call[1] for call in calls if call[1][0] == "build")
    assert built[5:] == [
        "--build-arg",
        "BASE_IMAGE=base@sha256:1",
        "--build-arg",
        "SYSTEM_PACKAGES=gcc gcc-c++",
        "source",
    ]


@pytest.mark.parametrize(
    "failing", ["aws lambda", "curl", "unzip", "docker login", "docker build", "docker run"]
)
def test_recipe_pushes_nothing_after_a_failure(tmp_path: Path, failing: str) -> None:
    status, calls = build(tmp_path, **GIVEN, FAILING=failing)
    assert status != 0
    assert not [call for call in calls if call[1][0] == "push"]


# ---------------------------------------------------------------- what is shipped


def test_source_is_the_docker_context(tmp_path: Path) -> None:
    """All that the Dockerfile copies and nothing that only running the code leaves behind."""
    (ROOT / "container/layer_builder/__pycache__").mkdir(exist_ok=True)
    make = ["make", "-f", ROOT / "infra/Makefile", "build-ContainerSource", f"ARTIFACTS_DIR={tmp_path}"]
    subprocess.run(make, cwd=ROOT / "container", check=True, capture_output=True)
    shipped = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    package = (ROOT / "container/layer_builder").rglob("*")
    code = {str(path.relative_to(ROOT / "container")) for path in package if path.is_file()}
    assert shipped == {name for name in code if "__pycache__" not in name} | {
        "Dockerfile", ".dockerignore", "requirements.txt"
    }  # fmt: skip
    copied = re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "container/Dockerfile").read_text(), re.MULTILINE)
    assert copied
    assert all((tmp_path / name).exists() for name in copied)


def test_function_is_the_package_alone(tmp_path: Path) -> None:
    make = ["make", "build-ImageBuilder", f"ARTIFACTS_DIR={tmp_path}"]
    subprocess.run(make, cwd=ROOT / "infra", check=True, capture_output=True)
    shipped = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert shipped == {f"image_builder/{path.name}" for path in (ROOT / "infra/image_builder").glob("*.py")}


# ---------------------------------------------------------------- network.yaml


@mock_aws
def test_network_leads_out_and_not_in() -> None:
    session = boto3.Session("x", "x", region_name="eu-west-1")
    stacks = session.client("cloudformation")
    stacks.create_stack(StackName="network", TemplateBody=NETWORK.read_text())
    outputs = {o["OutputKey"]: o["OutputValue"] for o in stacks.describe_stacks()["Stacks"][0]["Outputs"]}
    ec2 = session.client("ec2")
    ids = outputs["SubnetIds"].split(",")
    subnets = ec2.describe_subnets(SubnetIds=ids)["Subnets"]
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2
    assert {subnet["VpcId"] for subnet in subnets} == {outputs["VpcId"]}
    # Room for as many jobs as the quotas of most accounts allow.
    assert all(subnet["AvailableIpAddressCount"] > 1000 for subnet in subnets)
    (table,) = ec2.describe_route_tables(
        Filters=[{"Name": "route.destination-cidr-block", "Values": ["0.0.0.0/0"]}]
    )["RouteTables"]
    assert any(route.get("GatewayId", "").startswith("igw-") for route in table["Routes"])
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert (endpoint["VpcEndpointType"], endpoint["ServiceName"]) == ("Gateway", "com.amazonaws.eu-west-1.s3")
    assert endpoint["RouteTableIds"] == [table["RouteTableId"]]
    # moto forgets which subnets a table is for.
    routed = {
        (properties["SubnetId"]["Ref"], properties["RouteTableId"]["Ref"])
        for resource in translated(NETWORK)["Resources"].values()
        if resource["Type"] == "AWS::EC2::SubnetRouteTableAssociation"
        for properties in [resource["Properties"]]
    }
    assert routed == {("FirstSubnet", "RouteTable"), ("SecondSubnet", "RouteTable")}
    assert not ec2.describe_nat_gateways()["NatGateways"]
