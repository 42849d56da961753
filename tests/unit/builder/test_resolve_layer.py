"""ResolveLayer: the same answers as the job's, without one; and what it leaves to the job."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from layer_builder import cli, resolve_layer
from layer_builder.ground.errors import EXIT_OK, LayerTooLargeError
from layer_builder.indexes import public_index, sources, web
from layer_builder.proof import sizes
from layer_builder.resolution import lock, sdist
from layer_builder.wheels.pick import Pick
from layerdrop.report import Report
from layerdrop.shelves import Shelves
from layerdrop.target import Job, Target
from tests.conftest import sampled
from tests.unit.builder.test_publishers import GITHUB, asked, attested
from tests.unit.builder.test_record import bucket as bucket
from tests.unit.builder.test_record import objects
from tests.unit.builder.wheel_maker import make_sdist, make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.builder.wheel_maker import Index

KEY = "requirements/x86_64/web/requirements.txt"
LOCK = "requirements/x86_64/web/api-pylock.toml"
STAGING = "builds/web-1/py313-x86_64/nobody-guesses-this/"
CONTEXT = SimpleNamespace(get_remaining_time_in_millis=lambda: 45_000)


class World:
    """A bucket, an index, and what the pipeline does around ResolveLayer."""

    def __init__(self, bucket: Any, index: Index) -> None:
        self.bucket, self.index = bucket, index
        bucket.Versioning().enable()

    def target(self, text: str, *options: str, key: str = KEY) -> dict[str, Any]:
        """Upload a file; return the target that PlanBuild would make of it."""
        version = boto3.client("s3").put_object(Bucket="bucket", Key=key, Body=text.encode())["VersionId"]
        command = [
            f"--path=s3://bucket/{key}",
            f"--version-id={version}",
            "--name=web",
            "--architecture=x86_64",
            "--runtime=python3.13",
            "--reuse=s3://bucket/layers/",
            f"--staging=s3://bucket/{STAGING}",
            "--no-import-check",
            *options,
        ]
        job = Job("web-1", "queue", "definition:1", tuple(command))
        target = Target(
            id="py313-x86_64",
            architecture="x86_64",
            runtime="python3.13",
            layer_name="web",
            description=None,
            license=None,
            share_with=(),
            job=job,
            staging=STAGING,
            resolves=True,
        )
        return target.to_json()

    def resolve(self, target: dict[str, Any]) -> dict[str, Any]:
        event = {"input": {"bucket": "bucket"}, "target": target}
        answer = resolve_layer.handler(event, CONTEXT)
        assert answer["input"] == event["input"]
        found: dict[str, Any] = answer["target"]
        return found

    def look(self, target: dict[str, Any]) -> list[str] | None:
        """Ask what a build would take today."""
        before = objects(self.bucket, "")
        event = {"look": True, "input": {"bucket": "bucket"}, "target": target}
        try:
            packages = resolve_layer.handler(event, CONTEXT)["packages"]
        finally:
            assert objects(self.bucket, "") == before
        return packages and [f"{one['name']} {one['version']}" for one in packages]

    def job(self, target: dict[str, Any]) -> dict[str, Any]:
        """Run the target's job; return its report."""
        status = cli.main(target["job"]["command"])
        place = next(word for word in target["job"]["command"] if word.startswith("--staging="))
        prefix = place.removeprefix("--staging=s3://bucket/")
        report: dict[str, Any] = json.loads(objects(self.bucket, prefix)["1/report.json"])
        assert (status == EXIT_OK) == (report["error"] is None)
        return report

    def publish(self, target: dict[str, Any], report: dict[str, Any]) -> None:
        """Do what PublishLayer does with what the job left."""
        attempts = {"ended": {"Attempts": [{}]}}
        ended = Target.from_json({**target, "job": {**target["job"], **attempts}})
        layer = Report.from_text(json.dumps(report)).layer_for(ended, "bucket")
        shelves = Shelves(boto3.client("s3"), "bucket")
        shelves.note(ended, layer, shelves.keep(ended, 1, layer))

    def error(self, target: dict[str, Any]) -> dict[str, Any]:
        with pytest.raises(resolve_layer.BuildError) as caught:
            self.resolve(target)
        told: dict[str, Any] = json.loads(str(caught.value))
        return told


