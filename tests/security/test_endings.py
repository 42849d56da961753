"""What a package starts and leaves is ended, also where the kernel has no namespace that ends with it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.security.building import KERNELS, ROOT, open_folder, own, user_of
from tests.security.lesser_kernel import FILTERS
from tests.unit.builder.native_maker import Library, compile_one, needs_gcc

# Each process is gone before anybody can kill it, and some leave two in their place, until they find
# that it is over; if nobody says so, after a while.
FLEEING = """
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int main(int count, char **words) {
    time_t over = time(NULL) + 100;
    for (int number = 0; number < 60; number++) {
        if (fork() != 0) continue;
        for (int descriptor = 0; descriptor < 64; descriptor++) close(descriptor);
        for (unsigned turn = number; time(NULL) < over && access(words[1], F_OK) != 0; turn++) {
            pid_t child = fork();
            if (child == 0) { setsid(); setpgid(0, 0); continue; }
            if (child < 0) usleep(1000);
            if (child > 0 && (turn % 3 || fork() != 0)) _exit(0);
        }
        _exit(0);
    }
    return 0;
}
"""
CONFINED = """
import subprocess, sys
from pathlib import Path
from tests.security.lesser_kernel import refuse
refuse({*sys.argv[1].split(",")} - {""})
from layer_builder.ground import confinement
rules = confinement.Rules(root=Path(sys.argv[2]), read=[str(Path(sys.argv[3]).parent)], needs=[sys.argv[3]],
                          wall_seconds=60, limits={"NPROC": 4096})
quiet = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}
with confinement.confined(rules, [sys.argv[3], sys.argv[4]], {}, **quiet) as one:
    one.process.wait()
print(one.status)
"""


def kernels() -> list[str]:
    return [name for name, lacking in KERNELS.items() if FILTERS not in lacking]


@needs_gcc
@pytest.mark.sample(1)
@pytest.mark.parametrize("user", ["root", "somebody"])
@pytest.mark.parametrize("kernel", ["as on Fargate", *(name for name in kernels() if "Fargate" not in name)])
@pytest.mark.attack("a package's processes fork and end faster than they can be killed")
def test_processes_that_flee_are_ended(kernel: str, user: str) -> None:
    who = user_of(user)
    with open_folder() as place:
        compile_one(place, Library("fleeing", source=FLEEING, flags=("-O2",)))
        own(place / "root", who)
        done = subprocess.run(
            [who.python, "-I", "-c", f"import sys; sys.path[:0] = {_search()!r}\n{CONFINED}",
             ",".join(KERNELS[kernel]), str(place / "root"), str(place / "fleeing"), str(place / "over")],
            cwd="/", capture_output=True, text=True, check=False, timeout=120, **who.becoming,
        )  # fmt: skip
        left = _running(place / "fleeing")
        (place / "over").touch()
        assert done.stdout.split() == ["0"], done.stderr
        assert left == []


def _search() -> list[str]:
    packages = [path for path in sys.path if path.endswith("site-packages")]
    return [str(ROOT / "container"), str(ROOT), *packages]


def _running(program: Path) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/exe"):
        with suppress(OSError):
            if place.readlink() == program:
                found.append(int(place.parent.name))
    return found
