"""What organisations ask for: a key of their own, a permissions boundary and a path for every role.

All templates are looked at as CloudFormation gets them, with these parameters and without.
"""

from __future__ import annotations

import fnmatch
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from local.intrinsics import Scope, TemplateError, evaluate, parameter_values, pseudo_parameters
from local.translate import read_template
from tests.unit.infra.templates import ROOT
from tests.whole import parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEY = "arn:aws:kms:us-east-1:123456789012:key/0123abcd-12ab-34cd-56ef-0123456789ab"
BOUNDARY = "arn:aws:iam::123456789012:policy/team/workloads"
GIVEN = {"KmsKeyArn": KEY, "PermissionsBoundaryArn": BOUNDARY, "RolePath": "/team/"}
TEMPLATES: dict[str, Any] = {"": parts().root, **parts().nested}
# Where a type says which key it is under: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
KEYS = {
    "AWS::S3::Bucket": lambda p: p["BucketEncryption"]["ServerSideEncryptionConfiguration"][0][
        "ServerSideEncryptionByDefault"
    ].get("KMSMasterKeyID"),
    "AWS::SQS::Queue": lambda p: p.get("KmsMasterKeyId"),
    "AWS::SNS::Topic": lambda p: p.get("KmsMasterKeyId"),
    "AWS::Logs::LogGroup": lambda p: p.get("KmsKeyId"),
    "AWS::ECR::Repository": lambda p: p.get("EncryptionConfiguration", {}).get("KmsKey"),
}
# What takes a key's data keys, and so has to be allowed together with the key:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
TAKES_THE_KEY = {
    "s3:GetObject": "s3", "s3:GetObjectVersion": "s3", "s3:PutObject": "s3", "sqs:SendMessage": "sqs",
    "sqs:ReceiveMessage": "sqs",
}  # fmt: skip


class Loose(Scope):
    """What references give where only the parameters matter."""

    def ref(self, name: str) -> Any:
        try:
            return super().ref(name)
        except TemplateError:
            return f"ref:{name}"

    def attribute(self, resource: str, name: str) -> Any:
        return f"{resource}.{name}"


