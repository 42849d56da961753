"""Trials of layers in throw-away functions: what becomes of them, and that nothing stays."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import EndpointConnectionError

from layerdrop import trial_answer, trial_function
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.trying import TrialNotPossibleError, code

from .trials import ARN, ROLE, TARGET, Lambda, a_trial, refusal, wanted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def service(tmp_path: Path) -> Lambda:
    """Lambda, with a layer of some modules."""
    layer = tmp_path / "opt/python"
    layer.mkdir(parents=True)
    (tmp_path / "task").mkdir()
    for name, text in {
        "good": "print('hello')",
        "better": "import good",
        "bad": "import nowhere",
        "worse": "raise RuntimeError('a\\x1b[31mb')",
        "native": "raise OSError(\"cannot load library 'libvips.so.42': error 0x7e\")",
        "quits": "import os; os._exit(7)",
        "leaves": "raise SystemExit",
    }.items():
        (layer / f"{name}.py").write_text(f"{text}\n")
    return Lambda(layer)


def refused(service: Lambda, *essential: str, **more: object) -> BuildError:
    with pytest.raises(BuildError) as caught:
        a_trial(service).run(replace(TARGET, **more), ARN, wanted(*essential))  # type: ignore[arg-type]
    assert service.functions == {}
    return caught.value


def test_a_layer_that_passes_tells_what_it_takes(service: Lambda) -> None:
    trial = a_trial(service).run(TARGET, ARN, wanted("good", "better"))
    assert trial.result == "passed"
    assert list(trial.imports_ms) == ["good", "better"]
    assert trial.cold_start_ms == pytest.approx(120.5 + sum(trial.imports_ms.values()))
    assert trial.memory_mb == 85
    assert service.functions == {}
    assert service.calls == [
        "create_function",
        "get_function_configuration",
        "get_function_configuration",
        "invoke",
        "delete_function",
    ]


def test_the_function_is_of_the_layer_s_kind_and_may_nothing(service: Lambda) -> None:
    seen = {}
    service.after = lambda name: seen.update(service.functions) if name == "create_function" else None
    a_trial(service).run(TARGET, ARN, wanted("good"))
    ((name, function),) = seen.items()
    assert name.startswith("layerdrop-try-")
    assert len(name) <= 64
    assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])
    assert (function["Layers"], function["Role"]) == ([ARN], ROLE)
    assert (function["MemorySize"], function["Timeout"]) == (1024, 120)
    assert not function.keys() & {"VpcConfig", "Environment", "FileSystemConfigs"}
    assert len(function["Description"]) <= 256


def test_imports_are_tried_with_a_wrappers_pythonpath_where_that_makes_a_difference(service: Lambda) -> None:
    for name in ("vendored", "elsewhere"):
        (service.layer / name).mkdir()
    (service.layer / "vendored/inside.py").write_text("")
    (service.layer / "needy.py").write_text("import inside\n")
    (service.layer / "vendored.pth").write_text("vendored\n")
    run = a_trial(service).run
    made = []
    service.after = lambda name: made.extend(service.functions) if name == "create_function" else None
    trial = run(TARGET, ARN, wanted("good", "needy", others=("bad",)), differs=True)
    assert (trial.result, trial.with_pythonpath, list(trial.imports_ms)) == (
        "passed",
        "failed",
        ["good", "needy"],
    )
    first, second = trial.warnings
    assert "import bad" in first
    assert second.startswith("app: `import needy` fails where PYTHONPATH is /var/runtime:/opt/python, as")
    # Two functions, each of a name of its own, and of a form that is swept.
    assert (len(set(made)), service.functions) == (2, {})
    assert len({len(name) for name in made}) == 1
    assert run(TARGET, ARN, wanted("good"), differs=True).with_pythonpath == "passed"
    # Who makes no difference is not tried again, and of whom nothing is known nothing is said.
    made.clear()
    assert run(TARGET, ARN, wanted("needy"), differs=False).to_json()["with_pythonpath"] == "same"
    assert "with_pythonpath" not in run(TARGET, ARN, wanted("needy")).to_json()
    assert len(set(made)) == 1


def test_other_layers_that_the_settings_name_are_beside_it(service: Lambda) -> None:
    """A layer may leave out what they have: alone it could not be imported."""
    other = "arn:aws:lambda:us-east-1:999988887777:layer:numpy-py313-arm64:3"
    seen = []
    service.after = lambda _: seen.extend(service.functions.values())
    a_trial(service).run(replace(TARGET, alongside=(other,)), ARN, wanted("good"))
    assert seen[0]["Layers"] == [other, ARN]


def test_a_module_that_lacks_what_is_excluded_says_nothing_of_the_layer(service: Lambda) -> None:
    """The function's own code may bring it; what lacks anything else fails all the same."""
    (service.layer / "web.py").write_text("import the_sdk.client\n")
    (service.layer / "both.py").write_text(
        "try:\n    import the_sdk\nexcept ImportError:\n    import other\n"
    )
    (service.layer / "bad.py").write_text("import other\n")
    target = replace(TARGET, exclude=("The.SDK",))
    trial = a_trial(service).run(target, ARN, wanted("web", "both"))
    assert (trial.result, service.functions) == ("not_run", {})
    assert trial.reason.startswith(
        "web needs the_sdk, which is excluded and in no layer that alongside names"
    )
    for error in (refused(service, "web", "bad", exclude=("The.SDK",)), refused(service, "web")):
        assert error.problem.code == ErrorCode.IMPORT_FAILED


def test_more_libraries_than_a_job_s_command_takes_are_not_added(service: Lambda) -> None:
    known = tuple(f"--needed-library=lib{'x' * 90}{number}.so.1" for number in range(10))
    problem = refused(service, "native", job=replace(TARGET.job, command=known)).problem
    assert problem.code == ErrorCode.IMPORT_FAILED


def test_a_name_is_one_trial_s_alone() -> None:
    trial = a_trial(None)
    others = [
        (replace(TARGET, staging="builds/web-2/py313-arm64/secret/"), ARN),
        (replace(TARGET, layer_name="other-py313-arm64"), ARN),
        (TARGET, ARN.removesuffix("7") + "8"),
    ]
    names = {trial.name(target, arn) for target, arn in [(TARGET, ARN), *others]}
    assert len(names) == 4
    assert trial.name(TARGET, ARN) in names
    long = replace(trial, prefix="l" * 50 + "-try-")
    assert len(long.name(TARGET, ARN)) == 64


def test_the_code_is_the_same_each_time() -> None:
    assert code() == code()
    assert len(code()) < 4096


def test_the_code_is_for_the_oldest_runtime_and_needs_nothing(tmp_path: Path) -> None:
    """It may be read by a Python that has no site-packages at all."""
    (tmp_path / "function.zip").write_bytes(code())
    text = "import sys; sys.path[:0] = sys.argv[1:]; import layerdrop_trial as t; print(t.handler.__name__)"
    command = [sys.executable, "-I", "-S", "-c", text, str(tmp_path / "function.zip")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "handler\n"


@pytest.mark.parametrize(
    ("module", "message", "hint"),
    [
        ("bad", "No module named 'nowhere' (bad.py:1)", "Add the package that has the module nowhere"),
        ("worse", "RuntimeError: a\\x1b[31mb (worse.py:1)", "output in the details"),
        ("quits", "Runtime.ExitError: Runtime exited with error: exit status 1", "output in the details"),
        ("leaves", "SystemExit", "output in the details"),
    ],
)
def test_what_fails_is_told_in_the_function_s_words(
    service: Lambda, module: str, message: str, hint: str
) -> None:
    problem = refused(service, "good", module).problem
    assert problem.code == ErrorCode.IMPORT_FAILED
    assert f"app: `import {module}` fails in a python3.13 function: " in problem.message
    assert message in problem.message
    assert hint in problem.hint
    assert problem.details["failures"][0]["module"] == module


def test_what_the_builder_knows_of_a_package_is_its_hint(service: Lambda) -> None:
    with pytest.raises(BuildError) as caught:
        a_trial(service).run(TARGET, ARN, wanted("bad", advice="Take another."))
    assert caught.value.problem.hint == "Take another."


def test_missing_libraries_that_may_be_added_are_named(service: Lambda) -> None:
    trial = a_trial(service).run(TARGET, ARN, wanted("native"))
    assert (trial.result, trial.libraries) == ("needs_libraries", ("libvips.so.42",))
    assert service.functions == {}


def test_missing_libraries_are_an_error_where_they_are_to_be_or_cannot_help(service: Lambda) -> None:
    assert "libvips.so.42" in refused(service, "native", bundles=False).problem.hint
    assert refused(service, "native", round=5).problem.code == ErrorCode.IMPORT_FAILED
    there = replace(TARGET.job, command=("--needed-library=libvips.so.42",))
    assert refused(service, "native", job=there).problem.code == ErrorCode.IMPORT_FAILED


@pytest.mark.parametrize("other", ["bad", "quits"])
def test_what_people_may_do_without_is_a_warning(service: Lambda, other: str) -> None:
    """Also if it ends the process: then the others are tried once more without it."""
    trial = a_trial(service).run(TARGET, ARN, wanted("good", others=(other, "better")))
    assert trial.result == "passed"
    assert "good" in trial.imports_ms
    (warning,) = trial.warnings
    assert f"app: `import {other}` fails" in warning
    assert service.functions == {}


def test_what_ends_the_function_and_is_not_needed_is_a_warning_whatever_the_log_says(service: Lambda) -> None:
    """The end of the log is all there is, and has no room for the line that names it."""
    (service.layer / "noisy.py").write_text("print('x' * 9000, flush=True)\nimport os\nos._exit(7)\n")
    trial = a_trial(service).run(TARGET, ARN, wanted("good", others=("noisy", "better")))
    assert (trial.result, list(trial.imports_ms)) == ("passed", ["good"])
    (warning,) = trial.warnings
    assert "`import noisy` fails: Runtime.ExitError" in warning


def test_the_module_that_ends_the_function_is_named_after_an_open_line(service: Lambda) -> None:
    (service.layer / "open.py").write_text("print('loading ', end='', flush=True)\n")
    problem = refused(service, "open", "quits", "good").problem
    assert "`import quits` fails" in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "import sys; sys.stdout.close()",
        # As is done for Windows; when the second wrapper goes, it closes what the others write to.
        "import io, sys; sys.stdout = io.TextIOWrapper(sys.stdout.buffer); sys.stdout = sys.__stdout__",
        "import sys; sys.stdout = None",
    ],
)
def test_a_module_that_closes_what_is_printed_to_has_been_imported(service: Lambda, text: str) -> None:
    (service.layer / "closing.py").write_text(f"{text}\n")
    trial = a_trial(service).run(TARGET, ARN, wanted("closing", "json"))
    assert list(trial.imports_ms) == ["closing", "json"]


