"""What is remembered of a resolution's rounds: fewer rounds, and never another answer."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from layer_builder.ground.cooldown import Cooldown, Rule
from layer_builder.ground.errors import BuildError
from layer_builder.ground.settings import Settings
from layer_builder.ground.target import Target
from layer_builder.indexes import public_index
from layer_builder.requirements import parser
from layer_builder.resolution import resolve, rounds, uv
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence

PY311 = Target.of("python3.11", "x86_64")
FITS, DOES_NOT = "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"
WEEK = timedelta(days=7)


def publish(folder: Path, name: str, version: str, platform: str, **more: Any) -> None:
    make_wheel(folder, name, version, tag=f"cp311-cp311-{platform}", **more)


def found(
    text: str, settings: Settings, target: Target = PY311, cooldown: Cooldown | None = None
) -> dict[str, str] | str:
    """Give the files that are chosen, or the error's words."""
    try:
        wanted = parser.parse(text)
        return {
            pick.name: pick.filename
            for pick in resolve.resolve(wanted, target, settings, cooldown=cooldown).picks
        }
    except BuildError as error:
        return error.message


@pytest.fixture
def public(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with which the loopback index is uv's own, public one."""
    monkeypatch.setattr(public_index, "address", lambda _: index.url)
    return Settings(tmp_path / "public")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The constraints of each round, as uv is given them."""
    seen: list[Sequence[str]] = []
    compile_lock = uv.compile_lock

    def counted(lines: Sequence[str], constraints: Sequence[str], *more: Any, **named: Any) -> uv.Outcome:
        seen.append(constraints)
        return compile_lock(lines, constraints, *more, **named)

    monkeypatch.setattr(uv, "compile_lock", counted)
    return seen


def forget_pages(settings: Settings) -> None:
    """Have uv ask the index again, as after ten minutes."""
    shutil.rmtree(settings.cache / "uv", ignore_errors=True)


def test_the_same_question_takes_one_round(
    index: Index, public: Settings, asked: list[Sequence[str]]
) -> None:
    publish(index.folder, "num", "1.0", FITS)
    publish(index.folder, "num", "2.0", DOES_NOT)
    publish(index.folder, "num", "2.1rc1", DOES_NOT)
    first = found("num", public)
    assert asked == [[], ["num!=2.0", "num!=2.1rc1"]]
    pages = len(index.requested)
    del asked[:]
    assert found("num", public) == first
    assert asked == [["num!=2.0", "num!=2.1rc1"]]
    assert len(index.requested) == pages


def test_another_question_begins_anew(index: Index, public: Settings, asked: list[Sequence[str]]) -> None:
    publish(index.folder, "num", "1.0", f"{FITS}.manylinux_2_17_aarch64")
    publish(index.folder, "num", "2.0", f"{DOES_NOT}.manylinux_2_28_aarch64")
    found("num", public)
    others: list[tuple[str, Settings, Target, Cooldown | None]] = [
        ("num<3", public, PY311, None),
        ("num", public, Target.of("python3.11", "arm64"), None),
        ("num", replace(public, cache=public.cache / "other"), PY311, None),
    ]
    for question in others:
        del asked[:]
        found(*question)
        assert asked[0] == [], question
    constrained = parser.parse("num", (), ("num<3",))
    del asked[:]
    resolve.resolve(constrained, PY311, public)
    assert asked[0] == ["num<3"]
    assert rounds.recall(parser.parse("num"), PY311, replace(public, ageless=("https://a/",)), None).out == {}
    counting = Cooldown(datetime.now(UTC), Rule(WEEK))
    assert rounds.recall(parser.parse("num"), PY311, public, counting).out == {}


def test_what_is_asked_of_other_indexes_is_not_remembered(
    index: Index, settings: Settings, asked: list[Sequence[str]]
) -> None:
    """uv keeps none of their pages, either: what they have at the moment counts."""
    publish(index.folder, "num", "1.0", FITS)
    publish(index.folder, "num", "2.0", DOES_NOT)
    found("num", settings)
    publish(index.folder, "num", "2.0", FITS)
    assert found("num", settings) == {"num": f"num-2.0-cp311-cp311-{FITS}.whl"}
    assert asked[-1] == []


@pytest.mark.parametrize("change", ["a version that does not load", "nothing else is left"])
def test_what_does_not_hold_any_more_is_forgotten(
    index: Index, public: Settings, asked: list[Sequence[str]], change: str
) -> None:
    publish(index.folder, "num", "1.0", FITS)
    publish(index.folder, "num", "2.0", DOES_NOT)
    found("num", public)
    forget_pages(public)
    if change == "nothing else is left":
        for file in index.folder.iterdir():
            file.unlink()
        publish(index.folder, "num", "2.0", FITS)
        expected = {"num": f"num-2.0-cp311-cp311-{FITS}.whl"}
    else:
        publish(index.folder, "num", "3.0", DOES_NOT)
        expected = {"num": f"num-1.0-cp311-cp311-{FITS}.whl"}
    assert found("num", public) == expected
    (kept,) = [*(public.cache / "rounds").iterdir()] if "version" in change else [None]
    assert kept is None or json.loads(kept.read_text())["out"] == {"num": ["2.0", "3.0"]}


def test_nothing_is_taken_that_is_too_old_or_was_never_ours(
    index: Index, public: Settings, asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index.folder, "num", "1.0", FITS)
    publish(index.folder, "num", "2.0", DOES_NOT)
    found("num", public)
    (kept,) = (public.cache / "rounds").iterdir()
    content = json.loads(kept.read_text())
    assert 0 < content["until"] - time.time() <= rounds.MAX_AGE
    for spoilt in (
        b"",
        b"[]",
        b'{"until": 1e999}',
        json.dumps({**content, "until": time.time() + 2 * rounds.MAX_AGE}).encode(),
        json.dumps({**content, "out": {"num": ["2.0\n--index-url http://127.0.0.1:9/"]}}).encode(),
        json.dumps({**content, "out": {"num; --no-binary": ["2.0"]}}).encode(),
    ):
        kept.write_bytes(spoilt)
        del asked[:]
        assert found("num", public) == {"num": f"num-1.0-cp311-cp311-{FITS}.whl"}
        assert len(asked) == 2, spoilt
    now = time.time()
    monkeypatch.setattr(rounds.time, "time", lambda: now + rounds.MAX_AGE + 1)
    del asked[:]
    found("num", public)
    assert len(asked) == 2


def test_a_file_that_becomes_old_enough_is_not_ruled_out_for_longer(
    index: Index, public: Settings, asked: list[Sequence[str]]
) -> None:
    """2.0 has a wheel that does not load, and since a week less a minute one that does."""
    publish(index.folder, "num", "1.0", FITS)
    publish(index.folder, "num", "2.0", DOES_NOT)
    publish(index.folder, "num", "2.0", FITS)
    began = datetime.now(UTC).replace(microsecond=0)
    young = (began - WEEK + timedelta(seconds=60)).isoformat()
    old = (began - 2 * WEEK).isoformat()
    index.uploaded = lambda name: young if name == f"num-2.0-cp311-cp311-{FITS}.whl" else old
    counting = Cooldown(began, Rule(WEEK))
    first = found("num", public, cooldown=counting)
    assert first == {"num": f"num-1.0-cp311-cp311-{FITS}.whl"}
    del asked[:]
    assert found("num", public, cooldown=replace(counting, now=began + timedelta(seconds=30))) == first
    assert asked[0] == ["num!=2.0"]
    (kept,) = (public.cache / "rounds").iterdir()
    assert json.loads(kept.read_text())["until"] == pytest.approx(began.timestamp() + 60, rel=0, abs=1)


def test_what_the_index_gets_is_found(
    index: Index, public: Settings, asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index.folder, "num", "1.0", FITS)
    publish(index.folder, "num", "2.0", DOES_NOT)
    found("num", public)
    publish(index.folder, "num", "1.5", FITS)
    publish(index.folder, "num", "2.0", FITS)
    forget_pages(public)
    del asked[:]
    assert found("num", public) == {"num": f"num-1.5-cp311-cp311-{FITS}.whl"}  # as uv with its old page
    assert len(asked) == 1
    now = time.time()
    monkeypatch.setattr(rounds.time, "time", lambda: now + rounds.MAX_AGE)
    assert found("num", public) == {"num": f"num-2.0-cp311-cp311-{FITS}.whl"}


NUMBERS = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([FITS, DOES_NOT])), min_size=1, max_size=4)


@pytest.mark.long  # uv four or more times an example, with new caches
@hypothesis_settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    nums=NUMBERS,
    frames=NUMBERS,
    later=NUMBERS,
    needs=st.lists(st.integers(1, 9), min_size=9, max_size=9),
    in_time=st.booleans(),
    pinned=st.sampled_from(["frame\nnum", "frame", "frame\nnum<5", "num>=2"]),
)
def test_the_answer_is_that_of_an_empty_cache(
    tmp_path: Path,
    nums: list[tuple[int, str]],
    frames: list[tuple[int, str]],
    later: list[tuple[int, str]],
    needs: list[int],
    in_time: bool,
    pinned: str,
) -> None:
    """Whatever the index gets between two builds: at once for new versions, and in ten minutes for files
    that old versions get besides.
    """
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    with pytest.MonkeyPatch.context() as patch, Index(folder / "index") as index:
        index.folder.mkdir()
        patch.setattr(public_index, "address", lambda _: index.url)
        for number, platform in frames:
            needed = (f"num>={needs[number - 1] % 5}",)
            publish(index.folder, "frame", f"{number}.0", platform, requires=needed)
        for number, platform in nums:
            publish(index.folder, "num", f"{number}.0", platform)
        warm, cold = Settings(folder / "warm"), Settings(folder / "cold")
        first = found(pinned, warm)
        assert found(pinned, warm) == first == found(pinned, Settings(folder / "other"))
        for number, platform in later:
            publish(index.folder, "num", f"{number}.{1 if in_time else 0}", platform)
        forget_pages(warm)
        if not in_time:
            now = time.time()
            patch.setattr(rounds.time, "time", lambda: now + rounds.MAX_AGE)
        assert found(pinned, warm) == found(pinned, cold)


def test_uv_is_asked_once_where_its_index_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, log = tmp_path / "uv", tmp_path / "log"

    def install(address: str) -> None:
        program.write_text(f"#!/bin/sh\necho asked >> {log}\necho '--index-url {address}'\n")
        program.chmod(0o755)
        public_index.address.cache_clear()

    monkeypatch.setattr(public_index, "uv", lambda: str(program))
    settings = Settings(tmp_path / "cache")
    install("https://one.test/simple")
    for _ in range(2):
        assert public_index.address(settings) == "https://one.test/simple"
        public_index.address.cache_clear()
    assert log.read_text() == "asked\n"
    install("https://other.test/simple")
    assert public_index.address(settings) == "https://other.test/simple"
    for spoilt in ("", "{", '{"uv": [], "address": "x"}', "[1]"):
        (settings.cache / "public-index.json").write_text(spoilt)
        public_index.address.cache_clear()
        assert public_index.address(settings) == "https://other.test/simple"
    public_index.address.cache_clear()
