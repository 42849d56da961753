"""Locks: what is written is read again, by others too; what comes in is not trusted."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from packaging.pylock import Pylock

from layer_builder.ground.errors import (
    BuildError,
    HashMismatchError,
    NoWheelError,
    RequirementsError,
    ResolutionError,
)
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.requirements import parser
from layer_builder.resolution import lock
from layer_builder.resolution.resolve import resolve
from layer_builder.wheels.fetch import fetch
from layer_builder.wheels.pick import Pick
from tests.unit.builder.wheel_maker import Index, make_wheel, pick_of

if TYPE_CHECKING:
    from pathlib import Path

    from layer_builder.ground.settings import Settings

TARGET = Target.of("python3.13", "arm64")
WHEEL = "app-1.0-py3-none-any.whl"
GOOD = f"""\
lock-version = "1.0"
created-by = "someone"
[[packages]]
name = "app"
version = "1.0"
wheels = [{{ url = "https://example.invalid/{WHEEL}", hashes = {{ sha256 = "{"a" * 64}" }} }}]
"""

picks = st.builds(
    Pick,
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(lambda name: "--" not in name),
    st.from_regex(r"[1-9][0-9]?(\.[0-9])?(\+cu[1-9])?", fullmatch=True),
    st.just(""),
    st.just("https://example.invalid/files/x.whl"),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    st.none() | st.integers(1, 1 << 40),
)


def named(pick: Pick) -> Pick:
    from dataclasses import replace

    return replace(pick, filename=f"{pick.name.replace('-', '_')}-{pick.version}-py3-none-any.whl")


@hypothesis_settings(deadline=None)
@given(st.lists(picks.map(named), min_size=1, max_size=5, unique_by=lambda pick: pick.name))
def test_what_is_written_is_read_again(given_picks: list[Pick]) -> None:
    wanted = parser.parse("app[extra]>=1; python_version > '3.11'\ndep")
    for runtime in RUNTIMES.values():
        for architecture in ("arm64", "x86_64"):
            target = Target(runtime, architecture)
            text = lock.text(wanted, given_picks, target)
            Pylock.from_dict(tomllib.loads(text)).validate()
            read = lock.read(text.encode(), target)
            assert list(read.picks) == sorted(given_picks, key=lambda pick: pick.name)
            assert read.requirements.texts == wanted.texts
            other = Target(runtime, "x86_64" if architecture == "arm64" else "arm64")
            with pytest.raises(NoWheelError, match="is not for"):
                lock.read(text.encode(), other)
    assert lock.text(wanted, given_picks[::-1], target) == text


@pytest.mark.attack("uploader: a lock whose remarks make a report that is too long to be read")
def test_remarks_that_are_too_long_are_none() -> None:
    for length, said in ((1 << 10, 1), (1 << 20, 0)):
        remarks = json.dumps({"warnings": ["w " * (length // 2)], "left_out": []})
        text = f"{GOOD}[tool.layerdrop]\nremarks = '{remarks}'\n"
        assert len(lock.read(text.encode(), TARGET).remarks.warnings) == said


def test_a_list_of_no_environments_is_none() -> None:
    """As pipenv writes it."""
    text = GOOD.replace("created-by", "environments = []\ncreated-by")
    assert lock.read(text.encode(), TARGET).picks


def test_a_byte_order_mark_is_no_part_of_a_lock() -> None:
    assert lock.read(b"\xef\xbb\xbf# text\r\n" + GOOD.encode(), TARGET).picks


@pytest.mark.parametrize(
    "url",
    ["https://user:secret@host/x.whl", "https://host/x.whl?token=secret", "https://host/x.whl#secret",
     "https://secret@host:80/x.whl"],
)  # fmt: skip
def test_no_credentials_are_written(url: str) -> None:
    pick = Pick("app", "1.0", WHEEL, url, "a" * 64)
    text = lock.text(parser.parse("app"), [pick], TARGET)
    assert "secret" not in text
    assert "//host" in text


@pytest.mark.parametrize(
    "name",
    ["pylock.toml", "x/pylock.toml", "s3://b/k/pylock.web.toml", "s3://b/k/web-pylock.toml", "x.pylock.toml"],
)
def test_a_lock_is_told_by_its_name(name: str) -> None:
    assert lock.is_lock(name)
    assert not lock.is_lock(name + ".txt")
    assert not lock.is_lock("pylock.toml/requirements.txt")


def test_a_lock_of_another_tool_for_many_platforms_is_taken(index: Index, settings: Settings) -> None:
    best = make_wheel(index.folder, "num", tag="cp313-cp313-manylinux_2_28_aarch64")
    others = [
        make_wheel(index.folder, "num", tag=tag)
        for tag in (
            "cp313-cp313-manylinux_2_28_x86_64",
            "cp313-cp313-win_amd64",
            "cp312-cp312-manylinux_2_17_aarch64",
        )
    ]
    files = ", ".join(
        f'{{ name = "{file.name}", path = "{file.name}", hashes = {{ sha256 = "{pick_of(file).sha256}" }} }}'
        for file in [*others, best]
    )
    text = f"""
