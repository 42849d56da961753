"""WatchLayers on an account in memory, with a vulnerability database on loopback."""

from __future__ import annotations

import importlib
import io
import json
import sys
import time
import tracemalloc
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from botocore.exceptions import ClientError

from layerdrop.catalogue.releases import Release, Releases
from layerdrop.fixes import Fixes, fixes_key
from layerdrop.watch import inquiry, outlooks
from layerdrop.watch.osv import Database
from layerdrop.watch.state import beside
from tests import osv_database
from tests.catalogue_documents import package, release_document, schema
from tests.conftest import sampled
from tests.osv_database import Osv, advisory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from layerdrop.build_input import BuildInput

    from .conftest import Account

GHSA, CVE, PYSEC = "GHSA-48p4-8xcf-vxj5", "CVE-2025-50182", "PYSEC-2025-77"
V31 = "CVSS:3.1/AV:N/AC:H/PR:L/UI:N/S:U/C:H/I:N/A:N"
HOLE = advisory(GHSA, aliases=[CVE], severity=[("CVSS_V3", V31)])
LAYER = "web-py313-arm64"
KEY = "requirements/arm64/web/requirements.txt"
REBUILD = '# /// layer\n# rebuild = "fixed"\n# ///\nurllib3\n'
VALIDATORS = {
    name: jsonschema.Draft202012Validator(schema(name), format_checker=jsonschema.FormatChecker())
    for name in ("vulnerabilities", "outdated", "vulnerable-event", "catalogue", "fixes", "release")
}


class Killed(BaseException):
    """The function's end, at whatever it is."""


class Killer:
    """Ends the function at one of its calls, just before it or right after it."""

    def __init__(self) -> None:
        self.at: int | None = None
        self.calls = 0

    def __call__(self, **_given: Any) -> None:
        if self.at is not None:
            self.calls += 1
            if self.calls == self.at:
                raise Killed

    def watch(self, world: World) -> None:
        module = world.module
        for client in (module.S3, module.BUS.events, module.BUILDS.step_functions, module.CATALOGUE.ssm):
            world.hook(client, "before-call", self)
            world.hook(client, "after-call", self)
        for of, name in ((world.resolving, "invoke"), (Database, "_once")):
            original = getattr(of, name)

            def called(*args: Any, original: Any = original, **given: Any) -> Any:
                self()
                result = original(*args, **given)
                self()
                return result

            world.monkeypatch.setattr(of, name, called)


class Resolving:
    """ResolveLayer: an index of versions, of which some are too young but for a fix."""

    def __init__(self) -> None:
        self.versions: dict[str, list[str]] = {"urllib3": ["2.4.0"]}
        self.young: set[str] = set()
        self.asked: list[list[str]] = []
        self.instead: Callable[[dict[str, Any]], Any] | None = None

    def invoke(self, **given: Any) -> dict[str, Any]:
        assert given["FunctionName"] == "ResolveLayer"
        event = json.loads(given["Payload"])
        assert event["look"] is True
        command = event["target"]["job"]["command"]
        assert command[0] == f"--path=s3://{event['input']['bucket']}/{event['input']['key']}"
        fixes = [word.removeprefix("--fix=") for word in command if word.startswith("--fix=")]
        self.asked.append(fixes)
        answer = (
            self.instead(event) if self.instead else self.resolved(dict(one.split("==") for one in fixes))
        )
        if isinstance(answer, Exception):
            failed = {"errorType": type(answer).__name__, "errorMessage": str(answer)}
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(failed).encode())}
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}

    def resolved(self, fixes: dict[str, str]) -> Any:
        packages = []
        for name, versions in self.versions.items():
            fix = fixes.get(name)
            if fix and fix not in versions:
                return BuildError(
                    json.dumps({"code": "RESOLUTION_FAILED", "message": f"no {name} {fix}", "hint": ""})
                )
            old = [one for one in versions if f"{name}-{one}" not in self.young]
            packages.append({"name": name, "version": max([*old, *([fix] if fix else [])])})
        return {"packages": packages}


class BuildError(Exception):
    """As ResolveLayer's own."""


@cache
def _module() -> Any:
    """The function, once for all tests: its clients take longer to make than most tests."""
    sys.modules.pop("layerdrop.handlers.watch_layers", None)
    return importlib.import_module("layerdrop.handlers.watch_layers")


