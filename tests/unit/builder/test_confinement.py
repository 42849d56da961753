"""What a process of the same user can see of one that has hidden itself: nothing, while it could before."""

from __future__ import annotations

import os
import shutil
import subprocess
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
