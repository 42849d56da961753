"""The libraries that a layer's native files need: each is in the layer, or in the runtime, or missing."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layer_builder.ground.errors import BuildError
from layer_builder.ground.wording import SHOWN, listed
from layer_builder.proof import base_libraries

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from layer_builder.proof.native import NativeFiles


class MissingLibraryError(BuildError):
    """A native file needs a library that neither the layer nor the runtime has."""

    code: ClassVar[str] = "MISSING_SHARED_LIBRARY"


@dataclass(frozen=True, slots=True)
class MissingLibrary:
    """A library that nothing in the layer answers for, and that the runtime is not known to have.

    Attributes:
        library: its soname.
        needed_by: the files that need it, essential ones first: pairs of package and path in the layer.
        essential: whether an import may need it; else only plugins, tests and the like do.
        doubtful: the runtime may have it: see `base_libraries.doubtful`.
        accepted: the layer is to be made without it.
    """

    library: str
    needed_by: tuple[tuple[str, str], ...]
    essential: bool
    doubtful: bool
    accepted: bool

    @property
    def stops(self) -> bool:
        """Whether the layer must not be published so."""
        return self.essential and not self.doubtful and not self.accepted


def missing(layer: NativeFiles, accepted: Collection[str]) -> tuple[MissingLibrary, ...]:
    """List the libraries that are needed and nowhere, by soname."""
    doubtful = base_libraries.doubtful("{}.{}".format(*layer.target.runtime.version))
    providers = _providers(layer)
    return tuple(
        MissingLibrary(
            name,
            needed_by=tuple(
                (layer.files[path].package, path)
                for path in sorted(paths, key=lambda path: (path not in layer.essential, path))
            ),
            essential=not layer.essential.isdisjoint(paths),
            doubtful=name in doubtful,
            accepted=name in accepted,
        )
        for name, paths in sorted(_unanswered(layer).items())
        if name not in providers
    )


def check(libraries: Sequence[MissingLibrary], layer: NativeFiles) -> dict[str, Any]:
    """Write the part of the report: what the runtime must have, and what is missing."""
    from_runtime = {
        name
        for closure in layer.closures.values()
        for (_, name), answer in closure.answers.items()
        if answer is None
    }
    return {
        "status": "failed" if any(library.stops for library in libraries) else "passed",
        "from_runtime": sorted(from_runtime),
        "missing": [_told(library, layer) for library in libraries],
    }


def error(libraries: Sequence[MissingLibrary], layer: NativeFiles) -> MissingLibraryError | None:
    """Word what stops the build, the package that lacks most first."""
    lacking: dict[str, dict[str, str]] = defaultdict(dict)
    for library in libraries:
        for package, path in library.needed_by if library.stops else ():
            if path in layer.essential:
                lacking[package].setdefault(library.library, path)
    if not lacking:
        return None
    ordered = sorted(lacking.items(), key=lambda item: (-len(item[1]), item[0]))
    package, lacks = ordered[0]
    others = f" {listed(name for name, _ in ordered[1:])} lack libraries too." if len(ordered) > 1 else ""
    first, path = next(iter(lacks.items()))
    example = f"for {layer.shown(path)}" if len(lacks) == 1 else f"{first} for {layer.shown(path)}"
    remedies = [base_libraries.remedy(name, names) for name, names in ordered]
    return MissingLibraryError(
        f"{package} needs {listed(lacks)} ({example}), which {'is' if len(lacks) == 1 else 'are'} neither in"
        f" the layer nor in the runtime.{others}",
        hint=" ".join(dict.fromkeys(remedies)),
        details={"missing": [_told(library, layer) for library in libraries]},
    )


def warnings(libraries: Sequence[MissingLibrary], layer: NativeFiles) -> Iterator[str]:
    """Word what stops nothing, a sentence for all files of a package that lack the same."""
    lacking: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for library in libraries:
        for package, path in library.needed_by:
            # What files lack that must load is not told again of others.
            if not library.stops and (path in layer.essential or not library.essential):
                lacking[package, _harmless(library), path].append(library.library)
    grouped: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (package, reason, path), names in lacking.items():
        grouped[package, reason, tuple(names)].append(layer.shown(path))
    for (package, reason, lacked), paths in sorted(grouped.items()):
        yield f"{package} lacks {listed(lacked)} (for {listed(sorted(paths))}): {reason}."
    yield from _preloaded(layer)


def _harmless(library: MissingLibrary) -> str:
    if library.accepted:
        return "accepted as missing"
    if library.essential:
        return "Lambda's images have it, but its runtimes are not bound to"
    return "these files will not load, and imports can do without them"


def _preloaded(layer: NativeFiles) -> Iterator[str]:
    """Word the needs that the layer has a file for, in a place where the loader does not look."""
    providers = _providers(layer)
    for name, paths in sorted(_unanswered(layer).items()):
        by_package: dict[str, list[str]] = defaultdict(list)
        for path in sorted(paths) if name in providers else ():
            by_package[layer.files[path].package].append(layer.shown(path))
        for package, needing in sorted(by_package.items()):
            yield (
                f"{package}: {name}, needed by {listed(needing)}, is in the layer as"
                f" {layer.shown(providers[name])}, where the loader does not look: this works only if"
                f" something has loaded it before."
            )


def _unanswered(layer: NativeFiles) -> dict[str, set[str]]:
    """Collect the needs that nothing answers: the files that have them, by name."""
    found: dict[str, set[str]] = defaultdict(set)
    for closure in layer.closures.values():
        for path, name in closure.unanswered:
            found[name].add(path)
    return found


def _providers(layer: NativeFiles) -> dict[str, str]:
    """Map the names by which files of the layer could answer, once loaded, to the files."""
    found: dict[str, str] = {}
    for path, item in layer.fitting.items():
        found.setdefault(posixpath.basename(path), path)
        found.setdefault(item.facts.soname or "", path)
    return found


def _told(library: MissingLibrary, layer: NativeFiles) -> dict[str, Any]:
    return {
        "library": library.library,
        "essential": library.essential,
        "doubtful": library.doubtful,
        "accepted": library.accepted,
        "needed_by": [
            {"package": package, "file": layer.shown(path)} for package, path in library.needed_by[:SHOWN]
        ],
    }
