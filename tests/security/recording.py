"""The pipeline driven through every call that its parts make, and what each role was seen to do."""

import io
import json
import platform
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from botocore.exceptions import ClientError
from moto.iam.models import iam_backends

from layer_builder.ground import interpreter
from local.permissions import Permission
from local.policies import Statement
from local.server import EmbeddedAws
from local.settings import ACCOUNT_ID, BUCKET
from tests.faults.index import Index, Serve, dist_info, good, packed, plain
from tests.osv_database import Osv, advisory
from tests.whole import parts

Found = TypeVar("Found")
HERE = {"aarch64": "arm64"}.get(platform.machine(), "x86_64")
PARAMETERS = {"KeepVersions": "1", "NotificationEmail": "someone@example.com"}
"""Such that, with a secret, every statement of the template is there but those for CodeArtifact."""


@dataclass(frozen=True)
class Recording:
    """What was seen.

    Attributes:
        used: Each permission that a role used, by the role's logical id.
        refused: Calls that were not allowed: there should be none.
        statements: Of each role, as they were deployed.
        values: What `Ref` gave, by logical id, of nested stacks, too (as they are called in tests/whole.py).
        parameters: Those of the stack that were given.
    """

    used: frozenset[tuple[str, Permission]]
    refused: tuple[tuple[str, str], ...]
    statements: Mapping[str, tuple[Statement, ...]]
    values: Mapping[str, str]
    parameters: Mapping[str, str]


@contextmanager
def embedded(folder: Path, index: Index) -> Iterator[EmbeddedAws]:
    """The embedded AWS, whose builders know one index and start with an empty cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYER_BUILDER_INDEX_URL", index.url)
        patch.setenv("LAYER_BUILDER_CACHE", str(folder / "cache"))
        with EmbeddedAws() as aws:
            yield aws


class Driver:
    """Somebody who uploads, waits and looks."""

    def __init__(self, aws: EmbeddedAws, index: Index, osv: Osv) -> None:
        self._aws = aws
        self._index = index
        login = json.dumps({"username": "layers", "password": "recorded"})
        secret = aws.clients.get("secretsmanager").create_secret(Name="index", SecretString=login)
        # The index itself wants no credentials; they are read all the same.
        self.parameters = PARAMETERS | {"IndexUrl": index.url, "IndexSecretArn": secret["ARN"]}
        self.parameters["VulnerabilityDatabase"] = osv.url
        self.stack = aws.deploy(parameters=self.parameters)
        self.clients = aws.clients

    def upload(self, folder: str, text: str) -> str:
        """Upload a requirements file; return its version."""
        key = f"requirements/{folder}/requirements.txt"
        return self.clients.s3.put_object(Bucket=BUCKET, Key=key, Body=text.encode())["VersionId"]

    def manifest(self, folder: str) -> Any:
        """The manifest of a folder, or None."""
        try:
            key = f"requirements/{folder}/manifest.json"
            return json.load(self.clients.s3.get_object(Bucket=BUCKET, Key=key)["Body"])
        except ClientError:
            return None

    def answered(self, folder: str, version: str) -> Any:
        """Wait for the answer to an upload."""

        def look() -> Any:
            manifest = self.manifest(folder)
            ours = manifest and manifest["input"]["version_id"] == version
            return manifest if ours and manifest["status"] != "BUILDING" else None

        return until(look)

    def build(self, folder: str, text: str) -> Any:
        """Upload, and wait for the answer."""
        return self.answered(folder, self.upload(folder, text))

    @contextmanager
    def while_building(self, folder: str) -> Iterator[str]:
        """Upload, and hold the job up for as long as the block runs; yield the upload's version."""
        name = folder.rpartition("/")[2]
        serve, asked, go_on = held(good(name))
        self._index.add(name, good(name), serve=serve)
        version = self.upload(folder, name)
        until(asked.is_set)
        try:
            yield version
        finally:
            go_on.set()

    @contextmanager
    def without_resolving(self) -> Iterator[None]:
        """Have ResolveLayer fail while this lasts."""
        name = self.stack.all_values()["Jobs.Resolving.ResolveLayer"]
        configure = partial(self.clients.lambda_.update_function_configuration, FunctionName=name)
        handler = self.clients.lambda_.get_function_configuration(FunctionName=name)["Handler"]
        configure(Handler="layer_builder.nothing.here")
        yield
        configure(Handler=handler)

    def leave_behind(self, layer: str) -> None:
        """Publish a version as a build would that then died."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("python/left.py", "")
        left = self.clients.lambda_.publish_layer_version(
            LayerName=layer, Content={"ZipFile": stream.getvalue()}
        )
        sha256, after = left["Content"]["CodeSha256"], left["Version"] - 1
        note = {"execution": "died", "after": after, "code_sha256": sha256}
        body = json.dumps({"schema": "layerdrop/candidate/1", "candidate": note})
        self.clients.s3.put_object(Bucket=BUCKET, Key=f"trials/{layer}/candidate.json", Body=body.encode())

    def fails(self, event: Mapping[str, Any]) -> None:
        """Have StartBuild fail at an event, at every try."""
        self.clients.lambda_.invoke(
            FunctionName=self.stack.values["StartBuild"], InvocationType="Event", Payload=json.dumps(event)
        )

    def strikes(self, function: str) -> Any:
        """Have an hour go by for a function; return what it says."""
        strike = json.dumps({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})
        answer = self.clients.lambda_.invoke(FunctionName=function, Payload=strike)
        told = json.load(answer["Payload"])
        assert "FunctionError" not in answer, told
        return told

    def queued(self, queue: str) -> bool:
        """Whether a queue, by its output's name, holds anything."""
        found = self.clients.get("sqs").get_queue_attributes(
            QueueUrl=self.stack.outputs[queue], AttributeNames=["ApproximateNumberOfMessages"]
        )
        return found["Attributes"]["ApproximateNumberOfMessages"] != "0"


