"""The import check: what it imports, under which conditions, and what it says when that fails."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import secrets
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layer_builder.ground import confinement, interpreter
from layer_builder.ground.interpreter import Interpreter
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.layer import archive
from layer_builder.proof import surroundings
from layer_builder.proof.import_check import (
    ImportCheckError,
    Limits,
    Modules,
    Result,
    UnpackError,
    check,
    modules_of,
    unpack,
)
from layer_builder.proof.libraries import MissingLibraryError
from tests.unit.builder.confined import running
from tests.unit.builder.native_maker import HERE, WHEELHOUSE, Library, compile_one, module_source, needs_gcc
from tests.unit.builder.wheel_maker import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NOWHERE = Path("/nowhere")
RUNTIME = "python{}.{}".format(*sys.version_info[:2])
runs = pytest.mark.skipif(
    not HERE or RUNTIME not in RUNTIMES or interpreter.find(RUNTIME.removeprefix("python")) is None,
    reason="this Python, or this machine, is not one of Lambda's",
)


def target_of(runtime: str = RUNTIME) -> Target:
    return Target.of(runtime if runtime in RUNTIMES else "python3.13", HERE or "arm64")


def layer_of(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write a layer; paths are within site-packages unless they begin with a slash."""
    layer = folder / "layer.zip"
    with zipfile.ZipFile(layer, "w", zipfile.ZIP_DEFLATED) as archive_:
        for path, content in files.items():
            place = path.removeprefix("/") if path.startswith("/") else f"{target_of().site_packages}/{path}"
            archive_.writestr(place, content)
    return layer


def try_out(
    folder: Path, files: Mapping[str, str | bytes], modules: Iterable[str] = ("pkg",), **limits: int
) -> Result:
    packages = [Modules("pkg", tuple(modules))]
    return check(layer_of(folder, files), target_of(), packages, limits=Limits(**limits))


def told(folder: Path, code: str, files: Mapping[str, str | bytes] | None = None) -> Any:
    """Import a module that leaves something in `told`, and return that."""
    source = f"import json\n{code}\nprint(json.dumps(told))\nraise SystemExit\n"
    result = try_out(folder, {"pkg.py": source, **(files or {})})
    return json.loads(result.output)


# ---- what there is to import ----


def modules(package: str, *paths: str, target: Target | None = None) -> Modules:
    target = target or Target.of("python3.13", "x86_64")
    return modules_of(package, [f"{target.site_packages}/{path}" for path in paths], target)


@pytest.mark.parametrize(
    ("package", "paths", "essential", "others"),
    [
        ("idna", ["idna/__init__.py", "idna/core.py"], ["idna"], []),
        ("six", ["six.py"], ["six"], []),
        ("pillow", ["PIL/__init__.py", "pillow.libs/libx.so.1"], ["PIL"], []),
        ("opencv-python", ["cv2/__init__.py", "cv2/cv2.abi3.so"], ["cv2"], []),
        ("pyyaml", ["yaml/__init__.py", "_yaml/__init__.py"], ["yaml"], []),
        ("attrs", ["attr/__init__.py", "attrs/__init__.py"], ["attrs"], ["attr"]),
        ("pyodbc", ["pyodbc.cpython-313-x86_64-linux-gnu.so", "pyodbc.pyi"], ["pyodbc"], []),
        ("google-cloud-storage", ["google/cloud/storage/__init__.py"], ["google.cloud.storage"], []),
        ("a-b-c", ["a/b/c/__init__.py", "a/b/_c/__init__.py", "a/b/_c_v2/__init__.py"], ["a.b.c"], []),
        ("azure-core", ["azure/core/__init__.py", "azure/x/__init__.py"], ["azure.core"], ["azure.x"]),
        ("two", ["one.py", "other/__init__.py"], ["one", "other"], []),
        ("protos", ["google/api/b.py", "google/api/a.py"], [], ["google.api.a", "google.api.b"]),
        ("typing-stubs", ["thing-stubs/__init__.pyi"], [], []),
        ("tool", ["../../../../bin/tool"], [], []),
        # What loads a library by its name is known of some.
        ("pyzbar", ["pyzbar/__init__.py", "pyzbar/pyzbar.py"], ["pyzbar", "pyzbar.pyzbar"], []),
        # Neither data beside a module nor what wheels hold by mistake.
        ("pkg", ["pkg/__init__.py", "share/doc/example.py", "tests/__init__.py", "setup.py"], ["pkg"], []),
        ("pkg", ["pkg/__init__.py", "pkg-1.0.dist-info/METADATA", "pkg/sub/__init__.py"], ["pkg"], []),
        ("only-private", ["_private/__init__.py"], ["_private"], []),
        # Modules for other Pythons and other machines.
        ("pkg", ["pkg.cpython-312-x86_64-linux-gnu.so", "other.cpython-313-aarch64-linux-gnu.so"], [], []),
    ],
)  # fmt: skip
def test_modules_of_a_package(
    package: str, paths: list[str], essential: list[str], others: list[str]
) -> None:
    assert modules(package, *paths) == Modules(package, tuple(essential), tuple(others))


