"""Which layers are due, and what came of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from layerdrop.timestamps import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

Item = TypeVar("Item")

# Asked each hour, so that no more than a day goes by.
_EVERY: Final = timedelta(hours=23, minutes=30)
_NEVER: Final = ""


@dataclass(frozen=True)
class Pointed:
    """A layer, and the version that its pointer leads to."""

    name: str
    version: int


@dataclass
class Counts:
    """What a run has done.

    Attributes:
        asked: layers that the database answered about.
        new_findings: in them.
        told: events sent.
        looked: layers whose rebuild was looked at.
        rebuilds: builds begun.
        failures: of whatever kind; each has its line in the log.
        left: layers that are due still.
    """

    asked: int = 0
    new_findings: int = 0
    told: int = 0
    looked: int = 0
    rebuilds: int = 0
    failures: int = 0
    left: int = 0


def due(
    pointed: Iterable[Pointed],
    last: Mapping[str, tuple[int, str]],
    now: datetime,
    first: Callable[[str], bool] = lambda _name: False,
) -> list[Pointed]:
    """The layers whose time has come: those never seen to before the others, then the longest ago.

    Args:
        pointed: All layers.
        last: Of layers that were seen to, which version it was and when, ISO 8601 in UTC.
        now: Now.
        first: Which layers go before all others.
    """
    before = iso(now - _EVERY)
    waiting = []
    for one in pointed:
        version, when = last.get(one.name, (None, _NEVER))
        if version != one.version:
            when = _NEVER
        if when <= before:
            waiting.append((not first(one.name), when, one.name, one))
    return [item[-1] for item in sorted(waiting, key=lambda item: item[:-1])]


def parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items, so many at a time."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
