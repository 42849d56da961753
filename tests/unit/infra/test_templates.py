"""The templates against the code that they deploy, and against CloudFormation's rules."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.validate import validate_parameters
from image_builder.handler import handler
from image_builder.image import Image
from moto import mock_aws
from moto.events.models import EventPattern

from local.intrinsics import Scope, evaluate
from tests.unit.infra.conftest import REPOSITORY, SOURCE
from tests.unit.infra.templates import IMAGE, NETWORK, ROOT, SCRIPT, commands, translated
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


@pytest.mark.long  # make lint says the same
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
    patterns = {pattern for rule in rules for pattern in rule["selection"].get("tagPatternList", ())}
    assert patterns == {"*-arm64", "*-x86_64"}
    # What a renewal replaced has no tag any more: two months of both architectures, to go back to.
    [untagged] = [rule["selection"] for rule in rules if rule["selection"]["tagStatus"] == "untagged"]
    assert untagged["countNumber"] == 4
    assert all(rule["selection"]["countType"] == "imageCountMoreThan" for rule in rules)


# ---------------------------------------------------------------- once a month


def inputs(image: dict[str, Any], **parameters: str) -> dict[str, Any]:
    """What the renewal starts each project with, by the project's name in the template."""
    known = {"BaseImage": "", "SystemPackages": "", **parameters}
    scope = Scope(
        values={**known, "Arm64Image": "t-arm64", "X8664Image": "t-x86_64", "ContainerSource": SOURCE},
        attributes={("Repository", "RepositoryUri"): REPOSITORY}
        | {(name, "Arn"): name for name in ("Arm64Project", "X8664Project", "RenewalRole")},
        conditions=image["Conditions"],
        mappings={},
    )
    # SAM gives a layer's version a name of its own.
    text = re.sub(
        r"ContainerSource[0-9a-f]{10}", "ContainerSource", json.dumps(image["Resources"]["Renewal"])
    )
    targets = evaluate(json.loads(text)["Properties"]["Targets"], scope)
    return {target["Arn"]: json.loads(target["Input"]) for target in targets}


def test_renewal_builds_what_is_deployed_on_the_newest_base_under_the_same_tag(image: dict[str, Any]) -> None:
    for project, tag in (("Arm64Project", "t-arm64"), ("X8664Project", "t-x86_64")):
        given = inputs(image)[project]
        assert given == {
            "environmentVariablesOverride": [
                {"name": "IMAGE", "value": f"{REPOSITORY}:{tag}"},
                {"name": "SOURCE", "value": SOURCE},
                {"name": "BASE_IMAGE", "value": "public.ecr.aws/amazonlinux/amazonlinux:2023-minimal"},
            ]
        }
        model = boto3.client("codebuild", region_name="eu-west-1").meta.service_model
        shape = model.operation_model("StartBuild").input_shape
        assert shape is not None
        validate_parameters({"projectName": project, **given}, shape)
    # The same distribution and kind of image as the one that is pinned.
    pinned = re.search(r"BASE_IMAGE=(\S+)", (ROOT / "container/Dockerfile").read_text())
    assert pinned
    assert re.fullmatch(r"public\.ecr\.aws/amazonlinux/amazonlinux:2023\.[\d.]+-minimal", pinned[1])


def test_renewal_keeps_to_what_the_owner_chose(image: dict[str, Any]) -> None:
    given = inputs(image, BaseImage="example.com/al2023:7", SystemPackages="gcc gcc-c++")["Arm64Project"]
    variables = {each["name"]: each["value"] for each in given["environmentVariablesOverride"]}
    assert (variables["BASE_IMAGE"], variables["SYSTEM_PACKAGES"]) == ("example.com/al2023:7", "gcc gcc-c++")


def test_nobody_is_answered_when_a_renewal_ends(
    image: dict[str, Any], aws: Aws, formation: Formation
) -> None:
    variables = inputs(image)["Arm64Project"]["environmentVariablesOverride"]
    aws.builds["arm64:renewal"] = {each["name"]: each["value"] for each in variables}
    aws.ended = FAILED
    handler(end(build_arn("arm64:renewal")), None)
    assert not formation.answers


def test_a_renewal_can_push_to_its_tag(image: dict[str, Any]) -> None:
    assert image["Resources"]["Repository"]["Properties"]["ImageTagMutability"] == "MUTABLE"
    [statement] = statements(image["Resources"]["RenewalRole"])
    assert actions(statement) == {"codebuild:StartBuild"}


# ---------------------------------------------------------------- mails


