"""Bytecode: the same as Python's own tool makes, whatever the circumstances, and what import takes."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import tempfile
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layer_builder.ground.interpreter import Interpreter
from layer_builder.ground.limits import MAX_UNZIPPED_BYTES
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.layer import archive, bytecode
from layer_builder.layer.bytecode import Bytecode, BytecodeError, Compilation, Compiler
from layer_builder.proof import prove
from tests.unit.builder.wheel_maker import Content, load, make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from layer_builder.layer.archive import Plan
    from layer_builder.wheels.wheel import Wheel

# What Python takes and what it does not, in the shapes that could make a difference.
MODULES: dict[str, str | bytes | Content] = {
    "pkg/__init__.py": '"""Docstring."""\nfrom pkg.plain import f\n',
    "pkg/plain.py": "def f(x: int) -> int:\n    return [y for y in range(x) if y in {1, 2, 3}][0]\n",
    "pkg/nested.py": "def f():\n  class A:\n    def g(self):\n      return lambda: A\n  return A\n",
    "pkg/sets.py": "def f(x):\n  return x in {'one', 'two'}\ndef g(x):\n  return x in {'one', 'two'}\n",
    "pkg/numbers.py": "a = 1.5, -0.0, 1e300, 10**20, 3j, b'x', ..., None, True, 'x' * 5, 'a b c'\n",
    "pkg/optimized.py": "assert __debug__\nif __debug__:\n    x = 1\n'unused'\n",
    "pkg/warns.py": "x = 1\nx is 1\ny = '\\d'\n",
    "pkg/empty.py": "",
    "pkg/dotted.name.py": "x = 1\n",
    "pkg/-dashed.py": "x = 1\n",
    "pkg/größe.py": "größe = 'ü'\n",
    "pkg/stored.py": Content(b"x = 'stored'\n", method=zipfile.ZIP_STORED),
    "pkg/tool.py": Content(b"#!/usr/bin/env python\n", mode=0o100755),
    "pkg/latin.py": "# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"),
    "pkg/mark.py": b"\xef\xbb\xbfx = 1\n",
    "pkg/windows.py": b"x = 1\r\ny = '''\r\n'''\r\n",
    "pkg/old.py": "print 'python 2'\n",
    "pkg/template.py": "class {{ name }}:\n    pass\n",
    "pkg/indented.py": "  x = 1\n y = 2\n",
    "pkg/null.py": b"x = 1\0\n",
    "pkg/coding.py": "# -*- coding: no-such-thing -*-\n",
    "pkg/broken.py": b"x = '\xff'\n",
    "pkg/deep.py": "x = " + "(" * 2000 + ")" * 2000 + "\n",
    "pkg/long.py": "x = " + "-" * 100_000 + "1\n",
    "pkg/no_module.txt": "x = 1\n",
    "pkg/.py": "x = 1\n",
    "pkg/__pycache__/inside.py": "x = 1\n",
    "pkg/tests/__init__.py": "",
    "pkg/tests/data/inside.py": "x = 1\n",
    "pkg/tests.py": "x = 1\n",
    "pkg-1.0.data/purelib/pure.py": "x = 'purelib'\n",
    "pkg-1.0.data/platlib/plat/__init__.py": "x = 'platlib'\n",
    "pkg-1.0.data/scripts/script.py": "#!python\nx = 1\n",
    "pkg-1.0.data/data/share/data.py": "x = 1\n",
    "pkg-1.0.data/headers/header.py": "x = 1\n",
}
NOT_COMPILED = ("old", "template", "indented", "null", "coding", "broken", "deep", "long")

_FOUND: dict[str, Compiler | None] = {}


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing temporary outlives a test, however it goes."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


def added(
    plan: Plan,
    wheels: list[Wheel],
    target: Target,
    compiler: Compiler | None,
    *,
    room: int | None = None,
    **more: Any,
) -> Bytecode:
    with Compilation(target, compiler, **more) as compilation:
        return compilation.add(plan, wheels, bytecode.room(plan) if room is None else room)


def target_of(minor: str) -> Target:
    return Target.of(f"python{minor}", "arm64")


def compiler_of(minor: str) -> Compiler:
    if minor not in _FOUND:
        _FOUND[minor] = Compiler.find(target_of(minor))
    found = _FOUND[minor]
    if found is None:
        pytest.skip(f"there is no Python {minor} on this machine")
    return found


@pytest.fixture(params=[name.removeprefix("python") for name in RUNTIMES])
def minor(request: pytest.FixtureRequest) -> str:
    """Each of Lambda's versions that is at hand."""
    compiler_of(request.param)
    return str(request.param)


