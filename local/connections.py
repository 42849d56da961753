"""The HTTP server under the embedded AWS: a thread a connection, and one request after the other on it."""

import errno
import logging
import selectors
import socket
import threading
import weakref
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer

from local.gate import BODY_READ
from local.settings import HOST, PortInUseError

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
DRAIN_SECONDS: Final = 0.01
DRAIN_BYTES: Final = 10 << 30
PIECE: Final = 1 << 20
WITHOUT_BODY: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Server(ThreadedWSGIServer):
    """An HTTP server that can be stopped whole: thread, sockets and connections.

    Args:
        port: Where to listen; 0 takes a free one.
        application: Answers.

    Raises:
        PortInUseError: Someone else listens on the port.
    """

    daemon_threads = True

    def __init__(self, port: int, application: Any) -> None:
        # werkzeug itself would print and exit when the port is taken.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortInUseError(f"Port {port} is in use by another program") from error
                raise
            listener.listen(BACKLOG)
            super().__init__(HOST, port, application, _Handler, fd=listener.fileno())
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="embedded AWS")

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and remember it."""
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and cut the connections that clients keep open."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(MotoRequestHandler):
    """Goes on with a connection after an answer, as AWS does.

    werkzeug ends it: it cannot tell whether an application has read all of a request. The gate can. A
    connection and a thread for each of a build's calls took as long as the calls.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    """An answer's head and body leave together."""

    def run_wsgi(self) -> None:
        """Answer a request."""
        if self.headers.get("Expect", "").lower().strip(" \t") == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        self.environ = self.make_environ()
        self._begun = False
        try:
            self._answer()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            logger.exception("No answer to %s %s", self.command, self.path)
            self.close_connection = True
            if not self._begun:
                self._write_head("500 Internal Server Error", [("Content-Length", "0")])
                self.wfile.flush()
        if self.close_connection:
            self._drain()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: a line for each request would be of no use, and werkzeug's are colored."""

    def _answer(self) -> None:
        told: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Any:
            told[:] = [status, headers]

        body = self.server.app(self.environ, start_response)
        try:
            pieces = iter(body)
            first = next(pieces, b"")  # an application may tell status and headers as late as this
            status, headers = told
            bodiless = self.command == "HEAD" or int(status[:3]) in WITHOUT_BODY
            if not bodiless and not any(name.lower() == "content-length" for name, _ in headers):
                first, pieces = b"".join([first, *pieces]), iter(())
                headers = [*headers, ("Content-Length", str(len(first)))]
            if not self._whole():
                self.close_connection = True
            self._write_head(status, headers)
            if not bodiless:
                self.wfile.write(first)
                for piece in pieces:
                    self.wfile.write(piece)
            self.wfile.flush()
        finally:
            if hasattr(body, "close"):
                body.close()

    def _whole(self) -> bool:
        """Whether what follows on the connection can only be another request.

        A request that tells its length in two ways is not followed by another:
        https://www.rfc-editor.org/rfc/rfc9112#section-6.1
        """
        lengths = self.headers.get_all("Content-Length", [])
        told_once = len(lengths) <= 1 and "Transfer-Encoding" not in self.headers
        return told_once and self.environ.get(BODY_READ) is True

    def _write_head(self, status: str, headers: list[tuple[str, str]]) -> None:
        self._begun = True
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _drain(self) -> None:
        """Take what the sender still sends: else it would find the connection reset instead of its answer."""
        left = DRAIN_BYTES
        with suppress(OSError), selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            while left > 0 and selector.select(DRAIN_SECONDS):
                if not (piece := self.connection.recv(PIECE)):
                    return
                left -= len(piece)