@pytest.fixture
def world(bucket: Any, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LAYER_BUILDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAYER_BUILDER_INDEX_URL", index.url)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(resolve_layer, "_CACHE", resolve_layer._Cache())
    make_wheel(index.folder, "app", "1.0", requires=("dep",), metadata="License: MIT\n")
    make_wheel(index.folder, "dep", "2.0")
    return World(bucket, index)


def aged(index: Index, *young: str) -> None:
    """Have all files be a year old, but these a day."""
    now = datetime.now(UTC)

    def uploaded(filename: str) -> str:
        return (now - timedelta(days=1 if filename.startswith(young) else 365)).isoformat()

    index.uploaded = uploaded


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        ("app == 1.0 = 2\n", (), "REQUIREMENTS_INVALID"),
        ("app\n-e .\n", (), "REQUIREMENTS_INVALID"),
        ("# nothing\n", (), "REQUIREMENTS_INVALID"),
        ("app; sys_platform == 'win32'\n", (), "REQUIREMENTS_INVALID"),
        ("ap\n", (), "RESOLUTION_FAILED"),
        ("app==9.9\n", (), "RESOLUTION_FAILED"),
        ("app\ndep<2\ndep>=2\n", (), "RESOLUTION_FAILED"),
        ("old\n", (), "NO_WHEEL_FOR_TARGET"),
        (f"app==1.0 --hash=sha256:{'0' * 64}\n", (), "HASH_MISMATCH"),
        ("app\nyoung==1.0\n", ("--cooldown=7 days",), "PACKAGE_TOO_YOUNG"),
        ("app\n", ("--exclude=app", "--exclude=dep"), "REQUIREMENTS_INVALID"),
        ("app\n", ("--size-limit=none",), "USAGE_INVALID"),
    ],
)
def test_a_mistake_is_told_as_the_job_would_tell_it(
    world: World, text: str, options: tuple[str, ...], code: str
) -> None:
    make_wheel(world.index.folder, "old", "1.0", tag="cp36-cp36m-win32")
    make_wheel(world.index.folder, "young", "1.0")
    aged(world.index, "young")
    target = world.target(text, *options)
    told = world.error(target)
    assert told["code"] == code
    of_job = world.job(target)["error"]
    for one in (told, of_job):
        one["details"].pop("cutoff", None)  # a week before each began
    assert told == of_job
    assert not objects(world.bucket, "plans/")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('sha256 = "', 'sha256 = "0000', "HASH_MISMATCH"),
        ("app-1.0-py3-none-any.whl", "app-1.0-1-py3-none-any.whl", "RESOLUTION_FAILED"),
        ("x86_64", "aarch64", "NO_WHEEL_FOR_TARGET"),
        ("lock-version", "version", "REQUIREMENTS_INVALID"),
    ],
)
def test_a_lock_that_the_index_does_not_bear_out_ends_here(
    world: World, old: str, new: str, code: str
) -> None:
    """With the job's own words; and one that it does bear out is what the job builds from."""
    world.resolve(world.target("app\n"))
    [text] = (content.decode() for content in objects(world.bucket, "plans/").values())
    good = world.resolve(world.target(text, key=LOCK))
    assert good["job"]["command"][0] == f"--path=s3://bucket/{LOCK}"
    assert len(objects(world.bucket, "plans/")) == 1
    wrong = text.replace(old, new, 1)
    target = world.target(re.sub(r"0000(\w{60})\w{4}", r"0000\1", wrong), key=LOCK)
    told = world.error(target)
    assert told["code"] == code
    assert told == world.job(target)["error"]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "options",
    [(), ("--slim",), ("--no-bytecode", "--size-limit=1000000"), ("--exclude=dep",), ("--cooldown=7 days",)],
)
def test_the_lock_makes_the_same_layer(world: World, options: tuple[str, ...]) -> None:
    make_wheel(world.index.folder, "dep", "3.0")
    aged(world.index, "dep-3")
    target = world.target("# a comment\napp  # why\n", *options)
    straight = world.job(target)
    resolved = world.resolve(target)
    assert resolved["is_known"] is False
    path, *rest = resolved["job"]["command"]
    assert path.startswith("--path=s3://bucket/plans/web-1/py313-x86_64/")
    assert path.endswith("/pylock.toml")
    assert sorted(rest) == sorted(
        word for word in target["job"]["command"] if not word.startswith(("--path=", "--version-id="))
    )
    # What is published meanwhile is not what was resolved.
    make_wheel(world.index.folder, "app", "4.0")
    elsewhere = f"{STAGING[:-1]}-2/"
    command = [word.replace(STAGING, elsewhere) for word in resolved["job"]["command"]]
    built = world.job({**resolved, "job": {**resolved["job"], "command": command}})
    for part in ("requirements", "packages", "warnings", "checks"):
        assert built[part] == straight[part], part
    for part in ("digest", "code_sha256", "description", "license"):
        assert built["layer"][part] == straight["layer"][part], part
    assert (built["cooldown"] or {}).get("left_out") == (straight["cooldown"] or {}).get("left_out")
    if "--cooldown=7 days" in options:
        [left] = built["cooldown"]["left_out"]
        assert (left["package"], left["version"]) == ("dep", "3.0")
        assert any("dep" in one for one in built["warnings"])
    for name in ("pylock.toml", "sbom.cdx.json"):
        if "--cooldown=7 days" not in options:  # whose lock has the time
            places = (f"{STAGING}1/{name}", f"{elsewhere}1/{name}")
            one, two = (world.bucket.Object(place).get()["Body"].read() for place in places)
            assert one == two


