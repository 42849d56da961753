"""How long a layer takes, side by side with what people use today.

    python -m benchmarks.builder [--runtime python3.13] [--rounds 5] [--set SET …] [--cache warm|cold]
        [--without WAY …]

The rivals: the original script's way, `pip install -t` and `zip -r`; `uv pip install --target` and `zip -r`;
`sam build` of a layer and `zip -r`, where the SAM CLI is at hand. All build for this machine's architecture
with an interpreter of the runtime's version, because only layer-builder can do without. Each has a cache of
its own: filled beforehand ("warm") or empty ("cold"). uv is run as people run it, and once more with the
leave to keep the index's pages that layer-builder gives itself, which is the same where the index sends its
headers and not behind a mirror that drops them. Within a round they take turns, so that a noisy moment meets
all; what counts are the ratios of the medians. For python3.11, layer-builder also runs without what it
remembers of uv's rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from layer_builder.ground import interpreter
from layer_builder.ground.settings import Settings
from layer_builder.ground.target import RUNTIMES
from layer_builder.indexes import public_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SETS = {
    "smallest": ("requests", "httpx"),
    "middle": ("pandas", "requests"),
    "largest": ("pandas", "scipy", "scikit-learn", "matplotlib", "pillow"),
}
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}
BIN = Path(sys.executable).parent
SAM = Path(__file__).parents[1] / ".venv-sam/bin/sam"
# The largest set is more than Lambda takes, and would be refused; what counts here is the work.
NO_LIMIT = str(1 << 40)
TEMPLATE = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  Layer:
    Type: AWS::Serverless::LayerVersion
    Metadata: {{BuildMethod: {runtime}}}
    Properties: {{ContentUri: source}}
"""
# Nobody can be faster: the versions from uv, and the wheels on the disk, unverified and unmerged.
FLOOR = """
import shutil, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from layer_builder import environment
from layer_builder.ground import target
from layer_builder.requirements import parser
from layer_builder.resolution import resolve
wanted = parser.parse(sys.argv[3].replace("|", "\\n"))
found = resolve.resolve(wanted, target.Target.of(*sys.argv[1:3]), environment.read())
def get(pick):
    with urllib.request.urlopen(pick.url) as body, Path(sys.argv[4], pick.filename).open("wb") as file:
        shutil.copyfileobj(body, file, 1 << 18)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(get, found.picks))
"""


@dataclass(frozen=True)
class Job:
    """What to build, where to, with which cache."""

    packages: tuple[str, ...]
    folder: Path
    cache: Path


@dataclass(frozen=True)
class Way:
    """One way of making a layer; `layer.zip` in the job's folder is what it leaves, if it does."""

    name: str
    build: Callable[[Job], None]
    only: str = ""  # "cold" or "warm", if it makes sense with such a cache alone


@dataclass(frozen=True)
class Bench:
    """The runtime to build for, and a virtual environment of its Python for those who need it."""

    runtime: str
    python: Path
    pages: Path

    @property
    def site(self) -> Path:
        return Path("python")

    def ways(self) -> list[Way]:
        ours = "layer-builder"
        ways = [
            # As the others do: merged, without bytecode or a trial; then each alone, then what people get.
            Way(ours, partial(self.with_layer_builder, "--no-bytecode", "--no-import-check")),
            Way(f"{ours}, bytecode", partial(self.with_layer_builder, "--no-import-check")),
            Way(f"{ours}, import check", partial(self.with_layer_builder, "--no-bytecode")),
            Way(f"{ours}, both", self.with_layer_builder),
            Way("uv + zip -r", self.with_uv),
            Way("uv + zip -r, pages kept", partial(self.with_uv, "--config-file", str(self.pages)), "warm"),
            Way("pip + zip -r", self.with_pip),
        ]
        runtime = RUNTIMES[self.runtime]
        if runtime.glibc != runtime.uv_glibc:
            ways.insert(1, Way(f"{ours}, rounds forgotten", self.forgetting, "warm"))
        if SAM.exists():
            ways.append(Way("sam build + zip -r", self.with_sam))
        return [*ways, Way("uv's resolving + downloads", self.floor, "cold")]

    def with_layer_builder(self, *options_and_job: object) -> None:
        *options, job = options_and_job
        assert isinstance(job, Job)
        command = [str(BIN / "layer-builder"), *map(str, options), "-r", "|".join(job.packages)]
        command += ["--runtime", self.runtime, "--architecture", ARCHITECTURES[platform.machine()]]
        command += ["--size-limit", NO_LIMIT, "--output", str(job.folder / "layer.zip")]
        call(command, LAYER_BUILDER_CACHE=str(job.cache))

    def forgetting(self, job: Job) -> None:
        """Ask uv as often as if the same had not been asked before."""
        shutil.rmtree(job.cache / "rounds", ignore_errors=True)
        self.with_layer_builder("--no-bytecode", "--no-import-check", job)

    def with_pip(self, job: Job) -> None:
        command = [
            str(self.python),
            "-m",
            "pip",
            "install",
            "--isolated",
            "--quiet",
            "--root-user-action=ignore",
        ]
        command += ["--disable-pip-version-check", "--cache-dir", str(job.cache)]
        call([*command, "-t", str(job.folder / self.site), *job.packages])
        call(["zip", "-qr", "layer.zip", "python"], job.folder)

    def with_uv(self, *options_and_job: object) -> None:
        *options, job = options_and_job
        assert isinstance(job, Job)
        command = [str(BIN / "uv"), "pip", "install", "--quiet", *map(str, options)]
        command += ["--python", str(self.python), "--target", str(job.folder / self.site), *job.packages]
        call(command, UV_CACHE_DIR=str(job.cache))
        call(["zip", "-qr", "layer.zip", "python"], job.folder)

    def with_sam(self, job: Job) -> None:
        source = job.folder / "source"
        source.mkdir()
        (source / "requirements.txt").write_text("".join(f"{name}\n" for name in job.packages))
        (job.folder / "template.yaml").write_text(TEMPLATE.format(runtime=self.runtime))
        path = os.pathsep.join((str(self.python.parent), os.environ["PATH"]))
        command = [str(SAM), "build", "--region", "us-east-1", "--build-dir", "built"]
        call(command, job.folder, PATH=path, PIP_CACHE_DIR=str(job.cache), SAM_CLI_TELEMETRY="0")
        call(["zip", "-qr", str(job.folder / "layer.zip"), "."], job.folder / "built/Layer")

    def floor(self, job: Job) -> None:
        target = [self.runtime, ARCHITECTURES[platform.machine()]]
        command = [sys.executable, "-c", FLOOR, *target, "|".join(job.packages), str(job.folder)]
        call(command, LAYER_BUILDER_CACHE=str(job.cache))


