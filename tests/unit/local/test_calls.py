"""Requests as botocore itself makes them, read back."""

from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.model import ListShape, MapShape, Shape, StructureShape

from local.calls import Call, Request, UnknownCallError, call_of
from local.permissions import TABLE, Permission, UnknownPermissionError, permissions_of

SERVICES = sorted({service for service, _ in TABLE})


def sample(shape: Shape, everything: bool = False) -> Any:
    """A value of a shape: what is required of a structure, or all of it."""
    if isinstance(shape, StructureShape):
        wanted = [name for name in shape.members if everything or name in shape.required_members]
        return {name: sample(shape.members[name]) for name in wanted}
    if isinstance(shape, ListShape):
        return [sample(shape.member)]
    if isinstance(shape, MapShape):
        return {"name": sample(shape.value)}
    if shape.type_name in ("integer", "long", "float", "double"):
        return 7
    return {"boolean": True, "blob": b"x", "timestamp": 0}.get(
        shape.type_name, (getattr(shape, "enum", None) or ["name"])[0]
    )


@cache
def client_of(service: str) -> Any:
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="a-role",
        aws_secret_access_key="secret",
        config=Config(parameter_validation=False, s3={"addressing_style": "path"}),
    )


class CaughtError(Exception):
    """Carries the request that would have been sent."""


def sent(service: str, operation: str, parameters: dict[str, Any]) -> Request:
    """The request that boto3 makes of a call."""
    client = client_of(service)

    def catch(request: AWSPreparedRequest, **_: Any) -> None:
        raise CaughtError(request)

    client.meta.events.register("before-send", catch, unique_id="catch")
    try:
        with pytest.raises(CaughtError) as caught:
            client._make_api_call(operation, parameters)
    finally:
        client.meta.events.unregister("before-send", unique_id="catch")
    return request_of(caught.value.args[0])


