"""Native files for the tests: tiny ones made by a compiler, real ones out of wheels from the index."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_builder.layer import archive
from layer_builder.proof.native import LayerElf
from layer_builder.wheels import elf
from tests.unit.builder.wheel_maker import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layer_builder.ground.target import Target
    from layer_builder.layer.archive import Plan
    from layer_builder.wheels.elf import ElfFacts

MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
HERE = next((name for name, machine in MACHINES.items() if machine == platform.machine()), "")

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc on this machine")
needs_readelf = pytest.mark.skipif(
    shutil.which("readelf") is None, reason="there is no readelf on this machine"
)
needs_ldd = pytest.mark.skipif(shutil.which("ldd") is None, reason="there is no ldd on this machine")


@dataclass(frozen=True)
class Library:
    """What to compile.

    Attributes:
        path: where to, within a folder that stands for the layer.
        needed: paths of libraries compiled before.
        rpath: DT_RPATH, or DT_RUNPATH if `runpath`; with $ORIGIN as it is.
        soname: DT_SONAME; empty for none.
        source: C.
        flags: further ones for gcc.
    """

    path: str
    needed: tuple[str, ...] = ()
    rpath: str = ""
    runpath: bool = False
    soname: str = ""
    source: str = ""
    flags: tuple[str, ...] = ("-shared",)


def compile_all(folder: Path, libraries: Iterable[Library]) -> None:
    for library in libraries:
        compile_one(folder, library)


def compile_one(folder: Path, library: Library) -> Path:
    """Compile a library that needs its `needed`, used or not, and libc."""
    output = folder / library.path
    output.parent.mkdir(parents=True, exist_ok=True)
    linker = ["--no-as-needed", "--allow-shlib-undefined"]
    if library.rpath:
        linker += [
            f"-rpath={library.rpath}",
            "--enable-new-dtags" if library.runpath else "--disable-new-dtags",
        ]
    if library.soname:
        linker.append(f"-soname={library.soname}")
    # A library is needed by its soname, else as it was named: by its file's name, if found by -l.
    found = [
        flag for path in library.needed for flag in (f"-L{(folder / path).parent}", f"-l:{Path(path).name}")
    ]
    subprocess.run(
        ["gcc", *library.flags, "-fPIC", "-x", "c", "-", "-x", "none", "-o", output]
        + [f"-Wl,{option}" for option in linker]
        + found,
        input=library.source.encode() or b"int unused;",
        check=True,
        capture_output=True,
    )
    return output


def module_source(name: str, body: str = "return 0;") -> str:
    return f"void *PyInit_{name}(void) {{ {body} }}"


def facts_of(file: Path, path: str) -> ElfFacts:
    with file.open("rb") as stream:
        return elf.read(stream, path)


def layer_of(folder: Path, package: str = "pkg", wheel: str = "pkg-1.0-py3-none-any.whl") -> list[LayerElf]:
    """Take every ELF file below a folder that stands for the layer."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            is_elf = stream.read(4) == b"\x7fELF"
        if is_elf:
            path = str(file.relative_to(folder))
            found.append(LayerElf(path, package, wheel, facts_of(file, path)))
    return found


def module(name: str, **facts: object) -> ElfFacts:
    """Make up the facts of an extension module for x86_64."""
    made = elf.ElfFacts(name, machine="x86_64", kind="library", is_module=True)
    return replace(made, **facts)  # type: ignore[arg-type]


def library(name: str, **facts: object) -> ElfFacts:
    return module(name, is_module=False, **facts)


class Wheelhouse:
    """Wheels from the real index, fetched by pip once a session."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def get(self, name: str, target: Target) -> Path:
        """Fetch the newest wheel of a package that pip finds for the target's tags."""
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="layerdrop-wheelhouse-")
        folder = Path(self._folder.name, f"{target.runtime.name}-{target.architecture}", name)
        if not folder.exists():
            platforms = [part for tag in target.platforms() for part in ("--platform", tag)]
            python = "{}.{}".format(*target.runtime.version)
            subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                    *("--no-deps", "--only-binary", ":all:", "--implementation", "cp", *platforms),
                    *("--python-version", python, "--dest", str(folder), name),
                ],
                check=True,
            )
        return next(folder.glob("*.whl"))

    def plan(self, names: Iterable[str], target: Target) -> Plan:
        """Plan a layer of packages, without what they require."""
        return archive.plan([load(self.get(name, target)) for name in names], target)


WHEELHOUSE = Wheelhouse()
