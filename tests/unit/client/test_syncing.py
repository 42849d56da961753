import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdrop_client.manifests import Manifest
from layerdrop_client.syncing import ANSWER_SECONDS, Action, Stored, decide, is_same

KEY = "requirements/arm64/web/requirements.txt"
NOW = datetime.now(UTC)
OLD = timedelta(days=1)


def stored(content: bytes, *, with_sha256: bool = True, version: str = "v1") -> Stored:
    sha256 = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return Stored(version, hashlib.md5(content).hexdigest(), sha256 if with_sha256 else None, NOW)


def manifest(status: str, version: str = "v1", codes: tuple[str, ...] = ()) -> Manifest:
    errors = [{"code": code, "message": "…", "hint": "", "details": {}, "log": None} for code in codes]
    return Manifest(
        {
            "schema": "layerdrop/manifest/1",
            "status": status,
            "input": {"key": KEY, "version_id": version},
            "execution": None,
            "layers": [{"layer_name": "web", "error": error} for error in errors],
            "error": errors[0] if errors else None,
        }
    )


@given(st.binary(max_size=50), st.binary(max_size=50), st.booleans())
def test_files_are_the_same_if_their_bytes_are(mine: bytes, there: bytes, with_sha256: bool) -> None:
    assert is_same(mine, stored(there, with_sha256=with_sha256)) is (mine == there)


def test_what_came_in_parts_cannot_be_compared_and_goes_up_again() -> None:
    assert not is_same(b"x", Stored("v1", hashlib.md5(b"x").hexdigest() + "-2", "abc=-2", NOW))


@pytest.mark.parametrize(
    ("there", "answer", "age", "action", "why"),
    [
        (None, None, OLD, Action.UPLOAD, "new"),
        (b"other", manifest("SUCCEEDED"), OLD, Action.UPLOAD, "changed"),
        (b"same", manifest("SUCCEEDED"), OLD, Action.NOTHING, "unchanged"),
        (b"same", None, OLD, Action.UPLOAD, "never answered"),
        (b"same", manifest("SUCCEEDED", "v0"), OLD, Action.UPLOAD, "never answered"),
        (b"same", None, timedelta(seconds=ANSWER_SECONDS - 1), Action.WATCH, "on its way"),
        (b"same", manifest("BUILDING"), OLD, Action.WATCH, "building"),
        (
            b"same",
            manifest("FAILED", codes=("INDEX_UNREACHABLE",)),
            OLD,
            Action.UPLOAD,
            "failed, and may succeed",
        ),
        (
            b"same",
            manifest("FAILED", codes=("REQUIREMENTS_INVALID",)),
            OLD,
            Action.NOTHING,
            "failed, and would again",
        ),
        (
            b"same",
            manifest("FAILED", codes=("JOB_INTERRUPTED", "IMPORT_FAILED")),
            OLD,
            Action.NOTHING,
            "failed, and would again",
        ),
    ],
)
def test_a_file_goes_up_only_if_that_can_change_something(
    there: bytes | None, answer: Manifest | None, age: timedelta, action: Action, why: str
) -> None:
    decision = decide(b"same", stored(there) if there is not None else None, answer, age)
    assert (decision.action, decision.why) == (action, why)
