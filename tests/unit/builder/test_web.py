"""Downloads: where they may lead, who is told the password, and how much and how long they may be."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from layer_builder.ground.errors import (
    AddressRefusedError,
    DownloadTooLargeError,
    IndexUnreachableError,
    LayerTooLargeError,
)
from layer_builder.ground.login import Login
from layer_builder.indexes import access, web
from layer_builder.indexes.access import Access
from layer_builder.requirements.origins import origin_of
from layer_builder.wheels import fetch as fetch_module
from layer_builder.wheels.fetch import fetch
from tests.unit.builder.wheel_maker import Index, make_wheel, pick_of

if TYPE_CHECKING:
    from pathlib import Path

    from layer_builder.ground.settings import Settings
    from layer_builder.wheels.pick import Pick

pytestmark = pytest.mark.usefixtures("direct")


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy: it would look up names itself."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(fetch_module, "_BACKOFF", 0)


@pytest.fixture
def pick(index: Index) -> Pick:
    file = make_wheel(index.folder, "pkg")
    return replace(pick_of(file), url=f"{index.url.removesuffix('/simple')}/files/{file.name}")


@pytest.mark.attack("index: redirects to where no index is")
@pytest.mark.parametrize(
    "where",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://169.254.170.2/v2/credentials/x",
        "http://[fd00:ec2::254]/latest/",
        "http://[fe80::1]/",
        "http://10.0.0.1/x",
        "http://192.168.1.1/x",
        "http://172.16.0.1/x",
        "http://100.64.0.1/x",
        "http://0.0.0.0/x",
        "http://[::ffff:169.254.169.254]/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
    ],
)
def test_a_redirect_to_where_no_index_is_is_refused(
    index: Index, pick: Pick, settings: Settings, where: str
) -> None:
    index.moved = lambda path: where if path.startswith("/files/") else ""
    with pytest.raises(AddressRefusedError) as caught:
        fetch([pick], settings)
    assert caught.value.exit_status == 2
    assert len(index.requested) == 1


@pytest.mark.attack("index: a name that leads to where no index is")
def test_a_name_is_refused_by_where_it_leads(
    index: Index, pick: Pick, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = access.addresses_of

    def poisoned(host: str, port: int) -> list[str]:
        return ["169.254.169.254"] if host == "innocent.example" else resolve(host, port)

    monkeypatch.setattr(web, "addresses_of", poisoned)
    index.moved = lambda _: "http://innocent.example/x"
    with pytest.raises(AddressRefusedError, match=r"innocent\.example"):
        fetch([pick], settings)


@pytest.mark.attack("index: a name that answers differently the second time")
def test_what_is_checked_is_what_is_connected_to(
    index: Index, pick: Pick, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers differently the second time gets no second time."""
    asked: list[str] = []

    def once(host: str, port: int) -> list[str]:
        asked.append(host)
        assert len(asked) == 1
        return ["127.0.0.1"]

    monkeypatch.setattr(web, "addresses_of", once)
    index.moved = lambda _: ""
    named = replace(pick, url=pick.url.replace("127.0.0.1", "packages.example"))
    assert fetch([named], settings)
    assert asked == ["packages.example"]


def test_this_machine_is_out_of_reach_when_no_index_is_on_it(index: Index) -> None:
    for origins in (frozenset[str](), frozenset({"https://203.0.113.1:443"})):
        with (
            pytest.raises(AddressRefusedError, match="this machine"),
            web.get(f"{index.url}/x/", Access(origins)),
        ):
            pass
    assert not index.requested


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", access._INTERNET),
        ("2600::1", access._INTERNET),
        ("127.8.9.1", access._LOOPBACK),
        ("::1", access._LOOPBACK),
        ("10.1.2.3", access._PRIVATE),
        ("fd12::1", access._PRIVATE),
        ("169.254.1.1", access._NEVER),
        ("fe80::1%eth0", access._NEVER),
        ("224.0.0.1", access._NEVER),
        ("::", access._NEVER),
    ],
)
def test_kinds_of_addresses(address: str, kind: str) -> None:
    assert access.kind_of(address) == kind


