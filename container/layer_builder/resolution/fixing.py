"""What a fix changes: the versions that may be chosen, and for them the cooldown.

A fix is for a version that has just come out, which a cooldown keeps from being chosen. So for its project
the cooldown ends where that version's own files were uploaded: what came later waits, and so does whatever
else the build needs. Whoever steals a project's credentials afterwards gains nothing by it: a file that is
added to the version after something newer, or after a day, does not count as its own.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from packaging.version import Version

from layer_builder.ground import wording
from layer_builder.ground.errors import (
    BuildError,
    HashMismatchError,
    NoWheelError,
    ResolutionError,
    TooYoungError,
    UploadTimeUnknownError,
)
from layer_builder.resolution import resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from layer_builder.ground.cooldown import Cooldown
    from layer_builder.ground.fixes import Fix
    from layer_builder.ground.settings import Settings
    from layer_builder.ground.target import Target
    from layer_builder.indexes.sources import Sources
    from layer_builder.requirements.parser import Requirements
    from layer_builder.resolution.resolve import Resolution
    from layer_builder.wheels.pick import Pick

_RELEASE = timedelta(days=1)  # in which the files of a version are uploaded
_TICK = timedelta(milliseconds=1)  # what uv compares by

_FOR_VERSIONS = (ResolutionError, NoWheelError, TooYoungError, UploadTimeUnknownError, HashMismatchError)


def admitted(fixes: Sequence[Fix], counting: Cooldown, places: Sources) -> Cooldown:
    """Have a cooldown admit what the fixes are for, as far as it would not.

    Args:
        fixes: one a project.
        counting: the cooldown that counts.
        places: that say when it was uploaded; where they do not, nothing more is admitted.

    Raises:
        IndexUnreachableError, IndexDeniedError, AddressRefusedError: see `sources.Sources.files_of`.
    """
    found = []
    for fix in fixes:
        before = counting.before(fix.project)
        if before and (until := _until(fix, places)) and before < until:
            found.append((fix.project, until))
    return replace(counting, fixed=tuple(found))


def _until(fix: Fix, places: Sources) -> datetime | None:
    """Say until when the version's own files were uploaded: the time before which they all were."""
    from layer_builder.indexes import index

    own: list[datetime] = []
    newer: list[datetime] = []
    for file in places.files_of(fix.project):
        release = index.release_of(file.filename)
        if release and file.uploaded and not file.is_ageless and release[1] >= fix.version:
            (own if release[1] == fix.version else newer).append(file.uploaded)
    if not own:
        return None
    first = min(own)
    end = min([first + _RELEASE, *(time for time in newer if time > first)])
    last = max(time for time in own if time == first or time < end)
    return last.replace(microsecond=last.microsecond // 1000 * 1000) + _TICK


def resolve_with(
    fixes: Sequence[Fix],
    requirements: Requirements,
    target: Target,
    settings: Settings,
    allow_sdist: Collection[str],
    counting: Cooldown | None,
) -> Resolution:
    """Choose wheels as `resolve.resolve` does, with the fixes.

    Raises:
        BuildError: as there; one that is for the fixes says so.
    """
    constraints = (*requirements.constraints, *(fix.constraint for fix in fixes))
    try:
        return resolve.resolve(
            replace(requirements, constraints=constraints), target, settings, allow_sdist, counting
        )
    except _FOR_VERSIONS as error:
        if fixes and _is_for_fixes(requirements, target, settings, counting):
            _blame(error, fixes)
        raise


def _is_for_fixes(
    requirements: Requirements, target: Target, settings: Settings, counting: Cooldown | None
) -> bool:
    """Tell whether there would be versions without the fixes. Nothing is built to find out."""
    try:
        resolve.resolve(requirements, target, settings, (), counting and replace(counting, fixed=()))
    except BuildError:
        return False
    return True


def _blame(error: BuildError, fixes: Sequence[Fix]) -> None:
    names = " and ".join(map(str, fixes))
    which = f"The fix {names} cannot" if len(fixes) == 1 else f"The fixes {names} cannot"
    error.message = wording.sentence(f"{which} be taken: {error.message}")
    error.args = (error.message,)
    error.details["fixes"] = list(map(str, fixes))


def check_locked(fixes: Sequence[Fix], picks: Sequence[Pick]) -> None:
    """See that a lock has what the fixes are for, as far as it has the projects.

    Raises:
        ResolutionError: it names an older version.
    """
    versions = {pick.name: Version(pick.version) for pick in picks}
    for fix in fixes:
        if (locked := versions.get(fix.project, fix.version)) < fix.version:
            raise ResolutionError(
                f"The fix {fix} cannot be taken: the lock names {fix.project} {locked}.",
                hint="Make the lock anew, or leave the fix out.",
                details={"fixes": [str(fix)], "package": fix.project, "version": str(locked)},
            )
