"""What a job left gets onto a shelf: looked at, whole, and in nobody's place."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from layerdrop.errors import BuildError, ErrorCode
from layerdrop.objects import ReportReader
from layerdrop.report import BuiltLayer, Report
from layerdrop.shelves import Shelves, Stored
from layerdrop.target import Target

from .conftest import TARGET, a_zip, record_of

OTHER = replace(TARGET, layer_name="other-py313-arm64", staging="builds/other-1/py313-arm64/secret/")
SOURCE = replace(OTHER, from_source=True)


@pytest.fixture
def shelves(account: Any) -> Shelves:
    return Shelves(account.s3, account.bucket)


@pytest.fixture
def built(build: Callable[..., Any]) -> Callable[..., BuiltLayer]:
    def built(target: Target = TARGET, content: str = "x = 1", digest: str = "") -> BuiltLayer:
        report = build(target.to_json(), content)
        report["layer"]["digest"] = digest or report["layer"]["digest"]
        return Report.from_text(json.dumps(report)).layer_for(target, "layerdrop-test")

    return built


def content(account: Any, kept: Stored) -> bytes:
    got = account.s3.get_object(Bucket=account.bucket, Key=kept.key, VersionId=kept.version_id)
    return bytes(got["Body"].read())


def keys(account: Any, prefix: str = "layers/") -> list[str]:
    listed = account.s3.list_objects_v2(Bucket=account.bucket, Prefix=prefix).get("Contents", [])
    return [item["Key"] for item in listed]


def versions(account: Any, prefix: str = "layers/") -> int:
    return len(account.s3.list_object_versions(Bucket=account.bucket, Prefix=prefix).get("Versions", []))


def put(account: Any, key: str, body: bytes) -> None:
    account.s3.put_object(Bucket=account.bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256")


def refused(shelves: Shelves, target: Target, layer: BuiltLayer) -> None:
    with pytest.raises(BuildError) as caught:
        shelves.keep(target, 1, layer)
    assert caught.value.problem.code == ErrorCode.REPORT_INVALID


def test_zip_and_record_are_kept_under_the_digest(account: Any, shelves: Shelves, built: Any) -> None:
    layer = built()
    kept = shelves.keep(TARGET, 1, layer)
    assert kept.key == f"layers/{layer.digest}.zip"
    assert content(account, kept) == a_zip("x = 1")
    assert keys(account) == [f"layers/{layer.digest}.json", kept.key]
    assert account.json(f"layers/{layer.digest}.json") == account.json(TARGET.staged("layer.json", 1))


def test_what_is_kept_is_not_copied_again(account: Any, shelves: Shelves, built: Any) -> None:
    first = shelves.keep(TARGET, 1, built())
    assert shelves.keep(OTHER, 1, built(OTHER)) == first
    assert versions(account) == 2


def test_what_was_found_is_taken_as_it_is(account: Any, shelves: Shelves, built: Any) -> None:
    layer = built()
    kept = shelves.keep(TARGET, 1, layer)
    reused = replace(layer, zip=replace(layer.zip, bucket=account.bucket, key=kept.key))
    assert shelves.keep(OTHER, 1, reused) == kept
    assert versions(account) == 2
    # Gone, or another, or without its record: then there is nothing to take.
    record = account.json(f"layers/{layer.digest}.json")
    account.put_json(f"layers/{layer.digest}.json", record | {"code_sha256": "A" * 43 + "="})
    refused(shelves, OTHER, reused)
    account.put_json(f"layers/{layer.digest}.json", record)
    put(account, kept.key, a_zip("x = 2"))
    refused(shelves, OTHER, reused)


@pytest.mark.attack("a job leaves another zip than its report says, or none")
@pytest.mark.parametrize("left", [None, a_zip("x = 2"), b"", a_zip("x = 1") + b" "])
def test_a_zip_must_be_the_reported_one(
    account: Any, shelves: Shelves, built: Any, left: bytes | None
) -> None:
    layer = built()
    if left is None:
        account.s3.delete_object(Bucket=account.bucket, Key=TARGET.staged("layer.zip", 1))
    else:
        put(account, TARGET.staged("layer.zip", 1), left)
    refused(shelves, TARGET, layer)
    assert keys(account) == []


@pytest.mark.attack("a job uploads its zip without a checksum, or in parts, which S3 cannot vouch for")
def test_a_zip_must_have_s3_s_own_checksum(account: Any, shelves: Shelves, built: Any) -> None:
    layer, key = built(), TARGET.staged("layer.zip", 1)
    account.s3.put_object(Bucket=account.bucket, Key=key, Body=a_zip("x = 1"))
    refused(shelves, TARGET, layer)
    begun = account.s3.create_multipart_upload(Bucket=account.bucket, Key=key, ChecksumAlgorithm="SHA256")
    place = {"Bucket": account.bucket, "Key": key, "UploadId": begun["UploadId"]}
    part = account.s3.upload_part(**place, PartNumber=1, Body=a_zip("x = 1"), ChecksumAlgorithm="SHA256")
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    account.s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
    refused(shelves, TARGET, layer)
    assert keys(account) == []


def change(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda record: record | changes


@pytest.mark.attack("a job leaves a forged record of its layer")
@pytest.mark.parametrize(
    "forge",
    [
        lambda record: None,
        lambda record: [],
        lambda record: {key: value for key, value in record.items() if key != "asked"},
        change(schema="layerdrop/layer/2"),
        change(code_sha256="A" * 43 + "="),
        change(bytes=1),
        change(bytes="1"),
        change(unzipped_bytes=0),
        change(packages={}),
        change(more=1),
    ],
)
def test_a_record_must_be_that_of_the_zip(
    account: Any, shelves: Shelves, built: Any, forge: Callable[[dict[str, Any]], Any]
) -> None:
    layer, key = built(), TARGET.staged("layer.json", 1)
    account.put_json(key, forge(account.json(key)))
    refused(shelves, TARGET, layer)
    assert keys(account) == []


@pytest.mark.attack("a forged report claims the digest of a layer that others use")
def test_nobody_gets_into_another_s_place(account: Any, shelves: Shelves, built: Any) -> None:
    layer = built()
    good = shelves.keep(TARGET, 1, layer)
    forged = built(OTHER, "evil = 1", layer.digest)
    kept = shelves.keep(OTHER, 1, forged)
    assert kept.key == f"layers/{OTHER.layer_name}/{layer.digest}.zip"
    assert content(account, kept) == a_zip("evil = 1")
    again = shelves.keep(TARGET, 1, layer)
    assert again == good
    assert content(account, again) == a_zip("x = 1")
    assert account.json(f"layers/{layer.digest}.json")["code_sha256"] == layer.code_sha256


@pytest.mark.attack("a build from source claims the digest of a layer that is not there yet")
def test_a_build_from_source_fills_no_shelf_but_its_own(account: Any, shelves: Shelves, built: Any) -> None:
    victim = built()
    kept = shelves.keep(SOURCE, 1, built(SOURCE, "evil = 1", victim.digest))
    assert kept.key == f"layers/{SOURCE.layer_name}/{victim.digest}.zip"
    assert keys(account) == [f"layers/{SOURCE.layer_name}/{victim.digest}.json", kept.key]
    assert content(account, shelves.keep(TARGET, 1, victim)) == a_zip("x = 1")


def test_on_its_own_shelf_a_layer_may_change(account: Any, shelves: Shelves, built: Any) -> None:
    """A wheel that is built again need not have the same bytes, and its source's digest stays."""
    shelves.keep(SOURCE, 1, built(SOURCE, "a = 1", "a" * 64))
    kept = shelves.keep(SOURCE, 1, built(SOURCE, "b = 1", "a" * 64))
    assert content(account, kept) == a_zip("b = 1")
    record = account.json(f"layers/{SOURCE.layer_name}/{'a' * 64}.json")
    assert record["code_sha256"] == kept.sha256