class World:
    """The account, and whatever the watch calls."""

    def __init__(self, account: Account, osv: Osv, monkeypatch: pytest.MonkeyPatch) -> None:
        self.account = account
        self.osv = osv
        self.resolving = Resolving()
        self.hooks: list[tuple[Any, str, Callable[..., Any]]] = []
        self.now = datetime(2026, 11, 22, 10, tzinfo=UTC)
        self.seconds = 900.0
        self.is_checked = True  # whether what was written fits its schemas
        machine = account.step_functions.create_state_machine(
            name="layers",
            definition=json.dumps(
                {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 1, "End": True}}}
            ),
            roleArn="arn:aws:iam::123456789012:role/r",
        )["stateMachineArn"]
        self.machine = machine
        monkeypatch.setenv("STATE_MACHINE_ARN", machine)
        monkeypatch.setenv("VULNERABILITY_DATABASE", "http://127.0.0.1:1")
        monkeypatch.setenv("RESOLVE_LAYER", "ResolveLayer")
        self.module = _module()
        assert self.module.BUILDS.state_machine_arn == machine
        monkeypatch.setattr(self.module, "ADDRESS", osv.url)
        monkeypatch.setattr(self.module, "RESOLVING", self.resolving)
        monkeypatch.setattr(self.module, "_now", lambda: self.now)
        patient = partial(self.module.Database, pause=lambda _seconds: None)
        monkeypatch.setattr(self.module, "Database", patient)
        self.events: list[dict[str, Any]] = []
        self.refuses_events = False
        self.hook(self.module.BUS.events, "before-call.eventbridge.PutEvents", self._event)
        self.monkeypatch = monkeypatch

    def hook(self, client: Any, event: str, do: Callable[..., Any]) -> None:
        client.meta.events.register(event, do)
        self.hooks.append((client, event, do))

    def close(self) -> None:
        for client, event, do in self.hooks:
            client.meta.events.unregister(event, do)

    def _event(self, params: dict[str, Any], **_more: Any) -> Any:
        if self.refuses_events:
            raise ClientError({"Error": {"Code": "InternalException", "Message": "no"}}, "PutEvents")
        [entry] = json.loads(params["body"])["Entries"]
        assert (entry["Source"], entry["DetailType"]) == ("layerdrop", "Layer Vulnerable")
        assert len(json.dumps(entry)) < 256 * 1024
        detail = json.loads(entry["Detail"])
        VALIDATORS["vulnerable-event"].validate(detail)
        self.events.append(detail)

    # ------------------------------------------------------------ doing

    def upload(self, text: str = "urllib3\n", key: str = KEY) -> BuildInput:
        return self.account.upload(key, text.encode())

    def release(
        self,
        upload: BuildInput | None = None,
        packages: Sequence[tuple[str, str]] = (("urllib3", "2.4.0"),),
        name: str = LAYER,
        version: int = 1,
        **watch: Any,
    ) -> None:
        """Point to a version, as ReleaseLayer and WriteManifest do."""
        document = release_document(name, version, packages=[package(*one) for one in packages])
        document["watch"] |= watch
        if upload:
            place = {"bucket": upload.bucket, "key": upload.key, "version_id": upload.version_id}
            document["input"] = place | {"sequencer": upload.sequencer}
        VALIDATORS["release"].validate(document)
        Releases(self.account.s3, self.account.bucket).write(Release.from_json(document))
        self.account.ssm.put_parameter(
            Name=f"/layerdrop/{name}", Value=document["layer_version_arn"], Type="String", Overwrite=True
        )
        self.module.CATALOGUE.update([name])

    def run(self, hours: float = 1) -> dict[str, int]:
        """The clock's call, so many hours after the last one."""
        self.now += timedelta(hours=hours)
        context = SimpleNamespace(
            function_name="WatchLayers",
            memory_limit_in_mb=512,
            invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:WatchLayers",
            aws_request_id=str(uuid.uuid4()),
            get_remaining_time_in_millis=lambda: int(self.seconds * 1000),
        )
        counts: dict[str, int] = self.module.handler({"detail-type": "Scheduled Event"}, context)
        for name in ("vulnerabilities", "outdated") if self.is_checked else ():
            if document := self.json(f"catalogue/{name}.json"):
                VALIDATORS[name].validate(document)
        if self.is_checked and (index := self.json("catalogue/index.json")):
            VALIDATORS["catalogue"].validate(index)
        return counts

    # ------------------------------------------------------------ seeing

    def json(self, key: str) -> Any:
        try:
            return self.account.json(key)
        except self.account.s3.exceptions.NoSuchKey:
            return None

    def findings(self, name: str = LAYER) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("catalogue/vulnerabilities.json")["layers"][name]["findings"]
        return found

    def outdated(self, name: str = LAYER) -> Any:
        return self.json("catalogue/outdated.json")["layers"].get(name)

    def beside(self, key: str = KEY) -> Any:
        document = self.json(beside(key))
        if document:
            VALIDATORS["vulnerabilities"].validate(document)
        return document

    def told(self) -> list[list[str]]:
        return [[one["id"] for one in event["findings"]] for event in self.events]

    def builds(self) -> list[dict[str, Any]]:
        listed = self.account.step_functions.list_executions(stateMachineArn=self.machine)["executions"]
        return [
            json.loads(
                self.account.step_functions.describe_execution(executionArn=one["executionArn"])["input"]
            )
            for one in listed
        ]


@pytest.fixture
def osv() -> Iterator[Osv]:
    with Osv(HOLE) as running:
        yield running


