"""Each role may do what its part was seen to do, and nothing else: by our judgement, and by that of others.

The pipeline runs on the embedded AWS, which refuses what a role may not do, and notes what it did.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cfnlint
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.permissions import Permission
from local.policies import Statement, is_allowed, statements_of
from local.settings import ACCOUNT_ID, BUCKET, REGION, STACK, TEMPLATE
from local.translate import translate
from tests.whole import parts, whole

from . import ministack
from .forbidden import EVERYBODY, FORBIDDEN
from .ministack import Ministack
from .recording import Recording, record

Used = Iterable[tuple[str, Permission]]
Statements = Mapping[str, Iterable[Statement]]
LOGS = "Lambda writes the log in the role's name, around the handler: the embedded AWS writes it itself."
TRACES = "Lambda and Step Functions send traces; the embedded AWS has no X-Ray."
DELIVERY = "Step Functions has its log delivered; the embedded AWS does not write it."
HEARS = "Step Functions is told of a job's end by a rule of its own; the embedded AWS knows without."
STARTS = "Fargate does it before and around the job; the embedded AWS starts processes."
FUNCTIONS = (
    "StartBuild",
    "PlanBuild",
    "ResolveLayer",
    "PublishLayer",
    "TryLayer",
    "ReleaseLayer",
    "WriteManifest",
    "UpdateCatalogue",
    "WatchLayers",
)
UNSEEN: Mapping[tuple[str, str], str] = {
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
    **{
        (f"{function}Role", f"logs:{action}"): LOGS
        for function in FUNCTIONS
        for action in ("CreateLogStream", "PutLogEvents")
    },
    # https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html
    **{
        (f"{part}Role", f"xray:{action}"): TRACES
        for part in (*FUNCTIONS, "BuildLayers")
        for action in ("PutTraceSegments", "PutTelemetryRecords")
    },
    # https://docs.aws.amazon.com/step-functions/latest/dg/concepts-xray-tracing.html
    ("BuildLayersRole", "xray:GetSamplingRules"): TRACES,
    ("BuildLayersRole", "xray:GetSamplingTargets"): TRACES,
    # https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html
    **{
        ("BuildLayersRole", f"logs:{action}"): DELIVERY
        for action in (
            "CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery",
            "ListLogDeliveries", "PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups",
        )
    },
    # https://docs.aws.amazon.com/step-functions/latest/dg/connect-batch.html
    **{
        ("BuildLayersRole", f"events:{action}"): HEARS
        for action in ("PutTargets", "PutRule", "DescribeRule")
    },
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html
    **{
        ("JobExecutionRole", action): STARTS
        for action in (
            "ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage",
            "ecr:GetDownloadUrlForLayer", "logs:CreateLogStream", "logs:PutLogEvents",
        )
    },
}  # fmt: skip
"""What is allowed and was not seen, by role and action, and who does it."""
# The embedded AWS has no CodeArtifact; test_credentials.py holds these calls against botocore's description.
# It encrypts nothing, so nobody asks for a key: test_organisation.py holds these grants to what takes one.
NOT_HERE = {
    *(
        (role, sid)
        for role in ("JobRole", "SourceJobRole", "ResolveLayerRole")
        for sid in ("ReadCodeArtifactRepository", "EnterCodeArtifactDomain", "HaveTokensMade")
    ),
    *((f"{part}Role", "UseTheKey") for part in (*FUNCTIONS, "Job", "SourceJob")),
}
CODEARTIFACT = {"CodeArtifactDomain": "ours", "CodeArtifactRepository": "shared"}
ORGANISATION = {
    "KmsKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT_ID}:key/12345678-1234-1234-1234-123456789012",
    "RolePath": "/workloads/",
}


pytestmark = pytest.mark.long  # all that the pipeline can do, recorded, and a second AWS to judge it


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("recording"))


def refused(used: Used, statements: Statements) -> list[tuple[str, Permission]]:
    """What was used and is not allowed."""
    return sorted((role, wanted) for role, wanted in used if not is_allowed(wanted, statements[role]))


def grants(statements: Iterable[Statement]) -> list[Statement]:
    """Statements of one action and one resource each that say the same; what denies is no grant."""
    return [
        dataclasses.replace(statement, actions=(action,), resources=(resource,))
        for statement in statements
        if statement.allows
        for action in statement.actions
        for resource in statement.resources
    ]


def unneeded(used: Used, statements: Statements) -> list[tuple[str, str]]:
    """Role and action of each grant without which everything that was used would still be allowed."""
    found = []
    for role, written in statements.items():
        all_of_role = grants(written)
        mine = [permission for user, permission in used if user == role]
        for grant in all_of_role:
            rest = [other for other in all_of_role if other is not grant]
            if all(is_allowed(wanted, rest) for wanted in mine):
                found.append((role, grant.actions[0]))
    return sorted(found)


def test_every_call_is_allowed(recording: Recording) -> None:
    assert recording.refused == ()
    assert refused(recording.used, recording.statements) == []
    assert {role for role, _ in recording.used} == recording.statements.keys() - {
        "JobExecutionRole",
        "TrialRole",
    }
    assert recording.statements["TrialRole"] == (), "whoever tries layers may do nothing"


def test_everything_that_is_allowed_is_needed_or_explained(recording: Recording) -> None:
    """Needed: without it, a call that was seen would be refused. And no explanation outlives its grant."""
    assert unneeded(recording.used, recording.statements) == sorted(UNSEEN)


def test_nothing_that_is_explained_was_seen(recording: Recording) -> None:
    seen = {(role, permission.action) for role, permission in recording.used}
    assert not seen & UNSEEN.keys()


def test_every_statement_of_the_template_is_judged(recording: Recording) -> None:
    """Also those that stand under a condition: the recording's parameters bring all of them about."""
    written = {
        (name, sid)
        for name, resource in whole()["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
        for sid in sids(resource["Properties"].get("Policies", []))
    }
    judged = {
        (role, statement.sid) for role, statements in recording.statements.items() for statement in statements
    }
    assert written == judged | NOT_HERE
    assert not judged & NOT_HERE


def sids(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "Sid" in value:
            yield value["Sid"]
        for item in value.values():
            yield from sids(item)
    elif isinstance(value, list):
        for item in value:
            yield from sids(item)


def test_a_missing_statement_would_be_noticed(recording: Recording) -> None:
    """Any statement, of those whose use can be seen here."""
    tried = 0
    for role, statements in recording.statements.items():
        for statement in statements:
            if not statement.allows or any((role, action) in UNSEEN for action in statement.actions):
                continue
            rest = {**recording.statements, role: [other for other in statements if other is not statement]}
            assert refused(recording.used, rest), (role, statement.sid)
            tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    ("role", "action", "resource"),
    [
        ("JobRole", "s3:DeleteObject", "arn:aws:s3:::layerdrop-local/layers/*"),
        ("JobRole", "s3:GetObject", "arn:aws:s3:::layerdrop-local/*"),
        ("StartBuildRole", "lambda:PublishLayerVersion", "*"),
        ("PlanBuildRole", "s3:*", "*"),
    ],
)
def test_a_needless_statement_would_be_noticed(
    recording: Recording, role: str, action: str, resource: str
) -> None:
    added = Statement("Added", True, (action,), (resource,))
    statements = {**recording.statements, role: [*recording.statements[role], added]}
    assert unneeded(recording.used, statements) != sorted(UNSEEN)


# Of what AWS publishes: which kinds of resources an action knows.
AUTHORIZATION: Mapping[str, Any] = json.loads(
    (Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json").read_text()
)
# Named with its layer in AWS's own refusals, though the reference says that it knows no resources.
NAMED_ALL_THE_SAME = {"lambda:ListLayerVersions"}


def test_calls_were_held_against_actions_and_resources_that_aws_has(recording: Recording) -> None:
    for _, permission in recording.used:
        service, _, operation = permission.action.partition(":")
        kinds = AUTHORIZATION[service]["Actions"][operation.lower()].get("Resources", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not kinds or permission.action in NAMED_ALL_THE_SAME:
            assert permission.resource == "*" or permission.action in NAMED_ALL_THE_SAME, permission
            continue
        forms = [
            form for kind in kinds for form in AUTHORIZATION[service]["Resources"][kind.lower()]["ARNFormats"]
        ]
        patterns = [re.sub(r"\$\{[^}]+\}", "[^:]*", form) for form in forms]
        assert any(re.fullmatch(pattern, permission.resource) for pattern in patterns), permission


# ---------------------------------------------------------------- a second opinion

LACKING_TYPES = {
    "AWS::Batch::ComputeEnvironment": "ministack's Batch is an API without CloudFormation.",
    "AWS::Batch::JobDefinition": "Likewise.",
    "AWS::Batch::JobQueue": "Likewise.",
}
LACKING_PROPERTIES = {
    ("AWS::CloudWatch::Alarm", "Metrics"): "It has alarms on one metric each, no metric math.",
}
LEFT_OUT_TYPES = {
    "Custom::ContainerImage": "Our function waits until CodeBuild has built it, in Docker.",
}


def lacks(template: Mapping[str, Any]) -> Iterator[str]:
    """What of a template ministack cannot make, by logical id."""
    for name, resource in template["Resources"].items():
        properties = [(resource["Type"], each) for each in resource.get("Properties", {})]
        if resource["Type"] in LACKING_TYPES | LEFT_OUT_TYPES or LACKING_PROPERTIES.keys() & set(properties):
            yield name


def translated_for(other: Ministack, values: Mapping[str, str]) -> dict[str, Any]:
    """The stack as `sam deploy` would send it; what ministack cannot make is left out for its value."""

    def less(template: Mapping[str, Any], stack: str = "") -> dict[str, Any]:
        called = {name: parts().called(f"{stack}.{name}") for name in lacks(template)}
        return ministack.without(template, {name: values.get(of, "x") for name, of in called.items()})

    def upload(name: str, content: bytes) -> str:
        stack, _, kind = name.rpartition(".")
        if kind == "template":
            content = json.dumps(less(json.loads(content), stack)).encode()
        return other.upload(name, content)

    return less(translate(TEMPLATE, upload))


@pytest.fixture(scope="module")
def other(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """ministack with our stack on it; what it lacks is called as on the embedded AWS."""
    with ministack.running(tmp_path_factory.mktemp("ministack")) as made:
        template = translated_for(made, recording.values)
        given = {**recording.parameters, **CODEARTIFACT, **ORGANISATION, "IndexUrl": "", "BucketName": BUCKET}
        assert made.deploy(STACK, template, **given) == ""
        yield made


@cache
def everything(other: Ministack) -> dict[str, str]:
    """The physical ids of all resources, nested stacks included, as they are called in the whole."""
    found: dict[str, str] = {}

    def look(stack: str, resources: Mapping[str, str]) -> None:
        for name, physical in resources.items():
            found[parts().called(f"{stack}.{name}")] = physical
            if name in parts().nested:
                look(name, other.resources(physical))

    look("", other.stacks[STACK])
    return found


def roles_of(other: Ministack) -> dict[str, str]:
    """The names of all roles, also those of nested stacks, by logical id."""
    return {name: physical for name, physical in everything(other).items() if name.endswith("Role")}


def some(parameter: Mapping[str, Any]) -> str:
    """A value that a parameter may have."""
    if parameter["Type"] == "Number":
        return str(parameter.get("MinValue", 1))
    return str(parameter["AllowedValues"][0]) if "AllowedValues" in parameter else ""


@pytest.mark.parametrize("part", ["", *parts().nested])
def test_another_cloudformation_takes_all_but_what_it_lacks(other: Ministack, part: str) -> None:
    template = parts().nested[part] if part else parts().root
    declared = template.get("Parameters", {})
    given = {name: some(parameter) for name, parameter in declared.items() if "Default" not in parameter}
    lacking = {name: template["Resources"][name]["Type"] for name in lacks(template)}
    untyped = {name: kind for name, kind in lacking.items() if kind in LACKING_TYPES}
    if untyped:
        refused = other.deploy(f"typed{part}", template, **given)
        named = re.search(r"Unrecognized resource types: \[(.*)\]", refused)
        assert named, refused
        assert set(named[1].split(", ")) == set(untyped.values())
    dropped = {name: "x" for name, kind in lacking.items() if kind in LACKING_TYPES | LEFT_OUT_TYPES}
    # With the values given, no condition holds that a resource is made under.
    made = {name for name in lacking if "Condition" not in template["Resources"][name]}
    if rest := made - dropped.keys():
        failed = other.deploy(f"untyped{part}", ministack.without(template, dropped), **given)
        assert failed.partition(":")[0] in rest, failed


def test_what_another_cloudformation_lacks_is_there() -> None:
    resources = [
        item
        for template in (parts().root, *parts().nested.values())
        for item in template["Resources"].values()
    ]
    kinds = {item["Type"] for item in resources}
    assert LACKING_TYPES.keys() | LEFT_OUT_TYPES.keys() <= kinds
    for kind, name in LACKING_PROPERTIES:
        assert any(item["Type"] == kind and name in item["Properties"] for item in resources)


def test_another_cloudformation_refuses_what_the_rules_forbid(other: Ministack) -> None:
    template = translated_for(other, {})
    refused = other.deploy("odd", template, BucketName="odd", Arm64Vcpu="1", Arm64Memory="512")
    assert "With 1 vCPU, Arm64Memory is 2048 to 8192 MiB in steps of 1024" in refused
    assert other.deploy("large", template, BucketName="large", Arm64Vcpu="8", Arm64Memory="61440") == ""


def here(arn: str, recording: Recording, other: Ministack) -> str:
    """The ARN that something of the embedded AWS has on ministack, which makes up other names."""
    for name, there in everything(other).items():
        ours = recording.values.get(name, "").rpartition("/")[2]
        if ours and arn.rpartition(":")[2] == ours:
            return arn.removesuffix(ours) + there.rpartition("/")[2]
    return arn


def about_itself(wanted: Permission) -> bool:
    """Whether a statement that allows asks what a request says of itself, as none does of `ssm:Overwrite`."""
    return any(not key.startswith(("s3:", "ssm:")) for key, _ in wanted.context)


@pytest.mark.long
def test_others_allow_what_was_seen(recording: Recording, other: Ministack) -> None:
    roles = roles_of(other)
    asked = [(role, wanted) for role, wanted in recording.used if not about_itself(wanted)]
    assert len(asked) > 100
    assert [
        (role, wanted)
        for role, wanted in asked
        if not other.allows(roles[role], wanted.action, here(wanted.resource, recording, other))
    ] == []


def test_others_cannot_judge_what_an_event_says_of_itself(recording: Recording, other: Ministack) -> None:
    """ministack knows no condition keys of services: for it, such a statement never applies."""
    conditional = {(role, wanted.action): wanted for role, wanted in recording.used if about_itself(wanted)}
    forgeries = {
        ("WriteManifestRole", "events:PutEvents"): ("events:source", "aws.states"),
        ("WatchLayersRole", "events:PutEvents"): ("events:detail-type", "Layer Build Ended"),
        ("TryLayerRole", "iam:PassRole"): ("iam:passedtoservice", "ecs-tasks.amazonaws.com"),
    }
    assert conditional.keys() == forgeries.keys()
    for (role, action), forgery in forgeries.items():
        wanted = conditional[role, action]
        assert not other.allows(roles_of(other)[role], action, wanted.resource)
        forged = dataclasses.replace(wanted, context=(forgery,))
        assert not is_allowed(forged, recording.statements[role])


CASES = [
    *((role, *case) for role, cases in FORBIDDEN.items() for case in cases),
    *((role, *case) for role in FORBIDDEN for case in EVERYBODY),
]


def test_everybody_has_something_forbidden(other: Ministack) -> None:
    assert FORBIDDEN.keys() == roles_of(other).keys()


@pytest.mark.long
@pytest.mark.attack("stolen role: does what it must not")
def test_others_forbid_what_nobody_may_do(recording: Recording, other: Ministack) -> None:
    roles = roles_of(other)
    names = {"bucket": BUCKET, "account": f"{REGION}:{ACCOUNT_ID}", "id": ACCOUNT_ID, "stack": STACK}
    possible = []
    for role, action, form in CASES:
        resource = form.format_map(names)
        wanted = Permission(action, resource)
        if other.allows(roles[role], action, here(resource, recording, other)):
            possible.append((role, action, resource, "ministack"))
        if role in recording.statements and is_allowed(wanted, recording.statements[role]):
            possible.append((role, action, resource, "the embedded AWS"))
    assert possible == []


@pytest.mark.attack("stolen role: moves a pin")
@pytest.mark.parametrize("overwrite", ["true", "false"])
def test_a_pin_is_written_once(recording: Recording, overwrite: str) -> None:
    """Whoever may write pins may not write one that is there; the pointer beside it may be moved.

    ministack, which knows no such keys, cannot tell.
    """
    statements = recording.statements["ReleaseLayerRole"]
    pointer = f"arn:aws:ssm:{REGION}:{ACCOUNT_ID}:parameter/layerdrop/web-py313-arm64"
    for resource, allowed in ((pointer, True), (f"{pointer}/7", overwrite == "false")):
        wanted = Permission("ssm:PutParameter", resource, (("ssm:overwrite", overwrite),))
        assert is_allowed(wanted, statements) == allowed


PATTERN = st.text("ab*?:", min_size=1, max_size=6)
STATEMENT = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Allow", "Deny"]),
        "Action": st.lists(st.builds("s3:{}".format, PATTERN), min_size=1, max_size=2),
        "Resource": st.lists(st.builds("arn:aws:s3:::{}".format, PATTERN), min_size=1, max_size=2),
    }
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    policy=st.lists(STATEMENT, min_size=1, max_size=3),
    action=st.text("abAB", min_size=1, max_size=3),
    resource=st.text("ab:", min_size=1, max_size=3),
)
def test_others_judge_statements_as_we_do(
    other: Ministack, policy: list[dict[str, Any]], action: str, resource: str
) -> None:
    wanted = Permission(f"s3:{action}", f"arn:aws:s3:::{resource}")
    ours = is_allowed(wanted, statements_of({"Statement": policy}))
    assert other.would_allow(policy, wanted.action, wanted.resource) == ours


@pytest.mark.attack("role: writes without TLS")
def test_who_may_write_may_not_without_tls(other: Ministack) -> None:
    """Asked by doing it, by somebody with the job's policies."""
    iam, role = other.client("iam"), roles_of(other)["JobRole"]
    [policy] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    iam.create_user(UserName="job")
    iam.put_user_policy(UserName="job", PolicyName=policy, PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName="job")["AccessKey"]
    with pytest.raises(ClientError, match="explicit deny in a resource-based policy"):
        other.client("s3", key).put_object(Bucket=BUCKET, Key="builds/x.json", Body=b"x", IfNoneMatch="*")
    with pytest.raises(ClientError, match="no identity-based policy allows the lambda:PublishLayerVersion"):
        other.client("lambda", key).publish_layer_version(LayerName="x", Content={"ZipFile": b"x"})
