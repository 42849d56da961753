"""What the functions' tests share: an account in memory, whose manifests must fit the schema."""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import json
import sys
import uuid
import zipfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import jsonschema
import pytest
from moto import mock_aws

from layerdrop.build_input import BuildInput, Execution
from layerdrop.target import Job, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient

ROOT = Path(__file__).parents[3]
BUCKET = "layerdrop-test"
EXECUTION = Execution(
    "arn:aws:states:us-east-1:123456789012:execution:layers:web-1", "web-1", "2026-11-20T10:00:00.000Z"
)
TARGET = Target(
    id="py313-arm64",
    architecture="arm64",
    runtime="python3.13",
    layer_name="web-py313-arm64",
    description=None,
    license=None,
    share_with=(),
    job=Job("n", "q", "d", ()),
    staging="builds/web-1/py313-arm64/secret/",
)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "POWERTOOLS_SERVICE_NAME": "layerdrop",
    "POWERTOOLS_METRICS_NAMESPACE": "Layerdrop",
    "BUCKET_NAME": BUCKET,
    "DEFAULT_RUNTIME": "python3.13",
    "ARM64_QUEUE_ARN": "arn:aws:batch:us-east-1:123456789012:job-queue/arm64",
    "ARM64_JOB_DEFINITION_ARN": "arn:aws:batch:us-east-1:123456789012:job-definition/arm64:1",
    "ARM64_SOURCE_JOB_DEFINITION_ARN": "arn:aws:batch:us-east-1:123456789012:job-definition/arm64-source:1",
    "X86_64_QUEUE_ARN": "arn:aws:batch:us-east-1:123456789012:job-queue/x86",
    "X86_64_JOB_DEFINITION_ARN": "arn:aws:batch:us-east-1:123456789012:job-definition/x86:1",
    "X86_64_SOURCE_JOB_DEFINITION_ARN": "",
    "BUILD_LOG_GROUP": "/aws/batch/layerdrop",
    "KEEP_VERSIONS": "0",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/layerdrop/WriteManifest",
    "START_LOG_GROUP": "/aws/lambda/layerdrop/StartBuild",
    "PLAN_LOG_GROUP": "/aws/lambda/layerdrop/PlanBuild",
    "PUBLISH_LOG_GROUP": "/aws/lambda/layerdrop/PublishLayer",
    "TRY_LOG_GROUP": "/aws/lambda/layerdrop/TryLayer",
    "RELEASE_LOG_GROUP": "/aws/lambda/layerdrop/ReleaseLayer",
    "TRY_LAYERS": "DISABLED",
    "RESOLVE_LAYERS": "DISABLED",
    "TRIAL_ROLE_ARN": "arn:aws:iam::123456789012:role/layerdrop-trial",
    "TRIAL_PREFIX": "layerdrop-try-",
    "PENDING_SECONDS": "120",
    "STACK_NAME": "layerdrop",
    "AWS_REGION": "us-east-1",
    "ACCOUNT_ID": "123456789012",
}


def _validator(path: Path) -> jsonschema.Draft202012Validator:
    schema = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


@pytest.fixture(scope="session")
def manifest_schema() -> jsonschema.Draft202012Validator:
    """Judges manifests."""
    return _validator(ROOT / "functions/layerdrop/schemas/manifest.schema.json")


@pytest.fixture(scope="session")
def report_schema() -> jsonschema.Draft202012Validator:
    """Judges reports, by the writer's own schema."""
    return _validator(ROOT / "container/layer_builder/schemas/report.schema.json")


@cache
def _session() -> boto3.Session:
    """A session for all tests, which reads AWS's descriptions once; moto has each test begin without one."""
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")


@cache
def _client(service: str) -> Any:
    """A client for all tests: making one takes longer than most tests, and it keeps nothing of a test."""
    return _session().client(service)  # type: ignore[call-overload]


