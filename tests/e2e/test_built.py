"""The pipeline out of what ``make deploy`` ships: ``sam build``'s folder, dependencies included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.settings import ROOT
from local.translate import read_template

from .conftest import SHELL

BUILT = ROOT / ".aws-sam/build"


@pytest.fixture(scope="module")
def built() -> Path:
    if not (ROOT / ".venv-sam/sam.stamp").exists():
        pytest.skip("sam is not installed; make lint or make build does that")
    # Make within make takes this for a part of its own work; and sam stops at a profile that is not there.
    left_out = ("MAKE", "MFLAGS", "AWS_PROFILE")
    environment = {name: value for name, value in SHELL.items() if not name.startswith(left_out)}
    done = subprocess.run(
        ["make", "build"],
        cwd=ROOT,
        env=environment | {"SAM_CLI_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return BUILT / "template.yaml"


def test_functions_bring_what_lambda_lacks_and_nothing_else(built: Path) -> None:
    resources = read_template(built.read_text())["Resources"]
    functions = [r for r in resources.values() if r["Type"] == "AWS::Serverless::Function"]
    assert len(functions) == 4
    for function in functions:
        folder = BUILT / function["Properties"]["CodeUri"]
        assert (folder / "layerdrop/handlers/start_build.py").is_file()
        assert (folder / "aws_lambda_powertools").is_dir()
        assert not (folder / "boto3").exists()
        native = {path.name for path in folder.rglob("*.so")}
        assert all("aarch64" in name and "cpython-313" in name for name in native), native


def test_what_is_built_builds_layers(built: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.txt").write_text("idna == 3.10\n")
    command = [sys.executable, "-m", "local", "demo", "--template", os.path.relpath(built, ROOT)]
    options = ["--file", str(tmp_path / "tiny.txt"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, env=SHELL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((tmp_path / "out/arm64/tiny/manifest.json").read_text())
    assert manifest["status"] == "SUCCEEDED"
    [layer] = manifest["layers"]
    assert layer["layer_version_arn"].endswith(":layer:tiny-py313-arm64:1")
