"""uv at work before the builder asks it: the same answer, asked once, and nothing left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from layer_builder import __main__ as front
from layer_builder.ground.settings import Settings
from layer_builder.ground.target import Target
from layer_builder.indexes import public_index
from layer_builder.requirements import parser
from layer_builder.resolution import resolve, uv
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from pathlib import Path

TARGET = Target.of("python3.13", "arm64")
OLD = Target.of("python3.11", "x86_64")


@pytest.fixture
def public(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings, in the environment too, with which the loopback index is uv's own, public one."""
    for name in [name for name in os.environ if name.startswith("LAYER_BUILDER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAYER_BUILDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(public_index, "address", lambda _: index.url)
    make_wheel(index.folder, "app")
    make_wheel(index.folder, "num", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    make_wheel(index.folder, "num", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    return Settings(tmp_path / "cache")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes of uv that were started."""
    processes: list[subprocess.Popen[bytes]] = []

    class Counted(subprocess.Popen[Any]):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            processes.append(self)

    monkeypatch.setattr(uv.subprocess, "Popen", Counted)
    return processes


@pytest.mark.parametrize(
    ("arguments", "text", "target"),
    [
        (["-r", "app"], "app", TARGET),
        (["--requirements=app|num<3; python_version<'3'"], "app\nnum<3; python_version<'3'", TARGET),
        (["-r", "app", "--runtime", "python3.11", "--architecture=x86_64"], "app", OLD),
        (["-p", "FILE"], "app", TARGET),
    ],
)
def test_uv_is_asked_once(
    public: Settings,
    started: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    arguments: list[str],
    text: str,
    target: Target,
) -> None:
    (tmp_path / "FILE").write_bytes(b"\xef\xbb\xbfapp\r\n")
    arguments = [str(tmp_path / one) if one == "FILE" else one for one in arguments]
    with front._resolving(arguments):
        (first,) = started
        found = resolve.resolve(parser.parse(text), target, public)
        assert [pick.name for pick in found.picks] == ["app"]
    assert started == [first]
    assert found == resolve.resolve(parser.parse(text), target, public)


def test_it_knows_what_the_rounds_ruled_out(public: Settings, started: list[subprocess.Popen[bytes]]) -> None:
    wanted = parser.parse("num")
    first = resolve.resolve(wanted, OLD, public)
    assert len(started) == 2
    with front._resolving(["-r", "num", "--runtime=python3.11", "--architecture=x86_64"]):
        assert resolve.resolve(wanted, OLD, public) == first
    assert len(started) == 3


def test_another_question_is_put_anew_and_nothing_runs_on(
    index: Index, public: Settings, started: list[subprocess.Popen[bytes]]
) -> None:
    held = threading.Event()
    index.before = lambda path: "num" in path and held.wait(60) and None
    with front._resolving(["-r", "num"]):
        found = resolve.resolve(parser.parse("app"), TARGET, public)
        assert [pick.name for pick in found.picks] == ["app"]
        asked_before, _ = started
        assert asked_before.poll() is None
    assert asked_before.poll() is not None
    held.set()
    assert not uv._begun


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--version"],
        ["-r", "app", "-p", "FILE"],
        ["-r", "app", "--cooldown", "7 days"],
        ["-r", "app", "--options-file=more.json"],
        ["-r", "app", "--runtime", "python2.7"],
        ["-r", "--no-binary app"],
        ["-p", "s3://bucket/requirements.txt"],
        ["-p", "pylock.toml"],
        ["-p", "missing.txt"],
        ["-p", "FIFO"],
        ["-p", "LARGE"],
        ["-r"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_told_at_a_glance_waits(
    public: Settings,
    started: list[subprocess.Popen[bytes]],
    tmp_path: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("FIFO")
    (tmp_path / "pylock.toml").write_text("app")
    (tmp_path / "FILE").write_text("app")
    (tmp_path / "LARGE").write_text("#" * 70_000 + "\napp")
    with front._resolving(arguments):
        assert not started


@pytest.mark.parametrize(
    "variable",
    [
        {"LAYER_BUILDER_INDEX_URL": "https://index.test/simple"},
        {"LAYER_BUILDER_EXTRA_INDEX_URLS": "https://index.test/simple"},
        {"LAYER_BUILDER_INDEX_SECRET": "name"},
        {"LAYER_BUILDER_CODEARTIFACT": "arn:aws:codeartifact:eu-west-1:123456789012:repository/a/b"},
        {"LAYER_BUILDER_COOLDOWN": "7 days"},
        {"LAYER_BUILDER_COOLDOWN": "nonsense"},
    ],
    ids=str,
)
def test_only_the_public_index_is_asked_ahead(
    public: Settings,
    started: list[subprocess.Popen[bytes]],
    variable: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    with front._resolving(["-r", "app"]):
        assert not started


def test_the_command_gives_what_it_gives_without(
    index: Index, public: Settings, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """As a process of its own, which finds where uv's index is in the cache."""
    known = {"uv": public_index._identity(), "address": index.url}
    public.cache.mkdir()
    (public.cache / "public-index.json").write_text(json.dumps(known))
    options = ["-r", "app", "--output", str(tmp_path / "a.zip"), "--no-bytecode", "--no-import-check"]
    command = [sys.executable, "-m", "layer_builder"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
    assert "1 packages for python3.13 on arm64" in done.stdout
    again = [*options[:3], str(tmp_path / "b.zip"), *options[4:]]
    script = "from layer_builder.cli import main; raise SystemExit(main())"
    subprocess.run([sys.executable, "-c", script, *again], check=True, capture_output=True)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    wrong = subprocess.run([*command, "-r", "nope"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "no package named nope" in wrong.stderr
