"""The shape of the state machine: whatever happens, the answer is written."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.translate import read_template
from tests.whole import whole

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "statemachine/build_layers.asl.json").read_text()
DEFINITION: dict[str, Any] = json.loads(TEXT)
TEMPLATE: dict[str, Any] = read_template((ROOT / "template.yaml").read_text())
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
MAP = DEFINITION["States"]["BuildLayers"]["ItemProcessor"]
BATCH_FAULTS = {
    "AWSBatchException", "TooManyRequestsException", "ServerException", "BatchException",
    "SdkClientException",
}  # fmt: skip
LAMBDA_FAULTS = {
    # https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html#bp-lambda-serviceexception
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
}


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All states, those inside of maps too."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


TASKS = {name: state for name, state in states(DEFINITION) if state["Type"] == "Task"}


def ways_on(state: dict[str, Any]) -> list[str]:
    """Where a state may lead."""
    choices = [*state.get("Choices", []), *state.get("Catch", [])]
    ends = [state[key] for key in ("Next", "Default") if key in state]
    return ends + [choice["Next"] for choice in choices]


def reached(machine: dict[str, Any], start: str, never: str = "") -> set[str]:
    """The states that can be reached, without passing one of them."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in seen and name != never:
            seen.add(name)
            todo += ways_on(machine["States"][name])
    return seen


def test_every_state_can_be_reached() -> None:
    assert reached(DEFINITION, DEFINITION["StartAt"]) == set(DEFINITION["States"])
    assert reached(MAP, MAP["StartAt"]) == set(MAP["States"])


def test_no_way_to_the_end_passes_by_the_manifest() -> None:
    without = reached(DEFINITION, DEFINITION["StartAt"], never="WriteManifest")
    ends = {name for name, state in DEFINITION["States"].items() if state["Type"] in ("Succeed", "Fail")}
    ends |= {name for name, state in DEFINITION["States"].items() if state.get("End")}
    assert ends
    assert not without & ends


def test_whatever_can_fail_leads_to_the_manifest() -> None:
    for name, state in DEFINITION["States"].items():
        if state["Type"] in ("Task", "Map", "Parallel") and name != "WriteManifest":
            (catch,) = state["Catch"]
            assert catch["ErrorEquals"] == ["States.ALL"], name
            assert catch["Next"] == "WriteManifest", name
            # The input must survive beside the error: the manifest lies beside it.
            assert catch["ResultPath"] == "$.error", name


# What comes after the layer is published takes it back when it fails, and says which state that was.
TAKEN_BACK = {"TryLayer", "ReleaseLayer"}


def test_a_target_s_failure_is_an_outcome() -> None:
    for name, state in MAP["States"].items():
        assert state["Type"] in ("Task", "Pass", "Choice"), "nothing else in the map may fail"
        if state["Type"] == "Choice":
            assert state["Default"] in MAP["States"], name
        if state["Type"] != "Task" or name == "DiscardLayer":
            continue
        (catch, *rest) = state["Catch"]
        if name == "ResolveLayer":
            assert catch["ErrorEquals"] == ["BuildError"]
            assert rest == [
                {"ErrorEquals": ["States.ALL"], "ResultPath": "$.unresolved", "Next": "BuildLayer"}
            ], "the job can do without"
        else:
            assert (catch["ErrorEquals"], rest) == (["States.ALL"], []), name
        assert catch["ResultPath"] == "$.error", name
        after = MAP["States"][catch["Next"]]
        if name in TAKEN_BACK:
            assert (after["Result"], after["ResultPath"], after["Next"]) == (name, "$.step", "DiscardLayer")
        else:
            assert set(after["Parameters"]) == {"target.$", "error.$"}, name
    ends = [state for state in MAP["States"].values() if state.get("End")]
    assert {frozenset(state["Parameters"]) for state in ends} == {
        frozenset({"target.$", "error.$"}),
        frozenset({"target.$", "error.$", "step.$"}),
        frozenset({"target.$", "layer.$", "trial.$"}),
    }


def test_taking_back_never_hides_why() -> None:
    state = MAP["States"]["DiscardLayer"]
    (catch,) = state["Catch"]
    assert state["ResultPath"] is None
    assert (catch["Next"], state["Next"]) == ("TargetRefused", "TargetRefused")
    assert catch["ResultPath"] not in ("$.error", "$.step", "$.target", "$")


def test_nothing_is_released_without_its_trial_unless_the_stack_says_so() -> None:
    """Every way from PublishLayer to ReleaseLayer leads by TryLayer, or by what says "disabled"."""
    start = MAP["States"]["PublishLayer"]["Next"]
    assert "ReleaseLayer" in reached(MAP, start)
    without = {name: dict(state) for name, state in MAP["States"].items() if name != "NotTried"}
    without["IsItTried"]["Default"] = "TargetFailed"
    assert "ReleaseLayer" not in reached({"States": without}, start, never="TryLayer")
    assert MAP["States"]["NotTried"]["Result"] == {"trial": {"result": "disabled"}}


def test_a_round_with_libraries_begins_where_nothing_is_left() -> None:
    """The version of the round before is deleted first, and the loop has no other way back."""
    leading = {name for name, state in MAP["States"].items() if "BuildLayer" in ways_on(state)}
    assert leading & reached(MAP, "BuildLayer") == {"BuildAgain"}
    assert {name for name, state in MAP["States"].items() if "BuildAgain" in ways_on(state)} == {
        "DiscardRound"
    }
    again = MAP["States"]["BuildAgain"]["Parameters"]
    assert again == {"input.$": "$.input", "target.$": "$.tried.target"}


