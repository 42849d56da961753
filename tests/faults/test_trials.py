"""The trial of a layer in a throw-away function fails in each way: nothing stays, and there is one answer."""

import json
import platform
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import validate

from layer_builder.ground import interpreter
from local.settings import ROOT
from tests.conftest import in_two_sizes

from .harness import Pipeline
from .proxy import KINDS
from .test_aws_faults import nth, of

HERE = {"aarch64": "arm64"}.get(platform.machine(), "x86_64")
OTHER = "x86_64" if HERE == "arm64" else "arm64"
LAYER = f"py313-{HERE}"
SCHEMA = json.loads((ROOT / "functions/layerdrop/schemas/manifest.schema.json").read_text())
OF_FUNCTIONS = {"CreateFunction", "GetFunctionConfiguration", "Invoke", "DeleteFunction"}

needs_python = pytest.mark.skipif(
    interpreter.find("3.13") is None, reason="there is no python3.13 on this machine to run functions with"
)


@pytest.fixture(autouse=True)
def nothing_stays(pipeline: Pipeline) -> Iterator[None]:
    yield
    assert pipeline.trials() == []


def key_of(token: str, architecture: str = HERE) -> str:
    return f"requirements/{architecture}/{token}/requirements.txt"


def upload(pipeline: Pipeline, token: str, text: str = "six", architecture: str = HERE) -> Any:
    """Upload, and wait for the answer."""
    version = pipeline.upload(key_of(token, architecture), f"{text}\n{token}\n")
    pipeline.wait([version])
    ends = pipeline.until(lambda: pipeline.ends()[version])
    manifest = pipeline.manifest(key_of(token, architecture))
    assert [end["status"] for end in ends] == [manifest["status"]]
    return manifest


def whole(pipeline: Pipeline, token: str, told: str = "cold_start_ms") -> str | None:
    """What is wrong with the end of an upload, if anything; of its trial, this has to be told."""
    manifest = pipeline.manifest(key_of(token))
    if manifest["status"] != "SUCCEEDED":
        return f"{token}: {manifest['error']}"
    (layer,) = manifest["layers"]
    found = (set(pipeline.versions(layer["layer_name"])), pipeline.pointer(layer["layer_name"]))
    if found != ({1}, layer["layer_version_arn"]):
        return f"{token}: {found}"
    if layer["trial"]["result"] != "passed" or not layer["trial"][told]:
        return f"{token}: {layer['trial']}"
    return None


@needs_python
def test_what_passes_tells_what_it_takes_and_is_not_tried_again(pipeline: Pipeline) -> None:
    (layer,) = upload(pipeline, "triedgood")["layers"]
    assert layer["trial"]["result"] == "passed"
    assert list(layer["trial"]["imports_ms"]) == ["tried"]
    assert layer["trial"]["cold_start_ms"] > 0
    assert layer["trial"]["memory_mb"] > 0
    mine = of("triedgood")
    before = sum(call.operation == "CreateFunction" for call in pipeline.proxy.calls if mine(call))
    (again,) = upload(pipeline, "triedgood")["layers"]
    assert (again["reused"], again["trial"]) == (True, layer["trial"])
    after = sum(call.operation == "CreateFunction" for call in pipeline.proxy.calls if mine(call))
    assert (before, after) == (1, 1)


@needs_python
def test_where_a_pythonpath_makes_a_difference_it_is_tried_with_that_too(pipeline: Pipeline) -> None:
    (layer,) = upload(pipeline, "triedpath", "path-file")["layers"]
    validate(pipeline.manifest(key_of("triedpath")), SCHEMA)
    assert (layer["trial"]["result"], layer["trial"]["with_pythonpath"]) == ("passed", "failed")
    (warning,) = layer["warnings"]
    assert warning.startswith("tried: `import tried` fails where PYTHONPATH is /var/runtime:/opt/python")
    assert "No module named 'inside'" in warning
    mine = of("triedpath")
    assert sum(call.operation == "CreateFunction" for call in pipeline.proxy.calls if mine(call)) == 2
    (plain,) = upload(pipeline, "triedplain")["layers"]
    assert plain["trial"]["with_pythonpath"] == "same"


