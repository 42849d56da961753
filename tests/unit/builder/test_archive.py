"""The merge: the tree pip would make, the same bytes everywhere, and limits kept."""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layer_builder.ground.errors import UnsafeWheelError
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.layer import archive
from tests.conftest import sampled
from tests.unit.builder.wheel_maker import Content, load, make_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layer_builder.layer.archive import Written

TARGET = Target(RUNTIMES["python3.13"], "arm64")
SITE = "python/"


def merge(files: Sequence[Path], out: Path, target: Target = TARGET) -> Written:
    with out.open("wb") as stream:
        return archive.write(archive.plan([load(file) for file in files], target), stream)


def tree(folder: Path) -> dict[str, tuple[bytes, bool]]:
    return {
        str(file.relative_to(folder)): (file.read_bytes(), bool(file.stat().st_mode & stat.S_IXUSR))
        for file in folder.rglob("*")
        if file.is_file()
    }


def unzipped(file: Path) -> dict[str, tuple[bytes, bool]]:
    with zipfile.ZipFile(file) as zipped:
        return {
            i.filename: (zipped.read(i), bool(i.external_attr >> 16 & stat.S_IXUSR))
            for i in zipped.infolist()
        }


def pip_target(folder: Path, *arguments: str) -> dict[str, tuple[bytes, bool]]:
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--quiet", "--no-index", "--no-compile"]
    command += [
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--target",
        str(folder),
        *arguments,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return tree(folder)


def as_pip_has_it(layer: dict[str, tuple[bytes, bool]]) -> dict[str, tuple[bytes, bool]]:
    """Paths as in a `--target` folder, where site-packages is the root."""
    return {path.removeprefix(SITE): content for path, content in layer.items()}


@pytest.fixture
def varied(tmp_path: Path) -> list[Path]:
    """Wheels with every feature that the format has."""
    folder = tmp_path / "wheels"
    return [
        make_wheel(
            folder,
            "alpha",
            files={
                "alpha/__init__.py": "def main(): print('alpha')\n",
                "alpha/stored.bin": Content(os.urandom(5000), method=zipfile.ZIP_STORED),
                "alpha/bz2.txt": Content(b"b" * 5000, method=zipfile.ZIP_BZIP2),
                "alpha/lzma.txt": Content(b"l" * 5000, method=zipfile.ZIP_LZMA),
                "alpha/run.sh": Content(b"#!/bin/sh\n", mode=0o100755),
                'alpha/größe, "x".txt': "ü",
                "alpha/empty": "",
                "alpha.pth": "import sys\n",
                "shared/one.py": "1\n",
            },
            entry_points="[console_scripts]\nalpha = alpha:main\nAlpha.Two=alpha:main [extra]\n"
            "[gui_scripts]\nag = alpha:main\n",
        ),
        make_wheel(
            folder,
            "beta-x",
            files={
                "beta_x-1.0.data/purelib/beta_pure.py": "pure = 1\n",
                "beta_x-1.0.data/platlib/beta_plat.py": "plat = 1\n",
                "beta_x-1.0.data/scripts/beta": "#!python -u\nprint('beta')\n",
                "beta_x-1.0.data/scripts/beta.sh": Content(b"#!/bin/sh\necho beta\n", mode=0o100755),
                "beta_x-1.0.data/data/share/beta/readme": "hello",
                "beta_x-1.0.data/data/etc/beta.conf": "x",
                "shared/two.py": "2\n",
            },
            entry_points="[other.group]\nx = y:z\n",
        ),
        make_wheel(folder, "gamma", files={"shared/three.py": "3\n", "gamma.py": "x = 1\n"}),
    ]


def test_the_tree_is_that_of_pip(tmp_path: Path, varied: list[Path]) -> None:
    merge(varied, tmp_path / "layer.zip")
    ours = as_pip_has_it(unzipped(tmp_path / "layer.zip"))
    pips = pip_target(tmp_path / "pip", "--no-deps", *map(str, varied))
    differing = {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD"}
    scripts = {
        "bin/alpha",
        "bin/Alpha.Two",
        "bin/ag",
        "bin/beta",
    }  # their first line is the runtime's interpreter
    for found in (ours, pips):
        assert scripts <= found.keys()
        for path in [path for path in found if path in scripts or path.rpartition("/")[2] in differing]:
            del found[path]
    assert ours == pips


def test_commands_can_be_executed_whatever_the_wheel_says(tmp_path: Path) -> None:
    file = make_wheel(
        tmp_path, "pkg", files={"pkg-1.0.data/scripts/tool": Content(b"#!/bin/sh\n", mode=0o100644)}
    )
    merge([file], tmp_path / "layer.zip")
    assert unzipped(tmp_path / "layer.zip")["bin/tool"] == (b"#!/bin/sh\n", True)


def test_scripts_run_with_the_interpreter_of_the_runtime(tmp_path: Path, varied: list[Path]) -> None:
    merge(varied, tmp_path / "layer.zip")
    layer = unzipped(tmp_path / "layer.zip")
    for path in ("bin/alpha", "bin/Alpha.Two", "bin/ag", "bin/beta"):
        text, executable = layer[path]
        assert text.startswith(b"#!/var/lang/bin/python3.13\n")
        assert executable
    assert layer["bin/beta.sh"] == (b"#!/bin/sh\necho beta\n", True)
    with zipfile.ZipFile(tmp_path / "layer.zip") as zipped:
        zipped.extractall(tmp_path / "opt")
    for name in ("alpha", "beta"):
        path = {"PYTHONPATH": str(tmp_path / "opt" / SITE)}
        done = subprocess.run(
            [sys.executable, tmp_path / "opt" / "bin" / name], env=path, capture_output=True, check=True
        )
        assert done.stdout == f"{name}\n".encode()


def test_record_names_every_file_where_it_is_with_its_digest(tmp_path: Path, varied: list[Path]) -> None:
    import base64
    import hashlib

    merge(varied, tmp_path / "layer.zip")
    layer = unzipped(tmp_path / "layer.zip")
    listed = set()
    for path in [path for path in layer if path.endswith("/RECORD")]:
        for place, digest, size in csv.reader(io.StringIO(layer[path][0].decode())):
            file = os.path.normpath(f"{SITE}{place}")
            listed.add(file)
            content, _ = layer[file]
            if place.endswith("/RECORD"):
                continue
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={expected}", str(len(content))), place
    assert listed == layer.keys()


def test_a_script_that_an_entry_point_replaces_is_recorded_once(tmp_path: Path) -> None:
    file = make_wheel(
        tmp_path,
        "pkg",
        files={"pkg.py": "", "pkg-1.0.data/scripts/tool": "#!python\nold\n"},
        entry_points="[console_scripts]\ntool = pkg:main\n",
    )
    merge([file], tmp_path / "layer.zip")
    layer = unzipped(tmp_path / "layer.zip")
    assert b"from pkg import main" in layer["bin/tool"][0]
    assert layer[SITE + "pkg-1.0.dist-info/RECORD"][0].count(b"bin/tool") == 1


def test_headers_go_where_pip_puts_them(tmp_path: Path) -> None:
    file = make_wheel(tmp_path, "pkg", files={"pkg.py": "", "pkg-1.0.data/headers/pkg.h": "int x;\n"})
    merge([file], tmp_path / "layer.zip")
    assert f"{SITE}include/python/pkg/pkg.h" in unzipped(tmp_path / "layer.zip")


@pytest.mark.parametrize("path", ["pkg-1.0.data/unknown/x", "pkg-1.0.data/x", "pkg-1.0.data/purelib"])
def test_a_data_folder_without_a_rule_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnsafeWheelError, match="no rule"):
        merge([make_wheel(tmp_path, "pkg", files={path: "x"})], tmp_path / "layer.zip")


def test_other_tools_find_the_zip_whole(tmp_path: Path, varied: list[Path]) -> None:
    out = tmp_path / "layer.zip"
    merge(varied, out)
    with zipfile.ZipFile(out) as zipped:
        assert zipped.testzip() is None
    for tool in (["unzip", "-tq"], ["zipinfo", "-1"]):
        if shutil.which(tool[0]):
            done = subprocess.run([*tool, str(out)], capture_output=True, check=True, text=True)
            assert "warning" not in (done.stdout + done.stderr).lower()


def test_entries_say_nothing_about_where_and_when_they_were_made(tmp_path: Path, varied: list[Path]) -> None:
    merge(varied, tmp_path / "layer.zip")
    with zipfile.ZipFile(tmp_path / "layer.zip") as zipped:
        for info in zipped.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 in (0o100644, 0o100755)
            assert (info.extra, info.comment, info.create_system) == (b"", b"", 3)
            assert info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            assert info.flag_bits == (0 if info.filename.isascii() else 0x800)
            assert not info.is_dir()


MERGE = """
import sys, pathlib
from layer_builder.layer import archive
from layer_builder.ground.target import RUNTIMES, Target
from tests.unit.builder.wheel_maker import load
with open(sys.argv[1], "wb") as stream:
    wheels = [load(pathlib.Path(file)) for file in sys.argv[2:]]
    archive.write(archive.plan(wheels, Target(RUNTIMES["python3.13"], "arm64")), stream)
"""


def test_the_bytes_depend_on_the_wheels_alone(tmp_path: Path, varied: list[Path]) -> None:
    """Other process, folder, file times, umask, locale, time zone, hash seed and order: the same zip."""
    merge(varied, tmp_path / "reference.zip")
    reference = (tmp_path / "reference.zip").read_bytes()
    for seed, umask, locale in ((1, 0o077, "C"), (2, 0o000, "de_DE.UTF-8"), (3, 0o027, "POSIX")):
        folder = tmp_path / f"run {seed}"
        folder.mkdir()
        copies = [shutil.copy(file, folder) for file in varied]
        for copy in copies:
            os.utime(copy, (seed * 10**8, seed * 10**8))
        random.Random(seed).shuffle(copies)
        environment = {"PYTHONHASHSEED": str(seed), "LC_ALL": locale, "TZ": f"UTC+{seed}"}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-c", MERGE, str(folder / "out.zip"), *map(str, copies)]
        subprocess.run(command, env=environment, cwd=folder, umask=umask, check=True)
        assert (folder / "out.zip").read_bytes() == reference


def test_what_is_written_is_what_is_said(tmp_path: Path, varied: list[Path]) -> None:
    import base64
    import hashlib

    written = merge(varied, tmp_path / "layer.zip")
    content = (tmp_path / "layer.zip").read_bytes()
    assert written.bytes == len(content)
    assert written.code_sha256 == base64.b64encode(hashlib.sha256(content).digest()).decode()
    plan = archive.plan([load(file) for file in varied], TARGET)
    assert plan.unzipped_bytes == sum(len(data) for data, _ in unzipped(tmp_path / "layer.zip").values())
    assert plan.sizes.keys() == {"alpha", "beta-x", "gamma"}


@pytest.mark.long
@settings(
    deadline=None,
    max_examples=max(3, settings().max_examples // 12),  # pip is started for each
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_of_two_files_at_one_path_the_one_stays_that_pip_leaves(tmp_path: Path, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=6, unique=True))
    order = data.draw(st.permutations(names))
    folder = tmp_path / "wheels"
    shutil.rmtree(tmp_path, ignore_errors=True)
    wheels = []
    for place, name in enumerate(order):  # who comes later may need who came earlier: no cycles
        needs = data.draw(st.lists(st.sampled_from(order[:place]), unique=True)) if place else []
        requires = (*needs, "zz; extra == 'never'", "zz; python_version < '3'")
        wheels.append(
            make_wheel(folder, name, files={"shared.txt": f"of {name}", f"{name}.py": ""}, requires=requires)
        )
    pips = pip_target(tmp_path / "pip", *map(str, wheels))
    plan = archive.plan([load(file) for file in wheels], TARGET)
    kept = next(entry.wheel.pick.name for entry in plan.entries if entry.path == SITE + "shared.txt")
    assert f"of {kept}".encode() == pips["shared.txt"][0]
    assert len(plan.warnings) == len(names) - 1
    assert all(f"the one of {kept}, as with pip" in warning for warning in plan.warnings[-1:])


def test_equal_files_at_one_path_are_no_conflict(tmp_path: Path) -> None:
    wheels = [
        make_wheel(tmp_path, name, files={"ns/__init__.py": "", f"ns/{name}.py": ""})
        for name in ("one", "two")
    ]
    plan = archive.plan([load(file) for file in wheels], TARGET)
    assert not plan.warnings
    assert sum(entry.path == f"{SITE}ns/__init__.py" for entry in plan.entries) == 1


def test_packages_that_need_each_other_have_an_order_too(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"shared": "1"}, requires=("two",))
    two = make_wheel(tmp_path, "two", files={"shared": "2"}, requires=("one",))
    plans = [archive.plan([load(file) for file in pair], TARGET) for pair in ((one, two), (two, one))]
    assert plans[0].entries == plans[1].entries


def test_a_file_where_another_has_a_folder_is_an_error(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", files={"thing": "file"})
    two = make_wheel(tmp_path, "two", files={"thing/deep/er.py": "folder"})
    with pytest.raises(UnsafeWheelError, match=r"a file in one-1\.0.* and a folder in two-1\.0"):
        archive.plan([load(one), load(two)], TARGET)


@pytest.mark.long
@pytest.mark.parametrize(
    "count", sampled([65_531, 65_532, 66_000], lambda count: count == 65_532)
)  # with the .dist-info's three: at and beyond 65,535
def test_more_files_than_a_plain_zip_can_count(tmp_path: Path, count: int) -> None:
    file = tmp_path / "many-1.0-py3-none-any.whl"
    template = make_wheel(tmp_path / "template", "many", files={})
    with zipfile.ZipFile(template) as source, zipfile.ZipFile(file, "w") as wheel:
        for name in source.namelist():
            if "dist-info" in name:
                wheel.writestr(name, source.read(name))
        for number in range(count):
            wheel.writestr(f"many/{number}", b"")
    out = tmp_path / "layer.zip"
    merge([file], out)
    with zipfile.ZipFile(out) as zipped:
        assert len(zipped.namelist()) == count + 3
    assert (b"PK\6\6" in out.read_bytes()[-200:]) == (count + 3 >= 65_535)
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tq", str(out)], check=True, capture_output=True)


def test_other_runtimes_have_their_own_interpreter(tmp_path: Path, varied: list[Path]) -> None:
    for runtime in RUNTIMES.values():
        merge(varied, tmp_path / "layer.zip", Target(runtime, "x86_64"))
        layer = unzipped(tmp_path / "layer.zip")
        assert "python/gamma.py" in layer
        assert layer["bin/alpha"][0].startswith(f"#!/var/lang/bin/{runtime.name}\n".encode())
