"""Answers of functions in which others' code ran: nothing but the right form counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdrop.errors import BuildError, ErrorCode
from layerdrop.trial import Modules, Trial, TrialRecords, judge, modules
from layerdrop.trial_answer import Answer, read
from tests.unit.functions.trials import TARGET, wanted

REPORT = (
    "REPORT RequestId: 1\tDuration: 9.10 ms\tBilled Duration: 10 ms\tMemory Size: 1024 MB\t"
    "Max Memory Used: 85 MB\tInit Duration: 120.50 ms\t\n"
)


def answered(document: object, log: str = REPORT, names: tuple[str, ...] = ("a", "b")) -> Answer:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read(payload, log.encode(), names, "mark", is_error=False)


def imported(**ms: object) -> dict[str, Any]:
    return {"modules": [{"module": name, "ms": value} for name, value in ms.items()]}


def test_a_good_answer() -> None:
    answer = answered(imported(a=1.5, b=2))
    assert (answer.imported, answer.failed, answer.ended) == ({"a": 1.5, "b": 2.0}, {}, "")
    assert (answer.init_ms, answer.memory_mb) == (120.5, 85)


GARBAGE = {
    "nothing": b"",
    "no JSON": b"\xff\xfe",
    "half of it": b'{"modules": [',
    "deep": b"[" * 100_000,
    "a number of many digits": b'{"modules": ' + b"9" * 9999 + b"}",
    "a text": "passed",
    "a list": ["a", "b"],
    "too much": {"modules": [{"module": "a", "ms": 1}, {"module": "b", "ms": 1}], "x": "x" * (6 << 20)},
    "negative": imported(a=-1, b=1),
    "endless": b'{"modules": [{"module": "a", "ms": Infinity}, {"module": "b", "ms": 1}]}',
    "not a number": b'{"modules": [{"module": "a", "ms": NaN}, {"module": "b", "ms": 1}]}',
    "true": imported(a=True, b=1),
    "as long as no function runs": imported(a=1e9, b=1),
    "a text for a number": imported(a="1", b=1),
    "more than there is": {"modules": [{"module": "a", "ms": 1, "x": 1}, {"module": "b", "ms": 1}]},
    "an error of another form": {
        "modules": [{"module": "a", "error": {"type": 1}}, {"module": "b", "ms": 1}]
    },
    "others' modules": imported(c=1, d=2),
    "only one": imported(b=1),
}


@pytest.mark.attack("code of a package answers in the function's place")
@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_answer_has_not_passed(kind: str) -> None:
    with pytest.raises(BuildError) as caught:
        judge(TARGET, wanted("a", "b"), answered(GARBAGE[kind]))
    assert caught.value.problem.code == ErrorCode.IMPORT_FAILED
    assert "`import a` fails" in caught.value.problem.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["module", "ms", "error"]), inner)
    ),
    max_leaves=20,
)


@given(payload=st.binary() | JSON.map(lambda value: json.dumps({"modules": value}).encode()), log=st.binary())
def test_whatever_comes_is_judged(payload: bytes, log: bytes) -> None:
    """Never an exception of another kind; and nothing passes of which it was not said."""
    for is_error in (False, True):
        answer = read(payload, log, ("a",), "mark", is_error=is_error)
        try:
            trial = judge(TARGET, wanted("a"), answer)
        except BuildError as error:
            assert error.problem.code == ErrorCode.IMPORT_FAILED
        else:
            assert trial.result == "passed"
            assert "a" in trial.imports_ms


@pytest.mark.attack("code of a package steers the terminal by its trial")
def test_what_a_terminal_obeys_is_shown() -> None:
    error = {
        "type": "E\x1b]0;x\x07",
        "text": "\u202edetartsni\r\n",
        "causes": ["\x9b"],
        "file": "\x1bc",
        "line": 7,
    }
    answer = answered(
        {"modules": [{"module": "a", "error": error}, {"module": "b", "ms": 1}]}, "\x1b[2J" + REPORT
    )
    with pytest.raises(BuildError) as caught:
        judge(TARGET, wanted("a", "b"), answer)
    told = json.dumps(caught.value.problem.to_json(), ensure_ascii=False)
    assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(told)
    assert "\\\\u202edetartsni" in told


@pytest.mark.attack("code of a package prints a better report than Lambda's")
def test_the_last_report_is_lambda_s() -> None:
    forged = "REPORT RequestId: 1\tMax Memory Used: 1 MB\tInit Duration: 0.01 ms\t\n"
    answer = answered(imported(a=1, b=1), f"START\n{forged}END\n{REPORT}")
    assert (answer.init_ms, answer.memory_mb) == (120.5, 85)
    huge = answered(imported(a=1, b=1), f"REPORT RequestId: 1\tMax Memory Used: {'9' * 9} MB\t\n")
    assert (huge.init_ms, huge.memory_mb) == (None, 10_240)


def test_without_lambda_s_report_numbers_are_unknown() -> None:
    trial = judge(TARGET, wanted("a"), answered(imported(a=1.0), log="", names=("a",)))
    assert (trial.imports_ms, trial.cold_start_ms, trial.memory_mb) == ({"a": 1.0}, None, None)


# As Lambda words them.
ENDS = {
    "Runtime.ExitError: Runtime exited with error: signal: segmentation fault": {
        "errorType": "Runtime.ExitError",
        "errorMessage": "RequestId: 01234567-89ab-cdef-0123-456789abcdef Error: Runtime exited with error: "
        "signal: segmentation fault",
    },
    "Sandbox.Timedout: Task timed out after 120.00 seconds": {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: 01234567-89ab-cdef-0123-456789abcdef Error: "
        "Task timed out after 120.00 seconds",
    },
    "Task timed out after 120.00 seconds": {
        "errorMessage": "2026-11-21T10:00:00.123Z 01234567-89ab-cdef-0123-456789abcdef "
        "Task timed out after 120.00 seconds"
    },
    "Runtime.ImportModuleError: Unable to import module": {
        "errorType": "Runtime.ImportModuleError",
        "errorMessage": "Unable to import module 'layerdrop_trial': cannot import name 'x' from 'json'",
        "requestId": "",
        "stackTrace": [],
    },
}


@pytest.mark.parametrize("words", ENDS)
def test_a_function_s_end_is_told_in_lambda_s_words(words: str) -> None:
    log = f"START RequestId: 1\nmark a\nmark b\nsomething\nEND RequestId: 1\n{REPORT}".encode()
    answer = read(json.dumps(ENDS[words]).encode(), log, ("a", "b"), "mark", is_error=True)
    assert answer.at == "b"
    with pytest.raises(BuildError) as caught:
        judge(TARGET, wanted("a", "b"), answer)
    assert f"`import b` fails in a python3.13 function: {words}" in caught.value.problem.message
    hint = caught.value.problem.hint
    assert ("120 seconds" in hint) == ("timed out" in words)


def test_what_wants_a_home_is_told_the_variable_that_moves_it() -> None:
    error = {
        "type": "OSError",
        "text": "[Errno 30] Read-only file system: '/home/sbx_user1051'",
        "causes": [],
        "file": "mem0/memory/setup.py",
        "line": 8,
    }
    document = {"modules": [{"module": "a", "error": error}, {"module": "b", "ms": 1}]}
    with pytest.raises(BuildError) as caught:
        judge(TARGET, wanted("a", "b"), answered(document))
    assert caught.value.problem.code == ErrorCode.IMPORT_FAILED
    assert "MEM0_DIR=/tmp" in caught.value.problem.hint


def test_memory_has_a_hint_of_its_own() -> None:
    said = {"errorType": "Runtime.ExitError", "errorMessage": "Runtime exited with error: signal: killed"}
    with pytest.raises(BuildError) as caught:
        judge(TARGET, wanted("a"), read(json.dumps(said).encode(), b"", ("a",), "mark", is_error=True))
    assert "1,024 MB" in caught.value.problem.hint


# --------------------------------------------------------------------------------------------- what to import


def checks(*packages: object) -> dict[str, Any]:
    return {"imports": {"status": "not_run", "reason": "x", "packages": list(packages)}}


PACKAGE = {"package": "app", "essential": ["app", "app2.sub"], "others": ["more"], "advice": ""}


def test_modules_are_read_from_the_report() -> None:
    assert modules(checks(PACKAGE)) == (Modules("app", ("app", "app2.sub"), ("more",)),)
    assert modules(checks(PACKAGE, "12 more")) == modules(checks(PACKAGE))
    assert modules({}) == modules({"imports": {"status": "not_run"}}) == ()


@pytest.mark.attack("a job's report has the function import what is no module")
@pytest.mark.parametrize(
    "change",
    [
        {"essential": ["os; evil()"]},
        {"essential": ["../evil"]},
        {"essential": ["a" * 201]},
        {"essential": "app"},
        {"essential": [7]},
        {"others": ["\u0430pp"]},
        {"package": "App\n"},
        {"package": "a" * 201},
        {"package": 7},
        {"others": [f"m{number}" for number in range(5001)]},
    ],
    ids=repr,
)
def test_what_is_no_module_is_refused(change: dict[str, Any]) -> None:
    if change == {"essential": "app"}:
        assert modules(checks(PACKAGE | change)) == (Modules("app", ("a", "p"), ("more",)),)
        return
    with pytest.raises(BuildError) as caught:
        modules(checks(PACKAGE | change))
    assert caught.value.problem.code == ErrorCode.REPORT_INVALID


def test_what_travels_is_short_however_many_modules_there_are() -> None:
    names = tuple(f"module_{number:04}_{'x' * 150}" for number in range(4000))
    error = {"type": "E", "text": "ü" * 1000, "causes": ["c" * 1000] * 5}
    answers = [{"module": name, "ms": index} for index, name in enumerate(names[:2000])]
    answers += [{"module": name, "error": error} for name in names[2000:2060]]
    answer = answered({"modules": answers}, names=names[:2060])
    trial = judge(TARGET, wanted(*names[:2000], others=names[2000:2060]), answer)
    assert len(json.dumps(trial.to_json())) < 40_000
    assert next(iter(trial.imports_ms)) == names[1999], "the longest are told"


# ------------------------------------------------------------------------------------------------- remembered


def test_a_version_that_passed_is_not_tried_again(account: Any) -> None:
    records = TrialRecords(account.s3, account.bucket)
    trial = Trial("passed", "", {"a": 1.0}, 100.0, 85, ("one",))
    records.keep("web-py313-arm64", 7, wanted("a", others=("b",)), (), trial)
    assert records.find("web-py313-arm64", 7, wanted("a"), ()) == trial
    assert records.find("web-py313-arm64", 8, wanted("a"), ()) is None
    assert records.find("web-py313-arm64", 7, wanted("a", "c"), ()) is None, "with another module it is"


@pytest.mark.parametrize("now", [(), ("arn:2",), ("arn:2", "arn:1"), ("arn:1", "arn:2", "arn:3")], ids=repr)
def test_a_version_that_passed_beside_other_layers_is_tried_again(account: Any, now: tuple[str, ...]) -> None:
    """They may have had what it lacks, and are no part of its bytes: the version is the same."""
    records = TrialRecords(account.s3, account.bucket)
    trial = Trial("passed", "", {"a": 1.0}, 100.0, 85)
    records.keep("web-py313-arm64", 7, wanted("a"), ("arn:1", "arn:2"), trial)
    assert records.find("web-py313-arm64", 7, wanted("a"), ("arn:1", "arn:2")) == trial
    assert records.find("web-py313-arm64", 7, wanted("a"), now) is None


def test_a_record_that_does_not_say_what_was_beside_it_is_none(account: Any) -> None:
    """As records were once."""
    records = TrialRecords(account.s3, account.bucket)
    old = {"schema": "layerdrop/trial/1", "modules": ["a"], "trial": Trial("passed").to_json()}
    body = json.dumps(old).encode()
    account.s3.put_object(Bucket=account.bucket, Key="trials/web-py313-arm64/7.json", Body=body)
    assert records.find("web-py313-arm64", 7, wanted("a"), ()) is None


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"7", b"{}", b'{"schema": "layerdrop/trial/1"}'])
def test_what_is_no_record_of_a_trial_is_none(account: Any, content: bytes) -> None:
    account.s3.put_object(Bucket=account.bucket, Key="trials/web-py313-arm64/7.json", Body=content)
    assert TrialRecords(account.s3, account.bucket).find("web-py313-arm64", 7, wanted("a"), ()) is None
