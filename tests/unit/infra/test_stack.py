"""All templates, translated: what depends on what, what runs on what size, and who may call whom."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import cfnlint
import jsonschema
import pytest
from cfnlint.template import Template

from layerdrop.environment import PlanBuildEnvironment
from local.deploy import in_order
from local.intrinsics import TemplateError, references
from tests.unit.infra.templates import ROOT
from tests.unit.infra.test_nested import TEMPLATE as SOURCE
from tests.unit.infra.test_nested import keeps
from tests.whole import parts, whole

WHOLE = whole()
TEMPLATES: dict[str, Any] = {"template.yaml": parts().root, **parts().nested, "all of them": WHOLE}
RESOURCES: dict[str, Any] = WHOLE["Resources"]


def of_type(kind: str) -> dict[str, Any]:
    return {name: item["Properties"] for name, item in RESOURCES.items() if item["Type"] == kind}


# ---------------------------------------------------------------- dependencies


def edges(resources: dict[str, Any]) -> set[tuple[str, str]]:
    """Who waits for whom, by Ref, Fn::GetAtt, Fn::Sub and DependsOn."""
    found = set()
    for name, resource in resources.items():
        waits = resource.get("DependsOn", [])
        for needed in [*references(resource), *([waits] if isinstance(waits, str) else waits)]:
            if needed in resources:
                found.add((name, needed))
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_waits_for_itself(name: str) -> None:
    resources = TEMPLATES[name]["Resources"]
    order = list(in_order(resources))
    assert sorted(order) == sorted(resources)
    place = {resource: number for number, resource in enumerate(order)}
    assert all(place[needed] < place[waiting] for waiting, needed in edges(resources))


@pytest.mark.parametrize("name", TEMPLATES)
def test_others_see_the_same_dependencies(name: str) -> None:
    """cfn-lint draws a graph of its own."""
    template = TEMPLATES[name]
    graph = Template(name, copy.deepcopy(template), ["us-east-1"]).graph
    assert graph is not None
    theirs = {edge[:2] for edge in graph.graph.edges if set(edge[:2]) <= template["Resources"].keys()}
    assert edges(template["Resources"]) == theirs
    assert theirs


@pytest.mark.parametrize(
    "closing",
    [
        {"DependsOn": "StartBuildRequirementsUploadedPermission"},
        {"Properties": {"Ref": "Bucket"}},
        {"Properties": {"Fn::GetAtt": ["Bucket", "Arn"]}},
        {"Properties": {"Fn::Sub": "${Bucket.Arn}/*"}},
    ],
    ids=["DependsOn", "Ref", "GetAtt", "Sub"],
)
def test_a_circle_would_be_noticed(closing: dict[str, Any]) -> None:
    """The bucket waits for the permission to call StartBuild, and that for StartBuild and its role."""
    circular = copy.deepcopy(RESOURCES)
    circular["StartBuildRole"] |= closing
    with pytest.raises(TemplateError, match=r"Circular dependency: .*StartBuildRole"):
        list(in_order(circular))


def stacks_before(name: str) -> set[str]:
    """The nested stacks that stand before one of them is begun, of those that it shares its parent with."""
    waits = dict.fromkeys(parts().nested, frozenset())
    for waiting, needed in edges(parts().template(parts().parents[name])["Resources"]):
        waits[waiting] = waits.get(waiting, frozenset()) | {needed}
    found: set[str] = set()
    left = [name]
    while left:
        for needed in waits.get(left.pop(), ()):
            if needed not in found:
                found.add(needed)
                left.append(needed)
    return found & parts().nested.keys()


def test_one_compute_environment_at_a_time_is_made() -> None:
    """Where there are no service-linked roles yet, the first one brings them about."""
    [(first, _), (second, _)] = of_type("AWS::Batch::ComputeEnvironment").items()
    stacks = [name.removesuffix("ComputeEnvironment") for name in (first, second)]
    assert {len(stacks_before(stack) & set(stacks)) for stack in stacks} == {0, 1}


def test_nothing_waits_for_what_only_watches() -> None:
    waiting = {waiting for waiting, needed in edges(parts().root["Resources"]) if needed == "Watching"}
    assert waiting == set()
    assert stacks_before("Watching") == {"BuilderImage", "Network", "Jobs", "Trial", "Catalogue"}


def test_the_stack_s_template_reads_as_the_flow() -> None:
    """From the bucket to the answer, on not too many pages: what comes in crowds is nested."""
    assert len((ROOT / "template.yaml").read_text().splitlines()) < 1000
    flow = [
        "Bucket",
        "StartBuild",
        "BuildLayers",
        "PlanBuild",
        "Jobs",
        "PublishLayer",
        "Trial",
        "WriteManifest",
        "Catalogue",
        "Watching",
    ]
    assert [name for name in SOURCE["Resources"] if name in flow] == flow


# ---------------------------------------------------------------- Fargate

PREFIXES = ("Arm64", "X8664")


def sizes(prefix: str) -> list[tuple[str, str]]:
    """vCPUs and MiB that the parameters' own limits take, in steps of 512 MiB."""
    memory = SOURCE["Parameters"][f"{prefix}Memory"]
    return [
        (vcpu, str(mib))
        for vcpu in SOURCE["Parameters"][f"{prefix}Vcpu"]["AllowedValues"]
        for mib in range(memory["MinValue"], memory["MaxValue"] + 1, 512)
    ]


