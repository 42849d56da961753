"""The line of the user's own file that an error is about, with a mark below the part that is meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerdrop_client.problems import Problem

_QUOTED = re.compile(r'"([^"\n]{1,200})"')
# A name with its versions, as resolvers say it: numpy==99, requests>=3,<4, urllib3[socks]
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[^\]]*\])?")
_LINE = re.compile(r"\bline (\d+)\b", re.IGNORECASE)
_NAMED_BY = ("package", "requirement", "name", "project", "module", "wheel")


@dataclass(frozen=True)
class Quote:
    """A line, and which part of it is meant.

    Attributes:
        number: Of the line, from 1.
        text: The line.
        start: Where the part begins, from 0.
        length: How long it is.
    """

    number: int
    text: str
    start: int
    length: int


def quote(problem: Problem, text: str) -> Quote | None:
    """Find what an error is about in the file; None if that cannot be told.

    Args:
        problem: The error; its details may have a line, a setting or a package.
        text: The file as it was uploaded.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    number = _number(problem)
    if number is not None and 1 <= number <= len(lines):
        return _marked(number, lines[number - 1], problem)
    setting = problem.details.get("setting")
    if isinstance(setting, str):
        key = re.compile(rf"#\s*(\"?{re.escape(setting)}\"?\s*=.*)")
        there = next(((n, m) for n, line in enumerate(lines, 1) if (m := key.match(line))), None)
        if there is None:
            return None
        number, match = there
        return Quote(number, lines[number - 1], match.start(1), len(match[1].rstrip()))
    return next((found for name in _names(problem) if (found := _requirement(name, lines))), None)


def _number(problem: Problem) -> int | None:
    told = problem.details.get("line")
    if isinstance(told, int):
        return told
    found = (
        _LINE.search(problem.message)
        if problem.code != "SETTINGS_INVALID" or "Line " in problem.message
        else None
    )
    return int(found[1]) if found else None


def _marked(number: int, line: str, problem: Problem) -> Quote:
    """The line, with what the message quotes of it, else all of it."""
    candidates = [str(problem.details.get("text") or ""), *_QUOTED.findall(problem.message)]
    part = next((one for one in candidates if one and one in line and one != line.strip()), line.strip())
    return Quote(number, line, line.find(part), len(part))


def _names(problem: Problem) -> list[str]:
    """What the error calls by name, what is surest first."""
    told = [problem.details.get(name) for name in _NAMED_BY]
    said = [one for one in _REQUIREMENT.findall(problem.message) if len(one) > 1]
    return [one for one in told if isinstance(one, str)] + said


def _requirement(name: str, lines: list[str]) -> Quote | None:
    """The line that begins with a package's name."""
    wanted = _normalized(name.partition("[")[0])
    for number, line in enumerate(lines, 1):
        found = _REQUIREMENT.match(line.lstrip())
        if found and _normalized(found[0].partition("[")[0]) == wanted:
            start = len(line) - len(line.lstrip())
            meant = re.split(r"\s+#|\s*\\$|\s+--hash", line[start:])[0].rstrip()
            return Quote(number, line, start, len(meant))
    return None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