def request_of(prepared: AWSPreparedRequest) -> Request:
    url = urlsplit(prepared.url)
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in prepared.headers.items()
    }
    body = prepared.body if isinstance(prepared.body, bytes | str) else b""
    return Request(
        prepared.method,
        unquote(url.path),
        dict(parse_qsl(url.query, True)),
        headers,
        body.encode() if isinstance(body, str) else body,
    )


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_is_known_by_its_request(service: str) -> None:
    model = client_of(service).meta.service_model
    signing, wrong, asked = model.signing_name, [], 0
    for name in model.operation_names:
        if model.operation_model(name).deprecated:
            continue
        shape = model.operation_model(name).input_shape
        request = sent(service, name, sample(shape) if shape else {})
        if f"/{signing}/" not in request.headers["authorization"]:  # S3 Express and its like
            continue
        asked += 1
        found = call_of(request)
        if (found.service, found.operation) != (service, name):
            wrong.append((name, found))
    assert wrong == []
    assert asked > len(model.operation_names) * 0.9


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "wanted"),
    [
        (
            "s3",
            "GetObject",
            {"Bucket": "b", "Key": "a b/ü+%.txt"},
            {("s3:GetObject", "arn:aws:s3:::b/a b/ü+%.txt")},
        ),
        (
            "s3",
            "GetObject",
            {"Bucket": "b", "Key": "k", "VersionId": "v"},
            {("s3:GetObjectVersion", "arn:aws:s3:::b/k")},
        ),
        (
            "s3",
            "ListObjectVersions",
            {"Bucket": "b", "Prefix": "p"},
            {("s3:ListBucketVersions", "arn:aws:s3:::b")},
        ),
        (
            "lambda",
            "PublishLayerVersion",
            {"LayerName": "l", "Content": {"S3Bucket": "b", "S3Key": "k"}},
            {
                ("lambda:PublishLayerVersion", "arn:aws:lambda:us-east-1:123456789012:layer:l"),
                ("s3:GetObject", "arn:aws:s3:::b/k"),
            },
        ),
        (
            "lambda",
            "Invoke",
            {"FunctionName": "arn:aws:lambda:us-east-1:123456789012:function:f", "Payload": b"{}"},
            {("lambda:InvokeFunction", "arn:aws:lambda:us-east-1:123456789012:function:f")},
        ),
        (
            "batch",
            "SubmitJob",
            {"jobName": "j", "jobQueue": "q", "jobDefinition": "d:2"},
            {
                ("batch:SubmitJob", "arn:aws:batch:us-east-1:123456789012:job-queue/q"),
                ("batch:SubmitJob", "arn:aws:batch:us-east-1:123456789012:job-definition/d:2"),
            },
        ),
        (
            "ssm",
            "GetParameter",
            {"Name": "/layerdrop/web"},
            {("ssm:GetParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/layerdrop/web")},
        ),
        (
            "ssm",
            "DeleteParameter",
            {"Name": "/layerdrop/web/1"},
            {("ssm:DeleteParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/layerdrop/web/1")},
        ),
        (
            "sqs",
            "SendMessage",
            {"QueueUrl": "http://127.0.0.1:9/123456789012/q", "MessageBody": "x"},
            {("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:q")},
        ),
        (
            "sqs",
            "DeleteMessageBatch",
            {"QueueUrl": "http://127.0.0.1:9/123456789012/q", "Entries": [{"Id": "0", "ReceiptHandle": "r"}]},
            {("sqs:DeleteMessage", "arn:aws:sqs:us-east-1:123456789012:q")},
        ),
        (
            "ssm",
            "GetParametersByPath",
            {"Path": "/layerdrop/"},
            {("ssm:GetParametersByPath", "arn:aws:ssm:us-east-1:123456789012:parameter/layerdrop/")},
        ),
        (
            "ssm",
            "GetParameters",
            {"Names": ["/layerdrop/a", "/layerdrop/b"]},
            {
                ("ssm:GetParameters", "arn:aws:ssm:us-east-1:123456789012:parameter/layerdrop/a"),
                ("ssm:GetParameters", "arn:aws:ssm:us-east-1:123456789012:parameter/layerdrop/b"),
            },
        ),
    ],
)
def test_a_call_takes_these_permissions(
    service: str, operation: str, parameters: dict[str, Any], wanted: set[tuple[str, str]]
) -> None:
    found = permissions_of(call_of(sent(service, operation, parameters)))
    assert {(permission.action, permission.resource) for permission in found} == wanted


def test_what_an_event_says_of_itself_counts() -> None:
    entries = [{"Source": source, "DetailType": "End", "Detail": "{}"} for source in ("ours", "theirs")]
    found = permissions_of(call_of(sent("events", "PutEvents", {"Entries": entries})))
    assert [dict(permission.context)["events:source"] for permission in found] == ["ours", "theirs"]


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"x-amz-target": "AWSLambda.DeleteLayerVersion"}, {}),
        ({"content-type": "application/x-www-form-urlencoded; charset=utf-8"}, {}),
        ({}, {"Action": "DeleteLayerVersion"}),
    ],
)
def test_a_request_that_names_a_second_call_is_none(headers: dict[str, str], query: dict[str, str]) -> None:
    # moto would do what the header, the form or the query says, and not what the address does.
    asked = sent("lambda", "GetLayerVersion", {"LayerName": "l", "VersionNumber": 1})
    assert call_of(asked).operation == "GetLayerVersion"
    two = replace(asked, headers={**asked.headers, **headers}, query={**asked.query, **query})
    with pytest.raises(UnknownCallError, match="another call"):
        call_of(two)


def test_nothing_is_guessed() -> None:
    request = sent("s3", "GetObject", {"Bucket": "b", "Key": "k"})
    with pytest.raises(UnknownCallError):
        call_of(Request("GET", "/b/k", {}, {}))
    with pytest.raises(UnknownCallError):
        call_of(Request("BREW", "/b/k", {}, request.headers))
    with pytest.raises(UnknownPermissionError, match="s3:PutBucketPolicy"):
        permissions_of(Call("s3", "PutBucketPolicy", {"Bucket": "b"}))
    assert permissions_of(Call("s3", "HeadBucket", {"Bucket": "b"})) == [
        Permission("s3:ListBucket", "arn:aws:s3:::b")
    ]
