"""Who has no key of the embedded AWS gets nothing from it and does nothing to it, whatever they send."""

import http.client
import io
import json
import re
import socket
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.awslambda.models import lambda_backends
from moto.batch.models import batch_backends

from local.clients import Clients, isolated_session
from local.environment import child_environment
from local.keys import Key, Keyring, new_key
from local.server import EmbeddedAws
from local.settings import ACCOUNT_ID, REGION

from .signing import Signed, presign, sign

BUCKET, KEY, CONTENT = "guarded", "there.txt", b"what is there"
Send = Callable[..., Signed]


def now() -> datetime:
    """Asked when a test runs: the module may have been read long before."""
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        clients = running.clients
        clients.s3.create_bucket(Bucket=BUCKET)
        clients.s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as layer:
            layer.writestr("python/secret.py", "")
        for _ in range(2):
            clients.lambda_.publish_layer_version(LayerName="secret", Content={"ZipFile": content.getvalue()})
        clients.get("iam").create_role(RoleName="poor", AssumeRolePolicyDocument="{}")
        yield running


@pytest.fixture(scope="module")
def presigning(aws: EmbeddedAws) -> Any:
    session = isolated_session(aws.keys.owner)
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    return session.client("s3", endpoint_url=aws.endpoint, config=config)


@pytest.fixture
def reached(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the gate let through."""
    passed: list[str] = []
    behind = aws._gate._application

    def note(environ: Any, start_response: Any) -> Any:
        passed.append(f"{environ['REQUEST_METHOD']} {environ['RAW_URI']}")
        return behind(environ, start_response)

    monkeypatch.setattr(aws._gate, "_application", note)
    return passed


def put(aws: EmbeddedAws, **how: Any) -> Signed:
    return sign(aws.endpoint, how.pop("key", aws.keys.owner), "PUT", f"/{BUCKET}/new", body=b"new", **how)


def create_queue(aws: EmbeddedAws, **how: Any) -> Signed:
    headers = {"x-amz-target": "AmazonSQS.CreateQueue", "content-type": "application/x-amz-json-1.0"}
    body = b'{"QueueName": "new"}'
    return sign(aws.endpoint, aws.keys.owner, "POST", "/", service="sqs", headers=headers, body=body, **how)


def get(aws: EmbeddedAws, **how: Any) -> Signed:
    return presign(aws.endpoint, how.pop("key", aws.keys.owner), "GET", f"/{BUCKET}/{KEY}", **how)


def guess(aws: EmbeddedAws, key_id: str) -> Signed:
    """As requests were signed before there were keys: anything goes."""
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={key_id}/{now():%Y%m%d}/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
    )
    headers = {"authorization": authorization, "x-amz-date": f"{now():%Y%m%dT%H%M%SZ}"}
    return Signed(aws.endpoint, "PUT", "/new-bucket", headers)


ATTACKS: dict[str, tuple[Callable[[EmbeddedAws], Signed], str]] = {
    # Nobody's.
    "unsigned: make a bucket": (
        lambda aws: Signed(aws.endpoint, "PUT", "/new-bucket"), "MissingAuthenticationToken"),
    "unsigned: read an object": (
        lambda aws: Signed(aws.endpoint, "GET", f"/{BUCKET}/{KEY}"), "MissingAuthenticationToken"),
    "unsigned: a form for S3": (
        lambda aws: Signed(
            aws.endpoint, "POST", f"/{BUCKET}", {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\nnew\r\n--x--\r\n',
        ), "MissingAuthenticationToken"),
    "unsigned: make a user": (
        lambda aws: Signed(
            aws.endpoint, "POST", "/iam_us-east-1/", {"content-type": "application/x-www-form-urlencoded"},
            b"Action=CreateUser&UserName=new&Version=2010-05-08",
        ), "MissingAuthenticationToken"),
    "unsigned: take a role without a key": (
        lambda aws: Signed(
            aws.endpoint, "POST", "/", {"content-type": "application/x-www-form-urlencoded"},
            b"Action=AssumeRoleWithWebIdentity&RoleArn=arn:aws:iam::123456789012:role/poor&RoleSessionName=x"
            b"&WebIdentityToken=x",
        ), "MissingAuthenticationToken"),
    "unsigned: moto's own reset": (
        lambda aws: Signed(aws.endpoint, "POST", "/moto-api/reset"), "MissingAuthenticationToken"),
    "unsigned: moto's own data": (
        lambda aws: Signed(aws.endpoint, "GET", "/moto-api/data.json"), "MissingAuthenticationToken"),
    "unsigned: a machine's metadata": (
        lambda aws: Signed(aws.endpoint, "GET", "/latest/meta-data/iam/security-credentials/"),
        "MissingAuthenticationToken"),
    "unsigned: a layer's zip file": (
        lambda aws: Signed(aws.endpoint, "GET", "/_layers/secret/1"), "MissingAuthenticationToken"),
    # Somebody else's.
    "the key that once was everybody's": (lambda aws: guess(aws, "local"), "InvalidAccessKeyId"),
    "a role's name for a key": (lambda aws: guess(aws, "poor"), "InvalidAccessKeyId"),
    "the owner's id without the secret": (
        lambda aws: guess(aws, aws.keys.owner.id), "SignatureDoesNotMatch"),
    "the owner's id with another secret": (
        lambda aws: put(aws, key=Key(aws.keys.owner.id, new_key().secret)), "SignatureDoesNotMatch"),
    "the owner's id in small letters": (
        lambda aws: put(aws, key=Key(aws.keys.owner.id.lower(), aws.keys.owner.secret)),
        "InvalidAccessKeyId"),
    "the key of another run": (lambda aws: put(aws, key=new_key()), "InvalidAccessKeyId"),
    "an address presigned by another run": (lambda aws: get(aws, key=new_key()), "InvalidAccessKeyId"),
    "Signature Version 2": (
        lambda aws: Signed(
            aws.endpoint, "PUT", "/new-bucket",
            {"authorization": f"AWS {aws.keys.owner.id}:frJIUN8DYpKDtOLCwo//yllqDzg="},
        ), "AccessDenied"),
    "Signature Version 2 in the address": (
        lambda aws: Signed(
            aws.endpoint, "GET",
            f"/{BUCKET}/{KEY}?AWSAccessKeyId={aws.keys.owner.id}&Expires=2000000000&Signature=x",
        ), "AccessDenied"),
    "a second credential in the header": (
        lambda aws: (p := put(aws)).with_header(
            "authorization", p.headers["authorization"] + f", Credential=poor/{now():%Y%m%d}/us-east-1/s3/x"
        ), "AccessDenied"),
    # A request that was seen, and is sent with changes.
    "another body": (lambda aws: put(aws).but(body=b"NEW"), "XAmzContentSHA256Mismatch"),
    "another body, of another service": (
        lambda aws: create_queue(aws).but(body=b'{"QueueName": "NEW"}'), "SignatureDoesNotMatch"),
    "another body, and its hash": (
        lambda aws: put(aws).but(body=b"NEW").with_header(
            "x-amz-content-sha256", sign(aws.endpoint, new_key(), "PUT", "/", body=b"NEW").headers[
                "x-amz-content-sha256"]), "SignatureDoesNotMatch"),
    "another body, said to be unsigned": (
        lambda aws: put(aws).but(body=b"NEW").with_header("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        "SignatureDoesNotMatch"),
    "another path": (lambda aws: put(aws).but(target=f"/{BUCKET}/{KEY}"), "SignatureDoesNotMatch"),
    "the path encoded otherwise": (
        lambda aws: put(aws).but(target=f"/{BUCKET}/%6eew"), "SignatureDoesNotMatch"),
    "a query more": (lambda aws: put(aws).but(target=f"/{BUCKET}/new?acl"), "SignatureDoesNotMatch"),
    "another query": (
        lambda aws: sign(aws.endpoint, aws.keys.owner, "PUT", f"/{BUCKET}/new?tagging", body=b"").but(
            target=f"/{BUCKET}/new?acl"), "SignatureDoesNotMatch"),
    "another method": (
        lambda aws: sign(aws.endpoint, aws.keys.owner, "GET", f"/{BUCKET}/{KEY}").but(method="DELETE"),
        "SignatureDoesNotMatch"),
    "another operation": (
        lambda aws: create_queue(aws).with_header("x-amz-target", "AmazonSQS.ListQueues"),
        "SignatureDoesNotMatch"),
    "an operation that was not signed": (
        lambda aws: create_queue(aws, drop=("x-amz-target",)), "AccessDenied"),
    "a header that copies another object": (
        lambda aws: put(aws).with_header("x-amz-copy-source", f"/{BUCKET}/{KEY}"), "AccessDenied"),
    "a header that names another account": (
        lambda aws: put(aws).with_header("x-moto-account-id", "999999999999"), "AccessDenied"),
    "a host that was not signed": (lambda aws: put(aws, drop=("host",)), "AccessDenied"),
    "another scope": (
        lambda aws: (p := put(aws)).with_header(
            "authorization", p.headers["authorization"].replace("us-east-1/s3", "us-east-1/lambda")),
        "SignatureDoesNotMatch"),
    "a header that is signed, and gone": (
        lambda aws: put(aws, headers={"x-extra": "1"}).with_header("x-extra", None),
        "SignatureDoesNotMatch"),
    # Late, early, or for ever.
    "sixteen minutes old": (lambda aws: put(aws, when=now() - timedelta(minutes=16)), "RequestTimeTooSkewed"),
    "a year old": (lambda aws: put(aws, when=now() - timedelta(days=366)), "RequestTimeTooSkewed"),
    "sixteen minutes ahead": (
        lambda aws: put(aws, when=datetime.now(UTC) + timedelta(minutes=16)), "RequestTimeTooSkewed"),
    "old, with a new date": (
        lambda aws: put(aws, when=now() - timedelta(minutes=16)).with_header(
            "x-amz-date", f"{now():%Y%m%dT%H%M%SZ}"), "SignatureDoesNotMatch"),
    "a date of another day than the scope's": (lambda aws: put(aws, date="20200101"), "AccessDenied"),
    "no date": (lambda aws: put(aws).with_header("x-amz-date", None), "AccessDenied"),
    "an address that has expired": (
        lambda aws: get(aws, when=now() - timedelta(seconds=61), seconds=1), "AccessDenied"),
    "an address for longer than a week": (lambda aws: get(aws, seconds=604_801), "AccessDenied"),
    "an address that is not good yet": (
        lambda aws: get(aws, when=datetime.now(UTC) + timedelta(hours=1)), "RequestTimeTooSkewed"),
    "an address made good for longer": (
        lambda aws: (g := get(aws)).but(target=g.target.replace("Expires=60", "Expires=6000")),
        "SignatureDoesNotMatch"),
    "an address of another object": (
        lambda aws: (g := get(aws)).but(target=g.target.replace(KEY, "other")), "SignatureDoesNotMatch"),
    "an address to read, to delete": (lambda aws: get(aws).but(method="DELETE"), "SignatureDoesNotMatch"),
    "an address with a query more": (
        lambda aws: (g := get(aws)).but(target=g.target + "&acl="), "SignatureDoesNotMatch"),
    "an address of another service": (lambda aws: get(aws, service="lambda"), "AccessDenied"),
    "an address and a header": (
        lambda aws: sign(aws.endpoint, aws.keys.owner, "GET", get(aws).target),
        "AccessDenied",
    ),
    "another layer by an address of one": (
        lambda aws: presign(aws.endpoint, aws.keys.owner, "GET", "/_layers/secret/1").but(
            target=presign(aws.endpoint, aws.keys.owner, "GET", "/_layers/secret/1").target.replace(
                "/1?", "/2?")), "SignatureDoesNotMatch"),
    # What is not checked is not believed.
    "chunks that are signed each": (
        lambda aws: put(aws, payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), "NotImplemented"),
    "a word for a hash": (lambda aws: put(aws, payload="whatever"), "NotImplemented"),
    # By a name that a page can have.
    "another host (DNS rebinding)": (
        lambda aws: put(aws).with_header("host", "rebound.test"), "AccessDenied"),
    "a bucket for a host": (
        lambda aws: put(aws).with_header("host", f"{BUCKET}.localhost:{urlsplit(aws.endpoint).port}"),
        "AccessDenied"),
    "our host on another port": (lambda aws: put(aws).with_header("host", "127.0.0.1:1"), "AccessDenied"),
    "no host": (lambda aws: put(aws).with_header("host", ""), "AccessDenied"),
    "all addresses for a host": (
        lambda aws: put(aws).with_header("host", f"0.0.0.0:{urlsplit(aws.endpoint).port}"), "AccessDenied"),
    "signed, and sent by a page": (
        lambda aws: put(aws).with_header("origin", "https://evil.test"), "AccessDenied"),
    "signed, and sent by a page of no origin": (
        lambda aws: put(aws).with_header("origin", "null"), "AccessDenied"),
    "signed, and sent by a page of this host": (
        lambda aws: put(aws).with_header("origin", aws.endpoint), "AccessDenied"),
    "a link on a page": (lambda aws: get(aws).with_header("sec-fetch-site", "cross-site"), "AccessDenied"),
    "a link on a page of this machine": (
        lambda aws: get(aws).with_header("sec-fetch-site", "same-site"), "AccessDenied"),
    "a whole address for a path": (
        lambda aws: put(aws).but(target=f"{aws.endpoint}/{BUCKET}/new"), "InvalidURI"),
    "a fragment": (lambda aws: put(aws).but(target=f"/{BUCKET}/new#/{KEY}"), "InvalidURI"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.attack("a stranger calls the embedded AWS")
def test_it_is_refused_before_anything_is_done(aws: EmbeddedAws, reached: list[str], attack: str) -> None:
    make, code = ATTACKS[attack]
    status, told = make(aws).send()
    assert status in (400, 403, 501)
    [found] = re.findall(r'<Code>(.*?)</Code>|"__type": "(.*?)"', told)
    assert code in found
    assert reached == []
    assert aws.clients.s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
    assert aws.clients.s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == CONTENT


@pytest.mark.attack("a stranger calls the embedded AWS by two hosts in one request")
def test_two_hosts_are_none(aws: EmbeddedAws, reached: list[str]) -> None:
    good = urlsplit(aws.endpoint)
    for hosts in ((good.netloc, "rebound.test"), ("rebound.test", good.netloc)):
        with socket.create_connection((good.hostname, good.port)) as connection:
            lines = "".join(f"Host: {host}\r\n" for host in hosts)
            connection.sendall(f"GET / HTTP/1.1\r\n{lines}\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 403 ")
    assert reached == []


@pytest.mark.attack("a stranger sends half of what was signed")
def test_half_a_body_is_none(aws: EmbeddedAws, reached: list[str]) -> None:
    good = urlsplit(aws.endpoint)
    half = put(aws, payload="UNSIGNED-PAYLOAD").with_header("content-length", "1000")
    with socket.create_connection((good.hostname, good.port)) as connection:
        lines = "".join(f"{name}: {value}\r\n" for name, value in half.headers.items())
        connection.sendall(f"PUT {half.target} HTTP/1.1\r\n{lines}\r\nhalf".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert reached == []


def on_one_connection(aws: EmbeddedAws, *requests: bytes) -> list[int]:
    """Send requests one right behind the other; return the statuses until the connection is ended."""
    good = urlsplit(aws.endpoint)
    statuses = []
    with socket.create_connection((good.hostname, good.port)) as connection:
        connection.sendall(b"".join(requests))
        connection.shutdown(socket.SHUT_WR)
        file = connection.makefile("rb")
        while line := file.readline():
            statuses.append(int(line.split()[1]))
            headers = http.client.parse_headers(file)
            file.read(int(headers["content-length"]))
    return statuses


def raw(request: Signed, *more: str, body: bytes | None = None) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1", *more]
    if not more:
        lines.append(f"content-length: {len(request.body)}")
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (request.body if body is None else body)


@pytest.mark.attack("a stranger's request comes behind its owner's, on one connection")
def test_each_request_of_a_connection_is_checked(aws: EmbeddedAws, reached: list[str]) -> None:
    good = sign(aws.endpoint, aws.keys.owner, "GET", f"/{BUCKET}/{KEY}")
    unsigned = Signed(aws.endpoint, "PUT", "/new-bucket", {"host": urlsplit(aws.endpoint).netloc})
    assert on_one_connection(aws, raw(good), raw(good)) == [200, 200]
    reached.clear()
    assert on_one_connection(aws, raw(good), raw(unsigned), raw(good)) == [200, 403]
    assert reached == [f"GET /{BUCKET}/{KEY}"]


@pytest.mark.parametrize(
    "lengths",
    [("content-length: 3", "content-length: 3"), ("content-length: 3", "transfer-encoding: chunked")],
    ids=["told twice", "told in two ways"],
)
@pytest.mark.attack("a request hides another one behind its length")
def test_what_may_hide_another_request_ends_the_connection(
    aws: EmbeddedAws, reached: list[str], lengths: tuple[str, ...]
) -> None:
    body = b"3\r\nnew\r\n0\r\n\r\n" if "transfer-encoding" in lengths[1] else b"new"
    hidden = raw(sign(aws.endpoint, aws.keys.owner, "GET", f"/{BUCKET}/{KEY}"))
    try:
        assert on_one_connection(aws, raw(put(aws), *lengths, body=body), hidden) == [200]
        assert reached == [f"PUT /{BUCKET}/new"]
    finally:
        aws.clients.s3.delete_object(Bucket=BUCKET, Key="new")


@pytest.mark.attack("a header that was not signed passes for one that was, by an underscore")
def test_a_header_that_only_looks_like_one_is_none_either(aws: EmbeddedAws) -> None:
    # With underscores it would become the same variable of CGI's as the one with dashes.
    sneaked = put(aws).with_header("x_amz_copy_source", f"/{BUCKET}/{KEY}")
    try:
        assert sneaked.send()[0] == 200
        assert aws.clients.s3.get_object(Bucket=BUCKET, Key="new")["Body"].read() == b"new"
    finally:
        aws.clients.s3.delete_object(Bucket=BUCKET, Key="new")


@pytest.mark.attack("a role's key is taken for its owner's")
def test_a_role_is_what_its_key_says(aws: EmbeddedAws) -> None:
    poor = aws.keys.of_role("arn:aws:iam::123456789012:role/poor")
    for request in (
        sign(aws.endpoint, poor, "GET", f"/{BUCKET}/{KEY}"),
        sign(aws.endpoint, poor, "GET", "/_layers/secret/1"),
        presign(aws.endpoint, poor, "GET", f"/{BUCKET}/{KEY}"),
        presign(aws.endpoint, poor, "GET", "/_layers/secret/1"),
        sign(aws.endpoint, poor, "POST", "/moto-api/reset"),
        put(aws, key=poor),
    ):
        status, told = request.send()
        assert status == 403
        assert "role/poor is not authorized" in told


def test_a_role_that_is_gone_may_nothing(aws: EmbeddedAws) -> None:
    gone = aws.clients.of_role("arn:aws:iam::123456789012:role/never-made")
    with pytest.raises(ClientError, match="the role never-made"):
        gone.s3.list_objects_v2(Bucket=BUCKET)


@pytest.mark.attack("a function or a job reads its owner's key")
def test_what_is_started_for_a_role_has_its_key_alone(aws: EmbeddedAws) -> None:
    owner = aws.keys.owner
    environment = child_environment(aws.endpoint)
    assert "AWS_ACCESS_KEY_ID" not in environment
    assert owner.secret not in environment.values()
    assert owner.secret not in aws._workers._environment.values()
    assert owner.secret not in repr(owner)
    arn = "arn:aws:iam::123456789012:role/poor"
    assert aws.keys.of_role(arn) == aws.keys.of_role(arn) != owner
    assert Keyring(owner).of_role(arn) != aws.keys.of_role(arn)


def test_a_layers_address_is_good_for_a_while_and_for_it_alone(aws: EmbeddedAws) -> None:
    told = aws.clients.lambda_.get_layer_version(LayerName="secret", VersionNumber=1)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(told["Content"]["Location"]) as response:
        assert zipfile.ZipFile(io.BytesIO(response.read())).namelist() == ["python/secret.py"]
    assert "X-Amz-Expires=600" in told["Content"]["Location"]
    status, _ = presign(aws.endpoint, aws.keys.owner, "GET", "/_layers/secret/3").send()
    assert status == 404
    status, _ = presign(aws.endpoint, aws.keys.owner, "GET", "/_layers/secret").send()
    assert status == 404


# ---------------------------------------------------------------- and who has a key is served


@pytest.mark.parametrize("payload", [None, "UNSIGNED-PAYLOAD"], ids=["the body's hash", "unsigned"])
def test_what_others_sign_is_taken(aws: EmbeddedAws, payload: str | None) -> None:
    try:
        assert put(aws, payload=payload).send()[0] == 200
        assert put(aws, payload=payload, when=datetime.now(UTC) - timedelta(minutes=14)).send()[0] == 200
        assert aws.clients.s3.get_object(Bucket=BUCKET, Key="new")["Body"].read() == b"new"
    finally:
        aws.clients.s3.delete_object(Bucket=BUCKET, Key="new")
    assert create_queue(aws).send()[0] == 200
    assert get(aws).send() == (200, CONTENT.decode())


def test_chunks_with_a_checksum_behind_are_taken(aws: EmbeddedAws) -> None:
    body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
    headers = {
        "content-encoding": "aws-chunked", "x-amz-decoded-content-length": "5",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }  # fmt: skip
    payload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    target = f"/{BUCKET}/chunks"
    try:
        request = sign(
            aws.endpoint, aws.keys.owner, "PUT", target, body=body, headers=headers, payload=payload
        )
        assert request.send()[0] == 200
        assert aws.clients.s3.get_object(Bucket=BUCKET, Key="chunks")["Body"].read() == b"hello"
    finally:
        aws.clients.s3.delete_object(Bucket=BUCKET, Key="chunks")


def test_the_other_name_of_this_machine_is_one_too(aws: EmbeddedAws) -> None:
    clients = Clients(aws.endpoint.replace("127.0.0.1", "localhost"), aws.keys)
    try:
        assert clients.s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
    finally:
        clients.close()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=60).filter(
        lambda key: not set(key.split("/")) & {"", ".", ".."}
    ),
    metadata=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_-]{0,8}[a-z0-9]", fullmatch=True),
        st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True),
        max_size=3,
    ),
    body=st.binary(max_size=100),
)
def test_whatever_boto3_signs_is_taken(
    aws: EmbeddedAws, presigning: Any, key: str, metadata: dict[str, str], body: bytes
) -> None:
    s3 = aws.clients.s3
    s3.put_object(Bucket=BUCKET, Key=f"any/{key}", Metadata=metadata, Body=body)
    try:
        assert s3.get_object(Bucket=BUCKET, Key=f"any/{key}")["Body"].read() == body
        s3.list_objects_v2(Bucket=BUCKET, Prefix=f"any/{key}")
        address = presigning.generate_presigned_url(
            "get_object", Params={"Bucket": BUCKET, "Key": f"any/{key}"}
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(address) as response:
            assert response.read() == body
    finally:
        s3.delete_object(Bucket=BUCKET, Key=f"any/{key}")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_changed_is_refused(aws: EmbeddedAws, reached: list[str], data: st.DataObject) -> None:
    """One character anywhere: in the target, in a signed header, in the signature, or in the body."""
    reached.clear()
    good = sign(
        aws.endpoint, aws.keys.owner, "PUT", f"/{BUCKET}/new?x-id=PutObject&a=1%2F2", body=b"some body",
        headers={"x-amz-meta-a": "some text", "content-type": "text/plain"},
    )  # fmt: skip
    where = data.draw(st.sampled_from(["target", "body", *(name for name in good.headers if name != "host")]))
    text = {"target": good.target, "body": good.body.decode()}.get(where) or good.headers[where]
    at = data.draw(st.integers(1 if where == "target" else 0, len(text) - 1))
    letter = data.draw(st.sampled_from("abcxyz019-_.~").filter(lambda other: other != text[at]))
    changed = text[:at] + letter + text[at + 1 :]
    if where == "target":
        bad = good.but(target=changed)
    elif where == "body":
        bad = good.but(body=changed.encode())
    else:
        bad = good.with_header(where, changed)
    status, _ = bad.send()
    assert status in (400, 403, 501)
    assert reached == []


def test_nothing_was_made_by_all_this(aws: EmbeddedAws) -> None:
    assert [bucket["Name"] for bucket in aws.clients.s3.list_buckets()["Buckets"]] == [BUCKET]
    assert not list(lambda_backends[ACCOUNT_ID][REGION].list_functions())
    assert not batch_backends[ACCOUNT_ID][REGION]._jobs
    assert aws.clients.get("iam").list_users()["Users"] == []
    told = aws.clients.get("sqs").list_queues().get("QueueUrls", [])
    assert [url.rpartition("/")[2] for url in told] == ["new"]  # by its owner, above
    assert json.dumps(aws.clients.lambda_.list_functions()["Functions"]) == "[]"
