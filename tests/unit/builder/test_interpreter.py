import os
import subprocess
import sys
from pathlib import Path

import pytest

from layer_builder.ground import interpreter
from layer_builder.ground.interpreter import Interpreter, find

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found but what a test puts there."""
    monkeypatch.setattr(interpreter, "LAMBDA_BIN", tmp_path / "lang" / "bin")
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake(path: Path, version: str, level: str = "final", flags: str = "-", name: str = "cpython") -> Path:
    return script(path, f'echo "{name} {version} {level} {flags} $0"')


def test_nothing_at_hand() -> None:
    assert find(OWN) is None


def test_own_interpreter_is_a_candidate_and_says_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", os.path.realpath(f"/proc/{os.getpid()}/exe"))
    found = find(OWN)
    assert found is not None
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.minor == OWN
    version = subprocess.run([found.path, "--version"], env=found.environment, capture_output=True, text=True)
    assert version.stdout == f"Python {found.version}\n"


def test_virtual_environment_leads_to_what_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys._base_executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    monkeypatch.setenv("PATH", str(tmp_path / "env" / "bin"))
    found = find(OWN)
    assert found is not None
    assert not found.path.is_relative_to(tmp_path)


def test_order_of_places(tmp_path: Path) -> None:
    old = fake(tmp_path / "pyenv/versions/3.42.9/bin/python3.42", "3.42.9")
    assert find("3.42") == Interpreter(old, "3.42.9")
    new = fake(tmp_path / "pyenv/versions/3.42.10/bin/python3.42", "3.42.10")
    assert find("3.42") == Interpreter(new, "3.42.10")
    on_path = fake(tmp_path / "bin/python3.42", "3.42.1")
    assert find("3.42") == Interpreter(on_path, "3.42.1")
    own = fake(tmp_path / "lang/bin/python3.42", "3.42.2")
    assert find("3.42") == Interpreter(own, "3.42.2")


@pytest.mark.parametrize(
    "text",
    [
        'echo "cpython 3.41.9 final - $0"',  # another minor version under this name
        'echo "cpython 3.4.2 final - $0"',
        'echo "cpython 3.42.0 candidate - $0"',
        'echo "cpython 3.42.0 final t $0"',  # free-threaded
        'echo "cpython 3.42.0 final d $0"',  # debug
        'echo "pypy 3.42.0 final - $0"',
        'echo "python3.42: command not found" >&2; exit 127',
        "echo",
        "kill -9 $$",
    ],
)
def test_a_name_proves_nothing(tmp_path: Path, text: str) -> None:
    script(tmp_path / "bin/python3.42", text)
    assert find("3.42") is None
    later = fake(tmp_path / "pyenv/versions/3.42.1/bin/python3.42", "3.42.1")
    assert find("3.42") == Interpreter(later, "3.42.1")


def test_hanging_candidate_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "_PROBE_SECONDS", 0.2)
    script(tmp_path / "bin/python3.42", "exec /bin/sleep 60")
    assert find("3.42") is None


def test_not_executable_and_dangling_are_passed_over(tmp_path: Path) -> None:
    fake(tmp_path / "bin/python3.42", "3.42.0").chmod(0o644)
    (tmp_path / "lang/bin").mkdir(parents=True)
    (tmp_path / "lang/bin/python3.42").symlink_to(tmp_path / "gone")
    if os.geteuid() == 0:  # access(2) still asks for one x bit of root
        assert not os.access(tmp_path / "bin/python3.42", os.X_OK)
    assert find("3.42") is None


def test_nothing_of_the_working_folder_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "here/python3.42", "3.42.0")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", f".:{os.pathsep}here")
    assert find("3.42") is None


def test_shims_are_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "pyenv/shims/python3.42", f"/usr/bin/touch {tmp_path}/started; exit 127")
    real = fake(tmp_path / "pyenv/versions/3.42.1/bin/python3.42", "3.42.1")
    monkeypatch.setenv("PATH", str(tmp_path / "pyenv/shims"))
    assert find("3.42") == Interpreter(real, "3.42.1")
    assert not (tmp_path / "started").exists()


def test_probe_sees_none_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    script(tmp_path / "bin/python3.42", f'/usr/bin/env > {tmp_path}/seen; echo "cpython 3.42.0 final - $0"')
    assert find("3.42") is not None
    assert "secret" not in (tmp_path / "seen").read_text()


def test_shared_libpython_beside_it_is_found(tmp_path: Path) -> None:
    fake(tmp_path / "lang/bin/python3.42", "3.42.0")
    (tmp_path / "lang/lib").mkdir()
    (tmp_path / "lang/lib/libpython3.42.so.1.0").touch()
    found = find("3.42")
    assert found is not None
    assert found.environment == {"LD_LIBRARY_PATH": str(tmp_path / "lang/lib")}


@pytest.mark.parametrize("minor", ["3", "python3.13", "3.13.0", "3.x", "3.*", "../3.1", ""])
def test_malformed_minor_version(minor: str) -> None:
    with pytest.raises(ValueError, match="not a minor version"):
        find(minor)
