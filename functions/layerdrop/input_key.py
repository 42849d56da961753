"""The key grammar: `requirements/<architecture>/[<runtime>/][<folders>/][<stem>]requirements.txt`.

A lock takes the place of a requirements file as `[<stem>]pylock.toml`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from layerdrop.errors import BuildError, ErrorCode
from layerdrop.target import ARCHITECTURES, RUNTIMES, Architecture, Runtime

PREFIX = "requirements/"
SUFFIX = "requirements.txt"
LOCK_SUFFIX = "pylock.toml"
"""The builder takes whatever ends like this for a lock."""
SUFFIXES = (SUFFIX, LOCK_SUFFIX)
FORM = f"{PREFIX}<{' or '.join(ARCHITECTURES)}>/[<runtime>/][<folders>/][<stem>]<{' or '.join(SUFFIXES)}>"

# What a person would take for a runtime; a folder of that name would be built for another one.
_LOOKS_LIKE_RUNTIME = re.compile(r"python[\d.]+", re.IGNORECASE)
# What others call the same machines.
_ALIASES: dict[str, Architecture] = {
    "aarch64": "arm64",
    "amd64": "x86_64",
    "x64": "x86_64",
    "x86-64": "x86_64",
}
# Stems whose manifests, named as others are, would be those of locks, or of files that gave way to these.
_NAMED_AS_A_LOCK_S = re.compile(r"pylock-(requirements-)*\Z")


@dataclass(frozen=True)
class InputKey:
    """What a key says; `runtime` is None where the path names none, `stem` stands before the suffix.

    `is_lock` tells a lock from a requirements file.
    """

    architecture: Architecture
    runtime: Runtime | None
    folders: tuple[str, ...]
    stem: str
    is_lock: bool = False


def parse(key: str) -> InputKey:
    """Read a key.

    Raises:
        BuildError: KEY_INVALID, with the part of the key that is wrong.
    """
    suffix = next((suffix for suffix in SUFFIXES if key.endswith(suffix)), "")
    if not (suffix and key.startswith(PREFIX) and len(key) >= len(PREFIX) + len(suffix)):
        raise _invalid(key, f'the path "{key}" does not have the form of an input')
    *folders, file_name = key.removeprefix(PREFIX).split("/")
    if not folders:
        raise _invalid(key, "the path does not name an architecture")
    architecture = _architecture(key, folders.pop(0))
    runtime = _runtime(key, folders.pop(0)) if folders and _LOOKS_LIKE_RUNTIME.fullmatch(folders[0]) else None
    for folder in folders:
        if folder in ("", ".", ".."):
            raise _invalid(key, f'"{folder}" cannot be a folder\'s name')
        if _LOOKS_LIKE_RUNTIME.fullmatch(folder):
            raise _invalid(key, f'the runtime "{folder}" does not stand right after the architecture')
    stem = file_name.removesuffix(suffix)
    return InputKey(architecture, runtime, tuple(folders), stem, suffix == LOCK_SUFFIX)


def manifest_key(key: str) -> str:
    """The key of the manifest beside an input; never a key that an event filter would take for an input.

    No two inputs share one: `web-requirements.txt` has `web-manifest.json`, and `pylock.toml` has
    `pylock-manifest.json`. That would be the one of `pylock-requirements.txt`, too, which therefore has
    `pylock-requirements-manifest.json`, and so on. They all end alike, so that roles can be told what they
    may write, and no ending of their own is left for locks.
    """
    if key.endswith(LOCK_SUFFIX):
        return key.removesuffix(".toml") + "-manifest.json"
    if key.endswith(SUFFIX) and _NAMED_AS_A_LOCK_S.search(key.removesuffix(SUFFIX)):
        return key.removesuffix(".txt") + "-manifest.json"
    if key.endswith(SUFFIX):
        return key.removesuffix(SUFFIX) + "manifest.json"
    return key + "-manifest.json"


def _architecture(key: str, segment: str) -> Architecture:
    for architecture in ARCHITECTURES:
        if segment == architecture:
            return architecture
    meant = _ALIASES.get(segment.lower()) or next((a for a in ARCHITECTURES if a == segment.lower()), None)
    raise _invalid(key, f'"{segment}" is no architecture', f'Did you mean "{meant}"? ' if meant else "")


def _runtime(key: str, segment: str) -> Runtime:
    for runtime in RUNTIMES:
        if segment == runtime:
            return runtime
    raise _invalid(key, f'"{segment}" is no runtime that layers are built for')


def _invalid(key: str, what: str, guess: str = "") -> BuildError:
    return BuildError(
        ErrorCode.KEY_INVALID,
        f"{what[0].upper()}{what[1:]}.",
        f"{guess}Upload to {FORM}, where the runtime is one of {', '.join(RUNTIMES)}.",
        {"key": key},
    )
