"""Source distributions, of packages for which that is allowed: built to wheels, then wheels as any other.

A build runs code of the package and of what its build needs. So it is done for named projects only, in an
environment that has no credentials, with a HOME of its own and a time limit, and confined as far as the
kernel allows (`ground.confinement`). Nothing is built for another machine than this one.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import stat
import subprocess
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename

from layer_builder.ground import files, interpreter
from layer_builder.ground.errors import SdistBuildError, SdistNotBuildableError
from layer_builder.ground.filenames import wheel_of
from layer_builder.ground.limits import MAX_FILE_BYTES
from layer_builder.requirements.origins import Origins
from layer_builder.resolution import uv
from layer_builder.wheels.fetch import fetch_file, path_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layer_builder.ground.cooldown import Cooldown
    from layer_builder.ground.interpreter import Interpreter
    from layer_builder.ground.settings import Settings
    from layer_builder.ground.target import Target
    from layer_builder.wheels.pick import Pick

_NOWHERE_ELSE = Origins()
_SHOWN_LINES = 30
_FAILED = re.compile(r"Failed to (?:download and )?build `?(?P<name>[A-Za-z0-9][\w.-]*)")
_MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}  # as other systems than Linux call them


def builder(project: str, target: Target) -> Interpreter:
    """Find the interpreter that can build a project's source for the target.

    Raises:
        SdistNotBuildableError: this is another kind of machine, or it has no Python of the target's version.
    """
    machine, system = platform.machine(), platform.system()
    machine = _MACHINES.get(machine.lower(), machine)
    if (machine, system) != (target.machine, "Linux"):
        raise SdistNotBuildableError(
            f"{project} has to be built from source, which for {target} takes a Linux machine with "
            f"{target.machine}; this one is {system} on {machine}.",
            hint=f"Build it on {target.architecture}, or take a version that has a wheel.",
            details={"package": project, "machine": machine, "system": system},
        )
    minor = "{}.{}".format(*target.runtime.version)
    found = interpreter.find(minor)
    if found is None:
        raise SdistNotBuildableError(
            f"{project} has to be built from source, which for {target} takes Python {minor}; "
            "there is none here.",
            hint=f"Install Python {minor}, or take a version that has a wheel.",
            details={"package": project, "python": minor},
        )
    return found


def as_wheels(
    picks: Sequence[Pick],
    target: Target,
    settings: Settings,
    origins: Origins = _NOWHERE_ELSE,
    cooldown: Cooldown | None = None,
) -> list[Pick]:
    """Put the wheels built of them in the place of sources; what was built once is taken from the cache.

    Raises:
        SdistNotBuildableError: see `builder`.
        SdistBuildError: a build fails, takes too long, or gives another package's wheel.
        IndexUnreachableError, HashMismatchError: see `fetch`.
    """
    return [_as_wheel(pick, target, settings, origins, cooldown) if pick.is_sdist else pick for pick in picks]


def failure(output: str) -> SdistBuildError | None:
    """Make an error of what uv said, if it is of a build that failed."""
    match = _FAILED.search(output)
    return _failure(output, match["name"]) if match else None


def _failure(output: str, name: str) -> SdistBuildError:
    lines = [line.rstrip() for line in output.splitlines() if line.strip()][-_SHOWN_LINES:]
    last = next((line.strip() for line in reversed(lines) if not line.startswith(" ")), "it did not say why")
    return SdistBuildError(
        f"The source of {name} could not be built: {last.rstrip('.')[:300]}.",
        hint="details.output has the build's last lines. Compilers and libraries that it needs must be where "
        "the builder runs; or take a version that has a wheel.",
        details={"package": name, "output": lines},
    )


def _as_wheel(
    pick: Pick, target: Target, settings: Settings, origins: Origins, cooldown: Cooldown | None
) -> Pick:
    note = path_of(pick, settings).with_name(f"{target.runtime.name}-{target.architecture}.json")
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_bytes())
        built = replace(pick, filename=known["filename"], sha256=known["sha256"], url="", size=None)
        if path_of(built, settings).exists():
            return built
    python = builder(pick.name, target)
    source = fetch_file(pick, settings, origins)
    with files.temporary() as folder:
        wheel = _build(pick, source, folder, python, settings, origins, cooldown)
        _check(pick, wheel, target)
        content = wheel.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        built = replace(pick, filename=wheel.name, sha256=sha256, url="", size=None)
        files.write_atomically(path_of(built, settings), content)
    files.write_atomically(note, json.dumps({"filename": built.filename, "sha256": sha256}).encode())
    return built


def _build(
    pick: Pick,
    source: Path,
    folder: Path,
    python: Interpreter,
    settings: Settings,
    origins: Origins,
    cooldown: Cooldown | None,
) -> Path:
    try:
        outcome = uv.build_wheel(source, folder, python, settings, origins, cooldown)
    except subprocess.TimeoutExpired as error:
        raise SdistBuildError(
            f"The source of {pick.name} {pick.version} was not built within {uv.TIMEOUT} seconds.",
            hint="Take a version that has a wheel.",
            details={"package": pick.name, "output": []},
        ) from error
    wheels = list((folder / "out").glob("*.whl"))
    if outcome.status != 0 or len(wheels) != 1:
        raise _failure(outcome.stderr, pick.name)
    return wheels[0]


def _check(pick: Pick, wheel: Path, target: Target) -> None:
    """See that the wheel is the package's and loads on the target; its content is checked as any wheel's."""
    try:
        name, version, _, tags = wheel_of(wheel.name)
    except InvalidWheelFilename:
        name, version, tags = None, None, frozenset()
    if (name, str(version)) != (pick.name, pick.version) or not _is_file(wheel) or not tags & {*target.tags}:
        raise SdistBuildError(
            f"The source of {pick.name} {pick.version} was built to {wheel.name}, "
            f"which {target} does not load.",
            hint="Take a version that has a wheel.",
            details={"package": pick.name, "wheel": wheel.name, "output": []},
        )


def _is_file(path: Path) -> bool:
    """Tell a file of a possible length from links, pipes and whatever else a build may leave."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES
