"""What needs no job: each way through the states, and how many jobs it took."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.deploy import Deployment
from local.server import EmbeddedAws
from local.watch import Upload
from tests.unit.builder.wheel_maker import Index, make_wheel

from .conftest import Pipeline

BUCKET = "layerdrop-resolving"
PUBLISHED = ["PublishLayer", "IsItTried", "NotTried", "ReleaseLayer", "TargetReleased"]
FAILED = ["TargetFailed"]


@dataclass(frozen=True)
class World:
    """A stack whose index is a folder of the test's own."""

    aws: EmbeddedAws
    stack: Deployment
    index: Path

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.aws, self.stack, BUCKET)

    def package(self, name: str, version: str = "1.0") -> str:
        """Publish a package that no other test has; return its name."""
        own = f"{name}-{uuid.uuid4().hex[:8]}"
        make_wheel(self.index, own, version, files={f"{own.replace('-', '_')}.py": "x = 1\n"})
        return own

    def upload(self, text: str, folder: str = "") -> Upload:
        key = f"requirements/x86_64/{folder or uuid.uuid4().hex[:8]}/requirements.txt"
        return self.pipeline.upload(key, text)

    def build(self, text: str, folder: str = "") -> tuple[Mapping[str, Any], list[str], int]:
        """Return the manifest, the states that the target passed, and the number of jobs."""
        upload = self.upload(text, folder)
        manifest = self.pipeline.answer(upload)
        arn = self.pipeline.watcher.execution(upload)
        assert arn is not None
        return manifest, self.states(arn), self.jobs(arn.rpartition(":")[2])

    def states(self, arn: str) -> list[str]:
        pages = self.aws.clients.stepfunctions.get_paginator("get_execution_history").paginate(
            executionArn=arn
        )
        entered = [
            event["stateEnteredEventDetails"]["name"]
            for page in pages
            for event in page["events"]
            if "stateEnteredEventDetails" in event
        ]
        shared = {"IdentifyExecution", "PlanBuild", "BuildLayers", "WriteManifest", "DidItSucceed"}
        return [name for name in entered if name not in shared | {"BuildSucceeded", "BuildFailed"}]

    def jobs(self, execution: str) -> int:
        queues = [value for name, value in self.stack.all_values().items() if name.endswith(".Queue")]
        assert queues
        batch = self.aws.clients.get("batch")
        listed = [
            job
            for queue in queues
            for status in ("SUCCEEDED", "FAILED")
            for job in batch.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"]
        ]
        return sum(job["jobName"].startswith(execution) for job in listed)


def parameters(index: Index, **others: str) -> dict[str, str]:
    port = index.url.split(":")[2].partition("/")[0]
    return {
        "BucketName": BUCKET,
        "IndexUrl": index.url,
        "OutboundPort": port,
        # Not the subject here, and where layers are tried, is told by the trial's own tests.
        "TryLayers": "DISABLED",
        **others,
    }


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with Index(tmp_path_factory.mktemp("index")) as served:
        yield served


@pytest.fixture(scope="module")
def world(aws: EmbeddedAws, index: Index) -> World:
    return World(aws, aws.deploy(stack="resolving", parameters=parameters(index)), index.folder)


def test_a_mistake_takes_no_job(world: World) -> None:
    manifest, states, jobs = world.build("no-such-package-at-all==1.0\n")
    assert manifest["error"]["code"] == "RESOLUTION_FAILED"
    assert "no-such-package-at-all" in manifest["error"]["message"]
    assert (states, jobs) == (["IsItResolved", "ResolveLayer", *FAILED], 0)


def test_what_is_new_is_built_from_the_lock(world: World) -> None:
    name = world.package("fresh")
    manifest, states, jobs = world.build(f"{name}\n")
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    assert states == ["IsItResolved", "ResolveLayer", "IsItKnown", "BuildLayer", *PUBLISHED]
    assert jobs == 1
    [layer] = manifest["layers"]
    assert layer["reused"] is False
    assert layer["requirements"] == [name] if "requirements" in layer else True


def test_what_is_known_takes_no_job(world: World) -> None:
    name = world.package("known")
    first, _, _ = world.build(f"{name}\n", "known")
    for folder in ("known", ""):
        again, states, jobs = world.build(f"{name}  # the same\n", folder)
        assert again["status"] == "SUCCEEDED", again["error"]
        assert (states, jobs) == (["IsItResolved", "ResolveLayer", "IsItKnown", *PUBLISHED], 0)
        [before], [now] = first["layers"], again["layers"]
        same = ("digest", "code_sha256", "packages", "checks", "zip")
        assert {key: now[key] for key in same if key in now} == {
            key: before[key] for key in same if key in before
        }
        assert now["reused"] is (folder == "known")


def test_what_it_cannot_resolve_the_job_does(
    world: World, monkeypatch: pytest.MonkeyPatch, aws: EmbeddedAws
) -> None:
    """Here the function is broken as a whole; faults at each of its calls are the fault tests'."""
    name = world.package("broken")
    function = world.stack.all_values()["Jobs.Resolving.ResolveLayer"]
    lambda_ = aws.clients.get("lambda")
    handler = lambda_.get_function_configuration(FunctionName=function)["Handler"]
    lambda_.update_function_configuration(FunctionName=function, Handler="layer_builder.nothing.here")
    try:
        manifest, states, jobs = world.build(f"{name}\n")
    finally:
        lambda_.update_function_configuration(FunctionName=function, Handler=handler)
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    assert (states, jobs) == (["IsItResolved", "ResolveLayer", "BuildLayer", *PUBLISHED], 1)


def test_what_is_built_from_source_goes_to_its_job(world: World) -> None:
    name = world.package("source")
    manifest, states, jobs = world.build(f'# /// layer\n# allow-sdist = ["{name}"]\n# ///\n{name}\n')
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    assert (states, jobs) == (["IsItResolved", "BuildLayer", *PUBLISHED], 1)
