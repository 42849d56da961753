"""What a rebuild of each layer would change; and those rebuilds that mend something, begun."""

from __future__ import annotations

import logging
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from layerdrop import wording
from layerdrop.catalogue.documents import OUTDATED
from layerdrop.errors import BuildError
from layerdrop.timestamps import iso
from layerdrop.watch.asking import Asker, still_there
from layerdrop.watch.looking import ImpossibleError, NotNowError, UnclearError, changes
from layerdrop.watch.mending import mended
from layerdrop.watch.osv import DatabaseError
from layerdrop.watch.schedule import Pointed, due, parts
from layerdrop.watch.state import Outlook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from layerdrop.build_input import BuildInput
    from layerdrop.catalogue.releases import Release
    from layerdrop.fixes import Fixes
    from layerdrop.watch.findings import Finding
    from layerdrop.watch.looking import Resolver
    from layerdrop.watch.mending import Builds, Look
    from layerdrop.watch.osv import Database
    from layerdrop.watch.schedule import Counts
    from layerdrop.watch.state import Outdated, Store, Vulnerabilities
    from layerdrop.watch.uploads import Planned, Uploads

logger = logging.getLogger(__name__)

# What no manifest says, for there is no build.
UNKNOWN: Final = "OUTLOOK_UNKNOWN"
NOT_ASKED_FOR: Final = "LAYER_NOT_ASKED_FOR"
DELETED: Final = "INPUT_DELETED"

_AT_ONCE: Final = 40
# New accounts may run ten functions at once, and builds need some (Developer Guide, "Lambda quotas").
_LOOKS: Final = 4
_WRITES: Final = 5


@dataclass(frozen=True)
class _Looked:
    """What came of one input: the outlook by layer name, and whether a build was begun, or a call failed."""

    outlooks: Mapping[str, Outlook]
    is_rebuilt: bool = False
    has_failed: bool = False


