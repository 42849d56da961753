"""A console on which nobody's words are more than words."""

import re
from collections.abc import Iterable
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Control characters but newline and tab (C0, DEL, C1), direction marks and overrides, line separators, halves
# of surrogate pairs, tags.
OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


class Terminal(Console):
    """Shows what a terminal would obey or hide as an escape, such as ``\\x1b``: keys, messages, file names.

    rich leaves most of these as they are. Its own colours and movements are no text, and stay.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as any console does, text made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=OBEYED.sub(_escaped, segment.text))


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\{'u' if number < 0x10000 else 'U000'}{number:04x}"
