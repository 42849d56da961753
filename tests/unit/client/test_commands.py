import time
from pathlib import Path
from typing import Any

import pytest

from layerdrop_client.aws import Claim, UsingFunction
from layerdrop_client.commands.drop import drop
from layerdrop_client.commands.listing import list_layers
from layerdrop_client.commands.release import release
from layerdrop_client.commands.rollback import rollback
from layerdrop_client.commands.sync import Wanted, sync
from layerdrop_client.commands.users import users
from layerdrop_client.commands.waiting import Patience
from layerdrop_client.commands.watch import watch
from layerdrop_client.following import StillBuildingError
from layerdrop_client.problems import CommandError
from layerdrop_client.screen import Screen

from .fakes import ARN, FakeAws, document

WEB = "web-py313-arm64"
SYNC = Wanted()
MINE = ARN.format(WEB, 3).removesuffix(":3")


@pytest.fixture
def aws() -> Any:
    return FakeAws()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write(tmp_path, name, name)
    (tmp_path / "README.md").write_text("not an input")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/requirements.txt").write_text("hidden")
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    path = folder / "arm64" / name / "requirements.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def result(
    aws: Any, folder: Path, capsys: pytest.CaptureFixture[str], wanted: Wanted = SYNC
) -> tuple[int, Any]:
    aws.uploads.clear()
    status = sync(aws, Screen(as_json=True), folder, wanted, Patience())
    return status, document(capsys.readouterr().out)


