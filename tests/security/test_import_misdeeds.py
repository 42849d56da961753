"""What an import does to its process, its judge and the layer: the module's failure, and nothing else's.

In particular no bug of the builder (exit status 70) and nothing to be tried again (75, which Batch does).
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer_builder.ground import interpreter
from layer_builder.ground.confinement_worker import CALLS, NO_SUCH_CALL
from layer_builder.ground.interpreter import Interpreter
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.proof import import_answers, import_check
from layer_builder.proof.import_check import Modules, UnpackError, check, unpack
from layer_builder.proof.surroundings import Surroundings
from tests.security.building import KERNELS, ROOT, SAMPLE, build, open_folder, own, user_of
from tests.unit.builder.native_maker import HERE, Library, compile_one, needs_gcc
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from layer_builder.proof.import_check import Result

RUNTIME = "python{}.{}".format(*sys.version_info[:2])
runs = pytest.mark.skipif(
    not HERE or RUNTIME not in RUNTIMES or interpreter.find(RUNTIME.removeprefix("python")) is None,
    reason="this Python, or this machine, is not one of Lambda's",
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may go to."""
    with open_folder() as folder:
        yield folder


@pytest.fixture
def index(place: Path) -> Iterator[Index]:
    """A package index on loopback."""
    (place / "index").mkdir()
    with Index(place / "index") as one:
        yield one


SAY = """
import os
def say(line):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, line + b"\\n")
        except OSError:
            pass
"""
ERROR = '"type": "E", "text": "", "causes": []'
FORGED = {
    "a list": b"[1]",
    "a module that is a list": b'{"module": ["evil"]}',
    "a module that is an object": b'{"module": {"evil": 1}, "seconds": 1}',
    "an error that is a number": b'{"module": "evil", "error": 3}',
    "an error without a text": b'{"module": "evil", "error": {"type": "E"}}',
    "a text that is a number": b'{"module": "evil", "error": {"type": "E", "text": 1, "causes": []}}',
    "causes that are numbers": b'{"module": "evil", "error": {"type": "E", "text": "", "causes": [1]}}',
    "causes that are an object": b'{"module": "evil", "error": {"type": "E", "text": "", "causes": {}}}',
    "a line that is a text": f'{{"module": "evil", "error": {{{ERROR}, "line": "1"}}}}'.encode(),
    "something missing that is a list": f'{{"module": "evil", "error": {{{ERROR}, "missing": []}}}}'.encode(),
    "something standard, not said what": b'{"module": "evil", "error": {"type": "", "standard": true}}',
    "seconds that are no number": b'{"module": "evil", "seconds": NaN}',
    "seconds that are an object": b'{"module": "evil", "seconds": {"a": 1}}',
    "a nest": b"[" * 100_000,
    "a nest of objects": b'{"module":' * 20_000,
    "a number of many digits": b'{"module": "evil", "seconds": ' + b"9" * 100_000 + b"}",
    "no UTF-8": b'{"module": "\xff\xfe"}',
    "a mighty status": b'{"status": 0}\n{"confined": {"files": 1}}\n{"failed": "no Python"}',
    "confinement that is a list": b'{"confined": []}',
}
RAISED = {
    "a lone surrogate": "raise ValueError('\\ud800 \\udfff')",
    "terminal escapes": "raise ValueError('\\x1b]52;c;cHduZWQ=\\x07')",
    "a changed direction": "raise ValueError('\\u202egnp.exe')",
    "a text that cannot be had": "class E(Exception):\n    def __str__(self): 1/0\nraise E",
    "a text that ends the process": (
        "import os\nclass E(Exception):\n    def __str__(self): os._exit(0)\nraise E"
    ),
    "a name that is no text": (
        "raise ModuleNotFoundError('no', name=type('N', (str,), {'partition': lambda *_: 1/0})('x'))"
    ),
    "a huge text": "raise ValueError('x' * 50_000_000)",
    "a class without a name": "raise type('', (Exception,), {})('x')",
    "a version that is none": "raise ImportError('version `GLIBC_...\\' not found')",
    "a version of many digits": "raise ImportError('version `GLIBC_%s\\' not found' % ('9' * 1900))",
    "an endless chain of causes": (
        "error = ValueError('x' * 10_000)\nfor _ in range(5000):\n"
        "    try:\n        raise ValueError('y' * 10_000) from error\n"
        "    except ValueError as e:\n        error = e\nraise error"
    ),
    "a file name with surrogates": "exec(compile('1/0', __file__[:-7] + '\\udc80.py', 'exec'))",
}
DONE = {
    "ends with status 0": "os._exit(0)",
    "ends as if to be tried again": "os._exit(75)",
    "says that it is done, and ends": "say(b'{\"done\": true}'); os._exit(0)",
    "closes all pipes": "os.closerange(0, 64)",
    "closes all pipes and ends": "os.closerange(0, 64); os._exit(0)",
    "becomes another program": "os.execv('/bin/true', ['true'])",
    "ends itself by SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "ends itself by SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "aborts": "os.abort()",
    "ends by a segmentation fault": "import ctypes; ctypes.string_at(0)",
    "ends while a child goes on": "os.fork() and os._exit(0)\nimport time\ntime.sleep(1)\nos._exit(0)",
    "signals its group": "os.killpg(0, signal.SIGTERM)",
    "signals everybody": "os.kill(-1, signal.SIGTERM)\nos._exit(1)",
    "signals its parent": (
        "for s in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):\n"
        "    try: os.kill(os.getppid(), s)\n"
        "    except OSError: pass\n"
        "os._exit(1)"
    ),
    "signals whatever it sees": (
        "for pid in map(int, filter(str.isdecimal, os.listdir('/proc'))):\n"
        "    try: pid == os.getpid() or os.kill(pid, signal.SIGTERM)\n"
        "    except OSError: pass\n"
        "os._exit(1)"
    ),
    "takes more memory than there is to have": "x = bytearray(8 << 30)",
    "takes memory bit by bit": "x = []\nwhile True: x.append(bytes(64 << 20))",
    "recurses without end": "def f(): f()\nf()",
}