# cfn-lint's copy of what AWS says of ECS's task definitions, which Batch makes of ours.
FARGATE = json.loads(
    (Path(cfnlint.__file__).parent / "data/schemas/extensions/aws_ecs_taskdefinition/fargate_cpu_memory.json")
    .read_text()
)  # fmt: skip


def fargate_has(vcpu: str, mib: str) -> bool:
    task = {"RequiresCompatibilities": ["FARGATE"], "Cpu": str(int(float(vcpu) * 1024)), "Memory": int(mib)}
    return jsonschema.Draft7Validator(FARGATE).is_valid(task)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_only_sizes_that_fargate_has_are_taken(prefix: str) -> None:
    """Refused before anything is made: Batch would say so late, when it makes the job definitions."""
    rule = f"{prefix}MemoryFitsItsVcpu"
    pairs = sizes(prefix)
    taken = {pair for pair in pairs if keeps(rule, {f"{prefix}Vcpu": pair[0], f"{prefix}Memory": pair[1]})}
    assert taken == {pair for pair in pairs if fargate_has(*pair)}
    assert {vcpu for vcpu, _ in taken} == set(SOURCE["Parameters"][f"{prefix}Vcpu"]["AllowedValues"])
    defaults = [str(SOURCE["Parameters"][f"{prefix}{size}"]["Default"]) for size in ("Vcpu", "Memory")]
    assert tuple(defaults) in taken


@pytest.mark.parametrize("prefix", PREFIXES)
def test_jobs_have_the_sizes_that_were_judged(prefix: str) -> None:
    for name in ("JobDefinition", "SourceJobDefinition"):
        container = RESOURCES[f"{prefix}{name}"]["Properties"]["ContainerProperties"]
        needs = {item["Type"]: item["Value"] for item in container["ResourceRequirements"]}
        assert needs == {"VCPU": {"Ref": f"{prefix}Vcpu"}, "MEMORY": {"Ref": f"{prefix}Memory"}}
    disk = SOURCE["Parameters"][f"{prefix}EphemeralStorage"]
    # https://docs.aws.amazon.com/batch/latest/APIReference/API_EphemeralStorage.html
    assert (disk["MinValue"], disk["MaxValue"]) == (21, 200)


