"""A package index on loopback that stands between uv and the real ones, while uv runs.

uv, and the code of packages that it builds, see only this address. What they do not see: the indexes'
credentials, which stay in the builder's memory, and a way to anywhere else. Each page and file is fetched by
`web`, with its checks, and only files that a page has listed are passed on. A token in the address keeps
others on the machine out.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import secrets
import threading
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from layer_builder.ground.errors import BuildError, ResolutionError
from layer_builder.ground.filenames import is_bounded
from layer_builder.ground.limits import MAX_FILE_BYTES
from layer_builder.indexes import web
from layer_builder.wheels.pick import said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from layer_builder.ground.cooldown import Cooldown
    from layer_builder.indexes.index import IndexedFile
    from layer_builder.indexes.sources import Sources

_TYPE = "application/vnd.pypi.simple.v1+json"
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,254}")
_METADATA = ".metadata"
_LONG_AGO = datetime(1980, 1, 1, tzinfo=UTC)
_PASSED_ON = ("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified")


class Relay:
    """Serves sources as one index while the context lasts.

    Attributes:
        url: the index's simple page.
        error: the first thing that went wrong on the way to the real indexes.
        misled: whether a page could not be had, or a file not to its end, so that what uv finds may not be
            what there is.
        addresses: where files are in truth, by their addresses here; of those that the cooldown admits.
        provenances: where the indexes say who published files, by where the files are in truth.
        ageless: the projects whose files it was not asked of, as the installation spares their index.
    """

    def __init__(self, sources: Sources, cooldown: Cooldown | None = None) -> None:
        self._sources = sources
        self._cooldown = cooldown
        self._token = secrets.token_urlsafe(16)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self.answer)
        self._root = f"http://127.0.0.1:{self._server.server_address[1]}/{self._token}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"{self._root}/simple"
        self.error: BuildError | None = None
        self.misled = False
        self.addresses: dict[str, str] = {}
        self.provenances: dict[str, str] = {}
        self.ageless: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def without_address(self, text: str) -> str:
        """Take this relay's address out of a text: to a reader it means nothing."""
        return text.replace(self.url, "index:").replace(self._root, "index:")

    def answer(self, request: Request) -> None:
        """Answer one request."""
        token, _, path = request.path.removeprefix("/").partition("/")
        kind, _, name = path.partition("/")
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            request.refuse(HTTPStatus.NOT_FOUND)
            return
        try:
            if kind == "simple":
                self._answer_page(request, name.strip("/"))
            else:
                self._answer_file(request, f"{self._root}/{path}")
        except BuildError as error:
            with self._lock:
                self.error = self.error or error
                self.misled |= kind == "simple" or request.begun
            # Not to be tried again: whatever could be gained by that has been tried.
            request.refuse(HTTPStatus.FORBIDDEN)

    def _answer_page(self, request: Request, project: str) -> None:
        files = self._sources.files_of(project)
        # Without a hash nobody could tell whether a file is the right one.
        named = [file for file in files if _FILENAME.fullmatch(file.filename) and is_bounded(file.filename)]
        listed = [file for file in named if file.sha256]
        if named and not listed:
            raise ResolutionError(
                f"The package index gives no SHA-256 for any file of {project}.",
                hint="Have the index serve hashes, as the simple repository API has them.",
                details={"package": project},
            )
        page = {
            "meta": {"api-version": "1.1"},
            "name": project,
            "files": [self._entry(project, file) for file in listed],
        }
        if listed:
            request.send(HTTPStatus.OK, {"Content-Type": _TYPE}, json.dumps(page).encode())
        else:
            request.refuse(HTTPStatus.NOT_FOUND)

    def _entry(self, project: str, file: IndexedFile) -> dict[str, Any]:
        """Describe a file to uv. It is told of files that are too young, too, so that it can name them; but
        code that it builds could have it name one in its lock, so these lead nowhere.
        """
        number = hashlib.sha256(file.url.encode()).hexdigest()[:16]
        address = f"{self._root}/files/{number}/{file.filename}"
        uploaded = file.uploaded
        with self._lock:
            if file.is_ageless:
                self.ageless.add(project)
                uploaded = _LONG_AGO
            if not self._cooldown or self._cooldown.admits(project, uploaded):
                self.addresses[address] = file.url
                self.provenances[file.url] = said(file.provenance)
        more = {
            "size": file.size,
            "requires-python": file.requires_python,
            "yanked": file.yanked or None,
            "core-metadata": file.has_metadata or None,
            "upload-time": uploaded and uploaded.isoformat(),
        }
        return {
            "filename": file.filename,
            "url": address,
            "hashes": {"sha256": file.sha256},
            **{name: value for name, value in more.items() if value is not None},
        }

    def _answer_file(self, request: Request, address: str) -> None:
        """Pass on a file, its metadata, or a part of it: uv reads wheels' directories from afar."""
        suffix = _METADATA if address.endswith(_METADATA) else ""
        url = self.addresses.get(address.removesuffix(suffix))
        if url is None:
            request.refuse(HTTPStatus.NOT_FOUND)
            return
        part = request.headers.get("Range")
        asked = {"Range": part} if part else {}
        with web.ask(url + suffix, self._sources.access, method=request.command, headers=asked) as response:
            if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
                request.refuse(HTTPStatus(response.status))
                return
            if response.status != HTTPStatus.PARTIAL_CONTENT and (error := web.failure(response)):
                raise error
            headers = {name: value for name in _PASSED_ON if (value := response.headers.get(name))}
            request.send(HTTPStatus(response.status), headers, response.chunks(MAX_FILE_BYTES))


class Request(http.server.BaseHTTPRequestHandler):
    """One of uv's connections.

    Attributes:
        begun: whether the answer to the request at hand is under way.
    """

    protocol_version = "HTTP/1.1"
    server: _Server
    begun = False

    def do_GET(self) -> None:
        """Have the relay answer."""
        self.begun = False
        with suppress(ConnectionError):
            self.server.answer(self)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def refuse(self, status: HTTPStatus) -> None:
        """Answer with an error; in the middle of an answer, break off."""
        if self.begun:
            self.close_connection = True
        else:
            self.send(status, {}, b"")

    def send(self, status: HTTPStatus, headers: Mapping[str, str], body: bytes | Iterator[bytes]) -> None:
        """Send an answer; without a length that is known before, the connection's end is its end."""
        self.begun = True
        if isinstance(body, bytes):
            headers, body = {**headers, "Content-Length": str(len(body))}, iter((body,))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            for chunk in body:
                self.wfile.write(chunk)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, place: tuple[str, int], answer: Callable[[Request], None]) -> None:
        super().__init__(place, Request)
        self.answer = answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that uv gave up."""
