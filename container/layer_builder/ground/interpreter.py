"""Finds a Python interpreter of a given minor version on this machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Where Lambda's runtimes and base images keep theirs.
LAMBDA_BIN = Path("/var/lang/bin")

_PROBE_SECONDS = 20
# The base executable: a virtual environment's Python says what it was made from.
_PROBE = (
    "import sys; v = sys.version_info;"
    "print(sys.implementation.name, '%d.%d.%d' % v[:3], v.releaselevel, sys.abiflags or '-',"
    " getattr(sys, '_base_executable', None) or sys.executable)"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A CPython that was started and asked what it is.

    Attributes:
        path: its executable, absolute; of a virtual environment, the one it was made from.
        version: its full version, such as ``3.13.0``.
    """

    path: Path
    version: str

    @property
    def minor(self) -> str:
        """Its minor version, such as ``3.13``."""
        return self.version.rpartition(".")[0]

    @property
    def environment(self) -> dict[str, str]:
        """The smallest environment it starts in, to be given to its processes instead of ours."""
        return _environment(self.path)


def find(minor: str) -> Interpreter | None:
    """Return a released CPython of the minor version (such as ``3.13``), or None when there is none.

    Looked for in this order: Lambda's own place, the interpreter that runs the builder, ``PATH``, pyenv's
    versions (newest first). Each is started and asked, because a name proves nothing.

    Raises:
        ValueError: when ``minor`` is not of the form ``3.13``.
    """
    if not re.fullmatch(r"[1-9]\d*\.\d+", minor):
        raise ValueError(f"not a minor version of Python: {minor!r}")
    for candidate in dict.fromkeys(_candidates(minor)):
        if os.access(candidate, os.X_OK) and (found := _probe(candidate)) and found.minor == minor:
            return found
    return None


def _candidates(minor: str) -> Iterator[Path]:
    name = f"python{minor}"
    yield LAMBDA_BIN / name
    if sys.executable:
        yield Path(sys.executable)
    root = Path(os.environ.get("PYENV_ROOT") or Path("~/.pyenv").expanduser())
    for folder in os.get_exec_path():
        # Relative folders are left out: what is in the working folder is not ours to start. So are pyenv's
        # shims, which take a tenth of a second to start, or to refuse to start, one of its versions.
        if Path(folder).is_absolute() and Path(folder) != root / "shims":
            yield Path(folder, name)
    versions = [path for path in root.glob(f"versions/{minor}.*") if path.name.rpartition(".")[2].isdecimal()]
    versions.sort(key=lambda path: int(path.name.rpartition(".")[2]), reverse=True)
    yield from (path / "bin" / name for path in versions)


def _probe(path: Path) -> Interpreter | None:
    try:
        answer = subprocess.run(
            [path, "-I", "-S", "-c", _PROBE],
            env=_environment(path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=True,
        )
        name, version, level, flags, executable = os.fsdecode(answer.stdout.rstrip(b"\n")).split(" ", 4)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    # Pre-releases have another bytecode, free-threaded and debug builds another behavior than Lambda's.
    if (name, level, flags) != ("cpython", "final", "-"):
        return None
    return Interpreter(Path(executable) if Path(executable).is_file() else path, version)


def _environment(path: Path) -> dict[str, str]:
    """Lambda's images find libpython by LD_LIBRARY_PATH only, which we do not inherit but work out."""
    libraries = path.parent.parent / "lib"
    return {"LD_LIBRARY_PATH": str(libraries)} if any(libraries.glob("libpython3*.so*")) else {}
