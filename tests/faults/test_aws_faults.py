"""AWS fails at each call that the pipeline makes, in each way; functions die after each of their calls."""

import hashlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moto.stepfunctions.parser.api import ExecutionStatus

from local.environment import aws_variables, key_variables
from local.settings import BUCKET
from tests.conftest import in_two_sizes, sampled

from .harness import Pipeline
from .index import good
from .proxy import KINDS, Call

ROOT = Path(__file__).parents[2]
TEXT = '# /// layer\n# share-with = ["111122223333", "o-a1b2c3d4e5"]\n# ///\nsix\n'
GRANTS = {"account-111122223333", "organization-o-a1b2c3d4e5"}


def key_of(token: str) -> str:
    return f"requirements/arm64/{token}/requirements.txt"


def text_of(token: str) -> str:
    """Requirements of a layer that no other upload makes."""
    return f"{TEXT}{token}\n"


def of(token: str) -> Callable[[Call], bool]:
    """Calls of our code about one upload, or its layer; the stand-in for the builder is no code of ours."""
    digest = hashlib.sha256(f"six\n{token}".encode()).hexdigest()
    exact = re.compile(rf"\b({token}|{digest})\b")
    return lambda call: call.agent != "stand-in" and exact.search(call.text) is not None


def nth(token: str, wanted: tuple[str, str], number: int) -> Callable[[Call], bool]:
    """The n-th call of an operation, from 0."""
    seen, mine = [0], of(token)

    def matches(call: Call) -> bool:
        if (call.service, call.operation) != wanted or not mine(call):
            return False
        seen[0] += 1
        return seen[0] > number

    return matches


def whole(pipeline: Pipeline, token: str, version: str) -> str | None:
    """What is wrong with the end of an upload, if anything."""
    manifest = pipeline.manifest(key_of(token))
    if manifest["status"] != "SUCCEEDED" or manifest["input"]["version_id"] != version:
        return f"{token}: {manifest['error']}"
    (layer,) = manifest["layers"]
    name, number = layer["layer_name"], layer["version"]
    found = (set(pipeline.versions(name)), pipeline.pointer(name), pipeline.grants(name, number))
    if found != ({1}, layer["layer_version_arn"], GRANTS):
        return f"{token}: {found}"
    if [end["status"] for end in pipeline.ends()[version]][-1:] != ["SUCCEEDED"]:
        return f"{token}: {pipeline.ends()[version]}"
    return None


def kept(pipeline: Pipeline, token: str) -> str | None:
    """What is wrong with what is kept of an upload's layer, if anything: it lies whole in its place."""
    (layer,) = pipeline.manifest(key_of(token))["layers"]
    key = layer["zip"]["key"]
    head = pipeline.aws.clients.s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    record = pipeline.json(key.removesuffix(".zip") + ".json") or {}
    found = (head["ContentLength"], head.get("ChecksumSHA256"), record.get("code_sha256"))
    wanted = (layer["zip"]["bytes"], layer["code_sha256"], layer["code_sha256"])
    return None if found == wanted else f"{token}: {found} is not {wanted}"


def calls_of_a_build(pipeline: Pipeline, token: str) -> list[tuple[str, str, int]]:
    """Every call that our code makes for an upload: service, operation, which time it is made."""
    version = pipeline.upload(key_of(token), text_of(token))
    pipeline.wait([version])
    assert whole(pipeline, token, version) is None
    mine, seen, found = of(token), Counter[tuple[str, str]](), []
    for call in pipeline.proxy.calls:
        if mine(call):
            which = (call.service, call.operation)
            found.append((*which, seen[which]))
            seen[which] += 1
    return found


# Each call fails once, in turns: the first in the first way, the second in the second. Or in each way.
WAYS = in_two_sizes("in turns", "in each way")


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("kind", sampled(KINDS, lambda kind: kind == "killed"))
def test_each_call_of_each_function(pipeline: Pipeline, tried: Any, kind: str, ways: str) -> None:
    """Whatever happens at whichever call: one version, shared, pointed to, told, answered."""
    name = f"{ways.replace(' ', '')}{kind}"
    calls = calls_of_a_build(pipeline, f"probe{name}")
    assert len(calls) > 30
    assert ("s3", "CopyObject", 0) in calls
    if ways == "in turns":
        calls = calls[KINDS.index(kind) :: len(KINDS)]
    versions: dict[str, str] = {}
    before = pipeline.proxy.injected
    for position, (service, operation, number) in enumerate(calls):
        token = f"at{position:02}{name}"
        pipeline.fail(nth(token, (service, operation), number), kind)
        versions[token] = pipeline.upload(key_of(token), text_of(token))
    pipeline.wait(versions.values())
    assert pipeline.proxy.injected - before == len(calls), "each fault came to pass"
    wrong = [told for token, version in versions.items() if (told := whole(pipeline, token, version))]
    wrong += [told for token in versions if (told := kept(pipeline, token))]
    assert not wrong, wrong
    what = {"killed": "function killed after each of its calls"}.get(
        kind, "S3, Lambda, SSM, … fail at each call"
    )
    tried(what, len(calls), len(calls))


