"""A vulnerability database on loopback, which answers as OSV does: https://google.github.io/osv.dev/api/.

It decides by itself which versions an advisory affects, by the evaluation that the OSV schema describes:
https://ossf.github.io/osv-schema/#evaluation
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from packageurl import PackageURL
from packaging.version import Version

from tests.loopback import Handler, Loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Fault = Callable[["_Handler"], None]

EVENT = {"introduced", "fixed", "last_affected"}


def advisory(
    identity: str,
    name: str = "urllib3",
    *,
    ranges: Sequence[Sequence[dict[str, str]]] = ((({"introduced": "0"}), {"fixed": "2.5.0"}),),
    aliases: Sequence[str] = (),
    severity: Sequence[tuple[str, str]] = (),
    modified: str = "2025-06-18T22:51:00Z",
    **more: Any,
) -> dict[str, Any]:
    """A record in the shape that the databases behind OSV give theirs."""
    record: dict[str, Any] = {
        "schema_version": "1.7.3",
        "id": identity,
        "modified": modified,
        "published": "2025-06-18T17:50:00Z",
        "summary": f"What {identity} says of {name}",
        "details": "More of it, in several\n\nparagraphs.",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": name, "purl": f"pkg:pypi/{name}"},
                "ranges": [{"type": "ECOSYSTEM", "events": list(events)} for events in ranges],
                "database_specific": {"source": f"https://example.com/{identity}.json"},
            }
        ],
        "references": [{"type": "ADVISORY", "url": f"https://example.com/{identity}"}],
    }
    if aliases:
        record["aliases"] = list(aliases)
    if severity:
        record["severity"] = [{"type": kind, "score": vector} for kind, vector in severity]
    return {name: value for name, value in {**record, **more}.items() if value is not None}


def affects(record: dict[str, Any], name: str, version: str) -> bool:
    """Whether a record affects a version, as the schema has it evaluated."""
    has = Version(version)
    for affected in record["affected"]:
        if affected["package"]["name"] != name:
            continue
        if version in affected.get("versions", ()):
            return True
        for ranged in affected.get("ranges", ()):
            if ranged["type"] == "GIT":
                continue
            events = [(kind, text) for event in ranged["events"] for kind, text in event.items()]
            vulnerable = False
            for kind, text in sorted(events, key=lambda one: Version(one[1])):
                if kind == "introduced" and has >= Version(text):
                    vulnerable = True
                elif (kind == "fixed" and has >= Version(text)) or (
                    kind == "last_affected" and has > Version(text)
                ):
                    vulnerable = False
            if vulnerable:
                return True
    return False


class Osv:
    """The database; what it answers can be changed while it runs.

    Attributes:
        records: its advisories, by id.
        page: how many advisories of a package it tells at once.
        faults: what it does instead of answering, the next one first.
        always: what it does instead whenever this says so of a path.
        refuses: packages by name that it takes no query with.
        asked: how often it was asked for each path.
        purls: which packages it was asked about.
        headers: of the last request.
    """

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = {record["id"]: record for record in records}
        self.page = 1000
        self.faults: list[Fault] = []
        self.always: Callable[[str], Fault | None] = lambda _path: None
        self.refuses: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.purls: list[str] = []
        self.headers: dict[str, str] = {}
        self.lock = threading.Lock()

    def add(self, *records: dict[str, Any]) -> None:
        self.records |= {record["id"]: record for record in records}

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"osv": self})
        self._server = Loopback(handler)
        self._server.start()
        self.url = self._server.root
        return self

    def __exit__(self, *_args: object) -> None:
        self._server.stop()

    def batch(self, queries: list[dict[str, Any]]) -> tuple[int, Any]:
        if len(queries) > 1000:
            return 400, {"code": 3, "message": "Too many queries."}
        results = []
        for query in queries:
            purl = PackageURL.from_string(query["package"]["purl"])
            assert (purl.type, purl.qualifiers, purl.subpath) == ("pypi", {}, None)
            if purl.name in self.refuses:
                return 400, {"code": 3, "message": "Invalid query."}
            with self.lock:
                self.purls.append(query["package"]["purl"])
            hits = [
                {"id": record["id"], "modified": record["modified"]}
                for record in self.records.values()
                # Withdrawn ones are not told of usually, but may be by a mirror.
                if affects(record, purl.name, str(purl.version))
            ]
            start = int(query.get("page_token", "0"))
            result: dict[str, Any] = {"vulns": hits[start : start + self.page]} if hits else {}
            if start + self.page < len(hits):
                result["next_page_token"] = str(start + self.page)
            results.append(result)
        return 200, {"results": results}


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    osv: Osv

    def post(self) -> None:
        self.content = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(lambda: self.osv.batch(json.loads(self.content)["queries"]))

    def get(self) -> None:
        self._answer(self._record)

    do_POST, do_GET = post, get  # noqa: N815

    def _record(self) -> tuple[int, Any]:
        record = self.osv.records.get(unquote(self.path.rpartition("/")[2]))
        return (200, record) if record else (404, {"code": 5, "message": "Vulnerability not found."})

    def _answer(self, answer: Callable[[], tuple[int, Any]]) -> None:
        with self.osv.lock:
            self.osv.asked[self.path] += 1
            self.osv.headers = dict(self.headers)
            fault = self.osv.faults.pop(0) if self.osv.faults else self.osv.always(self.path)
        if fault:
            fault(self)
            return
        status, document = answer()
        self.send(status, json.dumps(document).encode())

    def send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


def status(number: int, **headers: str) -> Fault:
    """Answers with a status and nothing else."""
    return lambda handler: handler.send(number, b"{}", **headers)


def body(content: bytes) -> Fault:
    """Answers with whatever."""
    return lambda handler: handler.send(200, content)


def cut(handler: _Handler) -> None:
    """Announces more than it sends, and hangs up."""
    handler.send(200, b'{"results": [', length=1000)
    handler.close_connection = True


def hang_up(handler: _Handler) -> None:
    """Says nothing at all."""
    handler.close_connection = True


def endless(handler: _Handler) -> None:
    """Sends a space after the other, for ever."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(b" " * 65536)
    except OSError:
        pass


def dripping(handler: _Handler) -> None:
    """Sends a space now and then, for ever: no byte comes late, and no answer comes."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.close_connection = True
    try:
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.01)
    except OSError:
        pass