def test_the_clients_that_are_to_wait_long_are_known_by_their_names() -> None:
    from layerdrop import failure
    from layerdrop.aws import TryLaterError
    from layerdrop.trying import TrialNotPossibleError

    assert TrialNotPossibleError.__name__ == failure.NOT_POSSIBLE
    waits = {
        name: {error for retry in task["Retry"] for error in retry["ErrorEquals"]}
        for name, task in TASKS.items()
    }
    assert TrialNotPossibleError.__name__ in waits["TryLayer"]
    for name in ("PublishLayer", "ReleaseLayer", "DiscardLayer", "DiscardRound"):
        assert TryLaterError.__name__ in waits[name]


def test_a_full_account_is_waited_for_by_the_trial_itself_too() -> None:
    """A new account lets ten functions run at once, TryLayer and what it invokes among them."""
    waiting = [
        retry for retry in TASKS["TryLayer"]["Retry"] if "TrialNotPossibleError" in retry["ErrorEquals"]
    ]
    (first,) = (
        retry
        for retry in TASKS["TryLayer"]["Retry"]
        if "Lambda.TooManyRequestsException" in retry["ErrorEquals"]
    )
    assert waiting == [first]
    # Full jitter waits half of it: a quarter of an hour, as docs/manifest.md says.
    assert first["MaxAttempts"] * first["MaxDelaySeconds"] / 2 >= 12 * 60


@pytest.mark.parametrize("name", TASKS)
def test_every_task_waits_patiently_but_not_forever(name: str) -> None:
    task = TASKS[name]
    assert task["TimeoutSeconds"] > 0
    for retry in task["Retry"]:
        if retry.get("MaxAttempts") == 0:
            continue
        assert retry["JitterStrategy"] == "FULL"
        assert retry["BackoffRate"] >= 1.5
        assert retry["MaxDelaySeconds"] <= 60
    retried = {
        error for retry in task["Retry"] if retry.get("MaxAttempts") != 0 for error in retry["ErrorEquals"]
    }
    if task["Resource"].endswith("lambda:invoke"):
        assert retried >= LAMBDA_FAULTS
    else:
        # A job that failed is Batch's to try again, by its exit code: three attempts, not three times three.
        assert retried.isdisjoint({"States.ALL", "States.TaskFailed", "States.Timeout"})
        # Batch has models for two errors only; what else it says, throttling too, comes by its own name.
        # https://docs.aws.amazon.com/batch/latest/APIReference/API_SubmitJob.html#API_SubmitJob_Errors
        # https://github.com/ASFHyP3/hyp3/issues/911
        assert {f"Batch.{error}" for error in BATCH_FAULTS} == retried


@pytest.mark.parametrize(
    "name", ["PlanBuild", "ResolveLayer", "PublishLayer", "TryLayer", "ReleaseLayer", "DiscardLayer"]
)
def test_what_the_user_wrote_is_not_tried_again(name: str) -> None:
    """The first retrier that knows an error decides, and BuildError is also a States.TaskFailed."""
    from layer_builder import resolve_layer
    from layerdrop.errors import BuildError

    assert resolve_layer.BuildError.__name__ == BuildError.__name__
    first = TASKS[name]["Retry"][0]
    assert first["ErrorEquals"] == [BuildError.__name__]
    assert first["MaxAttempts"] == 0


def test_tasks_outlast_what_they_call() -> None:
    default = TEMPLATE["Globals"]["Function"]["Timeout"]
    called = {"DiscardLayer": "ReleaseLayer", "DiscardRound": "ReleaseLayer"}
    for name in TASKS.keys() - {"BuildLayer"}:
        function = whole()["Resources"][called.get(name, name)]["Properties"]
        assert TASKS[name]["TimeoutSeconds"] > function.get("Timeout", default), name
    longest = TEMPLATE["Parameters"]["JobTimeoutSeconds"]["MaxValue"]
    for architecture in ("Arm64", "X8664"):
        definition = whole()["Resources"][f"{architecture}JobDefinition"]["Properties"]
        attempts = definition["RetryStrategy"]["Attempts"]
        # And as long again for the wait in the queue.
        assert TASKS["BuildLayer"]["TimeoutSeconds"] >= 2 * attempts * longest


def test_names_are_in_pascal_case() -> None:
    for name, _ in states(DEFINITION):
        assert re.fullmatch(r"([A-Z][a-z]+)+", name)


def test_failures_have_names_of_their_own() -> None:
    """Names beginning with `States.` are reserved: https://states-language.net/#error-names."""
    failures = [state for _, state in states(DEFINITION) if state["Type"] == "Fail"]
    assert failures
    for state in failures:
        assert not state["Error"].startswith("States.")
        assert state["Cause"]


def test_substitutions_are_those_that_the_template_makes() -> None:
    used = set(re.findall(r"\$\{(\w+)\}", TEXT))
    assert used == set(RESOURCES["BuildLayers"]["Properties"]["DefinitionSubstitutions"])


def test_only_succeeded_and_superseded_succeed() -> None:
    choice = DEFINITION["States"]["DidItSucceed"]
    ends = {rule["StringEquals"]: DEFINITION["States"][rule["Next"]]["Type"] for rule in choice["Choices"]}
    assert ends == {"SUCCEEDED": "Succeed", "SUPERSEDED": "Succeed"}
    assert DEFINITION["States"][choice["Default"]]["Type"] == "Fail"
