"""The watch through the whole pipeline: told once, built again when a fix appears, quiet when ignored."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.deploy import Deployment
from local.server import EmbeddedAws
from local.settings import ACCOUNT_ID, REGION
from local.watch import Upload
from tests.osv_database import Osv, advisory
from tests.unit.builder.wheel_maker import Index, make_wheel

from .conftest import Pipeline, eventually

BUCKET = "layerdrop-watched"
DAYS = {"1.0": 30, "1.1": 1, "1.2": 0}
V31 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
REBUILD = '# /// layer\n# rebuild = "fixed"\n# ///\n'


@dataclass(frozen=True)
class World:
    """A stack with a cooldown, an index whose newer files are too young for it, and a database."""

    aws: EmbeddedAws
    stack: Deployment
    index: Path
    osv: Osv
    queue: str

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.aws, self.stack, BUCKET)

    def packages(self) -> tuple[str, str]:
        """Publish a package and one that it needs, under names that no other test has."""
        own = uuid.uuid4().hex[:8]
        app, hole = f"app-{own}", f"hole-{own}"
        make_wheel(self.index, app, "1.0", requires=(f"{hole} >= 1.0",))
        for version in DAYS:
            make_wheel(self.index, hole, version)
        return app, hole

    def upload(self, text: str) -> tuple[Upload, Mapping[str, Any]]:
        """Build a file of its own folder; return the upload and the layer of its manifest."""
        key = f"requirements/x86_64/{uuid.uuid4().hex[:12]}/requirements.txt"
        upload = self.pipeline.upload(key, text)
        return upload, self.answer(upload)

    def answer(self, upload: Upload) -> Mapping[str, Any]:
        manifest = self.pipeline.answer(upload)
        assert manifest["status"] == "SUCCEEDED", manifest["error"]
        layer: Mapping[str, Any] = manifest["layers"][0]
        return layer

    def manifest(self, upload: Upload) -> Any:
        return self.json(upload.key.replace("requirements.txt", "manifest.json"))

    def watch(self, after_a_day: bool = False) -> Mapping[str, int]:
        """The clock's call; a day later, by what is written down of the last one."""
        if after_a_day:
            for name, when in (("vulnerabilities", "asked"), ("outdated", "looked")):
                document = self.json(f"catalogue/{name}.json")
                for layer in document["layers"].values():
                    layer[when] = _earlier(layer[when])
                self.aws.clients.s3.put_object(
                    Bucket=BUCKET, Key=f"catalogue/{name}.json", Body=json.dumps(document).encode()
                )
        function = self.stack.all_values()["Catalogue.WatchLayers"]
        answer = self.aws.clients.lambda_.invoke(
            FunctionName=function, Payload=json.dumps({"detail-type": "Scheduled Event"})
        )
        counts: Mapping[str, int] = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, counts
        return counts

    def shown(self, layer_name: str, version: int) -> Mapping[str, Any]:
        """The layer in the catalogue, once it shows what is in this version."""

        def look() -> Any:
            index = self.json("catalogue/index.json") or {"layers": []}
            known = [one for one in index["layers"] if one["released"]]
            return [one for one in known if (one["name"], one["version"]) == (layer_name, version)]

        found: Mapping[str, Any] = eventually(look)[0]
        return found

    def beside(self, upload: Upload) -> Any:
        return self.json(upload.key.replace("requirements.txt", "vulnerabilities.json"))

    def json(self, key: str) -> Any:
        s3 = self.aws.clients.s3
        try:
            return json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        except s3.exceptions.NoSuchKey:
            return None

    def told(self, layer_name: str) -> list[Mapping[str, Any]]:
        """The events about a layer since the last look."""
        sqs, details = self.aws.clients.get("sqs"), []
        while messages := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            details += [json.loads(message["Body"])["detail"] for message in messages]
            for message in messages:
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return [detail for detail in details if detail["layer_name"] == layer_name]

    def versions(self, layer_name: str) -> int:
        listed = self.aws.clients.lambda_.list_layer_versions(LayerName=layer_name)
        return len(listed["LayerVersions"])

    def executions(self, upload: Upload) -> int:
        sfn = self.aws.clients.stepfunctions
        listed = sfn.list_executions(stateMachineArn=self.stack.outputs["StateMachine"])["executions"]
        described = (sfn.describe_execution(executionArn=one["executionArn"]) for one in listed)
        return sum(json.loads(one["input"])["input"]["key"] == upload.key for one in described)


def _earlier(moment: str) -> str:
    day_before = datetime.fromisoformat(moment) - timedelta(days=1)
    return day_before.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture(scope="module")
