"""The command, from outside: options, outputs, statuses, and what is left behind."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from moto.server import ThreadedMotoServer

import layer_builder
from layer_builder import cli
from layer_builder.ground.errors import OptionsFileError, UsageError
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from layer_builder.options import Options

SCHEMA = Path(layer_builder.__file__).with_name("schemas") / "report.schema.json"
VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text()))

LINES = "requests == 2.32.3|httpx == 0.27.2"

Run = subprocess.CompletedProcess[str]


def environment(tmp_path: Path, index: Index, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "LAYER_BUILDER_CACHE": str(tmp_path / "cache"),
        "LAYER_BUILDER_INDEX_URL": index.url,
        **more,
    }


@pytest.fixture
def run(tmp_path: Path, index: Index) -> Callable[..., Run]:
    """Run the command in an empty folder, against the loopback index."""
    make_wheel(index.folder, "app", "1.0", requires=("dep",), metadata="License: MIT\n")
    make_wheel(index.folder, "dep", "2.0", entry_points="[console_scripts]\ndep = dep:main\n")
    (tmp_path / "work").mkdir()

    def call(*arguments: str, **more: str) -> Run:
        command = [sys.executable, "-m", "layer_builder", *arguments]
        return subprocess.run(
            command,
            env=environment(tmp_path, index, **more),
            cwd=tmp_path / "work",
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def parse(*arguments: str) -> Options:
    return cli.parse(cli.normalized(arguments))


def report_of(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text())
    VALIDATOR.validate(document)
    return document


@pytest.mark.parametrize(
    "arguments",
    [
        ["-r", LINES, "-n", "web", "-s", "bucket", "-k", "py", "-l", "MIT License"],
        [f"-r {LINES}", "-n web", "-s bucket", "-k py", "-l MIT License"],
        [f"-r{LINES}", "-nweb", "-sbucket", "-kpy", "-lMIT License"],
        [f"-r  {LINES} ", "-n  web ", "-s", "bucket", "-k py", "--license=MIT License"],
        [f"--requirements={LINES}", "--name", "web", "--publish-bucket", "bucket",
         "--publish-prefix", "py", "--license", "MIT License"],
    ],
)  # fmt: skip
def test_both_forms_of_the_original_tool_and_the_long_one_say_the_same(arguments: list[str]) -> None:
    options = parse(*arguments)
    assert options.inline == LINES
    assert (options.name, options.publish_bucket, options.publish_prefix) == ("web", "bucket", "py")
    assert options.license == "MIT License"


def test_the_pipelines_command_is_understood() -> None:
    options = parse(
        "--path", "s3://b/requirements/arm64/r.txt", "--version-id", "v1", "--name", "web",
        "--architecture", "x86_64",
        "--runtime", "python3.11", "--output", "s3://b/layers/", "--report", "s3://b/builds/e/t/report.json",
        "--description", "-d -r", "--license", "MIT",
        "--allow-sdist", "a", "--allow-sdist", "b", "--bytecode",
    )  # fmt: skip
    assert (options.path, options.version_id) == ("s3://b/requirements/arm64/r.txt", "v1")
    assert (options.architecture, options.runtime) == ("x86_64", "python3.11")
    assert (options.output, options.report) == ("s3://b/layers/", "s3://b/builds/e/t/report.json")
    assert (options.allow_sdist, options.bytecode, options.description) == (("a", "b"), True, "-d -r")


def in_file(tmp_path: Path, content: bytes | str) -> Options:
    file = tmp_path / "options.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return parse("-r", "app", "--options-file", str(file), "--constraint=b<3", "-n", "web")


def test_options_may_come_in_a_file(tmp_path: Path) -> None:
    """In every form that a command line has; of what may stand once, the command line's counts."""
    file = [
        "-n file",
        "-l",
        "MIT",
        "--bytecode",
        "--constraint",
        "a<2",
        "--allow-sdist=odd",
        "--description=-d é",
    ]
    options = in_file(tmp_path, json.dumps(file, ensure_ascii=False))
    assert (options.inline, options.name, options.license) == ("app", "web", "MIT")
    assert (options.constraints, options.allow_sdist) == (("a<2", "b<3"), ("odd",))
    assert (options.bytecode, options.description) == (True, "-d é")
    assert in_file(tmp_path, "[]") == parse("-r", "app", "--constraint=b<3", "-n", "web")


