"""Who published a wheel is found where the index says it, and never at the cost of the build."""

from __future__ import annotations

import json
import time
import tomllib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.pylock import Pylock

from layer_builder.build import build
from layer_builder.ground.settings import Settings
from layer_builder.indexes import index as pages
from layer_builder.indexes import sources
from layer_builder.options import Options
from layer_builder.requirements.origins import Origins
from layer_builder.results.report import Report
from layer_builder.wheels import publishers
from layer_builder.wheels.fetch import path_of
from layer_builder.wheels.pick import NOT_SAID, said
from layer_builder.wheels.publishers import Attested, Search, publishers_in
from tests.unit.builder.test_cooldown import public as public
from tests.unit.builder.test_record import bucket as bucket
from tests.unit.builder.test_record import objects
from tests.unit.builder.test_report import VALIDATOR
from tests.unit.builder.wheel_maker import Index, make_wheel, pick_of

if TYPE_CHECKING:
    from layer_builder.wheels.pick import Pick

GITHUB = {"kind": "GitHub", "repository": "acme/app", "workflow": "release.yml", "environment": None}
GITLAB = {"kind": "GitLab", "repository": "acme/sub/dep", "workflow_filepath": ".gitlab-ci.yml"}
GOOGLE = {"kind": "Google", "email": "robot@acme.iam.gserviceaccount.com"}


def provenance(*given: dict[str, Any]) -> bytes:
    """A provenance object as PEP 740 shows it; its signatures are none."""
    attestation = {
        "version": 1,
        "envelope": {"signature": "MEUC", "statement": "eyJf"},
        "verification_material": {"certificate": "MIIG", "transparency_entries": [{"logIndex": "1"}]},
    }
    bundles = [{"publisher": one, "attestations": [attestation]} for one in given]
    return json.dumps({"version": 1, "attestation_bundles": bundles}).encode()


def attested(index: Index, **given: tuple[dict[str, Any], ...]) -> None:
    """Have the index name publishers of projects' files."""
    index.version = "1.3"
    known = {name.replace("_", "-"): some for name, some in given.items()}

    def where(filename: str) -> str | None:
        name = filename.split("-")[0].replace("_", "-")
        path = f"/integrity/{name}/{filename}/provenance"
        if name in known:
            index.provenances[path] = provenance(*known[name])
        return path if name in known else None

    index.provenance = where


def asked(index: Index) -> list[str]:
    return [path for path in index.requested if path.startswith("/integrity/")]


