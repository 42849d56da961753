"""What only an account can do in ``make smoke``, with programs and services that stand in."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, WaiterError
from moto import mock_aws
from smoke import __main__ as command
from smoke import deployment, examine, leftovers, trial
from smoke.builds import Answer
from smoke.cases import cases, spot_case
from smoke.checks import FAILED, NOT_CHECKED, PASSED
from smoke.deployment import OwnStack
from smoke.images import stored_image
from smoke.jobs import Job
from stack import preflight

from tests.unit.infra.templates import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEM = "smoke-0a1b2c"
NAME = f"layerdrop-{STEM}"
CASE = next(cases(STEM))
LAYER = {
    "architecture": "arm64", "runtime": "python3.13", "layer_name": f"{STEM}-http-py313-arm64",
    "layer_version_arn": "arn:aws:lambda:eu-west-1:111122223333:layer:l:1",
}  # fmt: skip
ANSWER = Answer(CASE, 0.0, 70.0, {"status": "SUCCEEDED", "layers": [LAYER], "error": None})
JOB = Job(5.0, 45.0, 65.0, 1, "1.dkr.ecr.eu-west-1.amazonaws.com/layerdrop:t-arm64", "FARGATE_SPOT", "")


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(preflight, "_quotas", lambda *_: {})  # which moto has none of
    with mock_aws():
        yield boto3.Session()


# ---------------------------------------------------------------- cases


def test_both_examples_for_both_architectures_a_typo_and_a_large_one() -> None:
    found = [*cases(STEM), spot_case(STEM)]
    built = {(case.text, case.architecture) for case in found if case.title in ("http", "data")}
    assert all(bool(case.imports) == (case.expected == "SUCCEEDED") for case in found)
    examples = [path.read_text() for path in (ROOT / "examples/requirements").rglob("requirements.txt")]
    assert built == {(text, architecture) for text in examples for architecture in ("arm64", "x86_64")}
    assert {case.expected for case in found} == {"SUCCEEDED", "REQUIREMENTS_INVALID", "LAYER_TOO_LARGE"}
    # Each in a place, and so a layer and an execution, of its own.
    assert len({case.key for case in found}) == len(found) == 8
    assert sum(case.spot for case in found) == 1


# ---------------------------------------------------------------- examined


@pytest.mark.parametrize("manifest, seconds, result", [
    ({"status": "SUCCEEDED", "layers": [LAYER]}, 1.0, PASSED),
    ({"status": "SUCCEEDED", "layers": []}, 1.0, FAILED),
    ({"status": "SUCCEEDED", "layers": [LAYER | {"architecture": "x86_64"}]}, 1.0, FAILED),
    ({"status": "SUCCEEDED", "layers": [LAYER | {"layer_name": "somebody-elses"}]}, 1.0, FAILED),
    ({"status": "FAILED", "error": {"code": "JOB_FAILED", "message": "m"}}, 1.0, FAILED),
    ({"status": "BUILDING"}, None, FAILED),
    ({}, None, FAILED),
])  # fmt: skip
def test_answers_are_judged(manifest: dict[str, Any], seconds: float | None, result: str) -> None:
    assert examine.check_answer(replace(ANSWER, manifest=manifest, seconds=seconds)).result == result


@pytest.mark.parametrize("manifest, result", [
    ({"status": "FAILED", "error": {"code": "REQUIREMENTS_INVALID", "message": "m", "hint": "h"}}, PASSED),
    ({"status": "FAILED", "error": {"code": "REQUIREMENTS_INVALID", "message": "m", "hint": ""}}, FAILED),
    ({"status": "FAILED", "error": {"code": "INTERNAL", "message": "m", "hint": "h"}}, FAILED),
    ({"status": "SUCCEEDED", "layers": [LAYER]}, FAILED),
])  # fmt: skip
def test_mistakes_must_be_answered_as_such(manifest: dict[str, Any], result: str) -> None:
    typo = next(case for case in cases(STEM) if case.title == "typo")
    assert examine.check_answer(Answer(typo, 0.0, 1.0, manifest)).result == result


def test_times_are_told_from_one_event_to_the_next() -> None:
    times = examine.times_of(ANSWER, JOB)
    assert (times.answer, times.queued, times.started, times.ran) == (70.0, 5.0, 40.0, 20.0)
    waiting = examine.times_of(replace(ANSWER, seconds=None), replace(JOB, started=None, stopped=None))
    assert (waiting.answer, waiting.queued, waiting.started, waiting.ran) == (None, 5.0, None, None)


@pytest.mark.parametrize("job, result", [
    (JOB, PASSED), (None, FAILED), (replace(JOB, capacity="FARGATE"), FAILED),
    (replace(JOB, started=None, reason="waits for capacity"), FAILED),
])  # fmt: skip
def test_spot_is_where_the_job_ran(job: Job | None, result: str) -> None:
    assert examine.check_spot(replace(ANSWER, case=spot_case(STEM)), job).result == result


# ---------------------------------------------------------------- a function imports it


class Functions:
    """Lambda: runs the handler that it is given, and refuses a role that it does not know yet."""

    def __init__(self, roots: Path, late: int = 0, failed: str = "") -> None:
        self.roots = roots
        self.failed = failed
        self.late = late
        self.made: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []

    def client(self, _: str) -> Functions:
        return self

    def create_function(self, **given: Any) -> None:
        if self.late:
            self.late -= 1
            message = "The role defined for the function cannot be assumed by Lambda."
            raise ClientError({"Error": {"Code": "InvalidParameterValueException", "Message": message}}, "C")
        self.made[given["FunctionName"]] = given

    def get_waiter(self, name: str) -> Functions:
        assert name == "function_active_v2"
        return self

    def wait(self, FunctionName: str) -> None:  # noqa: N803
        assert FunctionName in self.made
        if self.failed:
            state = {"State": "Failed", "StateReasonCode": self.failed, "StateReason": "There is none."}
            raise WaiterError("FunctionActiveV2", "terminal failure", {"Configuration": state})

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        code = trial._CODE.replace("/opt", str(self.roots))
        scope: dict[str, Any] = {}
        exec(code, scope)
        try:
            answer = scope["handler"](json.loads(Payload), None)
        except ImportError as error:
            told = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}).encode()
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(told)}
        text = json.dumps(answer).replace(str(self.roots), "/opt")
        return {"Payload": io.BytesIO(text.encode())}

    def delete_function(self, FunctionName: str) -> None:  # noqa: N803
        self.deleted.append(FunctionName)


@pytest.fixture
def role(session: boto3.Session) -> trial.TrialRole:
    made = trial.TrialRole(session, STEM, {})
    made.arn = "arn:aws:iam::111122223333:role/r"
    return made


@pytest.fixture
def opt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A layer with two modules, on the path as Lambda puts it."""
    (tmp_path / "python").mkdir()
    for name in ("smoke_one", "smoke_two"):
        (tmp_path / f"python/{name}.py").write_text("")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "python")
    return tmp_path


