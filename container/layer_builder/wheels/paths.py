"""What may be a path in a wheel or a layer: one that every reader unpacks at the same place, or at all."""

from __future__ import annotations

import posixpath
import re

# Linux takes names of 255 bytes and paths of 4,096 with the final NUL (limits.h, NAME_MAX and PATH_MAX). The
# folder that a layer or a wheel is unpacked in needs some of these; real paths stay far below.
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1_024

_LAYER_FOLDERS = ("python/", "bin/", "lib/")  # what Lambda searches below /opt, and we fill
_MAX_LAYER_PATH_BYTES = 2 * MAX_PATH_BYTES  # a wheel's path and the folder it goes to
# What nearly all paths are like, of which there can be tens of thousands: no part begins with a dot, and the
# whole is no longer than a part may be.
_USUAL = re.compile(r"(?=.{1,255}\Z)(?:python|bin|lib)(?:/[\w+-][\w.+-]*+)++", re.ASCII)


def fault(path: str) -> str | None:
    """Say what is wrong with a path inside a wheel; None if nothing is."""
    parts = path.split("/")
    if (
        "\\" in path
        or not path.isprintable()
        or ":" in parts[0]
        or any(part in ("", ".", "..") for part in parts)
    ):
        return "is no path inside a package"
    return _excess(path, MAX_PATH_BYTES)


def layer_fault(path: str) -> str | None:
    """Say why a path must not be in a layer, whoever made it; None if it may."""
    if _USUAL.fullmatch(path):
        return None
    if not path.startswith(_LAYER_FOLDERS):
        return f"is not below {', '.join(_LAYER_FOLDERS)}"
    if posixpath.normpath(path) != path or "\\" in path or not path.isprintable():
        return "is no plain path"
    return _excess(path, _MAX_LAYER_PATH_BYTES)


def is_name(name: str) -> bool:
    """Tell whether a file can have this name."""
    return len(name) <= MAX_NAME_BYTES and len(name.encode()) <= MAX_NAME_BYTES


def _excess(path: str, limit: int) -> str | None:
    if len(path) * 4 <= MAX_NAME_BYTES:  # however many bytes each character has
        return None
    if len(path.encode()) > limit:
        return f"is longer than {limit:,} bytes"
    if not all(map(is_name, path.split("/"))):
        return f"has a part of more than {MAX_NAME_BYTES} bytes"
    return None
