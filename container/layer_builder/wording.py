"""Findings in sentences: lists that stay readable however long they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN = 5  # of a list, when it is long


def listed(words: Iterable[str]) -> str:
    """Join words as a sentence does, `a, b and c`; of a long list the rest is counted."""
    names = list(words)
    if len(names) > SHOWN + 1:
        names[SHOWN:] = [f"{len(names) - SHOWN} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def more(count: int) -> str:
    """Say how many further files a sentence about one is true of."""
    return f" ({count} more file{'s' if count > 1 else ''} like it)" if count else ""
