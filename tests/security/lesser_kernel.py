"""Runs the builder on a kernel that has less: this one, with a filter that refuses what others lack.

    python lesser_kernel.py LACKING[,LACKING…] SEARCH-PATH OPTIONS…

A filter on system calls is what container engines use, too. With nothing but the standard library, because it
runs as any user, under any of their Pythons.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

NAMESPACES, LANDLOCK, FILTERS = "namespaces", "Landlock", "filters"

_UNSHARE = {"x86_64": 272, "aarch64": 97}
_PRCTL = {"x86_64": 157, "aarch64": 167}
_LANDLOCK_CREATE_RULESET = 444
_EPERM, _EINVAL, _ENOSYS = 1, 22, 38
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38


def main() -> int:
    lacking, path, *arguments = sys.argv[1:]
    refuse({*lacking.split(",")} - {""})
    sys.path[:0] = path.split(":")
    from layer_builder.cli import main as build

    return build(arguments)


def refuse(lacking: set[str]) -> None:
    """Have the kernel refuse something to this process and to all that it starts."""
    if not lacking:
        return
    machine = platform.machine()
    program = [(0x20, 0, 0, 0)]  # the call's number
    if NAMESPACES in lacking:
        program += _refuse(_UNSHARE[machine], _EPERM)
    if LANDLOCK in lacking:
        program += _refuse(_LANDLOCK_CREATE_RULESET, _ENOSYS)
    if FILTERS in lacking:
        program += [(0x15, 0, 3, _PRCTL[machine]), (0x20, 0, 0, 16), *_refuse(_PR_SET_SECCOMP, _EINVAL)]
    program.append((0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_PR_SET_SECCOMP, 2, struct.pack("@HP", len(program), ctypes.addressof(code)), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the filter was not taken")


def _refuse(number: int, error: int) -> list[tuple[int, int, int, int]]:
    return [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error)]


if __name__ == "__main__":
    sys.exit(main())
