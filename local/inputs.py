"""Requirements files and locks on this machine, the keys they go to, and the uploading of several at once."""

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.clients import Clients
from local.settings import BUCKET, ROOT
from local.watch import INPUT, LOCK, Upload

EXAMPLES: Final = ROOT / "examples"


@dataclass(frozen=True)
class Input:
    """A requirements file, or a lock, and the key that it goes to."""

    file: Path
    key: str


def example_inputs() -> list[Input]:
    """Return the examples; their place below ``examples/`` is their key."""
    return [Input(path, path.relative_to(EXAMPLES).as_posix()) for path in sorted(EXAMPLES.rglob(INPUT))]


def file_input(file: Path, architecture: str, runtime: str | None) -> Input:
    """Return where a file goes so that its layer is called after its folder, or after the file itself.

    ``…/web/requirements.txt`` and ``web.txt`` both go to ``requirements/ARCHITECTURE/web/requirements.txt``,
    and ``…/web/pylock.toml`` and ``pylock.web.toml`` to ``requirements/ARCHITECTURE/web/pylock.toml``.
    """
    file = file.resolve()
    if file.name.endswith((INPUT, LOCK)):
        folder, name = file.parent.name, file.name
    elif named := re.fullmatch(r"pylock\.([^.]+)\.toml", file.name):
        folder, name = named[1], LOCK
    else:
        folder, name = file.stem, INPUT
    parts = ["requirements", architecture, runtime, folder, name]
    return Input(file, "/".join(part for part in parts if part))


def upload_all(inputs: Sequence[Input], clients: Clients, bucket: str = BUCKET) -> dict[Upload, float]:
    """Upload all files at once; return each with the time, in seconds since the epoch, at which it began."""

    def upload(given: Input) -> tuple[Upload, float]:
        began = time.time()
        stored = clients.s3.put_object(Bucket=bucket, Key=given.key, Body=given.file.read_bytes())
        return Upload(bucket, given.key, stored["VersionId"]), began

    with ThreadPoolExecutor() as threads:
        return dict(threads.map(upload, inputs))
