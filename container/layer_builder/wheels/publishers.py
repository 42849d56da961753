"""Who published a wheel, as its index attests it (PEP 740): the identities that its provenance names.

The index has verified them when the file was uploaded; here nothing is verified once more. They are looked
for while the rest of the build goes on, and a build never waits long for them, nor fails for want of them.
What was found of a file is kept beside it in the cache.

https://packaging.python.org/en/latest/specifications/index-hosted-attestations/#provenance-objects
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from layer_builder.ground import files
from layer_builder.ground.errors import BuildError, IndexUnreachableError
from layer_builder.indexes import sources
from layer_builder.requirements.origins import origin_of
from layer_builder.wheels.fetch import path_of
from layer_builder.wheels.pick import NOT_SAID, said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from layer_builder.ground.settings import Settings
    from layer_builder.indexes.sources import Sources
    from layer_builder.requirements.origins import Origins
    from layer_builder.wheels.pick import Pick

    Publisher = Mapping[str, str | None]

PATIENCE: Final = 2.0  # seconds, for which a build that is otherwise done waits

_ACCEPT: Final = "application/vnd.pypi.integrity.v1+json, application/json;q=0.9"
_MAX_BYTES: Final = 1 << 20
_MAX_PUBLISHERS, _MAX_FIELDS, _MAX_CHARACTERS = 10, 10, 300
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
# PEP 740, and the models of pypi-attestations
_GITHUB: Final = ("repository", "workflow", "environment")
_THREADS: Final = 8
_KEPT: Final = 86_400.0  # seconds, for what is not known: an index may learn to say it
_NAME: Final = "publishers.json"

log = logging.getLogger("layer_builder")


@dataclass(frozen=True, slots=True)
class Attested:
    """What an index says of who published a file.

    Attributes:
        attested: whether there is an attestation; None if that is not known.
        provenance: where it is.
        publishers: whom it names, each with its `kind` and what identifies it there.
    """

    attested: bool | None = None
    provenance: str | None = None
    publishers: tuple[Publisher, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether it will be the same whenever it is asked for."""
        return bool(self.publishers) if self.attested else self.attested is False


class Search:
    """Looks for the publishers of a build's files, from when it is made until its answer is wanted.

    Args:
        picks: the files.
        settings: where they come from. What AWS was asked for it, it is not asked again.
        origins: what the requirements say of that.
        own: a cache of the build's own, in the place of the shared one.
    """

    def __init__(
        self, picks: Sequence[Pick], settings: Settings, origins: Origins, own: Path | None = None
    ) -> None:
        self._settings, self._origins = settings, origins
        self._cached = replace(settings, cache=own) if own else settings
        self._found = {pick.name: known for pick in picks if (known := _kept(pick, self._cached))}
        self._left = deque(pick for pick in picks if pick.name not in self._found)
        self._silent: set[str] = set()  # origins that did not answer
        self._threads = [
            threading.Thread(target=self._work, name=f"publishers-{number}", daemon=True)
            for number in range(min(len(self._left), _THREADS))
        ]
        for thread in self._threads:
            thread.start()

    def found(self, patience: float = PATIENCE) -> dict[str, Attested]:
        """Give what was found, by project; wait for the rest for so many seconds at most."""
        until = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            log.info("the index takes too long to say who published %d packages", len(self._left) + 1)
        self.stop()
        return dict(self._found)

    def stop(self) -> None:
        """Begin nothing more."""
        self._left.clear()

    def _work(self) -> None:
        while True:
            try:
                pick = self._left.popleft()
            except IndexError:
                return
            answer = self._ask(pick, sources.of(self._settings, self._origins))
            with suppress(OSError):
                _keep(pick, self._cached, answer)
            self._found[pick.name] = answer

    def _ask(self, pick: Pick, places: Sources) -> Attested:
        where, origin = pick.provenance, ""
        try:
            where = _looked_up(pick, places) if where is None else where
            if where in ("", NOT_SAID):
                return Attested(False if where == "" else None)
            origin = origin_of(where)
            if origin in self._silent:
                return Attested(True, where)
            return Attested(True, where, _read(where, places))
        except (BuildError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, IndexUnreachableError):
                self._silent.add(origin)
            reason = error.message if isinstance(error, BuildError) else "That is no provenance object."
            log.info("who published %s is not known: %s", pick.filename, reason)
            return Attested(True, where) if where else Attested()


def _looked_up(pick: Pick, places: Sources) -> str:
    """Find in the index where the provenance of a file is."""
    found = [file for file in places.files_of(pick.name, pick.filename) if file.sha256 == pick.sha256]
    return said(found[0].provenance if found else None)


def _read(url: str, places: Sources) -> tuple[Publisher, ...]:
    from layer_builder.indexes import web

    with web.get(url, places.access, accept=_ACCEPT, encodings="gzip") as response:
        return publishers_in(response.read(_MAX_BYTES))


def publishers_in(content: bytes) -> tuple[Publisher, ...]:
    """Read a provenance object: the publishers that it names, each once, in its order.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it is none.
    """
    found: list[Publisher] = []
    for bundle in json.loads(content)["attestation_bundles"]:
        publisher = _publisher(bundle["publisher"])
        if publisher not in found:
            found.append(publisher)
        if len(found) == _MAX_PUBLISHERS:  # each is compared with all before it, and nobody has so many
            break
    return tuple(found)


def _publisher(given: dict[str, Any]) -> Publisher:
    """Take what identifies a publisher: texts of bounded length; its claims, if it has some, are a tree."""
    texts = {
        name: value
        for name, value in given.items()
        if _FIELD.fullmatch(name) and isinstance(value, str) and 0 < len(value) <= _MAX_CHARACTERS
    }
    kind = texts.pop("kind")
    if kind == "GitHub":
        return {"kind": kind, **{name: texts.get(name) for name in _GITHUB}}
    return {"kind": kind, **{name: texts[name] for name in sorted(texts)[: _MAX_FIELDS - 1]}}


def _place(pick: Pick, settings: Settings) -> Path:
    return path_of(pick, settings).with_name(_NAME)


def _keep(pick: Pick, settings: Settings, answer: Attested) -> None:
    files.write_atomically(_place(pick, settings), json.dumps(asdict(answer)).encode())


def _kept(pick: Pick, settings: Settings) -> Attested | None:
    """Read what was found before."""
    place = _place(pick, settings)
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = json.loads(place.read_bytes())
        publishers = tuple(map(_publisher, known["publishers"]))
        answer = Attested(known["attested"], known["provenance"], publishers)
        if answer.is_complete or 0 <= time.time() - place.stat().st_mtime < _KEPT:
            return answer
    return None
