"""Indexes that lead elsewhere: to where a machine's credentials are served, or for whom a password is not.

A second server on loopback stands for such a place. It must never be asked: not by the builder, and not by
uv, which follows redirects and links wherever they lead.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import layer_builder
from layer_builder.ground import interpreter
from layer_builder.ground.errors import AddressRefusedError, BuildError
from layer_builder.ground.login import Login
from layer_builder.ground.target import Target
from layer_builder.indexes import access, web
from layer_builder.indexes import sources as source_list
from layer_builder.indexes.access import Access
from layer_builder.requirements import parser
from layer_builder.requirements.origins import origin_of
from layer_builder.resolution.resolve import resolve
from layer_builder.wheels.fetch import fetch
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from layer_builder.ground.settings import Settings

TARGET = Target.of("python3.13", "x86_64")
CREDENTIALS = "/v2/credentials/role"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy: it would look up names itself."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@dataclass
class Forbidden:
    """A place where no index is.

    Attributes:
        server: what would answer there.
        url: its address.
    """

    server: Index
    url: str


@pytest.fixture
def forbidden(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forbidden]:
    """127.0.0.2 in the place of 169.254.170.2: to be refused, though the index is on this machine, too."""
    networks = access._networks()
    never = [*networks[access._NEVER], ipaddress.ip_network("127.0.0.2/32")]
    ordered = {access._NEVER: never, **{kind: networks[kind] for kind in networks if kind != access._NEVER}}
    monkeypatch.setattr(access, "_networks", lambda: ordered)
    folder = tmp_path / "forbidden"
    folder.mkdir()
    with Index(folder, host="127.0.0.2") as server:
        make_wheel(folder, "evil", requires=("other",))
        yield Forbidden(server, server.url.removesuffix("/simple"))


def redirect_of(kind: str) -> Callable[[Index, str], None]:
    def lead(index: Index, where: str) -> None:
        index.moved = lambda path: where if kind in path else ""

    return lead


def link(index: Index, where: str) -> None:
    """Have the page itself name files that are elsewhere."""
    answer = index.answer

    def linking(path: str) -> tuple[str, bytes | None]:
        kind, body = answer(path)
        if path.startswith("/simple/") and body:
            body = body.replace(b"/files/", f"{where}/files/".encode())
        return kind, body

    index.answer = linking  # type: ignore[method-assign]


def metadata(index: Index, where: str) -> None:
    """Announce metadata that can be had by itself, and redirect there."""
    answer = index.answer

    def announcing(path: str) -> tuple[str, bytes | None]:
        kind, body = answer(path)
        if path.startswith("/simple/") and body and index.html:
            body = body.replace(b"<a ", b'<a data-core-metadata="true" ')
        elif path.startswith("/simple/") and body:
            page = json.loads(body)
            body = json.dumps(
                {**page, "files": [{**f, "core-metadata": True} for f in page["files"]]}
            ).encode()
        return kind, body

    index.answer = announcing  # type: ignore[method-assign]
    index.moved = lambda path: where if path.endswith(".metadata") else ""


WAYS = {
    "pages that redirect": redirect_of("/simple/evil"),
    "files that redirect": redirect_of("/files/"),
    "links": link,
    "metadata that redirects": metadata,
    "pages of dependencies that redirect": redirect_of("/simple/other"),
}
PLACES = {
    "by number": lambda url: url,
    "by a name": lambda url: url.replace("127.0.0.2", "innocent.example"),
    "by a number in other words": lambda url: url.replace("127.0.0.2", "0x7f.2"),
    "by IPv6 that carries IPv4": lambda url: url.replace("127.0.0.2", "[::ffff:127.0.0.2]"),
}


@pytest.mark.sample(6)
@pytest.mark.attack("index: leads to where credentials are served")
@pytest.mark.parametrize("html", [False, True], ids=["json", "html"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("lead", WAYS.values(), ids=WAYS)
def test_nobody_is_led_to_where_credentials_are_served(
    index: Index,
    settings: Settings,
    forbidden: Forbidden,
    monkeypatch: pytest.MonkeyPatch,
    lead: Callable[[Index, str], None],
    place: Callable[[str], str],
    html: bool,
) -> None:
    resolved = access.addresses_of
    monkeypatch.setattr(
        web, "addresses_of", lambda host, port: resolved(host.replace("innocent.example", "127.0.0.2"), port)
    )
    index.html = html
    make_wheel(index.folder, "evil", requires=("other",))
    make_wheel(index.folder, "other")
    lead(index, place(forbidden.url) + ("" if lead is link else CREDENTIALS))
    with pytest.raises(AddressRefusedError):
        fetch(resolve(parser.parse("evil"), TARGET, settings).picks, settings)
    assert forbidden.server.requested == []


def test_what_is_forbidden_would_be_asked_if_it_were_not(
    index: Index, settings: Settings, tmp_path: Path
) -> None:
    """The tests above can fail: another server on this machine is asked, as an index's mirror may be."""
    (tmp_path / "mirror").mkdir()
    make_wheel(index.folder, "evil")
    make_wheel(tmp_path / "mirror", "evil")
    with Index(tmp_path / "mirror", host="127.0.0.2") as mirror:
        link(index, mirror.url.removesuffix("/simple"))
        fetch(resolve(parser.parse("evil"), TARGET, settings).picks, settings)
        assert mirror.downloads()


