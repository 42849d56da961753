"""Cleans what is shown where words come together that others wrote: logs, reports, errors.

Secrets are blotted out: nothing here is meant to show one, but a server may send back what it was given, and
an exception quote it. What a terminal would obey is written so that it can be seen.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote

from layer_builder.ground import wording

BLOT = "***"
_SHORTEST = 4  # shorter ones would blot out ordinary words

_secrets: set[str] = set()


def remember(*secrets: str) -> None:
    """Have these blotted out from now on, also as they stand in JSON, in URLs and in exceptions."""
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            written = repr(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False)
            _secrets.update((secret, quote(secret, safe=""), *(text[1:-1] for text in written)))


def clean(text: str) -> str:
    """Blot out the secrets in a text; the longest first, because one may hold another."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, BLOT)
    return text


def shown(value: Any) -> Any:
    """Copy what is to be written as JSON, each text in it without secrets, and visible."""
    if isinstance(value, str):
        return wording.visible(clean(value))
    if isinstance(value, dict):
        return {shown(str(key)): shown(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [shown(entry) for entry in value]
    return value if isinstance(value, int | float | None) else shown(str(value))


class Formatter(logging.Formatter):
    """A log's lines, tracebacks included, without secrets and without what a terminal would obey."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Write a record's message as one line: further ones would pass for messages of their own."""
        return wording.visible(super().formatMessage(record), one_line=True)

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as a line, with a traceback as several."""
        return wording.visible(clean(super().format(record)))
