"""From a database's records to findings: severities, alias groups, versions that mend, what is ignored."""

from __future__ import annotations

import json
import time
from itertools import permutations
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdrop.watch.advisories import Advisory
from layerdrop.watch.findings import Finding, findings
from layerdrop.watch.osv import Package
from tests.catalogue_documents import schema
from tests.osv_database import advisory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOW = "2026-11-22T10:00:00.000Z"
LATER = "2026-11-23T10:00:00.000Z"
PACKAGE = Package("urllib3", "2.4.0")
GHSA, CVE, PYSEC = "GHSA-48p4-8xcf-vxj5", "CVE-2025-50182", "PYSEC-2025-77"
V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"
V31 = "CVSS:3.1/AV:N/AC:H/PR:L/UI:N/S:U/C:H/I:N/A:N"
V30 = "CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
V2 = "AV:N/AC:L/Au:N/C:N/I:P/A:C"


def read(record: dict[str, Any]) -> Advisory:
    found = Advisory.of(record, record["modified"])
    kept = json.loads(json.dumps(found.to_json()))
    assert Advisory.from_json(found.id, kept) == found
    return found


def found_in(
    *records: dict[str, Any],
    package: Package = PACKAGE,
    before: Sequence[Finding] = (),
    ignore: Mapping[str, str] | None = None,
    now: str = NOW,
) -> tuple[Finding, ...]:
    found = findings({package: tuple(map(read, records))}, before, ignore or {}, now)
    validator = jsonschema.Draft202012Validator(
        schema("vulnerabilities")["$defs"]["finding"] | {"$defs": schema("vulnerabilities")["$defs"]}
    )
    for one in found:
        validator.validate(one.to_json())
        assert Finding.from_json(json.loads(json.dumps(one.to_json()))) == one
    return found


@pytest.mark.parametrize(
    ("severity", "score", "word"),
    [
        ([("CVSS_V3", V31), ("CVSS_V4", V4)], 9.3, "CRITICAL"),
        ([("CVSS_V3", V31)], 5.3, "MEDIUM"),
        ([("CVSS_V3", V30)], 9.8, "CRITICAL"),
        ([("CVSS_V2", V2)], 8.5, "HIGH"),
        ([("CVSS_V4", V4.replace("H", "N"))], 0.0, "NONE"),
        ([("CVSS_V3", "CVSS:3.1/AV:N"), ("CVSS_V2", V2)], 8.5, "HIGH"),
        ([("CVSS_V3", "nonsense")], None, "UNKNOWN"),
        ([("Ubuntu", "high")], None, "UNKNOWN"),
        ([("CVSS_V3", V31 + "/" + "X" * 1000)], None, "UNKNOWN"),
        ([], None, "UNKNOWN"),
    ],
)
def test_severity_by_the_newest_standard(severity: Any, score: float | None, word: str) -> None:
    [finding] = found_in(advisory(GHSA, severity=severity))
    assert (finding.score, finding.severity) == (score, word)


@pytest.mark.parametrize(
    ("word", "severity"), [("MODERATE", "MEDIUM"), ("HIGH", "HIGH"), ("low", "LOW"), ("bad", "UNKNOWN")]
)
def test_severity_in_the_database_s_own_word(word: str, severity: str) -> None:
    [finding] = found_in(advisory(GHSA, database_specific={"severity": word, "github_reviewed": True}))
    assert (finding.score, finding.severity) == (None, severity)


def test_severity_of_the_affected_package() -> None:
    record = advisory(GHSA)
    record["affected"][0]["severity"] = [{"type": "CVSS_V3", "score": V31}]
    assert found_in(record)[0].score == 5.3


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_one_hole_by_several_names_is_one_finding(order: tuple[int, ...]) -> None:
    records = [
        advisory(GHSA, aliases=[CVE], severity=[("CVSS_V3", V31)]),
        advisory(PYSEC, aliases=[CVE], summary=None, severity=[("CVSS_V3", V30)]),
        advisory("PYSEC-2025-1", summary="Another"),
    ]
    other, one = sorted(found_in(*(records[number] for number in order)), key=lambda each: len(each.aliases))
    assert (one.id, one.aliases, one.score) == (GHSA, (CVE, PYSEC), 5.3)
    assert one.url == f"https://osv.dev/vulnerability/{GHSA}"
    assert (other.id, other.aliases) == ("PYSEC-2025-1", ())


