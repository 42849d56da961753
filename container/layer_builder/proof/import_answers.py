"""What the import worker says, read as what it is: words of a process in which others' code ran.

That code holds the same descriptor and may write anything there, so a line counts only if it has exactly
the form that the worker gives it, and texts are cut and cleaned. What this cannot tell is a lie in the right
form: a module that says of another one of its layer that it was imported.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

_TEXT, _NAME, _CAUSES = 2000, 200, 10  # characters; causes of one error
_LINE = 1 << 17  # bytes
# Loaded files of all modules; characters and parts of a path. Each is looked up, links and all.
_FILES, _PATH, _PARTS = 1000, 4096, 64


@dataclass(frozen=True, slots=True)
class Error:
    """Why an import failed.

    Attributes:
        type: the exception's class; empty if the process ended.
        text: its words, or how the process ended.
        file: where it was raised, within site-packages; empty if elsewhere.
        line: there, from 1; 0 if unknown.
        causes: the exceptions behind it, as `type: text`.
        missing: the module that was not found, if that is what it says.
        standard: whether that is one of the standard library.
    """

    type: str
    text: str
    file: str = ""
    line: int = 0
    causes: tuple[str, ...] = ()
    missing: str = ""
    standard: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """What was said, by module; `begun` in the order in which it was said.

    `loaded` are the files from outside of the layer that were loaded as code while a module was imported; of
    several, the first.
    """

    begun: tuple[str, ...] = ()
    imported: tuple[str, ...] = ()
    errors: tuple[tuple[str, Error], ...] = ()
    done: bool = False
    loaded: tuple[tuple[str, tuple[str, ...]], ...] = ()


def parse(said: bytes, wanted: Collection[str]) -> Answers:
    """Read the worker's lines about the wanted modules; whatever else is there is passed over."""
    begun: dict[str, None] = {}
    imported: dict[str, None] = {}
    errors: dict[str, Error] = {}
    loaded: dict[str, str] = {}
    done = False
    for line in said.split(b"\n"):
        words = _object(line)
        if words == {"done": True}:
            done = True
        module = words.get("module")
        if not isinstance(module, str) or module not in wanted:
            continue
        if words.keys() == {"module"}:
            begun[module] = None
        elif words.keys() == {"module", "seconds"} and _is_seconds(words["seconds"]):
            imported[module] = None
        elif words.keys() == {"module", "error"} and (error := _error(words["error"])):
            errors.setdefault(module, error)
        elif words.keys() == {"module", "loaded"} and _are_paths(words["loaded"]):
            for path in words["loaded"][: _FILES - len(loaded)]:
                loaded.setdefault(path, module)
    # An error is not taken back.
    good = tuple(module for module in imported if module not in errors)
    files: dict[str, list[str]] = {}
    for path, module in loaded.items():
        files.setdefault(module, []).append(path)
    by_module = tuple((module, tuple(paths)) for module, paths in files.items())
    return Answers(tuple(begun), good, tuple(errors.items()), done, by_module)


def clean(text: str, limit: int = _TEXT) -> str:
    """Cut a text, and replace what is no text: lone surrogates, control characters, changes of direction."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text[:limit]
    )


def _object(line: bytes) -> dict[str, Any]:
    if len(line) <= _LINE:
        # Deep nesting exhausts the parser's stack; a number of many digits is refused as a ValueError.
        with suppress(ValueError, RecursionError):
            words = json.loads(line)
            if isinstance(words, dict):
                return words
    return {}


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _are_paths(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(path, str)
        and path.startswith("/")
        and len(path) <= _PATH
        and path.count("/") <= _PARTS
        and "\0" not in path
        for path in value
    )


_REQUIRED = {"type": str, "text": str, "causes": list}
_OPTIONAL = {"file": str, "line": int, "missing": str, "standard": bool}


def _error(told: Any) -> Error | None:
    if (
        not isinstance(told, dict)
        or not _REQUIRED.keys() <= told.keys() <= _REQUIRED.keys() | _OPTIONAL.keys()
    ):
        return None
    if any(type(value) is not (_REQUIRED | _OPTIONAL)[name] for name, value in told.items()):
        return None
    if not all(isinstance(cause, str) for cause in told["causes"]):
        return None
    return Error(
        type=clean(told["type"], _NAME) or "an exception without a name",
        text=clean(told["text"]),
        file=clean(told.get("file", ""), _NAME),
        line=min(max(told.get("line", 0), 0), 1 << 31),
        causes=tuple(clean(cause) for cause in told["causes"][:_CAUSES]),
        missing=clean(told.get("missing", ""), _NAME),
        standard=told.get("standard", False),
    )