@pytest.fixture
def any_minor() -> str:
    """One version, where it does not matter which."""
    for name in RUNTIMES:
        minor = name.removeprefix("python")
        if minor not in _FOUND:
            _FOUND[minor] = Compiler.find(target_of(minor))
        if _FOUND[minor]:
            return minor
    pytest.skip("there is no Python of any of Lambda's versions on this machine")


def wheel_of(
    folder: Path, files: Mapping[str, str | bytes | Content], name: str = "pkg", **more: object
) -> Wheel:
    return load(make_wheel(folder / name, name, "1.0", files, **more))  # type: ignore[arg-type]


def merged(wheels: list[Wheel], minor: str) -> Plan:
    return archive.plan(wheels, target_of(minor))


def compiled(wheels: list[Wheel], minor: str, **more: int) -> Bytecode:
    return added(merged(wheels, minor), wheels, target_of(minor), compiler_of(minor), **more)


def zipped(plan: Plan, file: Path) -> zipfile.ZipFile:
    with file.open("w+b", buffering=0) as stream:
        archive.write(plan, stream)
    layer = zipfile.ZipFile(file)
    assert layer.testzip() is None
    return layer


def pycs(plan: Plan) -> set[str]:
    return {entry.path for entry in plan.entries if entry.path.endswith(".pyc")}


def packs(folder: Path) -> dict[str, tuple[bytes, bytes]]:
    """What the cache has of bytecode, by the name of its folder."""
    found = {
        file.parent.name: (file.read_bytes(), file.with_name("modules.json").read_bytes())
        for file in folder.rglob("bytecode-*/*.zip")
    }
    assert len(list(folder.rglob("bytecode-*/*"))) == 2 * len(found)
    return found


