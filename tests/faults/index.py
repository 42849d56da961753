"""A package index on loopback, with good wheels and hostile ones."""

import base64
import hashlib
import http.server
import io
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from tests.loopback import Handler, Loopback, Unshaken

Serve = Callable[[http.server.BaseHTTPRequestHandler], None]


def dist_info(
    name: str, version: str = "1.0", requires: str = "", metadata: str | None = None
) -> dict[str, bytes]:
    folder = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    about = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}" if metadata is None else metadata
    )
    return {
        f"{folder}/METADATA": about.encode(),
        f"{folder}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }


def packed(
    name: str,
    files: dict[str, bytes],
    info: dict[str, bytes],
    mode: dict[str, int] | None = None,
    version: str = "1.0",
) -> bytes:
    """A wheel of these files, with a RECORD that fits them."""
    everything = files | info
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for path, data in everything.items()
    ]
    record = f"{name}-{version}.dist-info/RECORD"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in {**everything, record: "\n".join([*rows, f"{record},,\n"]).encode()}.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (mode or {}).get(path, 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return stream.getvalue()


def good(name: str, requires: str = "", version: str = "1.0") -> bytes:
    info = dist_info(name, version, requires)
    return packed(name, {f"{name}/__init__.py": b"x = 1\n" * 50}, info, version=version)


@dataclass(frozen=True)
class File:
    """A file of the index: its name, what is announced of it, and how it is served."""

    filename: str
    sha256: str
    serve: Serve
    requires_python: str | None = None
    yanked: bool = False
    size: int | None = None
    uploaded: str | None = None


def plain(content: bytes) -> Serve:
    def serve(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    return serve


def endless(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"\0" * (1 << 20))


def slow(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000000")
    request.end_headers()
    while True:
        request.wfile.write(b"\0")
        request.wfile.flush()
        time.sleep(0.2)


def moved(where: str) -> Serve:
    def serve(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", where)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return serve


def status(code: int) -> Serve:
    def serve(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return serve


def short(content: bytes) -> Serve:
    """Ends in the middle."""

    def serve(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: len(content) // 2])
        request.close_connection = True

    return serve


class Index(Loopback):
    """Serves `/simple/PROJECT/` as JSON, with hashes and core metadata, and the files below `/files/`."""

    def __init__(self) -> None:
        self._projects: dict[str, list[File]] = {}
        self._metadata: dict[str, bytes] = {}
        self._pages: dict[str, Serve] = {}
        index = self

        class Project(Handler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                index._serve(self)

            do_GET = do_HEAD = answer  # noqa: N815

        super().__init__(Project, Unshaken)
        self.url = f"{self.root}/simple"

    def add(
        self,
        name: str,
        content: bytes,
        *,
        serve: Serve | None = None,
        sha256: str | None = None,
        tag: str = "py3-none-any",
        requires: str = "",
        requires_python: str | None = None,
        size: int | None = None,
    ) -> None:
        """Add a project of one wheel; what is announced of it need not be true."""
        filename = f"{name}-1.0-{tag}.whl"
        digest = sha256 or hashlib.sha256(content).hexdigest()
        self._projects[name] = [File(filename, digest, serve or plain(content), requires_python, size=size)]
        self._metadata[filename] = dist_info(name, requires=requires)[f"{name}-1.0.dist-info/METADATA"]

    def add_version(self, name: str, version: str, uploaded: str) -> None:
        """Add a good wheel of a project's version, with the time of its upload (ISO 8601)."""
        content, filename = good(name, version=version), f"{name}-{version}-py3-none-any.whl"
        digest = hashlib.sha256(content).hexdigest()
        self._projects.setdefault(name, []).append(File(filename, digest, plain(content), uploaded=uploaded))
        self._metadata[filename] = dist_info(name, version)[f"{name}-{version}.dist-info/METADATA"]

    def add_page(self, name: str, serve: Serve) -> None:
        """Add a project whose page itself is odd."""
        self._pages[name] = serve

    def _serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        kind, _, name = request.path.strip("/").partition("/")
        if kind == "simple" and name in self._pages:
            self._pages[name](request)
        elif kind == "simple" and name in self._projects:
            self.answer(request, name)
        elif kind == "files" and name.endswith(".metadata"):
            plain(self._metadata[name.removesuffix(".metadata")])(request)
        else:
            files = {file.filename: file for project in self._projects.values() for file in project}
            (files[name].serve if name in files else status(404))(request)

    def answer(self, request: http.server.BaseHTTPRequestHandler, name: str) -> None:
        """Serve a project's page as it should be."""
        files = [
            {
                "filename": file.filename,
                "url": f"/files/{file.filename}",
                "hashes": {"sha256": file.sha256},
                "core-metadata": {"sha256": hashlib.sha256(self._metadata[file.filename]).hexdigest()},
                **({"requires-python": file.requires_python} if file.requires_python else {}),
                **({} if file.size is None else {"size": file.size}),
                **({"upload-time": file.uploaded} if file.uploaded else {}),
            }
            for file in self._projects[name]
        ]
        page = {"meta": {"api-version": "1.0"}, "name": name, "files": files}
        content = json.dumps(page).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
