"""Several indexes, private ones, and what a requirements file may add, on loopback."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from layer_builder.ground.errors import IndexDeniedError, RequirementsError, ResolutionError
from layer_builder.ground.login import Login
from layer_builder.ground.target import Target
from layer_builder.requirements import parser
from layer_builder.requirements.origins import origin_of
from layer_builder.resolution import lock, sdist, uv
from layer_builder.resolution.resolve import resolve
from layer_builder.wheels.fetch import fetch
from tests.unit.builder.confined import let_write
from tests.unit.builder.test_sdist import here, make_source
from tests.unit.builder.wheel_maker import Index, make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from layer_builder.ground.settings import Settings
    from layer_builder.wheels.pick import Pick

__all__ = ["here"]
TARGET = Target.of("python3.13", "x86_64")
OLD = Target.of("python3.11", "x86_64")
PASSWORD = "hunter2-is-secret"


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Index]:
    """A second index, which wants a password."""
    folder = tmp_path / "private"
    folder.mkdir()
    with Index(folder, login=f"team:{PASSWORD}") as one:
        yield one


@pytest.fixture
def both(settings: Settings, private: Index) -> Settings:
    """The private index before the other one."""
    login = (origin_of(private.url), Login("team", PASSWORD))
    return replace(settings, extra_index_urls=(private.url,), logins=(login,))


def built(text: str, settings: Settings, *constraints: str, target: Target = TARGET) -> dict[str, Pick]:
    wanted = parser.parse(text, settings.allowed, constraints)
    picks = resolve(wanted, target, settings).picks
    assert [wheel.pick for wheel in fetch(picks, settings, wanted.origins)] == list(picks)
    return {pick.name: pick for pick in picks}


@pytest.mark.parametrize("html", [False, True])
def test_a_private_index_serves_what_the_other_has_not(
    index: Index, private: Index, both: Settings, html: bool
) -> None:
    private.html = html
    make_wheel(index.folder, "public")
    make_wheel(private.folder, "ours", requires=("public",))
    picks = built("ours", both)
    assert picks["ours"].url.startswith(private.url.removesuffix("/simple"))
    assert picks["public"].url.startswith(index.url.removesuffix("/simple"))
    assert set(index.seen) == {None}, "the password went to another index"


@pytest.mark.attack("stranger: uploads a private package's name to the public index")
def test_a_newer_version_elsewhere_changes_nothing(index: Index, private: Index, both: Settings) -> None:
    """Dependency confusion: somebody uploads the private package's name to the public index."""
    make_wheel(index.folder, "ours", "99.0")
    make_wheel(private.folder, "ours", "1.0")
    assert built("ours", both)["ours"].version == "1.0"
    with pytest.raises(ResolutionError):
        built("ours>=2", both)
    assert not [path for path in index.requested if "ours" in path]


def test_an_earlier_index_that_refuses_is_not_passed_over(
    index: Index, private: Index, both: Settings
) -> None:
    make_wheel(index.folder, "ours")
    private.login = "team:changed"
    with pytest.raises(IndexDeniedError, match="401") as caught:
        built("ours", both)
    assert caught.value.exit_status == 2
    assert PASSWORD not in str(vars(caught.value))


@pytest.mark.parametrize("status", [401, 403])
def test_one_that_wants_credentials_says_so_where_there_are_none(
    index: Index, settings: Settings, status: int
) -> None:
    make_wheel(index.folder, "ours")
    index.status = lambda _: status
    with pytest.raises(IndexDeniedError) as caught:
        built("ours", settings)
    assert caught.value.exit_status == 2


def test_a_page_that_fails_is_no_reason_to_take_an_older_version(
    index: Index, private: Index, both: Settings
) -> None:
    make_wheel(private.folder, "app", "1.0")
    make_wheel(private.folder, "app", "2.0", requires=("dep",))
    private.status = lambda path: 403 if "dep" in path else 200
    with pytest.raises(IndexDeniedError):
        built("app", both)


