"""A server of HTTP on loopback: what tests' indexes, proxies, databases and pages have in common."""

import http.server
import threading
from typing import Any, Self


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests, and logs none."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Server(http.server.ThreadingHTTPServer):
    """Waits for no client that is still there when it is stopped, and takes many at once."""

    daemon_threads = True
    request_queue_size = 1024


class Unshaken(Server):
    """Says nothing of those who die, or end the connection, in the middle of a request."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Loopback:
    """Has its port at once, and answers there from its start to its stop."""

    def __init__(self, handler: type[Handler], server: type[Server] = Server) -> None:
        self._server = server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.port: int = self._server.server_port
        self.root = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