def ask(interpreter: Interpreter, script: str, *arguments: str | Path, **more: str) -> str:
    """Run a script in an interpreter and return what it prints."""
    command = [interpreter.path, "-I", "-S", "-W", "ignore", "-X", "utf8", "-c", script, *arguments]
    result = subprocess.run(command, env={**interpreter.environment, **more}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


# Version 2 of marshal's format knows no references, so that only the content counts.
COMPARE = """
import json, marshal, pathlib, sys, zipfile
layer, tree, same, different = zipfile.ZipFile(sys.argv[1]), pathlib.Path(sys.argv[2]), [], []
def content(pyc):
    return pyc[:16], marshal.dumps(marshal.loads(pyc[16:]), 2)
for path in layer.namelist():
    if path.endswith('.pyc'):
        ours, theirs = layer.read(path), (tree / path).read_bytes()
        if content(ours) != content(theirs): different.append(path)
        if ours == theirs: same.append(path)
theirs = [str(path.relative_to(tree)) for path in tree.rglob('*.pyc')]
print(json.dumps({'theirs': theirs, 'same': same, 'different': different}))
"""


def compare_with_compileall(layer: zipfile.ZipFile, tree: Path, minor: str) -> dict[str, list[str]]:
    """Unpack the sources, have `python -m compileall` compile them as for Lambda, and compare the two."""
    for path in layer.namelist():
        if path.startswith("python/") and not path.endswith(".pyc"):
            layer.extract(path, tree)
    interpreter = compiler_of(minor).interpreter
    options = ("--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", "/opt", "-qq")
    # Its status says that some do not compile, which is so here.
    subprocess.run(
        [interpreter.path, "-I", "-W", "ignore", "-m", "compileall", *options, tree / "python"],
        env={**interpreter.environment, "LC_ALL": "C.UTF-8"},
    )
    found: dict[str, list[str]] = json.loads(ask(interpreter, COMPARE, str(layer.filename), tree))
    return found


def test_same_as_compileall(tmp_path: Path, minor: str) -> None:
    wheel = wheel_of(tmp_path, MODULES)
    result = compiled([wheel], minor)
    layer = zipped(result.plan, tmp_path / "layer.zip")
    found = compare_with_compileall(layer, tmp_path / "tree", minor)
    site = target_of(minor).site_packages
    # compileall does not know what is data.
    tag = f"cpython-{minor.replace('.', '')}"
    data = {
        f"{site}/share/__pycache__/data.{tag}.pyc",
        f"{site}/include/python/pkg/__pycache__/header.{tag}.pyc",
    }
    nameless = {f"{site}/pkg/__pycache__/py.{tag}.pyc"}
    tests = {path for path in found["theirs"] if "/tests/" in path}
    assert pycs(result.plan) == set(found["theirs"]) - data - nameless - tests
    assert found["different"] == []
    assert set(found["same"]) == pycs(result.plan)
    assert result.modules == len(pycs(result.plan)) == 19
    assert result.not_compiled == len(NOT_COMPILED)
    assert not any(f"/{name}.{tag}" in path for path in pycs(result.plan) for name in NOT_COMPILED)
    assert {f"{site}/__pycache__/pure.{tag}.pyc", f"{site}/plat/__pycache__/__init__.{tag}.pyc"} <= pycs(
        result.plan
    )


@pytest.mark.sample(1)
def test_same_as_compileall_on_the_standard_library(tmp_path: Path, minor: str) -> None:
    interpreter = compiler_of(minor).interpreter
    library = Path(ask(interpreter, "import os; print(os.path.dirname(os.__file__), end='')"))
    folders = ("asyncio", "collections", "ctypes", "email", "importlib", "json", "lib2to3", "unittest", "xml")
    chosen = [*library.glob("*.py"), *(file for name in folders for file in (library / name).rglob("*.py"))]
    chosen = [file for file in chosen if not {"test", "tests"} & {*file.relative_to(library).parts}]
    files = {f"copy/{file.relative_to(library)}": file.read_bytes() for file in chosen}
    wheel = wheel_of(tmp_path, files, "copy")
    result = compiled([wheel], minor)
    assert result.modules > 250
    found = compare_with_compileall(zipped(result.plan, tmp_path / "layer.zip"), tmp_path / "tree", minor)
    assert pycs(result.plan) == set(found["theirs"])
    assert found["different"] == []
    # Some of compileall's own bytes hang on what it compiled before, in the order of its folders.
    assert len(found["same"]) > 0.95 * result.modules


def test_the_bytes_depend_on_nothing_else(
    tmp_path: Path, minor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytecode, "_PART_BYTES", 500)  # several parts, so that they race
    outcomes = set()
    for turn in range(4):
        folder = tmp_path / f"turn {turn}"
        monkeypatch.setenv("PYTHONHASHSEED", str(turn))
        monkeypatch.setenv("PYTHONOPTIMIZE", "2")
        monkeypatch.setenv("LC_ALL", ("C", "tr_TR.UTF-8", "de_DE.ISO-8859-1", "C.UTF-8")[turn])
        monkeypatch.setenv("TZ", ("UTC", "Asia/Tokyo")[turn % 2])
        monkeypatch.chdir(tmp_path if turn % 2 else "/")
        before = os.umask((0o022, 0o077, 0o000, 0o027)[turn])
        try:
            wheels = [
                wheel_of(folder, MODULES),
                wheel_of(folder, {"other.py": "x = 1\n", "pkg/more.py": "x = {'one'}\n"}, "other"),
                wheel_of(folder, {"data.txt": "nothing to compile"}, "data"),
            ]
            random.Random(turn).shuffle(wheels)
            result = compiled(wheels, minor, workers=(1, 2, 5, 16)[turn])
            made = packs(folder)
            again = compiled(wheels, minor)
        finally:
            os.umask(before)
        assert len(made) == 3
        layers = [folder / name for name in ("first.zip", "again.zip")]
        for one, file in zip((result, again), layers, strict=True):
            zipped(one.plan, file)
        outcomes.add((tuple(sorted(made.items())), *(file.read_bytes() for file in layers)))
        assert layers[0].read_bytes() == layers[1].read_bytes()
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o644 for file in folder.rglob("bytecode-*/*"))
    assert len(outcomes) == 1


