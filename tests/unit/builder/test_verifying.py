"""Processes that verify wheels: they find what this one would, and nothing depends on them."""

from __future__ import annotations

import sys
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from layer_builder.ground.errors import UnsafeWheelError
from layer_builder.wheels import elf, fetch, verifying, wheel
from tests.unit.builder.wheel_maker import Index, make_wheel, pick_of

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from layer_builder.ground.settings import Settings
    from layer_builder.wheels.pick import Pick


@pytest.fixture
def picks(index: Index) -> list[Pick]:
    files = [make_wheel(index.folder, f"pkg{number}", files={"a.so": "\x7fELF"}) for number in range(5)]
    place = f"{index.url.removesuffix('/simple')}/files"
    return [
        replace(pick_of(file), url=f"{place}/{file.name}", size=file.stat().st_size + number)
        for number, file in enumerate(files)
    ]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes; few bytes are enough for them, and there are two cores."""
    processes: list[subprocess.Popen[bytes]] = []
    start = verifying._started

    def counted() -> subprocess.Popen[bytes]:
        processes.append(start())
        return processes[-1]

    monkeypatch.setattr(verifying, "_WORTHWHILE", 0)
    monkeypatch.setattr(verifying.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(verifying, "_started", counted)
    return processes


def here(*_: Any) -> Any:
    raise AssertionError("it was verified here")


def test_they_leave_what_verifying_here_finds(
    picks: list[Pick],
    settings: Settings,
    tmp_path: Path,
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(wheel, "verify", here)
        there = fetch.fetch(picks, settings)
        facts = [elf.load(one.file) for one in there]
    assert [one.pick for one in there] == picks
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    monkeypatch.setattr(verifying, "_WORTHWHILE", 1 << 40)
    own = replace(settings, cache=tmp_path / "other")
    expected = fetch.fetch(picks, own)
    assert len(started) == 2
    assert [replace(one, file=two.file) for one, two in zip(there, expected, strict=True)] == expected
    assert facts == [elf.load(one.file) for one in expected]


@pytest.mark.attack("package: damaged, and verified by a process of its own")
def test_what_they_refuse_is_refused(
    index: Index, picks: list[Pick], settings: Settings, started: list[subprocess.Popen[bytes]]
) -> None:
    file = index.folder / picks[2].filename
    checksum = zlib.crc32(b"\x7fELF").to_bytes(4, "little")
    content = file.read_bytes()
    assert content.count(checksum) == 2
    file.write_bytes(content.replace(checksum, bytes(4)))
    picks[2] = replace(pick_of(file), url=picks[2].url)
    with pytest.raises(UnsafeWheelError, match="does not match its checksum"):
        fetch.fetch(picks, settings)
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize("program", ["/bin/false", "/bin/cat", "/nowhere"])
def test_without_them_it_goes_on(
    picks: list[Pick],
    settings: Settings,
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    program: str,
) -> None:
    """Whether they end at once, answer nonsense or are not to be had."""
    monkeypatch.setattr(sys, "executable", program)
    assert [one.pick for one in fetch.fetch(picks, settings)] == picks
    assert all(process.poll() is not None for process in started)


def test_few_bytes_and_a_single_core_need_none(
    picks: list[Pick],
    settings: Settings,
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verifying, "_WORTHWHILE", 1 << 20)
    fetch.fetch(picks[:1], settings)
    monkeypatch.setattr(verifying, "_WORTHWHILE", 0)
    monkeypatch.setattr(verifying.os, "sched_getaffinity", lambda _: {0})
    fetch.fetch(picks[1:], settings)
    assert not started
