"""Packages as people use them, from the real index."""

from __future__ import annotations

import hashlib
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

from layer_builder.ground import interpreter
from layer_builder.ground.target import RUNTIMES, Target
from tests.conftest import sampled

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

# What is downloaded most, less what is very large.
MOST_USED = """
    aiohttp alembic anyio attrs aws-lambda-powertools aws-xray-sdk azure-core azure-identity
    azure-storage-blob bcrypt beautifulsoup4 black blinker boto3 botocore cachetools cattrs certifi
    cffi charset-normalizer click colorama cryptography cycler cython decorator deprecated dnspython
    docker docutils fastapi filelock flask fonttools frozenlist fsspec gitpython google-api-core
    google-auth google-cloud-storage greenlet grpcio gunicorn h11 httpx idna importlib-metadata
    isort itsdangerous jinja2 jmespath joblib jsonschema kiwisolver loguru lxml mako markdown
    markupsafe marshmallow matplotlib more-itertools msal msgpack multidict mypy-extensions networkx
    nltk numpy oauthlib openpyxl opentelemetry-sdk orjson packaging pandas paramiko pathspec pillow
    platformdirs pluggy prometheus-client protobuf psutil psycopg2-binary pyasn1 pycparser pydantic
    pygments pyjwt pymongo pymysql pynacl pyopenssl pyparsing pytest python-dateutil python-dotenv
    pytz pyyaml pyzmq redis regex requests requests-oauthlib rich rpds-py rsa ruamel-yaml s3transfer
    scipy sentry-sdk setuptools shapely simplejson six slack-sdk soupsieve sqlalchemy starlette
    structlog tabulate tenacity termcolor tomlkit tornado tqdm typing-extensions tzdata urllib3
    uvicorn virtualenv websocket-client websockets werkzeug wheel wrapt xmltodict yarl zipp
""".split()  # noqa: SIM905 (one a line would fill pages)

# The odd ones of those: headers, scripts, modules at the top, own libraries, a .pth file, namespaces.
ODD = """
    black docutils google-cloud-storage greenlet psycopg2-binary pytest pyyaml ruamel-yaml setuptools six
    typing-extensions virtualenv
""".split()  # noqa: SIM905

Build = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def build(tmp_path: Path, cache: Path) -> Build:
    def call(text: str, runtime: str, architecture: str, *options: str) -> tuple[Path, dict[str, Any]]:
        out = tmp_path / f"{runtime}-{architecture}.zip"
        command = [sys.executable, "-m", "layer_builder", "-r", text, "--runtime", runtime]
        command += ["--architecture", architecture, "--output", str(out), "--report", f"{out}.json"]
        command += ["--size-limit", str(1 << 30), "--no-bytecode", *options]
        environment = {**os.environ, "LAYER_BUILDER_CACHE": str(cache)}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return out, json.loads((tmp_path / f"{out.name}.json").read_text())

    return call


def wheel_file(cache: Path, package: dict[str, Any]) -> Path:
    return cache / "wheels" / package["sha256"][:2] / package["sha256"] / package["wheel"]


@pytest.mark.parametrize("packages", sampled((ODD, MOST_USED), lambda packages: packages is ODD), ids=len)
@pytest.mark.parametrize("architecture", sampled(("arm64", "x86_64"), lambda name: name == "arm64"))
def test_the_tree_is_that_of_pip(
    build: Build, cache: Path, tmp_path: Path, architecture: str, packages: list[str]
) -> None:
    """Path for path, bit for bit, but for what docs/builder.md lists."""
    runtime = "python{}.{}".format(*sys.version_info)
    if runtime not in RUNTIMES:
        pytest.skip(f"pip here evaluates markers for {runtime}, which is no runtime")
    # Among the most used are some that Lambda cannot import: it has no git.
    layer, report = build("|".join(packages), runtime, architecture, "--no-import-check")
    target = Target.of(runtime, architecture)
    with zipfile.ZipFile(layer) as zipped:
        ours = {entry.filename.removeprefix("python/"): digest(zipped, entry) for entry in zipped.infolist()}
    pips = installed_by_pip([wheel_file(cache, package) for package in report["packages"]], target, tmp_path)

    def differs(path: str) -> bool:
        return path.rpartition("/")[2] in {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD"}

    commands = {path for path in pips if path.startswith("bin/") and not differs(path)}
    assert {path for path in ours if path.startswith("bin/")} == commands
    ours = {path: found for path, found in ours.items() if not differs(path) and path not in commands}
    pips = {path: found for path, found in pips.items() if not differs(path) and path not in commands}
    assert set(ours) == set(pips)
    assert [path for path in ours if ours[path] != pips[path]] == []


def digest(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[str, bool]:
    """A file's hash, and whether it may be executed."""
    with zipped.open(entry) as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), bool(entry.external_attr >> 16 & stat.S_IXUSR)


def installed_by_pip(wheels: list[Path], target: Target, folder: Path) -> dict[str, tuple[str, bool]]:
    """What pip's own `install --target` makes of the same wheels, with their dependencies' order."""
    links, tree = folder / "wheels", folder / "pip"
    links.mkdir()
    for wheel in wheels:
        (links / wheel.name).symlink_to(wheel)
    names = [parse_wheel_filename(wheel.name)[0] for wheel in wheels]
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--quiet", "--no-compile"]
    command += ["--disable-pip-version-check", "--root-user-action=ignore"]
    command += ["--no-index", "--find-links", str(links), "--target", str(tree), "--only-binary", ":all:"]
    for platform in sorted({tag.platform for tag in target.tags} - {"any"}):
        command += ["--platform", platform]
    done = subprocess.run([*command, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for file in filter(Path.is_file, tree.rglob("*")):
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        path = file.relative_to(tree).as_posix()
        # Headers go elsewhere when pip itself runs in a virtual environment, as here.
        path = path.replace(f"include/site/{target.runtime.name}/", "include/python/")
        found[path] = sha256, bool(file.stat().st_mode & stat.S_IXUSR)
    return found


@pytest.mark.long
@pytest.mark.parametrize("runtime", sampled(RUNTIMES, lambda runtime: runtime == "python3.13"))
def test_the_layer_can_be_imported_by_its_runtime(build: Build, tmp_path: Path, runtime: str) -> None:
    python = interpreter.find(runtime.removeprefix("python"))
    if python is None:
        pytest.skip(f"no interpreter of {runtime} on this machine")
    layer, _ = build("|".join(PACKAGES), runtime, os.uname().machine.replace("aarch64", "arm64"))
    with zipfile.ZipFile(layer) as zipped:
        zipped.extractall(tmp_path / "opt")
    site = tmp_path / "opt" / "python"
    code = (
        f"import importlib, sys; sys.path.insert(0, {str(site)!r})\n"
        f"for name in {list(PACKAGES.values())!r}:\n"
        f"    assert importlib.import_module(name).__file__.startswith({str(site)!r}), name\n"
    )
    done = subprocess.run([python.path, "-I", "-B", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.sample(1)
@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
@pytest.mark.parametrize("runtime", sampled(RUNTIMES, lambda runtime: runtime == "python3.11"))
def test_every_wheel_loads_on_the_target(build: Build, runtime: str, architecture: str) -> None:
    _, report = build("numpy|cryptography|pyyaml", runtime, architecture)
    tags = set(Target.of(runtime, architecture).tags)
    for package in report["packages"]:
        assert parse_wheel_filename(package["wheel"])[3] & tags, package["wheel"]


@pytest.mark.long
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