def try_out(folder: Path, files: Mapping[str, str | bytes], *modules: str) -> Result:
    """Import modules from a layer; paths are within site-packages unless they begin with a slash."""
    target, layer = Target.of(RUNTIME, HERE), folder / "layer.zip"
    with zipfile.ZipFile(layer, "w") as one:
        for path, content in files.items():
            one.writestr(path[1:] if path[0] == "/" else f"{target.site_packages}/{path}", content)
    return check(layer, target, [Modules("evil", modules or ("evil",))])


def each(cases: dict[str, bytes] | dict[str, str], what: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=pytest.mark.attack(f"{what} {name}")) for name in cases]
    )


def imported(folder: Path, code: str, *, status: str) -> Result:
    """Import a module for a layer, and see that a report can be written of it."""
    result = try_out(folder, {"evil.py": f"import os, signal\n{code}\n"})
    assert result.status == status, result
    text = json.dumps([result.check, result.error and (result.error.message, result.error.details)])
    text.encode()
    for one in (*result.failures, *([result.error] if result.error else ())):
        assert one.message.encode().decode().isprintable()
    if status == "failed":
        assert result.error
        assert result.error.exit_status == 2
    return result


@runs
@each(FORGED, "an import answers")
def test_forged_answers_are_no_answers(tmp_path: Path, name: str) -> None:
    imported(tmp_path, f"{SAY}\nsay({FORGED[name]!r})", status="passed")


@runs
@each(RAISED, "an import raises")
def test_exceptions_of_all_kinds_are_told(tmp_path: Path, name: str) -> None:
    imported(tmp_path, RAISED[name], status="failed")


@runs
@each(DONE, "an import")
def test_what_an_import_does_to_the_process_is_its_failure(tmp_path: Path, name: str) -> None:
    result = imported(tmp_path, f"{SAY}\n{DONE[name]}", status="failed")
    assert [failure.module for failure in result.failures] == ["evil"]


WORDS = (
    *("lib", "x", ".so", ".so.1", ": cannot open shared object file", "'", '"', "/", "../", "\0", "\ud800"),
    *("No module named '", "_sqlite3", "[Errno 13]", "[Errno 30]", "/tmp", "/home/sbx_user1051", "\n"),
)


