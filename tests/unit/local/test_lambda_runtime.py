import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.keys import Keyring
from local.lambda_runtime import Answer, Function, ShutDownError, Workers

KEYS = Keyring()
Make = Callable[..., Function]


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def workers(log: list[str]) -> Iterator[Workers]:
    made = Workers({"PATH": os.environ["PATH"]}, lambda _group, _stream, line: log.append(line), KEYS.of_role)
    yield made
    made.close()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make_function(source: str, **changes: Any) -> Function:
        (tmp_path / "module.py").write_text(source)
        function = Function(
            arn="arn:aws:lambda:us-east-1:123456789012:function:box",
            name="box",
            version="$LATEST",
            handler="module.handler",
            runtime="python3.13",
            role="arn:aws:iam::123456789012:role/box",
            code=tmp_path,
            environment=(("COLOUR", "red"),),
            memory=256,
            timeout=10,
            log_group="/aws/lambda/box",
            most_workers=2,
        )
        return replace(function, **changes)

    return make_function


def value(answer: Answer) -> Any:
    assert answer.error is None, answer.payload
    return json.loads(answer.payload)


def failure(answer: Answer) -> dict[str, Any]:
    assert answer.error == "Unhandled"
    return json.loads(answer.payload)


def test_a_handler_sees_event_context_and_environment(workers: Workers, make: Make) -> None:
    function = make(
        "import os, sys\n"
        "def handler(event, context):\n"
        "    return [event, os.environ['COLOUR'], os.environ['AWS_LAMBDA_FUNCTION_NAME'],\n"
        "            context.function_name, context.aws_request_id, context.invoked_function_arn,\n"
        "            context.memory_limit_in_mb, context.log_group_name,\n"
        "            0 < context.get_remaining_time_in_millis() <= 10_000, os.getcwd(), sys.path[0]]\n"
    )
    assert value(workers.invoke(function, {"a": ["ü", None]}, "id-1")) == [
        {"a": ["ü", None]}, "red", "box", "box", "id-1", function.arn, "256", "/aws/lambda/box", True,
        str(function.code), str(function.code),
    ]  # fmt: skip


def test_a_handler_sees_nothing_of_this_process(
    workers: Workers, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    function = make(
        "import os\n"
        "def handler(event, context):\n"
        "    try:\n"
        "        import local.settings\n"
        "    except ImportError:\n"
        "        return os.environ.get('AWS_SECRET_ACCESS_KEY')\n"
        "    return 'our own modules are on its path'\n"
    )
    assert value(workers.invoke(function, {})) == KEYS.of_role(function.role).secret


def test_a_worker_is_kept_between_events(workers: Workers, make: Make) -> None:
    function = make(
        "import os\ncalls = 0\ndef handler(event, context):\n"
        "    global calls\n    calls += 1\n    return [calls, os.getpid()]\n"
    )
    [[first, pid], [second, same_pid]] = [value(workers.invoke(function, {})) for _ in range(2)]
    assert (first, second) == (1, 2)
    assert pid == same_pid


def test_other_code_or_settings_mean_a_new_worker(workers: Workers, make: Make) -> None:
    source = "import os\ndef handler(event, context): return [os.environ['COLOUR'], os.getpid()]\n"
    [red, first] = value(workers.invoke(make(source), {}))
    [blue, second] = value(workers.invoke(make(source, environment=(("COLOUR", "blue"),)), {}))
    assert (red, blue) == ("red", "blue")
    assert first != second


def test_events_run_side_by_side_up_to_the_limit(workers: Workers, make: Make, tmp_path: Path) -> None:
    # Each waits until it sees another one: alone, none would end.
    function = make(
        "import pathlib, time, uuid\n"
        "def handler(event, context):\n"
        "    here = pathlib.Path(event['folder'])\n"
        "    (here / str(uuid.uuid4())).touch()\n"
        "    while len(list(here.iterdir())) < 2: time.sleep(0.01)\n"
        "    return True\n"
    )
    folder = tmp_path / "meeting"
    folder.mkdir()
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(workers.invoke(function, {"folder": str(folder)})))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [value(answer) for answer in answers] == [True, True]


