"""Where a wheel's files go in a layer, and the few that are not the wheel's own bytes.

Modules go under `python/`, commands under `bin/`: Lambda has both on its paths.
The rules are those of an installer (PyPA's "Binary distribution format"), and the outcome that of `pip
install --target`, but for: no INSTALLER, REQUESTED or direct_url.json; commands are in any case executable,
and start with the runtime's interpreter; RECORD says where things are in the layer.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_builder.ground.errors import UnsafeWheelError, WheelTooComplexError

if TYPE_CHECKING:
    from collections.abc import Callable

    from layer_builder.ground.target import Target
    from layer_builder.wheels.wheel import Member, Script, Wheel

BIN = "bin"
TEST_FOLDERS = frozenset({"test", "tests"})
_SHEBANG = b"#!python"  # what a wheel's script starts with in place of an interpreter
_MAX_SCRIPT = 4 << 20  # bytes of a script whose first line changes: it is held in memory


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the layer: bytes of a wheel's member, or bytes made here."""

    path: str
    executable: bool
    wheel: Wheel
    member: Member | None = None
    made: bytes = b""

    @property
    def size(self) -> int:
        """Its length, unzipped."""
        return self.member.size if self.member else len(self.made)

    @property
    def crc(self) -> int:
        """Its CRC-32."""
        return self.member.crc if self.member else zlib.crc32(self.made)

    def feed(self, take: Callable[[bytes], object]) -> None:
        """Hand over its content, piece by piece; of odd methods of zip, the compressed one."""
        if self.member is None:
            take(self.made)
        else:
            self.wheel.feed(self.member, take)


def entries(wheel: Wheel, target: Target) -> list[Entry]:
    """Place a wheel's files, sorted by their path in the layer.

    Raises:
        UnsafeWheelError: the wheel uses a folder that no rule gives a place.
        WheelTooComplexError: a script of it is longer than any that is written by hand.
    """
    record_path = f"{wheel.dist_info}/RECORD"
    placed: dict[str, Entry] = {}
    moved: dict[str, Entry] = {}
    for member in wheel.members:
        if member.path.partition("/")[0].endswith(".data"):
            entry = moved[member.path] = _from_data(wheel, member, target)
        else:
            entry = Entry(f"{target.site_packages}/{member.path}", member.executable, wheel, member)
        placed[entry.path] = entry
    commands = [_command(wheel, script, target) for script in wheel.scripts]
    placed.update((entry.path, entry) for entry in commands)
    if moved or commands:
        path = f"{target.site_packages}/{record_path}"
        placed[path] = Entry(path, False, wheel, made=_record(wheel, record_path, moved, commands, target))
    return [placed[path] for path in sorted(placed)]


def _from_data(wheel: Wheel, member: Member, target: Target) -> Entry:
    """Place a file of the `.data` folder, by its scheme."""
    _, scheme, rest = (*member.path.split("/", 2), "")[:3]
    site = target.site_packages
    if rest and scheme == "scripts":
        if wheel.read(member.path, len(_SHEBANG)) == _SHEBANG:
            if member.size > _MAX_SCRIPT:
                raise WheelTooComplexError.of(
                    wheel.pick.filename, f"its script {rest} has {member.size:,} bytes"
                )
            body = wheel.read(member.path).partition(b"\n")[2]
            return Entry(f"{BIN}/{rest}", True, wheel, made=f"#!{target.interpreter}\n".encode() + body)
        return Entry(f"{BIN}/{rest}", True, wheel, member)
    if rest and scheme in ("purelib", "platlib"):
        return Entry(f"{site}/{rest}", member.executable, wheel, member)
    if rest and scheme == "data":
        path = rest if rest.startswith(f"{BIN}/") else f"{site}/{rest}"
        return Entry(path, member.executable, wheel, member)
    if rest and scheme == "headers":
        distribution = wheel.dist_info.removesuffix(".dist-info").rpartition("-")[0]
        return Entry(f"{site}/include/python/{distribution}/{rest}", member.executable, wheel, member)
    raise UnsafeWheelError(
        f"The wheel {wheel.pick.filename} is refused: no rule says where {member.path!r} goes.",
        hint=f"Take another version of {wheel.pick.name}, and tell its authors.",
        details={"package": wheel.pick.name, "wheel": wheel.pick.filename},
    )


def _command(wheel: Wheel, script: Script, target: Target) -> Entry:
    """Write the command of an entry point."""
    top = script.attribute.partition(".")[0]
    text = (
        f"#!{target.interpreter}\n"
        "import sys\n"
        f"from {script.module} import {top}\n"
        "if __name__ == '__main__':\n"
        f"    sys.exit({script.attribute}())\n"
    )
    return Entry(f"{BIN}/{script.name}", True, wheel, made=text.encode())


def _record(
    wheel: Wheel, record_path: str, moved: dict[str, Entry], commands: list[Entry], target: Target
) -> bytes:
    """Write RECORD anew, with the paths as they are in the layer, relative to site-packages."""
    rows: dict[str, tuple[str, ...]] = {}
    for path, *digest_and_size in wheel.record(record_path):
        entry = moved.get(path)
        place = _relative(entry.path, target) if entry else path
        rows[place] = _row(entry) if entry and entry.member is None else tuple(digest_and_size)
    rows.update((_relative(entry.path, target), _row(entry)) for entry in commands)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows((place, *rows[place]) for place in sorted(rows))
    return out.getvalue().encode()


def _row(entry: Entry) -> tuple[str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(entry.made).digest()).decode().rstrip("=")
    return f"sha256={digest}", str(len(entry.made))


def _relative(path: str, target: Target) -> str:
    site = target.site_packages
    if path.startswith(f"{site}/"):
        return path.removeprefix(f"{site}/")
    return "../" * (site.count("/") + 1) + path
