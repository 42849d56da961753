"""What came of a sync, or would come of a pull request, read out of the commands' documents."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from layerdrop_client.problems import Problem
from layerdrop_client.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    TextOf = Callable[[str], str | None]

Change = tuple[str, str | None, str | None]
"""A package with its version before and after; None where it is not there."""

NEW, KNOWN, REMOVED = "built", "reused", "removed"


@dataclass(frozen=True)
class Row:
    """A layer, or a file without one.

    Attributes:
        path: The file's, in the repository.
        name: The layer's, or its target.
        result: In one word.
        arn: Of the layer's version.
        version: Its number.
        packages: How many it has.
        zip_bytes, unzipped_bytes: Its size; before: that of what it is compared with.
        changes: The packages that differ from that; None if there is nothing to compare with.
    """

    path: str
    name: str
    result: str
    arn: str | None = None
    version: int | None = None
    packages: int | None = None
    zip_bytes: int | None = None
    unzipped_bytes: int | None = None
    zip_bytes_before: int | None = None
    unzipped_bytes_before: int | None = None
    changes: Sequence[Change] | None = None


@dataclass(frozen=True)
class Finding:
    """An error, and where in the repository it is."""

    path: str
    problem: Problem
    line: int | None = None
    column: int = 1


@dataclass(frozen=True)
class Outcome:
    """All that there is to tell.

    Attributes:
        title: The heading.
        rows: Layers.
        findings: Errors with their files.
        problem: Why it all could not go on.
        warnings: What is to be known.
        gone: Inputs that were deleted.
        unchanged: How many files are as they were.
    """

    title: str
    rows: Sequence[Row] = ()
    findings: Sequence[Finding] = ()
    problem: Problem | None = None
    warnings: Sequence[str] = ()
    gone: Sequence[str] = ()
    unchanged: int = 0
    files: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    @property
    def outputs(self) -> dict[str, str]:
        """The action's outputs; docs/ci.md describes them."""
        layers = [
            {"name": layer["name"], "version": layer["version"], "arn": layer["arn"], "path": file["path"]}
            for file in self.files
            for layer in file["layers"]
            if layer["arn"]
        ]
        published = [row for row in self.rows if row.result == NEW and row.arn]
        failed = {finding.path for finding in self.findings}
        return {
            "layers": json.dumps(layers),
            "arns": json.dumps({layer["name"]: layer["arn"] for layer in layers}),
            "published": str(len(published)),
            "failed": str(len(failed) or int(self.problem is not None)),
        }


def of_sync(document: Mapping[str, Any], text_of: TextOf) -> Outcome:
    """Read the document of a sync, or of why it could not go on.

    Args:
        document: `layerdrop/client/sync/1` or `layerdrop/client/error/1`.
        text_of: Returns a file's text by its path, None if it cannot be read.
    """
    if "error" in document:
        return Outcome("Layers", problem=_problem(document["error"]))
    files = document["files"]
    findings = [
        finding(file["path"], _problem(one), text_of(file["path"]))
        for file in files
        for one in file["problems"]
    ]
    title = "Layers: what a sync would do" if document["dry_run"] else "Layers"
    return Outcome(
        title,
        rows=[row for file in files for row in _rows(file, document["dry_run"])],
        findings=_once(findings),
        warnings=_each(
            warning for file in files for layer in file["layers"] for warning in layer["warnings"]
        ),
        gone=document["deleted"],
        unchanged=sum((file["action"] if document["dry_run"] else file["result"]) in _SAME for file in files),
        files=files,
    )


_SAME = ("unchanged", "nothing")


def _rows(file: Mapping[str, Any], is_dry: bool) -> list[Row]:
    if is_dry:
        return [] if file["action"] in _SAME else [Row(file["path"], file["why"], file["action"])]
    if file["result"] == "unchanged":
        return []
    compared = {change["layer"]: change for change in file["changes"]}
    rows = [_row(file, layer, compared.get(layer["name"])) for layer in file["layers"]]
    return rows or [Row(file["path"], "", file["result"])]


