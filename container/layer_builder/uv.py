"""The uv command: finds a set of versions that satisfies requirements, for a target that need not be at hand.

What goes in is written by us: requirements on standard input, an environment of our own making, no
configuration files. What comes out is a lock file (pylock.toml, PEP 751) and, when there is none, uv's
explanation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder.errors import IndexUnreachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layer_builder.settings import Settings
    from layer_builder.target import Target

# What uv needs of the operator's environment to reach an index: certificates and proxies.
_PASSED_ON = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
)
# What the public index itself announces: its pages are good for ten minutes, its files never change.
_FRESHNESS = '{ api = "max-age=600", files = "max-age=365000000, immutable" }'
_TIMEOUT = 600  # seconds; uv's own time limits on requests are much shorter


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of uv came to: the text of the lock (empty when it failed) and what it said."""

    status: int
    lock: str
    stderr: str


def compile_lock(
    requirements: Sequence[str], constraints: Sequence[str], target: Target, settings: Settings
) -> Outcome:
    """Resolve requirements for a target to wheels only, whatever this machine is."""
    with tempfile.TemporaryDirectory(prefix="layer-builder-") as folder:
        output = Path(folder, "pylock.toml")  # uv insists on the name
        command = [
            *_command(target),
            *("--format", "pylock.toml", "--no-header", "--output-file", str(output)),
        ]
        if configuration := _configuration(settings):
            file = Path(folder, "uv.toml")
            file.write_text(configuration, encoding="utf-8")
            command += ["--config-file", str(file)]
        if constraints:
            file = Path(folder, "constraints.txt")
            file.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
            command += ["--constraints", str(file)]
        done = _run(command, requirements, settings)
        if done.returncode == 1 and configuration:  # what is wanted may be younger than what is kept
            done = _run([*command, "--refresh"], requirements, settings)
        lock = output.read_text(encoding="utf-8") if done.returncode == 0 else ""
        return Outcome(done.returncode, lock, done.stderr)


@cache
def default_index(settings: Settings) -> str | None:
    """Ask uv for the address of its default index, which pylock.toml leaves out and we name nowhere."""
    command = [_executable(), "pip", "compile", "-", "--python", sys.executable, "--offline"]
    done = _run([*command, "--no-header", "--emit-index-url"], [], settings)
    match = re.search(r"^--(?:default-index|index-url) (\S+)$", done.stdout, re.MULTILINE)
    return match[1] if match else None


def _configuration(settings: Settings) -> str:
    """Have answers of the public index kept as long as it allows, whatever a mirror on the way leaves out.

    Those of another index are kept as that one says.
    """
    if settings.index_url or not (url := default_index(settings)):
        return ""
    return f"[[index]]\nurl = {json.dumps(url)}\ndefault = true\ncache-control = {_FRESHNESS}\n"


def _command(target: Target) -> list[str]:
    return [
        _executable(),
        *("pip", "compile", "-"),
        # Any interpreter will do, and one that is named is not searched for.
        *("--python", sys.executable),
        *("--python-version", target.runtime.patch),
        *("--python-platform", target.uv_platform),
        *("--only-binary", ":all:"),
        *("--color", "never"),
        "--no-progress",
    ]


def _run(command: list[str], lines: Sequence[str], settings: Settings) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_CACHE_DIR": str(settings.cache / "uv"),
        "HOME": str(settings.cache),
    }
    if settings.index_url:
        environment["UV_DEFAULT_INDEX"] = settings.index_url
    try:
        return subprocess.run(
            command,
            input="".join(f"{line}\n" for line in lines),
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise IndexUnreachableError(
            f"No versions were found within {_TIMEOUT} seconds.",
            hint="Try again; if it stays so, pin more versions.",
        ) from error


def _executable() -> str:
    """Find the uv that was installed with us, else the one on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv") or "uv"