@pytest.fixture
def world(account: Account, osv: Osv, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(account, osv, monkeypatch)
    yield world
    world.close()


def test_a_vulnerable_layer_is_told_of_once(world: World) -> None:
    world.release(world.upload())
    counts = world.run()
    assert (counts["asked"], counts["new_findings"], counts["told"], counts["failures"]) == (1, 1, 1, 0)
    [event] = world.events
    assert event["layer_name"] == LAYER
    assert event["input"] == {"bucket": world.account.bucket, "key": KEY}
    assert event["vulnerabilities"]["key"] == "requirements/arm64/web/vulnerabilities.json"
    [finding] = event["findings"]
    assert (finding["id"], finding["severity"], finding["score"]) == (GHSA, "MEDIUM", 5.3)
    assert event["notice"]["content"]["title"] == f"{LAYER}, version 1, has 1 new vulnerability: 1 medium"
    assert "fixed in 2.5.0" in event["notice"]["content"]["description"]
    [known] = world.findings()
    assert known["told"] is not None
    [layer] = world.json("catalogue/index.json")["layers"]
    assert [one["id"] for one in layer["findings"]] == [GHSA]
    for hours in (1, 1, 24, 24, 24):
        world.run(hours)
    assert len(world.events) == 1
    assert world.findings() == [known]


def test_it_is_asked_once_a_day_and_at_once_of_another_version(world: World) -> None:
    world.release(world.upload())
    assert [world.run(12)["asked"] for _ in range(5)] == [1, 0, 1, 0, 1]
    world.release(version=2, packages=[("urllib3", "2.5.0")])
    assert [world.run(1)["asked"] for _ in range(3)] == [1, 0, 0]


def test_an_advisory_is_read_once_until_it_changes(world: World) -> None:
    world.release(world.upload())
    for _ in range(3):
        world.run(24)
    assert world.osv.asked[f"/v1/vulns/{GHSA}"] == 1
    world.osv.add(HOLE | {"modified": "2026-11-25T00:00:00Z", "summary": "Worse than it looked"})
    world.run(24)
    assert world.osv.asked[f"/v1/vulns/{GHSA}"] == 2
    assert world.findings()[0]["summary"] == "Worse than it looked"


def test_only_what_is_new_is_told(world: World) -> None:
    world.release(world.upload())
    world.run()
    world.osv.add(
        advisory(PYSEC, aliases=[CVE]),
        advisory("PYSEC-2026-1", severity=[("CVSS_V2", "AV:N/AC:L/Au:N/C:N/I:P/A:C")]),
    )
    world.run(24)
    assert world.told() == [[GHSA], ["PYSEC-2026-1"]]
    assert [one["id"] for one in world.findings()] == ["PYSEC-2026-1", GHSA]
    assert world.findings()[1]["aliases"] == [CVE, PYSEC]


def test_a_finding_stays_told_of_in_the_next_version(world: World) -> None:
    world.release(world.upload())
    world.run()
    world.release(world.upload("urllib3 # again\n"), version=2)
    world.run()
    assert world.told() == [[GHSA]]
    assert world.json("catalogue/vulnerabilities.json")["layers"][LAYER]["version"] == 2


def test_a_finding_is_gone_when_it_is_mended(world: World) -> None:
    world.release(world.upload())
    world.run()
    assert [one["id"] for one in world.beside()["layers"][LAYER]["findings"]] == [GHSA]
    world.release(world.upload("urllib3>2.4\n"), packages=[("urllib3", "2.5.0")], version=2)
    world.run()
    assert world.findings() == []
    assert world.beside()["layers"][LAYER]["findings"] == []
    assert world.json("catalogue/index.json")["layers"][0]["findings"] == []
    assert len(world.events) == 1


def test_what_is_withdrawn_is_gone(world: World) -> None:
    world.release(world.upload())
    world.run()
    world.osv.add(HOLE | {"withdrawn": "2026-11-23T00:00:00Z", "modified": "2026-11-23T00:00:00Z"})
    world.run(24)
    assert world.findings() == []
    assert world.beside()["layers"][LAYER]["findings"] == []


def test_what_is_ignored_is_quiet(world: World) -> None:
    world.release(world.upload(REBUILD), ignore={CVE: "no redirects"}, rebuild="fixed")
    world.resolving.versions["urllib3"].append("2.5.0")
    for _ in range(3):
        world.run(24)
    [finding] = world.findings()
    assert (finding["ignored"], finding["told"]) == ("no redirects", None)
    assert not world.events
    assert not world.builds()
    # Not any more: then it is news.
    world.release(version=2)
    world.run()
    assert world.told() == [[GHSA]]


def test_nothing_lies_beside_an_input_that_never_had_a_finding(world: World) -> None:
    world.release(world.upload(), packages=[("urllib3", "2.5.0")])
    world.run()
    assert world.beside() is None
    assert world.findings() == []


def test_beside_an_input_are_its_own_layers(world: World) -> None:
    upload = world.upload()
    other = world.upload(key="requirements/arm64/web/pylock.toml")
    world.release(upload)
    world.release(upload, name="web-py312-arm64")
    world.release(other, name="locked-py313-arm64")
    world.run()
    assert set(world.beside()["layers"]) == {LAYER, "web-py312-arm64"}
    assert set(world.beside(other.key)["layers"]) == {"locked-py313-arm64"}
    assert beside(other.key) == "requirements/arm64/web/pylock-vulnerabilities.json"
    written = len(
        world.account.s3.list_object_versions(Bucket=world.account.bucket, Prefix=beside(KEY))["Versions"]
    )
    world.run(24)
    again = world.account.s3.list_object_versions(Bucket=world.account.bucket, Prefix=beside(KEY))["Versions"]
    assert len(again) == written  # nothing has changed


def test_a_layer_that_is_gone_is_forgotten(world: World) -> None:
    world.release(world.upload())
    world.run()
    world.account.ssm.delete_parameter(Name=f"/layerdrop/{LAYER}")
    world.module.CATALOGUE.update(None)
    world.run()
    assert world.json("catalogue/vulnerabilities.json")["layers"] == {}
    assert world.beside()["layers"] == {}


def test_a_layer_that_the_index_lacks_for_a_while_is_not_forgotten(world: World) -> None:
    world.release(world.upload())
    world.run()
    known = world.json("catalogue/vulnerabilities.json")["layers"]
    # The pointer has moved, and what it leads to is not written down yet.
    arn = f"arn:aws:lambda:us-east-1:123456789012:layer:{LAYER}:2"
    world.account.ssm.put_parameter(Name=f"/layerdrop/{LAYER}", Value=arn, Type="String", Overwrite=True)
    world.module.CATALOGUE.update([LAYER])
    assert world.json("catalogue/index.json")["layers"][0]["released"] is None
    world.run()
    world.account.put_json("catalogue/index.json", world.json("catalogue/index.json") | {"layers": []})
    world.run()
    assert world.json("catalogue/vulnerabilities.json")["layers"] == known
    world.release(version=2)
    world.run()
    assert len(world.events) == 1


def test_a_layer_from_before_the_catalogue_is_passed_over(world: World) -> None:
    world.account.put_json("claims/old-py313-arm64.json", {"key": KEY, "lease": None})
    arn = "arn:aws:lambda:us-east-1:123456789012:layer:old-py313-arm64:3"
    world.account.ssm.put_parameter(Name="/layerdrop/old-py313-arm64", Value=arn, Type="String")
    world.module.CATALOGUE.update(None)
    assert world.run()["asked"] == 0
    assert world.json("catalogue/vulnerabilities.json") is None


def test_without_a_database_nobody_is_asked(world: World) -> None:
    world.release(world.upload())
    world.monkeypatch.setattr(world.module, "ADDRESS", "")
    world.resolving.versions["urllib3"].append("2.5.0")
    counts = world.run()
    assert (counts["asked"], counts["looked"]) == (0, 1)
    assert not world.osv.asked
    assert world.json("catalogue/vulnerabilities.json") is None
    assert world.outdated()["changes"] == [{"package": "urllib3", "from": "2.4.0", "to": "2.5.0"}]


# ---------------------------------------------------------------- the database fails


FAULTS = {
    "500": osv_database.status(500),
    "429": osv_database.status(429),
    "403": osv_database.status(403),
    "redirect": osv_database.status(302, Location="http://127.0.0.1:1/"),
    "cut": osv_database.cut,
    "hangs up": osv_database.hang_up,
    "html": osv_database.body(b"<html>"),
    "too few": osv_database.body(b'{"results": []}'),
}


@pytest.mark.parametrize("name", sampled(FAULTS, lambda name: name in ("500", "html")))
def test_what_was_known_stays_when_it_cannot_be_asked(world: World, name: str) -> None:
    fault = FAULTS[name]
    world.release(world.upload())
    world.run()
    known = world.json("catalogue/vulnerabilities.json")["layers"]
    world.osv.always = lambda _path: fault
    for _ in range(2):
        counts = world.run(24)
        assert (counts["asked"], counts["failures"], counts["looked"]) == (0, 1, 1)
        assert world.json("catalogue/vulnerabilities.json")["layers"] == known
    world.osv.always = lambda _path: None
    assert world.run()["asked"] == 1
    assert len(world.events) == 1


@pytest.mark.parametrize("fault", [osv_database.status(503), osv_database.cut])
def test_a_layer_waits_for_an_advisory_that_cannot_be_had_now(world: World, fault: Any) -> None:
    upload = world.upload()
    world.release(upload)
    world.release(upload, packages=[("idna", "2.0")], name="other-py313-arm64")
    world.osv.add(advisory("PYSEC-2026-9", "idna"))
    world.osv.always = lambda path: fault if path.endswith(GHSA) else None
    counts = world.run()
    assert (counts["asked"], counts["failures"], counts["left"]) == (1, 1, 1)
    assert world.told() == [["PYSEC-2026-9"]]
    world.osv.always = lambda _path: None
    assert world.run()["asked"] == 1
    assert world.told() == [["PYSEC-2026-9"], [GHSA]]


@pytest.mark.parametrize(
    "fault", [osv_database.status(404), osv_database.body(b"nonsense"), osv_database.body(b"{}")]
)
def test_a_hole_is_told_of_though_nothing_is_said_of_it(world: World, fault: Any) -> None:
    world.release(world.upload())
    world.osv.always = lambda path: fault if path.endswith(GHSA) else None
    world.run()
    [finding] = world.findings()
    assert (finding["id"], finding["severity"], finding["summary"]) == (GHSA, "UNKNOWN", "")
    world.osv.always = lambda _path: None
    world.run(24)
    assert world.findings()[0]["severity"] == "MEDIUM"
    assert world.told() == [[GHSA]]


def test_a_database_that_is_down_is_not_asked_for_every_advisory(world: World) -> None:
    world.osv.add(*(advisory(f"PYSEC-2026-{number}") for number in range(200)))
    world.release(world.upload())
    world.osv.always = lambda path: osv_database.status(503) if "vulns" in path else None
    assert world.run()["asked"] == 0
    assert sum(1 for path in world.osv.asked if "vulns" in path) <= 20


def test_a_package_that_cannot_be_asked_about_spoils_no_layer(world: World) -> None:
    world.osv.refuses = {"odd"}
    world.release(world.upload(), packages=[("odd", "1.0"), ("urllib3", "2.4.0")])
    counts = world.run()
    assert (counts["asked"], counts["failures"]) == (1, 1)
    assert world.told() == [[GHSA]]


# ---------------------------------------------------------------- others fail


def test_what_could_not_be_told_is_told_the_next_hour(world: World) -> None:
    world.release(world.upload())
    world.refuses_events = True
    assert world.run()["failures"] == 1
    assert world.findings()[0]["told"] is None
    world.refuses_events = False
    world.run()
    assert world.told() == [[GHSA]]
    world.run()
    assert len(world.events) == 1


def test_what_could_not_be_written_beside_is_written_the_next_hour(world: World) -> None:
    world.release(world.upload())
    broken = [True]
    put = world.module.STORE.s3.put_object

    def failing(**given: Any) -> Any:
        if broken and given["Key"] == beside(KEY):
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "no"}}, "PutObject")
        return put(**given)

    world.monkeypatch.setattr(world.module.STORE.s3, "put_object", failing, raising=False)
    assert world.run()["failures"] == 1
    assert (world.told(), world.beside()) == ([[GHSA]], None)
    broken.clear()
    world.run()
    assert [one["id"] for one in world.beside()["layers"][LAYER]["findings"]] == [GHSA]
    assert world.json("catalogue/vulnerabilities.json")["unwritten"] == []


