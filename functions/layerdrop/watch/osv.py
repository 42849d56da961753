"""A vulnerability database that speaks OSV's API, asked over HTTP.

The API: https://google.github.io/osv.dev/post-v1-querybatch/, https://google.github.io/osv.dev/get-v1-vulns/.
Its answers are somebody else's words: their size, form and time are bounded here, and what
they mean is for `advisories` to say.
"""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import urllib3
from packageurl import PackageURL
from urllib3.exceptions import HTTPError

from layerdrop import wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

# More are refused, and a batch is worked on for up to 35 seconds: _MAX_BATCH_QUERY and _MAX_BATCH_QUERY_TIME
# of gcp/api/server.py in google/osv.dev.
BATCH: Final = 1000
ATTEMPTS: Final = 4
# A batch is answered by ids and times, of some 75 bytes each; the database has a limit of 32 MiB for whatever
# it answers: https://google.github.io/osv.dev/api/
MAX_BATCH_BYTES: Final = 8 << 20
MAX_RECORD_BYTES: Final = 4 << 20
# Python spends up to 200 bytes on an object or list of three characters.
_MOST_BRACKETS: Final = 400_000

_CONNECT_SECONDS: Final = 5.0
_SECONDS: Final = 60.0
_LONGEST_PAUSE: Final = 20.0
_CHUNK: Final = 64 << 10
# Pages of one package's advisories; the first has up to 1,000.
_MOST_PAGES: Final = 20
_MOST_MATCHES: Final = 5000
_MOST_REFUSALS: Final = 20
_LONGEST_TOKEN: Final = 4096
_TOO_MUCH: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}", re.ASCII)
_LONGEST_TIME: Final = 64


class DatabaseError(Exception):
    """The database could not be asked, or its answer is none; what was known before stays."""


class RefusedError(DatabaseError):
    """The database does not take the question."""


class UnusableError(DatabaseError):
    """The answer is whole, and is no answer."""


@dataclass(frozen=True, order=True)
class Package:
    """A distribution of a layer: its name in normal form, and its version."""

    name: str
    version: str

    @property
    def purl(self) -> str:
        """The package URL, by which the database is asked: https://github.com/package-url/purl-spec."""
        return PackageURL("pypi", name=self.name, version=self.version).to_string()


@dataclass(frozen=True, order=True)
class Match:
    """An advisory that affects a package, and when it was changed last, as the database writes it."""

    id: str
    modified: str


def is_id(text: object) -> bool:
    """Whether it may be the id of an advisory: https://ossf.github.io/osv-schema/#id-modified-fields."""
    return isinstance(text, str) and bool(_ID.fullmatch(text))


def connections() -> urllib3.PoolManager:
    """The connections that questions share; certificates are verified by the system's authorities."""
    return urllib3.PoolManager(maxsize=8, block=True)


def base_of(address: str) -> str:
    """The address of a database, checked: `https://HOST[:PORT][/PATH]`, or `http:` for a mirror of one's own.

    Raises:
        ValueError: it is none.
    """
    try:
        parsed = urllib3.util.parse_url(address)
    except HTTPError as error:
        raise ValueError(f"{address!r} is no address") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{address!r} is no address of the form https://HOST")
    if parsed.auth or parsed.query is not None or parsed.fragment is not None:
        raise ValueError(f"{address!r} has more than scheme, host, port and path")
    return address.rstrip("/")


