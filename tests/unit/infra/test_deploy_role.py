"""The deployment role against what the handlers of the stack's resource types say that they call.

CloudFormation's schemas list the permissions of each type's create, read, update and delete handlers, which
cfn-lint brings along. What the role leaves out belongs to properties that the templates do not use. That the
actions are ones that IAM knows is cfn-lint's W3037.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from botocore.loaders import Loader
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from local.translate import read_template
from tests.unit.infra.templates import ROOT
from tests.whole import parts

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: dict[str, Any] = read_template((ROOT / "infra/deploy-role.yaml").read_text())
POLICIES = {
    name: resource["Properties"]["PolicyDocument"]
    for name, resource in SOURCE["Resources"].items()
    if resource["Type"] == "AWS::IAM::ManagedPolicy"
}
# What a handler calls only for a property that no template of ours has, by type and property.
UNUSED: dict[tuple[str, str], set[str]] = {
    ("AWS::CloudFormation::Stack", "NotificationARNs"): {"iam:PassRole"},
    ("AWS::EC2::SecurityGroup", "SecurityGroupIngress"): {
        "ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress",
        "ec2:UpdateSecurityGroupRuleDescriptionsIngress",
    },
    ("AWS::EC2::Subnet", "Ipv6CidrBlock"): {
        "ec2:AssociateSubnetCidrBlock", "ec2:DisassociateSubnetCidrBlock",
    },
    ("AWS::EC2::VPC", "InstanceTenancy"): {"ec2:ModifyVpcTenancy"},
    ("AWS::EC2::VPCEndpoint", "ServiceNetworkArn"): {
        "vpc-lattice:CreateServiceNetworkVpcEndpointAssociation",
        "vpc-lattice:DescribeServiceNetworkVpcEndpointAssociation",
    },
    ("AWS::EC2::VPCEndpoint", "ServiceRegion"): {"vpce:AllowMultiRegion"},
    ("AWS::EC2::VPCGatewayAttachment", "VpnGatewayId"): {
        "ec2:AttachVpnGateway", "ec2:DescribeVpnGateways", "ec2:DetachVpnGateway",
    },
    ("AWS::ECR::Repository", "RepositoryPolicyText"): {
        "ecr:SetRepositoryPolicy", "ecr:DeleteRepositoryPolicy",
    },
    ("AWS::Events::Rule", "RoleArn"): {"iam:PassRole"},
    ("AWS::IAM::Role", "Description"): {"iam:UpdateRoleDescription"},
    ("AWS::IAM::Role", "ManagedPolicyArns"): {"iam:AttachRolePolicy", "iam:DetachRolePolicy"},
    ("AWS::IAM::Role", "MaxSessionDuration"): {"iam:UpdateRole"},
    ("AWS::Lambda::EventSourceMapping", "KmsKeyArn"): {
        "kms:DescribeKey", "kms:GenerateDataKey", "kms:Decrypt",
    },
    ("AWS::Lambda::Function", "CapacityProviderConfig"): {"lambda:PassCapacityProvider"},
    ("AWS::Lambda::Function", "CodeSigningConfigArn"): {
        "lambda:PutFunctionCodeSigningConfig", "lambda:DeleteFunctionCodeSigningConfig",
    },
    ("AWS::Lambda::Function", "FileSystemConfigs"): {
        "elasticfilesystem:DescribeMountTargets", "s3files:ListMountTargets",
    },
    ("AWS::Lambda::Function", "FunctionScalingConfig"): {"lambda:PutFunctionScalingConfig"},
    ("AWS::Lambda::Function", "KmsKeyArn"): {
        "kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey",
    },
    ("AWS::Lambda::Function", "PublishToLatestPublished"): {"lambda:PublishVersion"},
    ("AWS::Lambda::Function", "RecursiveLoop"): {"lambda:PutFunctionRecursionConfig"},
    ("AWS::Lambda::Function", "ReservedConcurrentExecutions"): {
        "lambda:PutFunctionConcurrency", "lambda:DeleteFunctionConcurrency",
    },
    ("AWS::Lambda::Function", "RuntimeManagementConfig"): {
        "lambda:PutRuntimeManagementConfig", "lambda:AssociateRuntimeAlias",
    },
    ("AWS::Logs::LogGroup", "BearerTokenAuthenticationEnabled"): {"logs:PutBearerTokenAuthentication"},
    ("AWS::Logs::LogGroup", "DataProtectionPolicy"): {
        "logs:PutDataProtectionPolicy", "logs:DeleteDataProtectionPolicy", "logs:CreateLogDelivery",
        "firehose:TagDeliveryStream", "s3:REST.PUT.OBJECT",
    },
    ("AWS::Logs::LogGroup", "DeletionProtectionEnabled"): {"logs:PutLogGroupDeletionProtection"},
    ("AWS::Logs::LogGroup", "FieldIndexPolicies"): {"logs:PutIndexPolicy", "logs:DeleteIndexPolicy"},
    ("AWS::Logs::LogGroup", "ResourcePolicyDocument"): {
        "logs:PutResourcePolicy", "logs:DeleteResourcePolicy", "logs:DescribeResourcePolicies",
    },
    ("AWS::S3::Bucket", "AbacStatus"): {"s3:PutBucketAbac"},
    ("AWS::S3::Bucket", "AccelerateConfiguration"): {"s3:PutAccelerateConfiguration"},
    ("AWS::S3::Bucket", "AccessControl"): {"s3:PutBucketAcl", "s3:PutObjectAcl"},
    ("AWS::S3::Bucket", "AnalyticsConfigurations"): {
        "s3:PutAnalyticsConfiguration", "s3:DeleteBucketAnalyticsConfiguration",
    },
    ("AWS::S3::Bucket", "CorsConfiguration"): {"s3:PutBucketCORS", "s3:DeleteBucketCors"},
    ("AWS::S3::Bucket", "IntelligentTieringConfigurations"): {"s3:PutIntelligentTieringConfiguration"},
    ("AWS::S3::Bucket", "InventoryConfigurations"): {"s3:PutInventoryConfiguration"},
    ("AWS::S3::Bucket", "LoggingConfiguration"): {"s3:PutBucketLogging"},
    ("AWS::S3::Bucket", "MetricsConfigurations"): {
        "s3:PutMetricsConfiguration", "s3:DeleteBucketMetricsConfiguration",
    },
    ("AWS::S3::Bucket", "ObjectLockConfiguration"): {
        "s3:PutBucketObjectLockConfiguration", "s3:PutObjectLockConfiguration",
    },
    ("AWS::S3::Bucket", "ReplicationConfiguration"): {
        "s3:PutReplicationConfiguration", "s3:PutBucketReplication", "s3:DeleteBucketReplication",
        "s3:DeleteObject", "iam:PassRole",
    },
    ("AWS::S3::Bucket", "WebsiteConfiguration"): {"s3:PutBucketWebsite", "s3:DeleteBucketWebsite"},
    ("AWS::SNS::Topic", "DataProtectionPolicy"): {"sns:PutDataProtectionPolicy"},
    ("AWS::SNS::Topic", "DeliveryStatusLogging"): {"iam:GetRole", "iam:PassRole"},
    ("AWS::StepFunctions::StateMachine", "EncryptionConfiguration"): {
        "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey",
    },
}  # fmt: skip
# The same for what is no property of its own: used when a value says so, and ours do not.
ELSEWHERE: dict[str, tuple[str, set[str]]] = {
    "AWS::Batch::ComputeEnvironment": ("for EKS and launch templates; ours are Fargate's", {
        "ec2:DescribeLaunchTemplateVersions", "eks:AssociateAccessPolicy", "eks:CreateAccessEntry",
        "eks:DeleteAccessEntry", "eks:DescribeAccessEntry", "eks:DescribeCluster",
        "eks:ListAssociatedAccessPolicies", "iam:PassRole",
    }),
    "AWS::CloudFormation::Stack": ("for stack policies, which sam does not set", {
        "cloudformation:SetStackPolicy", "cloudformation:GetStackPolicy",
    }),
    # So whoever has this role could make its roles any roles.
    "AWS::IAM::Role": ("for taking a boundary away", {"iam:DeleteRolePermissionsBoundary"}),
    "AWS::CloudFront::Distribution": ("for tenants, VPC origins, staging; one is unknown to IAM", {
        "cloudfront:CreateConnectionGroup", "cloudfront:GetConnectionGroup", "cloudfront:GetVpcOrigin",
        "cloudfront:UpdateDistributionWithStagingConfig", "cloudfront:CreateDistributionWithTags",
    }),
    "AWS::EC2::VPC": ("for encryption controls", {"ec2:CreateVpcEncryptionControl"}),
    "AWS::S3::Bucket": ("for metadata tables, taking settings away; one is unknown to IAM", {
        "s3:DeleteBucketTagging",
        "s3:CreateBucketMetadataTableConfiguration", "s3:DeleteBucketMetadataTableConfiguration",
        "s3:UpdateBucketMetadataAnnotationTableConfiguration",
        "s3:UpdateBucketMetadataInventoryTableConfiguration",
        "s3:UpdateBucketMetadataJournalTableConfiguration", "s3tables:CreateNamespace",
        "s3tables:CreateTable", "s3tables:CreateTableBucket", "s3tables:GetTable",
        "s3tables:GetTableMetadataLocation", "s3tables:PutTableBucketPolicy", "s3tables:PutTableEncryption",
        "s3tables:PutTablePolicy", "s3tables:UpdateTableMetadataLocation", "s3:DeleteBucketEncryption",
        "s3:DeleteBucketLifecycle",
    }),
}  # fmt: skip
# What the role has beyond the handlers' lists, and who calls it.
BEYOND: dict[str, str] = {
    **dict.fromkeys(
        (
            "cloudformation:CreateChangeSet", "cloudformation:DescribeChangeSet",
            "cloudformation:ExecuteChangeSet", "cloudformation:DescribeStackEvents",
            "cloudformation:GetTemplateSummary", "s3:PutObject",
        ),
        "sam deploy: samcli/lib/deploy/deployer.py and lib/package/s3_uploader.py",
    ),
    "cloudformation:ListStackResources": "infra/stack/inventory.py",
    "states:ListExecutions": "infra/stack/inventory.py",
    "servicequotas:ListServiceQuotas": "infra/stack/preflight.py",
    "lambda:GetFunctionConfiguration": "infra/stack/removal.py",
    "lambda:ListFunctions": "infra/stack/removal.py",
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-custom-resources-lambda.html
    "lambda:InvokeFunction": "CloudFormation, for Custom::ContainerImage",
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-getavailabilityzones.html
    "ec2:DescribeAvailabilityZones": "Fn::GetAZs in infra/network.yaml",
    # A type of CloudFormation's first days, whose schema lists no permissions.
    **dict.fromkeys(
        (
            "codebuild:CreateProject", "codebuild:UpdateProject", "codebuild:DeleteProject",
            "codebuild:BatchGetProjects",
        ),
        "AWS::CodeBuild::Project",
    ),
}  # fmt: skip
# By listing a type's resources CloudFormation finds strays; no deployment does.
HANDLERS = ("create", "read", "update", "delete")


def used() -> dict[str, set[str]]:
    """The properties that the templates give, by type."""
    found: dict[str, set[str]] = defaultdict(set)
    for template in (parts().root, *parts().nested.values()):
        for resource in template["Resources"].values():
            found[resource["Type"]] |= set(resource.get("Properties", {}))
    return found


USED = used()


def schema_of(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    return schema


def listed(kind: str) -> set[str]:
    """What a type's schema lists, in lower case: it is not of one mind with itself, and IAM does not care."""
    schema = schema_of(kind)
    handlers = schema.get("handlers") or {}
    found = {action for name in HANDLERS for action in handlers.get(name, {}).get("permissions", ())}
    return {action.lower() for action in found | set(schema.get("tagging", {}).get("permissions", ()))}