def test_modules_against_what_is_installed_here() -> None:
    """Every top-level name that importlib.metadata knows of an installed package, and no other."""
    known: dict[str, set[str]] = {}
    for top, names in importlib.metadata.packages_distributions().items():
        for name in names:
            known.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(top)
    target, compared = target_of(), 0
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        paths = [f"{target.site_packages}/{path}" for path in distribution.files or ()]
        found = modules_of(name, paths, target)
        tops = {module.partition(".")[0] for module in (*found.essential, *found.others)}
        public = {top for top in known.get(name, ()) if re.fullmatch(r"[A-Za-z]\w*", top)}
        assert tops <= known.get(name, set()), name
        # What has no module in it is known too: stubs, and folders that hold only data.
        assert public - tops <= {"dist"}, name
        compared += bool(tops)
    assert compared > 20


# ---- imports ----


@runs
def test_modules_and_their_packages_are_imported(tmp_path: Path) -> None:
    files = {
        "pkg/__init__.py": "from pkg.inner import x",
        "pkg/inner.py": "x = 1",
        "space/one/__init__.py": "import pkg",
        "single.py": "",
    }
    result = try_out(tmp_path, files, ["pkg", "space.one", "single"])
    assert (result.status, result.failures, result.warnings) == ("passed", (), ())
    assert result.modules == ("pkg", "space.one", "single")
    assert result.check["python"].startswith(RUNTIME.removeprefix("python"))
    assert result.check["network"] in ("none", "host")
    assert result.error is None
    json.dumps(result.check)


