"""Small wheels that cost much: time, memory, or a report that nobody can read."""

from __future__ import annotations

import time
import zipfile
from typing import TYPE_CHECKING

import pytest

from layer_builder.ground.errors import WheelTooComplexError
from layer_builder.wheels import elf, wheel
from tests.security.builder.elf_maker import Elf, library_versions, versions_of_one
from tests.unit.builder.wheel_maker import make_wheel, pick_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.security.builder.conftest import Answer, Build
    from tests.unit.builder.wheel_maker import Index

MEGABYTE = 1_000_000
PEAK = 300 * MEGABYTE
TAG = "cp313-cp313-manylinux_2_17_aarch64"


def judged(answer: Answer, code: str = "WHEEL_TOO_COMPLEX") -> None:
    """What is refused costs little, says why, and in few words."""
    assert (answer.status, answer.code) == (2, code), answer.stderr
    assert answer.report["error"]["hint"]
    assert len(answer.message) < 2_500
    assert len(answer.stderr) < 20_000
    assert len(str(answer.report)) < 200_000
    assert answer.peak < PEAK, f"{answer.peak:,} bytes"


def native(index: Index, name: str, *files: bytes, **named: bytes) -> None:
    every = {f"{name}/_{number}.so": content for number, content in enumerate(files)} | {
        f"{name}/{key}.so": content for key, content in named.items()
    }
    make_wheel(index.folder, name, files={f"{name}/__init__.py": "", **every}, tag=TAG)


LONG = "l" * 65_000 + ".so"


SMALL: dict[str, Callable[[], list[bytes]]] = {
    "one string of 65 kB needed 4,095 times": lambda: [Elf([LONG], repeated=4_090).content()],
    "one short string needed 4,000 times in 60 files": lambda: [Elf(["x"], repeated=4_000).content()] * 60,
    "500 libraries needed in each of 400 files": lambda: [Elf(["x"], repeated=500).content()] * 400,
    "3,000 versions of one library with a name of 65 kB": lambda: [
        Elf([LONG], versions=(versions_of_one(3_000, 2, 1), 1)).content()
    ],
    "libraries without versions, without end": lambda: [
        Elf(["x"], versions=(library_versions(5_000_000), 0xFFFFFFFF)).content()
    ],
    "versions of one library without end": lambda: (
        [Elf(["x"], versions=(versions_of_one(60_000), 0xFFFFFFFF)).content()] * 20
    ),
    "a search path of 30,000 folders in 10 files": lambda: (
        [Elf(["x"], rpath=":".join(["a"] * 30_000)).content()] * 10
    ),
    "20,000 files that say nothing": lambda: [Elf().content()] * 20_000,
}


@pytest.mark.sample(2)
@pytest.mark.attack("a wheel of a few kB whose native files name so much that it takes gigabytes or hours")
@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
def test_native_files_that_name_too_much(index: Index, build: Build, make: Callable[[], list[bytes]]) -> None:
    native(index, "evil", *make())
    assert sum(file.stat().st_size for file in index.folder.iterdir()) < 4 * MEGABYTE
    judged(build("-r", "evil"))


@pytest.mark.attack("six wheels of 1 kB, each with 4,095 times the same 65 kB (it took 4.6 GB)")
def test_six_wheels_at_once(index: Index, build: Build) -> None:
    for number in range(6):
        native(index, f"evil{number}", Elf([LONG], repeated=4_090).content())
    judged(build("-r", "|".join(f"evil{number}" for number in range(6))))


@pytest.mark.long
@pytest.mark.attack("many wheels, each just small enough, whose native files together name too much")
def test_wheels_that_are_too_much_together(index: Index, build: Build) -> None:
    one = Elf([f"lib{number}.so" for number in range(900)]).content()
    for number in range(6):
        native(index, f"evil{number}", *[one] * 40)
    judged(build("-r", "|".join(f"evil{number}" for number in range(6))))


@pytest.mark.attack("libraries that all need each other, with more ways through than there is time")
def test_libraries_that_all_need_each_other(index: Index, build: Build) -> None:
    names = [f"_{number}" for number in range(200)]
    needs = [f"{name}.so" for name in names]
    files = {
        name: Elf(needs, soname=f"{name}.so", rpath="$ORIGIN", symbols=[f"PyInit_{name}"]).content()
        for name in names
    }
    native(index, "evil", **files)
    judged(build("-r", "evil"))


@pytest.mark.attack("search paths of search paths: each need is looked for in thousands of folders")
def test_needs_that_are_looked_for_in_thousands_of_folders(index: Index, build: Build) -> None:
    folders = ":".join(["$ORIGIN/" + "../" * 20 + str(number) for number in range(800)])
    needs = [f"lib{number}.so" for number in range(500)]
    native(index, "evil", *[Elf(needs, runpath=folders).content()] * 8)
    judged(build("-r", "evil"))