def lower(actions: set[str]) -> set[str]:
    return {action.lower() for action in actions}


def needed_by(kind: str) -> set[str]:
    """What the role must have for a type as the templates use it."""
    left_out = {
        a
        for (of, prop), actions in UNUSED.items()
        if of == kind and prop not in USED[kind]
        for a in lower(actions)
    }
    return listed(kind) - left_out - lower(ELSEWHERE.get(kind, ("", set()))[1])


def statements() -> Iterator[dict[str, Any]]:
    for document in POLICIES.values():
        for statement in document["Statement"]:
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def actions_of(statement: dict[str, Any]) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


ALLOWED = {action.lower() for statement in statements() for action in actions_of(statement)}
TYPES = sorted(kind for kind in USED if not kind.startswith("Custom::"))


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_s_handlers_may_do_what_they_do(kind: str) -> None:
    assert listed(kind) or kind == "AWS::CodeBuild::Project"
    assert needed_by(kind) - ALLOWED == set()


def test_nothing_is_allowed_that_nobody_needs() -> None:
    needed = {action for kind in TYPES for action in needed_by(kind)}
    assert ALLOWED - needed - {action.lower() for action in BEYOND} == set()
    assert {action for action in BEYOND if action.lower() in needed} == set(), "no exception any more"
    assert {action for action in BEYOND if action.lower() not in ALLOWED} == set()


