"""What a lock may have at most: more than anybody's has, and little enough to be read in seconds.

Eight megabytes of wheels are a second's work. As many of tables, markers, digits or dots would take the TOML
reader and PEP 751's minutes and gigabytes, so what costs is counted before either of them sees it. The limits
are of the text and of what it says, not of time, so the same lock gets the same answer everywhere.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from layer_builder.ground.filenames import MAX_LISTED_TAGS, is_bounded, tags_in
from layer_builder.requirements import parser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_BYTES = 8 << 20  # a lock for all platforms lists every wheel there is

# In the whole text. A wheel of 250 bytes has two brackets, six values and five commas. Where it has a table,
# and another for its hashes, it is longer.
_MOST = {b",": 300_000, b"\n": 1_000_000}
_MOST_BRACKETS = 200_000
# To the reader, a value with a name of its own is half a kilobyte, a table with one three kilobytes.
_TABLE = re.compile(rb"^[ \t]*+\[", re.MULTILINE)
_MOST_TABLES = 50_000
_MOST_VALUES = 240_000  # a table counts as three
# A run of what names, versions and numbers are made of; the tokens in addresses are shorter. For a number of
# megabytes, the reader's pattern takes a hundred times as much.
_LONG_WORD = re.compile(rb"(?<![\w.+-])[\w.+-]{8193}")
# A key of nine parts, which no lock has. For one of 50,000, a TOML reader takes minutes: its time grows with
# the square. Keys begin lines and inline tables, and may be a table's own, in brackets.
_KEY = rb"""(?:^|[{,\[])[ \t]*+(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)"""
LONG_KEY = re.compile(_KEY + rb"{8}", re.MULTILINE)
# Keys of three parts, and tables of four, are those of tools. To the reader each part is a table.
_DEEP_KEYS = (
    re.compile(_KEY.replace(rb"{,\[", b"{,") + rb"{2}", re.MULTILINE),
    re.compile(rb"\[" + _KEY.partition(b")")[2] + rb"{3}"),
)
_MOST_DEEP_KEYS = 5_000
# Names, versions, specifiers and markers of all packages, each taken apart by a parser: in characters.
_MOST_WORDS = 1 << 20
_PARSED = ("name", "version", "marker", "requires-python")


def fault_of_text(content: bytes) -> str | None:
    """Say why a lock is not to be parsed at all; None if it may be."""
    if len(content) > MAX_BYTES:
        return f"it is larger than {MAX_BYTES:,} bytes"
    if LONG_KEY.search(content):
        return "it is nested too deeply"
    tables = _count(_TABLE, content, _MOST_TABLES)
    if (
        any(content.count(sign) > most for sign, most in _MOST.items())
        or content.count(b"[") + content.count(b"{") > _MOST_BRACKETS
        or tables > _MOST_TABLES
        or content.count(b"=") + 3 * tables > _MOST_VALUES
        or any(_count(pattern, content, _MOST_DEEP_KEYS) > _MOST_DEEP_KEYS for pattern in _DEEP_KEYS)
    ):
        return "it has more tables, values or lines than the locks of the largest projects"
    if _LONG_WORD.search(content):
        return "it has a word or a number of more than 8,192 characters"
    return None


def fault_of_document(document: Mapping[str, Any]) -> str | None:
    """Say why what its TOML says is not to be taken apart; None if it may be.

    Raises:
        ValueError: it has an address that is none.
    """
    packages = _tables(document.get("packages"))
    if len(packages) > parser.MAX_LINES:
        return f"it has more than {parser.MAX_LINES:,} packages"
    if sum(map(len, _words(document, packages))) > _MOST_WORDS:
        return f"its names, versions and markers have more than {_MOST_WORDS:,} characters"
    tags = 0
    for wheel in (wheel for package in packages for wheel in _tables(package.get("wheels"))):
        names = list(_filenames(wheel))
        tags += max(map(tags_in, names), default=0)
        if tags > MAX_LISTED_TAGS or not all(map(is_bounded, names)):
            return "names of its wheels are too long, or stand for too many tags"
    return None


def _count(pattern: re.Pattern[bytes], content: bytes, most: int) -> int:
    """Count matches, up to one more than the most."""
    return sum(1 for _ in islice(pattern.finditer(content), most + 1))


def _words(document: Mapping[str, Any], packages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    listed = document.get("environments")
    yield from (one for one in listed if isinstance(one, str)) if isinstance(listed, list) else ()
    for table in (document, *packages):
        yield from (word for name in _PARSED if isinstance(word := table.get(name), str))


def _filenames(wheel: Mapping[str, Any]) -> Iterator[str]:
    """List what may be taken for a wheel's file name, as PEP 751 has it."""
    name, path, url = (
        one if isinstance(one := wheel.get(key), str) else "" for key in ("name", "path", "url")
    )
    yield name
    yield path.replace("\\", "/").rpartition("/")[2]
    yield unquote(urlsplit(url).path.rpartition("/")[2])


def _tables(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
