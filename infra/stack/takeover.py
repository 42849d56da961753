"""Taking over the bucket that an earlier stack has left: its layers' names, zips and manifests stay in use.

CloudFormation imports it into a stack that has nothing else yet; the deployment is then an update of that
stack. It cannot be done at once: an import takes no new resources, and the automatic one no names that are
worked out.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources-manually.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources-automatically.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError, WaiterError

from stack.inventory import BUCKET, CLAIMS, OURS, described
from stack.preflight import Finding, failures

if TYPE_CHECKING:
    import boto3

    from stack.preflight import Destination
    from stack.templates import Templates

_CHANGE_SET: Final = "take-over-the-bucket"
# As samconfig.toml has the stack tagged, its bucket included.
_TAG: Final = {"Key": "project", "Value": "layerdrop"}
_MAX_BYTES: Final = 64 * 1024
_PATIENCE: Final[Any] = {"Delay": 2, "MaxAttempts": 300}
_OTHER_NAME: Final = "Give another BucketName (parameter_overrides in samconfig.toml)."


class TakeoverError(Exception):
    """CloudFormation could not import the bucket; the message has its reason."""


@dataclass(frozen=True)
class Kept:
    """A bucket that an earlier stack has left.

    Attributes:
        bucket: Its name.
        layers: How many layers' names are claimed in it.
    """

    bucket: str
    layers: int


def look(session: boto3.Session, to: Destination, templates: Templates) -> Kept | Finding | None:
    """Look for the bucket that a new stack would make: None if it can, or if there is a stack already.

    Raises:
        botocore.exceptions.ClientError: The bucket may not be looked at.
    """
    stack = described(session.client("cloudformation"), to.name)
    if stack is not None and stack["StackStatus"] != "REVIEW_IN_PROGRESS":
        return None
    s3 = session.client("s3")
    bucket = templates.bucket(to.name, to.region, to.account, to.values)
    try:
        head = s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=to.account)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:  # nobody has it
            return None
        if status == 403:
            what = f"The bucket's name {bucket} is taken: by another account, or you may not look at it."
            return Finding(what, _OTHER_NAME, stops=True)
        raise
    if (region := head.get("BucketRegion", to.region)) != to.region:
        what = f"There is a bucket {bucket} already, in {region}; the stack is to be in {to.region}."
        return Finding(what, _OTHER_NAME, stops=True)
    claims = s3.list_objects_v2(Bucket=bucket, Prefix=CLAIMS).get("Contents", [])
    if not (_is_tagged(s3, bucket) or (claims and _is_claim(s3, bucket, claims[0]["Key"]))):
        what = f"There is a bucket {bucket} of yours already, and nothing tells that it was Layerdrop's."
        todo = (
            f"{_OTHER_NAME} If the stack shall have it all the same, give it the tag "
            f"{_TAG['Key']}={_TAG['Value']}."
        )
        return Finding(what, todo, stops=True)
    if _has_policy(s3, bucket):
        what = (
            f"The bucket {bucket}, which an earlier stack has left, has a policy that the stack did not make."
        )
        todo = (
            f"The stack makes its own. If nobody needs it: aws s3api delete-bucket-policy --bucket {bucket}"
        )
        return Finding(what, todo, stops=True)
    key, given = _key(s3, bucket), templates.parameter("KmsKeyArn", to.values)
    if key and key != given:
        what = (
            f"The bucket {bucket}, which an earlier stack has left, is under the key {key}; a stack with "
            f"{given or 'no key'} could not read what is in it."
        )
        return Finding(what, f'Give KmsKeyArn="{key}" (parameter_overrides in samconfig.toml).', stops=True)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=CLAIMS)
    return Kept(bucket, sum(page["KeyCount"] for page in pages))


def _is_tagged(s3: Any, bucket: str) -> bool:
    try:
        return _TAG in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchTagSet":
            return False
        raise


def _is_claim(s3: Any, bucket: str, key: str) -> bool:
    try:
        with s3.get_object(Bucket=bucket, Key=key)["Body"] as body:
            document = json.loads(body.read(_MAX_BYTES))
    except (ClientError, ValueError, RecursionError):  # may not be read, or is somebody else's
        return False
    return isinstance(document, dict) and str(document.get("schema")).startswith("layerdrop/claim/")


def _has_policy(s3: Any, bucket: str) -> bool:
    try:
        s3.get_bucket_policy(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchBucketPolicy":
            return False
        raise
    return True


def _key(s3: Any, bucket: str) -> str | None:
    """The customer's key that the bucket's objects are under, if there is one."""
    try:
        told = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ServerSideEncryptionConfigurationNotFoundError":
            return None
        raise
    by_default = told["Rules"][0].get("ApplyServerSideEncryptionByDefault", {})
    key: str | None = by_default.get("KMSMasterKeyID")
    return key


def take_over(session: boto3.Session, name: str, bucket: str) -> None:
    """Make a stack of the bucket alone; it and what is in it stay as they are.

    Raises:
        TakeoverError: CloudFormation refused; there is no stack then.
    """
    client = session.client("cloudformation")
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{OURS}: the bucket of an earlier stack, to which make deploy adds the rest",
        "Resources": {
            BUCKET: {
                "Type": "AWS::S3::Bucket",
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": {"BucketName": bucket},
            }
        },
    }
    change_set = client.create_change_set(
        StackName=name,
        ChangeSetName=_CHANGE_SET,
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(template),
        ResourcesToImport=[
            {
                "ResourceType": "AWS::S3::Bucket",
                "LogicalResourceId": BUCKET,
                "ResourceIdentifier": {"BucketName": bucket},
            }
        ],
    )
    try:
        client.get_waiter("change_set_create_complete").wait(
            ChangeSetName=change_set["Id"], WaiterConfig=_PATIENCE
        )
        client.execute_change_set(ChangeSetName=change_set["Id"])
        client.get_waiter("stack_import_complete").wait(
            StackName=change_set["StackId"], WaiterConfig=_PATIENCE
        )
    except (WaiterError, ClientError) as error:
        why = "; ".join(_reasons(client, change_set)) or str(error)
        # What there is of it would be in the way of the next try; the bucket is not deleted with it.
        client.delete_stack(StackName=change_set["StackId"])
        raise TakeoverError(f"The bucket {bucket} could not be taken over: {why}") from error


def _reasons(client: Any, change_set: Any) -> list[str]:
    told = client.describe_change_set(ChangeSetName=change_set["Id"])
    if told["Status"] == "FAILED":
        return [told.get("StatusReason", "")]
    return failures(client, change_set["StackId"])
