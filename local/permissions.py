"""Which permissions a call takes: IAM's names for what is done, and the ARNs of what it is done to.

The table has what Layerdrop's parts call, from AWS's Service Authorization Reference; most actions are called
like their API's operation: https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from local.calls import Call
from local.settings import ACCOUNT_ID, REGION


class UnknownPermissionError(Exception):
    """The table does not say what a call takes."""


@dataclass(frozen=True, order=True)
class Permission:
    """What someone must be allowed.

    Attributes:
        action: `service:Operation`, as IAM calls it.
        resource: An ARN; `*` for actions that know no resources.
        context: Condition keys, in lower case, and their values.
    """

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


def permissions_of(call: Call) -> list[Permission]:
    """Return what a call takes; all of it is needed.

    Raises:
        UnknownPermissionError: The table lacks the operation.
    """
    table = TABLE.get((call.service, call.operation))
    if table is None:
        raise UnknownPermissionError(f"{call.service}:{call.operation}")
    return list(table(call.parameters))


def told_of_missing(call: Call) -> Permission | None:
    """Return what it takes to be told that an object is missing; without it, S3 says that it is forbidden.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    if (call.service, call.operation) not in (("s3", "GetObject"), ("s3", "HeadObject")):
        return None
    return Permission("s3:ListBucket", f"arn:aws:s3:::{call.parameters['Bucket']}")


def _arn(service: str, kind: str, name: Any) -> str:
    # Most parameters take the name or the ARN.
    return (
        str(name) if str(name).startswith("arn:") else f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{kind}{name}"
    )


Given = Mapping[str, Any]
Permissions = Iterator[Permission]


def _object(given: Given) -> str:
    return f"arn:aws:s3:::{given['Bucket']}/{given['Key']}"


def _read_object(given: Given) -> Permissions:
    # Who names a version needs the one permission and not the other; HeadObject has none of its own:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    versioned = "VersionId" in given
    yield Permission("s3:GetObjectVersion" if versioned else "s3:GetObject", _object(given))


def _write_object(given: Given) -> Permissions:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
    headers = (("s3:if-match", "IfMatch"), ("s3:if-none-match", "IfNoneMatch"))
    context = tuple((key, given[name]) for key, name in headers if name in given)
    yield Permission("s3:PutObject", _object(given), context)


def _copy_object(given: Given) -> Permissions:
    source, _, query = given["CopySource"].partition("?")
    bucket, _, key = unquote(source).removeprefix("/").partition("/")
    version = {"VersionId": query} if query.startswith("versionId=") else {}
    yield from _read_object({"Bucket": bucket, "Key": key} | version)
    yield from _write_object(given)


def _delete_object(given: Given) -> Permissions:
    versioned = "VersionId" in given
    yield Permission("s3:DeleteObjectVersion" if versioned else "s3:DeleteObject", _object(given))


def _on_bucket(action: str) -> Callable[[Given], Permissions]:
    def permissions(given: Given) -> Permissions:
        yield Permission(action, f"arn:aws:s3:::{given['Bucket']}")

    return permissions


def _layer(given: Given) -> str:
    return _arn("lambda", "layer:", given["LayerName"])


def _on_layer(action: str) -> Callable[[Given], Permissions]:
    def permissions(given: Given) -> Permissions:
        version = f":{given['VersionNumber']}" if "VersionNumber" in given else ""
        yield Permission(action, f"{_layer(given)}{version}")

    return permissions


def _read_layer(given: Given) -> Permissions:
    # https://docs.aws.amazon.com/lambda/latest/api/API_GetLayerVersionByArn.html
    yield Permission("lambda:GetLayerVersion", str(given["Arn"]))


def _publish_layer(given: Given) -> Permissions:
    yield Permission("lambda:PublishLayerVersion", _layer(given))
    # Lambda fetches the zip in the name of whoever publishes it.
    content = given["Content"]
    if "S3Bucket" in content:
        place = {"Bucket": content["S3Bucket"], "Key": content["S3Key"]}
        version = {"VersionId": content["S3ObjectVersion"]} if "S3ObjectVersion" in content else {}
        yield from _read_object(place | version)


