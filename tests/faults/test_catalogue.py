"""The catalogue comes to what there is, whatever becomes of those who write it and of what they are told."""

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.settings import BUCKET

from .harness import Pipeline
from .proxy import KINDS, Call
from .test_aws_faults import text_of

INDEX, PAGE = "catalogue/index.json", "catalogue/index.html"
NAMES = [f"shown{number}" for number in range(3)]
LAYERS = {f"{name}-py313-arm64" for name in NAMES}


@pytest.fixture(scope="module")
def built(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Layers that are there, and of which the catalogue has not heard."""
    keys = [f"requirements/arm64/{name}/requirements.txt" for name in NAMES]
    pipeline.wait([pipeline.upload(key, text_of(name)) for key, name in zip(keys, NAMES, strict=True)])
    pipeline.tell_catalogue(True)
    yield pipeline
    pipeline.tell_catalogue(False)


def shown(pipeline: Pipeline) -> set[str]:
    """The layers of these tests that index and page have, if the page is that index's."""
    s3 = pipeline.aws.clients.s3
    try:
        index = s3.get_object(Bucket=BUCKET, Key=INDEX)
        page = s3.get_object(Bucket=BUCKET, Key=PAGE)
        names = {layer["name"] for layer in json.load(index["Body"])["layers"]}
    except (ClientError, ValueError, TypeError, KeyError, RecursionError):
        return set()
    if not page["Metadata"].get("made-from", "").startswith(index["ETag"].strip('"')):
        return set()
    text = gzip.decompress(page["Body"].read()).decode()
    return {name for name in names & LAYERS if name in text}


def forget(pipeline: Pipeline) -> None:
    for key in (INDEX, PAGE):
        pipeline.aws.clients.s3.delete_object(Bucket=BUCKET, Key=key)


def tell(pipeline: Pipeline, *names: str) -> None:
    """Say on the bus that builds of layers have ended, each by itself."""
    send(pipeline, [[name] for name in names])


def send(pipeline: Pipeline, builds: list[list[str]]) -> None:
    """Say on the bus that builds have ended, of such layers each."""
    details = [
        {"input": {"bucket": BUCKET}, "layers": [{"layer_name": name} for name in names]} for names in builds
    ]
    entries = [
        {"Source": "layerdrop", "DetailType": "Layer Build Ended", "Detail": json.dumps(detail)}
        for detail in details
    ]
    pipeline.aws.clients.get("events").put_events(Entries=entries)


def sweep(pipeline: Pipeline) -> Any:
    strike = json.dumps({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})
    function = pipeline.values["Catalogue.UpdateCatalogue"]
    return pipeline.aws.clients.lambda_.invoke(FunctionName=function, Payload=strike)


def waits(pipeline: Pipeline, queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = pipeline.aws.clients.get("sqs").get_queue_attributes(
        QueueUrl=pipeline.values[f"Catalogue.{queue}"], AttributeNames=names
    )
    return sum(int(told["Attributes"][name]) for name in names)


def settled(pipeline: Pipeline) -> bool:
    return shown(pipeline) == LAYERS and waits(pipeline, "Updates") == 0


def test_what_the_catalogue_was_not_told_it_finds_within_the_hour(built: Pipeline, tried: Any) -> None:
    forget(built)
    built.tell_catalogue(False)
    tell(built, *LAYERS)
    assert waits(built, "Updates") == 0
    built.tell_catalogue(True)
    assert "FunctionError" not in sweep(built)
    assert shown(built) == LAYERS
    tried("catalogue: ends of builds never told, found by the hourly look", len(LAYERS), len(LAYERS))


def nth(which: tuple[str, str], number: int) -> Any:
    seen = [0]

    def matches(call: Call) -> bool:
        if (call.service, call.operation) != which:
            return False
        seen[0] += 1
        return seen[0] > number

    return matches


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_the_catalogue_is_written_whatever_fails(built: Pipeline, tried: Any, kind: str) -> None:
    """At each call of UpdateCatalogue in turn: the messages come again, and index and page are whole."""
    forget(built)
    began = len(built.proxy.calls)
    send(built, [sorted(LAYERS)])  # one message, so that it takes the same calls
    built.until(lambda: settled(built))
    seen, calls = Counter[tuple[str, str]](), []
    for call in built.proxy.calls[began:]:
        which = (call.service, call.operation)
        calls.append((which, seen[which]))
        seen[which] += 1
    assert {("s3", "PutObject catalogue/"), ("ssm", "GetParametersByPath")} <= seen.keys()
    for which, number in calls:
        forget(built)
        before = built.proxy.injected
        rule = built.fail(nth(which, number), kind)
        send(built, [sorted(LAYERS)])
        built.until(lambda: settled(built))
        built.proxy.rules.remove(rule)
        assert built.proxy.injected - before == 1, (which, number)
    assert waits(built, "MissedUpdates") == 0
    tried("catalogue: UpdateCatalogue killed, AWS fails at each of its calls", len(calls), len(calls))


@pytest.mark.long
def test_what_fails_always_is_given_up_and_found_within_the_hour(built: Pipeline, tried: Any) -> None:
    forget(built)
    rule = built.fail(lambda call: call.operation == "HeadObject catalogue/", "killed", 10**6)
    tell(built, *LAYERS)
    built.until(lambda: waits(built, "MissedUpdates") == len(LAYERS))
    assert waits(built, "Updates") == 0
    built.proxy.rules.remove(rule)
    assert "FunctionError" not in sweep(built)
    assert shown(built) == LAYERS
    built.aws.clients.get("sqs").purge_queue(QueueUrl=built.values["Catalogue.MissedUpdates"])
    tried("catalogue: UpdateCatalogue fails at every try, then an hour goes by", 1, 1)


def test_messages_that_come_often_and_in_any_order_change_nothing(built: Pipeline, tried: Any) -> None:
    sweep(built)
    before = built.aws.clients.s3.head_object(Bucket=BUCKET, Key=INDEX)["VersionId"]
    messages = sorted(LAYERS) * 4 + ["no-such-layer-py313-arm64", "../../layers", ""]
    random.Random(15).shuffle(messages)
    tell(built, *messages[:8])
    tell(built, *messages[8:])
    built.until(lambda: settled(built))
    assert built.aws.clients.s3.head_object(Bucket=BUCKET, Key=INDEX)["VersionId"] == before
    tried(
        "catalogue: each message several times, in any order, some of no layer", len(messages), len(messages)
    )


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"nothing",
        b"[]",
        b'{"schema": "layerdrop/catalogue/1", "layers": [{"name": 1}, null]}',
        b"[" * 99_999,
    ],
)
def test_an_index_that_somebody_broke_is_made_anew(built: Pipeline, tried: Any, broken: bytes) -> None:
    s3 = built.aws.clients.s3
    for breaks_page in (False, True):
        s3.put_object(Bucket=BUCKET, Key=INDEX, Body=broken)
        if breaks_page:
            s3.put_object(Bucket=BUCKET, Key=PAGE, Body=broken)
        tell(built, min(LAYERS))
        built.until(lambda: settled(built))
    tried("catalogue: index and page broken by hand", 2, 2)


def test_those_who_write_at_once_lose_nothing(built: Pipeline, tried: Any) -> None:
    for _ in range(3):
        forget(built)
        with ThreadPoolExecutor(4) as threads:
            sweeps = [threads.submit(sweep, built) for _ in range(3)]
            for name in sorted(LAYERS) * 2:
                tell(built, name)
            assert all("FunctionError" not in one.result() for one in sweeps)
        built.until(lambda: settled(built))
    tried("catalogue: five write it at once", 3, 3)