def held(content: bytes) -> tuple[Serve, threading.Event, threading.Event]:
    """A file whose download says that it was asked for, and waits for leave."""
    asked, go_on = threading.Event(), threading.Event()

    def serve(request: Any) -> None:
        asked.set()
        go_on.wait(120)
        plain(content)(request)

    return serve, asked, go_on


def until(look: Callable[[], Found], seconds: float = 120) -> Found:
    """Return the first result that is true; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def drive(driver: Driver) -> None:
    """Everything that can become of an upload."""
    settings = "# /// layer\n# {} = {}\n# ///\n"
    shared = settings.format("share-with", '["111122223333", "o-a1b2c3d4e5"]')
    first = driver.build("arm64/shared", shared + "friendly")
    assert first["status"] == "SUCCEEDED", first["error"]
    # With a setting that is for the job, and so in a file.
    licensed = settings.format("license", '"MIT"') + "friendly"
    other = driver.build("x86_64/other", licensed)
    assert other["status"] == "SUCCEEDED"
    beside = settings.format("alongside", json.dumps([other["layers"][0]["layer_version_arn"]]))
    assert driver.build("x86_64/beside", beside + "other")["status"] == "SUCCEEDED"
    # A trial that passes, on this machine's own architecture, and one that does not: its version goes again.
    tried = driver.build(f"{HERE}/tried", "friendly")["layers"][0]
    assert tried["trial"]["result"] == "passed", tried["trial"]
    broken = driver.build(f"{HERE}/broken", "broken")
    assert broken["error"]["code"] == "IMPORT_FAILED", broken["error"]
    # The same again: neither built nor published. It was released before anything was noted of that.
    driver.clients.s3.delete_object(Bucket=BUCKET, Key="trials/shared-py313-arm64/candidate.json")
    assert driver.build("arm64/shared", shared + "friendly")["layers"][0]["reused"]
    # The lock of a layer that was released is kept, and what is uploaded again is built from it.
    for _ in range(2):
        same = driver.build("arm64/same", settings.format("refresh", "false") + "friendly")
        assert same["status"] == "SUCCEEDED", same["error"]
    # Where nothing was resolved before, the job reads the file.
    with driver.without_resolving():
        assert driver.build("arm64/straight", "other")["status"] == "SUCCEEDED"
    # With leave to build from source: another role.
    for architecture in ("arm64", "x86_64"):
        allowed = settings.format("allow-sdist", '["odd"]') + "friendly"
        sources = driver.build(f"{architecture}/sources", allowed)
        assert sources["status"] == "SUCCEEDED", sources["error"]
    # A second version, for which the first one goes.
    driver.build("arm64/retired", "friendly")
    driver.leave_behind("retired-py313-arm64")
    retired = driver.build("arm64/retired", "friendly\nother")["layers"][0]
    versions = driver.clients.lambda_.list_layer_versions(LayerName=retired["layer_name"])["LayerVersions"]
    assert [version["Version"] for version in versions] == [3]
    # A mistake, and a name that another file has.
    assert driver.build("arm64/mistaken", "friendly == 9")["error"]["code"] == "RESOLUTION_FAILED"
    taken = driver.build("arm64/taker", settings.format("name", '"shared"') + "friendly")
    assert taken["error"]["code"] == "LAYER_NAME_TAKEN"
    # Somebody deletes the claim while the job runs, and somebody stops a build and deletes its manifest.
    with driver.while_building("arm64/unclaimed") as version:
        driver.clients.s3.delete_object(Bucket=BUCKET, Key="claims/unclaimed-py313-arm64.json")
    assert driver.answered("arm64/unclaimed", version)["status"] == "SUCCEEDED"
    with driver.while_building("arm64/stopped") as version:
        driver.clients.s3.delete_object(Bucket=BUCKET, Key="requirements/arm64/stopped/manifest.json")
        machine = driver.stack.outputs["StateMachine"]
        running = driver.clients.stepfunctions.list_executions(
            stateMachineArn=machine, statusFilter="RUNNING"
        )
        for execution in running["executions"]:
            driver.clients.stepfunctions.stop_execution(executionArn=execution["executionArn"])
        assert driver.answered("arm64/stopped", version)["error"]["code"] == "BUILD_ABORTED"
    # The clock strikes.
    values = driver.stack.all_values()
    for function in ("WriteManifest", "Trial.TryLayer", "Catalogue.UpdateCatalogue"):
        driver.strikes(values[function])
    watch(driver)
    # An event of which neither StartBuild nor WriteManifest can make anything: the queues are left.
    driver.fails({"Records": [{"s3": "this is no event"}]})
    until(lambda: driver.queued("UnansweredUploads") and driver.queued("UnansweredBuilds"))


def watch(driver: Driver) -> None:
    """Everything that can become of what is watched."""
    s3, function = driver.clients.s3, driver.stack.all_values()["Catalogue.WatchLayers"]
    asks = '# /// layer\n# rebuild = "fixed"\n# cooldown = "7 days"\n# ///\nholed\n'
    [vulnerable] = driver.build("arm64/holed", asks)["layers"]
    assert [one["version"] for one in vulnerable["packages"]] == ["1.0"]
    beside = {"Bucket": BUCKET, "Key": "requirements/arm64/holed/vulnerabilities.json"}

    def findings() -> Any:
        layers = json.load(s3.get_object(**beside)["Body"])["layers"]
        return layers.get(vulnerable["layer_name"], {}).get("findings", [])

    # Told, and built again with the fix that the cooldown keeps back otherwise.
    until(lambda: driver.strikes(function)["rebuilds"])
    assert [one["package"] for one in findings()] == ["holed"]

    def rebuilt() -> Any:
        manifest = driver.manifest("arm64/holed")
        layers = manifest["layers"] if manifest["status"] != "BUILDING" else []
        return manifest if any(one["version"] == 2 for one in layers) else None

    mended = until(rebuilt)
    assert [one["version"] for one in mended["layers"][0]["packages"]] == ["2.0"]
    # The index is gone, and what was told of the layer, as of one from before there was a catalogue.
    until(lambda: not (driver.strikes(function) and findings()))
    for version in (1, 2):
        s3.delete_object(Bucket=BUCKET, Key=f"catalogue/releases/{vulnerable['layer_name']}/{version}.json")
    s3.delete_object(Bucket=BUCKET, Key="catalogue/index.json")
    driver.strikes(function)


def record(folder: Path) -> Recording:
    """Drive the pipeline and return what was seen."""
    if interpreter.find("3.13") is None:
        pytest.skip("there is no python3.13 on this machine to run functions with")
    index = Index()
    index.start()
    with ExitStack() as stack:
        stack.callback(index.stop)
        index.add("friendly", good("friendly"))
        index.add("other", good("other"))
        index.add("broken", packed("broken", {"broken.py": b"import nowhere\n"}, dist_info("broken")))
        aws = stack.enter_context(embedded(folder, index))
        # A version that the cooldown keeps back, and that mends what is known against the other.
        for version, days in (("1.0", 30), ("2.0", 1)):
            index.add_version("holed", version, (datetime.now(UTC) - timedelta(days=days)).isoformat())
        holes = [[{"introduced": "0"}, {"fixed": "2.0"}]]
        osv = stack.enter_context(Osv(advisory("GHSA-0000-0000-0000", "holed", ranges=holes)))
        driver = Driver(aws, index, osv)
        drive(driver)
        judge = aws.authorization
        seen = {parts().called(path): value for path, value in driver.stack.all_values().items()}
        backend = iam_backends[ACCOUNT_ID]["aws"]
        roles = {name: role for name, ref in seen.items() for role in backend.get_roles() if role.name == ref}
        names = {role.name: name for name, role in roles.items()}
        return Recording(
            used=frozenset((names[role], permission) for role, permission in judge.used),
            refused=tuple(judge.refused),
            statements={name: tuple(judge.statements(role)) for name, role in roles.items()},
            values=seen,
            parameters=driver.parameters,
        )
