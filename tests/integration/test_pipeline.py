"""The real template, state machine, handlers and builder."""

import hashlib
import json
import zipfile
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import jsonschema
import pytest

from local.results import fetch_layer
from local.s3_events import Created, event_document
from local.settings import BUCKET, ROOT

from .conftest import Pipeline, eventually
from .layers import import_from

HTTP = "requests == 2.32.3\nhttpx == 0.27.2\n"
SMALL = "idna == 3.10\n"
SCHEMA = json.loads((ROOT / "functions/layerdrop/schemas/manifest.schema.json").read_text())


def settings(**lines: str) -> str:
    return "".join(["# /// layer\n", *(f"# {name} = {value}\n" for name, value in lines.items()), "# ///\n"])


def layer_names(pipeline: Pipeline) -> set[str]:
    return {layer["LayerName"] for layer in pipeline.aws.clients.lambda_.list_layers()["Layers"]}


def test_the_articles_example_becomes_a_layer_that_lambda_can_serve(pipeline: Pipeline, folder: str) -> None:
    manifest = pipeline.build(f"{folder}/requirements.txt", HTTP)
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["status"] == "SUCCEEDED"
    [layer] = manifest["layers"]
    served = fetch_layer(layer["layer_version_arn"], pipeline.aws.clients)
    stored = pipeline.aws.clients.s3.get_object(Bucket=BUCKET, Key=layer["zip"]["key"])["Body"].read()
    assert served == stored
    assert layer["code_sha256"] == b64encode(hashlib.sha256(served).digest()).decode()
    assert layer["zip"]["bytes"] == len(served)
    versions = {package["name"]: package["version"] for package in layer["packages"]}
    assert (versions["requests"], versions["httpx"]) == ("2.32.3", "0.27.2")
    described = pipeline.aws.clients.lambda_.get_layer_version(
        LayerName=layer["layer_name"], VersionNumber=layer["version"]
    )
    assert described["CompatibleRuntimes"] == ["python3.13"]
    assert described["CompatibleArchitectures"] == ["arm64"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("runtime", ["python3.11", "python3.12", "python3.13"])
def test_a_published_layer_is_imported_by_an_interpreter_of_its_runtime(
    pipeline: Pipeline, folder: str, runtime: str, tmp_path: Path
) -> None:
    key = f"{folder.replace('arm64', f'x86_64/{runtime}')}/requirements.txt"
    manifest = pipeline.build(key, "cryptography == 44.0.0\ncharset-normalizer == 3.4.0\n")
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    [layer] = manifest["layers"]
    content = fetch_layer(layer["layer_version_arn"], pipeline.aws.clients)
    modules = ["cryptography.hazmat.bindings._rust", "charset_normalizer", "cffi"]
    files = import_from(content, runtime, modules, tmp_path)
    assert all(file.startswith(str(tmp_path)) for file in files.values())


def test_each_runtime_of_the_settings_gets_its_layer(pipeline: Pipeline, folder: str) -> None:
    content = settings(runtimes='["python3.12", "python3.13"]', name='"twice"') + "markupsafe == 3.0.2\n"
    manifest = pipeline.build(f"{folder}/requirements.txt", content)
    jsonschema.validate(manifest, SCHEMA)
    layers = {layer["layer_name"]: layer for layer in manifest["layers"]}
    assert set(layers) == {"twice-py312-arm64", "twice-py313-arm64"}
    for name, runtime in (("twice-py312-arm64", "python3.12"), ("twice-py313-arm64", "python3.13")):
        with zipfile.ZipFile(
            BytesIO(fetch_layer(layers[name]["layer_version_arn"], pipeline.aws.clients))
        ) as file:
            extensions = [entry for entry in file.namelist() if entry.endswith(".so")]
        tag = runtime.replace("python", "").replace(".", "")
        assert extensions
        assert all(f"cpython-{tag}-aarch64" in entry for entry in extensions)


def test_a_layer_beside_others_gets_what_they_leave(pipeline: Pipeline, folder: str) -> None:
    """The embedded AWS serves the other layer's zip as Lambda does: by a signed address, in parts."""
    [other] = pipeline.build(f"{folder}/other/requirements.txt", SMALL)["layers"]
    content = settings(alongside=f'["{other["layer_version_arn"]}"]', bytecode="false") + "idna == 3.7\n"
    manifest = pipeline.build(f"{folder}/requirements.txt", content)
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    [layer] = manifest["layers"]
    [beside] = layer["alongside"]
    assert beside["layer_version_arn"] == other["layer_version_arn"]
    assert beside["unzipped_bytes"] == other["zip"]["unzipped_bytes"]
    assert layer["checks"]["size"]["limit_bytes"] == 262_144_000 - beside["unzipped_bytes"]
    assert 0 < beside["of_other_content"] < beside["same_paths"]
    assert "python/idna/package_data.py" in beside["examples"][: beside["of_other_content"]]


def test_the_settings_say_what_stays_out_and_how_large_it_may_be(pipeline: Pipeline, folder: str) -> None:
    content = settings(
        exclude='["certifi", "Urllib3"]', **{"size-limit": "3_000_000"}, slim="true", fit="false"
    )
    # Where it can be tried: it lacks what the function is to have from elsewhere, so that says nothing.
    there = folder.replace("arm64", "x86_64")
    manifest = pipeline.build(f"{there}/requirements.txt", content + "requests == 2.32.3\n")
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    [layer] = manifest["layers"]
    assert layer["trial"]["result"] == "not_run"
    assert {"certifi", "urllib3"}.isdisjoint(package["name"] for package in layer["packages"])
    assert layer["checks"]["size"]["limit_bytes"] == 3_000_000
    assert layer["alongside"] == []
    content = settings(**{"size-limit": "30_000"}) + "requests == 2.32.3\n"
    manifest = pipeline.build(f"{folder}/requirements.txt", content)
    assert manifest["error"]["code"] == "LAYER_TOO_LARGE"
    assert "the limit for it is 30,000" in manifest["error"]["message"]


@pytest.mark.long
def test_what_a_layer_beside_it_had_does_not_pass_without_it(pipeline: Pipeline, folder: str) -> None:
    """The version has the same bytes and was released; its trial was another function's."""
    there, exclude = folder.replace("arm64", "x86_64"), {"exclude": '["idna"]'}
    [idna] = pipeline.build(f"{there}/idna/requirements.txt", "idna == 3.7\n")["layers"]
    beside = settings(**exclude, alongside=f'["{idna["layer_version_arn"]}"]')
    [first] = pipeline.build(f"{there}/requirements.txt", beside + "requests == 2.32.3\n")["layers"]
    if first["trial"]["result"] == "not_run":
        pytest.skip(first["trial"]["reason"])
    assert first["trial"]["result"] == "passed"
    alone = settings(**exclude) + "requests == 2.32.3\n"
    [second] = pipeline.build(f"{there}/requirements.txt", alone)["layers"]
    assert second["layer_version_arn"] == first["layer_version_arn"]
    assert second["trial"]["result"] == "not_run"
    assert "idna, which is excluded" in second["trial"]["reason"]


def test_what_is_too_young_is_not_taken_and_the_manifest_says_so(pipeline: Pipeline, folder: str) -> None:
    """A year is long enough for certifi to have had releases since."""
    manifest = pipeline.build(f"{folder}/requirements.txt", settings(cooldown='"365 days"') + "certifi\n")
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    [layer] = manifest["layers"]
    [one] = layer["cooldown"]["left_out"]
    assert (one["package"], one["taken"]) == ("certifi", layer["packages"][0]["version"])
    assert one["uploaded"] > layer["cooldown"]["cutoff"]
    newest = f"certifi == {one['version']}\n"
    manifest = pipeline.build(f"{folder}/requirements.txt", settings(cooldown='"365 days"') + newest)
    assert manifest["error"]["code"] == "PACKAGE_TOO_YOUNG"
    exempt = settings(cooldown='"365 days"', **{"cooldown-exempt": '["Certifi"]'})
    manifest = pipeline.build(f"{folder}/requirements.txt", exempt + newest)
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    assert manifest["layers"][0]["cooldown"]["exempt"] == ["certifi"]


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("key", "content", "code"),
    [
        ("{}/requirements.txt", settings(colour='"red"') + SMALL, "SETTINGS_INVALID"),
        (
            "{}/requirements.txt",
            settings(alongside='["arn:aws:lambda:us-east-1:123456789012:layer:nowhere:1"]') + SMALL,
            "SETTINGS_INVALID",
        ),
        (
            "{}/requirements.txt",
            settings(alongside='["arn:aws:lambda:eu-west-9:999999999999:layer:theirs:1"]') + SMALL,
            "SETTINGS_INVALID",
        ),
        ("{}/requirements.txt", "idna == 999\n", "RESOLUTION_FAILED"),
        ("{}/requirements.txt", "-e .\n", "REQUIREMENTS_INVALID"),
        ("requirements/sparc/x/requirements.txt", SMALL, "KEY_INVALID"),
    ],
)
def test_a_mistake_is_answered_and_publishes_nothing(
    pipeline: Pipeline, folder: str, key: str, content: str, code: str
) -> None:
    before = layer_names(pipeline)
    manifest = pipeline.build(key.format(folder), content)
    jsonschema.validate(manifest, SCHEMA)
    assert (manifest["status"], manifest["error"]["code"]) == ("FAILED", code)
    assert manifest["error"]["message"]
    assert layer_names(pipeline) == before


