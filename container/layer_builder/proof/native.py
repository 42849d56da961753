"""The native files of one layer: what each of them is to the target, and what loading it brings in."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_builder.ground.errors import WheelTooComplexError
from layer_builder.layer.layout import BIN
from layer_builder.proof import base_libraries
from layer_builder.proof.loader import LIBRARY_FOLDER, Loader, TooMuchToLoadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layer_builder.ground.target import Target
    from layer_builder.proof.loader import Closure
    from layer_builder.wheels.elf import ElfFacts


@dataclass(frozen=True, slots=True)
class LayerElf:
    """An ELF file of the layer.

    Attributes:
        path: its place in the layer.
        package: where it came from: a project's normalized name (or, in `lib/`, a system package's name).
        wheel: the wheel's file name; empty for a file that came from none.
        facts: what it says about itself.
    """

    path: str
    package: str
    wheel: str
    facts: ElfFacts


class NativeFiles:
    """A layer's ELF files, sorted by what they are to the target.

    *Essential* files are what an import can reach: extension modules of the target's Python, libraries, and
    what these load; commands in `bin/` too. A layer works without the rest: plugins, tests, helper programs
    inside packages, modules for other Pythons.

    Raises:
        WheelTooComplexError: to follow what they need of each other takes more than in any real layer.

    Attributes:
        target: the runtime and architecture.
        files: all that there is anything to say of, by path in the layer; object files are only data.
        fitting: those that the target's loader takes.
        base: the sonames that the runtime has.
        closures: what loading a file brings in, of every file that is loaded on its own.
        essential: the fitting files that must load, by path.
    """

    def __init__(self, files: Iterable[LayerElf], target: Target) -> None:
        self.target = target
        self.files = {
            item.path: item
            for item in sorted(files, key=lambda item: item.path)
            if item.facts.kind != "other"
        }
        self.fitting = {
            path: item
            for path, item in self.files.items()
            if item.facts.machine == target.machine and item.facts.kind != "broken"
        }
        self.base = base_libraries.base(target.machine)
        tag = "cpython-{}{}-{}-linux-gnu".format(*target.runtime.version, target.machine)
        self._own_module = re.compile(rf"[A-Za-z_]\w*(\.{re.escape(tag)}|\.abi3)?\.so", re.ASCII)
        self.closures = self._load()
        self.essential = {
            path
            for root, closure in self.closures.items()
            if self.must_load(self.files[root])
            for path in closure.loaded
        }

    def shown(self, path: str) -> str:
        """Shorten a path for a sentence: within site-packages, as people know it."""
        return path.removeprefix(f"{self.target.site_packages}/")

    def is_module(self, item: LayerElf) -> bool:
        """Tell whether the target's Python can import a file."""
        return item.facts.is_module and bool(self._own_module.fullmatch(posixpath.basename(item.path)))

    def must_load(self, item: LayerElf) -> bool:
        """Tell whether loading this file must work, for itself and not because another loads it."""
        if item.facts.kind == "executable":
            return item.path.startswith(f"{BIN}/")
        if item.facts.is_module != self.is_module(item):
            return False  # a module for another Python
        return not base_libraries.is_optional(item.package, self.shown(item.path), item.facts.is_module)

    def must_fit(self, item: LayerElf) -> bool:
        """Tell whether a file for another machine makes the layer useless.

        Packages may carry one build per machine and choose when they run: a module of our Python is forgiven
        when the wheel has it for our machine too, anything else when the wheel is for every machine (`any`)
        or has some for ours.
        """
        optional = base_libraries.is_optional(item.package, self.shown(item.path), item.facts.is_module)
        if item.facts.kind == "executable" or optional:
            return False
        if item.path.startswith(f"{LIBRARY_FOLDER}/"):
            return True
        siblings = [other.path for other in self.fitting.values() if other.wheel == item.wheel]
        if self.is_module(item):
            return posixpath.basename(item.path) not in map(posixpath.basename, siblings)
        return not siblings and not item.wheel.endswith("-any.whl")

    def _load(self) -> dict[str, Closure]:
        """Load what is loaded on its own: modules, programs, and libraries that none of these brings in.

        Of the latter (loaded with dlopen) those that no other one names come first: a library is best judged
        when the one that needs it loads it, because it inherits search paths.
        """
        facts = {path: item.facts for path, item in self.fitting.items()}
        loader = Loader(facts, self.target.machine, self.base)

        def load(path: str) -> Closure:
            try:
                return loader.load(path)
            except TooMuchToLoadError:
                item = self.fitting[path]
                raise WheelTooComplexError.of(
                    item.wheel or item.package, f"{path} and others need too many libraries of each other"
                ) from None

        alone = (path for path, fact in facts.items() if fact.kind == "executable" or fact.is_module)
        closures = {root: load(root) for root in alone}
        reached = {path for closure in closures.values() for path in closure.loaded}
        rest = [path for path in facts if path not in reached]
        named = {name for path in rest for name in facts[path].needed}
        rest.sort(key=lambda path: not named.isdisjoint((posixpath.basename(path), facts[path].soname)))
        for path in rest:
            if path not in reached:
                closures[path] = load(path)
                reached.update(closures[path].loaded)
        return closures
