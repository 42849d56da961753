"""Keys: where a file goes in the bucket, and where its answer lies. docs/inputs.md has the grammar.

What a key means is for the pipeline to say. Here it is told only what the pipeline would take at all.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from layerdrop_client.problems import CommandError

PREFIX = "requirements/"
SUFFIX = "requirements.txt"
LOCK_SUFFIX = "pylock.toml"
ARCHITECTURES = ("arm64", "x86_64")
FORM = "<arm64 or x86_64>/[<runtime>/][<folders>/][<stem>]<requirements.txt or pylock.toml>"

_ALIASES = {"aarch64": "arm64", "amd64": "x86_64", "x64": "x86_64", "x86-64": "x86_64"}
_RUNTIME = re.compile(r"python\d+\.\d+")
# A named lock, pylock.NAME.toml, is uploaded as NAME-pylock.toml: S3 goes by the ends of names.
_NAMED_LOCK = re.compile(r"pylock\.([^.]+)\.toml")
_NAMED_AS_A_LOCK_S = re.compile(r"pylock-(requirements-)*\Z")


def is_input(name: str) -> bool:
    """Whether a path ends as inputs do."""
    return name.endswith((SUFFIX, LOCK_SUFFIX))


def manifest_key(key: str) -> str:
    """The key of the manifest beside an input, as docs/manifest.md has it."""
    if key.endswith(LOCK_SUFFIX):
        return key.removesuffix(".toml") + "-manifest.json"
    if _NAMED_AS_A_LOCK_S.search(key.removesuffix(SUFFIX)):
        return key.removesuffix(".txt") + "-manifest.json"
    return key.removesuffix(SUFFIX) + "manifest.json"


def vulnerabilities_key(key: str) -> str:
    """The key of what is known against an input's layers, beside its manifest."""
    return manifest_key(key).removesuffix("manifest.json") + "vulnerabilities.json"


def why_not(path: str) -> str | None:
    """Why the pipeline would not take a path below `requirements/`; None if it would."""
    first, _, rest = path.partition("/")
    if not is_input(path):
        return "no requirements.txt or pylock.toml"
    if first not in ARCHITECTURES:
        meant = _ALIASES.get(first.lower()) or next((a for a in ARCHITECTURES if a == first.lower()), None)
        return f'"{first}" is no architecture' + (f', did you mean "{meant}"?' if meant else "")
    return None if rest else "the path names no file"


def short(key: str) -> str:
    """What people call a key: the path below `requirements/`, without what they all end in."""
    path = key.removeprefix(PREFIX)
    return path.removesuffix(f"/{SUFFIX}")


def key_of(word: str, file_name: str = SUFFIX) -> str:
    """The whole key that a person means.

    Args:
        word: A key, a path below `requirements/`, or a folder below it.
        file_name: The file's name, for a folder.

    Raises:
        CommandError: KEY_INVALID, the pipeline would not take it.
    """
    path = word.strip("/").removeprefix(PREFIX)
    if not is_input(path):
        path = f"{path}/{_input_name(file_name)}"
    if reason := why_not(path):
        raise CommandError("KEY_INVALID", f'"{word}" is no place for a file: {reason}.', f"Give {FORM}.")
    return PREFIX + path


def key_of_file(path: PurePosixPath) -> str:
    """The key of a file by where it lies: what begins with the architecture is the key.

    Raises:
        CommandError: KEY_MISSING, no folder above it is an architecture.
    """
    parts = path.parts
    found = next((n for n in range(len(parts) - 1, -1, -1) if parts[n] in ARCHITECTURES), None)
    if found is None or found == len(parts) - 1:
        raise CommandError(
            "KEY_MISSING",
            f"The path of {path} does not say what it is built for.",
            f"Say it: layerdrop drop {path} arm64/NAME",
        )
    return key_of("/".join(parts[found:-1]), path.name)


def runtime_in(key: str) -> str | None:
    """The runtime that a key names."""
    second = PurePosixPath(key.removeprefix(PREFIX)).parts[1:2]
    return second[0] if second and _RUNTIME.fullmatch(second[0]) else None


def _input_name(file_name: str) -> str:
    if named := _NAMED_LOCK.fullmatch(file_name):
        return f"{named[1]}-{LOCK_SUFFIX}"
    return file_name if is_input(file_name) else SUFFIX