@pytest.mark.parametrize("harm", ["no zip", "another zip", "no record", "another record"])
def test_what_is_half_there_is_made_whole(account: Any, shelves: Shelves, built: Any, harm: str) -> None:
    layer = built()
    kept = shelves.keep(TARGET, 1, layer)
    name = f"layers/{layer.digest}"
    if harm == "no zip":
        account.s3.delete_object(Bucket=account.bucket, Key=kept.key)
    elif harm == "another zip":
        put(account, kept.key, a_zip("x = 2"))
    elif harm == "no record":
        account.s3.delete_object(Bucket=account.bucket, Key=f"{name}.json")
    else:
        account.put_json(f"{name}.json", {"schema": "x"})
    again = shelves.keep(TARGET, 1, layer)
    assert again.key == kept.key
    assert content(account, again) == a_zip("x = 1")
    assert account.json(f"{name}.json")["code_sha256"] == layer.code_sha256


class Mortal:
    """A client whose process dies right after a certain call."""

    def __init__(self, client: Any, calls: int) -> None:
        self._client, self._calls = client, calls

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            self._calls -= 1
            try:
                return attribute(**arguments)
            finally:
                if self._calls == 0:
                    raise SystemExit

        return call


def test_killed_after_any_call_a_second_try_keeps_the_layer(
    account: Any, shelves: Shelves, built: Any
) -> None:
    deaths = 0
    for call in range(1, 30):
        layer = built(TARGET, f"x = {call}")
        mortal = Shelves(Mortal(account.s3, call), account.bucket)  # type: ignore[arg-type]
        try:
            mortal.keep(TARGET, 1, layer)
        except SystemExit:
            deaths += 1
        else:
            break
        name = f"layers/{layer.digest}"
        found = {key for key in keys(account) if key.startswith(name)}
        assert found != {f"{name}.json"}, "a record comes after its zip"
        kept = shelves.keep(TARGET, 1, layer)
        assert content(account, kept) == a_zip(f"x = {call}")
        assert account.json(f"{name}.json")["code_sha256"] == layer.code_sha256
        assert versions(account, name) == 2, "and nothing is written twice"
    assert deaths >= 6