@runs
@needs_gcc
def test_an_extension_module_finds_libraries_in_the_lib_folder(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    compile_one(
        folder, Library("lib/libx.so.1", soname="libx.so.1", source="int answer(void) { return 42; }")
    )
    source = "int answer(void);\n" + module_source("pkg", "(void)answer(); return 0;")
    compile_one(folder, Library("pkg.abi3.so", ("lib/libx.so.1",), source=source))
    module_file = (folder / "pkg.abi3.so").read_bytes()
    alone = try_out(tmp_path, {"pkg.abi3.so": module_file})
    assert alone.error
    assert "libx.so.1: cannot open shared object file" in alone.error.message
    whole = {"pkg.abi3.so": module_file, "/lib/libx.so.1": (folder / "lib/libx.so.1").read_bytes()}
    # It loads now; that it then gives Python nothing is another matter.
    assert "libx" not in try_out(tmp_path, whole).failures[0].message


@runs
@pytest.mark.long
@pytest.mark.index
def test_real_packages_import() -> None:
    target = target_of()
    names = ("numpy", "lxml", "psycopg2-binary", "cryptography", "cffi", "pycparser", "pillow", "shapely")
    plan = WHEELHOUSE.plan(names, target)
    paths: dict[str, list[str]] = {}
    for entry in plan.entries:
        paths.setdefault(entry.wheel.pick.name, []).append(entry.path)
    packages = [modules_of(name, paths[name], target) for name in names]
    layer = WHEELHOUSE.get("numpy", target).with_name("layer.zip")
    with layer.open("w+b") as stream:
        archive.write(plan, stream)
    result = check(layer, target, packages)
    assert (result.status, result.failures) == ("passed", ())
    assert {"numpy", "lxml", "psycopg2", "cryptography", "PIL", "shapely"} <= set(result.modules)


@runs
@pytest.mark.index
def test_a_package_without_what_it_requires_fails() -> None:
    target = target_of()
    layer = WHEELHOUSE.get("requests", target).with_name("layer.zip")
    plan = archive.plan([load(WHEELHOUSE.get("requests", target))], target)
    with layer.open("w+b") as stream:
        archive.write(plan, stream)
    error = check(
        layer, target, [modules_of("requests", [entry.path for entry in plan.entries], target)]
    ).error
    assert error
    assert error.code == "IMPORT_FAILED"
    assert (
        "requests: `import requests` fails: ModuleNotFoundError: No module named 'urllib3'" in error.message
    )
    assert "requests/" in error.message
    assert "urllib3" in error.hint


# ---- as in Lambda ----


@runs
def test_the_search_path_is_lambdas(tmp_path: Path) -> None:
    path = told(tmp_path, "import sys; told = sys.path")
    assert path[0].endswith("/task")
    assert path[1].endswith(f"/opt/{target_of().searched_first}")
    assert path[2].endswith("/opt/python")
    # Nothing of this machine but the standard library; site adds a folder that is not there once more.
    assert {folder for folder in path[3:] if folder.endswith("-packages")} <= {path[1]}


@runs
def test_pth_files_are_processed_in_both_folders(tmp_path: Path) -> None:
    first = target_of().searched_first
    files = {
        f"/{first}/a.pth": "vendored\n",
        f"/{first}/vendored/inside.py": "x = 1\n",
        "/python/b.pth": "import sys; sys.from_pth = 2\n",
    }
    assert told(tmp_path, "import inside, sys; told = [inside.x, sys.from_pth]", files) == [1, 2]


@runs
def test_pth_files_find_the_standard_library_and_come_after_it(tmp_path: Path) -> None:
    files = {
        "a-nspkg.pth": "import sys, types, colorsys; sys.from_pth = types.ModuleType('a').__name__\n",
        "b.pth": "vendored\n",
        "vendored/colorsys.py": "mine = True\n",
        "vendored/inside.py": "",
    }
    code = "import sys, inside, colorsys; told = [sys.from_pth, hasattr(colorsys, 'mine')]"
    assert told(tmp_path, code, files) == ["a", False]


@runs
def test_a_wrappers_pythonpath_makes_no_difference_to_most_layers(tmp_path: Path) -> None:
    result = try_out(tmp_path, {"pkg/__init__.py": "", "pkg/x.pth": "", "other.py": ""})
    assert result.check["with_pythonpath"] == "same"


WRAPPED = {
    "needs a .pth file": ({"a.pth": "lib\n", "lib/inside.py": "", "pkg.py": "import inside"}, "failed"),
    "has one and does without": ({"a.pth": "lib\n", "lib/inside.py": "", "pkg.py": ""}, "passed"),
    "lies in the other folder": ({"/{first}/pkg.py": "", "/python/other.py": ""}, "failed"),
    "has one in the other folder": (
        {"/{first}/a.pth": "import sys; sys.x = 1", "pkg.py": "import sys; sys.x"},
        "failed",
    ),
    "is changed by what Python starts by itself": (
        {"sitecustomize.py": "import sys; sys.x = 1", "pkg.py": "import sys; assert not hasattr(sys, 'x')"},
        "failed",
    ),
}  # fmt: skip


@runs
@pytest.mark.parametrize(("files", "outcome"), WRAPPED.values(), ids=WRAPPED)
def test_imports_are_tried_with_a_wrappers_pythonpath_too(
    tmp_path: Path, files: dict[str, str], outcome: str
) -> None:
    files = {path.format(first=target_of().searched_first): content for path, content in files.items()}
    result = try_out(tmp_path, files)
    assert (result.status, result.wrapped, result.modules) == ("passed", outcome, ("pkg",))
    said = [one for one in result.warnings if "PYTHONPATH is /opt/python" in one]
    assert len(said) == (outcome == "failed")
    assert all(one.startswith("pkg: `import pkg` fails where") for one in said)


@runs
def test_what_python_runs_by_itself_is_confined_with_a_pythonpath_too(tmp_path: Path) -> None:
    """The supervisor has that environment as well, and is not confined."""
    place = tmp_path / "written"
    code = f"import pathlib; pathlib.Path({str(place)!r}).write_text('')"
    try_out(tmp_path, {"sitecustomize.py": code, "usercustomize.py": code, "pkg.py": ""})
    assert not place.exists()


@runs
def test_a_layers_module_comes_before_the_standard_librarys(tmp_path: Path) -> None:
    assert told(tmp_path, "import colorsys; told = colorsys.mine", {"colorsys.py": "mine = True"}) is True


@runs
def test_the_environment_is_lambdas_without_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "HTTPS_PROXY",
        "PYTHONPATH",
    ):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/secret")
    environment = told(tmp_path, "import os; told = dict(os.environ)")
    assert "secret" not in json.dumps(environment)
    assert environment["AWS_REGION"]
    assert environment["LD_LIBRARY_PATH"].endswith("/opt/lib")
    assert environment["PATH"].endswith("/opt/bin")


