from dataclasses import replace
from typing import Any

import pytest

from layer_builder.resolution import lock
from layerdrop.errors import BuildError, ErrorCode, Problem
from layerdrop.objects import RequirementsReader

KEY = "requirements/arm64/web/requirements.txt"
LOCK = "requirements/arm64/web/pylock.toml"
MIB = 1024 * 1024


def refusal(account: Any, build_input: Any, *, is_lock: bool = False) -> Problem:
    with pytest.raises(BuildError) as caught:
        RequirementsReader(account.s3).read(build_input, is_lock=is_lock)
    return caught.value.problem


def test_reads_the_version_that_was_uploaded(account: Any) -> None:
    first = account.upload(KEY, b"requests\n")
    account.upload(KEY, b"httpx\n")
    assert RequirementsReader(account.s3).read(first) == "requests\n"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b"\xef\xbb\xbfrequests", "requests"),
        ("größe".encode(), "größe"),
        (b"a\r\nb\r\n", "a\r\nb\r\n"),
        (b"x" * MIB, "x" * MIB),
    ],
)
def test_reads_text(account: Any, content: bytes, text: str) -> None:
    assert RequirementsReader(account.s3).read(account.upload(KEY, content)) == text


@pytest.mark.parametrize(
    "content", [b"\x7fELF\x02\x01\x01\xff", b"\xff\xfer\x00", b"a\0b", "größe".encode("latin-1")]
)
def test_refuses_what_is_no_text(account: Any, content: bytes) -> None:
    problem = refusal(account, account.upload(KEY, content))
    assert problem.code == ErrorCode.REQUIREMENTS_INVALID
    assert KEY in problem.message
    assert "UTF-8" in problem.hint


def test_refuses_too_much(account: Any) -> None:
    problem = refusal(account, account.upload(KEY, b"x" * (MIB + 1)))
    assert problem.code == ErrorCode.REQUIREMENTS_INVALID
    assert f"{MIB:,}" in problem.message
    assert problem.details == {"bytes": MIB + 1}


def test_a_lock_may_be_as_large_as_the_builder_takes_it(account: Any) -> None:
    longest = b"x" * lock.MAX_BYTES
    assert len(RequirementsReader(account.s3).read(account.upload(LOCK, longest), is_lock=True)) == 8 * MIB
    problem = refusal(account, account.upload(LOCK, longest + b"x"), is_lock=True)
    assert problem.code == ErrorCode.REQUIREMENTS_INVALID
    assert LOCK in problem.message
    assert f"{8 * MIB:,}" in problem.message
    assert "Lock fewer packages" in problem.hint
    hint = refusal(account, account.upload(LOCK, b"\xff\xfe[\0"), is_lock=True).hint
    assert "one requirement a line" not in hint


def test_the_event_s_size_is_not_believed(account: Any) -> None:
    build_input = replace(account.upload(KEY, b"x" * (MIB + 1)), size=3)
    assert refusal(account, build_input).code == ErrorCode.REQUIREMENTS_INVALID


def test_a_version_deleted_before_it_was_read(account: Any) -> None:
    build_input = account.upload(KEY, b"requests")
    account.s3.delete_object(Bucket=account.bucket, Key=KEY, VersionId=build_input.version_id)
    problem = refusal(account, build_input)
    assert problem.code == ErrorCode.INPUT_NOT_FOUND
    assert KEY in problem.message


def test_a_delete_marker_hides_no_version(account: Any) -> None:
    build_input = account.upload(KEY, b"requests")
    account.s3.delete_object(Bucket=account.bucket, Key=KEY)
    assert RequirementsReader(account.s3).read(build_input) == "requests"