@dataclass
class Outlooks:
    """One run of looks.

    Attributes:
        releases: what is in versions of layers, by layer name; of some nobody wrote that down.
        database: is asked whether something is mended; None for never.
        clock: now, in UTC.
        seconds_left: how much longer it may take.
    """

    store: Store
    releases: Callable[[Iterable[Pointed]], dict[str, Release]]
    resolver: Resolver
    uploads: Uploads
    fixes: Fixes
    builds: Builds
    database: Database | None
    clock: Callable[[], datetime]
    seconds_left: Callable[[], float]

    def run(self, pointed: Sequence[Pointed], state: Vulnerabilities, counts: Counts) -> None:
        """Look at the layers that are due, those with findings first, as far as there is time.

        Args:
            pointed: All layers.
            state: What is known against them.
            counts: Counted up.
        """
        names = {one.name for one in pointed}
        vulnerable = {
            name for name, one in state.layers.items() if any(each.is_open for each in one.findings)
        }
        outdated = self.store.outdated()
        last = {name: (one.version, one.looked) for name, one in outdated.layers.items()}
        waiting = due(pointed, last, self.clock(), first=vulnerable.__contains__)
        counts.left += len(waiting)
        for part in parts(waiting, _AT_ONCE):
            if self.seconds_left() <= 0:
                break
            files = defaultdict(list)
            for release in self.releases(part).values():
                files[release.input["key"]].append(release)
            with ThreadPoolExecutor(_LOOKS) as threads:
                looks = list(threads.map(lambda file: self._input(file[0], file[1], state), files.items()))
            found = {name: outlook for one in looks for name, outlook in one.outlooks.items()}
            counts.looked += len(found)
            counts.left -= len(found)
            counts.rebuilds += sum(one.is_rebuilt for one in looks)
            counts.failures += sum(one.has_failed for one in looks)
            outdated = self._keep(outdated, names, found)

    def _input(self, key: str, releases: Sequence[Release], state: Vulnerabilities) -> _Looked:
        """Look at the layers of one input, and build them again if that is wanted and mends something."""
        try:
            upload = self.uploads.newest(key)
            if upload is None:
                return _Looked(self._none(releases, DELETED, f'"{wording.word(key)}" was deleted.'))
            try:
                planned = self.uploads.planned(upload)
            except BuildError as error:
                return _Looked(self._none(releases, error.problem.code, error.problem.message))
            fixes = self.fixes.find(key, upload.etag) if planned.rebuilds else ()
            look = self._look(upload, planned)
            outlooks = {one.layer_name: self._outlook(one, upload, planned, fixes, look) for one in releases}
            done = {name: outlook for name, outlook in outlooks.items() if outlook}
            wanted = {
                one.layer_name: _open(state, one) for one in releases if one.layer_name in planned.targets
            }
            if not planned.rebuilds or not any(wanted.values()):
                return _Looked(done)
            return _Looked(done, self._rebuild(upload, planned, releases, wanted, fixes, look))
        except (ClientError, BotoCoreError, DatabaseError, NotNowError) as error:
            reason = wording.sentence(str(error))
            logger.error("%s cannot be looked at now: %s", wording.word(key), reason)  # noqa: TRY400
            return _Looked({}, has_failed=True)

    def _look(self, upload: BuildInput, planned: Planned) -> Look:
        """Looks that are not made twice."""
        seen: dict[tuple[str, tuple[str, ...]], dict[str, str] | Exception] = {}

        def look(layer_name: str, fixes: Sequence[str]) -> dict[str, str]:
            asked = (layer_name, tuple(fixes))
            if asked not in seen:
                try:
                    seen[asked] = self.resolver.look(upload, planned.targets[layer_name], fixes)
                except (ImpossibleError, UnclearError) as error:
                    seen[asked] = error
            found = seen[asked]
            if isinstance(found, Exception):
                raise found
            return found

        return look

    def _outlook(
        self, release: Release, upload: BuildInput, planned: Planned, fixes: Sequence[str], look: Look
    ) -> Outlook:
        """What a rebuild would change in a layer.

        Raises:
            NotNowError: it cannot be looked at now.
        """
        looked, name = iso(self.clock()), release.layer_name
        if name not in planned.targets:
            said = f'The newest upload of "{wording.word(upload.key)}" asks for no layer of this name.'
            return Outlook(release.version, looked, error=_error(NOT_ASKED_FOR, said))
        if not planned.refreshes and upload.version_id == release.input["version_id"]:
            return Outlook(release.version, looked)  # it would be built from the lock that is kept
        try:
            return Outlook(release.version, looked, changes(release.packages, look(name, fixes)))
        except ImpossibleError as error:
            return Outlook(release.version, looked, error=_error(error.code, error.message))
        except UnclearError:
            said = "What a rebuild would change can be told by building only."
            return Outlook(release.version, looked, error=_error(UNKNOWN, said))

    def _rebuild(
        self,
        upload: BuildInput,
        planned: Planned,
        releases: Sequence[Release],
        wanted: Mapping[str, Sequence[Finding]],
        fixes: Sequence[str],
        look: Look,
    ) -> bool:
        """Have an input built again if that mends any of its findings; return whether that was begun.

        Raises:
            NotNowError, DatabaseError: that cannot be found out now.
        """
        # An upload that no layer was released of is being built, or cannot be.
        released = [one for one in releases if one.input["version_id"] == upload.version_id]
        if self.database is None or not released:
            return False
        asker = Asker(self.database, {})
        try:
            found = mended(planned.targets, wanted, fixes, look, lambda names: still_there(names, asker))
        except UnclearError:
            return False
        if found is None:
            return False
        if found.fixes and found.fixes != tuple(fixes):
            self.fixes.keep(upload.key, upload.etag, found.fixes)
        begun = self.builds.start(upload, released[0].input["sequencer"], found)
        what = "begun" if begun else "was begun before"
        logger.info("A build of %s that mends %s %s", wording.word(upload.key), sorted(found.holes), what)
        return begun

    def _none(self, releases: Iterable[Release], code: str, message: str) -> dict[str, Outlook]:
        looked = iso(self.clock())
        return {one.layer_name: Outlook(one.version, looked, error=_error(code, message)) for one in releases}

    def _keep(self, outdated: Outdated, names: set[str], found: Mapping[str, Outlook]) -> Outdated:
        for _ in range(_WRITES):
            outdated.layers = {
                name: one for name, one in {**outdated.layers, **found}.items() if name in names
            }
            body = outdated.to_bytes(iso(self.clock()))
            if etag := self.store.write(OUTDATED, outdated.etag, body):
                outdated.etag = etag
                return outdated
            outdated = self.store.outdated()
        raise RuntimeError(f"{OUTDATED} changed at each of {_WRITES} attempts to write it")


def _open(state: Vulnerabilities, release: Release) -> tuple[Finding, ...]:
    """What somebody should do something about in this very version."""
    known = state.layers.get(release.layer_name)
    if known is None or known.version != release.version:
        return ()
    return tuple(one for one in known.findings if one.is_open)


def _error(code: Any, message: str) -> dict[str, str]:
    return {"code": str(code), "message": wording.sentence(message)}