IMPORT = """
import sys
layer, name = sys.argv[1], sys.argv[2]
compiled, sources = [], []
def hook(event, arguments):
    if event == 'compile' and str(arguments[1]).startswith((layer, '/opt')): compiled.append(arguments[1])
    if event == 'open' and str(arguments[0]).startswith(layer) and str(arguments[0]).endswith('.py'):
        sources.append(arguments[0])
sys.addaudithook(hook)
sys.dont_write_bytecode = True
sys.path.insert(0, layer)
module = __import__(name, fromlist=['x'])
print(len(compiled), len(sources), module.__cached__.endswith('.pyc'), module.f.__code__.co_filename)
"""


def test_import_compiles_nothing_and_reads_no_source(tmp_path: Path, minor: str) -> None:
    wheel = wheel_of(tmp_path, MODULES)
    interpreter, target = compiler_of(minor).interpreter, target_of(minor)
    seen = {}
    for kind, plan in (("without", merged([wheel], minor)), ("with", compiled([wheel], minor).plan)):
        tree = tmp_path / kind
        zipped(plan, tmp_path / f"{kind}.zip").extractall(tree)
        for path in (tree, *tree.rglob("*")):
            os.utime(path, (315532800, 315532800))
            path.chmod(0o555 if path.is_dir() else 0o444)
        site = tree / target.site_packages
        seen[kind] = ask(interpreter, IMPORT, site, "pkg").split()
        assert seen[kind][3] == f"{site}/pkg/plain.py"
    assert seen["without"][:2] == ["2", "2"]
    assert seen["with"][:3] == ["0", "0", "True"]


def test_tracebacks_name_the_place_on_lambda(tmp_path: Path, minor: str) -> None:
    wheel = wheel_of(tmp_path, {"pkg/one.py": "def f():\n    return 1 / 0\n"})
    layer = zipped(compiled([wheel], minor).plan, tmp_path / "layer.zip")
    (path,) = (name for name in layer.namelist() if name.endswith(".pyc"))
    (tmp_path / "one.pyc").write_bytes(layer.read(path))
    script = (
        "import marshal, sys; code = marshal.loads(open(sys.argv[1], 'rb').read()[16:]);"
        "print({c.co_filename for c in (code, code.co_consts[0])}.pop())"
    )
    shown = ask(compiler_of(minor).interpreter, script, tmp_path / "one.pyc").strip()
    assert shown == "/opt/python/pkg/one.py"


# The merge.


def evaluated(layer: zipfile.ZipFile, path: str, minor: str, tmp_path: Path) -> str:
    """Run a `.pyc` of a layer and return its x."""
    (tmp_path / "one.pyc").write_bytes(layer.read(path))
    script = (
        "import marshal, sys; names = {};"
        "exec(marshal.loads(open(sys.argv[1], 'rb').read()[16:]), names); print(names['x'])"
    )
    return ask(compiler_of(minor).interpreter, script, tmp_path / "one.pyc").strip()


def test_a_conflicts_loser_brings_no_bytecode(tmp_path: Path, any_minor: str) -> None:
    alpha = wheel_of(
        tmp_path,
        {"shared/one.py": "x = 'alpha'\n", "shared/two.py": "print 2", "shared/same.py": "x = 1"},
        "alpha",
    )
    beta = wheel_of(
        tmp_path,
        {"shared/one.py": "x = 'beta!'\n", "shared/two.py": "x = 'beta'\n", "shared/same.py": "x = 1"},
        "beta",
    )
    tag, site = f"cpython-{any_minor.replace('.', '')}", target_of(any_minor).site_packages
    outcomes = set()
    for wheels in ([alpha, beta], [beta, alpha]):
        result = compiled(wheels, any_minor)
        layer = zipped(result.plan, tmp_path / "layer.zip")
        assert pycs(result.plan) == {
            f"{site}/shared/__pycache__/one.{tag}.pyc",
            f"{site}/shared/__pycache__/same.{tag}.pyc",
        }
        assert evaluated(layer, f"{site}/shared/__pycache__/one.{tag}.pyc", any_minor, tmp_path) == "alpha"
        outcomes.add((tmp_path / "layer.zip").read_bytes())
    assert len(outcomes) == 1
    # The other way round, when beta needs nothing and alpha is what it overwrites.
    beta = wheel_of(tmp_path / "needy", {"shared/one.py": "x = 'beta!'\n"}, "beta", requires=("alpha",))
    result = compiled([alpha, beta], any_minor)
    layer = zipped(result.plan, tmp_path / "layer.zip")
    assert evaluated(layer, f"{site}/shared/__pycache__/one.{tag}.pyc", any_minor, tmp_path) == "beta!"


