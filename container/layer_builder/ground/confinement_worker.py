"""Takes away from a process what code of others must not have, then becomes that code: see `confinement`.

Started with `-I -S -B`, with nothing but the standard library. What the kernel gives is used, and what it
does not give is said: namespaces (mounts, processes, network, IPC; unprivileged where users may have them),
Landlock for files, TCP and signals, a seccomp filter for system calls, limits on resources, another user.
Each is a wall of its own; on Fargate, where there are no user namespaces and perhaps no Landlock, the filter
and the limits remain.

    supervisor (this process) -> init of the process namespace, where there is one -> the command

The supervisor outlives the command, ends whatever that left, and alone says how it ended.

Sources: namespaces(7), user_namespaces(7), pid_namespaces(7), pivot_root(2), mount_setattr(2), landlock(7)
and the kernel's "Landlock: unprivileged access control", seccomp(2), PR_SET_CHILD_SUBREAPER in prctl(2).
"""
# pathlib takes longer to import than all that is done here.
# ruff: noqa: PTH101, PTH103, PTH110, PTH112, PTH114, PTH115, PTH116, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import resource
import signal
import struct
import sys
import time

try:
    import ctypes
except ImportError:  # a Python built on a machine without libffi: limits and another user are what remains
    ctypes = None  # type: ignore[assignment]

TYPE_CHECKING = False  # as the one of typing, which takes as long to import as Python to start
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

_NOBODY = 65534  # the overflow user and group of every Linux
_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 24, 28
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_NO_ROOT = 0xEF  # no rights by being root, none kept or raised, all of it locked
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
_MNT_DETACH, _AT_FDCWD, _AT_RECURSIVE = 2, -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
# The same on all machines: newer calls have one number (include/uapi/asm-generic/unistd.h).
_SYS_MOUNT_SETATTR, _SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 442, 444, 445, 446
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_TMP = "/tmp"  # noqa: S108 (one of the command's own)
_SCATTERED = 4096  # where the user's other processes count too, and not all can be seen
_END_SECONDS = 10.0

