"""A package index's page of one project: which files there are (the simple repository API)."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
)

from layer_builder.ground import cooldown
from layer_builder.ground.errors import IndexUnreachableError
from layer_builder.ground.filenames import MAX_LISTED_TAGS, is_bounded, tags_in, wheel_of
from layer_builder.indexes import web
from layer_builder.requirements.origins import origin_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from packaging.tags import Tag
    from packaging.version import Version

    from layer_builder.indexes.access import Access

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
_MAX_BYTES = 32 << 20
# A page of JSON has two or three for each file; Python spends some 64 bytes on an empty one.
_MAX_BRACKETS = 500_000
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

# The tag of a link. HTMLParser takes time that grows with the square of a page's length, if it is made for
# that (CVE-2025-6069); this looks at each character a few times at most.
_ANCHOR = re.compile(r"""<a\s(?:[^<>"']++|"[^"]*+"|'[^']*+')*+>""", re.IGNORECASE)
_LONGEST_ANCHOR = 16 << 10
_LONGEST_ADDRESS = 2048
# As RFC 3986 writes one, but for addresses of IPv6 by number: it is handed on in documents.
_ADDRESS = re.compile(r"https?://(?:[A-Za-z0-9._~:/?#@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_MAX_ANCHORS = 200_000


@dataclass(frozen=True, slots=True)
class IndexedWheel:
    """A wheel as its file name describes it."""

    filename: str
    version: Version
    tags: frozenset[Tag]


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file of a project, as its page describes it.

    Attributes:
        filename: its name.
        url: where it is.
        sha256: in hexadecimal; None if unknown.
        size: in bytes, if the page says it.
        requires_python: the versions of Python that it is for, if the page says it.
        yanked: why its authors withdrew it; empty if they did not.
        has_metadata: whether its metadata can be had by itself (PEP 658).
        uploaded: since when the index has it, if the page says it.
        is_ageless: whether no cooldown applies to it, as the installation says of its index.
        provenance: where the index says who published it (PEP 740), empty if nobody attested it; None if the
            page does not tell.
    """

    filename: str
    url: str
    sha256: str | None
    size: int | None = None
    requires_python: str | None = None
    yanked: str = ""
    has_metadata: bool = False
    uploaded: datetime | None = None
    is_ageless: bool = False
    provenance: str | None = None


def files_of(project: str, index_url: str, access: Access, only: str = "") -> list[IndexedFile] | None:
    """List the files of a project, in the index's order, or those of one name; None when it has no project.

    Raises:
        IndexDeniedError: the index refuses.
        IndexUnreachableError: it does not answer, or not as an index does.
        AddressRefusedError: it leads where nobody should go.
    """
    return _read(f"{index_url.rstrip('/')}/{canonicalize_name(project)}/", access, only)


def files_linked(page: str, access: Access) -> list[IndexedFile]:
    """List the files that a page links to (`--find-links`), of any project.

    Raises:
        IndexDeniedError, IndexUnreachableError, AddressRefusedError: as `files_of`, or there is no such page.
    """
    files = _read(page, access)
    if files is None:
        raise IndexUnreachableError(
            f"There is no page with links at {page}.", hint="Check the address.", details={"page": page}
        )
    return files


def wheels_among(files: Iterable[IndexedFile]) -> list[IndexedWheel]:
    """Take the wheels out of a list of files."""
    wheels = []
    for file in files:
        if file.filename.endswith(".whl"):
            try:
                _, version, _, tags = wheel_of(file.filename)
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


def project_of(filename: str) -> str | None:
    """Tell the project's normalized name from a file's; None if it is no file of one."""
    release = release_of(filename)
    return release and release[0]


def release_of(filename: str) -> tuple[str, Version] | None:
    """Tell the project's normalized name and the version from a file's name; None if it is no file of one."""
    with suppress(InvalidWheelFilename):
        return wheel_of(filename)[:2]
    with suppress(InvalidSdistFilename):
        return parse_sdist_filename(filename)
    return None


def _read(url: str, access: Access, only: str = "") -> list[IndexedFile] | None:
    with web.ask(url, access, accept=_ACCEPT, encodings="gzip") as response:
        if response.status in (404, 410):
            return None
        if error := web.failure(response):
            raise error
        content = response.read(_MAX_BYTES)
        found = _files_in_html if "html" in response.content_type else _files_in_json
    try:
        return _bounded(found(content, url, only))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        host = urlsplit(url).hostname
        raise IndexUnreachableError(
            f"What {host} answers for {url.rstrip('/').rpartition('/')[2]} is no page of a package index.",
            hint="Check the index's address.",
        ) from error


def _bounded(files: list[IndexedFile]) -> list[IndexedFile]:
    """Give the files back, if their names can all be read; those that are too long by themselves are none."""
    if sum(tags_in(file.filename) for file in files if is_bounded(file.filename)) > MAX_LISTED_TAGS:
        raise ValueError("its wheels' names stand for more tags than any page's")
    return files


def _files_in_json(content: bytes, page: str, only: str = "") -> list[IndexedFile]:
    """Read PEP 691, 700 and 740."""
    if content.count(b"[") + content.count(b"{") > _MAX_BRACKETS:
        raise ValueError("it nests more than any page does")
    document = json.loads(content)
    unattested = "" if _tells_of_attestations(document.get("meta")) else None
    return [
        IndexedFile(
            str(file["filename"]),
            urljoin(page, file["url"]),
            _digest(file.get("hashes", {}).get("sha256")),
            file["size"] if isinstance(file.get("size"), int) else None,
            file.get("requires-python") or None,
            _yanked(file.get("yanked")),
            bool(file.get("core-metadata") or file.get("dist-info-metadata")),
            cooldown.time_of(file.get("upload-time")),
            provenance=_provenance(file["provenance"], page) if file.get("provenance") else unattested,
        )
        for file in document["files"]
        if not only or file["filename"] == only
    ]


def _tells_of_attestations(meta: Any) -> bool:
    """Tell whether a page that names no provenance says so that there is none: since API version 1.3."""
    version = meta.get("api-version") if isinstance(meta, dict) else None
    match = re.fullmatch(r"1\.([0-9]{1,3})", version, re.ASCII) if isinstance(version, str) else None
    return bool(match) and int(match[1]) >= 3  # type: ignore[index]


def _provenance(value: Any, page: str) -> str | None:
    """Take where a provenance is: of a secure origin, as PEP 740 wants it, or of the page's own."""
    if not isinstance(value, str) or len(value) > _LONGEST_ADDRESS:
        return None
    with suppress(ValueError):
        url = urljoin(page, value)
        if not _ADDRESS.fullmatch(url):
            return None
        if url.startswith("https://") or origin_of(url) == origin_of(page):
            return url
    return None


def _yanked(value: Any) -> str:
    return value if isinstance(value, str) and value else "yanked" if value else ""


def _digest(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and _SHA256.fullmatch(value) else None


def _files_in_html(content: bytes, page: str, only: str = "") -> list[IndexedFile]:
    """Read PEP 503, 592, 658, 714 and 740."""
    parser = _Anchors()
    tags = _ANCHOR.finditer(_without_comments(content.decode("utf-8", "replace")))
    for number, tag in enumerate(tags, start=1):
        if number > _MAX_ANCHORS:
            raise ValueError("it has more links than any page does")
        if len(tag[0]) <= _LONGEST_ANCHOR:
            parser.feed(tag[0])
    files = []
    for attributes in parser.links:
        url, fragment = urldefrag(urljoin(page, attributes["href"]))
        algorithm, _, digest = fragment.partition("=")
        yanked = attributes.get("data-yanked")
        metadata = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata", "false"))
        files.append(
            IndexedFile(
                unquote(urlsplit(url).path.rpartition("/")[2]),
                url,
                _digest(digest) if algorithm == "sha256" else None,
                requires_python=attributes.get("data-requires-python") or None,
                yanked="" if yanked is None else yanked or "yanked",
                has_metadata=metadata != "false",
                provenance=_provenance(attributes.get("data-provenance"), page),
            )
        )
    return [file for file in files if file.filename == only] if only else files


def _without_comments(text: str) -> str:
    kept, position = [], 0
    while (begin := text.find("<!--", position)) >= 0:
        kept.append(text[position:begin])
        end = text.find("-->", begin)
        position = end + 3 if end >= 0 else len(text)
    return "".join([*kept, text[position:]])


class _Anchors(HTMLParser):
    """Collects links, each with its attributes; fed with one tag at a time, see `_ANCHOR`."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes)
