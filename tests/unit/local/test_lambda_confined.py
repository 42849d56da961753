"""Functions that are not the stack's own, each in a confined process of the runtime's Python."""

import json
import os
import platform
import re
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from layer_builder.ground import interpreter
from layer_builder.ground.interpreter import Interpreter
from layer_builder.proof import surroundings
from local.keys import Keyring
from local.lambda_code import Code, CodeError, UnfitError, interpreter_of, remove, unpack
from local.lambda_confined import ConfinedWorker
from local.lambda_runtime import Answer, Function, Sandbox, Workers
from local.settings import ROOT

KEYS = Keyring()
MINOR = "{}.{}".format(*sys.version_info[:2])
Make = Callable[..., Function]


def zipped(**files: str) -> bytes:
    """A zip of files, by their paths with two underscores for each slash; names without a dot are modules."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            path = name.replace("__", "/")
            entry = zipfile.ZipInfo(path if "." in path else f"{path}.py")
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
    return content.getvalue()


@pytest.fixture(scope="session")
def python() -> Interpreter:
    found = interpreter.find(MINOR)
    assert found
    return found


@pytest.fixture
def code(tmp_path: Path) -> Iterator[Code]:
    folder = tmp_path / "embedded"
    folder.mkdir()
    yield Code(folder)
    remove(folder)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def workers(log: list[str]) -> Iterator[Workers]:
    def write(_group: str, _stream: str, line: str) -> None:
        log.append(line)

    made = Workers({}, write, KEYS.of_role, ConfinedWorker)
    yield made
    made.close()


@pytest.fixture
def make(code: Code, python: Interpreter) -> Make:
    def make_function(source: str, *layers: bytes, **changes: Any) -> Function:
        package = zipped(module=source)
        runtime, read = code.runtime()
        sandbox = Sandbox(
            python=python,
            layers=code.layers(str(hash(layers)), layers),
            runtime=runtime,
            read=tuple(read),
            disk=512,
            folder=code.workers,
            logs=True,
        )
        function = Function(
            arn="arn:aws:lambda:us-east-1:123456789012:function:box",
            name="box",
            version="$LATEST",
            handler="module.handler",
            runtime=f"python{MINOR}",
            role="arn:aws:iam::123456789012:role/box",
            code=code.package(str(hash(source)), package),
            environment=(("COLOUR", "red"),),
            memory=256,
            timeout=10,
            log_group="/aws/lambda/box",
            most_workers=1,
            sandbox=sandbox,
        )
        return replace(function, **changes)

    return make_function


def value(answer: Answer) -> Any:
    assert answer.error is None, (answer.payload, answer.log)
    return json.loads(answer.payload)


def failure(answer: Answer) -> dict[str, Any]:
    assert answer.error == "Unhandled", answer.payload
    return json.loads(answer.payload)


LAYER = zipped(
    **{
        "python__there": "SAID = 'layer'",
        f"python__lib__python{MINOR}__site-packages__longer.py": "",
        f"python__lib__python{MINOR}__site-packages__more.pth": "import sys, colorsys; sys.flagged = True",
        "bin__tool.sh": "#!/bin/sh\necho tool",
    }
)
LOOK = """
import os, subprocess, sys
def handler(event, context):
    import boto3, there
    return {"path": sys.path, "environment": dict(os.environ), "there": there.SAID, "cwd": os.getcwd(),
            "tool": subprocess.check_output(["tool.sh"], text=True), "flagged": getattr(sys, "flagged", 0),
            "tmp": os.listdir("/tmp"), "name": context.function_name}