def test_names_are_chained() -> None:
    records = [
        advisory("PYSEC-2025-1", aliases=["CVE-2025-1"]),
        advisory("PYSEC-2025-2", aliases=["CVE-2025-2"]),
        advisory("OSV-2025-3", aliases=["CVE-2025-1", "CVE-2025-2"]),
    ]
    [finding] = found_in(*records)
    assert finding.id == "CVE-2025-1"
    assert set(finding.aliases) == {"CVE-2025-2", "OSV-2025-3", "PYSEC-2025-1", "PYSEC-2025-2"}
    # Of a name that is an alias only the database has no page.
    assert finding.url == "https://osv.dev/vulnerability/PYSEC-2025-1"


@pytest.mark.attack("vulnerability database: thousands of advisories of one package, with twenty names each")
def test_names_are_compared_in_proportion() -> None:
    known = [
        Advisory(f"GHSA-{number}", aliases=tuple(f"CVE-{number}-{alias}" for alias in range(20)))
        for number in range(5_000)
    ]
    begun = time.process_time()
    found = findings({Package("a", "1.0"): known}, (), {}, "2026-11-20T10:00:00.000Z")
    assert time.process_time() - begun < 2.5
    assert len(found) == 500


def test_related_ones_are_not_the_same() -> None:
    assert (
        len(found_in(advisory(GHSA, related=[PYSEC]), advisory(PYSEC, related=[GHSA], upstream=[CVE]))) == 2
    )


def test_what_was_withdrawn_is_none() -> None:
    assert not found_in(advisory(GHSA, withdrawn="2025-07-01T00:00:00Z"))
    [finding] = found_in(
        advisory(GHSA, withdrawn="2025-07-01T00:00:00Z", aliases=[CVE]), advisory(PYSEC, aliases=[CVE])
    )
    assert finding.id == CVE


def test_what_mends_it_is_greater() -> None:
    several = [
        [{"introduced": "0"}, {"fixed": "1.26.19"}],
        [{"introduced": "2.0.0"}, {"fixed": "2.4.1"}, {"introduced": "2.5.0a1"}, {"fixed": "2.10.0"}],
        [{"introduced": "3"}, {"last_affected": "3.1"}],
    ]
    record = advisory(GHSA, ranges=several)
    record["affected"][0]["ranges"].append(
        {"type": "GIT", "repo": "https://x", "events": [{"introduced": "0"}, {"fixed": "9" * 40}]}
    )
    record["affected"].append(
        {
            "package": {"ecosystem": "PyPI", "name": "botocore"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "7.0"}]}],
        }
    )
    record["affected"].append(
        {
            "package": {"ecosystem": "Debian:12", "name": "urllib3"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "8.0"}]}],
        }
    )
    [finding] = found_in(record)
    assert finding.fixed_in == ("2.4.1", "2.10.0")


def test_a_name_is_the_same_in_any_spelling() -> None:
    record = advisory(GHSA, "Zope.Interface", ranges=[[{"introduced": "0"}, {"fixed": "6.0"}]])
    assert found_in(record, package=Package("zope-interface", "5.0"))[0].fixed_in == ("6.0",)


def test_none_mends_it() -> None:
    assert found_in(advisory(GHSA, ranges=[[{"introduced": "0"}]]))[0].fixed_in == ()


