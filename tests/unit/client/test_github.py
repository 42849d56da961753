"""What GitHub is told: words of others are shown, and never obeyed."""

import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from layerdrop_client.github.inert import code, data, line, property_value
from layerdrop_client.github.outcome import Checked, Finding, Outcome, Row, of_pull_request, of_sync
from layerdrop_client.github.runner import Runner, annotation, output
from layerdrop_client.github.summary import MOST_COMMENT_CHARACTERS, comment, markdown, marker
from layerdrop_client.problems import CommandError, Problem

HOSTILE = [
    "a\n::set-output name=arns::evil",
    "a\r\n::add-mask::x",
    "::stop-commands::x",
    "`code` ```\n```",
    "<img src=x onerror=alert(1)><!-- -->",
    "</code></td></table>\n\n# Heading\n\n[click](https://evil.example)",
    "${{ secrets.GITHUB_TOKEN }}",
    "@everyone #1 | a | b",
    "%0A::error::x",
    "a\u202eb\x1b[31m\x00",
    "x,line=1::evil:",
]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60))
OURS = {"h3", "p", "table", "tr", "th", "td", "code", "br", "ul", "li"}


class Tags(html.parser.HTMLParser):
    """What a browser sees, as far as it counts here."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[Any] = []
        self.codes: list[str] = []
        self.comments: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "code":
            self.codes.append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "code"

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.codes[-1] += data


def rendered(text: str) -> Tags:
    tags = Tags()
    tags.feed(MarkdownIt("gfm-like", {"linkify": False}).render(text))
    return tags


def outcome(text: str) -> Outcome:
    row = Row(text, text, "built", text, 1, 2, 3_000_000, 4_000_000, 2_000_000, None, [(text, text, text)])
    finding = Finding(text, Problem(text, text, text), 3, 4)
    return Outcome("Layers", [row], [finding], Problem(text, text, text), [text], [text])


@given(TEXTS)
def test_markdown_has_no_tag_and_no_link_but_ours(text: str) -> None:
    seen = rendered(markdown(outcome(text), 100_000))
    assert seen.tags <= OURS
    assert seen.attributes == []
    assert seen.comments == []
    # And all of it is there to read.
    assert line(text) in seen.codes


@given(TEXTS)
def test_a_comment_begins_with_its_marker_alone(text: str) -> None:
    seen = rendered(comment(outcome(text), text))
    assert len(seen.comments) == 1
    assert comment(outcome(text), text).startswith(marker(text) + "\n\n###")


@given(TEXTS)
def test_an_annotation_is_one_command(text: str) -> None:
    told = annotation(Finding(text, Problem(text, text, text), 3, 4))
    assert re.search(r"[\r\n]", told) is None
    # As the runner reads it: the first "::" behind the opening ends the properties.
    properties, _, message = told.removeprefix("::error ").partition("::")
    pairs = dict(part.split("=", 1) for part in properties.split(","))
    assert list(pairs) == ["file", "line", "col", "title"]
    assert unescaped(pairs["file"]) == text
    assert unescaped(message).startswith(line(text))


def unescaped(value: str) -> str:
    """https://github.com/actions/runner, ActionCommand.cs: in this order."""
    for escape, meant in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        value = value.replace(escape, meant)
    return value


@given(TEXTS)
def test_escaping_comes_back(text: str) -> None:
    assert unescaped(property_value(text)) == text
    assert unescaped(data(text)) == text


@given(TEXTS, TEXTS)
def test_outputs_hold_whatever_is_in_them(first: str, second: str) -> None:
    written = output("arns", first) + output("layers", second)
    found = {}
    lines = written.split("\n")
    while lines and lines[0]:
        name, end = lines.pop(0).split("<<")
        assert re.fullmatch("layerdrop_[0-9a-f]{32}", end)
        at = lines.index(end)
        found[name], lines = "\n".join(lines[:at]), lines[at + 1 :]
    assert found == {"arns": first, "layers": second}
    assert output("a", "b") != output("a", "b")


def test_a_comment_keeps_within_github_s_limit_and_says_what_it_left_out() -> None:
    rows = [Row(f"arm64/{n}/requirements.txt", "x" * 300, "built") for n in range(2000)]
    told = comment(Outcome("Layers", rows), "x")
    assert len(told) <= MOST_COMMENT_CHARACTERS + 100
    [more] = re.findall(r"… and (\d+) more layers", told)
    assert told.count("<tr><td>") + int(more) == 2000


@pytest.mark.parametrize("text", ["x" * 10_000, "<" * 10_000])
def test_a_long_text_is_cut(text: str) -> None:
    assert len(rendered(code(text)).codes[0]) == 600


