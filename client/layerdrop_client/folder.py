"""A folder with inputs, as a repository has it: `<architecture>/…requirements.txt`, `…pylock.toml`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from layerdrop_client.keys import PREFIX, why_not
from layerdrop_client.problems import CommandError


@dataclass(frozen=True)
class Found:
    """What a folder has.

    Attributes:
        files: The inputs, by their keys, in order.
        left: What is not taken and why, by path.
    """

    files: dict[str, Path]
    left: dict[str, str]


def look(folder: Path) -> Found:
    """Read which inputs a folder has; hidden files and folders are no part of it.

    Raises:
        CommandError: FOLDER_NOT_FOUND.
    """
    if not folder.is_dir():
        raise CommandError(
            "FOLDER_NOT_FOUND", f"There is no folder {folder}.", "Give the folder that has arm64/ or x86_64/."
        )
    files: dict[str, Path] = {}
    left: dict[str, str] = {}
    for above, folders, names in os.walk(folder):  # which follows no links to folders
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(above, name)
            relative = path.relative_to(folder).as_posix()
            if name.startswith("."):
                continue
            if reason := why_not(relative) or _link(path, folder):
                left[relative] = reason
            else:
                files[PREFIX + relative] = path
    return Found(dict(sorted(files.items())), left)


def _link(path: Path, folder: Path) -> str | None:
    inside = path.resolve().is_relative_to(folder.resolve())
    return None if path.is_file() and inside else "a link that leads out of the folder, or nowhere"


def read(file: Path) -> bytes:
    """A file's content.

    Raises:
        CommandError: FILE_NOT_FOUND.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(
            "FILE_NOT_FOUND", f"{file} cannot be read: {error.strerror}.", "Check the path."
        ) from error