def test_rewritten_source_has_no_bytecode_of_the_old_one(tmp_path: Path, any_minor: str) -> None:
    wheel = wheel_of(tmp_path, {"one.py": "x = 1\n", "two.py": "x = 1\n"})
    plan = merged([wheel], any_minor)
    entries = [
        replace(entry, member=None, made=b"x = 2\n") if entry.path.endswith("one.py") else entry
        for entry in plan.entries
    ]
    plan = replace(plan, entries=tuple(entries))
    result = added(plan, [wheel], target_of(any_minor), compiler_of(any_minor))
    assert [path.rpartition("/")[2].partition(".")[0] for path in pycs(result.plan)] == ["two"]


def test_one_path_twice_in_one_wheel(tmp_path: Path, any_minor: str) -> None:
    files = {"one.py": "x = 'root'\n", "pkg-1.0.data/purelib/one.py": "x = 'moved'\n"}
    result = compiled([wheel_of(tmp_path, files)], any_minor)
    layer = zipped(result.plan, tmp_path / "layer.zip")
    source = layer.read(f"{target_of(any_minor).site_packages}/one.py").decode()
    (path,) = pycs(result.plan)
    assert evaluated(layer, path, any_minor, tmp_path) in source


def test_shipped_bytecode_gives_way(tmp_path: Path, any_minor: str) -> None:
    tag, site = f"cpython-{any_minor.replace('.', '')}", target_of(any_minor).site_packages
    shipped = {
        f"pkg/__pycache__/one.{tag}.pyc": b"stale",
        "pkg/__pycache__/one.cpython-27.pyc": b"another version's",
        f"pkg/__pycache__/bad.{tag}.pyc": b"of what does not compile",
        f"pkg/__pycache__/sourceless.{tag}.pyc": b"of nothing",
        "pkg/legacy.pyc": b"beside its source",
    }
    wheel = wheel_of(
        tmp_path, {"pkg/one.py": "x = 'one'\n", "pkg/bad.py": "x =", "pkg/legacy.py": "", **shipped}
    )
    result = compiled([wheel], any_minor)
    layer = zipped(result.plan, tmp_path / "layer.zip")
    assert len(layer.namelist()) == len(set(layer.namelist()))
    assert evaluated(layer, f"{site}/pkg/__pycache__/one.{tag}.pyc", any_minor, tmp_path) == "one"
    for path in list(shipped)[1:]:
        assert layer.read(f"{site}/{path}") == shipped[path]
    assert (result.modules, result.not_compiled) == (2, 1)
    assert_sizes(result, layer)
    growth = result.plan.unzipped_bytes - merged([wheel], any_minor).unzipped_bytes
    assert growth < result.unzipped_bytes
    assert compiled([wheel], any_minor, room=growth).reason == ""
    assert compiled([wheel], any_minor, room=growth - 1).reason != ""


def assert_sizes(result: Bytecode, layer: zipfile.ZipFile) -> None:
    total = sum(info.file_size for info in layer.infolist())
    assert result.plan.unzipped_bytes == total == sum(entry.size for entry in result.plan.entries)
    ours = [info.file_size for info in layer.infolist() if info.filename in pycs(result.plan)]
    assert len(ours) >= result.modules
    assert [entry.path for entry in result.plan.entries] == layer.namelist()


def test_what_lies_where_bytecode_would(tmp_path: Path, any_minor: str) -> None:
    tag = f"cpython-{any_minor.replace('.', '')}"
    files = {
        "file/__pycache__": "a file",
        "file/one.py": "x = 1\n",
        f"folder/__pycache__/one.{tag}.pyc/deep/inside": "a folder",
        "folder/one.py": "x = 1\n",
        "folder/two.py": "x = 1\n",
    }
    result = compiled([wheel_of(tmp_path, files)], any_minor)
    site = target_of(any_minor).site_packages
    assert pycs(result.plan) == {f"{site}/folder/__pycache__/two.{tag}.pyc"}
    layer = zipped(result.plan, tmp_path / "layer.zip")
    layer.extractall(tmp_path / "tree")
    assert_sizes(result, layer)


