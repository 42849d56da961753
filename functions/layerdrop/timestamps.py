"""Times, as manifests, events and the catalogue have them."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def iso(moment: datetime) -> str:
    """A moment, which has a time zone, as ISO 8601 in UTC, to the millisecond: so texts are in order."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
