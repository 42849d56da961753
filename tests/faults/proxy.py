"""A proxy between our code and the embedded AWS that lets calls fail in the ways in which AWS does."""

import contextlib
import http.client
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.loopback import Handler, Loopback, Unshaken

KINDS = ("500", "503", "throttled", "slow", "cut", "lost", "killed")
"""cut: the connection ends before the call is made; lost: after it, unanswered; killed: the caller dies."""
SLOW_SECONDS = 1.0

LAMBDA_CALLS = (
    ("POST", r"/layers/[^/]+/versions", "PublishLayerVersion"),
    ("GET", r"/layers/[^/]+/versions", "ListLayerVersions"),
    ("GET", r"/layers/[^/]+/versions/\d+", "GetLayerVersion"),
    ("DELETE", r"/layers/[^/]+/versions/\d+", "DeleteLayerVersion"),
    ("GET", r"/layers/[^/]+/versions/\d+/policy", "GetLayerVersionPolicy"),
    ("POST", r"/layers/[^/]+/versions/\d+/policy", "AddLayerVersionPermission"),
    ("POST", r"/functions", "CreateFunction"),
    ("GET", r"/functions/[^/]+/configuration", "GetFunctionConfiguration"),
    ("POST", r"/functions/[^/]+/invocations", "Invoke"),
    ("DELETE", r"/functions/[^/]+", "DeleteFunction"),
)


@dataclass(frozen=True)
class Call:
    """A call to AWS: who is called, what for, and all of its words, in which a test finds its own."""

    service: str
    operation: str
    text: str
    agent: str = field(compare=False)


def call_of(method: str, target: str, headers: Any, body: bytes) -> Call:
    scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", headers.get("Authorization", ""))
    service, path = scope[1] if scope else "s3", urlsplit(target)
    words = unquote(target) + headers.get("x-amz-meta-layer-name", "")
    if service == "s3":
        kind = {"GET": "Get", "PUT": "Put", "HEAD": "Head", "DELETE": "Delete"}.get(method, method)
        operation = "ListObjectVersions" if "versions" in path.query.split("&") else f"{kind}Object"
        folder = path.path.split("/")[2] if path.path.count("/") > 1 else ""
        if "x-amz-copy-source" in headers:
            operation = "CopyObject"
            words += unquote(headers["x-amz-copy-source"])
        elif folder == "layers":
            operation += f" layers/….{path.path.rpartition('.')[2]}"
        elif folder == "builds":
            operation += f" builds/…/{path.path.rpartition('/')[2]}"
        elif operation != "ListObjectVersions":
            operation += f" {folder}/" + ("…manifest" if path.path.endswith("manifest.json") else "")
        if method == "PUT" and folder == "requirements":
            words += body.decode(errors="replace")
    elif service == "lambda":
        rest = re.sub(r"^/\d{4}-\d\d-\d\d", "", path.path).rstrip("/")
        operation = next(
            (name for verb, form, name in LAMBDA_CALLS if verb == method and re.fullmatch(form, rest)), rest
        )
        if operation == "CreateFunction":
            words += body.decode(errors="replace")
    else:
        operation = headers.get("X-Amz-Target", "").rpartition(".")[2]
        words += body.decode(errors="replace")
    return Call(service, operation, words, headers.get("User-Agent", ""))


def answer_of(kind: str, service: str) -> tuple[int, dict[str, str], bytes]:
    """What a service answers when it fails so."""
    status, name = {
        "500": (500, "InternalError" if service == "s3" else "InternalServerError"),
        "503": (503, "ServiceUnavailable" if service == "s3" else "ServiceUnavailableException"),
        "throttled": {
            "s3": (503, "SlowDown"),
            "lambda": (429, "TooManyRequestsException"),
        }.get(service, (400, "ThrottlingException")),
    }[kind]
    if service == "s3":
        text = f"<Error><Code>{name}</Code><Message>A fault for a test.</Message></Error>"
        return status, {"Content-Type": "application/xml"}, text.encode()
    document = {"__type": name, "message": "A fault for a test.", "Type": "User"}
    return (
        status,
        {"Content-Type": "application/json", "x-amzn-ErrorType": name},
        json.dumps(document).encode(),
    )


