"""Findings in sentences: lists that stay readable however long they are."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN = 5  # of a list, when it is long
MAX_CHARACTERS = 2_000  # of a sentence that has words of others in it: names, paths, what a tool said
MAX_DETAIL = 4_000
MAX_ITEMS = 500


def listed(words: Iterable[str]) -> str:
    """Join words as a sentence does, `a, b and c`; of a long list the rest is counted."""
    names = list(words)
    if len(names) > SHOWN + 1:
        names[SHOWN:] = [f"{len(names) - SHOWN} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def cut(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Shorten a text in its middle, since what it is about is at the beginning, and what to do at the end."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def bounded(value: Any) -> Any:
    """Shorten the texts and lists of a JSON value, at whatever depth, so that nobody can make it huge."""
    if isinstance(value, str):
        return cut(value, MAX_DETAIL)
    if isinstance(value, dict):
        return {cut(str(key)): bounded(one) for key, one in itertools.islice(value.items(), MAX_ITEMS)}
    if isinstance(value, (list, tuple)):
        return [bounded(one) for one in value[:MAX_ITEMS]]
    return value


def more(count: int) -> str:
    """Say how many further files a sentence about one is true of."""
    return f" ({count} more file{'s' if count > 1 else ''} like it)" if count else ""
