"""Every benchmark, one after the other: builds, imports, the pipeline.

    python -m benchmarks [--quick]

Whole, this takes three quarters of an hour on two cores, nearly all of it the rivals' time; quick, one round
without the largest set, some minutes.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime

WHOLE = (
    ("builder", "--rounds", "5"),
    ("builder", "--rounds", "5", "--runtime", "python3.11", "--cache", "warm", "--without", "pip"),
    ("imports", "--rounds", "5"),
    ("pipeline", "--rounds", "5", "--crowd", "1000:10", "--crowd", "1000:1000"),
)
QUICK = (
    ("builder", "--rounds", "1", "--set", "smallest", "--set", "middle"),
    ("imports", "--rounds", "1"),
    ("pipeline", "--rounds", "3", "--crowd", "20:2"),
)


def main() -> int:
    """Run them; status 1 if one of them failed or had nothing to measure with."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("--quick", action="store_true", help="one round, without the largest set")
    chosen = QUICK if parser.parse_args().quick else WHOLE
    sys.stdout.write(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()},"
        f" Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}\n"
    )
    sys.stdout.flush()
    statuses = [
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode
        for name, *options in chosen
    ]
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main())
