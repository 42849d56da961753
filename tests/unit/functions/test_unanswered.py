"""Builds that nobody answered: what AWS tells of them becomes an answer."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from layerdrop.end_event import end_event

from .test_handlers import EXECUTION, KEY, MANIFEST, record

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "functions/layerdrop/schemas/end-event.schema.json").read_text())


@pytest.fixture
def events(account: Any) -> Callable[[], list[Any]]:
    """The end events on the bus, each by its schema."""
    import boto3

    sqs, bus = (boto3.client(service, "us-east-1") for service in ("sqs", "events"))
    url = sqs.create_queue(QueueName="ends")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus.put_rule(Name="ends", EventPattern=json.dumps({"source": ["layerdrop"]}))
    bus.put_targets(Rule="ends", Targets=[{"Id": "queue", "Arn": arn}])

    def read() -> list[Any]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        details = [json.loads(message["Body"])["detail"] for message in messages]
        for detail in details:
            jsonschema.Draft202012Validator(SCHEMA).validate(detail)
        return details

    return read


def ended(
    account: Any, build_input: Any, status: str, error: str = "", ago: timedelta = timedelta(minutes=5)
) -> dict[str, Any]:
    """An execution that ended so, and what EventBridge sends of it."""
    (machine,) = account.step_functions.list_state_machines()["stateMachines"]
    started = account.step_functions.start_execution(
        stateMachineArn=machine["stateMachineArn"],
        name=f"n-{build_input.sequencer}",
        input=json.dumps({"input": build_input.to_json()}),
    )
    from moto.stepfunctions.models import stepfunctions_backends

    backend = stepfunctions_backends["123456789012"]["us-east-1"]
    execution = backend.describe_execution(started["executionArn"])
    execution.status, execution.error, execution.cause = status, error or None, None
    execution.stop_date = datetime.now(UTC) - ago
    return {
        "source": "aws.states",
        "detail-type": "Step Functions Execution Status Change",
        "detail": {"executionArn": started["executionArn"], "status": status},
    }


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        ("ABORTED", "", "BUILD_ABORTED"),
        ("TIMED_OUT", "", "BUILD_TIMED_OUT"),
        ("FAILED", "States.Runtime", "INTERNAL_ERROR"),
    ],
)
def test_an_end_without_an_answer_gets_one(
    account: Any, handler: Any, events: Any, status: str, error: str, code: str
) -> None:
    build_input = account.upload(KEY, b"requests")
    handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    event = ended(account, build_input, status, error)
    handler("write_manifest", event)
    manifest = account.json(MANIFEST)
    assert (manifest["status"], manifest["error"]["code"]) == ("FAILED", code)
    assert [detail["error"]["code"] for detail in events()] == [code]


LOOK = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}


@pytest.mark.parametrize("status", ["ABORTED", "TIMED_OUT", "FAILED"])
def test_an_end_that_nobody_told_of_is_found(account: Any, handler: Any, events: Any, status: str) -> None:
    build_input = account.upload(KEY, b"requests")
    handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    handler("write_manifest", LOOK)
    assert account.json(MANIFEST)["status"] == "BUILDING"
    ended(account, build_input, status)
    handler("write_manifest", LOOK)
    found = account.json(MANIFEST)
    assert found["status"] == "FAILED"
    assert len(events()) == 1
    handler("write_manifest", LOOK)
    assert account.json(MANIFEST) == found
    assert events() == []


def test_only_ends_of_the_last_hours_are_looked_into(account: Any, handler: Any) -> None:
    build_input = account.upload(KEY, b"requests")
    handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    ended(account, build_input, "ABORTED", ago=timedelta(hours=3, minutes=1))
    handler("write_manifest", LOOK)
    assert account.json(MANIFEST)["status"] == "BUILDING"


def test_the_end_of_an_older_upload_is_not_told_again_and_again(
    account: Any, handler: Any, events: Any
) -> None:
    older = account.upload(KEY, b"a", "01")
    account.upload(KEY, b"b", "02")
    ended(account, older, "ABORTED")
    handler("write_manifest", LOOK)
    handler("write_manifest", LOOK)
    assert account.manifests() == []
    assert events() == []


def test_a_failed_build_that_has_its_answer_is_left_alone(account: Any, handler: Any, events: Any) -> None:
    build_input = account.upload(KEY, b"requests")
    state = {"input": build_input.to_json(), "execution": EXECUTION}
    handler("write_manifest", {**state, "error": {"Error": "X", "Cause": "why"}})
    assert len(events()) == 1
    before = account.json(MANIFEST)
    handler("write_manifest", ended(account, build_input, "FAILED", "BuildFailed"))
    assert account.json(MANIFEST) == before
    assert events() == []


def test_an_answer_that_was_written_but_not_told_is_told(account: Any, handler: Any, events: Any) -> None:
    build_input = account.upload(KEY, b"requests")
    state = {"input": build_input.to_json(), "execution": EXECUTION}
    handler("write_manifest", {**state, "error": {"Error": "X", "Cause": "why"}})
    (first,) = events()
    handler("write_manifest", ended(account, build_input, "FAILED", "ClientError"))
    assert events() == [first]


def test_an_upload_that_starts_nothing_is_answered(account: Any, handler: Any, events: Any) -> None:
    build_input = account.upload(KEY, b"requests")
    failure = {
        "requestContext": {"condition": "RetriesExhausted"},
        "requestPayload": {"Records": [record(build_input)]},
        "responsePayload": {"errorType": "KeyError", "errorMessage": "'x'"},
    }
    handler("write_manifest", failure)
    manifest = account.json(MANIFEST)
    assert (manifest["status"], manifest["error"]["code"]) == ("FAILED", "BUILD_NOT_STARTED")
    assert manifest["execution"] is None
    assert events()[0]["execution"] is None
    # It had started after all: then the execution answers.
    handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    handler("write_manifest", failure)
    assert account.json(MANIFEST)["status"] == "BUILDING"
    assert events() == []


def test_a_superseded_build_says_so(account: Any, handler: Any, events: Any) -> None:
    older = account.upload(KEY, b"a", "01")
    account.upload(KEY, b"b", "02")
    state = {"input": older.to_json(), "execution": EXECUTION}
    result = handler("write_manifest", {**state, "error": {"Error": "X", "Cause": "why"}})
    assert result == {"status": "SUPERSEDED"}
    assert [(detail["status"], detail["error"]) for detail in events()] == [("SUPERSEDED", None)]


def test_an_event_stays_below_its_limit() -> None:
    layer = dict.fromkeys(("architecture", "runtime", "layer_name", "layer_version_arn"), "x" * 140)
    manifest = {
        "input": {"bucket": "b", "key": "k" * 1024, "version_id": "v", "etag": "e", "sequencer": "0"},
        "execution": None,
        "layers": [{**layer, "version": 1, "reused": False, "packages": ["p" * 10**6]}] * 4,
        "error": {"code": "C", "message": "m" * 10**6, "hint": "h", "details": {"d": "x" * 10**6}},
    }
    assert len(json.dumps(end_event(manifest, "FAILED"))) < 64 * 1024