class Account:
    """An account in memory, with the bucket in it."""

    def __init__(self) -> None:
        self.bucket = BUCKET
        self.s3: S3Client = _client("s3")
        self.lambda_: LambdaClient = _client("lambda")
        self.ssm: SSMClient = _client("ssm")
        self.step_functions: SFNClient = _client("stepfunctions")

    def upload(self, key: str, content: bytes, sequencer: str = "00A0") -> BuildInput:
        """Put a requirements file, as its event would tell it."""
        put = self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)
        return BuildInput(self.bucket, key, put["VersionId"], put["ETag"].strip('"'), sequencer, len(content))

    def put_json(self, key: str, document: object) -> None:
        """Put an object that holds JSON."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=json.dumps(document).encode())

    def json(self, key: str) -> Any:
        """Read an object that holds JSON."""
        return json.loads(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def manifests(self) -> list[Any]:
        """Every version of every manifest of ours, those of one key from the oldest on."""
        listed = self.s3.list_object_versions(Bucket=self.bucket).get("Versions", [])
        manifests = []
        for item in reversed(listed):  # S3 lists the newest of a key first
            if not item["Key"].endswith("manifest.json"):
                continue
            got = self.s3.get_object(Bucket=self.bucket, Key=item["Key"], VersionId=item["VersionId"])
            text = got["Body"].read()
            if b"layerdrop/manifest/" in text:
                manifests.append(json.loads(text))
        return manifests


@pytest.fixture
def account(
    monkeypatch: pytest.MonkeyPatch, manifest_schema: jsonschema.Draft202012Validator
) -> Iterator[Account]:
    """An empty account; whatever manifest a test leaves behind in any version must fit the schema."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", _session())
        account = Account()
        account.s3.create_bucket(Bucket=BUCKET)
        account.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield account
        for manifest in account.manifests():
            manifest_schema.validate(manifest)


@pytest.fixture
def handler(account: Account, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a function as Lambda would: a fresh module, its own environment, JSON in and out."""
    definition = {
        "StartAt": "Done",
        "States": {"Done": {"Type": "Succeed"}},
    }
    machine = account.step_functions.create_state_machine(
        name="layers",
        definition=json.dumps(definition),
        roleArn="arn:aws:iam::123456789012:role/r",
    )
    monkeypatch.setenv("STATE_MACHINE_ARN", machine["stateMachineArn"])
    modules: dict[str, Any] = {}

    def call(name: str, event: object) -> Any:
        if name not in modules:
            monkeypatch.delitem(sys.modules, f"layerdrop.handlers.{name}", raising=False)
            modules[name] = importlib.import_module(f"layerdrop.handlers.{name}")
        context = SimpleNamespace(
            function_name=name,
            memory_limit_in_mb=512,
            invoked_function_arn=f"arn:aws:lambda:us-east-1:123456789012:function:{name}",
            aws_request_id=str(uuid.uuid4()),
            get_remaining_time_in_millis=lambda: 30000,
        )
        return json.loads(json.dumps(modules[name].handler(json.loads(json.dumps(event)), context)))

    return call


def a_zip(text: str) -> bytes:
    """A small zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("python/hello.py"), text)  # of a fixed date
    return buffer.getvalue()


def record_of(report: dict[str, Any]) -> dict[str, Any]:
    """The record that a build leaves with its report."""
    layer = report["layer"]
    return {
        "schema": "layerdrop/layer/1",
        "builder": report["builder"],
        "asked": {"import_check": True},
        "code_sha256": layer["code_sha256"],
        "bytes": layer["zip"]["bytes"],
        "unzipped_bytes": layer["zip"]["unzipped_bytes"],
        "packages": report["packages"],
        "system_packages": [],
        "file_bytes": {},
        "checks": report["checks"],
        "warnings": report["warnings"],
    }


@pytest.fixture
def build(account: Account) -> Callable[..., dict[str, Any]]:
    """Does a Batch job's work in short: leaves zip, record and report in its place; gives the report.

    In the target it notes, as the state machine does, how the job ended.
    """

    def build(
        target: dict[str, Any], content: str = "x = 1", description: str = "requests", attempt: int = 1
    ) -> dict[str, Any]:
        data = a_zip(content)
        digest = hashlib.sha256(content.encode()).hexdigest()
        place = f"{target['staging']}{attempt}/"
        target["job"]["ended"] = {"Attempts": [{}] * attempt}
        account.s3.put_object(Bucket=BUCKET, Key=f"{place}layer.zip", Body=data, ChecksumAlgorithm="SHA256")
        report = {
            "schema": "layerdrop/report/1",
            "status": "SUCCEEDED",
            "builder": {"version": "1"},
            "target": {"architecture": target["architecture"], "runtime": target["runtime"]},
            "requirements": ["requests"],
            "layer": {
                "name": target["layer_name"],
                "description": target["description"] or description,
                "license": target["license"],
                "digest": digest,
                "code_sha256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
                "zip": {
                    "location": "layer.zip",
                    "bucket": None,
                    "key": None,
                    "bytes": len(data),
                    "unzipped_bytes": len(content),
                },
                "layer_version_arn": None,
            },
            "packages": [
                {
                    "name": "requests",
                    "version": "2.32.3",
                    "wheel": "requests-2.32.3-py3-none-any.whl",
                    "sha256": "0" * 64,
                    "unzipped_bytes": 10,
                    "license": None,
                }
            ],
            "checks": {"size": {"bytes": len(content)}},
            "warnings": ["one"],
            "timings": {"resolve": 0.1},
            "error": None,
        }
        account.put_json(f"{place}report.json", report)
        account.put_json(f"{place}layer.json", record_of(report))
        return report

    return build