def test_beyond_the_limit_events_wait_for_a_worker(workers: Workers, make: Make) -> None:
    function = make("import os\ndef handler(event, context): return os.getpid()\n", most_workers=1)
    pids: list[int] = []
    threads = [
        threading.Thread(target=lambda: pids.append(value(workers.invoke(function, {})))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 5
    assert len(set(pids)) == 1


def test_those_who_wait_get_workers_for_those_that_died(workers: Workers, make: Make) -> None:
    function = make(
        """
import os, time
def handler(event, context):
    time.sleep(0.2)
    os._exit(1)
""",
        most_workers=1,
    )
    answers: list[Answer] = []

    def call() -> None:
        answers.append(workers.invoke(function, {}))

    callers = [threading.Thread(target=call, daemon=True) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert [failure(answer)["errorType"] for answer in answers] == ["Runtime.ExitError"] * 3


def test_an_exception_is_described_as_the_runtime_does(workers: Workers, make: Make, log: list[str]) -> None:
    function = make(
        "class BuildError(Exception): pass\ndef handler(e, c): raise BuildError('no such thing')\n"
    )
    error = failure(workers.invoke(function, {}, "id-1"))
    assert (error["errorType"], error["errorMessage"], error["requestId"]) == (
        "BuildError", "no such thing", "id-1",
    )  # fmt: skip
    assert any("handler" in line for line in error["stackTrace"])
    assert any("BuildError: no such thing" in line for line in log)


def test_a_worker_survives_an_exception_but_not_a_timeout(workers: Workers, make: Make) -> None:
    function = make(
        "import os, time\ndef handler(event, context):\n"
        "    if event == 'raise': raise ValueError\n"
        "    if event == 'sleep': time.sleep(60)\n"
        "    return os.getpid()\n",
        timeout=1,
    )
    first = value(workers.invoke(function, {}))
    failure(workers.invoke(function, "raise"))
    assert value(workers.invoke(function, {})) == first
    error = failure(workers.invoke(function, "sleep", "id-1"))
    assert error == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: id-1 Error: Task timed out after 1.00 seconds",
    }
    assert value(workers.invoke(function, {})) != first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os\ndef handler(e, c): os._exit(3)\n", "Runtime exited with error: exit status 3"),
        ("import os\ndef handler(e, c): os._exit(0)\n", "Runtime exited without providing a reason"),
        (
            "import os, signal\ndef handler(e, c): os.kill(os.getpid(), signal.SIGSEGV)\n",
            "Runtime exited with error: signal: segmentation fault",
        ),
        ("import os\nos._exit(1)\n", "Runtime exited with error: exit status 1"),
    ],
)
def test_a_crash_is_an_exit_error(workers: Workers, make: Make, source: str, reason: str) -> None:
    error = failure(workers.invoke(make(source), {}, "id-1"))
    assert error == {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: id-1 Error: {reason}"}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_too_much_memory_kills(workers: Workers, make: Make) -> None:
    function = make(
        "import time\ndef handler(event, context):\n"
        "    keep = bytearray(event)\n    time.sleep(5)\n    return len(keep)\n",
        memory=128,
        timeout=4,
    )
    error = failure(workers.invoke(function, 200 << 20, "id-1"))
    assert error["errorMessage"] == "RequestId: id-1 Error: Runtime exited with error: signal: killed"


@pytest.mark.parametrize(
    ("source", "handler", "error_type", "message"),
    [
        (
            "import nothing_of_this_name\n",
            "module.handler",
            "Runtime.ImportModuleError",
            "nothing_of_this_name",
        ),
        ("", "module.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'module'"),
        ("", "elsewhere.handler", "Runtime.ImportModuleError", "elsewhere"),
        ("raise KeyError('bad start')\n", "module.handler", "KeyError", "bad start"),
        ("def handler(e, c): return {1, 2}\n", "module.handler", "Runtime.MarshalError", "set"),
    ],
)
def test_what_cannot_be_run_is_told_as_lambda_tells_it(
    workers: Workers, make: Make, source: str, handler: str, error_type: str, message: str
) -> None:
    error = failure(workers.invoke(make(source, handler=handler), {}))
    assert error["errorType"] == error_type
    assert message in error["errorMessage"]


def test_the_log_of_an_event_is_there_when_its_answer_is(
    workers: Workers, make: Make, log: list[str]
) -> None:
    function = make("def handler(event, context):\n    for i in range(500): print('line', i)\n")
    workers.invoke(function, {}, "id-1")
    assert log[0] == "START RequestId: id-1 Version: $LATEST"
    assert log[1:501] == [f"line {i}" for i in range(500)]
    assert log[501].startswith("REPORT RequestId: id-1\tDuration: ")
    assert log[502:] == ["END RequestId: id-1"]


def test_closing_ends_events_under_way_and_takes_no_more(workers: Workers, make: Make) -> None:
    function = make("import time\ndef handler(event, context): time.sleep(60)\n", timeout=60)
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(workers.invoke(function, {})))
    workers.warm(function)
    thread.start()
    time.sleep(0.1)  # most likely it is under way; if not, it is refused, which is as good
    began = time.monotonic()
    workers.close()
    thread.join(10)
    assert time.monotonic() - began < 5
    assert all(answer.error for answer in answers)
    with pytest.raises(ShutDownError):
        workers.invoke(function, {})