_libc: Any = ctypes and ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Confine, start, wait, end what is left, say how it ended."""
    facts, rules = int(sys.argv[1]), int(sys.argv[2])
    with os.fdopen(rules, "rb") as stream:
        _Supervisor(facts, marshal.load(stream)).run()  # noqa: S302 (the builder's)


class _Supervisor:
    """What stays outside, or between, while the command runs."""

    def __init__(self, facts: int, rules: dict[str, Any]) -> None:
        self.facts = facts
        self.rules = rules
        self.namespaces: list[str] = []
        self.user = "the builder's"
        self.drop = False  # to nobody, at the last moment

    def run(self) -> NoReturn:
        os.set_inheritable(self.facts, False)
        os.umask(0o022)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # the builder's end is ours
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, _end)
        signal.alarm(self.rules["wall_seconds"] + 10)  # should the builder hang
        # Should memory run out, the kernel is to end these processes and not the builder.
        with contextlib.suppress(OSError):
            _write("/proc/self/oom_score_adj", "1000")
        self._separate()
        if "pid" in self.namespaces:
            first = os.fork()
            if first == 0:
                self._be_first()
        else:
            first = self._start()
        _prctl(_PR_SET_DUMPABLE, 0)
        self._let_go()
        _, status = os.waitpid(first, 0)
        deadline = time.monotonic() + _END_SECONDS
        if "pid" not in self.namespaces and end_descendants(os.getpid(), deadline):
            self._say({"status": status})
        os._exit(0)

    def _separate(self) -> None:
        """Have namespaces: as root outright, else those that come with a user namespace."""
        wanted = _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWIPC
        names = ["mount", "pid", "ipc"]
        if self.rules["port"] is None:
            wanted |= _CLONE_NEWNET
            names.append("network")
        if os.geteuid() == 0:
            if _unshare(wanted):
                self.namespaces, self.drop = names, True
                return
            if _nobody_can_reach(self.rules["needs"]):
                _become_nobody(self.rules["write"])
                self.user = "nobody"
        user, group = os.geteuid(), os.getegid()
        if not _unshare(_CLONE_NEWUSER | wanted):
            return
        # Not root's number, so that starting the command takes all rights away.
        for name, line in (
            ("setgroups", "deny"),
            ("uid_map", f"1000 {user} 1"),
            ("gid_map", f"1000 {group} 1"),
        ):
            with contextlib.suppress(OSError):
                _write(f"/proc/self/{name}", line)
        self.namespaces = [*names, "user"]
        if self.user != "nobody":
            self.user = "the builder's, without rights"

    def _be_first(self) -> NoReturn:
        """Be the first process of a namespace: with it all others in it end."""
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            child = self._start()
            _prctl(_PR_SET_DUMPABLE, 0)
            self._let_go()
            while True:
                pid, status = os.wait()
                if pid == child:
                    break
            self._say({"status": status})
        finally:
            os._exit(0)

    def _start(self) -> int:
        if "mount" in self.namespaces:
            try:
                _make_root(self.rules, own_proc="pid" in self.namespaces)
            except OSError:
                self.namespaces.remove("mount")
        if "mount" not in self.namespaces:
            self.rules = _translated(self.rules)
        if self.drop and ("mount" in self.namespaces or _nobody_can_reach(self.rules["needs"])):
            self.user = "nobody"
        child = os.fork()
        if child == 0:
            self._become()
        return child

    def _become(self) -> NoReturn:
        """Give up what can be given up, tell what that was, and be the command."""
        rules = self.rules
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            if self.drop and self.user == "nobody":
                _become_nobody(self.rules["write"])
            if _drop_rights() and self.user == "the builder's":
                self.user = "the builder's, without rights"
            _prctl(_PR_SET_NO_NEW_PRIVS, 1)
            _limit(rules["limits"], apart="user" in self.namespaces)
            signal.alarm(rules["wall_seconds"] + 10)
            landlock = _landlock(rules, own_root="mount" in self.namespaces)
            filtered = _filter(rules["port"] is not None, self.namespaces, landlock)
            os.chdir(rules["cwd"])
            told = {
                "network": self._network(landlock, filtered),
                "user": self.user,
                "files": "its own" if landlock or "mount" in self.namespaces else "the user's",
                "processes": "its own" if _is_alone(self.namespaces, landlock) or filtered else "the user's",
                "by": ", ".join(
                    [
                        *(f"{name} namespace" for name in self.namespaces),
                        *([f"Landlock {landlock}"] if landlock else []),
                        *(["seccomp"] if filtered else []),
                    ]
                ),
            }
            self._say({"confined": told})
            os.execve(rules["command"][0], rules["command"], rules["environment"])  # noqa: S606
        except BaseException as error:  # noqa: BLE001 (nothing of this may go on as the command)
            self._say({"failed": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(127)

    def _network(self, landlock: int, filtered: bool) -> str:
        # Of what is not plain TCP, and of other ways to begin a connection, Landlock knows nothing.
        if not filtered:
            return "host"
        if self.rules["port"] is None:
            return "none"
        return "TCP, the index's port" if landlock >= 4 else "TCP"

    def _let_go(self) -> None:
        """Hold no end of the command's pipes, so that they end with it."""
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, self.facts)
        os.closerange(self.facts + 1, 1024)

    def _say(self, words: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self.facts, marshal.dumps(words).hex().encode() + b"\n")


# ---- files: a root of its own ----


