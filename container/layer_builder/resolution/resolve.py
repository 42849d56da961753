"""From requirements to wheels: one file per package, the best that the target loads.

uv finds the versions. It knows no platform for Amazon Linux 2 (glibc 2.26), so for that it is given the next
newer one it has, and what it then chooses wrongly is ruled out: for a package whose chosen version has no
wheel of exactly our tags, all such versions are excluded and uv is asked again, until every package has one.
What is found is the newest set of versions that loads, as if uv had known the platform.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from packaging.pylock import PackageWheel, Pylock
from packaging.tags import create_compatible_tags_selector
from packaging.utils import canonicalize_name

from layer_builder.ground import cooldown as age
from layer_builder.ground import wording
from layer_builder.ground.errors import (
    EXIT_RETRY,
    BuildError,
    HashMismatchError,
    IndexUnreachableError,
    NoWheelError,
    RequirementsError,
    ResolutionError,
    SdistBuildError,
    TooYoungError,
)
from layer_builder.ground.filenames import wheel_of
from layer_builder.indexes import sources as source_list
from layer_builder.resolution import rounds, uv
from layer_builder.wheels.pick import Pick

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence, Set

    from packaging.pylock import Package, PackageSdist

    from layer_builder.ground.cooldown import Cooldown
    from layer_builder.ground.interpreter import Interpreter
    from layer_builder.ground.settings import Settings
    from layer_builder.ground.target import Target
    from layer_builder.indexes.index import IndexedFile
    from layer_builder.indexes.sources import Sources
    from layer_builder.requirements.parser import Requirements
    from layer_builder.resolution.rounds import Ruled
    from layer_builder.resolution.uv import Outcome
    from layer_builder.resolution.waiting import Waiting

_MAX_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Resolution:
    """The chosen wheels, sorted by name, and what a person should know about the choice.

    `ran_code` says that code of packages may have run to come to it, `waiting` what a cooldown left out.
    """

    picks: tuple[Pick, ...]
    warnings: tuple[str, ...] = ()
    ran_code: bool = False
    waiting: tuple[Waiting, ...] = ()


def resolve(
    requirements: Requirements,
    target: Target,
    settings: Settings,
    allow_sdist: Collection[str] = (),
    cooldown: Cooldown | None = None,
) -> Resolution:
    """Choose the wheels that satisfy the requirements on the target.

    Args:
        requirements: what is asked for.
        target: what the layer is for.
        settings: of the installation.
        allow_sdist: normalized names of projects whose source is taken when they have no wheel. Only then
            does code of theirs run, already here: what a source needs may have to be asked of its build.
        cooldown: how long ago the files must have been uploaded.

    Raises:
        ResolutionError: the requirements contradict each other, or name what does not exist.
        NoWheelError: a package has no wheel that the target loads.
        HashMismatchError: no file of a package has a hash that the requirements allow.
        TooYoungError: what is asked for was uploaded too short a time ago.
        UploadTimeUnknownError: there is a cooldown, and it is not known when something was uploaded.
        IndexUnreachableError, IndexDeniedError: the index does not answer, or refuses.
        AddressRefusedError: it leads where a build must not go.
        SdistNotBuildableError, SdistBuildError: a source that is allowed and needed cannot be built.
    """
    places = source_list.of(settings, requirements.origins)
    ruled = rounds.recall(requirements, target, settings, cooldown)
    sources: set[str] = set()
    builder: Interpreter | None = None
    for _ in range(_MAX_ROUNDS):
        outcome = uv.compile_lock(
            requirements.texts,
            [*requirements.constraints, *ruled.constraints],
            target,
            settings,
            requirements.origins,
            sources=sorted(sources),
            python=builder,
            counting=cooldown,
        )
        wheels = _wheels(outcome, target)
        without_wheel = [package for package, fits in wheels if not fits and package.name not in sources]
        if ruled.is_recalled and (outcome.status != 0 or without_wheel):  # the index is another by now
            ruled = ruled.anew()
            continue
        if outcome.status != 0:
            from layer_builder.resolution import (
                explain,
                sdist,  # what only failures need is not imported before
            )

            error = explain.failure(outcome.stderr, requirements, ruled.out, target, settings)
            if sources and not isinstance(error, IndexUnreachableError):
                error = sdist.failure(outcome.stderr) or error
            without = canonicalize_name(error.details.get("package", ""))
            if not isinstance(error, NoWheelError) or without in sources or without not in allow_sdist:
                lasting = ruled.lasting
                raise _for_cooldown(
                    error, outcome, requirements, target, settings, lasting, cooldown
                ) from None
            builder = sdist.builder(without, target)
            sources.add(without)
            ruled.out.pop(without, None)
            continue
        if not without_wheel:
            if not sources:
                ruled.keep()
            return _resolution(
                requirements, target, settings, cooldown, outcome, wheels, ruled, ran_code=builder is not None
            )
        for one in _versions_that_do_not_load(without_wheel, target, places, cooldown):
            ruled.add(*one)
    raise ResolutionError(
        f"No set of versions that loads on {target} was found in {_MAX_ROUNDS} rounds.",
        hint="Pin the versions that matter, or take a newer runtime.",
        details={"excluded": {name: sorted(versions) for name, versions in ruled.out.items()}},
    )


def _resolution(
    requirements: Requirements,
    target: Target,
    settings: Settings,
    cooldown: Cooldown | None,
    outcome: Outcome,
    wheels: Sequence[tuple[Package, list[PackageWheel]]],
    ruled: Ruled,
    *,
    ran_code: bool,
) -> Resolution:
    """Take the files of the packages that were found, and say what there is to say of them."""
    picks = [_pick(package, fits, requirements, outcome.addresses, cooldown) for package, fits in wheels]
    picks = [replace(pick, provenance=outcome.provenances.get(pick.url)) for pick in picks]
    if not picks:
        raise RequirementsError(
            f"No requirement applies to {target}: every line's marker says otherwise.",
            hint="Check the markers after the semicolons.",
        )
    chosen = tuple(sorted(picks, key=lambda pick: pick.name))
    warnings = _warnings(outcome.stderr)
    held: tuple[Waiting, ...] = ()
    if cooldown:
        from layer_builder.resolution import waiting

        taken = {str(package.name): package.version for package, _ in wheels if package.version}
        warnings += _of_unknown_age(outcome, taken, cooldown)
        lock = _without_cooldown(requirements, target, settings, ruled.lasting)
        held = waiting.compared(lock, taken, partial(fitting, target=target), cooldown)
        warnings += waiting.told(held, cooldown, known=bool(lock))
    return Resolution(chosen, warnings, ran_code, held)


def _wheels(outcome: Outcome, target: Target) -> list[tuple[Package, list[PackageWheel]]]:
    """List the packages that uv found, with the wheels that load; none if it found nothing."""
    return fitting(Pylock.from_dict(tomllib.loads(outcome.lock)).packages, target) if outcome.lock else []


def fitting(
    packages: Sequence[Package], target: Target, groups: Sequence[str] = ()
) -> list[tuple[Package, list[PackageWheel]]]:
    """List the packages of a lock that the target wants, each with the wheels it loads, best first.

    Args:
        packages: the lock's.
        target: what the layer is for.
        groups: the dependency groups that are wanted.

    Raises:
        InvalidWheelFilename, PylockValidationError: the lock names a wheel that no installer takes.
    """
    select = create_compatible_tags_selector(target.tags)
    markers = {**lock_environment(target), "dependency_groups": frozenset(groups)}
    chosen = []
    for package in packages:
        if package.marker is not None and not package.marker.evaluate(markers, context="lock_file"):
            continue
        parsed = [(wheel, *wheel_of(wheel.filename)[2:]) for wheel in package.wheels or ()]
        parsed.sort(
            key=lambda item: item[1], reverse=True
        )  # of equal tags the higher build number; `select` is stable
        chosen.append((package, list(select((wheel, tags) for wheel, _, tags in parsed))))
    return chosen


def lock_environment(target: Target) -> dict[str, str | Set[str]]:
    """Give the values of the markers in a lock: no extras and no groups are wanted."""
    return {**target.environment, "extras": frozenset(), "dependency_groups": frozenset()}


def _without_cooldown(
    requirements: Requirements, target: Target, settings: Settings, lasting: Mapping[str, Collection[str]]
) -> str:
    """Ask what would be chosen if there were no cooldown, without building anything; empty if nothing."""
    constraints = [*requirements.constraints, *rounds.constraints(lasting)]
    try:
        return uv.compile_lock(requirements.texts, constraints, target, settings, requirements.origins).lock
    except BuildError:
        return ""  # what only explains must not be what fails


def _for_cooldown(
    error: BuildError,
    outcome: Outcome,
    requirements: Requirements,
    target: Target,
    settings: Settings,
    lasting: Mapping[str, Collection[str]],
    cooldown: Cooldown | None,
) -> BuildError:
    """Say that it is for the cooldown that nothing is found, if it is; else the error as it was."""
    if not cooldown or error.exit_status == EXIT_RETRY or isinstance(error, SdistBuildError):
        return error
    from layer_builder.resolution import waiting

    lock = _without_cooldown(requirements, target, settings, lasting)
    fits = partial(fitting, target=target)
    return waiting.failure(outcome.stderr, lock, requirements, fits, cooldown) or error


def _of_unknown_age(outcome: Outcome, taken: Collection[str], cooldown: Cooldown) -> tuple[str, ...]:
    """Warn of files without an upload time, or refuse: uv takes an old version of what needs them instead.

    Raises:
        UploadTimeUnknownError: a package is not even considered for that.
    """
    from layer_builder.resolution import waiting

    timeless = waiting.without_time(outcome.stderr)
    if unknown := timeless - set(taken):
        raise waiting.unknown(unknown, cooldown)
    warnings = []
    if some := sorted(timeless):
        warnings.append(
            f"Of {wording.listed(some)}, files were left out of which the package index does not say since "
            "when it has them."
        )
    if spared := sorted(outcome.ageless & set(taken)):
        warnings.append(
            f"No cooldown was applied to {wording.listed(spared)}: the installation spares their index."
        )
    return tuple(warnings)


def _versions_that_do_not_load(
    packages: Sequence[Package], target: Target, sources: Sources, cooldown: Cooldown | None = None
) -> list[tuple[str, set[str], set[str], float]]:
    """List, by project, the versions uv would take although none of their wheels loads; of these again those
    of which no wheel loads that is too young, either; and when the next of its files is old enough, in
    seconds since 1970.
    """
    from concurrent.futures import ThreadPoolExecutor

    from layer_builder.indexes import index, web

    loads, seen_by_uv = frozenset(target.tags), frozenset(target.as_uv_sees_it.tags)

    def unfit(files: Iterable[IndexedFile], took: str) -> set[str]:
        wheels = index.wheels_among(files)
        good = {str(wheel.version) for wheel in wheels if wheel.tags & loads}
        return {took, *(str(wheel.version) for wheel in wheels if wheel.tags & seen_by_uv)} - good

    def find(package: Package) -> tuple[str, set[str], set[str], float]:
        name, took = package.name, str(package.version)
        files = sources.files_of(name)
        lasting = unfit(files, took)
        # With the one it took, whatever the page says: so each round gets somewhere.
        if not cooldown:
            return name, lasting | {took}, lasting, math.inf
        old: list[IndexedFile] = []
        young: list[IndexedFile] = []
        for file in files:
            admitted = file.is_ageless or cooldown.admits(name, file.uploaded)
            (old if admitted else young).append(file)
        times = [cooldown.admitted_from(name, file.uploaded) for file in young if file.uploaded]
        return name, unfit(old, took) | {took}, lasting, min(times).timestamp() if times else math.inf

    with ThreadPoolExecutor(min(len(packages), web.CONNECTIONS)) as pool:
        return list(pool.map(find, packages))


def _pick(
    package: Package,
    wheels: list[PackageWheel],
    requirements: Requirements,
    addresses: Mapping[str, str],
    cooldown: Cooldown | None = None,
) -> Pick:
    """Take the best wheel, or the source, among those whose hash the requirements allow.

    As pip does it, one hash in the file means that every package must have one.
    """
    name, version = package.name, str(package.version)
    files: list[PackageWheel | PackageSdist] = [*wheels]
    if not files and package.sdist:
        files.append(package.sdist)
    file, kind = files[0], "wheel" if wheels else "source"
    if requirements.hashes_required:
        allowed = requirements.sha256.get(name)
        if not allowed:
            raise HashMismatchError(
                f"{name} {version} is needed, and the requirements have no --hash for it, as for others.",
                hint=f"Add {name}=={version} --hash=sha256:{file.hashes.get('sha256')}, or drop all hashes.",
                details={"package": name, "version": version},
            )
        matching = [file for file in files if file.hashes.get("sha256") in allowed]
        if not matching:
            raise HashMismatchError(
                f"No {kind} of {name} {version} that loads here has a hash that the requirements give.",
                hint=f"The {kind} to take is {file.filename}, sha256:{file.hashes.get('sha256')}.",
                details={"package": name, "version": version, "allowed": sorted(allowed)},
            )
        file = matching[0]
    uploaded = file.upload_time and age.time_of(file.upload_time.isoformat())
    if cooldown and not cooldown.admits(name, uploaded):
        raise TooYoungError(
            f"The file chosen for {name} {version}, {file.filename}, is too young for the cooldown of "
            f"{age.worded(cooldown.longest)}.",
            hint="Take an older version.",
            details={"package": name, "version": version},
        )
    url = addresses.get(str(file.url), "") if addresses else str(file.url)
    if not url:  # what uv says may be what code that it ran would have it say
        raise ResolutionError(
            f"The file chosen for {name} {version}, {file.filename}, is none that the package indexes list.",
            hint="Try again; if it stays so, look at the packages that are built from source.",
            details={"package": name, "version": version},
        )
    return Pick(name, version, file.filename, url, file.hashes["sha256"], file.size)


def _warnings(stderr: str) -> tuple[str, ...]:
    prefix = "warning: "
    found = (line.removeprefix(prefix) for line in stderr.splitlines() if line.startswith(prefix))
    return tuple(one for one in found if "` is missing an upload date" not in one)  # one for each file
