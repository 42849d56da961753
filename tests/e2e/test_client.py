"""The `layerdrop` command as people and CI run it: a process, against the embedded AWS."""

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from local.settings import BUCKET

from .conftest import SHELL, Served

LAYERDROP = Path(sys.executable).with_name("layerdrop")


def run(served: Served, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAYERDROP, *map(str, arguments)],
        cwd=cwd,
        env=served.variables(),
        capture_output=True,
        text=True,
        check=False,
    )


def told(served: Served, *arguments: object) -> Any:
    done = run(served, *arguments, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def git(*arguments: object) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run(["git", *identity, *map(str, arguments)], check=True, capture_output=True)


def executions(served: Served, batch: str) -> int:
    """How many builds there were of a batch's files, whose names begin with it."""
    sfn = served.clients.stepfunctions
    [machine] = sfn.list_state_machines()["stateMachines"]
    pages = sfn.get_paginator("list_executions").paginate(stateMachineArn=machine["stateMachineArn"])
    return sum(f"-{batch}-" in execution["name"] for page in pages for execution in page["executions"])


@pytest.mark.long
@pytest.mark.parametrize("folders", [4, 50])
def test_a_repository_is_built_once_and_then_what_changed(
    served: Served, tmp_path: Path, folders: int
) -> None:
    batch = uuid.uuid4().hex[:8]
    origin = tmp_path / "origin"
    git("init", "--quiet", origin)
    files = [origin / f"layers/arm64/{batch}/{n}/requirements.txt" for n in range(folders)]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True)
        file.write_text(f"# layer {number}\nidna == 3.10\n")
    git("-C", origin, "add", ".")
    git("-C", origin, "commit", "--quiet", "--message", "layers")
    builds, before = [], 0
    for turn in range(3):
        if turn == 2:
            for file in files[:3]:
                file.write_text("idna == 3.9\n")
            git("-C", origin, "commit", "--quiet", "--all", "--message", "three others")
        clone = tmp_path / f"clone-{turn}"
        git("clone", "--quiet", origin, clone)
        counts = told(served, "sync", clone / "layers")["counts"]
        builds.append(executions(served, batch) - before)
        before += builds[-1]
        assert counts["built"] + counts["reused"] == builds[-1]
        assert counts["unchanged"] == folders - builds[-1]
        assert counts["failed"] == counts["building"] == 0
    assert builds == [folders, 0, 3]
    # Beside it: a clone's files are younger than what was uploaded, so this would build all of them anew.
    again = tmp_path / "again"
    git("clone", "--quiet", origin, again)
    for file in again.rglob("requirements.txt"):
        os.utime(file, (4_000_000_000, 4_000_000_000))
    planned = served.aws("s3", "sync", "--dryrun", str(again / "layers"), f"s3://{BUCKET}/requirements/")
    assert planned.count("upload:") == folders


@pytest.mark.long
def test_two_versions_of_a_layer_from_the_first_drop_to_the_way_back(served: Served, tmp_path: Path) -> None:
    name = f"way-{uuid.uuid4().hex[:8]}"
    layer = f"{name}-py313-arm64"
    file = tmp_path / "requirements.txt"
    for version in ("3.6", "3.7"):  # which no other test here has, so that there are jobs
        file.write_text(f"idna == {version}\n")
        dropped = run(served, "drop", file, f"arm64/{name}")
        assert dropped.returncode == 0, dropped.stderr
        assert f"arn:aws:lambda:us-east-1:123456789012:layer:{layer}:" in dropped.stdout
    for step in ("PlanBuild", "ResolveLayer", "BuildLayer", "PublishLayer", "TryLayer", "ReleaseLayer"):
        assert f"arm64/{name}  {step} done in" in dropped.stderr
    shown = told(served, "show", name)
    assert (shown["version"], shown["packages"], shown["source"]) == (2, {"idna": "3.7"}, "manifest")
    compared = told(served, "diff", name, 1, 2)
    [change] = compared["packages"]
    assert (change["name"], change["from"], change["to"]) == ("idna", "3.6", "3.7")
    assert compared["from"]["source"] == "manifest"
    assert [layer, 2] in [[one["name"], one["version"]] for one in told(served, "list")["layers"]]
    assert told(served, "users", name)["functions"] == []
    [stream] = told(served, "logs", layer)["streams"]
    assert any("1 packages for python3.13 on arm64" in event["message"] for event in stream["events"])
    assert told(served, "rollback", name, 1)["moved"]
    pointer = served.clients.ssm.get_parameter(Name=f"/layerdrop/{layer}")["Parameter"]["Value"]
    assert pointer.endswith(f"{layer}:1")
    assert told(served, "release", layer)["owner"] == f"requirements/arm64/{name}/requirements.txt"
    # Whose manifests are nobody's any more, and so its zip tells of it.
    assert told(served, "diff", name, 1, 2)["packages"][0]["from"] == "3.6"
    assert told(served, "show", name)["source"] == "zip"


