from dataclasses import replace
from typing import Any

import pytest

from layerdrop.errors import BuildError, ErrorCode, Problem
from layerdrop.objects import RequirementsReader

KEY = "requirements/arm64/web/requirements.txt"
MIB = 1024 * 1024


def refusal(account: Any, build_input: Any) -> Problem:
    with pytest.raises(BuildError) as caught:
        RequirementsReader(account.s3).read(build_input)
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
