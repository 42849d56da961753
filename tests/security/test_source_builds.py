"""A stack may forbid builds from source."""

from pathlib import Path

import pytest

from local.server import EmbeddedAws

from .world import SOURCES, World


@pytest.mark.attack("an uploader has code of packages run where the stack forbids it")
def test_a_stack_can_forbid_builds_from_source(tmp_path: Path) -> None:
    with EmbeddedAws() as aws:
        deployment = aws.deploy(parameters={"SourceBuilds": "DISABLED"})
        assert not {"SourceJobRole", "Arm64SourceJobDefinition"} & deployment.values.keys()
        world = World(aws, tmp_path)
        manifest = world.build("forbidden", f"{SOURCES}friendly")
    assert manifest["error"]["code"] == "SETTINGS_INVALID"
    assert manifest["error"]["details"] == {"setting": "allow-sdist", "parameter": "SourceBuilds"}