def test_amazon_linux_2_asks_the_private_index_too(private: Index, both: Settings) -> None:
    for version, glibc in (("1.0", 17), ("2.0", 28)):
        make_wheel(private.folder, "num", version, tag=f"cp311-cp311-manylinux_2_{glibc}_x86_64")
    assert built("num", both, target=OLD)["num"].version == "1.0"


def test_credentials_are_in_nothing_that_is_written(
    private: Index, both: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(private.folder, "ours")
    seen: list[str] = []
    run = uv._run

    def looking(command: list[str], lines: list[str], environment: dict[str, str]) -> object:
        seen.append(json.dumps([command, lines, dict(environment)]))
        return run(command, lines, environment)

    monkeypatch.setattr(uv, "_run", looking)
    wanted = parser.parse("ours")
    picks = resolve(wanted, TARGET, both).picks
    fetch(picks, both)
    told = [*seen, lock.text(wanted, picks, TARGET), repr(both), repr(picks)]
    encoded = Login("team", PASSWORD).header.removeprefix("Basic ")
    assert not [text for text in told if PASSWORD in text or encoded in text]
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes()


def test_uv_explains_in_words_that_name_no_relay(private: Index, both: Settings) -> None:
    make_wheel(private.folder, "ours")
    with pytest.raises(ResolutionError) as caught:
        built("ours==7", both)
    assert "127.0.0.1" not in str(vars(caught.value))


@pytest.mark.attack("package: looks for the index's password while it is built")
def test_a_build_gets_what_it_needs_from_the_private_index_and_no_password(
    private: Index,
    both: Settings,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_write(monkeypatch, tmp_path / "notes")
    target = request.getfixturevalue("here")
    make_wheel(private.folder, "tool")
    make_wheel(private.folder, "dep")
    make_source(private.folder, tmp_path / "notes/builds")
    picks = resolve(parser.parse("src"), target, both, ["src"]).picks
    assert len(sdist.as_wheels(picks, target, both)) == 2
    notes = (tmp_path / "notes/builds").read_text()
    assert notes
    assert PASSWORD not in notes
    assert Login("team", PASSWORD).header not in notes
    assert 'proxy"' not in notes.lower().replace("no_proxy", "")


# ---------------------------------------------------------------- what a file may say


def test_an_index_that_is_allowed_is_asked(index: Index, private: Index, settings: Settings) -> None:
    make_wheel(index.folder, "public")
    make_wheel(private.folder, "ours")
    private.login = ""
    allowed = replace(settings, allowed_indexes=(private.url,))
    text = f"--extra-index-url {private.url}\nours\npublic\n"
    assert built(text, allowed).keys() == {"ours", "public"}
    assert built(f"--index-url={private.url}/\nours", allowed).keys() == {"ours"}
    with pytest.raises(ResolutionError):
        built(f"-i {private.url}\npublic", allowed)
    with pytest.raises(RequirementsError, match=r"Line 1 .*not"):
        built(text, settings)
    with pytest.raises(RequirementsError, match="does not allow"):
        built(text, replace(settings, allowed_indexes=("https://example.com/",)))


def test_links_of_a_page_that_is_allowed_are_taken(index: Index, private: Index, settings: Settings) -> None:
    make_wheel(private.folder, "ours", "1.0")
    make_wheel(index.folder, "ours", "2.0")
    private.login = ""
    page = private.url.replace("/simple", "/links/")
    allowed = replace(settings, allowed_indexes=(page,))
    assert built(f"--find-links {page}\nours", allowed)["ours"].version == "1.0"


def test_a_wheel_by_its_address_is_taken_with_its_hash(
    index: Index, private: Index, settings: Settings
) -> None:
    file = make_wheel(private.folder, "ours", "1.0", requires=("dep",))
    make_wheel(index.folder, "ours", "2.0")
    make_wheel(index.folder, "dep")
    private.login = ""
    place = private.url.replace("/simple", f"/files/{file.name}")
    allowed = replace(settings, allowed_indexes=(private.url.replace("/simple", "/files"),))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    text = f"ours @ {place}#sha256={digest}"
    picks = built(text, allowed)
    assert picks["ours"].url == place
    assert (picks["ours"].version, picks["dep"].version) == ("1.0", "1.0")
    wanted = parser.parse(text, allowed.allowed)
    written = lock.text(wanted, tuple(picks.values()), TARGET)
    again = lock.read(written.encode(), TARGET, allowed=allowed.allowed)
    elsewhere = replace(allowed, cache=allowed.cache / "empty")
    located = lock.located(again.picks, elsewhere, again.requirements.origins)
    assert {pick.name: pick.sha256 for pick in located} == {pick.name: pick.sha256 for pick in picks.values()}
    with pytest.raises(RequirementsError, match="not"):
        lock.read(written.encode(), TARGET)
    dep = hashlib.sha256((index.folder / "dep-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    assert not wanted.hashes_required
    assert built(f"{text}\ndep --hash=sha256:{dep}", allowed).keys() == {"ours", "dep"}
    for bad, reason in (
        (f"ours @ {place}", "sha256"),
        (f"other @ {place}#sha256={digest}", "wheel of ours"),
        (f"ours @ {place}?x#sha256={digest}", "query"),
        (f"ours @ {place.replace('.whl', '.tar.gz')}#sha256={digest}", "not that of a wheel"),
    ):
        with pytest.raises(RequirementsError, match=reason):
            parser.parse(bad, allowed.allowed)


ALLOWED = ("https://packages.example.com/team/",)


@pytest.mark.attack("uploader: an address that only looks allowed")
@pytest.mark.parametrize(
    "url",
    [
        "https://packages.example.com.evil/team/",
        "https://packages.example.com@evil/team/",
        "https://user:hunter2@packages.example.com/team/",
        "http://packages.example.com/team/",
        "https://packages.example.com:8443/team/",
        "https://packages.example.com/teammate/",
        "https://packages.example.com/team/../other/",
        "https://packages.example.com/team/%2e%2e/other/",
        "https://packages.example.com/team/..%2fother/",
        "https://packages.example.com/team\\..\\other/",
        "https://packages.example.com/team/?x=1",
        "https://packages.example.com/team/#x",
        "https://packages.example.com/team/${HOME}",
        "https://[::1/team/",
        "file:///etc",
        "/etc",
    ],
)
def test_what_only_looks_like_an_allowed_address_is_refused(url: str) -> None:
    for option in ("--index-url", "--extra-index-url", "--find-links"):
        with pytest.raises(RequirementsError) as caught:
            parser.parse(f"six\n{option} {url}", ALLOWED)
        assert caught.value.details["line"] == 2
        assert "hunter2" not in str(vars(caught.value))


@pytest.mark.parametrize(
    "url", ["https://packages.example.com/team", "https://PACKAGES.example.com:443/team/a/simple/"]
)
def test_what_lies_below_an_allowed_address_is_taken(url: str) -> None:
    wanted = parser.parse(f"-i {url}\n-f{url}\nsix", ALLOWED)
    assert (wanted.origins.index_url, wanted.origins.find_links) == (url, (url,))
    assert parser.parse("\n".join(wanted.asked), ALLOWED).origins == wanted.origins


# ---------------------------------------------------------------- constraints


def test_constraints_bound_what_is_needed_and_ask_for_nothing(index: Index, settings: Settings) -> None:
    make_wheel(index.folder, "app", requires=("dep",))
    for version in ("1.0", "2.0"):
        make_wheel(index.folder, "dep", version)
    make_wheel(index.folder, "other")
    picks = built("app", settings, "dep<2", "other==1.0", "app==9; python_version < '3'")
    assert {name: pick.version for name, pick in picks.items()} == {"app": "1.0", "dep": "1.0"}
    with pytest.raises(ResolutionError):
        built("app", settings, "dep>2")


@pytest.mark.attack("uploader: a constraint that is more than one")
@pytest.mark.parametrize(
    "text", ["", "-r x", "a @ https://e.com/a.whl", "a[b]", "--no-binary a", "a\nb", "a b", "a # c", "./a"]
)
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(RequirementsError, match="constraint"):
        parser.parse("six", (), [text])