Rule = Callable[[Call], str | None]


class FaultProxy(Loopback):
    """Passes calls on; each rule may name a fault for a call.

    Attributes:
        address: What our code takes for AWS.
        upstream: Where calls go.
        rules: Asked in turn, under a lock.
        calls: All calls that came, in order.
        kill_caller: Ends the process at the other end of a local port; returns whether there was one.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.rules: list[Rule] = []
        self.calls: list[Call] = []
        self.injected = 0
        self.kill_caller: Callable[[int], bool] = lambda _port: False
        self._lock = threading.Lock()
        # What a function was made with: later calls name it alone.
        self._made: dict[str, str] = {}
        proxy = self

        class Passing(Handler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                proxy._handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

        super().__init__(Passing, Unshaken)
        self.address = self.root
        self._local = threading.local()

    def _named(self, call: Call) -> Call:
        """A call for a function, with the words that that was made with."""
        made = re.search(r'"FunctionName": *"([^"]+)"', call.text)
        if call.operation == "CreateFunction" and made:
            self._made[made[1]] = call.text
        name = re.search(r"/functions/([^/?]+)", call.text)
        return replace(call, text=call.text + self._made.get(name[1], "")) if name else call

    def _fault(self, call: Call) -> str | None:
        with self._lock:
            self.calls.append(call)
            for rule in self.rules:
                if kind := rule(call):
                    self.injected += 1
                    return kind
        return None

    def _handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = _body_of(request)
        call = self._named(call_of(request.command, request.path, request.headers, body))
        fault = self._fault(call)
        if fault in ("500", "503", "throttled"):
            _answer(request, *answer_of(fault, call.service))
            return
        if fault == "cut":
            _cut(request)
            return
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        status, headers, content = self._pass_on(request, body)
        if fault == "killed" and not self.kill_caller(request.client_address[1]):
            raise AssertionError(f"nobody to kill after {call}")
        if fault in ("lost", "killed"):
            _cut(request)
            return
        _answer(request, status, headers, content)

    def _pass_on(
        self, request: http.server.BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        dropped = ("transfer-encoding", "content-length", "connection", "expect")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in dropped}
        if body or request.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        if getattr(self._local, "connection", None) is None:
            self._local.connection = http.client.HTTPConnection(self.upstream.netloc, timeout=120)
        connection = self._local.connection
        try:
            connection.request(request.command, request.path, body or None, headers)
            response = connection.getresponse()
            content = response.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            self._local.connection = None
            raise
        return response.status, dict(response.getheaders()), content


def _body_of(request: http.server.BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        length = int(request.headers.get("Content-Length") or 0)
        if len(whole := request.rfile.read(length)) < length:
            raise ConnectionError("its sender died; no service takes half a body")
        return whole
    body = bytearray()
    while size := int(request.rfile.readline().partition(b";")[0], 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    while request.rfile.readline().strip():
        pass
    return bytes(body)


def _answer(
    request: http.server.BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes
) -> None:
    length = headers.pop("Content-Length", None) if request.command == "HEAD" else None
    request.send_response_only(status)
    for name, value in headers.items():
        if name.lower() not in ("transfer-encoding", "content-length", "connection"):
            request.send_header(name, value)
    if status != 204:
        request.send_header("Content-Length", length or str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


def _cut(request: http.server.BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    with contextlib.suppress(OSError):
        request.connection.shutdown(socket.SHUT_RDWR)


def owner_of_port(port: int, pids: list[int]) -> int | None:
    """Which of these processes has the connection with this local port (Linux)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0":
            wanted = f"socket:[{fields[9]}]"
            for pid in pids:
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    try:
                        if str(descriptor.readlink()) == wanted:
                            return pid
                    except OSError:
                        continue
    return None