def test_no_queue_mixes_architectures() -> None:
    """What PlanBuild sends to a queue is of one definition, so of one architecture."""
    given = RESOURCES["PlanBuild"]["Properties"]["Environment"]["Variables"]
    variables = {
        name: (value if "Ref" in value else value["Fn::If"][1])["Ref"] if isinstance(value, dict) else value
        for name, value in given.items()
        if name != "RESOLVE_LAYERS"
    } | {"RESOLVE_LAYERS": "ENABLED"}
    workshops = PlanBuildEnvironment.read(variables | {"DEFAULT_RUNTIME": "python3.13"}).workshops
    seen: dict[str, str] = {}
    used = [
        (architecture, workshop, str(definition))
        for architecture, workshop in workshops.items()
        for definition in (workshop.definition, workshop.source_definition)
    ]
    for architecture, workshop, name in used:
        definition = RESOURCES[name]["Properties"]
        platform = definition["ContainerProperties"]["RuntimePlatform"]
        assert platform == {"OperatingSystemFamily": "LINUX", "CpuArchitecture": architecture.upper()}
        assert definition["PlatformCapabilities"] == ["FARGATE"]
        order = RESOURCES[workshop.queue]["Properties"]["ComputeEnvironmentOrder"]
        for name in [workshop.queue, *(item["ComputeEnvironment"]["Ref"] for item in order)]:
            assert seen.setdefault(name, architecture) == architecture
    kinds = ("AWS::Batch::JobQueue", "AWS::Batch::ComputeEnvironment")
    assert seen.keys() == {name for kind in kinds for name in of_type(kind)}
    assert {name for _, _, name in used} == of_type("AWS::Batch::JobDefinition").keys()


# ---------------------------------------------------------------- who may call in


def test_whoever_calls_a_function_may_and_for_this_stack_only() -> None:
    """Resource policies are the one thing that the embedded AWS does not enforce."""
    callers = {
        (target["Arn"]["Fn::GetAtt"][0], "events.amazonaws.com", json.dumps({"Fn::GetAtt": [name, "Arn"]}))
        for name, rule in of_type("AWS::Events::Rule").items()
        if isinstance(rule["Targets"], list)
        for target in rule["Targets"]
        if "Fn::GetAtt" in target["Arn"]
    }
    for bucket in of_type("AWS::S3::Bucket").values():
        for told in bucket["NotificationConfiguration"]["LambdaConfigurations"]:
            callers.add((told["Function"]["Fn::GetAtt"][0], "s3.amazonaws.com", "the account"))
    permitted = set()
    for permission in of_type("AWS::Lambda::Permission").values():
        assert permission["Action"] == "lambda:InvokeFunction"
        # S3's bucket is made after its permission, so it is told by the account.
        source = json.dumps(permission["SourceArn"]) if "SourceArn" in permission else "the account"
        assert "SourceArn" in permission or permission["SourceAccount"] == {"Ref": "AWS::AccountId"}
        permitted.add((permission["FunctionName"]["Ref"], permission["Principal"], source))
    for policy in of_type("AWS::SQS::QueuePolicy").values():
        [queue], [statement] = policy["Queues"], policy["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Action"]) == ("Allow", "sqs:SendMessage")
        assert statement["Resource"] == {"Fn::GetAtt": [queue["Ref"], "Arn"]}
        source = json.dumps(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
        permitted.add((queue["Ref"], statement["Principal"]["Service"], source))
    assert permitted == callers


def test_services_take_roles_for_this_account_only() -> None:
    """Where the service can say for whom; Lambda cannot, and lets nobody pass a role of another account."""
    for template in TEMPLATES.values():
        for name, resource in template["Resources"].items():
            if resource["Type"] != "AWS::IAM::Role":
                continue
            (statement,) = resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            service = statement["Principal"]["Service"]
            if service == "lambda.amazonaws.com" or service == ["lambda.amazonaws.com"]:
                continue
            if service == "chatbot.amazonaws.com":
                # None of its pages says that it tells for whom; there is nothing to be had by it.
                assert resource["Properties"].keys().isdisjoint({"Policies", "ManagedPolicyArns"})
                continue
            condition = statement["Condition"]
            assert condition["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}, name
            assert "${AWS::AccountId}" in condition["ArnLike"]["aws:SourceArn"]["Fn::Sub"], name
