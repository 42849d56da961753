"""Sources built to wheels: only where allowed and needed, only for this machine; cached, or explained."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import secrets
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from layer_builder.ground import interpreter
from layer_builder.ground.errors import (
    HashMismatchError,
    NoWheelError,
    SdistBuildError,
    SdistNotBuildableError,
)
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.requirements import parser
from layer_builder.resolution import lock, sdist, uv
from layer_builder.resolution.resolve import resolve
from layer_builder.wheels.fetch import fetch
from tests.unit.builder.confined import let_write, running
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from layer_builder.ground.interpreter import Interpreter
    from layer_builder.ground.settings import Settings
    from layer_builder.wheels.pick import Pick

# A build backend of its own, so that nothing of a real index is needed. It notes each build and what it sees.
BACKEND = """
import json, os, sys, zipfile
import tool
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with open({log!r}, "a") as log:
        print(json.dumps([sys.version_info[:2], dict(os.environ)]), file=log)
    {more}
    name = "src-1.0-{tag}.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in {{
            "src.py": "x = 1\\n",
            "src-1.0.dist-info/METADATA":
                "Metadata-Version: 2.1\\nName: src\\nVersion: 1.0\\nRequires-Dist: dep\\n",
            "src-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {tag}\\n",
            "src-1.0.dist-info/RECORD": "",
        }}.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return name
"""


def make_source(
    folder: Path, log: Path, *, more: str = "pass", tag: str = "py3-none-any", name: str = "src"
) -> Path:
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["tool"]\n'
        'build-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.format(log=str(log), more=more, tag=tag),
        "PKG-INFO": f"Metadata-Version: 1.1\nName: {name}\nVersion: 1.0\n",
    }
    file = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{name}-1.0/{path}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return file


@pytest.fixture
def here() -> Target:
    """A target that this machine can build for."""
    architecture = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), "")
    for runtime in RUNTIMES.values():
        if architecture and interpreter.find("{}.{}".format(*runtime.version)):
            return Target(runtime, architecture)
    pytest.skip("no interpreter of a runtime on an architecture of Lambda's here")


@pytest.fixture
def builds(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index with `src`, which has no wheel, what it needs, and a note of each build."""
    let_write(monkeypatch, tmp_path / "notes")
    make_wheel(index.folder, "tool")
    make_wheel(index.folder, "dep")
    make_source(index.folder, tmp_path / "notes/builds")
    return tmp_path / "notes/builds"


def built(text: str, target: Target, settings: Settings, *allowed: str) -> dict[str, Pick]:
    picks = resolve(parser.parse(text), target, settings, allowed).picks
    return {pick.name: pick for pick in sdist.as_wheels(picks, target, settings)}


def test_a_source_is_built_once_and_its_wheel_is_one_as_any_other(
    builds: Path, index: Index, settings: Settings, here: Target
) -> None:
    sources = resolve(parser.parse("src"), here, settings, ["src"]).picks
    picks = {pick.name: pick for pick in sdist.as_wheels(sources, here, settings)}
    assert {name: pick.filename for name, pick in picks.items()} == {
        "dep": "dep-1.0-py3-none-any.whl",
        "src": "src-1.0-py3-none-any.whl",
    }
    wheels = fetch(list(picks.values()), settings)
    assert [wheel.pick.name for wheel in wheels] == ["dep", "src"]
    assert hashlib.sha256(wheels[1].file.read_bytes()).hexdigest() == picks["src"].sha256
    before = builds.read_text()
    assert sdist.as_wheels(sources, here, settings) == list(picks.values())
    assert builds.read_text() == before


@pytest.mark.attack("package: code that would run when built, without leave")
def test_nothing_runs_unless_it_is_allowed_and_the_hint_says_how(
    builds: Path, index: Index, settings: Settings, here: Target
) -> None:
    with pytest.raises(NoWheelError) as caught:
        built("src", here, settings, "dep")
    assert "--allow-sdist src" in caught.value.hint
    assert not builds.exists()


def test_a_wheel_is_preferred_to_building(
    builds: Path, index: Index, settings: Settings, here: Target
) -> None:
    make_wheel(index.folder, "src", "0.9")
    assert built("src", here, settings, "src")["src"].version == "0.9"
    assert not builds.exists()
    assert built("src >= 1", here, settings, "src")["src"].version == "1.0"


