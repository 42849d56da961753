"""CodeBuild's commands, by a real engine: from what `sam build` ships to an image that starts."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.container import stand_in
from tests.container.conftest import ROOT
from tests.unit.infra.templates import commands

if TYPE_CHECKING:
    from pathlib import Path

    from tests.container.conftest import Image

# AWS and the network are not here; the engine has no network of its own to build in, only the machine's.
PROGRAMS = {
    "aws": "#!/bin/sh\necho $1",
    "curl": "#!/bin/sh\n:",
    "unzip": """#!/bin/sh
mkdir source
exec make -f "$ROOT/infra/Makefile" -C "$ROOT/container" ARTIFACTS_DIR="$PWD/source" build-ContainerSource""",
    # No second engine: the older image store is what every engine has.
    "dockerd": "#!/bin/sh\nexit 1",
    "docker": """#!/bin/sh
case $1 in
    login) cat >/dev/null ;;
    push) echo "$2" >pushed ;;
    buildx) exit 1 ;;
    build) shift; exec "$CLIENT" build "$@" ;;
    *) exec "$CLIENT" "$@" ;;
esac""",
}


def test_recipe_makes_an_image_that_starts(image: Image, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    name = f"{image.name}-recipe"
    there = sorted({"3.11", "3.12", "3.13", "3.14"} - stand_in.missing(image.engine, image.name))
    done = subprocess.run(
        ["bash", "-c", "\n".join(f"{command} || exit" for command in commands())],
        cwd=tmp_path,
        env={
            **image.engine.environment,
            "PATH": f"{tmp_path}/bin:{image.engine.environment['PATH']}",
            "CLIENT": image.engine.client,
            "ROOT": str(ROOT),
            "SOURCE": "arn:aws:lambda:eu-west-1:111122223333:layer:source:1",
            "IMAGE": name,
            "BASE_IMAGE": f"{image.name}-base",
            "SYSTEM_PACKAGES": "",
            "RUNTIMES": " ".join(there),
            "STATE": str(tmp_path / "state"),
            "PAUSE": "0",
        },
        capture_output=True,
        text=True,
    )
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / "pushed").read_text().strip() == name
        said = done.stdout.splitlines()
        assert [line for line in said if line.startswith("layer-builder ")]
        # Each interpreter was started, with the libraries that imports most often need.
        assert [line.split()[1].rpartition(".")[0] for line in said if line.startswith("Python 3")] == there
    finally:
        image.engine.run("image", "rm", "--force", name, check=False)