def imported(functions: Functions, role: trial.TrialRole, *modules: str, emulated: bool = False) -> Any:
    answer = replace(ANSWER, case=replace(CASE, imports=modules))
    return examine.check_import(functions, role, answer, emulated)  # type: ignore[arg-type]


def test_a_layer_is_imported_by_a_function_of_its_runtime(
    opt: Path, role: trial.TrialRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_LOOK_SECONDS", 0)
    functions = Functions(opt, late=2)
    assert imported(functions, role, "smoke_one", "smoke_two").result == PASSED
    [(name, made)] = functions.made.items()
    assert made["Layers"] == [LAYER["layer_version_arn"]]
    assert (made["Runtime"], made["Architectures"]) == ("python3.13", ["arm64"])
    assert made["Role"] == role.arn
    assert functions.deleted == [name]


def test_a_module_that_is_missing_or_from_elsewhere_fails(opt: Path, role: trial.TrialRole) -> None:
    functions = Functions(opt)
    missing = imported(functions, role, "smoke_one", "smoke_three")
    assert (missing.result, "smoke_three" in missing.detail) == (FAILED, True)
    assert imported(functions, role, "json").result == FAILED
    assert len(functions.deleted) == 2


@pytest.mark.parametrize("emulated", [True, False])
def test_no_layer_at_all_is_a_fault(tmp_path: Path, role: trial.TrialRole, emulated: bool) -> None:
    assert imported(Functions(tmp_path), role, "json", emulated=emulated).result == FAILED


@pytest.mark.parametrize(
    ("reason", "emulated", "result"),
    [
        ("InvalidRuntime", True, NOT_CHECKED),
        ("InvalidRuntime", False, FAILED),
        ("InternalError", True, FAILED),
    ],
)
def test_a_machine_without_the_runtime_checks_nothing(
    opt: Path, role: trial.TrialRole, reason: str, emulated: bool, result: str
) -> None:
    functions = Functions(opt, failed=reason)
    check = imported(functions, role, "smoke_one", emulated=emulated)
    assert (check.result, check.detail) == (result, "There is none.")
    assert functions.deleted


def test_a_role_that_never_comes_fails(
    opt: Path, role: trial.TrialRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(trial, "_ROLE_SECONDS", 0)
    assert imported(Functions(opt, late=99), role, "smoke_one").result == FAILED


def test_the_role_may_do_nothing_and_goes(session: boto3.Session) -> None:
    iam = session.client("iam")
    with trial.TrialRole(session, STEM, {}) as made:
        assert made.arn
        assert not iam.list_role_policies(RoleName=STEM)["PolicyNames"]
        assert not iam.list_attached_role_policies(RoleName=STEM)["AttachedPolicies"]
    assert not [each for each in iam.list_roles()["Roles"] if each["RoleName"] == STEM]


def test_the_role_is_one_that_an_organisation_lets_be_made(session: boto3.Session) -> None:
    iam = session.client("iam")
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    boundary = iam.create_policy(PolicyName="bounds", PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    given = {"PermissionsBoundaryArn": boundary, "RolePath": "/team/", "VpcId": "vpc-1"}
    with trial.TrialRole(session, STEM, given):
        made = iam.get_role(RoleName=STEM)["Role"]
        assert made["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
        assert made["Path"] == "/team/"


@pytest.mark.long
def test_what_a_run_could_not_take_away_goes_with_the_rest(session: boto3.Session) -> None:
    iam, functions = session.client("iam"), session.client("lambda")
    role = iam.create_role(RoleName=STEM, AssumeRolePolicyDocument=json.dumps(trial._TRUST))["Role"]["Arn"]
    for name in (f"{STEM}-http-arm64", f"{STEM}0-somebody-elses"):
        functions.create_function(
            FunctionName=name, Runtime="python3.13", Role=role, Handler="trial.handler",
            Code={"ZipFile": trial._package()},
        )  # fmt: skip
    OwnStack(session, NAME, None, {}).delete()
    assert [each["FunctionName"] for each in functions.list_functions()["Functions"]] == [
        f"{STEM}0-somebody-elses"
    ]
    assert STEM not in {each["RoleName"] for each in iam.list_roles()["Roles"]}


# ---------------------------------------------------------------- images


def test_an_image_s_size_and_compression(session: boto3.Session) -> None:
    ecr = session.client("ecr")
    ecr.create_repository(repositoryName="layerdrop")
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 1, "digest": "sha256:0"},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "size": 70_000_000, "digest": "a"},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "size": 50_000_000, "digest": "b"},
        ],
    }  # fmt: skip
    ecr.put_image(repositoryName="layerdrop", imageManifest=json.dumps(manifest), imageTag="t-arm64")
    found = stored_image(session, JOB.image)
    assert found is not None
    assert (found.megabytes, found.compressions) == (120.0, ("zstd",))
    # No scan, and so nothing is claimed of it.
    [check] = examine.check_images(session, [JOB], emulated=False)
    assert (check.result, "120 MB, zstd" in check.detail) == (NOT_CHECKED, True)
    [missing] = examine.check_images(session, [replace(JOB, image=f"{JOB.image}2")], emulated=False)
    assert missing.result == FAILED