def rule_of(image: dict[str, Any], name: str) -> EventPattern:
    """A rule's pattern, in which a resource's name in the template stands for its own and its ARN."""
    text = json.dumps(image["Resources"][name]["Properties"]["EventPattern"])
    text = re.sub(r'\{"Ref": ("\w+")\}', r"\1", text)
    return EventPattern.load(re.sub(r'\{"Fn::GetAtt": \["(\w+)", "Arn"\]\}', r'"arn:\1"', text))


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "FAULT", "TIMED_OUT", "STOPPED", "IN_PROGRESS"])
def test_failed_builds_are_mailed(image: dict[str, Any], status: str) -> None:
    detail = {"project-name": "Arm64Project", "build-status": status}
    event = {"source": "aws.codebuild", "detail-type": "CodeBuild Build State Change", "detail": detail}
    assert rule_of(image, "BuildFailed").matches_event(event) == (status not in ("SUCCEEDED", "IN_PROGRESS"))


@pytest.mark.parametrize("source, kind, repository, complete", [
    ("aws.ecr", "ECR Image Scan", "Repository", "COMPLETE"),
    ("aws.inspector2", "Inspector2 Scan", "arn:Repository", "INITIAL_SCAN_COMPLETE"),
])  # fmt: skip
def test_findings_are_mailed(
    image: dict[str, Any], source: str, kind: str, repository: str, complete: str
) -> None:
    """https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html has the events."""
    rule = rule_of(image, "ScanFoundSomething")

    def heard(status: str = complete, name: str = repository, **counts: int) -> bool:
        detail = {"repository-name": name, "scan-status": status, "finding-severity-counts": counts}
        return rule.matches_event({"source": source, "detail-type": kind, "detail": detail})

    assert heard(CRITICAL=1, MEDIUM=3)
    assert heard(HIGH=2)
    assert heard("FAILED")
    assert not heard(MEDIUM=3, LOW=1)
    assert not heard()
    assert not heard(name="somebody-elses", CRITICAL=1)


def test_mails_are_made_of_what_needs_no_escaping(image: dict[str, Any]) -> None:
    """EventBridge puts a value between a template's quotes as it is: one with a quote would break the mail.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
    """
    plain = {
        "$.detail.project-name", "$.detail.build-status", "$.detail.additional-information.logs.deep-link",
        "$.detail.repository-name", "$.detail.image-tags[0]", "$.detail.image-digest", "$.detail.scan-status",
        "$.detail.finding-severity-counts.CRITICAL", "$.detail.finding-severity-counts.HIGH",
    }  # fmt: skip
    mailing = 0
    for resource in image["Resources"].values():
        for target in resource.get("Properties", {}).get("Targets", ()):
            if "InputTransformer" in target:
                mailing += 1
                assert target["Arn"] == {"Ref": "NotificationTopicArn"}
                transformer = target["InputTransformer"]
                assert set(transformer["InputPathsMap"].values()) <= plain
                used = re.findall(r"<(\w+)>", transformer["InputTemplate"])
                assert set(used) == set(transformer["InputPathsMap"])
                for line in transformer["InputTemplate"].splitlines():
                    assert re.fullmatch(r'"[^"]+"', line)
                pages = re.findall(r"docs/deploy.md, section ([^\"]+)", transformer["InputTemplate"])
                assert pages
                for section in pages:
                    assert f"## {section}\n" in (ROOT / "docs/deploy.md").read_text()
    assert mailing == 2


# ---------------------------------------------------------------- how CodeBuild builds


def test_recipe_uses_what_the_build_is_given(aws: Aws, formation: Formation) -> None:
    handler(formation.request("Create", BaseImage="b", SystemPackages="p"), None)
    given = set(aws.builds["arm64:0"]) - {"CALLBACK"}
    text = "\n".join([*commands(), SCRIPT.read_text()])
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", text))
    # With defaults, for tests and for whoever builds it by hand.
    assert used - {"RUNTIMES", "PAUSE", "STATE"} == given | {"DOCKER_USER", "DOCKER_TOKEN"}
    arguments = set(re.findall(r"--build-arg \"([A-Z_]+)=", text))
    dockerfile = (ROOT / "container/Dockerfile").read_text()
    assert arguments == set(re.findall(r"^ARG ([A-Z_]+)", dockerfile, re.MULTILINE))


FAKE = """\
#!{python}
import os, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
given = "" if sys.stdin.isatty() or arguments[:1] != ["login"] else sys.stdin.read()
calls = open(os.environ["CALLS"]).read().splitlines() if os.path.exists(os.environ["CALLS"]) else []
with open(os.environ["CALLS"], "a") as log:
    print(repr((name, arguments, given)), file=log)
command = " ".join([name, *arguments])
if command.startswith(os.environ.get("FAILING") or "nothing"):
    before = sum(" ".join([eval(c)[0], *eval(c)[1]]) == command for c in calls)
    if before < int(os.environ.get("TIMES", "99")):
        sys.exit("it fails")
if name == "docker" and arguments[0] == "info":
    sys.exit(print(os.environ["STORE"]))
answers = {{"aws lambda": "https://example.com/source", "aws ecr": "registry token"}}
print(answers.get(" ".join([name, *arguments[:1]]), ""))
"""
CONTAINERD = "[[driver-type io.containerd.snapshotter.v1]]"


