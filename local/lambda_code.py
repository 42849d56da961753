"""What a function is made of, on disk: its package, its layers as they are in /opt, and its Python."""

import io
import os
import platform
import shutil
import stat
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from layer_builder.ground import interpreter
from layer_builder.ground.interpreter import Interpreter
from layer_builder.ground.target import RUNTIMES

LIMIT: Final = 262_144_000
"""Bytes of a function and its layers, unzipped:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
ARCHITECTURES: Final = {"aarch64": "arm64"}
"""AWS's names of machines, where they differ."""
BOOTSTRAP: Final = Path(__file__).with_name("lambda_bootstrap.py")
RUNTIME_PACKAGES: Final = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
"""What Lambda's Python runtimes have: https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html"""
COPY: Final = 1 << 18
UNPACKERS: Final = 4


class UnfitError(Exception):
    """This machine cannot run a function of that runtime or architecture."""


class CodeError(Exception):
    """A zip file cannot be unpacked."""


@cache
def interpreter_of(runtime: str, architecture: str) -> Interpreter:
    """Return a runtime's Python.

    Raises:
        UnfitError: There is none, or the machine is another.
    """
    machine = platform.machine()
    here = ARCHITECTURES.get(machine, machine)
    if here != architecture:
        raise UnfitError(f"This machine is {here}, and the function is for {architecture}.")
    if runtime not in RUNTIMES:
        raise UnfitError(f"The embedded AWS does not run {runtime} functions.")
    wanted = RUNTIMES[runtime].glibc
    name, _, version = _c_library().partition(" ")
    if name != "glibc" or tuple(map(int, version.split("."))) < wanted:
        has = f"glibc {version}" if name == "glibc" else "no glibc"
        raise UnfitError(f"This machine has {has}, and {runtime} has glibc {wanted[0]}.{wanted[1]}.")
    found = interpreter.find("{}.{}".format(*RUNTIMES[runtime].version))
    if found is None:
        raise UnfitError(f"There is no {runtime} on this machine.")
    return found


def _c_library() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # it has no such name
        return ""


class Code:
    """Unpacked packages and layers, each once.

    Args:
        folder: Where; whoever made it removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._runtime: Path | None = None

    @property
    def workers(self) -> Path:
        """Where workers may have folders of their own."""
        return self._folder

    def package(self, digest: str, content: bytes) -> Path:
        """Return a deployment package's folder."""
        return self._made(f"code-{digest}", [content])

    def layers(self, key: str, contents: Sequence[bytes]) -> Path:
        """Return a folder of layers, one upon the other; the later one's file wins.

        https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html
        """
        return self._made(f"layers-{key}", contents)

    def forget(self, in_use: Callable[[], tuple[set[str], set[str]]]) -> None:
        """Remove what is unpacked of packages and layers but for those in use, by their digests and keys."""
        with self._lock:
            packages, layers = in_use()
            used = {f"code-{digest}" for digest in packages} | {f"layers-{key}" for key in layers}
            for folder in (*self._folder.glob("code-*"), *self._folder.glob("layers-*")):
                if folder.name not in used:
                    remove(folder)

    def runtime(self) -> tuple[Path, list[str]]:
        """Return what is /var/runtime, and where what it refers to lies."""
        packages = [path for name in RUNTIME_PACKAGES if (path := _package(name))]
        with self._lock:
            if self._runtime is None:
                folder = Path(tempfile.mkdtemp(dir=self._folder))
                folder.chmod(0o755)
                shutil.copyfile(BOOTSTRAP, folder / "bootstrap.py")
                for path in packages:
                    (folder / path.name).symlink_to(path)
                self._runtime = folder
        return self._runtime, [str(path) for path in packages]

    def _made(self, name: str, contents: Sequence[bytes]) -> Path:
        folder = self._folder / name
        with self._lock:
            if not folder.exists():
                partial = Path(tempfile.mkdtemp(dir=self._folder))
                try:
                    unpack(contents, partial / "whole")
                except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
                    remove(partial)
                    raise CodeError(str(error)) from error
                (partial / "whole").rename(folder)
                partial.rmdir()
        return folder


def _package(name: str) -> Path | None:
    found = find_spec(name)
    if found is None or not found.origin:
        return None
    file = Path(found.origin).resolve()
    return file.parent if found.submodule_search_locations else file


def unzipped_bytes(content: bytes) -> int:
    """Return how much a zip file holds.

    Raises:
        zipfile.BadZipFile: It is none.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def unpack(contents: Sequence[bytes], folder: Path) -> None:
    """Unpack zip files into one folder, to be read only, as Lambda mounts it.

    Symbolic links become files that hold where they lead to, as zipfile has it.

    Raises:
        ValueError: A file is to lie elsewhere.
        OSError, zipfile.BadZipFile: It cannot be written, or read.
    """
    archives = [zipfile.ZipFile(io.BytesIO(content)) for content in contents]
    files = {
        _path(entry): (archive, entry)
        for archive in archives
        for entry in archive.infolist()
        if not entry.is_dir()
    }
    folders = {
        folder,
        *(parent for path in files for parent in (folder / path).parents if folder in parent.parents),
    }
    for parent in sorted(folders):
        parent.mkdir()

    def some(part: Sequence[str]) -> None:
        for path in part:
            archive, entry = files[path]
            executable = entry.external_attr >> 16 & 0o111
            with archive.open(entry) as source, (folder / path).open("xb") as copy:
                shutil.copyfileobj(source, copy, COPY)
                os.fchmod(copy.fileno(), 0o555 if executable else 0o444)

    paths = list(files)
    with ThreadPoolExecutor(UNPACKERS) as pool:
        list(pool.map(some, (paths[start::UNPACKERS] for start in range(UNPACKERS))))
    for parent in folders - {folder}:  # who is not root could not move that one any more
        parent.chmod(0o555)


def _path(entry: zipfile.ZipInfo) -> str:
    parts = entry.filename.removeprefix("./").split("/")
    if entry.filename.startswith("/") or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError(f"{entry.orig_filename!r} is no path within a package")
    return "/".join(parts)


def remove(folder: Path) -> None:
    """Remove a folder with what is in it, also where its folders are to be read only."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if stat.S_ISDIR(path.lstat().st_mode):
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
