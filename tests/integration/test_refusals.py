"""What AWS refuses, the embedded AWS refuses."""

import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from botocore.exceptions import ClientError
from moto.awslambda.models import Layer
from moto.s3.models import FakeKey

from local.intrinsics import TemplateError
from local.results import fetch_layer
from local.server import EmbeddedAws

BUCKET = "refusals"


@pytest.fixture(scope="module", autouse=True)
def bucket(aws: EmbeddedAws) -> None:
    aws.clients.s3.create_bucket(Bucket=BUCKET)


def zip_file(size: int = 10, entries: int = 1) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as layer:
        for number in range(entries):
            layer.writestr(f"python/{number}.txt", b"\0" * size)
    return content.getvalue()


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as error:
        call()
    return error.value.response["Error"]["Code"]


def publish(aws: EmbeddedAws, content: bytes | None, name: str = "box", **more: object):
    key = f"{name}.zip"
    if content is not None:
        aws.clients.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    return aws.clients.lambda_.publish_layer_version(
        LayerName=name, Content={"S3Bucket": BUCKET, "S3Key": key}, **more
    )


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (None, {}),
        (b"", {}),
        (b"no zip file", {}),
        (zip_file(size=70_000_000, entries=4), {}),
        (zip_file(), {"CompatibleRuntimes": ["python4.0"]}),
    ],
    ids=["missing", "empty", "no zip", "too large", "bad runtime"],
)
def test_a_layer_that_lambda_refuses_is_not_published(aws: EmbeddedAws, content, more) -> None:
    name = f"refused-{abs(hash((content, str(more))))}"
    assert refusal(lambda: publish(aws, content, name, **more)) == "InvalidParameterValueException"
    assert aws.clients.lambda_.list_layer_versions(LayerName=name)["LayerVersions"] == []


def test_a_refused_layer_takes_no_number(aws: EmbeddedAws) -> None:
    assert publish(aws, zip_file(1), "numbered")["Version"] == 1
    refusal(lambda: publish(aws, b"no zip file", "numbered"))
    assert publish(aws, zip_file(2), "numbered")["Version"] == 2


def test_a_layer_is_served_as_it_was_published_whatever_becomes_of_its_source(aws: EmbeddedAws) -> None:
    arn = publish(aws, zip_file(1), "served")["LayerVersionArn"]
    publish(aws, zip_file(2), "served")
    aws.clients.s3.delete_object(Bucket=BUCKET, Key="served.zip")
    assert fetch_layer(arn, aws.clients) == zip_file(1)


def test_versions_published_at_once_have_numbers_of_their_own_and_are_listed_the_newest_first(
    aws: EmbeddedAws, linger
) -> None:
    linger(Layer)
    together = Barrier(12)

    def publish_one(size: int) -> int:
        together.wait()
        content = {"ZipFile": zip_file(size)}
        return aws.clients.lambda_.publish_layer_version(LayerName="many", Content=content)["Version"]

    with ThreadPoolExecutor(12) as threads:
        assert sorted(threads.map(publish_one, range(1, 13))) == list(range(1, 13))
    listed = aws.clients.lambda_.list_layer_versions(LayerName="many")["LayerVersions"]
    assert [version["Version"] for version in listed] == list(range(12, 0, -1))


def test_a_statement_id_is_taken_once(aws: EmbeddedAws) -> None:
    publish(aws, zip_file(), "shared")

    def share() -> object:
        return aws.clients.lambda_.add_layer_version_permission(
            LayerName="shared",
            VersionNumber=1,
            StatementId="one",
            Action="lambda:GetLayerVersion",
            Principal="111122223333",
        )

    share()
    assert refusal(share) == "ResourceConflictException"


def test_of_many_conditional_writes_one_succeeds(aws: EmbeddedAws, linger) -> None:
    linger(FakeKey)
    s3 = aws.clients.s3

    def race(body: str, **condition: str) -> list[str]:
        def write(number: int) -> str:
            try:
                s3.put_object(Bucket=BUCKET, Key="raced", Body=f"{body} {number}", **condition)
            except ClientError as error:
                return str(error.response["ResponseMetadata"]["HTTPStatusCode"])
            return "written"

        with ThreadPoolExecutor(16) as threads:
            return sorted(threads.map(write, range(32)))

    assert race("first", IfNoneMatch="*") == ["412"] * 31 + ["written"]
    etag = s3.head_object(Bucket=BUCKET, Key="raced")["ETag"]
    assert race("second", IfMatch=etag) == ["412"] * 31 + ["written"]


def test_a_property_that_is_not_deployed_is_an_error(aws: EmbeddedAws, project) -> None:
    template = project("""
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    Properties: {BucketName: accelerated, AccelerateConfiguration: {AccelerationStatus: Enabled}}
""")
    with pytest.raises(TemplateError, match=r"AWS::S3::Bucket\.AccelerateConfiguration"):
        aws.deploy(template, "accelerated")


NOTIFYING = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  BucketName: {Type: String}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]
  Function:
    Type: AWS::Serverless::Function
    Properties:
      {CodeUri: code/, Handler: a.handler, Runtime: python3.13, Role: !GetAtt Role.Arn}
  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      FunctionName: !Ref Function
      Action: lambda:InvokeFunction
      Principal: PRINCIPAL
      SourceArn: !Sub "arn:aws:s3:::${BucketName}"
  Bucket:
    Type: AWS::S3::Bucket
    DependsOn: Permission
    Properties:
      BucketName: !Ref BucketName
      NotificationConfiguration:
        LambdaConfigurations: [{Event: "s3:ObjectCreated:*", Function: !GetAtt Function.Arn}]
"""


@pytest.mark.parametrize(
    ("case", "change", "allowed"),
    [
        ("good", ("PRINCIPAL", "s3.amazonaws.com"), True),
        ("service", ("PRINCIPAL", "sns.amazonaws.com"), False),
        ("source", ("arn:aws:s3:::${BucketName}", "arn:aws:s3:::another"), False),
        ("order", ("DependsOn: Permission", "DependsOn: Function"), False),
    ],
)
def test_a_bucket_may_only_notify_a_function_that_lets_it(
    aws: EmbeddedAws, project, case: str, change: tuple[str, str], allowed: bool
) -> None:
    text = NOTIFYING.replace(*change).replace("PRINCIPAL", "s3.amazonaws.com")
    if case == "order":  # so that the bucket comes first
        text = text.replace("  Permission:\n", "  ZPermission:\n").replace(
            "Properties:\n      FunctionName", "DependsOn: Bucket\n    Properties:\n      FunctionName"
        )
    template = project(text, a="def handler(event, context): pass\n")

    def deploy() -> object:
        return aws.deploy(template, f"notify-{case}", {"BucketName": f"notify-{case}"})

    if allowed:
        assert deploy()
    else:
        with pytest.raises(TemplateError, match="S3 may not invoke"):
            deploy()
