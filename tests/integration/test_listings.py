"""What a bucket lists of its versions."""

from typing import Any

import pytest

from local.server import EmbeddedAws

BUCKET = "listed"


@pytest.fixture(scope="module", autouse=True)
def bucket(aws: EmbeddedAws) -> None:
    s3 = aws.clients.s3
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for key in ("b", "a/b", "a/b", "a", "a/b.txt", "a/c/d", "a/b", "a/c/d"):
        s3.put_object(Bucket=BUCKET, Key=key)
    s3.delete_object(Bucket=BUCKET, Key="a/b")
    s3.put_object(Bucket=BUCKET, Key="a/b")


def listed(aws: EmbeddedAws, size: int, **which: str) -> list[Any]:
    pages = aws.clients.s3.get_paginator("list_object_versions").paginate(
        Bucket=BUCKET, PaginationConfig={"PageSize": size}, **which
    )
    found = []
    for page in pages:
        entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        found += [(entry["Key"], entry["VersionId"], entry["IsLatest"]) for entry in entries]
    return found


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("prefix", ["a", "a/", "a/b", "a/b.", "a/c/d", "none"])
def test_those_below_a_prefix_are_those_of_all_that_begin_so(
    aws: EmbeddedAws, prefix: str, size: int
) -> None:
    everything = listed(aws, 1000)
    assert len(everything) == 10
    below = [entry for entry in everything if entry[0].startswith(prefix)]
    assert sorted(listed(aws, size, Prefix=prefix)) == sorted(below)
