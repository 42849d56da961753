"""Requirements as people write them, read strictly.

The text comes from whoever may upload a file, and a requirements file can do much: `--no-binary` alone makes
an installer run a package's setup.py, `-r` and `file:` read the server's files, `--index-url` sends it
elsewhere. So a line is taken only if it is a plain requirement (PEP 508) with at most `--hash` options, and
what goes on from here is written anew from the parsed parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from layer_builder.errors import RequirementsError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 1 << 20
MAX_LINES = 5_000

_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTION_AT_END = re.compile(r"\s(--?[A-Za-z].*)$")
_HASH = re.compile(r"--hash(?:=|\s+)(?P<algorithm>[A-Za-z0-9]+):(?P<digest>[0-9A-Fa-f]+)(?:\s+|$)")
_LOCATION = re.compile(r"(git|hg|svn|bzr)\+|[a-z]+://|file:", re.IGNORECASE)
_PATH = re.compile(r"^([./~\\]|[A-Za-z]:\\|[^\s@]+\.(whl|zip|tar\.(gz|bz2|xz))$)")
_REQUIRE_HASHES = "--require-hashes"

_REFUSED_OPTIONS = (
    (("-e", "--editable"), "an editable install is a folder of your machine"),
    (("-r", "--requirement"), "another file is not read; write its lines here"),
    (("-c", "--constraint"), "another file is not read; write its versions here"),
    (
        ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host"),
        "where packages come from is a setting of the installation, not of a file",
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
    """One requirement: its canonical text, its project, the sha256 digests the file allows for it."""

    number: int
    text: str
    project: str
    sha256: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a requirements file asks for.

    Attributes:
        lines: the requirements, in the file's order.
        hashes_required: whether every package that goes in must have one of the file's hashes; as with
            pip, one `--hash` anywhere makes it so.
        sha256: the digests that the file allows, by project.
    """

    lines: tuple[Line, ...]
    hashes_required: bool = False
    sha256: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """The requirements, one canonical text each, in the file's order."""
        return [line.text for line in self.lines]


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


def parse(text: str) -> Requirements:
    """Read the text of a requirements file.

    Raises:
        RequirementsError: with the number of the line, the line and the reason.
    """
    lines: list[Line] = []
    hashes_required = False
    for number, content in _logical_lines(text):
        if content == _REQUIRE_HASHES:
            hashes_required = True
            continue
        lines.append(_parse_line(number, content))
        if len(lines) > MAX_LINES:
            raise RequirementsError(
                f"The file has more than {MAX_LINES:,} requirements.", hint="Split it into several layers."
            )
    if not lines:
        raise RequirementsError(
            "The requirements file names no package.",
            hint="Write one package a line, such as requests==2.32.3.",
        )
    allowed: dict[str, frozenset[str]] = {}
    for line in lines:
        if line.sha256:
            allowed[line.project] = allowed.get(line.project, frozenset()) | line.sha256
    return Requirements(tuple(lines), hashes_required or bool(allowed), allowed)


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


def _parse_line(number: int, content: str) -> Line:
    if content.startswith("-"):
        raise _refusal(number, content, _why_not_option(content))
    text, options = content, ""
    if match := _OPTION_AT_END.search(content):
        text, options = content[: match.start()].rstrip(), match[1]
    if _LOCATION.match(text):
        raise _refusal(number, content, "a package is taken from the package index, not from an address")
    if _PATH.match(text):
        raise _refusal(
            number, content, "a path names a file of your machine; name the package and its version"
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        # packaging's message goes on with the line and a marker under it; the first line says what is wrong.
        raise _refusal(number, content, str(error).splitlines()[0].rstrip(".:")) from error
    if requirement.url is not None:
        raise _refusal(number, content, "a package is taken from the package index, not from an address")
    canonical = str(requirement)
    if not canonical.isprintable() or not _round_trips(requirement, canonical):
        raise _refusal(number, content, "it cannot be written down again without changing its meaning")
    return Line(
        number, canonical, canonicalize_name(requirement.name), _parse_hashes(number, content, options)
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


def _round_trips(requirement: Requirement, canonical: str) -> bool:
    try:
        return Requirement(canonical) == requirement
    except InvalidRequirement:
        return False


def _why_not_option(content: str) -> str:
    option = re.split(r"[\s=]", content, maxsplit=1)[0]
    for names, reason in _REFUSED_OPTIONS:
        # pip takes `-rother.txt` as well as `-r other.txt`.
        if option in names or (not option.startswith("--") and option[:2] in names):
            return f"{option} is not followed: {reason}"
    return f"{option} is no option that a layer's requirements can have"


def _refusal(number: int, content: str, reason: str) -> RequirementsError:
    shown = content if len(content) <= 200 else content[:200] + "…"
    return RequirementsError(
        f"Line {number} of the requirements, {shown!r}: {reason}.",
        hint="Write lines such as requests[socks]>=2.32 or tomli==2.0.1; python_version < '3.11'.",
        details={"line": number, "text": shown, "reason": reason},
    )
