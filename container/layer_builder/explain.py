"""Why no versions were found: uv's explanation, in the words of the person who wrote the requirements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet

from layer_builder import index, uv
from layer_builder.errors import BuildError, IndexUnreachableError, NoWheelError, ResolutionError
from layer_builder.target import RUNTIMES, Target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from layer_builder.index import IndexedWheel
    from layer_builder.settings import Settings

_NETWORK = re.compile(
    r"Failed to fetch|error sending request|client error|Request failed after|dns error|operation timed out"
    r"|HTTP status (client|server) error|invalid peer certificate|Could not connect"
)
_NAME = r"`?(?P<name>[A-Za-z0-9][\w.-]*)"
_NO_WHEEL = re.compile(r"\b(?:has|have) no (?:usable wheels|wheels with a matching)")
_NO_WHEEL_OF = (
    re.compile(rf"Wheels are required for {_NAME}`"),
    re.compile(rf"wheels for {_NAME}` \(v(?P<version>[^)]+)\)"),
    re.compile(rf"Wheels are available for {_NAME}` \(v(?P<version>[^)]+)\)"),
    re.compile(rf"all versions of {_NAME} have no usable wheels"),
    re.compile(rf"{_NAME}==(?P<version>\S+) has no (?:usable )?wheels"),
)
_UNKNOWN = re.compile(rf"Because {_NAME}(?:\[[^]]*\])? was not found in the package registry")
_NO_VERSION = re.compile(rf"Because there (?:is no version|are no versions) of {_NAME}(?P<specifier>\S*)")
_CONCLUSION = re.compile(r",? ?(?:and )?we can conclude that your requirements are unsatisfiable\.?$")


def failure(stderr: str, excluded: Collection[str], target: Target, settings: Settings) -> BuildError:
    """Make an error of what uv said when it failed.

    Args:
        stderr: uv's explanation.
        excluded: projects of which versions were ruled out because their wheels do not load on the target.
        target: what the layer is for.
        settings: of the installation.
    """
    details = {"explanation": stderr.strip()}
    if _NETWORK.search(stderr):
        return IndexUnreachableError(
            f"The package index could not be read: {_last_cause(stderr)}.",
            hint="Try again; if it stays so, check the network and the index.",
            details=details,
        )
    if _NO_WHEEL.search(stderr) or any(re.search(rf"\b{re.escape(name)}\b", stderr) for name in excluded):
        name, version = _without_wheel(stderr, excluded)
        if name:
            return no_wheel(name, version, target, settings, details)
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


def no_wheel(
    name: str,
    version: str | None,
    target: Target,
    settings: Settings,
    details: dict[str, Any] | None = None,
) -> NoWheelError:
    """Say which wheels a package has instead of one for the target, and the nearest way out."""
    what = f"{name} {version}" if version else name
    details = {**(details or {}), "package": name, "version": version}
    try:
        index_url = settings.index_url or uv.default_index(settings)
        wheels = index.wheels_of(name, index_url) if index_url else []
    except IndexUnreachableError:
        wheels = []
    meant = [wheel for wheel in wheels if version is None or wheel.version in SpecifierSet(f"=={version}")]
    details["wheels"] = sorted(wheel.filename for wheel in meant)[:50]
    if not meant:
        return NoWheelError(
            f"{what} is published as source code only, without a wheel for {target}.",
            hint=_way_out(name, wheels, meant, target) or "Look for a package that publishes wheels.",
            details=details,
        )
    return NoWheelError(
        f"{what} has no wheel for {target}; its wheels are for {_kinds(meant)}.",
        hint=_way_out(name, wheels, meant, target) or "Look for a package that publishes wheels for Linux.",
        details=details,
    )


def _without_wheel(stderr: str, excluded: Collection[str]) -> tuple[str, str | None]:
    version = None
    for pattern in _NO_WHEEL_OF:
        if match := pattern.search(stderr):
            version = match.groupdict().get("version") or _pinned(match["name"], stderr)
            return match["name"], version
    return next((name for name in excluded if name in stderr), ""), version


def _pinned(name: str, stderr: str) -> str | None:
    match = re.search(rf"\b{re.escape(name)}==([\w.!+]+)", stderr)
    return match[1].rstrip(".") if match else None


def _way_out(name: str, wheels: Iterable[IndexedWheel], meant: Iterable[IndexedWheel], target: Target) -> str:
    """Find the nearest change that helps: another runtime for these versions, or another version."""
    here = frozenset(target.tags)
    if other := sorted(
        {wheel.version for wheel in wheels if wheel.tags & here and not wheel.version.is_prerelease}
    ):
        newest = f"{name}=={other[-1]}"
        return f"{newest} is the newest release that loads on {target}; take {name}<={other[-1]}."
    runtimes = [
        runtime.name
        for runtime in RUNTIMES.values()
        if any(wheel.tags & frozenset(Target(runtime, target.architecture).tags) for wheel in meant)
    ]
    return f"It has wheels for {', '.join(runtimes)}: take that runtime." if runtimes else ""


def _kinds(wheels: Iterable[IndexedWheel]) -> str:
    """Name what wheels there are, as `cp312 on win_amd64`, shortened."""
    kinds = sorted({f"{tag.interpreter} on {tag.platform}" for wheel in wheels for tag in wheel.tags})
    more = f" and {len(kinds) - 4} more" if len(kinds) > 4 else ""
    return ", ".join(kinds[:4]) + more


def _last_cause(stderr: str) -> str:
    causes = re.findall(r"^\s*cause: (.+)$", stderr, re.MULTILINE)
    if causes:
        return str(causes[-1]).strip().rstrip(".")
    return next((line.strip() for line in stderr.splitlines() if line.strip()), "it did not say why")


def _boiled_down(stderr: str) -> str:
    """Take the explanation's own sentence, without the tree drawing around it."""
    body = stderr.partition("cause:")[2].partition("\nhint:")[0] or stderr
    text = " ".join(body.split())
    text = _CONCLUSION.sub("", text.removeprefix("Because ")).rstrip(" .,")
    return text if len(text) <= 600 else text[:600] + "…"
