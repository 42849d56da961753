"""`layerdrop sync`: what a folder has and the bucket has not, by content, goes up; one table at the end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from layerdrop_client import answers
from layerdrop_client import folder as folders
from layerdrop_client import screen as shown
from layerdrop_client.commands.waiting import Patience, tell, wait
from layerdrop_client.following import ANSWERED, Seen, Upload
from layerdrop_client.keys import is_input, short
from layerdrop_client.problems import DONE, CommandError, worst
from layerdrop_client.syncing import Action, Decision, Stored, decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from layerdrop_client.aws import Aws
    from layerdrop_client.manifests import Manifest
    from layerdrop_client.screen import Screen

_SHOWN_AS_LEFT = 5
KINDS = ("built", "reused", "unchanged", "failed", "building")
"""What a file can have come to."""


@dataclass(frozen=True)
class Wanted:
    """What else a person wants of a sync.

    Attributes:
        deletes: Inputs that are gone from the folder are deleted from the bucket.
        only_looks: Nothing is uploaded or deleted.
    """

    deletes: bool = False
    only_looks: bool = False


@dataclass(frozen=True)
class Item:
    """A file of the folder, what the bucket has of it, and what is to be done."""

    key: str
    path: Path
    content: bytes
    stored: Stored | None
    manifest: Manifest | None
    decision: Decision


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        items: The files of the folder.
        gone: Keys of inputs to delete.
        left: What in the folder is no input, and why.
    """

    items: list[Item]
    gone: list[str]
    left: Mapping[str, str]


def sync(aws: Aws, screen: Screen, folder: Path, wanted: Wanted, patience: Patience) -> int:
    """Bring the bucket to what the folder has, wait for the answers, and tell them.

    Returns:
        The exit status: of what was built, and of what failed before and would again.

    Raises:
        CommandError: FOLDER_NOT_FOUND; FOLDER_EMPTY, all inputs would be deleted.
        StillBuildingError: Nobody waited for the end.
    """
    plan = _plan(aws, folder, wanted)
    _tell_left(screen, plan.left)
    if wanted.only_looks:
        screen.document(_document(plan, None))
        _tell_plan(screen, plan)
        return DONE
    uploads = _upload(aws, screen, plan.items)
    aws.for_each(aws.delete, plan.gone)
    _tell_deleted(screen, plan.gone)
    seen: Mapping[Upload, Seen] = {upload: Seen() for upload in uploads.values()}
    if uploads and patience.waits:
        seen = wait(aws, screen, list(seen), patience)
    results = {item.key: _result(item, uploads, seen) for item in plan.items}
    screen.document(_document(plan, results))
    for item in plan.items:
        result = results[item.key]
        if result.problems:
            tell(screen, item.key, result, str(item.path), item.content.decode(errors="replace"))
    _tell_results(screen, plan.items, results)
    return worst(result.exit_status for result in results.values())


def _plan(aws: Aws, folder: Path, wanted: Wanted) -> Plan:
    found = folders.look(folder)
    there = set(aws.inputs())
    gone = sorted(there - found.files.keys()) if wanted.deletes else []
    if gone and not found.files:
        raise CommandError(
            "FOLDER_EMPTY",
            f"{folder} has no inputs, and --delete would delete all {len(gone)} of the bucket.",
            "Give the folder that has arm64/ or x86_64/.",
        )
    items = aws.for_each(lambda key: _examined(aws, key, found.files[key], key in there), found.files)
    return Plan(items, gone, found.left)


def _examined(aws: Aws, key: str, path: Path, is_there: bool) -> Item:
    content = folders.read(path)
    stored = aws.stored(key) if is_there else None
    manifest = aws.manifest(key) if stored else None
    age = datetime.now(UTC) - stored.modified if stored else timedelta()
    return Item(key, path, content, stored, manifest, decide(content, stored, manifest, age))


def _upload(aws: Aws, screen: Screen, items: list[Item]) -> dict[str, Upload]:
    """What is to be waited for, by key: what goes up now, and what is being built already."""
    going_up = [item for item in items if item.decision.action is Action.UPLOAD]
    if going_up:
        screen.news(f"Uploading {len(going_up)} of {len(items)} files to s3://{aws.bucket}")
    versions = aws.for_each(lambda item: aws.upload(item.key, item.content), going_up)
    new = {item.key: Upload(item.key, version) for item, version in zip(going_up, versions, strict=True)}
    under_way = {
        item.key: Upload(item.key, item.stored.version_id)
        for item in items
        if item.stored and item.decision.action is Action.WATCH
    }
    return new | under_way


