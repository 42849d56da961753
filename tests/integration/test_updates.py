"""An update of the stack while builds are under way."""

import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.authorization import Authorization
from local.intrinsics import TemplateError
from local.server import EmbeddedAws
from local.settings import ROOT

from .conftest import Pipeline, eventually


class Barrier:
    """Holds back what asks for a job, before it is judged whether it may, until it is opened."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.opened = threading.Event()


@pytest.fixture
def barrier(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Barrier]:
    held, original = Barrier(), Authorization.__call__

    def judged(authorization: Authorization, environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/v1/submitjob" and not held.opened.is_set():
            held.waiting.append(environ["PATH_INFO"])
            assert held.opened.wait(50), "botocore would give up"
        return original(authorization, environ, start_response)

    monkeypatch.setattr(Authorization, "__call__", judged)
    yield held
    held.opened.set()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What is deployed, to be changed."""
    for name in ("functions", "infra", "statemachine"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "container").symlink_to(ROOT / "container")
    shutil.copy(ROOT / "template.yaml", tmp_path)
    return tmp_path


@pytest.mark.long
def test_builds_that_an_update_meets_are_answered(
    aws: EmbeddedAws, tree: Path, folder: str, barrier: Barrier
) -> None:
    """Planned by the version before, submitted and answered after it: all of it has changed meanwhile."""
    stack, builds = "updated", 10
    given = {"BucketName": stack, "MaxVcpus": "64"}
    before = aws.deploy(tree / "template.yaml", stack, given)
    pipeline = Pipeline(aws, before, stack)
    keys = [f"{folder}/{number}/requirements.txt" for number in range(builds)]
    uploads = [pipeline.upload(key, "idna == 3.10\n") for key in keys]
    eventually(lambda: len(barrier.waiting) == builds)

    machine = tree / "statemachine/build_layers.asl.json"
    machine.write_text(machine.read_text().replace('"TimeoutSeconds": 86400', '"TimeoutSeconds": 86399'))
    code = tree / "functions/layerdrop/__init__.py"
    code.write_text(f"{code.read_text()}\n# of another version\n")
    after = aws.deploy(tree / "template.yaml", stack, given | {"JobTimeoutSeconds": "900"}, before)

    barrier.opened.set()
    manifests = [pipeline.answer(upload) for upload in uploads]
    assert [manifest["error"] for manifest in manifests] == [None] * builds
    assert {manifest["status"] for manifest in manifests} == {"SUCCEEDED"}
    assert [len(pipeline.executions_of(upload)) for upload in uploads] == [1] * builds

    first, second = (one.nested["Jobs"].outputs["Arm64JobDefinition"] for one in (before, after))
    batch = aws.clients.get("batch")
    queue = before.nested["Jobs"].outputs["Arm64Queue"]
    jobs = [job["jobId"] for job in batch.list_jobs(jobQueue=queue, jobStatus="SUCCEEDED")["jobSummaryList"]]
    described = batch.describe_jobs(jobs=jobs)["jobs"]
    assert [job["jobDefinition"] for job in described] == [first] * builds
    assert (first.rpartition(":")[2], second.rpartition(":")[2]) == ("1", "2")
    assert first.rpartition(":")[0] == second.rpartition(":")[0]
    revisions = batch.describe_job_definitions(jobDefinitionName=f"{stack}-arm64")["jobDefinitions"]
    timeouts = {
        one["jobDefinitionArn"]: (one["status"], one["timeout"]["attemptDurationSeconds"])
        for one in revisions
    }
    assert timeouts == {first: ("ACTIVE", 1800), second: ("ACTIVE", 900)}


def test_what_an_update_cannot_change_here_is_said(aws: EmbeddedAws, tree: Path) -> None:
    template = tree / "small.yaml"
    queue = "Resources:\n  Box: {Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: %s}}\n"
    template.write_text(queue % 30)
    before = aws.deploy(template, "small-update")
    assert aws.deploy(template, "small-update", earlier=before) == before
    template.write_text(queue % 31)
    with pytest.raises(TemplateError, match=r"^Box \(AWS::SQS::Queue\): .*cannot change"):
        aws.deploy(template, "small-update", earlier=before)
    template.write_text("Resources:\n  Other: {Type: AWS::SQS::Queue}\n")
    with pytest.raises(TemplateError, match=r"^Box: .*deletes nothing"):
        aws.deploy(template, "small-update", earlier=before)
