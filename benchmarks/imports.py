"""How long imports take from a layer as Lambda mounts it, with and without our bytecode.

    python -m benchmarks.imports [--runtime python3.13] [--rounds 5]

Three trees of the same versions, read-only and with one fixed date: the merged layer, the same with bytecode,
and what `pip install --target` makes, whose bytecode is checked against dates and so of no use. Every import
has a fresh process; the trees take turns within a round.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from layer_builder import environment
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.layer import archive, bytecode
from layer_builder.layer.bytecode import Bytecode, Compilation, Compiler
from layer_builder.requirements import parser
from layer_builder.resolution.resolve import resolve
from layer_builder.wheels.fetch import fetch

if TYPE_CHECKING:
    from layer_builder.layer.archive import Plan
    from layer_builder.wheels.wheel import Wheel

PACKAGES = ("pandas", "boto3", "pydantic")
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}
OLD = 315_532_800  # 1980-01-01, the date in our zips

TIMED = """
import sys, time
sys.path.insert(0, sys.argv[1])
start = time.perf_counter()
for name in sys.argv[2:]: __import__(name)
print(time.perf_counter() - start)
"""
# What is compiled, told by the interpreter itself (audit event "compile": source, file name).
COUNTED = """
import sys
folder, compiled = sys.argv[1], []
def hook(event, arguments):
    if event == 'compile' and str(arguments[1]).startswith((folder, '/opt')): compiled.append(arguments[1])
sys.addaudithook(hook)
sys.path.insert(0, folder)
for name in sys.argv[2:]: __import__(name)
modules = [m for m in list(sys.modules.values()) if str(getattr(m, '__file__', '')).startswith(folder)]
print(len(compiled), len(modules))
"""


@dataclass(frozen=True)
class Tree:
    """A layer's modules, unpacked."""

    name: str
    site: Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.imports")
    parser.add_argument("--runtime", choices=RUNTIMES)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    return run(Console(), options.runtime, options.rounds)


def run(console: Console, runtime: str | None = None, rounds: int = 5) -> int:
    """Measure and print; status 1 if there is nothing to measure with."""
    found = at_hand(runtime)
    if found is None:
        console.print(
            f"Imports: left out, there is no interpreter of {runtime or 'any runtime'} on this machine."
        )
        return 1
    target, compiler = found
    with tempfile.TemporaryDirectory(prefix="imports-") as name:
        folder = Path(name)
        trees = [*layers(console, folder, target, compiler), pips(folder, compiler)]
        for tree in trees:
            freeze(tree.site)
        with console.status("Importing …"):
            print_times(console, measure(trees, compiler, rounds), rounds)
            print_compiled(console, trees, compiler)
        thaw(folder)
    return 0


def at_hand(runtime: str | None) -> tuple[Target, Compiler] | None:
    """Choose the newest runtime whose interpreter is here."""
    for name in [runtime] if runtime else reversed(RUNTIMES):
        target = Target.of(name, ARCHITECTURES[platform.machine()])
        if compiler := Compiler.find(target):
            return target, compiler
    return None


def with_bytecode(plan: Plan, wheels: list[Wheel], target: Target, compiler: Compiler) -> Bytecode:
    with Compilation(target, compiler) as compilation:
        return compilation.add(plan, wheels, bytecode.room(plan))


