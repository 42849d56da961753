"""Wheels into the cache: whole, checked, and whatever else happens."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from layer_builder.ground.errors import HashMismatchError, IndexUnreachableError, UnsafeWheelError
from layer_builder.wheels import fetch as fetch_module
from layer_builder.wheels import wheel
from layer_builder.wheels.fetch import fetch, is_cached
from tests.unit.builder.wheel_maker import Index, make_wheel, pick_of

if TYPE_CHECKING:
    from pathlib import Path

    from layer_builder.ground.settings import Settings
    from layer_builder.wheels.pick import Pick


@pytest.fixture
def picks(index: Index) -> list[Pick]:
    files = [make_wheel(index.folder, f"pkg{number}") for number in range(20)]
    return [
        replace(pick_of(file), url=f"{index.url.removesuffix('/simple')}/files/{file.name}") for file in files
    ]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "_BACKOFF", 0)


def left_over(settings: Settings) -> list[Path]:
    return [file for file in settings.cache.rglob("*") if file.is_file()]


def test_wheels_come_in_the_order_of_the_picks_and_once(
    index: Index, picks: list[Pick], settings: Settings
) -> None:
    assert [one.pick for one in fetch(picks, settings)] == picks
    assert len(index.downloads()) == len(picks)
    assert [one.pick for one in fetch(picks[::-1], settings)] == picks[::-1]
    assert len(index.downloads()) == len(picks)
    assert all(is_cached(pick, settings) for pick in picks)


def test_several_are_fetched_at_once(index: Index, picks: list[Pick], settings: Settings) -> None:
    together = threading.Barrier(8, timeout=20)  # breaks, and so fails, unless eight requests are under way
    waiting = iter(range(8))
    index.before = lambda _: together.wait() if next(waiting, None) is not None else None  # type: ignore[assignment,return-value]
    fetch(picks, settings)
    assert not together.broken


def test_a_changed_file_is_not_taken(index: Index, picks: list[Pick], settings: Settings) -> None:
    index.tamper = lambda name, data: data + b"!" if name == picks[3].filename else data
    with pytest.raises(HashMismatchError) as caught:
        fetch(picks, settings)
    assert picks[3].filename in caught.value.message
    assert caught.value.exit_status == 75
    assert not is_cached(picks[3], settings)


def test_a_download_that_breaks_off_is_tried_again(
    index: Index, picks: list[Pick], settings: Settings
) -> None:
    broken: list[str] = []

    def first_time(path: str) -> bool:
        if path in broken:
            return False
        broken.append(path)
        return True

    index.truncate = first_time
    assert len(fetch(picks[:3], settings)) == 3
    assert len(index.downloads()) == 6


def test_one_that_always_breaks_off_is_given_up(index: Index, picks: list[Pick], settings: Settings) -> None:
    index.truncate = lambda _: True
    with pytest.raises(IndexUnreachableError):
        fetch(picks[:1], settings)
    assert len(index.downloads()) == fetch_module._ATTEMPTS
    assert not left_over(settings)


def test_a_missing_file_is_an_answer_and_not_tried_again(
    index: Index, picks: list[Pick], settings: Settings
) -> None:
    (index.folder / picks[0].filename).unlink()
    with pytest.raises(IndexUnreachableError, match="404"):
        fetch(picks[:1], settings)
    assert len(index.downloads()) == 1


def test_an_unsafe_wheel_is_refused_also_the_second_time(
    index: Index, picks: list[Pick], settings: Settings
) -> None:
    file = make_wheel(index.folder, "evil", files={"../evil.py": ""})
    pick = replace(pick_of(file), url=picks[0].url.replace(picks[0].filename, file.name))
    for _ in range(2):
        with pytest.raises(UnsafeWheelError):
            fetch([pick], settings)


def test_many_builders_can_share_a_cache(picks: list[Pick], settings: Settings) -> None:
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: fetch(picks, settings), range(6)))
    assert all(result == results[0] for result in results)
    assert not [file for file in left_over(settings) if file.name.endswith(".part")]
    for one in results[0]:
        assert wheel.verify(one.pick, one.file) == one
