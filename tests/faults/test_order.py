"""Events come twice, late and out of order; uploads come while earlier ones are built."""

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from stack import release
from stack.inventory import Place

from local.settings import BUCKET
from tests.conftest import sampled

from .harness import Pipeline

KEYS, UPLOADS, CONTENTS = 10, 50, 4


@pytest.mark.parametrize("seed", sampled(range(20), lambda seed: seed == 0))
def test_shuffled_and_repeated_events(pipeline: Pipeline, tried: Any, seed: int) -> None:
    chance = random.Random(seed)
    keys = [f"requirements/arm64/order{seed}/{number}/requirements.txt" for number in range(KEYS)]
    uploads: list[tuple[str, str]] = []
    contents: dict[str, set[str]] = {key: set() for key in keys}
    last: dict[str, str] = {}
    pipeline.held = []
    pending: list[tuple[Any, Any]] = []
    for _ in range(UPLOADS):
        key, text = chance.choice(keys), f"content=={chance.randrange(CONTENTS)}"
        version = pipeline.upload(key, text)
        uploads.append((key, version))
        contents[key].add(text)
        last[key] = version
        pending += pipeline.held * chance.randint(2, 5)
        pipeline.held.clear()
        chance.shuffle(pending)
        for _ in range(chance.randrange(4)):
            if pending:
                pipeline.deliver(*pending.pop())
    chance.shuffle(pending)
    for function, event in pending:
        pipeline.deliver(function, event)
    pipeline.held = None
    pipeline.wait(version for _, version in uploads)

    executions = pipeline.executions()
    assert [len(executions[version]) for _, version in uploads] == [1] * UPLOADS
    for key, version in last.items():
        manifest = pipeline.manifest(key)
        assert manifest["error"] is None
        assert (manifest["status"], manifest["input"]["version_id"]) == ("SUCCEEDED", version)
        (layer,) = manifest["layers"]
        published = pipeline.versions(layer["layer_name"])
        assert len(set(published.values())) == len(published) <= len(contents[key]), "one version a content"
        assert pipeline.pointer(layer["layer_name"]) == layer["layer_version_arn"]
        assert published[layer["version"]] == layer["code_sha256"]
    ends = pipeline.ends()
    states = Counter(end["status"] for _, version in uploads for end in ends[version])
    assert sum(states.values()) == UPLOADS
    assert states["FAILED"] == 0
    tried("events 2 to 5 times, shuffled (uploads)", UPLOADS, UPLOADS)


@pytest.mark.long
def test_odd_keys_deletions_and_restored_versions(pipeline: Pipeline, tried: Any) -> None:
    """Spaces, plus, percent and unicode in keys; an upload deleted at once; an old version put back."""
    s3 = pipeline.aws.clients.s3
    keys = [
        f"requirements/arm64/odd {number}/{name}/requirements.txt"
        for number, name in enumerate(
            ("a b", "a+b", "a%20b", "größe", "日本", "a&b=c", "100%", "a'b\"c", "😀")
        )
    ]
    versions = {key: pipeline.upload(key, "six") for key in keys}
    pipeline.wait(versions.values())
    for key, version in versions.items():
        manifest = pipeline.manifest(key)
        assert (manifest["status"], manifest["input"]["version_id"]) == ("SUCCEEDED", version), key

    pipeline.held = []
    deleted = "requirements/arm64/deleted/requirements.txt"
    marked, gone = (
        pipeline.upload(deleted, "six"),
        pipeline.upload(f"{deleted[:-16]}x-requirements.txt", "six"),
    )
    s3.delete_object(Bucket="layerdrop-local", Key=deleted)
    s3.delete_object(Bucket="layerdrop-local", Key=f"{deleted[:-16]}x-requirements.txt", VersionId=gone)
    for held in list(pipeline.held):
        pipeline.deliver(*held)
    pipeline.held = None
    pipeline.wait([marked, gone])
    assert pipeline.manifest(deleted)["status"] == "SUCCEEDED", "that very version is still there"
    assert pipeline.manifest(f"{deleted[:-16]}x-requirements.txt")["error"]["code"] == "INPUT_NOT_FOUND"

    key = "requirements/arm64/restored/requirements.txt"
    first = pipeline.upload(key, "six==1")
    pipeline.wait([first])
    second = pipeline.upload(key, "six==2")
    pipeline.wait([second])
    source = {"Bucket": "layerdrop-local", "Key": key, "VersionId": first}
    third = s3.copy_object(Bucket="layerdrop-local", Key=key, CopySource=source)["VersionId"]
    pipeline.wait([third])
    manifest = pipeline.manifest(key)
    assert manifest["input"]["version_id"] == third
    assert [(layer["version"], layer["reused"]) for layer in manifest["layers"]] == [(1, True)]
    assert pipeline.pointer("restored-py313-arm64").endswith(":1")
    tried("odd keys, deleted inputs, restored versions", len(keys) + 3, len(keys) + 3)


@pytest.mark.long
@pytest.mark.attack("another team's file takes a layer's name, before and after the first file is deleted")
def test_two_files_one_name(pipeline: Pipeline, tried: Any) -> None:
    """The later is refused, also when the first is deleted, until an operator releases the name."""
    mine, theirs = (f"requirements/arm64/{name}/requirements.txt" for name in ("owner", "rival"))
    named = '# /// layer\n# name = "contested"\n# ///\n'
    layer = "contested-py313-arm64"

    def refused(key: str, text: str, owner: str) -> None:
        pipeline.wait([pipeline.upload(key, named + text)])
        error = pipeline.manifest(key)["error"]
        assert (error["code"], error["details"]["owner"]) == ("LAYER_NAME_TAKEN", owner)

    def succeeds(key: str, text: str) -> None:
        pipeline.wait([pipeline.upload(key, named + text)])
        assert pipeline.manifest(key)["status"] == "SUCCEEDED"

    succeeds(mine, "six==1")
    for number in range(3):
        refused(theirs, f"six==9.{number}", mine)
        succeeds(mine, f"six==1.{number}")
    assert len(pipeline.versions(layer)) == 4
    pointer = pipeline.pointer(layer)
    pipeline.aws.clients.s3.delete_object(Bucket=BUCKET, Key=mine)
    refused(theirs, "six==10", mine)
    assert len(pipeline.versions(layer)) == 4
    assert pipeline.pointer(layer) == pointer
    succeeds(mine, "six==2")
    pipeline.wait([pipeline.upload(mine, "six==2")])  # it has no such name any more
    refused(theirs, "six==10", mine)

    session: Any = SimpleNamespace(client=pipeline.aws.clients.get)
    place = Place(BUCKET, pipeline.outputs["StateMachine"])
    release.release(session, place, release.look(session, place, layer))
    succeeds(theirs, "six==10")
    refused(mine, "six==1", theirs)
    tried("two files claim one layer name", 13, 13)
