"""The catalogue in the bucket: by many writers at once, after loss, and over whatever lies there."""

import gzip
import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerdrop.catalogue import looking
from layerdrop.catalogue.index import Place
from layerdrop.catalogue.page import render
from layerdrop.catalogue.store import Catalogue
from tests.catalogue_documents import DATABASE, arn, finding, package, release_document, schema
from tests.conftest import sampled

Call = Callable[..., Any]
INDEX = "catalogue/index.json"
PAGE = "catalogue/index.html"
VULNERABILITIES = "catalogue/vulnerabilities.json"
OUTDATED = "catalogue/outdated.json"
WEB = "web-py313-arm64"
API = "api-py312-x86_64"
JOBS = "jobs-py314-arm64"
SWEEP = {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
VALIDATOR = jsonschema.Draft202012Validator(schema("catalogue"), format_checker=jsonschema.FormatChecker())
PLACE = Place("layerdrop", "us-east-1", "123456789012")


def message(body: object) -> dict[str, Any]:
    """What the queue hands on."""
    return {"messageId": "1", "body": body if isinstance(body, str) else json.dumps(body)}


def told(*names: Any) -> dict[str, Any]:
    """What the queue hands on when builds of these layers have ended."""
    layers = [{"layer_name": name} for name in names]
    return {"Records": [message({"detail-type": "Layer Build Ended", "detail": {"layers": layers}})]}


def document(account: Any, name: str, version: int, **changes: Any) -> None:
    account.put_json(f"catalogue/releases/{name}/{version}.json", release_document(name, version, **changes))


def point(account: Any, name: str, version: int) -> None:
    account.ssm.put_parameter(
        Name=f"/layerdrop/{name}", Value=arn(name, version), Type="String", Overwrite=True
    )


def release(account: Any, name: str, version: int, **changes: Any) -> None:
    """A version is released: its document is there, the pointer leads to it."""
    document(account, name, version, **changes)
    point(account, name, version)


def vulnerable(account: Any, **versions: int) -> None:
    """The watch has found something in these versions."""
    layers = {
        name: {
            "version": version,
            "layer_version_arn": arn(name, version),
            "input_key": None,
            "asked": "2026-11-21T06:00:00.000Z",
            "findings": [finding()],
        }
        for name, version in versions.items()
    }
    account.put_json(
        VULNERABILITIES,
        {
            "schema": "layerdrop/vulnerabilities/1",
            "written": "2026-11-21T06:00:00.000Z",
            "database": DATABASE,
            "layers": layers,
        },
    )


def index_of(account: Any) -> Any:
    """The index, which is by its schema, and which the page shows."""
    got = account.s3.get_object(Bucket=account.bucket, Key=INDEX)
    found = json.loads(got["Body"].read())
    VALIDATOR.validate(found)
    page = account.s3.get_object(Bucket=account.bucket, Key=PAGE)
    assert gzip.decompress(page["Body"].read()) == render(found)
    assert (page["ContentEncoding"], page["ContentType"]) == ("gzip", "text/html; charset=utf-8")
    assert page["Metadata"]["made-from"].startswith(got["ETag"].strip('"') + "/")
    return found


def layers(account: Any) -> dict[str, Any]:
    return {layer["name"]: layer for layer in index_of(account)["layers"]}


def catalogue(account: Any, s3: Any = None, ssm: Any = None) -> Catalogue:
    moment = datetime(2026, 11, 22, 6, tzinfo=UTC)
    return Catalogue(
        s3 or account.s3, ssm or account.ssm, account.bucket, PLACE, lambda: moment, lambda _: None
    )


def made_at_once(account: Any) -> Any:
    """The index that whoever begins with nothing makes."""
    for key in (INDEX, PAGE):
        account.s3.delete_object(Bucket=account.bucket, Key=key)
    catalogue(account).update(None)
    return index_of(account)["layers"]


def versions(account: Any, key: str) -> int:
    listed = account.s3.list_object_versions(Bucket=account.bucket, Prefix=key).get("Versions", [])
    return len(listed)


def test_a_release_is_in_the_catalogue(account: Any, handler: Call) -> None:
    release(account, WEB, 1)
    release(account, WEB, 2, packages=[package("httpx"), package("requests", "2.32.2")])
    assert handler("update_catalogue", told(WEB)) == {"layers": 1}
    layer = layers(account)[WEB]
    assert (layer["version"], layer["pointer"]) == (2, f"/layerdrop/{WEB}")
    assert [one["version"] for one in layer["history"]] == [2, 1]
    assert layer["history"][0]["changes"] == {
        "added": [{"package": "httpx", "version": "1.0.0"}],
        "removed": [],
        "changed": [{"package": "requests", "from": "2.32.1", "to": "2.32.2"}],
    }
    assert layer["history"][1]["changes"] is None


def test_who_moves_a_pointer_back_sees_it_after_the_sweep(account: Any, handler: Call) -> None:
    release(account, WEB, 1)
    release(account, WEB, 2)
    handler("update_catalogue", told(WEB))
    point(account, WEB, 1)
    handler("update_catalogue", SWEEP)
    layer = layers(account)[WEB]
    assert (layer["version"], [one["version"] for one in layer["history"]]) == (1, [2, 1])


def test_a_version_of_before_the_catalogue_is_named(account: Any, handler: Call) -> None:
    account.put_json(f"claims/{WEB}.json", {})
    point(account, WEB, 4)
    handler("update_catalogue", told(WEB))
    layer = layers(account)[WEB]
    assert (layer["version"], layer["runtime"], layer["architecture"]) == (4, "python3.13", "arm64")
    assert (layer["released"], layer["packages"], layer["history"]) == (None, [], [])


@pytest.mark.attack("whoever uploads: layers of the account's other stacks, in this one's catalogue")
@pytest.mark.parametrize("event", [told(WEB), SWEEP], ids=["told", "sweep"])
def test_another_stack_s_layers_are_none_of_this_one_s(account: Any, handler: Call, event: Any) -> None:
    point(account, WEB, 1)  # neither a claim nor a document
    account.put_json(f"claims/{WEB}-py313-arm64.json", {})  # of a name that only begins alike
    handler("update_catalogue", event)
    assert layers(account) == {}


@pytest.mark.parametrize("value", ["", "none", arn(API, 1), arn(WEB, 1) + "0" * 20, arn(WEB, 1).upper()])
def test_a_pointer_that_leads_nowhere_is_no_layer(account: Any, handler: Call, value: str) -> None:
    release(account, WEB, 1)
    release(account, API, 1)
    handler("update_catalogue", SWEEP)
    account.ssm.put_parameter(Name=f"/layerdrop/{WEB}", Value=value or " ", Type="String", Overwrite=True)
    handler("update_catalogue", told(WEB))
    assert set(layers(account)) == {API}


def test_what_changes_nothing_writes_nothing(account: Any, handler: Call) -> None:
    release(account, WEB, 1)
    for event in (told(WEB), told(WEB), SWEEP, told(), told("unknown-py313-arm64")):
        handler("update_catalogue", event)
    assert (versions(account, INDEX), versions(account, PAGE)) == (1, 1)


def test_a_known_layer_s_documents_are_not_read_again(account: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (1, 2, 3):
        release(account, WEB, version)
    catalogue(account).update(None)
    read: list[Any] = []
    monkeypatch.setattr(looking.Releases, "read", lambda *given: read.append(given))
    catalogue(account).update(None)
    catalogue(account).update([WEB])
    assert read == []


def test_a_document_that_is_written_again_is_read_again(account: Any, handler: Call) -> None:
    release(account, WEB, 1)
    handler("update_catalogue", SWEEP)
    document(account, WEB, 1, built="2026-11-30T10:00:00.000Z", shared_with=["123456789012"])
    handler("update_catalogue", SWEEP)
    assert layers(account)[WEB]["built"] == "2026-11-30T10:00:00.000Z"


def test_a_retired_version_leaves_the_history(account: Any, handler: Call) -> None:
    for version in (1, 2, 3):
        release(account, WEB, version)
    handler("update_catalogue", SWEEP)
    account.s3.delete_object(Bucket=account.bucket, Key=f"catalogue/releases/{WEB}/2.json")
    handler("update_catalogue", told(WEB))
    newest = layers(account)[WEB]["history"][0]
    assert newest["changes"]["changed"] == [{"package": "requests", "from": "2.32.1", "to": "2.32.3"}]


def test_the_history_is_bounded_and_has_what_is_pointed_to(account: Any, handler: Call) -> None:
    for version in range(1, 61):
        document(account, WEB, version)
    point(account, WEB, 3)
    handler("update_catalogue", SWEEP)
    history = layers(account)[WEB]["history"]
    assert [one["version"] for one in history] == [*range(60, 11, -1), 3]
    assert [one["changes"]["changed"][0]["from"] for one in history[-2:]] == ["2.32.11", "2.32.2"]


def test_findings_are_those_of_the_version_that_is_pointed_to(account: Any, handler: Call) -> None:
    release(account, WEB, 1)
    release(account, API, 1)
    vulnerable(account, **{WEB: 1, API: 2})
    handler("update_catalogue", told(WEB))
    found = index_of(account)
    assert found["watch"] == {"asked": "2026-11-21T06:00:00.000Z", "database": DATABASE}
    assert [one["id"] for one in layers(account)[WEB]["findings"]] == ["GHSA-48p4-8xcf-vxj5"]
    assert (layers(account)[API]["findings"], layers(account)[API]["asked"]) == ([], None)
    release(account, WEB, 2)
    handler("update_catalogue", told(WEB))
    assert (layers(account)[WEB]["findings"], layers(account)[WEB]["asked"]) == ([], None)


@pytest.mark.parametrize(
    "spoilt", [b"", b"{", b"[]", b'{"schema": "layerdrop/vulnerabilities/1"}', b"\xff" * 9]
)
@pytest.mark.parametrize("key", [VULNERABILITIES, OUTDATED])
def test_a_spoilt_document_of_the_watch_holds_nothing_up(
    account: Any, handler: Call, key: str, spoilt: bytes
) -> None:
    account.s3.put_object(Bucket=account.bucket, Key=key, Body=spoilt)
    release(account, WEB, 1)
    handler("update_catalogue", told(WEB))
    assert layers(account)[WEB]["findings"] == []


def test_one_spoilt_layer_of_the_watch_s_says_nothing_of_the_others(account: Any, handler: Call) -> None:
    release(account, WEB, 1)
    release(account, API, 1)
    vulnerable(account, **{WEB: 1, API: 1})
    document = account.json(VULNERABILITIES)
    document["layers"][WEB]["findings"][0]["score"] = 1e400
    account.s3.put_object(Bucket=account.bucket, Key=VULNERABILITIES, Body=json.dumps(document).encode())
    handler("update_catalogue", told(WEB))
    assert [len(layers(account)[name]["findings"]) for name in (WEB, API)] == [0, 1]


SPOILT: dict[str, Callable[[Any], Any]] = {
    "a size": lambda index: index["layers"][0].update(unzipped_bytes=1),
    "a package": lambda index: index["layers"][0]["packages"][0].update(version="9"),
    "a type": lambda index: index["layers"][0].update(packages="none"),
    "a name": lambda index: index["layers"][0].update(name=WEB),
    "more": lambda index: index["layers"][0].update(more=1),
    "less": lambda index: index["layers"][0].pop("history"),
    "twice": lambda index: index["layers"].append(index["layers"][0]),
    "no object": lambda index: index["layers"].append(None),
    "no layers": lambda index: index.update(layers={}),
    "no list": lambda index: index.update(layers=None),
    "another schema": lambda index: index.update(schema="layerdrop/catalogue/2"),
}
GARBAGE = (b"", b"[" * 100_000, b'{"schema": "layerdrop/catalogue/1", "layers": [{', b"\xff", b"NaN")


@pytest.mark.parametrize("how", [*SPOILT, *range(len(GARBAGE))])
def test_an_index_that_a_hand_has_broken_is_made_whole(account: Any, handler: Call, how: str | int) -> None:
    for name in (API, JOBS, WEB):
        release(account, name, 1)
    handler("update_catalogue", SWEEP)
    whole = index_of(account)["layers"]
    index = index_of(account)
    if isinstance(how, str):
        SPOILT[how](index)
        account.put_json(INDEX, index)
    else:
        account.s3.put_object(Bucket=account.bucket, Key=INDEX, Body=GARBAGE[how])
    handler("update_catalogue", told(JOBS))  # none of those that were spoilt
    assert index_of(account)["layers"] == whole


def test_what_a_hand_took_out_is_back_after_the_sweep(account: Any, handler: Call) -> None:
    for name in (API, WEB):
        release(account, name, 1)
    handler("update_catalogue", SWEEP)
    index = account.json(INDEX)
    del index["layers"][0]
    account.put_json(INDEX, index)
    handler("update_catalogue", SWEEP)
    assert set(layers(account)) == {API, WEB}


@pytest.mark.parametrize("gone", [INDEX, PAGE])
def test_what_was_deleted_is_made_again(account: Any, handler: Call, gone: str) -> None:
    for name in (API, WEB):
        release(account, name, 1)
    handler("update_catalogue", SWEEP)
    account.s3.delete_object(Bucket=account.bucket, Key=gone)
    handler("update_catalogue", told(WEB))
    assert set(layers(account)) == {API, WEB}


def test_a_page_of_other_code_is_made_again(account: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    release(account, WEB, 1)
    monkeypatch.setattr("layerdrop.catalogue.store._renderer", lambda: "of yesterday")
    catalogue(account).update(None)
    monkeypatch.undo()
    catalogue(account).update(None)
    assert (versions(account, INDEX), versions(account, PAGE)) == (1, 2)


@pytest.mark.attack("whoever may send events: what they say of layers, in the catalogue")
@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[" * 100_000,
        "null",
        '"text"',
        {},
        {"detail-type": "Layer Build Ended"},
        {"detail-type": "Layer Build Ended", "detail": {"layers": 3}},
        {"detail-type": "Layer Build Ended", "detail": {"layers": [{"layer_name": ["a"]}]}},
        {"detail-type": "Layer Build Ended", "detail": {"layers": [{"layer_name": "../index"}]}},
        {
            "detail-type": "Layer Build Ended",
            "detail": {"layers": [{"layer_name": f"{'a' * 140}-py313-arm64"}]},
        },
        {"detail-type": "Layer Build Ended", "detail": {"layers": [{"layer_name": f"{WEB}\n"}]}},
        {"detail-type": "Another", "detail": {"layers": [{"layer_name": WEB}]}},
    ],
)
def test_of_an_event_only_good_names_count(
    account: Any, handler: Call, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    looked: list[str] = []
    handler("update_catalogue", SWEEP)
    monkeypatch.setattr(looking.Releases, "listed", lambda _, name=None: looked.append(name) or {})
    handler("update_catalogue", {"Records": [message(body), *told(API)["Records"]]})
    assert looked == [API]


def test_what_is_neither_a_message_nor_the_hour_is_refused(handler: Call) -> None:
    with pytest.raises(ValueError, match="neither"):
        handler("update_catalogue", {"detail-type": "Layer Build Ended", "detail": {}})


def test_what_there_is_no_time_for_comes_with_the_next_sweep(account: Any) -> None:
    for name in (API, WEB):
        release(account, name, 1)
    release(account, JOBS, 1)
    catalogue(account).update(
        [JOBS], until=time.monotonic() - 1
    )  # there is no index: all of them, in no time
    assert layers(account) == {}
    catalogue(account).update(None)
    release(account, WEB, 2)
    catalogue(account).update(None, until=time.monotonic() - 1)
    assert layers(account)[WEB]["version"] == 1
    catalogue(account).update(None)
    assert layers(account)[WEB]["version"] == 2


@pytest.mark.attack("a package's author: text that a page or a terminal obeys, in the catalogue")
def test_hostile_text_is_told_and_does_nothing(account: Any, handler: Call) -> None:
    hostile = "<script>alert(1)</script>\x1b[2J\u202e\ud800</script>حزمة" + "x" * 100_000
    release(account, WEB, 1, packages=[package("evil", "1", license=hostile)], warnings=[hostile])
    handler("update_catalogue", told(WEB))
    layer = layers(account)[WEB]
    assert len(layer["packages"][0]["license"]) <= 200
    assert "حزمة" in layer["packages"][0]["license"]
    raw = account.s3.get_object(Bucket=account.bucket, Key=INDEX)["Body"].read()
    page = gzip.decompress(account.s3.get_object(Bucket=account.bucket, Key=PAGE)["Body"].read())
    for what in (raw, page):
        assert b"\x1b" not in what
        assert "\u202e".encode() not in what
    assert b"<script>alert" not in page


# --------------------------------------------------------------------------- any order, doubled, lost

NAMES = (API, JOBS, WEB)
changes = st.one_of(
    st.tuples(st.just("release"), st.sampled_from(NAMES), st.integers(1, 4)),
    st.tuples(st.just("point"), st.sampled_from(NAMES), st.integers(1, 4)),
    st.tuples(st.just("retire"), st.sampled_from(NAMES), st.integers(1, 4)),
    st.tuples(st.just("unpoint"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("watch"), st.sampled_from(NAMES), st.integers(1, 4)),
)


def do(account: Any, what: str, name: str, version: int) -> None:
    if what == "release":
        # What it holds goes with the number, so that the same number again is a document written again.
        release(account, name, version, built=f"2026-11-30T10:00:0{random.randrange(10)}.000Z")
    elif what == "point":
        point(account, name, version)
    elif what == "retire":
        account.s3.delete_object(Bucket=account.bucket, Key=f"catalogue/releases/{name}/{version}.json")
    elif what == "unpoint":
        account.ssm.delete_parameters(Names=[f"/layerdrop/{name}"])
    else:
        vulnerable(account, **{name: version})


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    done=st.lists(st.tuples(changes, st.lists(st.sampled_from(NAMES), max_size=2)), max_size=10),
    late=st.lists(st.sampled_from(NAMES), max_size=4),
)
@pytest.mark.long
def test_whatever_was_told_after_a_sweep_it_is_as_made_at_once(account: Any, done: Any, late: Any) -> None:
    """Updates come in any order, doubled, of what did not change, or not at all."""
    empty(account)
    writer = catalogue(account)
    for change, names in done:
        do(account, *change)
        if names:
            writer.update(names)
            index_of(account)
    writer.update(late)
    writer.update(None)
    assert index_of(account)["layers"] == made_at_once(account)


def empty(account: Any) -> None:
    listed = account.s3.list_objects_v2(Bucket=account.bucket).get("Contents", [])
    for item in listed:
        account.s3.delete_object(Bucket=account.bucket, Key=item["Key"])
    account.ssm.delete_parameters(Names=[f"/layerdrop/{name}" for name in NAMES])


# -------------------------------------------------------------------------------- many writers at once


class DeadError(Exception):
    """A function was ended in the middle."""


class Client:
    """A client each of whose calls goes through another function."""

    def __init__(self, client: Any, call: Callable[..., Any]) -> None:
        self.client, self.call = client, call

    def get_paginator(self, name: str) -> Any:
        paginate = self.client.get_paginator(name).paginate
        return SimpleNamespace(paginate=lambda **given: self.call(lambda: list(paginate(**given))))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        return lambda **given: self.call(lambda: found(**given))


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks AWS of several layers at once asks one after the other."""
    monkeypatch.setattr(
        looking, "_in_threads", lambda call, items: {item: call(item) for item in list(items)}
    )


# What happens, and the update that follows.
WRITERS: dict[str, tuple[Callable[[Any], Any], list[str] | None]] = {
    "a new layer": (lambda account: release(account, JOBS, 1), [JOBS]),
    "a new version": (lambda account: release(account, WEB, 2), [WEB]),
    "another new version": (lambda account: release(account, WEB, 3), [WEB]),
    "the watch": (lambda account: vulnerable(account, **{API: 1}), []),
    "a sweep": (lambda account: point(account, API, 2), None),
    "nothing new": (lambda _: None, [API]),
}


QUICK = (
    ("nothing new", "a new layer"),
    ("a new version", "the watch"),
    ("a sweep", "a new version"),
    ("a new version", "a new version"),
)


@pytest.mark.sample(1)
@pytest.mark.usefixtures("in_turn")
@pytest.mark.parametrize(
    "pair", sampled(itertools.product(WRITERS, WRITERS), lambda pair: pair in QUICK), ids=" / ".join
)
def test_a_writer_in_the_middle_of_another_loses_nothing(account: Any, pair: tuple[str, str]) -> None:
    """Before each call of the first, the second comes and goes; or the first dies there, and is called again.

    A page that a dead writer left behind is there to be found.
    """
    first, second = pair
    happens, names = WRITERS[first]
    comes, others = WRITERS[second]
    for at in itertools.count(1):
        empty(account)
        release(account, WEB, 1)
        release(account, API, 1)
        document(account, API, 2)
        catalogue(account).update(None)
        account.s3.put_object(Bucket=account.bucket, Key=PAGE, Body=b"of before")
        calls = itertools.count(1)

        def interrupted(call: Callable[[], Any], calls: Any = calls, at: int = at) -> Any:
            if next(calls) == at:
                if first == second:
                    raise DeadError
                comes(account)
                catalogue(account).update(others)
            return call()

        happens(account)
        with suppress(DeadError):
            catalogue(account, Client(account.s3, interrupted), Client(account.ssm, interrupted)).update(
                names
            )
        if first == second:
            catalogue(account).update(names)
        found = index_of(account)
        assert found["layers"] == made_at_once(account), f"before call {at}"
        if next(calls) <= at:
            break
    assert at > 5


class Turns:
    """Lets threads call AWS one at a time, in an order of chance: a call may come before any other's."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.changed = threading.Condition()
        self.waiting: set[str] = set()
        self.running = 0
        self.next: str | None = None

    def run(self, works: list[Callable[[], Any]]) -> None:
        """Run them to their ends; an error of one is an error."""
        self.running = len(works)
        with ThreadPoolExecutor(len(works)) as threads:
            futures = [threads.submit(self._one, work) for work in works]
        for future in futures:
            future.result()

    def _one(self, work: Callable[[], Any]) -> None:
        try:
            work()
        finally:
            with self.changed:
                self.running -= 1
                self._choose()

    def call(self, function: Callable[[], Any]) -> Any:
        """Wait for one's turn, then call."""
        name = threading.current_thread().name
        with self.changed:
            self.waiting.add(name)
            self._choose()
            self.changed.wait_for(lambda: self.next == name)
            try:
                return function()
            finally:
                self.waiting.discard(name)
                self.next = None

    def _choose(self) -> None:
        if self.next is None and self.waiting and len(self.waiting) == self.running:
            self.next = self.chance.choice(sorted(self.waiting))
            self.changed.notify_all()


@pytest.mark.usefixtures("in_turn")
@pytest.mark.parametrize("seed", sampled(range(60), lambda seed: seed < 5))
def test_of_many_writers_none_is_lost(account: Any, seed: int) -> None:
    """Each calls AWS whenever it likes, and no sweep comes after."""
    turns = Turns(seed)
    writer = catalogue(account, Client(account.s3, turns.call), Client(account.ssm, turns.call))
    release(account, WEB, 1)
    release(account, API, 1)
    document(account, API, 2)

    def work(happens: Callable[[Any], Any], names: list[str] | None) -> None:
        turns.call(lambda: happens(account))
        writer.update(names)

    turns.run([lambda one=one: work(*one) for one in WRITERS.values()])
    assert index_of(account)["layers"] == made_at_once(account)