def built_and_published(world: World, text: str, *options: str) -> dict[str, Any]:
    target = world.resolve(world.target(text, *options))
    report = world.job(target)
    assert report["error"] is None
    world.publish(target, report)
    return report


def test_what_is_known_is_found_with_all_that_is_known_of_it(world: World) -> None:
    first = built_and_published(world, "app\n")
    target = world.target("# the same by other words\napp\n")
    known = world.resolve(target)
    assert known["is_known"] is True
    assert known["staging"] != target["staging"]
    left = objects(world.bucket, f"{known['staging']}1/")
    assert left.keys() == {"report.json", "pylock.toml", "sbom.cdx.json"}
    report = json.loads(left["report.json"])
    for part in ("requirements", "packages", "warnings", "checks", "error"):
        assert report[part] == first[part], part
    layer = Report.from_text(left["report.json"].decode()).layer_for(Target.from_json(known), "bucket")
    assert layer.is_reused
    assert layer.code_sha256 == first["layer"]["code_sha256"]
    # PublishLayer takes it.
    assert Shelves(boto3.client("s3"), "bucket").keep(Target.from_json(known), 1, layer).sha256


OTHERWISE: dict[str, Callable[[World, dict[str, Any]], object]] = {
    "a new version": lambda world, _: make_wheel(world.index.folder, "dep", "2.1"),
    "another image": lambda _, target: target["job"].update(definition="definition:2"),
    **{
        option: lambda _, target, option=option: target["job"]["command"].append(option)  # type: ignore[misc]
        for option in (
            "--slim",
            "--no-fit",
            "--no-bytecode",
            "--exclude=dep",
            "--size-limit=100000000",
            "--system-libraries=check",
            "--system-libraries=unixODBC",
            "--needed-library=libvips.so.42",
            "--runtime=python3.12",
            "--architecture=arm64",
        )
    },
    "with its imports": lambda _, target: target["job"]["command"].remove("--no-import-check"),
    "another asked for": lambda world, target: target.update(
        job=world.target("app\ndep\n")["job"] | {"definition": "definition:1"}
    ),
    "the zip is gone": lambda world, _: world.bucket.objects.filter(Prefix="layers/").delete(),
    "the record is another's": lambda world, _: [
        one.put(Body=one.get()["Body"].read().replace(b'"asked"', b'"other"'))
        for one in (one.Object() for one in world.bucket.objects.filter(Prefix="layers/"))
        if one.key.endswith(".json") and "choices" not in one.key
    ],
    **{
        f"a note that says {content!r}": lambda world, _, content=content: [  # type: ignore[misc]
            one.put(Body=content) for one in world.bucket.objects.filter(Prefix="layers/choices/")
        ]
        for content in (
            b"",
            b"[]",
            b'{"digest": 1, "schema": "layerdrop/choice/1"}',
            b'{"schema": "layerdrop/choice/1", "digest": "../../claims/x"}',
            b'{"schema": "layerdrop/choice/2", "digest": "%s"}' % (b"0" * 64),
        )
    },
}


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "change", sampled(OTHERWISE, {"a new version", "another image", "--slim", "the zip is gone"}.__contains__)
)
def test_anything_that_makes_another_layer_makes_it_unknown(world: World, change: str) -> None:
    built_and_published(world, "app\n")
    target = world.target("app\n")
    OTHERWISE[change](world, target)
    resolve_layer._CACHE._made = float("-inf")  # its index pages may be a minute old
    resolved = world.resolve(target)
    assert resolved["is_known"] is False
    assert resolved["choice"]
    assert resolved["staging"] == STAGING