def test_a_key_that_is_too_long_for_what_lies_beside(world: World) -> None:
    key = (
        f"requirements/arm64/{'f' * 200}/"
        + "/".join(["g" * 100] * 8)[: 1024 - 200 - 20 - 16]
        + "requirements.txt"
    )
    assert len(key) <= 1024 < len(beside(key))
    document = {
        "bucket": world.account.bucket,
        "key": key,
        "version_id": "v",
        "etag": "e",
        "sequencer": "00",
        "size": 1,
    }
    world.release(type(world.upload())(**document))  # type: ignore[arg-type]
    put = world.module.STORE.s3.put_object

    def strict(**given: Any) -> Any:
        if len(given["Key"]) > 1024:
            raise ClientError({"Error": {"Code": "KeyTooLongError", "Message": "no"}}, "PutObject")
        return put(**given)

    world.monkeypatch.setattr(world.module.STORE.s3, "put_object", strict, raising=False)
    assert world.run()["failures"] == 1
    assert world.run()["failures"] == 0
    assert world.told() == [[GHSA]]


BROKEN = [
    b"nonsense",
    b"",
    b"[]",
    b'{"schema": "layerdrop/vulnerabilities/1", "layers": 7}',
    b'{"schema": "layerdrop/vulnerabilities/1", "unwritten": 7}',
    b"[" * 10_000,
]


