"""The event on the bus that tells what is new in a layer; see schemas/vulnerable-event.schema.json."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from layerdrop.catalogue.documents import SEVERITIES
from layerdrop.notice import custom, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerdrop.watch.findings import Finding

SCHEMA: Final = "layerdrop/vulnerable-event/1"
DETAIL_TYPE: Final = "Layer Vulnerable"

# An event may have 256 KiB: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html. A
# finding has 3 KB at most, each of its characters escaped.
_MOST_BYTES: Final = 180_000
# A notification is cut off somewhere beyond that: nobody reads so many.
_MOST_SHOWN: Final = 10
_LONGEST_SHOWN: Final = 200
_MOST_NAMES: Final = 10


@dataclass(frozen=True)
class Told:
    """The layer that an event is about.

    Attributes:
        vulnerabilities: the key of the document with all of its findings.
    """

    stack: str
    bucket: str
    layer_name: str
    version: int
    layer_version_arn: str
    architecture: str
    runtime: str
    input_key: str
    rebuilds: bool
    vulnerabilities: str


def vulnerable_event(layer: Told, new: Sequence[Finding]) -> dict[str, Any]:
    """The event's detail.

    Args:
        layer: Which one.
        new: What nobody was told of yet, the worst first.
    """
    listed: list[dict[str, Any]] = []
    room = _MOST_BYTES
    for finding in new:
        document = _short(finding)
        room -= len(json.dumps(document))
        if room < 0:
            break
        listed.append(document)
    return {
        "schema": SCHEMA,
        "id": _id(layer, new),
        "stack": layer.stack,
        "input": {"bucket": layer.bucket, "key": layer.input_key},
        "architecture": layer.architecture,
        "runtime": layer.runtime,
        "layer_name": layer.layer_name,
        "layer_version_arn": layer.layer_version_arn,
        "version": layer.version,
        "findings": listed,
        "left_out": len(new) - len(listed),
        "vulnerabilities": {"bucket": layer.bucket, "key": layer.vulnerabilities},
        "rebuild": layer.rebuilds,
        "notice": _notice(layer, new),
    }


def _id(layer: Told, new: Sequence[Finding]) -> str:
    """The same for the same news, so that whoever gets it twice can tell."""
    news = [layer.stack, layer.layer_name, sorted([one.package, one.id] for one in new)]
    return sha256(json.dumps(news).encode()).hexdigest()


def _short(finding: Finding) -> dict[str, Any]:
    document = finding.to_json()
    del document["told"], document["ignored"]
    return document | {"aliases": document["aliases"][:_MOST_NAMES]}


def _notice(layer: Told, new: Sequence[Finding]) -> dict[str, Any]:
    counted = Counter(one.severity for one in new)
    severities = ", ".join(f"{counted[one]} {one.lower()}" for one in SEVERITIES if counted[one])
    lines = [_line(one) for one in new[:_MOST_SHOWN]]
    if len(new) > _MOST_SHOWN:
        lines.append(f"And {len(new) - _MOST_SHOWN} more.")
    mended = any(one.fixed_in for one in new)
    steps = [
        f"All of them: s3://{layer.bucket}/{plain(layer.vulnerabilities)}",
        "What is none for this layer: name it with a reason in the setting vulnerability-ignore.",
    ]
    if layer.rebuilds:
        steps.insert(0, "It is built again by itself as soon as that mends any of it.")
    elif mended:
        steps.insert(
            0,
            f"Upload s3://{layer.bucket}/{plain(layer.input_key)} with versions that mend it, or have that "
            'done with the setting rebuild = "fixed".',
        )
    noun = "vulnerability" if len(new) == 1 else "vulnerabilities"
    title = f"{layer.layer_name}, version {layer.version}, has {len(new)} new {noun}: {severities}"
    return custom(title, "\n".join(lines), steps)


def _line(finding: Finding) -> str:
    score = "" if finding.score is None else f" {finding.score:g}"
    fixed = f", fixed in {', '.join(finding.fixed_in[:3])}" if finding.fixed_in else ", no fix yet"
    said = plain(finding.summary[:_LONGEST_SHOWN])
    where = f"{finding.package} {finding.version}"
    return f"{plain(where)}: {finding.id} ({finding.severity.lower()}{score}{fixed}) {said}".rstrip()
