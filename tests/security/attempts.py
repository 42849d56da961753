"""What code of packages tries, wherever it gets to run, and what there is for it to attack."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.security.building import KERNELS, build, own
from tests.security.lesser_kernel import FILTERS, LANDLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.security.building import Outcome, User
    from tests.unit.builder.wheel_maker import Index

# Each is a function of the package that returns what it got, or fails.
ATTACKS = """
import ctypes, glob, json, os, signal, socket, subprocess, sys, time

def write_the_shell_profile():
    open(HOME + "/.bashrc", "a").write("touch pwned\\n")
    return "written"

def write_the_aws_config():
    # Not with the folders above it: a home that is made anew in a /tmp of its own is nobody's.
    os.path.isdir(HOME + "/.aws") or os.mkdir(HOME + "/.aws")
    open(HOME + "/.aws/config", "w").write("[default]\\ncredential_process = touch pwned\\n")
    return "written"

def read_netrc():
    return open(HOME + "/.netrc").read()

def empty_netrc():
    os.truncate(HOME + "/.netrc", 0)
    return "emptied"

def open_netrc_to_all():
    os.chmod(HOME + "/.netrc", 0o666)
    return "changed"

def read_other_wheels():
    return len(glob.glob(HOME + "/.cache/wheels/**/*.whl", recursive=True)) or 1 / 0

def plant_in_the_cache():
    open(HOME + "/.cache/planted", "w").close()
    return "written"

def write_beside_the_output():
    open(OUT + "/planted", "w").close()
    return "written"

def write_the_zip():
    [zip] = glob.glob(OUT + "/.layer.zip.*.part")
    os.close(os.open(zip, os.O_WRONLY))
    return "opened"

def see_other_temporary_files():
    return open(TEMPORARY + "/anothers").read()

def write_the_systems_temporary_folder():
    path = "/var/tmp/" + MARK
    open(path, "w").close()
    os.unlink(path)
    return "written"

def connect_to_a_unix_socket():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(HOME + "/agent.sock")
        return "connected"

def connect_to_an_abstract_socket():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\\0" + MARK)
        return "connected"

def connect_to_loopback():
    return socket.create_connection(("127.0.0.1", TCP), 5) and "connected"

def send_a_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"stolen", ("127.0.0.1", UDP))
        return "sent"

def connect_by_mptcp():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as one:
        one.connect(("127.0.0.1", TCP))
        return "connected"

def connect_by_fast_open():
    with socket.socket() as one:
        return one.sendto(b"stolen", 0x20000000, ("127.0.0.1", TCP))

def ask_the_hypervisor():
    with socket.socket(socket.AF_VSOCK) as one:
        one.settimeout(2)
        try:
            one.connect((2, 1))
        except ConnectionResetError:
            pass
        return "answered"

def listen_on_any_port():
    with socket.socket() as one:
        one.listen()
        return one.getsockname()

def serve_others():
    with socket.socket() as one:
        one.bind(("127.0.0.1", PORT))
        one.listen()
        one.settimeout(2)
        return one.accept() and "served"

def others():
    pids = {os.getppid(), *map(int, filter(str.isdecimal, os.listdir("/proc")))}
    if "confinement_worker" in line_of(1):
        return set()  # we started what is in our namespace, and its first process takes no signals
    one = os.getpid()
    while "confinement_worker" not in line_of(one):
        pids.discard(one)
        one = int(open(f"/proc/{one}/stat").read().rpartition(")")[2].split()[1])
    return pids

def line_of(pid):
    return open(f"/proc/{pid}/cmdline").read()

def signal_others():
    found = []
    for pid in others():
        try:
            os.kill(pid, 0)
            found.append(pid)
        except OSError:
            pass
    return found[:9] or 1 / 0  # of the output the end is kept, and a busy machine has a thousand processes

def read_the_builders_environment():
    found = []
    for pid in {os.getppid(), *map(int, filter(str.isdecimal, os.listdir("/proc")))}:
        try:
            if SECRET in open(f"/proc/{pid}/environ", "rb").read():
                found.append(line_of(pid)[:99])
        except OSError:
            pass
    return found[:9] or 1 / 0