def test_sizes_and_unzip(tmp_path: Path, any_minor: str) -> None:
    wheels = [wheel_of(tmp_path, MODULES), wheel_of(tmp_path, {"other.py": "x = 1\n"}, "other")]
    plain = merged(wheels, any_minor)
    result = compiled(wheels, any_minor)
    layer = zipped(result.plan, tmp_path / "layer.zip")
    assert_sizes(result, layer)
    assert result.unzipped_bytes == result.plan.unzipped_bytes - plain.unzipped_bytes
    assert set(plain.entries) < set(result.plan.entries)
    assert result.plan.warnings == plain.warnings
    assert result.warning is None
    assert result.check == {
        "status": "added",
        "interpreter": compiler_of(any_minor).interpreter.version,
        "modules": 20,
        "not_compiled": len(NOT_COMPILED),
        "too_large": [],
        "unzipped_bytes": result.unzipped_bytes,
    }
    assert subprocess.run(["unzip", "-tq", tmp_path / "layer.zip"], capture_output=True).returncode == 0
    order = [(entry.wheel.pick.name, entry.path) for entry in result.plan.entries]
    assert order == sorted(order)


# None of it, and said so.


def test_all_or_nothing_within_the_room(tmp_path: Path, any_minor: str) -> None:
    wheels = [wheel_of(tmp_path, MODULES), wheel_of(tmp_path, {"other.py": "x = 1\n"}, "other")]
    needed = compiled(wheels, any_minor).unzipped_bytes
    assert compiled(wheels, any_minor, room=needed).modules == 20
    for room in (needed - 1, 1, 0, -5):
        result = compiled(wheels, any_minor, room=room)
        assert result.plan == merged(wheels, any_minor)
        assert result.reason.startswith(
            f"it takes more than the {max(room, 0):,} bytes that the layer has left"
        )
        assert result.check == {"status": "skipped", "reason": result.reason}
        assert result.warning == f"The layer has no compiled bytecode: {result.reason}."


def test_a_tenth_of_the_limit_is_the_functions_own(tmp_path: Path, any_minor: str) -> None:
    plan = merged([wheel_of(tmp_path, MODULES)], any_minor)
    assert bytecode.room(plan) == MAX_UNZIPPED_BYTES * 9 // 10 - plan.unzipped_bytes
    assert bytecode.room(plan, 1000) == 900 - plan.unzipped_bytes


def test_no_interpreter_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode.interpreter, "find", lambda minor: None)
    target = target_of("3.13")
    assert Compiler.find(target) is None
    wheels = [wheel_of(tmp_path, MODULES)]
    plan = archive.plan(wheels, target)
    result = added(plan, wheels, target, None)
    assert result.plan is plan
    assert result.reason == "there is no Python 3.13 where the layer is built"


def test_interpreter_without_zlib_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = executable(tmp_path / "python", "echo 'no module named zlib' >&2; exit 1")
    monkeypatch.setattr(bytecode.interpreter, "find", lambda minor: Interpreter(script, "3.13.0"))
    assert Compiler.find(target_of("3.13")) is None


# The cache.


