"""The client of the vulnerability database, against one on loopback that behaves well, and that does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import layerdrop
from layerdrop.watch import osv
from layerdrop.watch.osv import Database, DatabaseError, Match, Package, RefusedError, UnusableError, base_of
from tests import osv_database
from tests.osv_database import Osv, advisory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.osv_database import Fault

URLLIB3 = Package("urllib3", "2.4.0")
GHSA = "GHSA-48p4-8xcf-vxj5"


class Clock:
    """Waits that take no time."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.left = 1000.0

    def pause(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.left -= seconds


@pytest.fixture
def served() -> Iterator[Osv]:
    with Osv(advisory(GHSA, aliases=["CVE-2025-50182"])) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(served: Osv, clock: Clock) -> Iterator[Database]:
    connections = osv.connections()
    yield Database(served.url, connections, lambda: clock.left, clock.pause)
    connections.clear()


def ids(found: frozenset[Match] | None) -> set[str]:
    assert found is not None
    return {match.id for match in found}


def test_packages_are_asked_about_by_purl(database: Database, served: Osv) -> None:
    packages = [URLLIB3, Package("urllib3", "2.5.0"), Package("torch", "2.6.0+cpu")]
    found = database.matches(packages)
    assert {package: ids(known) for package, known in found.items()} == {
        packages[0]: {GHSA},
        packages[1]: set(),
        packages[2]: set(),
    }
    assert served.purls == ["pkg:pypi/urllib3@2.4.0", "pkg:pypi/urllib3@2.5.0", "pkg:pypi/torch@2.6.0%2Bcpu"]
    assert served.asked == {"/v1/querybatch": 1}
    assert served.headers["User-Agent"] == "layerdrop"


def test_no_batch_is_larger_than_the_database_takes(database: Database, served: Osv) -> None:
    packages = [Package("urllib3", f"2.4.{number}") for number in range(2500)]
    found = database.matches(packages)
    assert all(ids(known) == {GHSA} for known in found.values())
    assert served.asked == {"/v1/querybatch": 3}


def test_pages_are_followed_of_those_that_have_more(database: Database, served: Osv) -> None:
    served.add(*(advisory(f"PYSEC-2025-{number}") for number in range(7)))
    served.add(advisory("PYSEC-2024-1", "idna"))
    served.page = 3
    found = database.matches([Package("idna", "1.0"), URLLIB3])
    assert ids(found[URLLIB3]) == {GHSA, *(f"PYSEC-2025-{number}" for number in range(7))}
    assert ids(found[Package("idna", "1.0")]) == {"PYSEC-2024-1"}
    assert served.purls == ["pkg:pypi/idna@1.0", *["pkg:pypi/urllib3@2.4.0"] * 3]


def test_a_page_may_have_a_token_only(database: Database, served: Osv) -> None:
    served.faults = [osv_database.body(b'{"results": [{"next_page_token": "0"}]}')]
    assert ids(database.matches([URLLIB3])[URLLIB3]) == {GHSA}


@pytest.mark.attack("vulnerability database: pages without end")
def test_pages_come_to_an_end(database: Database, served: Osv) -> None:
    served.always = lambda _path: osv_database.body(b'{"results": [{"next_page_token": "again"}]}')
    with pytest.raises(DatabaseError, match="more than 20 pages"):
        database.matches([URLLIB3])


def test_a_record_is_read(database: Database) -> None:
    assert database.record(GHSA)["aliases"] == ["CVE-2025-50182"]


def test_a_record_that_is_not_there(database: Database) -> None:
    with pytest.raises(RefusedError):
        database.record("GHSA-aaaa-bbbb-cccc")


def test_another_record_is_none(database: Database, served: Osv) -> None:
    served.records["PYSEC-2025-1"] = served.records[GHSA]
    with pytest.raises(UnusableError):
        database.record("PYSEC-2025-1")


@pytest.mark.parametrize(
    "fault",
    [
        *(osv_database.status(number) for number in (408, 429, 500, 502, 503, 504)),
        osv_database.cut,
        osv_database.hang_up,
    ],
    ids=["408", "429", "500", "502", "503", "504", "cut", "hangs up"],
)
def test_what_passes_is_tried_again(database: Database, served: Osv, clock: Clock, fault: Fault) -> None:
    served.faults = [fault] * 3
    assert ids(database.matches([URLLIB3])[URLLIB3]) == {GHSA}
    assert len(clock.waited) == 3
    assert clock.waited == sorted(clock.waited)  # longer each time
    assert all(0 < seconds <= 4 for seconds in clock.waited)


def test_it_is_not_tried_for_ever(database: Database, served: Osv) -> None:
    served.always = lambda _path: osv_database.status(503)
    with pytest.raises(DatabaseError, match="after 4 attempts: it answers 503"):
        database.matches([URLLIB3])
    assert served.asked["/v1/querybatch"] == 4


@pytest.mark.parametrize(("asked_for", "waited"), [("7", 7.0), ("86400", 20.0), ("soon", 4.0), ("-5", 4.0)])
def test_it_is_waited_as_asked_for_within_bounds(
    database: Database, served: Osv, clock: Clock, asked_for: str, waited: float
) -> None:
    served.faults = [osv_database.status(429, Retry_After=asked_for)]
    database.matches([URLLIB3])
    [seconds] = clock.waited
    assert seconds == waited if waited != 4.0 else 0 < seconds <= 4.0


def test_no_more_is_asked_when_time_is_up(database: Database, served: Osv, clock: Clock) -> None:
    clock.left = 1.0
    served.always = lambda _path: osv_database.status(429, Retry_After="15")
    with pytest.raises(DatabaseError, match="no time left"):
        database.matches([URLLIB3])
    assert served.asked["/v1/querybatch"] == 1


def test_nobody_is_there(clock: Clock) -> None:
    with Osv() as gone:
        pass
    with pytest.raises(DatabaseError, match="after 4 attempts"):
        Database(gone.url, osv.connections(), lambda: clock.left, clock.pause).matches([URLLIB3])


@pytest.mark.attack("vulnerability database: answers that never end")
@pytest.mark.parametrize("fault", [osv_database.endless, osv_database.dripping])
def test_an_answer_has_bounds(
    database: Database, served: Osv, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(osv, "_SECONDS", 0.3)
    served.always = lambda _path: fault
    with pytest.raises(DatabaseError, match=r"longer than 8,388,608 bytes|does not come to an end|timed out"):
        database.matches([URLLIB3])


@pytest.mark.attack("vulnerability database: leads elsewhere, as to an address inside")
@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_it_leads_nowhere(database: Database, number: int) -> None:
    with Osv(advisory(GHSA)) as elsewhere, Osv() as first:
        database.address = first.url
        first.always = lambda path: osv_database.status(number, Location=elsewhere.url + path)
        with pytest.raises(DatabaseError, match=f"answers {number} and leads to"):
            database.matches([URLLIB3])
        with pytest.raises(DatabaseError, match=f"answers {number} and leads to"):
            database.record(GHSA)
        assert not elsewhere.asked
        assert first.asked.total() == 2


@pytest.mark.parametrize(
    "content",
    [
        b"<html>Sign in to the wireless network</html>",
        b"[]",
        b"null",
        b"{}",
        b'{"results": []}',
        b'{"results": [{}, {}]}',
        b'{"results": {"0": {}}}',
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
    ],
)
def test_an_answer_that_is_none(database: Database, served: Osv, content: bytes) -> None:
    served.faults = [osv_database.body(content)]
    with pytest.raises(UnusableError):
        database.matches([URLLIB3])


READ = """
import sys
from pathlib import Path
from layerdrop.watch import osv
try:
    osv._json(sys.stdin.buffer.read())
except osv.UnusableError:
    pass
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10)
"""


@pytest.mark.attack(
    "vulnerability database: an answer of brackets, or one of wide characters, that takes all memory"
)
@pytest.mark.parametrize("unit", ["{},", '{"":[]},', '"\U0001f600",'])
def test_an_answer_of_nothing_but_structure_costs_little(unit: str) -> None:
    size = osv.MAX_BATCH_BYTES - 100
    content = '{"results": [' + unit * (size // len(unit.encode())) + "0]}"
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=content.encode(),
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(layerdrop.__file__).parents[1])},
    )
    assert int(done.stdout) < 300_000_000


