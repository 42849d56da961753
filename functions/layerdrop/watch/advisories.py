"""Advisories: what of a database's record is used, within bounds.

The format: https://ossf.github.io/osv-schema/. Whatever does not fit it is taken for not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from cvss import CVSS2, CVSS3, CVSS4  # type: ignore[import-untyped]
from cvss.exceptions import CVSSError  # type: ignore[import-untyped]
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from layerdrop import wording
from layerdrop.catalogue.documents import SEVERITIES
from layerdrop.watch.osv import is_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Whoever changes what is read of a record counts up: what was kept of it before is asked for anew.
_READING: Final = 1
_ECOSYSTEM: Final = "PyPI"
_MOST_ALIASES: Final = 20
_MOST_AFFECTED: Final = 1000
_MOST_RANGES: Final = 100
_MOST_EVENTS: Final = 200
_MOST_FIXES: Final = 50
_LONGEST_SUMMARY: Final = 300
_LONGEST_VECTOR: Final = 300
_LONGEST_VERSION: Final = 100

# What GitHub calls medium: https://docs.github.com/en/code-security/security-advisories
_WORDS: Final = {
    "CRITICAL": "CRITICAL",
    "HIGH": "HIGH",
    "MODERATE": "MEDIUM",
    "MEDIUM": "MEDIUM",
    "LOW": "LOW",
}


def _v4(vector: str) -> tuple[float, str]:
    rated = CVSS4(vector)
    return float(rated.base_score), str(rated.severity)


def _v3(vector: str) -> tuple[float, str]:
    rated = CVSS3(vector)
    return float(rated.base_score), str(rated.severities()[0])


def _v2(vector: str) -> tuple[float, str]:
    rated = CVSS2(vector)
    return float(rated.base_score), str(rated.severities()[0])


# The newest standard first: https://ossf.github.io/osv-schema/#severitytype-field
_STANDARDS: Final[Mapping[str, Callable[[str], tuple[float, str]]]] = {
    "CVSS_V4": _v4,
    "CVSS_V3": _v3,
    "CVSS_V2": _v2,
}


@dataclass(frozen=True)
class Advisory:
    """What is known of one advisory.

    Attributes:
        modified: when it was changed last, as the database wrote it; empty if it could not be read.
        aliases: ids of the same hole in other databases.
        severity: one of `SEVERITIES`.
        score: CVSS, 0 to 10; None where no vector says it.
        fixed: by a package's name, versions that have the hole no more.
    """

    id: str
    modified: str = ""
    aliases: tuple[str, ...] = ()
    withdrawn: bool = False
    summary: str = ""
    severity: str = "UNKNOWN"
    score: float | None = None
    fixed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Mapping[str, Any], modified: str) -> Self:
        """Read a database's record.

        Args:
            record: The record, whose id was checked.
            modified: When it was changed last, as the answer to the query said.
        """
        score, severity = _rated(record)
        return cls(
            id=record["id"],
            modified=modified,
            aliases=tuple(
                dict.fromkeys(name for name in _list(record, "aliases", _MOST_ALIASES) if is_id(name))
            ),
            withdrawn=bool(record.get("withdrawn")),
            summary=_summary(record),
            severity=severity,
            score=score,
            fixed=_fixed(record),
        )

    def to_json(self) -> dict[str, Any]:
        """The advisory as it is kept until it is changed."""
        return {
            "reading": _READING,
            "modified": self.modified,
            "aliases": list(self.aliases),
            "withdrawn": self.withdrawn,
            "summary": self.summary,
            "severity": self.severity,
            "score": self.score,
            "fixed": {name: list(versions) for name, versions in self.fixed.items()},
        }

    @classmethod
    def from_json(cls, identity: str, document: Mapping[str, Any]) -> Self | None:
        """Read back what `to_json` wrote; None if it was read otherwise then."""
        if document.get("reading") != _READING:
            return None
        return cls(
            id=identity,
            modified=document["modified"],
            aliases=tuple(document["aliases"]),
            withdrawn=document["withdrawn"],
            summary=document["summary"],
            severity=document["severity"],
            score=document["score"],
            fixed={name: tuple(versions) for name, versions in document["fixed"].items()},
        )


def version_of(text: str) -> Version | None:
    """A version that can be compared, or None: https://packaging.python.org/en/latest/specifications/version-specifiers/."""
    try:
        return Version(text) if len(text) <= _LONGEST_VERSION else None
    except InvalidVersion:
        return None


def _rated(record: Mapping[str, Any]) -> tuple[float | None, str]:
    """Score and severity: by a vector, else in the database's own word."""
    parts = [record, *_affected(record)]
    for kind, rate in _STANDARDS.items():
        for part in parts:
            for one in _list(part, "severity", _MOST_RANGES):
                vector = one.get("score") if isinstance(one, dict) and one.get("type") == kind else None
                if not isinstance(vector, str) or len(vector) > _LONGEST_VECTOR:
                    continue
                try:
                    score, severity = rate(vector)
                except CVSSError:
                    continue
                return score, severity.upper() if severity.upper() in SEVERITIES else "UNKNOWN"
    specific = record.get("database_specific")
    word = specific.get("severity") if isinstance(specific, dict) else None
    return None, _WORDS.get(word.upper(), "UNKNOWN") if isinstance(word, str) else "UNKNOWN"


def _summary(record: Mapping[str, Any]) -> str:
    """One line: older records of some databases have details only."""
    for name in ("summary", "details"):
        text = record.get(name)
        if isinstance(text, str) and text.strip():
            line = " ".join(wording.shortened(text, 10 * _LONGEST_SUMMARY).split())
            return wording.shortened(
                wording.visible(wording.shortened(line, _LONGEST_SUMMARY)), _LONGEST_SUMMARY
            )
    return ""


def _fixed(record: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, Version]] = {}
    for name, affected in _packages(record):
        for ranged in _list(affected, "ranges", _MOST_RANGES):
            # Those of git name commits.
            if not isinstance(ranged, dict) or ranged.get("type") == "GIT":
                continue
            for event in _list(ranged, "events", _MOST_EVENTS):
                text = event.get("fixed") if isinstance(event, dict) else None
                if isinstance(text, str) and (version := version_of(text)):
                    found.setdefault(name, {})[str(version)] = version
    return {
        name: tuple(sorted(versions, key=lambda text: versions[text])[:_MOST_FIXES])
        for name, versions in found.items()
    }


def _packages(record: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for affected in _affected(record):
        package = affected.get("package")
        if isinstance(package, dict) and package.get("ecosystem") == _ECOSYSTEM:
            name = package.get("name")
            if isinstance(name, str):
                yield canonicalize_name(name), affected


def _affected(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in _list(record, "affected", _MOST_AFFECTED) if isinstance(one, dict)]


def _list(document: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = document.get(name)
    return value[:most] if isinstance(value, list) else []
