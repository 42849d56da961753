"""How many of the packages that people put into Lambda layers become one without a word of settings.

    python -m benchmarks.first_time [--package NAME …] [--target python3.13-arm64 …] [--json FILE]

Each package is a layer of its own, for each of four targets (or of others: for python3.11 there are no system
libraries to bundle, see docs/native-libraries.md). System libraries come from a repository of this machine's
libraries, made on the spot as the tests do, in the place of Amazon Linux 2023's. Imports are tried where the
target's Python and architecture are this machine's.

"Before" is the same with what puts things right switched off: missing libraries are an error, and so is a
layer that is too large. Where nothing was put right, nothing can differ, and it is not built twice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from layer_builder.ground.target import RUNTIMES
from tests.native import manager, repository

TARGETS = tuple(f"{runtime}-{name}" for runtime in reversed(RUNTIMES) for name in ("arm64", "x86_64"))
USUAL = [target for target in TARGETS if target.startswith(("python3.13", "python3.12"))]
BEFORE = ("--system-libraries=check", "--no-fit", "--no-bytecode")
BUILDERS = 2
PACKAGES = (
    # web and clients
    *("requests", "httpx", "aiohttp", "fastapi", "mangum", "flask", "django", "starlette", "jinja2"),
    *("boto3", "aioboto3", "aws-lambda-powertools", "aws-xray-sdk", "stripe", "twilio", "slack-sdk"),
    *("google-api-python-client", "google-cloud-storage", "sentry-sdk", "opentelemetry-sdk", "selenium"),
    # data stores
    *("sqlalchemy", "psycopg2-binary", "psycopg[binary]", "asyncpg", "pymysql", "mysql-connector-python"),
    *("mysqlclient", "pymongo", "redis", "pyodbc", "pymssql", "snowflake-connector-python", "duckdb"),
    *("confluent-kafka", "pika"),
    # data
    *(
        "numpy",
        "pandas",
        "polars",
        "pyarrow",
        "awswrangler",
        "scipy",
        "scikit-learn",
        "statsmodels",
        "xgboost",
    ),
    *("lightgbm", "matplotlib", "plotly", "networkx", "dask[dataframe]", "great-expectations", "sympy"),
    # places, pictures, documents, sound
    *("shapely", "geopandas", "rasterio", "pyproj", "pillow", "opencv-python", "opencv-python-headless"),
    *("pymupdf", "pypdf", "reportlab", "weasyprint", "cairosvg", "python-docx", "openpyxl", "lxml"),
    *("beautifulsoup4", "python-magic", "pyzbar", "pyvips", "librosa"),
    # languages and models
    *("openai", "anthropic", "langchain", "tiktoken", "onnxruntime", "spacy", "nltk"),
    # the rest of everyday
    *("pydantic", "cryptography", "pyjwt", "paramiko", "bcrypt", "pynacl", "pyyaml", "orjson", "protobuf"),
    *("grpcio", "jsonschema", "marshmallow", "python-dateutil", "pendulum", "faker", "python-ldap"),
)


@dataclass(frozen=True)
class Outcome:
    """How a package fared for a target.

    Attributes:
        package, target: which.
        code: the error's code; empty when there is a layer.
        message: the error's sentence.
        imports: `passed`, or why nothing is known of them.
        helped: what was put right: `libraries`, `fit`, `bytecode`.
        before: the error's code with all that switched off; empty when there would be a layer as well.
    """

    package: str
    target: str
    code: str
    message: str
    imports: str
    helped: tuple[str, ...]
    before: str


@dataclass(frozen=True)
class Bench:
    """What all builds share."""

    folder: Path
    path: str

    def try_out(self, package: str, target: str) -> Outcome:
        """Build as anybody would, and once more without help where that could make a difference."""
        report = self._build(package, target)
        error, checks = report.get("error") or {}, report.get("checks", {})
        helped = [
            name
            for name, is_so in (
                ("libraries", bool(report.get("system_packages"))),
                ("fit", "left_out" in checks),
                ("bytecode", checks.get("bytecode", {}).get("status") == "added"),
            )
            if is_so
        ]
        before = error.get("code", "")
        if error or {"libraries", "fit"} & {*helped}:
            before = (self._build(package, target, *BEFORE).get("error") or {}).get("code", "")
        imports = checks.get("imports", {})
        return Outcome(
            package,
            target,
            error.get("code", ""),
            error.get("message", ""),
            imports.get("reason", imports.get("status", "")),
            tuple(helped),
            before,
        )

    def _build(self, package: str, target: str, *options: str) -> dict[str, Any]:
        runtime, _, architecture = target.partition("-")
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            report = Path(name, "report.json")
            command = [sys.executable, "-m", "layer_builder", "-r", package, *options]
            command += ["--runtime", runtime, "--architecture", architecture]
            command += ["--output", f"{name}/", "--report", str(report)]
            environment = os.environ | {"LAYER_BUILDER_CACHE": str(self.folder / "cache"), "PATH": self.path}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if not report.exists():
                raise SystemExit(f"{package} for {target} left no report:\n{done.stderr}")
            return dict(json.loads(report.read_text()))


def main() -> None:
    """Try all, and print what share succeeds, and why the rest does not."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.first_time")
    options.add_argument("--package", action="append", help="instead of the list (repeatable)")
    options.add_argument("--target", action="append", choices=TARGETS, help="not the usual four (repeatable)")
    options.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes there")
    asked = options.parse_args()
    console = Console()
    wanted = [(name, target) for name in asked.package or PACKAGES for target in asked.target or USUAL]
    with tempfile.TemporaryDirectory() as name:
        repositories = {machine: repository.at_hand(machine) for machine in ("x86_64", "aarch64")}
        dnf = manager.make(Path(name, "dnf"), repositories, "dnf", "")
        bench = Bench(Path(name), os.pathsep.join([str(dnf.folder), os.environ["PATH"]]))
        with ThreadPoolExecutor(BUILDERS) as pool:
            done = pool.map(lambda one: bench.try_out(*one), wanted)
            outcomes = list(track(done, "Building", len(wanted), console=console))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    show(console, outcomes)


def show(console: Console, outcomes: list[Outcome]) -> None:
    """Print the shares, what helped whom, and what is left."""
    table = Table(title=f"{len({one.package for one in outcomes})} packages, a layer each")
    for column in ("target", "built before", "built now", "imports tried"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for target in [*dict.fromkeys(one.target for one in outcomes), "all"]:
        those = [one for one in outcomes if target in (one.target, "all")]
        table.add_row(
            target,
            _share(sum(not one.before for one in those), len(those)),
            _share(sum(not one.code for one in those), len(those)),
            str(sum(one.imports == "passed" for one in those)),
        )
    console.print(table)
    helped = Counter(name for one in outcomes if one.before and not one.code for name in one.helped)
    console.print("Put right: " + ", ".join(f"{name} {count}" for name, count in helped.most_common()))
    left = Table(title="Not built")
    for column in ("package", "targets", "why"):
        left.add_column(column)
    for package in dict.fromkeys(one.package for one in outcomes if one.code):
        those = [one for one in outcomes if one.package == package and one.code]
        left.add_row(package, "\n".join(one.target for one in those), f"{those[0].code}: {those[0].message}")
    console.print(left)


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.0%})"


if __name__ == "__main__":
    main()