def test_a_layer_that_could_not_be_kept_for_all_is_not_noted(world: World) -> None:
    """Another has its digest: those who know that one go on getting it, and these bytes are this name's."""
    target = world.resolve(world.target("app\n"))
    report = world.job(target)
    world.publish(target, report)
    noted = objects(world.bucket, "layers/choices/")
    assert len(noted) == 1
    for one in world.bucket.objects.filter(Prefix="layers/choices/"):
        one.delete()
    digest = report["layer"]["digest"]
    zip_, record = (world.bucket.Object(f"layers/{digest}.{kind}") for kind in ("zip", "json"))
    other = b"PK-other"
    sums = boto3.client("s3").put_object(
        Bucket="bucket", Key=zip_.key, Body=other, ChecksumAlgorithm="SHA256"
    )
    document = json.loads(record.get()["Body"].read())
    document |= {"bytes": len(other), "code_sha256": sums["ChecksumSHA256"]}
    record.put(Body=json.dumps(document).encode())
    world.publish(target, report)
    assert not objects(world.bucket, "layers/choices/")


@pytest.mark.sample(1)
@pytest.mark.parametrize("how", ["denied", "bucket", "broken", "unreachable"])
def test_what_may_be_otherwise_for_the_job_is_left_to_it(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = world.target("app\n")
    if how == "unreachable":
        monkeypatch.setenv("LAYER_BUILDER_INDEX_URL", "http://127.0.0.1:9/simple")
    elif how == "denied":
        world.index.login = "somebody:else"
    elif how == "broken":
        world.index.status = lambda _: 503
    else:
        target["job"]["command"].append("--options-file=s3://bucket/plans/none.json")
    assert world.resolve(target) == target


def test_what_takes_too_long_is_left_to_the_job_with_nothing_left_running(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def remembered(*arguments: Any, **options: Any) -> Any:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", remembered)
    world.index.before = lambda _: time.sleep(30)
    monkeypatch.setattr(resolve_layer, "_RESERVE", 44.5)
    target = world.target("app\n")
    before = signal.getsignal(signal.SIGALRM)
    assert world.resolve(target) == target
    assert started
    assert all(one.poll() is not None for one in started)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_each_call_writes_where_no_other_did(world: World) -> None:
    """Lambda may call twice for one task, and nothing in builds/ can be replaced."""
    built_and_published(world, "app\n")
    target = world.target("app\n")
    places = {world.resolve(target)["staging"] for _ in range(3)}
    assert len(places) == 3
    target = world.target("dep\n")
    paths = {world.resolve(target)["job"]["command"][0] for _ in range(3)}
    assert len(paths) == 3


def test_what_was_learned_for_one_file_is_not_kept_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYER_BUILDER_ALLOWED_INDEXES", world.index.url.removesuffix("simple"))
    kept = (sources.of, web.pool, public_index.address)
    folders = set()
    for number in range(3):
        resolve_layer._CACHE._made = float("-inf")
        world.resolve(world.target(f"--extra-index-url {world.index.url}/{number}\napp\n"))
        assert all(one.cache_info().currsize <= 1 for one in kept)
        folders.add(resolve_layer._CACHE._folder)
    assert len(folders) == 3
    assert sum(folder is not None and folder.exists() for folder in folders) == 1


def test_a_lock_is_taken_as_it_is(world: World) -> None:
    resolved = world.resolve(world.target("app\n"))
    again = world.resolve(resolved)
    assert again["job"] == resolved["job"]
    assert again["choice"] == resolved["choice"]


def test_secrets_stay_out_of_what_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from layer_builder.ground import redaction

    redaction.remember("hunter2-hunter2")
    told = world.error(world.target("hunter2-hunter2 == x y\n"))
    assert "hunter2" not in json.dumps(told)


def pick(name: str, size: int | None) -> Pick:
    return Pick(name, "1.0", f"{name}-1.0-py3-none-any.whl", "", "0" * 64, size)


@pytest.mark.parametrize(
    ("files", "fit", "fits"),
    [
        ([pick("a", 100)], False, True),
        ([pick("a", 125)], False, True),
        ([pick("a", 126)], False, False),
        ([pick("a", 80), pick("b", 60)], False, False),
        ([pick("a", 60), pick("b", None)], False, True),
        ([pick("a", 200)], True, True),
        ([pick("a", 201)], True, False),
        ([pick("a", 90), pick("nvidia-nccl-cu12", 900), pick("triton", 900)], True, True),
        ([pick("a", 90), pick("nvidia-nccl-cu12", 900)], False, False),
    ],
)
def test_only_what_is_certainly_too_large_is_refused_before(files: list[Pick], fit: bool, fits: bool) -> None:
    error = sizes.outlook(files, 100, fit=fit)
    assert (error is None) == fits
    if error:
        assert isinstance(error, LayerTooLargeError)
        assert files[0].name in error.hint


def test_the_outlook_refuses_nothing_that_the_build_accepts(world: World) -> None:
    """Of a wheel that zips badly: many small files of random bytes."""
    numbers = random.Random(13)
    files = {f"many/f{n}.bin": numbers.randbytes(1000) for n in range(200)} | {"many/__init__.py": b""}
    wheel = make_wheel(world.index.folder, "many", files=files)
    report = world.job(world.target("many\n", "--no-bytecode", "--no-fit"))
    unzipped = report["checks"]["size"]["unzipped_bytes"]
    assert wheel.stat().st_size > unzipped
    assert sizes.outlook([pick("many", wheel.stat().st_size)], unzipped, fit=False) is None


def test_remarks_of_others_are_none(world: World) -> None:
    target = world.target("app\n")
    resolved = world.resolve(target)
    key = resolved["job"]["command"][0].removeprefix("--path=s3://bucket/")
    text = world.bucket.Object(key).get()["Body"].read().decode()
    assert lock._remarks({"remarks": json.dumps({"warnings": ["w"], "left_out": []})}).warnings == ("w",)
    for value in (
        *(1, "x", "[]", '{"warnings": "w", "left_out": []}', '{"warnings": [1], "left_out": []}'),
        *('{"warnings": [], "left_out": [{"package": "p"}]}', '{"warnings": [], "left_out": [1]}'),
    ):
        assert lock._remarks({"remarks": value}) == lock.Remarks()
    assert "remarks" in text


def test_who_published_is_asked_by_the_job_alone(world: World) -> None:
    attested(world.index, app=(GITHUB,))
    target = world.target("app\n")
    resolved = world.resolve(target)
    assert world.look(target)
    assert not asked(world.index)
    report = world.job(resolved)
    assert len(asked(world.index)) == 1
    assert [package["publisher"] for package in report["packages"]] == [GITHUB, None]
    world.publish(resolved, report)
    known = world.resolve(target)
    assert known["is_known"] is True
    again = json.loads(objects(world.bucket, known["staging"])["1/report.json"])["packages"]
    assert again == report["packages"]
    assert len(asked(world.index)) == 1


LOOKS = [
    (),
    ("--exclude=dep",),
    ("--cooldown=7 days",),
    ("--cooldown=7 days", "--fix=dep==2.5"),
    ("--constraint=dep<3",),
]


@pytest.mark.sample(1)
@pytest.mark.parametrize("options", LOOKS)
def test_a_look_tells_what_the_job_takes_and_leaves_nothing(world: World, options: tuple[str, ...]) -> None:
    make_wheel(world.index.folder, "dep", "2.5")
    make_wheel(world.index.folder, "dep", "3.0")
    aged(world.index, "dep-2.5", "dep-3")
    target = world.target("app\n", *options)
    found = world.look(target)
    packages = world.job(target)["packages"]
    assert found == [f"{package['name']} {package['version']}" for package in packages]


def test_a_look_needs_no_place_for_a_job(world: World) -> None:
    target = world.target("app\n")
    job = target["job"]
    kept = [word for word in job["command"] if not word.startswith(("--staging", "--reuse"))]
    assert world.look({**target, "staging": "", "job": {**job, "command": kept}}) == ["app 1.0", "dep 2.0"]


def test_a_look_ends_as_the_target_would(world: World) -> None:
    make_wheel(world.index.folder, "young", "1.0")
    make_wheel(world.index.folder, "young", "1.1")
    world.index.uploaded = lambda name: (datetime.now(UTC) - timedelta(days=1)).isoformat()
    for text, code in (
        ("app ==\n", "REQUIREMENTS_INVALID"),
        ("young\n", "PACKAGE_TOO_YOUNG"),
        ("no\n", "RESOLUTION_FAILED"),
    ):
        target = world.target(text, "--cooldown=7 days")
        with pytest.raises(resolve_layer.BuildError) as caught:
            world.look(target)
        told = json.loads(str(caught.value))
        assert told["code"] == code
        assert told["message"] == world.error(target)["message"]


def test_a_look_that_cannot_be_told_here(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source would have to be built, or the index asks who it is."""
    make_sdist(world.index.folder, "src", "1.0", "raise SystemExit('it ran')")
    assert world.look(world.target("app\nsrc\n", "--allow-sdist=src")) is None
    assert not [path for path in world.index.downloads() if not path.endswith(".whl")]
    assert world.look(world.target("app\n", "--allow-sdist=src")) == ["app 1.0", "dep 2.0"]
    with pytest.raises(resolve_layer.BuildError, match="REQUIREMENTS_INVALID"):
        world.look(world.target("-e .\n", "--allow-sdist=src"))
    world.index.login = "somebody:else"
    monkeypatch.setattr(resolve_layer, "_CACHE", resolve_layer._Cache())
    assert world.look(world.target("app\n")) is None


@pytest.mark.attack(
    "a target that may build from source comes to ResolveLayer, whose role writes locks for jobs"
)
def test_no_code_of_a_source_runs_here(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    make_sdist(world.index.folder, "src", "1.0", "raise SystemExit('it ran')")
    monkeypatch.setattr(sdist, "builder", lambda *_: pytest.fail("code of a source would have run"))
    target = world.target("src\n", "--allow-sdist=src")
    assert world.resolve(target) == target
    assert world.look(target) is None


def test_a_fix_goes_with_the_lock_to_the_job(world: World) -> None:
    """Which looks up by itself what it may take."""
    make_wheel(world.index.folder, "dep", "2.5")
    make_wheel(world.index.folder, "dep", "3.0")
    aged(world.index, "dep-2.5", "dep-3")
    by_day, now = world.index.uploaded, datetime.now(UTC).isoformat()
    world.index.uploaded = lambda name: now if "3.0" in name else by_day(name)
    boto3.client("s3").put_object(
        Bucket="bucket", Key="plans/options.json", Body=json.dumps(["--cooldown=7 days", "--fix=dep==2.5"])
    )
    target = world.target("app\n", "--options-file=s3://bucket/plans/options.json")
    resolved = world.resolve(target)
    assert [word for word in resolved["job"]["command"] if "pylock.toml" in word]
    report = world.job(resolved)
    assert [package["version"] for package in report["packages"]] == ["1.0", "2.5"]
    assert [one["version"] for one in report["cooldown"]["left_out"]] == ["3.0"]
    assert [(one["package"], one["version"]) for one in report["cooldown"]["fixes"]] == [("dep", "2.5")]
