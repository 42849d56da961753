"""AWS fails at each call of ResolveLayer: the build gets on, with a job or without."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.conftest import sampled

from .harness import Pipeline, memory
from .index import good, status
from .proxy import KINDS, Call
from .test_aws_faults import key_of

BEGINS = "GetObject requirements/"
"""ResolveLayer is the second to read the file; these are its last calls, if the layer is new or known."""
ENDS = {"new": "PutObject plans/", "known": "PutObject builds/…/report.json"}
CALLS = {"new": 3, "known": 7}
# Each call in one way after the other; or each in each way.
CASES = [(how, call, KINDS[call % len(KINDS)]) for how in CALLS for call in range(CALLS[how])]
CASES += sorted(
    {(how, call, kind) for how, number in CALLS.items() for call in range(number) for kind in KINDS}
    - set(CASES)
)
SAMPLE = [("new", 2, KINDS[2])]


@pytest.fixture(scope="module")
def resolving(pipeline: Pipeline) -> Iterator[Pipeline]:
    stack = pipeline.another("resolving", {"TryLayers": "DISABLED"})
    stack.index.add("settled", good("settled"))
    stack.wait([stack.upload(key_of("realsettled"), "settled")])
    yield stack


def calls_since(pipeline: Pipeline, before: int) -> list[Call]:
    return [call for call in pipeline.proxy.calls[before:] if pipeline.bucket in call.text]


def block(calls: list[Call], how: str) -> range:
    """Where among an upload's calls ResolveLayer's are."""
    operations = [call.operation for call in calls]
    begin = operations.index(BEGINS, operations.index(BEGINS) + 1)
    return range(begin, operations.index(ENDS[how], begin) + 1)


def text_of(pipeline: Pipeline, how: str, name: str) -> str:
    if how == "known":
        return "settled"
    pipeline.index.add(name, good(name))
    return name


def states(pipeline: Pipeline, version: str) -> list[str]:
    (execution,) = pipeline.executions()[version]
    history = pipeline.aws.clients.stepfunctions.get_execution_history(
        executionArn=execution.exec_arn, maxResults=1000
    )
    entered = [event.get("stateEnteredEventDetails", {}).get("name") for event in history["events"]]
    return [name for name in entered if name in ("ResolveLayer", "BuildLayer", "PublishLayer")]


@pytest.mark.long
@pytest.mark.parametrize("how", CALLS)
def test_these_are_its_calls(resolving: Pipeline, how: str) -> None:
    """Those that the faults below are for."""
    before = len(resolving.proxy.calls)
    token = f"realcalls{how}"
    resolving.wait([version := resolving.upload(key_of(token), text_of(resolving, how, f"calls{how}"))])
    assert states(resolving, version) == [
        "ResolveLayer",
        *(["BuildLayer"] if how == "new" else []),
        "PublishLayer",
    ]
    assert len(block(calls_since(resolving, before), how)) == CALLS[how]


@pytest.mark.parametrize("case", sampled(CASES, SAMPLE.__contains__), ids=str)
def test_each_call(resolving: Pipeline, tried: Any, case: tuple[str, int, str]) -> None:
    how, call, kind = case
    token = f"real{how}{call}{kind}"
    before, position, begun = resolving.proxy.injected, [0], [0]

    def due(this: Call) -> bool:
        if resolving.bucket not in this.text or this.agent == "stand-in":
            return False
        begun[0] += this.operation == BEGINS
        position[0] += begun[0] > 1
        return position[0] == call + 1

    resolving.fail(due, kind)
    version = resolving.upload(key_of(token), text_of(resolving, how, token.removeprefix("real")))
    resolving.wait([version])
    assert resolving.proxy.injected == before + 1
    manifest = resolving.manifest(key_of(token))
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    assert set(resolving.versions(f"{token}-py313-arm64")) == {1}
    passed = states(resolving, version)
    assert passed in (
        ["ResolveLayer", "PublishLayer"]
        if how == "known"
        else ["ResolveLayer", "BuildLayer", "PublishLayer"],
        ["ResolveLayer", "BuildLayer", "PublishLayer"],
    )
    tried("ResolveLayer killed, AWS failing, at each of its calls", 1, 1)


@pytest.mark.long
def test_an_index_that_is_down_for_the_function_is_asked_by_the_job(resolving: Pipeline, tried: Any) -> None:
    resolving.index.add("late", good("late"))
    uploaded: list[str] = []

    def serve(request: BaseHTTPRequestHandler) -> None:
        if uploaded and "BuildLayer" in states(resolving, uploaded[0]):
            resolving.index.answer(request, "late")
        else:
            status(503)(request)

    resolving.index.add_page("late", serve)
    uploaded.append(resolving.upload(key_of("reallate"), "late"))
    resolving.wait(uploaded)
    assert states(resolving, uploaded[0]) == ["ResolveLayer", "BuildLayer", "PublishLayer"]
    manifest = resolving.manifest(key_of("reallate"))
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    tried("ResolveLayer killed, AWS failing, at each of its calls", 1, 1)


@pytest.mark.long
def test_a_crowd_of_which_most_is_known(resolving: Pipeline, tried: Any) -> None:
    """Each is answered once; only what is new takes a job."""
    uploads, new = 300, 3
    texts = {f"realcrowd{number}of{uploads}": "settled" for number in range(uploads - new)}
    for number in range(new):
        name = f"new{number}of{uploads}"
        texts[f"real{name}"] = text_of(resolving, "new", name)
    before, began = memory(), time.monotonic()

    def upload(token: str) -> str:
        return resolving.upload(key_of(token), texts[token])

    with ThreadPoolExecutor(16) as threads:
        versions = dict(zip(texts, threads.map(upload, texts), strict=True))
        resolving.wait(versions.values())
    seconds = time.monotonic() - began
    executions, ends = resolving.executions(), resolving.ends()
    assert Counter(len(executions[version]) for version in versions.values()) == {1: uploads}
    for token, version in versions.items():
        manifest, [execution] = resolving.manifest(key_of(token)), executions[version]
        ended = f"{execution.exec_status} {execution.error} {execution.cause}"
        assert (manifest["status"], manifest["input"]["version_id"]) == ("SUCCEEDED", version), ended
        assert set(resolving.versions(f"{token}-py313-arm64")) == {1}
        assert [end["status"] for end in ends[version]] == ["SUCCEEDED"]
    names = {execution.name for version in versions.values() for execution in executions[version]}
    zips = [key for key in resolving.objects("builds/") if key.endswith("/layer.zip")]
    assert sum(key.split("/")[1] in names for key in zips) == new
    figures = f"{seconds:.0f} s, memory {before} -> {memory()} MB"
    tried(f"{uploads} uploads at once, of which {new} need a job", uploads, uploads, figures)