def _make_root(rules: dict[str, Any], *, own_proc: bool) -> None:
    """Make a file system of nothing but what is listed, and change into it."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    root = _place_for_root(rules)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,nr_inodes=4096,mode=755")
    try:
        _fill_root(root, rules, own_proc)
        os.chdir(root)
        _check(_libc.syscall(_number("pivot_root"), b".", b"."), "pivot_root")
    except OSError:
        os.chdir("/")
        _libc.umount2(root.encode(), _MNT_DETACH)
        raise
    _check(_libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")
    _set_attributes("/", _ATTR_RDONLY, recursive=False)


def _place_for_root(rules: dict[str, Any]) -> str:
    """Choose a folder to be covered: removing one of our own afterwards would take 10 ms in the kernel."""
    wanted = [*rules["read"], *rules["write"], *rules["scratch"], *rules["places"].values()]
    for place in ("/mnt", "/media", "/srv"):
        if os.path.isdir(place) and not any(_is_below(os.path.realpath(path), [place]) for path in wanted):
            return place
    return str(rules["root"])


def _fill_root(root: str, rules: dict[str, Any], own_proc: bool) -> None:
    if rules["tmp"]:
        # First, so that what lies below it can be there as well. Nobody else has it.
        _make_scratch(root + _TMP, rules["tmp"])
    done: list[str] = []
    places: dict[str, str] = rules["places"]
    # Before the rest: what is needed of the machine may lie below a folder that is covered here.
    for path in rules["scratch"].keys() & places.keys():
        _make_scratch(root + path, rules["scratch"][path])
    for place, path in places.items():
        if place not in rules["scratch"]:
            _bind(path, root + place, _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV)
    wanted = [(path, _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV) for path in rules["read"]]
    wanted += [(path, _ATTR_NOSUID | _ATTR_NODEV) for path in rules["write"]]
    wanted += [(path, _ATTR_NOSUID) for path in _DEVICES]
    for path, attributes in wanted:
        _take(root, path, attributes, done)
    for path in rules["scratch"].keys() - places.keys():
        if rules["tmp"] and _is_below(path, [_TMP]):
            os.makedirs(root + path, exist_ok=True)
            os.chmod(root + path, 0o1777)  # noqa: S103 (as any folder for temporary files)
        else:
            _make_scratch(root + path, rules["scratch"][path])
    os.makedirs(f"{root}/proc", exist_ok=True)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if not own_proc or _libc.mount(b"proc", f"{root}/proc".encode(), b"proc", flags, None) != 0:
        # A container's engine may hide parts of /proc, and then gives no new one without them.
        _mount("/proc", f"{root}/proc", None, _MS_BIND | _MS_REC)
    os.symlink("/proc/self/fd", f"{root}/dev/fd")


def _take(root: str, path: str, attributes: int, done: list[str]) -> None:
    """Have a path of the old root in the new one, where it is there at all."""
    if _is_below(path, done):
        return
    if os.path.islink(path) and os.path.realpath(os.path.dirname(path)) == os.path.dirname(path):
        _take(root, os.path.realpath(path), attributes, done)
        with contextlib.suppress(FileExistsError):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(os.readlink(path), root + path)
        return
    if not os.path.exists(path):
        return
    _bind(path, root + path, attributes)
    done.append(path)
    if (real := os.path.realpath(path)) != path:
        _take(root, real, attributes, done)


def _bind(path: str, place: str, attributes: int) -> None:
    if os.path.isdir(path):
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o444))
    _mount(path, place, None, _MS_BIND | _MS_REC)
    _set_attributes(place, attributes, recursive=True)


def _make_scratch(place: str, size: int) -> None:
    os.makedirs(place, exist_ok=True)
    _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={size},nr_inodes=65536,mode=1777")


def _translated(rules: dict[str, Any]) -> dict[str, Any]:
    """Name what has no place of its own by where it is on the machine: there is no root to put it in."""
    places: dict[str, str] = rules["places"]

    def part(path: str) -> str:
        place = next((place for place in places if _is_below(path, [place])), "")
        return places[place] + path[len(place) :] if place else path

    def words(text: str) -> str:
        return ":".join(map(part, text.split(":")))

    return rules | {
        "places": {},
        "read": [*rules["read"], *(places[place] for place in places if place not in rules["scratch"])],
        "scratch": {part(path): size for path, size in rules["scratch"].items()},
        "command": [*map(words, rules["command"])],
        "environment": {name: words(value) for name, value in rules["environment"].items()},
        "cwd": part(rules["cwd"]),
    }


def _is_below(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind, data)]
    _check(_libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), f"mount {target}")


def _set_attributes(path: str, attributes: int, *, recursive: bool) -> None:
    wanted = struct.pack("=4Q", attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    done = _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, wanted, len(wanted))
    _check(done, f"mount_setattr {path}")


# ---- files, TCP, signals: Landlock ----

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPES = 3  # abstract unix sockets and signals
_PATH_BENEATH, _NET_PORT = 1, 2


def _landlock(rules: dict[str, Any], *, own_root: bool) -> int:
    """Allow what is listed and nothing else; return the version that the kernel has of this, 0 for none."""
    version = int(_libc.syscall(_SYS_LANDLOCK_CREATE, None, 0, 1)) if _libc is not None else 0
    if version < 1:
        return 0
    handled = (1 << 13) - 1
    handled |= _REFER if version >= 2 else 0
    handled |= _TRUNCATE if version >= 3 else 0
    handled |= _IOCTL_DEV if version >= 5 else 0
    net = _BIND_TCP | _CONNECT_TCP if version >= 4 else 0
    attributes = struct.pack("=3Q", handled, net, _SCOPES if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = int(_libc.syscall(_SYS_LANDLOCK_CREATE, attributes, size, 0))
    if ruleset < 0:
        return 0
    try:
        reading = _EXECUTE | _READ_FILE | _READ_DIR
        for path in (*rules["read"], *(rules["places"].keys() - rules["scratch"].keys()), "/proc", "/dev/fd"):
            _allow(ruleset, path, reading)
        for path in _DEVICES:
            _allow(ruleset, path, (_READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV) & handled)
        own_tmp = [_TMP] if rules["tmp"] and own_root else []
        for path in (*rules["write"], *rules["scratch"], *own_tmp):
            _allow(ruleset, path, handled)
        if net and rules["port"] is not None:
            rule = struct.pack("=2Q", _CONNECT_TCP, rules["port"])
            _check(_libc.syscall(_SYS_LANDLOCK_ADD, ruleset, _NET_PORT, rule, 0), "landlock_add_rule")
        _check(_libc.syscall(_SYS_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            access &= _FOR_FILES
        rule = struct.pack("=Qi", access, place)
        _check(_libc.syscall(_SYS_LANDLOCK_ADD, ruleset, _PATH_BENEATH, rule, 0), f"landlock_add_rule {path}")
    finally:
        os.close(place)


# ---- system calls: seccomp ----

NO_SUCH_CALL = 0xFFFFFFFF
# (x86_64, aarch64): arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
CALLS = {
    "accept": (43, 202),
    "accept4": (288, 242),
    "add_key": (248, 217),
    "bind": (49, 200),
    "clone": (56, 220),
    "clone3": (435, 435),
    "connect": (42, 203),
    "fcntl": (72, 25),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "listen": (50, 201),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "open": (2, NO_SUCH_CALL),
    "openat": (257, 56),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "prlimit64": (302, 261),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "semget": (64, 190),
    "sendmmsg": (307, 269),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "setns": (308, 268),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "shmget": (29, 194),
    "socket": (41, 198),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "truncate": (76, 45),
    "unshare": (272, 97),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
_F_SETOWN, _F_SETOWN_EX, _FIOSETOWN, _SIOCSPGRP = 8, 15, 0x8901, 0x8902
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_STREAM, _SOCK_TYPE, _IPPROTO_TCP, _MSG_FASTOPEN = 1, 0xF, 6, 0x20000000
_O_TRUNC = 0x200

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def _number(call: str) -> int:
    return CALLS[call][_MACHINES[os.uname().machine][0]]


def _is_alone(namespaces: list[str], landlock: int) -> bool:
    """Tell whether other processes are out of reach without a filter."""
    return "pid" in namespaces or landlock >= 6


def _filter(downloads: bool, namespaces: list[str], landlock: int) -> bool:
    """Refuse system calls by number and plain arguments; say whether the kernel takes that.

    Args:
        downloads: whether TCP is needed.
        namespaces: those that there are: what is out of reach already need not be refused.
        landlock: its version, 0 without it.
    """
    if _libc is None or os.uname().machine not in _MACHINES:
        return False
    # Ways round a filter, keys that the kernel keeps for a user, new namespaces and the rights in them.
    lines = [
        *_refused(errno.ENOSYS, "io_uring_setup", "io_uring_enter", "io_uring_register", "clone3"),
        *_refused(errno.ENOSYS, "add_key", "request_key", "keyctl"),
        *_refused(errno.EPERM, "unshare", "setns", "ptrace", "pidfd_getfd"),
        *_refused(errno.EPERM, "process_vm_readv", "process_vm_writev"),
        *_refused_if_any("clone", 0, _CLONE_NEWUSER, errno.EPERM),
        *(_only_tcp() if downloads else _no_network(namespaces)),
    ]
    if "ipc" not in namespaces:
        lines += _refused(errno.ENOSYS, "shmget", "semget", "msgget", "mq_open")  # would stay behind
    if "pid" not in namespaces:
        # All stay in one process group, to be ended at once. As far as the callers can tell, it is done.
        lines += _refused(0, "setsid", "setpgid")
    if not _is_alone(namespaces, landlock):
        own = os.getpid()
        for call in ("kill", "tkill", "tgkill", "prlimit64"):
            lines += _refused_unless(call, 0, (0, own), errno.EPERM)
        lines += _refused(errno.EPERM, "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
        # A file's owner is sent signals.
        lines += _refused_if("fcntl", 1, (_F_SETOWN, _F_SETOWN_EX), errno.EPERM)
        lines += _refused_if("ioctl", 1, (_FIOSETOWN, _SIOCSPGRP), errno.EPERM)
    if "mount" not in namespaces and 0 < landlock < 3:
        # To empty a file is no way to write it before version 3 (landlock(7), LANDLOCK_ACCESS_FS_TRUNCATE).
        lines += _refused(errno.EPERM, "truncate")
        lines += _refused(errno.ENOSYS, "openat2")  # whose flags are out of sight
        for call, flags in (("open", 1), ("openat", 2)):
            # Not with 1 or 2, for writing, which Landlock sees; 3 is for neither (open(2)).
            lines += _refused_if(call, flags, (_O_TRUNC, 3 | _O_TRUNC), errno.EPERM, mask=3 | _O_TRUNC)
    return install_filter(lines)


def install_filter(lines: list[_Instruction]) -> bool:
    """Put a filter in force, of blocks that each begin with the number of a call in the accumulator."""
    architecture = _MACHINES[os.uname().machine][1]
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        *lines,
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    wanted = struct.pack("@HP", len(program), ctypes.addressof(code))
    return int(_libc.prctl(_PR_SET_SECCOMP, 2, wanted, 0, 0)) == 0


def _refused(error: int, *calls: str) -> list[_Instruction]:
    lines: list[_Instruction] = []
    for call in calls:
        lines += [(_EQUAL, 0, 1, _number(call)), (_RETURN, 0, 0, _ERRNO | error)]
    return lines


def _argument(index: int) -> _Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)  # its lower half: both machines are little-endian


def _block(call: str, lines: list[_Instruction]) -> list[_Instruction]:
    """Do this for one call; it returns in any case, so the next block finds the number where it was."""
    if _number(call) == NO_SUCH_CALL:
        return []
    return [(_EQUAL, 0, len(lines), _number(call)), *lines]


def _refused_if(
    call: str, index: int, values: tuple[int, ...], error: int, mask: int = 0xFFFFFFFF
) -> list[_Instruction]:
    tests: list[_Instruction] = []
    for value in values:
        tests += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ERRNO | error)]
    return _block(call, [_argument(index), (_AND, 0, 0, mask), *tests, (_RETURN, 0, 0, _ALLOW)])


def _refused_unless(call: str, index: int, values: tuple[int, ...], error: int) -> list[_Instruction]:
    tests: list[_Instruction] = []
    for value in values:
        tests += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return _block(call, [_argument(index), *tests, (_RETURN, 0, 0, _ERRNO | error)])


def _refused_if_any(call: str, index: int, bits: int, error: int) -> list[_Instruction]:
    """Refuse a call if one of some bits is set; all bits stand for an address that is not null."""
    refuse = (_RETURN, 0, 0, _ERRNO | error)
    lines = [_argument(index), (_AND, 0, 0, bits), (_EQUAL, 1, 0, 0), refuse]
    if bits == 0xFFFFFFFF:
        upper = (_LOAD, 0, 0, _ARGUMENTS + 8 * index + 4)
        lines += [upper, (_EQUAL, 1, 0, 0), refuse]
    return _block(call, [*lines, (_RETURN, 0, 0, _ALLOW)])


def _no_network(namespaces: list[str]) -> list[_Instruction]:
    # Not all are a network namespace's own: by vsock(7) a virtual machine speaks to its host.
    families = (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK)
    lines = _refused_unless("socket", 0, families, errno.EAFNOSUPPORT)
    if {"mount", "network"} <= {*namespaces}:  # so that unix sockets are out of reach, too
        return lines
    # As in a network namespace without interfaces. (Python's send() is sendto() without an address.)
    lines += _refused(errno.ENETUNREACH, "connect", "sendmsg", "sendmmsg")
    lines += _refused(errno.EADDRNOTAVAIL, "bind", "listen", "accept", "accept4")
    lines += _refused_if_any("sendto", 4, 0xFFFFFFFF, errno.ENETUNREACH)
    return lines


def _only_tcp() -> list[_Instruction]:
    """Allow connections of TCP itself, by connect(): that is all that Landlock looks at."""
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT)
    lines = _block(
        "socket",
        [
            _argument(0),
            (_EQUAL, 2, 0, _AF_INET),
            (_EQUAL, 1, 0, _AF_INET6),
            refuse,
            _argument(1),
            (_AND, 0, 0, _SOCK_TYPE),
            (_EQUAL, 1, 0, _SOCK_STREAM),
            refuse,
            _argument(2),  # MPTCP and SCTP give streams as well
            (_EQUAL, 2, 0, 0),
            (_EQUAL, 1, 0, _IPPROTO_TCP),
            refuse,
            (_RETURN, 0, 0, _ALLOW),
        ],
    )
    # Data that goes with the first packet connects by itself (tcp(7), tcp_fastopen).
    for call, flags in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        lines += _refused_if_any(call, flags, _MSG_FASTOPEN, errno.EOPNOTSUPP)
    # Without bind() it takes a port by itself.
    return lines + _refused(errno.EADDRNOTAVAIL, "listen")


# ---- user, resources, processes ----


def _limit(limits: dict[str, int], *, apart: bool) -> None:
    processes = limits["NPROC"]
    if not apart:
        # All of the user's count, those outside our sight too; in a user namespace only what runs in it.
        user = os.geteuid()
        processes = _threads_of(user) + (processes if user == _NOBODY else max(processes, _SCATTERED))
    for name, value in {**limits, "NPROC": processes, "CORE": 0}.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _threads_of(user: int) -> int:
    count = 0
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _drop_rights() -> bool:
    """Have starting a program take root's capabilities away, even if it stays root; say if there were any.

    Sources: capabilities(7), "The securebits flags" and "Capability bounding set".
    """
    if _libc is None or _libc.prctl(_PR_SET_SECUREBITS, _NO_ROOT, 0, 0, 0) != 0:
        return False
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    return True


def _nobody_can_reach(paths: list[str]) -> bool:
    """Try whether an unprivileged user gets at all that is needed: somebody's home folder may be closed."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            _become_nobody(())
            code = 0 if all(os.access(path, os.R_OK) for path in paths) else 1
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _become_nobody(folders: Iterable[str]) -> None:
    """Change the user for good, and have these folders be that user's."""
    for folder in folders:
        os.chown(folder, _NOBODY, _NOBODY)
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)


