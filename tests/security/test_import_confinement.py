"""What code of a package tries while it is imported for the check: what the kernel lets us keep from it.

Each attack is tried as root and as an ordinary user, on this kernel and on lesser ones. What must hold where
is derived from what the kernel has; and a report that says that something was kept away must be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.security.attempts import (
    ALWAYS,
    ATTRIBUTES,
    ENVIRONMENTS,
    FILES,
    NETWORK,
    PROCESSES,
    World,
    is_here,
    kernels_with,
    parameters,
    possible_on_network,
    running,
    shared_memory_left,
)
from tests.security.building import KERNELS, open_folder, user_of
from tests.security.lesser_kernel import FILTERS, LANDLOCK, NAMESPACES
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.building import Outcome

TELL = """
print("\\n" + json.dumps(tried(globals())))
raise SystemExit
"""
Attacked = Callable[[str, str], tuple[World, "Outcome"]]


def make(folder: Path, source: str) -> None:
    make_wheel(folder, "evil", files={"evil.py": source + TELL})


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    """Builds with all attacks in one module, each pair of kernel and user once."""
    folders = ExitStack()

    @cache
    def attack(kernel: str, name: str) -> tuple[World, Outcome]:
        world, user = World(folders.enter_context(open_folder())), user_of(name)
        (world.folder / "index").mkdir()
        with Index(world.folder / "index") as index:
            return world, world.attacked(index, user, KERNELS[kernel], make)

    with folders:
        yield attack


@parameters(FILES)
def test_files(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES, LANDLOCK):
        world, outcome = attacked(kernel, user)
        assert outcome.imports["files"] == "its own", (kernel, outcome.imports)
        assert outcome.told[name] is None, kernel
        assert (world.folder / "home/.bashrc").read_text() == "", kernel
        assert (world.folder / "home/.netrc").read_text() != "", kernel
        assert not (world.folder / "home/.aws").exists(), kernel
        assert {path.name for path in (world.folder / "out").iterdir()} == {"report.json"}, kernel


@parameters(ATTRIBUTES)
def test_modes_of_files(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES):
        world, outcome = attacked(kernel, user)
        assert outcome.told[name] is None, kernel
        assert (world.folder / "home/.netrc").stat().st_mode & 0o777 == 0o644, kernel


@parameters(ENVIRONMENTS)
def test_environments_of_other_programs(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES, LANDLOCK):
        _, outcome = attacked(kernel, user)
        assert outcome.told[name] is None, kernel


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
        assert outcome.told[name] is None, kernel


@parameters({"leave_a_process_behind": "a package leaves a process behind, in a session of its own"})
def test_no_process_stays_behind(attacked: Attacked, name: str, user: str) -> None:
    for kernel in KERNELS:
        world, outcome = attacked(kernel, user)
        assert name in outcome.told
        assert not running(world.mark), kernel


@parameters({"leave_shared_memory": "a package leaves shared memory of System V behind"})
def test_no_shared_memory_stays_behind(attacked: Attacked, name: str, user: str) -> None:
    for kernel in kernels_with(NAMESPACES, FILTERS):
        world, _ = attacked(kernel, user)
        assert shared_memory_left(world) < 0, kernel


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
    assert got >= FILES.keys() | ATTRIBUTES.keys() | ENVIRONMENTS.keys() | possible_on_network()
    assert got >= {"signal_others", "leave_shared_memory"}
    assert world.datagrams == [b"stolen"]
