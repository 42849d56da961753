"""Makes wheels for the tests, good ones and odd ones, and serves them as a package index on loopback."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import http.server
import io
import json
import threading
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from layer_builder.wheels import wheel
from layer_builder.wheels.pick import Pick

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from layer_builder.wheels.wheel import Wheel


@dataclass(frozen=True)
class Content:
    """A file of a wheel and how the zip has it."""

    data: bytes
    mode: int = 0o100644
    method: int = zipfile.ZIP_DEFLATED


def content_of(value: str | bytes | Content) -> Content:
    if isinstance(value, Content):
        return value
    return Content(value.encode() if isinstance(value, str) else value)


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, str | bytes | Content] | None = None,
    *,
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
    requires_python: str = "",
    entry_points: str = "",
    metadata: str = "",
    replaced: Mapping[str, str | bytes | None] | None = None,
) -> Path:
    """Write a wheel; `replaced` overrides files of its .dist-info folder, None leaves one out."""
    stem = f"{name.replace('-', '_')}-{version}"
    members = {
        path: content_of(value)
        for path, value in (files or {f"{name.replace('-', '_')}.py": "x = 1\n"}).items()
    }
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"
    text += "".join(f"Requires-Dist: {line}\n" for line in requires)
    text += f"Requires-Python: {requires_python}\n" if requires_python else ""
    info: dict[str, str | bytes | None] = {
        "METADATA": text,
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        + "".join(f"Tag: {one}\n" for one in tag.split(" ")),
    }
    if entry_points:
        info["entry_points.txt"] = entry_points
    rows = []
    dist_info = {k: v for k, v in {**info, **(replaced or {})}.items() if v is not None and k != "RECORD"}
    members |= {f"{stem}.dist-info/{k}": content_of(v) for k, v in dist_info.items()}
    for path, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.data).digest()).decode().rstrip("=")
        rows.append((path, f"sha256={digest}", len(content.data)))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([*rows, (f"{stem}.dist-info/RECORD", "", "")])
    record = (replaced or {}).get("RECORD", table.getvalue())
    if record is not None:
        members[f"{stem}.dist-info/RECORD"] = content_of(record)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in members.items():
            one = zipfile.ZipInfo(path, (2024, 5, 6, 7, 8, 10))
            one.external_attr, one.compress_type = content.mode << 16, content.method
            archive.writestr(one, content.data)
    return file


def pick_of(file: Path) -> Pick:
    name, version = file.name.split("-")[:2]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Pick(name.replace("_", "-").lower(), version, file.name, "http://127.0.0.1:9/" + file.name, digest)


def load(file: Path) -> Wheel:
    """Verify a wheel and take it, as the builder does after a download."""
    return wheel.verify(pick_of(file), file)


@dataclass
class Index:
    """A package index on loopback, of the wheels and sdists in a folder.

    Attributes:
        html: answer in HTML, as an index without PEP 691 does.
        requested: the paths that were asked for.
        tamper: what to do with a file's bytes before they are sent.
        before: called with each path before it is answered.
        moved: where a path redirects to.
        size: what a page announces of a file's length.
        uploaded: since when it has a file, as a page says it (PEP 700); None where it does not say it.
        provenance: where a page says that a file's provenance is (PEP 740); None where it does not say it.
        provenances: provenance objects, by path.
        version: of the API, as a page says it.
        login: user and password that it wants, as `user:password`.
        seen: the Authorization header of each request.
        host: the address that it listens on.
    """

    folder: Path
    html: bool = False
    requested: list[str] = field(default_factory=list)
    tamper: Callable[[str, bytes], bytes] = lambda _, data: data
    before: Callable[[str], None] = lambda _: None
    status: Callable[[str], int] = lambda _: 200
    truncate: Callable[[str], bool] = lambda _: False
    moved: Callable[[str], str] = lambda _: ""
    size: Callable[[str], int | None] = lambda _: None
    uploaded: Callable[[str], str | None] = lambda _: None
    provenance: Callable[[str], str | None] = lambda _: None
    provenances: dict[str, bytes] = field(default_factory=dict)
    version: str = "1.0"
    login: str = ""
    seen: list[str | None] = field(default_factory=list)
    host: str = "127.0.0.1"

    def __enter__(self) -> Self:
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = unquote(self.path)
                if self.command == "GET":
                    index.requested.append(path)
                index.seen.append(self.headers.get("Authorization"))
                index.before(path)
                wanted = "Basic " + base64.b64encode(index.login.encode()).decode()
                if index.login and index.seen[-1] != wanted:
                    self.send_error(401, explain=str(index.seen[-1]))
                    return
                if where := index.moved(path):
                    self.send_response(302)
                    self.send_header("Location", where)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                status = index.status(path)
                kind, body = index.answer(path) if status == 200 else ("text/plain", b"no")
                if body is None:
                    status, body = 404, b"not found"
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body[: len(body) // 2] if index.truncate(path) else body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((self.host, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self._server.server_address[1]}/simple"

    def downloads(self) -> list[str]:
        return [path for path in self.requested if path.startswith("/files/")]

    def answer(self, path: str) -> tuple[str, bytes | None]:
        if path.startswith("/files/"):
            file = self.folder / path.removeprefix("/files/")
            return "application/zip", self.tamper(file.name, file.read_bytes()) if file.is_file() else None
        if path.startswith("/integrity/"):
            return "application/vnd.pypi.integrity.v1+json", self.provenances.get(path)
        if path == "/links/":
            links = "".join(
                f'<a href="/files/{file.name}#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}">x</a>'
                for file in self.folder.iterdir()
            )
            return "text/html", f"<html>{links}</html>".encode()
        project = path.removeprefix("/simple/").strip("/")
        files = [
            f
            for f in sorted(self.folder.iterdir())
            if f.name.split("-")[0].replace("_", "-").lower() == project
        ]
        if not files:
            return "text/plain", None
        digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        if self.html:
            attested = {n: f' data-provenance="{where}"' for n in digests if (where := self.provenance(n))}
            links = "".join(
                f'<a href="/files/{n}#sha256={d}"{attested.get(n, "")}>{n}</a><br/>\n'
                for n, d in digests.items()
            )
            return "text/html", f"<!DOCTYPE html><html><body><h1>{project}</h1>{links}</body></html>".encode()
        document = {
            "meta": {"api-version": self.version},
            "name": project,
            "files": [
                {
                    "filename": n,
                    "url": f"/files/{n}",
                    "hashes": {"sha256": d},
                    **({"size": size} if (size := self.size(n)) is not None else {}),
                    **({"upload-time": time} if (time := self.uploaded(n)) else {}),
                    **({"provenance": where} if (where := self.provenance(n)) else {}),
                }
                for n, d in digests.items()
            ],
        }
        return "application/vnd.pypi.simple.v1+json", json.dumps(document).encode()


def make_sdist(folder: Path, name: str, version: str, setup: str) -> Path:
    """Write a source distribution whose setup.py would run if anyone built it."""
    import tarfile

    stem = f"{name}-{version}"
    file = folder / f"{stem}.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for path, text in (
            ("setup.py", setup),
            ("PKG-INFO", f"Metadata-Version: 1.1\nName: {name}\nVersion: {version}\n"),
        ):
            info = tarfile.TarInfo(f"{stem}/{path}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return file