@needs_python
def test_what_does_not_pass_is_gone(pipeline: Pipeline, tried: Any) -> None:
    assert upload(pipeline, "triedbad")["status"] == "SUCCEEDED"
    manifest = upload(pipeline, "triedbad", "failing")
    assert manifest["error"]["code"] == "IMPORT_FAILED"
    assert "`import tried` fails in a python3.13 function" in manifest["error"]["message"]
    assert "No module named 'nowhere'" in manifest["error"]["message"]
    (layer,) = manifest["layers"]
    assert (layer["layer_version_arn"], layer["trial"]) == (None, None)
    assert set(pipeline.versions(f"triedbad-{LAYER}")) == {1}
    assert pipeline.pointer(f"triedbad-{LAYER}").endswith(":1")
    tried("a layer that cannot be imported in a function", 1, 1)


@needs_python
def test_missing_libraries_are_added_round_by_round(pipeline: Pipeline, tried: Any) -> None:
    """Each round is a job of its own; of those that failed nothing stays."""
    (layer,) = upload(pipeline, "triedlacking", "lacking")["layers"]
    assert layer["trial"]["result"] == "passed"
    assert set(pipeline.versions(layer["layer_name"])) == {3}
    places = {key.split("/")[3] for key in pipeline.objects("builds/") if "triedlacking" in key}
    assert len(places) == 3
    manifest = upload(pipeline, "triednever", '# /// layer\n# system-libraries = "check"\n# ///\nlacking')
    assert manifest["error"]["code"] == "IMPORT_FAILED"
    assert "libnumber0.so.1" in manifest["error"]["hint"]
    assert pipeline.versions(f"triednever-{LAYER}") == {}
    tried("a trial that names missing libraries, twice", 2, 2)


def test_where_the_runtime_is_missing_the_layer_is_released_all_the_same(pipeline: Pipeline) -> None:
    manifest = upload(pipeline, "triedelsewhere", architecture=OTHER)
    (layer,) = manifest["layers"]
    assert layer["trial"]["result"] == "not_run"
    assert OTHER in layer["trial"]["reason"]
    assert pipeline.pointer(layer["layer_name"]) == layer["layer_version_arn"]


def calls_of_a_trial(pipeline: Pipeline, token: str) -> list[tuple[str, str, int]]:
    """Every call that TryLayer and who comes after it make: service, operation, which time it is made."""
    before = len(pipeline.proxy.calls)
    upload(pipeline, token)
    assert whole(pipeline, token) is None
    mine, seen, found = of(token), Counter[tuple[str, str]](), []
    for call in filter(mine, pipeline.proxy.calls[before:]):
        which = (call.service, call.operation)
        # It looks until the function is active, once or more often.
        if (call.operation in OF_FUNCTIONS and not seen[which]) or "trials/" in call.operation:
            found.append((*which, seen[which]))
        seen[which] += 1
    return found


# Each call fails once, in turns: the first in the first way, the second in the second. Or in each way.
WAYS = in_two_sizes("in turns", "in each way")


@pytest.mark.long
@needs_python
@pytest.mark.parametrize("ways", WAYS)
def test_each_call_of_a_trial(pipeline: Pipeline, tried: Any, ways: str) -> None:
    """Whatever happens at whichever call: one version, tried in a fresh function, pointed to, answered."""
    calls = calls_of_a_trial(pipeline, f"triedprobe{ways.replace(' ', '')}")
    assert {operation for _, operation, _ in calls} >= OF_FUNCTIONS
    kinds = KINDS if ways == "in each way" else ("killed", "throttled", "500")
    versions, injected = {}, pipeline.proxy.injected
    for position, (service, operation, number) in enumerate(calls):
        for kind in kinds if ways == "in each way" or operation in OF_FUNCTIONS else kinds[:1]:
            token = f"triedat{position:02}{kind}{ways.replace(' ', '')}"
            pipeline.fail(nth(token, (service, operation), number), kind)
            versions[token] = pipeline.upload(key_of(token), f"six\n{token}\n")
    pipeline.wait(versions.values())
    assert pipeline.proxy.injected - injected == len(versions), "each fault came to pass"
    wrong = [told for token in versions if (told := whole(pipeline, token))]
    assert not wrong, wrong
    assert pipeline.trials() == []
    tried("TryLayer killed, AWS failing, at each call of a trial", len(versions), len(versions))


