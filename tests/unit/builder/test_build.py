"""A build whole, in this process: proof and bytecode between the wheels and the zip."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from layer_builder.build import build
from layer_builder.ground import interpreter
from layer_builder.ground.errors import BuildError, LayerTooLargeError
from layer_builder.ground.target import RUNTIMES
from layer_builder.options import Options
from layer_builder.proof.import_check import ImportCheckError
from layer_builder.proof.libraries import MissingLibraryError
from layer_builder.proof.prove import WrongMachineError
from layer_builder.results.report import Report
from layer_builder.wheels import elf, wheel
from tests.conftest import sampled
from tests.unit.builder.native_maker import HERE, MACHINES, Library, compile_one, module_source, needs_gcc
from tests.unit.builder.wheel_maker import make_wheel, pick_of

if TYPE_CHECKING:
    from pathlib import Path

    from layer_builder.ground.settings import Settings
    from tests.unit.builder.wheel_maker import Index

AT_HAND = next((name for name in reversed(RUNTIMES) if interpreter.find(name.removeprefix("python"))), "")
OTHER = next((name for name in MACHINES if name != HERE), "")
needs_python = pytest.mark.skipif(
    not (AT_HAND and HERE), reason="there is no interpreter of a Lambda runtime on this machine"
)


class Builder:
    """Builds layers into a folder and keeps the last report."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.report = Report()

    def __call__(self, lines: str, **options: Any) -> dict[str, bytes]:
        """Build; return the layer's files."""
        self.report = Report()
        file = self.folder / "layer.zip"
        file.unlink(missing_ok=True)
        given = {"architecture": HERE or "x86_64", "runtime": AT_HAND or "python3.13", **options}
        build(Options(inline=lines, output=str(file), **given), self.settings, self.report)
        with zipfile.ZipFile(file) as layer:
            return {name: layer.read(name) for name in layer.namelist()}

    def left(self) -> list[str]:
        return sorted(file.name for file in self.folder.iterdir())


@pytest.fixture
def builder(tmp_path: Path, settings: Settings) -> Builder:
    folder = tmp_path / "out"
    folder.mkdir()
    return Builder(folder, settings)


def native_wheel(index: Index, tmp_path: Path, name: str, **made: Any) -> Path:
    """Make a wheel with one extension module, written in C."""
    library = compile_one(tmp_path / "made", Library(f"{name}.abi3.so", source=module_source(name), **made))
    return make_wheel(index.folder, name, files={f"{name}.abi3.so": library.read_bytes()})


@needs_gcc
def test_a_missing_library_stops_the_build_before_anything_is_written(
    builder: Builder, index: Index, tmp_path: Path
) -> None:
    compile_one(tmp_path / "made", Library("libodd.so.7", soname="libodd.so.7"))
    native_wheel(index, tmp_path, "native", needed=("libodd.so.7",))
    with pytest.raises(MissingLibraryError, match=r"native needs libodd\.so\.7"):
        builder("native")
    assert builder.left() == []
    assert builder.report.checks["libraries"]["status"] == "failed"
    assert [package.name for package in builder.report.packages] == ["native"]


@needs_gcc
def test_a_module_for_another_machine_stops_the_build(builder: Builder, index: Index, tmp_path: Path) -> None:
    library = compile_one(
        tmp_path / "made", Library("native.abi3.so", source=module_source("native"))
    ).read_bytes()
    platforms = {"arm64": "manylinux_2_17_aarch64", "x86_64": "manylinux_2_17_x86_64"}
    make_wheel(
        index.folder, "native", files={"native.abi3.so": library}, tag=f"cp311-abi3-{platforms[OTHER]}"
    )
    with pytest.raises(WrongMachineError, match="native"):
        builder("native", architecture=OTHER)
    assert builder.left() == []


