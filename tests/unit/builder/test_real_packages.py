"""Packages as people use them, from the real index."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from layer_builder import interpreter
from layer_builder.target import RUNTIMES, Target

pytestmark = pytest.mark.index

# Pure ones and compiled ones, commands, data files, namespace packages, modules without a folder.
PACKAGES = {
    "requests": "requests",
    "httpx": "httpx",
    "pydantic": "pydantic_core",
    "numpy": "numpy",
    "cryptography": "cryptography.fernet",
    "pyyaml": "yaml",
    "aws-lambda-powertools": "aws_lambda_powertools",
    "google-cloud-storage": "google.cloud.storage",
    "jinja2": "jinja2",
    "six": "six",
}

Build = Callable[[str, str, str], tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def build(tmp_path: Path, cache: Path) -> Build:
    def call(text: str, runtime: str, architecture: str) -> tuple[Path, dict[str, Any]]:
        out = tmp_path / f"{runtime}-{architecture}.zip"
        command = [sys.executable, "-m", "layer_builder", "-r", text, "--runtime", runtime]
        command += ["--architecture", architecture, "--output", str(out), "--report", f"{out}.json"]
        environment = {**os.environ, "LAYER_BUILDER_CACHE": str(cache)}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return out, json.loads((tmp_path / f"{out.name}.json").read_text())

    return call


def wheel_file(cache: Path, package: dict[str, Any]) -> Path:
    return cache / "wheels" / package["sha256"][:2] / package["sha256"] / package["wheel"]


def test_the_tree_is_that_of_pip(build: Build, cache: Path, tmp_path: Path) -> None:
    runtime = "python{}.{}".format(*sys.version_info)
    if runtime not in RUNTIMES:
        pytest.skip(f"pip here installs for {runtime}, which is no runtime")
    layer, report = build("|".join(PACKAGES), runtime, "x86_64")
    wheels = [str(wheel_file(cache, package)) for package in report["packages"]]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--isolated",
        "--quiet",
        "--no-index",
        "--no-compile",
        "--no-deps",
    ]
    pip += [
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--target",
        str(tmp_path / "pip"),
        *wheels,
    ]
    subprocess.run(pip, check=True, capture_output=True)

    site = f"python/lib/{runtime}/site-packages/"
    with zipfile.ZipFile(layer) as zipped:
        ours = {
            i.filename.removeprefix(site): (zipped.read(i), bool(i.external_attr >> 16 & stat.S_IXUSR))
            for i in zipped.infolist()
        }
    pips = {
        str(file.relative_to(tmp_path / "pip")): (file.read_bytes(), bool(file.stat().st_mode & stat.S_IXUSR))
        for file in (tmp_path / "pip").rglob("*")
        if file.is_file()
    }
    assert {path for path in ours if path.startswith("bin/")} == {
        path for path in pips if path.startswith("bin/")
    }
    for found in (ours, pips):
        for path in list(found):
            differs = path.rpartition("/")[2] in {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD"}
            if differs or path.startswith("bin/"):
                del found[path]
    assert ours == pips


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_layer_can_be_imported_by_its_runtime(build: Build, tmp_path: Path, runtime: str) -> None:
    python = interpreter.find(runtime.removeprefix("python"))
    if python is None:
        pytest.skip(f"no interpreter of {runtime} on this machine")
    layer, _ = build("|".join(PACKAGES), runtime, os.uname().machine.replace("aarch64", "arm64"))
    with zipfile.ZipFile(layer) as zipped:
        zipped.extractall(tmp_path / "opt")
    site = tmp_path / "opt" / "python" / "lib" / runtime / "site-packages"
    code = (
        f"import importlib, sys; sys.path.insert(0, {str(site)!r})\n"
        f"for name in {list(PACKAGES.values())!r}:\n"
        f"    assert importlib.import_module(name).__file__.startswith({str(site)!r}), name\n"
    )
    done = subprocess.run([python.path, "-I", "-B", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_wheel_loads_on_the_target(build: Build, runtime: str, architecture: str) -> None:
    _, report = build("numpy|cryptography|pyyaml", runtime, architecture)
    tags = set(Target.of(runtime, architecture).tags)
    for package in report["packages"]:
        assert parse_wheel_filename(package["wheel"])[3] & tags, package["wheel"]


def test_amazon_linux_2_gets_neither_what_does_not_load_nor_what_is_too_old(build: Build) -> None:
    """With uv's manylinux_2_28 numpy would need glibc 2.27; with manylinux2014 pandas would be a year old."""
    _, report = build("pandas", "python3.11", "x86_64")
    versions = {package["name"]: package for package in report["packages"]}
    assert Version(versions["pandas"]["version"]) >= Version("3.1")
    assert "manylinux_2_27" not in versions["numpy"]["wheel"]
    assert Version(versions["numpy"]["version"]) >= Version("2.2.6")


def test_the_articles_example(build: Build) -> None:
    layer, report = build("requests == 2.32.3|httpx == 0.27.2", "python3.13", "arm64")
    versions = {package["name"]: package["version"] for package in report["packages"]}
    assert (versions["requests"], versions["httpx"]) == ("2.32.3", "0.27.2")
    assert {"certifi", "idna", "urllib3", "h11", "anyio"} <= versions.keys()
    first = layer.read_bytes()
    layer.unlink()
    assert build("httpx==0.27.2|requests==2.32.3", "python3.13", "arm64")[0].read_bytes() == first