@runs
def test_there_is_no_home_and_the_layer_cannot_be_written(tmp_path: Path) -> None:
    code = """
import os, tempfile
told = []
for path in (os.path.expanduser("~/.cache"), __file__, os.path.dirname(__file__) + "/new"):
    try:
        os.makedirs(path) if path.endswith("e") else open(path, "a").close()
        told.append("written")
    except OSError as error:
        told.append(type(error).__name__)
with tempfile.TemporaryFile() as file:
    told.append(file.write(b"1234"))
told.append(os.getuid())
"""
    result = try_out(
        tmp_path, {"pkg.py": f"import json\n{code}\nprint(json.dumps(told))\nraise SystemExit\n"}
    )
    if result.confined["user"] == "the builder's" and os.geteuid() == 0:
        pytest.skip("root can write everywhere, and this kernel does not let it be anybody else")
    *written, temporary, _ = json.loads(result.output)
    # A mount of its own is read-only, as Lambda's are; elsewhere it is the rights that lack.
    assert set(written) <= {"PermissionError", "OSError"}
    assert temporary == 4


@runs
def test_what_needs_a_home_is_told_about_tmp(tmp_path: Path) -> None:
    code = "import os; os.makedirs(os.path.expanduser('~/.EasyOCR'))"
    result = try_out(tmp_path, {"pkg.py": code})
    if result.status == "passed":
        pytest.skip("root can write everywhere, and this kernel does not let it be anybody else")
    assert "/tmp" in result.failures[0].hint


# ---- confinement ----


@runs
def test_there_is_no_network_where_the_kernel_allows(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = try_out(
            tmp_path, {"pkg.py": f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)"}
        )
    if result.confined["network"] == "host":
        assert result.status == "passed"
        pytest.skip("this kernel lets nobody leave the network")
    assert result.status == "failed"


@runs
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_nobody_where_nobody_can_start_the_interpreter(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = [f"/usr/bin/{RUNTIME}", f"/usr/local/bin/{RUNTIME}", f"/var/lang/bin/{RUNTIME}"]
    path = next((candidate for candidate in candidates if os.access(candidate, os.X_OK)), None)
    if path is None:
        pytest.skip(f"there is no {RUNTIME} that everybody may start")
    monkeypatch.setattr(
        interpreter, "find", lambda _: Interpreter(Path(path), RUNTIME.removeprefix("python") + ".0")
    )
    code = f"""
import os
told = {{"uid": os.getuid(), "groups": os.getgroups()}}
try:
    open("/proc/{os.getpid()}/environ").close()
except OSError as error:
    told["environ"] = type(error).__name__
"""
    result = try_out(
        tmp_path, {"pkg.py": f"import json\n{code}\nprint(json.dumps(told))\nraise SystemExit\n"}
    )
    assert result.confined["user"] == "nobody"
    told = json.loads(result.output)
    assert (told["uid"], told["groups"]) == (65534, [])
    assert told["environ"] in (
        "PermissionError",
        "FileNotFoundError",
    )  # there is no such process in its sight


@runs
def test_rights_are_gone(tmp_path: Path) -> None:
    result = try_out(tmp_path, {"pkg.py": "print(open('/proc/self/status').read())\nraise SystemExit"})
    status = dict(line.split(":", 1) for line in result.output.splitlines() if ":" in line)
    assert status["NoNewPrivs"].strip() == "1"
    if result.confined["user"] != "the builder's":
        assert int(status["CapEff"], 16) == 0


# ---- endings ----


@runs
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('no luck.')", "RuntimeError: no luck (pkg.py:1)."),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import os; os._exit(7)", "ended the process with status 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended the process by signal SIGSEGV"),
        ("import nothing_like_it", "No module named 'nothing_like_it'"),
        ("def", "SyntaxError"),
        ("raise ValueError('first\\n\\n  second\\nthird\\nfourth')", "ValueError: first second third"[:24]),
    ],
)
def test_failures_say_how(tmp_path: Path, code: str, message: str) -> None:
    error = try_out(tmp_path, {"pkg.py": code}).error
    assert error
    assert error.message.startswith("pkg: `import pkg` fails: ")
    assert message in error.message
    assert error.hint
    json.dumps(error.details)