@pytest.mark.long
@pytest.mark.parametrize("ways", WAYS)
def test_the_builder_s_calls(pipeline: Pipeline, tried: Any, ways: str) -> None:
    """The real builder: reading the file, leaving zip, record, bill, lock and report.

    What it cannot know to be its own it does not take for that: an upload whose answer is lost takes another
    attempt, which leaves all anew.
    """
    pipeline.index.add("friend", good("friend"))
    versions = {}
    names = ("layer.zip", "layer.json", "sbom.cdx.json", "pylock.toml", "report.json")
    for row, kind in enumerate(KINDS[:-1]):
        # In turns from the second kind on, which ends with a report whose answer is lost.
        for name in names if ways == "in each way" else names[max(row - 1, 0) : row]:
            token = f"real{name.replace('.', '')}{kind}{ways.replace(' ', '')}"
            mine = of(token)
            pipeline.fail(
                lambda call, mine=mine, name=name: (
                    call.operation == f"PutObject builds/…/{name}" and mine(call)
                ),
                kind,
            )
            versions[token] = pipeline.upload(key_of(token), TEXT.replace("six", "friend"))
    before = pipeline.proxy.injected
    pipeline.wait(versions.values())
    assert pipeline.proxy.injected - before <= len(versions)
    wrong = [told for token, version in versions.items() if (told := whole(pipeline, token, version))]
    wrong += [told for token in versions if (told := kept(pipeline, token))]
    assert not wrong, wrong
    second = {key.split("/")[1] for key in pipeline.objects("builds/") if key.split("/")[-2] == "2"}
    assert any("reportjsonlost" in execution for execution in second)
    tried("S3 fails at the builder's calls", len(versions), len(versions))


@pytest.mark.parametrize("times", [1, 2])
def test_write_manifest_fails_at_first(pipeline: Pipeline, tried: Any, times: int) -> None:
    token = f"unwritten{times}"
    mine = of(token)
    # Killed, for an error the SDK itself would get over.
    pipeline.fail(lambda call: '"SUCCEEDED"' in call.text and mine(call), "killed", times)
    version = pipeline.upload(key_of(token), TEXT)
    pipeline.wait([version])
    assert whole(pipeline, token, version) is None
    tried("WriteManifest fails once, twice, always", 1, 1)


@pytest.mark.long
def test_write_manifest_always_fails(pipeline: Pipeline, tried: Any) -> None:
    """Then the end is kept, and sent again as the documentation says it is answered."""
    token = "unwritable"
    mine = of(token)
    rule = pipeline.fail(
        lambda call: ("SUCCEEDED" in call.text or "FAILED" in call.text) and mine(call), "cut", 10**6
    )
    version = pipeline.upload(key_of(token), TEXT)
    pipeline.wait([version])
    assert pipeline.manifest(key_of(token))["status"] == "BUILDING"
    pipeline.until(lambda: waiting(pipeline, "UnansweredBuilds"))
    pipeline.proxy.rules.remove(rule)
    redrive(pipeline, "UnansweredBuilds")
    pipeline.until(lambda: pipeline.manifest(key_of(token))["status"] != "BUILDING")
    assert pipeline.manifest(key_of(token))["error"]["code"] == "INTERNAL_ERROR"
    pipeline.until(lambda: pipeline.ends()[version])
    assert waiting(pipeline, "UnansweredBuilds") == 0
    tried("WriteManifest fails once, twice, always", 1, 1)


