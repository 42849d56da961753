"""The lock: exactly what went into a layer, as a pylock.toml (PEP 751), and back from one to the same layer.

A lock that comes in is as little to be trusted as requirements are. What it says of versions and hashes is
taken; where its files are is not: they are looked up in the installation's own index, by name and SHA-256, so
that no file can send the builder anywhere, and a lock outlives a change of index.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from packaging.markers import UndefinedEnvironmentName
from packaging.pylock import PackageWheel, Pylock, PylockValidationError, is_valid_pylock_path
from packaging.utils import parse_sdist_filename, parse_wheel_filename

from layer_builder.ground import cooldown as age
from layer_builder.ground.errors import (
    BuildError,
    HashMismatchError,
    NoWheelError,
    RequirementsError,
    ResolutionError,
)
from layer_builder.requirements import parser
from layer_builder.requirements.origins import Origins
from layer_builder.resolution import lock_bounds, resolve
from layer_builder.results import storage
from layer_builder.wheels.pick import Pick, said

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from packaging.pylock import Package, PackageSdist

    from layer_builder.ground.cooldown import Cooldown
    from layer_builder.ground.settings import Settings
    from layer_builder.ground.target import Target
    from layer_builder.indexes.index import IndexedFile
    from layer_builder.indexes.sources import Sources
    from layer_builder.requirements.parser import Requirements
    from layer_builder.results.report import Publisher

NAME = "pylock.toml"
CREATED_BY = "layer-builder"
MAX_BYTES = lock_bounds.MAX_BYTES

_NOWHERE_ELSE = Origins()
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,254}")  # it becomes a path in the cache
_MAX_SIZE = 1 << 53  # of a file, in bytes: what JSON's readers take
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_REMARKS = 1 << 20
_LEFT_OUT = {"package", "version", "taken", "uploaded", "admitted_from"}  # see the report's schema


@dataclass(frozen=True, slots=True)
class Remarks:
    """What a person should know of a choice: warnings, and what a cooldown left out, as in the report."""

    warnings: tuple[str, ...] = ()
    left_out: tuple[dict[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Locked:
    """What a lock asks for: the requirements it was made from, and the file of each package, by name.

    The files' addresses are the lock's own: see `located`. What was remarked when it was made is said again.
    """

    requirements: Requirements
    picks: tuple[Pick, ...]
    remarks: Remarks = Remarks()


def is_lock(location: str) -> bool:
    """Tell a lock from requirements by its name: `pylock.toml`, `pylock.NAME.toml`, as PEP 751 has it.

    Or `STEMpylock.toml`: of names in a bucket, events can be told the ends alone.
    """
    path = PurePosixPath(location)
    return path.name.endswith(NAME) or is_valid_pylock_path(path)  # type: ignore[arg-type]


def text(
    requirements: Requirements,
    picks: Sequence[Pick],
    target: Target,
    cooldown: Cooldown | None = None,
    remarks: Remarks | None = None,
    publishers: Mapping[str, Sequence[Publisher]] | None = None,
) -> str:
    """Write the lock of a layer: one file a package, nothing that another run would write otherwise, but for
    the time before which they were uploaded, if there was a cooldown, and who published them, where the index
    says so. Remarks are for a build that goes on from it.
    """
    markers = {name: target.environment[name] for name in ("sys_platform", "platform_machine")}
    environment = " and ".join(f"{name} == '{value}'" for name, value in markers.items())
    lines = [
        'lock-version = "1.0"',
        f"environments = [{_string(environment)}]",
        f"requires-python = {_string('=={}.{}.*'.format(*target.runtime.version))}",
        f"created-by = {_string(CREATED_BY)}",
    ]
    for pick in sorted(picks, key=lambda pick: pick.name):
        size = "" if pick.size is None else f"size = {pick.size}, "
        url = without_credentials(pick.url)
        place = f"url = {_string(url)}" if url else f"path = {_string(pick.filename)}"
        file = (
            f"{{ name = {_string(pick.filename)}, {place}, "
            f"{size}hashes = {{ sha256 = {_string(pick.sha256)} }} }}"
        )
        lines += ["", "[[packages]]", f"name = {_string(pick.name)}", f"version = {_string(pick.version)}"]
        lines += [f"sdist = {file}" if pick.is_sdist else f"wheels = [{file}]"]
        for publisher in (publishers or {}).get(pick.name, ()):
            told = [f"{name} = {_string(value)}" for name, value in publisher.items() if value is not None]
            lines += ["[[packages.attestation-identities]]", *told]
    lines += ["", "[tool.layerdrop]", "requirements = ["]
    lines += [f"    {_string(line)}," for line in requirements.asked]
    cutoff = [f"exclude-newer = {age.stamp(cooldown.cutoff)}"] if cooldown else []
    said = [f"remarks = {_string(json.dumps(asdict(remarks)))}"] if remarks else []
    return "\n".join([*lines, "]", *cutoff, *said, ""])


def read(
    content: bytes, target: Target, allow_sdist: Collection[str] = (), allowed: Collection[str] = ()
) -> Locked:
    """Read a lock, ours or another tool's, and choose the target's file of each package.

    Args:
        content: the file.
        target: what the layer is for.
        allow_sdist: normalized names of projects that may be built from source.
        allowed: beginnings of addresses that its requirements may name.

    Raises:
        RequirementsError: it is no valid lock, or asks for what a server must not do.
        NoWheelError: it is of another target, or has no wheel of a package that this one loads.
    """
    try:
        return _read(content, target, allow_sdist, allowed)
    except (ValueError, PylockValidationError, UndefinedEnvironmentName) as error:
        # Numbers, dates, versions, markers, file names, addresses: whatever it is that cannot be read.
        raise _refusal(str(error).rstrip(".")) from error
    except RecursionError as error:
        raise _refusal("it is nested too deeply") from error


def _read(content: bytes, target: Target, allow_sdist: Collection[str], allowed: Collection[str]) -> Locked:
    lock = _parse(content)
    _check_target(lock, target)
    tool = (lock.tool or {}).get("layerdrop", {})
    given = tool.get("requirements") if isinstance(tool, dict) else None
    picks: dict[str, Pick] = {}
    for package, wheels in resolve.fitting(lock.packages, target, lock.default_groups or ()):
        if package.name in picks:
            raise _refusal(f"it has two versions of {package.name} for {target}")
        picks[package.name] = _pick(package, wheels, target, allow_sdist)
    if not picks:
        raise _refusal(f"it has no package for {target}")
    chosen = tuple(sorted(picks.values(), key=lambda pick: pick.name))
    if given is None:
        given = [f"{pick.name}=={pick.version}" for pick in chosen]
    if not isinstance(given, list) or not all(isinstance(line, str) for line in given):
        raise _refusal("tool.layerdrop.requirements is no list of strings")
    return Locked(parser.parse("\n".join(given), allowed), chosen, _remarks(tool))


def _remarks(tool: Any) -> Remarks:
    """Read what `text` was given; anything else was not written by us, and is nothing."""
    try:
        if len(tool["remarks"]) > _MAX_REMARKS:  # of an upload, which must not make reports too long to read
            return Remarks()
        found = json.loads(tool["remarks"])
        warnings, left_out = found["warnings"], found["left_out"]
        texts = [*warnings, *(value for one in left_out for value in one.values() if value is not None)]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return Remarks()
    lists = isinstance(warnings, list) and isinstance(left_out, list)
    if not lists or not all(isinstance(text, str) for text in texts):
        return Remarks()
    if any(one.keys() != _LEFT_OUT for one in left_out):
        return Remarks()
    return Remarks(tuple(warnings), tuple(left_out))


def is_anothers(location: str) -> bool:
    """Tell whether a file of the lock's name is there that some other tool made, or a person."""
    if storage.is_s3(location) or not Path(location).exists():
        return False
    try:
        content = storage.read(location, limit=MAX_BYTES)
        return bool(tomllib.loads(content.decode()).get("created-by") != CREATED_BY)
    except (BuildError, ValueError, RecursionError):
        return True