@pytest.mark.long
@needs_python
def test_a_call_of_a_trial_that_fails_time_and_again(pipeline: Pipeline, tried: Any) -> None:
    """Killed at each of the next tries as well, or throttled for longer than one try is patient."""
    times = {"killed": 3, "throttled": 12, "lost": 3}
    versions, injected = {}, pipeline.proxy.injected
    for operation in sorted(OF_FUNCTIONS):
        for kind, count in times.items():
            token = f"triedagain{operation.lower()}{kind}"
            pipeline.fail(nth(token, ("lambda", operation), 0), kind, count)
            versions[token] = pipeline.upload(key_of(token), f"six\n{token}\n")
    pipeline.wait(versions.values())
    # So many at once may take a function more than ten seconds to start; then Lambda tells no cold start.
    wrong = [told for token in versions if (told := whole(pipeline, token, "memory_mb"))]
    assert not wrong, wrong
    assert pipeline.proxy.injected - injected == len(OF_FUNCTIONS) * sum(times.values())
    tried("TryLayer killed, throttled, unanswered several times at a call of a trial", *[len(versions)] * 2)


def shortened(pipeline: Pipeline, seconds: str) -> None:
    """How long a function may be on its way to being active."""
    name, variables = pipeline.trier["FunctionName"], pipeline.trier["Environment"]["Variables"]
    pipeline.aws.clients.lambda_.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**variables, "PENDING_SECONDS": seconds}}
    )


@pytest.mark.long
@needs_python
def test_a_function_stuck_for_a_while_is_made_again(pipeline: Pipeline, tried: Any) -> None:
    creation = pipeline.aws._lambda.creation
    shortened(pipeline, "1")
    creation.going_on.clear()
    try:
        version = pipeline.upload(key_of("triedpending"), "six\ntriedpending\n")
        mine = of("triedpending")
        pipeline.until(
            lambda: sum(c.operation == "DeleteFunction" for c in pipeline.proxy.calls if mine(c)) >= 2
        )
    finally:
        creation.going_on.set()
        shortened(pipeline, "120")
    pipeline.wait([version])
    assert whole(pipeline, "triedpending") is None
    tried("a function stuck in Pending", 1, 1)


@needs_python
@pytest.mark.long
def test_a_function_stuck_for_ever_is_said_and_nothing_is_released(pipeline: Pipeline, tried: Any) -> None:
    creation = pipeline.aws._lambda.creation
    shortened(pipeline, "0")
    creation.going_on.clear()
    try:
        manifest = upload(pipeline, "triedstuck")
    finally:
        creation.going_on.set()
        shortened(pipeline, "120")
    assert manifest["error"]["code"] == "TRIAL_NOT_POSSIBLE"
    assert "Pending" in manifest["error"]["message"]
    assert pipeline.versions(f"triedstuck-{LAYER}") == {}
    assert pipeline.pointer(f"triedstuck-{LAYER}") is None
    tried("a function stuck in Pending", 1, 1)


@needs_python
def test_nobody_comes_back_and_the_clock_sweeps(pipeline: Pipeline, tried: Any) -> None:
    client = pipeline.aws.clients.lambda_
    role = pipeline.trier["Environment"]["Variables"]["TRIAL_ROLE_ARN"]
    prefix = pipeline.trier["Environment"]["Variables"]["TRIAL_PREFIX"]
    name = f"{prefix}1ef7"
    from layerdrop.trying import code

    client.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Architectures=[HERE],
        Role=role,
        Handler="layerdrop_trial.handler",
        Code={"ZipFile": code()},
    )
    event = json.dumps({"detail-type": "Scheduled Event"})
    client.invoke(FunctionName=pipeline.trier["FunctionName"], Payload=event)
    assert pipeline.trials() == [name], "it may be somebody's at work"
    older(pipeline, name)
    client.invoke(FunctionName=pipeline.trier["FunctionName"], Payload=event)
    assert pipeline.trials() == []
    tried("a trial that nobody ends", 1, 1)


def older(pipeline: Pipeline, name: str) -> None:
    """Let a function be of two hours ago."""
    from moto.awslambda.models import lambda_backends

    from local.settings import ACCOUNT_ID, REGION

    function = lambda_backends[ACCOUNT_ID][REGION].get_function(name)
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 7200))
    function.last_modified = f"{when}.000+0000"