# ---------------------------------------------------------------- a stack of its own

SAM = """\
#!{python}
import json, os, sys
import boto3
with open({calls!r}, "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
sys.exit({status})
"""


@pytest.fixture
def sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def write(status: int = 0) -> Path:
        program, calls = tmp_path / "sam", tmp_path / "calls"
        program.write_text(SAM.format(python=sys.executable, calls=str(calls), status=status))
        program.chmod(0o755)
        monkeypatch.setattr(deployment, "SAM", program)
        return calls

    return write


TEMPLATE = {
    "Description": "Layerdrop: as much of it as is looked at",
    "Resources": {
        "Bucket": {
            "Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain",
            "Properties": {"BucketName": "own", "VersioningConfiguration": {"Status": "Enabled"}},
        }
    },
    "Outputs": {"Bucket": {"Value": {"Ref": "Bucket"}}},
}  # fmt: skip


def made(session: boto3.Session) -> OwnStack:
    session.client("cloudformation").create_stack(StackName=NAME, TemplateBody=json.dumps(TEMPLATE))
    return OwnStack(session, NAME, None, {"VpcId": "vpc-1"})


def test_it_is_deployed_without_a_question_and_updated(session: boto3.Session, sam: Any) -> None:
    calls, stack = sam(), made(session)
    assert stack.deploy() == "own"
    stack.deploy(Arm64Capacity="FARGATE_SPOT")
    first, second = (json.loads(line) for line in calls.read_text().splitlines())
    assert first[0] == "deploy"
    assert first[first.index("--stack-name") + 1] == NAME
    assert "--no-confirm-changeset" in first
    parameters = first[first.index("--parameter-overrides") + 1 :]
    assert "VpcId=vpc-1" in parameters
    assert not any("Capacity" in each for each in parameters)
    assert "Arm64Capacity=FARGATE_SPOT" in second
    template = (ROOT / "template.yaml").read_text()
    for each in second[second.index("--parameter-overrides") + 1 :]:
        assert re.search(rf"^  {each.partition('=')[0]}:", template, re.MULTILINE)


