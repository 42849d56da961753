"""Locks in the place of requirements files: the same zip again, and answers of their own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from uv import find_uv_bin

from local.settings import BUCKET, ROOT

from .conftest import Pipeline

SCHEMA = json.loads((ROOT / "functions/layerdrop/schemas/manifest.schema.json").read_text())
WANTED = "markupsafe == 3.0.2\nidna == 3.10\n"


def answered(pipeline: Pipeline, key: str, content: str) -> Any:
    """Build; return the only layer."""
    manifest = pipeline.build(key, content)
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    assert manifest["input"]["key"] == key
    [layer] = manifest["layers"]
    return layer


def refused(pipeline: Pipeline, key: str, content: str) -> Mapping[str, str]:
    """Build what cannot be; return the error."""
    manifest = pipeline.build(key, content)
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["status"] == "FAILED"
    error: Mapping[str, str] = manifest["error"]
    return error


@pytest.fixture(scope="module")
def lock(pipeline: Pipeline) -> str:
    """The lock that a build of requirements has left where its manifest says."""
    layer = answered(pipeline, "requirements/arm64/locked-first/requirements.txt", WANTED)
    stored = pipeline.aws.clients.s3.get_object(Bucket=BUCKET, Key=layer["lock"]["key"])
    return stored["Body"].read().decode()


@pytest.mark.long
def test_the_lock_of_a_build_gives_the_very_same_zip(pipeline: Pipeline, folder: str, lock: str) -> None:
    first = answered(pipeline, f"{folder}/first/requirements.txt", WANTED)
    upload = pipeline.upload(f"{folder}/again/api-pylock.toml", lock)
    manifest = pipeline.answer(upload)
    [again] = manifest["layers"]
    assert upload.manifest_key == f"{folder}/again/api-pylock-manifest.json"
    assert again["layer_name"].endswith("-again-api-py313-arm64")
    assert (again["code_sha256"], again["zip"]) == (first["code_sha256"], first["zip"])
    assert again["packages"] == first["packages"]
    # One event, one execution; and the zip that was there is the zip: nobody wrote another.
    assert len(pipeline.executions_of(upload)) == 1
    kept = pipeline.aws.clients.s3.list_object_versions(Bucket=BUCKET, Prefix=first["zip"]["key"])
    assert len(kept["Versions"]) == 1
    # The lock that this build leaves is that lock.
    stored = pipeline.aws.clients.s3.get_object(Bucket=BUCKET, Key=again["lock"]["key"])
    assert stored["Body"].read().decode() == lock
    assert answered(pipeline, upload.key, lock)["reused"]


@pytest.mark.long
def test_a_lock_and_a_requirements_file_in_one_folder_are_two_inputs(
    pipeline: Pipeline, folder: str, lock: str
) -> None:
    answered(pipeline, f"{folder}/requirements.txt", WANTED)
    error = refused(pipeline, f"{folder}/pylock.toml", lock)
    assert error["code"] == "LAYER_NAME_TAKEN"
    assert f'"{folder}/requirements.txt", which claimed it first' in error["message"]
    assert "the requirements file or the lock, not both" in error["hint"]
    named = f'# /// layer\n# name = "{folder.rpartition("/")[2]}-locked"\n# license = "MIT"\n# ///\n{lock}'
    layer = answered(pipeline, f"{folder}/pylock.toml", named)
    assert layer["layer_name"].endswith("-locked-py313-arm64")
    described = pipeline.aws.clients.lambda_.get_layer_version(LayerName=layer["layer_name"], VersionNumber=1)
    assert described["LicenseInfo"] == "MIT"


def test_a_lock_that_does_not_fit_is_answered_as_such(pipeline: Pipeline, folder: str, lock: str) -> None:
    digest = lock.partition('sha256 = "')[2][:64]
    wrong = refused(pipeline, f"{folder}/wrong-pylock.toml", lock.replace(digest, "0" * 64))
    assert wrong["code"] == "HASH_MISMATCH"
    assert wrong["hint"]
    for place, meant in (("x86_64/python3.13", "aarch64"), ("arm64/python3.12", "==3.13.*")):
        elsewhere = f"{folder.replace('arm64', place)}/pylock.toml"
        other = refused(pipeline, elsewhere, lock)
        assert other["code"] == "NO_WHEEL_FOR_TARGET"
        assert meant in other["message"]
        assert "the path of an upload" in other["hint"]


@pytest.mark.long
def test_a_lock_of_another_tool_gives_each_runtime_its_wheels(
    pipeline: Pipeline, folder: str, tmp_path: Path
) -> None:
    """One of uv's for all platforms; the zips are those that requirements with the same versions give."""
    (tmp_path / "requirements.in").write_text(WANTED)
    given = [find_uv_bin(), "pip", "compile", "--quiet", "--universal", "--python", sys.executable]
    given += ["--python-version", "3.12", "--format", "pylock.toml", "-o", "pylock.toml", "requirements.in"]
    subprocess.run(given, cwd=tmp_path, check=True)
    block = '# /// layer\n# runtimes = ["python3.12", "python3.13"]\n# ///\n'
    manifests = [
        pipeline.build(f"{folder}/{name}", block + text)
        for name, text in (
            ("lock/pylock.toml", (tmp_path / "pylock.toml").read_text()),
            ("file/requirements.txt", WANTED),
        )
    ]
    assert [manifest["error"] for manifest in manifests] == [None, None]
    locked, resolved = ([layer["code_sha256"] for layer in one["layers"]] for one in manifests)
    assert locked == resolved
    assert len(set(locked)) == 2
