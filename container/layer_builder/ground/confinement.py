"""Starts code of others where it can do little, and ends all that it started.

What is taken away, and how, is in `confinement_worker`, which runs between the builder and that code.
"""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from layer_builder.ground.interpreter import Interpreter

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_END_SECONDS = 10.0
_FACTS = 1 << 16  # bytes
_PROCESSES = 512
# What programs and libraries need of a machine. Not in it, on purpose: homes, /root, /var, /run, /srv, /tmp,
# and of /etc what is neither the loader's nor the resolver's nor a list of well-known names.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
SETTINGS = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/alternatives"),
    *("/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/passwd", "/etc/group", "/etc/protocols", "/etc/services", "/etc/localtime", "/etc/timezone"),
    *("/etc/os-release", "/etc/system-release", "/etc/debian_version", "/etc/mime.types", "/etc/fonts"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ssl/cert.pem", "/etc/ca-certificates", "/etc/pki/tls"),
    *("/etc/pki/ca-trust", "/etc/crypto-policies", "/etc/locale.conf", "/etc/default/locale", "/etc/inputrc"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage"),
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a command may have.

    Attributes:
        root: an empty folder, to build its file system in.
        read: paths that it may read and execute, beside `machine`.
        write: folders that it may write; they become its user's.
        scratch: folders that it may write and nobody else reads, with how many bytes they may hold where the
            kernel lets us make file systems.
        needs: what another user must be able to read for the command to run as that user.
        machine: what it may read and execute of the machine; else all that programs need.
        tmp: how many bytes a /tmp of its own holds, where the kernel lets us make file systems; 0 for none.
        port: the one TCP port it may connect to; None for no network at all.
        limits: of its processes, by the names of setrlimit(2) without RLIMIT_; `NPROC` counts threads.
        wall_seconds: when the kernel ends it, should the builder not.
        places: what it is to have at paths of its own, by these, to be read only, or scratch if the path is
            there, too. Where it can have no root of its own, these paths in its command, environment and
            working folder become those of the machine.
    """

    root: Path
    read: Sequence[str]
    wall_seconds: int
    write: Sequence[str] = ()
    scratch: Mapping[str, int] = field(default_factory=dict)
    needs: Sequence[str] = ()
    machine: Sequence[str] = (*SYSTEM, *SETTINGS)
    tmp: int = 0
    port: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)


class Confined:
    """A command under way.

    Attributes:
        process: the supervisor's process; its pipes are the command's.
        held: what was taken away, in words: `network`, `user`, `files`, `processes`, and `by` what.
        failure: why it was not started; empty if it was.
    """

    def __init__(self, process: subprocess.Popen[Any], facts: int) -> None:
        self.process = process
        self.held: dict[str, str] = {}
        self.failure = ""
        self._facts = facts
        self._status: int | None = None
        self._read = bytearray()

    @property
    def status(self) -> int | None:
        """How the command ended, as in `Popen.returncode`; None if nobody knows, as when all was killed."""
        return None if self._status is None else os.waitstatus_to_exitcode(self._status)

    def learn(self) -> None:
        """Take what the supervisor said so far. Only it holds the other end of that pipe."""
        with suppress(BlockingIOError):
            while chunk := os.read(self._facts, _FACTS):
                self._read += chunk
        for line in bytes(self._read).splitlines():
            with suppress(ValueError, EOFError):  # of a line that is not whole yet
                words = marshal.loads(bytes.fromhex(line.decode()))  # noqa: S302 (the supervisor's)
                self.held = words.get("confined", self.held)
                self.failure = words.get("failed", self.failure)
                self._status = words.get("status", self._status)


@contextmanager
def confined(
    rules: Rules,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    cwd: str = "/",
    keep: Sequence[int] = (),
    **popen: Any,
) -> Iterator[Confined]:
    """Start a command without what it must not have; at the end, nothing that it started is left.

    Args:
        rules: what it may have.
        command: the program's path, and its arguments.
        environment: all of it.
        cwd: where it starts.
        keep: descriptors it is given beside its standard streams.
        popen: its standard streams, and how they are read, as `subprocess.Popen` takes them.

    Raises:
        OSError: our own interpreter cannot be started.
    """
    from layer_builder.ground import confinement_worker

    hide()
    before = frozenset(confinement_worker.children(os.getpid()))
    facts, telling = os.pipe()
    os.set_blocking(facts, False)
    given = os.memfd_create("rules")
    os.write(given, marshal.dumps(_written(rules, command, environment, cwd)))
    os.lseek(given, 0, os.SEEK_SET)
    with _adopting():
        try:
            process = subprocess.Popen(
                [*_starting(confinement_worker.__file__), str(telling), str(given)],
                env=_OWN_ENVIRONMENT,
                cwd="/",
                pass_fds=(*keep, telling, given),
                start_new_session=True,
                **popen,
            )
        except BaseException:
            os.close(facts)
            raise
        finally:
            os.close(telling)
            os.close(given)
        one = Confined(process, facts)
        try:
            yield one
        finally:
            one.learn()
            if one.status is None:
                # The supervisor was killed, or time is over: what it did not end is ours now.
                confinement_worker.end_descendants(os.getpid(), time.monotonic() + _END_SECONDS, before)
            process.wait()
            one.learn()
            os.close(facts)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    with suppress(OSError):
                        stream.close()


def _starting(worker: str) -> list[str]:
    """Start the worker as a module, which has its bytecode already: as a script it would be compiled anew."""
    folder, _, name = worker.rpartition("/")
    code = f"import sys; sys.path.append({folder!r}); from {name.removesuffix('.py')} import main; main()"
    return [sys.executable, "-I", "-S", "-B", "-c", code]


# Of the builder's own environment only what its interpreter needs to start.
_OWN_ENVIRONMENT = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


def _written(
    rules: Rules, command: Sequence[str], environment: Mapping[str, str], cwd: str
) -> dict[str, Any]:
    return {
        "root": str(rules.root),
        "read": [*rules.machine, *rules.read],
        "write": [*rules.write],
        "scratch": {**rules.scratch},
        "tmp": rules.tmp,
        "needs": [*rules.needs],
        "port": rules.port,
        "limits": {"NPROC": _PROCESSES, **rules.limits},
        "wall_seconds": rules.wall_seconds,
        "places": {**rules.places},
        "command": [*command],
        "environment": {**environment},
        "cwd": cwd,
    }


def parts_of(python: Interpreter) -> list[str]:
    """Name the folders of an interpreter that is not in the system's: not all that may be beside it."""
    places = {python.path, python.path.resolve()}
    prefixes = {place.parent.parent for place in places}
    names = ("bin", "lib", "lib64", "include", "share")
    return [*map(str, places), *(str(prefix / name) for prefix in sorted(prefixes) for name in names)]


@contextmanager
def _adopting() -> Iterator[None]:
    """Become the parent of processes whose own parents are gone: else they would be init's, out of sight."""
    try:
        import ctypes
    except ImportError:
        yield
        return
    libc = ctypes.CDLL(None)
    was = ctypes.c_int(0)
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)


@cache
def hide() -> bool:
    """Close /proc/PID/environ, mem and fd of this process, and tracing, to whatever it starts from now on.

    To be called before code that others wrote is started: in a container the environment names the place
    where the role's credentials are served, and the memory holds those of package indexes. Root sees them
    all the same (prctl(2), PR_SET_DUMPABLE; ptrace(2), "Ptrace access mode checking").

    Returns:
        whether the kernel did it.
    """
    try:
        import ctypes

        return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):  # a Python without libffi, or no Linux
        return False