def _row(file: Mapping[str, Any], layer: Mapping[str, Any], change: Mapping[str, Any] | None) -> Row:
    result = "failed" if layer["arn"] is None and file["problems"] else KNOWN if layer["reused"] else NEW
    before = change["from"] if change else {}
    return Row(
        path=file["path"],
        name=layer["name"],
        result=file["result"] if file["result"] == "building" else result,
        arn=layer["arn"],
        version=layer["version"],
        packages=layer["packages"],
        zip_bytes=layer["zip_bytes"],
        unzipped_bytes=layer["unzipped_bytes"],
        zip_bytes_before=before.get("zip_bytes"),
        unzipped_bytes_before=before.get("unzipped_bytes"),
        changes=[(one["name"], one["from"], one["to"]) for one in change["packages"]] if change else None,
    )


@dataclass(frozen=True)
class Checked:
    """A file of a pull request.

    Attributes:
        path: In the repository.
        now: The document of its check; None if the pull request deletes it.
        before: That of the base branch's file; None if there is none.
        text: The file.
    """

    path: str
    now: Mapping[str, Any] | None
    before: Mapping[str, Any] | None
    text: str | None


def of_pull_request(checked: Sequence[Checked]) -> Outcome:
    """Read the documents of checks."""
    rows: list[Row] = []
    findings: list[Finding] = []
    warnings: list[str] = []
    for one in checked:
        if one.now is None:
            rows.append(Row(one.path, "layers and their pointers stay", REMOVED))
            continue
        if "error" in one.now:
            findings.append(finding(one.path, _problem(one.now["error"]), one.text))
            rows.append(Row(one.path, "", "would fail"))
            continue
        earlier = {_target(report): report for report in (one.before or {}).get("reports", ())}
        for report in one.now["reports"]:
            if report.get("error"):
                findings.append(finding(one.path, _problem(report["error"]), one.text))
            rows.append(_would_be(one.path, report, earlier.get(_target(report))))
            warnings += report.get("warnings", ())
    return Outcome("Layers: what this pull request would make", rows, _once(findings), None, _each(warnings))


def _would_be(path: str, report: Mapping[str, Any], before: Mapping[str, Any] | None) -> Row:
    layer = report.get("layer")
    if not layer:
        return Row(path, _target(report), "would fail")
    was = (before or {}).get("layer")
    changes = _compared(before, report) if before and was else None
    same = was is not None and was.get("digest") == layer.get("digest")
    return Row(
        path=path,
        name=_target(report),
        result="would be the same" if same else "would be built",
        packages=len(report["packages"]),
        zip_bytes=layer["zip"]["bytes"],
        unzipped_bytes=layer["zip"]["unzipped_bytes"],
        zip_bytes_before=was["zip"]["bytes"] if was else None,
        unzipped_bytes_before=was["zip"]["unzipped_bytes"] if was else None,
        changes=changes,
    )


def _compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    was, now = ({one["name"]: one["version"] for one in report["packages"]} for report in (before, after))
    names = sorted(was.keys() | now.keys())
    return [(name, was.get(name), now.get(name)) for name in names if was.get(name) != now.get(name)]


def _target(report: Mapping[str, Any]) -> str:
    return f"{report['target']['runtime']} {report['target']['architecture']}"


def finding(path: str, problem: Problem, text: str | None) -> Finding:
    """An error with the line that it is about, where that can be told."""
    found = quote(problem, text) if text is not None else None
    return Finding(path, problem, found.number, found.start + 1) if found else Finding(path, problem)


def _problem(told: Mapping[str, Any]) -> Problem:
    return Problem(told["code"], told["message"], told.get("hint") or "", told.get("details") or {})


def _once(findings: Sequence[Finding]) -> list[Finding]:
    """What all targets of a file have in common is told once."""
    return list({(one.path, one.problem.code, one.problem.message): one for one in findings}.values())


def _each(texts: Any) -> list[str]:
    return list(dict.fromkeys(texts))