def built(tmp_path: Path, settings: Settings, **options: Any) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Build; return the report, and lock and bill of materials beside it."""
    report, place = Report("x86_64", "python3.13"), tmp_path / "out" / "report.json"
    place.parent.mkdir(exist_ok=True)
    given = {"architecture": "x86_64", "import_check": False, "bytecode": False, **options}
    build(Options(output=str(tmp_path / "layer.zip"), report=str(place), **given), settings, report)
    document = json.loads(report.to_json())
    VALIDATOR.validate(document)
    bill = json.loads((place.parent / "sbom.cdx.json").read_text())
    return document, (place.parent / "pylock.toml").read_text(), bill


def of(report: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {one["name"]: (one["attested"], one["publisher"], one["publishers"]) for one in report["packages"]}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((GITHUB,), (GITHUB,)),
        ((GITHUB | {"environment": "pypi", "claims": {"ref": "x"}},), (GITHUB | {"environment": "pypi"},)),
        ((GITLAB, GITHUB, GITLAB), (GITLAB, GITHUB)),
        ((GITLAB | {"environment": None},), (GITLAB,)),
        ((GOOGLE,), (GOOGLE,)),
        (({"kind": "Forge", "who": "x", "number": 5, "": "y", "a b": "z", "long": "l" * 301},),
         ({"kind": "Forge", "who": "x"},)),
        (tuple({"kind": "K", "who": str(one)} for one in range(30)),
         tuple({"kind": "K", "who": str(one)} for one in range(10))),
        ((), ()),
    ],
)  # fmt: skip
def test_whom_a_provenance_names(given: tuple[dict[str, Any], ...], found: tuple[Any, ...]) -> None:
    assert publishers_in(provenance(*given)) == found


HOSTILE = {
    "nothing": b"",
    "no JSON": b"<html>",
    "no object": b"[]",
    "null": b"null",
    "no bundles": b"{}",
    "bundles of nothing": b'{"attestation_bundles": [1]}',
    "no publisher": b'{"attestation_bundles": [{}]}',
    "no kind": b'{"attestation_bundles": [{"publisher": {"repository": "a/b"}}]}',
    "a kind that is none": b'{"attestation_bundles": [{"publisher": {"kind": ["GitHub"]}}]}',
    "no text": b"\xff\xfe",
    "deep": b'{"attestation_bundles": ' + b"[" * 9_000,
    "deeper": b'{"attestation_bundles": ' + b"[" * 900_000,
    "long": provenance(GITHUB) + b" " * (1 << 20),
}


@pytest.mark.attack(
    "a provenance of 1 MB that names thousands of publishers, each to be told from all others"
)
def test_a_provenance_of_thousands_of_publishers_costs_little() -> None:
    content = provenance(*({"kind": str(number)} for number in range(25_000)))
    begun = time.process_time()
    assert len(publishers_in(content)) == 10
    assert time.process_time() - begun < 1


@pytest.mark.sample(3)
@pytest.mark.attack("a provenance object that is none, or meant to cost much")
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_provenance_that_is_none_costs_nothing(
    index: Index, settings: Settings, tmp_path: Path, content: bytes
) -> None:
    make_wheel(index.folder, "app")
    attested(index, app=(GITHUB,))
    where = index.provenance
    index.provenance = lambda name: (where(name), index.provenances.update({str(where(name)): content}))[0]
    began = time.monotonic()
    report, text, _ = built(tmp_path, settings, inline="app")
    assert time.monotonic() - began < 10
    assert of(report) == {"app": (True, None, [])}
    assert report["warnings"] == []
    assert "attestation" not in text


@pytest.fixture(params=["relay", "uv", "lock", "html"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the builder comes to know the index's page."""
    return str(request.param)


def test_report_lock_and_bill_name_the_publishers(
    index: Index, settings: Settings, public: Settings, tmp_path: Path, way: str
) -> None:
    make_wheel(index.folder, "app", requires=("dep", "plain"))
    make_wheel(index.folder, "dep")
    make_wheel(index.folder, "plain")
    given: dict[str, Any] = {"inline": "app"}
    if way == "lock":
        _, text, _ = built(tmp_path, settings, **given)
        given = {"path": str(tmp_path / "pylock.toml")}
        Path(given["path"]).write_text(text)
        settings = replace(settings, cache=tmp_path / "new")
    attested(index, app=(GITHUB,), dep=(GITLAB, GITHUB | {"environment": "pypi"}))
    index.html = way == "html"
    index.requested.clear()
    report, text, bill = built(tmp_path, public if way == "uv" else settings, **given)
    nobody = (None if index.html else False, None, [])
    assert of(report) == {
        "app": (True, GITHUB, [GITHUB]),
        "dep": (True, GITLAB, [GITLAB, GITHUB | {"environment": "pypi"}]),
        "plain": nobody,
    }
    assert len(asked(index)) == 2
    # Behind the relay and from a lock the page is read but once.
    pages_read = [path for path in index.requested if path == "/simple/app/"]
    assert len(pages_read) == (2 if way == "uv" else 1)
    lock = Pylock.from_dict(tomllib.loads(text))
    identities = {package.name: package.attestation_identities for package in lock.packages}
    assert identities == {
        "app": [{name: text for name, text in GITHUB.items() if text}],
        "dep": [GITLAB, {**GITHUB, "environment": "pypi"}],
        "plain": None,
    }
    found = {one["name"]: one for one in bill["components"]}
    (reference,) = found["app"]["externalReferences"]
    assert reference["type"] == "attestation"
    assert reference["url"].endswith("/integrity/app/app-1.0-py3-none-any.whl/provenance")
    assert found["app"]["properties"] == [
        {"name": "layerdrop:publisher", "value": "GitHub: acme/app, release.yml"}
    ]
    assert len(found["dep"]["properties"]) == 2
    assert not {"externalReferences", "properties"} & found["plain"].keys()


