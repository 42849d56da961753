"""Files and S3 objects, on an S3 of our own."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from layer_builder.ground.errors import (
    OutputError,
    RequirementsNotFoundError,
    StorageDeniedError,
    StorageUnavailableError,
    UsageError,
)
from layer_builder.results import storage
from layer_builder.results.storage import S3Url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Client]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="bkt", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        client.put_bucket_versioning(Bucket="bkt", VersioningConfiguration={"Status": "Enabled"})
        yield client


@given(st.text(st.characters(exclude_characters="/", codec="utf-8"), min_size=1), st.text())
def test_a_url_is_its_bucket_and_key(bucket: str, key: str) -> None:
    url = S3Url.parse(f"s3://{bucket}/{key}")
    assert (url.bucket, url.key) == (bucket, key)
    assert str(url) == f"s3://{bucket}/{key}"


@pytest.mark.parametrize("url", ["s3://", "s3:///key"])
def test_a_url_without_a_bucket_is_none(url: str) -> None:
    with pytest.raises(UsageError):
        S3Url.parse(url)


@given(
    st.dictionaries(st.sampled_from(["layer-name", "requirements", "license-info"]), st.text(max_size=3000))
)
def test_metadata_always_fits(metadata: dict[str, str]) -> None:
    fitted = storage.fitted(metadata)
    assert sum(len(name) + len(value.encode()) for name, value in fitted.items()) <= 2048
    for name, value in fitted.items():
        assert value.isascii()
        assert value.isprintable()
        assert value == value.strip()
        assert (
            value[:20] == "".join(c if " " <= c <= "~" else "?" for c in metadata[name]).strip()[:20]
            or "..." in value
        )


def test_metadata_that_fits_is_left_alone() -> None:
    assert storage.fitted({"a": "b" * 2047}) == {"a": "b" * 2047}
    assert storage.fitted({"a": "b" * 2048})["a"].endswith("...")


def test_the_version_that_was_asked_for_is_read(s3: S3Client) -> None:
    first = s3.put_object(Bucket="bkt", Key="k ü+%", Body=b"one")["VersionId"]
    s3.put_object(Bucket="bkt", Key="k ü+%", Body=b"two")
    assert storage.read("s3://bkt/k ü+%", first, limit=10) == b"one"
    assert storage.read("s3://bkt/k ü+%", limit=10) == b"two"
    assert (
        storage.read("s3://bkt/k ü+%", limit=1) == b"tw"
    )  # one more than the limit, so that the reader notices


@pytest.mark.parametrize(
    ("url", "version"), [("s3://bkt/nope", ""), ("s3://nope-nope/k", ""), ("s3://bkt/k", "null")]
)
def test_what_is_not_there_is_the_callers_fault(s3: S3Client, url: str, version: str) -> None:
    s3.put_object(Bucket="bkt", Key="k", Body=b"")
    with pytest.raises(RequirementsNotFoundError) as caught:
        storage.read(url, version, limit=10)
    assert url in caught.value.message
    assert not caught.value.message.endswith("..")


def sha256(file: Path) -> str:
    return base64.b64encode(hashlib.sha256(file.read_bytes()).digest()).decode()


def test_a_zip_is_uploaded_with_its_metadata_and_checksum(s3: S3Client, tmp_path: Path) -> None:
    file = tmp_path / "x.zip"
    file.write_bytes(b"PK" * 10)
    metadata = {"requirements": "ä==1", "license-info": ""}
    storage.upload_zip(file, S3Url("bkt", "layers/x.zip"), metadata, sha256(file))
    head = s3.head_object(Bucket="bkt", Key="layers/x.zip", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == sha256(file)
    assert head["Metadata"] == {"requirements": "?==1"}
    assert head["ContentType"] == "application/zip"


def test_a_bucket_that_is_not_there_is_said_so(s3: S3Client, tmp_path: Path) -> None:
    file = tmp_path / "x.zip"
    file.write_bytes(b"PK")
    with pytest.raises(StorageDeniedError, match="bucket does not exist"):
        storage.upload_zip(file, S3Url("nope-nope", "x.zip"), {}, sha256(file))
    with pytest.raises(StorageDeniedError):
        storage.write("s3://nope-nope/report.json", b"{}", "application/json")


def test_an_s3_that_nobody_answers_for_is_worth_another_try(
    s3: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import EndpointConnectionError

    def refuse(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")

    monkeypatch.setattr(storage._s3(), "get_object", refuse)
    with pytest.raises(StorageUnavailableError) as caught:
        storage.read("s3://bkt/k", limit=10)
    assert caught.value.exit_status == 75


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    storage.write(str(tmp_path / "new" / "report.json"), b"{}", "application/json")
    assert (tmp_path / "new" / "report.json").read_bytes() == b"{}"
    assert (tmp_path / "new" / "report.json").stat().st_mode & 0o777 == 0o644
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file/x cannot be written"):
        storage.write(str(tmp_path / "file" / "x"), b"", "")
    with pytest.raises(RequirementsNotFoundError, match="No such file"):
        storage.read(str(tmp_path / "nope"), limit=1)
    with pytest.raises(RequirementsNotFoundError, match="directory"):
        storage.read(str(tmp_path), limit=1)
