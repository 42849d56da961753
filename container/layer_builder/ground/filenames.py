"""Names of wheels, as whoever owns an index may write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

if TYPE_CHECKING:
    from packaging.tags import Tag
    from packaging.utils import BuildTag, NormalizedName
    from packaging.version import Version

# A name stands for every combination of the tags in it; real ones have a dozen.
MAX_TAGS = 1_000
MAX_LISTED_TAGS = 200_000  # of all the names in one page or lock; the longest real pages have a tenth
MAX_CHARACTERS = 255  # as of a file on most systems


def wheel_of(filename: str) -> tuple[NormalizedName, Version, BuildTag, frozenset[Tag]]:
    """Read a wheel's name: project, version, build number and tags.

    Raises:
        InvalidWheelFilename: it is none, or stands for more tags than any wheel has.
    """
    if not is_bounded(filename):
        raise InvalidWheelFilename(f"{filename[:MAX_CHARACTERS]!r} is too long, or has too many tags")
    return parse_wheel_filename(filename)


def is_bounded(filename: str) -> bool:
    """Tell whether a file's name can be read without great cost."""
    return len(filename) <= MAX_CHARACTERS and tags_in(filename) <= MAX_TAGS


def tags_in(filename: str) -> int:
    """Count the tags that a wheel's name stands for, without listing them; 0 if it is no wheel's."""
    if not filename.endswith(".whl"):
        return 0
    tags = 1
    for part in filename.removesuffix(".whl").rsplit("-", 3)[-3:]:
        tags *= part.count(".") + 1
    return tags
