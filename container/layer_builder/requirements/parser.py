"""Requirements as people write them, read strictly.

The text comes from whoever may upload a file, and a requirements file can do much: `--no-binary` alone makes
an installer run a package's setup.py, `-r` and `file:` read the server's files, `--index-url` sends it
elsewhere. So a line is taken only if it is a plain requirement (PEP 508) with at most `--hash` options, or
names a place that the installation allows; what goes on from here is written anew from the parsed parts.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name

from layer_builder.ground.errors import RequirementsError
from layer_builder.ground.filenames import wheel_of
from layer_builder.requirements import origins
from layer_builder.requirements.origins import LinkedWheel, Origins

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

MAX_BYTES = 1 << 20
MAX_LINES = 5_000
MAX_PLACES = 20
# Of one requirement, its continued lines together: room for some 800 hashes.
MAX_CHARACTERS = 64 << 10

# Searched for in what anybody wrote, so each takes time in proportion to the text, whatever it is.
_COMMENT = re.compile(r"(?<!\S)#.*$")
_OPTION_AT_END = re.compile(r"\s(--?[A-Za-z].*)$")
_HASH = re.compile(r"--hash(?:=|\s+)(?P<algorithm>[A-Za-z0-9]+):(?P<digest>[0-9A-Fa-f]+)(?:\s+|$)")
_LOCATION = re.compile(r"(git|hg|svn|bzr)\+|[a-z]+://|file:", re.IGNORECASE)
_PATH = re.compile(r"^([./~\\]|[A-Za-z]:\\|[^\s@]+\.(whl|zip|tar\.(gz|bz2|xz))$)")
_REQUIRE_HASHES = "--require-hashes"
_PLACE = re.compile(
    r"(?P<option>--index-url|-i|--extra-index-url|--find-links|-f)(?:\s*=\s*|\s+|(?<=^-[if]))(?P<url>\S+)"
)
_SHA256_FRAGMENT = re.compile(r"sha256=([0-9A-Fa-f]{64})")
_NO_ADDRESS = "a package is taken from the package index, not from an address"
_USERINFO = re.compile(r"(?<=//)[^/\s]*@")

_REFUSED_OPTIONS = (
    (("-e", "--editable"), "an editable install is a folder of your machine"),
    (("-r", "--requirement"), "another file is not read; write its lines here"),
    (("-c", "--constraint"), "another file is not read; write its versions here"),
    (
        ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host"),
        "where packages come from is a setting of the installation",
    ),
    (
        ("--no-binary", "--only-binary", "--prefer-binary", "--use-pep517", "--no-build-isolation"),
        "only wheels are taken, so that no package's code runs",
    ),
    (
        ("--config-settings", "--global-option", "--install-option"),
        "nothing is built, so there is nothing to set",
    ),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One requirement.

    Attributes:
        number: of the line that it begins in.
        text: its canonical text: name, extras, versions, marker.
        project: its normalized name.
        sha256: the digests that the file allows for it.
        wheel: the file that its address names, if it has one; the text then has the version.
        asked: what the file asks for, written anew: the text, or with the address in the place of versions.
    """

    number: int
    text: str
    project: str
    sha256: frozenset[str] = frozenset()
    wheel: LinkedWheel | None = None
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a requirements file asks for.

    Attributes:
        lines: the requirements, in the file's order.
        hashes_required: whether every package that goes in must have one of the file's hashes; as with
            pip, one `--hash` anywhere makes it so.
        sha256: the digests that the file allows, by project.
        origins: where packages come from, as far as the file says it.
        constraints: versions that packages must have if they are needed; nothing is asked for by them.
    """

    lines: tuple[Line, ...]
    hashes_required: bool = False
    sha256: dict[str, frozenset[str]] = field(default_factory=dict)
    origins: Origins = field(default_factory=Origins)
    constraints: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        """The requirements, one canonical text each, in the file's order."""
        return [line.text for line in self.lines]

    @property
    def asked(self) -> list[str]:
        """The whole file, written anew: options, and the requirements with their addresses."""
        return [*self.origins.options, *(line.asked or line.text for line in self.lines)]