def test_what_a_build_needs_must_have_wheels(
    builds: Path, index: Index, settings: Settings, here: Target, tmp_path: Path
) -> None:
    (index.folder / "tool-1.0-py3-none-any.whl").unlink()
    make_source(index.folder, tmp_path / "notes/tool-built", name="tool")
    with pytest.raises(SdistBuildError):
        built("src", here, settings, "src")
    assert not (tmp_path / "notes/tool-built").exists()


@pytest.mark.attack("package: looks for credentials while it is built")
def test_a_build_sees_no_credentials(
    builds: Path, settings: Settings, here: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/very-secret")
    monkeypatch.setenv("GITHUB_TOKEN", "very secret")
    built("src", here, settings, "src")
    for line in builds.read_text().splitlines():
        version, environment = json.loads(line)
        assert tuple(version) == here.runtime.version
        assert "secret" not in str(environment).lower()
        assert environment["SOURCE_DATE_EPOCH"] == "315532800"
        assert str(environment["HOME"]) != str(settings.cache)


def test_another_architecture_is_refused_before_anything_runs(
    builds: Path, settings: Settings, here: Target
) -> None:
    other = Target(here.runtime, "arm64" if here.architecture == "x86_64" else "x86_64")
    with pytest.raises(SdistNotBuildableError) as caught:
        built("src", other, settings, "src")
    assert caught.value.exit_status == 2
    assert other.machine in caught.value.message
    assert not builds.exists()


def test_without_the_targets_interpreter_it_is_refused(
    builds: Path, settings: Settings, here: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: str) -> Interpreter | None:
        return None

    monkeypatch.setattr(interpreter, "find", none)
    with pytest.raises(SdistNotBuildableError, match="there is none here"):
        built("src", here, settings, "src")
    assert not builds.exists()


@pytest.mark.parametrize(
    ("more", "tag", "said"),
    [
        ("raise SystemExit('no compiler for this')", "py3-none-any", "no compiler for this"),
        ("pass", "cp313-cp313-win_amd64", "does not load"),
    ],
)
def test_a_build_that_fails_says_why(
    builds: Path, index: Index, settings: Settings, here: Target, more: str, tag: str, said: str
) -> None:
    make_source(index.folder, builds, more=more, tag=tag)
    with pytest.raises(SdistBuildError) as caught:
        built("src", here, settings, "src")
    assert caught.value.exit_status == 2
    assert said in caught.value.message + "\n".join(caught.value.details["output"])
    assert caught.value.details["package"] == "src"
    assert not list(settings.cache.glob("wheels/*/*/src-1.0-*.whl"))


@pytest.mark.long
def test_a_build_that_takes_too_long_is_ended_with_all_it_started(
    builds: Path,
    index: Index,
    settings: Settings,
    here: Target,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picks = resolve(parser.parse("src"), here, settings, ["src"]).picks
    # The same source again, but slow, and under the digest that was resolved.
    (index.folder / "src-1.0.tar.gz").unlink()
    begun, mark = tmp_path / "notes/begun", f"{secrets.randbelow(10**12)}"
    slow = make_source(
        index.folder,
        builds,
        more=f"import subprocess, time; subprocess.Popen(['sleep', '{mark}'], start_new_session=True); "
        f"open({str(begun)!r}, 'w'); time.sleep(600)",
    )
    digest = hashlib.sha256(slow.read_bytes()).hexdigest()
    source = next(pick for pick in picks if pick.is_sdist)
    monkeypatch.setattr(uv, "TIMEOUT", 5)
    with pytest.raises(SdistBuildError, match="within 5 seconds"):
        sdist.as_wheels([replace(source, sha256=digest)], here, settings)
    assert begun.exists()
    assert not running(mark)


def test_hashes_of_the_requirements_hold_for_sources(
    builds: Path, index: Index, settings: Settings, here: Target
) -> None:
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in index.folder.iterdir()}
    text = f"dep --hash=sha256:{digests['dep-1.0-py3-none-any.whl']}\nsrc --hash=sha256:"
    assert built(text + digests["src-1.0.tar.gz"], here, settings, "src")["src"].version == "1.0"
    with pytest.raises(HashMismatchError):
        built(text + "0" * 64, here, settings, "src")


def test_a_lock_names_the_source_and_gives_it_back_where_it_is_allowed(
    builds: Path, settings: Settings, here: Target
) -> None:
    wanted = parser.parse("src")
    picks = resolve(wanted, here, settings, ["src"]).picks
    text = lock.text(wanted, picks, here).encode()
    assert lock.read(text, here, ["src"]).picks == picks
    with pytest.raises(NoWheelError) as caught:
        lock.read(text, here)
    assert "--allow-sdist src" in caught.value.hint