"""


def test_a_function_finds_everything_where_lambda_has_it(workers: Workers, make: Make) -> None:
    told = value(workers.invoke(make(LOOK, LAYER), {}))
    folders = ["/var/task", f"/opt/python/lib/python{MINOR}/site-packages", "/opt/python"]
    assert told["path"][:3] == folders
    assert told["path"][-1] == "/var/runtime"
    assert not any("site-packages" in path for path in told["path"][3:]), "the machine's own packages"
    assert (told["there"], told["tool"], told["flagged"]) == ("layer", "tool\n", True)
    # Nothing is in /tmp but the way to what Python is started from, if that lies there.
    ours = {path.parts[2] for path in (ROOT, Path(sys.prefix)) if path.is_relative_to("/tmp")}
    assert ({*told["tmp"]} - ours, told["name"]) == (set(), "box")
    environment = told["environment"]
    assert environment["COLOUR"] == "red"
    assert environment["PATH"].endswith(":/opt/bin")
    assert environment["LD_LIBRARY_PATH"].endswith(":/opt/lib")
    assert environment["HOME"] == "/home/sbx_user1051"
    key = KEYS.of_role("arn:aws:iam::123456789012:role/box")
    assert environment["AWS_SECRET_ACCESS_KEY"] == key.secret
    assert KEYS.owner.secret not in environment.values()


def test_a_pythonpath_stands_in_for_the_layers_folders(workers: Workers, make: Make) -> None:
    source = (
        "import sys\ndef handler(event, context):\n"
        "    try: import longer\n"
        "    except ImportError as error: return [str(error), sys.path[:2]]\n"
    )
    function = make(source, LAYER, environment=(("PYTHONPATH", "/opt/python"),))
    assert value(workers.invoke(function, {})) == ["No module named 'longer'", ["/var/task", "/opt/python"]]


@pytest.mark.attack("a layer passes its trial because this machine has a library that Lambda has not")
def test_a_function_finds_no_library_and_no_program_of_the_machine(
    workers: Workers, make: Make, python: Interpreter
) -> None:
    seen = surroundings.of(python, platform.machine())
    assert seen
    folders = {Path(path).parent for path in seen.libraries if path.endswith("/libc.so.6")}
    files = sorted(file for folder in folders for file in folder.glob("lib*.so.[0-9]*"))
    others = [file.name for file in files if file.is_file() and seen.is_machines(str(file))]
    source = """
import ctypes, shutil, subprocess
def handler(event, context):
    found = [shutil.which(name) for name in ("git", "gcc", "perl") if shutil.which(name)]
    for name in event:
        try:
            ctypes.CDLL(name)
            found.append(name)
        except OSError:
            pass
    return [*found, subprocess.run(["uname"], capture_output=True, text=True).stdout]