def test_settings_may_be_longer_than_a_command(pipeline: Pipeline, folder: str) -> None:
    """As many as are taken, as long as may be; the layer has the bytes that it has without them."""
    long = settings(
        constraints=json.dumps([f"{'c' * 100}{number:02}>=1.2.3,<4" for number in range(50)]),
        **{"allow-sdist": json.dumps([f"{'p' * 126}{number:02}" for number in range(50)])},
        description=json.dumps("d" * 256),
        license=json.dumps("l" * 512),
    )
    manifests = [
        pipeline.build(f"{folder}/{name}/requirements.txt", block + SMALL)
        for name, block in (("long", long), ("short", ""))
    ]
    assert [manifest["error"] for manifest in manifests] == [None, None]
    sums = {layer["code_sha256"] for manifest in manifests for layer in manifest["layers"]}
    assert len(sums) == 1
    [layer] = manifests[0]["layers"]
    described = pipeline.aws.clients.lambda_.get_layer_version(
        LayerName=layer["layer_name"], VersionNumber=layer["version"]
    )
    assert (described["Description"], described["LicenseInfo"]) == ("d" * 256, "l" * 512)


@pytest.mark.long
def test_names_of_system_libraries_may_be_long(pipeline: Pipeline, folder: str) -> None:
    """They reach the builder, which says that it cannot have them: there are no such packages."""
    names = json.dumps([f"{'s' * 126}{number:02}" for number in range(50)])
    block = settings(**{"system-libraries": names}, license=json.dumps("l" * 512))
    manifest = pipeline.build(f"{folder}/requirements.txt", block + SMALL)
    assert manifest["error"]["code"] in ("SYSTEM_LIBRARIES_UNAVAILABLE", "LIBRARY_NOT_IN_REPOSITORY")


