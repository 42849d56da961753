"""The settings block of a requirements file: TOML in a comment, in the syntax of PEP 723."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Never

from layerdrop import wording
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.target import MAX_UNZIPPED_BYTES, REBUILD_FIXED, RUNTIMES, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OPENING = "# /// layer"
CLOSING = "# ///"

# What a person may take for an opening: better an error than settings that silently do nothing.
_ALMOST_OPENING = re.compile(r"\s*#+\s*/{2,}\s*layer\s*", re.IGNORECASE)
# A distribution's name, of a length that none exceeds: https://packaging.python.org/en/latest/specifications/name-normalization/
_PACKAGE = re.compile(r"[A-Z0-9]|[A-Z0-9][A-Z0-9._-]{0,126}[A-Z0-9]", re.IGNORECASE)
# An RPM package's name; the builder takes the same.
_SYSTEM_PACKAGE = re.compile(r"[A-Z0-9_][A-Z0-9._+-]{0,127}", re.IGNORECASE | re.ASCII)
# A name and what is said of its versions; whether that makes sense is for the builder to say.
_CONSTRAINT = re.compile(r"[A-Z0-9][A-Z0-9._-]*\s*[(=<>!~;][ -~]*", re.IGNORECASE)
_LONGEST_CONSTRAINT = 120
SYSTEM_LIBRARIES = ("check", "auto")
# Enough for anyone, and little enough for what travels through the state machine (256 KiB).
_LONGEST_LIST = 50
# Of the whole block, and of a line: room for every list, and one, at their longest. TOML's parser takes time
# and memory that grow with the square of the dots in a key; versions have a few.
_LONGEST_BLOCK = 48 * 1024
_LONGEST_LINE = 10 * 1024
_MOST_DOTS = 500
# The rest of Lambda's 140 characters is the target's id.
_LAYER_NAME = re.compile(r"[A-Za-z0-9_-]{1,127}")
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
# API_GetLayerVersionByArn; a function has up to five layers, of which this is one (Developer Guide, "Lambda
# quotas").
_LAYER_VERSION = re.compile(
    r"arn:aws[a-z-]{0,20}:lambda:[a-z0-9-]{1,30}:\d{12}:layer:[A-Za-z0-9_-]{1,140}:[1-9]\d{0,9}", re.ASCII
)
_MOST_OTHER_LAYERS = 4
# As the builder reads it, which says no more of it than this.
_DURATION = re.compile(r"([1-9][0-9]{0,4}) (hour|day|week)s?", re.ASCII | re.IGNORECASE)
_HOURS = {"hour": 1, "day": 24, "week": 168}
_LONGEST_COOLDOWN = 365 * 24
# An advisory's id in the databases that OSV collects, each of which has a prefix of its own
# (https://ossf.github.io/osv-schema/#id-modified-fields), and why it is none here.
_IGNORED = re.compile(r"[A-Z][A-Z0-9]{1,9}-[A-Z0-9:-]{1,30}: *\S.{0,99}", re.IGNORECASE | re.ASCII)
# Each target carries them, through a state of bounded size.
_MOST_IGNORED = 30
# https://docs.aws.amazon.com/organizations/latest/APIReference/API_Organization.html
_ORGANIZATION = re.compile(r"o-[a-z0-9]{10,32}")


@dataclass(frozen=True)
class Settings:
    """What the block says; what it leaves out is None, empty or False, but for what is True here."""

    name: str | None = None
    runtimes: tuple[Runtime, ...] = ()
    description: str | None = None
    license: str | None = None
    share_with: tuple[str, ...] = ()
    allow_sdist: tuple[str, ...] = ()
    bytecode: bool = True
    system_libraries: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    fit: bool = True
    slim: bool = False
    exclude: tuple[str, ...] = ()
    size_limit: int | None = None
    alongside: tuple[str, ...] = ()
    cooldown: str | None = None
    cooldown_exempt: tuple[str, ...] = ()
    refresh: bool = True
    rebuild: str | None = None
    vulnerability_ignore: tuple[str, ...] = ()


def parse(text: str) -> Settings:
    """Read the settings out of a requirements file; without a block, all defaults.

    Raises:
        BuildError: SETTINGS_INVALID, with the line or the key that is wrong.
    """
    block = _block(text)
    if block is None:
        return Settings()
    try:
        document = tomllib.loads(block)
    except RecursionError:
        _refuse("The settings block has too many brackets within brackets.", "No setting nests that deep.")
    except ValueError as error:  # TOMLDecodeError, or a number of more than 4,300 digits
        _refuse(
            f"The settings block is not valid TOML: {wording.word(str(error))}.",
            f'Lines are counted from the one after "{OPENING}".',
        )
    return _settings(document)


def _block(text: str) -> str | None:
    """The TOML between opening and closing, without the comment signs."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    openings = [number for number, line in enumerate(lines) if line == OPENING]
    for number, line in enumerate(lines):
        if _ALMOST_OPENING.fullmatch(line) and line != OPENING:
            shown = wording.word(line.strip())
            _refuse(f'Line {number + 1}, "{shown}", opens no settings block.', f'Write "{OPENING}".')
    if not openings:
        return None
    start = openings[0] + 1
    end = start
    closing = None
    # By PEP 723 the block ends at the last closing line of an unbroken run of comment lines.
    while end < len(lines) and (lines[end] == "#" or lines[end].startswith("# ")):
        if lines[end] == CLOSING:
            closing = end
        end += 1
    if closing is None:
        _refuse(
            f"The settings block of line {start} is not closed.",
            f'Begin each of its lines with "# " and end it with the line "{CLOSING}".',
        )
    if len(openings) > 1:
        _refuse(f"Line {openings[1] + 1} opens a second settings block.", "Put all settings into one block.")
    block = [line[2:] for line in lines[start:closing]]
    _check_size(block, start)
    return "".join(f"{line}\n" for line in block)


