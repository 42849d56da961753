"""The functions, as the state machine strings them together."""

import copy
import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import pytest

from layerdrop.build_input import BuildInput
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.input_key import manifest_key
from layerdrop.trial import Trial

KEY = "requirements/arm64/web/requirements.txt"
MANIFEST = "requirements/arm64/web/manifest.json"
LOCK = "requirements/arm64/api-pylock.toml"
LOCK_MANIFEST = "requirements/arm64/api-pylock-manifest.json"
EXECUTION = {
    "arn": "arn:aws:states:us-east-1:123456789012:execution:layers:web-1",
    "name": "web-1",
    "started": "2026-11-20T10:00:00.123Z",
}
Call = Callable[..., Any]


def record(build_input: BuildInput) -> dict[str, Any]:
    """What S3 sends."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": build_input.bucket, "arn": f"arn:aws:s3:::{build_input.bucket}"},
            "object": {
                "key": quote_plus(build_input.key, safe="/"),
                "size": build_input.size,
                "eTag": build_input.etag,
                "versionId": build_input.version_id,
                "sequencer": build_input.sequencer,
            },
        },
    }


def caught(error: Exception) -> dict[str, str]:
    """What the state machine catches of a function's exception."""
    cause = {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": []}
    return {"Error": type(error).__name__, "Cause": json.dumps(cause)}


def run(account: Any, handler: Call, build: Call, build_input: BuildInput) -> tuple[dict[str, Any], Any]:
    """One execution, as the definition says: the result of WriteManifest, and the manifest."""
    state: dict[str, Any] = {"input": build_input.to_json(), "execution": EXECUTION}
    try:
        state = handler("plan_build", state)
    except BuildError as error:
        state["error"] = caught(error)
    else:
        state["outcomes"] = []
        for target in state["targets"]:
            outcome = {"target": target}
            report = build(target)
            try:
                if report["error"]:
                    container = {"ExitCode": 2, "LogStreamName": "arm64/default/1"}
                    job = {"JobId": "1", "Container": container, "Attempts": [{"Container": container}]}
                    del target["job"]["ended"]
                    outcome["error"] = {"Error": "States.TaskFailed", "Cause": json.dumps(job)}
                else:
                    given = {"input": state["input"], "target": target}
                    layer = handler("publish_layer", given | {"released_by": "ReleaseLayer"})
                    handler("release_layer", {**given, "published": layer})
                    outcome |= {"layer": layer, "trial": {"result": "disabled"}}
            except BuildError as error:
                outcome["error"] = caught(error)
            state["outcomes"].append(outcome)
    result = handler("write_manifest", state)
    return result, account.json(manifest_key(build_input.key))


def executions(account: Any) -> list[Any]:
    (machine,) = account.step_functions.list_state_machines()["stateMachines"]
    listed = account.step_functions.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]
    return [account.step_functions.describe_execution(executionArn=item["executionArn"]) for item in listed]


def test_an_event_starts_one_execution(account: Any, handler: Call) -> None:
    build_input = account.upload("requirements/arm64/größe & 1+1/requirements.txt", b"requests")
    event = {"Records": [record(build_input)]}
    first = handler("start_build", event)
    (name,) = first["started"]
    assert first["duplicates"] == []
    (execution,) = executions(account)
    assert execution["name"] == name
    assert json.loads(execution["input"]) == {"input": build_input.to_json()}


def test_the_same_event_again_starts_nothing(account: Any, handler: Call) -> None:
    event = {"Records": [record(account.upload(KEY, b"requests"))]}
    (name,) = handler("start_build", event)["started"]
    again = handler("start_build", event)
    assert again["started"] in ([], [name])  # Step Functions may answer a running one's twin with itself
    assert len(executions(account)) == 1


def test_a_used_name_starts_nothing(account: Any, handler: Call) -> None:
    """Step Functions refuses a used name with another input, as it does with the same once it has ended."""
    first = record(account.upload(KEY, b"requests"))
    second = copy.deepcopy(first)
    second["s3"]["object"]["size"] += 1
    (name,) = handler("start_build", {"Records": [first]})["started"]
    assert handler("start_build", {"Records": [second]}) == {"started": [], "duplicates": [name]}
    assert len(executions(account)) == 1


