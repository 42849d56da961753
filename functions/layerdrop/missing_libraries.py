"""Which shared libraries a failing import lacks, told from its words.

Pure, and with the standard library only: the builder judges imports of its own, a function those of a trial.
Both have this module, word for word, as a test holds. Words of others' code are read here: what comes out are
names of a strict form, few of them, and no promise that such libraries exist.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 20
"""Names that are taken of one import's words."""
_TEXT = 20_000  # characters of one text that are read

# A file's name as glibc's loader is asked for it: a stem, `.so`, perhaps a version. Nothing that could be an
# option, a pattern or a path.
_SONAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,100}\.so(\.\w{1,20}){0,4}", re.ASCII)
_LIBRARY = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,120}"

_WORDS = (
    # glibc (elf/dl-load.c), under whatever wrapped its words; what has a slash is a file of the layer's own.
    re.compile(rf"(?<![^\s'\"`(\[:,])({_LIBRARY}): cannot open shared object file"),
    # cffi: "cannot load library 'libvips.so.42': …"; older versions have no quotes.
    re.compile(rf"cannot load library '?({_LIBRARY})'?:"),
    # cairocffi: 'no library called "cairo-2" was found'.
    re.compile(rf'no library called "({_LIBRARY})" was found'),
    # cffi, of ctypes.util: "did not manage to locate a library called 'cairo'".
    re.compile(rf"locate a library called '({_LIBRARY})'"),
    # pyzbar, pylibdmtx: "Unable to find zbar shared library"; Wand: "MagickWand shared library not found".
    re.compile(rf"[Uu]nable to find (?:the )?({_LIBRARY}) shared library"),
    re.compile(rf"({_LIBRARY}) (?:shared )?library not found"),
    # python-magic: "failed to find libmagic.  Check your installation".
    re.compile(rf"failed to find ({_LIBRARY})(?=[.,\s]|$)"),
    # pyenchant: "The 'enchant' C library was not found".
    re.compile(rf"'({_LIBRARY})' C library was not found"),
)
# The sonames behind names that tell no version, as ctypes.util.find_library takes them.
_KNOWN = {
    "cairo": "libcairo.so.2",
    "dmtx": "libdmtx.so.0",
    "enchant": "libenchant-2.so.2",
    "ffi": "libffi.so.8",
    "fontconfig": "libfontconfig.so.1",
    "gobject-2.0": "libgobject-2.0.so.0",
    "glib-2.0": "libglib-2.0.so.0",
    "gomp": "libgomp.so.1",
    "harfbuzz": "libharfbuzz.so.0",
    "harfbuzz-subset": "libharfbuzz-subset.so.0",
    "magic": "libmagic.so.1",
    "odbc": "libodbc.so.2",
    "pango-1.0": "libpango-1.0.so.0",
    "pangocairo-1.0": "libpangocairo-1.0.so.0",
    "pangoft2-1.0": "libpangoft2-1.0.so.0",
    "portaudio": "libportaudio.so.2",
    "pq": "libpq.so.5",
    "sndfile": "libsndfile.so.1",
    "vips": "libvips.so.42",
    "zbar": "libzbar.so.0",
}
# Windows' names, which packages for all systems try first: libgobject-2.0-0.
_OTHER_SYSTEMS = re.compile(r"(?:lib)?(?P<stem>[A-Za-z][\w.+-]*?)-(?P<version>\d{1,3})", re.ASCII)


def is_soname(name: str) -> bool:
    """Tell whether a text has the form of a shared library's name, such as `libvips.so.42`."""
    return bool(_SONAME.fullmatch(name))


def named(texts: Iterable[str]) -> tuple[str, ...]:
    """List the libraries that an import's words say it lacks, by soname, in the order they are named.

    Args:
        texts: the exception's text, and those of the exceptions behind it.
    """
    found: dict[str, None] = {}
    for text in texts:
        hits = [(match.start(1), match[1]) for words in _WORDS for match in words.finditer(text[:_TEXT])]
        for _, name in sorted(hits):
            if soname := _soname(name):
                found.setdefault(soname)
    return tuple(found)[:MOST]


def _soname(name: str) -> str:
    """Turn a name into the soname that it stands for on Linux; empty if that is not known."""
    name = name.rstrip(".")
    # PortAudio calls itself so, the file does not.
    plain = name.removeprefix("lib").removesuffix(".so")
    if known := _KNOWN.get(plain) or _KNOWN.get(plain.lower()):
        return known
    if is_soname(name):
        return name
    match = _OTHER_SYSTEMS.fullmatch(name)
    if match and (match["stem"] in _KNOWN or match["stem"].endswith(".0")):
        return f"lib{match['stem']}.so.{match['version']}"
    return ""