@pytest.mark.parametrize("content", sampled(BROKEN, lambda content: content == b"nonsense"))
def test_documents_that_somebody_broke_are_begun_anew(world: World, content: bytes) -> None:
    world.release(world.upload())
    for key in ("catalogue/vulnerabilities.json", "catalogue/outdated.json"):
        world.account.s3.put_object(Bucket=world.account.bucket, Key=key, Body=content)
    world.run()
    assert [one["id"] for one in world.findings()] == [GHSA]
    assert world.outdated()["changes"] == []


def test_an_entry_that_somebody_broke_costs_no_other(world: World) -> None:
    upload = world.upload()
    world.release(upload)
    world.release(upload, name="other-py313-arm64")
    world.run()
    document = world.json("catalogue/vulnerabilities.json")
    del document["layers"][LAYER]["findings"][0]["told"]
    document["advisories"][GHSA] = {"reading": 1}
    world.account.put_json("catalogue/vulnerabilities.json", document)
    world.run()
    assert world.told() == [[GHSA], [GHSA], [GHSA]]
    assert [event["layer_name"] for event in world.events].count("other-py313-arm64") == 1


def test_two_runs_at_once_lose_nothing(world: World) -> None:
    upload = world.upload()
    world.release(upload)
    world.release(upload, packages=[("idna", "2.0")], name="other-py313-arm64")
    world.osv.add(advisory("PYSEC-2026-9", "idna"))
    original = inquiry.Inquiry._write_beside
    runs = [1]

    def meanwhile(self: Any, *args: Any) -> None:
        original(self, *args)
        if runs:
            runs.clear()
            world.osv.add(advisory("PYSEC-2026-10", "idna"))
            world.run(0)

    world.monkeypatch.setattr(inquiry.Inquiry, "_write_beside", meanwhile)
    world.run()
    assert {one["id"] for one in world.findings()} == {GHSA}
    told = [one for event in world.told() for one in event]
    assert set(told) == {GHSA, "PYSEC-2026-9", "PYSEC-2026-10"}
    assert max(map(told.count, told)) <= 2


