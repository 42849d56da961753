"""What the stack is made of, and what was made through it: looked at, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import boto3

    from stack.config import StackConfig

Result = TypeVar("Result")

# How template.yaml's description begins: a stack of that name may be somebody else's.
OURS = "Layerdrop"
CLAIMS = "claims/"
# Its resources, by their names in the template.
BUCKET, STATE_MACHINE = "Bucket", "BuildLayers"
QUEUES = ("UnansweredUploads", "UnansweredBuilds")
# https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-cli-command-reference-sam-deploy.html
_SAM_STACK = "aws-sam-cli-managed-default"
_ENDED = "DELETE_COMPLETE"
# Nor is what could not be made: a bucket whose name somebody had already is theirs.
_NOT_OURS = (_ENDED, "CREATE_FAILED", "IMPORT_FAILED")
# Somebody has deleted it by hand; that is no reason to keep the rest.
_GONE = (
    "StateMachineDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
    "NoSuchBucket",
    "QueueDoesNotExist",
)


class NoStackError(Exception):
    """There is no such stack, or none that can be worked on."""


class NeverDeployedError(NoStackError):
    """There is but its name: its first change set was not executed."""


@dataclass(frozen=True)
class Inventory:
    """A stack and what belongs to it.

    Attributes:
        name, stack_id, region, account: Which stack.
        protected: Whether CloudFormation refuses to delete it.
        bucket: The bucket with inputs, manifests and zips; None if there is none (yet).
        layers: Names of the layers that were planned through it, sorted.
        running: How many builds are under way.
        unanswered: How many messages wait in the dead-letter queues.
        uploads: Where sam keeps what it uploaded for the stack, as ``s3://`` URL; None if not known.
    """

    name: str
    stack_id: str
    region: str
    account: str
    protected: bool
    bucket: str | None
    layers: tuple[str, ...]
    running: int
    unanswered: int
    uploads: str | None


@dataclass(frozen=True)
class Place:
    """Where a stack keeps and does what: its bucket, and its state machine if there is one."""

    bucket: str
    state_machine: str | None


def find(session: boto3.Session, name: str) -> dict[str, Any]:
    """Return what CloudFormation says of the stack.

    Raises:
        NoStackError: There is none of that name, it was never deployed, or it is not Layerdrop's.
    """
    client = session.client("cloudformation")
    stack = described(client, name)
    if stack is None:
        account = session.client("sts").get_caller_identity()["Account"]
        raise NoStackError(f"There is no stack {name} in {client.meta.region_name} of account {account}.")
    if stack["StackStatus"] == "REVIEW_IN_PROGRESS":
        raise NeverDeployedError(f"The stack {name} was never deployed: its change set was not executed.")
    if not stack.get("Description", "").startswith(OURS):
        raise NoStackError(f"The stack {name} is there, but it is not one of Layerdrop's.")
    return stack


def take(session: boto3.Session, config: StackConfig) -> Inventory:
    """Look at the stack.

    Raises:
        NoStackError: There is none that can be deleted, or CloudFormation is at work on it.
    """
    stack = find(session, config.name)
    status = stack["StackStatus"]
    if status.endswith("_IN_PROGRESS"):
        raise NoStackError(
            f"CloudFormation is at work on the stack {config.name} ({status}): try again later."
        )
    client = session.client("cloudformation")
    made = _made(client, stack)
    bucket = made.get(BUCKET)
    _, _, _, region, account, _ = stack["StackId"].split(":", 5)
    return Inventory(
        name=config.name,
        stack_id=stack["StackId"],
        region=region,
        account=account,
        protected=stack.get("EnableTerminationProtection", False),
        bucket=bucket,
        layers=_if_there(_layers, session, bucket) or (),
        running=_if_there(_running, session, made.get(STATE_MACHINE)) or 0,
        unanswered=sum(_if_there(_waiting, session, made.get(queue)) or 0 for queue in QUEUES),
        uploads=uploads(client, config.s3_prefix),
    )


def place(session: boto3.Session, name: str) -> Place:
    """Return where the stack keeps and does what.

    Raises:
        NoStackError: There is no such stack, it is not Layerdrop's, or it has no bucket (yet).
    """
    made = _made(session.client("cloudformation"), find(session, name))
    if BUCKET not in made:
        raise NoStackError(f"The stack {name} has no bucket: run make deploy first.")
    return Place(made[BUCKET], made.get(STATE_MACHINE))


def made_bucket(session: boto3.Session, name: str) -> datetime | None:
    """Return when the stack made its bucket; None if it has changed it since, or has taken it over."""
    pages = session.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=name)
    for page in pages:
        for resource in page["StackResourceSummaries"]:
            if (resource["LogicalResourceId"], resource["ResourceStatus"]) == (BUCKET, "CREATE_COMPLETE"):
                made: datetime = resource["LastUpdatedTimestamp"]
                return made
    return None


def _made(client: Any, stack: dict[str, Any]) -> dict[str, str]:
    """The physical ids of the stack's resources, by their names in the template."""
    pages = client.get_paginator("list_stack_resources").paginate(StackName=stack["StackId"])
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
        if resource.get("PhysicalResourceId") and resource["ResourceStatus"] not in _NOT_OURS
    }


def described(client: Any, name: str) -> dict[str, Any] | None:
    """Return what CloudFormation says of a stack, or None if there is none of that name."""
    try:
        stacks: list[dict[str, Any]] = client.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":  # "… does not exist"
            return None
        raise
    return next((stack for stack in stacks if stack["StackStatus"] != _ENDED), None)


def _if_there(
    look: Callable[[boto3.Session, str], Result], session: boto3.Session, resource: str | None
) -> Result | None:
    try:
        return look(session, resource) if resource else None
    except ClientError as error:
        if error.response["Error"]["Code"] in _GONE:
            return None
        raise


def _layers(session: boto3.Session, bucket: str) -> tuple[str, ...]:
    # Each layer's name is claimed in the bucket before it is built. The pointers in Parameter Store would not
    # do: they are those of all stacks in the account.
    pages = session.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=CLAIMS)
    return tuple(sorted(PurePosixPath(o["Key"]).stem for page in pages for o in page.get("Contents", ())))


def _running(session: boto3.Session, machine: str) -> int:
    pages = session.client("stepfunctions").get_paginator("list_executions")
    listed = pages.paginate(stateMachineArn=machine, statusFilter="RUNNING")
    return sum(len(page["executions"]) for page in listed)


def _waiting(session: boto3.Session, queue: str) -> int:
    name = "ApproximateNumberOfMessages"
    told = session.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=[name])
    return int(told["Attributes"][name])


def uploads(client: Any, prefix: str) -> str | None:
    """Return where sam keeps what it uploaded below a prefix, as ``s3://`` URL; None if that is not known."""
    stack = described(client, _SAM_STACK)
    if stack is None or not prefix:
        return None
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}
    return f"s3://{outputs['SourceBucket']}/{prefix}/" if "SourceBucket" in outputs else None