def call(command: list[str], folder: Path | None = None, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def prepared(folder: Path, runtime: str, python: Path) -> Bench:
    """Make what the rivals need: an environment with pip, and uv's leave to keep pages."""
    call([str(BIN / "uv"), "venv", "--quiet", "--seed", "--python", str(python), str(folder / "environment")])
    pages, index = folder / "uv.toml", public_index.address(Settings(folder / "uv"))
    lines = [f"url = {json.dumps(index)}", "default = true"]
    lines.append('cache-control = { api = "max-age=600", files = "max-age=365000000, immutable" }')
    pages.write_text("\n".join(["[[index]]", *lines, ""]) if index else "")
    return Bench(runtime, folder / "environment/bin/python", pages)


def timed(way: Way, packages: tuple[str, ...], cache: Path, scratch: Path) -> tuple[float, int]:
    """Build once in a fresh folder; return the seconds and the zip's bytes (0 without one)."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        layer = Path(name, "layer.zip")
        start = time.perf_counter()
        way.build(Job(packages, layer.parent, cache))
        return time.perf_counter() - start, layer.stat().st_size if layer.exists() else 0


def measure(
    ways: list[Way], packages: tuple[str, ...], rounds: int, folder: Path, *, warm: bool
) -> dict[Way, tuple[float, int]]:
    """Take turns for some rounds; return each way's median seconds and its zip's bytes."""
    seconds: dict[Way, list[float]] = {way: [] for way in ways}
    sizes: dict[Way, int] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        caches = {way: scratch / f"cache{number}" for number, way in enumerate(ways)}
        for way in ways if warm else ():
            timed(way, packages, caches[way], scratch)
        for number in range(rounds):
            for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                took, sizes[way] = timed(way, packages, caches[way], scratch)
                seconds[way].append(took)
                if not warm:
                    shutil.rmtree(caches[way], ignore_errors=True)
    return {way: (statistics.median(seconds[way]), sizes[way]) for way in ways}


def run(
    console: Console,
    runtime: str | None = None,
    rounds: int = 5,
    sets: Iterable[str] = SETS,
    caches: Iterable[str] = ("warm", "cold"),
    without: tuple[str, ...] = (),
) -> int:
    """Measure and print; status 1 if there is nothing to measure with."""
    wanted = [runtime] if runtime else list(reversed(RUNTIMES))
    found = next(filter(None, (interpreter.find(name.removeprefix("python")) for name in wanted)), None)
    if found is None or platform.machine() not in ARCHITECTURES or not shutil.which("zip"):
        console.print(f"Builds: left out, this needs zip and a Python of {runtime or 'a Lambda runtime'}.")
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        bench = prepared(Path(name), f"python{found.minor}", found.path)
        for one in sets:
            for cache in caches:
                ways = [
                    way
                    for way in bench.ways()
                    if way.only in ("", cache) and not way.name.startswith(without)
                ]
                with console.status(f"{one}, {cache} …"):
                    results = measure(ways, SETS[one], rounds, Path(name), warm=cache == "warm")
                title = f"{' + '.join(SETS[one])}: {cache}, {bench.runtime}, medians of {rounds}"
                show(console, title, results)
    return 0


def show(console: Console, title: str, results: dict[Way, tuple[float, int]]) -> None:
    load = os.getloadavg()[0]
    table = Table(title=title, caption=f"load {load:.1f} on {os.cpu_count()} cores", title_justify="left")
    for column in ("way", "seconds", "times layer-builder", "zip"):
        table.add_column(column, justify="left" if column == "way" else "right")
    ours = next(iter(results.values()))[0]
    for way, (seconds, size) in results.items():
        zipped = f"{size / 1e6:.1f} MB" if size else ""
        table.add_row(way.name, f"{seconds:.2f}", f"{seconds / ours:.1f}", zipped)
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.builder")
    parser.add_argument("--runtime", choices=RUNTIMES, help="default: the newest whose Python is here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--set", dest="sets", choices=SETS, action="append", help="default: all, which takes a while"
    )
    parser.add_argument("--cache", dest="caches", choices=("warm", "cold"), action="append")
    parser.add_argument("--without", action="append", default=[], metavar="WAY", help="such as sam, pip")
    options = parser.parse_args()
    caches = options.caches or ("warm", "cold")
    return run(
        Console(), options.runtime, options.rounds, options.sets or SETS, caches, tuple(options.without)
    )


if __name__ == "__main__":
    sys.exit(main())
