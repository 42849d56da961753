"""Runs inside the interpreter that the import check starts: `import_check` is the other side.

It is started by its path with `-I -S -B`, under any Python from 3.11 on, with nothing but the standard
library, where `confinement_worker` has taken away all that the modules must not have. Everything it has to
say goes as lines of JSON to the descriptor that it is given, since standard output belongs to the modules.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

TYPE_CHECKING = False  # as the one of typing, which takes as long to import as Python to start
if TYPE_CHECKING:
    from typing import Any

_TEXT = 2000  # characters of an error that are passed on
_CAUSES = 10
_PATHS = 20  # in one line


def main() -> None:
    """Import what the configuration names."""
    descriptor, place = int(sys.argv[1]), sys.argv[2]
    with open(place, "rb") as file:  # noqa: PTH123 (pathlib would be imported before the modules do)
        config = json.load(file)
    import_modules(config, descriptor)


def import_modules(config: dict[str, Any], descriptor: int) -> None:
    """Import the modules as a function would find them, one after the other."""
    import site
    import time

    # What `import site` gives every program; the machine's own packages, which it would give too, are not
    # wanted.
    site.setquit()
    site.setcopyright()
    site.sethelper()
    # Before `.pth` files and the like: what they load counts for the first module.
    loaded = _loaded()
    if config["wrapped"]:
        # With a PYTHONPATH the runtime adds nothing. Python itself looks there for these two as it starts,
        # and processes no `.pth` file there.
        sys.path[:0] = [config["task"], config["site"]]
        for module in ("sitecustomize", "usercustomize"):
            with contextlib.suppress(ImportError):
                __import__(module)
    else:
        # As the runtime's bootstrap does it, all folders first: code in `.pth` files finds the standard
        # library, and folders that they name come after it.
        folders = config["searched_first"], config["site"]
        sys.path[:0] = [config["task"], *folders]
        for folder in folders:
            site.addsitedir(folder)
    sys.argv[:] = ["bootstrap.py"]
    for module in config["modules"]:
        _say(descriptor, {"module": module})
        start = time.perf_counter()
        try:
            __import__(module)
        except BaseException as error:  # noqa: BLE001 (sys.exit() is as fatal to a function as an error)
            _say(descriptor, {"module": module, "error": _told(error, config["site"])})
        else:
            _say(descriptor, {"module": module, "seconds": round(time.perf_counter() - start, 3)})
        new = sorted(path for path in _loaded() - loaded if not path.startswith(config["layer"]))
        for first in range(0, len(new), _PATHS):
            _say(descriptor, {"module": module, "loaded": new[first : first + _PATHS]})
        loaded.update(new)
    _say(descriptor, {"done": True})
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # What modules left running (threads, exit handlers) is not our concern.
    os._exit(0)


def _loaded() -> set[str]:
    """List the files that this process has loaded as code, as the kernel knows them: proc_pid_maps(5)."""
    found = set()
    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as file:  # noqa: PTH123 (as above)
        for line in file:
            fields = line.split(None, 5)
            if len(fields) == 6 and b"x" in fields[1] and fields[5].startswith(b"/"):
                found.add(os.fsdecode(fields[5].rstrip(b"\n")))
    return found


def _told(error: BaseException, site: str) -> dict[str, Any]:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if frame.filename.startswith(f"{site}/")]
    told: dict[str, Any] = {"type": type(error).__name__, "text": _words(error)}
    if inside:
        told["file"] = inside[-1].filename[len(site) + 1 :]
        told["line"] = inside[-1].lineno or 0
    # The root of the matter may be hidden below: "Unable to import required dependencies".
    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < _CAUSES:
        causes.append(f"{type(cause).__name__}: {_words(cause)}")
        cause = cause.__cause__ or cause.__context__
    told["causes"] = causes
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str):
        told["missing"] = error.name
        told["standard"] = error.name.partition(".")[0] in sys.stdlib_module_names
    return told


def _words(error: BaseException) -> str:
    try:
        return str(error)[:_TEXT]
    except BaseException as another:  # noqa: BLE001 (the exception's own class is the module's code)
        return f"its text cannot be had ({type(another).__name__})"


def _say(descriptor: int, words: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    main()
