"""Whoever holds a build job's role gets nowhere near another's layer.

Foreign code is kept from the role. Here it has it: the job itself is the thief's, knows every key, and tries.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.server import EmbeddedAws
from local.settings import ACCOUNT_ID, BUCKET, REGION
from tests.conftest import sampled
from tests.faults.index import Index, good

from .world import SOURCES, World

THIEF = Path(__file__).with_name("thief.py")


of_either = pytest.mark.parametrize(
    "sources", sampled(("", SOURCES), lambda sources: not sources), ids=["wheels", "sources"]
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, index = tmp_path_factory.mktemp("stolen"), Index()
    index.start()
    index.add("friendly", good("friendly"))
    index.add("other", good("other"))
    notes = folder / "notes"
    notes.mkdir()
    thief = [sys.executable, str(THIEF), str(notes), str(Path(sys.executable).with_name("layer-builder"))]
    registry = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/*"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYER_BUILDER_INDEX_URL", index.url)
        patch.setenv("LAYER_BUILDER_CACHE", str(folder / "cache"))
        with EmbeddedAws(images={registry: thief}) as aws:
            # The job is what is taken over, so each build has one.
            aws.deploy(parameters={"ResolveLayers": "DISABLED"})
            yield World(aws, notes)
    index.stop()


OWN = "its own report"
# What is done once in its own place, and what the bucket says to a second object of a key.
ALLOWED = {OWN: "done", "put own if it is not there": "PreconditionFailed"}


@pytest.mark.attack("a job with the role in hand writes, deletes, lists and reads where others look")
@pytest.mark.parametrize(
    "sources", sampled(("", SOURCES), lambda sources: not sources), ids=["wheels", "sources"]
)
def test_a_stolen_role_opens_nothing(world: World, sources: str) -> None:
    name = "sources" if sources else "wheels"
    victim = world.victim(world.build(f"victim-{name}", "friendly"))
    before = world.state(victim)
    others = {"choice": f"layers/choices/{'0' * 64}.json", "lock": "plans/victim/py313-arm64/x/pylock.toml"}
    world.plan(f"thief-{name}", "steal", victim | others)
    # Its own report is its own affair: the builder's, of another name, is left beside it.
    assert world.build(f"thief-{name}", f"{sources}friendly")["status"] == "SUCCEEDED"
    told = world.told(f"thief-{name}")
    assert len(told) > 35
    expected = ALLOWED | {"put report if it is not there": "PreconditionFailed"}
    assert {what: said for what, said in told.items() if said not in ("AccessDenied", "403")} == expected
    assert world.state(victim) == before
    for key in others.values():
        assert "Contents" not in world.s3.list_objects_v2(Bucket=BUCKET, Prefix=key)


@pytest.mark.long
@pytest.mark.attack("a job with the role in hand writes its report before the builder does")
@pytest.mark.parametrize(
    "sources", sampled(("", SOURCES), lambda sources: not sources), ids=["wheels", "sources"]
)
def test_a_report_that_the_builder_did_not_write_counts_for_nothing(world: World, sources: str) -> None:
    """At every attempt the builder finds its place taken, and ends as if S3 had failed."""
    name = f"early-{'sources' if sources else 'wheels'}"
    victim = world.victim(world.build(f"victim-{name}", "friendly"))
    before = world.state(victim)
    world.plan(name, "early", victim)
    manifest = world.build(name, f"{sources}friendly\nother")
    assert manifest["status"] == "FAILED"
    assert manifest["layers"][0]["layer_version_arn"] is None
    assert world.state(victim) == before
    functions = world.aws.clients.lambda_
    assert functions.list_layer_versions(LayerName=f"{name}-py313-arm64")["LayerVersions"] == []


@pytest.mark.long
@pytest.mark.attack("a job that is the thief's from its start claims the digest of a layer that others use")
@pytest.mark.parametrize(
    "sources", sampled(("", SOURCES), lambda sources: not sources), ids=["wheels", "sources"]
)
def test_a_forged_report_is_about_its_own_layer_alone(world: World, sources: str) -> None:
    name = f"forger-{'sources' if sources else 'wheels'}"
    victim_manifest = world.build(f"victim-{name}", "friendly")
    victim = world.victim(victim_manifest)
    before = world.state(victim)
    world.plan(name, "forge", victim)
    (forged,) = world.build(name, f"{sources}friendly")["layers"]
    assert world.state(victim) == before
    assert forged["zip"] is None or forged["zip"]["key"].startswith(f"layers/{name}-py313-arm64/")
    (good_layer,) = victim_manifest["layers"]
    (again,) = world.build(f"next-{name}", "friendly")["layers"]
    assert again["code_sha256"] == good_layer["code_sha256"] != forged["code_sha256"]
    assert again["zip"] == good_layer["zip"]


@pytest.mark.long
@pytest.mark.attack("a build from source, the thief's from its start, is there before its victim")
def test_who_comes_first_with_sources_gets_nothing_into_the_common_shelf(world: World) -> None:
    # The digest is known beforehand: it is that of another file of the same content, deleted since.
    known = world.build("known", "other")
    key = known["layers"][0]["zip"]["key"]
    for name in (key, key.replace(".zip", ".json")):
        world.s3.delete_object(Bucket=BUCKET, Key=name)
    world.plan("first", "forge", {"zip": key})
    (forged,) = world.build("first", f"{SOURCES}other")["layers"]
    assert forged["zip"]["key"].startswith("layers/first-py313-arm64/")
    (victim,) = world.build("second", "other")["layers"]
    assert victim["zip"]["key"] == key
    assert victim["code_sha256"] == known["layers"][0]["code_sha256"] != forged["code_sha256"]


def test_what_a_job_is_told_is_not_told_on(world: World) -> None:
    """Neither its log nor the manifest has the part of the prefix that nobody can guess.

    But for the place of the lock: it is told at the end, when nothing that is written there is read any more.
    """
    manifest = world.build("quiet", "friendly\nother")
    report = world.victim(manifest)["report"]
    secret = report.split("/")[3]
    for layer in manifest["layers"]:
        assert secret in layer.pop("lock")["key"]
    logs = world.aws.clients.get("logs")
    words = json.dumps(manifest)
    for group in logs.describe_log_groups()["logGroups"]:
        for stream in logs.describe_log_streams(logGroupName=group["logGroupName"])["logStreams"]:
            events = logs.get_log_events(
                logGroupName=group["logGroupName"], logStreamName=stream["logStreamName"]
            )
            words += "".join(event["message"] for event in events["events"])
    assert "uploaded" in words
    assert len(secret) >= 22
    assert secret not in words