# ---------------------------------------------------------------- what a rebuild would change


def test_what_a_rebuild_would_change(world: World) -> None:
    world.release(world.upload(), packages=[("Urllib3", "2.4.0"), ("gone", "1.0"), ("same", "1.0")])
    world.resolving.versions = {"urllib3": ["2.5.0"], "new": ["1.0"], "same": ["1.0"]}
    assert world.run()["looked"] == 1
    assert world.outdated() == {
        "version": 1,
        "looked": world.outdated()["looked"],
        "changes": [
            {"package": "gone", "from": "1.0", "to": None},
            {"package": "new", "from": None, "to": "1.0"},
            {"package": "urllib3", "from": "2.4.0", "to": "2.5.0"},
        ],
        "error": None,
    }
    assert [world.run(12)["looked"] for _ in range(4)] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("text", "answer", "code"),
    [
        (
            "urllib3\n",
            BuildError(json.dumps({"code": "RESOLUTION_FAILED", "message": "no \x1b", "hint": ""})),
            "RESOLUTION_FAILED",
        ),
        ("urllib3\n", BuildError("no JSON"), "OUTLOOK_UNKNOWN"),
        ("urllib3\n", RuntimeError("killed"), "OUTLOOK_UNKNOWN"),
        ("urllib3\n", {"packages": None}, "OUTLOOK_UNKNOWN"),
        ("# /// layer\n# nmae = 'x'\n# ///\n", None, "SETTINGS_INVALID"),
        ('# /// layer\n# name = "other"\n# ///\n', None, "LAYER_NOT_ASKED_FOR"),
    ],
)
def test_why_a_rebuild_would_fail(world: World, text: str, answer: Any, code: str) -> None:
    world.release(world.upload(text))
    world.resolving.instead = lambda _event: answer
    world.run()
    assert world.outdated()["error"]["code"] == code
    assert "\x1b" not in world.outdated()["error"]["message"]
    assert world.outdated()["changes"] == []


def test_a_file_that_was_deleted_is_not_looked_at(world: World) -> None:
    world.release(world.upload(REBUILD), rebuild="fixed")
    world.account.s3.delete_object(Bucket=world.account.bucket, Key=KEY)
    world.run()
    assert world.outdated()["error"]["code"] == "INPUT_DELETED"
    assert not world.resolving.asked
    assert world.told() == [[GHSA]]


def test_a_file_that_is_kept_as_it_is_changes_nothing(world: World) -> None:
    world.release(world.upload("# /// layer\n# refresh = false\n# ///\nurllib3\n"))
    world.resolving.versions["urllib3"].append("2.5.0")
    world.run()
    assert (world.outdated()["changes"], world.outdated()["error"]) == ([], None)
    assert not world.resolving.asked


@pytest.mark.parametrize("code", ["TooManyRequestsException", "ServiceException"])
def test_a_function_that_is_busy_is_asked_the_next_hour(world: World, code: str) -> None:
    world.release(world.upload())

    def busy(_event: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "Invoke")

    world.resolving.instead = busy
    counts = world.run()
    assert (counts["looked"], counts["left"], world.outdated()) == (0, 1, None)
    world.resolving.instead = None
    assert world.run()["looked"] == 1


# ---------------------------------------------------------------- building again


def test_it_is_built_again_when_a_fix_appears(world: World) -> None:
    upload = world.upload(REBUILD)
    world.release(upload, rebuild="fixed")
    world.run()
    assert not world.builds()
    assert world.events[0]["rebuild"] is True
    world.resolving.versions["urllib3"].append("2.5.0")
    assert world.run(24)["rebuilds"] == 1
    assert world.builds() == [{"input": upload.to_json()}]
    assert world.json(fixes_key(KEY, upload.etag)) is None  # plain resolving takes it
    world.run(24)
    assert len(world.builds()) == 1


def test_a_fix_that_the_cooldown_keeps_back_is_named(world: World) -> None:
    upload = world.upload(REBUILD)
    world.release(upload, rebuild="fixed")
    world.resolving.versions["urllib3"] += ["2.5.0", "2.6.0"]
    world.resolving.young = {"urllib3-2.5.0", "urllib3-2.6.0"}
    assert world.run()["rebuilds"] == 1
    document = world.json(fixes_key(KEY, upload.etag))
    VALIDATORS["fixes"].validate(document)
    assert document["fixes"] == ["urllib3==2.5.0"]
    assert Fixes(world.account.s3, world.account.bucket).find(KEY, upload.etag) == ("urllib3==2.5.0",)
    # A rebuild takes it from now on, which the outlook says.
    world.run(24)
    assert world.outdated()["changes"] == [{"package": "urllib3", "from": "2.4.0", "to": "2.5.0"}]
    assert len(world.builds()) == 1


def test_without_the_setting_nothing_is_built(world: World) -> None:
    world.release(world.upload())
    world.resolving.versions["urllib3"].append("2.5.0")
    world.run()
    assert not world.builds()
    assert world.events[0]["rebuild"] is False
    assert 'rebuild = "fixed"' in world.events[0]["notice"]["content"]["nextSteps"][0]


