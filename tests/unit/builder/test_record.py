"""What one build leaves for the next: locks that rebuild, zips that are taken as they are."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import boto3
import pytest
from jsonschema import Draft202012Validator
from moto.server import ThreadedMotoServer

import layer_builder
from layer_builder import cli
from layer_builder.ground.errors import UsageError
from tests.conftest import sampled
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VALIDATOR = Draft202012Validator(
    json.loads((Path(layer_builder.__file__).with_name("schemas") / "report.schema.json").read_text())
)

Run = subprocess.CompletedProcess[str]


@pytest.fixture
def run(tmp_path: Path, index: Index) -> Callable[..., Run]:
    """Run the command with a cache of its own for each `cache`."""
    make_wheel(index.folder, "app", "1.0", requires=("dep",), metadata="License: MIT\n")
    make_wheel(index.folder, "dep", "2.0")

    def call(*arguments: str, cache: str = "cache") -> Run:
        environment = {
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "LAYER_BUILDER_CACHE": str(tmp_path / cache),
            "LAYER_BUILDER_INDEX_URL": index.url,
        }
        command = [sys.executable, "-m", "layer_builder", *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return call


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket in an AWS of our own."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # All servers of a process have one memory, and another file's tests may have left something in it.
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield boto3.resource("s3").Bucket("bucket")
    server.stop()


def objects(bucket: Any, prefix: str) -> dict[str, bytes]:
    return {
        one.key.removeprefix(prefix): one.get()["Body"].read() for one in bucket.objects.filter(Prefix=prefix)
    }


def build_to(run: Callable[..., Run], bucket: Any, name: str, *arguments: str, cache: str = "cache") -> Any:
    done = run(
        *(arguments or ("-r", "app")),
        *("--output", "s3://bucket/layers/", "--report", f"s3://bucket/builds/{name}/report.json"),
        cache=cache,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(objects(bucket, f"builds/{name}/")["report.json"])
    VALIDATOR.validate(report)
    return report


def test_a_lock_rebuilds_the_very_same_zip(run: Callable[..., Run], index: Index, tmp_path: Path) -> None:
    first = run("-r", "app", "--output", "first.zip", "--report", "a/report.json")
    assert first.returncode == 0, first.stderr
    make_wheel(index.folder, "app", "3.0")
    make_wheel(index.folder, "dep", "3.0")
    index.requested.clear()
    again = run("-p", "a/pylock.toml", "--output", "again.zip", "--report", "b/report.json", cache="other")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    # Nothing is resolved: one look at each project's page for the address, one download each.
    assert sorted(index.requested) == [
        "/files/app-1.0-py3-none-any.whl", "/files/dep-2.0-py3-none-any.whl", "/simple/app/", "/simple/dep/",
    ]  # fmt: skip
    for name in ("pylock.toml", "sbom.cdx.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    one, two = (json.loads((tmp_path / name / "report.json").read_text()) for name in "ab")
    assert one["layer"]["digest"] == two["layer"]["digest"]
    assert (one["requirements"], one["packages"]) == (two["requirements"], two["packages"])


def test_a_lock_of_another_target_or_none_at_all_is_refused(run: Callable[..., Run], tmp_path: Path) -> None:
    assert run("-r", "app", "--report", "report.json").returncode == 0
    done = run("-p", "pylock.toml", "--runtime", "python3.12")
    assert done.returncode == 2
    assert "NO_WHEEL_FOR_TARGET" in done.stderr
    (tmp_path / "pylock.web.toml").write_text("app\n")
    done = run("-p", "pylock.web.toml")
    assert done.returncode == 2
    assert "REQUIREMENTS_INVALID" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lock_of_the_users_own_is_not_overwritten(run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "pylock.toml").write_text('created-by = "me"\n')
    done = run("-r", "app", "--report", "report.json")
    assert done.returncode == 0
    assert "pylock.toml is not layer-builder's own" in done.stderr
    assert (tmp_path / "pylock.toml").read_text() == 'created-by = "me"\n'


def test_the_second_build_takes_what_the_first_one_left(
    run: Callable[..., Run], bucket: Any, tmp_path: Path
) -> None:
    first = build_to(run, bucket, "first")
    before = objects(bucket, "layers/")
    assert sorted(before) == [f"{first['layer']['digest']}.json", f"{first['layer']['digest']}.zip"]
    again = build_to(run, bucket, "again", cache="other")
    assert not (tmp_path / "other" / "wheels").exists()
    assert objects(bucket, "layers/") == before
    assert not {"fetch", "merge", "upload"} & set(again["timings"])
    for part in ("layer", "packages", "checks", "warnings", "requirements", "target"):
        assert again[part] == first[part]
    for name in ("pylock.toml", "sbom.cdx.json"):
        assert objects(bucket, "builds/first/")[name] == objects(bucket, "builds/again/")[name]
    # Name, description and license are the build's own, not the layer's.
    other = build_to(run, bucket, "other", "-r", "app", "-n", "other", "-d", "words", "-l", "MIT")
    assert (other["layer"]["name"], other["layer"]["description"]) == ("other", "words")
    assert objects(bucket, "layers/") == before


def damage_zip(zip_: Any, record: Any) -> None:
    zip_.put(Body=b"another zip")


def damage_checked_zip(zip_: Any, record: Any) -> None:
    zip_.put(Body=b"another zip", ChecksumAlgorithm="SHA256")


def lose_zip(zip_: Any, record: Any) -> None:
    zip_.delete()


def lose_record(zip_: Any, record: Any) -> None:
    record.delete()


def break_record(zip_: Any, record: Any) -> None:
    record.put(Body=record.get()["Body"].read()[:-10])


def empty_record(zip_: Any, record: Any) -> None:
    record.put(Body=b"[]")


def age_record(zip_: Any, record: Any) -> None:
    record.put(Body=record.get()["Body"].read().replace(layer_builder.__version__.encode(), b"0.0.0"))


def forge_record(zip_: Any, record: Any) -> None:
    content = json.loads(record.get()["Body"].read())
    record.put(Body=json.dumps(content | {"code_sha256": base64.b64encode(bytes(32)).decode()}))


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "harm",
    sampled(
        [
            damage_zip,
            damage_checked_zip,
            lose_zip,
            lose_record,
            break_record,
            empty_record,
            age_record,
            forge_record,
        ],
        lambda harm: harm in (damage_zip, forge_record),
    ),
)
def test_what_does_not_belong_together_is_built_anew(
    run: Callable[..., Run], bucket: Any, harm: Callable[[Any, Any], None]
) -> None:
    report = build_to(run, bucket, "first")
    name, good = report["layer"]["digest"], objects(bucket, "layers/")
    harm(bucket.Object(f"layers/{name}.zip"), bucket.Object(f"layers/{name}.json"))
    again = build_to(run, bucket, "again")
    assert "upload" in again["timings"]
    assert again["layer"] == report["layer"]
    now = objects(bucket, "layers/")
    assert now[f"{name}.zip"] == good[f"{name}.zip"]
    digest = base64.b64encode(hashlib.sha256(now[f"{name}.zip"]).digest()).decode()
    assert json.loads(now[f"{name}.json"])["code_sha256"] == digest == again["layer"]["code_sha256"]


@pytest.mark.long
def test_what_was_checked_less_is_checked_again(run: Callable[..., Run], bucket: Any) -> None:
    build_to(run, bucket, "first", "-r", "app", "--no-import-check")
    checked = build_to(run, bucket, "checked", "-r", "app")
    assert "upload" in checked["timings"]
    assert "upload" in build_to(run, bucket, "more", "-r", "app|dep")["timings"]
    small = run("-r", "app", "--output", "s3://bucket/layers/", "--size-limit", "10")
    assert "LAYER_TOO_LARGE" in small.stderr


def test_s3_keeps_the_checksum_of_the_whole_zip(run: Callable[..., Run], bucket: Any) -> None:
    layer = build_to(run, bucket, "first")["layer"]
    head = boto3.client("s3").head_object(Bucket="bucket", Key=layer["zip"]["key"], ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == layer["code_sha256"]


STAGING = "s3://bucket/builds/web-1/py313-arm64/nobody-guesses-this/"


def stage(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, attempt: str, *arguments: str) -> Run:
    monkeypatch.setenv("AWS_BATCH_JOB_ATTEMPT", attempt)
    return run(*(arguments or ("-r", "app")), "--staging", STAGING, "--reuse", "s3://bucket/layers/")


def test_a_staged_build_leaves_all_in_one_place_and_tells_nobody(
    run: Callable[..., Run], bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = stage(run, monkeypatch, "1")
    assert done.returncode == 0, done.stderr
    left = objects(bucket, STAGING.removeprefix("s3://bucket/"))
    names = ("layer.json", "layer.zip", "pylock.toml", "report.json", "sbom.cdx.json")
    assert tuple(sorted(left)) == tuple(f"1/{name}" for name in names)
    assert objects(bucket, "layers/") == {}
    report = json.loads(left["1/report.json"])
    VALIDATOR.validate(report)
    place = report["layer"]["zip"]
    assert (place["location"], place["bucket"], place["key"]) == ("layer.zip", None, None)
    assert json.loads(left["1/layer.json"])["code_sha256"] == report["layer"]["code_sha256"]
    assert "nobody-guesses-this" not in done.stderr + done.stdout


@pytest.mark.long
def test_a_second_attempt_replaces_nothing_of_the_first(
    run: Callable[..., Run], bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stage(run, monkeypatch, "1").returncode == 0
    first = objects(bucket, "builds/")
    # The same attempt again finds its place taken: whoever wrote there, it is not to be vouched for.
    again = stage(run, monkeypatch, "1", "-r", "dep")
    assert again.returncode == 75
    assert "nobody-guesses-this" not in again.stderr + again.stdout
    assert objects(bucket, "builds/") == first
    assert stage(run, monkeypatch, "2", "-r", "dep").returncode == 0
    now = objects(bucket, "builds/")
    assert {name: now[name] for name in first} == first
    assert len(now) == 2 * len(first)


def test_a_staged_build_takes_what_is_kept(
    run: Callable[..., Run], bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = build_to(run, bucket, "kept")
    before = objects(bucket, "layers/")
    done = stage(run, monkeypatch, "1")
    assert done.returncode == 0, done.stderr
    left = objects(bucket, STAGING.removeprefix("s3://bucket/"))
    assert sorted(left) == ["1/pylock.toml", "1/report.json", "1/sbom.cdx.json"]
    assert json.loads(left["1/report.json"])["layer"] == kept["layer"]
    assert objects(bucket, "layers/") == before


@pytest.mark.sample(1)
@pytest.mark.parametrize("wrong", [("-r", "app", "-o", "x"), ("--no-such-option",), ("-r", "not there !!")])
def test_a_staged_build_that_fails_leaves_its_report_there(
    run: Callable[..., Run], bucket: Any, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, ...]
) -> None:
    assert stage(run, monkeypatch, "3", *wrong).returncode == 2
    (report,) = objects(bucket, STAGING.removeprefix("s3://bucket/")).values()
    assert json.loads(report)["error"]["code"]
    assert list(objects(bucket, "builds/web-1/py313-arm64/nobody-guesses-this/3/")) == ["report.json"]


@pytest.mark.parametrize(
    "options",
    [
        ("--staging", "s3://bucket/x"),
        ("--staging", "folder/"),
        ("--reuse", "s3://bucket/layers/"),
        ("--staging", STAGING, "--reuse", "layers/"),
        ("--staging", STAGING, "-s", "bucket"),
        ("--staging", STAGING, "--report", "report.json"),
    ],
)
def test_staging_goes_with_nothing_else(options: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        cli.parse(cli.normalized(["-r", "app", *options]))
