import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from local.settings import ROOT

from .conftest import SHELL


def demo(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local", "demo", "--out", str(out), *arguments]
    return subprocess.run(command, cwd=ROOT, env=SHELL, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_the_examples_become_layers_and_every_step_is_told(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for upload in ("arm64/http", "x86_64/data"):
        for step in ("PlanBuild done", "BuildLayer building", "PublishLayer done", "WriteManifest done"):
            assert f"{upload}  {step}" in done.stdout
    for name in ("http-py313-arm64", "data-py313-x86_64"):
        assert f"arn:aws:lambda:us-east-1:123456789012:layer:{name}:1" in done.stdout
    assert "\x1b" not in done.stdout
    files = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    assert set(files) == {
        "arm64/http/manifest.json", "arm64/http/http-py313-arm64.zip",
        "x86_64/data/manifest.json", "x86_64/data/data-py313-x86_64.zip", "catalogue.html",
    }  # fmt: skip
    page = files["catalogue.html"].read_text()
    assert all(name in page for name in ("http-py313-arm64", "data-py313-x86_64"))
    assert f"All layers as a page: {tmp_path}/catalogue.html" in done.stdout.replace("\n", "")
    with zipfile.ZipFile(files["x86_64/data/data-py313-x86_64.zip"]) as layer:
        assert "python/pandas/__init__.py" in layer.namelist()
    [told] = json.loads(files["arm64/http/manifest.json"].read_text())["layers"]
    assert {"requests", "httpx"} <= {package["name"] for package in told["packages"]}


@pytest.mark.long
def test_one_file_that_fails_is_shown_and_is_the_exit_status(tmp_path: Path) -> None:
    (tmp_path / "wrong.txt").write_text("idna == 999\n")
    arguments = ["--file", str(tmp_path / "wrong.txt"), "--architecture", "x86_64", "--runtime", "python3.12"]
    done = demo(tmp_path / "out", *arguments)
    assert done.returncode == 1
    assert "wrong-py312-x86_64: RESOLUTION_FAILED" in done.stdout
    manifest = json.loads((tmp_path / "out/x86_64/python3.12/wrong/manifest.json").read_text())
    error = manifest["error"]
    assert f"\n  {error['message']}\n  {error['hint']}\n" in done.stdout
    assert done.stderr == ""


def test_a_file_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    done = demo(tmp_path / "out", "--file", str(tmp_path / "nothing.txt"))
    assert done.returncode == 2
    assert "there is no file" in done.stderr
    assert not (tmp_path / "out").exists()
