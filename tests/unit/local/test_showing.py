import io
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.inputs import example_inputs, file_input
from local.keys import new_key
from local.progress import label, show
from local.results import Result, show_results
from local.terminal import Terminal
from local.up import instructions
from local.watch import STEPS, Progress, Step, Upload, read_history
from tests.execution_history import History

KEY = new_key()
UPLOAD = Upload("box", "requirements/arm64/web/requirements.txt", "v1")


def console(width: int, terminal: bool = False) -> Terminal:
    return Terminal(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)


def text(of: Terminal) -> str:
    return of.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("file", "architecture", "runtime", "key"),
    [
        ("web/requirements.txt", "arm64", None, "requirements/arm64/web/requirements.txt"),
        (
            "web/requirements.txt",
            "x86_64",
            "python3.12",
            "requirements/x86_64/python3.12/web/requirements.txt",
        ),
        ("web/dev-requirements.txt", "arm64", None, "requirements/arm64/web/dev-requirements.txt"),
        ("web/pylock.toml", "arm64", None, "requirements/arm64/web/pylock.toml"),
        ("web/api-pylock.toml", "arm64", None, "requirements/arm64/web/api-pylock.toml"),
        ("stuff/pylock.web.toml", "x86_64", None, "requirements/x86_64/web/pylock.toml"),
        ("stuff/web.txt", "arm64", None, "requirements/arm64/web/requirements.txt"),
        ("stuff/requirements.in", "arm64", None, "requirements/arm64/requirements/requirements.txt"),
    ],
)
def test_a_file_goes_to_a_key_named_after_it(
    tmp_path: Path, file: str, architecture: str, runtime: str | None, key: str
) -> None:
    assert file_input(tmp_path / file, architecture, runtime).key == key


def test_a_file_in_the_current_folder_has_the_folders_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "web").mkdir()
    monkeypatch.chdir(tmp_path / "web")
    assert (
        file_input(Path("requirements.txt"), "arm64", None).key == "requirements/arm64/web/requirements.txt"
    )


def test_the_examples_keys_are_their_places() -> None:
    assert [example.key for example in example_inputs()] == [
        "requirements/arm64/http/requirements.txt",
        "requirements/x86_64/data/requirements.txt",
    ]


def test_the_manifest_stands_beside_the_input() -> None:
    assert UPLOAD.manifest_key == "requirements/arm64/web/manifest.json"
    assert Upload("b", "requirements/arm64/web-requirements.txt", "v").manifest_key.endswith(
        "/web-manifest.json"
    )


def test_a_history_is_read_item_by_item() -> None:
    history = History()
    history.enter("PlanBuild")
    history.leave("PlanBuild")
    started = history.enter(
        "BuildLayers", given='{"targets": [{"id": "py312-arm64"}, {"id": "py313-arm64"}]}'
    )
    first = history.add("MapIterationStarted", started, mapIterationStartedEventDetails={"index": 0})
    second = history.add("MapIterationStarted", started, mapIterationStartedEventDetails={"index": 1})
    first = history.enter("BuildLayer", first)
    second = history.enter("BuildLayer", second)
    submitted = {"taskSubmittedEventDetails": {"output": '{"JobId": "job-2"}'}}
    second = history.add("TaskSubmitted", second, **submitted)
    first = history.add("TaskFailed", first)
    first = history.leave("BuildLayer", first)
    progress = read_history(history.events, lambda job: f"{job} queued")
    assert progress.shared["PlanBuild"] == Step("done", since=1.0, seconds=1.0)
    assert progress.shared["WriteManifest"].state == "waiting"
    assert progress.targets["py312-arm64"]["BuildLayer"].state == "failed"
    assert progress.targets["py313-arm64"]["BuildLayer"] == Step("running", since=7.0, note="job-2 queued")


def test_a_failed_try_that_is_followed_by_another_is_no_failure() -> None:
    history = History()
    history.enter("PlanBuild")
    history.add("TaskScheduled")
    history.add("TaskFailed")
    history.add("TaskScheduled")
    assert read_history(history.events, str).shared["PlanBuild"].state == "running"
    history.leave("PlanBuild")
    assert read_history(history.events, str).shared["PlanBuild"].state == "done"


