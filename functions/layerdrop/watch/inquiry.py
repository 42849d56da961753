"""What is known against layers: asked, told and written down.

In this order, so that nothing is told never: what was told is written after it was sent, so a run that dies
in between tells of at most one part's layers once more.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from packaging.utils import canonicalize_name

from layerdrop import wording
from layerdrop.catalogue.documents import VULNERABILITIES
from layerdrop.timestamps import iso
from layerdrop.watch.asking import Asker
from layerdrop.watch.findings import findings
from layerdrop.watch.osv import DatabaseError, Package
from layerdrop.watch.schedule import Pointed, due, parts
from layerdrop.watch.state import Known, beside
from layerdrop.watch.telling import Told, vulnerable_event

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from layerdrop.bus import Bus
    from layerdrop.catalogue.releases import Release
    from layerdrop.watch.advisories import Advisory
    from layerdrop.watch.osv import Database
    from layerdrop.watch.schedule import Counts
    from layerdrop.watch.state import Store, Vulnerabilities

    Answers = Mapping[str, Mapping[Package, tuple[Advisory, ...] | None]]

logger = logging.getLogger(__name__)

# So many layers are asked about before it is written down what came of it: a run that is cut short has lost
# no more than that.
_AT_ONCE: Final = 500
_WRITES: Final = 5
_LONGEST_KEY: Final = 1024  # in bytes: Amazon S3 User Guide, "Naming Amazon S3 objects"


@dataclass
class Inquiry:
    """One run of questions.

    Attributes:
        gone: which of some layers are no layers any more.
        stack: whose layers these are.
        releases: what is in versions of layers, by layer name; of some nobody wrote that down.
        clock: now, in UTC.
        seconds_left: how much longer it may take.
    """

    store: Store
    releases: Callable[[Iterable[Pointed]], dict[str, Release]]
    gone: Callable[[Collection[str]], set[str]]
    database: Database
    bus: Bus
    stack: str
    clock: Callable[[], datetime]
    seconds_left: Callable[[], float]
    _sent: dict[tuple[str, str, str], str] = field(default_factory=dict, init=False)

    def run(self, pointed: Sequence[Pointed], state: Vulnerabilities, counts: Counts) -> Vulnerabilities:
        """Ask about the layers that are due, as far as there is time.

        Args:
            pointed: All layers.
            state: What was known.
            counts: Counted up.

        Returns:
            What is known.
        """
        # Until its version is written down, or in an index that was spoilt, a layer may be missing.
        gone = self.gone(state.layers.keys() - {one.name for one in pointed})
        asker = Asker(self.database, state.advisories)
        last = {name: (one.version, one.asked) for name, one in state.layers.items()}
        waiting = due(pointed, last, self.clock())
        counts.left = len(waiting)
        if gone or _is_unfinished(state):
            state = self._settle(state, gone, {}, {}, asker, counts)
        try:
            return self._ask(waiting, state, asker, counts)
        finally:
            counts.failures += asker.failures

    def _ask(
        self,
        waiting: Iterable[Pointed],
        state: Vulnerabilities,
        asker: Asker,
        counts: Counts,
    ) -> Vulnerabilities:
        for part in parts(waiting, _AT_ONCE):
            if self.seconds_left() <= 0:
                break
            releases = self.releases(part)
            try:
                answers = _answers(asker, releases.values())
            except DatabaseError as error:
                # Nor will it answer the rest: what was known stays, and the next run asks again.
                counts.failures += 1
                reason = wording.sentence(str(error))
                logger.error("The vulnerability database cannot be asked: %s", reason)  # noqa: TRY400
                # The advisories that it did answer for are not asked for again.
                return self._settle(state, (), {}, {}, asker, counts) if asker.used else state
            state = self._settle(state, (), releases, answers, asker, counts)
            counts.asked += len(answers)
            counts.left -= len(part) - (len(releases) - len(answers))
        return state

    def _settle(
        self,
        state: Vulnerabilities,
        gone: Iterable[str],
        releases: Mapping[str, Release],
        answers: Answers,
        asker: Asker,
        counts: Counts,
    ) -> Vulnerabilities:
        for _ in range(_WRITES):
            now = iso(self.clock())
            before = dict(state.layers)
            for name in gone:
                state.layers.pop(name, None)
            for name, advisories in answers.items():
                state.layers[name] = _known(releases[name], before.get(name), advisories, now)
            self._tell(state, releases, counts)
            self._write_beside(state, before, now, counts)
            mentioned = {
                name for known in state.layers.values() for one in known.findings for name in one.names
            }
            state.advisories = {
                name: one for name, one in asker.kept.items() if name in mentioned or name in asker.used
            }
            body = state.to_bytes(now, self.database.address)
            if etag := self.store.write(VULNERABILITIES, state.etag, body):
                state.etag = etag
                counts.new_findings += sum(
                    one.first_seen == now for name in answers for one in state.layers[name].findings
                )
                return state
            # Another run is at it: what that has done stays, and this is done on top of it.
            state = self.store.vulnerabilities()
        raise RuntimeError(f"{VULNERABILITIES} changed at each of {_WRITES} attempts to write it")

    def _tell(self, state: Vulnerabilities, releases: Mapping[str, Release], counts: Counts) -> None:
        """Tell of whatever nobody was told of yet, that of earlier runs included."""
        for name, known in state.layers.items():
            found = [
                replace(one, told=self._sent.get((name, one.package, one.id))) if one.is_to_be_told else one
                for one in known.findings
            ]
            new = [one for one in found if one.is_to_be_told]
            if new and (told := self._told(name, known, releases)):
                try:
                    self.bus.send(vulnerable_event(told, new))
                except (ClientError, BotoCoreError, RuntimeError) as error:
                    counts.failures += 1
                    logger.error("Nobody could be told of %s: %s", name, error)  # noqa: TRY400
                else:
                    at = iso(self.clock())
                    self._sent.update({(name, one.package, one.id): at for one in new})
                    found = [replace(one, told=at) if one.is_to_be_told else one for one in found]
                    counts.told += 1
            state.layers[name] = replace(known, findings=tuple(found))

    def _told(self, name: str, known: Known, releases: Mapping[str, Release]) -> Told | None:
        release = releases.get(name) or self.releases([Pointed(name, known.version)]).get(name)
        if release is None:
            return None  # that version is gone: what is pointed to now is asked about in its time
        return Told(
            stack=self.stack,
            bucket=self.store.bucket,
            layer_name=name,
            version=release.version,
            layer_version_arn=release.layer_version_arn,
            architecture=release.architecture,
            runtime=release.runtime,
            input_key=known.input_key,
            rebuilds=release.rebuild is not None,
            vulnerabilities=beside(known.input_key),
        )

    def _write_beside(
        self, state: Vulnerabilities, before: Mapping[str, Known], now: str, counts: Counts
    ) -> None:
        """Write the document beside each input whose findings are others now, their end included."""
        wanted = set(state.unwritten)
        for name in before.keys() | state.layers.keys():
            old, new = before.get(name), state.layers.get(name)
            if _said(old) != _said(new):
                wanted |= {one.input_key for one in (old, new) if one and one.findings}
                wanted |= {new.input_key} if new else set()
        if not wanted:
            return
        layers = defaultdict(list)
        for name, known in state.layers.items():
            layers[known.input_key].append(name)
        for key in sorted(wanted):
            state.unwritten.discard(key)
            try:
                self.store.write_beside(key, state.beside(layers[key], now, self.database.address))
            except (ClientError, BotoCoreError) as error:
                counts.failures += 1
                logger.error("Nothing can be written beside %s: %s", wording.word(key), error)  # noqa: TRY400
                if len(beside(key).encode()) <= _LONGEST_KEY:
                    state.unwritten.add(key)


def _answers(asker: Asker, releases: Iterable[Release]) -> Answers:
    """What is known of the packages of each layer; without layers of which not all could be had."""
    packages = {release.layer_name: _packages(release) for release in releases}
    known, missing = asker.about({one for listed in packages.values() for one in listed})
    return {
        name: {one: known[one] for one in listed}
        for name, listed in packages.items()
        if missing.isdisjoint(listed)
    }


def _packages(release: Release) -> list[Package]:
    return [
        Package(str(canonicalize_name(one["name"])), one["version"])
        for one in release.packages
        if one["name"] and one["version"]
    ]


def _known(
    release: Release,
    before: Known | None,
    advisories: Mapping[Package, tuple[Advisory, ...] | None],
    now: str,
) -> Known:
    found = findings(advisories, before.findings if before else (), release.ignore, now)
    return Known(release.version, release.layer_version_arn, release.input["key"], now, found)


def _said(known: Known | None) -> tuple[Any, ...]:
    """What the document beside an input says of a layer; nothing, where it has no finding."""
    if known is None or not known.findings:
        return ()
    return (known.version, known.input_key, known.findings)


def _is_unfinished(state: Vulnerabilities) -> bool:
    """Whether an earlier run has left something."""
    return bool(state.unwritten) or any(
        one.is_to_be_told for known in state.layers.values() for one in known.findings
    )