def _result(item: Item, uploads: Mapping[str, Upload], seen: Mapping[Upload, Seen]) -> Seen:
    if upload := uploads.get(item.key):
        return seen[upload]
    return Seen(ANSWERED, item.manifest)


def _kind(item: Item, result: Seen) -> str:
    if item.decision.action is Action.NOTHING and not result.problems:
        return "unchanged"
    return answers.kind(result)


def _tell_left(screen: Screen, left: Mapping[str, str]) -> None:
    for path in filter(is_input, left):  # somebody means it to be one
        screen.warning(f"{path} is left: {left[path]}")
    others = [path for path in left if not is_input(path)]
    more = f" and {len(others) - _SHOWN_AS_LEFT} more" if len(others) > _SHOWN_AS_LEFT else ""
    if others:
        screen.news(shown.dim(f"Left, for they are no inputs: {', '.join(others[:_SHOWN_AS_LEFT])}{more}"))


def _tell_deleted(screen: Screen, gone: list[str]) -> None:
    for key in gone:
        screen.news(f"Deleted {short(key)}")
    if gone:
        screen.hint("Layers, their pointers and manifests stay: functions may use them.")


def _tell_plan(screen: Screen, plan: Plan) -> None:
    rows = [(short(item.key), str(item.decision.action), item.decision.why) for item in plan.items]
    rows += [(short(key), "delete", "not in the folder") for key in plan.gone]
    screen.table(["File", "Action", "Why"], rows)
    screen.line("\nNothing was uploaded or deleted.")


def _tell_results(screen: Screen, items: list[Item], results: Mapping[str, Seen]) -> None:
    kinds = dict.fromkeys(KINDS, 0)
    rows = []
    for item in items:
        result = results[item.key]
        kind = _kind(item, result)
        kinds[kind] += 1
        if kind != "unchanged":
            before = ", as before" if item.decision.action is Action.NOTHING else ""
            rows.append((short(item.key), _marked(kind), _in_short(result) + before))
    if rows:
        screen.table(["File", "Result", "Layers"], rows)
        screen.line()
    screen.line(answers.counts(kinds))


def _marked(kind: str) -> shown.Cell:
    return shown.bad(kind) if kind == "failed" else shown.good(kind) if kind in ("built", "reused") else kind


def _in_short(result: Seen) -> str:
    if result.problems:
        return result.problems[0].code
    layers = result.manifest.layers if result.manifest else []
    return ", ".join(f"{layer.name}:{layer.version}" for layer in layers)


def _document(plan: Plan, results: Mapping[str, Seen] | None) -> dict[str, Any]:
    """Everything of a sync; without results it only looked."""
    files = [_file(item, results[item.key] if results else None) for item in plan.items]
    kinds = [file["result"] for file in files]
    return answers.document(
        "sync",
        dry_run=results is None,
        files=files,
        deleted=plan.gone,
        left=[{"path": path, "why": why} for path, why in plan.left.items()],
        counts={kind: kinds.count(kind) for kind in KINDS} if results is not None else None,
    )


def _file(item: Item, result: Seen | None) -> dict[str, Any]:
    told = {
        "path": str(item.path),
        "key": item.key,
        "action": str(item.decision.action),
        "why": item.decision.why,
    }
    if result is None:
        return told | {"result": None, "layers": [], "changes": [], "problems": []}
    return told | {
        "result": _kind(item, result),
        "layers": [answers.layer(one) for one in result.manifest.layers] if result.manifest else [],
        "changes": list(_changes(item.manifest, result.manifest)),
        "problems": [problem.to_json() for problem in result.problems],
    }


def _changes(before: Manifest | None, after: Manifest | None) -> Iterator[dict[str, Any]]:
    """What is different since the answer that a file had before, for layers that both have."""
    for layer in after.layers if after else ():
        earlier = before.layer(layer.name) if before else None
        if earlier and earlier.arn and layer.arn and earlier.arn != layer.arn:
            yield answers.change(earlier, layer)
