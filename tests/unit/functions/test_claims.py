"""Whose a layer's name is, and who publishes it right now."""

from __future__ import annotations

import json
import threading
import time
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


OTHER = "web-py312-arm64"


def refused(store: ClaimStore, key: str, *names: str) -> BuildError:
    with pytest.raises(BuildError) as caught:
        store.claim(names or [NAME], key)
    assert caught.value.problem.code == ErrorCode.LAYER_NAME_TAKEN
    return caught.value


def put(account: Any, content: bytes) -> None:
    account.s3.put_object(Bucket=account.bucket, Key=f"claims/{NAME}.json", Body=content)


def released(account: Any, lease: Any = None) -> None:
    put(account, json.dumps({"schema": "layerdrop/claim/1", "key": None, "lease": lease}).encode())


def test_the_later_of_two_is_told_whose_the_name_is_and_what_hands_it_on(store: ClaimStore) -> None:
    store.claim([NAME], "a")
    store.claim([NAME], "a")
    told = refused(store, "b").problem
    assert NAME in told.message
    assert '"a"' in told.message
    assert f"`make release NAME={NAME}`" in told.hint
    assert told.details == {"layer_name": NAME, "owner": "a"}


@pytest.mark.parametrize(
    "ours, theirs", [("pylock.toml", "requirements.txt"), ("requirements.txt", "pylock.toml")]
)
def test_a_lock_beside_a_requirements_file_is_told_that_they_are_two(
    store: ClaimStore, ours: str, theirs: str
) -> None:
    store.claim([NAME], f"requirements/arm64/web/{theirs}")
    told = refused(store, f"requirements/arm64/web/{ours}").problem
    assert f'"requirements/arm64/web/{theirs}", which claimed it first' in told.message
    assert told.hint.startswith(
        "Upload the requirements file or the lock, not both; or give this one another name"
    )
    alike = refused(store, f"requirements/arm64/other/{theirs}").problem
    assert alike.hint.startswith("Give this one another name")


def test_all_that_are_taken_are_named_with_one_command(store: ClaimStore) -> None:
    store.claim([NAME, OTHER], "a")
    told = refused(store, "b", NAME, "free", OTHER).problem
    assert NAME in told.message
    assert OTHER in told.message
    assert f'`make release NAME="{NAME} {OTHER}"`' in told.hint


@pytest.mark.attack("an uploader has names kept from others by a build that is refused")
def test_whoever_is_refused_one_name_gets_none(store: ClaimStore) -> None:
    store.claim([NAME], "a")
    refused(store, "b", OTHER, NAME)
    store.claim([OTHER], "c")


def test_what_an_operator_released_is_the_next_one_s(account: Any, store: ClaimStore) -> None:
    store.claim([NAME], "a")
    released(account)
    store.claim([NAME], "b")
    assert '"b"' in refused(store, "a").problem.message


def test_what_was_released_while_it_was_built_is_published_all_the_same(
    account: Any, store: ClaimStore
) -> None:
    released(account)
    with store.held(NAME, "a", "first", 60):
        assert '"a"' in refused(store, "b").problem.message


def test_whoever_gets_a_released_name_waits_for_the_former_owner_s_publishing(
    account: Any, store: ClaimStore
) -> None:
    """As when the operator's clock is ahead."""
    released(account, {"holder": "first", "until": time.time() + 60})
    store.claim([NAME], "b")
    with pytest.raises(TryLaterError), store.held(NAME, "b", "second", 60):
        pytest.fail("both hold it")


def test_a_claim_of_the_first_release_is_read(account: Any, store: ClaimStore) -> None:
    """Claims outlive upgrades: to the letter what the first version wrote."""
    put(account, b'{"schema": "layerdrop/claim/1", "key": "a", "lease": null}\n')
    store.claim([NAME], "a")
    assert '"a"' in refused(store, "b").problem.message


@pytest.mark.attack("a name is had by breaking its claim")
@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"key": "a"}', b"\xff", b'{"key": "a", "lease": 7}', b'{"key": 7, "lease": null}'],
)
def test_what_is_no_claim_takes_an_operator(account: Any, store: ClaimStore, content: bytes) -> None:
    put(account, content)
    told = refused(store, "b").problem
    assert f"claims/{NAME}.json" in told.message
    assert f"`make release NAME={NAME}`" in told.hint
    with pytest.raises(BuildError, match="LAYER_NAME_TAKEN"), store.held(NAME, "b", "first", 60):
        pytest.fail("it is nobody's to publish")


def test_a_claim_broken_while_it_is_held_does_not_hide_what_was_published(
    account: Any, store: ClaimStore
) -> None:
    with store.held(NAME, "a", "first", 60):
        put(account, b"")


def test_one_publishes_at_a_time(store: ClaimStore) -> None:
    store.claim([NAME], "a")
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
