"""What an import check lets modules see of this machine: what Lambda has too, as far as that is known here.

A machine that builds has libraries and programs that a function will not find, and a module that comes upon
them proves nothing. So of the machine's libraries those are shown that the runtime has (`base_libraries`) and
those that this machine's Python itself is linked to, as the loader finds them; of its programs some that all
runtimes have. Where the kernel cannot hide the rest, a process's own list of what it has loaded tells what it
took (`Surroundings.is_machines`).
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder.ground import confinement
from layer_builder.proof import base_libraries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_builder.ground.interpreter import Interpreter

_TRACE_SECONDS = 20
# ld.so(8), LD_TRACE_LOADED_OBJECTS: nothing is run, and what would be loaded is listed as ldd(1) lists it.
_LOADED = re.compile(r"^\s*(?:\S+ => )?(/.*) \(0x[0-9a-f]+\)$", re.MULTILINE)
# Loaded by glibc itself, by name: for users, groups and hosts.
_NSS = ("libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2", "libnss_myhostname.so.2")
# What a process has made itself, without a file or with one that it has removed (proc_pid_maps(5)): libffi's
# and compilers' code in `/memfd:…` or `/dev/zero`, a library that was unpacked to be loaded.
_NO_FILE = " (deleted)"
# Modules of the standard library that Lambda has not: what they need would be shown to all others.
_NOT_IN_LAMBDA = ("_tkinter.",)
_STANDARD_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
# Of /etc what leads the loader and ctypes.util.find_library to libraries.
_OF_LOADER = "/etc/ld.so."
_DATA = (
    *("/usr/lib/locale", "/usr/lib/ssl", "/usr/lib/os-release", "/usr/share/zoneinfo", "/usr/share/locale"),
    *("/usr/share/i18n", "/usr/share/ca-certificates", "/usr/share/pki", "/usr/share/terminfo"),
    *("/usr/share/mime", "/usr/share/crypto-policies"),
)
_IN_LIBRARY_FOLDERS = ("gconv", "ossl-modules", "engines-3")
_SHELLS = ("bash", "sh", "ls", "cp", "grep", "sed")  # whose libraries are those of the rest as well
_PROGRAMS = (
    *("basename", "cat", "chmod", "coreutils", "date", "dirname", "echo", "env", "false", "head", "id"),
    *("mkdir", "mv", "pwd", "readlink", "rm", "sleep", "tail", "touch", "tr", "true", "uname", "wc"),
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What modules may see.

    Attributes:
        read: paths for `confinement.Rules.machine`, the interpreter's own included.
        folders: where the loader has to look for libraries beside its own folders.
        libraries: the files among them that a process may load, by all their paths.
        standard: the folders of the standard library.
    """

    read: tuple[str, ...]
    folders: tuple[str, ...]
    libraries: frozenset[str]
    standard: tuple[str, ...]

    def is_machines(self, path: str) -> bool:
        """Tell whether a file that was loaded from outside of the layer is nobody's but this machine's."""
        real = os.path.realpath(path)
        if path in self.libraries or real in self.libraries:
            return False
        if posixpath.basename(path).startswith("libnss_") or "/gconv/" in path:
            return False
        if path.endswith(_NO_FILE):
            return False
        own = any(real.startswith(f"{folder}/") for folder in self.standard)
        return not own or "/site-packages/" in real or "/dist-packages/" in real


@cache
def of(python: Interpreter, machine: str) -> Surroundings | None:
    """Find out what belongs to a runtime's stand-in; None if this machine's loader does not tell.

    Args:
        python: the interpreter that is to import.
        machine: this machine, `aarch64` or `x86_64`.
    """
    prefix = python.path.resolve().parent.parent
    names = (f"{lib}/python{python.minor}" for lib in ("lib", "lib64"))
    standard = [str(prefix / name) for name in names if (prefix / name).is_dir()]
    modules = [file for folder in standard for file in _modules(Path(folder))]
    # The loader itself is the interpreter's anyway.
    base = [name for name in base_libraries.base(machine) if not name.startswith("ld-linux")]
    own = _traced([str(python.path)], python.environment, [*modules, *base, *_NSS])
    if not any(posixpath.basename(path) == "libc.so.6" for path in own):
        return None
    programs = [place for name in (*_SHELLS, *_PROGRAMS) for place in _places(name)]
    theirs = [path for name in _SHELLS for place in _places(name) for path in _traced([place], {}, ())]
    libraries = frozenset(_both(own))
    places = (str(python.path), str(python.path.resolve()), *map(str, prefix.glob("lib*/libpython*.so*")))
    read = [
        *(path for path in confinement.SETTINGS if not path.startswith(_OF_LOADER)),
        *_DATA,
        *_near_libraries(libraries),
        *standard,
        *places,
        *sorted(libraries | {*_both(theirs)}),
        *_both(programs),
        "/bin/sh",
    ]
    return Surroundings(
        tuple(dict.fromkeys(read)),
        tuple(_unusual(own, standard, machine)),
        libraries | {*places},
        tuple({*standard, *map(os.path.realpath, standard)}),
    )


def _modules(folder: Path) -> Iterator[str]:
    for file in sorted(folder.glob("lib-dynload/*.so")):
        if not file.name.startswith(_NOT_IN_LAMBDA) and ":" not in str(file) and " " not in str(file):
            yield str(file)


def _traced(command: list[str], environment: Mapping[str, str], beside: Iterable[str]) -> list[str]:
    """List what the loader would load for a program, and for files beside it."""
    given = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": ":".join(beside), **environment}
    try:
        done = subprocess.run(
            command,
            env={name: value for name, value in given.items() if value},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRACE_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return _LOADED.findall(os.fsdecode(done.stdout))


def _places(name: str) -> list[str]:
    return [place for folder in ("/usr/bin", "/bin") if os.access(place := f"{folder}/{name}", os.X_OK)][:1]


def _both(paths: Iterable[str]) -> list[str]:
    """Give the paths, and where links lead."""
    return [way for path in paths for way in (os.path.normpath(path), os.path.realpath(path))]


def _near_libraries(libraries: Iterable[str]) -> list[str]:
    """Find folders of files that the C library and OpenSSL load beside their own."""
    folders = {posixpath.dirname(path) for path in libraries}
    places = (f"{folder}/{name}" for folder in sorted(folders) for name in _IN_LIBRARY_FOLDERS)
    return [place for place in places if Path(place).is_dir()]


def _unusual(libraries: Iterable[str], standard: Iterable[str], machine: str) -> list[str]:
    """Find the folders that the loader knows of by its cache only, which modules do not see."""
    usual = {f"{folder}{rest}" for folder in _STANDARD_FOLDERS for rest in ("", f"/{machine}-linux-gnu")}
    folders = dict.fromkeys(map(posixpath.dirname, libraries))
    own = tuple(f"{folder}/" for folder in standard)
    return [folder for folder in folders if folder not in usual and not f"{folder}/".startswith(own)]