def resources(given: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where each resource of the stack and of those nested in it is, its type and its properties."""
    for stack, template in TEMPLATES.items():
        # Conditions that would leave out what has a role, a log or a message are made to hold.
        wide = {
            "StackName": "s",
            "NotificationEmail": "a@b",
            "NotificationTopicArn": "arn:aws:sns:us-east-1:123456789012:t",
        }
        values = pseudo_parameters("s") | {
            name: wide.get(name) or given.get(name, declared.get("Default", "x"))
            for name, declared in template.get("Parameters", {}).items()
        }
        scope = Loose(
            values, conditions=template.get("Conditions", {}), mappings=template.get("Mappings", {})
        )
        for name, resource in template["Resources"].items():
            if resource["Type"] in {*KEYS, "AWS::IAM::Role"}:
                properties = evaluate(resource["Properties"], scope)
                yield f"{stack}.{name}", resource["Type"], properties


def of_type(kind: str, given: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {where: properties for where, found, properties in resources(given) if found == kind}


def test_every_role_has_the_path_and_the_boundary_that_are_given() -> None:
    roles = of_type("AWS::IAM::Role", GIVEN)
    assert {"ImageBuilder", "BuilderImage"} & {where.partition(".")[0] for where in roles}
    assert len(roles) >= 11
    for where, role in roles.items():
        assert (role.get("Path"), role.get("PermissionsBoundary")) == ("/team/", BOUNDARY), where


def test_no_role_has_one_otherwise() -> None:
    """Not even the usual path: a role whose path changes is made anew."""
    for where, role in of_type("AWS::IAM::Role", {}).items():
        assert not {"Path", "PermissionsBoundary"} & role.keys(), where


@pytest.mark.parametrize("kind", KEYS)
def test_what_is_kept_is_under_the_key_that_is_given(kind: str) -> None:
    kept = of_type(kind, GIVEN)
    assert kept
    for where, properties in kept.items():
        assert KEYS[kind](properties) == KEY, where
    for where, properties in of_type(kind, {}).items():
        assert KEYS[kind](properties) is None, where
        assert "kms" not in json.dumps(properties).lower(), where


def test_a_queue_has_one_kind_of_encryption() -> None:
    """SQS refuses a queue with both."""
    for given, managed in ((GIVEN, False), ({}, True)):
        for queue in of_type("AWS::SQS::Queue", given).values():
            assert queue["SqsManagedSseEnabled"] is managed


def statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for policy in role.get("Policies", ()) for one in policy["PolicyDocument"]["Statement"]]


def actions(statement: dict[str, Any]) -> set[str]:
    given = statement["Action"]
    return {given} if isinstance(given, str) else set(given)


def test_a_role_may_use_the_key_for_what_it_does_with_encrypted_things_and_for_nothing_else() -> None:
    using = 0
    for where, role in of_type("AWS::IAM::Role", GIVEN).items():
        does = {action for one in statements(role) for action in actions(one)}
        services = {service for action, service in TAKES_THE_KEY.items() if action in does}
        mine = [one for one in statements(role) if one["Resource"] == KEY]
        assert len(mine) == bool(services), where
        for statement in mine:
            using += 1
            via = statement["Condition"]["StringEquals"]["kms:ViaService"]
            assert set([via] if isinstance(via, str) else via) == {
                f"{service}.us-east-1.amazonaws.com" for service in services
            }, where
            assert statement["Condition"].keys() == {"StringEquals"}
            # Reading and receiving take Decrypt; writing and sending take GenerateDataKey, sending both.
            wanted = {"kms:Decrypt"} | {
                "kms:GenerateDataKey" for action in ("s3:PutObject", "sqs:SendMessage") if action in does
            }
            assert actions(statement) == wanted, where
    assert using == 11


def test_without_a_key_no_role_has_one() -> None:
    for where, role in of_type("AWS::IAM::Role", {}).items():
        assert not [one for one in statements(role) if "kms" in json.dumps(one["Action"])], where


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("KmsKeyArn", ["", KEY], ["alias/mine", KEY.replace("key/", "alias/"), "*"]),
        ("PermissionsBoundaryArn", ["", BOUNDARY, "arn:aws:iam::aws:policy/PowerUserAccess"], ["workloads"]),
        ("RolePath", ["", "/team/", "/a/b-c/"], ["/", "team", "/team", "//", "/a b/"]),
    ],
)
def test_what_can_be_given(name: str, good: list[str], bad: list[str]) -> None:
    declared = parts().root["Parameters"][name]
    assert declared["Default"] == ""
    for value in good:
        assert re.search(declared["AllowedPattern"], value), value
    for value in bad:
        assert not re.search(declared["AllowedPattern"], value), value


def test_the_key_s_policy_in_the_docs_is_for_whoever_uses_it_in_their_own_name() -> None:
    page = (ROOT / "docs/deploy.md").read_text()
    [text] = re.findall(r"```json\n(\[.*?\])\n```", page, re.DOTALL)
    policy = {one["Principal"]["Service"]: one for one in json.loads(text)}
    assert policy.keys() == {"logs.REGION.amazonaws.com", "events.amazonaws.com", "cloudwatch.amazonaws.com"}
    # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
    assert "Condition" not in policy["events.amazonaws.com"]
    [pattern] = policy["logs.REGION.amazonaws.com"]["Condition"]["ArnLike"].values()
    groups = {properties["LogGroupName"] for properties in of_type("AWS::Logs::LogGroup", GIVEN).values()}
    assert len(groups) > 6
    pattern = pattern.replace("STACK", "s")
    for group in groups:
        assert fnmatch.fnmatchcase(f"arn:aws:logs:REGION:ACCOUNT:log-group:{group}", pattern), group
    takers = {
        statement["Principal"]["Service"]
        for template in TEMPLATES.values()
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::SNS::TopicPolicy"
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
    }
    assert takers <= policy.keys()


def test_the_deployment_role_makes_such_roles_and_no_others() -> None:
    role = read_template((ROOT / "infra/deploy-role.yaml").read_text())
    [giving] = [
        one
        for one in role["Resources"]["Stacks"]["Properties"]["PolicyDocument"]["Statement"]
        if one["Sid"] == "GiveRolesRights"
    ]
    scope = Scope(
        pseudo_parameters("s")
        | parameter_values(role["Parameters"], {"PermissionsBoundaryArn": BOUNDARY, "RolePath": "/team/"}),
        conditions=role["Conditions"],
    )
    assert {"iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"} <= actions(giving)
    bounded = evaluate(giving, scope)
    assert bounded["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": BOUNDARY}}
    assert bounded["Resource"] == "arn:aws:iam::123456789012:role/team/layerdrop-*"
    free = Scope(
        pseudo_parameters("s") | parameter_values(role["Parameters"], {}), conditions=role["Conditions"]
    )
    assert "Condition" not in evaluate(giving, free)
    assert evaluate(giving, free)["Resource"] == "arn:aws:iam::123456789012:role/layerdrop-*"
