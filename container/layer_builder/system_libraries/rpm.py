"""RPM packages: what they say of themselves, and the shared libraries in them.

rpm's own programs read the files, so whatever compression a distribution packs with is theirs to know.
Nothing is installed, and no script of a package runs.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import subprocess
import tarfile
import tempfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from layer_builder.ground.errors import BuildError
from layer_builder.ground.limits import MAX_UNZIPPED_BYTES
from layer_builder.wheels import elf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from layer_builder.wheels.elf import ElfFacts

_TAGS = ("NAME", "EPOCHNUM", "VERSION", "RELEASE", "ARCH", "LICENSE", "SOURCERPM")
_FOLDERS = ("usr/lib64", "lib64")  # where 64-bit libraries are on Fedora's relatives
_MAGIC = b"\x7fELF"
_CHUNK = 1 << 18


class PackageBrokenError(BuildError):
    """A system package cannot be read."""

    code: ClassVar[str] = "SYSTEM_PACKAGE_BROKEN"


@dataclass(frozen=True, slots=True)
class Rpm:
    """A package.

    Attributes:
        file: where it is.
        name: its name.
        version: with epoch, if it has one, and release: `1:1.3.4-2.amzn2023`.
        architecture: as RPM names it.
        license: as the package says it.
        source: the source package that it was built from.
    """

    file: Path
    name: str
    version: str
    architecture: str
    license: str
    source: str

    @classmethod
    def read(cls, file: Path) -> Rpm:
        """Read a package's header. Whether the package can be trusted is for whoever downloaded it to know.

        Raises:
            PackageBrokenError: it is none.
        """
        question = "".join(f"%{{{tag}}}\\n" for tag in _TAGS)
        done = subprocess.run(
            ["rpm", "-qp", "--nosignature", "--nodigest", "--queryformat", question, str(file)],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        answers = done.stdout.splitlines()
        if done.returncode or len(answers) != len(_TAGS):
            raise _broken(file, done.stderr)
        name, epoch, version, release, architecture, license_, source = answers
        full = f"{version}-{release}" if epoch in ("0", "(none)") else f"{epoch}:{version}-{release}"
        return cls(file, name, full, architecture, license_, source)


@dataclass(frozen=True, slots=True)
class SharedLibrary:
    """A library out of a package.

    Attributes:
        names: those by which a loader would find it: of the file, of links to it, its soname.
        place: the path that it has on a system.
        file: where it was unpacked to.
        sha256: of its bytes, in hexadecimal.
        crc: their CRC-32.
        facts: what the file says about itself.
    """

    names: frozenset[str]
    place: str
    file: Path
    sha256: str
    crc: int
    facts: ElfFacts

    @property
    def soname(self) -> str:
        """The name that it is asked for by."""
        return self.facts.soname or posixpath.basename(self.place)

    @property
    def is_public(self) -> bool:
        """Whether it is where every program looks, not in a folder of its package's own."""
        return posixpath.dirname(self.place) in _FOLDERS


def unpack(rpm: Rpm, machine: str, store: Path) -> tuple[SharedLibrary, ...]:
    """Unpack a package's libraries for a machine into a store, where each is named by its digest.

    Raises:
        PackageBrokenError: the package cannot be read.
        OSError: a file cannot be written.
    """
    store.mkdir(parents=True, exist_ok=True)
    found: dict[str, SharedLibrary] = {}
    links: dict[str, str] = {}
    with rpm.file.open("rb") as package, tempfile.TemporaryFile() as complaints:
        # Given a file's name it would leave its output beside the file.
        process = subprocess.Popen(
            ["rpm2archive", "-"],
            env=_environment(),
            stdin=package,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        try:
            with process, tarfile.open(fileobj=process.stdout, mode="r|*") as archive:
                for place, member in _members(archive):
                    if member.isfile():
                        if library := _library(archive, member, place, machine, store):
                            found[place] = library
                    elif member.issym() or member.islnk():
                        start = posixpath.dirname(place) if member.issym() else ""
                        links[place] = posixpath.normpath(posixpath.join("/", start, member.linkname))[1:]
                while process.stdout and process.stdout.read(_CHUNK):
                    pass  # what follows the archive's end, or the program would be cut short
        except (tarfile.TarError, EOFError, zlib.error) as error:
            complaints.seek(0)
            raise _broken(rpm.file, complaints.read().decode(errors="replace") or str(error)) from error
        if process.returncode:
            complaints.seek(0)
            raise _broken(rpm.file, complaints.read().decode(errors="replace"))
    return tuple(_named(found[place], links) for place in sorted(found))


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    for member in archive:
        place = posixpath.normpath(posixpath.join("/", member.name))[1:]
        if place.startswith(tuple(f"{folder}/" for folder in _FOLDERS)) and ".so" in place:
            yield place, member


def _library(
    archive: tarfile.TarFile, member: tarfile.TarInfo, place: str, machine: str, store: Path
) -> SharedLibrary | None:
    """Unpack a file, if it is a library for the machine."""
    content = archive.extractfile(member)
    if content is None or member.size > MAX_UNZIPPED_BYTES:
        return None
    chunk = content.read(_CHUNK)
    if not chunk.startswith(_MAGIC):
        return None
    digest, crc = hashlib.sha256(), 0
    with tempfile.TemporaryDirectory(dir=store) as scratch:
        copy = Path(scratch, "library")
        with copy.open("w+b") as stream:
            while chunk:
                digest.update(chunk)
                crc = zlib.crc32(chunk, crc)
                stream.write(chunk)
                chunk = content.read(_CHUNK)
            stream.flush()
            facts = elf.read(stream, place)
        if facts.kind != "library" or facts.machine != machine:
            return None
        file = store / f"{digest.hexdigest()}.so"
        copy.replace(file)
    names = {posixpath.basename(place), facts.soname or posixpath.basename(place)}
    return SharedLibrary(frozenset(names), place, file, digest.hexdigest(), crc, facts)


def _named(library: SharedLibrary, links: dict[str, str]) -> SharedLibrary:
    """Add the names of the links that lead to a library."""
    names = set(library.names)
    for link in links:
        end, steps = link, 0
        while end in links and steps < len(links):
            end, steps = links[end], steps + 1
        if end == library.place:
            names.add(posixpath.basename(link))
    return replace(library, names=frozenset(names))


def _environment() -> dict[str, str]:
    """Keep rpm's programs to the system's own libraries and to one language."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _broken(file: Path, reason: str) -> PackageBrokenError:
    lines = [line.strip() for line in reason.splitlines() if line.strip()] or ["no reason given"]
    return PackageBrokenError(
        f"The system package {file.name} cannot be read: {lines[-1].rstrip('.')}.",
        hint="Try again; if it stays so, the package repository is at fault.",
    )