VERSIONS = st.from_regex(r"version [`']GLIBC(XX)?_[0-9.\u0663]{0,30}' not found", fullmatch=True)
TEXTS = st.lists(st.sampled_from(WORDS) | VERSIONS, max_size=8).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    text=TEXTS,
    cause=TEXTS,
    kind=st.sampled_from(["", "ImportError", "ModuleNotFoundError", "OSError"]),
    missing=st.sampled_from(["", "x", "..", "\ud800"]),
)
@pytest.mark.attack("an import's words lead its judge astray")
def test_whatever_words_an_error_has_are_judged(text: str, cause: str, kind: str, missing: str) -> None:
    error = {"type": kind, "text": text, "causes": [cause], "missing": missing}
    lines = [{"module": "evil"}, {"module": "evil", "error": error}, {"done": True}]
    heard = import_answers.parse(b"\n".join(json.dumps(line).encode() for line in lines), {"evil"})
    conversation = import_check._Conversation(heard, "", "", 0.0, {"by": "seccomp"})
    found = Interpreter(Path("/usr/bin/python3"), "3.13.0")
    seen = Surroundings((), (), frozenset(), ())
    target = Target.of("python3.13", "arm64")
    result = import_check._judge([Modules("evil", ("evil",))], conversation, found, seen, target, ())
    assert result.status in ("failed", "not_run")
    assert result.reason or result.error


@pytest.mark.attack("an import says that it loaded files without number, by ways without end")
def test_files_that_are_looked_up_are_bounded() -> None:
    wanted = [f"m{number}" for number in range(100)]
    lines = [
        {"module": module, "loaded": [f"/lib/{module}/{number}.so" for number in range(500)]}
        for module in wanted
    ]
    lines.append({"module": "m0", "loaded": ["/proc/self/root" * 200]})
    said = b"\n".join(json.dumps(line).encode() for line in reversed(lines))
    loaded = [path for _, paths in import_answers.parse(said, wanted).loaded for path in paths]
    assert len(loaded) == len(set(loaded)) == 1000
    assert max(path.count("/") for path in loaded) < 10


@runs
@pytest.mark.attack("an import says that what comes after it is imported, and ends")
def test_a_module_that_was_not_reached_is_not_imported(tmp_path: Path) -> None:
    code = f"{SAY}\nsay(b'{{\"done\": true}}')\nos._exit(0)"
    result = try_out(tmp_path, {"evil.py": f"{code}\n", "other.py": ""}, "evil", "other")
    assert result.status == "failed"
    assert "other" not in result.modules


@pytest.mark.sample(1)
@runs
@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel != "nothing"])
@pytest.mark.parametrize("user", ["root", "somebody"])
@pytest.mark.attack("an import ends the builder, so that Batch tries again")
def test_no_import_ends_the_builder(place: Path, index: Index, kernel: str, user: str) -> None:
    code = f"import os, signal\n{SAY}\n{DONE['signals its parent']}"
    make_wheel(index.folder, "evil", files={"evil.py": code})
    outcome = build(place, index, user_of(user), lacking=KERNELS[kernel])
    assert (outcome.status, outcome.error["code"]) == (2, "IMPORT_FAILED"), outcome.stderr


@runs
@pytest.mark.attack("an import kills who would end what it started, and says that all went well")
def test_an_import_without_its_supervisor_has_failed(place: Path, index: Index) -> None:
    code = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"
    make_wheel(index.folder, "evil", files={"evil.py": code})
    outcome = build(place, index, user_of("somebody"), lacking=KERNELS["nothing"])
    assert (outcome.status, outcome.error["code"]) == (2, "IMPORT_FAILED"), outcome.stderr
    assert "left no trace" in outcome.error["message"]


@pytest.mark.attack("an import raises a lone surrogate, and the report is not written")
def test_a_report_is_written_whatever_was_raised(place: Path, index: Index) -> None:
    make_wheel(index.folder, "evil", files={"evil.py": RAISED["a lone surrogate"]})
    outcome = build(place, index, user_of("somebody"))
    assert (outcome.status, outcome.error["code"]) == (2, "IMPORT_FAILED"), outcome.stderr


# ---- resources ----


