"""Findings in sentences that stay readable, whoever wrote the words in them: however long, and whatever a
terminal would make of them.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHOWN = 5  # of a list, when it is long
MAX_SENTENCE = 1_000  # characters of a message or a hint
MAX_TEXT = 4_000  # of one text among an error's details
MAX_DETAILS = 32_000  # of all of them
_MAX_ENTRIES, _MAX_DEPTH, _MAX_BITS = 100, 8, 64

# What a terminal obeys or hides instead of showing it: control characters but newline and tab (C0, DEL, C1),
# direction marks and overrides, line separators, halves of surrogate pairs, tags.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


def listed(words: Iterable[str]) -> str:
    """Join words as a sentence does, `a, b and c`; of a long list the rest is counted."""
    names = list(words)
    if len(names) > SHOWN + 1:
        names[SHOWN:] = [f"{len(names) - SHOWN} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def more(count: int) -> str:
    """Say how many further files a sentence about one is true of."""
    return f" ({count} more file{'s' if count > 1 else ''} like it)" if count else ""


def publisher(identity: Mapping[str, str | None]) -> str:
    """Name who published a file, as `GitHub: owner/name, release.yml`."""
    named = [value for name, value in identity.items() if name != "kind" and value]
    return f"{identity['kind']}: {', '.join(named)}" if named else str(identity["kind"])


def visible(text: str, *, one_line: bool = False) -> str:
    """Write what a terminal would obey or hide as an escape that can be seen, such as `\\x1b`.

    Args:
        text: anybody's.
        one_line: whether newlines and tabs have no meaning in it either.
    """
    text = _UNSEEN.sub(_escaped, text)
    return text.replace("\n", "\\n").replace("\t", "\\t") if one_line else text


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\{'u' if number < 0x10000 else 'U000'}{number:04x}"


def shortened(text: str, longest: int) -> str:
    """Cut the middle out of a text that has more characters than that: its end often says what is wrong."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 3]} … {text[-end:]}"


def sentence(text: str) -> str:
    """Bring a message or hint into the form in which it is shown: one line, visible, of bounded length."""
    return shortened(visible(shortened(text.strip(), MAX_SENTENCE), one_line=True), MAX_SENTENCE)


def bounded(
    details: dict[str, Any], *, entries: int = _MAX_ENTRIES, characters: int = MAX_DETAILS
) -> dict[str, Any]:
    """Copy an error's details so that they can be written as JSON and shown, whatever they hold.

    Texts are cut, long lists end in how much was left out, and what nests too deep or comes after so many
    characters is left out.
    """
    room = characters

    def text_of(text: str) -> str:
        nonlocal room
        text = shortened(visible(shortened(text, MAX_TEXT)), max(min(MAX_TEXT, room), 4))
        room -= len(text)
        return text

    def copy(value: object, depth: int) -> Any:
        nonlocal room
        room -= 4
        if isinstance(value, bool | float | None):
            return value
        if isinstance(value, int):
            bits = value.bit_length()
            return value if bits <= _MAX_BITS else f"a number of {bits} bits"
        if isinstance(value, dict | list | tuple | set | frozenset):
            return fill(value, depth)
        return text_of(str(value))

    def fill(value: Any, depth: int) -> Any:
        if depth == 0 or room <= 0:
            return "…"
        taken = len(value) if len(value) <= entries else entries - 1
        rest = len(value) - taken
        if isinstance(value, dict):
            filled = {text_of(str(key)): copy(value[key], depth - 1) for key in islice(value, taken)}
            return filled | ({"…": f"{rest} more"} if rest > 0 else {})
        listed = [copy(entry, depth - 1) for entry in islice(value, taken)]
        return [*listed, *([f"{rest} more"] if rest > 0 else [])]

    return dict(fill(details, _MAX_DEPTH))
