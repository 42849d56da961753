"""What the image is, and what a build inside it can and cannot do."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import socket
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.container import stand_in
from tests.container.conftest import ROOT, STRICT
from tests.native import repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.container.conftest import Image

# Pinned and without dependencies, so that two builds cannot differ by what was released between them.
NATIVE = "markupsafe==3.0.3|pyyaml==6.0.3"
MINORS = ("3.11", "3.12", "3.13", "3.14")
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


def report(scratch: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((scratch / "report.json").read_text())
    return read


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


# ---------------------------------------------------------------- what it is


def test_runs_as_nobody_special_and_takes_its_command_line(image: Image) -> None:
    config = json.loads(image.engine.run("image", "inspect", image.name).stdout)[0]["Config"]
    assert int(config["User"].partition(":")[0]) > 0
    assert config["Entrypoint"][0].endswith("/layer-builder")
    assert not config["Cmd"]
    assert list(config["Volumes"]) == ["/tmp"]
    done = image.run(*STRICT, command=("--version",))
    assert (done.returncode, done.stdout.split()[0]) == (0, "layer-builder")


def test_builder_adds_little(image: Image) -> None:
    """Size is start-up time. uv is most of it; the base and its interpreters are what they are."""
    layers = image.engine.run(
        "history", "--human=false", "--format={{.Size}} {{.CreatedBy}}", image.name
    ).stdout
    ours = [
        int(line.split()[0]) for line in layers.splitlines() if "COPY /usr/local/lib/layer-builder" in line
    ]
    assert len(ours) == 1
    assert ours[0] < 60_000_000


def test_nothing_to_gain_from_inside(image: Image) -> None:
    done = image.python("print(open('/proc/self/status').read())")
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == {"1000"}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


def test_root_is_read_only_and_tmp_is_everybodys(image: Image) -> None:
    written = image.python(
        "import os, pathlib\n"
        "for folder in ('/', '/usr/local/lib/layer-builder', '/var', '/etc', '/tmp'):\n"
        "    try: pathlib.Path(folder, 'x').write_text('x'); print(folder, 'written')\n"
        "    except OSError as error: print(folder, error.strerror)\n"
        "print(oct(os.stat('/tmp').st_mode))"
    )
    *others, tmp, mode = written.stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in others] == ["Read-only file system"] * 4
    assert (tmp, mode) == ("/tmp written", "0o41777")


@pytest.mark.parametrize("minor", MINORS)
def test_an_interpreter_of_each_runtime_is_at_hand(image: Image, minor: str) -> None:
    """The libraries that imports most often need, too: a failure there would look like a broken layer."""
    if minor in stand_in.missing(image.engine, image.name):
        pytest.skip(f"neither Debian nor this machine has a Python {minor} for the stand-in base")
    found = image.python(
        "from layer_builder.ground.interpreter import find; "
        f"found = find({minor!r}); print(found.minor, found.path)"
    )
    assert found.stdout.split()[0] == minor, found.stderr
    imported = image.python("import ssl, ctypes, sqlite3, lzma, bz2, zlib", program=found.stdout.split()[1])
    assert imported.returncode == 0, imported.stderr


def test_services_that_the_builder_calls_are_kept() -> None:
    """The Dockerfile throws the descriptions of all other services away."""
    kept = re.search(r'case "\$\{service\}" in (.*?)\)', (ROOT / "container/Dockerfile").read_text())
    assert kept
    names = {name.strip(" */") for name in kept[1].split("|")}
    source = "\n".join(path.read_text() for path in (ROOT / "container/layer_builder").glob("**/*.py"))
    called = set(re.findall(r"""\b(?:client|resource)\(\s*["'](\w[\w-]*)["']""", source))
    assert {"s3", "lambda"} <= called
    assert called <= names


# ---------------------------------------------------------------- what a build does


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_same_bytes_as_outside(image: Image, tmp_path: Path, architecture: str) -> None:
    """Another Python, another C library, another user, another folder: the same zip.

    But for bytecode, which is the compiler's.
    """
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    arguments = ("-r", NATIVE, "-n", "native", "--architecture", architecture, "--no-bytecode")
    done = image.build(*arguments, "--output", "/tmp/out/", "--report", "/tmp/report.json", scratch=inside)
    assert done.returncode == 0, done.stderr
    subprocess.run(
        [sys.executable, "-m", "layer_builder", *arguments, "--output", f"{outside}/"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert digests(inside / "out") == digests(outside)
    assert report(inside)["status"] == "SUCCEEDED"
    assert {package["name"].lower() for package in report(inside)["packages"]} == {"markupsafe", "pyyaml"}


@pytest.mark.parametrize("minor", MINORS)
def test_proved_imported_and_compiled_for_each_runtime(image: Image, tmp_path: Path, minor: str) -> None:
    """Import check and compiler are processes of their own, and must do with what the container gives."""
    if minor in stand_in.missing(image.engine, image.name):
        pytest.skip(f"neither Debian nor this machine has a Python {minor} for the stand-in base")
    done = image.build(
        "-r", NATIVE, "--architecture", ARCHITECTURE, "--runtime", f"python{minor}", "--bytecode",
        "--output", "/tmp/out/", "--report", "/tmp/report.json", scratch=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    checks = report(tmp_path)["checks"]
    assert {checks[name]["status"] for name in ("elf", "glibc", "libraries", "size")} == {"passed"}
    assert (checks["imports"]["status"], checks["imports"]["modules"]) == ("passed", ["markupsafe", "yaml"])
    assert checks["bytecode"]["status"] == "added"
    for used in (checks["imports"]["python"], checks["bytecode"]["interpreter"]):
        assert used.rpartition(".")[0] == minor
    # Nothing of what they unpacked or wrote is left.
    assert {path.name for path in tmp_path.iterdir()} == {
        "out",
        "report.json",
        "pylock.toml",
        "sbom.cdx.json",
    }


def test_a_source_is_built_where_that_is_allowed(image: Image, tmp_path: Path) -> None:
    """With what it needs to be built, which the image has not; 3.13 is the interpreter of every base."""
    done = image.build(
        "-r", "docopt==0.6.2", "--architecture", ARCHITECTURE, "--allow-sdist", "docopt",
        "--output", "/tmp/out/", "--report", "/tmp/report.json", scratch=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (package,) = report(tmp_path)["packages"]
    assert package["wheel"].startswith("docopt-0.6.2-")
    assert report(tmp_path)["checks"]["imports"]["modules"] == ["docopt"]


@pytest.mark.skipif(ARCHITECTURE != "x86_64", reason="the packages are made for x86_64")
def test_system_libraries_come_out_of_packages(image: Image, tmp_path: Path) -> None:
    """As nobody, on a read-only root: the packages are real, and so is what reads them."""
    packages = repository.at_hand("x86_64")
    mounted = tmp_path / "repository"
    shutil.copytree(packages, mounted)
    (mounted / "provides").write_text(
        "".join(
            f"{provided.split()[0]} {file.name}\n"
            for file in sorted(packages.glob("*.rpm"))
            for provided in subprocess.run(
                ["rpm", "-qp", "--provides", file], check=True, capture_output=True, text=True
            ).stdout.splitlines()
        )
    )
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    done = image.build(
        "-r", "pyodbc==5.3.0", "--system-libraries", "auto", "--architecture", "x86_64",
        "--output", "/tmp/out/", "--report", "/tmp/report.json",
        scratch=scratch, options=(*STRICT, f"--volume={mounted}:/repository:ro"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    taken = {file["path"] for package in report(scratch)["system_packages"] for file in package["files"]}
    assert taken == {"lib/libodbc.so.2", "lib/libltdl.so.7"}
    if "3.13" not in stand_in.missing(image.engine, image.name):
        assert report(scratch)["checks"]["imports"]["status"] == "passed"
    assert {path.name for path in scratch.iterdir()} == {"out", "report.json", "pylock.toml", "sbom.cdx.json"}


def test_the_release_is_said_where_every_package_manager_reads_it(image: Image) -> None:
    said = image.python("print(open('/etc/dnf/vars/releasever').read())")
    assert said.stdout.strip() == stand_in.RELEASE


def test_other_architecture_is_proved_but_not_imported(image: Image, tmp_path: Path) -> None:
    other = {"arm64": "x86_64", "x86_64": "arm64"}[ARCHITECTURE]
    done = image.build(
        "-r", NATIVE, "--architecture", other, "--output", "/tmp/out/", "--report", "/tmp/report.json",
        scratch=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    checks = report(tmp_path)["checks"]
    assert checks["libraries"]["status"] == "passed"
    assert checks["imports"]["status"] == "not_run"
    assert checks["imports"]["reason"]


def test_nothing_is_written_outside_tmp(image: Image, tmp_path: Path) -> None:
    name = f"diff-{uuid.uuid4().hex[:8]}"
    try:
        done = image.engine.run(
            "run", f"--name={name}", "--network=host", *image.folders(tmp_path), image.name,
            "-r", NATIVE, "--output", "/tmp/out/", check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        changed = image.engine.run("diff", name).stdout.split("\n")
        # The engine itself makes the folder that the cache is mounted on.
        assert set(filter(None, changed)) <= {"A /cache"}
    finally:
        image.engine.run("rm", "--force", "--volumes", name)


def test_no_shell_is_needed(image: Image, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.touch(mode=0o644)
    hidden = tuple(f"--volume={nothing}:/usr/bin/{shell}:ro" for shell in ("bash", "sh"))
    with_shell = image.run("--entrypoint=/bin/sh", command=("-c", ":"))
    without = image.run(*hidden, "--entrypoint=/bin/sh", command=("-c", ":"))
    assert (with_shell.returncode, without.returncode) == (0, 126)
    (tmp_path / "tmp").mkdir()
    done = image.build(
        "-r", NATIVE, "--output", "/tmp/out/", scratch=tmp_path / "tmp", options=(*STRICT, *hidden)
    )
    assert done.returncode == 0, done.stderr


def test_enough_memory_and_too_little(image: Image, tmp_path: Path) -> None:
    def limited(megabytes: int) -> int:
        limits = (f"--memory={megabytes}m", f"--memory-swap={megabytes}m")
        return image.build(
            "-r", NATIVE, "--output", "/tmp/out/", scratch=tmp_path, options=(*STRICT, *limits)
        ).returncode

    assert limited(128) == 0
    assert limited(12) == 137


# ---------------------------------------------------------------- exit statuses and reports


@pytest.mark.parametrize(
    ("requirements", "code"),
    [
        ("-e .", "REQUIREMENTS_INVALID"),
        ("markupsafe==0.0.0.0.1", "RESOLUTION_FAILED"),
        ("pyodbc==5.3.0", "MISSING_SHARED_LIBRARY"),
    ],
)
def test_requirements_at_fault(image: Image, tmp_path: Path, requirements: str, code: str) -> None:
    done = image.build(
        f"--requirements={requirements}", "--system-libraries=check", "--output", "/tmp/out/",
        "--report", "/tmp/report.json", scratch=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert report(tmp_path)["error"]["code"] == code
    assert not list(tmp_path.glob("out/*"))


def test_index_out_of_reach(image: Image, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/simple/"
        done = image.build(
            "-r", NATIVE, "--output", "/tmp/out/", "--report", "/tmp/report.json", scratch=tmp_path,
            options=(*STRICT, f"--env=LAYER_BUILDER_INDEX_URL={url}"),
        )  # fmt: skip
    assert done.returncode == 75
    assert report(tmp_path)["error"]["code"] == "INDEX_UNREACHABLE"


@pytest.mark.parametrize("init", [(), ("--init",)])
def test_told_to_stop_while_it_waits(image: Image, tmp_path: Path, init: tuple[str, ...]) -> None:
    """Before Spot capacity goes, Fargate sends SIGTERM: to the builder, or to the init process before it."""
    if init and not image.engine.has_init:
        pytest.skip("this engine has no init program")
    name = f"stopped-{uuid.uuid4().hex[:8]}"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/simple/"
        image.engine.run(
            "run", "--detach", f"--name={name}", "--network=host", *init, *STRICT, *image.folders(tmp_path),
            f"--env=LAYER_BUILDER_INDEX_URL={url}", image.name,
            "-r", NATIVE, "--output", "/tmp/out/", "--report", "/tmp/report.json",
        )  # fmt: skip
        try:
            silent.settimeout(60)
            connection, _ = silent.accept()
            with connection:
                image.engine.run("kill", "--signal=TERM", name)
                status = image.engine.run("wait", name).stdout.strip()
        finally:
            image.engine.run("rm", "--force", "--volumes", name)
    assert status == "75"
    assert report(tmp_path)["status"] == "FAILED"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.json"]


# ---------------------------------------------------------------- as a job runs it


@pytest.fixture
def aws() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_from_bucket_to_bucket(image: Image, tmp_path: Path, aws: str) -> None:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=aws, **keys)
    s3.create_bucket(Bucket="layers")
    s3.put_object(Bucket="layers", Key="requirements/x86_64/requirements.txt", Body=NATIVE.replace("|", "\n"))
    environment = tuple(
        f"--env={name}={value}"
        for name, value in {
            "AWS_ENDPOINT_URL": aws, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
        }.items()
    )  # fmt: skip
    done = image.build(
        "--path", "s3://layers/requirements/x86_64/requirements.txt", "--name", "web",
        "--architecture", "x86_64",
        "--output", "s3://layers/layers/", "--report", "s3://layers/builds/1/report.json",
        scratch=tmp_path, options=(*STRICT, *environment),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads(s3.get_object(Bucket="layers", Key="builds/1/report.json")["Body"].read())
    zipped = s3.head_object(Bucket="layers", Key=written["layer"]["zip"]["key"])
    assert zipped["ContentLength"] == written["layer"]["zip"]["bytes"]
    assert zipped["Metadata"]["layer-name"] == "web"
