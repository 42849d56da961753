"""`layerdrop diff`: what one version has and another has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerdrop_client import screen as shown
from layerdrop_client.answers import document
from layerdrop_client.changes import ADDED, REMOVED, import_changes, package_changes, to_json
from layerdrop_client.lookup import content_of, resolve
from layerdrop_client.problems import DONE

if TYPE_CHECKING:
    from layerdrop_client.aws import Aws
    from layerdrop_client.changes import Content, PackageChange
    from layerdrop_client.screen import Screen


def diff(aws: Aws, screen: Screen, word: str, first: int, second: int) -> int:
    """Tell what is different between two versions of a layer: packages, sizes, import times.

    Raises:
        CommandError: LAYER_NOT_FOUND or VERSION_NOT_FOUND.
    """
    name = resolve(aws, word)
    before, after = content_of(aws, name, first), content_of(aws, name, second)
    screen.document(document("diff", name=name, **to_json(before, after)))
    screen.title(f"{name}: version {first} to {second}")
    screen.line()
    changes = package_changes(before, after)
    if changes:
        screen.table(
            ["Package", f"Version {first}", f"Version {second}", "Unzipped"],
            [_cells(change) for change in changes],
            right=["Unzipped"],
        )
    else:
        screen.line("The same packages in the same versions.")
    screen.line()
    screen.table(
        ["", f"Version {first}", f"Version {second}", "Change"],
        _sizes(before, after),
        right=[f"Version {first}", f"Version {second}", "Change"],
    )
    for content in (before, after):
        if content.source == "zip":
            screen.warning(
                f"No manifest of version {content.version} is kept any more: its packages are read from its "
                "zip, and its import times are not known."
            )
    return DONE


def _cells(change: PackageChange) -> tuple[shown.Cell, ...]:
    marks = {ADDED: shown.grown("+ "), REMOVED: shown.gone("- ")}
    name = marks.get(change.kind, shown.changed("~ ")) + change.name
    known = change.bytes_before is not None or change.bytes_after is not None
    grown = (change.bytes_after or 0) - (change.bytes_before or 0)
    return name, change.before or "-", change.after or "-", _signed(grown) if known else "-"


def _sizes(before: Content, after: Content) -> list[tuple[shown.Cell, ...]]:
    rows: list[tuple[shown.Cell, ...]] = [
        ("packages", str(len(before.packages)), str(len(after.packages)), ""),
        _size("zip", before.zip_bytes, after.zip_bytes),
        _size("unzipped", before.unzipped_bytes, after.unzipped_bytes),
    ]
    for name, was, now in import_changes(before, after):
        rows.append((f"import {name}", shown.milliseconds(was), shown.milliseconds(now), _slower(was, now)))
    if before.cold_start_ms is not None or after.cold_start_ms is not None:
        was, now = before.cold_start_ms, after.cold_start_ms
        rows.append(("cold start", shown.milliseconds(was), shown.milliseconds(now), _slower(was, now)))
    return rows


def _size(what: str, was: int | None, now: int | None) -> tuple[shown.Cell, ...]:
    change = _signed(now - was) if was is not None and now is not None else ""
    return what, shown.size(was), shown.size(now), change


def _signed(number: int) -> str:
    return "0" if number == 0 else f"{'+' if number > 0 else '-'}{shown.size(abs(number))}"


def _slower(was: float | None, now: float | None) -> str:
    if was is None or now is None:
        return ""
    return "0 ms" if round(now - was) == 0 else f"{now - was:+,.0f} ms"
