"""What a cooldown kept from being chosen, for how long still, and what of that is an error.

uv alone would say too little: with a dependency too young, or without an upload time, it goes back to an old
version of what depends on it, years if need be, and says nothing. So it is asked a second time, as if there
were no cooldown, and both answers are compared. Nothing is ever built for the second.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.pylock import Pylock, PylockValidationError

from layer_builder.ground import cooldown as age
from layer_builder.ground import wording
from layer_builder.ground.errors import TooYoungError, UploadTimeUnknownError
from layer_builder.indexes import index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from packaging.pylock import Package, PackageWheel
    from packaging.version import Version

    from layer_builder.ground.cooldown import Cooldown
    from layer_builder.ground.errors import BuildError
    from layer_builder.requirements.parser import Requirements

    Fitting = Callable[[Sequence[Package]], list[tuple[Package, list[PackageWheel]]]]

# As uv has it in warnings, one a file, and in hints; what stands between is a file's or a project's name.
_WITHOUT_TIME = re.compile(r"^warning: `(?P<file>[^`\n]{1,255})` is missing an upload date", re.MULTILINE)
_FILTERED = re.compile(r"`(?P<name>[A-Za-z0-9._-]{1,200})` was filtered by `exclude-newer`")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A version that would have been chosen, if there were no cooldown.

    Attributes:
        package: its name.
        version: the version.
        taken: the version that was chosen in its place; None if nothing was.
        uploaded: since when the index has a file of it that fits; None if that is not known.
        admitted_from: when it is old enough; None if it is, and something it needs is not.
    """

    package: str
    version: str
    taken: str | None
    uploaded: datetime | None
    admitted_from: datetime | None


def without_time(stderr: str) -> frozenset[str]:
    """Name the projects of which uv met files without an upload time."""
    found = (index.project_of(match["file"]) for match in _WITHOUT_TIME.finditer(stderr))
    return frozenset(filter(None, found))


def compared(
    lock: str, taken: Mapping[str, Version], fitting: Fitting, cooldown: Cooldown
) -> tuple[Waiting, ...]:
    """Compare with what would have been chosen without the cooldown.

    Args:
        lock: what uv answers then.
        taken: the versions that were chosen, by project.
        fitting: lists the packages of a lock that the target wants, with the wheels that it loads.
        cooldown: what counted.
    """
    found = []
    for package, wheels in _read(lock, fitting):
        before = taken.get(package.name)
        if not wheels or package.version is None or (before is not None and package.version <= before):
            continue
        times = [wheel.upload_time for wheel in wheels if wheel.upload_time]
        uploaded = age.time_of(min(times).isoformat()) if times else None
        waits = uploaded is not None and not cooldown.admits(package.name, uploaded)
        found.append(
            Waiting(
                package.name,
                str(package.version),
                None if before is None else str(before),
                uploaded,
                cooldown.admitted_from(package.name, uploaded) if uploaded and waits else None,
            )
        )
    # What nobody waits for, and nothing older was taken of, came along with what somebody waits for.
    return tuple(one for one in found if one.admitted_from or one.taken)


def told(waiting: Sequence[Waiting], cooldown: Cooldown, *, known: bool) -> tuple[str, ...]:
    """Say what was left out; or that it is not known, where uv had no answer without the cooldown."""
    if not known:
        return ("What the cooldown left out is not known: without it, nothing is found.",)
    if not waiting:
        return ()
    each = [f"{one.package} {one.version} ({_why(one)})" for one in waiting]
    said = f"For the cooldown of {age.worded(cooldown.longest)}, this was left out: {wording.listed(each)}."
    return (said,)


def _why(one: Waiting) -> str:
    until = (
        f"old enough on {age.shown(one.admitted_from)}" if one.admitted_from else "it needs what is too young"
    )
    return f"{until}; {one.taken} was taken" if one.taken else until


def failure(
    stderr: str, lock: str, requirements: Requirements, fitting: Fitting, cooldown: Cooldown
) -> BuildError | None:
    """Make an error of what a cooldown leaves nothing of; None if it is something else that went wrong.

    Args:
        stderr: what uv said with the cooldown.
        lock: what it answers without.
        requirements: what was asked for.
        fitting: lists the packages of a lock that the target wants, with the wheels that it loads.
        cooldown: what counted.
    """
    chosen = {package.name for package, _ in _read(lock, fitting)}
    if timeless := without_time(stderr) & chosen:
        return unknown(timeless, cooldown)
    young = [one for one in compared(lock, {}, fitting, cooldown) if one.admitted_from]
    named = {match["name"] for match in _FILTERED.finditer(stderr)}
    lines = {line.project: line for line in requirements.lines}
    blamed = [one for one in young if one.package in named] or young
    blamed.sort(key=lambda one: one.package not in lines)
    if not blamed:
        return None
    line = lines.get(blamed[0].package)
    asks = f"Line {line.number}, {line.asked or line.text}, asks for" if line else "The requirements need"
    return too_young(blamed, asks, cooldown)


def unknown(projects: Iterable[str], cooldown: Cooldown) -> UploadTimeUnknownError:
    """Say that nobody knows how old the files of projects are."""
    names = sorted(projects)
    return UploadTimeUnknownError(
        f"The package index does not say since when it has {wording.listed(names)}, so nobody can tell "
        f"whether the cooldown of {age.worded(cooldown.longest)} has passed.",
        hint=f"Take an index that gives upload times (PEP 700), or {_exempt(names, cooldown)}.",
        details={"packages": names, "cutoff": age.stamp(cooldown.cutoff)},
    )


def too_young(waiting: Sequence[Waiting], asks: str, cooldown: Cooldown) -> TooYoungError:
    """Say that versions are too young, of which the first is named.

    Args:
        waiting: the versions, each with the time from when on it is old enough.
        asks: who wants them, as the beginning of the sentence.
        cooldown: what counted.
    """
    one = waiting[0]
    until = max(one.admitted_from for one in waiting if one.admitted_from)
    uploaded = f"uploaded on {age.shown(one.uploaded)}" if one.uploaded else "of an unknown age"
    others = f" ({len(waiting) - 1} more like it)" if len(waiting) > 1 else ""
    own_age = cooldown.age(one.package) or cooldown.longest
    names = sorted(one.package for one in waiting)
    return TooYoungError(
        f"{asks} what is too young: {one.package} {one.version}, {uploaded}, and the cooldown is "
        f"{age.worded(own_age)}{others}.",
        hint=f"Wait until {age.shown(until)}, take an older version, or {_exempt(names, cooldown)}.",
        details={
            "packages": [
                {
                    "package": one.package,
                    "version": one.version,
                    "uploaded": one.uploaded and age.stamp(one.uploaded),
                    "admitted_from": one.admitted_from and age.stamp(one.admitted_from),
                }
                for one in waiting
            ],
            "cutoff": age.stamp(cooldown.cutoff),
        },
    )


def _exempt(names: Sequence[str], cooldown: Cooldown) -> str:
    """Say how projects are exempted, by whoever can do it."""
    if any(cooldown.spares(name) == "installation" for name in names):
        return f"have the installation exempt {wording.listed(names)} (CooldownExempt of the stack)"
    options = " ".join(f"--cooldown-exempt {name}" for name in names[: wording.SHOWN])
    return f"exempt {wording.listed(names)} with {options} (cooldown-exempt in the settings block)"


def _read(lock: str, fitting: Fitting) -> list[tuple[Package, list[PackageWheel]]]:
    try:
        return fitting(Pylock.from_dict(tomllib.loads(lock)).packages) if lock else []
    except (ValueError, PylockValidationError):
        return []  # what only explains must not be what fails
