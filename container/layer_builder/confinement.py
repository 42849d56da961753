"""Keeps a process's memory and environment from others of the same user."""

from __future__ import annotations

from functools import cache

_PR_SET_DUMPABLE = 4


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