NO_OPTIONS: tuple[bytes | str, ...] = (
    "", "{}", '"--bytecode"', "[1]", '["--bytecode", null]', '[["--bytecode"]]', "[", b"\xff", "[" * 100_000,
    '["\\ud800"]', '["-d\\u0000"]', '["--bytecode"]' + " " * (1 << 20), "[" + "1" * 5_000 + "]",
    '["--staging=s3://b/x/"]', '["--staging", "s3://b/x/"]', '["--report", "x"]', '["--version"]',
    '["-h"]', '["--options-file=x"]',
)  # fmt: skip


@pytest.mark.parametrize("content", NO_OPTIONS, ids=range(len(NO_OPTIONS)))
def test_what_is_no_file_of_options_is_refused(tmp_path: Path, content: bytes | str) -> None:
    with pytest.raises(OptionsFileError) as caught:
        in_file(tmp_path, content)
    assert caught.value.hint
    assert caught.value.exit_status == 2


def test_options_in_a_file_are_judged_as_on_the_command_line(tmp_path: Path) -> None:
    for content in ('["--evil"]', '["-n"]', '["--size-limit=x"]'):
        with pytest.raises(UsageError):
            in_file(tmp_path, content)
    with pytest.raises(UsageError, match="2 times"):
        parse("-r", "app", "--options-file=a", "--options-file=b")


@pytest.mark.parametrize(
    ("given_", "meant", "bundles", "packages"),
    [
        ((), ("auto",), True, ()),
        (("check",), ("check",), False, ()),
        (("auto",), ("auto",), True, ()),
        (("unixODBC", "libstdc++"), ("unixODBC", "libstdc++"), True, ("libstdc++", "unixODBC")),
    ],
)
def test_system_libraries_are_checked_bundled_or_named(
    given_: tuple[str, ...], meant: tuple[str, ...], bundles: bool, packages: tuple[str, ...]
) -> None:
    options = parse("-r", "x", *(f"--system-libraries={value}" for value in given_))
    assert (options.system_libraries, options.bundles, options.system_packages) == (meant, bundles, packages)


@pytest.mark.parametrize(
    "values",
    [("",), ("-y",), ("a b",), ("*",), ("/etc/passwd",), ("ü",), ("auto", "x"), ("x", "check"), ("a" * 129,)],
)
def test_what_is_no_name_of_a_system_package_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--system-libraries does not take"):
        parse("-r", "x", *(f"--system-libraries={value}" for value in values))


def test_libraries_that_a_trial_lacked_are_named_by_their_sonames() -> None:
    options = parse("-r", "x", "--needed-library", "libvips.so.42", "--needed-library=libgomp.so.1")
    assert options.needed_libraries == ("libvips.so.42", "libgomp.so.1")
    assert parse("-r", "x").needed_libraries == ()


@pytest.mark.parametrize(
    "value", ["", "--root=/.so", "libvips", "lib*.so.1", "/lib/libc.so.6", "a b.so", "ü.so"]
)
def test_what_is_no_soname_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="--needed-library does not take"):
        parse("-r", "x", f"--needed-library={value}")


def test_needed_libraries_are_not_for_a_layer_that_gets_none_and_not_too_many() -> None:
    with pytest.raises(UsageError, match="no meaning beside"):
        parse("-r", "x", "--system-libraries=check", "--needed-library=liba.so.1")
    many = [f"--needed-library=lib{number}.so" for number in range(101)]
    assert len(parse("-r", "x", *many[1:]).needed_libraries) == 100
    with pytest.raises(UsageError, match="100 times at most"):
        parse("-r", "x", *many)


@given(st.text(max_size=20), st.sampled_from(["-d", "--description"]))
@example("-h", "-d")
@example("--evil=x", "--description")
def test_a_value_is_never_taken_for_an_option(value: str, option: str) -> None:
    assert parse("-r", "x", option, value, "--bytecode").description == value


