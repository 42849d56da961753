"""The index: all layers' entries, with what the watch knows of them. See schemas/catalogue.schema.json.

Everything in it can be made again: the entries from pointers and release documents, the rest from the watch's
two documents. So nothing is lost with it, and whatever is not as it should be is passed over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, TypeVar

from layerdrop import wording
from layerdrop.catalogue.documents import OUTDATED_SCHEMA, SEVERITIES, VULNERABILITIES_SCHEMA
from layerdrop.catalogue.layers import made_from
from layerdrop.catalogue.releases import is_layer_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layerdrop.catalogue.layers import Entry

SCHEMA: Final = "layerdrop/catalogue/1"
_HIGHEST_SCORE: Final = 10  # https://www.first.org/cvss/v3.1/specification-document

Part = TypeVar("Part")


@dataclass(frozen=True)
class Place:
    """Whose layers they are: the stack's name, its region and account."""

    stack: str
    region: str
    account: str


@dataclass(frozen=True)
class Watch:
    """What the watch's documents say, by layer name; what is none of theirs is left out.

    Attributes:
        database: the address that was asked; None if there is no watch.
        asked: when it was asked last, of any layer.
        vulnerabilities: of each layer the version, when it was asked about it, and the findings.
        outdated: of each layer the version, when it was looked at, and what a rebuild would change.
    """

    database: str | None
    asked: str | None
    vulnerabilities: Mapping[str, Mapping[str, Any]]
    outdated: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, vulnerabilities: bytes | None, outdated: bytes | None) -> Watch:
        """Read the documents; None is one that is not there."""
        found = _document(vulnerabilities, VULNERABILITIES_SCHEMA)
        known = _layers(found, _vulnerable)
        return cls(
            database=str(found["database"]) if isinstance(found.get("database"), str) else None,
            asked=max((one["asked"] for one in known.values()), default=None),
            vulnerabilities=known,
            outdated=_layers(_document(outdated, OUTDATED_SCHEMA), _outlook),
        )


def fold(place: Place, written: str, entries: Mapping[str, Entry], watch: Watch) -> dict[str, Any]:
    """The index at a time (ISO 8601 in UTC), of entries by layer name."""
    return {
        "schema": SCHEMA,
        "written": written,
        "stack": place.stack,
        "region": place.region,
        "account": place.account,
        "watch": {"asked": watch.asked, "database": watch.database},
        "layers": [_watched(entries[name], watch) for name in sorted(entries)],
    }


def to_bytes(index: Mapping[str, Any]) -> bytes:
    """The index as it lies in the bucket, with each layer on a line of its own.

    Of thousands of layers it has a hundred megabytes and more, so there is no second copy of it in between.
    """
    content = BytesIO()
    rest = {name: part for name, part in index.items() if name != "layers"}
    content.write(_json(rest).removesuffix(b"}") + b',"layers":[')
    for number, layer in enumerate(index["layers"]):
        content.write((b",\n" if number else b"\n") + _json(layer))
    content.write(b"\n]}\n")
    return content.getvalue()


def _json(value: object) -> bytes:
    return wording.escaped(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode()


def read(content: bytes | None) -> dict[str, Any] | None:
    """Read an index; None is none, and so is what is none."""
    document = _document(content, SCHEMA)
    return document if isinstance(document.get("layers"), list) else None


def sound(index: Mapping[str, Any]) -> dict[str, Entry]:
    """The entries of an index that are as they were made, by layer name."""
    return {layer["name"]: layer for layer in index["layers"] if made_from(layer) is not None}


def same(index: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two indexes say the same, whenever they were written."""
    return {**index, "written": None} == {**other, "written": None}


def _watched(entry: Entry, watch: Watch) -> Entry:
    known = _of_version(entry, watch.vulnerabilities)
    outlook = _of_version(entry, watch.outdated)
    return {
        **entry,
        "findings": known["findings"] if known else [],
        "asked": known["asked"] if known else None,
        "outdated": {name: value for name, value in outlook.items() if name != "version"}
        if outlook
        else None,
    }


def _of_version(entry: Entry, known: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    found = known.get(entry["name"])
    return found if found and found["version"] == entry["version"] else None


def _document(content: bytes | None, schema: str) -> dict[str, Any]:
    try:
        document = json.loads(content or b"null")
    except (ValueError, RecursionError):
        return {}
    fits = isinstance(document, dict) and document.get("schema") == schema
    return document if fits else {}


def _layers(document: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Part]) -> dict[str, Part]:
    """Of each layer what can be read: one that was spoilt says nothing of the others."""
    found: dict[str, Part] = {}
    layers = document.get("layers")
    for name, layer in layers.items() if isinstance(layers, dict) else ():
        try:
            if is_layer_name(name):
                found[name] = read(layer)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return found


def _vulnerable(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "version": int(layer["version"]),
        "asked": str(layer["asked"]),
        "findings": [_finding(finding) for finding in layer["findings"]],
    }


def _finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    if finding["severity"] not in SEVERITIES:
        raise ValueError(f"{finding['severity']!r} is no severity")
    return {
        **{name: str(finding[name]) for name in ("id", "package", "version", "severity", "summary")},
        **{name: [str(one) for one in finding[name]] for name in ("aliases", "fixed_in")},
        **{name: str(finding[name]) for name in ("first_seen", "url")},
        **{name: _maybe(finding[name], str) for name in ("told", "ignored")},
        "score": _maybe(finding["score"], _score),
    }


def _score(value: Any) -> float:
    if not 0 <= (score := float(value)) <= _HIGHEST_SCORE:
        raise ValueError(f"{score} is no score")
    return score


def _outlook(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    error = layer["error"]
    return {
        "version": int(layer["version"]),
        "looked": str(layer["looked"]),
        "changes": [
            {
                "package": str(one["package"]),
                "from": _maybe(one["from"], str),
                "to": _maybe(one["to"], str),
            }
            for one in layer["changes"]
        ],
        "error": {name: str(error[name]) for name in ("code", "message")} if error else None,
    }


def _maybe(value: Any, read: Callable[[Any], Part]) -> Part | None:
    return None if value is None else read(value)