def test_uv_is_left_alone_with_the_public_index_only(settings: Settings, tmp_path: Path) -> None:
    public = replace(settings, index_url="")
    nowhere = parser.parse("six").origins
    assert source_list.of(public, nowhere).is_public
    url = "https://packages.example.com/simple"
    assert not source_list.of(settings, nowhere).is_public
    assert not source_list.of(replace(public, extra_index_urls=(url,)), nowhere).is_public
    for option in ("-i", "--extra-index-url", "-f"):
        named = parser.parse(f"{option} {url}\nsix", [url]).origins
        assert not source_list.of(public, named).is_public


# ---------------------------------------------------------------- addresses


def carriers(ipv4: str) -> list[str]:
    """List the IPv6 addresses that are, or may be, delivered to an IPv4 one."""
    number = int(ipaddress.IPv4Address(ipv4))
    high, low = number >> 16, number & 0xFFFF
    a, b, c, d = number.to_bytes(4, "big")
    return [
        f"::ffff:{ipv4}",
        f"::{ipv4}",
        f"::ffff:0:{ipv4}",
        f"64:ff9b::{ipv4}",
        f"64:ff9b:1::{ipv4}",
        f"64:ff9b:1:{a:02x}{b:02x}:{c:x}:{d:02x}00::",  # a prefix of 48 bits
        f"64:ff9b:1:ff{a:02x}:{b:x}:{c:02x}{d:02x}::",  # of 56
        f"64:ff9b:1:ffff:{a:x}:{b:02x}{c:02x}:{d:02x}00:0",  # of 64
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:{high:x}:{low:x}::1",
        f"2001:0:808:808:0:0:{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}",
        f"2600::5efe:{ipv4}",
        f"2600::200:5efe:{ipv4}",
    ]


@pytest.mark.attack("index: an IPv4 address inside of an IPv6 one")
@pytest.mark.parametrize("which", range(13), ids=lambda which: carriers("169.254.170.2")[which])
def test_an_address_is_judged_by_the_one_that_it_carries(which: int) -> None:
    everywhere = Access(frozenset({"http://127.0.0.1:80", "http://10.0.0.1:80"}))
    for ipv4 in ("169.254.170.2", "169.254.169.254"):
        address = carriers(ipv4)[which]
        assert access.kind_of(address) == access._NEVER
        assert not everywhere.permits(address)
        with pytest.raises(AddressRefusedError), web.ask(f"http://[{address}]/latest/", everywhere):
            pass


@given(st.ip_addresses(v=4))
@example(ipaddress.IPv4Address("127.0.0.1"))
@example(ipaddress.IPv4Address("10.0.0.1"))
@example(ipaddress.IPv4Address("169.254.1.1"))
def test_what_carries_an_address_is_no_better_than_that(ipv4: ipaddress.IPv4Address) -> None:
    order = (access._NEVER, access._LOOPBACK, access._PRIVATE, access._INTERNET)
    worst = order.index(access.kind_of(str(ipv4)))
    for address in carriers(str(ipv4)):
        if ipaddress.ip_address(address) not in (ipaddress.ip_address("::"), ipaddress.ip_address("::1")):
            assert order.index(access.kind_of(address)) <= worst, address