def test_defaults_are_those_of_the_original() -> None:
    options = parse("-p", "requirements.txt")
    assert (options.publish_prefix, options.publish_bucket, options.runtime) == ("python", "", "python3.13")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-p", "a", "-r", "b"],
        ["-p", "a", "-n", "not a name"],
        ["-p", "a", "-n", "x" * 141],
        ["-p", "a", "-d", "x" * 257],
        ["-p", "a", "-l", "x" * 513],
        ["-p", "a", "--version-id", "v"],
        ["-p", "a", "-s", "b", "--output", "c"],
        ["-p", "a", "--evil"],
        ["-p", "a", "stray"],
        ["-p"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(*arguments)
    assert caught.value.exit_status == 2


def test_help_names_every_option(run: Callable[..., Run]) -> None:
    done = run("-h")
    assert done.returncode == 0
    for option in ("-p", "-r", "-n", "-s", "-k", "-l", "--architecture", "--runtime", "--output", "--report"):
        assert option in done.stdout


def test_without_a_bucket_only_the_zip_is_made(run: Callable[..., Run], tmp_path: Path) -> None:
    done = run("-r", "app == 1.0", "-n", "web", "--report", "report.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("web.zip: 2 packages for python3.13 on arm64")
    assert sorted(file.name for file in (tmp_path / "work").iterdir()) == [
        "pylock.toml", "report.json", "sbom.cdx.json", "web.zip",
    ]  # fmt: skip
    report = report_of(tmp_path / "work" / "report.json")
    content = (tmp_path / "work" / "web.zip").read_bytes()
    assert report["layer"]["zip"]["bytes"] == len(content)
    assert report["layer"]["description"] == "app==1.0"
    assert report["requirements"] == ["app==1.0"]
    assert [(one["name"], one["version"], one["license"]) for one in report["packages"]] == [
        ("app", "1.0", "MIT"),
        ("dep", "2.0", None),
    ]
    with zipfile.ZipFile(tmp_path / "work" / "web.zip") as zipped:
        assert sum(info.file_size for info in zipped.infolist()) == report["layer"]["zip"]["unzipped_bytes"]
        assert "bin/dep" in zipped.namelist()


def test_a_folder_gets_the_zip_under_its_digest(run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "work" / "requirements.txt").write_text("# comment\r\napp\r\n")
    (tmp_path / "work" / "existing").mkdir()
    digests = []
    for output in ("new/", "existing"):
        assert run("-p", "requirements.txt", "--output", output, "--report", "r.json").returncode == 0
        report = report_of(tmp_path / "work" / "r.json")
        digests.append(report["layer"]["digest"])
        assert (tmp_path / "work" / output / f"{digests[-1]}.zip").is_file()
    assert digests[0] == digests[1]


def test_the_digest_tells_what_differs(run: Callable[..., Run], tmp_path: Path) -> None:
    digests = set()
    for more in ([], ["--architecture", "x86_64"], ["--runtime", "python3.12"]):
        assert run("-r", "app", "--report", "r.json", *more).returncode == 0
        digests.add(report_of(tmp_path / "work" / "r.json")["layer"]["digest"])
    assert run("-r", "dep", "--report", "r.json").returncode == 0
    digests.add(report_of(tmp_path / "work" / "r.json")["layer"]["digest"])
    assert len(digests) == 4


def test_the_same_zip_from_a_cold_and_a_warm_cache_and_other_words(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    contents = set()
    for number, text in enumerate(["app==1.0|dep", "# x|dep>=1|app", "app"]):
        for cache in ("shared", f"own{number}"):
            assert run("-r", text, "-n", "x", LAYER_BUILDER_CACHE=str(tmp_path / cache)).returncode == 0
            contents.add(hashlib.sha256((tmp_path / "work" / "x.zip").read_bytes()).digest())
    assert len(contents) == 1


@pytest.mark.long
def test_many_builds_at_once_on_one_cold_cache(tmp_path: Path, index: Index) -> None:
    for number in range(10):
        make_wheel(index.folder, f"p{number}", files={f"p{number}.py": "x = 1\n" * 1000})
    text = "|".join(f"p{number}" for number in range(10))
    builds = [
        subprocess.Popen(
            [sys.executable, "-m", "layer_builder", "-r", text, "--output", str(tmp_path / f"{number}.zip")],
            env=environment(tmp_path, index),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for number in range(5)
    ]
    for build in builds:
        _, stderr = build.communicate(timeout=120)
        assert build.returncode == 0, stderr
    assert len({(tmp_path / f"{number}.zip").read_bytes() for number in range(5)}) == 1
    assert not list((tmp_path / "cache").rglob("*.part"))


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["-r", "-e ."], 2, "REQUIREMENTS_INVALID"),
        (["-p", "nope.txt"], 2, "REQUIREMENTS_NOT_FOUND"),
        (["-r", "nope"], 2, "RESOLUTION_FAILED"),
        (["-r", "windows"], 2, "NO_WHEEL_FOR_TARGET"),
        (["-r", "app --hash=sha256:" + "0" * 64], 2, "HASH_MISMATCH"),
        (["-r", "evil"], 2, "UNSAFE_WHEEL"),
        (["-r", "app", "--runtime", "python2.7"], 2, "USAGE_INVALID"),
        (["-r", "app", "--output", "/proc/nope/x.zip"], 2, "OUTPUT_UNWRITABLE"),
        (["--evil"], 2, "USAGE_INVALID"),
        (["-r", "app", "--options-file", "nope.json"], 2, "OPTIONS_FILE_INVALID"),
    ],
)
def test_every_failure_leaves_a_report_and_nothing_else(
    run: Callable[..., Run], tmp_path: Path, index: Index, arguments: list[str], status: int, code: str
) -> None:
    make_wheel(index.folder, "windows", tag="cp313-cp313-win_amd64")
    make_wheel(index.folder, "evil", files={"../evil.py": ""})
    done = run(*arguments, "--report", "report.json")
    assert done.returncode == status, done.stderr
    assert not done.stdout
    assert [file.name for file in (tmp_path / "work").iterdir()] == ["report.json"]
    report = report_of(tmp_path / "work" / "report.json")
    assert report["error"]["code"] == code
    assert report["error"]["hint"]
    assert f"error {code}: {report['error']['message']}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_of_ours_is_told_from_a_fault_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("layer_builder.build.build", bug)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert cli.main(["-r", "app", "--report", str(tmp_path / "report.json")]) == 70
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    report = report_of(tmp_path / "report.json")
    assert report["error"]["code"] == "INTERNAL"
    assert "secret" not in json.dumps(report)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["/simple/", "/files/"])
