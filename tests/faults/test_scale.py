"""Many uploads at once."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import in_two_sizes

from .harness import Pipeline, memory
from .index import good
from .test_aws_faults import key_of

EVERY = 10
"""One of so many is built by the real builder: a build costs it more than all the rest does."""


@pytest.mark.parametrize("uploads", in_two_sizes(15, 300))
def test_uploads_at_once(pipeline: Pipeline, tried: Any, uploads: int) -> None:
    """Every one answered, once."""
    pipeline.index.add("many", good("many"))
    pipeline.wait([pipeline.upload(key_of(f"realwarm{uploads}"), "many")])
    before, began = memory(), time.monotonic()
    tokens = [
        f"{'real' if number % EVERY == 0 else ''}many{number:03}of{uploads}" for number in range(uploads)
    ]

    def upload(token: str) -> str:
        return pipeline.upload(key_of(token), f"many\n# {token}")

    with pipeline.patient(), ThreadPoolExecutor(16) as threads:
        versions = dict(zip(tokens, threads.map(upload, tokens), strict=True))
        pipeline.wait(versions.values())
    seconds = time.monotonic() - began
    executions = pipeline.executions()
    assert Counter(len(executions[version]) for version in versions.values()) == {1: uploads}
    for token, version in versions.items():
        manifest, [execution] = pipeline.manifest(key_of(token)), executions[version]
        ended = f"{execution.exec_status} {execution.error} {execution.cause}"
        assert (manifest["status"], manifest["input"]["version_id"]) == ("SUCCEEDED", version), ended
        assert set(pipeline.versions(f"{token}-py313-arm64")) == {1}
    ends = pipeline.ends()
    assert all([end["status"] for end in ends[version]] == ["SUCCEEDED"] for version in versions.values())
    figures = f"{seconds:.0f} s, memory {before} -> {memory()} MB"
    tried(f"{uploads} uploads at once", uploads, uploads, figures)
