"""Zip-slip: a wheel has names that lead out of the layer, or that nobody can unpack."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from layer_builder.ground.errors import UnsafeWheelError
from layer_builder.ground.target import Target
from layer_builder.layer import archive
from layer_builder.layer.archive import Plan
from layer_builder.layer.layout import Entry
from layer_builder.wheels import paths, wheel
from tests.unit.builder.wheel_maker import load, make_wheel, pick_of

if TYPE_CHECKING:
    from tests.security.builder.conftest import Build
    from tests.unit.builder.wheel_maker import Index

TARGET = Target.of("python3.13", "arm64")
EVIL = "../../../../../extensions/evil"
PLAIN = "pkg/harmless.py"


def unicode_path(name: bytes, header: str = PLAIN, *, version: int = 1) -> bytes:
    """Write the extra field (APPNOTE.TXT 4.6.9) whose name counts in place of the header's."""
    content = struct.pack("<BL", version, zlib.crc32(header.encode())) + name
    return struct.pack("<2H", 0x7075, len(content)) + content


def with_extra(folder: Path, *, directory: bytes = b"", header: bytes = b"", name: str = "pkg") -> Path:
    """Write a wheel one member of which has extra fields in the directory, or in its own header."""
    file = make_wheel(folder, name)
    if header and not directory:
        placeholder = bytes([0x99, 0x99]) + struct.pack("<H", len(header) - 4) + b"x" * (len(header) - 4)
    with zipfile.ZipFile(file, "a") as zipped:
        info = zipfile.ZipInfo(PLAIN)
        info.external_attr = 0o100755 << 16
        info.extra = directory or placeholder
        zipped.writestr(info, b"#!/bin/sh\nid\n")
    data = file.read_bytes()
    if not directory:
        data = data.replace(placeholder, header, 1)
        assert data.count(header) == 1
    elif not header:
        harmless = bytes([0x99, 0x99]) + directory[2:]
        data = data.replace(directory, harmless, 1)
    file.write_bytes(data)
    return file


EXTRAS = {
    "in the directory": {"directory": unicode_path(EVIL.encode())},
    "in the header alone": {"header": unicode_path(EVIL.encode())},
    "in both": {"directory": unicode_path(EVIL.encode()), "header": unicode_path(EVIL.encode())},
    "behind the right one": {"directory": unicode_path(PLAIN.encode()) + unicode_path(EVIL.encode())},
    "before the right one": {"directory": unicode_path(EVIL.encode()) + unicode_path(PLAIN.encode())},
    "behind another field": {"directory": struct.pack("<2HL", 0x9999, 4, 7) + unicode_path(EVIL.encode())},
    "a harmless path": {"directory": unicode_path(b"pkg/other.py")},
    "with a checksum of another name": {"directory": unicode_path(EVIL.encode(), "other")},
    "of a version to come": {"directory": unicode_path(EVIL.encode(), version=2)},
    "with nothing in it": {"directory": unicode_path(b"")},
    "no UTF-8": {"directory": unicode_path(b"pkg/\xff.py")},
    "an absolute path": {"directory": unicode_path(b"/opt/extensions/evil")},
    "a folder": {"directory": unicode_path(b"pkg/harmless.py/")},
    "cut off in the header": {"header": unicode_path(EVIL.encode())[:-4] + b"\1\0\xff\xff"},
}


@pytest.mark.attack("a wheel gives a member a second name, in a zip field that some readers prefer")
@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS)
def test_a_second_name_in_an_extra_field(tmp_path: Path, extras: dict[str, bytes]) -> None:
    file = with_extra(tmp_path, **extras)
    with pytest.raises(UnsafeWheelError) as caught:
        load(file)
    assert caught.value.exit_status == 2


def test_a_second_name_that_is_the_first_is_taken(tmp_path: Path) -> None:
    field = unicode_path(PLAIN.encode())
    assert PLAIN in {
        member.path for member in load(with_extra(tmp_path, directory=field, header=field)).members
    }


@pytest.mark.attack("an executable goes to /opt/extensions by a second name, where Lambda starts it")
def test_nothing_climbs_out_of_a_layer(index: Index, build: Build) -> None:
    with_extra(index.folder, directory=unicode_path(EVIL.encode()), name="evil")
    answer = build("-r", "evil")
    assert (answer.status, answer.code) == (2, "UNSAFE_WHEEL")
    assert "another name" in answer.message