@pytest.mark.attack("the name of a missing library is 60 kB long, and goes into messages and reports")
def test_a_missing_library_of_a_huge_name(index: Index, build: Build) -> None:
    names = ["l" * 60_000 + f"{number}.so" for number in range(20)]
    native(index, "evil", Elf(names, symbols=["PyInit__0"]).content())
    judged(build("-r", "evil"), "MISSING_SHARED_LIBRARY")


@pytest.mark.long
@pytest.mark.attack("thousands of missing libraries, or warnings, each a line of a report")
def test_thousands_of_missing_libraries(index: Index, build: Build) -> None:
    native(index, "evil", *[
        Elf([f"lib{number}-{count}.so" for count in range(700)], symbols=[f"PyInit__{number}"]).content()
        for number in range(50)
    ])  # fmt: skip
    judged(build("-r", "evil"), "MISSING_SHARED_LIBRARY")


TEXTS = {
    "METADATA": "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n" + "X" * 100 * MEGABYTE,
    "WHEEL": "Wheel-Version: 1.0\n" + "Tag: py3-none-any\n" * 2 * MEGABYTE,
    "RECORD": "x,,\n" * 25 * MEGABYTE,
    "RECORD of short rows": "x\n" * 5 * MEGABYTE,
    "entry_points.txt": "[console_scripts]\n" + "a=b:c\n" * 5 * MEGABYTE,
}


@pytest.mark.sample(1)
@pytest.mark.attack("a text about the wheel of 10 to 100 MB, of which 10 to 100 kB are downloaded")
@pytest.mark.parametrize("which", TEXTS)
def test_texts_about_a_wheel_that_are_too_long(index: Index, build: Build, which: str) -> None:
    make_wheel(index.folder, "evil", replaced={which.split()[0]: TEXTS[which]})
    judged(build("-r", "evil"))


HEAD = "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n"
METADATA = {
    "fields that all differ": HEAD + "".join(f"X{number}: y\n" for number in range(60_000)),
    "parts within parts": HEAD
    + "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(80))
    + "x\n" * 400_000,
    "parameters without end": f"{HEAD}Content-Type: multipart/mixed;{'a;' * 400_000}boundary=b\n\nx",
    "fields without end": HEAD + "Requires-Dist: a\n" * 240_000,
}


@pytest.mark.sample(2)
@pytest.mark.attack("a METADATA of 1 to 4 MB, of which some kB are downloaded, that takes minutes to read")
@pytest.mark.parametrize("which", METADATA)
def test_metadata_that_take_minutes(index: Index, which: str) -> None:
    file = make_wheel(index.folder, "evil", replaced={"METADATA": METADATA[which]})
    begun = time.process_time()
    try:
        assert wheel.verify(pick_of(file), file).requires == ()
    except WheelTooComplexError as error:
        assert "fields" in error.message
    assert time.process_time() - begun < 2


@pytest.mark.attack("a RECORD of one row with 16 million columns")
def test_a_record_of_one_row(index: Index, build: Build) -> None:
    make_wheel(index.folder, "evil", replaced={"RECORD": "," * ((16 << 20) - 10)})
    judged(build("-r", "evil"), "UNSAFE_WHEEL")


@pytest.mark.attack("a path of 65 kB, or a license of 100 kB, goes into messages and reports")
def test_huge_words_in_messages(index: Index, build: Build) -> None:
    make_wheel(index.folder, "evil", files={"evil.py": "", "../" + "\U0001f4a9" * 16_000: ""})
    judged(build("-r", "evil"), "UNSAFE_WHEEL")
    make_wheel(index.folder, "wordy", metadata="License-Expression: " + "MIT OR " * 20_000 + "MIT\n")
    answer = build("-r", "wordy", "--no-import-check")
    assert answer.status == 0, answer.stderr
    assert len(answer.report["packages"][0]["license"]) < 300


@pytest.mark.attack("a script of 200 MB whose first line is to be changed")
def test_a_huge_script(index: Index, build: Build) -> None:
    script = b"#!python\n" + b"#" * 200 * MEGABYTE
    make_wheel(index.folder, "evil", files={"evil.py": "", "evil-1.0.data/scripts/run": script})
    judged(build("-r", "evil"))


def test_the_limit_is_far_from_what_compilers_make(index: Index, build: Build) -> None:
    needs = [f"lib{number}.so" for number in range(60)]
    files = [Elf(needs, runpath="$ORIGIN/../libs").content() for _ in range(400)]
    native(index, "large", *files, lib=Elf(soname="lib0.so").content())
    with zipfile.ZipFile(next(index.folder.iterdir())) as archive:
        assert len(archive.namelist()) > 400
    assert elf.weight(elf.scan(next(index.folder.iterdir()))) < elf.MAX_WEIGHT
    answer = build("-r", "large", "--no-import-check")
    assert answer.code == "MISSING_SHARED_LIBRARY"
