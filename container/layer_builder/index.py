"""The package index's page of one project: which wheels there are (the simple repository API)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from layer_builder import web
from layer_builder.errors import IndexUnreachableError

if TYPE_CHECKING:
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


def wheels_of(project: str, index_url: str) -> list[IndexedWheel]:
    """List the wheels of a project, in the index's order.

    Raises:
        IndexUnreachableError: the index does not answer, or not as an index does.
    """
    url = f"{index_url.rstrip('/')}/{canonicalize_name(project)}/"
    with web.get(url, accept=_ACCEPT, encodings="gzip") as response:
        content = response.read(_MAX_BYTES)
        names = _names_in_html if "html" in response.content_type else _names_in_json
    wheels = []
    try:
        for filename in names(content):
            if filename.endswith(".whl"):
                try:
                    _, version, _, tags = parse_wheel_filename(filename)
                except InvalidWheelFilename:
                    continue  # old uploads have names that no installer takes
                wheels.append(IndexedWheel(filename, version, tags))
    except (ValueError, KeyError, TypeError) as error:
        raise IndexUnreachableError(
            f"What the package index answers for {project} is no page of an index.",
            hint="Check the index's address.",
        ) from error
    return wheels


def _names_in_json(content: bytes) -> list[str]:
    return [file["filename"] for file in json.loads(content)["files"]]


def _names_in_html(content: bytes) -> list[str]:
    parser = _Anchors()
    parser.feed(content.decode("utf-8", "replace"))
    return parser.names


class _Anchors(HTMLParser):
    """Collects the texts of the page's links: each is a file's name (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self._inside = tag == "a"

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside and data.strip():
            self.names.append(data.strip())
