"""The catalogue from an upload to a browser: what the pipeline writes is what `make up`'s address shows."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, Page, browser
from tests.catalogue_documents import ARABIC, SCRIPT

from .conftest import Served, eventually

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt install chromium"),
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as running:
        running.call(
            "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
        )
        yield running


def drop(served: Served, folder: Path, name: str, description: str, packages: str) -> dict[str, str]:
    """Build a layer of that description, and return what the command says of it."""
    file = folder / "requirements.txt"
    block = f"# /// layer\n# description = {json.dumps(description, ensure_ascii=False)}\n# ///\n"
    file.write_text(block + packages)
    done = served.paste(f"layerdrop drop {file} x86_64/{name} --output json")
    assert done.returncode == 0, done.stderr
    [layer] = json.loads(done.stdout)["layers"]
    return dict(layer)


def shown(page: Page, served: Served) -> list[str]:
    """Open the address that was printed once; the page is written moments after an answer."""
    [address] = [line for line in served.lines if re.match(r"http://127\.0\.0\.1:\d+/.*index\.html\?", line)]
    page.told.clear()
    page.open(address)
    page.drawn()
    return page.texts("tbody .name a")


@pytest.mark.attack("the uploader: a description that runs in the catalogue's page, through the pipeline")
def test_what_is_built_is_found_in_the_page(served: Served, page: Page, tmp_path: Path) -> None:
    word = uuid.uuid4().hex[:8]
    evil = drop(served, tmp_path, f"evil-{word}", SCRIPT, "idna == 3.10\n")
    arabic = drop(served, tmp_path, f"arabic-{word}", ARABIC, "idna == 3.10\nsix == 1.17.0\n")
    names = {evil["name"], arabic["name"]}
    eventually(lambda: names <= set(shown(page, served)))
    page.js("document.getElementById('q').focus()")
    page.type("six==1.17")
    assert page.texts("tbody .name a") == [arabic["name"]]
    page.click(".arn .copy")
    page.until("document.getElementById('announcer').textContent")
    assert page.js("navigator.clipboard.readText()") == arabic["arn"]
    for layer, words in ((arabic, ARABIC), (evil, SCRIPT)):
        page.js(f"location.hash = '#/layer/{layer['name']}'")
        page.until(f"document.querySelector('article h1')?.innerText === {layer['name']!r}")
        assert words in page.js("document.querySelector('article').innerText")
        assert f"/layerdrop/{layer['name']}" in page.js("document.querySelector('article pre').innerText")
    assert page.told == []


def test_a_copy_is_the_page(served: Served, page: Page, tmp_path: Path) -> None:
    word = uuid.uuid4().hex[:8]
    layer = drop(served, tmp_path, f"kept-{word}", "to be kept", "idna == 3.10\n")
    eventually(lambda: layer["name"] in shown(page, served))
    kept = served.paste(f"layerdrop catalogue --save {tmp_path / 'kept'}")
    assert kept.returncode == 0, kept.stderr
    index = json.loads((tmp_path / "kept/index.json").read_text())
    [listed] = [one for one in index["layers"] if one["name"] == layer["name"]]
    assert listed["layer_version_arn"] == layer["arn"]
    assert [package["name"] for package in listed["packages"]] == ["idna"]
    page.open((tmp_path / "kept/index.html").as_uri())
    page.drawn()
    assert layer["name"] in page.texts("tbody .name a")
