"""What code of a package tries while its source is built: the same attempts, from a build's backend."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.security.attempts import (
    ALWAYS,
    ENVIRONMENTS,
    FILES,
    LISTENING,
    NETWORK,
    PROCESSES,
    World,
    kernels_with,
    parameters,
    running,
    shared_memory_left,
)
from tests.security.building import KERNELS, open_folder, user_of
from tests.security.lesser_kernel import FILTERS, LANDLOCK, NAMESPACES
from tests.unit.builder.wheel_maker import Index

if TYPE_CHECKING:
    from pathlib import Path

BACKEND = """
import zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(folder, "evil-1.0-py3-none-any.whl"), "w") as wheel:
        for path, text in {
            "evil.py": "",
            "evil.json": json.dumps(tried(globals())),
            "evil-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: evil\\nVersion: 1.0\\n",
            "evil-1.0.dist-info/WHEEL":
                "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
            "evil-1.0.dist-info/RECORD": "",
        }.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return "evil-1.0-py3-none-any.whl"
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
WITH_TCP = {"connect_to_loopback"}  # what only Landlock can tell from the relay, from ABI 4 on

pytestmark = pytest.mark.long  # test_import_confinement.py tries the same walls

Attacked = Callable[[str, str], tuple[World, dict[str, Any]]]


def make(folder: Path, source: str) -> None:
    source = source.replace("NO_ATTACKS = (", 'NO_ATTACKS = ("build_wheel", ')
    files = {
        "pyproject.toml": PROJECT,
        "backend.py": source + BACKEND,
        "PKG-INFO": "Metadata-Version: 1.1\nName: evil\nVersion: 1.0\n",
    }
    with tarfile.open(folder / "evil-1.0.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            info = tarfile.TarInfo(f"evil-1.0/{path}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    """Builds with all attacks in one backend, each pair of kernel and user once; what it got."""
    folders = ExitStack()

    @cache
    def attack(kernel: str, name: str) -> tuple[World, dict[str, Any]]:
        world, user = World(folders.enter_context(open_folder())), user_of(name)
        (world.folder / "index").mkdir()
        options = ("--allow-sdist", "evil", "--no-import-check")
        with Index(world.folder / "index") as index:
            outcome = world.attacked(index, user, KERNELS[kernel], make, *options)
        assert outcome.status == 0, outcome.stderr + json.dumps(outcome.report)
        with zipfile.ZipFile(outcome.zip) as layer:
            [path] = [path for path in layer.namelist() if path.endswith("evil.json")]
            return world, json.loads(layer.read(path))

    with folders:
        yield attack


@parameters(FILES)
def test_files(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES, LANDLOCK):
        world, told = attacked(kernel, user)
        assert told[name] is None, kernel
        assert (world.folder / "home/.bashrc").read_text() == "", kernel
        assert (world.folder / "home/.netrc").read_text() != "", kernel
        assert not (world.folder / "home/.aws").exists(), kernel


@parameters(ENVIRONMENTS)
def test_environments_of_other_programs(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES, LANDLOCK):
        _, told = attacked(kernel, user)
        assert told[name] is None, kernel


@parameters({name: what for name, what in (NETWORK | LISTENING).items() if name not in WITH_TCP})
def test_all_but_tcp(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(FILTERS):
        world, told = attacked(kernel, user)
        assert told[name] is None, kernel
        assert not world.datagrams, kernel


@parameters({name: what for name, what in NETWORK.items() if name in WITH_TCP})
def test_tcp(attacked: Attacked, name: str, user: str) -> None:
    import ctypes

    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 4:
        pytest.skip("this machine's Landlock knows no TCP")
    for kernel in kernels_with(LANDLOCK):
        _, told = attacked(kernel, user)
        assert told[name] is None, kernel


@parameters(PROCESSES)
def test_processes(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES, FILTERS):
        _, told = attacked(kernel, user)
        assert told[name] is None, kernel


@parameters(ALWAYS)
def test_what_takes_nothing_of_the_kernel(attacked: Attacked, name: str, user: str) -> None:
    for kernel in KERNELS:
        _, told = attacked(kernel, user)
        assert told[name] is None, kernel


@parameters({"leave_shared_memory": "a source build leaves shared memory of System V behind"})
def test_no_shared_memory_stays_behind(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(FILTERS):
        world, _ = attacked(kernel, user)
        assert shared_memory_left(world) < 0, kernel


@parameters({"leave_a_process_behind": "a package leaves a process behind, in a session of its own"})
def test_no_process_stays_behind(attacked: Attacked, name: str, user: str) -> None:
    for kernel in KERNELS:
        world, told = attacked(kernel, user)
        assert name in told
        assert not running(world.mark), kernel