@runs
def test_the_cause_behind_a_failure_gives_the_hint(tmp_path: Path) -> None:
    code = """
try:
    raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
except ImportError:
    raise RuntimeError("could not be set up")
"""
    packages = [Modules("opencv-python", ("cv2",))]
    error = check(layer_of(tmp_path, {"cv2.py": code}), target_of(), packages).error
    assert error
    assert "opencv-python-headless" in error.hint


@pytest.mark.long
@runs
def test_endless_modules_are_ended_with_all_they_started(tmp_path: Path) -> None:
    mark = f"{secrets.randbelow(10**12)}"
    code = f"""
import os, time
if not os.fork():
    os.execvp("sleep", ["sleep", "{mark}"])
while True:
    time.sleep(1)
"""
    files = {"fine.py": "", "pkg.py": code, "never.py": ""}
    result = try_out(tmp_path, files, ["fine", "pkg", "never"], wall_seconds=3)
    (failure,) = result.failures
    assert (failure.module, failure.message) == ("pkg", "did not finish in 3 seconds")
    assert "120 seconds" in failure.hint
    assert result.modules == ("fine",)
    assert not running(mark)


@runs
def test_memory_is_limited(tmp_path: Path) -> None:
    result = try_out(tmp_path, {"pkg.py": "x = bytearray(1 << 30)"}, memory_bytes=256 << 20)
    assert result.failures[0].message == "MemoryError"


@runs
def test_processor_time_is_limited(tmp_path: Path) -> None:
    result = try_out(tmp_path, {"pkg.py": "while True: pass"}, cpu_seconds=1)
    assert "ended the process by signal SIG" in result.failures[0].message


@runs
def test_output_is_bounded_and_does_not_block(tmp_path: Path) -> None:
    code = "import sys\nfor _ in range(200):\n    print('x' * 100_000)\nraise ValueError"
    result = try_out(tmp_path, {"pkg.py": code})
    assert result.status == "failed"
    assert len(result.output) <= 4096
    assert "x" in result.output


@runs
def test_what_stays_behind_holds_nothing_up(tmp_path: Path) -> None:
    code = """
import os, threading, time, atexit
threading.Thread(target=time.sleep, args=(1000,)).start()
atexit.register(time.sleep, 1000)
if not os.fork():
    os.setsid()
    time.sleep(5)
    os._exit(0)
"""
    assert try_out(tmp_path, {"pkg.py": code}).status == "passed"


@runs
def test_lies_about_other_modules_are_ignored(tmp_path: Path) -> None:
    code = """
import os, sys
lies = '{"module": "other", "error": {}}', '{"module": "pkg", "error": 3}', '[1]', 'no', '{"confined": 1}'
for line in lies:
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, line.encode() + b"\\n")
        except OSError:
            pass
"""
    assert try_out(tmp_path, {"pkg.py": code}).status == "passed"


@runs
def test_optional_modules_only_warn(tmp_path: Path) -> None:
    layer = layer_of(tmp_path, {"pkg.py": "", "pkg_plugin.py": "import pytest_of_nobody"})
    result = check(layer, target_of(), [Modules("pkg", ("pkg",), ("pkg_plugin",))])
    assert result.status == "passed"
    assert len(result.warnings) == 1
    assert "`import pkg_plugin` fails" in result.warnings[0]


# ---- not run ----


