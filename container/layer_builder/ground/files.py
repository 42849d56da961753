"""Files that are either whole or not there."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress
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


@contextmanager
def temporary() -> Iterator[Path]:
    """Make a folder of our own that code of others may leave things in; none of it can stop its removal."""
    folder = Path(tempfile.mkdtemp(prefix="layer-builder-"))
    try:
        yield folder
    finally:
        empty(folder)
        with suppress(OSError):
            folder.rmdir()


def empty(folder: Path) -> None:
    """Remove all that is in a folder, however deep it goes: others made it, and recursion has an end.

    Folders in folders are first moved up, one level at a time, so no path gets long. What cannot be removed
    stays.
    """
    import secrets  # what few need is not imported before

    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        stuck: set[str] = set()
        prefix = f".{secrets.token_hex(8)}-"
        number = 0
        while names := {*os.listdir(top)} - stuck:  # noqa: PTH208 (a descriptor)
            for name in names:
                try:
                    os.unlink(name, dir_fd=top)
                    continue
                except IsADirectoryError:
                    pass
                except OSError:
                    stuck.add(name)
                    continue
                number = _raise_content(name, top, prefix, number)
                try:
                    os.rmdir(name, dir_fd=top)
                except OSError:
                    stuck.add(name)
    finally:
        os.close(top)


def _raise_content(name: str, top: int, prefix: str, number: int) -> int:
    """Remove the files of a folder in `top`, and move its folders up there, under numbers."""
    with suppress(OSError):
        os.chmod(name, 0o700, dir_fd=top, follow_symlinks=True)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
        try:
            for child in os.listdir(inner):  # noqa: PTH208
                try:
                    os.unlink(child, dir_fd=inner)
                except IsADirectoryError:
                    number += 1
                    os.chmod(child, 0o700, dir_fd=inner)
                    os.rename(child, f"{prefix}{number}", src_dir_fd=inner, dst_dir_fd=top)
        finally:
            os.close(inner)
    return number