def _function(given: Given) -> str:
    return _arn("lambda", "function:", given["FunctionName"])


def _on_function(action: str) -> Callable[[Given], Permissions]:
    def permissions(given: Given) -> Permissions:
        yield Permission(action, _function(given))

    return permissions


def _create_function(given: Given) -> Permissions:
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html
    if "Role" not in given:
        raise UnknownPermissionError("lambda:CreateFunction with more than 1 MiB of code in the request")
    labels = given.get("Tags") or {}
    context = tuple((f"aws:requesttag/{name.lower()}", value) for name, value in labels.items())
    yield Permission("lambda:CreateFunction", _function(given), context)
    if labels:
        yield Permission("lambda:TagResource", _function(given), context)
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
    passed = (("iam:passedtoservice", "lambda.amazonaws.com"),)
    yield Permission("iam:PassRole", str(given["Role"]), passed)
    # https://docs.aws.amazon.com/lambda/latest/dg/permissions-user-layer.html
    for arn in given.get("Layers") or []:
        yield Permission("lambda:GetLayerVersion", str(arn))
    code = given.get("Code") or {}
    if "S3Bucket" in code:
        place = {"Bucket": code["S3Bucket"], "Key": code["S3Key"]}
        version = {"VersionId": code["S3ObjectVersion"]} if "S3ObjectVersion" in code else {}
        yield from _read_object(place | version)


def _list_tags(given: Given) -> Permissions:
    yield Permission("lambda:ListTags", str(given["Resource"]))


def _invoke(given: Given) -> Permissions:
    yield Permission("lambda:InvokeFunction", _function(given))


def _submit_job(given: Given) -> Permissions:
    # Both, and of the definition the very revision:
    # https://docs.aws.amazon.com/batch/latest/userguide/iam-example-restrict-job-submission.html
    yield Permission("batch:SubmitJob", _arn("batch", "job-queue/", given["jobQueue"]))
    yield Permission("batch:SubmitJob", _arn("batch", "job-definition/", given["jobDefinition"]))


def _put_events(given: Given) -> Permissions:
    for entry in given["Entries"]:
        bus = _arn("events", "event-bus/", entry.get("EventBusName", "default"))
        context = (("events:detail-type", entry["DetailType"]), ("events:source", entry["Source"]))
        yield Permission("events:PutEvents", bus, context)


def _parameter(given: Given) -> str:
    return _arn("ssm", "parameter/", str(given["Name"]).removeprefix("/"))


def _on_parameter(action: str) -> Callable[[Given], Permissions]:
    def permissions(given: Given) -> Permissions:
        yield Permission(action, _parameter(given))

    return permissions


def _get_parameters(given: Given) -> Permissions:
    for name in given["Names"]:
        yield Permission("ssm:GetParameters", _parameter({"Name": name}))


def _list_parameters(given: Given) -> Permissions:
    # Asked of the path as it is given, with a slash at its end or without, and of no parameter below it:
    # https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-access.html
    yield Permission("ssm:GetParametersByPath", _parameter({"Name": given["Path"]}))


def _put_parameter(given: Given) -> Permissions:
    # https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-policy-conditions.html
    overwrite = str(bool(given.get("Overwrite"))).lower()
    yield Permission("ssm:PutParameter", _parameter(given), (("ssm:overwrite", overwrite),))


def _on(action: str, service: str, kind: str, parameter: str) -> Callable[[Given], Permissions]:
    def permissions(given: Given) -> Permissions:
        yield Permission(action, _arn(service, kind, given[parameter]))

    return permissions


def _everywhere(action: str) -> Callable[[Given], Permissions]:
    return lambda _given: iter([Permission(action, "*")])


def _on_queue(action: str) -> Callable[[Given], Permissions]:
    def permissions(given: Given) -> Permissions:
        yield Permission(action, _arn("sqs", "", given["QueueUrl"].rpartition("/")[2]))

    return permissions


def _describe_stack(given: Given) -> Permissions:
    # A stack's ARN ends in an id that AWS gives it; policies name it by `stack/NAME/*`.
    name = str(given["StackName"])
    yield Permission(
        "cloudformation:DescribeStacks",
        name if name.startswith("arn:") else _arn("cloudformation", "stack/", f"{name}/id"),
    )


