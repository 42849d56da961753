"""Executions that an update of the stack meets: what one version wrote into the state, another one reads.

`states/` has what versions wrote: `planned`, PlanBuild's answers; `published`, PublishLayer's; what their
state machine reads of a target, which goes on with it; and `to_publish`, what it gives to PublishLayer beside
input and target. A file is never changed: some execution may have it.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from layerdrop.build_input import BuildInput
from layerdrop.errors import BuildError
from layerdrop.manifest import PublishedVersion
from layerdrop.target import Target
from tests.unit.functions.test_handlers import EXECUTION, KEY, caught

Call = Callable[..., Any]
WRITTEN = {file.stem: json.loads(file.read_text()) for file in Path(__file__).with_name("states").iterdir()}
PLANNED = [
    pytest.param(state, id=f"{version}-{number}")
    for version, written in WRITTEN.items()
    for number, state in enumerate(written["planned"])
]
GO_ON = [
    pytest.param(state, written["to_publish"], id=f"{version}-{number}")
    for version, written in WRITTEN.items()
    if "to_publish" in written
    for number, state in enumerate(written["planned"])
]


def strewn(document: Any) -> Any:
    """The same with a field of another version's in every object."""
    if isinstance(document, list):
        return [strewn(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {name: strewn(value) for name, value in document.items()} | {"of_another_version": {"x": [1]}}


def uploaded(account: Any, state: Any) -> Any:
    """A state of a file that is there: its version is the one thing that cannot be as it was written."""
    version = account.upload(state["input"]["key"], b"requests").version_id
    return deepcopy(state) | {"input": state["input"] | {"version_id": version}}


@pytest.mark.sample(2)
@pytest.mark.parametrize("change", [lambda state: state, strewn], ids=["as it was", "with more"])
@pytest.mark.parametrize(("state", "more"), GO_ON)
def test_a_build_that_another_version_planned_is_published_and_answered(
    account: Any, handler: Call, build: Call, state: Any, more: Any, change: Call
) -> None:
    state = change(uploaded(account, state))
    state["outcomes"] = []
    for target in state["targets"]:
        build(target)
        layer = handler("publish_layer", {"input": state["input"], "target": target, **more})
        outcome = {"target": target, "layer": change(layer), "trial": {"result": "disabled"}}
        state["outcomes"].append(outcome)
    assert handler("write_manifest", state) == {"status": "SUCCEEDED"}
    layers = account.json(state["manifest_key"])["layers"]
    assert [layer["error"] for layer in layers] == [None] * len(state["targets"])
    assert [layer["layer_name"] for layer in layers] == [one["layer_name"] for one in state["targets"]]


def test_a_state_machine_that_releases_nothing_publishes_nothing(
    account: Any, handler: Call, build: Call
) -> None:
    """Its last step was PublishLayer, which pointed to what it published."""
    state = uploaded(account, WRITTEN["2026-11-21"]["planned"][0])
    state["outcomes"] = []
    for target in state["targets"]:
        build(target)
        with pytest.raises(BuildError) as refused:
            handler("publish_layer", {"input": state["input"], "target": target})
        state["outcomes"].append({"target": target, "error": caught(refused.value)})
    assert handler("write_manifest", state) == {"status": "FAILED"}
    assert account.json(state["manifest_key"])["error"]["code"] == "STACK_UPDATED"
    assert account.lambda_.list_layers()["Layers"] == []


@pytest.mark.parametrize("state", PLANNED)
def test_a_build_that_another_version_planned_and_that_failed_is_answered(
    account: Any, handler: Call, state: Any
) -> None:
    state = uploaded(account, state)
    job = json.dumps({"JobId": "1", "StatusReason": "Host terminated", "Attempts": [{}], "Container": {}})
    failed = {"Error": "States.TaskFailed", "Cause": job}
    state["outcomes"] = [{"target": target, "error": failed} for target in state["targets"]]
    assert handler("write_manifest", state) == {"status": "FAILED"}
    assert account.json(state["manifest_key"])["error"]["code"] == "JOB_FAILED"


@pytest.mark.parametrize("state", PLANNED)
def test_a_build_that_another_version_failed_to_plan_is_answered(
    account: Any, handler: Call, state: Any
) -> None:
    state = uploaded(account, state)
    begun = {"input": state["input"], "execution": state["execution"], "error": caught(ValueError("x"))}
    assert handler("write_manifest", begun) == {"status": "FAILED"}


@pytest.mark.parametrize("version", WRITTEN)
def test_a_version_that_another_one_published_is_told(version: str) -> None:
    published = WRITTEN[version]["published"]
    assert PublishedVersion.from_json(strewn(published)).to_json() == published


@pytest.mark.parametrize("version", WRITTEN)
def test_a_state_machine_of_another_version_finds_what_it_reads(
    account: Any, handler: Call, version: str
) -> None:
    """It began before an update, and its PlanBuild came after it."""
    build_input = account.upload(KEY, b"requests")
    planned = handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    of_before = WRITTEN[version]["planned"][0]
    assert planned.keys() >= of_before.keys()
    assert planned["input"].keys() >= of_before["input"].keys()
    for target in planned["targets"]:
        for path in WRITTEN[version]["read_by_the_state_machine"]:
            found: Any = {"target": target}
            for name in path.removeprefix("$.").split("."):
                found = found[name]
            assert found, path


@pytest.mark.parametrize("version", WRITTEN)
def test_all_that_another_version_reads_is_still_written(version: str) -> None:
    """A deployment that fails brings it back, in the middle of builds that this one planned."""

    def lost(before: Any, now: Any, where: str = "") -> list[str]:
        if not isinstance(before, dict):
            return []
        return [
            found
            for name, value in before.items()
            for found in (lost(value, now[name], f"{where}.{name}") if name in now else [f"{where}.{name}"])
        ]

    for state in WRITTEN[version]["planned"]:
        for before in state["targets"]:
            assert not lost(before, Target.from_json(before).to_json())
        assert not lost(state["input"], BuildInput.from_json(state["input"]).to_json())