@pytest.mark.attack("a wheel that an older builder took, with a second name, lies in the cache as verified")
def test_what_was_verified_by_older_rules_is_verified_again(tmp_path: Path) -> None:
    file = with_extra(tmp_path, directory=unicode_path(EVIL.encode()))
    good = load(make_wheel(tmp_path / "good", "pkg"))
    verified = json.dumps(wheel._to_json(replace(good, file=file)))
    for older in (1, 2):  # those of builders that looked at one name only
        file.with_name(f"contents-{older}.json").write_text(verified)
    with pytest.raises(UnsafeWheelError):
        wheel.load(pick_of(file), file)


LONG = {
    "a name of 256 bytes": "pkg/" + "a" * 256,
    "a name of 256 bytes in fewer characters": "pkg/" + "ü" * 128,
    "a folder of 256 bytes": "a" * 256 + "/x.py",
    "a path of 1,025 bytes": "/".join(["a" * 200] * 5) + "/" + "b" * 21,
    "a thousand folders": "a/" * 1000 + "x",
}


@pytest.mark.attack("a wheel has a file of a name so long that Lambda, or we, could not unpack it")
@pytest.mark.parametrize("path", LONG.values(), ids=LONG)
def test_names_that_no_file_can_have(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnsafeWheelError, match=r"bytes"):
        load(make_wheel(tmp_path, "pkg", files={"pkg.py": "", path: ""}))


@pytest.mark.parametrize(
    "path",
    ["pkg/" + "a" * 255, "pkg/" + "ü" * 127, "/".join(["a" * 200] * 5) + "/" + "b" * 19, "a/" * 500 + "x"],
)
def test_names_that_are_just_short_enough(tmp_path: Path, path: str) -> None:
    found = load(make_wheel(tmp_path, "pkg", files={"pkg.py": "", path: "there"}))
    with (tmp_path / "layer.zip").open("wb") as stream:
        archive.write(archive.plan([found], TARGET), stream)
    with zipfile.ZipFile(tmp_path / "layer.zip") as layer:
        layer.extractall(tmp_path / "opt")
    assert (tmp_path / "opt" / TARGET.site_packages / path).read_text() == "there"


@pytest.mark.attack(
    "a wheel has hundreds of folders in each other, so that a layer cannot be unpacked or removed"
)
def test_deep_folders_are_imported_from_and_removed(index: Index, build: Build) -> None:
    make_wheel(index.folder, "deep", files={"deep.py": "", "a/" * 500 + "x": "there"})
    answer = build("-r", "deep", "--architecture", "x86_64", "--runtime", "python3.11")
    assert (answer.status, answer.code) == (0, None), answer.stderr
    assert answer.report["checks"]["imports"]["status"] == "passed", answer.report["checks"]["imports"]


def layer_with(path: str, file: Path) -> bytes:
    """Write a layer with a file at a path, past everything that looks at a wheel."""
    found = load(file)
    stream = io.BytesIO()
    archive.write(Plan((Entry(path, True, found, made=b"there"),), (), {"pkg": 5}), stream)
    return stream.getvalue()


@pytest.mark.attack("a path outside python/, bin/ and lib/ comes to the writer past every check of the wheel")
@pytest.mark.parametrize(
    "path",
    [
        "extensions/evil", "python/../extensions/evil", "../evil", "/opt/extensions/evil", "python",
        "python/", "python//evil", "python/./evil", "./python/evil", "python/evil/", "python/evil/..",
        "pythonevil/x", "PYTHON/evil", "python\\..\\evil", "python/a\0b", "python/a\nb",
        "python/\x1b]52;c;x\x07", "",
        "bin/" + "a" * 256, "lib/\udcff", "python/" + "a/" * 2000 + "x",
    ],
)  # fmt: skip
def test_the_writer_keeps_to_the_folders_of_a_layer(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnsafeWheelError):
        layer_with(path, make_wheel(tmp_path, "pkg"))


parts = st.sampled_from(["python", "bin", "lib", "..", ".", "", "a", "\\", "ü", "\0", "C:", "a b"]) | st.text(
    max_size=3
)


@hypothesis_settings(deadline=None)
@given(st.lists(parts, min_size=1, max_size=5).map("/".join) | st.text(max_size=20))
@example("python/a")
@example("lib/..a")
def test_whatever_is_written_is_unpacked_where_it_says(path: str) -> None:
    """By another reader, which makes paths harmless in its own way."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            content = layer_with(path, make_wheel(Path(folder), "pkg"))
        except UnsafeWheelError:
            return
        with zipfile.ZipFile(io.BytesIO(content)) as layer:
            layer.extractall(Path(folder, "opt"))
        unpacked = [file for file in Path(folder, "opt").rglob("*") if file.is_file()]
        assert unpacked == [Path(folder, "opt", path)]
        assert path.split("/")[0] in ("python", "bin", "lib")
        assert paths.layer_fault(path) is None