@given(st.ip_addresses())
@example(ipaddress.ip_address("192.0.0.1"))
@example(ipaddress.ip_address("198.18.0.1"))
@example(ipaddress.ip_address("fc00::1"))
@example(ipaddress.ip_address("2001:db8::1"))
def test_nothing_special_is_the_internet(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Python's own judgement is the second opinion, for what does not carry another address."""
    kind = access.kind_of(str(ip))
    special = ip.is_private or ip.is_link_local or ip.is_multicast or ip.is_loopback or ip.is_unspecified
    carries = ip.version == 6 and access._carried(ip.packed)
    if special and not carries:
        assert kind != access._INTERNET
    if ip.is_loopback:
        assert kind == access._LOOPBACK
    if (ip.is_link_local or ip.is_unspecified) and not carries:
        assert kind == access._NEVER


@pytest.mark.parametrize(("address", "kind"), [
    ("1.1.1.1", access._INTERNET), ("2606:4700::1111", access._INTERNET),
    ("64:ff9b::1.1.1.1", access._INTERNET),
    ("2002:101:101::1", access._INTERNET), ("0.1.2.3", access._NEVER), ("255.255.255.255", access._NEVER),
    ("fd00:ec2::23", access._NEVER), ("ff02::1", access._NEVER), ("240.0.0.1", access._PRIVATE),
    ("64:ff9b::10.0.0.1", access._PRIVATE), ("fec0::1", access._PRIVATE), ("4000::1", access._PRIVATE),
])  # fmt: skip
def test_kinds_of_addresses(address: str, kind: str) -> None:
    assert access.kind_of(address) == kind


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_every_python_judges_alike(version: str) -> None:
    found = interpreter.find(version)
    if found is None:
        pytest.skip(f"there is no Python {version} here")
    samples = [
        *carriers("169.254.170.2"),
        *carriers("10.1.2.3"),
        *carriers("8.8.8.8"),
        *carriers("192.0.0.9"),
    ]
    samples += [
        "192.0.0.9",
        "192.0.0.170",
        "2001:1::1",
        "64:ff9b:1::1",
        "2001:20::1",
        "3fff::1",
        "100.64.0.1",
    ]
    ask = "import json, sys; from layer_builder.indexes.access import kind_of; "
    ask += "print(json.dumps([kind_of(one) for one in json.load(sys.stdin)]))"
    done = subprocess.run(
        [str(found.path), "-c", ask],
        input=json.dumps(samples),
        env={"PYTHONPATH": str(Path(layer_builder.__file__).parents[1]), **found.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [access.kind_of(sample) for sample in samples]


# ---------------------------------------------------------------- addresses that are read in two ways


@pytest.mark.attack("index: an address in words that a proxy would understand")
@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.43518",
        "169.254.169.254.",
        "169.254.169%2e254",
        "①⑥⑨.②⑤④.①⑥⑨.②⑤④",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
    ],
)
def test_a_proxy_is_not_asked_for_what_is_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    (tmp_path / "proxy").mkdir()
    with Index(tmp_path / "proxy") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/simple"))
        with pytest.raises(AddressRefusedError), web.ask(f"http://{host}/latest/", Access()):
            pass
        assert proxy.requested == []


@pytest.mark.attack("index: an address that is read in two ways, to be told a password")
@pytest.mark.parametrize(
    "form", ["http://{evil}\\@{good}/x", "http://{evil}#@{good}/x", "http://{evil}?@{good}/x"]
)
def test_a_password_goes_nowhere_else(index: Index, tmp_path: Path, form: str) -> None:
    (tmp_path / "evil").mkdir()
    login = Login("u", "p4ssword")
    with Index(tmp_path / "evil") as evil:
        good = origin_of(index.url)
        where = form.format(evil=origin_of(evil.url).partition("//")[2], good=good.partition("//")[2])
        index.moved = lambda _: where
        reach = Access(frozenset({good, origin_of(evil.url)}), {good: login})
        try:
            with web.ask(f"{index.url}/x/", reach):
                pass
        except BuildError as error:
            assert isinstance(error, AddressRefusedError)
        assert login.header not in evil.seen
        assert len(index.seen) == 1