def test_two_at_once_leave_a_whole_layer(account: Any, shelves: Shelves, built: Any) -> None:
    """The other one comes in between, at any of the calls."""
    mine, others = built(), built(OTHER)

    class Interrupted:
        def __init__(self, at: int) -> None:
            self.left = at

        def __getattr__(self, name: str) -> Any:
            def call(**arguments: Any) -> Any:
                self.left -= 1
                if self.left == 0:
                    shelves.keep(OTHER, 1, others)
                return getattr(account.s3, name)(**arguments)

            return call

    for at in range(1, 12):
        for key in keys(account):
            account.s3.delete_object(Bucket=account.bucket, Key=key)
        kept = Shelves(Interrupted(at), account.bucket).keep(TARGET, 1, mine)  # type: ignore[arg-type]
        assert content(account, kept) == a_zip("x = 1")
        record = account.json(f"layers/{mine.digest}.json")
        head = account.s3.head_object(Bucket=account.bucket, Key=kept.key, ChecksumMode="ENABLED")
        assert record["code_sha256"] == head["ChecksumSHA256"] == mine.code_sha256


@pytest.mark.attack("a copy is not what was looked at")
def test_a_copy_must_have_the_checksum_of_what_was_looked_at(
    account: Any, shelves: Shelves, built: Any
) -> None:
    layer = built()

    class Changing:
        def __getattr__(self, name: str) -> Any:
            return getattr(account.s3, name)

        def copy_object(self, **given: Any) -> Any:
            assert given["CopySource"]["VersionId"]
            answer = account.s3.copy_object(**given)
            answer["CopyObjectResult"]["ChecksumSHA256"] = "A" * 43 + "="
            return answer

    refused(Shelves(Changing(), account.bucket), TARGET, layer)  # type: ignore[arg-type]
    assert keys(account) == [f"layers/{layer.digest}.zip"], "without a record it is taken for nothing"


@pytest.mark.attack("the zip is replaced between the look at it and the copy")
def test_what_was_looked_at_is_what_is_copied(account: Any, shelves: Shelves, built: Any) -> None:
    layer = built()

    class Racing:
        def __getattr__(self, name: str) -> Any:
            return getattr(account.s3, name)

        def copy_object(self, **given: Any) -> Any:
            put(account, TARGET.staged("layer.zip", 1), a_zip("evil = 1"))
            return account.s3.copy_object(**given)

    kept = Shelves(Racing(), account.bucket).keep(TARGET, 1, layer)  # type: ignore[arg-type]
    assert content(account, kept) == a_zip("x = 1")


# ---------------------------------------------------------------- attempts


def test_the_last_attempt_s_report_counts(account: Any, build: Callable[..., Any]) -> None:
    reader = ReportReader(account.s3, account.bucket)
    first = build(TARGET.to_json(), "a = 1", attempt=1)
    second = build(TARGET.to_json(), "b = 1", attempt=2)
    for attempts, report in ((1, first), (2, second), (3, second)):
        read, attempt = reader.read(TARGET, attempts)
        assert (read.layer and read.layer.digest) == report["layer"]["digest"]
        assert attempt == min(attempts, 2)
        assert reader.find(TARGET, attempts) == read


@pytest.mark.attack("an attempt leaves a report for one that is never made")
def test_a_later_attempt_s_report_than_there_was_is_not_looked_at(
    account: Any, build: Callable[..., Any]
) -> None:
    reader = ReportReader(account.s3, account.bucket)
    build(TARGET.to_json(), "evil = 1", attempt=3)
    assert reader.find(TARGET, 2) is None
    with pytest.raises(BuildError):
        reader.read(TARGET, 2)
    assert reader.find(TARGET, 0) is None


def test_the_record_is_the_builder_s(account: Any, shelves: Shelves, built: Any) -> None:
    """The stand-in for it in these tests has the fields that the builder writes."""
    from dataclasses import asdict

    from layer_builder.results import record as builder_record

    layer = built()
    theirs = builder_record.Record({}, layer.code_sha256, layer.zip.bytes, 0, (), (), {}, {}, ())
    written = {"schema": builder_record.SCHEMA, "builder": {"version": "1"}, **asdict(theirs)}
    ours = record_of(json.loads(json.dumps(copy.deepcopy(account.json(TARGET.staged("report.json", 1))))))
    assert written.keys() == ours.keys()
