"""How long a layer takes, side by side with what people use today.

    python -m benchmarks.builder [--rounds 5] [--largest]

The rivals: the original script's way, `pip install -t` and `zip -r`; and `uv pip install --target` and `zip
-r`. All build for this machine's own Python, because only layer-builder can build for another. Each has a
cache of its own: filled beforehand ("warm") or empty ("cold"). Within a round they take turns, so that a
noisy moment meets all; what counts are the ratios of the medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from layer_builder.target import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Callable

SETS = {
    "requests + httpx": ("requests", "httpx"),
    "pandas + requests": ("pandas", "requests"),
}
LARGEST = {
    "pandas + scipy + scikit-learn + matplotlib + pillow": (
        "pandas",
        "scipy",
        "scikit-learn",
        "matplotlib",
        "pillow",
    ),
}
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}
RUNTIME = "python{}.{}".format(*sys.version_info)
# The largest set is more than Lambda takes, and would be refused; what counts here is the work.
WITHOUT_LIMIT = """
import sys
from layer_builder import archive, cli
archive.MAX_UNZIPPED_BYTES = 1 << 40
sys.exit(cli.main())
"""
SITE = Path("python", "lib", RUNTIME, "site-packages")


@dataclass(frozen=True)
class Way:
    """One way of making a layer: packages into `layer.zip` in a folder, with a cache."""

    name: str
    build: Callable[[tuple[str, ...], Path, Path], None]


def with_layer_builder(packages: tuple[str, ...], folder: Path, cache: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LIMIT, "-r", "|".join(packages), "--runtime", RUNTIME]
    command += ["--architecture", ARCHITECTURES[platform.machine()], "--output", str(folder / "layer.zip")]
    call(command, LAYER_BUILDER_CACHE=str(cache))


def with_pip(packages: tuple[str, ...], folder: Path, cache: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--quiet", "--disable-pip-version-check"]
    command += ["--root-user-action=ignore", "--cache-dir", str(cache), "-t", str(folder / SITE), *packages]
    call(command)
    call(["zip", "-qr", "layer.zip", "python"], folder)


def with_uv(packages: tuple[str, ...], folder: Path, cache: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [
        str(uv),
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        "--target",
        str(folder / SITE),
    ]
    call([*command, *packages], UV_CACHE_DIR=str(cache), UV_NO_CONFIG="1")
    call(["zip", "-qr", "layer.zip", "python"], folder)


WAYS = (
    Way("layer-builder", with_layer_builder),
    Way("uv + zip -r", with_uv),
    Way("pip + zip -r", with_pip),
)


def call(command: list[str], folder: Path | None = None, **environment: str) -> None:
    subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True, capture_output=True)


def timed(way: Way, packages: tuple[str, ...], cache: Path, scratch: Path) -> tuple[float, int]:
    """Build once in a fresh folder; return the seconds and the zip's bytes."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        start = time.perf_counter()
        way.build(packages, folder, cache)
        return time.perf_counter() - start, (folder / "layer.zip").stat().st_size


def measure(packages: tuple[str, ...], rounds: int, *, warm: bool) -> dict[Way, tuple[float, int]]:
    """Take turns for some rounds; return each way's median seconds and its zip's bytes."""
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    sizes: dict[Way, int] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        scratch = Path(name)
        caches = {way: scratch / f"cache{number}" for number, way in enumerate(WAYS)}
        if warm:
            for way in WAYS:
                timed(way, packages, caches[way], scratch)
        for number in range(rounds):
            for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
                took, sizes[way] = timed(way, packages, caches[way], scratch)
                seconds[way].append(took)
                if not warm:
                    shutil.rmtree(caches[way], ignore_errors=True)
    return {way: (statistics.median(seconds[way]), sizes[way]) for way in WAYS}


def run(console: Console, rounds: int = 5, *, largest: bool = False) -> int:
    """Measure and print; status 1 if there is nothing to measure with."""
    if RUNTIME not in RUNTIMES or platform.machine() not in ARCHITECTURES or not shutil.which("zip"):
        console.print(
            f"Builds: left out, this needs zip and a Python of a Lambda runtime; here is {RUNTIME}."
        )
        return 1
    title = f"One layer for {RUNTIME} on {ARCHITECTURES[platform.machine()]}, medians of {rounds} rounds"
    table = Table(title=title, caption="In brackets: how many times as long as layer-builder.")
    table.add_column("packages")
    table.add_column("cache")
    for way in WAYS:
        table.add_column(way.name, justify="right")
        table.add_column("zip", justify="right")
    for name, packages in {**SETS, **(LARGEST if largest else {})}.items():
        for warm in (True, False):
            with console.status(f"{name}, {'warm' if warm else 'cold'} …"):
                found = measure(packages, rounds, warm=warm)
            ours = found[WAYS[0]][0]
            cells = []
            for way, (seconds, size) in found.items():
                ratio = f" ({seconds / ours:.1f})" if way is not WAYS[0] else ""
                cells += [f"{seconds:.2f} s{ratio}", f"{size / 1e6:.1f} MB"]
            table.add_row(name, "warm" if warm else "cold", *cells)
    console.print(table)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.builder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--largest", action="store_true", help="the largest set too, which takes some minutes"
    )
    options = parser.parse_args()
    return run(Console(), options.rounds, largest=options.largest)


if __name__ == "__main__":
    sys.exit(main())
