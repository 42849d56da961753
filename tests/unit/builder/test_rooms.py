"""The walls between the rooms hold: an import that goes the wrong way fails `make lint`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLACES = ("container", "functions", "infra", ".")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The packages and their contracts in a place of their own."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    packages = ("container", "functions", "infra", "local")
    for name in packages:
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            ignore=lambda folder, names: [
                one for one in names if Path(folder, one).is_file() and not one.endswith(".py")
            ],
        )
    return tmp_path


def checked(house: Path) -> tuple[int, str]:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=house,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(PLACES), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_they_stand(house: Path) -> None:
    status, said = checked(house)
    assert status == 0, said
    assert " 0 broken" in said


@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        pytest.param(
            "container/layer_builder/wheels/elf.py",
            "from layer_builder.proof import prove",
            "layer_builder.wheels.elf -> layer_builder.proof.prove",
            id="up",
        ),
        pytest.param(
            "container/layer_builder/ground/wording.py",
            "from layer_builder.ground import errors",
            "- .wording -> .errors (1 import)",
            id="in a circle",
        ),
        pytest.param(
            "container/layer_builder/build.py",
            "import layerdrop.plan",
            "layer_builder.build -> layerdrop.plan",
            id="into what is deployed elsewhere",
        ),
        pytest.param(
            "container/layer_builder/proof/import_worker.py",
            "import packaging",
            "layer_builder.proof.import_worker imports packaging",
            id="a worker's",
        ),
    ],
)
def test_an_import_that_goes_the_wrong_way_is_named(house: Path, file: str, line: str, named: str) -> None:
    with (house / file).open("a") as module:
        module.write(f"\n{line}\n")
    status, said = checked(house)
    assert status == 1, said
    assert named in " ".join(said.split()), said


def test_a_module_that_belongs_to_no_room_is_named(house: Path) -> None:
    (house / "container/layer_builder/attic.py").touch()
    status, said = checked(house)
    assert status == 1, said
    assert "layer_builder.attic" in said
