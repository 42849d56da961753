"""Asks the database about many packages, and for each advisory no more often than needed."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from layerdrop import wording
from layerdrop.watch.advisories import Advisory
from layerdrop.watch.osv import Database, DatabaseError, Match, Package, RefusedError, UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 8
# So many records that cannot be had, one after the other, are not those records' fault.
_MOST_FAILURES: Final = 20


@dataclass
class Asker:
    """Asks for the time of one run.

    Attributes:
        database: who is asked.
        kept: advisories as they were read before; what was not changed since is not asked for again.
        used: ids of those that this run has come upon.
        failures: how often something could not be had.
    """

    database: Database
    kept: dict[str, Advisory]
    used: set[str] = field(default_factory=set, init=False)
    failures: int = field(default=0, init=False)
    _matches: dict[Package, frozenset[Match] | None] = field(default_factory=dict, init=False)
    _read: dict[Match, Advisory | None] = field(default_factory=dict, init=False)

    def about(
        self, packages: Iterable[Package]
    ) -> tuple[dict[Package, tuple[Advisory, ...] | None], set[Package]]:
        """What is known of each package; of one that the database does not take, None.

        Returns:
            The advisories, and the packages that not all could be had of: another time.

        Raises:
            DatabaseError: nobody answers.
        """
        asked = set(packages)
        # In the order of their names, so that the same question is the same request.
        answers = self.database.matches(sorted(asked - self._matches.keys()))
        self._matches.update(answers)
        for package in sorted(one for one, known in answers.items() if known is None):
            self.failures += 1
            logger.warning("The vulnerability database does not take %s", package.purl)
        self._fetch({match for one in asked for match in self._matches[one] or ()} - self._read.keys())
        known: dict[Package, tuple[Advisory, ...] | None] = {}
        missing: set[Package] = set()
        for package in asked:
            matches = self._matches[package]
            if matches is None:
                known[package] = None
                continue
            read = [self._read[match] for match in sorted(matches)]
            if None in read:
                missing.add(package)
            known[package] = tuple(one for one in read if one is not None)
        return known, missing

    def _fetch(self, matches: Iterable[Match]) -> None:
        wanted = sorted(matches)
        self.used |= {match.id for match in wanted}
        failed = 0
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for start in range(0, len(wanted), _MOST_FAILURES):
                part = wanted[start : start + _MOST_FAILURES]
                got = list(threads.map(self._advisory, part))
                self._read.update(zip(part, got, strict=True))
                self.kept.update({one.id: one for one in got if one and one.modified})
                failed = failed + got.count(None) if None in got else 0
                if failed >= _MOST_FAILURES:
                    raise DatabaseError(f"it has not answered for {failed} advisories, one after the other")

    def _advisory(self, match: Match) -> Advisory | None:
        kept = self.kept.get(match.id)
        if kept and match.modified and kept.modified == match.modified:
            return kept
        try:
            return Advisory.of(self.database.record(match.id), match.modified)
        except (RefusedError, UnusableError) as error:
            # That there is a hole is known all the same.
            self._failed(match, error)
            return kept or Advisory(match.id)
        except DatabaseError as error:
            self._failed(match, error)
            return None

    def _failed(self, match: Match, error: DatabaseError) -> None:
        self.failures += 1
        logger.warning("Advisory %s cannot be had: %s", match.id, wording.sentence(str(error)))


def still_there(names: Mapping[Package, frozenset[str]], asker: Asker) -> dict[Package, frozenset[str]]:
    """Which holes, by all that they are called, are in a package still.

    Raises:
        DatabaseError: that cannot be found out now.
    """
    known, missing = asker.about(names)
    if missing or None in known.values():
        raise DatabaseError("not all that it knows of these packages could be had")
    return {
        package: frozenset(
            name
            for one in advisories or ()
            if not one.withdrawn
            for name in (one.id, *one.aliases)
            if name in names[package]
        )
        for package, advisories in known.items()
    }