def world(aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, now = tmp_path_factory.mktemp("index"), datetime.now(UTC)

    def uploaded(filename: str) -> str:
        return (now - timedelta(days=DAYS[filename.split("-")[1]])).isoformat()

    with Index(folder, uploaded=uploaded) as index, Osv() as osv:
        parameters = {
            "BucketName": BUCKET,
            "IndexUrl": index.url,
            "OutboundPort": index.url.split(":")[2].partition("/")[0],
            "TryLayers": "DISABLED",
            "Cooldown": "7 days",
            "VulnerabilityDatabase": osv.url,
        }
        stack = aws.deploy(stack="watched", parameters=parameters)
        sqs, events = aws.clients.get("sqs"), aws.clients.get("events")
        queue = sqs.create_queue(QueueName="vulnerable")["QueueUrl"]
        pattern = {
            "source": ["layerdrop"],
            "detail-type": ["Layer Vulnerable"],
            "detail": {"stack": ["watched"]},
        }
        events.put_rule(Name="vulnerable", EventPattern=json.dumps(pattern))
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:vulnerable"
        events.put_targets(Rule="vulnerable", Targets=[{"Id": "vulnerable", "Arn": arn}])
        yield World(aws, stack, folder, osv, queue)


def test_told_once_and_built_again_when_the_fix_appears(world: World) -> None:
    app, hole = world.packages()
    upload, layer = world.upload(f"{REBUILD}{app}\n")
    name = layer["layer_name"]
    assert {one["name"]: one["version"] for one in layer["packages"]}[hole] == "1.0"  # for the cooldown
    world.shown(name, 1)
    ghsa, cve = "GHSA-48p4-8xcf-vxj5", "CVE-2025-50182"
    unfixed = [[{"introduced": "0"}]]
    world.osv.add(
        advisory(ghsa, hole, aliases=[cve], severity=[("CVSS_V3", V31)], ranges=unfixed),
        advisory("PYSEC-2025-77", hole, aliases=[cve], ranges=unfixed, summary=None),
    )

    assert world.watch()["rebuilds"] == 0
    [event] = world.told(name)
    [finding] = event["findings"]
    assert (finding["id"], finding["aliases"], finding["severity"]) == (
        ghsa,
        [cve, "PYSEC-2025-77"],
        "CRITICAL",
    )
    assert event["rebuild"] is True
    assert [one["id"] for one in world.shown(name, 1)["findings"]] == [ghsa]
    assert [one["id"] for one in world.beside(upload)["layers"][name]["findings"]] == [ghsa]

    # A version mends it that the cooldown forbids, and so it does a later one.
    for identity in (ghsa, "PYSEC-2025-77"):
        record = world.osv.records[identity]
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}]
        record["affected"][0]["ranges"] = ranges
        world.osv.add(record | {"modified": "2025-07-01T00:00:00Z"})
    assert world.watch(after_a_day=True)["rebuilds"] == 1
    eventually(lambda: world.versions(name) == 2)
    shown = world.shown(name, 2)
    assert {one["name"]: one["version"] for one in shown["packages"]} == {app: "1.0", hole: "1.1"}
    assert shown["history"][0]["changes"]["changed"] == [{"package": hole, "from": "1.0", "to": "1.1"}]
    manifest = eventually(lambda: (found := world.manifest(upload))["status"] == "SUCCEEDED" and found)
    assert manifest["input"]["version_id"] == upload.version_id  # of the same upload
    assert manifest["layers"][0]["version"] == 2

    for _ in range(2):
        counts = world.watch(after_a_day=True)
        assert (counts["failures"], counts["rebuilds"]) == (0, 0)
    assert world.told(name) == []
    assert world.shown(name, 2)["findings"] == []
    assert world.shown(name, 2)["outdated"]["changes"] == []
    assert world.beside(upload)["layers"][name]["findings"] == []
    assert (world.versions(name), world.executions(upload)) == (2, 2)


@pytest.mark.long
def test_what_is_ignored_is_neither_told_nor_built(world: World) -> None:
    app, hole = world.packages()
    block = '# /// layer\n# rebuild = "fixed"\n# vulnerability-ignore = ["PYSEC-2026-5: not called"]\n# ///\n'
    upload, layer = world.upload(f"{block}{app}\n")
    name = layer["layer_name"]
    world.shown(name, 1)
    world.osv.add(advisory("PYSEC-2026-5", hole, ranges=[[{"introduced": "0"}, {"fixed": "1.1"}]]))
    world.watch()
    [finding] = world.shown(name, 1)["findings"]
    assert (finding["ignored"], finding["told"]) == ("not called", None)
    assert world.told(name) == []
    assert world.executions(upload) == 1


@pytest.mark.long
def test_without_the_setting_it_is_told_and_left(world: World) -> None:
    app, hole = world.packages()
    upload, layer = world.upload(f"{app}\n")
    name = layer["layer_name"]
    world.shown(name, 1)
    world.osv.add(advisory("PYSEC-2026-6", hole, ranges=[[{"introduced": "0"}, {"fixed": "1.1"}]]))
    world.watch()
    assert [one["id"] for event in world.told(name) for one in event["findings"]] == ["PYSEC-2026-6"]
    assert world.executions(upload) == 1
    # Built by hand, the cooldown holds as ever.
    assert world.answer(upload)["version"] == 1
