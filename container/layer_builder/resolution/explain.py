"""Why no versions were found: uv's explanation, in the words of the person who wrote the requirements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from layer_builder.ground import wording
from layer_builder.ground.errors import (
    BuildError,
    IndexDeniedError,
    IndexUnreachableError,
    NoWheelError,
    ResolutionError,
)
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.indexes import index, sources

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from layer_builder.ground.settings import Settings
    from layer_builder.indexes.index import IndexedFile, IndexedWheel
    from layer_builder.requirements.parser import Requirements

_NETWORK = re.compile(
    r"Failed to fetch|error sending request|client error|Request failed after|dns error|operation timed out"
    r"|HTTP status (client|server) error|invalid peer certificate|Could not connect"
)
_DENIED = re.compile(r"\b40[137] (Unauthorized|Forbidden|Proxy Authentication)")
# Bounded, as what is searched: uv quotes names and versions that an index made up.
_NAME = r"`?(?P<name>[A-Za-z0-9](?:[\w.-]{0,200}[A-Za-z0-9])?)"
_SEARCHED_CHARACTERS = 50_000
_NO_WHEEL = re.compile(r"\b(?:has|have) no (?:usable wheels|wheels with a matching)")
# From the surest to the least sure; the hints name one version of many, so theirs is not taken.
_NO_WHEEL_OF = (
    re.compile(rf"\bBecause {_NAME}==(?P<version>[\w.!+]+) has no (?:usable )?wheels"),
    re.compile(rf"Wheels are required for {_NAME}`"),
    re.compile(rf"wheels for {_NAME}` \("),
    re.compile(rf"Wheels are available for {_NAME}` \("),
    re.compile(rf"all versions of {_NAME} have no (?:usable )?wheels"),
)
_UNKNOWN = re.compile(rf"\b{_NAME}(?:\[[^]]*\])? was not found in the package registry")
_NO_VERSION = re.compile(rf"there (?:is no version|are no versions) of {_NAME}(?P<specifier>[^\s,]*)")
_CONCLUDED = re.compile(r",? we can conclude that .*$")
_SHOWN_CHARACTERS = 500
_SHOWN_FILES = 50
_SHOWN_KINDS = 4


def failure(
    stderr: str,
    requirements: Requirements,
    excluded: Collection[str],
    target: Target,
    settings: Settings,
) -> BuildError:
    """Make an error of what uv said when it failed.

    Args:
        stderr: uv's explanation.
        requirements: what was asked for.
        excluded: projects of which versions were ruled out because their wheels do not load on the target.
        target: what the layer is for.
        settings: of the installation.
    """
    stderr = wording.shortened(stderr, _SEARCHED_CHARACTERS)
    details = {"explanation": stderr.strip()}
    if match := _DENIED.search(stderr):
        return IndexDeniedError(
            f"The package index refuses: it answered {match[0]}.",
            hint="Give the installation the index's credentials, or the right ones: see docs/deploy.md.",
            details=details,
        )
    if _NETWORK.search(stderr):
        return IndexUnreachableError(
            f"The package index could not be read: {_last_cause(stderr)}.",
            hint="Try again; if it stays so, check the network and the index.",
            details=details,
        )
    name, version = _without_wheel(stderr, excluded)
    if name:
        allowed = SpecifierSet(f"=={version}") if version else _specifier(name, requirements)
        return _no_wheel(name, allowed, _files_of(name, settings, requirements), target, details)
    if match := _UNKNOWN.search(stderr):
        return ResolutionError(
            f"There is no package named {match['name']} in the package index.",
            hint="Check the spelling; the name to install is not always the name to import.",
            details=details,
        )
    if match := _NO_VERSION.search(stderr):
        return ResolutionError(
            f"{match['name']} has no version that matches {match['specifier'] or 'the requirement'}.",
            hint="Take a version that exists, or a range.",
            details=details,
        )
    return ResolutionError(
        f"The requirements cannot be satisfied together: {_boiled_down(stderr)}.",
        hint="Loosen one of the versions.",
        details=details,
    )


def _no_wheel(
    name: str, allowed: SpecifierSet, files: Sequence[IndexedFile], target: Target, details: dict[str, Any]
) -> NoWheelError:
    """Say which wheels a package has instead of one for the target, and the nearest way out."""
    wheels = index.wheels_among(files)
    meant = [wheel for wheel in wheels if allowed.contains(wheel.version, prereleases=True)]
    wanted = f"{name}{allowed}"
    details = {
        **details,
        "package": name,
        "versions": str(allowed),
        "wheels": sorted(wheel.filename for wheel in meant)[:_SHOWN_FILES],
    }
    if meant:
        message = f"{wanted} has no wheel for {target}; it has wheels for {_kinds(meant, target)}."
    else:
        message = f"{wanted} is published as source code only, without a wheel for {target}."
    ways = []
    others = [Target(other, target.architecture) for other in RUNTIMES.values() if other != target.runtime]
    if runtimes := [other.runtime.name for other in others if _loading(meant, other)]:
        ways.append(f"{' or '.join(runtimes)}, where it loads")
    if versions := sorted({wheel.version for wheel in _loading(wheels, target)}):
        versions = [version for version in versions if not version.is_prerelease] or versions
        span = f"between {versions[0]} and {versions[-1]}" if len(versions) > 1 else f"{versions[0]}"
        ways.append(f"a version of {name} that has wheels for {target}, {span}")
    if any(allowed.contains(version, prereleases=True) for version in index.sources_among(files)):
        ways.append(
            f"its source, with --allow-sdist {canonicalize_name(name)} (allow-sdist in the settings block)"
        )
    hint = f"Take {', or '.join(ways)}." if ways else "Look for a package that publishes wheels for Linux."
    return NoWheelError(message, hint=hint, details=details)


def _files_of(name: str, settings: Settings, requirements: Requirements) -> list[IndexedFile]:
    try:
        return sources.of(settings, requirements.origins).files_of(canonicalize_name(name))
    except BuildError:
        return []  # the error is the same without its explanation


def _specifier(name: str, requirements: Requirements) -> SpecifierSet:
    """Take together what the requirements themselves say of a project's versions."""
    specifier = SpecifierSet()
    for line in requirements.lines:
        if line.project == canonicalize_name(name):
            specifier &= Requirement(line.text).specifier
    return specifier


