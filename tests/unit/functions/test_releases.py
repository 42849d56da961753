"""Release documents: what they say, whose word stays, and what of hostile text gets into them."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from layerdrop.build_input import BuildInput
from layerdrop.catalogue.releases import Release, Releases, is_layer_name, publisher_changes, release_of
from layerdrop.manifest import PublishedVersion
from layerdrop.report import BuiltLayer, Report, Zip
from layerdrop.target import Job, Target
from layerdrop.trial import Trial
from tests.catalogue_documents import arn, package, release_document, schema
from tests.unit.functions.test_handlers import KEY, MANIFEST, run

Call = Callable[..., Any]
WEB = "web-py313-arm64"
DOCUMENT = f"catalogue/releases/{WEB}/1.json"
VALIDATOR = jsonschema.Draft202012Validator(schema("release"), format_checker=jsonschema.FormatChecker())
AT = "2026-11-22T10:00:00.000Z"


def releases(account: Any) -> Releases:
    return Releases(account.s3, account.bucket)


def a(version: int = 1, **changes: Any) -> Release:
    return Release.from_json(release_document(WEB, version, **changes))


def published(**changes: Any) -> Any:
    """A package with the publisher changed in these fields."""
    listed = package("urllib3", "2.5.0")
    return [listed | {"publisher": listed["publisher"] | changes}]


def test_what_was_written_is_read(account: Any) -> None:
    document = release_document(WEB, 1, system_packages=[{"name": "libx", "version": "1", "license": None}])
    VALIDATOR.validate(document)
    releases(account).write(Release.from_json(document))
    assert account.json(DOCUMENT) == document
    assert releases(account).read(WEB, 1) == Release.from_json(document)
    assert releases(account).listed() == {WEB: {1: releases(account).listed(WEB)[WEB][1]}}


def test_when_it_was_released_first_stays(account: Any) -> None:
    releases(account).write(a(released=AT, built=AT))
    again = "2026-11-23T10:00:00.000Z"
    releases(account).write(a(released=again, built=again))
    document = account.json(DOCUMENT)
    assert (document["released"], document["built"]) == (AT, again)


def test_an_older_upload_s_late_word_does_not_replace_a_newer_s(account: Any) -> None:
    newer = release_document(WEB)["input"] | {"sequencer": "00B0", "version_id": "newer"}
    older = newer | {"sequencer": "00A9FF", "version_id": "older"}
    releases(account).write(a(input=newer))
    releases(account).write(a(input=older))
    assert account.json(DOCUMENT)["input"] == newer
    # Another file's sequencers say nothing of this one's; the name was handed on.
    releases(account).write(a(input=older | {"key": "requirements/arm64/other/requirements.txt"}))
    assert account.json(DOCUMENT)["input"]["version_id"] == "older"


def test_two_that_write_at_once_keep_the_first_moment(account: Any) -> None:
    wrote: list[str] = []

    class Client:
        """S3, where another writes before the first write."""

        def __getattr__(self, name: str) -> Any:
            if name == "put_object" and not wrote:
                wrote.append(name)
                releases(account).write(a(released=AT, built=AT))
            return getattr(account.s3, name)

    late = "2026-11-23T10:00:00.000Z"
    Releases(Client(), account.bucket).write(a(released=late, built=late))  # type: ignore[arg-type]
    assert account.json(DOCUMENT)["released"] == AT


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b"\xff",
        json.dumps(release_document(WEB, 2)).encode(),
        json.dumps(release_document("api-py313-arm64", 1)).encode(),
        json.dumps(release_document(WEB, 1, layer_version_arn=arn(WEB, 2))).encode(),
        json.dumps(release_document(WEB, 1, released="yesterday")).encode(),
        json.dumps(release_document(WEB, 1, packages=3)).encode(),
        json.dumps(release_document(WEB, 1, import_seconds=float("inf"))).encode(),
        json.dumps(release_document(WEB, 1, runtime="python2.7")).encode(),
    ],
)
def test_what_is_no_document_of_its_place_is_none_and_is_written_over(account: Any, spoilt: bytes) -> None:
    account.s3.put_object(Bucket=account.bucket, Key=DOCUMENT, Body=spoilt)
    assert releases(account).read(WEB, 1) is None
    releases(account).write(a())
    assert releases(account).read(WEB, 1) == a()


def test_only_documents_are_listed(account: Any) -> None:
    for key in (
        f"{WEB}/01.json",
        f"{WEB}/x.json",
        f"{WEB}/1.json/2.json",
        f"{WEB}/",
        "web/1.json",
        "1.json",
        f"{WEB}/1",
    ):
        account.put_json(f"catalogue/releases/{key}", {})
    account.put_json(DOCUMENT, release_document())
    assert {name: set(found) for name, found in releases(account).listed().items()} == {WEB: {1}}


def test_those_before_are_found_even_if_they_were_just_deleted(account: Any) -> None:
    for version in (2, 3, 10):
        releases(account).write(a(version))
    assert list(releases(account).earlier(WEB, 2)) == []
    assert list(releases(account).earlier(WEB, 10)) == [a(3), a(2)]
    releases(account).delete(WEB, 3)
    releases(account).delete(WEB, 3)  # twice, as a call that is repeated
    assert list(releases(account).earlier(WEB, 10)) == [a(3), a(2)]
    assert set(releases(account).listed()[WEB]) == {2, 10}


@pytest.mark.parametrize(
    "name",
    [
        "web",
        "py313-arm64",
        "web-py313-arm65",
        "a" * 200 + "-py313-arm64",
        "",
        None,
        1,
        "w/b-py313-arm64",
        "web-py313-arm64\n",
        "wéb-py313-arm64",
    ],
)
def test_a_name_that_no_layer_of_ours_has(name: object) -> None:
    assert not is_layer_name(name)


# ------------------------------------------------------------------------------------------ other publishers


UNKNOWN: dict[str, Any] = {"publisher": None, "attested": None}
NONE: dict[str, Any] = {"publisher": None, "attested": False}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (published(), None),
        (published(workflow="publish.yml", environment="pypi"), None),
        (published(repository="URLLIB3/urllib3"), None),
        ([package("urllib3", "3.0")], None),
        ([package("new", "1.0", **NONE)], None),
        ([package("urllib3", "2.5.0", **UNKNOWN)], None),
        (
            published(repository="evil/urllib3"),
            "urllib3 2.5.0 was published by evil/urllib3 (GitHub), 2.4.0 by urllib3/urllib3 (GitHub): "
            "see whether its project says so, too.",
        ),
        (published(kind="GitLab"), "urllib3 2.5.0 was published by urllib3/urllib3 (GitLab), 2.4.0 by"),
        ([package("urllib3", "2.5.0", **NONE)], "Nothing attests who published urllib3 2.5.0; 2.4.0 was"),
    ],
)
def test_another_publisher_than_before_is_told(now: Any, told: str | None) -> None:
    before = a(1, packages=[package("urllib3", "2.4.0"), package("gone")])
    warnings = publisher_changes(a(2, packages=now), [before])
    assert [one[: len(told or "")] for one in warnings] == ([told] if told else [])


@pytest.mark.attack("whoever takes over a project: an index that does not answer a build in between")
def test_what_was_not_known_of_the_version_before_was_known_of_one_before_that() -> None:
    known, unknown, none = (
        a(1, packages=[package("urllib3", "2.4.0", **more)]) for more in ({}, UNKNOWN, NONE)
    )
    new = a(2, packages=published(repository="evil/urllib3"))
    assert len(publisher_changes(new, [unknown, unknown, known])) == 1
    assert publisher_changes(new, [none, known]) == ()  # told when it came to none
    assert publisher_changes(new, [unknown]) == ()


# ------------------------------------------------------------------------------------ whatever a report says

texts = st.text(max_size=40) | st.sampled_from(["\x1b[2J", "\ud800", "\u202e", "</script>", "x" * 100_000])
publishers = st.none() | st.dictionaries(texts, st.none() | texts | st.integers(), max_size=12).map(
    lambda fields: {**fields, "kind": "GitHub"}
)
packages = st.fixed_dictionaries(
    {"name": texts, "version": texts, "license": st.none() | texts, "unzipped_bytes": st.integers(0, 10**9)},
    optional={"publisher": publishers, "attested": st.none() | st.booleans() | st.integers()},
)


@pytest.mark.attack("a package's author: text that a page or a terminal obeys, in a release document")
@given(
    listed=st.lists(packages, max_size=5),
    warnings=st.lists(texts, max_size=60),
    words=st.none() | texts,
    times=st.dictionaries(texts, st.floats(0, 1e6), max_size=5),
)
def test_whatever_a_report_holds_fits_the_schema_and_is_shown(
    listed: Any, warnings: Any, words: Any, times: Any
) -> None:
    target = Target(
        "py313-arm64", "arm64", "python3.13", WEB, words, words, (), Job("", "", "", ()), "builds/e/t/s/"
    )
    layer = BuiltLayer(WEB, words or "", words, "0" * 64, "A" * 43 + "=", Zip(None, None, 1, 2))
    report = Report(layer, None, listed, (), {}, warnings)
    release = release_of(
        BuildInput("b", "requirements/arm64/web/requirements.txt", "v", "e", "00A0", 1),
        target,
        PublishedVersion(arn(WEB, 1), 1, reused=False, zip_key="layers/a.zip"),
        report,
        layer,
        Trial("passed", imports_ms=times),
        AT,
    )
    content = release.to_bytes()
    document = json.loads(content)
    VALIDATOR.validate(document)
    assert len(content) < 200_000
    assert not {"\x1b", "\u202e", "\ud800"} & set(content.decode())
    again = Release.read(content)
    assert again is not None
    assert again.to_json() == document


# ------------------------------------------------------------------------------------------- in the pipeline


def test_an_answer_writes_down_what_was_released(account: Any, handler: Call, build: Call) -> None:
    settings = b'# rebuild = "fixed"\n# vulnerability-ignore = ["GHSA-48p4-8xcf-vxj5: no: redirects"]\n'
    text = b"# /// layer\n" + settings + b"# ///\nrequests\n"
    run(account, handler, build, account.upload(KEY, text))
    document = account.json(DOCUMENT)
    VALIDATOR.validate(document)
    assert document["input"]["key"] == KEY
    assert document["watch"] == {"rebuild": "fixed", "ignore": {"GHSA-48p4-8xcf-vxj5": "no: redirects"}}
    assert [one["name"] for one in document["packages"]] == ["requests"]
    assert document["packages"][0]["publisher"] is None
    first = document["released"]
    run(account, handler, build, account.upload(KEY, text, "00A1"))
    assert (account.json(DOCUMENT)["released"], account.json(DOCUMENT)["input"]["sequencer"]) == (
        first,
        "00A1",
    )


def test_a_failed_target_writes_nothing_down(account: Any, handler: Call, build: Call) -> None:
    run(account, handler, build, account.upload(KEY, b"# /// layer\n# nothing = 1\n# ///\n"))
    assert releases(account).listed() == {}


@pytest.mark.parametrize("call", ["get_object", "put_object", "get_paginator"])
def test_the_catalogue_keeps_no_answer_back(
    account: Any, handler: Call, build: Call, monkeypatch: pytest.MonkeyPatch, capsys: Any, call: str
) -> None:
    class Broken:
        """S3 that does not answer one kind of call."""

        def __getattr__(self, name: str) -> Any:
            def fail(*_: Any, **__: Any) -> Any:
                raise EndpointConnectionError(endpoint_url="https://s3")

            return fail if name == call else getattr(account.s3, name)

    real = Releases.__init__
    monkeypatch.setattr(Releases, "__init__", lambda self, s3, bucket: real(self, Broken(), bucket))
    result, manifest = run(account, handler, build, account.upload(KEY, b"requests"))
    assert (result["status"], manifest["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert '"CatalogueWriteFailed":[1.0]' in capsys.readouterr().out
    monkeypatch.setattr(Releases, "__init__", real)
    # What came before could not be found out, which is no reason not to write it.
    assert bool(releases(account).listed()) == (call == "get_paginator")


@pytest.mark.parametrize("keep", ["0", "1"])
def test_another_publisher_is_told_in_the_manifest_even_of_a_version_that_is_retired(
    account: Any, handler: Call, build: Call, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    monkeypatch.setenv("KEEP_VERSIONS", keep)

    def by(repository: str, content: str) -> Call:
        def built(target: Any) -> Any:
            report = build(target, content)
            report["packages"][0] |= {
                "publisher": {"kind": "GitHub", "repository": repository},
                "attested": True,
            }
            account.put_json(f"{target['staging']}1/report.json", report)
            return report

        return built

    _, manifest = run(account, handler, by("psf/requests", "a"), account.upload(KEY, b"requests"))
    assert manifest["layers"][0]["warnings"] == ["one"]
    _, manifest = run(account, handler, by("evil/requests", "b"), account.upload(KEY, b"requests>1", "00A1"))
    told = (
        "requests 2.32.3 was published by evil/requests (GitHub), 2.32.3 by psf/requests (GitHub): "
        "see whether its project says so, too."
    )
    assert manifest["layers"][0]["warnings"] == ["one", told]
    assert account.json(f"catalogue/releases/{WEB}/2.json")["warnings"] == ["one", told]
    assert set(releases(account).listed()[WEB]) == ({1, 2} if keep == "0" else {2})
    assert account.json(MANIFEST)["status"] == "SUCCEEDED"


def test_a_version_stays_as_long_as_its_document(
    account: Any, handler: Call, build: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next release finds it, and the catalogue does not show what is no more."""
    monkeypatch.setenv("KEEP_VERSIONS", "1")
    run(account, handler, lambda target: build(target, "a"), account.upload(KEY, b"requests"))
    real = Releases.delete

    def fail(*_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://s3")

    monkeypatch.setattr(Releases, "delete", fail)
    result, _ = run(
        account, handler, lambda target: build(target, "b"), account.upload(KEY, b"requests>1", "00A1")
    )
    assert result["status"] == "SUCCEEDED"
    assert len(account.lambda_.list_layer_versions(LayerName=WEB)["LayerVersions"]) == 2
    monkeypatch.setattr(Releases, "delete", real)
    run(account, handler, lambda target: build(target, "c"), account.upload(KEY, b"requests>2", "00A2"))
    assert [
        one["Version"] for one in account.lambda_.list_layer_versions(LayerName=WEB)["LayerVersions"]
    ] == [3]
    assert set(releases(account).listed()[WEB]) == {3}
