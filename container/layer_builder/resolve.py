"""From requirements to wheels: one file per package, the best that the target loads.

uv finds the versions. It knows no platform for Amazon Linux 2 (glibc 2.26), so for that it is given the next
newer one it has, and what it then chooses wrongly is ruled out: for a package whose chosen version has no
wheel of exactly our tags, all such versions are excluded and uv is asked again, until every package has one.
What is found is the newest set of versions that loads, as if uv had known the platform.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.pylock import PackageWheel, Pylock
from packaging.tags import create_compatible_tags_selector
from packaging.utils import parse_wheel_filename

from layer_builder import uv
from layer_builder.errors import HashMismatchError, RequirementsError, ResolutionError

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from packaging.pylock import Package

    from layer_builder.requirements import Requirements
    from layer_builder.settings import Settings
    from layer_builder.target import Target

_MAX_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Pick:
    """The wheel chosen for one package.

    Attributes:
        name: the project's normalized name.
        version: its version.
        filename: the wheel's.
        url: where the index has it.
        sha256: the file's digest, in hexadecimal.
    """

    name: str
    version: str
    filename: str
    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The chosen wheels, sorted by name, and what a person should know about the choice."""

    picks: tuple[Pick, ...]
    warnings: tuple[str, ...] = ()


def resolve(requirements: Requirements, target: Target, settings: Settings) -> Resolution:
    """Choose the wheels that satisfy the requirements on the target.

    Raises:
        ResolutionError: the requirements contradict each other, or name what does not exist.
        NoWheelError: a package has no wheel that the target loads.
        HashMismatchError: no file of a package has a hash that the requirements allow.
        IndexUnreachableError: the index does not answer.
    """
    excluded: dict[str, set[str]] = {}
    for _ in range(_MAX_ROUNDS):
        constraints = [
            f"{name}!={version}" for name in sorted(excluded) for version in sorted(excluded[name])
        ]
        outcome = uv.compile_lock(requirements.texts, constraints, target, settings)
        if outcome.status != 0:
            from layer_builder import explain  # what only failures need is not imported before

            raise explain.failure(outcome.stderr, requirements, excluded, target, settings)
        wheels = _wheels(outcome.lock, target)
        unfit = [package for package, fitting in wheels if not fitting]
        if not unfit:
            picks = [_pick(package, fitting, requirements) for package, fitting in wheels]
            if not picks:
                raise RequirementsError(
                    f"No requirement applies to {target}: every line's marker says otherwise.",
                    hint="Check the markers after the semicolons.",
                )
            return Resolution(tuple(sorted(picks, key=lambda pick: pick.name)), _warnings(outcome.stderr))
        for name, versions in _versions_that_do_not_load(unfit, target, settings).items():
            excluded.setdefault(name, set()).update(versions)
    raise ResolutionError(
        f"No set of versions that loads on {target} was found in {_MAX_ROUNDS} rounds.",
        hint="Pin the versions that matter, or take a newer runtime.",
        details={"excluded": {name: sorted(versions) for name, versions in excluded.items()}},
    )


def _wheels(lock: str, target: Target) -> list[tuple[Package, list[PackageWheel]]]:
    """Read the lock: the packages this target wants, each with the wheels it loads, best first."""
    select = create_compatible_tags_selector(target.tags)
    markers: dict[str, str | Set[str]] = {**target.environment, "extras": set(), "dependency_groups": set()}
    chosen = []
    for package in Pylock.from_dict(tomllib.loads(lock)).packages:
        if package.marker is not None and not package.marker.evaluate(markers, context="lock_file"):
            continue
        parsed = [(wheel, *parse_wheel_filename(wheel.filename)[2:]) for wheel in package.wheels or ()]
        parsed.sort(
            key=lambda item: item[1], reverse=True
        )  # of equal tags the higher build number; `select` is stable
        chosen.append((package, list(select((wheel, tags) for wheel, _, tags in parsed))))
    return chosen


def _versions_that_do_not_load(
    packages: Sequence[Package], target: Target, settings: Settings
) -> dict[str, set[str]]:
    """List, by project, the versions uv would take although none of their wheels loads."""
    from concurrent.futures import ThreadPoolExecutor

    from layer_builder import index, web

    index_url = settings.index_url or uv.default_index(settings)
    loads, seen_by_uv = frozenset(target.tags), frozenset(target.as_uv_sees_it.tags)

    def find(package: Package) -> tuple[str, set[str]]:
        versions = {str(package.version)}  # the one it took: so each round gets somewhere
        if url := package.index or index_url:
            wheels = index.wheels_of(package.name, url)
            good = {wheel.version for wheel in wheels if wheel.tags & loads}
            taken = {wheel.version for wheel in wheels if wheel.tags & seen_by_uv}
            versions |= {str(version) for version in taken - good}
        return package.name, versions

    with ThreadPoolExecutor(min(len(packages), web.CONNECTIONS)) as pool:
        return dict(pool.map(find, packages))


def _pick(package: Package, wheels: list[PackageWheel], requirements: Requirements) -> Pick:
    """Take the best wheel, among those whose hash the requirements allow.

    As pip does it, one hash in the file means that every package must have one.
    """
    name, version = package.name, str(package.version)
    wheel = wheels[0]
    if requirements.hashes_required:
        allowed = requirements.sha256.get(name)
        if not allowed:
            raise HashMismatchError(
                f"{name} {version} is needed, and the requirements have no --hash for it, as for others.",
                hint=f"Add {name}=={version} --hash=sha256:{wheel.hashes.get('sha256')}, or drop all hashes.",
                details={"package": name, "version": version},
            )
        matching = [wheel for wheel in wheels if wheel.hashes.get("sha256") in allowed]
        if not matching:
            raise HashMismatchError(
                f"No wheel of {name} {version} that loads here has a hash that the requirements give.",
                hint=f"The wheel to take is {wheel.filename}, sha256:{wheel.hashes.get('sha256')}.",
                details={"package": name, "version": version, "allowed": sorted(allowed)},
            )
        wheel = matching[0]
    return Pick(name, version, wheel.filename, str(wheel.url), wheel.hashes["sha256"])


def _warnings(stderr: str) -> tuple[str, ...]:
    prefix = "warning: "
    return tuple(line.removeprefix(prefix) for line in stderr.splitlines() if line.startswith(prefix))