@needs_gcc
def test_what_native_files_say_is_found_while_the_wheel_is_verified(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = native_wheel(index, tmp_path, "native")
    scanned = elf.scan(file)
    assert [fact.path for fact in scanned] == ["native.abi3.so"]
    wheel.load(pick_of(file), file)
    monkeypatch.delattr(elf, "scan")
    assert elf.load(file) == scanned


@pytest.mark.parametrize(("room", "fits"), [(0, True), (-1, False)])
def test_the_size_limit_counts_to_the_byte(builder: Builder, index: Index, room: int, fits: bool) -> None:
    make_wheel(index.folder, "big", files={"big.py": "x = 1\n" * 1000})
    size = sum(map(len, builder("big").values()))
    if fits:
        builder("big", size_limit=size + room)
        assert builder.report.checks["size"]["left_bytes"] == 0
    else:
        with pytest.raises(LayerTooLargeError, match=f"{size:,} bytes; the limit for it is {size - 1:,}"):
            builder("big", size_limit=size + room)
        assert builder.left() == []
        assert builder.report.checks["size"]["status"] == "failed"


@needs_python
def test_what_was_asked_for_is_imported_and_what_came_along_is_not(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "app", requires=("dep",))
    make_wheel(index.folder, "dep", files={"dep.py": "raise RuntimeError('nobody asked')\n"})
    builder("app")
    check = builder.report.checks["imports"]
    if check["status"] == "not_run":
        pytest.skip(check["reason"])
    assert (check["status"], check["modules"]) == ("passed", ["app"])


@needs_python
def test_a_module_that_does_not_import_leaves_no_zip(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "app", files={"app.py": "import nowhere\n"})
    builder("app", import_check=False)
    assert builder.report.checks["imports"] == {
        "status": "not_run", "reason": "--no-import-check was given"
    }  # fmt: skip
    try:
        builder("app")
    except ImportCheckError as error:
        assert "`import app` fails" in error.message
        assert "No module named 'nowhere'" in error.message
        assert builder.report.checks["imports"]["status"] == "failed"
        assert builder.left() == []
    else:
        pytest.skip(builder.report.checks["imports"]["reason"])


def test_imports_for_another_machine_are_not_run_and_the_reason_is_said(
    builder: Builder, index: Index
) -> None:
    make_wheel(index.folder, "app", files={"app.py": "import nowhere\n"})
    builder("app", architecture=OTHER)
    check = builder.report.checks["imports"]
    assert check["status"] == "not_run"
    assert OTHER in check["reason"]


@needs_python
def test_bytecode_is_added_counted_and_part_of_the_digest(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "app", files={"app.py": "x = 1\n", "no.py": "this is no Python\n"})
    plain = builder("app")
    digest = builder.report.layer and builder.report.layer.digest
    compiled = builder("app", bytecode=True)
    report = builder.report
    assert report.layer
    assert report.layer.digest != digest
    [added] = compiled.keys() - plain.keys()
    assert added.endswith(f"/__pycache__/app.cpython-{AT_HAND.removeprefix('python').replace('.', '')}.pyc")
    assert {name: compiled[name] for name in plain} == plain
    check = report.checks["bytecode"]
    assert (check["status"], check["modules"], check["not_compiled"]) == ("added", 1, 1)
    whole = sum(map(len, compiled.values()))
    assert report.checks["size"]["unzipped_bytes"] == report.layer.zip.unzipped_bytes == whole
    assert [package.unzipped_bytes for package in report.packages] == [whole]


@needs_python
def test_bytecode_that_does_not_fit_is_left_out_and_said(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "app")
    size = sum(map(len, builder("app").values()))
    plain = builder("app", size_limit=size)
    assert builder("app", size_limit=size, bytecode=True) == plain
    assert builder.report.checks["bytecode"]["status"] == "skipped"
    assert any("no compiled bytecode" in warning for warning in builder.report.warnings)


def test_without_the_targets_python_there_is_no_bytecode_and_the_layer_stays_the_same(
    builder: Builder, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(index.folder, "app")
    plain = builder("app", import_check=False)
    digest = builder.report.layer and builder.report.layer.digest
    monkeypatch.setattr(interpreter, "find", lambda _: None)
    assert builder("app", import_check=False, bytecode=True) == plain
    assert builder.report.layer
    assert builder.report.layer.digest == digest
    assert builder.report.checks["bytecode"]["status"] == "skipped"


@pytest.mark.index
@pytest.mark.parametrize("architecture", sampled(MACHINES, lambda one: one == "x86_64"))
def test_opencv_fails_and_its_headless_sister_does_not(builder: Builder, architecture: str) -> None:
    from dataclasses import replace

    builder.settings = replace(builder.settings, index_url="")
    with pytest.raises(BuildError, match=r"libGL\.so\.1") as caught:
        builder("opencv-python", architecture=architecture, runtime="python3.13")
    assert (caught.value.code, caught.value.exit_status) == ("MISSING_SHARED_LIBRARY", 2)
    assert "opencv-python-headless" in caught.value.hint
    builder("opencv-python-headless", architecture=architecture, runtime="python3.13")
    assert builder.report.checks["libraries"]["status"] == "passed"
    assert builder.report.checks["imports"]["status"] in ("passed", "not_run")
