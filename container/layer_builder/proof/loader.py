"""Which file of the layer answers a need: the search of glibc's dynamic loader, played through on paper.

The rules are those of ld.so(8), as glibc applies them:

1. a library that is loaded already answers by the name it was asked for or by its soname;
2. DT_RPATH of the file that needs it, then of the file that loaded that one, and so on up; not at all when
   the needing file has a DT_RUNPATH, and skipping files that have one;
3. LD_LIBRARY_PATH: Lambda's begins with the system's folders and ends with /opt/lib;
4. DT_RUNPATH of the needing file alone;
5. the system's folders.

Files of another machine are passed over in each folder, as the loader does it.
"""

from __future__ import annotations

import posixpath
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from layer_builder.wheels.elf import ElfFacts

# Where Lambda mounts layers, and the folder of it on LD_LIBRARY_PATH (AWS Lambda Developer Guide, "Packaging
# your layer content", "Layer paths for each Lambda runtime").
LAYER_ROOT = "/opt"
LIBRARY_FOLDER = "lib"

# Bounds on what hostile files may make us do. The largest real layer, of VTK, comes to a quarter of both.
_MAX_ANSWERS = 500_000  # needs, of all closures: what they hold in memory
_MAX_LOOKS = 1_000_000  # into folders
_MAX_PATH = 4_096  # of Linux: PATH_MAX, limits.h
_CHARACTERS = 256  # of a folder's path, for which a look counts once more

_LIB = "lib64"  # what $LIB stands for on Amazon Linux


@dataclass(frozen=True, slots=True)
class Closure:
    """What loading one file brings in.

    Attributes:
        loaded: paths in the layer, the file itself first, in the order of loading.
        answers: by needing file and needed name, the file of the layer that answers; None for the runtime's.
        unanswered: the needs that nothing answers: pairs of needing file and name.
    """

    loaded: tuple[str, ...]
    answers: Mapping[tuple[str, str], str | None]
    unanswered: frozenset[tuple[str, str]]


class TooMuchToLoadError(Exception):
    """The files need each other so much more than real ones that following it all would take too long."""


class Loader:
    """Loads files of one layer for one machine.

    Args:
        files: what the layer has, by path in it; other machines' files may be among them.
        machine: `aarch64` or `x86_64`.
        base: the sonames that the runtime has.
    """

    def __init__(self, files: Mapping[str, ElfFacts], machine: str, base: frozenset[str]) -> None:
        self._files = {path: facts for path, facts in files.items() if facts.machine == machine}
        self._machine = machine
        self._base = base
        self._answers_left = _MAX_ANSWERS
        self._looks_left = _MAX_LOOKS
        self._folder_of: dict[tuple[str, str], str] = {}

    def load(self, root: str) -> Closure:
        """Load a file and, breadth first, everything it needs.

        Raises:
            TooMuchToLoadError: with what was loaded before, there is too much of it.
        """
        loaded_by: dict[str, str | None] = {root: None}
        names: dict[str, str | None] = {self._files[root].soname or "": root}
        answers: dict[tuple[str, str], str | None] = {}
        unanswered = set()
        queue = deque([root])
        while queue:
            path = queue.popleft()
            self._answers_left -= len(self._files[path].needed)
            if self._answers_left < 0:
                raise TooMuchToLoadError
            for name in self._files[path].needed:
                if name not in names:
                    found = self._find(name, path, loaded_by)
                    if found is None and name not in self._base:
                        unanswered.add((path, name))
                        continue
                    names[name] = found
                    if found is not None and found not in loaded_by:
                        loaded_by[found] = path
                        names.setdefault(self._files[found].soname or "", found)
                        queue.append(found)
                answers[path, name] = names[name]
        return Closure(tuple(loaded_by), answers, frozenset(unanswered))

    def _find(self, name: str, path: str, loaded_by: Mapping[str, str | None]) -> str | None:
        """Find the file in the layer that is taken for a needed name; None: the runtime's, or none."""
        if "/" in name:
            return self._existing(self._expanded(name, path))
        for folder in self._folders(name, path, loaded_by):
            self._looks_left -= 1 + (len(folder) + len(name)) // _CHARACTERS
            if self._looks_left < 0:
                raise TooMuchToLoadError
            if (found := self._existing(f"{folder}/{name}")) is not None:
                return found
        return None

    def _folders(self, name: str, path: str, loaded_by: Mapping[str, str | None]) -> Iterator[str]:
        runpath = self._files[path].runpath
        if runpath is None:
            ancestor: str | None = path
            while ancestor is not None:
                self._looks_left -= 1
                if self._files[ancestor].runpath is None:
                    yield from (self._expanded(folder, ancestor) for folder in self._files[ancestor].rpath)
                ancestor = loaded_by[ancestor]
        # The system's folders come before the layer's on LD_LIBRARY_PATH, and that before DT_RUNPATH.
        if name not in self._base:
            yield f"{LAYER_ROOT}/{LIBRARY_FOLDER}"
            yield from (self._expanded(folder, path) for folder in runpath or ())

    def _expanded(self, text: str, path: str) -> str:
        """Replace the dynamic string tokens of a path in a file; one that is too long leads nowhere."""
        key = text, path
        if (known := self._folder_of.get(key)) is not None:
            return known
        origin = posixpath.dirname(f"{LAYER_ROOT}/{path}")
        for token, value in (("ORIGIN", origin), ("LIB", _LIB), ("PLATFORM", self._machine)):
            if len(text) <= _MAX_PATH:
                text = text.replace(f"${{{token}}}", value).replace(f"${token}", value)
        self._folder_of[key] = text = text if len(text) <= _MAX_PATH else ""
        return text

    def _existing(self, absolute: str) -> str | None:
        """Turn a path on Lambda into one in the layer, if it is there; relative ones lead nowhere."""
        normal = posixpath.normpath(absolute)
        inside = normal.removeprefix(f"{LAYER_ROOT}/")
        return inside if inside != normal and inside in self._files else None
