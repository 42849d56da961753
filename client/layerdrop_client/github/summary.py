"""An outcome as GitHub's Markdown: HTML blocks, so that nothing in them is read as Markdown."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from layerdrop_client.github.inert import code, line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerdrop_client.github.outcome import Change, Finding, Outcome, Row

MOST_COMMENT_CHARACTERS = 60_000
"""A comment of more than 65,536 is refused ("body is too long")."""
_MOST_CHANGES = 20


def markdown(outcome: Outcome, room: int) -> str:
    """The whole outcome in at most that many characters; what has no room is counted."""
    blocks = [f"### {outcome.title}", _verdict(outcome)]
    if outcome.problem:
        told = f"<p>{code(outcome.problem.code)} {code(outcome.problem.message)}</p>"
        blocks.append(told + (f"\n<p>{code(outcome.problem.hint)}</p>" if outcome.problem.hint else ""))
    left = room - sum(len(block) + 2 for block in blocks) - 1000
    for lines, frame, what in (
        ([_error(one) for one in outcome.findings], "<ul>\n{}\n</ul>", "errors"),
        ([_cells(one) for one in outcome.rows], _TABLE, "layers"),
        (
            [f"<li>{code(one)}</li>" for one in outcome.warnings],
            "<p>Warnings</p>\n<ul>\n{}\n</ul>",
            "warnings",
        ),
        ([f"<li>{code(one)}</li>" for one in outcome.gone], _GONE, "inputs"),
    ):
        kept, more = _fitting(lines, left)
        if lines:
            blocks.append(
                frame.format("\n".join(kept)) + (f"\n<p>… and {more} more {what}</p>" if more else "")
            )
        left -= len(blocks[-1])
    return "\n\n".join(blocks) + "\n"


_TABLE = (
    "<table>\n<tr><th>File</th><th>Layer</th><th>Result</th><th>Packages</th><th>Size</th>"
    "<th>What changes</th></tr>\n{}\n</table>"
)
_GONE = "<p>Deleted inputs; layers, their pointers and manifests stay:</p>\n<ul>\n{}\n</ul>"


def comment(outcome: Outcome, scope: str) -> str:
    """The outcome as a comment that is found again by its first line."""
    return f"{marker(scope)}\n\n{markdown(outcome, MOST_COMMENT_CHARACTERS)}"


def marker(scope: str) -> str:
    """What nobody sees, and the comment of the same stack and folder begins with."""
    return f"<!-- layerdrop {hashlib.sha256(scope.encode()).hexdigest()[:20]} -->"


def _fitting(lines: Sequence[str], room: int) -> tuple[list[str], int]:
    kept: list[str] = []
    for told in lines:
        room -= len(told) + 1
        if room < 0:
            break
        kept.append(told)
    return kept, len(lines) - len(kept)


def _verdict(outcome: Outcome) -> str:
    if outcome.problem:
        return "❌ It could not go on."
    results = [row.result for row in outcome.rows]
    parts = [f"{results.count(result)} {result}" for result in dict.fromkeys(results)]
    if outcome.unchanged:
        parts.append(f"{outcome.unchanged} unchanged")
    mark = "❌" if outcome.findings else "✅"
    return f"{mark} {', '.join(parts) or 'No file of a layer changes'}"


def _error(finding: Finding) -> str:
    where = f"{finding.path}:{finding.line}" if finding.line is not None else finding.path
    hint = f"<br>{code(finding.problem.hint)}" if finding.problem.hint else ""
    return f"<li>{code(where)} {code(finding.problem.code)}<br>{code(finding.problem.message)}{hint}</li>"


def _cells(row: Row) -> str:
    name = code(row.arn or row.name) if row.arn or row.name else ""
    sizes = [
        _size(row.zip_bytes, row.zip_bytes_before, "zip"),
        _size(row.unzipped_bytes, row.unzipped_bytes_before, "unzipped"),
    ]
    cells = [
        code(row.path),
        name,
        line(row.result),
        str(row.packages or ""),
        "<br>".join(filter(None, sizes)),
        _changes(row.changes),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _changes(changes: Sequence[Change] | None) -> str:
    if changes is None:
        return ""
    if not changes:
        return "no package"
    told = [_change(*change) for change in changes[:_MOST_CHANGES]]
    more = len(changes) - len(told)
    return "<br>".join([*told, *([f"… and {more} more"] if more else [])])


def _change(name: str, before: str | None, after: str | None) -> str:
    if before is None:
        return f"+ {code(f'{name} {after}', 100)}"
    if after is None:
        return f"- {code(f'{name} {before}', 100)}"
    return f"{code(f'{name} {before}', 100)} → {code(after, 60)}"


def _size(now: int | None, before: int | None, what: str) -> str:
    if now is None:
        return ""
    grown = 0 if before is None else now - before
    change = f" ({'+' if grown > 0 else '-'}{_bytes(abs(grown))})" if grown else ""
    return f"{_bytes(now)}{change} {what}"


def _bytes(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 100_000 else f"{number / 1e3:,.1f} kB"
