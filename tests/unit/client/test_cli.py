import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from layerdrop_client import cli
from layerdrop_client.following import StillBuildingError
from layerdrop_client.place import Place
from layerdrop_client.problems import CommandError

AWAY = ["--region", "eu-west-1", "--endpoint-url", "http://127.0.0.1:1"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAYERDROP_STACK", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("signal.signal", lambda *_: None)


def place(*arguments: str) -> Place:
    return cli._place(cli._options(arguments))


@pytest.mark.parametrize(
    "arguments", [[*AWAY, "--stack=s", "list"], ["list", *AWAY, "--stack=s"], [*AWAY, "list", "--stack", "s"]]
)
def test_options_may_stand_before_the_command_and_after_it(arguments: list[str]) -> None:
    found = place(*arguments)
    assert (found.stack, found.region, found.endpoint_url) == ("s", "eu-west-1", "http://127.0.0.1:1")
    assert cli._options(["drop", "file", *AWAY, "arm64/web"]).key == "arm64/web"
    assert cli._options(["watch", "a", *AWAY, "b"]).keys == ["a", "b"]
    assert found.command("watch", "arm64/a b") == (
        "layerdrop --stack=s --region=eu-west-1 --endpoint-url=http://127.0.0.1:1 watch 'arm64/a b'"
    )


def test_the_stack_is_the_options_then_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place("list").stack == "layerdrop"
    monkeypatch.setenv("LAYERDROP_STACK", "mine")
    assert place("list").stack == "mine"
    assert place("list", "--stack", "other").stack == "other"
    assert place("list").command("list") == "layerdrop list"


def test_whether_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli._patience(cli._options(["watch"])).waits
    assert not cli._patience(cli._options(["--no-wait", "watch"])).waits
    assert cli._patience(cli._options(["watch", "--timeout", "5"])).seconds == 300


def refused(code: str) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(answer, "GetObject")


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (CommandError("FILE_NOT_FOUND", "no", "hint"), "FILE_NOT_FOUND", 2),
        (CommandError("BUSY", "no", status=75), "BUSY", 75),
        (NoCredentialsError(), "SIGNED_OUT", 2),
        (refused("ExpiredToken"), "SIGNED_OUT", 2),
        (refused("AccessDenied"), "ACCESS_DENIED", 2),
        (refused("ThrottlingException"), "AWS_REFUSED", 75),
        (EndpointConnectionError(endpoint_url="http://x"), "AWS_UNREACHABLE", 75),
        (ZeroDivisionError("x"), "INTERNAL", 70),
        (StillBuildingError(["requirements/arm64/web/requirements.txt"], 130), "STILL_BUILDING", 130),
    ],
)
def test_what_fails_is_told_and_has_its_status(
    error: Exception,
    code: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setitem(cli._COMMANDS, "list", fail)
    assert cli.main(["list", "--output", "json"]) == status
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "layerdrop/client/error/1"
    assert told["error"]["code"] == code


def test_who_will_not_wait_is_told_how_to_watch_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise StillBuildingError(["requirements/arm64/web/requirements.txt"], 130)

    monkeypatch.setitem(cli._COMMANDS, "watch", interrupted)
    assert cli.main(["watch", "--stack", "mine"]) == 130
    assert (
        "the build goes on.\nhint: Watch again: layerdrop --stack=mine watch arm64/web\n"
        in capsys.readouterr().err
    )


def test_what_cannot_be_asked_for_is_the_users_mistake() -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(["drop"])
    assert error.value.code == 2


def test_a_check_needs_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("layerdrop_client.builder.sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "requirements.txt").write_text("idna\n")
    assert cli.main(["check", str(tmp_path / "requirements.txt")]) == 2
    assert "pip install ./container" in capsys.readouterr().err


def test_a_mistake_that_needs_no_aws_is_told_without(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "requirements.txt").write_text("x")
    command = ["drop", str(tmp_path / "requirements.txt"), "--region", "eu-west-1"]
    for more, said in ([], "does not say what it is built for"), (["amd64/web"], 'did you mean "x86_64"'):
        assert cli.main([*command, *more]) == 2
        assert said in capsys.readouterr().err
