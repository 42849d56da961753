"""Where packages come from, as a requirements file may say it: only what the installation allows.

An address is taken apart and compared with the allowed ones piece by piece: `https://host/team/` allows what
lies below it on that host, and `https://host.evil/`, `https://host@evil/` or `https://host/team/../x` are
something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

PORTS = {"http": 80, "https": 443}

_PLAIN = re.compile(r"[!-~]+")  # ASCII, no spaces, no control characters


@dataclass(frozen=True, slots=True)
class LinkedWheel:
    """A wheel named by its address, with the digest that it must have (in hexadecimal)."""

    project: str
    filename: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Origins:
    """What one requirements file says of where packages come from.

    Attributes:
        index_url: in the place of the installation's default index; empty for that one.
        extra_index_urls: further indexes, asked before the default one.
        find_links: pages with links to files.
        wheels: files named by their address.
    """

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    wheels: tuple[LinkedWheel, ...] = ()

    @property
    def options(self) -> list[str]:
        """The lines that say so, written anew."""
        return [
            *([f"--index-url {self.index_url}"] if self.index_url else []),
            *(f"--extra-index-url {url}" for url in self.extra_index_urls),
            *(f"--find-links {url}" for url in self.find_links),
        ]


def origin_of(url: str) -> str:
    """Give scheme, host and port of a URL: what credentials are for.

    Raises:
        ValueError: the URL makes no sense.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme.lower()}://{host}:{parts.port or PORTS.get(parts.scheme.lower(), 0)}"


def why_not(url: str, allowed: Iterable[str]) -> str:
    """Say why an address is not taken; nothing if it is.

    Args:
        url: as somebody wrote it.
        allowed: the beginnings of addresses that are.
    """
    try:
        parts = urlsplit(url)
        origin = origin_of(url)
    except ValueError:
        return "it is no address"
    if not _PLAIN.fullmatch(url) or "\\" in url or "$" in url:
        return "an address is written without variables, spaces and backslashes"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "an address begins with https:// and a host"
    if "@" in parts.netloc:
        return "credentials belong into the installation's secret, not into a file"
    if parts.query or "?" in url or parts.fragment or "#" in url:
        return "an address has neither query nor fragment here"
    segments = unquote(parts.path).split("/")
    if {".", ".."} & {*segments} or "%2f" in parts.path.lower() or "%5c" in parts.path.lower():
        return "an address names its place without detours"
    for one in allowed:
        below = urlsplit(one).path.rstrip("/")
        path = parts.path.rstrip("/")
        if origin_of(one) == origin and (path == below or path.startswith(f"{below}/")):
            return ""
    return "the installation does not allow it"
