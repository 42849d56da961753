"""Roles are enforced: what AWS would refuse is refused here."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.clients import Clients
from local.server import EmbeddedAws

BUCKET = "guarded"


@pytest.fixture(scope="module")
def as_role(aws: EmbeddedAws) -> Callable[..., Clients]:
    """Makes a role with these statements, and returns clients that call as it."""
    iam, made = aws.clients.get("iam"), []
    aws.clients.s3.create_bucket(Bucket=BUCKET)
    aws.clients.s3.put_object(Bucket=BUCKET, Key="in/there", Body=b"x")

    def make(*statements: tuple[str, str], more: Mapping[str, Any] | None = None) -> Clients:
        name = f"guarded-{len(made)}"
        made.append(name)
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        if statements:
            document = {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": action, "Resource": resource, **(more or {})}
                    for action, resource in statements
                ],
            }
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(document))
        return aws.clients.of_role(arn)

    return make


def refusal(call: Callable[..., object], **parameters: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        call(**parameters)
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_a_role_without_policies_may_do_nothing(as_role: Callable[..., Clients]) -> None:
    clients = as_role()
    assert refusal(clients.s3.get_object, Bucket=BUCKET, Key="in/there") == ("AccessDenied", 403)
    assert refusal(clients.s3.put_object, Bucket=BUCKET, Key="in/x", Body=b"") == ("AccessDenied", 403)
    assert refusal(clients.ssm.get_parameter, Name="x")[0] == "AccessDeniedException"
    assert refusal(clients.lambda_.list_layer_versions, LayerName="x")[0] == "AccessDeniedException"
    # Nor what this emulator could not judge.
    assert refusal(clients.s3.get_bucket_policy, Bucket=BUCKET) == ("AccessDenied", 403)


def test_a_policy_that_cannot_be_judged_allows_nothing(as_role: Callable[..., Clients]) -> None:
    clients = as_role(("s3:*", "*"), more={"Condition": {"DateLessThan": {"aws:CurrentTime": "2100-01-01"}}})
    assert refusal(clients.s3.get_object, Bucket=BUCKET, Key="in/there") == ("AccessDenied", 403)


def test_a_role_may_do_what_its_policies_say(as_role: Callable[..., Clients]) -> None:
    s3 = as_role(("s3:GetObject", f"arn:aws:s3:::{BUCKET}/in/*")).s3
    assert s3.get_object(Bucket=BUCKET, Key="in/there")["Body"].read() == b"x"
    assert refusal(s3.get_object, Bucket=BUCKET, Key="out/there") == ("AccessDenied", 403)


def test_only_who_may_list_a_bucket_is_told_what_is_missing(as_role: Callable[..., Clients]) -> None:
    read = ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/*")
    blind, seeing = as_role(read).s3, as_role(read, ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}")).s3
    assert refusal(blind.get_object, Bucket=BUCKET, Key="in/missing") == ("AccessDenied", 403)
    assert refusal(blind.head_object, Bucket=BUCKET, Key="in/missing") == ("403", 403)
    assert refusal(seeing.get_object, Bucket=BUCKET, Key="in/missing") == ("NoSuchKey", 404)
    assert refusal(seeing.head_object, Bucket=BUCKET, Key="in/missing") == ("404", 404)


def test_publishing_a_layer_takes_reading_its_zip(as_role: Callable[..., Clients]) -> None:
    clients = as_role(("lambda:PublishLayerVersion", "*"))
    content = {"S3Bucket": BUCKET, "S3Key": "in/there"}
    refused = refusal(clients.lambda_.publish_layer_version, LayerName="guarded", Content=content)
    assert refused[0] == "AccessDeniedException"
