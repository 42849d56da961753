"""Blots out secrets where words come together that others wrote: logs, reports, errors.

Nothing here is meant to show one. A server may still send back what it was given, and an exception quote it.
"""

from __future__ import annotations

import json
import logging
from urllib.parse import quote

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


class Formatter(logging.Formatter):
    """A log's lines, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as a line, or several."""
        return clean(super().format(record))