def read_anothers_environment():
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if ANOTHERS in open(f"/proc/{pid}/environ", "rb").read():
                return line_of(pid)
        except OSError:
            pass

def leave_shared_memory():
    libc = ctypes.CDLL(None, use_errno=True)
    one = libc.shmget(SEGMENT, 4096, 0o1600)
    return one if one >= 0 else 1 / 0

def have_namespaces():
    return ctypes.CDLL(None).unshare(0x10000000) == 0 or 1 / 0

def leave_a_process_behind():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.execvp("sleep", ["sleep", MARK])
        os._exit(0)
    os.wait()
    time.sleep(0.2)

NO_ATTACKS = ("others", "line_of", "tried")

def tried(module):
    told = {}
    for name, attack in list(module.items()):
        if callable(attack) and getattr(attack, "__code__", None) and name not in NO_ATTACKS:
            try:
                told[name] = attack()
            except Exception as error:
                told[name] = None
    return told

"""
FILES = {
    "write_the_shell_profile": "a package writes ~/.bashrc",
    "write_the_aws_config": "a package writes a credential_process into ~/.aws/config",
    "read_netrc": "a package reads ~/.netrc",
    "empty_netrc": "a package empties ~/.netrc",
    "read_other_wheels": "a package reads other packages' wheels in the cache",
    "plant_in_the_cache": "a package plants a file in the cache",
    "write_beside_the_output": "a package writes beside the layer's zip",
    "write_the_zip": "a package opens the layer's zip for writing",
    "see_other_temporary_files": "a package looks at other builds' temporary files",
    "write_the_systems_temporary_folder": "a package writes /var/tmp",
}
ATTRIBUTES = {"open_netrc_to_all": "a package lets everybody read ~/.netrc"}
ENVIRONMENTS = {"read_anothers_environment": "a package reads the environment of a user's other programs"}
NETWORK = {
    "connect_to_a_unix_socket": "a package connects to an agent's unix socket",
    "connect_to_an_abstract_socket": "a package connects to an abstract unix socket",
    "connect_to_loopback": "a package connects to a server on loopback",
    "connect_by_mptcp": "a package connects by MPTCP, which is not TCP to Landlock",
    "connect_by_fast_open": "a package connects by sending, without connect()",
    "ask_the_hypervisor": "a package asks the virtual machine's host",
    "send_a_datagram": "a package sends what it found by UDP",
    "serve_others": "a package serves others on a port",
}
LISTENING = {"listen_on_any_port": "a package listens on whatever port there is, without bind()"}
PROCESSES = {
    "signal_others": "a package signals the builder and other processes of its user",
    "have_namespaces": "a package makes namespaces, and with them rights, of its own",
}
ALWAYS = {
    "read_the_builders_environment": "a package reads the builder's environment in /proc",
}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class World:
    """What there is to attack."""

    folder: Path
    mark: str = field(default_factory=lambda: f"{secrets.randbelow(10**12)}")
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    anothers: str = field(default_factory=lambda: secrets.token_hex(16))
    datagrams: list[bytes] = field(default_factory=list)
    served_at: int = field(default_factory=_free_port)

    def attacked(
        self,
        index: Index,
        user: User,
        lacking: tuple[str, ...],
        make: Callable[[Path, str], None],
        *options: str,
    ) -> Outcome:
        """Build a package that tries all of it, made of the attempts' source by `make`."""
        with self.open_to(user) as source:
            make(index.folder, source)
            return build(
                self.folder,
                index,
                user,
                *options,
                lacking=lacking,
                environment={"AWS_SECRET_ACCESS_KEY": self.secret},
            )

    @contextmanager
    def open_to(self, user: User) -> Iterator[str]:
        """Have there what is attacked, in a home of the user's; yield the attempts' source."""
        home = self.folder / "home"
        own(home, user)
        (home / ".netrc").write_text("machine example.com password secret\n")
        (home / ".bashrc").write_text("")
        own(self.folder / "temporary", user)
        another = subprocess.Popen(["sleep", "600"], env={"ANOTHERS": self.anothers}, **user.becoming)
        (self.folder / "temporary/anothers").write_text("secret")
        with ExitStack() as stack:
            stack.callback(another.wait)
            stack.callback(another.kill)
            agent, hidden = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
            with suppress(FileNotFoundError):
                (home / "agent.sock").unlink()
            agent.bind(str(home / "agent.sock"))
            hidden.bind(f"\0{self.mark}")
            agent.listen()
            hidden.listen()
            tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            udp.bind(("127.0.0.1", 0))
            for place in (*home.iterdir(), self.folder / "temporary/anothers"):
                if os.geteuid() == 0:
                    os.chown(place, user.number, user.number)
            given = {
                "HOME": str(home),
                "OUT": str(self.folder / "out"),
                "TEMPORARY": str(self.folder / "temporary"),
                "MARK": self.mark,
                "TCP": tcp.getsockname()[1],
                "UDP": udp.getsockname()[1],
                "SECRET": self.secret.encode(),
                "ANOTHERS": self.anothers.encode(),
                "PORT": self.served_at,
                "SEGMENT": int(self.mark) & 0x7FFFFFF,
            }
            over = threading.Event()
            knocking = threading.Thread(target=self._knock, args=(over,))
            knocking.start()
            try:
                yield "".join(f"{name} = {value!r}\n" for name, value in given.items()) + ATTACKS
            finally:
                over.set()
                knocking.join()
            udp.setblocking(False)
            with suppress(BlockingIOError):
                self.datagrams.append(udp.recv(100))

    def _knock(self, over: threading.Event) -> None:
        """Be somebody who tries the port that the package serves."""
        while not over.wait(0.05):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.served_at), 1).close()


