import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from layerdrop.build_input import BuildInput, Execution
from layerdrop.input_versions import InputVersions
from layerdrop.manifest import Status, building, finished
from layerdrop.manifest_store import ManifestStore, Put

KEY = "requirements/arm64/web/requirements.txt"
MANIFEST = "requirements/arm64/web/manifest.json"
EXECUTION = Execution("arn", "web-1", "2026-11-20T10:00:00Z")
INPUT = BuildInput("layerdrop-test", KEY, "v", "e", "0055AED6DCD90281E5", 1)
END = "2026-11-20T10:00:01Z"


def failed(build_input: BuildInput) -> Any:
    from layerdrop.errors import Problem

    return finished(build_input, EXECUTION, END, problem=Problem("JOB_FAILED", "It failed.", "Try again."))


def store_of(s3: Any) -> ManifestStore:
    return ManifestStore(s3, InputVersions(s3))


class Rival:
    """An S3 client that lets someone else act right before each write."""

    def __init__(self, s3: Any, acts: list[Callable[[], object]]) -> None:
        self._s3, self._acts = s3, acts

    def __getattr__(self, name: str) -> Any:
        if name == "put_object" and self._acts:
            self._acts.pop(0)()
        return getattr(self._s3, name)


@pytest.mark.sample(6)
@pytest.mark.parametrize("seed", range(20))
def test_the_newest_upload_wins_in_any_order(account: Any, seed: int) -> None:
    order = random.Random(seed)
    # Unlike lengths, as S3 gives them: the shorter ones are not the older ones.
    sequencers = ["0055AED6DCD90281E5", "0055AED6DCD90281E6", "0055AED6DCD903", "0055AED6DCD9028"]
    newest = "0055AED6DCD903"
    inputs = [replace(INPUT, sequencer=sequencer, version_id=sequencer) for sequencer in sequencers]
    # Each build says BUILDING before it says how it ended; otherwise any order.
    turns = [build_input for build_input in inputs for _ in range(2)]
    order.shuffle(turns)
    store = store_of(account.s3)
    begun: set[str] = set()
    for build_input in turns:
        say = failed if build_input.sequencer in begun else (lambda given: building(given, EXECUTION))
        begun.add(build_input.sequencer)
        store.put(say(build_input))
    final = account.json(MANIFEST)
    assert final["input"]["sequencer"] == newest
    assert final["status"] == "FAILED"
    # And it never stepped back on the way.
    seen = [manifest["input"]["sequencer"].ljust(18, "0") for manifest in account.manifests()]
    assert seen == sorted(seen)


def test_an_older_upload_is_told_that_it_came_too_late(account: Any) -> None:
    store = store_of(account.s3)
    assert store.put(failed(replace(INPUT, sequencer="02"))) is Put.WRITTEN
    assert store.put(failed(replace(INPUT, sequencer="01"))) is Put.SUPERSEDED
    assert len(account.manifests()) == 1


def test_a_newer_one_in_between_stays(account: Any) -> None:
    plain = store_of(account.s3)
    newer = replace(INPUT, sequencer="02")
    for before in (None, replace(INPUT, sequencer="00")):
        account.s3.delete_object(Bucket=account.bucket, Key=MANIFEST)
        if before:
            plain.put(building(before, EXECUTION))
        rival = Rival(account.s3, [lambda: plain.put(failed(newer))])
        assert store_of(rival).put(failed(replace(INPUT, sequencer="01"))) is Put.SUPERSEDED
        assert account.json(MANIFEST)["input"]["sequencer"] == "02"


def test_an_older_one_in_between_gives_way(account: Any) -> None:
    plain = store_of(account.s3)
    older = itertools.count()

    def act() -> None:
        plain.put(building(replace(INPUT, sequencer=f"00{next(older):02}"), EXECUTION))

    assert (
        store_of(Rival(account.s3, [act, act, act])).put(failed(replace(INPUT, sequencer="01")))
        is Put.WRITTEN
    )
    assert account.json(MANIFEST)["input"]["sequencer"] == "01"


def test_a_manifest_deleted_in_between_is_no_obstacle(account: Any) -> None:
    plain = store_of(account.s3)
    plain.put(building(INPUT, EXECUTION))
    rival = Rival(account.s3, [lambda: account.s3.delete_object(Bucket=account.bucket, Key=MANIFEST)])
    assert store_of(rival).put(failed(INPUT)) is Put.WRITTEN
    assert account.json(MANIFEST)["status"] == "FAILED"


def test_endless_rivalry_is_an_error_not_an_endless_loop(account: Any) -> None:
    counter = itertools.count()

    def act() -> None:
        account.s3.put_object(Bucket=account.bucket, Key=MANIFEST, Body=str(next(counter)).encode())

    with pytest.raises(RuntimeError, match="changed at each of"):
        store_of(Rival(account.s3, [act] * 1000)).put(failed(INPUT))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"[]",
        b'{"input": 5}',
        b'{"input": {"key": "requirements/arm64/web/requirements.txt", "sequencer": 7}}',
        b'{"input": {"sequencer": "FF"}}',
        # Copied along with its folder: another key's events have another order.
        b'{"input": {"key": "requirements/arm64/old/requirements.txt", "sequencer": "FFFF"}}',
        b"\xff\xfe\x00",
        b"[" * 200_000,
    ],
)
def test_what_is_no_manifest_of_this_input_is_overwritten(account: Any, content: bytes) -> None:
    account.s3.put_object(Bucket=account.bucket, Key=MANIFEST, Body=content)
    assert store_of(account.s3).put(failed(INPUT)) is Put.WRITTEN
    assert account.json(MANIFEST)["status"] == "FAILED"


def test_a_refusal_is_not_taken_for_a_lost_race(account: Any) -> None:
    elsewhere = replace(INPUT, bucket="no-such-bucket")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        store_of(account.s3).put(failed(elsewhere))


def test_a_person_can_read_it(account: Any) -> None:
    key = "requirements/arm64/größe/requirements.txt"
    store_of(account.s3).put(failed(replace(INPUT, key=key)))
    got = account.s3.get_object(Bucket=account.bucket, Key="requirements/arm64/größe/manifest.json")
    assert got["ContentType"] == "application/json"
    text = got["Body"].read().decode()
    assert "größe" in text
    assert text.count("\n") > 10


def test_an_upload_without_its_manifest_still_counts(account: Any) -> None:
    """The user may delete any manifest; what was uploaded is still known."""
    older, newer = (account.upload(KEY, content, number) for content, number in ((b"a", "01"), (b"b", "02")))
    store = store_of(account.s3)
    assert store.put(failed(newer)) is Put.WRITTEN
    account.s3.delete_object(Bucket=account.bucket, Key=MANIFEST)
    assert store.put(failed(older)) is Put.SUPERSEDED
    account.s3.delete_object(Bucket=account.bucket, Key=KEY)
    assert store.put(failed(older)) is Put.SUPERSEDED
    assert store.put(failed(newer)) is Put.WRITTEN


def test_an_answer_stays_where_only_a_missing_one_is_wanted(account: Any) -> None:
    build_input = account.upload(KEY, b"a", "01")
    store = store_of(account.s3)
    ends = (Status.SUCCEEDED, Status.FAILED)
    assert store.put(building(build_input, EXECUTION), ends) is Put.WRITTEN
    assert store.put(building(build_input, EXECUTION), tuple(Status)) is Put.ANSWERED
    assert store.put(failed(build_input), ends) is Put.WRITTEN
    assert store.put(failed(build_input), ends) is Put.ANSWERED
    assert store.put(failed(account.upload(KEY, b"b", "02")), ends) is Put.WRITTEN
