"""The package index's page of one project: which wheels there are (the simple repository API)."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from layer_builder import web
from layer_builder.errors import IndexUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.tags import Tag
    from packaging.version import Version

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class IndexedWheel:
    """A wheel as its file name describes it."""

    filename: str
    version: Version
    tags: frozenset[Tag]


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file of a project: its name, where it is, its SHA-256 in hexadecimal (None if unknown)."""

    filename: str
    url: str
    sha256: str | None


def files_of(project: str, index_url: str) -> list[IndexedFile]:
    """List the files of a project, in the index's order.

    Raises:
        IndexUnreachableError: the index does not answer, or not as an index does.
    """
    url = f"{index_url.rstrip('/')}/{canonicalize_name(project)}/"
    with web.get(url, accept=_ACCEPT, encodings="gzip") as response:
        content = response.read(_MAX_BYTES)
        found = _files_in_html if "html" in response.content_type else _files_in_json
    try:
        return found(content, url)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexUnreachableError(
            f"What the package index answers for {project} is no page of an index.",
            hint="Check the index's address.",
        ) from error


def wheels_of(project: str, index_url: str) -> list[IndexedWheel]:
    """List the wheels of a project, in the index's order.

    Raises:
        IndexUnreachableError: as `files_of`.
    """
    return wheels_among(files_of(project, index_url))


def wheels_among(files: Iterable[IndexedFile]) -> list[IndexedWheel]:
    """Take the wheels out of a list of files."""
    wheels = []
    for file in files:
        if file.filename.endswith(".whl"):
            try:
                _, version, _, tags = parse_wheel_filename(file.filename)
            except InvalidWheelFilename:
                continue  # old uploads have names that no installer takes
            wheels.append(IndexedWheel(file.filename, version, tags))
    return wheels


def sources_among(files: Iterable[IndexedFile]) -> list[Version]:
    """List the versions of which there is a source distribution."""
    versions = []
    for file in files:
        with suppress(InvalidSdistFilename):
            versions.append(parse_sdist_filename(file.filename)[1])
    return versions


def _files_in_json(content: bytes, page: str) -> list[IndexedFile]:
    return [
        IndexedFile(file["filename"], urljoin(page, file["url"]), file.get("hashes", {}).get("sha256"))
        for file in json.loads(content)["files"]
    ]


def _files_in_html(content: bytes, page: str) -> list[IndexedFile]:
    parser = _Anchors()
    parser.feed(content.decode("utf-8", "replace"))
    files = []
    for name, link in parser.links:
        url, fragment = urldefrag(urljoin(page, link))
        algorithm, _, digest = fragment.partition("=")
        files.append(IndexedFile(name, url, digest if algorithm == "sha256" else None))
    return files


class _Anchors(HTMLParser):
    """Collects the page's links: each one's text is a file's name (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self._link: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._link = dict(attrs).get("href") or "" if tag == "a" else None

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._link = None

    def handle_data(self, data: str) -> None:
        if self._link is not None and data.strip():
            self.links.append((data.strip(), self._link))