@pytest.mark.attack("index: redirects to be told a password")
def test_credentials_go_to_their_own_origin_only(index: Index, pick: Pick, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    login = Login("u", "p4ssword")
    with Index(tmp_path / "other") as other:
        index.moved = lambda path: f"{other.url}/elsewhere/" if path == "/simple/moved/" else ""
        reach = Access(frozenset({origin_of(index.url), origin_of(other.url)}), {origin_of(index.url): login})
        with web.ask(f"{index.url}/moved/", reach) as response:
            assert response.status == 404
        assert index.seen == [login.header]
        assert other.seen == [None]


@pytest.mark.attack("index: redirects in a circle")
def test_a_redirect_loop_ends(index: Index, pick: Pick, settings: Settings) -> None:
    index.moved = lambda path: path
    with pytest.raises(IndexUnreachableError, match="redirects"):
        fetch([pick], settings)


@pytest.mark.attack("index: a file longer than announced")
def test_longer_than_announced_is_cut_off(index: Index, pick: Pick, settings: Settings) -> None:
    with pytest.raises(DownloadTooLargeError) as caught:
        fetch([replace(pick, size=10)], settings)
    assert caught.value.exit_status == 2
    assert not [file for file in settings.cache.rglob("*") if file.is_file()]


def test_far_too_long_is_refused_before_anything_is_fetched(
    index: Index, pick: Pick, settings: Settings
) -> None:
    with pytest.raises(LayerTooLargeError, match="alone"):
        fetch([replace(pick, size=900 << 20)], settings)
    assert not index.requested


@pytest.mark.attack("index: files without end")
def test_all_files_together_have_a_limit(
    index: Index, pick: Pick, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "MAX_DOWNLOAD_BYTES", 100)
    with pytest.raises(DownloadTooLargeError, match="together"):
        fetch([pick], settings)


@pytest.mark.attack("index: a line held open")
def test_a_line_held_open_is_given_up(
    index: Index, pick: Pick, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_GRACE", 0)
    monkeypatch.setattr(web, "_SLOWEST", 1e12)
    with pytest.raises(IndexUnreachableError, match="bytes in") as caught:
        fetch([pick], settings)
    assert caught.value.exit_status == 75


def test_a_busy_server_is_asked_again(index: Index, pick: Pick, settings: Settings) -> None:
    answers = iter([503, 429])
    lock = threading.Lock()

    def busy(_: str) -> int:
        with lock:
            return next(answers, 200)

    index.status = busy
    assert fetch([pick], settings)
    assert len(index.requested) == 3


def test_a_proxy_is_used_except_where_none_is_wanted(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proxy").mkdir()
    with Index(tmp_path / "proxy") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/simple"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        reach = Access(frozenset({origin_of(index.url)}))
        for url in ("http://packages.example/simple/x/", f"{index.url}/x/"):
            with web.ask(url, reach) as response:
                assert response.status == 404
        assert proxy.requested == ["http://packages.example/simple/x/"]
        assert index.requested == ["/simple/x/"]
        with pytest.raises(AddressRefusedError), web.get("http://169.254.169.254/latest/", reach):
            pass
        assert len(proxy.requested) == 1


_TOGETHER = """
import sys, threading
sys.setswitchinterval(1e-6)
from layer_builder.indexes import web

def load():
    import urllib3

def run(one):
    together.wait()
    try:
        one()
    except ImportError as error:
        errors.append(error)

errors, together = [], threading.Barrier(3)
for _ in range(20):
    for name in [name for name in sys.modules if name.partition(".")[0] == "urllib3"]:
        del sys.modules[name]
    threads = [threading.Thread(target=run, args=(one,)) for one in (web.prepare, load, load)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
raise SystemExit(bool(errors))
"""


def test_downloads_may_begin_while_they_are_prepared() -> None:
    """Modules of one package that threads import at once, in different orders, come half loaded."""
    subprocess.run([sys.executable, "-c", _TOGETHER], check=True)
