"""The loader on paper finds what the real one finds."""

from __future__ import annotations

import os
import platform
import random
import re
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from layer_builder.ground.target import Target
from layer_builder.proof import base_libraries
from layer_builder.proof.loader import Loader
from tests.unit.builder.native_maker import (
    HERE,
    WHEELHOUSE,
    Library,
    compile_all,
    layer_of,
    library,
    module,
    needs_gcc,
    needs_ldd,
)

if TYPE_CHECKING:
    from pathlib import Path

    from layer_builder.proof.loader import Closure
    from layer_builder.wheels.elf import ElfFacts

MACHINE = platform.machine()


def loader_of(folder: Path) -> Loader:
    facts = {item.path: item.facts for item in layer_of(folder)}
    return Loader(facts, MACHINE, base_libraries.base(MACHINE))


def ldd(folder: Path, path: str) -> tuple[dict[str, str], set[str]]:
    """Ask the real loader which files within the folder answer which names, and what it does not find."""
    run = subprocess.run(
        ["ldd", folder / path],
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(folder / "lib")},
        check=True,
        capture_output=True,
        text=True,
    )
    found, missing = {}, set()
    for name, place in re.findall(r"^\t(\S+) => (.+?)(?: \(0x[0-9a-f]+\))?$", run.stdout, re.MULTILINE):
        normal = os.path.normpath(place)
        if place == "not found":
            missing.add(name)
        elif normal.startswith(f"{folder}/"):
            found[name] = normal.removeprefix(f"{folder}/")
    return found, missing


def assert_same(folder: Path, path: str, closure: Closure) -> None:
    found, missing = ldd(folder, path)
    assert {name: path for (_, name), path in closure.answers.items() if path is not None} == found
    assert {name for _, name in closure.unanswered} == missing


# Each: libraries in the order of compiling; the last one is loaded.
LEAF = Library("far/libleaf.so", soname="libleaf.so")
SCENARIOS = {
    "rpath of the loading file is inherited": [
        LEAF,
        Library("near/libmid.so", ("far/libleaf.so",), soname="libmid.so"),
        Library("top.so", ("near/libmid.so",), rpath="$ORIGIN/near:$ORIGIN/far"),
    ],
    "runpath of the loading file is not": [
        LEAF,
        Library("near/libmid.so", ("far/libleaf.so",), soname="libmid.so"),
        Library("top.so", ("near/libmid.so",), rpath="$ORIGIN/near:$ORIGIN/far", runpath=True),
    ],
    "runpath of the needing file hides inherited rpath": [
        LEAF,
        Library("near/libmid.so", ("far/libleaf.so",), rpath="$ORIGIN", runpath=True, soname="libmid.so"),
        Library("top.so", ("near/libmid.so",), rpath="$ORIGIN/near:$ORIGIN/far"),
    ],
    "runpath in between does not stop rpath from above": [
        LEAF,
        Library("near/libmid.so", ("far/libleaf.so",), soname="libmid.so"),
        Library("near/libupper.so", ("near/libmid.so",), rpath="$ORIGIN", runpath=True, soname="libupper.so"),
        Library("top.so", ("near/libupper.so",), rpath="$ORIGIN/near:$ORIGIN/far"),
    ],
    "what is loaded already answers, breadth first": [
        LEAF,
        Library("near/libmid.so", ("far/libleaf.so",), soname="libmid.so"),
        Library(
            "top.so", ("near/libmid.so", "far/libleaf.so"), rpath="$ORIGIN/near:$ORIGIN/far", runpath=True
        ),
    ],
    "breadth first means that depth comes too late": [
        LEAF,
        Library("near/libdeep.so", ("far/libleaf.so",), rpath="$ORIGIN/../far", soname="libdeep.so"),
        Library("near/libone.so", ("near/libdeep.so",), rpath="$ORIGIN", runpath=True, soname="libone.so"),
        Library("near/libtwo.so", ("far/libleaf.so",), soname="libtwo.so"),
        Library("top.so", ("near/libone.so", "near/libtwo.so"), rpath="$ORIGIN/near", runpath=True),
    ],
    "the library folder comes after rpath": [
        Library("lib/libleaf.so", soname="libleaf.so"),
        LEAF,
        Library("top.so", ("far/libleaf.so",), rpath="$ORIGIN/far"),
    ],
    "the library folder comes before runpath": [
        Library("lib/libleaf.so", soname="libleaf.so"),
        LEAF,
        Library("top.so", ("far/libleaf.so",), rpath="$ORIGIN/far", runpath=True),
    ],
    "of two folders the first counts": [
        Library("other/libleaf.so", soname="libleaf.so"),
        LEAF,
        Library("top.so", ("far/libleaf.so",), rpath="$ORIGIN/none:$ORIGIN/other:$ORIGIN/far"),
    ],
    "own rpath comes before inherited": [
        Library("other/libleaf.so", soname="libleaf.so"),
        LEAF,
        Library("near/libmid.so", ("far/libleaf.so",), rpath="$ORIGIN/../far", soname="libmid.so"),
        Library("top.so", ("near/libmid.so",), rpath="$ORIGIN/near:$ORIGIN/other"),
    ],
    "a file without a soname is needed by its name": [
        Library("far/libleaf.so"),
        Library("top.so", ("far/libleaf.so",), rpath="$ORIGIN/far"),
    ],
}


