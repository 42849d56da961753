"""Reading one wheel: what is found in good ones, and that bad ones are refused."""

from __future__ import annotations

import stat
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.metadata import parse_email

from layer_builder.ground.errors import BuildError, LayerTooLargeError, UnsafeWheelError
from layer_builder.wheels import wheel
from layer_builder.wheels.pick import Pick
from tests.unit.builder.wheel_maker import Content, load, make_wheel, pick_of

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = {
    "pkg/__init__.py": "print('hello')\n" * 50,
    "pkg/data.bin": bytes(range(256)) * 40,
    "pkg/stored.txt": Content(b"as it is", method=zipfile.ZIP_STORED),
    "pkg/bz2.txt": Content(b"b" * 5000, method=zipfile.ZIP_BZIP2),
    "pkg/lzma.txt": Content(b"l" * 5000, method=zipfile.ZIP_LZMA),
    "pkg/empty": "",
    "pkg/tool.sh": Content(b"#!/bin/sh\n", mode=0o100755),
    "pkg/größe.txt": "ü",
    "pkg/nomode": Content(b"made on windows", mode=0),
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, "pkg", "1.0", FILES, requires=("idna>=2", "tomli; python_version<'3'"))


def test_members_are_where_it_says(good: Path) -> None:
    found = load(good)
    content = good.read_bytes()
    with zipfile.ZipFile(good) as archive:
        assert {member.path for member in found.members} == set(archive.namelist())
        for member in found.members:
            raw = content[member.offset : member.offset + member.compressed]
            if member.method == zipfile.ZIP_DEFLATED:
                raw = zlib.decompress(raw, -15)
            if member.method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
                assert raw == archive.read(member.path)
            assert (member.size, member.crc) == (
                len(archive.read(member.path)),
                zlib.crc32(archive.read(member.path)),
            )
    executable = {member.path for member in found.members if member.executable}
    assert executable == {"pkg/tool.sh"}


def test_it_is_verified_once_and_remembered(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pick = pick_of(good)
    first = wheel.load(pick, good)
    with monkeypatch.context() as context:
        context.setattr(wheel, "verify", lambda *_: pytest.fail("verified twice"))
        assert wheel.load(pick, good) == first
    good.write_bytes(good.read_bytes()[:-1])  # what is remembered is of another file now
    with pytest.raises(UnsafeWheelError):
        wheel.load(pick, good)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("", None),
        ("License: MIT\n", "MIT"),
        ("License: " + "long " * 50 + "\n", None),
        ("License: x\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        (
            "License: apache-2.0\nClassifier: License :: OSI Approved :: Apache Software License\n",
            "Apache-2.0",
        ),
        ("License: UNKNOWN\n", None),
        ("License-Expression: MIT OR Apache-2.0\nLicense: x\n", "MIT OR Apache-2.0"),
        ("Classifier: License :: OSI Approved\nLicense: BSD\n", "BSD"),
    ],
)
def test_the_license_is_the_most_exact_one(tmp_path: Path, metadata: str, expected: str | None) -> None:
    assert load(make_wheel(tmp_path, "pkg", metadata=metadata)).license == expected


def test_the_last_of_several_members_of_one_name_counts(tmp_path: Path) -> None:
    file = make_wheel(tmp_path, "pkg", files={"pkg.py": "first"})
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("pkg.py", "second")
    assert load(file).read("pkg.py") == b"second"
    assert [member.size for member in load(file).members if member.path == "pkg.py"] == [6]