@dataclass
class Database:
    """Asks one database.

    Attributes:
        address: see `base_of`.
        http: shared connections.
        seconds_left: how much longer the whole call may take.
        pause: waits so many seconds before trying again.
    """

    address: str
    http: urllib3.PoolManager
    seconds_left: Callable[[], float]
    pause: Callable[[float], None] = time.sleep
    refused: int = field(default=0, init=False)

    def matches(self, packages: Iterable[Package]) -> dict[Package, frozenset[Match] | None]:
        """The advisories that affect each package; None for one that the database does not take.

        Raises:
            DatabaseError: it could not be asked about all of them.
        """
        found: dict[Package, set[Match] | None] = {package: set() for package in packages}
        waiting: list[tuple[Package, str | None]] = [(package, None) for package in found]
        for _ in range(_MOST_PAGES):
            if not waiting:
                return {
                    package: None if known is None else frozenset(known) for package, known in found.items()
                }
            further: list[tuple[Package, str | None]] = []
            for part in _parts(waiting, BATCH):
                for (package, _token), result in zip(part, self._results(part), strict=True):
                    known = found[package]
                    if result is None or known is None:
                        found[package] = None
                        continue
                    known.update(_matches(result))
                    if len(known) > _MOST_MATCHES:
                        raise DatabaseError(f"more than {_MOST_MATCHES:,} advisories affect {package.purl}")
                    if token := _token_of(result):
                        further.append((package, token))
            waiting = further
        raise DatabaseError(f"its answers about {waiting[0][0].purl} have more than {_MOST_PAGES} pages")

    def record(self, identity: str) -> Mapping[str, Any]:
        """An advisory, as the database has it: https://ossf.github.io/osv-schema/.

        Raises:
            RefusedError: there is none.
            UnusableError: what comes is none.
            DatabaseError: it could not be asked.
        """
        content = self._ask("GET", f"/v1/vulns/{quote(identity, safe='')}", None, MAX_RECORD_BYTES)
        document = _json(content)
        if not isinstance(document, dict) or document.get("id") != identity:
            raise UnusableError(f"what it has as {identity} is no advisory of that id")
        return document

    def _results(self, part: Sequence[tuple[Package, str | None]]) -> list[Mapping[str, Any] | None]:
        queries = [
            {"package": {"purl": package.purl}} | ({"page_token": token} if token else {})
            for package, token in part
        ]
        body = json.dumps({"queries": queries}, separators=(",", ":")).encode()
        try:
            document = _json(self._ask("POST", "/v1/querybatch", body, MAX_BATCH_BYTES))
        except RefusedError:
            # One query that it does not take spoils all of its batch, and the answer does not say which.
            self.refused += 1
            if self.refused > _MOST_REFUSALS:
                raise
            if len(part) == 1:
                return [None]
            middle = len(part) // 2
            return self._results(part[:middle]) + self._results(part[middle:])
        results = document.get("results") if isinstance(document, dict) else None
        # The results are in the order of the queries: https://google.github.io/osv.dev/post-v1-querybatch/
        if not isinstance(results, list) or len(results) != len(part):
            raise UnusableError("its answer to a batch has not one result for each query")
        return [result if isinstance(result, dict) else {} for result in results]

    def _ask(self, method: str, path: str, body: bytes | None, limit: int) -> bytes:
        last: Exception | None = None
        wait = 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                own = 2**attempt * random.uniform(0.25, 0.5)  # noqa: S311 - nothing to guess
                self.pause(min(max(wait, own), _LONGEST_PAUSE))
            if self.seconds_left() <= 0:
                raise DatabaseError("there is no time left to ask") from last
            try:
                status, headers, content = self._once(method, path, body, limit)
            except (HTTPError, OSError) as error:
                last, wait = error, 0.0
                continue
            if status == HTTPStatus.OK:
                return content
            last = DatabaseError(f"it answers {status}")
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _TOO_MUCH:
                raise _refusal(status, headers)
            wait = _seconds(headers.get("Retry-After"))
        raise DatabaseError(f"after {ATTEMPTS} attempts: {wording.sentence(str(last))}") from last

    def _once(
        self, method: str, path: str, body: bytes | None, limit: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        until = time.monotonic() + min(_SECONDS, max(self.seconds_left(), 1.0))
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=until - time.monotonic())
        response = self.http.request(
            method,
            self.address + path,
            body=body,
            headers={
                "Accept": "application/json",
                # As it is, so that its size is what is read.
                "Accept-Encoding": "identity",
                "User-Agent": "layerdrop",
                **({"Content-Type": "application/json"} if body is not None else {}),
            },
            timeout=timeout,
            # Wherever it leads to is not the database that the stack names.
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )
        whole = False
        try:
            content = b"".join(_read(response, limit, until)) if response.status == HTTPStatus.OK else b""
            whole = response.status == HTTPStatus.OK
        finally:
            # Of an answer that was not read to its end, the rest is not waited for.
            if not whole:
                response.close()
            response.release_conn()
        return response.status, response.headers, content


def _read(response: urllib3.BaseHTTPResponse, limit: int, until: float) -> Iterator[bytes]:
    size = 0
    # As much as is there: whoever sends a byte a second is not read for ever.
    while chunk := response.read1(_CHUNK, decode_content=False):
        size += len(chunk)
        if size > limit:
            raise UnusableError(f"its answer is longer than {limit:,} bytes")
        if time.monotonic() > until:
            raise TimeoutError("its answer does not come to an end in time")
        yield chunk


def _refusal(status: int, headers: Mapping[str, str]) -> DatabaseError:
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        place = wording.word(headers.get("Location") or "")
        return DatabaseError(f"it answers {status} and leads to {place!r}, where the stack asks nothing")
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
        return RefusedError(f"it answers {status}")
    return DatabaseError(f"it answers {status}")


def _json(content: bytes) -> Any:
    if content.count(b"{") + content.count(b"[") > _MOST_BRACKETS:
        raise UnusableError("its answer has more objects and lists than any has")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnusableError("its answer is no JSON") from error


def _matches(result: Mapping[str, Any]) -> Iterator[Match]:
    vulns = result.get("vulns")
    for one in vulns if isinstance(vulns, list) else ():
        if isinstance(one, dict) and is_id(one.get("id")):
            modified = one.get("modified")
            yield Match(one["id"], modified[:_LONGEST_TIME] if isinstance(modified, str) else "")


def _token_of(result: Mapping[str, Any]) -> str | None:
    token = result.get("next_page_token")
    return token if isinstance(token, str) and len(token) <= _LONGEST_TOKEN else None


def _seconds(retry_after: str | None) -> float:
    """What `Retry-After` asks for, if it is a number: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3."""
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0


def _parts(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