def test_compiled_once(tmp_path: Path, any_minor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = [wheel_of(tmp_path, MODULES), wheel_of(tmp_path, {"data.txt": "nothing to compile"}, "data")]
    first = compiled(wheels, any_minor)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was started"))
        assert compiled(wheels, any_minor) == first
    before = packs(tmp_path)
    compiled([*wheels, wheel_of(tmp_path, {"third.py": ""}, "third")], any_minor)
    assert before.items() < packs(tmp_path).items()


def test_other_compiler_other_pack(tmp_path: Path, any_minor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, target, compiler = wheel_of(tmp_path, MODULES), target_of(any_minor), compiler_of(any_minor)
    plan = merged([wheel], any_minor)
    others = [compiler, replace(compiler, zlib="9.9"), replace(compiler, build="3.99.0 (main)")]
    for one in others:
        added(plan, [wheel], target, one)
    monkeypatch.setattr(bytecode, "FORMAT", bytecode.FORMAT + 1)
    added(plan, [wheel], target, compiler)
    assert len(packs(tmp_path)) == 4
    assert len({one.identity for one in others}) == 3


def test_damaged_packs_are_made_anew(tmp_path: Path, any_minor: str) -> None:
    wheel = wheel_of(tmp_path, {"one.py": "x = 1\n", "two.py": "x =\n"})
    first = compiled([wheel], any_minor)
    good = packs(tmp_path)
    (pack,) = tmp_path.rglob("bytecode-*/*.zip")
    record = pack.with_name("modules.json")
    nonsense = (b"", b"[]", b"{}", b"null", b"\xff", b'{"bytes": %d}' % pack.stat().st_size)
    damages = [(record, content) for content in nonsense]
    damages += [(record, record.read_bytes()[:length]) for length in range(0, record.stat().st_size, 7)]
    damages += [(pack, pack.read_bytes()[:length]) for length in range(0, pack.stat().st_size, 7)]
    damages += [(pack, pack.read_bytes() + b"\0")]
    for file, content in damages:
        before = file.read_bytes()
        file.write_bytes(content)
        assert bytecode._load(wheel, pack) is None
        file.write_bytes(before)
    for file in (pack, record):
        file.write_bytes(file.read_bytes()[:-20])
        assert compiled([wheel], any_minor) == first
        assert packs(tmp_path) == good
    for file in (pack, record):
        file.unlink()
        assert compiled([wheel], any_minor) == first
        assert packs(tmp_path) == good


def test_a_pack_is_a_zip_that_anyone_can_read(tmp_path: Path, any_minor: str) -> None:
    wheel = wheel_of(tmp_path, MODULES)
    result = compiled([wheel], any_minor)
    (file,) = tmp_path.rglob("bytecode-*/*.zip")
    pack, layer = zipfile.ZipFile(file), zipped(result.plan, tmp_path / "layer.zip")
    assert pack.testzip() is None
    site = target_of(any_minor).site_packages
    assert {f"{site}/{path}" for path in pack.namelist()} == pycs(result.plan)
    for entry in result.plan.entries:
        if entry.path in pycs(result.plan):
            assert entry.member is not None
            assert entry.wheel.read(entry.member.path) == layer.read(entry.path)


def test_the_proof_sees_the_wheels_native_files_all_the_same(tmp_path: Path, any_minor: str) -> None:
    library = Path("/proc/self/exe").resolve().read_bytes()
    files = {"pkg/native.so": library, "pkg/__init__.py": "x = 1\n", "zzz.py": "x = 1\n"}
    wheel = wheel_of(tmp_path, files)
    plan = compiled([wheel], any_minor).plan
    assert [file.path for file in prove.native_files(plan)] == [
        f"{target_of(any_minor).site_packages}/pkg/native.so"
    ]


def test_several_builders_at_once(tmp_path: Path, any_minor: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    wheel = wheel_of(tmp_path, MODULES)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: compiled([wheel], any_minor), range(4)))
    assert all(result == results[0] for result in results)
    assert len(packs(tmp_path)) == 1
    assert leftovers(tmp_path) == []


# Trouble.


def executable(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def stand_in(path: Path, text: str, minor: str) -> Compiler:
    """An interpreter that does something else than compile."""
    return replace(compiler_of(minor), interpreter=Interpreter(executable(path, text), f"{minor}.99"))


def leftovers(folder: Path) -> list[Path]:
    return [
        file for file in folder.rglob("*") if file.suffix == ".part" or file.name.startswith(("tmp", "."))
    ]


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kill -SEGV $$", "was ended (Segmentation fault)"),
        ("kill -KILL $$", "was ended (Killed)"),
        ("exec /bin/sleep 60", "took longer than 0.5 seconds"),
        ("echo 'Traceback:' >&2; echo 'OSError: no space' >&2; exit 1", "failed (OSError: no space)"),
        ("exit 3", "failed (it did not say why)"),
    ],
)
def test_crash_or_hang_names_the_wheel(tmp_path: Path, any_minor: str, text: str, message: str) -> None:
    wheel = wheel_of(tmp_path, {"one.py": "x = 1\n"})
    other = wheel_of(tmp_path, {"data.txt": ""}, "data")
    compiler = stand_in(tmp_path / "python", text, any_minor)
    plan, limit = merged([wheel, other], any_minor), 0.5 if "sleep" in text else 60
    with pytest.raises(BytecodeError) as caught:
        added(plan, [wheel, other], target_of(any_minor), compiler, time_limit=limit)
    assert str(caught.value) == f"of the modules of pkg-1.0-py3-none-any.whl Python {any_minor}.99 {message}"
    assert packs(tmp_path) == {}
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("output", ["", "junk that is no index", "[]\\0\\0\\0\\0\\0\\0\\0\\2"])
def test_nonsense_from_a_worker_is_not_kept(tmp_path: Path, any_minor: str, output: str) -> None:
    wheel = wheel_of(tmp_path, {"one.py": "x = 1\n"})
    compiler = stand_in(tmp_path / "python", f"printf '{output}'", any_minor)
    with pytest.raises((ValueError, OSError)):
        added(merged([wheel], any_minor), [wheel], target_of(any_minor), compiler)
    assert packs(tmp_path) == {}
    assert leftovers(tmp_path) == []


