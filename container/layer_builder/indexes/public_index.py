"""The usual public index. Only uv knows its address: pylock.toml leaves it out, and we name it nowhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder.ground import files

if TYPE_CHECKING:
    from layer_builder.ground.settings import Settings

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
OURS = {"UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
_TIMEOUT = 60  # seconds
_ADDRESS = re.compile(r"https?://[!-~]+")


@cache
def address(settings: Settings) -> str | None:
    """Name uv's default index: what the cache has of it if it is of this very uv, else what that says."""
    which, kept = _identity(), settings.cache / "public-index.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(kept.read_bytes())
        if which and found["uv"] == which and _ADDRESS.fullmatch(found["address"]):
            return str(found["address"])
    told = _told(settings)
    if which and told and _ADDRESS.fullmatch(told):
        with suppress(OSError):
            files.write_atomically(kept, json.dumps({"uv": which, "address": told}).encode())
    return told


def _identity() -> list[str | int]:
    """Tell this uv from any other; empty if that cannot be."""
    with suppress(OSError):
        found = Path(uv()).stat()
        return [uv(), found.st_size, found.st_mtime_ns, found.st_ino]
    return []


def _told(settings: Settings) -> str | None:
    """Ask uv for the address of its default index."""
    command = [uv(), "pip", "compile", "-", "--python", sys.executable, "--offline"]
    done = subprocess.run(
        [*command, "--no-header", "--emit-index-url"],
        env=environment(settings),
        input="",
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_TIMEOUT,
        check=False,
    )
    match = re.search(r"^--(?:default-index|index-url) (\S+)$", done.stdout, re.MULTILINE)
    return match[1] if match else None


def environment(settings: Settings) -> dict[str, str]:
    """Give what uv needs to ask the public index by itself."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed | {**OURS, "UV_CACHE_DIR": str(settings.cache / "uv"), "HOME": str(settings.cache)}


def uv() -> str:
    """Find the uv that was installed with us, else the one on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    if beside.exists():
        return str(beside)
    import uv  # which knows where it was put in a folder of its own, as in a function's package

    try:
        return uv.find_uv_bin()
    except FileNotFoundError:
        return shutil.which("uv") or "uv"