def _check_size(block: Sequence[str], start: int) -> None:
    if (size := sum(map(len, block))) > _LONGEST_BLOCK:
        _refuse(
            f"The settings block of line {start} has {size:,} characters.",
            f"Give at most {_LONGEST_BLOCK:,}.",
        )
    for number, line in enumerate(block, start + 1):
        if len(line) > _LONGEST_LINE or line.count(".") > _MOST_DOTS:
            _refuse(
                f"Line {number} has {len(line):,} characters and {line.count('.'):,} dots.",
                f"Give at most {_LONGEST_LINE:,} and {_MOST_DOTS}; a list may go over several lines.",
            )


def _settings(document: Mapping[str, Any]) -> Settings:
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key not in _READERS:
            shown = wording.word(key)
            near = get_close_matches(shown, _READERS, n=1)
            _refuse(
                f'"{shown}" is no setting.',
                (f'Did you mean "{near[0]}"? ' if near else "") + f"Settings are {', '.join(_READERS)}.",
                shown,
            )
        values[key.replace("-", "_")] = _READERS[key](key, value)
    return Settings(**values)


def _name(key: str, value: Any) -> str:
    text = _text(127)(key, value)
    if not _LAYER_NAME.fullmatch(text):
        _refuse_value(key, value, "1 to 127 letters, digits, hyphens and underscores")
    return text


def _text(longest: int) -> Callable[[str, Any], str]:
    def read(key: str, value: Any) -> str:
        if not isinstance(value, str):
            _refuse_type(key, value, "a text in quotes")
        if not 1 <= len(value) <= longest or not value.isprintable():
            _refuse_value(key, value, f"one line of 1 to {longest} characters")
        return value

    return read


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        _refuse_type(key, value, "true or false")
    return value