def decode(content: bytes) -> str:
    """Decode the bytes of a requirements file: UTF-8, with or without a byte order mark.

    Raises:
        RequirementsError: the file is too large, or not text.
    """
    if len(content) > MAX_BYTES:
        raise RequirementsError(
            f"The requirements file is larger than {MAX_BYTES:,} bytes.",
            hint="Upload a requirements.txt, not an archive.",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequirementsError(
            "The requirements file is not UTF-8 text.",
            hint="Save it as UTF-8.",
            details={"offset": error.start, "byte": content[error.start]},
        ) from error
    if "\0" in text:
        raise RequirementsError(
            "The requirements file is binary: it contains zero bytes.", hint="Save it as UTF-8."
        )
    return text


def parse(text: str, allowed: Collection[str] = (), constraints: Sequence[str] = ()) -> Requirements:
    """Read the text of a requirements file.

    Args:
        text: the file's.
        allowed: beginnings of the addresses that it may name.
        constraints: what is given beside the file, see `Requirements`.

    Raises:
        RequirementsError: with the number of the line, the line and the reason.
    """
    lines: list[Line] = []
    places: list[tuple[str, str]] = []
    hashes_required = False
    for number, content in _logical_lines(text):
        if len(content) > MAX_CHARACTERS:
            raise _refusal(number, content, f"it has more than {MAX_CHARACTERS:,} characters")
        if content == _REQUIRE_HASHES:
            hashes_required = True
        elif allowed and (match := _PLACE.fullmatch(content)):
            if reason := origins.why_not(match["url"], allowed):
                raise _refusal(number, content, reason)
            places.append((match["option"], match["url"]))
        else:
            lines.append(_parse_line(number, content, allowed))
        if len(lines) > MAX_LINES or len(places) > MAX_PLACES:
            raise RequirementsError(
                f"The file has more than {MAX_LINES:,} requirements, or {MAX_PLACES} places to look.",
                hint="Split it into several layers.",
            )
    if not lines:
        raise RequirementsError(
            "The requirements file names no package.",
            hint="Write one package a line, such as requests==2.32.3.",
        )
    by_digest: dict[str, set[str]] = {}
    for line in lines:
        if digests := line.sha256 or frozenset([line.wheel.sha256] if line.wheel else ()):
            by_digest.setdefault(line.project, set()).update(digests)
    return Requirements(
        tuple(lines),
        hashes_required or any(line.sha256 for line in lines),
        {project: frozenset(digests) for project, digests in by_digest.items()},
        _origins(places, lines),
        tuple(_parse_constraint(constraint) for constraint in constraints),
    )


def _origins(places: Sequence[tuple[str, str]], lines: Sequence[Line]) -> Origins:
    def of(*names: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(url for option, url in places if option in names))

    index_urls = of("--index-url", "-i")
    return Origins(
        index_urls[-1] if index_urls else "",  # as with pip, the last one counts
        of("--extra-index-url"),
        of("--find-links", "-f"),
        tuple(line.wheel for line in lines if line.wheel),
    )


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Join continued lines and drop comments, as pip does; yield the first line's number with each."""
    start, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start if parts else number
        is_comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not is_comment:
            parts.append(raw[:-1])
            continue
        parts.append(" " + raw if is_comment else raw)
        content = _COMMENT.sub("", "".join(parts)).strip()
        parts.clear()
        if content:
            yield start, content
    content = _COMMENT.sub("", "".join(parts)).strip()
    if content:
        yield start, content


def _parse_line(number: int, content: str, allowed: Collection[str]) -> Line:
    if content.startswith("-"):
        raise _refusal(number, content, _why_not_option(content))
    text, options = content, ""
    if match := _OPTION_AT_END.search(content):
        text, options = content[: match.start()].rstrip(), match[1]
    if _LOCATION.match(text):
        raise _refusal(number, content, _NO_ADDRESS)
    if _PATH.match(text):
        raise _refusal(
            number, content, "a path names a file of your machine; name the package and its version"
        )
    try:
        requirement = _requirement(text)
    except InvalidRequirement as error:
        raise _refusal(number, content, _reason(error)) from error
    hashes = _parse_hashes(number, content, options)
    if requirement.url is not None:
        return _parse_address(number, content, requirement, requirement.url, hashes, allowed)
    canonical = str(requirement)
    if not canonical.isprintable() or not _round_trips(requirement, canonical):
        raise _refusal(number, content, "it cannot be written down again without changing its meaning")
    return Line(number, canonical, canonicalize_name(requirement.name), hashes)


def _parse_address(
    number: int,
    content: str,
    requirement: Requirement,
    url: str,
    hashes: frozenset[str],
    allowed: Collection[str],
) -> Line:
    """Take `name @ https://…/name-1.0-py3-none-any.whl`: from an allowed place, and with its digest."""
    if not allowed:
        raise _refusal(number, content, _NO_ADDRESS)
    place, _, fragment = url.partition("#")
    if reason := origins.why_not(place, allowed):
        raise _refusal(number, content, reason)
    filename = unquote(place.rpartition("/")[2])
    try:
        name, version, _, _ = wheel_of(filename)
    except InvalidWheelFilename as error:
        raise _refusal(number, content, "the address is not that of a wheel") from error
    project = canonicalize_name(requirement.name)
    if name != project:
        raise _refusal(number, content, f"the address is that of a wheel of {name}")
    in_fragment = _SHA256_FRAGMENT.fullmatch(fragment)
    digests = {*hashes, *([in_fragment[1].lower()] if in_fragment else [])}
    if len(digests) != 1 or (fragment and not in_fragment):
        raise _refusal(number, content, "what an address names needs its #sha256=…, and only that")
    wheel = LinkedWheel(project, filename, place, digests.pop())
    requirement.url = None
    requirement.specifier = SpecifierSet(f"=={version}")
    canonical = str(requirement)
    requirement.specifier, requirement.url = SpecifierSet(), f"{place}#sha256={wheel.sha256}"
    asked = str(requirement)
    if not canonical.isprintable() or not _round_trips(requirement, asked):
        raise _refusal(number, content, "it cannot be written down again without changing its meaning")
    return Line(number, canonical, project, hashes, wheel, asked)


def _parse_constraint(text: str) -> str:
    """Read a constraint: a requirement without extras, hashes and address, as pip has it."""
    shown = json.dumps(_shown(text), ensure_ascii=False)
    try:
        requirement = _requirement(text)
    except InvalidRequirement as error:
        reason = _reason(error)
    else:
        canonical = str(requirement)
        if requirement.url is not None or requirement.extras:
            reason = "a constraint has neither extras nor an address"
        elif canonical.isprintable() and _round_trips(requirement, canonical):
            return canonical
        else:
            reason = "it cannot be written down again without changing its meaning"
    raise RequirementsError(
        f"The constraint {shown} cannot be taken: {reason}.",
        hint="Write constraints such as urllib3<2 or numpy==2.2.6; python_version < '3.12'.",
        details={"constraint": _shown(text), "reason": reason},
    )


def _parse_hashes(number: int, content: str, options: str) -> frozenset[str]:
    digests, position = set(), 0
    while position < len(options):
        match = _HASH.match(options, position)
        if match is None:
            raise _refusal(number, content, _why_not_option(options[position:]))
        algorithm, digest = match["algorithm"].lower(), match["digest"].lower()
        if algorithm not in ("sha256", "sha384", "sha512"):
            raise _refusal(number, content, f"{algorithm} is no algorithm for --hash; take sha256")
        if algorithm == "sha256":
            if len(digest) != 64:
                raise _refusal(number, content, f"a sha256 digest has 64 digits, this one {len(digest)}")
            digests.add(digest)
        position = match.end()
    if options and not digests:
        raise _refusal(number, content, "a hash is compared by sha256, and the line has none")
    return frozenset(digests)


def _requirement(text: str) -> Requirement:
    """Read a requirement (PEP 508).

    Raises:
        InvalidRequirement: it is none, or one that no Python can read.
    """
    try:
        requirement = Requirement(text)
        hash(requirement)  # reads the versions, too
    except RecursionError as error:
        raise InvalidRequirement("Its marker has too many parentheses within parentheses") from error
    except InvalidRequirement:
        raise
    except ValueError as error:  # Python reads no number of more than 4,300 digits
        raise InvalidRequirement("It has a number with too many digits") from error
    return requirement


def _reason(error: InvalidRequirement) -> str:
    # packaging's message goes on with the line and a marker under it; the first line says what is wrong.
    return _shown(str(error).splitlines()[0].rstrip(".:"))


def _round_trips(requirement: Requirement, canonical: str) -> bool:
    try:
        return Requirement(canonical) == requirement
    except InvalidRequirement:
        return False


def _why_not_option(content: str) -> str:
    option = _shown(re.split(r"[\s=]", content, maxsplit=1)[0])
    for names, reason in _REFUSED_OPTIONS:
        # pip takes `-rother.txt` as well as `-r other.txt`.
        if option in names or (not option.startswith("--") and option[:2] in names):
            return f"{option} is not followed: {reason}"
    return f"{option} is no option that a layer's requirements can have"


def _refusal(number: int, content: str, reason: str) -> RequirementsError:
    shown = _shown(content)
    return RequirementsError(
        f"Line {number} of the requirements, {shown!r}: {reason}.",
        hint="Write lines such as requests[socks]>=2.32 or tomli==2.0.1; python_version < '3.11'.",
        details={"line": number, "text": shown, "reason": reason},
    )


def _shown(text: str) -> str:
    """Cut a text to what a message can hold, without the credentials that somebody may have put into it."""
    text = _USERINFO.sub("***@", text)
    return text if len(text) <= 200 else text[:200] + "…"