@pytest.mark.long
def test_it_is_deleted_with_all_that_a_stack_keeps(session: boto3.Session) -> None:
    stack, s3 = made(session), session.client("s3")
    layer = f"{STEM}-http-py313-arm64"
    for body in (b"{}", b"{ }"):
        s3.put_object(Bucket="own", Key=f"claims/{layer}.json", Body=body)
    s3.delete_object(Bucket="own", Key=f"claims/{layer}.json")
    s3.put_object(Bucket="own", Key=f"claims/{layer}.json", Body=b"{}")
    client, ssm = session.client("lambda"), session.client("ssm")
    for name in (layer, "somebody-elses"):
        client.publish_layer_version(LayerName=name, Content={"ZipFile": trial._package()})
        for parameter in (f"/layerdrop/{name}", f"/layerdrop/{name}/1"):
            ssm.put_parameter(Name=parameter, Value="arn", Type="String")
    stack.delete()
    assert not s3.list_buckets()["Buckets"]
    assert [each["LayerName"] for each in client.list_layers()["Layers"]] == ["somebody-elses"]
    parameters = {each["Name"] for each in ssm.describe_parameters()["Parameters"]}
    assert parameters == {"/layerdrop/somebody-elses", "/layerdrop/somebody-elses/1"}
    assert not session.client("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE"])[
        "StackSummaries"
    ]
    stack.delete()  # once more is no fault