def test_data_descriptors_and_zip64_are_read(tmp_path: Path) -> None:
    class Unseekable:
        def __init__(self, stream: object) -> None:
            self._stream = stream

        def __getattr__(self, name: str) -> object:
            if name in ("seek", "tell", "seekable"):
                raise AttributeError(name)
            return getattr(self._stream, name)

    plain = make_wheel(tmp_path / "plain", "pkg", files=FILES)
    streamed = tmp_path / plain.name
    with (
        zipfile.ZipFile(plain) as source,
        streamed.open("wb") as stream,
        zipfile.ZipFile(Unseekable(stream), "w", zipfile.ZIP_DEFLATED) as archive,  # type: ignore[arg-type]
    ):
        for name in source.namelist():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(source.read(name))
    with zipfile.ZipFile(streamed) as archive:
        assert all(info.flag_bits & 8 for info in archive.infolist())
    mine, other = load(streamed), load(plain)
    assert {(m.path, m.size, m.crc) for m in mine.members} == {(m.path, m.size, m.crc) for m in other.members}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    blocks=st.integers(0, 3),
    extra=st.integers(-300, 300),
    pattern=st.sampled_from([b"\0", b"ab", bytes(range(251))]),
    level=st.integers(1, 9),
)
def test_every_length_is_inflated_to_its_end(
    tmp_path: Path, blocks: int, extra: int, pattern: bytes, level: int
) -> None:
    length = max(0, blocks * (1 << 20) + extra)
    data = (pattern * (length // len(pattern) + 1))[:length]
    file = make_wheel(tmp_path, "pkg")
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr("long", data)
    assert load(file).members[-1].size == length


def renamed(path: str) -> Callable[[Path], Path]:
    return lambda folder: make_wheel(folder, "pkg", files={"pkg.py": "", path: "x"})


def appended(info: zipfile.ZipInfo, data: bytes = b"x") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = make_wheel(folder, "pkg")
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(info, data)
        return file

    return make


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("pkg/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def patched(find: bytes, offset: int, new: bytes, *, last: bool = True) -> Callable[[Path], Path]:
    """Change bytes at an offset from the last (directory) or first (header) place of `find`."""

    def make(folder: Path) -> Path:
        file = make_wheel(folder, "pkg", files={"pkg.py": "print('hello')\n" * 100, "zz.py": ""})
        data = bytearray(file.read_bytes())
        at = (data.rfind(find) if last else data.find(find)) + offset
        data[at : at + len(new)] = new
        file.write_bytes(data)
        return file

    return make


def cut(keep: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = make_wheel(folder, "pkg")
        file.write_bytes(file.read_bytes()[:keep])
        return file

    return make


def overlapping(folder: Path) -> Path:
    """Two members of the directory with the bytes of one, as in a zip bomb."""
    file = make_wheel(folder, "pkg", files={"aa.py": "x" * 1000, "bb.py": "x" * 1000})
    data = bytearray(file.read_bytes())
    first, second = (data.rfind(name) - 46 for name in (b"aa.py", b"bb.py"))
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    file.write_bytes(data)
    return file


# Offsets from the name, with which the directory's row (46 bytes, APPNOTE.TXT 4.3.12: 8 flags, 16 CRC-32,
# 20 and 24 lengths) and the header (30 bytes, 4.3.7: 8 method) end.
BAD = {
    "climbs": renamed("../evil.py"),
    "climbs inside": renamed("pkg/../../evil.py"),
    "absolute": renamed("/etc/evil"),
    "double slash": renamed("pkg//evil.py"),
    "dot": renamed("pkg/./evil.py"),
    "backslash": renamed("..\\evil.py"),
    "drive": renamed("C:/evil.py"),
    "newline": renamed("pkg/a\nb.py"),
    "link": appended(link(), b"/etc/passwd"),
    "encrypted": patched(b"pkg.py", -46 + 8, b"\x01"),
    "wrong checksum": patched(b"pkg.py", -46 + 16, b"\0\0\0\0"),
    "longer than it says": patched(b"pkg.py", -46 + 24, struct.pack("<L", 10)),
    "shorter than it says": patched(b"pkg.py", -46 + 24, struct.pack("<L", 100_000)),
    "fewer compressed bytes": patched(b"pkg.py", -46 + 20, struct.pack("<L", 5)),
    "header of another name": patched(b"pkg.py", 0, b"xyz.py", last=False),
    "header of another method": patched(b"pkg.py", -30 + 8, b"\0\0", last=False),
    "unknown method": patched(b"pkg.py", -46 + 10, struct.pack("<H", 77)),
    "overlapping members": overlapping,
    "truncated": cut(200),
    "no zip": cut(3),
    "empty": cut(0),
    "no METADATA": lambda folder: make_wheel(folder, "pkg", replaced={"METADATA": None}),
    "no WHEEL": lambda folder: make_wheel(folder, "pkg", replaced={"WHEEL": None}),
    "no RECORD": lambda folder: make_wheel(folder, "pkg", replaced={"RECORD": None}),
    "binary RECORD": lambda folder: make_wheel(folder, "pkg", replaced={"RECORD": b"\xff\xfe\0"}),
    "format of the future": lambda folder: make_wheel(
        folder, "pkg", replaced={"WHEEL": "Wheel-Version: 2.0\n"}
    ),
    "METADATA of another": lambda folder: make_wheel(
        folder, "pkg", replaced={"METADATA": "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n"}
    ),
    "METADATA of another version": lambda folder: make_wheel(
        folder, "pkg", replaced={"METADATA": "Metadata-Version: 2.1\nName: pkg\nVersion: 2.0\n"}
    ),
    "two dist-info folders": lambda folder: make_wheel(
        folder, "pkg", files={"evil-1.0.dist-info/METADATA": ""}
    ),
    "entry point is a path": lambda folder: make_wheel(
        folder, "pkg", entry_points="[console_scripts]\n../evil = pkg:main\n"
    ),
    "entry point is code": lambda folder: make_wheel(
        folder, "pkg", entry_points="[console_scripts]\nevil = pkg:main(); import os #\n"
    ),
    "entry points unreadable": lambda folder: make_wheel(folder, "pkg", entry_points="no section"),
}


@pytest.mark.attack("package: a wheel that lies or leads out")
@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
def test_an_unsafe_wheel_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    file = make(tmp_path)
    with pytest.raises(UnsafeWheelError) as caught:
        load(file)
    assert caught.value.code == "UNSAFE_WHEEL"
    assert file.name in caught.value.message
    assert caught.value.exit_status == 2


@pytest.mark.attack("package: the metadata of another package")
def test_a_dist_info_of_another_package_is_refused(tmp_path: Path) -> None:
    file = make_wheel(tmp_path, "evil")
    other = file.rename(tmp_path / "good-1.0-py3-none-any.whl")
    with pytest.raises(UnsafeWheelError, match="another package"):
        load(other)


@pytest.mark.attack("package: a zip bomb")
def test_a_bomb_is_refused_before_it_is_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = patched(b"pkg.py", -46 + 24, struct.pack("<L", 300_000_000))(tmp_path)
    monkeypatch.setattr(zlib, "decompressobj", lambda *_: pytest.fail("inflated"))
    with pytest.raises(LayerTooLargeError) as caught:
        load(file)
    assert caught.value.details["unzipped_bytes"] > 300_000_000


@pytest.mark.attack("index: a wheel with some bytes changed")
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_goes_unseen(good: Path, data: st.DataObject) -> None:
    """Whatever byte is changed: the wheel is refused, or what is read from it is what pip would read."""
    original = good.read_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    changed = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[at]))
    damaged = good.parent / "damaged" / good.name
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(original[:at] + bytes([changed]) + original[at + 1 :])
    try:
        found = load(damaged)
    except BuildError as error:
        assert error.code in ("UNSAFE_WHEEL", "LAYER_TOO_LARGE")
        return
    with zipfile.ZipFile(damaged) as archive:
        assert archive.testzip() is None
        for member in found.members:
            assert zlib.crc32(archive.read(member.path)) == member.crc


def test_no_descriptor_is_left_open(good: Path) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for make in (BAD["truncated"], BAD["wrong checksum"]):
        with pytest.raises(UnsafeWheelError):
            load(make(good.parent / "bad"))
    load(good).read("pkg/empty")
    assert len(list(descriptors.iterdir())) == before


_PICK = Pick("pkg", "1.0", "pkg-1.0-py3-none-any.whl", "", "0" * 64)
_READ = ("name", "version", "license", "license_expression", "classifiers", "requires_dist")


def _said(content: bytes) -> dict[str, object]:
    raw = parse_email(content)[0]
    return {name: raw.get(name) for name in _READ}


def test_the_fields_of_installed_packages_are_read_as_they_stand() -> None:
    found = [
        file.read_bytes()
        for place in {Path(place) for place in sys.path if place.endswith("site-packages")}
        for file in place.glob("*.dist-info/METADATA")
    ]
    assert len(found) > 50
    for content in found:
        assert _said(wheel._fields(_PICK, content)) == _said(content)


_LINES = st.sampled_from(
    [
        *(b"Name: pkg", b"name : x", b"NAME:y", b"Version: 1.0", b"License: MIT", b"License: \xff", b" more"),
        *(b"\tmore", b" ", b"", b"Summary: x", b"Requires-Dist: a", b"Requires-Dist: b; os_name == 'x'"),
        *(
            b"From me",
            b"no field",
            b":",
            b"Content-Type: text/plain",
            b"Classifier: License :: x",
            b"\xff: x",
        ),
        *(b"License-Expression: MIT", b"\x0cName: z", b"Name:", b"N ame: x", b"Metadata-Version: 2.1"),
    ]
)


@given(st.lists(_LINES, max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_fields_are_read_as_python_reads_them(lines: list[bytes], end: bytes) -> None:
    content = end.join([b"Metadata-Version: 2.1", *lines])
    assert _said(wheel._fields(_PICK, content)) == _said(content)