def test_a_failed_build_names_a_log_that_is_there(pipeline: Pipeline, folder: str) -> None:
    # By a job: what ResolveLayer finds needs no log.
    sources = '# /// layer\n# allow-sdist = ["idna"]\n# ///\n'
    manifest = pipeline.build(f"{folder}/requirements.txt", f"{sources}idna == 999\n")
    log = manifest["error"]["log"]
    events = pipeline.aws.clients.get("logs").get_log_events(
        logGroupName=log["group"], logStreamName=log["stream"]
    )["events"]
    assert any("999" in event["message"] for event in events)


def test_keys_that_must_be_encoded_are_answered_beside_themselves(pipeline: Pipeline, folder: str) -> None:
    names = ["with space", "a+b", "100%", "ünïcode", "q?x=1&y"]
    uploads = [pipeline.upload(f"{folder}/{name}/requirements.txt", SMALL) for name in names]
    answers = [pipeline.answer(upload) for upload in uploads]
    assert [answer["input"]["key"] for answer in answers] == [
        f"{folder}/{name}/requirements.txt" for name in names
    ]
    assert [answer["status"] for answer in answers] == ["SUCCEEDED"] * len(names)


def test_a_duplicate_event_starts_nothing(pipeline: Pipeline, folder: str) -> None:
    upload = pipeline.upload(f"{folder}/requirements.txt", SMALL)
    pipeline.answer(upload)
    sfn, lambda_ = pipeline.aws.clients.stepfunctions, pipeline.aws.clients.lambda_
    given = json.loads(sfn.describe_execution(executionArn=pipeline.executions_of(upload)[0])["input"])[
        "input"
    ]
    created = Created(
        "ObjectCreated:Put", BUCKET, upload.key, upload.version_id, given["etag"], given["size"]
    )
    event = event_document(created, "again", given["sequencer"], "us-east-1", "123456789012")
    for _ in range(3):
        answer = lambda_.invoke(
            FunctionName=pipeline.stack.values["StartBuild"], Payload=json.dumps(event).encode()
        )
        assert "FunctionError" not in answer
    assert len(pipeline.executions_of(upload)) == 1