@pytest.mark.parametrize("kind, prop", UNUSED)
def test_what_is_left_out_belongs_to_a_property_that_is_not_used(kind: str, prop: str) -> None:
    assert prop in schema_of(kind)["properties"]
    assert prop not in USED[kind], f"the role now needs {UNUSED[kind, prop]}"
    assert lower(UNUSED[kind, prop]) <= listed(kind)


def test_what_is_left_out_otherwise_is_listed() -> None:
    for kind, (_, actions) in ELSEWHERE.items():
        assert lower(actions) <= listed(kind), kind


def test_the_tool_s_own_calls_are_allowed() -> None:
    """make deploy and make delete, by the clients and methods in their source."""
    api = {
        "cloudformation": "cloudformation", "s3": "s3", "lambda": "lambda", "stepfunctions": "states",
        "sqs": "sqs", "iam": "iam", "service-quotas": "servicequotas",
    }  # fmt: skip
    operations = {
        method: f"{prefix}:{name}".lower()
        for service, prefix in api.items()
        for name in Loader().load_service_model(service, "service-2")["operations"]
        for method in [re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()]
    }
    # IAM's names for what S3's API calls otherwise:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
    renamed = {
        "s3:getbucketnotificationconfiguration": "s3:getbucketnotification",
        "s3:putbucketnotificationconfiguration": "s3:putbucketnotification",
        "s3:getbucketencryption": "s3:getencryptionconfiguration",
        "s3:listobjectsv2": "s3:listbucket",
        "s3:headbucket": "s3:listbucket",
    }
    called = set()
    for name in ("preflight", "takeover", "inventory", "removal", "__main__"):
        for node in ast.walk(ast.parse((ROOT / f"infra/stack/{name}.py").read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                words = [node.func.attr]
                if node.func.attr == "get_paginator" and isinstance(node.args[0], ast.Constant):
                    words.append(str(node.args[0].value))
                called |= {operations[word] for word in words if word in operations}
    called = {renamed.get(action, action) for action in called}
    assert {"cloudformation:describestacks", "iam:createservicelinkedrole", "s3:listbucket"} <= called
    assert called - ALLOWED == set()


def test_it_is_not_told_to_be_deployed_where_it_could_give_itself_rights() -> None:
    """It may change the roles of every stack that is called after the one it deploys."""
    deployed = SOURCE["Parameters"]["StackName"]["Default"]
    for page in ("deploy", "ci"):
        names = re.findall(
            r"infra/(?:deploy|ci)-role\.yaml --stack-name (\S+)", (ROOT / f"docs/{page}.md").read_text()
        )
        assert names
        assert not [name for name in names if name.startswith(f"{deployed}-")]


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_not_too_long(name: str) -> None:
    """6,144 characters less white space: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
    text = re.sub(r"\s", "", str(POLICIES[name]).replace("Fn::Sub", ""))
    # With the longest names instead of placeholders.
    text = text.replace("${StackName}", "s" * 40).replace("${AWS::Partition}", "aws-us-gov")
    text = text.replace("${AWS::AccountId}", "1" * 12).replace("${AWS::Region}", "ap-southeast-1")
    assert len(text) < 6144


def test_rights_are_given_by_name_and_mightier_ones_for_what_is_named_after_the_stack() -> None:
    for statement in statements():
        assert statement["Effect"] == "Allow"
        assert not [action for action in actions_of(statement) if "*" in action]
        resources = (
            statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        )
        if "*" in resources:
            assert {action.partition(":")[0] for action in actions_of(statement)} <= {
                "ec2", "batch", "chatbot", "cloudfront", "lambda", "logs", "servicequotas"
            }  # fmt: skip
        if {"iam:PutRolePolicy", "iam:PassRole"} & set(actions_of(statement)):
            assert [r["Fn::Sub"].endswith(":role${RolePath}${StackName}-*") for r in resources] == [True]


def test_roles_are_passed_to_those_who_take_them() -> None:
    """As the templates' own trust policies say."""
    takers = set()
    for template in (parts().root, *parts().nested.values()):
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::IAM::Role":
                for statement in resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]:
                    takers.add(statement["Principal"]["Service"])
    [passing] = [s for s in statements() if actions_of(s) == ["iam:PassRole"]]
    assert set(passing["Condition"]["StringEquals"]["iam:PassedToService"]) == takers
