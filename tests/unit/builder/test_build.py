"""A build whole, in this process: proof and bytecode between the wheels and the zip."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from layer_builder.build import build
from layer_builder.ground import interpreter
from layer_builder.ground.errors import BuildError, LayerTooLargeError, RequirementsError
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
    size = sum(map(len, builder("big", bytecode=False).values()))
    if fits:
        builder("big", size_limit=size + room)
        assert builder.report.checks["size"]["left_bytes"] == 0
    else:
        with pytest.raises(LayerTooLargeError, match=f"{size:,} bytes; the limit for it is {size - 1:,}"):
            builder("big", size_limit=size + room)
        assert builder.left() == []
        assert builder.report.checks["size"]["status"] == "failed"


BIG = {"big/__init__.py": "x = 1\n" * 1000, "big/a.h": "h" * 500, "big/tests/test_big.py": "t" * 700}


def test_a_layer_over_the_limit_is_made_to_fit_and_says_so(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "big", files=BIG)
    whole = builder("big", bytecode=False)
    digest, size = builder.report.layer and builder.report.layer.digest, sum(map(len, whole.values()))
    assert "left_out" not in builder.report.checks
    less = builder("big", size_limit=size - 600, bytecode=False)
    assert whole.keys() - less.keys() == {"python/big/a.h", "python/big/tests/test_big.py"}
    assert {path: whole[path] for path in less} == less  # RECORD among them
    check = builder.report.checks
    assert (check["left_out"]["status"], check["left_out"]["bytes"]) == ("fitted", 1200)
    assert [one["packages"] for one in check["left_out"]["left_out"]] == [{"big": 500}, {"big": 700}]
    assert check["size"]["status"] == "passed"
    assert sum(one.unzipped_bytes for one in builder.report.packages) == size - 1200
    assert any("to fit into" in one and "tests (0.0 MB of big)" in one for one in builder.report.warnings)
    assert builder.report.layer
    assert builder.report.layer.digest != digest
    assert builder("big", size_limit=size - 600, bytecode=False) == less


def test_a_layer_that_cannot_be_made_to_fit_says_what_was_tried(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "big", files=BIG)
    with pytest.raises(LayerTooLargeError, match="the limit for it is 100") as caught:
        builder("big", size_limit=100)
    assert "Left out of the layer, to fit into 100 bytes: headers" in caught.value.hint
    assert "That was not enough." in caught.value.hint
    assert [one["bytes"] for one in caught.value.details["left_out"]] == [500, 700]
    with pytest.raises(LayerTooLargeError) as caught:
        builder("big", size_limit=100, fit=False)
    assert "Left out" not in caught.value.hint
    assert builder.left() == []


def test_slim_leaves_out_of_any_layer(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "big", files=BIG)
    layer = builder("big", slim=True)
    assert not {"python/big/a.h", "python/big/tests/test_big.py"} & layer.keys()
    assert builder.report.checks["left_out"]["status"] == "slim"


def test_a_gpu_package_larger_than_any_layer_comes_along_and_goes(
    builder: Builder, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "MAX_UNZIPPED_BYTES", 5_000)
    make_wheel(index.folder, "app", requires=("nvidia-nccl-cu12",))
    make_wheel(index.folder, "nvidia-nccl-cu12", files={"nvidia/nccl/lib/x.so.1": "x" * 10_000})
    layer = builder("app", size_limit=5_000)
    assert not [path for path in layer if path.startswith("python/nvidia/")]
    assert "python/nvidia_nccl_cu12-1.0.dist-info/METADATA" in layer
    make_wheel(index.folder, "other", files={"other.py": "x" * 10_000})
    with pytest.raises(LayerTooLargeError, match=r"other 1\.0 alone unzips to"):
        builder("other", size_limit=5_000)
    with pytest.raises(LayerTooLargeError, match="the limit for it is 5,000"):
        builder("nvidia-nccl-cu12", size_limit=5_000)  # named, so it stays


@needs_python
def test_bytecode_takes_no_room_that_tests_then_lack(builder: Builder, index: Index) -> None:
    """It is added to what is there, and never a reason to leave something out."""
    make_wheel(index.folder, "big", files=BIG)
    size = sum(map(len, builder("big").values()))
    layer = builder("big", size_limit=size, bytecode=True)
    assert builder.report.checks["bytecode"]["status"] == "skipped"
    assert "python/big/tests/test_big.py" in layer
    layer = builder("big", size_limit=size + 100_000, bytecode=True)
    assert any(path.endswith(".pyc") for path in layer)


@needs_gcc
def test_what_is_left_is_proved_anew(builder: Builder, index: Index, tmp_path: Path) -> None:
    """A library that was among the tests is missing when they are gone, and that is said."""
    soname = "libodd.so.7"
    odd = compile_one(tmp_path / "made", Library(soname, soname=soname)).read_bytes()
    made = Library(
        "native.abi3.so", source=module_source("native"), needed=(soname,), rpath="$ORIGIN/pkg/tests"
    )
    files = {
        "native.abi3.so": compile_one(tmp_path / "made", made).read_bytes(),
        f"pkg/tests/{soname}": odd,
        "pkg/tests/test_it.py": "",
    }
    make_wheel(index.folder, "native", files=files)
    builder("native", import_check=False)
    with pytest.raises(MissingLibraryError, match=r"native needs libodd\.so\.7"):
        builder("native", slim=True)


def test_excluded_packages_are_resolved_and_not_fetched(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "app", requires=("The_SDK<2", "core"))
    make_wheel(index.folder, "the-sdk", "1.0", requires=("core<3",))
    for version in ("2.0", "3.0"):
        make_wheel(index.folder, "core", version)
    layer = builder("app", exclude=("the.sdk",), import_check=False)
    assert [(one.name, one.version) for one in builder.report.packages] == [("app", "1.0"), ("core", "2.0")]
    assert not [path for path in layer if "sdk" in path]
    assert not list((builder.settings.cache / "wheels").rglob("the_sdk*"))
    assert builder.report.warnings == []


def test_who_excludes_what_nothing_requires_is_told(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "boto3")
    make_wheel(index.folder, "app", requires=("boto3",))
    builder("app", exclude=("bot03",), import_check=False)
    assert builder.report.warnings[0] == (
        "Nothing requires bot03, so there is nothing of it to exclude. Did you mean boto3?"
    )
    with pytest.raises(RequirementsError, match="All 2 packages are excluded"):
        builder("app", exclude=("boto3", "app"))


@needs_python
def test_an_import_that_lacks_what_is_excluded_says_nothing_about_the_layer(
    builder: Builder, index: Index
) -> None:
    make_wheel(index.folder, "boto3")
    make_wheel(index.folder, "app", files={"app.py": "import boto3.session\n"}, requires=("boto3",))
    builder("app", exclude=("boto3",))
    check = builder.report.checks["imports"]
    assert check["status"] == "not_run"
    assert "app: boto3 is excluded from the layer" in check["reason"] or "this machine" not in check["reason"]
    make_wheel(index.folder, "bad", files={"bad.py": "import elsewhere\n"}, requires=("boto3",))
    with pytest.raises(ImportCheckError, match="elsewhere") as caught:
        builder("bad", exclude=("boto3",))
    assert caught.value.hint.endswith("Excluded from it: boto3.")


@needs_python
def test_an_import_that_fails_says_that_files_were_left_out(builder: Builder, index: Index) -> None:
    code = "import importlib\nimportlib.import_module('.'.join(['app', 'te' + 'sts']))\n"
    files = {"app/__init__.py": code, "app/tests/__init__.py": "", "app/tests/test_x.py": "x"}
    make_wheel(index.folder, "app", files=files)
    builder("app")
    if builder.report.checks["imports"]["status"] == "not_run":
        pytest.skip(builder.report.checks["imports"]["reason"])
    with pytest.raises(ImportCheckError, match=r"No module named 'app\.tests'") as caught:
        builder("app", slim=True)
    assert "left_out among its checks" in caught.value.hint
    assert builder.left() == []


def test_packages_that_others_layers_have_too_are_told(builder: Builder, index: Index) -> None:
    for name in ("botocore", "opentelemetry-api", "opentelemetry-sdk"):
        make_wheel(index.folder, name)
    make_wheel(index.folder, "boto3", requires=("botocore",))
    builder("opentelemetry-sdk|opentelemetry-api|botocore", import_check=False)
    first, second = builder.report.warnings
    assert first.startswith("The layer has botocore without boto3: ")
    assert second.startswith("The layer has opentelemetry-api and opentelemetry-sdk of its own: ")
    builder("boto3", import_check=False)
    assert builder.report.warnings == []
    builder("boto3", exclude=("botocore",), import_check=False)
    assert builder.report.warnings[0].startswith("The layer has boto3 without botocore: ")


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
    left = json.loads(builder.report.to_json())["checks"]["imports"]
    assert left == {
        "status": "not_run",
        "reason": "--no-import-check was given",
        "with_pythonpath": "same",
        "packages": [{"package": "app", "essential": ["app"], "others": [], "advice": ""}],
    }
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


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("app/x.pth", "same"),
        ("app.pth", "differs"),
        ("usercustomize.py", "differs"),
        ("sitecustomizer.py", "same"),
        ("app-1.0.data/data/lib/{}/site-packages/app.py", "differs"),
    ],
)
def test_whoever_imports_instead_is_told_if_a_pythonpath_makes_a_difference(
    builder: Builder, index: Index, path: str, told: str
) -> None:
    make_wheel(index.folder, "app", files={"app/__init__.py": "", path.format("python3.13"): ""})
    builder("app", import_check=False, runtime="python3.13")
    assert builder.report.checks["imports"]["with_pythonpath"] == told


@needs_python
def test_bytecode_is_added_counted_and_part_of_the_digest(builder: Builder, index: Index) -> None:
    make_wheel(index.folder, "app", files={"app.py": "x = 1\n", "no.py": "this is no Python\n"})
    plain = builder("app", bytecode=False)
    digest = builder.report.layer and builder.report.layer.digest
    compiled = builder("app")
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
    plain = builder("app", bytecode=False)
    assert builder("app", size_limit=sum(map(len, plain.values()))) == plain
    assert builder.report.checks["bytecode"]["status"] == "skipped"
    assert any("no compiled bytecode" in warning for warning in builder.report.warnings)


def test_without_the_targets_python_there_is_no_bytecode_and_the_layer_stays_the_same(
    builder: Builder, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(index.folder, "app")
    plain = builder("app", import_check=False, bytecode=False)
    digest = builder.report.layer and builder.report.layer.digest
    monkeypatch.setattr(interpreter, "find", lambda _: None)
    assert builder("app", import_check=False) == plain
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
