"""Roles are enforced: what AWS would refuse is refused here."""

import base64
import hashlib
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


def test_a_bucket_s_denial_binds_every_role(aws: EmbeddedAws, as_role: Callable[..., Clients]) -> None:
    """As AWS says it: Amazon S3 User Guide, "Enforce conditional writes on Amazon S3 buckets"."""
    name = "created-once"
    aws.clients.s3.create_bucket(Bucket=name)
    deny = {
        "Sid": "CreateButNeverReplace",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{name}/builds/*",
        "Condition": {"Null": {"s3:if-none-match": "true"}},
    }
    tls = {
        **deny,
        "Sid": "TlsOnly",
        "Action": "s3:*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [tls, deny]})
    aws.clients.s3.put_bucket_policy(Bucket=name, Policy=policy)
    s3 = as_role(("s3:*", "*")).s3
    place = {"Bucket": name, "Key": "builds/x"}
    assert refusal(s3.put_object, **place, Body=b"") == ("AccessDenied", 403)
    assert refusal(s3.put_object, **place, Body=b"", IfMatch="x") == ("AccessDenied", 403)
    assert refusal(s3.create_multipart_upload, **place) == ("AccessDenied", 403)
    s3.put_object(**place, Body=b"first", IfNoneMatch="*")
    assert refusal(s3.put_object, **place, Body=b"second", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refusal(s3.copy_object, **place, CopySource=f"{BUCKET}/in/there") == ("AccessDenied", 403)
    assert s3.get_object(**place)["Body"].read() == b"first"
    s3.put_object(Bucket=name, Key="elsewhere", Body=b"")


def test_a_copy_takes_reading_its_source_and_writing_its_place(
    aws: EmbeddedAws, as_role: Callable[..., Clients]
) -> None:
    source, place = f"arn:aws:s3:::{BUCKET}/in/*", {"Bucket": BUCKET, "Key": "copies/there"}
    copies = f"arn:aws:s3:::{BUCKET}/copies/*"
    given = {**place, "CopySource": f"{BUCKET}/in/there"}
    assert refusal(as_role(("s3:GetObject", source)).s3.copy_object, **given) == ("AccessDenied", 403)
    assert refusal(as_role(("s3:PutObject", copies)).s3.copy_object, **given) == ("AccessDenied", 403)
    may = as_role(("s3:GetObject", source), ("s3:PutObject", copies)).s3
    may.copy_object(**given)
    assert aws.clients.s3.get_object(**place)["Body"].read() == b"x"
    # By its version, it takes another permission.
    version = {**given, "CopySource": {"Bucket": BUCKET, "Key": "in/there", "VersionId": "null"}}
    assert refusal(may.copy_object, **version) == ("AccessDenied", 403)


def test_s3_compares_the_checksum_that_an_upload_claims(aws: EmbeddedAws) -> None:
    place = {"Bucket": BUCKET, "Key": "checked", "Body": b"x"}
    right, wrong = (base64.b64encode(hashlib.sha256(data).digest()).decode() for data in (b"x", b"y"))
    assert refusal(aws.clients.s3.put_object, **place, ChecksumSHA256=wrong) == ("BadDigest", 400)
    aws.clients.s3.put_object(**place, ChecksumSHA256=right, ChecksumAlgorithm="SHA256")
    head = aws.clients.s3.head_object(Bucket=BUCKET, Key="checked", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == right


def test_a_layer_is_published_from_that_version_of_its_zip(aws: EmbeddedAws) -> None:
    name, clients = "versions", aws.clients
    clients.s3.create_bucket(Bucket=name)
    clients.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    zips = [b"PK\x05\x06" + bytes(18), b"PK\x05\x06" + bytes(16) + b"\x01\x00!"]
    put = [clients.s3.put_object(Bucket=name, Key="z", Body=data)["VersionId"] for data in zips]
    for version, data in zip(put, zips, strict=True):
        content = {"S3Bucket": name, "S3Key": "z", "S3ObjectVersion": version}
        made = clients.lambda_.publish_layer_version(LayerName="versions", Content=content)
        assert made["Content"]["CodeSha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
    gone = {"S3Bucket": name, "S3Key": "z", "S3ObjectVersion": "never"}
    assert refusal(clients.lambda_.publish_layer_version, LayerName="versions", Content=gone)[1] == 400