def layers(console: Console, folder: Path, target: Target, compiler: Compiler) -> list[Tree]:
    """Merge the layer, once without and once with bytecode, and unpack both."""
    settings = environment.read()
    picks = resolve(parser.parse("\n".join(PACKAGES)), target, settings).picks
    wheels = fetch(picks, settings)
    (folder / "pins.txt").write_text("".join(f"{pick.name}=={pick.version}\n" for pick in picks))
    plan = archive.plan(wheels, target)
    start = time.perf_counter()
    added = with_bytecode(plan, wheels, target, compiler)
    first = time.perf_counter() - start
    start = time.perf_counter()
    with_bytecode(plan, wheels, target, compiler)
    again = time.perf_counter() - start
    trees, sizes = [], []
    for name, one in (("none", plan), ("ours", added.plan)):
        file = folder / f"{name}.zip"
        with file.open("w+b", buffering=0) as stream:
            sizes.append(archive.write(one, stream).bytes)
        with zipfile.ZipFile(file) as layer:
            layer.extractall(folder / name)
        trees.append(Tree(name, folder / name / target.site_packages))
    console.print(
        f"{' + '.join(PACKAGES)} for {target}: {len(wheels)} wheels, {added.modules} modules compiled by "
        f"Python {compiler.interpreter.version} in {first:.2f} s (again, from the cache: {again:.3f} s); zip "
        f"{sizes[0] / 1e6:.1f} -> {sizes[1] / 1e6:.1f} MB, unzipped {plan.unzipped_bytes / 1e6:.1f} -> "
        f"{added.plan.unzipped_bytes / 1e6:.1f} MB.",
        highlight=False,
        soft_wrap=True,
    )
    return trees


def pips(folder: Path, compiler: Compiler) -> Tree:
    """Install the same versions as the original script does, by an interpreter of the runtime's version."""
    environment, site = folder / "environment", folder / "pip"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [uv, "venv", "--quiet", "--seed", "--python", compiler.interpreter.path, environment], check=True
    )
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    wanted = ["--only-binary", ":all:", "--target", str(site), "--requirement", str(folder / "pins.txt")]
    result = subprocess.run([*pip, *wanted], stderr=subprocess.PIPE, text=True)
    if result.returncode:
        raise SystemExit(f"pip could not install what the layer has:\n{result.stderr}")
    return Tree("pip's", site)


def freeze(folder: Path) -> None:
    """Make a tree as Lambda has it: dates that say nothing, nothing to write to."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (OLD, OLD))
        path.chmod(0o555 if path.is_dir() else 0o444)


def thaw(folder: Path) -> None:
    """Let the trees be removed."""
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def ask(compiler: Compiler, script: str, tree: Tree, names: tuple[str, ...]) -> list[float]:
    # -B, because a read-only folder does not keep root from writing there.
    answer = subprocess.run(
        [compiler.interpreter.path, "-I", "-S", "-B", "-c", script, tree.site, *names],
        env=compiler.interpreter.environment,
        check=True,
        capture_output=True,
    )
    return [float(word) for word in answer.stdout.split()]


def measure(
    trees: list[Tree], compiler: Compiler, rounds: int
) -> dict[tuple[str, ...], dict[str, list[float]]]:
    """Take the seconds of each import from each tree."""
    sets = [*((name,) for name in PACKAGES), PACKAGES]
    times: dict[tuple[str, ...], dict[str, list[float]]] = {
        names: {tree.name: [] for tree in trees} for names in sets
    }
    for turn in range(rounds + 1):
        for names in sets:
            for tree in trees:
                (seconds,) = ask(compiler, TIMED, tree, names)
                if turn:  # the first round fills the page cache
                    times[names][tree.name].append(seconds)
    return times


def print_times(console: Console, times: dict[tuple[str, ...], dict[str, list[float]]], rounds: int) -> None:
    table = Table(title=f"Import from a read-only layer, by its bytecode (median of {rounds})")
    table.add_column("import")
    for column in ("none", "pip's", "ours", "none / ours", "pip's / ours"):
        table.add_column(column, justify="right")
    for names, by_tree in times.items():
        medians = {name: statistics.median(seconds) for name, seconds in by_tree.items()}
        table.add_row(
            "all three" if names == PACKAGES else names[0],
            *(f"{medians[name] * 1000:.0f} ms" for name in ("none", "pip's", "ours")),
            *(f"{medians[name] / medians['ours']:.1f}" for name in ("none", "pip's")),
        )
    console.print(table)


def print_compiled(console: Console, trees: list[Tree], compiler: Compiler) -> None:
    for tree in trees:
        compiled, modules = map(int, ask(compiler, COUNTED, tree, PACKAGES))
        console.print(
            f"Bytecode: {tree.name}. {modules} modules of the layer imported, {compiled} of them compiled."
        )


if __name__ == "__main__":
    sys.exit(main())