@pytest.mark.sample(1)
@runs
@pytest.mark.parametrize("kernel", SAMPLE)
@pytest.mark.parametrize("user", ["root", "somebody"])
@pytest.mark.attack("a package forks without end")
def test_processes_are_limited(place: Path, index: Index, kernel: str, user: str) -> None:
    code = """
import os, sys, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(100)
            os._exit(0)
        count += 1
        if count > 1000:
            break
except OSError:
    pass
print(count, flush=True)
raise SystemExit
"""
    make_wheel(index.folder, "evil", files={"evil.py": code})
    outcome = build(place, index, user_of(user), lacking=KERNELS[kernel])
    assert outcome.status == 2, outcome.stderr
    if "user namespace" in outcome.imports["by"] or outcome.imports["user"] == "nobody":
        assert 300 < outcome.told < 900


@pytest.mark.sample(1)
@runs
@pytest.mark.parametrize("kernel", SAMPLE)
@pytest.mark.parametrize("user", ["root", "somebody"])
@pytest.mark.parametrize("name", ["named", "nameless"])
@pytest.mark.attack("a package fills the disk")
def test_temporary_files_are_limited(place: Path, index: Index, kernel: str, user: str, name: str) -> None:
    code = f"""
import os, tempfile, time
files = []
for number in range(8):
    file = tempfile.TemporaryFile() if {name == "nameless"} else tempfile.NamedTemporaryFile()
    os.posix_fallocate(file.fileno(), 0, 100 << 20)
    files.append(file)
    time.sleep(0.3)
print(len(files), flush=True)
"""
    make_wheel(index.folder, "evil", files={"evil.py": code})
    outcome = build(place, index, user_of(user), lacking=KERNELS[kernel])
    assert (outcome.status, outcome.error["code"]) == (2, "IMPORT_FAILED"), outcome.stderr
    assert "No space left" in outcome.error["message"] or "512 MiB" in outcome.error["message"]


@runs
@pytest.mark.parametrize("kernel", ["this one", "as on Fargate"])
@pytest.mark.attack("a package leaves folders in folders that nobody can remove")
def test_deep_folders_are_removed(place: Path, index: Index, kernel: str) -> None:
    code = """
import os, tempfile
os.chdir(tempfile.mkdtemp())
for _ in range(1500):
    os.mkdir("d")
    os.chdir("d")
open("file", "w").close()
os.chmod(".", 0)
"""
    make_wheel(index.folder, "evil", files={"evil.py": code})
    outcome = build(place, index, user_of("somebody"), lacking=KERNELS[kernel])
    assert outcome.status in (0, 2), outcome.stderr
    assert not list((place / "temporary").iterdir())


# ---- the zip ----


@runs
@pytest.mark.parametrize("how", ["in place", "by another"])
@pytest.mark.attack("a package swaps the zip under proof, where nothing keeps it from files")
def test_a_zip_that_was_changed_goes_nowhere(place: Path, index: Index, how: str) -> None:
    user = user_of("somebody")
    own(place / "out", user)
    code = f"""
import glob, os
[zip] = glob.glob({str(place)!r} + "/out/.layer.zip.*.part")
content = open(zip, "rb").read() + b"more"
if {how == "by another"}:
    os.unlink(zip)
with open(zip, "r+b" if os.path.exists(zip) else "xb") as file:
    file.write(content)
"""
    files = {"evil.py": code, "evil_data.txt": "innocent"}
    make_wheel(index.folder, "evil", files=files)
    outcome = build(place, index, user, lacking=KERNELS["nothing"])
    assert (outcome.status, outcome.error["code"]) == (2, "LAYER_CHANGED"), outcome.stderr
    assert not outcome.zip.exists()


def zip_of(folder: Path, name: str, extra: bytes = b"") -> Path:
    layer = folder / "layer.zip"
    with zipfile.ZipFile(layer, "w") as one:
        info = zipfile.ZipInfo("x")
        info.filename, info.extra = name, extra
        one.writestr(info, "content")
    return layer


@pytest.mark.parametrize(
    "path",
    ["../evil", "python/../../evil", "/evil", "python//evil", "python/./evil", f"python/{'x' * 256}"],
)
@pytest.mark.attack("a layer's file would lie outside the layer")
def test_a_zip_that_goes_outside_is_the_layers_fault(tmp_path: Path, path: str) -> None:
    (tmp_path / "in").mkdir()
    layer = zip_of(tmp_path, path)
    with pytest.raises(ValueError, match="is no path within a layer"):
        unpack(layer, tmp_path / "in/opt")
    assert not list((tmp_path / "in").rglob("evil"))