def test_a_version_that_mends_nothing_is_no_reason(world: World) -> None:
    world.release(world.upload(REBUILD), rebuild="fixed")
    world.resolving.versions["urllib3"].append("2.4.9")
    world.run()
    assert not world.builds()


def test_the_database_decides_what_is_mended(world: World) -> None:
    # The advisory's fix has a hole of its own: it is another one, so it counts; the same one does not.
    ranges = [[{"introduced": "0"}, {"fixed": "2.5.0"}], [{"introduced": "2.5.0"}, {"fixed": "2.5.1"}]]
    world.osv.add(advisory(GHSA, ranges=ranges))
    upload = world.upload(REBUILD)
    world.release(upload, rebuild="fixed")
    world.resolving.versions["urllib3"] += ["2.5.0", "2.5.1"]
    world.resolving.young = {"urllib3-2.5.0", "urllib3-2.5.1"}
    world.run()
    assert world.json(fixes_key(KEY, upload.etag))["fixes"] == ["urllib3==2.5.1"]


def test_a_fix_has_to_suit_every_layer_of_the_file(world: World) -> None:
    upload = world.upload(
        '# /// layer\n# rebuild = "fixed"\n# runtimes = ["python3.12", "python3.13"]\n# ///\nurllib3\n'
    )
    world.release(upload, rebuild="fixed")
    world.resolving.versions["urllib3"] += ["2.5.0"]
    world.resolving.young = {"urllib3-2.5.0"}

    def one_cannot(event: dict[str, Any]) -> Any:
        fixes = [word for word in event["target"]["job"]["command"] if word.startswith("--fix=")]
        if fixes and event["target"]["runtime"] == "python3.12":
            return BuildError(json.dumps({"code": "RESOLUTION_FAILED", "message": "no", "hint": ""}))
        return world.resolving.resolved(dict(one.removeprefix("--fix=").split("==") for one in fixes))

    world.resolving.instead = one_cannot
    world.run()
    assert not world.builds()
    world.resolving.instead = None
    world.run(24)
    assert len(world.builds()) == 1


def test_several_holes_are_mended_at_once(world: World) -> None:
    world.osv.add(
        advisory("PYSEC-2026-1", ranges=[[{"introduced": "0"}, {"fixed": "2.6.0"}]]),
        advisory("PYSEC-2026-2", "idna", ranges=[[{"introduced": "0"}, {"fixed": "3.7"}]]),
        advisory("PYSEC-2026-3", "idna", ranges=[[{"introduced": "0"}]]),
    )
    upload = world.upload(REBUILD)
    world.release(upload, packages=[("urllib3", "2.4.0"), ("idna", "3.0")], rebuild="fixed")
    world.resolving.versions = {"urllib3": ["2.4.0", "2.5.0", "2.6.0"], "idna": ["3.0", "3.7"]}
    world.resolving.young = {"urllib3-2.5.0", "urllib3-2.6.0", "idna-3.7"}
    world.run()
    assert world.json(fixes_key(KEY, upload.etag))["fixes"] == ["idna==3.7", "urllib3==2.6.0"]
    assert len(world.builds()) == 1


def test_a_fix_that_is_gone_is_given_up(world: World) -> None:
    upload = world.upload(REBUILD)
    world.release(upload, rebuild="fixed")
    Fixes(world.account.s3, world.account.bucket).keep(KEY, upload.etag, ["urllib3==2.4.5"])
    world.resolving.versions["urllib3"] += ["2.5.0"]
    world.resolving.young = {"urllib3-2.5.0"}
    world.run()
    assert world.json(fixes_key(KEY, upload.etag))["fixes"] == ["urllib3==2.5.0"]
    assert len(world.builds()) == 1


def test_an_upload_that_nothing_was_released_of_is_left_alone(world: World) -> None:
    world.release(world.upload(REBUILD), rebuild="fixed")
    world.upload(REBUILD + "idna\n")  # its build is under way, or has failed
    world.resolving.versions["urllib3"].append("2.5.0")
    world.run()
    assert not world.builds()


def test_a_build_that_only_a_job_can_tell_of_is_not_begun(world: World) -> None:
    world.release(world.upload(REBUILD), rebuild="fixed")
    world.resolving.instead = lambda _event: {"packages": None}
    world.run()
    assert not world.builds()
    assert world.outdated()["error"]["code"] == "OUTLOOK_UNKNOWN"


def test_nothing_is_built_while_the_database_cannot_say_what_is_mended(world: World) -> None:
    world.release(world.upload(REBUILD), rebuild="fixed")
    world.run()
    world.resolving.versions["urllib3"].append("2.5.0")
    world.osv.always = lambda _path: osv_database.status(503)
    world.run(24)
    assert not world.builds()
    world.osv.always = lambda _path: None
    world.run()
    assert len(world.builds()) == 1


# ---------------------------------------------------------------- cut short, and too much for one run