def build(folder: Path, **variables: str) -> tuple[int, list[tuple[str, list[str], str]]]:
    """Run the recipe as CodeBuild does, one command after the other in one shell; its programs only note."""
    (folder / "bin").mkdir()
    (folder / "source").mkdir()
    shutil.copy(SCRIPT, folder / "source")
    for name in ("aws", "curl", "docker", "dockerd", "unzip"):
        program = folder / "bin" / name
        program.write_text(FAKE.format(python=sys.executable))
        program.chmod(0o755)
    script = "\n".join(f"{command} || exit" for command in commands())
    own = {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "CALLS": str(folder / "calls"),
        "STATE": str(folder / "state"),
        "STORE": CONTAINERD,
        "PAUSE": "0",
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, stdin=subprocess.DEVNULL, env=own | variables, capture_output=True
    )
    calls = (folder / "calls").read_text().splitlines()
    return done.returncode, [eval(call) for call in calls]


GIVEN = {"IMAGE": "1.dkr.ecr.eu-west-1.amazonaws.com/layerdrop:t-arm64", "SOURCE": "arn:aws:lambda:layer:s:1"}
STRICT = ["run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL"]


def docker(calls: list[tuple[str, list[str], str]], *command: str) -> list[list[str]]:
    """The calls of one of docker's commands."""
    return [a for name, a, _ in calls if name == "docker" and a[: len(command)] == list(command)]


def test_recipe_builds_tries_and_pushes(tmp_path: Path) -> None:
    status, calls = build(tmp_path, **GIVEN)
    assert status == 0
    image = GIVEN["IMAGE"]
    assert [call[0] for call in calls[:4]] == ["aws", "curl", "unzip", "aws"]
    assert "https://example.com/source" in calls[1][1]
    [(_, login, token)] = [call for call in calls if call[1][0] == "login"]
    assert (login[-1], token) == (image.partition("/")[0], "registry token\n")
    [built] = docker(calls, "buildx", "build")
    # https://docs.docker.com/build/exporters/image-registry/
    output = dict(pair.split("=") for pair in built[built.index("--output") + 1].split(","))
    assert output == {
        "type": "image", "name": image, "compression": "zstd", "force-compression": "true",
        "oci-mediatypes": "true",
    }  # fmt: skip
    assert {"--provenance=false", "--sbom=false"} <= set(built)
    assert built[-1] == "source"
    tried = docker(calls, *STRICT)
    assert tried[0] == [*STRICT, image, "--version"]
    minors = [call[call.index("--entrypoint") + 1].removeprefix("/usr/bin/python") for call in tried[1:]]
    assert minors == ["3.11", "3.12", "3.13", "3.14"]
    [pushed] = docker(calls, "push")
    assert pushed == ["push", image]
    assert not [call for call in calls if call[0] == "dockerd"]
    order = [call[1] for call in calls if call[0] == "docker"]
    assert order.index(built) < order.index(tried[0]) <= order.index(tried[-1]) < order.index(pushed)


def test_interpreters_that_are_tried_are_those_that_are_installed() -> None:
    dockerfile = (ROOT / "container/Dockerfile").read_text()
    [installed] = re.findall(r"^\s+((?:python3\.\d+ )+)", dockerfile, re.MULTILINE)
    [tried] = re.findall(r"RUNTIMES:-([\d. ]+)", SCRIPT.read_text())
    assert [f"python{minor}" for minor in tried.split()] == installed.split()


def test_without_the_newer_image_store_it_is_built_the_older_way(tmp_path: Path) -> None:
    """A second engine is tried for; it is the first deployment that must not fail for want of it."""
    status, calls = build(tmp_path, **GIVEN, STORE="[[Backing Filesystem extfs]]")
    assert status == 0
    assert [call for call in calls if call[0] == "dockerd"]
    assert not docker(calls, "buildx", "build")
    [built] = docker(calls, "build")
    assert built[-3:] == ["--tag", GIVEN["IMAGE"], "source"]
    assert docker(calls, "push")


@pytest.mark.sample(2)
@pytest.mark.parametrize("failing", ["docker buildx build", "docker push"])
@pytest.mark.parametrize("times, status", [(1, 0), (2, 0), (3, 1)])
def test_what_passes_by_itself_is_tried_three_times(
    tmp_path: Path, failing: str, times: int, status: int
) -> None:
    done, calls = build(tmp_path, **GIVEN, FAILING=failing, TIMES=str(times))
    assert done == status
    assert len(docker(calls, *failing.split()[1:])) == min(times + 1, 3)