def located(
    picks: Sequence[Pick],
    settings: Settings,
    origins: Origins = _NOWHERE_ELSE,
    cooldown: Cooldown | None = None,
) -> list[Pick]:
    """Find the files in the indexes, whatever the lock says of where they are; the cache's need nothing.

    With a cooldown all are looked for: a lock may have been made in a hurry, and what it says of upload times
    is as little to be trusted as the rest.

    Raises:
        ResolutionError: the index has no such file.
        TooYoungError: it has had it for too short a time.
        UploadTimeUnknownError: it does not say since when it has it.
        HashMismatchError: the index has another file of the name.
        IndexUnreachableError, IndexDeniedError, AddressRefusedError: see `sources.Sources.files_of`.
    """
    from layer_builder.wheels.fetch import is_cached

    # Code of a source may change what the cache has; then it is downloaded after all.
    runs_code = any(pick.is_sdist for pick in picks)
    missing = [
        pick
        for pick in picks
        if runs_code or (cooldown and cooldown.age(pick.name)) or not is_cached(pick, settings)
    ]
    if not missing:
        return list(picks)

    from concurrent.futures import ThreadPoolExecutor

    from layer_builder.indexes import sources
    from layer_builder.indexes.web import CONNECTIONS

    places = sources.of(settings, origins)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        find = partial(_located, places=places, cooldown=cooldown)
        found = dict(zip(missing, pool.map(find, missing), strict=True))
    return [found.get(pick, pick) for pick in picks]


def without_credentials(url: str) -> str:
    """Cut from a URL what may be secret: user and password, the query (signatures), the fragment.

    Raises:
        ValueError: it is no URL.
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _located(pick: Pick, places: Sources, cooldown: Cooldown | None) -> Pick:
    files = [file for file in places.files_of(pick.name, pick.filename) if file.filename == pick.filename]
    for file in files:
        if file.sha256 == pick.sha256:
            if cooldown and not file.is_ageless:
                _check_age(pick, file, cooldown)
            return replace(pick, url=file.url, provenance=said(file.provenance))
    if files:
        raise HashMismatchError(
            f"The package index has another file {pick.filename} than the one that the lock names.",
            hint="Make the lock anew, and find out why they differ.",
            details={"package": pick.name, "locked": pick.sha256, "index": files[0].sha256},
        )
    raise ResolutionError(
        f"The package index has no file {pick.filename}, which the lock names.",
        hint="Make the lock anew from its requirements.",
        details={"package": pick.name, "version": pick.version},
    )


def _check_age(pick: Pick, file: IndexedFile, cooldown: Cooldown) -> None:
    if cooldown.admits(pick.name, file.uploaded):
        return
    from layer_builder.resolution import waiting

    if file.uploaded is None:
        raise waiting.unknown([pick.name], cooldown)
    until = cooldown.admitted_from(pick.name, file.uploaded)
    one = waiting.Waiting(pick.name, pick.version, None, file.uploaded, until)
    raise waiting.too_young([one], "The lock names", cooldown)


def _parse(content: bytes) -> Pylock:
    if fault := lock_bounds.fault_of_text(content):
        raise _refusal(fault)
    document = tomllib.loads(content.decode("utf-8-sig"))
    if fault := lock_bounds.fault_of_document(document):
        raise _refusal(fault)
    return Pylock.from_dict(document)


def _check_target(lock: Pylock, target: Target) -> None:
    environment = resolve.lock_environment(target)
    # Some tools write an empty list where they mean none; packaging's own reader takes it so, too.
    fits = not lock.environments or any(
        marker.evaluate(environment, context="lock_file") for marker in lock.environments
    )
    if not fits or (lock.requires_python and target.runtime.patch not in lock.requires_python):
        meant = " or ".join(str(marker) for marker in lock.environments or ())
        python = f"Python {lock.requires_python}" if lock.requires_python else ""
        raise NoWheelError(
            f"The lock is not for {target} but for {' and '.join(filter(None, [python, meant]))}.",
            hint="Say for which runtime and architecture it is (the path of an upload; --runtime and "
            "--architecture), or make a lock for this one.",
            details={"environments": meant, "requires_python": str(lock.requires_python or "")},
        )


def _pick(
    package: Package, wheels: Sequence[PackageWheel], target: Target, allow_sdist: Collection[str]
) -> Pick:
    name = package.name
    if package.vcs or package.directory or package.archive:
        raise _refusal(
            f"{name} comes from an address or a folder, not from the package index",
            "Lock it without that (your project itself: uv export has --no-emit-project), or release that to "
            "the index.",
        )
    if package.version is None:
        raise _refusal(f"{name} has no version")
    if package.requires_python and target.runtime.patch not in package.requires_python:
        raise NoWheelError(
            f"{name} {package.version} of the lock needs Python {package.requires_python}, which is not "
            f"{target.runtime.name}.",
            hint="Make the lock anew for this runtime.",
        )
    if wheels:
        return _checked(package, wheels[0], parse_wheel_filename(wheels[0].filename)[:2])
    if package.sdist and name in allow_sdist:
        return _checked(package, package.sdist, parse_sdist_filename(package.sdist.filename))
    files = sorted(wheel.filename for wheel in package.wheels or ())
    ways = ["Make the lock anew for this target"]
    if package.sdist:
        ways.append(f"or allow its source to be built with --allow-sdist {name}")
    raise NoWheelError(
        f"The lock has no wheel of {name} {package.version} for {target}.",
        hint=f"{', '.join(ways)}.",
        details={"package": name, "version": str(package.version), "wheels": files[:50]},
    )


def _checked(package: Package, file: PackageWheel | PackageSdist, parsed: tuple[Any, Any]) -> Pick:
    filename, sha256 = file.filename, file.hashes.get("sha256", "")
    if not _FILENAME.fullmatch(filename) or parsed != (package.name, package.version):
        raise _refusal(f"{filename!r} is no file of {package.name} {package.version}")
    if not _SHA256.fullmatch(sha256):
        raise _refusal(f"{filename} has no sha256 digest")
    if file.size is not None and not 0 <= file.size < _MAX_SIZE:
        raise _refusal(f"no file has the size that it gives {filename}")
    url = file.url or ""
    without_credentials(url)  # as it will be written again, if the cache has the file
    return Pick(package.name, str(package.version), filename, url, sha256, file.size)


def _string(value: str) -> str:
    """Write a TOML string: JSON's are, but for the one control character that JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _refusal(
    reason: str, hint: str = "Give the pylock.toml of an earlier build, or requirements."
) -> RequirementsError:
    shown = reason if len(reason) <= 300 else reason[:300] + "…"
    return RequirementsError(
        f"The lock cannot be taken: {shown}.",
        hint=hint,
        details={"reason": shown},
    )
