import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from local import lambda_async
from local.lambda_async import AsyncInvocations, FailureHandling
from local.lambda_runtime import Answer, Function, ShutDownError

FUNCTION = Function(
    "arn:aws:lambda:us-east-1:123456789012:function:box", "box", "$LATEST", "m.h", "python3.13", "role",
    Path(), (), 128, 3, "/log", 1,
)  # fmt: skip
FAILED = Answer('{"errorType": "ValueError", "errorMessage": "bad"}', "Unhandled")


@dataclass
class World:
    """A function that fails a number of times, and queues."""

    failures: int
    calls: list[tuple[object, str]] = field(default_factory=list)
    messages: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    def invoke(self, _function: Function, event: object, request_id: str) -> Answer:
        self.calls.append((event, request_id))
        return FAILED if len(self.calls) <= self.failures else Answer("null", None)

    def send(self, role: str, queue: str, body: str, attributes: Mapping[str, str]) -> None:
        self.messages.append((queue, body, attributes))
        assert role == FUNCTION.role

    def run(self, handling: FailureHandling) -> None:
        invocations = AsyncInvocations(self.invoke, self.send)
        invocations.accept(FUNCTION, {"n": 1}, handling)
        deadline = time.monotonic() + 5
        while len(self.calls) <= min(self.failures, handling.retries) and time.monotonic() < deadline:
            time.sleep(0.01)
        invocations._threads.shutdown()  # waits, unlike close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lambda_async, "RETRY_DELAYS", (0.01, 0.01))


@pytest.mark.parametrize(("failures", "tries"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_a_failure_is_tried_twice_more_under_the_same_request_id(failures: int, tries: int) -> None:
    world = World(failures)
    world.run(FailureHandling())
    assert [event for event, _ in world.calls] == [{"n": 1}] * tries
    assert len({request_id for _, request_id in world.calls}) == 1


def test_the_destination_gets_the_record_of_the_last_try_only() -> None:
    world = World(9)
    world.run(FailureHandling(retries=1, destination="arn:aws:sqs:us-east-1:1:queue"))
    [(queue, body, _)] = world.messages
    record = json.loads(body)
    request_id = world.calls[0][1]
    timestamp = record.pop("timestamp")
    assert queue == "arn:aws:sqs:us-east-1:1:queue"
    assert timestamp.endswith("Z")
    # The form of the Lambda developer guide's example.
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{FUNCTION.arn}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 2,
        },
        "requestPayload": {"n": 1},
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
        "responsePayload": {"errorType": "ValueError", "errorMessage": "bad"},
    }


def test_a_dead_letter_is_the_event_itself() -> None:
    world = World(9)
    world.run(FailureHandling(retries=0, dead_letters="arn:queue"))
    [(queue, body, attributes)] = world.messages
    assert (queue, json.loads(body)) == ("arn:queue", {"n": 1})
    assert attributes == {"RequestID": world.calls[0][1], "ErrorCode": "200", "ErrorMessage": "bad"}


def test_success_in_the_end_sends_nothing() -> None:
    world = World(2)
    world.run(FailureHandling(destination="arn:queue", dead_letters="arn:queue"))
    assert world.messages == []


def test_closing_waits_for_no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lambda_async, "RETRY_DELAYS", (60, 60))
    world = World(9)
    invocations = AsyncInvocations(world.invoke, world.send)
    invocations.accept(FUNCTION, {}, FailureHandling(destination="arn:queue"))
    deadline = time.monotonic() + 5
    while not world.calls and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.monotonic()
    invocations.close()
    assert time.monotonic() - began < 5
    assert (len(world.calls), world.messages) == (1, [])


def test_an_invocation_lost_to_our_own_fault_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def invoke(*_: object) -> Answer:
        raise OSError("no more processes")

    invocations = AsyncInvocations(invoke, lambda *_: None)
    invocations.accept(FUNCTION, {}, FailureHandling())
    invocations._threads.shutdown()
    assert "no more processes" in caplog.text


def test_shutting_down_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    refused = threading.Event()

    def invoke(*_: object) -> Answer:
        refused.set()
        raise ShutDownError

    messages: list[object] = []
    invocations = AsyncInvocations(invoke, lambda *message: messages.append(message))
    invocations.accept(FUNCTION, {}, FailureHandling(destination="arn:queue"))
    assert refused.wait(5)
    invocations._threads.shutdown()
    assert (messages, caplog.text) == ([], "")
