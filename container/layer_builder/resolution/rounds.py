"""What the rounds of a resolution ruled out, kept so that the same question takes one round.

What is kept changes how often uv is asked, not what it answers: it is as old as uv's own pages may be, it is
kept under everything that was asked, and where uv finds nothing with it, or something that does not load, the
resolution begins anew without it (`resolve`). Behind the relay uv keeps no pages, so nothing is kept here,
either.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layer_builder import __version__
from layer_builder.ground import files
from layer_builder.indexes import sources

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from layer_builder.ground.cooldown import Cooldown
    from layer_builder.ground.settings import Settings
    from layer_builder.ground.target import Target
    from layer_builder.requirements.parser import Requirements

MAX_AGE = 600  # seconds: as long as the public index allows its pages to be kept
_FORMAT = 1
# What is read becomes lines of a file that uv reads.
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_VERSION = re.compile(r"[a-z0-9]+(?:[.!+][a-z0-9]+)*")


@dataclass(slots=True)
class Ruled:
    """Versions that are ruled out, by project.

    Attributes:
        place: where that is kept; None for nowhere.
        out: what does not load.
        lasting: of that, what would not load either if it were old enough for a cooldown.
        until: when it may be otherwise, in seconds since 1970: pages are new, or a file is old enough.
        is_recalled: whether it is what earlier rounds ruled out.
    """

    place: Path | None = None
    out: dict[str, set[str]] = field(default_factory=dict)
    lasting: dict[str, set[str]] = field(default_factory=dict)
    until: float = field(default_factory=lambda: time.time() + MAX_AGE)
    is_recalled: bool = False

    @property
    def constraints(self) -> list[str]:
        """As uv is told of it."""
        return constraints(self.out)

    def add(self, project: str, out: Collection[str], lasting: Collection[str], until: float) -> None:
        """Rule out versions of a project."""
        self.out.setdefault(project, set()).update(out)
        self.lasting.setdefault(project, set()).update(lasting)
        self.until = min(self.until, until)

    def anew(self) -> Ruled:
        """Forget all that was ruled out: it is not so any more."""
        if self.place:
            with suppress(OSError):
                self.place.unlink(missing_ok=True)
        return Ruled(self.place)

    def keep(self) -> None:
        """Keep what was ruled out, where that can be, for the next that asks the same."""
        if self.is_recalled or not self.place or not self.out:
            return
        content = {"until": self.until, "out": _written(self.out), "lasting": _written(self.lasting)}
        with suppress(OSError):
            files.write_atomically(self.place, json.dumps(content).encode())


def recall(
    requirements: Requirements, target: Target, settings: Settings, counting: Cooldown | None
) -> Ruled:
    """Find what was ruled out when this was asked before; nothing if it was not, or may be otherwise now."""
    places = sources.of(settings, requirements.origins)
    if target.runtime.glibc == target.runtime.uv_glibc or not places.is_public:
        return Ruled()
    place = settings.cache / "rounds" / f"{_name(requirements, target, settings, counting)}.json"
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        kept = json.loads(place.read_bytes())
        now, until = time.time(), float(kept["until"])
        if now < until <= now + MAX_AGE:
            return Ruled(place, _read(kept["out"]), _read(kept["lasting"]), until, is_recalled=True)
    return Ruled(place)


def constraints(versions: Mapping[str, Collection[str]]) -> list[str]:
    """Write versions that are ruled out as uv is told of them."""
    return [f"{name}!={version}" for name in sorted(versions) for version in sorted(versions[name])]


def _name(requirements: Requirements, target: Target, settings: Settings, counting: Cooldown | None) -> str:
    """Name all that the rounds depend on, but for the pages."""
    runtime = target.runtime
    asked = {
        "builder": [_FORMAT, __version__],
        "requirements": requirements.texts,
        "constraints": requirements.constraints,
        "target": [runtime.name, runtime.patch, runtime.glibc, runtime.uv_glibc, target.architecture],
        # Not the cutoff, which is another at each build: `until` has what comes of it.
        "cooldown": [[str(rule.age), sorted(rule.exempt)] for rule in counting.rules] if counting else [],
        "fixed": [[name, str(until)] for name, until in counting.fixed] if counting else [],
        "ageless": settings.ageless,
    }
    import hashlib  # not for targets that take one round

    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _written(versions: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    return {name: sorted(some) for name, some in versions.items()}


def _read(kept: dict[str, list[str]]) -> dict[str, set[str]]:
    for name, versions in kept.items():
        if not _NAME.fullmatch(name) or not all(map(_VERSION.fullmatch, versions)):
            raise ValueError("that is no version")
    return {name: set(versions) for name, versions in kept.items()}