def test_another_architecture() -> None:
    other = next(name for name in ("arm64", "x86_64") if name != HERE)
    target = Target.of("python3.13", other)
    result = check(NOWHERE, target, [Modules("pkg", ("pkg",))])
    here = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    reason = f"this machine is {here}, the layer is for {other}"
    assert result.check == {"status": "not_run", "reason": reason}
    assert result.error is None


@pytest.mark.skipif(not HERE, reason="this machine has no Lambda runtime's architecture")
def test_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "find", lambda _: None)
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.40")
    result = check(NOWHERE, target_of("python3.14"), [Modules("pkg", ("pkg",))])
    assert result.check == {"status": "not_run", "reason": "there is no python3.14 on this machine"}


@pytest.mark.skipif(not HERE, reason="this machine has no Lambda runtime's architecture")
@pytest.mark.parametrize(("libc", "word"), [("glibc 2.31", "older"), (None, "not glibc")])
def test_an_unlike_c_library(monkeypatch: pytest.MonkeyPatch, libc: str | None, word: str) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: libc)
    result = check(NOWHERE, target_of("python3.13"), [Modules("pkg", ("pkg",))])
    assert result.status == "not_run"
    assert word in result.reason


def test_nothing_to_import() -> None:
    assert check(NOWHERE, target_of(), [Modules("types-x", ())]).status == "not_run"


@runs
@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("raise ModuleNotFoundError(\"No module named '_lzma'\", name='_lzma')", "_lzma"),
        (
            "raise ImportError('libstdc++.so.6: cannot open shared object file: No such file')",
            "libstdc++.so.6",
        ),
        ('raise ImportError("/x/libc.so.6: version `GLIBC_2.17\' not found (required by y)")', "GLIBC_2.17"),
    ],
)
def test_what_this_machine_lacks_says_nothing_about_the_layer(tmp_path: Path, code: str, word: str) -> None:
    result = try_out(tmp_path, {"pkg.py": code})
    assert result.status == "not_run"
    assert word in result.reason


@runs
def test_an_interpreter_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/bin/false", "/nowhere/python"):
        monkeypatch.setattr(interpreter, "find", lambda _, path=path: Interpreter(Path(path), "3.11.0"))
        assert try_out(tmp_path, {"pkg.py": ""}).status == "not_run"


# ---- kept results ----


@runs
def test_what_passed_is_not_tried_again(tmp_path: Path) -> None:
    kept, packages = tmp_path / "kept", [Modules("pkg", ("pkg",))]
    layer = layer_of(tmp_path, {"pkg.py": ""})
    first = check(layer, target_of(), packages, kept=kept, digest="1")
    layer.write_bytes(b"not read any more")
    assert check(layer, target_of(), packages, kept=kept, digest="1") == first
    with pytest.raises(UnpackError, match="not a zip file"):
        check(layer, target_of(), packages, kept=kept, digest="2")
    with pytest.raises(UnpackError, match="not a zip file"):
        check(layer, target_of(), [Modules("pkg", ("other",))], kept=kept, digest="1")


@runs
def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    kept, packages = tmp_path / "kept", [Modules("pkg", ("pkg",))]
    assert check(layer_of(tmp_path, {"pkg.py": "1/0"}), target_of(), packages, kept=kept, digest="1").failures
    assert not check(
        layer_of(tmp_path, {"pkg.py": ""}), target_of(), packages, kept=kept, digest="1"
    ).failures


# ---- unpacking ----


def test_unpacked_files_are_as_in_the_zip_and_not_writable(tmp_path: Path) -> None:
    layer = tmp_path / "layer.zip"
    files = {
        "bin/tool": b"#!",
        "python/a/b/c.txt": b"text",
        "python/empty": b"",
        "lib/größe": bytes(3_000_000),
    }
    with zipfile.ZipFile(layer, "w") as archive_:
        for path, content in files.items():
            info = zipfile.ZipInfo(path)
            info.external_attr = (0o100755 if path.startswith("bin/") else 0o100644) << 16
            archive_.writestr(info, content)
    unpack(layer, tmp_path / "opt")
    found = {str(path.relative_to(tmp_path / "opt")): path for path in (tmp_path / "opt").rglob("*")}
    assert {name: path.read_bytes() for name, path in found.items() if path.is_file()} == files
    for name, path in found.items():
        executable = path.is_dir() or name == "bin/tool"
        assert path.stat().st_mode & 0o777 == (0o555 if executable else 0o444)