@needs_gcc
@needs_ldd
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_layer_loads_as_the_real_loader_loads_it(tmp_path: Path, scenario: str) -> None:
    libraries = SCENARIOS[scenario]
    compile_all(tmp_path, libraries)
    assert_same(tmp_path, libraries[-1].path, loader_of(tmp_path).load(libraries[-1].path))


FOLDERS = ("a", "b", "a/inner", "lib")


def random_layer(seed: int) -> list[Library]:
    """Libraries in several folders, some names twice, with needs by chance and mostly good search paths."""
    chance = random.Random(seed)
    made: dict[str, Library] = {}
    for number in range(8):
        name = f"lib{number if chance.random() < 0.8 else max(0, number - 2)}.so"
        folder = chance.choice(FOLDERS)
        names = {path.rpartition("/")[2]: path for path in made if not path.endswith(f"/{name}")}
        needed = chance.sample(sorted(names.values()), chance.randint(0, min(3, len(names))))
        targets = {path.rpartition("/")[0] for path in needed if chance.random() < 0.9}
        targets |= set(chance.sample(FOLDERS, chance.randint(0, 2)))
        paths = [os.path.relpath(target, folder) for target in chance.sample(sorted(targets), len(targets))]
        made.setdefault(
            f"{folder}/{name}",
            Library(
                f"{folder}/{name}",
                tuple(needed),
                rpath=":".join(f"$ORIGIN/{path}" for path in paths),
                runpath=chance.random() < 0.4,
                soname=name if chance.random() < 0.7 else "",
            ),
        )
    return list(made.values())


@pytest.mark.sample(3)
@needs_gcc
@needs_ldd
@pytest.mark.parametrize("seed", range(12))
def test_random_layers_load_as_the_real_loader_loads_them(tmp_path: Path, seed: int) -> None:
    libraries = random_layer(seed)
    compile_all(tmp_path, libraries)
    loader = loader_of(tmp_path)
    for made in libraries:
        assert_same(tmp_path, made.path, loader.load(made.path))


