"""A file's settings block (docs/inputs.md), as options for the builder on this machine.

The pipeline judges settings. Here those that the builder has an option for are handed on, and it is told
which ones count only in a stack.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from layerdrop_client.problems import CommandError, Problem

OPENING = "# /// layer"
CLOSING = "# ///"

_OPTIONS = {
    "name": "--name",
    "description": "--description",
    "license": "--license",
    "allow-sdist": "--allow-sdist",
    "constraints": "--constraint",
    "system-libraries": "--system-libraries",
    "exclude": "--exclude",
    "size-limit": "--size-limit",
    "cooldown": "--cooldown",
    "cooldown-exempt": "--cooldown-exempt",
}
_FLAGS = {("bytecode", False): "--no-bytecode", ("fit", False): "--no-fit", ("slim", True): "--slim"}
_OF_A_STACK = ("share-with", "alongside", "refresh", "rebuild", "vulnerability-ignore")


@dataclass(frozen=True)
class Asked:
    """What a block asks for.

    Attributes:
        runtimes: Those of layers to build; empty for the path's or the default.
        options: The builder's, as words.
        left: Settings that count only in a stack.
    """

    runtimes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def read(text: str) -> Asked:
    """Read a file's settings block; without one, nothing is asked for.

    Raises:
        CommandError: SETTINGS_INVALID.
    """
    lines = [line.rstrip() for line in text.splitlines()]
    if OPENING not in lines:
        return Asked()
    start = lines.index(OPENING) + 1
    run = next(
        (n for n, line in enumerate(lines[start:], start) if not (line == "#" or line.startswith("# "))), None
    )
    closings = [n for n, line in enumerate(lines[start:run], start) if line == CLOSING]
    if not closings:
        raise CommandError(
            "SETTINGS_INVALID",
            f"The settings block of line {start} is not closed.",
            f'Begin each of its lines with "# " and end it with the line "{CLOSING}".',
        )
    try:
        settings = tomllib.loads("\n".join(line[2:] for line in lines[start : closings[-1]]))
    except (ValueError, RecursionError) as error:
        raise CommandError("SETTINGS_INVALID", f"The settings block is not valid TOML: {error}.") from error
    return _asked(settings)


def _asked(settings: dict[str, Any]) -> Asked:
    options: list[str] = []
    for name, value in settings.items():
        if name in _OPTIONS:
            options += [f"{_OPTIONS[name]}={one}" for one in (value if isinstance(value, list) else [value])]
        elif isinstance(value, bool) and (name, value) in _FLAGS:
            options.append(_FLAGS[name, value])
        elif name not in ("runtimes", *(flag for flag, _ in _FLAGS), *_OF_A_STACK):
            known = ", ".join(["runtimes", *_OPTIONS, *(flag for flag, _ in _FLAGS), *_OF_A_STACK])
            error = CommandError("SETTINGS_INVALID", f'"{name}" is no setting.', f"Settings are {known}.")
            error.problem = Problem(
                error.problem.code, error.problem.message, error.problem.hint, {"setting": name}
            )
            raise error
    runtimes = settings.get("runtimes", [])
    left = tuple(name for name in _OF_A_STACK if name in settings)
    return Asked(tuple(map(str, runtimes)) if isinstance(runtimes, list) else (), tuple(options), left)