def _without_wheel(stderr: str, excluded: Collection[str]) -> tuple[str, str | None]:
    """Find the package, and if only one is wanted the version, that has no wheel; empty if it is not that."""
    for name in excluded:
        if re.search(rf"\b{re.escape(name)}\b", stderr):
            return name, _pinned(name, stderr)
    if _NO_WHEEL.search(stderr):
        for pattern in _NO_WHEEL_OF:
            if match := pattern.search(stderr):
                return match["name"], match.groupdict().get("version") or _pinned(match["name"], stderr)
    return "", None


def _pinned(name: str, stderr: str) -> str | None:
    match = re.search(rf"you require {re.escape(name)}==([\w.!+*]+)", stderr)
    return match[1].rstrip(".") if match and "*" not in match[1] else None


def _loading(wheels: Sequence[IndexedWheel], target: Target) -> list[IndexedWheel]:
    tags = frozenset(target.tags)
    return [wheel for wheel in wheels if wheel.tags & tags]


def _kinds(wheels: Sequence[IndexedWheel], target: Target) -> str:
    """Name what wheels there are, as `cp312 manylinux_2_28_aarch64`; the nearest to the target first."""

    def distance(kind: str) -> tuple[bool, bool, str]:
        return "manylinux" not in kind, target.machine not in kind, kind

    kinds = sorted(
        {f"{tag.interpreter} {tag.platform}" for wheel in wheels for tag in wheel.tags}, key=distance
    )
    more = f" and {len(kinds) - _SHOWN_KINDS} more" if len(kinds) > _SHOWN_KINDS else ""
    return ", ".join(kinds[:_SHOWN_KINDS]) + more


def _last_cause(stderr: str) -> str:
    causes = re.findall(r"^\s*cause: (.+)$", stderr, re.MULTILINE)
    if causes:
        return str(causes[-1]).strip().rstrip(".")
    return next((line.strip() for line in stderr.splitlines() if line.strip()), "it did not say why")


def _boiled_down(stderr: str) -> str:
    """Keep the facts of the explanation, and leave out its conclusions."""
    body = stderr.partition("cause:")[2].partition("\nhint:")[0] or stderr
    sentences = re.split(r"\. (?:And )?[Bb]ecause ", " ".join(body.split()).removeprefix("Because "))
    facts = [_CONCLUDED.sub("", sentence).strip(" .,") for sentence in sentences]
    text = "; ".join(fact for fact in facts if fact)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