def test_failure_ends_the_other_processes(tmp_path: Path, any_minor: str) -> None:
    """One crashes while another one hangs: the error comes at once, and nothing keeps running."""
    crashing = wheel_of(tmp_path, {"one.py": "x = 1\n"}, "crashing")
    hanging = wheel_of(tmp_path, {"two.py": "x = 1\n"}, "hanging")
    pid_file = tmp_path / "pid"
    text = f"""
if grep -q hanging; then echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec /bin/sleep 600; fi
while [ ! -e {pid_file} ]; do /bin/sleep 0.01; done
kill -SEGV $$"""
    compiler = stand_in(tmp_path / "python", text, any_minor)
    wheels = [crashing, hanging]
    with pytest.raises(BytecodeError, match="crashing"):
        added(merged(wheels, any_minor), wheels, target_of(any_minor), compiler, workers=2)
    assert not is_running(int(pid_file.read_text()))


def test_no_room_ends_the_other_processes(tmp_path: Path, any_minor: str) -> None:
    small = wheel_of(tmp_path, {"one.py": "x = 1\n"}, "a-small")
    compiled([small], any_minor)
    hanging = wheel_of(tmp_path, {"two.py": "x = 1\n"}, "hanging")
    pid_file = tmp_path / "pid"
    compiler = stand_in(tmp_path / "python", f"echo $$ > {pid_file}; exec /bin/sleep 600", any_minor)
    wheels = [small, hanging]
    result = added(merged(wheels, any_minor), wheels, target_of(any_minor), compiler, room=1)
    assert result.reason
    for _ in range(100):
        if not pid_file.exists() or not pid_file.read_text() or not is_running(int(pid_file.read_text())):
            break
        time.sleep(0.02)
    assert not (pid_file.exists() and pid_file.read_text() and is_running(int(pid_file.read_text())))


def test_changed_wheel_is_not_compiled(tmp_path: Path, any_minor: str) -> None:
    wheel = wheel_of(tmp_path, {"one.py": Content(b"x = 1\n", method=zipfile.ZIP_STORED)})
    wheel.file.write_bytes(wheel.file.read_bytes().replace(b"x = 1\n", b"x = 2\n"))
    with pytest.raises(BytecodeError, match="the wheel is not the one that was verified"):
        compiled([wheel], any_minor)
    assert packs(tmp_path) == {}


def test_workers_see_none_of_our_environment(
    tmp_path: Path, any_minor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    wheel = wheel_of(tmp_path, {"one.py": "x = 1\n"})
    compiler = stand_in(tmp_path / "python", f"/usr/bin/env > {tmp_path}/seen; exit 1", any_minor)
    with pytest.raises(BytecodeError):
        added(merged([wheel], any_minor), [wheel], target_of(any_minor), compiler)
    seen = (tmp_path / "seen").read_text()
    assert "PWD=" in seen or seen == ""
    assert "secret" not in seen
