"""A cooldown: files that an index has had for too short a time are not chosen.

What is uploaded to steal credentials is mostly found out within days, and then withdrawn. Whoever waits that
long does not get it. How long an index has had a file is what the index says (`upload-time`, PEP 700), so it
is as good as the index is; a file of which it does not say so counts as too young.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST, LONGEST = timedelta(hours=1), timedelta(days=365)
GOOD = "7 days, 36 hours or 2 weeks, from 1 hour to 365 days"

_DURATION = re.compile(r"(?P<number>[0-9]{1,5}) (?P<unit>hour|day|week)s?", re.ASCII | re.IGNORECASE)
_HOURS = {"hour": 1, "day": 24, "week": 168}


def parse(text: str) -> timedelta:
    """Read a duration as people write it: `7 days`, `36 hours`, `2 weeks`.

    Raises:
        ValueError: it is none, or none of a length that is taken.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError("no duration")
    age = timedelta(hours=int(match["number"]) * _HOURS[match["unit"].lower()])
    if not SHORTEST <= age <= LONGEST:
        raise ValueError("too short or too long")
    return age


def worded(age: timedelta) -> str:
    """Write a duration as people do, so that `parse` reads it again."""
    hours = age // timedelta(hours=1)
    number, unit = (hours // 24, "day") if hours % 24 == 0 else (hours, "hour")
    return f"{number} {unit}{'' if number == 1 else 's'}"


def stamp(time: datetime) -> str:
    """Write a time as RFC 3339 and TOML have it, in UTC, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(time: datetime) -> str:
    """Write a time for people, in UTC, rounded up to the minute: it is for waiting until then."""
    return (time.astimezone(UTC) + timedelta(seconds=59)).strftime("%Y-%m-%d %H:%M UTC")


@dataclass(frozen=True, slots=True)
class Rule:
    """One cooldown, and the projects that it spares, by their normalized names."""

    age: timedelta
    exempt: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Cooldown:
    """What counts in one build: each of its rules, for the projects that the rule does not spare.

    Attributes:
        now: when the build began; all ages are as of then.
        asked: the build's own rule, if it has one.
        floor: the installation's, if it has one. What the build spares is not spared by it.
        fixed: projects of which a version mends something, each with the time before which their files are
            admitted by either rule (`resolution.fixes`).
    """

    now: datetime
    asked: Rule | None = None
    floor: Rule | None = None
    fixed: tuple[tuple[str, datetime], ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that there are."""
        return tuple(filter(None, (self.asked, self.floor)))

    @property
    def longest(self) -> timedelta:
        """The age that counts for a project that nobody spares."""
        return max((rule.age for rule in self.rules), default=timedelta())

    @property
    def cutoff(self) -> datetime:
        """The time before which a file of such a project must have been uploaded."""
        return self.now - self.longest

    @property
    def named(self) -> list[str]:
        """The projects that a rule spares, or a fix, sorted."""
        return sorted({name for name, _ in self.fixed}.union(*(rule.exempt for rule in self.rules)))

    def age(self, project: str) -> timedelta | None:
        """Say how old a project's files must be; None if that is the same."""
        return max((rule.age for rule in self.rules if project not in rule.exempt), default=None)

    def before(self, project: str) -> datetime | None:
        """Say before when a project's files must have been uploaded; None if that is the same."""
        age = self.age(project)
        return (
            None if age is None else max([self.now - age, *(t for name, t in self.fixed if name == project)])
        )

    def admits(self, project: str, uploaded: datetime | None) -> bool:
        """Tell whether a file may be chosen: as uv has it, one uploaded before the cutoff, not at it."""
        before = self.before(project)
        return before is None or (uploaded is not None and uploaded < before)

    def admitted_from(self, project: str, uploaded: datetime) -> datetime:
        """Say from when on a file of a project may be chosen."""
        return uploaded + (self.age(project) or timedelta())

    def spares(self, project: str) -> str:
        """Say who could spare a project that is not spared: whose rule is in the way."""
        in_the_way = [rule for rule in self.rules if project not in rule.exempt]
        return "installation" if self.floor in in_the_way else "build" if in_the_way else ""


def cooldown(asked: Rule | None, floor: Rule | None, now: datetime | None = None) -> Cooldown | None:
    """Put a build's rule and the installation's together; None if there is neither.

    Args:
        asked: by the build.
        floor: of the installation.
        now: when the build began.
    """
    if not asked and not floor:
        return None
    return Cooldown((now or datetime.now(UTC)).replace(microsecond=0), asked, floor)


def uv_options(counting: Cooldown | None) -> list[str]:
    """Write what uv is told of it (https://docs.astral.sh/uv/reference/cli/#uv-pip-compile--exclude-newer)."""
    if not counting:
        return []
    options = [f"--exclude-newer={stamp(counting.cutoff)}"]
    for name in counting.named:
        before = counting.before(name)
        # To the millisecond, as uv compares.
        until = "false" if before is None else before.astimezone(UTC).isoformat(timespec="milliseconds")
        options.append(f"--exclude-newer-package={name}={until.replace('+00:00', 'Z')}")
    return options


def time_of(text: object) -> datetime | None:
    """Read a time as a page gives it (PEP 700: RFC 3339, with a time zone); None if it is none."""
    if not isinstance(text, str) or len(text) > 40:
        return None
    try:
        time = datetime.fromisoformat(text)
        # Outside of these years it is nobody's upload, and nothing can be added to the last there are.
        return time.astimezone(UTC) if time.tzinfo and 1970 < time.year < 3000 else None
    except (ValueError, OverflowError):
        return None


def normalized(names: Iterable[str]) -> frozenset[str]:
    """Write projects' names as indexes compare them."""
    return frozenset(re.sub(r"[-_.]+", "-", name).lower() for name in names)
