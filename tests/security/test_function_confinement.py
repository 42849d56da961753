"""What a function's code tries on the embedded AWS: it is anybody's, run by whoever runs `make up`.

Tried as root and as an ordinary user, on this kernel and, with all tests, on lesser ones.
"""

from __future__ import annotations

import ctypes
import json
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layer_builder.ground import interpreter
from layer_builder.ground.interpreter import Interpreter
from local import lambda_confined
from local.lambda_code import Code, remove
from local.lambda_confined import ConfinedWorker
from local.lambda_runtime import Function, Sandbox
from tests.security import lesser_kernel
from tests.security.attempts import (
    FILES,
    NETWORK,
    PROCESSES,
    World,
    is_here,
    possible_on_network,
    running,
)
from tests.security.building import _SEARCH, KERNELS, SAMPLE, open_folder, own, user_of
from tests.security.lesser_kernel import FILTERS, LANDLOCK, NAMESPACES
from tests.unit.local.test_lambda_confined import zipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.security.building import User

    Attacked = Callable[[str, str], tuple[World, dict[str, Any]]]

# The process in between, as somebody and on a kernel that has less.
BETWEEN = """
import os, runpy, sys
lacking, number, search, program, descriptor = sys.argv[1:]
sys.path[:0] = search.split(":")
import lesser_kernel
if os.geteuid() != int(number):
    os.setgroups([])
    os.setgid(int(number))
    os.setuid(int(number))
lesser_kernel.refuse({*lacking.split(",")} - {""})
sys.argv = [program, descriptor]
runpy.run_path(program, run_name="__main__")
"""
MORE = """
def read_the_owners_key():
    return open(HOME + "/key.json").read()

def read_other_functions():
    return open(EMBEDDED + "/code-another/secret.py").read()

def write_the_layer():
    open(THERE, "w").write("SAID = 'another'")
    return "written"

def handler(event, context):
    import there
    globals()["THERE"] = there.__file__
    return tried(globals())
"""
OWN = {
    "read_the_owners_key": "a function reads the key of the embedded AWS's owner",
    "read_other_functions": "a function reads another one's code",
}
NOT_HERE = {"write_the_zip"}  # the builder has one under way


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    """Each pair of kernel and user once."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as folders:

        @cache
        def attack(kernel: str, name: str) -> tuple[World, dict[str, Any]]:
            # What a function writes in its own /tmp is no attack.
            world, user = World(folders.enter_context(open_folder("/var/tmp"))), user_of(name)
            own(world.folder / "out", user)
            return world, told_by(world, user, kernel, patch)

        yield attack


def told_by(world: World, user: User, kernel: str, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    between = world.folder / "between.py"
    between.write_text(BETWEEN)
    search = ":".join([*_SEARCH, str(Path(lesser_kernel.__file__).parent)])
    [*_, program] = lambda_confined.PROGRAM
    starting = [user.python, "-I", str(between), ",".join(KERNELS[kernel]), str(user.number), search, program]
    embedded = world.folder / "embedded"
    embedded.mkdir()
    code = Code(embedded)
    code.package("another", zipped(secret="x"))
    with world.open_to(user) as source:
        (world.folder / "home/key.json").write_text("secret")
        own(world.folder / "home/.cache", user)
        (world.folder / "home/.cache/wheels").mkdir()
        (world.folder / "home/.cache/wheels/another.whl").write_bytes(b"")
        (world.folder / "home/key.json").chmod(0o644)
        with patch.context() as patched:
            patched.setattr(lambda_confined, "PROGRAM", tuple(starting))
            function = attacking(code, user, f"EMBEDDED = {str(embedded)!r}\n{source}{MORE}")
            worker = ConfinedWorker(function, {}, lambda *_: None)
        worker.wait_until_ready()
        answer = worker.invoke({}, "attacked")
        worker.close()
    assert answer.error is None, (answer.payload, answer.log)
    remove(embedded)
    told: dict[str, Any] = json.loads(answer.payload)
    return told


def attacking(code: Code, user: User, source: str) -> Function:
    minor = user.runtime.removeprefix("python")
    python = interpreter.find(minor) if user.number == 0 else Interpreter(Path(user.python), f"{minor}.0")
    assert python
    runtime, read = code.runtime()
    return Function(
        arn="arn:aws:lambda:us-east-1:123456789012:function:box",
        name="box",
        version="$LATEST",
        handler="evil.handler",
        runtime=user.runtime,
        role="arn:aws:iam::123456789012:role/box",
        code=code.package("evil", zipped(evil=source)),
        environment=(),
        memory=512,
        timeout=60,
        log_group="box",
        most_workers=1,
        sandbox=Sandbox(
            python=python,
            layers=code.layers("evil", [zipped(python__there="SAID = 'layer'")]),
            runtime=runtime,
            read=tuple(read),
            disk=64,
            folder=code.workers,
            logs=False,
        ),
    )


def each(attacks: dict[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("name", "user"),
        [
            pytest.param(
                name,
                user,
                id=f"{name}, {user}",
                marks=pytest.mark.attack(what.replace("a package", "a function")),
            )
            for name, what in attacks.items()
            if name not in NOT_HERE
            for user in ("root", "somebody")
        ],
    )


def has(kernel: str, *features: str) -> None:
    if not any(is_here(feature) and feature not in KERNELS[kernel] for feature in features):
        pytest.skip(f"this kernel has no {' and no '.join(features)}")


@pytest.mark.parametrize("kernel", SAMPLE)
@each(FILES | OWN)
def test_files(attacked: Attacked, name: str, user: str, kernel: str) -> None:
    has(kernel, NAMESPACES, LANDLOCK)
    world, told = attacked(kernel, user)
    assert told[name] is None
    assert (world.folder / "home/.bashrc").read_text() == ""
    assert not (world.folder / "home/.aws").exists()
    assert not list((world.folder / "out").iterdir())


@pytest.mark.parametrize("kernel", SAMPLE)
@each(NETWORK)
def test_network(attacked: Attacked, name: str, user: str, kernel: str) -> None:
    has(kernel, NAMESPACES, FILTERS)
    world, told = attacked(kernel, user)
    assert told[name] is None
    assert not world.datagrams


@pytest.mark.parametrize("kernel", SAMPLE)
@each(PROCESSES)
def test_processes(attacked: Attacked, name: str, user: str, kernel: str) -> None:
    has(kernel, NAMESPACES, FILTERS)
    _, told = attacked(kernel, user)
    assert told[name] is None


@pytest.mark.parametrize("kernel", SAMPLE)
@each({"write_the_layer": "a package changes its layer for functions that come after it"})
def test_the_layer(attacked: Attacked, name: str, user: str, kernel: str) -> None:
    has(kernel, NAMESPACES, LANDLOCK)
    _, told = attacked(kernel, user)
    assert told[name] is None


@pytest.mark.parametrize("kernel", SAMPLE)
@each({"leave_a_process_behind": "a package leaves a process behind, in a session of its own"})
def test_no_process_stays_behind(attacked: Attacked, name: str, user: str, kernel: str) -> None:
    world, told = attacked(kernel, user)
    assert name in told
    assert not running(world.mark)


@pytest.mark.long
def test_attacks_do_work_where_nothing_is_in_their_way(attacked: Attacked) -> None:
    """Else it would prove nothing that they fail."""
    world, told = attacked("nothing", "somebody")
    got = {name for name, what in told.items() if what is not None}
    assert got >= (FILES.keys() - NOT_HERE) | OWN.keys() | possible_on_network() | {"signal_others"}
    assert world.datagrams == [b"stolen"]
    left = ctypes.CDLL(None).shmget(int(world.mark) & 0x7FFFFFF, 0, 0)
    if left >= 0:
        ctypes.CDLL(None).shmctl(left, 0, None)
