"""`layerdrop list`: every layer and every input, and how they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerdrop_client import screen as shown
from layerdrop_client.answers import document
from layerdrop_client.keys import short
from layerdrop_client.lookup import number_in
from layerdrop_client.manifests import BUILDING
from layerdrop_client.problems import DONE

if TYPE_CHECKING:
    from layerdrop_client.aws import Aws
    from layerdrop_client.manifests import Manifest
    from layerdrop_client.screen import Screen


@dataclass(frozen=True)
class Row:
    """A layer, or an input that has not come to one.

    Attributes:
        layer: The layer's name; None if it is not known.
        version: The version that its pointer names.
        arn: That version's.
        key: The input that the name belongs to; None if it is nobody's.
        is_there: Whether that input is in the bucket.
        manifest: Its newest answer.
    """

    layer: str | None
    version: int | None
    arn: str | None
    key: str | None
    is_there: bool
    manifest: Manifest | None

    @property
    def state(self) -> str:
        """UPLOADED, GONE, FREE, or the manifest's status."""
        if self.key is None:
            return "FREE"
        if not self.is_there:
            return "GONE"
        return self.manifest.status if self.manifest else "UPLOADED"


def list_layers(aws: Aws, screen: Screen) -> int:
    """Tell of every layer and every input; return the exit status."""
    rows = _rows(aws)
    screen.document(
        document("list", stack=aws.place.stack, bucket=aws.bucket, layers=[_told(row) for row in rows])
    )
    if not rows:
        screen.line(
            f"Nothing here yet. Begin with: {aws.place.command('drop', 'requirements.txt', 'arm64/web')}"
        )
        return DONE
    screen.table(
        ["Layer", "Version", "Packages", "Zip", "Last upload (UTC)", "File"],
        [_cells(row) for row in rows],
        right=["Version", "Packages", "Zip"],
        spare=["Packages", "Zip", "File"],
    )
    return DONE


def _rows(aws: Aws) -> list[Row]:
    inputs = aws.inputs()
    names = aws.layer_names()
    claims = dict(zip(names, aws.for_each(aws.claim, names), strict=True))
    owners = {name: claim.key if claim else None for name, claim in claims.items()}
    keys = list(dict.fromkeys([*inputs, *(key for key in owners.values() if key)]))
    manifests = dict(zip(keys, aws.for_each(aws.manifest, keys), strict=True))
    pointers = aws.pointers()
    there = set(inputs)
    rows = [
        Row(
            name,
            number_in(pointers.get(name)),
            pointers.get(name),
            key,
            key in there,
            manifests.get(key) if key else None,
        )
        for name, key in owners.items()
    ]
    without = there - {key for key in owners.values() if key}
    rows += [Row(None, None, None, key, True, manifests.get(key)) for key in without]
    return sorted(rows, key=lambda row: (row.layer or "~", row.key or ""))


def _cells(row: Row) -> tuple[shown.Cell, ...]:
    layer = row.manifest.layer(row.layer) if row.manifest and row.layer else None
    return (
        row.layer or shown.dim(short(row.key or "")),
        str(row.version) if row.version else "-",
        str(len(layer.packages)) if layer and layer.packages else "-",
        shown.size(layer.zip_bytes) if layer else "-",
        _state(row),
        short(row.key) if row.key else "-",
    )


def _state(row: Row) -> shown.Cell:
    if row.state == "FREE":
        return shown.dim("name is free")
    if row.state == "GONE":
        return shown.dim("file is gone")
    if row.manifest is None:
        return "no answer"
    if row.state == BUILDING:
        return "building"
    problem = row.manifest.problem
    return (
        shown.bad(problem.code)
        if problem
        else shown.good((row.manifest.finished or "")[:16].replace("T", " "))
    )


def _told(row: Row) -> dict[str, Any]:
    problem = row.manifest.problem if row.manifest else None
    layer = row.manifest.layer(row.layer) if row.manifest and row.layer else None
    return {
        "name": row.layer,
        "version": row.version,
        "arn": row.arn,
        "key": row.key,
        "status": row.state,
        "finished": row.manifest.finished if row.manifest else None,
        "error": problem.code if problem else None,
        "packages": len(layer.packages) if layer else None,
        "zip_bytes": layer.zip_bytes if layer else None,
    }