def test_another_upload_of_the_same_file_is_another_execution(account: Any, handler: Call) -> None:
    for sequencer in ("01", "02"):
        build_input = account.upload(KEY, b"requests", sequencer)
        handler("start_build", {"Records": [record(build_input)]})
    assert len(executions(account)) == 2


def test_s3_s_test_event_is_no_upload(account: Any, handler: Call) -> None:
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": account.bucket}
    assert handler("start_build", event) == {"started": [], "duplicates": []}


def test_building_comes_first(account: Any, handler: Call) -> None:
    build_input = account.upload(KEY, b"requests")
    planned = handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    manifest = account.json(MANIFEST)
    assert manifest["status"] == "BUILDING"
    assert manifest["execution"] == {
        "arn": EXECUTION["arn"],
        "started": EXECUTION["started"],
        "finished": None,
    }
    assert planned["manifest_key"] == MANIFEST
    assert [target["id"] for target in planned["targets"]] == ["py313-arm64"]


def planned(account: Any, handler: Call, text: bytes) -> list[str]:
    """Plan a build; return its only job's command."""
    build_input = account.upload(KEY, text)
    document = handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    (target,) = document["targets"]
    return list(target["job"]["command"])


def test_settings_reach_the_job_in_a_file(account: Any, handler: Call) -> None:
    block = '# /// layer\n# constraints = ["idna<4"]\n# license = "-p é"\n# ///\nidna\n'
    command = planned(account, handler, block.encode())
    (place,) = (
        word.removeprefix("--options-file=") for word in command if word.startswith("--options-file=")
    )
    assert account.json(place.removeprefix(f"s3://{account.bucket}/")) == [
        "--license=-p é",
        "--constraint=idna<4",
    ]
    assert "--constraint=idna<4" not in command
    assert f"--path=s3://{account.bucket}/{KEY}" in command


def test_without_settings_there_is_no_file(account: Any, handler: Call) -> None:
    assert not any("--options-file" in word for word in planned(account, handler, b"idna\n"))
    assert "Contents" not in account.s3.list_objects_v2(Bucket=account.bucket, Prefix="plans/")


@pytest.mark.attack("whoever holds another job's role guesses where a build is told its options")
def test_where_a_job_reads_its_options_is_told_to_it_alone(account: Any, handler: Call) -> None:
    """144 bits, new at each planning: what others want built is none of its business."""
    secrets = set()
    for _ in range(5):
        command = planned(account, handler, b'# /// layer\n# license = "MIT"\n# ///\nidna\n')
        (place,) = (word for word in command if word.startswith("--options-file="))
        folders, _, secret = place.removesuffix(".json").rpartition("/")
        assert folders.endswith("/plans/web-1/py313-arm64")
        assert len(secret) >= 24
        assert sum(secret in word for word in command) == 1
        secrets.add(secret)
    assert len(secrets) == 5


def test_a_good_build_ends_in_a_published_layer(account: Any, handler: Call, build: Call) -> None:
    text = b'# /// layer\n# share-with = ["111122223333"]\n# license = "MIT"\n# ///\nrequests\n'
    build_input = account.upload(KEY, text)
    result, manifest = run(account, handler, build, build_input)
    assert result == {"status": "SUCCEEDED"}
    assert manifest["status"] == "SUCCEEDED"
    assert manifest["input"]["version_id"] == build_input.version_id
    (layer,) = manifest["layers"]
    found = account.lambda_.get_layer_version(LayerName=layer["layer_name"], VersionNumber=layer["version"])
    assert found["LayerVersionArn"] == layer["layer_version_arn"]
    assert found["Content"]["CodeSha256"] == layer["code_sha256"]
    assert found["LicenseInfo"] == "MIT"
    assert [package["name"] for package in layer["packages"]] == ["requests"]
    assert (layer["checks"], layer["warnings"]) == ({"size": {"bytes": 5}}, ["one"])
    # BUILDING, then the end: two versions, told by the schema check of every one of them as well.
    assert [version["status"] for version in account.manifests()] == ["BUILDING", "SUCCEEDED"]


def test_the_same_upload_again_reuses_the_version(account: Any, handler: Call, build: Call) -> None:
    run(account, handler, build, account.upload(KEY, b"requests", "01"))
    _, manifest = run(account, handler, build, account.upload(KEY, b"requests", "02"))
    assert (manifest["layers"][0]["version"], manifest["layers"][0]["reused"]) == (1, True)