FILE = {
    "path": "layers/arm64/web/requirements.txt",
    "key": "requirements/arm64/web/requirements.txt",
    "action": "upload",
    "why": "changed",
    "result": "built",
    "changes": [
        {
            "layer": "web-py313-arm64",
            "from": {"zip_bytes": 900, "unzipped_bytes": 1900},
            "packages": [{"name": "idna", "from": "3.9", "to": "3.10"}],
        }
    ],
    "layers": [
        {"name": "web-py313-arm64", "version": 2, "arn": "arn:2", "reused": False, "packages": 1,
         "zip_bytes": 1000, "unzipped_bytes": 2000, "warnings": ["careful"]}
    ],
    "problems": [],
}  # fmt: skip


def synced(*files: dict[str, Any], dry_run: bool = False) -> Outcome:
    document = {"files": files, "dry_run": dry_run, "deleted": [], "left": []}
    return of_sync(document, lambda path: "idna = 3\n")


def test_a_sync_is_told_layer_by_layer() -> None:
    found = synced(FILE, {**FILE, "path": "other", "result": "unchanged"})
    [row] = found.rows
    assert (row.name, row.result, row.changes) == ("web-py313-arm64", "built", [("idna", "3.9", "3.10")])
    assert (found.unchanged, found.warnings) == (1, ["careful"])
    told = markdown(found, 10_000)
    assert "✅ 1 built, 1 unchanged" in told
    assert "<code>idna 3.9</code> → <code>3.10</code>" in told


def test_the_outputs_have_all_layers_and_count_what_is_new() -> None:
    problem = {"code": "REQUIREMENTS_INVALID", "message": "Line 1, 'idna = 3'", "details": {"line": 1}}
    other = {**FILE["layers"][0], "name": "api-py313-arm64", "arn": "arn:api", "reused": True}  # type: ignore[index]
    known = {**FILE, "path": "known", "result": "reused", "layers": [other], "changes": []}
    failed = {**FILE, "path": "bad", "result": "failed", "layers": [], "changes": [], "problems": [problem]}
    found = synced(FILE, known, failed)
    told = found.outputs
    assert json.loads(told["arns"]) == {"web-py313-arm64": "arn:2", "api-py313-arm64": "arn:api"}
    assert (told["published"], told["failed"], len(json.loads(told["layers"]))) == ("1", "1", 2)
    assert (found.findings[0].path, found.findings[0].line) == ("bad", 1)


def test_a_dry_run_says_what_would_be_done() -> None:
    waiting = {**FILE, "result": None, "layers": [], "changes": []}
    found = synced(waiting, {**waiting, "action": "nothing"}, dry_run=True)
    assert [(row.result, row.name) for row in found.rows] == [("upload", "changed")]
    assert (found.unchanged, found.outputs["published"]) == (1, "0")


def test_a_sync_that_could_not_go_on_failed() -> None:
    error = {"code": "STACK_NOT_FOUND", "message": "There is no stack", "hint": "Name it"}
    found = of_sync({"error": error}, lambda path: None)
    assert found.outputs["failed"] == "1"
    assert "STACK_NOT_FOUND" in markdown(found, 10_000)


def report(version: str | None, size: int = 1000) -> dict[str, Any]:
    target = {"runtime": "python3.13", "architecture": "arm64"}
    if version is None:
        return {"target": target, "layer": None, "packages": [], "error": {"code": "X", "message": "no idna"}}
    layer = {"digest": version, "zip": {"bytes": size, "unzipped_bytes": size}}
    return {"target": target, "layer": layer, "packages": [{"name": "idna", "version": version}]}


def test_a_pull_request_is_told_against_its_base() -> None:
    now, before = {"reports": [report("3.10")]}, {"reports": [report("3.9", 500)]}
    bad = {"reports": [report(None), report(None)]}
    found = of_pull_request(
        [
            Checked("a", now, before, ""),
            Checked("b", now, None, ""),
            Checked("c", now, now, ""),
            Checked("d", bad, None, "idna\n"),
            Checked("e", None, before, None),
        ]
    )
    results = {row.path: row.result for row in found.rows}
    assert results == {
        "a": "would be built",
        "b": "would be built",
        "c": "would be the same",
        "d": "would fail",
        "e": "removed",
    }
    assert found.rows[0].changes == [("idna", "3.9", "3.10")]
    assert (found.rows[0].zip_bytes_before, found.rows[1].changes) == (500, None)
    assert [(one.path, one.line) for one in found.findings] == [("d", 1)]


def test_an_input_that_is_neither_true_nor_false_is_refused() -> None:
    assert Runner({"INPUT_DELETE": "True"}).flag("DELETE", default=False)
    assert Runner({"INPUT_DELETE": ""}).flag("DELETE", default=False) is False
    with pytest.raises(CommandError, match='dry-run is "yes"'):
        Runner({"INPUT_DRY_RUN": "yes"}).flag("DRY_RUN", default=False)


def test_a_folder_outside_of_the_repository_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerdrop_client.commands.ci import ci

    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("INPUT_PATH", "../elsewhere")
    monkeypatch.delenv("GITHUB_EVENT_PATH", raising=False)
    with pytest.raises(CommandError, match="outside of the repository"):
        ci("sync")