def children(pid: int) -> set[int]:
    """The processes that a process is the parent of, those that ended and were not waited for included."""
    if not os.path.exists("/proc/thread-self/children"):
        return {child for child, parent in _parents().items() if parent == pid}
    found: set[int] = set()
    tasks: list[str] = []
    with contextlib.suppress(OSError):
        tasks = os.listdir(f"/proc/{pid}/task")
    for task in tasks:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:
            found.update(map(int, file.read().split()))
    return found


def _parents() -> dict[int, int]:
    """Each process's parent, for kernels without CONFIG_PROC_CHILDREN."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    return parents


def descendants(pid: int) -> list[int]:
    """A process's children, their children, and so on; parents come first."""
    found = sorted(children(pid))
    for one in found:
        found += sorted(children(one) - {*found})
    return found


def end_descendants(pid: int, deadline: float, spared: frozenset[int] = frozenset()) -> bool:
    """Kill what the caller has started and inherited until there is nothing; say if it came to that.

    Args:
        pid: the caller's.
        deadline: when to give up, by the monotonic clock.
        spared: children that are none of this.
    """
    while True:
        mine = children(pid) - spared
        if not mine:
            return True
        _end_groups(mine)
        for child in mine:
            for one in (child, *descendants(child)):
                with contextlib.suppress(OSError):
                    os.kill(one, signal.SIGKILL)
        for child in mine:
            with contextlib.suppress(OSError):
                os.waitpid(child, os.WNOHANG)
        if time.monotonic() > deadline:
            return False
        if children(pid) - spared:
            time.sleep(0.0005)


def _end_groups(mine: Iterable[int]) -> None:
    """Kill the process groups that children are in, each at once.

    Processes that fork and end all the time are gone before they can be killed one by one. No signal to a
    group misses those (kernel/fork.c, `copy_process`), and where there are filters they cannot leave it.

    Args:
        mine: the children, none of which was waited for: so the groups are there, and still the same.
    """
    groups = set()
    for child in mine:
        with contextlib.suppress(OSError):
            groups.add(os.getpgid(child))
    for group in groups - {os.getpgrp()}:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


def _end(*_: object) -> NoReturn:
    end_descendants(os.getpid(), time.monotonic() + _END_SECONDS)
    os._exit(1)


def _unshare(flags: int) -> bool:
    return _libc is not None and int(_libc.unshare(flags)) == 0


def _prctl(option: int, value: int) -> None:
    if _libc is not None:
        _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