def parameters(attacks: dict[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("name", "user"),
        [
            pytest.param(name, user, marks=pytest.mark.attack(what), id=f"{name}, {user}")
            for name, what in attacks.items()
            for user in ("root", "somebody")
        ],
    )


def kernels_with(*features: str) -> list[str]:
    """Those that have one of these, as far as this machine has it."""
    here = [feature for feature in features if is_here(feature)]
    if not here:
        pytest.skip(f"this machine has no {' and no '.join(features)}")
    return [kernel for kernel, lacking in KERNELS.items() if {*here} - {*lacking}]


@cache
def is_here(feature: str) -> bool:
    libc = ctypes.CDLL(None)
    if feature == LANDLOCK:
        return int(libc.syscall(444, None, 0, 1)) > 0
    if feature == FILTERS:
        return Path("/proc/sys/kernel/seccomp").exists()
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(int(sys.argv[1])))"
    flags = 0x20020000 if os.geteuid() == 0 else 0x30020000
    return subprocess.run([sys.executable, "-c", code, str(flags)], check=False).returncode == 0


def possible_on_network() -> set[str]:
    """The attempts of `NETWORK` that work here where nothing is in their way: not every machine has all."""
    some = ("connect_by_mptcp", "connect_by_fast_open", "ask_the_hypervisor")
    return {name for name in NETWORK if name not in some or _works(name)}


def _works(name: str) -> bool:
    with suppress(OSError), socket.create_server(("127.0.0.1", 0)) as server:
        module = {"TCP": server.getsockname()[1]}
        exec(ATTACKS, module)
        return bool(module[name]())  # type: ignore[operator]
    return False


def running(mark: str) -> list[Path]:
    """The processes that have this on their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark.encode() in place.read_bytes().split(b"\0"):
                found.append(place)
    return found


def shared_memory_left(world: World) -> int:
    """Remove the segment of shared memory that was left; return its id, -1 if there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    left = int(libc.shmget(int(world.mark) & 0x7FFFFFF, 0, 0))
    if left >= 0:
        libc.shmctl(left, 0, None)
    return left
