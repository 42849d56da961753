"""A layer whose libraries come out of system packages, from the settings block to the manifest."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING

import jsonschema
import pytest

from local.results import fetch_layer
from local.server import EmbeddedAws
from local.settings import ROOT
from tests.integration.conftest import Pipeline
from tests.native import repository
from tests.native.manager import make

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = json.loads((ROOT / "functions/layerdrop/schemas/manifest.schema.json").read_text())
PYODBC = "pyodbc == 5.3.0\n"
CHECK = '# /// layer\n# system-libraries = "check"\n# ///\n'


pytestmark = [
    pytest.mark.long,
    pytest.mark.index,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the packages are made for x86_64"),
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The real stack, whose build jobs find a package manager."""
    # It also refuses to work when it is handed credentials, which build jobs have.
    folder = tmp_path_factory.mktemp("machine") / "dnf"
    manager = make(folder, {"x86_64": repository.at_hand("x86_64")}, "microdnf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{manager.folder}{os.pathsep}{os.environ['PATH']}")
        with EmbeddedAws() as aws:
            stack = aws.deploy()
            yield Pipeline(aws, stack)


def test_libraries_are_bundled_unless_the_setting_says_otherwise(pipeline: Pipeline) -> None:
    key = "requirements/x86_64/odbc/requirements.txt"
    failed = pipeline.build(key, f"{CHECK}{PYODBC}")
    assert failed["error"]["code"] == "MISSING_SHARED_LIBRARY"
    assert 'system-libraries = "auto"' in failed["error"]["hint"]

    manifest = pipeline.build(key, PYODBC)
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    [layer] = manifest["layers"]
    content = fetch_layer(layer["layer_version_arn"], pipeline.aws.clients)
    with zipfile.ZipFile(BytesIO(content)) as served:
        bundled = {
            name: hashlib.sha256(served.read(name)).hexdigest()
            for name in served.namelist()
            if name.startswith("lib/")
        }
    assert bundled.keys() == {"lib/libodbc.so.2", "lib/libltdl.so.7"}
    packages = {package["name"]: package for package in layer["system_packages"]}
    assert bundled == {file["path"]: file["sha256"] for one in packages.values() for file in one["files"]}
    assert packages["unixODBC"]["license"] == repository.PACKAGES["unixODBC"][0]
    assert [file["needed_by"] for file in packages["unixODBC"]["files"]] == [["pyodbc"]]

    # The same again publishes nothing.
    again = pipeline.build(key, PYODBC)
    assert [one["reused"] for one in again["layers"]] == [True]
    assert again["layers"][0]["system_packages"] == layer["system_packages"]