def test_tries_have_pauses_between() -> None:
    """20 s, then 60 s: and all that fits the project's own limit."""
    script = SCRIPT.read_text()
    function = script[script.index("three_times() {") : script.index("\n}\n", script.index("three_times()"))]
    timed = f'pause=20\nsleep() {{ echo "$1"; }}\n{function}\n}}\nthree_times false x'
    done = subprocess.run(["bash", "-c", timed], capture_output=True, text=True)
    assert [line for line in done.stdout.splitlines() if line.isdecimal()] == ["20", "60"]
    assert done.returncode == 1


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
    always = {action for statement in statements(role)[:-4] for action in actions(statement)}
    assert always == called | PUSH | {"logs:CreateLogStream", "logs:PutLogEvents"}
    assert [actions(statement) for statement in statements(role)[-4:]] == [
        {"secretsmanager:GetSecretValue"},
        {"kms:Decrypt"},
        {"ssm:GetParameters"},
        {"kms:Decrypt"},
    ]


def test_keys_are_used_for_the_login_of_docker_hub_alone(image: dict[str, Any]) -> None:
    """Which key is not known; by which service, and for which secret or parameters, is."""
    read, decrypt, get, decrypt_parameters = statements(image["Resources"]["ProjectRole"])[-4:]
    for statement, service, context, of in (
        (decrypt, "secretsmanager", "SecretARN", read),
        (decrypt_parameters, "ssm", "PARAMETER_ARN", get),
    ):
        ((operator, condition),) = statement["Condition"].items()
        assert operator == "StringEquals"
        assert condition == {
            "kms:ViaService": {"Fn::Sub": f"{service}.${{AWS::Region}}.${{AWS::URLSuffix}}"},
            f"kms:EncryptionContext:{context}": of["Resource"],
        }


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
    [built] = docker(calls, "buildx", "build")
    arguments = [built[i + 1] for i, word in enumerate(built) if word == "--build-arg"]
    assert arguments == ["BASE_IMAGE=base@sha256:1", "SYSTEM_PACKAGES=gcc gcc-c++"]


@pytest.mark.parametrize(
    "failing", ["aws lambda", "curl", "unzip", "docker login", "docker buildx build", "docker run"]
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
        "Dockerfile", ".dockerignore", "build_image.sh", "requirements.txt"
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


@mock_aws
@pytest.mark.parametrize(
    "region, zones",
    {
        # The regions with zones that have no Fargate, or none for ARM64.
        "us-east-1": {"use1-az1", "use1-az2", "use1-az4", "use1-az5", "use1-az6"},
        "us-west-1": {"usw1-az1", "usw1-az3"},
        "ap-northeast-1": {"apne1-az1", "apne1-az2", "apne1-az4"},
        "cn-north-1": {"cnn1-az1", "cnn1-az2"},
        "eu-west-1": {"euw1-az1", "euw1-az2", "euw1-az3"},
        "us-west-2": {"usw2-az1", "usw2-az2", "usw2-az3", "usw2-az4"},
    }.items(),
)
def test_subnets_are_in_two_zones_that_have_fargate(region: str, zones: set[str]) -> None:
    template = translated(NETWORK)
    in_region = {"AWS::Region": region, "AWS::NoValue": None, "AWS::StackName": "s"}
    scope = Scope(values=in_region, attributes={}, conditions=template["Conditions"], mappings={})
    named = set()
    for name in ("FirstSubnet", "SecondSubnet"):
        properties = template["Resources"][name]["Properties"]
        zone, zone_id = properties["AvailabilityZone"], properties["AvailabilityZoneId"]
        if scope.condition("AnyZone"):
            assert zone["Fn::If"][1] == {
                "Fn::Select": [{"FirstSubnet": 0, "SecondSubnet": 1}[name], {"Fn::GetAZs": ""}]
            }
            assert region in ("eu-west-1", "us-west-2")
        else:
            assert zone["Fn::If"][2] == {"Ref": "AWS::NoValue"}
            named.add(evaluate(zone_id, scope))
    assert named <= zones
    assert len(named) in (0, 2)


def test_the_images_are_renewed_in_each_month() -> None:
    """https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html"""
    renewal = translated(IMAGE)["Resources"]["Renewal"]["Properties"]
    [fields] = re.findall(r"^cron\((.*)\)$", renewal["ScheduleExpression"])
    minute, hour, day, month, weekday, year = fields.split()
    assert (month, weekday, year) == ("*", "?", "*")
    assert int(minute) < 60 and int(hour) < 24 and 1 <= int(day) <= 28
    assert renewal.get("State", "ENABLED") == "ENABLED"