@pytest.mark.sample(1)
@needs_ldd
@pytest.mark.index
@pytest.mark.skipif(not HERE, reason="this machine has no Lambda runtime's architecture")
@pytest.mark.parametrize("package", ["numpy", "pillow", "scipy", "psycopg2-binary", "opencv-python-headless"])
def test_real_wheels_load_as_the_real_loader_loads_them(package: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(WHEELHOUSE.get(package, Target.of("python3.13", HERE))) as archive:
        archive.extractall(tmp_path)
    loader = loader_of(tmp_path)
    items = layer_of(tmp_path)
    modules = [item.path for item in items if item.facts.is_module][:25]
    assert modules
    for path in modules:
        assert_same(tmp_path, path, loader.load(path))


# ---- what the real loader cannot be asked here: the layer at /opt, other machines ----


def load(files: dict[str, ElfFacts], root: str, machine: str = "x86_64") -> Closure:
    return Loader(files, machine, base_libraries.base(machine)).load(root)


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("/opt/python/libs", True),
        ("/opt/python/../python/libs/", True),
        ("$ORIGIN/../libs", True),
        ("${ORIGIN}/../libs", True),
        ("$ORIGIN/../../../opt/python/libs", True),
        ("/opt/python/$PLATFORM/../libs", True),
        ("/usr/lib64", False),
        ("python/libs", False),
        ("", False),
        ("/python/libs", False),
    ],
)
def test_search_paths_within_the_layer(folder: str, found: bool) -> None:
    files = {
        "python/pkg/m.so": module("m.so", needed=("liba.so.1",), rpath=(folder,)),
        "python/libs/liba.so.1": library("liba.so.1"),
    }
    closure = load(files, "python/pkg/m.so")
    assert (closure.answers.get(("python/pkg/m.so", "liba.so.1")) == "python/libs/liba.so.1") is found
    assert bool(closure.unanswered) is not found


def test_files_of_another_machine_are_passed_over() -> None:
    files = {
        "python/m.so": module("m.so", needed=("liba.so",), rpath=("$ORIGIN/arm", "$ORIGIN/x86")),
        "python/arm/liba.so": library("liba.so", machine="aarch64"),
        "python/x86/liba.so": library("liba.so"),
    }
    assert load(files, "python/m.so").answers["python/m.so", "liba.so"] == "python/x86/liba.so"


def test_the_runtimes_libraries_come_before_the_layers_lib_folder_and_runpath() -> None:
    files = {
        "python/m.so": module("m.so", needed=("libz.so.1",), runpath=("$ORIGIN",)),
        "python/libz.so.1": library("libz.so.1"),
        "lib/libz.so.1": library("libz.so.1"),
    }
    assert load(files, "python/m.so").answers["python/m.so", "libz.so.1"] is None


def test_rpath_comes_before_the_runtimes_libraries() -> None:
    files = {
        "python/m.so": module("m.so", needed=("libz.so.1",), rpath=("$ORIGIN",)),
        "python/libz.so.1": library("libz.so.1"),
    }
    assert load(files, "python/m.so").answers["python/m.so", "libz.so.1"] == "python/libz.so.1"


def test_an_empty_runpath_switches_rpath_off() -> None:
    files = {
        "python/m.so": module("m.so", needed=("liba.so",), rpath=("$ORIGIN",), runpath=()),
        "python/liba.so": library("liba.so"),
    }
    assert load(files, "python/m.so").unanswered == {("python/m.so", "liba.so")}


def test_a_library_answers_by_its_soname_once_it_is_loaded() -> None:
    files = {
        "python/m.so": module("m.so", needed=("liba-1234.so", "libb.so"), rpath=("$ORIGIN",)),
        "python/liba-1234.so": library("liba-1234.so", soname="liba.so.1"),
        "python/libb.so": library("libb.so", needed=("liba.so.1",)),
    }
    assert load(files, "python/m.so").answers["python/libb.so", "liba.so.1"] == "python/liba-1234.so"


def test_libraries_may_need_each_other() -> None:
    files = {
        "lib/liba.so": library("liba.so", needed=("libb.so", "libc.so.6")),
        "lib/libb.so": library("libb.so", needed=("liba.so",)),
    }
    closure = load(files, "lib/liba.so")
    assert closure.loaded == ("lib/liba.so", "lib/libb.so")
    assert not closure.unanswered
    assert closure.answers["lib/liba.so", "libc.so.6"] is None
