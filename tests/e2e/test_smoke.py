"""``make smoke`` against a stack that stands, as far as the embedded AWS goes."""

import re
import subprocess
import sys

import pytest

from local.settings import BUCKET, ROOT

from .conftest import Served, eventually


def smoke(served: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As a person in a shell that is signed in to the embedded AWS; the endpoint is named by option only."""
    shell = served.variables() | {"PYTHONPATH": "infra", "COLUMNS": "200"}
    del shell["AWS_ENDPOINT_URL"]
    command = [sys.executable, "-m", "smoke", "--endpoint-url", served.endpoint, *arguments]
    return subprocess.run(command, cwd=ROOT, env=shell, capture_output=True, text=True, check=False)


def left(served: Served, stem: str) -> set[str]:
    """What has a run's stem in its name."""
    clients = served.clients
    pages = clients.s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET)
    keys = {
        version["Key"]
        for page in pages
        for version in page.get("Versions", []) + page.get("DeleteMarkers", [])  # type: ignore[operator]
    }
    layers = {layer["LayerName"] for layer in clients.lambda_.list_layers()["Layers"]}
    functions = {function["FunctionName"] for function in clients.lambda_.list_functions()["Functions"]}
    roles = {role["RoleName"] for role in clients.get("iam").list_roles()["Roles"]}
    parameters = {each["Name"] for each in clients.ssm.describe_parameters()["Parameters"]}
    return {name for name in keys | layers | functions | roles | parameters if stem in name}


@pytest.mark.long
def test_all_that_can_be_checked_here_passes_and_the_rest_is_said(served: Served) -> None:
    # What other tests have built is not known without a job any more, so each layer takes one.
    for note in served.clients.s3.list_objects_v2(Bucket=BUCKET, Prefix="layers/choices/").get(
        "Contents", []
    ):
        served.clients.s3.delete_object(Bucket=BUCKET, Key=note["Key"])
    done = smoke(served, "--bucket", BUCKET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    results = dict(
        re.findall(
            r"^ *(.+?)  +(passed|FAILED|not checked)\b", done.stdout.split("Checked")[-1], re.MULTILINE
        )
    )
    passed = {what for what, result in results.items() if result == "passed"}
    assert passed >= {
        "http, arm64: answered SUCCEEDED", "http, x86_64: answered SUCCEEDED",
        "data, arm64: answered SUCCEEDED", "data, x86_64: answered SUCCEEDED",
        "lock, arm64: answered SUCCEEDED",
        "typo, arm64: answered REQUIREMENTS_INVALID", "too large, x86_64: answered LAYER_TOO_LARGE",
        "all deleted again",
    }  # fmt: skip
    assert {what for what, result in results.items() if result == "not checked"} >= {
        "first deployment", "second deployment, arm64 on Spot", "Spot, arm64: the job ran on it",
        "images: kept and scanned",
    }  # fmt: skip
    imports = {what: result for what, result in results.items() if "imports" in what}
    assert len(imports) == 5
    assert set(imports.values()) <= {"passed", "not checked"}
    # Each upload's times; a job was queued, started and ran, but for what needs none.
    for title, job in {**dict.fromkeys(("http", "data", "lock", "too large"), True), "typo": False}.items():
        times = r"(?: +\d+\.\d s){4} +1" if job else r" +\d+\.\d s(?: +-){4}"
        assert re.search(rf"^ *{title} +\w+ +[A-Z_]+{times} *$", done.stdout, re.MULTILINE), title
    [stem] = set(re.findall(r"layer:(smoke-[0-9a-f]{6})-", done.stdout))
    assert not left(served, stem)


@pytest.mark.long
def test_one_that_fails_is_the_exit_status_and_what_it_leaves_can_be_deleted(served: Served) -> None:
    sfn = served.clients.stepfunctions
    [machine] = [m["stateMachineArn"] for m in sfn.list_state_machines()["stateMachines"]]

    def executions(*statuses: str) -> set[str]:
        listed = [
            each
            for status in statuses
            for each in sfn.list_executions(stateMachineArn=machine, statusFilter=status)["executions"]
        ]
        return {stem for each in listed for stem in re.findall(r"smoke-[0-9a-f]{6}", each["name"])}

    every = ("RUNNING", "SUCCEEDED", "FAILED")
    before = executions(*every)
    done = smoke(served, "--bucket", BUCKET, "--minutes", "0")
    assert done.returncode == 1, done.stdout
    assert "FAILED" in done.stdout
    assert "no answer (not even seen)" in done.stdout
    assert not re.search(r"answered \w+ +passed", done.stdout)
    # The builds went on when nobody waited any more; what they left goes by the name of the run.
    [stem] = eventually(lambda: executions(*every) - before)
    eventually(lambda: stem not in executions("RUNNING"))
    assert left(served, stem)
    assert smoke(served, "--delete", f"layerdrop-{stem}", "--bucket", BUCKET).returncode == 0
    assert not left(served, stem)


def test_a_bucket_that_is_not_there_is_told(served: Served) -> None:
    done = smoke(served, "--bucket", "nobodys")
    assert done.returncode == 1
    assert "NoSuchBucket" in done.stdout
    assert "Traceback" not in done.stderr


def test_only_stacks_of_its_own_are_deleted(served: Served) -> None:
    done = smoke(served, "--delete", "layerdrop")
    assert done.returncode == 2
    assert "layerdrop is not the stack of a run" in done.stderr