def test_a_lock_is_built_where_it_lies_and_answered_beside(account: Any, handler: Call, build: Call) -> None:
    """`refresh` says nothing of what never changes: no other lock takes its place."""
    block = b'# /// layer\n# name = "web"\n# refresh = false\n# ///\n'
    text = block + b'lock-version = "1.0"\n#' + b"-" * (1024 * 1024)  # longer than requirements may be

    def and_leave_a_lock(target: dict[str, Any]) -> dict[str, Any]:
        account.s3.put_object(Bucket=account.bucket, Key=f"{target['staging']}1/pylock.toml", Body=b"lock")
        return dict(build(target))

    for sequencer in ("01", "02"):
        build_input = account.upload(LOCK, text, sequencer)
        (started,) = handler("start_build", {"Records": [record(build_input)]})["started"]
        assert started.startswith("arm64-api-pylock-toml-")
        result, manifest = run(account, handler, and_leave_a_lock, build_input)
        assert result == {"status": "SUCCEEDED"}
        assert manifest["input"]["key"] == LOCK
        (layer,) = manifest["layers"]
        assert layer["layer_name"] == "web-py313-arm64"
    state = handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    command = state["targets"][0]["job"]["command"]
    assert f"--path=s3://{account.bucket}/{LOCK}" in command
    assert f"--version-id={build_input.version_id}" in command
    assert "Contents" not in account.s3.list_objects_v2(Bucket=account.bucket, Prefix="locks/")


def test_the_manifest_tells_where_the_lock_is_that_the_last_attempt_left(
    account: Any, handler: Call, build: Call
) -> None:
    targets = []

    def second(target: dict[str, Any]) -> dict[str, Any]:
        targets.append(target)
        return build(target, attempt=2)

    _, manifest = run(account, handler, second, account.upload(KEY, b"requests"))
    assert manifest["layers"][0]["lock"] == {"key": f"{targets[0]['staging']}2/pylock.toml"}


def test_a_lock_whose_build_was_aborted_or_never_began_is_answered_in_its_place(
    account: Any, handler: Call
) -> None:
    build_input = account.upload(LOCK, b'lock-version = "1.0"')
    other = account.upload(KEY, b"requests")
    for upload in (build_input, other):
        failed = {"errorType": "Runtime.ExitError", "errorMessage": "no"}
        event = {"requestPayload": {"Records": [record(upload)]}, "responsePayload": failed}
        handler("write_manifest", event)
    answers = {manifest["input"]["key"]: manifest["error"]["code"] for manifest in account.manifests()}
    assert answers == {LOCK: "BUILD_NOT_STARTED", KEY: "BUILD_NOT_STARTED"}
    assert account.json(LOCK_MANIFEST)["input"]["key"] == LOCK


@pytest.mark.parametrize(
    ("key", "content", "code"),
    [
        ("requirements/requirements.txt", b"requests", ErrorCode.KEY_INVALID),
        ("requirements/amd64/pylock.toml", b"", ErrorCode.KEY_INVALID),
        (LOCK, b"# /// layer\n# constraints = ['idna<4']\n# ///\n", ErrorCode.SETTINGS_INVALID),
        (LOCK, b"# /// layer\n# nme = 'x'\n# ///\n", ErrorCode.SETTINGS_INVALID),
        (LOCK, b"\xff\xfe", ErrorCode.REQUIREMENTS_INVALID),
        (LOCK, b"x" * (8 * 1024 * 1024 + 1), ErrorCode.REQUIREMENTS_INVALID),
        ("requirements/amd64/requirements.txt", b"requests", ErrorCode.KEY_INVALID),
        (KEY, b"# /// layer\n# nme = 'x'\n# ///\n", ErrorCode.SETTINGS_INVALID),
        (KEY, b"\x00\x01", ErrorCode.REQUIREMENTS_INVALID),
        (KEY, b"x" * (1024 * 1024 + 1), ErrorCode.REQUIREMENTS_INVALID),
    ],
)
def test_the_user_s_mistake_is_answered_beside_the_input(
    account: Any, handler: Call, build: Call, key: str, content: bytes, code: str
) -> None:
    result, manifest = run(account, handler, build, account.upload(key, content))
    assert result == {"status": "FAILED"}
    assert (manifest["status"], manifest["error"]["code"], manifest["layers"]) == ("FAILED", code, [])
    assert [version["status"] for version in account.manifests()] == ["BUILDING", "FAILED"]