# ---- what is this machine's and not Lambda's ----


@pytest.fixture(scope="module")
def machines_library() -> str:
    """The soname of a library that this machine has and no runtime, and that its Python does not need."""
    found = interpreter.find(RUNTIME.removeprefix("python"))
    seen = found and surroundings.of(found, platform.machine())
    assert seen
    for folder in {Path(path).parent for path in seen.libraries if "/libc.so" in path}:
        for file in sorted(folder.glob("lib*.so.[0-9]*")):
            if file.is_file() and seen.is_machines(str(file)) and _loads(file.name):
                return file.name
    pytest.skip("this machine has no library that Lambda has not")


def _loads(name: str) -> bool:
    code = f"import ctypes; ctypes.CDLL({name!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.fixture
def nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the kernel has neither namespaces nor Landlock."""
    of = surroundings.of
    everything = (*confinement.SYSTEM, *confinement.SETTINGS, str(Path(sys.base_prefix)))

    def unhidden(found: Interpreter, machine: str) -> surroundings.Surroundings | None:
        seen = of(found, machine)
        return seen and replace(seen, read=everything)

    monkeypatch.setattr(surroundings, "of", unhidden)


@runs
@pytest.mark.attack("a layer passes because the machine that builds has a library that Lambda has not")
def test_the_machines_libraries_are_not_there(tmp_path: Path, machines_library: str) -> None:
    result = try_out(tmp_path, {"pkg.py": f"import ctypes; ctypes.CDLL({machines_library!r})"})
    assert result.status == "failed", result.reason
    if result.confined["files"] == "the user's":
        pytest.skip("this kernel hides nothing")
    [failure] = result.failures
    assert (failure.libraries, failure.borrowed) == ((machines_library,), False)
    assert isinstance(result.error, ImportCheckError)
    # Who can do without is not stopped, as Lambda does not stop it.
    optional = f"import ctypes\ntry: ctypes.CDLL({machines_library!r})\nexcept OSError: pass"
    assert try_out(tmp_path, {"pkg.py": optional}).status == "passed"


@runs
@pytest.mark.usefixtures("nothing_is_hidden")
@pytest.mark.attack("a layer passes by a library of the machine that builds, where nothing can be hidden")
def test_what_is_loaded_of_the_machine_counts_as_missing(tmp_path: Path, machines_library: str) -> None:
    files = {
        "pkg.py": "import other",
        "other.py": f"import ctypes; ctypes.CDLL({machines_library!r})",
        "innocent.py": "import ssl, sqlite3",
    }
    result = try_out(tmp_path, files, ["innocent", "pkg", "other"])
    assert result.status == "failed"
    # The one whose import brought it, and nobody else.
    [failure] = result.failures
    assert (failure.module, failure.borrowed) == ("pkg", True)
    assert machines_library in failure.libraries
    assert not {"libssl.so.3", "libsqlite3.so.0"} & {*failure.libraries}
    error = result.error
    assert isinstance(error, MissingLibraryError)
    assert error.message.startswith("pkg: `import pkg` loads ")
    # Of a module that need not import, it is a warning.
    packages = [Modules("pkg", ("innocent",), ("pkg",))]
    result = check(layer_of(tmp_path, files), target_of(), packages)
    assert result.status == "passed"
    assert any("of this machine" in warning for warning in result.warnings)


@runs
@pytest.mark.usefixtures("nothing_is_hidden")
@pytest.mark.attack("a layer passes by a library of the machine that is loaded before the first import")
def test_what_is_loaded_before_the_first_import_counts_too(tmp_path: Path, machines_library: str) -> None:
    code = f"import ctypes; ctypes.CDLL({machines_library!r})\n"
    result = try_out(tmp_path, {"pkg.py": "", "pkg.pth": code})
    assert [(one.module, one.borrowed) for one in result.failures] == [("pkg", True)]
    assert machines_library in result.failures[0].libraries
    # Python runs this one where a wrapper has set PYTHONPATH, and no `.pth` file.
    result = try_out(tmp_path, {"pkg.py": "", "sitecustomize.py": code})
    assert (result.status, result.wrapped) == ("passed", "failed")


@runs
def test_code_that_modules_make_or_unpack_is_not_the_machines(tmp_path: Path) -> None:
    code = """
