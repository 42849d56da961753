"""The whole code of a throw-away function that tries a layer: it imports modules and says how that went.

It runs in the runtime that the layer is for, beside code of packages, so it is one file with nothing but the
standard library, for Python 3.11 and newer. Nothing that it answers is believed to be more than that code's
words: see `trial_answer`.
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from contextlib import suppress

TYPE_CHECKING = False  # importing typing for real would be a part of the times
if TYPE_CHECKING:
    from typing import Any

_TEXT = 1000  # characters of an error that are passed on
_CAUSES = 5


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Import the modules that the event names, one after the other; answer for each.

    Before each, the log gets a line with the event's mark and the module's name: if the process dies, that
    says who was at it.
    """
    answers = []
    for module in event["modules"]:
        with suppress(Exception):  # a module may have closed what is printed to, which is no failed import
            print(event["mark"], module, flush=True)  # noqa: T201
        begun = time.perf_counter()
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 (sys.exit() is as fatal to a function as an error)
            answers.append({"module": module, "error": _told(error)})
        else:
            milliseconds = round((time.perf_counter() - begun) * 1000, 1)
            answers.append({"module": module, "ms": milliseconds})
    return {"modules": answers}


def _told(error: BaseException) -> dict[str, Any]:
    # The layer is mounted at /opt, and one folder of it that is searched lies within another.
    folders = sorted((f"{folder}/" for folder in sys.path if "/opt/" in folder), key=len, reverse=True)
    inside = []
    for frame in traceback.extract_tb(error.__traceback__):
        folder = next((folder for folder in folders if frame.filename.startswith(folder)), "")
        if folder:
            inside.append((frame.filename.removeprefix(folder), frame.lineno or 0))
    told: dict[str, Any] = {"type": type(error).__name__[:_TEXT], "text": _words(error), "causes": []}
    if inside:
        file, told["line"] = inside[-1]
        told["file"] = _sendable(file)
    # The root of the matter may be hidden below: "Unable to import required dependencies".
    cause = error.__cause__ or error.__context__
    while cause is not None and len(told["causes"]) < _CAUSES:
        told["causes"].append(f"{type(cause).__name__}: {_words(cause)}")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str):
        told["missing"] = _sendable(error.name)
        told["standard"] = error.name.partition(".")[0] in sys.stdlib_module_names
    return told


def _words(error: BaseException) -> str:
    try:
        return _sendable(str(error))
    except BaseException as another:  # noqa: BLE001 (the exception's own class is the module's code)
        return f"its text cannot be had ({type(another).__name__})"


def _sendable(text: str) -> str:
    # What stands for bytes that are no UTF-8: from python3.12 on the runtime's JSON has no escapes for it
    # (awslambdaric, lambda_runtime_marshaller.py), and the answer could not be sent.
    return text[:_TEXT].encode("utf-8", "backslashreplace").decode()