def test_an_input_deleted_meanwhile_is_answered(account: Any, handler: Call, build: Call) -> None:
    build_input = account.upload(KEY, b"requests")
    account.s3.delete_object(Bucket=account.bucket, Key=KEY, VersionId=build_input.version_id)
    _, manifest = run(account, handler, build, build_input)
    assert manifest["error"]["code"] == ErrorCode.INPUT_NOT_FOUND


def test_one_target_s_failure_leaves_the_others_their_layers(
    account: Any, handler: Call, build: Call
) -> None:
    def some_fail(target: dict[str, Any]) -> dict[str, Any]:
        report = copy.deepcopy(build(target))
        if target["runtime"] == "python3.11":
            report |= {
                "status": "FAILED",
                "layer": None,
                "error": {"code": "NO_WHEEL_FOR_TARGET", "message": "No.", "hint": "", "details": {"p": 1}},
            }
            account.put_json(f"{target['staging']}1/report.json", report)
        return report

    text = b'# /// layer\n# runtimes = ["python3.11", "python3.13"]\n# ///\nrequests\n'
    result, manifest = run(account, handler, some_fail, account.upload(KEY, text))
    assert result == {"status": "FAILED"}
    bad, good = manifest["layers"]
    assert bad["layer_version_arn"] is None
    assert bad["error"]["code"] == "NO_WHEEL_FOR_TARGET"
    assert bad["error"]["details"] == {"p": 1}
    assert bad["error"]["log"]["stream"] == "arm64/default/1"
    assert manifest["error"] == bad["error"]
    assert good["version"] == 1
    assert good["error"] is None


GIVEN_UP = {
    "deleted": None,
    "deleted for good": b"",
    "named otherwise": b'# /// layer\n# name = "mine-too"\n# ///\nrequests\n',
    "for another runtime": b'# /// layer\n# runtimes = ["python3.12"]\n# ///\nrequests\n',
    "broken": b"\x00",
}


@pytest.mark.sample(1)
@pytest.mark.attack("another team's file takes a layer's name once the first file is gone")
@pytest.mark.parametrize("how", GIVEN_UP)
def test_a_name_outlives_what_its_file_says(account: Any, handler: Call, build: Call, how: str) -> None:
    mine = account.upload(KEY, b"requests", "01")
    _, manifest = run(account, handler, build, mine)
    pointer = account.ssm.get_parameter(Name="/layerdrop/web-py313-arm64")["Parameter"]["Value"]
    if how == "deleted":
        account.s3.delete_object(Bucket=account.bucket, Key=KEY)
    elif how == "deleted for good":
        account.s3.delete_object(Bucket=account.bucket, Key=KEY, VersionId=mine.version_id)
    else:
        run(account, handler, build, account.upload(KEY, GIVEN_UP[how] or b"", "02"))

    theirs = "requirements/arm64/rival/requirements.txt"
    text = b'# /// layer\n# name = "web"\n# ///\nevil\n'
    result, manifest = run(account, handler, build, account.upload(theirs, text, "03"))

    assert result == {"status": "FAILED"}
    assert manifest["error"]["code"] == ErrorCode.LAYER_NAME_TAKEN
    assert manifest["error"]["details"]["owner"] == KEY
    versions = account.lambda_.list_layer_versions(LayerName="web-py313-arm64")["LayerVersions"]
    assert [version["LayerVersionArn"] for version in versions] == [pointer]
    parameter = account.ssm.get_parameter(Name="/layerdrop/web-py313-arm64")["Parameter"]
    assert parameter["Value"] == pointer


def test_a_file_deleted_and_uploaded_again_goes_on(account: Any, handler: Call, build: Call) -> None:
    run(account, handler, build, account.upload(KEY, b"requests", "01"))
    account.s3.delete_object(Bucket=account.bucket, Key=KEY)
    _, manifest = run(account, handler, build, account.upload(KEY, b"requests", "02"))
    assert manifest["status"] == "SUCCEEDED"