def test_being_told_to_stop_ends_the_build_with_a_report(
    tmp_path: Path, index: Index, number: signal.Signals, where: str
) -> None:
    """As Batch does it before a job is killed; while uv asks the index, or while a wheel is on its way."""
    make_wheel(index.folder, "app")
    reached, release = threading.Event(), threading.Event()

    def before(path: str) -> None:
        resolved = where == "/simple/" or len(index.downloads()) > 1
        if path.startswith(where) and resolved:
            reached.set()
            release.wait(30)

    index.before = before  # type: ignore[assignment]
    build = subprocess.Popen(
        [sys.executable, "-m", "layer_builder", "-r", "app", "--output", "x.zip", "--report", "report.json"],
        env=environment(tmp_path, index),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert reached.wait(30)
    build.send_signal(number)
    time.sleep(0.2)  # the signal is taken before the answer comes
    release.set()
    _, stderr = build.communicate(timeout=60)
    assert build.returncode == 75, stderr
    assert report_of(tmp_path / "report.json")["error"]["code"] == "INTERRUPTED"
    assert not list(tmp_path.glob("*x.zip*"))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An AWS of our own, as environment variables."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield variables
    server.stop()


def test_the_pipelines_build_goes_from_s3_to_s3(run: Callable[..., Run], aws: dict[str, str]) -> None:
    s3 = boto3.client("s3")
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    key = "requirements/arm64/requirements.txt"
    version = s3.put_object(Bucket="bucket", Key=key, Body=b"app==1.0\n")["VersionId"]
    s3.put_object(Bucket="bucket", Key=key, Body=b"nope\n")
    s3.put_object(Bucket="bucket", Key="plans/e/t/x.json", Body=b'["--license=MIT"]')
    done = run(
        "--path", f"s3://bucket/{key}", "--version-id", version, "--name", "web",
        "--options-file", "s3://bucket/plans/e/t/x.json",
        "--output", "s3://bucket/layers/", "--report", "s3://bucket/builds/e/t/report.json", **aws,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(s3.get_object(Bucket="bucket", Key="builds/e/t/report.json")["Body"].read())
    VALIDATOR.validate(report)
    place = report["layer"]["zip"]
    assert place["key"] == f"layers/{report['layer']['digest']}.zip"
    zipped = s3.get_object(Bucket="bucket", Key=place["key"])
    digest = base64.b64encode(hashlib.sha256(zipped["Body"].read()).digest()).decode()
    assert digest == report["layer"]["code_sha256"]
    metadata = zipped["Metadata"]
    assert metadata.pop("create-date").startswith("20")
    assert metadata == {
        "layer-name": "web",
        "requirements": "app==1.0",
        "license-info": "MIT",
        "python-version": "3.13",
        "compatible-runtimes": "python3.13",
        "compatible-architectures": "arm64",
    }
    assert not boto3.client("lambda").list_layers()["Layers"]


def test_with_a_bucket_the_layer_is_published(
    run: Callable[..., Run], aws: dict[str, str], tmp_path: Path
) -> None:
    done = run("-r app == 1.0|dep", "-n web", "-s bucket", "-l MIT", "--report", "report.json", **aws)
    assert done.returncode == 0, done.stderr
    report = report_of(tmp_path / "work" / "report.json")
    assert report["layer"]["zip"]["location"] == "s3://bucket/python/web.zip"
    arn = report["layer"]["layer_version_arn"]
    assert done.stdout.startswith(f"{arn} from s3://bucket/python/web.zip: 2 packages")
    version = boto3.client("lambda").get_layer_version(LayerName="web", VersionNumber=1)
    assert version["LayerVersionArn"] == arn
    assert (version["Description"], version["LicenseInfo"]) == ("app==1.0|dep", "MIT")
    assert (version["CompatibleRuntimes"], version["CompatibleArchitectures"]) == (["python3.13"], ["arm64"])
    assert version["Content"]["CodeSha256"] == report["layer"]["code_sha256"]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["-p", "s3://bucket/nope.txt"], 2, "REQUIREMENTS_NOT_FOUND"),
        (["-r", "app", "--output", "s3://nope/"], 2, "STORAGE_DENIED"),
        (["-r", "app", "-s", "nope"], 2, "STORAGE_DENIED"),
        (["-r", "app", "--options-file", "s3://bucket/nope.json"], 2, "OPTIONS_FILE_INVALID"),
        (["-r", "app", "--options-file", "s3://nope/x.json"], 2, "OPTIONS_FILE_INVALID"),
    ],
)
def test_failures_of_s3_leave_a_report_in_s3(
    run: Callable[..., Run], aws: dict[str, str], arguments: list[str], status: int, code: str
) -> None:
    done = run(*arguments, "--report", "s3://bucket/report.json", **aws)
    assert done.returncode == status, done.stderr
    report = json.loads(boto3.client("s3").get_object(Bucket="bucket", Key="report.json")["Body"].read())
    VALIDATOR.validate(report)
    assert report["error"]["code"] == code


def test_a_report_that_cannot_be_left_is_a_failure(run: Callable[..., Run], aws: dict[str, str]) -> None:
    done = run("-r", "app", "--report", "s3://nope/report.json", **aws)
    assert done.returncode == 2
    assert "STORAGE_DENIED" in done.stderr
    assert not done.stdout


def test_nothing_heavy_is_imported_for_a_build_from_the_cache(
    run: Callable[..., Run], tmp_path: Path, index: Index
) -> None:
    assert run("-r", "app", "--report", "report.json").returncode == 0  # leaves the lock: no index is asked
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "layer_builder",
        "-p",
        "work/pylock.toml",
        "-n",
        "again",
    ]
    done = subprocess.run(
        command, env=environment(tmp_path, index), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    imported = {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")
    }
    assert "layer_builder.layer.archive" in imported
    assert imported.isdisjoint(
        {"boto3", "botocore", "urllib3", "ssl", "email.parser", "concurrent.futures", "asyncio"}
    )