def test_a_sync_uploads_by_content(aws: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = result(aws, folder, capsys)
    assert (status, told["counts"]["built"], len(aws.uploads)) == (0, 3, 3)
    assert [one["path"] for one in told["left"]] == ["README.md"]
    status, told = result(aws, folder, capsys)
    assert (status, told["counts"]["unchanged"], aws.uploads) == (0, 3, [])
    write(folder, "b", "other, same")
    status, told = result(aws, folder, capsys)
    assert told["counts"] == {"built": 0, "reused": 1, "unchanged": 2, "failed": 0, "building": 0}
    assert aws.uploads == ["requirements/arm64/b/requirements.txt"]


def test_a_mistake_stays_one_until_the_file_changes_and_what_passes_is_tried_again(
    aws: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "a", "FAIL REQUIREMENTS_INVALID")
    write(folder, "b", "FAIL INDEX_UNREACHABLE")
    assert result(aws, folder, capsys)[0] == 2
    status, told = result(aws, folder, capsys)
    assert aws.uploads == ["requirements/arm64/b/requirements.txt"]
    assert (status, told["counts"]["failed"], told["counts"]["unchanged"]) == (2, 2, 1)
    write(folder, "a", "good")
    status, told = result(aws, folder, capsys)
    assert (status, told["counts"]["built"]) == (75, 1)


def test_a_dry_run_changes_nothing(aws: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aws.upload("requirements/arm64/gone/requirements.txt", b"x")
    status, told = result(aws, folder, capsys, Wanted(deletes=True, only_looks=True))
    assert (status, aws.uploads, aws.deleted) == (0, [], [])
    assert told["deleted"] == ["requirements/arm64/gone/requirements.txt"]
    assert {file["action"] for file in told["files"]} == {"upload"}


def test_what_is_gone_is_deleted_only_if_that_is_asked_for(
    aws: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = "requirements/arm64/gone/requirements.txt"
    aws.upload(gone, b"x")
    result(aws, folder, capsys)
    assert aws.deleted == []
    result(aws, folder, capsys, Wanted(deletes=True))
    assert aws.deleted == [gone]


def test_an_empty_folder_deletes_nothing(aws: Any, tmp_path: Path) -> None:
    aws.upload("requirements/arm64/web/requirements.txt", b"x")
    with pytest.raises(CommandError, match="would delete all 1"):
        sync(aws, Screen(as_json=True), tmp_path, Wanted(deletes=True), Patience())
    assert aws.deleted == []


def test_a_link_out_of_the_folder_is_left(aws: Any, folder: Path, tmp_path: Path, capsys: Any) -> None:
    secret = tmp_path.parent / f"{tmp_path.name}-secret"
    secret.write_text("token")
    (folder / "arm64/a/requirements.txt").unlink()
    (folder / "arm64/a/requirements.txt").symlink_to(secret)
    _, told = result(aws, folder, capsys)
    assert "requirements/arm64/a/requirements.txt" not in aws.uploads
    assert "arm64/a/requirements.txt" in [one["path"] for one in told["left"]]


def test_a_dropped_file_is_answered_with_its_line(aws: Any, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("FAIL REQUIREMENTS_INVALID\n")
    assert drop(aws, Screen(), file, "arm64/web", Patience()) == 2
    said = capsys.readouterr().err
    assert f"--> {file}:1:1\n" in said
    assert "1 | FAIL REQUIREMENTS_INVALID\n  | ^^^" in said
    assert "hint: Mend it." in said


def test_who_does_not_wait_is_told_how_to_watch(aws: Any, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("x")
    assert drop(aws, Screen(), file, "arm64/web", Patience(waits=False)) == 0
    assert "layerdrop watch arm64/web" in capsys.readouterr().out


def test_no_answer_in_time_is_to_be_tried_again(aws: Any, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("x")
    aws.answers = False
    with pytest.raises(StillBuildingError) as error:
        drop(aws, Screen(), tmp_path / "requirements.txt", "arm64/web", Patience(seconds=-1))
    assert error.value.status == 75


def test_an_upload_that_a_newer_one_took_over_is_told(
    aws: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    (tmp_path / "requirements.txt").write_text("x")
    upload = aws.upload
    monkeypatch.setattr(aws, "upload", lambda key, content: [upload(key, content), upload(key, b"newer")][0])
    assert drop(aws, Screen(as_json=True), tmp_path / "requirements.txt", "arm64/web", Patience()) == 75
    told = document(capsys.readouterr().out)
    assert (told["status"], told["problems"][0]["code"]) == ("REPLACED", "SUPERSEDED")


def test_watch_tells_of_what_was_answered(aws: Any, capsys: Any) -> None:
    aws.upload("requirements/arm64/web/requirements.txt", b"x")
    assert watch(aws, Screen(as_json=True), ["arm64/web"], Patience()) == 0
    [told] = document(capsys.readouterr().out)["uploads"]
    assert (told["status"], told["layers"][0]["version"]) == ("SUCCEEDED", 1)
    with pytest.raises(CommandError, match="There is no"):
        watch(aws, Screen(), ["arm64/none"], Patience())


@pytest.fixture
def layer(aws: Any) -> Any:
    aws.upload("requirements/arm64/web/requirements.txt", b"x")
    aws.claims[WEB] = Claim("requirements/arm64/web/requirements.txt", True, 0.0, "e", None)
    aws.published[WEB] = [1, 2, 3]
    aws.pointed[WEB] = ARN.format(WEB, 3)
    return aws


def test_a_rollback_moves_the_pointer_and_says_what_moves_it_on(layer: Any, capsys: Any) -> None:
    assert rollback(layer, Screen(), "web", 1) == 0
    assert layer.pointed[WEB] == ARN.format(WEB, 1)
    assert "next build of the file moves it on" in capsys.readouterr().err


def test_a_version_that_is_not_there_is_not_pointed_to(layer: Any) -> None:
    with pytest.raises(CommandError, match="has no version 9"):
        rollback(layer, Screen(), WEB, 9)
    assert layer.pointed[WEB] == ARN.format(WEB, 3)


def test_a_version_that_did_not_pass_is_not_pointed_to(layer: Any) -> None:
    layer.note = {"execution": "e", "after": 1, "code_sha256": "sha-2"}
    with pytest.raises(CommandError, match="not released"):
        rollback(layer, Screen(), WEB, 2)
    assert layer.pointed[WEB] == ARN.format(WEB, 3)
    assert rollback(layer, Screen(), WEB, 1) == 0  # from before that build


def test_a_version_that_others_may_not_use_is_not_pointed_to(layer: Any) -> None:
    layer.shared = {(WEB, 3): {"111122223333", "o-1234567890"}, (WEB, 1): {"111122223333"}}
    with pytest.raises(CommandError, match="not shared with o-1234567890"):
        rollback(layer, Screen(), WEB, 1)
    assert layer.pointed[WEB] == ARN.format(WEB, 3)


def test_a_layer_that_is_being_published_is_left_alone(layer: Any) -> None:
    layer.claims[WEB] = Claim("requirements/arm64/web/requirements.txt", True, time.time() + 60, "e", {})
    for attempt in (lambda: rollback(layer, Screen(), WEB, 1), lambda: release(layer, Screen(), WEB)):
        with pytest.raises(CommandError, match="at this moment") as error:
            attempt()
        assert error.value.status == 75


def test_users_are_told_who_is_behind(layer: Any, capsys: Any) -> None:
    layer.using = [
        UsingFunction("new", {MINE: 3}),
        UsingFunction("old", {"arn:other": 3, MINE: 1}),
        UsingFunction("of-another-account", {MINE.replace("123456789012", "999999999999"): 1}),
    ]
    users(layer, Screen(as_json=True), WEB)
    told = document(capsys.readouterr().out)
    assert told["pointer"] == 3
    assert [(one["function"], one["version"], one["newest"]) for one in told["functions"]] == [
        ("new", 3, True),
        ("old", 1, False),
    ]


def test_a_name_is_released_unless_its_owner_is_being_built(layer: Any) -> None:
    layer.busy = "execution"
    with pytest.raises(CommandError, match="under way"):
        release(layer, Screen(), WEB)
    layer.busy = None
    assert release(layer, Screen(), WEB) == 0
    with pytest.raises(CommandError, match="is free already"):
        release(layer, Screen(), WEB)
    with pytest.raises(CommandError, match="No file has claimed"):
        release(layer, Screen(), "nobodys")


def test_the_list_has_layers_and_files_without_one(layer: Any, capsys: Any) -> None:
    layer.upload("requirements/arm64/bad/requirements.txt", b"FAIL KEY_INVALID")
    layer.claims["old-py313-arm64"] = Claim("requirements/arm64/old/requirements.txt", True, 0.0, "e", None)
    layer.claims["free-py313-arm64"] = Claim(None, True, 0.0, "e", None)
    list_layers(layer, Screen(as_json=True))
    told = document(capsys.readouterr().out)["layers"]
    assert [(one["name"], one["version"], one["status"], one["error"]) for one in told] == [
        ("free-py313-arm64", None, "FREE", None),
        ("old-py313-arm64", None, "GONE", None),
        (WEB, 3, "SUCCEEDED", None),
        (None, None, "FAILED", "KEY_INVALID"),
    ]


def test_a_name_may_be_told_without_its_target(layer: Any) -> None:
    layer.claims["web-py312-arm64"] = Claim("x", True, 0.0, "e", None)
    with pytest.raises(CommandError, match="can be several layers"):
        users(layer, Screen(), "web")
    with pytest.raises(CommandError, match="no layer we") as error:
        users(layer, Screen(), "we")
    assert "Did you mean" in error.value.problem.hint
