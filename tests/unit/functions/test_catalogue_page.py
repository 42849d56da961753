"""The catalogue's page as a file: what is in it, and what cannot get out of its place in it."""

import base64
import copy
import hashlib
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdrop.catalogue.page import render
from tests.catalogue_documents import ARABIC, SCRIPT, finding, index, layer, made_up, package, unknown

ROOT = Path(__file__).parents[3]
CATALOGUE = ROOT / "functions/layerdrop/catalogue"
ENDS = (
    "</script>",
    "<!--<script>",
    "]]>",
    "&lt;/script&gt;",
    "'\"><img src=x onerror=alert(1)>",
    "\u2028",
    "{{ 7 * 7 }}",
)


class _Reader(html.parser.HTMLParser):
    """The page's elements with their attributes and texts, as a parser that is not ours sees them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str | None, str]] = []
        self._last: tuple[str, str | None] = ("", None)
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._last = (tag, dict(attrs).get("id"))

    def handle_endtag(self, tag: str) -> None:
        self._last = ("", None)

    def handle_data(self, data: str) -> None:
        self.texts.append((*self._last, data))

    def text(self, identifier: str) -> str:
        return "".join(text for _, found, text in self.texts if found == identifier)


def catalogue(page: bytes) -> dict[str, Any]:
    return dict(json.loads(_Reader(page).text("catalogue")))


def details(page: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _Reader(page).text("details").splitlines()]


def shape(page: bytes) -> list[tuple[str, str | None]]:
    return [(tag, attributes.get("id")) for tag, attributes in _Reader(page).elements]


def hostile(text: str) -> dict[str, Any]:
    """A catalogue that says it wherever a stranger's words can stand."""
    one = layer(
        "web-py313-arm64",
        description=text, license=text, warnings=[text], input_key=text,
        packages=[package(text, text, license=text, publisher={"kind": text, "repository": text})],
        system_packages=[{"name": text, "version": text, "license": text}],
        findings=[finding(text, aliases=[text], package=text, summary=text, fixed_in=[text], ignored=text,
                          url=text)],
        outdated={"looked": None, "changes": None, "error": {"code": text, "message": text}},
        history=[{"version": 1, "layer_version_arn": text, "released": text, "unzipped_bytes": 1,
                  "changes": {"added": [{"package": text, "version": text}], "removed": [], "changed": []}}],
    )  # fmt: skip
    return index(one, stack=text, region=text, account=text)


@pytest.mark.attack("words of a package end their place in the catalogue's page")
@pytest.mark.parametrize("text", [SCRIPT, *ENDS], ids=range(len(ENDS) + 1))
def test_words_stay_where_they_are(text: str) -> None:
    page = render(hostile(text))
    assert shape(page) == shape(render(hostile("harmless")))
    assert b"<img src=x" not in page
    assert catalogue(page)["stack"] == text.replace("\u2028", r"\u2028")


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_text_leaves_the_page_whole(text: str) -> None:
    page = render(hostile(text))
    assert shape(page) == shape(render(hostile("harmless")))
    page.decode()
    [only] = details(page)
    # What somebody could not see is told by escapes; everything else is what it was.
    if text.isprintable():
        assert catalogue(page)["layers"][0]["description"] == only["warnings"][0] == text


def test_a_reader_gets_what_the_index_says() -> None:
    given_ = made_up(20, 5)
    page = render(copy.deepcopy(given_))
    shown = catalogue(page)
    for one, seen, opened in zip(given_["layers"], shown["layers"], details(page), strict=True):
        rows = [shown["packages"][number] for number in seen.pop("packages")]
        fields = ("name", "version", "license", "unzipped_bytes", "publisher", "attested")
        assert rows == [[each.get(field) for field in fields] for each in one["packages"]]
        assert seen.pop("system_packages") == []
        assert seen.pop("warnings") == len(one["warnings"])
        assert seen | opened == {
            name: value for name, value in one.items() if not name.endswith("packages") and name != "digest"
        }
    assert {name: shown[name] for name in given_ if name != "layers"} == {
        name: value for name, value in given_.items() if name != "layers"
    }


@pytest.mark.parametrize("given_", [made_up(30), index(unknown("old-py313-arm64")), index()], ids=range(3))
def test_what_is_made_up_is_what_is_written(given_: dict[str, Any]) -> None:
    schema = json.loads((CATALOGUE.parent / "schemas/catalogue.schema.json").read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(given_)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_a_package_is_there_once_whoever_has_it() -> None:
    one, other = package("idna"), package("idna", publisher={"kind": "GitHub", "repository": "kjd/idna"})
    page = catalogue(render(index(*(layer(f"l{n}-py313-arm64", packages=[one, other]) for n in range(9)))))
    assert len(page["packages"]) == 2
    assert {tuple(each["packages"]) for each in page["layers"]} == {(0, 1)}


def test_long_texts_are_cut() -> None:
    given_ = hostile("x" * 100_000)
    page = render(given_)
    assert len(page) < 200_000
    name, version, license_, *_ = catalogue(page)["packages"][0]
    assert (len(name), len(version), len(license_)) == (1024, 1024, 200)


def test_what_is_hidden_is_shown_and_what_is_no_number_is_not() -> None:
    given_ = index(
        layer(
            "web-py313-arm64",
            description="a\u202eb\x1b[2J\ud800",
            import_seconds=float("nan"),
            license=ARABIC,
        )
    )
    [shown] = catalogue(render(given_))["layers"]
    assert shown["description"] == r"a\u202eb\x1b[2J\ud800"
    assert shown["license"] == ARABIC
    assert shown["import_seconds"] is None


def test_layers_of_which_little_is_known() -> None:
    page = render(index(unknown("old-py313-arm64")))
    assert catalogue(page)["layers"][0]["name"] == "old-py313-arm64"
    assert catalogue(render(index(watch={"asked": None, "database": None})))["layers"] == []


def test_the_policy_allows_what_the_page_has_and_no_more() -> None:
    page = render(made_up(3))
    reader = _Reader(page)
    [policy] = [
        attributes["content"] or ""
        for tag, attributes in reader.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        [text] = re.findall(rf"<{tag}>(.*?)</{tag}>", page.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    addresses = [
        value
        for _, attributes in reader.elements
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "poster", "srcset")
    ]
    assert [one for one in addresses if not (one or "").startswith(("data:", "#"))] == []
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]


def test_the_script_makes_no_markup() -> None:
    """The browser would refuse it by the policy, too; so that is never met."""
    script = (CATALOGUE / "page.js").read_text()
    sinks = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(|srcdoc|script:"
    )
    assert re.findall(sinks, script) == []
    for name in ("page.js", "page.css"):
        text = (CATALOGUE / name).read_text()
        assert "</" not in text
        assert "<!--" not in text
        assert "\r" not in text  # a browser would take it for another text than the policy's


def test_the_recipes_are_the_documented_ones() -> None:
    blocks = re.findall(r"^```\w+\n(.*?)^```", (ROOT / "docs/use.md").read_text(), re.DOTALL | re.MULTILINE)
    files = {path.name: path.read_text() for path in (CATALOGUE / "recipes").iterdir()}
    assert [name for name, text in files.items() if text not in blocks] == []
    shown = json.loads(_Reader(render(index())).text("recipes"))
    assert {one["file"]: one["text"] for one in shown} == files
    # Whatever of the page has a name and an example is there.
    named = {match[1] for block in blocks if (match := re.match(r"(?:#|//) ([\w.]+\.\w+)\n", block))}
    assert named <= files.keys()