def states(steps: Sequence[str] = STEPS) -> list[dict[Upload, Progress]]:
    def at(plan: str, build: str, note: str = "") -> dict[Upload, Progress]:
        progress = Progress("RUNNING", 1.0, steps=steps)
        progress.shared["PlanBuild"] = Step(plan, 1.0, 0.5)
        progress.targets = {
            "py313-arm64": {"BuildLayer": Step(build, 2.0, 1.5, note), "PublishLayer": Step()}
        }
        return {UPLOAD: progress}

    return [
        {UPLOAD: Progress(steps=steps)},
        at("running", "waiting"),
        at("done", "running", "queued"),
        at("done", "running", "queued"),
        at("done", "running", "building"),
        at("done", "failed"),
    ]


def test_elsewhere_than_on_a_terminal_each_change_is_one_line() -> None:
    where = console(80)
    last = show(states(), {UPLOAD: time.time()}, where)
    lines = [re.sub(r"^ *\d+\.\d s ", "", line) for line in text(where).splitlines()]
    assert lines == [
        " arm64/web  PlanBuild running",
        " arm64/web  PlanBuild done in 0.5 s",
        " arm64/web  BuildLayer queued",
        " arm64/web  BuildLayer building",
        " arm64/web  BuildLayer failed in 1.5 s",
    ]
    assert last == states()[-1]


@pytest.mark.parametrize(
    ("steps", "heads"),
    [
        (
            ["PlanBuild", "BuildLayer", "PublishLayer", "WriteManifest"],
            ["PlanBuild", "BuildLayer", "PublishLayer", "WriteManifest"],
        ),
        (STEPS, ["Plan", "Resolve", "Build", "Publish", "Try", "Release", "Answer"]),
    ],
)
def test_on_a_terminal_there_is_a_table_that_fits_80_columns(steps: Sequence[str], heads: list[str]) -> None:
    where = console(80, terminal=True)
    show(states(steps), {UPLOAD: time.time()}, where)
    shown = text(where)
    space = " " if heads[0] == "PlanBuild" else ""
    for name in (heads[0], "arm64/web", f"✗ 1.5{space}s", f"✓ 0.5{space}s"):
        assert name in shown
    plain = re.sub(r"\x1b\[[\d;?]*\w", "", shown.replace("\r", "\n"))
    assert {tuple(line.split()) for line in plain.splitlines() if "Upload" in line} == {
        ("Upload", *heads, "Time")
    }
    lines = re.sub(r"\x1b\[[\d;?]*\w", "", shown.replace("\r", "\n")).splitlines()
    assert max(len(line) for line in lines) <= 80


def layer(name: str, **changes: object) -> dict:
    return {
        "layer_name": name,
        "layer_version_arn": f"arn:aws:lambda:us-east-1:123456789012:layer:{name}:1",
        "packages": [{}, {}],
        "zip": {"bytes": 1_100_000, "unzipped_bytes": 3_600_000},
        "warnings": [],
        "error": None,
    } | changes


@given(st.integers(20, 300), st.from_regex(r"[A-Za-z0-9_-]{1,140}", fullmatch=True))
def test_an_arn_can_be_copied_whatever_the_width(width: int, name: str) -> None:
    where = console(width)
    made = layer(name)
    show_results([Result(UPLOAD, {"status": "SUCCEEDED", "layers": [made], "error": None}, 1.0)], where)
    assert made["layer_version_arn"] in text(where)


TRIAL = {"result": "passed", "imports_ms": {"requests": 80.4, "httpx": 1200}, "cold_start_ms": 1410.6}


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_has_what_a_real_function_took(width: int) -> None:
    def shown(*layers: dict) -> str:
        where = console(width)
        show_results([Result(UPLOAD, {"status": "SUCCEEDED", "layers": [*layers]}, 1.0)], where)
        return text(where)

    tried = layer("web", trial=TRIAL)
    untried = layer("old", trial={"result": "not_run", "reason": "There is no python3.14 on this machine."})
    table = shown(tried, untried)
    [head] = [line for line in table.splitlines() if "Packages" in line]
    assert head.split()[-3:] == ["Import", "Cold", "start"]
    [line] = [line for line in table.splitlines() if line.strip().startswith("web ")]
    assert line.split()[-4:] == ["1,280", "ms", "1,411", "ms"]
    assert "! old: not tried: There is no python3.14 on this machine." in table
    assert "data-py313-x86_64 " in shown(layer("data-py313-x86_64", trial=TRIAL))
    [line] = [
        line
        for line in shown(layer("slow", trial=TRIAL | {"cold_start_ms": None})).splitlines()
        if line.strip().startswith("slow ")
    ]
    assert line.split()[-3:] == ["1,280", "ms", "-"]
    assert "Import" not in shown(untried, layer("disabled", trial={"result": "disabled"}), layer("none"))