def test_a_second_upload_runs_again_and_reuses_the_version(pipeline: Pipeline, folder: str) -> None:
    first, second = (pipeline.build(f"{folder}/requirements.txt", SMALL) for _ in range(2))
    assert first["execution"]["arn"] != second["execution"]["arn"]
    assert (first["layers"][0]["reused"], second["layers"][0]["reused"]) == (False, True)
    assert first["layers"][0]["layer_version_arn"] == second["layers"][0]["layer_version_arn"]
    versions = pipeline.aws.clients.lambda_.list_layer_versions(LayerName=first["layers"][0]["layer_name"])
    assert len(versions["LayerVersions"]) == 1


def test_the_same_requirements_elsewhere_and_later_give_the_same_bytes(
    pipeline: Pipeline, folder: str
) -> None:
    clients = pipeline.aws.clients
    first = pipeline.build(f"{folder}/one/requirements.txt", HTTP)["layers"][0]
    served = fetch_layer(first["layer_version_arn"], clients)
    # Not found again but built again: what is kept in the bucket is taken away.
    clients.s3.delete_object(Bucket=BUCKET, Key=first["zip"]["key"])
    second = pipeline.build(f"{folder}/two/requirements.txt", HTTP)["layers"][0]
    assert first["layer_name"] != second["layer_name"]
    assert fetch_layer(second["layer_version_arn"], clients) == served


def test_the_pointer_names_the_newest_version(pipeline: Pipeline, folder: str) -> None:
    for version, content in ((1, SMALL), (2, "idna == 3.9\n")):
        [layer] = pipeline.build(f"{folder}/requirements.txt", content)["layers"]
        assert layer["version"] == version
        pointer = pipeline.aws.clients.ssm.get_parameter(Name=f"/layerdrop/{layer['layer_name']}")
        assert pointer["Parameter"]["Value"] == layer["layer_version_arn"]


def test_uploads_at_once_are_each_answered_once(pipeline: Pipeline, folder: str) -> None:
    keys = [f"{folder}/{number}/requirements.txt" for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        uploads = list(threads.map(lambda key: pipeline.upload(key, SMALL), keys))
    manifests = [pipeline.answer(upload) for upload in uploads]
    assert {manifest["status"] for manifest in manifests} == {"SUCCEEDED"}
    assert [manifest["input"]["key"] for manifest in manifests] == keys
    assert [len(pipeline.executions_of(upload)) for upload in uploads] == [1] * 6


def test_an_event_that_cannot_be_handled_is_kept(pipeline: Pipeline) -> None:
    clients = pipeline.aws.clients
    event = {"Records": [{"s3": "this is no event"}]}
    clients.lambda_.invoke(
        FunctionName=pipeline.stack.values["StartBuild"], InvocationType="Event", Payload=json.dumps(event)
    )
    sqs, queue = clients.get("sqs"), pipeline.stack.outputs["UnansweredUploads"]
    [message] = eventually(
        lambda: sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"]).get("Messages")
    )
    assert json.loads(message["Body"]) == event
    assert message["MessageAttributes"]["ErrorMessage"]["StringValue"]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
