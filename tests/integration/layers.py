"""What Lambda would do with a layer: unzip it to /opt and import from it."""

import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest


def interpreter(runtime: str) -> str:
    """Return an interpreter of a runtime's version; skip the test where there is none."""
    name = runtime.removeprefix("python")
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{name}.*/bin/{runtime}"))
    found = next(iter(pyenv), None) or shutil.which(runtime)
    if found is None:
        pytest.skip(f"there is no {runtime} on this machine")
    return str(found)


def import_from(content: bytes, runtime: str, modules: list[str], opt: Path) -> dict[str, str]:
    """Unzip a layer and import modules from it alone; return the file that each came from.

    https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html says where Lambda looks.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as layer:
        assert layer.testzip() is None
        layer.extractall(opt)
    folders = [str(opt / "python" / "lib" / runtime / "site-packages"), str(opt / "python")]
    script = (
        "import importlib, json, sys\n"
        f"sys.path[:0] = {folders!r}\n"
        f"print(json.dumps({{name: importlib.import_module(name).__file__ for name in {modules!r}}}))\n"
    )
    # -I -S: nothing of the interpreter's own site-packages or of the environment helps.
    done = subprocess.run(
        [interpreter(runtime), "-I", "-S", "-c", script], capture_output=True, text=True, check=False, env={}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