def test_a_deployment_that_fails_is_the_exit_status_and_is_deleted(
    session: boto3.Session, sam: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sam(status=3)
    deleted: list[str] = []
    monkeypatch.setattr(OwnStack, "delete", lambda stack: deleted.append(stack.name))
    assert command.main(["--yes"]) == 1
    said = capsys.readouterr().out
    assert "sam deploy ended with 3" in said
    [name] = deleted
    assert re.fullmatch(rf"{command.NAME}[0-9a-f]{{6}}", name)


SAMS = {
    "Resources": {"SamCliSourceBucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "sams"}}},
    "Outputs": {"SourceBucket": {"Value": {"Ref": "SamCliSourceBucket"}}},
}


@pytest.mark.parametrize("reviewed", [True, False])
def test_what_sam_uploaded_goes_though_there_never_was_a_stack(
    session: boto3.Session, reviewed: bool
) -> None:
    """CloudFormation refused the request, or could not make the change set: sam has uploaded before."""
    client, s3 = session.client("cloudformation"), session.client("s3")
    client.create_stack(StackName="aws-sam-cli-managed-default", TemplateBody=json.dumps(SAMS))
    for key in (f"{NAME}/a.template", "layerdrop/b.template"):
        s3.put_object(Bucket="sams", Key=key, Body=b"x")
    if reviewed:
        client.create_change_set(
            StackName=NAME, ChangeSetName="x", ChangeSetType="CREATE", TemplateBody=json.dumps(TEMPLATE)
        )
    OwnStack(session, NAME, None, {}).delete()
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="sams")["Contents"]] == ["layerdrop/b.template"]
    assert [each["StackName"] for each in client.describe_stacks()["Stacks"]] == [
        "aws-sam-cli-managed-default"
    ]


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["BucketName=mine"], "There is a bucket mine already, with layers of yours."),
        (["X8664Capacity=SPOT"], "it is one of FARGATE, FARGATE_SPOT"),
        (["BucketName=others"], "There is a bucket others of yours already"),
    ],
)
def test_what_stands_against_a_deployment_is_said_before_it(
    session: boto3.Session, sam: Any, capsys: pytest.CaptureFixture[str], parameters: list[str], words: str
) -> None:
    """A bucket above all: the run would delete it in the end."""
    s3, where = session.client("s3"), {"LocationConstraint": "eu-west-1"}
    for name in ("mine", "others"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=where)  # type: ignore[arg-type]
    s3.put_object(Bucket="mine", Key="claims/l.json", Body=b'{"schema": "layerdrop/claim/1"}')
    calls = sam()
    assert command.main(["--yes", *(word for each in parameters for word in ("--parameter", each))]) == 1
    said = capsys.readouterr().out
    assert words in said
    assert "Nothing was deployed." in said
    assert not calls.exists()
    assert len(s3.list_buckets()["Buckets"]) == 2


def test_a_deletion_that_fails_is_told_with_a_command_that_finishes(
    session: boto3.Session, sam: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sam(status=3)

    def fail(_: OwnStack) -> None:
        raise leftovers.LeftoverError("s3://own/x: Access Denied")

    monkeypatch.setattr(OwnStack, "delete", fail)
    assert command.main(["--yes"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"all deleted again\s+FAILED", said)
    [line] = [line for line in said.splitlines() if line.startswith("PYTHONPATH")]
    arguments = line.split()[line.split().index("smoke") + 1 :]
    monkeypatch.undo()
    assert command._parser().parse_args(arguments).delete.startswith(command.NAME)


def test_nothing_is_made_without_the_name(
    session: boto3.Session, sam: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = sam()
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    assert command.main([]) == 1
    assert not calls.exists()
    assert "Nothing was done." in capsys.readouterr().out


def test_only_a_run_s_own_stack_can_be_named() -> None:
    with pytest.raises(SystemExit):
        command._parser().parse_args(["--delete", "layerdrop"])