lock-version = "1.0"
created-by = "another"
packages = [
    {{ name = "num", version = "1.0", wheels = [{files}] }},
    {{ name = "win", version = "1.0", marker = "sys_platform == 'win32'", directory = {{ path = "." }} }},
]"""
    read = lock.read(text.encode(), TARGET)
    assert [pick.filename for pick in read.picks] == [best.name]
    assert read.requirements.texts == ["num==1.0"]
    found = lock.located(read.picks, settings)
    assert [wheel.pick.sha256 for wheel in fetch(found, settings)] == [pick_of(best).sha256]


def test_the_locks_own_addresses_are_never_asked(index: Index, settings: Settings, tmp_path: Path) -> None:
    file = make_wheel(index.folder, "app")
    (tmp_path / "other").mkdir()
    with Index(tmp_path / "other") as evil:
        text = GOOD.replace("https://example.invalid", evil.url).replace("a" * 64, pick_of(file).sha256)
        read = lock.read(text.encode(), TARGET)
        fetch(lock.located(read.picks, settings), settings)
        assert not evil.requested
    before = len(index.requested)
    assert lock.located(read.picks, settings) == list(read.picks)
    assert len(index.requested) == before


@pytest.mark.parametrize("html", [False, True])
def test_a_file_that_the_index_has_not_or_has_otherwise_is_an_error(
    index: Index, settings: Settings, html: bool
) -> None:
    index.html = html
    read = lock.read(GOOD.encode(), TARGET)
    make_wheel(index.folder, "app", "2.0")
    with pytest.raises(ResolutionError, match=r"has no file app-1\.0"):
        lock.located(read.picks, settings)
    make_wheel(index.folder, "app", "1.0")
    with pytest.raises(HashMismatchError, match="another file"):
        lock.located(read.picks, settings)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('"1.0"\ncreated', '"2.0"\ncreated', RequirementsError),
        ('created-by = "someone"', "", RequirementsError),
        ("[[packages]]", "[[packages", RequirementsError),
        ('name = "app"', 'name = "App"', RequirementsError),
        ('name = "app"', 'name = "other"', RequirementsError),
        ('version = "1.0"\nwheels', 'version = "2.0"\nwheels', RequirementsError),
        ('version = "1.0"\nwheels', "wheels", RequirementsError),
        ("a" * 64, "../../x", RequirementsError),
        ("a" * 64, "A" * 64, RequirementsError),
        ("sha256", "md5", RequirementsError),
        ("{ url", '{ name = "../app-1.0-py3-none-any.whl", url', RequirementsError),
        ("{ url", '{ name = "app-1.0-py3-none-any/../x.whl", url', BuildError),
        ("{ url", '{ name = "app-1.0-py3-none-any\\u0000.whl", url', BuildError),
        ("{ url", '{ name = "app-1.0.whl", url', RequirementsError),
        ("py3-none-any", "cp312-cp312-win_amd64", NoWheelError),
        ("[[packages]]", "requires-python = '<3.13'\n[[packages]]", NoWheelError),
        ("[[packages]]", 'environments = ["sys_platform == \'win32\'"]\n[[packages]]', NoWheelError),
        ('version = "1.0"\nwheels', 'version = "1.0"\nrequires-python = ">=3.99"\nwheels', NoWheelError),
        ('name = "app"', 'name = "app"\nmarker = "os_name == \'nt\'"', RequirementsError),
        ("[[packages]]", "[tool.layerdrop]\nrequirements = [1]\n[[packages]]", RequirementsError),
        ("[[packages]]", "[tool.layerdrop]\nrequirements = ['-r x']\n[[packages]]", RequirementsError),
        ("[[packages]]", "x = " + "[" * 5000 + "\n[[packages]]", RequirementsError),
        ("wheels", 'vcs = { type = "git", url = "https://x", commit-id = "a" }\nx', RequirementsError),
        ("wheels", 'archive = { url = "https://x", hashes = { sha256 = "a" } }\nx', RequirementsError),
        ("wheels", 'directory = { path = "/etc" }\nx', RequirementsError),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused(old: str, new: str, error: type[BuildError]) -> None:
    assert old in GOOD
    with pytest.raises(error) as caught:
        lock.read(GOOD.replace(old, new, 1).encode(), TARGET)
    assert caught.value.exit_status == 2
    assert caught.value.hint


def test_two_versions_of_a_package_are_refused() -> None:
    entry = GOOD.partition("[[packages]]")[2]
    with pytest.raises(RequirementsError, match="two versions of app"):
        lock.read(f"{GOOD}[[packages]]{entry}".encode(), TARGET)


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(GOOD.encode() + b"\0")
@example(b"\xff")
@example(b"packages = " + b"[" * 100_000)
def test_whatever_comes_in_is_taken_or_refused(content: bytes) -> None:
    with pytest.raises(RequirementsError):
        lock.read(content, TARGET)


def test_too_large_a_lock_is_refused() -> None:
    with pytest.raises(RequirementsError, match="larger"):
        lock.read(b"#" * (lock.MAX_BYTES + 1), TARGET)


def test_a_resolution_is_locked_and_comes_back(index: Index, settings: Settings) -> None:
    make_wheel(index.folder, "app", requires=("dep",))
    make_wheel(index.folder, "dep")
    wanted = parser.parse("app>=1")
    chosen = resolve(wanted, TARGET, settings).picks
    read = lock.read(lock.text(wanted, chosen, TARGET).encode(), TARGET)
    assert (read.picks, read.requirements.texts) == (chosen, ["app>=1"])