TABLE: Final[Mapping[tuple[str, str], Callable[[Given], Permissions]]] = {
    ("batch", "DescribeJobs"): _everywhere("batch:DescribeJobs"),
    ("batch", "SubmitJob"): _submit_job,
    ("batch", "TerminateJob"): _on("batch:TerminateJob", "batch", "job/", "jobId"),
    ("cloudformation", "DescribeStacks"): _describe_stack,
    ("events", "PutEvents"): _put_events,
    ("lambda", "AddLayerVersionPermission"): _on_layer("lambda:AddLayerVersionPermission"),
    ("lambda", "CreateFunction"): _create_function,
    ("lambda", "DeleteFunction"): _on_function("lambda:DeleteFunction"),
    ("lambda", "DeleteLayerVersion"): _on_layer("lambda:DeleteLayerVersion"),
    ("lambda", "GetFunction"): _on_function("lambda:GetFunction"),
    ("lambda", "GetFunctionConfiguration"): _on_function("lambda:GetFunctionConfiguration"),
    ("lambda", "GetLayerVersion"): _on_layer("lambda:GetLayerVersion"),
    ("lambda", "GetLayerVersionByArn"): _read_layer,
    ("lambda", "GetLayerVersionPolicy"): _on_layer("lambda:GetLayerVersionPolicy"),
    ("lambda", "Invoke"): _invoke,
    ("lambda", "ListFunctions"): _everywhere("lambda:ListFunctions"),
    ("lambda", "ListLayerVersions"): _on_layer("lambda:ListLayerVersions"),
    ("lambda", "ListTags"): _list_tags,
    ("lambda", "PublishLayerVersion"): _publish_layer,
    ("s3", "CompleteMultipartUpload"): _write_object,
    ("s3", "CopyObject"): _copy_object,
    ("s3", "CreateMultipartUpload"): _write_object,
    ("s3", "DeleteObject"): _delete_object,
    ("s3", "GetObject"): _read_object,
    ("s3", "HeadBucket"): _on_bucket("s3:ListBucket"),
    ("s3", "HeadObject"): _read_object,
    ("s3", "ListObjectVersions"): _on_bucket("s3:ListBucketVersions"),
    ("s3", "ListObjects"): _on_bucket("s3:ListBucket"),
    ("s3", "ListObjectsV2"): _on_bucket("s3:ListBucket"),
    ("s3", "PutObject"): _write_object,
    ("s3", "UploadPart"): _write_object,
    ("secretsmanager", "GetSecretValue"): _on(
        "secretsmanager:GetSecretValue", "secretsmanager", "secret:", "SecretId"
    ),
    ("sqs", "DeleteMessage"): _on_queue("sqs:DeleteMessage"),
    ("sqs", "DeleteMessageBatch"): _on_queue("sqs:DeleteMessage"),
    ("sqs", "GetQueueAttributes"): _on_queue("sqs:GetQueueAttributes"),
    ("sqs", "ReceiveMessage"): _on_queue("sqs:ReceiveMessage"),
    ("sqs", "SendMessage"): _on_queue("sqs:SendMessage"),
    ("ssm", "DeleteParameter"): _on_parameter("ssm:DeleteParameter"),
    ("ssm", "GetParameter"): _on_parameter("ssm:GetParameter"),
    ("ssm", "GetParameters"): _get_parameters,
    ("ssm", "GetParametersByPath"): _list_parameters,
    ("ssm", "PutParameter"): _put_parameter,
    ("stepfunctions", "DescribeExecution"): _on("states:DescribeExecution", "states", "", "executionArn"),
    ("stepfunctions", "GetExecutionHistory"): _on("states:GetExecutionHistory", "states", "", "executionArn"),
    ("stepfunctions", "ListExecutions"): _on("states:ListExecutions", "states", "", "stateMachineArn"),
    ("stepfunctions", "StartExecution"): _on("states:StartExecution", "states", "", "stateMachineArn"),
}