"""
    answer = workers.invoke(make(source), others[:100])
    assert value(answer) == ["Linux\n"]


def test_layers_lie_upon_each_other(code: Code) -> None:
    folder = code.layers("both", [zipped(python__one="1", python__two="1"), zipped(python__two="2")])
    assert (folder / "python/one.py").read_text() == "1"
    assert (folder / "python/two.py").read_text() == "2"
    assert (folder / "python/two.py").stat().st_mode & 0o777 == 0o555


@pytest.mark.attack("uploader: a layer's zip writes beside the folder that it is unpacked to")
@pytest.mark.parametrize("name", ["../out.py", "/out.py", "a/../../out.py", "a//b.py"])
def test_no_file_lies_outside(tmp_path: Path, name: str) -> None:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(ValueError, match="no path within"):
        unpack([content.getvalue()], tmp_path / "layer")
    code = Code(tmp_path)
    with pytest.raises(CodeError):
        code.layers("hostile", [content.getvalue()])
    assert [path.name for path in tmp_path.iterdir()] == []


def test_what_is_unused_is_removed(code: Code) -> None:
    for name in ("kept", "gone"):
        code.layers(name, [LAYER])
        code.package(name, LAYER)
    code.forget(lambda: ({"kept"}, {"kept"}))
    assert {path.name for path in code.workers.iterdir()} == {"layers-kept", "code-kept"}
    assert (code.layers("gone", [LAYER]) / "python/there.py").exists()


def test_the_log_is_lambdas(workers: Workers, make: Make, log: list[str]) -> None:
    function = make(
        "import time\ntime.sleep(0.1)\nprint('importing')\n"
        "def handler(event, context): print('hello', event); return 1\n"
    )
    cold = workers.invoke(function, "you", "first").log.splitlines()
    assert cold[:4] == [
        "importing",
        "START RequestId: first Version: $LATEST",
        "hello you",
        "END RequestId: first",
    ]
    assert cold[4].startswith("REPORT RequestId: first\tDuration: ")
    assert "\tMemory Size: 256 MB\tMax Memory Used: " in cold[4]
    assert "\tInit Duration: " in cold[4]
    used = int(cold[4].partition("Max Memory Used: ")[2].split()[0])
    assert 5 <= used <= 100
    assert float(cold[4].partition("Init Duration: ")[2].split()[0]) >= 100
    warm = workers.invoke(function, "you", "second").log.splitlines()
    assert warm[0] == "START RequestId: second Version: $LATEST"
    assert "Init Duration" not in warm[-1]
    assert log == [*cold, *warm]


def test_a_role_that_may_not_log_leaves_none(workers: Workers, make: Make, log: list[str]) -> None:
    function = make("def handler(event, context): print('hello')\n")
    assert function.sandbox
    answer = workers.invoke(replace(function, sandbox=replace(function.sandbox, logs=False)), {})
    assert "hello" in answer.log
    assert log == []


@pytest.mark.attack("function: forges the report of its own log, and another event's answer")
def test_what_is_printed_is_not_believed(workers: Workers, make: Make) -> None:
    source = (
        "import json, os, sys\n"
        "def handler(event, context):\n"
        "    print('REPORT RequestId: forged\\tMax Memory Used: 1 MB')\n"
        "    other = {'request_id': 'another', 'payload': '\"forged\"', 'error': None}\n"
        "    for line in (json.dumps(other), '[' * 100000, 'nonsense', '7'):\n"
        "        os.write(int(sys.argv[1]), line.encode() + b'\\n')\n"
        "    return 'honest'\n"
    )
    answer = workers.invoke(make(source), {}, "mine")
    assert value(answer) == "honest"
    assert answer.log.splitlines()[-1].startswith("REPORT RequestId: mine\t")


@pytest.mark.attack("function: says that it started at no time, and the server cannot reckon with that")
@pytest.mark.parametrize("began", ["NaN", "-Infinity", "1e400", "true", "[]"])
def test_no_time_that_it_names_is_believed(workers: Workers, make: Make, began: str) -> None:
    source = (
        "import os, sys\n"
        f"os.write(int(sys.argv[1]), b'{{\"started\": {began}}}\\n')\n"
        "def handler(event, context): return 'honest'\n"
    )
    answer = workers.invoke(make(source), {}, "mine")
    assert value(answer) == "honest"
    init = re.search(r"\tInit Duration: (\d+\.\d\d) ms\t", answer.log)
    assert init, answer.log
    assert float(init[1]) < 60_000


@pytest.mark.parametrize(
    ("source", "handler", "kind", "message"),
    [
        ("import nowhere\n", "module.handler", "Runtime.ImportModuleError",
         "Unable to import module 'module': No module named 'nowhere'"),
        ("", "other.handler", "Runtime.ImportModuleError",
         "Unable to import module 'other': No module named 'other'"),
        ("", "module.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'module'"),
        ("def f(:\n", "module.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'module': "),
        ("raise ValueError('no')\n", "module.handler", "ValueError", "no"),
        ("def handler(e, c): raise KeyError('k')\n", "module.handler", "KeyError", "'k'"),
        ("def handler(e, c): return {1}\n", "module.handler", "Runtime.MarshalError",
         "Unable to marshal response"),
        ("import os\ndef handler(e, c): os._exit(3)\n", "module.handler", "Runtime.ExitError",
         "RequestId: mine Error: Runtime exited with error: exit status 3"),
        ("import ctypes\nctypes.string_at(0)\n", "module.handler", "Runtime.ExitError",
         "RequestId: mine Error: Runtime exited with error: signal: segmentation fault"),
        ("import sys\nsys.exit(4)\n", "module.handler", "Runtime.ExitError",
         "RequestId: mine Error: Runtime exited with error: exit status 4"),
    ],
)  # fmt: skip
def test_failures_have_lambdas_words(
    workers: Workers, make: Make, source: str, handler: str, kind: str, message: str
) -> None:
    answer = workers.invoke(make(source, handler=handler), {}, "mine")
    told = failure(answer)
    assert told["errorType"] == kind
    assert told["errorMessage"].startswith(message)
    assert message in answer.log
    crashed = "\tStatus: error\tError Type: Runtime.ExitError\t"
    assert answer.log.rstrip("\n").endswith(crashed) == (kind == "Runtime.ExitError")


def test_it_is_ended_at_its_timeout_and_begins_anew(workers: Workers, make: Make) -> None:
    source = "import os, time\ndef handler(event, context): time.sleep(event); return os.urandom(4).hex()\n"
    function = make(source, timeout=0.5)
    first = value(workers.invoke(function, 0))
    late = workers.invoke(function, 60, "mine")
    assert failure(late) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: mine Error: Task timed out after 0.50 seconds",
    }
    assert late.log.rstrip("\n").endswith("\tStatus: timeout\t")
    assert value(workers.invoke(function, 0)) != first


@pytest.mark.parametrize("text", ["sys.stdout.close()", "sys.stdout = sys.stderr = None"])
def test_a_function_that_closes_what_is_printed_to_answers(workers: Workers, make: Make, text: str) -> None:
    source = f"import sys\ndef handler(event, context):\n    {text}\n    return event\n"
    assert value(workers.invoke(make(source), 7)) == 7


def test_more_than_its_memory_kills_it(workers: Workers, make: Make) -> None:
    source = "import time\ndef handler(event, context):\n    held = b'x' * (500 << 20)\n    time.sleep(20)\n"
    answer = workers.invoke(make(source), {}, "mine")
    assert failure(answer)["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    assert "\tMemory Size: 256 MB\tMax Memory Used: 256 MB\t" in answer.log


def test_nothing_is_left_of_a_deleted_function(workers: Workers, make: Make, code: Code) -> None:
    source = (
        "import os, subprocess\ndef handler(event, context):\n"
        "    subprocess.Popen(['sleep', event], start_new_session=True)\n"
    )
    function, mark = make(source), str(1_000_000 + os.getpid())
    value(workers.invoke(function, mark))

    def running() -> list[Path]:
        found = []
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if mark.encode() in place.read_bytes().split(b"\0"):
                    found.append(place)
            except OSError:
                continue
        return found

    deadline = time.monotonic() + 10
    while not running():
        assert time.monotonic() < deadline, "it never ran"
    workers.forget(function.arn)
    assert not running()
    assert not list(code.workers.glob("worker-*"))


@pytest.mark.parametrize(
    ("runtime", "architecture", "words"),
    [
        ("python3.13", "arm64", "This machine is x86_64, and the function is for arm64."),
        ("nodejs24.x", "x86_64", "The embedded AWS does not run nodejs24.x functions."),
        ("python3.14", "x86_64", "There is no python3.14 on this machine."),
        ("python3.14 old", "x86_64", "This machine has glibc 2.31, and python3.14 has glibc 2.34."),
        ("python3.14 musl", "x86_64", "This machine has no glibc, and python3.14 has glibc 2.34."),
    ],
)
def test_a_machine_that_cannot_run_it_says_why(
    monkeypatch: pytest.MonkeyPatch, runtime: str, architecture: str, words: str
) -> None:
    runtime, _, machine = runtime.partition(" ")

    def confstr(_name: str) -> str:
        if machine == "musl":
            raise ValueError("unrecognized configuration name")
        return "glibc 2.31" if machine == "old" else "glibc 2.36"

    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("layer_builder.ground.interpreter.find", lambda _minor: None)
    monkeypatch.setattr("os.confstr", confstr)
    interpreter_of.cache_clear()
    with pytest.raises(UnfitError) as refused:
        interpreter_of(runtime, architecture)
    interpreter_of.cache_clear()
    assert str(refused.value) == words
