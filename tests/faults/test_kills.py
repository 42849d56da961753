"""The builder is killed at any moment."""

import base64
import hashlib
import io
import random
import time
import zipfile
from typing import Any

import pytest

from local.settings import BUCKET
from tests.conftest import in_two_sizes

from .harness import Pipeline
from .index import good
from .test_aws_faults import key_of


@pytest.mark.parametrize("kills", in_two_sizes(4, 30))
def test_builder_killed_at_random_moments(pipeline: Pipeline, tried: Any, kills: int) -> None:
    """An answer each time, nothing half-written, and the same build again ends well."""
    chance = random.Random(30)
    for name in ("alone", "together"):
        pipeline.index.add(name, good(name, "alone" if name == "together" else ""),
                           requires="alone" if name == "together" else "")  # fmt: skip
    began = time.monotonic()
    pipeline.wait([pipeline.upload(key_of(f"realmeasure{kills}"), "together")])
    whole_build = time.monotonic() - began

    tokens = [f"realkill{number:02}of{kills}" for number in range(kills)]
    versions = {}
    for token in tokens:
        (pipeline.plans / f"{token}-py313-arm64").write_text(str(chance.uniform(0, whole_build)))
        versions[token] = pipeline.upload(key_of(token), f"together\n# {token}")
    pipeline.wait(versions.values())
    killed = 0
    for token in tokens:
        manifest, layer = pipeline.manifest(key_of(token)), f"{token}-py313-arm64"
        if manifest["status"] == "FAILED":
            killed += 1
            assert manifest["error"]["code"] == "JOB_OUT_OF_MEMORY"
            assert pipeline.versions(layer) == {}
            assert pipeline.pointer(layer) is None
    assert killed > kills // 3
    assert pipeline.leftovers() == []
    for key in filter(lambda key: key.endswith(".zip"), pipeline.objects("layers/")):
        stored = pipeline.aws.clients.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert zipfile.is_zipfile(io.BytesIO(stored)), (key, len(stored), stored[:80])

    # Once more, undisturbed: with the cache as the dead left it.
    for token in tokens:
        (pipeline.plans / f"{token}-py313-arm64").unlink()
    again = {token: pipeline.upload(key_of(token), f"together\n# {token}") for token in tokens[:10]}
    pipeline.wait(again.values())
    hashes = set()
    for token in again:
        (layer,) = pipeline.manifest(key_of(token))["layers"]
        hashes.add(layer["code_sha256"])
        content = pipeline.aws.clients.s3.get_object(Bucket=BUCKET, Key=layer["zip"]["key"])["Body"].read()
        assert base64.b64encode(hashlib.sha256(content).digest()).decode() == layer["code_sha256"]
    assert len(hashes) == 1
    tried("builder killed at a random moment", kills, kills, f"{killed} of them before the end")