def test_a_mistake_is_shown_where_it_is(served: Served, tmp_path: Path) -> None:
    name = f"bad-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "requirements.txt"
    file.write_text("requests == 2.32.3\nidna = 3\n")
    done = run(served, "drop", file, f"x86_64/{name}")
    assert done.returncode == 2
    assert f"--> {file}:2:1\n" in done.stderr
    assert "2 | idna = 3\n  | ^^^^^^^^" in done.stderr
    assert "hint: " in done.stderr
    again = run(served, "watch", f"x86_64/{name}", "--output", "json")
    assert again.returncode == 2
    assert json.loads(again.stdout)["uploads"][0]["problems"][0]["details"]["line"] == 2


def test_ctrl_c_ends_the_command_and_not_the_build(served: Served, tmp_path: Path) -> None:
    name = f"left-{uuid.uuid4().hex[:8]}"
    # Four builds, so that it goes on for a while after the upload is told.
    runtimes = '# /// layer\n# runtimes = ["python3.11", "python3.12", "python3.13", "python3.14"]\n# ///\n'
    (tmp_path / "requirements.txt").write_text(runtimes + "httpx\n")
    command = [LAYERDROP, "drop", tmp_path / "requirements.txt", f"arm64/{name}"]
    with subprocess.Popen(
        command,
        env=served.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr
        assert process.stderr.readline().startswith("Uploaded ")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
    assert f"hint: Watch again: layerdrop watch arm64/{name}\n" in said
    watched = told(served, "watch", f"arm64/{name}")
    assert watched["uploads"][0]["status"] == "SUCCEEDED"


def test_a_function_that_uses_a_layer_is_told_with_its_version(served: Served, tmp_path: Path) -> None:
    name = f"used-{uuid.uuid4().hex[:8]}"
    (tmp_path / "requirements.txt").write_text("idna == 3.10\n")
    [layer] = told(served, "drop", tmp_path / "requirements.txt", f"arm64/{name}")["layers"]
    allowed = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:*"}
    trust = json.dumps({"Statement": allowed})
    role = served.clients.get("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    served.clients.lambda_.create_function(
        FunctionName=name,
        Role=role,
        Runtime="python3.13",
        Architectures=["arm64"],
        Handler="a.b",
        Code={"ZipFile": _zip()},
        Layers=[layer["arn"]],
    )
    assert told(served, "users", name)["functions"] == [{"function": name, "version": 1, "newest": True}]


def _zip() -> bytes:
    import io
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.py", "def b(event, context): pass\n")
    return content.getvalue()


def test_a_check_needs_no_aws(tmp_path: Path) -> None:
    file = tmp_path / "arm64/python3.12/web/requirements.txt"
    file.parent.mkdir(parents=True)
    file.write_text("# /// layer\n# slim = true\n# ///\nidna == 3.10\n")
    done = subprocess.run(
        [LAYERDROP, "check", file, "--output", "json"], env=SHELL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [report] = json.loads(done.stdout)["reports"]
    assert report["target"] == {"architecture": "arm64", "runtime": "python3.12"}
    assert [package["name"] for package in report["packages"]] == ["idna"]
    file.write_text("idna ==\n")
    done = subprocess.run([LAYERDROP, "check", file], env=SHELL, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"--> {file}:1:1" in done.stderr


def test_a_stack_that_is_not_there_is_told(served: Served) -> None:
    done = run(served, "list", "--stack", "nobodys")
    assert done.returncode == 2
    assert "There is no stack nobodys in us-east-1" in done.stderr


def test_the_endpoint_can_be_an_option(served: Served) -> None:
    variables = {name: value for name, value in served.variables().items() if name != "AWS_ENDPOINT_URL"}
    command = [LAYERDROP, "--endpoint-url", served.endpoint, "list", "--output=json"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bucket"] == BUCKET