def test_a_failure_shows_code_message_and_hint_of_each_target() -> None:
    where = console(80)
    error = {
        "code": "RESOLUTION_FAILED",
        "message": "requests has no version 9.",
        "hint": "Take one that exists.",
    }
    failed = layer("web-py313-arm64", layer_version_arn=None, error=error)
    manifest = {"status": "FAILED", "layers": [layer("web-py312-arm64"), failed], "error": error}
    show_results([Result(UPLOAD, manifest, 1.0)], where)
    shown = text(where)
    assert "layer:web-py312-arm64:1" in shown
    assert (
        "web-py313-arm64: RESOLUTION_FAILED\n  requests has no version 9.\n  Take one that exists." in shown
    )


def test_a_failure_before_there_are_targets_shows_too() -> None:
    where = console(80)
    error = {"code": "KEY_INVALID", "message": "No architecture [nope].", "hint": None}
    show_results([Result(UPLOAD, {"status": "FAILED", "layers": [], "error": error}, 1.0)], where)
    assert f"{label(UPLOAD)}: KEY_INVALID\n  No architecture [nope]." in text(where)


def told(machine: dict[str, str]) -> list[str]:
    return [line.plain for line in instructions("http://127.0.0.1:4566", KEY, machine)]


def test_the_key_and_the_endpoint_are_told_once_and_commands_fit_a_line() -> None:
    lines = told({})
    exports = [line for line in lines if line.startswith("export ")]
    assert exports == [
        "export AWS_ENDPOINT_URL=http://127.0.0.1:4566",
        f"export AWS_ACCESS_KEY_ID={KEY.id}",
        f"export AWS_SECRET_ACCESS_KEY={KEY.secret}",
        "export AWS_DEFAULT_REGION=us-east-1 AWS_REGION=us-east-1",
        f'export PATH="$PATH":{shlex.quote(str(Path(sys.executable).parent))}',
    ]
    commands = [line for line in lines if line.startswith(("layerdrop ", "aws "))]
    assert len(commands) == 4
    assert all(len(command) <= 80 and KEY.secret not in command for command in commands)


def test_where_the_catalogue_is_is_told_if_it_is_there() -> None:
    address = "http://127.0.0.1:4566/layerdrop-local/catalogue/index.html?X-Amz-Signature=0"
    lines = [line.plain for line in instructions("http://127.0.0.1:4566", KEY, {}, address)]
    assert lines[lines.index(address) - 1].startswith("\nAll layers as a page")
    assert not [line for line in told({}) if "page" in line]


def test_a_proxy_is_passed_by_and_the_shells_own_exceptions_stay() -> None:
    assert "export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost" in told({"http_proxy": "p"})
    [line] = [line for line in told({"HTTP_PROXY": "p", "NO_PROXY": "a b,intranet"}) if "NO_PROXY" in line]
    assert (
        line
        == "export NO_PROXY='a b,intranet,127.0.0.1,localhost' no_proxy='a b,intranet,127.0.0.1,localhost'"
    )


@pytest.mark.attack("uploader, package or index: steers the terminal of make demo and make up")
@pytest.mark.parametrize("terminal", [False, True], ids=["lines", "table"])
def test_nothing_that_is_shown_is_obeyed(terminal: bool) -> None:
    said = "said \x1b]52;c;ZXZpbA==\x07 \x9b31m \x7f \u202e \u2066 \ud800\r \b\v"
    seen = ("\x1b]52", "\x07", "\x9b", "\x7f", "\u202e", "\u2066", "\ud800", "\b", "\v")
    where = console(200, terminal)
    upload = Upload("box", f"requirements/arm64/{said}/requirements.txt", "v1")
    show([{upload: Progress("SUCCEEDED", finished=1.0)}], {upload: 0.0}, where)
    error = {"code": said, "message": said, "hint": said}
    bad = layer(f"web-{said}", layer_version_arn=None, error=error)
    good = layer(f"good-{said}", warnings=[said])
    show_results([Result(upload, {"status": "FAILED", "layers": [bad, good], "error": error}, 1.0)], where)
    where.print(said)
    shown = text(where)
    assert [one for one in seen if one in shown] == []
    assert r"\x1b]52;c;ZXZpbA==" in shown
    assert r"\u202e" in shown
