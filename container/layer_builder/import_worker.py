"""Runs inside the interpreter that the import check starts: `import_check` is the other side.

It is started by its path with `-I -S -B`, under any Python from 3.11 on, with nothing but the standard
library. It comes on twice in one process: first it takes away what the modules must not have (network,
rights, unlimited resources) and replaces itself; then it imports. Everything it has to say goes as lines of
JSON to the descriptor that it is given, since standard output belongs to the modules.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

_NOBODY = 65534  # the overflow user and group of every Linux
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
_PR_SET_NO_NEW_PRIVS = 38
# Isolated; without the machine's own packages; no bytecode, as on Lambda's read-only mount.
_FLAGS = ("-I", "-S", "-B")
_TEXT = 2000  # characters of an error that are passed on


def main() -> None:
    """Take one of the two turns."""
    turn, descriptor, config = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    if turn == "confine":
        _say(descriptor, confine(config))
        os.execv(sys.executable, [sys.executable, *_FLAGS, __file__, "import", *sys.argv[2:]])  # noqa: S606
    import_modules(config, descriptor)


def confine(config: dict[str, Any]) -> dict[str, Any]:
    """Give up what can be given up, and tell what that was."""
    import resource
    import signal

    limits = config["limits"]
    for kind, value in (
        (resource.RLIMIT_DATA, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    # Should memory run out, the kernel is to end this process and not the builder.
    with contextlib.suppress(OSError):
        _write("/proc/self/oom_score_adj", "1000")
    # Should the builder be killed, nobody else would stop us.
    signal.alarm(limits["wall_seconds"] + 10)
    said = _separate(config["site"])
    if libc := _libc():
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return {"confined": said}


def _separate(site: str) -> dict[str, str]:
    """Leave the network, and become nobody: as root outright, else inside a user namespace."""
    if os.geteuid() == 0 and _nobody_can_run(site):
        left = _unshare(_CLONE_NEWNET | _CLONE_NEWIPC)
        _become_nobody()
        left = left or _enter_user_namespace()
        return {"network": "none" if left else "host", "user": "nobody"}
    if _enter_user_namespace():
        return {"network": "none", "user": "the builder's, without rights"}
    return {"network": "host", "user": "the builder's"}


def _enter_user_namespace() -> bool:
    """Have a network of one's own, and under a number that is not root's: exec then takes all rights away."""
    user, group = os.geteuid(), os.getegid()
    if not _unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC):
        return False
    for name, line in (("setgroups", "deny"), ("uid_map", f"1000 {user} 1"), ("gid_map", f"1000 {group} 1")):
        with contextlib.suppress(OSError):
            _write(f"/proc/self/{name}", line)
    return True


def _nobody_can_run(site: str) -> bool:
    """Try whether an unprivileged user gets at all that is needed: somebody's home folder may be closed."""
    child = os.fork()
    if child == 0:
        try:
            _become_nobody()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            code = f"import json, os; os.stat({site!r}); open({__file__!r}).close()"
            os.execv(sys.executable, [sys.executable, *_FLAGS, "-c", code])  # noqa: S606
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 (pathlib would be imported before the modules do)
        file.write(text)


def _libc() -> Any:
    try:
        import ctypes
    except ImportError:  # a Python built on a machine without libffi
        return None
    return ctypes.CDLL(None)


def _unshare(flags: int) -> bool:
    libc = _libc()
    return libc is not None and libc.unshare(flags) == 0


def import_modules(config: dict[str, Any], descriptor: int) -> None:
    """Import the modules as a function would find them, one after the other."""
    import site
    import time

    # What `import site` gives every program; the machine's own packages, which it would give too, are not
    # wanted.
    site.setquit()
    site.setcopyright()
    site.sethelper()
    standard = sys.path[:]
    sys.path[:] = [config["task"]]
    for folder in (config["site"], config["python"]):
        site.addsitedir(folder)
    sys.path += standard
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
    _say(descriptor, {"done": True})
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # What modules left running (threads, exit handlers) is not our concern.
    os._exit(0)


def _told(error: BaseException, site: str) -> dict[str, Any]:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if frame.filename.startswith(f"{site}/")]
    told: dict[str, Any] = {"type": type(error).__name__, "text": str(error)[:_TEXT]}
    if inside:
        told["file"] = inside[-1].filename[len(site) + 1 :]
        told["line"] = inside[-1].lineno
    # The root of the matter may be hidden below: "Unable to import required dependencies".
    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 10:
        causes.append(f"{type(cause).__name__}: {cause}"[:_TEXT])
        cause = cause.__cause__ or cause.__context__
    told["causes"] = causes
    if isinstance(error, ModuleNotFoundError) and error.name:
        told["missing"] = error.name
        told["standard"] = error.name.partition(".")[0] in sys.stdlib_module_names
    return told


def _say(descriptor: int, words: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    main()
