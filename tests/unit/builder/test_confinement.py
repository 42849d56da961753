"""What a process of the same user can see of one that has hidden itself: nothing, while it could before."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from layer_builder.ground import confinement

SCRIPT = """
import subprocess, sys, os
def look():
    done = subprocess.run(["cat", f"/proc/{os.getpid()}/environ"], capture_output=True)
    return b"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in done.stdout
before = look()
module = {}
exec(sys.argv[1], module)
hidden = module["hide"]()
print(before, hidden, look())
"""


@pytest.mark.attack("package: reads the builder's environment and memory")
def test_others_of_the_same_user_no_longer_see_environment_and_memory() -> None:
    python, setpriv = "/usr/bin/python3", shutil.which("setpriv")
    if os.geteuid() == 0 and not setpriv:
        pytest.skip("root sees everything, and there is no setpriv to become somebody else")
    if not Path(python).exists():
        pytest.skip("there is no Python that every user can start")
    # As text: somebody else may not be let into the folder of a test, or of this project.
    module = Path(confinement.__file__).read_text()
    somebody = [setpriv, "--reuid=12345", "--regid=12345", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*map(str, somebody), python, "-I", "-c", SCRIPT, module],
        capture_output=True,
        text=True,
        cwd="/",
        env={"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x", "PATH": os.defpath},
        check=False,
    )
    assert done.stdout.split() == ["True", "True", "False"], done.stderr


EMPTYING = """
import ctypes, json, os, sys
from layer_builder.ground import confinement_worker as worker

libc = ctypes.CDLL(None, use_errno=True)

class Older:
    def __getattr__(self, name):
        return getattr(libc, name)

    def syscall(self, number, *arguments):
        if number == worker._SYS_LANDLOCK_CREATE and arguments[0] is None:
            return 2
        return libc.syscall(number, *arguments)

folder, is_filtered = sys.argv[1:]
worker._libc = Older()
worker._prctl(worker._PR_SET_NO_NEW_PRIVS, 1)
rules = {"read": ["/usr", folder + "/shown"], "write": [folder + "/own"], "scratch": {}, "places": {},
         "tmp": 0, "port": None}
version = worker._landlock(rules, own_root=False)
if is_filtered == "yes":
    assert worker._filter(False, [], version)

def emptied(name, how):
    try:
        how(f"{folder}/{name}")
    except OSError:
        pass
    return os.stat(f"{folder}/{name}").st_size == 0

print(json.dumps([
    emptied("truncated", lambda path: os.truncate(path, 0)),
    emptied("opened", lambda path: os.open(path, os.O_WRONLY | os.O_TRUNC)),
    emptied("opened for nothing", lambda path: os.open(path, 3 | os.O_TRUNC)),
    emptied("shown/read", lambda path: os.open(path, os.O_RDONLY | os.O_TRUNC)),
    emptied("own/file", lambda path: open(path, "w").close()),
    emptied("own/cut", lambda path: open(path, "r+").truncate(0)),
]))
"""
FILES = ("truncated", "opened", "opened for nothing", "shown/read", "own/file", "own/cut")


@pytest.mark.attack("a package empties files that it may not write, on a kernel with an older Landlock")
def test_files_are_not_emptied_either(tmp_path: Path) -> None:
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 2:
        pytest.skip("this machine has no Landlock, or the first")
    assert _emptied(tmp_path / "unfiltered", "no") >= {"truncated", "opened for nothing", "shown/read"}
    assert _emptied(tmp_path / "filtered", "yes") == {"own/file", "own/cut"}


def _emptied(folder: Path, is_filtered: str) -> set[str]:
    for name in FILES:
        place = folder / name
        place.parent.mkdir(exist_ok=True, parents=True)
        place.write_text("precious")
    code = f"import sys; sys.path.append({str(Path(confinement.__file__).parents[2])!r})\n{EMPTYING}"
    command = [sys.executable, "-I", "-c", code, str(folder), is_filtered]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return {name for name, is_empty in zip(FILES, json.loads(done.stdout), strict=True) if is_empty}