def test_what_the_function_answers_can_be_sent_as_utf_8(
    service: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the runtimes from python3.12 on do it."""
    (service.layer / "surrogate.py").write_text("raise ImportError('\\udcff')\n")
    (service.layer / "missing.py").write_text("raise ModuleNotFoundError(name='\\udcff')\n")
    monkeypatch.syspath_prepend(service.layer)
    modules = ["surrogate", "missing"]
    answer = trial_function.handler({"modules": modules, "mark": "mark"}, None)
    sent = json.dumps(answer, ensure_ascii=False).encode()
    read = trial_answer.read(sent, b"", modules, "mark", is_error=False)
    assert read.failed["surrogate"].text == "\\udcff"
    assert read.failed["missing"].missing == "\\udcff"


def test_without_modules_there_is_no_function(service: Lambda) -> None:
    trial = a_trial(service).run(TARGET, ARN, wanted())
    assert (trial.result, trial.reason) == ("not_run", "the required packages have no modules")
    assert service.calls == []


def test_a_runtime_that_lambda_has_not_says_nothing_of_the_layer(service: Lambda) -> None:
    reason = "There is no python3.13 for arm64 here."
    service.state = {"State": "Failed", "StateReasonCode": "InvalidRuntime", "StateReason": reason}
    trial = a_trial(service).run(TARGET, ARN, wanted("good"))
    assert (trial.result, trial.reason) == ("not_run", reason)
    assert service.functions == {}


def failing(error: Exception, operation: str, times: int = 10**6):
    left = [times]

    def fail(name: str) -> None:
        if name == operation and left[0]:
            left[0] -= 1
            raise error

    return fail


def test_a_runtime_that_is_refused_says_nothing_of_the_layer(service: Lambda) -> None:
    said = "The runtime parameter of python3.13 is no longer supported for creating functions."
    service.before = failing(refusal("InvalidParameterValueException", said), "create_function")
    trial = a_trial(service).run(TARGET, ARN, wanted("good"))
    assert (trial.result, trial.reason) == ("not_run", said)


@pytest.mark.parametrize(
    "said",
    [
        "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes.",
        # A layer may be called so, and does not pass for that.
        f"Layer version {ARN.replace('web', 'runtime')} does not exist.",
        "Two different versions of the same layer are not allowed to be referenced in the same function. "
        f"{ARN.replace('web', 'my-Runtime')} and {ARN.replace('web', 'my-Runtime')}1",
    ],
)
def test_a_layer_that_lambda_gives_to_no_function_is_refused(service: Lambda, said: str) -> None:
    service.before = failing(refusal("InvalidParameterValueException", said), "create_function")
    problem = refused(service, "good").problem
    assert problem.code == ErrorCode.PUBLISH_REFUSED
    assert said.rstrip(".") in problem.message


def test_a_layer_that_lambda_cannot_unzip_is_refused_at_once(service: Lambda) -> None:
    """Found out when the function is made ready, or when it is invoked: it would be another time, too."""
    said = "Could not unzip the layers."
    service.state = {"State": "Failed", "StateReasonCode": "InvalidZipFileException", "StateReason": said}
    found = [refused(service, "good").problem]
    service.state = {"State": "Active"}
    service.before = failing(refusal("InvalidZipFileException", said), "invoke")
    found.append(refused(service, "good").problem)
    for problem in found:
        assert problem.code == ErrorCode.PUBLISH_REFUSED
        assert said.rstrip(".") in problem.message


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("create_function", refusal("TooManyRequestsException", "Rate exceeded")),
        ("create_function", refusal("CodeStorageExceededException", "Code storage limit exceeded.")),
        (
            "create_function",
            refusal(
                "InvalidParameterValueException",
                "The role defined for the function cannot be assumed by Lambda.",
            ),
        ),
        (
            "create_function",
            refusal("AccessDeniedException", "Forbidden with an explicit deny in a service control policy"),
        ),
        ("get_function_configuration", refusal("TooManyRequestsException", "Rate exceeded")),
        ("invoke", refusal("TooManyRequestsException", "Rate exceeded")),
        ("invoke", refusal("ResourceConflictException", "The function is currently Pending")),
    ],
)
def test_full_and_busy_accounts_are_waited_for(service: Lambda, operation: str, error: Exception) -> None:
    service.before = failing(error, operation, times=1)
    with pytest.raises(TrialNotPossibleError, match=str(error).rpartition(": ")[2]):
        a_trial(service).run(TARGET, ARN, wanted("good"))
    assert service.functions == {}
    assert a_trial(service).run(TARGET, ARN, wanted("good")).result == "passed"


def test_a_function_stuck_in_pending_is_deleted_and_said(service: Lambda) -> None:
    service.pending = 10**6
    with pytest.raises(TrialNotPossibleError, match=r"does not become active .state Pending, code Creating"):
        a_trial(service).run(TARGET, ARN, wanted("good"))
    assert service.functions == {}
    assert len(service.calls) < 100, "it is not asked all the time"


def test_a_function_that_failed_is_deleted_and_said(service: Lambda) -> None:
    service.state = {"State": "Failed", "StateReasonCode": "InternalError", "StateReason": "Sorry."}
    with pytest.raises(TrialNotPossibleError, match=r"InternalError.: Sorry"):
        a_trial(service).run(TARGET, ARN, wanted("good"))
    assert service.functions == {}


def test_a_function_that_is_not_deleted_is_no_trial(service: Lambda) -> None:
    """Whatever it said, it would stay; so all is done once more."""
    service.before = failing(EndpointConnectionError(endpoint_url="x"), "delete_function", times=1)
    with pytest.raises(TrialNotPossibleError, match="cannot be deleted"):
        a_trial(service).run(TARGET, ARN, wanted("good"))
    assert a_trial(service).run(TARGET, ARN, wanted("good")).result == "passed"
    assert service.functions == {}


class Killed(BaseException):
    """The process that tries the layer dies: nothing that it would do at its end is done."""


@pytest.mark.parametrize("differs", [False, True])
def test_killed_after_any_call_a_second_try_leaves_nothing(service: Lambda, differs: bool) -> None:
    a_trial(service).run(TARGET, ARN, wanted("good"), differs=differs)
    calls = len(service.calls)
    assert calls == (10 if differs else 5)
    for last in range(1, calls + 1):
        left, dead = [last], [False]

        def die(_: str, left: list[int] = left, dead: list[bool] = dead) -> None:
            left[0] -= 1
            if left[0] == 0 or dead[0]:
                dead[0] = True
                raise Killed

        def never_again(_: str, dead: list[bool] = dead) -> None:
            if dead[0]:
                raise Killed

        service.after, service.before = die, never_again
        with pytest.raises(Killed):
            a_trial(service).run(TARGET, ARN, wanted("good"), differs=differs)
        assert bool(service.functions) == (last % 5 != 0)
        service.after = service.before = lambda _: None
        trial = a_trial(service).run(TARGET, ARN, wanted("good"), differs=differs)
        assert trial.result == "passed"
        assert trial.cold_start_ms is not None, "in a function that was never invoked before"
        assert service.functions == {}


def a_function(service: Lambda, name: str, age: timedelta) -> None:
    modified = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    service.functions[name] = {"FunctionName": name, "LastModified": modified}


def test_what_is_left_is_swept_and_nothing_else(service: Lambda) -> None:
    a_function(service, a_trial(service).name(TARGET, ARN), timedelta(hours=2))
    a_function(service, "layerdrop-try-0123456789abcdef", timedelta(minutes=10))
    a_function(service, "layerdrop-PlanBuild", timedelta(days=9))
    a_function(service, "other-try-0123456789abcdef", timedelta(days=9))
    assert a_trial(service).sweep(datetime.now(UTC)) == [a_trial(service).name(TARGET, ARN)]
    assert sorted(service.functions) == [
        "layerdrop-PlanBuild",
        "layerdrop-try-0123456789abcdef",
        "other-try-0123456789abcdef",
    ]


def test_a_stack_called_as_our_functions_begin_keeps_its_own(service: Lambda) -> None:
    """Stacks layerdrop and layerdrop-try-2, as somebody would call one to try it: names are all there is."""
    others = ("layerdrop-try-2-WriteManifest", "layerdrop-try-2-PlanBuild-1A2b3C4d", "layerdrop-try-2-try-ab")
    for name in others:
        a_function(service, name, timedelta(days=9))
    assert a_trial(service).sweep(datetime.now(UTC)) == []
    assert sorted(service.functions) == sorted(others)


def test_one_that_cannot_be_deleted_keeps_no_other(service: Lambda) -> None:
    """And the sweep says so: it fails, which the dashboard shows, and comes again."""
    for name in ("layerdrop-try-aa", "layerdrop-try-bb", "layerdrop-try-cc"):
        a_function(service, name, timedelta(hours=2))
    said = "The function is currently in the following state: Pending"
    service.before = failing(refusal("ResourceConflictException", said), "delete_function", times=1)
    with pytest.raises(TrialNotPossibleError, match=r"layerdrop-try-aa cannot be deleted: .*Pending"):
        a_trial(service).sweep(datetime.now(UTC))
    assert list(service.functions) == ["layerdrop-try-aa"]