def test_it_is_ignored_by_any_of_its_names() -> None:
    pair = advisory(GHSA, aliases=[CVE]), advisory(PYSEC, aliases=[CVE])
    for name in (GHSA, CVE, PYSEC, GHSA.lower()):
        [finding] = found_in(*pair, ignore={name: "we follow no redirects\x1b[2J"})
        assert finding.ignored == "we follow no redirects\\x1b[2J"
        assert not finding.is_open
        assert not finding.is_to_be_told
    assert found_in(*pair, ignore={"GHSA-aaaa-bbbb-cccc": "other"})[0].is_to_be_told


def test_when_it_was_seen_and_told_of_is_remembered() -> None:
    [first] = found_in(advisory(PYSEC))
    told = Finding.from_json(first.to_json() | {"told": NOW})
    # It has got another name, and the layer another version.
    [again] = found_in(
        advisory(PYSEC, aliases=[GHSA]),
        advisory(GHSA, aliases=[PYSEC]),
        package=Package("urllib3", "2.4.1"),
        before=[told],
        now=LATER,
    )
    assert (again.id, again.first_seen, again.told, again.version) == (GHSA, NOW, NOW, "2.4.1")
    [new] = found_in(advisory("PYSEC-2026-1"), before=[told], now=LATER)
    assert (new.first_seen, new.told) == (LATER, None)
    [elsewhere] = found_in(advisory(PYSEC, "idna"), package=Package("idna", "1.0"), before=[told], now=LATER)
    assert elsewhere.told is None


def test_two_that_become_one_were_told_of() -> None:
    before = [
        Finding.from_json(one.to_json() | {"told": told})
        for one, told in zip(found_in(advisory(GHSA), advisory(PYSEC)), (None, NOW), strict=True)
    ]
    [finding] = found_in(advisory(GHSA, aliases=[PYSEC]), advisory(PYSEC), before=before, now=LATER)
    assert finding.told == NOW


def test_what_cannot_be_asked_about_stays_as_it_was() -> None:
    before = found_in(advisory(GHSA))
    assert findings({PACKAGE: None}, before, {}, LATER) == before
    assert findings({Package("urllib3", "2.5.0"): None}, before, {}, LATER) == ()


def test_the_worst_come_first() -> None:
    severities = [("CVSS_V2", V2)], [], [("CVSS_V3", V31)], [("CVSS_V4", V4)]
    found = found_in(
        *(advisory(f"PYSEC-2025-{number}", severity=one) for number, one in enumerate(severities))
    )
    assert [one.severity for one in found] == ["CRITICAL", "HIGH", "MEDIUM", "UNKNOWN"]


@pytest.mark.attack("vulnerability database: words that a terminal obeys, and megabytes of them")
def test_what_it_says_is_shown_within_bounds() -> None:
    record = advisory(
        GHSA,
        summary="\x1b]0;pwned\x07 \u202e" + "x" * 1_000_000,
        aliases=[f"CVE-2025-{number}" for number in range(10_000)] + ["../x", "", 7, None],
        ranges=[
            [{"fixed": f"3.{number}"} for number in range(10_000)],
            [{"fixed": "9" * 100_000}, {"fixed": "no"}],
        ],
    )
    [finding] = found_in(record)
    assert len(json.dumps(finding.to_json())) < 6000
    assert not set(finding.summary) & {"\x1b", "\x07", "\u202e"}
    assert "\\x1b" in finding.summary


def test_a_record_without_a_summary_has_the_beginning_of_its_details() -> None:
    assert found_in(advisory(PYSEC, summary=None))[0].summary == "More of it, in several paragraphs."
    assert found_in(advisory(PYSEC, summary=None, details=None))[0].summary == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["aliases", "withdrawn", "summary", "details", "severity", "affected", "database_specific", "modified"]
)


@given(st.dictionaries(FIELDS, JSON), JSON)
def test_whatever_a_record_holds_something_can_be_said(fields: dict[str, Any], inner: Any) -> None:
    record = advisory(GHSA) | fields
    for affected in record["affected"] if isinstance(record["affected"], list) else ():
        if isinstance(affected, dict):
            affected["ranges"] = inner
    found_in({**record, "modified": "x"})
