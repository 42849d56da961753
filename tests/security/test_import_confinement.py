"""What code of a package tries while it is imported for the check: what the kernel lets us keep from it.

Each attack is tried as root and as an ordinary user, on this kernel and on lesser ones. What must hold where
is derived from what the kernel has; and a report that says that something was kept away must be right.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.security.attempts import ATTACKS
from tests.security.building import KERNELS, build, open_folder, own, user_of
from tests.security.lesser_kernel import FILTERS, LANDLOCK, NAMESPACES
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from tests.security.building import Outcome, User

TELL = """
print("\\n" + json.dumps(tried(globals())))
raise SystemExit
"""
FILES = {
    "write_the_shell_profile": "a package writes ~/.bashrc",
    "write_the_aws_config": "a package writes a credential_process into ~/.aws/config",
    "read_netrc": "a package reads ~/.netrc",
    "read_other_wheels": "a package reads other packages' wheels in the cache",
    "plant_in_the_cache": "a package plants a file in the cache",
    "write_beside_the_output": "a package writes beside the layer's zip",
    "write_the_zip": "a package opens the layer's zip for writing",
    "see_other_temporary_files": "a package looks at other builds' temporary files",
    "write_the_systems_temporary_folder": "a package writes /var/tmp",
}
NETWORK = {
    "connect_to_a_unix_socket": "a package connects to an agent's unix socket",
    "connect_to_an_abstract_socket": "a package connects to an abstract unix socket",
    "connect_to_loopback": "a package connects to a server on loopback",
    "send_a_datagram": "a package sends what it found by UDP",
    "serve_others": "a package serves others on a port",
}
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
    datagrams: list[bytes] = field(default_factory=list)
    served_at: int = field(default_factory=_free_port)

    def attacked(self, index: Index, user: User, lacking: tuple[str, ...]) -> Outcome:
        home = self.folder / "home"
        own(home, user)
        (home / ".netrc").write_text("machine example.com password secret\n")
        (home / ".bashrc").write_text("")
        own(self.folder / "temporary", user)
        (self.folder / "temporary/anothers").write_text("secret")
        with ExitStack() as stack:
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
                "PORT": self.served_at,
                "SEGMENT": int(self.mark) & 0x7FFFFFF,
            }
            source = "".join(f"{name} = {value!r}\n" for name, value in given.items()) + ATTACKS + TELL
            make_wheel(index.folder, "evil", files={"evil.py": source})
            over = threading.Event()
            knocking = threading.Thread(target=self._knock, args=(over,))
            knocking.start()
            try:
                outcome = build(
                    self.folder,
                    index,
                    user,
                    lacking=lacking,
                    environment={"AWS_SECRET_ACCESS_KEY": self.secret},
                )
            finally:
                over.set()
                knocking.join()
            udp.setblocking(False)
            with suppress(BlockingIOError):
                self.datagrams.append(udp.recv(100))
        return outcome

    def _knock(self, over: threading.Event) -> None:
        """Be somebody who tries the port that the package serves."""
        while not over.wait(0.05):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.served_at), 1).close()


Attacked = Callable[[str, str], tuple[World, "Outcome"]]


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    """Builds with all attacks in one module, each pair of kernel and user once."""
    folders = ExitStack()

    @cache
    def attack(kernel: str, name: str) -> tuple[World, Outcome]:
        world, user = World(folders.enter_context(open_folder())), user_of(name)
        (world.folder / "index").mkdir()
        with Index(world.folder / "index") as index:
            return world, world.attacked(index, user, KERNELS[kernel])

    with folders:
        yield attack


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


@parameters(FILES)
def test_files(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES, LANDLOCK):
        world, outcome = attacked(kernel, user)
        assert outcome.imports["files"] == "its own", (kernel, outcome.imports)
        assert outcome.told[name] is None, kernel
        assert (world.folder / "home/.bashrc").read_text() == "", kernel
        assert not (world.folder / "home/.aws").exists(), kernel
        assert {path.name for path in (world.folder / "out").iterdir()} == {"report.json"}, kernel


@parameters(NETWORK)
def test_network(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES, FILTERS):
        world, outcome = attacked(kernel, user)
        assert outcome.imports["network"] == "none", (kernel, outcome.imports)
        assert outcome.told[name] is None, kernel
        assert not world.datagrams, kernel


@parameters(PROCESSES)
def test_processes(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES, FILTERS):
        _, outcome = attacked(kernel, user)
        assert outcome.imports["processes"] == "its own", (kernel, outcome.imports)
        assert outcome.told[name] is None, kernel


@parameters(ALWAYS)
def test_what_takes_nothing_of_the_kernel(attacked: Attacked, name: str, user: str) -> None:
    for kernel in KERNELS:
        _, outcome = attacked(kernel, user)
        if (user, outcome.imports["user"]) != ("root", "the builder's"):  # root sees everything
            assert outcome.told[name] is None, kernel


@parameters({"leave_a_process_behind": "a package leaves a process behind, in a session of its own"})
def test_no_process_stays_behind(attacked: Attacked, name: str, user: str) -> None:
    for kernel in KERNELS:
        world, outcome = attacked(kernel, user)
        assert name in outcome.told
        assert not running(world.mark), kernel


@parameters({"leave_shared_memory": "a package leaves shared memory of System V behind"})
def test_no_shared_memory_stays_behind(attacked: Attacked, name: str, user: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for kernel in kernels_with(NAMESPACES, FILTERS):
        world, _ = attacked(kernel, user)
        left = libc.shmget(int(world.mark) & 0x7FFFFFF, 0, 0)
        if left >= 0:
            libc.shmctl(left, 0, None)
        assert left < 0, kernel


@pytest.mark.parametrize("user", ["root", "somebody"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_report_does_not_say_more_than_is_true(attacked: Attacked, kernel: str, user: str) -> None:
    _, outcome = attacked(kernel, user)
    got = {name for name, what in outcome.told.items() if what is not None}
    for said, word, attacks in (
        ("files", "its own", FILES),
        ("network", "none", NETWORK),
        ("processes", "its own", PROCESSES),
    ):
        assert outcome.imports[said] != word or not got & attacks.keys(), outcome.imports
    for feature, word in ((NAMESPACES, "namespace"), (LANDLOCK, "Landlock"), (FILTERS, "seccomp")):
        expected = is_here(feature) and feature not in KERNELS[kernel]
        assert (word in outcome.imports["by"]) == expected


def test_attacks_do_work_where_nothing_is_in_their_way(attacked: Attacked) -> None:
    """Else it would prove nothing that they fail."""
    world, outcome = attacked("nothing", "somebody")
    got = {name for name, what in outcome.told.items() if what is not None}
    assert got >= FILES.keys() | NETWORK.keys() | {"signal_others", "leave_shared_memory"}
    assert world.datagrams == [b"stolen"]


def running(mark: str) -> list[Path]:
    """The processes that have this on their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark.encode() in place.read_bytes().split(b"\0"):
                found.append(place)
    return found
