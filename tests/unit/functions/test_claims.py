"""Whose a layer's name is, and who publishes it right now."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from layerdrop import claims
from layerdrop.aws import TryLaterError
from layerdrop.claims import ClaimStore
from layerdrop.errors import BuildError, ErrorCode

NAME = "web-py313-arm64"


@pytest.fixture
def store(account: Any) -> ClaimStore:
    return ClaimStore(account.s3, account.bucket)


def refused(store: ClaimStore, key: str) -> BuildError:
    with pytest.raises(BuildError) as caught:
        store.claim(NAME, key, lambda _: True)
    assert caught.value.problem.code == ErrorCode.LAYER_NAME_TAKEN
    return caught.value


def test_the_later_of_two_is_told_whose_the_name_is(store: ClaimStore) -> None:
    store.claim(NAME, "a", lambda _: True)
    store.claim(NAME, "a", lambda _: False)
    told = refused(store, "b").problem
    assert NAME in told.message
    assert '"a"' in told.message


def test_a_name_that_its_owner_gave_up_is_free(store: ClaimStore) -> None:
    store.claim(NAME, "a", lambda _: True)
    asked: list[str] = []
    store.claim(NAME, "b", lambda owner: bool(asked.append(owner)))
    assert asked == ["a"]
    assert '"b"' in refused(store, "a").problem.message


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"key": "a"}', b"\xff", b'{"key": "a", "lease": 7}']
)
def test_what_is_no_claim_belongs_to_nobody(account: Any, store: ClaimStore, content: bytes) -> None:
    account.s3.put_object(Bucket=account.bucket, Key=f"claims/{NAME}.json", Body=content)
    store.claim(NAME, "b", lambda _: True)
    refused(store, "a")


def test_one_publishes_at_a_time(store: ClaimStore) -> None:
    store.claim(NAME, "a", lambda _: True)
    with (
        store.held(NAME, "a", "first", 60),
        pytest.raises(TryLaterError),
        store.held(NAME, "a", "second", 60),
    ):
        pytest.fail("both hold it")
    with store.held(NAME, "a", "second", 60):
        pass


def test_the_dead_hold_nothing_for_long(store: ClaimStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_MARGIN_SECONDS", 0.0)
    store._take(NAME, "a", "dead", 0.0)
    with store.held(NAME, "a", "living", 60):
        pass


def test_whoever_takes_a_name_over_waits_for_the_former_owner_s_publishing(store: ClaimStore) -> None:
    store.claim(NAME, "a", lambda _: True)
    with store.held(NAME, "a", "first", 60):
        store.claim(NAME, "b", lambda _: False)
        with pytest.raises(TryLaterError), store.held(NAME, "b", "second", 60):
            pytest.fail("both hold it")
    with pytest.raises(BuildError, match="LAYER_NAME_TAKEN"), store.held(NAME, "a", "first", 60):
        pytest.fail("it is another's by now")
    with store.held(NAME, "b", "second", 60):
        pass


def test_of_many_at_once_one_gets_it(store: ClaimStore) -> None:
    won: list[str] = []

    def try_it(holder: str) -> None:
        try:
            store._take(NAME, "a", holder, 60)
        except TryLaterError:
            return
        won.append(holder)

    # moto looks at conditions and writes later: one at a time, but in any order between read and write.
    lock, original = threading.Lock(), claims.write_if_unchanged

    def exclusive(*arguments: Any) -> bool:
        with lock:
            return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "write_if_unchanged", exclusive)
        threads = [threading.Thread(target=try_it, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(won) == 1
