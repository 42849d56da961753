"""A private index whose credentials are in Secrets Manager, through the real template."""

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from local.server import EmbeddedAws
from tests.unit.builder.wheel_maker import Index, make_wheel

from .conftest import Pipeline

BUCKET = "layerdrop-private"
PASSWORD = "correct horse/battery+staple"
ENCODED = base64.b64encode(f"builds:{PASSWORD}".encode()).decode()


@dataclass(frozen=True)
class Private(Pipeline):
    index: Index = field(kw_only=True)


def key(folder: str) -> str:
    return f"requirements/x86_64/{folder}/requirements.txt"


@pytest.fixture(scope="module")
def private(aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    folder = tmp_path_factory.mktemp("index")
    with Index(folder, login=f"builds:{PASSWORD}") as index:
        secret = aws.clients.get("secretsmanager").create_secret(
            Name="package-index", SecretString=json.dumps({"username": "builds", "password": PASSWORD})
        )
        parameters = {"BucketName": BUCKET, "IndexUrl": index.url, "IndexSecretArn": secret["ARN"]}
        parameters["OutboundPort"] = index.url.split(":")[2].partition("/")[0]
        yield Private(aws, aws.deploy(stack="private", parameters=parameters), BUCKET, index=index)


def make(folder: Path, name: str) -> None:
    """A wheel of content that no cache has."""
    make_wheel(folder, name, files={f"{name}.py": f"x = {uuid.uuid4().hex!r}\n"})


def everything(private: Private) -> Iterator[tuple[str, bytes]]:
    """All that anybody can read afterwards: objects, logs, executions, job definitions and jobs."""
    clients = private.aws.clients
    for page in clients.s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET):
        for item in page.get("Versions", []):
            stored = clients.s3.get_object(Bucket=BUCKET, Key=item["Key"], VersionId=item["VersionId"])
            yield item["Key"], stored["Body"].read() + json.dumps(stored["Metadata"]).encode()
    logs = clients.get("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        for event in logs.filter_log_events(logGroupName=group["logGroupName"])["events"]:
            yield group["logGroupName"], event["message"].encode()
    sfn = clients.stepfunctions
    for execution in sfn.list_executions(stateMachineArn=private.stack.outputs["StateMachine"])["executions"]:
        history = sfn.get_execution_history(executionArn=execution["executionArn"])
        yield execution["name"], json.dumps(history, default=str).encode()
    yield "definitions", json.dumps(clients.batch.describe_job_definitions(), default=str).encode()


def test_it_is_built_from_and_the_password_is_nowhere(private: Private) -> None:
    make(private.index.folder, "ours")
    manifest = private.build(key("ours"), "ours\n")
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    assert [package["name"] for package in manifest["layers"][0]["packages"]] == ["ours"]
    assert set(private.index.seen) == {f"Basic {ENCODED}"}

    private.index.login = "builds:changed since"
    try:
        refused = private.build(key("refused"), "ours\n")
    finally:
        private.index.login = f"builds:{PASSWORD}"
    assert refused["error"]["code"] == "INDEX_DENIED", refused["error"]

    found = list(everything(private))
    places = {place for place, _ in found}
    assert any(place.startswith("builds/") for place in places)
    assert any(place.startswith("/aws/batch/") for place in places)
    for place, content in found:
        for secret in (PASSWORD, ENCODED, json.dumps(PASSWORD)[1:-1], "correct%20horse"):
            assert secret.encode() not in content, place


def test_constraints_of_the_settings_block_reach_the_builder(private: Private) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(private.index.folder, "bounded", version)
    block = '# /// layer\n# constraints = ["bounded<2"]\n# ///\n'
    manifest = private.build(key("bounded"), f"{block}bounded\n")
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    assert manifest["layers"][0]["packages"][0]["version"] == "1.0"