@runs
@pytest.mark.attack("a layer that cannot be unpacked counts as not looked at")
def test_a_zip_that_cannot_be_unpacked_is_no_success(tmp_path: Path) -> None:
    layer = zip_of(tmp_path, "../evil")
    with pytest.raises(UnpackError) as caught:
        check(layer, Target.of(RUNTIME, HERE), [Modules("evil", ("evil",))])
    assert (caught.value.code, caught.value.exit_status) == ("LAYER_NOT_UNPACKABLE", 2)
    assert "../evil" in caught.value.message


@runs
def test_a_full_disk_says_nothing_about_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(import_check, "unpack", full)
    with pytest.raises(OSError, match="No space left"):
        try_out(tmp_path, {"evil.py": ""})


# ---- before and around it ----


@runs
@needs_gcc
@pytest.mark.attack("a library in the layer is loaded by what confines it")
def test_the_layers_libraries_are_not_in_the_launcher(tmp_path: Path) -> None:
    proof = tmp_path / "pwned"
    constructor = (
        "#include <stdio.h>\n__attribute__((constructor)) static void run(void)"
        f' {{ FILE *file = fopen("{proof}", "w"); if (file) fclose(file); }}'
    )
    names = ["libffi.so.6", "libffi.so.7", "libffi.so.8", "libm.so.6", "libdl.so.2", "libz.so.1"]
    for name in names:
        compile_one(tmp_path / "made", Library(name, soname=name, source=constructor))
    files = {f"/lib/{name}": (tmp_path / "made" / name).read_bytes() for name in names}
    try_out(tmp_path, {"evil.py": "import ctypes, math, zlib", **files})
    assert not proof.exists()


@runs
@pytest.mark.parametrize("publishing", [True, False])
@pytest.mark.attack("a package has the builder's AWS library run a credential_process")
def test_no_configuration_counts_that_came_with_an_import(
    place: Path, index: Index, publishing: bool
) -> None:
    user = user_of("somebody")
    pwned, written = place / "home/pwned", place / "home/written"
    code = f"""
import os
os.makedirs(os.path.dirname({str(pwned)!r}) + "/.aws", exist_ok=True)
for name in ("config", "credentials"):
    with open(os.path.dirname({str(pwned)!r}) + "/.aws/" + name, "w") as file:
        file.write("[default]\\ncredential_process = touch {pwned}\\n")
open({str(written)!r}, "w").close()
"""
    make_wheel(index.folder, "evil", files={"evil.py": code})
    closed = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_DEFAULT_REGION": "eu-west-1"}
    closed["AWS_EC2_METADATA_DISABLED"] = "true"
    options = ("-s", "bucket") if publishing else ("--output", "s3://bucket/layers/")
    outcome = build(place, index, user, *options, lacking=KERNELS["nothing"], environment=closed)
    assert written.exists(), outcome.stderr
    assert outcome.error["code"] == "STORAGE_DENIED"
    assert not pwned.exists()


@pytest.mark.attack("a package leaves AWS's configuration in the container's HOME")
def test_the_image_has_no_place_for_a_configuration() -> None:
    text = (ROOT / "container/Dockerfile").read_text().rpartition("\nFROM ")[2]
    settings = dict(
        word.split("=", 1)
        for line in text.splitlines()
        if line.startswith("ENV ")
        for word in line.split()[1:]
    )
    names = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_DATA_PATH")
    assert [settings.get(name) for name in names] == ["/dev/null"] * 3


def test_numbers_of_system_calls_are_the_kernels() -> None:
    places = {
        0: [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")],
        1: [Path("/usr/include/asm-generic/unistd.h")],
    }
    compared = 0
    for index, candidates in places.items():
        header = next((place for place in candidates if place.exists()), None)
        if header is None:
            continue
        known = {}
        for line in header.read_text().splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "#define" and words[1].startswith("__NR"):
                name = words[1].removeprefix("__NR3264_").removeprefix("__NR_")
                if words[2].isdecimal():
                    known.setdefault(name, int(words[2]))
        for call, numbers in CALLS.items():
            assert known.get(call, NO_SUCH_CALL) == numbers[index], call
            compared += 1
    if not compared:
        pytest.skip("the kernel's headers are not here")
