"""Words that others wrote, brought into a form in which everybody may read them: visible, and not too long.

A settings block, a key and a builder's report may hold megabytes, and characters that a terminal obeys. What
is told travels through the state machine, which ends an execution, without the reason, if a state has more
than 256 KiB: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SENTENCE = 1000
"""Characters of a message or a hint."""
MAX_TEXT = 4000
"""Characters of one text among an error's details."""
MAX_DETAILS = 8000
"""Characters of all of them: at most some 16 bytes each, escaped three times on the way."""

_MAX_WORD = 100
_MAX_ENTRIES = 100
_MAX_DEPTH = 8
_MAX_BITS = 64

# What a terminal obeys or hides instead of showing it: control characters but newline and tab (C0, DEL, C1),
# direction marks and overrides, line separators, halves of surrogate pairs, tags.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with an escape that can be seen, such as `\\x1b`, for what a terminal would obey or hide."""
    return _UNSEEN.sub(_escape, text)


def shown(value: Any) -> Any:
    """The JSON value with all of its texts `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): shown(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [shown(entry) for entry in value]
    return value


def escaped(document: str) -> str:
    """JSON with its own escapes for what a terminal would obey: it means the same, and can be shown."""
    return _UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], document)


def shortened(text: str, longest: int) -> str:
    """The text, without its middle if it has more characters than that: the end often says what is wrong."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 3]} … {text[-end:]}"


def word(text: str) -> str:
    """A word of the user's as it can stand in a sentence."""
    return shortened(visible(shortened(text, _MAX_WORD)).replace("\n", "\\n").replace("\t", "\\t"), _MAX_WORD)


def as_json(value: Any) -> str:
    """A value of the user's as it can stand in a sentence: as JSON, in which settings are written alike."""
    value = shortened(value, _MAX_WORD) if isinstance(value, str) else bounded({"": value})[""]
    return visible(shortened(json.dumps(value, ensure_ascii=False), 2 * _MAX_WORD))


def sentence(text: str) -> str:
    """A message or hint as one line of bounded length."""
    line = visible(shortened(text, MAX_SENTENCE)).replace("\n", "\\n").replace("\t", "\\t")
    return shortened(line, MAX_SENTENCE)


def bounded(details: Mapping[str, Any]) -> dict[str, Any]:
    """Details that can be written as JSON and shown, whatever they held.

    Texts are cut, long lists end in how much was left out, and what nests too deep or comes after
    `MAX_DETAILS` characters is left out.
    """
    room = MAX_DETAILS

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
        if isinstance(value, dict | list | tuple):
            return fill(value, depth)
        return text_of(str(value))

    def fill(value: Any, depth: int) -> Any:
        if depth == 0 or room <= 0:
            return "…"
        entries = len(value) if len(value) <= _MAX_ENTRIES else _MAX_ENTRIES - 1
        rest = len(value) - entries
        if isinstance(value, dict):
            filled = {text_of(str(key)): copy(value[key], depth - 1) for key in islice(value, entries)}
            return filled | ({"…": f"{rest} more"} if rest > 0 else {})
        listed = [copy(entry, depth - 1) for entry in islice(value, entries)]
        return [*listed, *([f"{rest} more"] if rest > 0 else [])]

    return dict(fill(dict(details), _MAX_DEPTH))


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\{'u' if number < 0x10000 else 'U000'}{number:04x}"