import mmap, os, tempfile
flags = mmap.PROT_READ | mmap.PROT_EXEC
memory = os.memfd_create("libffi")
os.ftruncate(memory, 4096)
removed, unpacked = tempfile.TemporaryFile(), open("/tmp/libunpacked.so.1", "w+b")
kept = [mmap.mmap(-1, 4096, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS, flags), mmap.mmap(memory, 4096, prot=flags)]
for file in removed, unpacked:
    file.truncate(4096)
    kept.append(mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, flags))
"""
    result = try_out(tmp_path, {"pkg.py": code})
    assert (result.status, result.failures) == ("passed", ()) or "/tmp" in result.reason


@runs
@pytest.mark.parametrize("hidden", [True, False])
def test_what_python_itself_needs_is_its_own(
    tmp_path: Path, hidden: bool, request: pytest.FixtureRequest
) -> None:
    if not hidden:
        request.getfixturevalue("nothing_is_hidden")
    # All modules that import here, with the libraries they are linked to; tkinter does not import in Lambda.
    windows = {"antigravity", "this", "_tkinter", "tkinter", "turtle", "turtledemo", "idlelib"}
    code = "\n".join(
        f"try: import {name}\nexcept ImportError as error: missing.append({name!r})"
        for name in sorted(sys.stdlib_module_names)
        if re.fullmatch(r"_?[a-z0-9]+", name) and name not in windows
    )
    source = f"missing = []\n{code}\n"
    here = subprocess.run(
        [sys.executable, "-I", "-c", f"{source}print(missing)"], capture_output=True, text=True, check=True
    ).stdout.strip()  # fmt: skip
    result = try_out(tmp_path, {"pkg.py": f"{source}assert str(missing) == {here!r}, missing"})
    assert not result.failures, result.failures
    assert result.status == "passed"


@runs
def test_libraries_are_found_by_name_as_little_as_in_lambda(tmp_path: Path, machines_library: str) -> None:
    name = machines_library.removeprefix("lib").partition(".so")[0]
    code = f"from ctypes.util import find_library; told = [find_library({name!r})]"
    assert told(tmp_path, code) == [None]


@runs
def test_programs_are_those_that_every_runtime_has(tmp_path: Path) -> None:
    code = """
import subprocess
told = [subprocess.run("echo $((1 + 1)) | cat; uname", shell=True, text=True,
        capture_output=True).stdout.split()]
for name in ("git", "gcc", "perl", "ld"):
    try:
        subprocess.run([name, "--version"], check=True, capture_output=True)
        told.append(name)
    except OSError:
        pass
"""
    if told(tmp_path, "import os; told = os.path.exists('/usr/bin/dpkg') or os.path.exists('/usr/bin/rpm')"):
        pytest.skip("this kernel hides no file")
    assert told(tmp_path, code) == [["2", "Linux"]]


@runs
def test_tmp_can_be_written_by_its_name_and_is_nobody_elses(tmp_path: Path) -> None:
    mark = f"/tmp/{secrets.token_hex(8)}"
    result = try_out(tmp_path, {"pkg.py": f"open({mark!r}, 'x').write('1')"})
    assert not Path(mark).exists()
    if "mount namespace" in result.confined.get("by", "") or result.status == "passed":
        assert result.status == "passed"
        return
    # Where it cannot be had, nothing is said about the layer.
    assert (result.status, "/tmp" in result.reason) == ("not_run", True)


@runs
def test_paths_are_told_as_in_lambda_and_the_variable_is_named(tmp_path: Path) -> None:
    code = "import os; os.makedirs(os.path.expanduser('~/.cache/thing'))"
    result = try_out(tmp_path, {"pkg.py": "import jsii", "jsii/__init__.py": code}, ["pkg"])
    if result.status == "passed":
        pytest.skip("root can write everywhere, and this kernel does not let it be anybody else")
    [failure] = result.failures
    assert "'/home/sbx_user1051" in failure.message
    assert str(tmp_path) not in failure.message
    assert "JSII_RUNTIME_PACKAGE_CACHE_ROOT=/tmp" in failure.hint
    result = try_out(tmp_path, {"pkg.py": code})
    assert "HOME=/tmp" in result.failures[0].hint
