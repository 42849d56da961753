"""Deleting the stack: what is said before, the deletion itself, and how to remove what stays."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import WaiterError

from stack.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Iterator

    import boto3
    from mypy_boto3_s3.type_defs import NotificationConfigurationTypeDef

    from stack.inventory import Inventory

# A stack with Batch and a network takes five to ten minutes.
_LOOK_SECONDS: Final = 5
_LOOKS: Final = 720
_LAYERS_SHOWN: Final = 10
# By their names in the template.
_DEFINITIONS: Final = ("JobDefinition", "SourceJobDefinition")


class RemovalError(Exception):
    """CloudFormation could not delete the stack."""


def what_goes(inventory: Inventory) -> Iterator[str]:
    """Return the lines that say what the deletion takes away."""
    yield "functions, state machine, Batch queues, roles, alarms, dashboard, the topic and its subscriptions"
    yield "the network and the catalogue's address, if the stack made any"
    yield "all logs"
    yield "the repository with the builder's images; another deployment builds them again"
    if inventory.running:
        yield f"{_count(inventory.running, 'build')} under way, which will not be answered"
    if inventory.unanswered:
        yield f"{_count(inventory.unanswered, 'message')} in the dead-letter queues, not yet sent again"


def what_stays(inventory: Inventory) -> Iterator[str]:
    """Return the lines that say what the deletion leaves."""
    if inventory.bucket:
        yield f"the bucket {inventory.bucket}: requirements files, manifests, zips, build reports, catalogue"
    if inventory.layers:
        shown = ", ".join(inventory.layers[:_LAYERS_SHOWN])
        more = len(inventory.layers) - _LAYERS_SHOWN
        names = f"{shown} and {more} more" if more > 0 else shown
        yield f"the published versions of {_count(len(inventory.layers), 'layer')}: {names}"
        yield "their pointers in Parameter Store: /layerdrop/LAYER, and /layerdrop/LAYER/VERSION"
    if inventory.uploads:
        yield f"what sam uploaded: {inventory.uploads}"


def by_hand(inventory: Inventory, profile: str | None) -> Iterator[str]:
    """Return the commands that remove what stays, once nothing uses it any more."""
    settings = {"AWS_REGION": inventory.region, "AWS_DEFAULT_REGION": inventory.region}
    if profile:
        settings["AWS_PROFILE"] = profile
    yield "export " + " ".join(f"{name}={value}" for name, value in settings.items())
    if inventory.layers:
        yield f"for layer in {' '.join(inventory.layers)}; do"
        yield "  for version in $(aws lambda list-layer-versions --layer-name $layer --query 'LayerVersions[].Version' --output text); do"  # noqa: E501
        yield "    aws lambda delete-layer-version --layer-name $layer --version-number $version"
        yield "  done"
        # One that never had a version has no pointer, one that was not released none of its own.
        yield "  for parameter in /layerdrop/$layer $(aws ssm get-parameters-by-path --path /layerdrop/$layer --query 'Parameters[].Name' --output text); do"  # noqa: E501
        yield "    aws ssm delete-parameters --names $parameter"
        yield "  done"
        yield "done"
    if inventory.bucket:
        yield _emptied(inventory.bucket, "")
        yield f"aws s3 rb s3://{inventory.bucket}"
    if inventory.uploads:
        bucket, _, prefix = inventory.uploads.removeprefix("s3://").partition("/")
        yield _emptied(bucket, prefix)


def remove(session: boto3.Session, inventory: Inventory) -> None:
    """Delete the stack, and wait until it is gone.

    Raises:
        RemovalError: Something could not be deleted; the message has CloudFormation's reasons.
    """
    client = session.client("cloudformation")
    # By id: the name stops leading to it when it is gone.
    stack = inventory.stack_id
    if inventory.protected:
        client.update_termination_protection(StackName=stack, EnableTerminationProtection=False)
    client.delete_stack(StackName=stack)
    patience = {"Delay": _LOOK_SECONDS, "MaxAttempts": _LOOKS}
    try:
        client.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig=patience)
    except WaiterError as error:
        pages = client.get_paginator("describe_stack_events").paginate(StackName=stack)
        newest_first = (event for page in pages for event in page["StackEvents"])
        begun = (stack, "DELETE_IN_PROGRESS")
        of_this_try = takewhile(
            lambda event: (event["PhysicalResourceId"], event["ResourceStatus"]) != begun, newest_first
        )
        reasons = [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
            for event in of_this_try
            if event["ResourceStatus"] == "DELETE_FAILED" and event["PhysicalResourceId"] != stack
        ]
        raise RemovalError("\n".join(reasons) or str(error)) from error


def deregister(session: boto3.Session, inventory: Inventory) -> int:
    """Deregister what is left of the job definitions, and return how many revisions that were.

    Updates keep the earlier ones (template's ResourceRetentionPolicy), and the deletion of a stack knows the
    newest alone.

    Raises:
        botocore.exceptions.ClientError: They may not be looked at or deregistered.
    """
    count = 0
    batch = session.client("batch")
    names = Templates.read().names(inventory.name, inventory.region, inventory.account, {})
    pages = batch.get_paginator("describe_job_definitions")
    for name in {derived.name for derived in names if derived.resource in _DEFINITIONS}:
        for page in pages.paginate(jobDefinitionName=name, status="ACTIVE"):
            for revision in page["jobDefinitions"]:
                batch.deregister_job_definition(jobDefinition=revision["jobDefinitionArn"])
                count += 1
    return count


def sweep(session: boto3.Session, inventory: Inventory) -> int:
    """Delete the functions that were trying layers when the stack went, and return how many those were.

    They belong to no stack, and what would have deleted them within the hour is gone.

    Raises:
        botocore.exceptions.ClientError: They may not be looked at or deleted.
    """
    client = session.client("lambda")
    pages = client.get_paginator("list_functions").paginate()
    left = [
        function["FunctionName"]
        for page in pages
        for function in page["Functions"]
        # And none of a stack that is called as these functions begin.
        if re.fullmatch(rf"{re.escape(inventory.name)}-try-[0-9a-f]{{1,20}}", function["FunctionName"])
    ]
    for name in left:
        client.delete_function(FunctionName=name)
    return len(left)


def silence(session: boto3.Session, bucket: str) -> bool:
    """Take out of a bucket's notifications the functions that are gone; return whether there were any.

    A bucket that outlives its stack keeps its notification, and S3 refuses to change notifications as long as
    one leads to a function that is not there.

    Raises:
        botocore.exceptions.ClientError: It may not be looked at or changed.
    """
    s3, functions = session.client("s3"), session.client("lambda")
    told: dict[str, Any] = {**s3.get_bucket_notification_configuration(Bucket=bucket)}
    told.pop("ResponseMetadata", None)
    calls = told.pop("LambdaFunctionConfigurations", [])
    alive = [call for call in calls if _is_there(functions, call["LambdaFunctionArn"])]
    if len(alive) == len(calls):
        return False
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration=cast(
            "NotificationConfigurationTypeDef", told | {"LambdaFunctionConfigurations": alive}
        ),
        # Those of others are as they were, in whatever state their destinations are.
        SkipDestinationValidation=True,
    )
    return True


def _is_there(functions: Any, arn: str) -> bool:
    try:
        functions.get_function_configuration(FunctionName=arn)
    except functions.exceptions.ResourceNotFoundException:
        return False
    return True


def _emptied(bucket: str, prefix: str) -> str:
    """A command that deletes all versions of objects: aws s3 rm leaves the earlier ones."""
    which = f'filter(Prefix="{prefix}").delete()' if prefix else "delete()"
    code = f'import boto3; boto3.resource("s3").Bucket("{bucket}").object_versions.{which}'
    return f".venv/bin/python -c '{code}'"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