@pytest.mark.parametrize("step", sampled([19, 1], lambda step: step > 1))
def test_whenever_it_is_killed_the_next_runs_make_up_for_it(world: World, step: int) -> None:
    killer = Killer()
    killer.watch(world)
    world.resolving.versions["urllib3"].append("2.5.0")
    world.resolving.young = {"urllib3-2.5.0"}
    at = 1
    while True:
        mending, other = f"mending{at}-py313-arm64", f"other{at}-py313-arm64"
        key, other_key = (f"requirements/arm64/{name}{at}/requirements.txt" for name in ("mending", "other"))
        upload = world.upload(REBUILD, key)
        killer.at = None
        world.release(upload, name=mending, rebuild="fixed")
        world.release(world.upload(key=other_key), name=other)
        world.events.clear()
        builds, killer.calls, killer.at = len(world.builds()), 0, at
        try:
            world.run(0.01)
        except Killed:
            is_killed = True
        else:
            is_killed = False
        killer.at = None
        world.run(0.01)
        world.run(0.01)
        told = [(event["layer_name"], one["id"]) for event in world.events for one in event["findings"]]
        assert set(told) == {(mending, GHSA), (other, GHSA)}, at
        assert max(map(told.count, told)) <= (2 if is_killed else 1), at
        assert len({event["id"] for event in world.events}) == 2, at  # it is told twice in the same words
        assert len(world.builds()) == builds + 1, at
        assert world.json(fixes_key(key, upload.etag))["fixes"] == ["urllib3==2.5.0"], at
        for name, its_key in ((mending, key), (other, other_key)):
            [finding] = world.findings(name)
            assert finding["told"], at
            assert world.beside(its_key)["layers"][name]["findings"] == [finding], at
            assert world.outdated(name)["error"] is None, at
        shown = {layer["name"]: layer for layer in world.json("catalogue/index.json")["layers"]}
        assert [one["id"] for one in shown[mending]["findings"]] == [GHSA], at
        if not is_killed:
            break
        at += step
    assert at > 40, at


def test_what_there_is_no_time_for_is_done_the_next_hour(world: World) -> None:
    world.monkeypatch.setattr(inquiry, "_AT_ONCE", 2)
    world.monkeypatch.setattr(outlooks, "_AT_ONCE", 2)
    for number in range(7):
        upload = world.upload(key=f"requirements/arm64/l{number}/requirements.txt")
        world.release(upload, [("urllib3", f"2.4.{number}")], name=f"l{number}-py313-arm64")
    original, begun = world.module._watch, [0]

    def calls() -> int:
        return world.osv.asked.total() + len(world.resolving.asked)

    def enough_for_three_calls() -> float:
        return 100.0 if calls() < begun[0] + 3 else 0.0

    world.monkeypatch.setattr(world.module, "_watch", lambda _left: original(enough_for_three_calls))
    asked, looked = [], []
    for _ in range(12):
        begun[0] = calls()
        counts = world.run(1)
        asked.append(counts["asked"])
        looked.append(counts["looked"])
    assert (sum(asked), sum(looked)) == (7, 7)
    assert max(asked) < 7
    assert max(looked) < 7
    assert world.told() == [[GHSA]] * 7


@pytest.mark.long
@pytest.mark.parametrize("layers", [3000])
def test_thousands_of_layers(
    world: World, layers: int, record_property: Callable[[str, object], None]
) -> None:
    """Within bounds of memory and time; of a run that is cut short nothing is lost, nor told twice."""
    releases = Releases(world.account.s3, world.account.bucket)
    packages = [(f"p{number}", "1.0") for number in range(500)]
    world.osv.add(*(advisory(f"PYSEC-2026-{number}", f"p{number}") for number in range(0, 500, 5)))
    for number in range(layers):
        name = f"l{number}-py313-arm64"
        chosen = [packages[(number * 7 + one) % 500] for one in range(30)]
        document = release_document(name, packages=[package(*one) for one in chosen])
        releases.write(Release.from_json(document))
        arn = document["layer_version_arn"]
        world.account.ssm.put_parameter(Name=f"/layerdrop/{name}", Value=arn, Type="String")
    world.module.CATALOGUE.update(None)
    # In memory, each look at an upload goes through all objects.
    nothing_to_look = replace(world.module.ENVIRONMENT, resolve_layer="")
    world.monkeypatch.setattr(world.module, "ENVIRONMENT", nothing_to_look)
    world.is_checked = False
    tracemalloc.start()
    started = time.monotonic()
    original, settle = world.module._watch, inquiry.Inquiry._settle
    settled: list[None] = []

    def counted(self: Any, *args: Any) -> Any:
        settled.append(None)
        return settle(self, *args)

    world.monkeypatch.setattr(inquiry.Inquiry, "_settle", counted)
    # Enough for two parts of 500.
    world.monkeypatch.setattr(
        world.module, "_watch", lambda _left: original(lambda: 100.0 if len(settled) < 2 else 0.0)
    )
    asked = []
    while sum(asked) < layers:
        settled.clear()
        asked.append(world.run(1)["asked"])
        assert asked[-1] == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = time.monotonic() - started
    told = [(event["layer_name"], one["id"]) for event in world.events for one in event["findings"]]
    assert len(told) == len(set(told)) == layers * 6
    assert world.osv.asked["/v1/querybatch"] <= len(asked)
    record_property("figures", f"{len(asked)} runs, {seconds:.0f} s, {peak >> 20} MB")
    assert peak < 400 << 20