@pytest.mark.long
def test_start_build_always_fails(pipeline: Pipeline, tried: Any) -> None:
    """The user is told; the event is kept; sent again, as the documentation says, it builds."""
    token = "unstarted"
    mine = of(token)
    rule = pipeline.fail(lambda call: call.operation == "StartExecution" and mine(call), "500", 10**6)
    version = pipeline.upload(key_of(token), TEXT)
    manifest = pipeline.until(lambda: pipeline.manifest(key_of(token)), 120)
    assert (manifest["status"], manifest["error"]["code"]) == ("FAILED", "BUILD_NOT_STARTED")
    pipeline.until(lambda: waiting(pipeline, "UnansweredUploads"))
    pipeline.proxy.rules.remove(rule)
    redrive(pipeline, "UnansweredUploads")
    pipeline.wait([version])
    assert whole(pipeline, token, version) is None
    tried("StartBuild fails at every try", 1, 1)


def waiting(pipeline: Pipeline, queue: str) -> int:
    """How many messages wait in a queue, nobody holding them."""
    attributes = pipeline.aws.clients.get("sqs").get_queue_attributes(
        QueueUrl=pipeline.outputs[queue], AttributeNames=["All"]
    )["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"])


def redrive(pipeline: Pipeline, queue: str) -> None:
    """Run the documentation's own commands for a queue."""
    text = (ROOT / "docs/reliability.md").read_text()
    (script,) = (
        block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "receive-message" in block
    )
    function = {"UnansweredUploads": "StartBuild", "UnansweredBuilds": "WriteManifest"}[queue]
    done = subprocess.run(
        # Of the two aws commands, version 1 does not know the variable that names the endpoint.
        ["bash", "-c", 'aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }\n' + script],
        env={
            **aws_variables(pipeline.aws.endpoint),
            **key_variables(pipeline.aws.keys.owner),
            "PATH": f"{ROOT / '.venv/bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "QUEUE": pipeline.outputs[queue],
            "FUNCTION": pipeline.outputs[function],
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_execution_that_somebody_stops(pipeline: Pipeline, tried: Any) -> None:
    """Nothing stays BUILDING, and the job does not run on."""
    token = "stopped"
    pipeline.fail(lambda call: call.agent == "stand-in" and token in call.text, "slow")
    version = pipeline.upload(key_of(token), TEXT)
    pipeline.until(lambda: pipeline.proxy.injected and pipeline.objects(f"claims/{token}-"))
    (execution,) = pipeline.executions()[version]
    pipeline.until(
        lambda: any(call.agent == "stand-in" and token in call.text for call in pipeline.proxy.calls)
    )
    pipeline.aws.clients.stepfunctions.stop_execution(executionArn=execution.exec_arn)
    pipeline.until(lambda: pipeline.manifest(key_of(token))["status"] == "FAILED")
    assert pipeline.manifest(key_of(token))["error"]["code"] == "BUILD_ABORTED"
    assert [end["status"] for end in pipeline.until(lambda: pipeline.ends()[version])] == ["FAILED"]
    again = pipeline.upload(key_of(token), TEXT)
    pipeline.wait([again])
    assert whole(pipeline, token, again) is None
    tried("execution stopped by a person", 1, 1)


def test_an_end_that_is_never_told(pipeline: Pipeline, tried: Any) -> None:
    """EventBridge gets such events by best effort; the clock makes up for it, once."""
    token = "untold"
    pipeline.lost.add("Step Functions Execution Status Change")
    pipeline.fail(lambda call: call.agent == "stand-in" and token in call.text, "slow")
    version = pipeline.upload(key_of(token), TEXT)
    pipeline.until(lambda: pipeline.proxy.injected and pipeline.objects(f"claims/{token}-"))
    (execution,) = pipeline.executions()[version]
    pipeline.aws.clients.stepfunctions.stop_execution(executionArn=execution.exec_arn)
    pipeline.until(lambda: execution.exec_status == ExecutionStatus.ABORTED)
    assert pipeline.manifest(key_of(token))["status"] == "BUILDING"
    for _ in range(2):
        look = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
        answer = pipeline.aws.clients.lambda_.invoke(
            FunctionName=pipeline.outputs["WriteManifest"], Payload=json.dumps(look)
        )
        assert "FunctionError" not in answer, answer["Payload"].read()
        manifest = pipeline.manifest(key_of(token))
        assert (manifest["status"], manifest["error"]["code"]) == ("FAILED", "BUILD_ABORTED")
        assert [end["status"] for end in pipeline.ends()[version]] == ["FAILED"]
    tried("end of an execution never told", 1, 1)
