"""Files that are either whole or not there."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODE = 0o644


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` for writing; it takes the name at the end, or goes without a trace.

    Until then it can be read under the stream's name.

    Several processes may write the same path at once: the last one's file stays, and readers see only whole
    files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".part", dir=path.parent)
    try:
        with open(name, "w+b", buffering=0, opener=lambda *_: descriptor) as stream:
            yield stream
        Path(name).chmod(_MODE)  # a temporary file is its owner's alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file at once."""
    with written_atomically(path) as stream:
        stream.write(content)
