import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdrop_client.following import ANSWERED, Seen
from layerdrop_client.manifests import Manifest

GOOD: dict = {
    "schema": "layerdrop/manifest/1",
    "status": "SUCCEEDED",
    "input": {"bucket": "b", "key": "requirements/arm64/requirements.txt", "version_id": "v1"},
    "execution": {"arn": "arn:x", "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:04.5Z"},
    "layers": [
        {
            "layer_name": "web-py313-arm64",
            "packages": [{"name": "a", "version": "1"}],
            "version": 1,
            "zip": {"bytes": 1, "unzipped_bytes": 2},
            "trial": {"result": "not_run", "reason": "why"},
        }
    ],
    "error": None,
}


def read(**changes: object) -> Manifest | None:
    return Manifest.read(json.dumps(GOOD | changes).encode())


def test_a_manifest_is_read() -> None:
    found = read()
    assert found
    assert (found.ended, found.seconds, found.problems) == (True, 4.5, [])
    [layer] = found.layers
    assert (layer.version, layer.unzipped_bytes, layer.not_tried) == (1, 2, "why")


def test_a_failure_without_words_is_no_success() -> None:
    found = read(status="FAILED")
    assert found
    assert [problem.code for problem in found.problems] == ["UNTOLD"]
    assert Seen(ANSWERED, found).exit_status == 70


@pytest.mark.parametrize(
    "layers", [[1], [{}], [{"layer_name": "x", "packages": [1]}], [GOOD["layers"][0] | {"zip": 1}], {}]
)
def test_what_users_put_in_its_place_is_none(layers: object) -> None:
    assert read(layers=layers) is None


@given(
    st.binary(max_size=100) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_whatever_lies_there_can_be_read(content: bytes) -> None:
    assert Manifest.read(content) is None
