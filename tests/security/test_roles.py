"""Each role may do what its part was seen to do, and nothing else.

The pipeline runs on the embedded AWS, which refuses what a role may not do, and notes what it did.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cfnlint
import pytest

from local.permissions import Permission
from local.policies import Statement, is_allowed
from local.settings import TEMPLATE
from local.translate import translate

from .recording import Recording, record

Used = Iterable[tuple[str, Permission]]
Statements = Mapping[str, Iterable[Statement]]
LOGS = "Lambda writes the log in the role's name, around the handler: the embedded AWS writes it itself."
TRACES = "Lambda and Step Functions send traces; the embedded AWS has no X-Ray."
DELIVERY = "Step Functions has its log delivered; the embedded AWS does not write it."
HEARS = "Step Functions is told of a job's end by a rule of its own; the embedded AWS knows without."
STARTS = "Fargate does it before and around the job; the embedded AWS starts processes."
UNSEEN: Mapping[tuple[str, str], str] = {
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
    **{
        (f"{function}Role", f"logs:{action}"): LOGS
        for function in ("StartBuild", "PlanBuild", "PublishLayer", "WriteManifest")
        for action in ("CreateLogStream", "PutLogEvents")
    },
    # https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html
    **{
        (f"{part}Role", f"xray:{action}"): TRACES
        for part in ("StartBuild", "PlanBuild", "PublishLayer", "WriteManifest", "BuildLayers")
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


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("recording"))


def refused(used: Used, statements: Statements) -> list[tuple[str, Permission]]:
    """What was used and is not allowed."""
    return sorted((role, wanted) for role, wanted in used if not is_allowed(wanted, statements[role]))


def grants(statements: Iterable[Statement]) -> list[Statement]:
    """Statements of one action and one resource each that say the same."""
    return [
        dataclasses.replace(statement, actions=(action,), resources=(resource,))
        for statement in statements
        for action in statement.actions
        for resource in statement.resources
    ]


def unneeded(used: Used, statements: Statements) -> list[tuple[str, str]]:
    """Role and action of each grant without which everything that was used would still be allowed."""
    found = []
    for role, given in statements.items():
        all_of_role = grants(given)
        mine = [permission for user, permission in used if user == role]
        for grant in all_of_role:
            rest = [other for other in all_of_role if other is not grant]
            if all(is_allowed(wanted, rest) for wanted in mine):
                found.append((role, grant.actions[0]))
    return sorted(found)


def test_every_call_is_allowed(recording: Recording) -> None:
    assert recording.refused == ()
    assert refused(recording.used, recording.statements) == []
    assert {role for role, _ in recording.used} == recording.statements.keys() - {"JobExecutionRole"}


def test_everything_that_is_allowed_is_needed_or_explained(recording: Recording) -> None:
    """Needed: without it, a call that was seen would be refused. And no explanation outlives its grant."""
    assert unneeded(recording.used, recording.statements) == sorted(UNSEEN)


def test_nothing_that_is_explained_was_seen(recording: Recording) -> None:
    seen = {(role, permission.action) for role, permission in recording.used}
    assert not seen & UNSEEN.keys()


def test_every_statement_of_the_template_is_judged(recording: Recording) -> None:
    """Also those that stand under a condition: the recording's parameters bring all of them about."""
    template = translate(TEMPLATE, lambda name, _: f"s3://code/{name}")
    written = {
        (name, sid)
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
        for sid in sids(resource["Properties"]["Policies"])
    }
    judged = {
        (role, statement.sid) for role, statements in recording.statements.items() for statement in statements
    }
    assert written == judged


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
            if any((role, action) in UNSEEN for action in statement.actions):
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