def test_the_digest_and_the_zip_do_not_depend_on_it(index: Index, settings: Settings, tmp_path: Path) -> None:
    make_wheel(index.folder, "app")
    before, _, _ = built(tmp_path, settings, inline="app")
    attested(index, app=(GITHUB,))
    after, _, _ = built(tmp_path, replace(settings, cache=tmp_path / "new"), inline="app")
    assert of(after) != of(before)
    for part in ("digest", "code_sha256"):
        assert after["layer"][part] == before["layer"][part]


def test_with_a_warm_cache_nothing_is_asked(index: Index, public: Settings, tmp_path: Path) -> None:
    for name in ("app", "plain"):
        make_wheel(index.folder, name)
    attested(index, app=(GITHUB,))
    first, _, _ = built(tmp_path, public, inline="app|plain")
    index.requested.clear()
    again, _, _ = built(tmp_path, public, inline="app|plain")
    assert of(again) == of(first) == {"app": (True, GITHUB, [GITHUB]), "plain": (False, None, [])}
    assert index.requested == []


def test_what_an_index_does_not_say_is_asked_again_some_day(
    index: Index, public: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(index.folder, "app")
    first, _, _ = built(tmp_path, public, inline="app")
    assert of(first) == {"app": (None, None, [])}
    attested(index, app=(GITHUB,))
    again, _, _ = built(tmp_path, public, inline="app")
    assert of(again) == of(first)
    monkeypatch.setattr(publishers, "_KEPT", 0.0)
    later, _, _ = built(tmp_path, public, inline="app")
    assert of(later) == {"app": (True, GITHUB, [GITHUB])}


def picks(index: Index, *names: str) -> list[Pick]:
    found = []
    for name in names:
        pick = pick_of(make_wheel(index.folder, name))
        page = pages.files_of(name, index.url, sources.of(Settings(index.folder, index.url)).access)
        found.append(replace(pick, provenance=said(page[0].provenance if page else None)))
    return found


def test_an_index_that_is_slow_is_not_waited_for(index: Index, settings: Settings) -> None:
    attested(index, app=(GITHUB,), dep=(GITHUB,))
    some = picks(index, "app", "dep")
    with ExitStack() as end:
        index.before = lambda path: time.sleep(3) if "/integrity/dep" in path else None
        search = Search(some, settings, Origins())
        end.callback(search.stop)
        began = time.monotonic()
        found = search.found(patience=1.0)
        assert time.monotonic() - began < 2
    assert found["app"].publishers == (GITHUB,)
    assert "dep" not in found


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_index_that_refuses_is_no_error(
    index: Index, settings: Settings, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layer_builder.indexes import web

    monkeypatch.setattr(web, "_RETRIES", 0)
    attested(index, app=(GITHUB,))
    some = picks(index, "app")
    index.status = lambda path: status if "/integrity/" in path else 200
    web.pool.cache_clear()
    found = Search(some, settings, Origins()).found(5)
    web.pool.cache_clear()
    assert found["app"] == Attested(True, some[0].provenance)


@pytest.mark.sample(3)
@pytest.mark.attack("a page names a provenance where a build must not go, or where anybody could change it")
@pytest.mark.parametrize(
    "where",
    ["http://169.254.169.254/latest/meta-data", "http://192.0.2.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd",
     "https://169.254.169.254/latest", "https://user:secret@169.254.169.254/", "https://a\\@b/", "https://[",
     "//169.254.169.254/x", "javascript:alert(1)",
     "https://169.254.169.254/a b", "https://169.254.169.254/<b>", f"https://x/{'y' * 3000}"],
)  # fmt: skip
def test_a_provenance_elsewhere_is_not_followed(
    index: Index, settings: Settings, tmp_path: Path, where: str
) -> None:
    make_wheel(index.folder, "app")
    index.version, index.provenance = "1.3", lambda _: where
    report, text, bill = built(tmp_path, settings, inline="app")
    (package,) = report["packages"]
    assert package["publisher"] is None
    assert "secret" not in json.dumps([report, bill]) + text


@pytest.mark.attack("an index's credentials go with the request for a provenance elsewhere")
def test_credentials_stay_with_their_index(tmp_path: Path, settings: Settings) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with Index(tmp_path / "one", login="user:secret") as index, Index(tmp_path / "two") as other:
        make_wheel(index.folder, "app")
        index.version, place = "1.3", other.url.replace("/simple", "/integrity/app")
        other.provenances["/integrity/app"] = provenance(GITHUB)
        index.provenance = lambda _: place
        from layer_builder.ground.login import Login
        from layer_builder.requirements.origins import origin_of

        logins = ((origin_of(index.url), Login("user", "secret")),)
        theirs = Settings(tmp_path / "c", index.url, logins=logins, allowed_indexes=(other.url,))
        report, _, _ = built(tmp_path, theirs, inline="app")
        assert other.seen == [] and of(report)["app"][1] is None  # another origin, and no HTTPS
        index.moved = lambda path: place if "/integrity/" in path else ""
        index.provenance = lambda _: "/integrity/moved"
        report, _, _ = built(tmp_path, replace(theirs, cache=tmp_path / "d"), inline="app")
        assert of(report)["app"][1] == GITHUB
        assert other.seen == [None]


@pytest.mark.parametrize(
    ("version", "given", "found"),
    [("1.0", None, None), ("1.2", None, None), ("1.3", None, ""), ("1.4", None, ""), ("2.0", None, None),
     ("x", None, None), ("1.0", "/integrity/x", "INDEX/integrity/x"),
     ("1.3", "https://else.example/x", "https://else.example/x")],
)  # fmt: skip
def test_what_a_page_says(
    index: Index, settings: Settings, version: str, given: str | None, found: str | None
) -> None:
    make_wheel(index.folder, "app")
    index.version, index.provenance = version, lambda _: given
    (file,) = sources.of(settings).files_of("app")
    assert file.provenance == (found and found.replace("INDEX", index.url.removesuffix("/simple")))
    assert said(file.provenance) == (NOT_SAID if found is None else file.provenance)


def test_a_layer_that_is_there_already_tells_it_again(
    bucket: Any, index: Index, settings: Settings, tmp_path: Path
) -> None:
    make_wheel(index.folder, "app")
    attested(index, app=(GITHUB, GITLAB))
    reports = []
    for number in (1, 2):
        report = Report("x86_64", "python3.13")
        options = Options(
            inline="app", output="s3://bucket/layers/", report="s3://bucket/out/report.json",
            architecture="x86_64", import_check=False, bytecode=False,
        )  # fmt: skip
        index.requested.clear()
        build(options, replace(settings, cache=tmp_path / str(number)), report)
        reports.append(json.loads(report.to_json())["packages"])
        left = objects(bucket, "out/")
        assert b"attestation-identities" in left["pylock.toml"]
        assert b"acme/app" in left["sbom.cdx.json"]
    assert reports[0] == reports[1]
    assert asked(index) == []


def test_a_record_of_before_is_read() -> None:
    from layer_builder.results import record

    old = {
        "name": "app",
        "version": "1",
        "wheel": "a.whl",
        "sha256": "0" * 64,
        "unzipped_bytes": 1,
        "license": None,
    }
    assert record._package(old).publishers == ()


def test_it_lies_beside_the_wheel(index: Index, settings: Settings) -> None:
    attested(index, app=(GITHUB,))
    (pick,) = picks(index, "app")
    Search([pick], settings, Origins()).found(5)
    place = path_of(pick, settings).with_name("publishers.json")
    assert json.loads(place.read_bytes())["publishers"] == [GITHUB]
    place.write_text('{"attested": true, "provenance": "x", "publishers": [5]}')
    index.requested.clear()
    assert Search([pick], settings, Origins()).found(5)["app"].publishers == (GITHUB,)
    assert asked(index)