def _bytes(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse_type(key, value, "a number of bytes, without quotes")
    if not 1 <= value <= MAX_UNZIPPED_BYTES:
        most = f"{MAX_UNZIPPED_BYTES:_}"
        _refuse_value(key, value, f"a number of bytes from 1 to {most}, which is what Lambda takes")
    return value


def _duration(key: str, value: Any) -> str:
    good = "a text such as 7 days, 36 hours or 2 weeks, from 1 hour to 365 days"
    if not isinstance(value, str):
        _refuse_type(key, value, good)
    match = _DURATION.fullmatch(value)
    if not match or int(match[1]) * _HOURS[match[2].lower()] > _LONGEST_COOLDOWN:
        _refuse_value(key, value, good)
    return value


def _rebuild(key: str, value: Any) -> str:
    if not isinstance(value, str):
        _refuse_type(key, value, "a text in quotes")
    if value != REBUILD_FIXED:
        _refuse_value(key, value, f"{wording.as_json(REBUILD_FIXED)}, or leave it out")
    return REBUILD_FIXED


def _list(
    good: str, fits: Callable[[str], object], most: int = _LONGEST_LIST
) -> Callable[[str, Any], tuple[str, ...]]:
    def read(key: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            _refuse_type(key, value, f"a list of texts, each {good}")
        if len(value) > most:
            _refuse(f"The setting {key} has {len(value)} entries.", f"Give at most {most}.", key)
        for item in value:
            if not fits(item):
                _refuse_value(key, item, good)
        return tuple(dict.fromkeys(value))

    return read


def _system_libraries(key: str, value: Any) -> tuple[str, ...]:
    """What to do about missing shared libraries: one of two words, or names of packages."""
    good = f"{' or '.join(map(wording.as_json, SYSTEM_LIBRARIES))}, or a list of names of system packages"
    if isinstance(value, str):
        if value not in SYSTEM_LIBRARIES:
            _refuse_value(key, value, good)
        return (value,)
    if not isinstance(value, list):
        _refuse_type(key, value, good)
    if not value:
        _refuse_value(key, value, good)
    name = "the name of a system package such as unixODBC"
    return _list(name, lambda item: item not in SYSTEM_LIBRARIES and _SYSTEM_PACKAGE.fullmatch(item))(
        key, value
    )


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "name": _name,
    "runtimes": _list(f"one of {', '.join(RUNTIMES)}", lambda item: item in RUNTIMES),
    "description": _text(256),
    "license": _text(512),
    "share-with": _list(
        "an account's 12 digits or an organization's id such as o-a1b2c3d4e5",
        lambda item: _ACCOUNT.fullmatch(item) or _ORGANIZATION.fullmatch(item),
    ),
    "allow-sdist": _list("the name of a package", _PACKAGE.fullmatch),
    "bytecode": _flag,
    "system-libraries": _system_libraries,
    "constraints": _list(
        f"a package and its versions such as urllib3<2, of up to {_LONGEST_CONSTRAINT} characters",
        lambda item: len(item) <= _LONGEST_CONSTRAINT and _CONSTRAINT.fullmatch(item),
    ),
    "fit": _flag,
    "slim": _flag,
    "exclude": _list("the name of a package", _PACKAGE.fullmatch),
    "size-limit": _bytes,
    "alongside": _list(
        "the ARN of a layer version, arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION",
        _LAYER_VERSION.fullmatch,
        _MOST_OTHER_LAYERS,
    ),
    "cooldown": _duration,
    "cooldown-exempt": _list("the name of a package", _PACKAGE.fullmatch),
    "refresh": _flag,
    "rebuild": _rebuild,
    "vulnerability-ignore": _list(
        "an advisory's id and, in up to 100 characters, why it is none here, "
        "such as GHSA-48p4-8xcf-vxj5: no redirects",
        lambda item: item.isprintable() and _IGNORED.fullmatch(item),
        _MOST_IGNORED,
    ),
}


def _refuse_type(key: str, value: Any, good: str) -> Never:
    _refuse(f"The setting {key} = {wording.as_json(value)} has the wrong type.", f"Give {good}.", key)


def _refuse_value(key: str, value: Any, good: str) -> Never:
    _refuse(f"The setting {key} does not take {wording.as_json(value)}.", f"Give {good}.", key)


def _refuse(message: str, hint: str, key: str | None = None) -> Never:
    raise BuildError(ErrorCode.SETTINGS_INVALID, message, hint, {"setting": key} if key else {})