@pytest.mark.attack("vulnerability database: ids that are paths or terminal escapes")
def test_ids_that_are_none_are_left_out(database: Database, served: Osv) -> None:
    vulns = [
        {"id": "../../admin", "modified": "x"},
        {"id": "GHSA-\x1b[2J", "modified": "x"},
        {"id": "A" * 101, "modified": "x"},
        {"id": 7, "modified": "x"},
        {"id": "", "modified": "x"},
        "GHSA-1",
        {"id": "PYSEC-2025-1", "modified": 7},
        {"id": "PYSEC-2025-2", "modified": "2" * 1000},
    ]
    served.faults = [osv_database.body(json.dumps({"results": [{"vulns": vulns}]}).encode())]
    found = database.matches([URLLIB3])[URLLIB3]
    assert found == {Match("PYSEC-2025-1", ""), Match("PYSEC-2025-2", "2" * 64)}


def test_a_package_that_it_does_not_take_spoils_no_other(database: Database, served: Osv) -> None:
    served.refuses = {"odd", "odder"}
    packages = [
        Package("odd", "1.0"),
        *(Package("urllib3", f"2.4.{n}") for n in range(200)),
        Package("odder", "1"),
    ]
    found = database.matches(packages)
    assert found[packages[0]] is None
    assert found[packages[-1]] is None
    assert all(ids(found[package]) == {GHSA} for package in packages[1:-1])


def test_it_is_not_asked_without_end_what_it_does_not_take(database: Database, served: Osv) -> None:
    served.always = lambda path: osv_database.status(400) if path == "/v1/querybatch" else None
    with pytest.raises(RefusedError):
        database.matches([Package("a", str(number)) for number in range(1000)])
    assert served.asked["/v1/querybatch"] <= 25


@pytest.mark.parametrize("number", [401, 403, 451])
def test_somebody_in_between_refuses(database: Database, served: Osv, number: int) -> None:
    served.always = lambda _path: osv_database.status(number)
    with pytest.raises(DatabaseError, match=f"it answers {number}"):
        database.matches([URLLIB3])
    assert served.asked["/v1/querybatch"] == 1


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("https://api.osv.dev", "https://api.osv.dev"),
        ("https://api.osv.dev/", "https://api.osv.dev"),
        ("http://mirror.internal:8080/osv/", "http://mirror.internal:8080/osv"),
        ("http://[fd00::1]:8080", "http://[fd00::1]:8080"),
    ],
)
def test_an_address(address: str, base: str) -> None:
    assert base_of(address) == base


@pytest.mark.parametrize(
    "address",
    [
        "api.osv.dev",
        "ftp://x",
        "file:///etc/passwd",
        "https://",
        "https://me:secret@x",
        "https://x?y",
        "https://x#y",
        "",
    ],
)
def test_no_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"no address|has more than"):
        base_of(address)
