"""Words of others (requirements, package names, error messages) so that GitHub shows them and obeys none."""

from __future__ import annotations

import html
import re
import unicodedata

LONGEST = 600
"""Characters of one text that are shown."""

_SPACE = re.compile(r"\s+")
# What hides, reorders or ends a line: controls, formats, separators, halves of pairs, private use.
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def line(text: object, longest: int = LONGEST) -> str:
    """A text on one line, what cannot be seen written out, cut where it is too long."""
    told = _SPACE.sub(" ", str(text)).strip()
    told = "".join(
        f"\\u{{{ord(one):x}}}" if unicodedata.category(one) in _UNSEEN else one for one in told[: longest + 1]
    )
    return told if len(told) <= longest else told[: longest - 1] + "…"


def code(text: object, longest: int = LONGEST) -> str:
    """A text as HTML's `code`, in which GitHub makes no links, mentions or references.

    It is for HTML blocks: within them nothing is read as Markdown up to the next empty line
    (https://github.github.com/gfm/#html-blocks).
    """
    return f"<code>{html.escape(line(text, longest), quote=False)}</code>"


def data(text: str) -> str:
    """The message of a workflow command.

    The runner takes back just these: https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def property_value(text: str) -> str:
    """The value of a workflow command's property."""
    return data(text).replace(":", "%3A").replace(",", "%2C")