@pytest.mark.parametrize("left", [None, b"not JSON", b'{"schema": "layerdrop/report/9"}'])
def test_a_job_without_a_usable_report_publishes_nothing(
    account: Any, handler: Call, build: Call, left: bytes | None
) -> None:
    def spoil(target: dict[str, Any]) -> dict[str, Any]:
        report: dict[str, Any] = build(target)
        if left is None:
            account.s3.delete_object(Bucket=account.bucket, Key=f"{target['staging']}1/report.json")
        else:
            key = f"{target['staging']}1/report.json"
            account.s3.put_object(Bucket=account.bucket, Key=key, Body=left)
        return report

    _, manifest = run(account, handler, spoil, account.upload(KEY, b"requests"))
    assert manifest["error"]["code"] == ErrorCode.REPORT_INVALID
    assert account.lambda_.list_layers()["Layers"] == []


def test_only_a_trial_that_passed_is_remembered(
    account: Any, handler: Call, build: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was not run says nothing, and the next build of the same version tries it."""
    build_input = account.upload(KEY, b"requests")
    state = handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    (target,) = state["targets"]
    build(target)
    given = {"input": state["input"], "target": target}
    layer = handler("publish_layer", given | {"released_by": "ReleaseLayer"})
    assert handler("try_layer", {"detail-type": "Scheduled Event"}) == {}
    tried = [Trial("not_run", "There is no python3.13 here."), Trial("passed", "", {}, 100.0, 85)]
    left = iter(tried)
    module = sys.modules["layerdrop.handlers.try_layer"]
    monkeypatch.setattr(module, "TRIALS", SimpleNamespace(run=lambda *_, **__: next(left)))
    told = [handler("try_layer", given | {"published": layer})["trial"]["result"] for _ in range(3)]
    assert told == ["not_run", "passed", "passed"]
    beside = target | {"alongside": ["arn:aws:lambda:us-east-1:123456789012:layer:other:1"]}
    with pytest.raises(StopIteration):
        handler("try_layer", {**given, "target": beside, "published": layer})


def test_a_report_lost_after_publishing_is_told(account: Any, handler: Call, build: Call) -> None:
    build_input = account.upload(KEY, b"requests")
    state = handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    (target,) = state["targets"]
    build(target)
    given = {"input": state["input"], "target": target, "released_by": "ReleaseLayer"}
    layer = handler("publish_layer", given)
    outcome = {"target": target, "layer": layer, "trial": {"result": "disabled"}}
    account.s3.delete_object(Bucket=account.bucket, Key=f"{target['staging']}1/report.json")
    assert handler("write_manifest", {**state, "outcomes": [outcome]}) == {"status": "FAILED"}
    manifest = account.json(MANIFEST)
    assert manifest["error"]["code"] == ErrorCode.REPORT_INVALID
    assert manifest["layers"][0]["layer_version_arn"] == layer["layer_version_arn"]


def test_an_older_build_that_ends_later_leaves_the_newer_answer(
    account: Any, handler: Call, build: Call
) -> None:
    older = account.upload(KEY, b"requests", "01")
    newer = account.upload(KEY, b"httpx", "02")
    run(account, handler, build, newer)
    result, manifest = run(account, handler, build, older)
    assert result == {"status": "SUPERSEDED"}
    layers = account.lambda_.list_layer_versions(LayerName="web-py313-arm64")["LayerVersions"]
    assert [version["Version"] for version in layers] == [1], "and it published nothing"
    assert manifest["input"]["sequencer"] == "02"
    assert [version["input"]["sequencer"] for version in account.manifests()] == ["02", "02"]


def test_what_travels_stays_below_step_functions_limit(account: Any, handler: Call) -> None:
    """The worst that settings allow, and every target failed with the longest cause that is handed on."""
    settings = "\n".join(
        [
            "# /// layer",
            f'# name = "{"n" * 127}"',
            '# runtimes = ["python3.11", "python3.12", "python3.13", "python3.14"]',
            f'# description = "{"ü" * 256}"',
            f'# license = "{"ü" * 512}"',
            f"# share-with = {json.dumps([f'o-{number:032}' for number in range(50)])}",
            f"# allow-sdist = {json.dumps([f'{number:0128}' for number in range(50)])}",
            "# ///",
        ]
    )
    key = f"requirements/arm64/{'ü' * 480}/requirements.txt"
    build_input = account.upload(key, settings.encode())
    state = handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})
    error = {"Error": "States.TaskFailed", "Cause": "c" * 32768}
    state["outcomes"] = [{"target": target, "error": error} for target in state["targets"]]
    assert len(json.dumps(state, ensure_ascii=False).encode()) < 256 * 1024
    assert len(state["targets"]) == 4
    handler("write_manifest", state)
