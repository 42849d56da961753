"""Findings: what is known against the packages of one version of a layer. Pure: nothing is asked here."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from layerdrop import wording
from layerdrop.catalogue.documents import SEVERITIES
from layerdrop.watch.advisories import Advisory, version_of
from layerdrop.watch.osv import Package

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


MOST: Final = 500
"""Findings that are kept of a layer, the worst."""

# Whose name a finding goes by, before all others.
_DATABASES: Final = ("GHSA-", "CVE-", "PYSEC-")
_MOST_ALIASES: Final = 40
_MOST_FIXES: Final = 20
_PAGE: Final = "https://osv.dev/vulnerability/"


@dataclass(frozen=True)
class Finding:
    """One hole in one package of a layer, whatever it is called.

    Attributes:
        score: CVSS, 0 to 10, or None.
        fixed_in: greater versions that have it no more, from the smallest on.
        first_seen: ISO 8601 in UTC.
        told: when its event was sent; None for not yet.
        ignored: why, in the words of the settings block; None if it is not.
    """

    id: str
    aliases: tuple[str, ...]
    package: str
    version: str
    severity: str
    score: float | None
    summary: str
    fixed_in: tuple[str, ...]
    first_seen: str
    told: str | None
    ignored: str | None
    url: str

    @property
    def names(self) -> frozenset[str]:
        """All that it is called."""
        return frozenset((self.id, *self.aliases))

    @property
    def is_open(self) -> bool:
        """Whether somebody should do something about it."""
        return self.ignored is None

    @property
    def is_to_be_told(self) -> bool:
        """Whether nobody was told of it who should be."""
        return self.is_open and self.told is None

    def to_json(self) -> dict[str, Any]:
        """The finding by its schema."""
        return asdict(self) | {"aliases": list(self.aliases), "fixed_in": list(self.fixed_in)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        return cls(
            **{
                name: document[name]
                for name in cls.__dataclass_fields__
                if name not in ("aliases", "fixed_in")
            },
            aliases=tuple(document["aliases"]),
            fixed_in=tuple(document["fixed_in"]),
        )


def findings(
    advisories: Mapping[Package, Iterable[Advisory] | None],
    before: Sequence[Finding],
    ignore: Mapping[str, str],
    now: str,
) -> tuple[Finding, ...]:
    """The findings of a layer, the worst first.

    Args:
        advisories: Of each package of the layer; None for one that nothing can be found out about now.
        before: As they were, of whatever version of the layer: when they were seen and told stays.
        ignore: Why some are none for this layer, by any of their ids.
        now: ISO 8601 in UTC.
    """
    reasons = {name.upper(): why for name, why in ignore.items()}
    found = [
        _remembered(_finding(package, group, reasons, now), before)
        for package, known in advisories.items()
        for group in _groups(one for one in known or () if not one.withdrawn)
    ]
    unclear = {package for package, known in advisories.items() if known is None}
    found += [one for one in before if Package(one.package, one.version) in unclear]
    return ordered(found)[:MOST]


def ordered(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first."""
    return tuple(
        sorted(
            found, key=lambda one: (SEVERITIES.index(one.severity), -(one.score or 0), one.package, one.id)
        )
    )


def _groups(advisories: Iterable[Advisory]) -> list[list[Advisory]]:
    """Advisories of the same hole together: aliases are symmetric and transitive.

    https://ossf.github.io/osv-schema/#aliases-field
    """
    above: dict[str, str] = {}

    def first(name: str) -> str:
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    known = sorted(advisories, key=lambda one: one.id)
    for advisory in known:
        for name in (advisory.id, *advisory.aliases):
            above.setdefault(name, name)
            above[first(name)] = first(advisory.id)
    groups: dict[str, list[Advisory]] = defaultdict(list)
    for advisory in known:
        groups[first(advisory.id)].append(advisory)
    return list(groups.values())


def _finding(package: Package, group: Sequence[Advisory], reasons: Mapping[str, str], now: str) -> Finding:
    members = sorted(group, key=lambda one: _rank(one.id))
    names = sorted({name for one in members for name in (one.id, *one.aliases)}, key=_rank)
    rated = next((one for one in members if one.score is not None), None) or next(
        (one for one in members if one.severity != "UNKNOWN"), members[0]
    )
    why = next((reasons[name.upper()] for name in names if name.upper() in reasons), None)
    return Finding(
        id=names[0],
        aliases=tuple(names[1 : _MOST_ALIASES + 1]),
        package=package.name,
        version=package.version,
        severity=rated.severity,
        score=rated.score,
        summary=next((one.summary for one in members if one.summary), ""),
        fixed_in=_greater(package, members),
        first_seen=now,
        told=None,
        ignored=None if why is None else wording.sentence(why),
        # The database has a page for each of its records, but not for every alias.
        url=_PAGE + (names[0] if names[0] in {one.id for one in members} else members[0].id),
    )


def _greater(package: Package, advisories: Iterable[Advisory]) -> tuple[str, ...]:
    has = version_of(package.version)
    texts = {text for one in advisories for text in one.fixed.get(package.name, ())}
    versions = {text: version for text in texts if (version := version_of(text))}
    later = [text for text, version in versions.items() if has is None or version > has]
    return tuple(sorted(later, key=lambda text: versions[text])[:_MOST_FIXES])


def _rank(name: str) -> tuple[int, str]:
    place = next(
        (number for number, prefix in enumerate(_DATABASES) if name.startswith(prefix)), len(_DATABASES)
    )
    return place, name


def _remembered(finding: Finding, before: Iterable[Finding]) -> Finding:
    """With what is known of it already: advisories may have got further names, or have become one."""
    same = [one for one in before if one.package == finding.package and one.names & finding.names]
    if not same:
        return finding
    told = [one.told for one in same if one.told]
    return replace(finding, first_seen=min(one.first_seen for one in same), told=min(told) if told else None)
