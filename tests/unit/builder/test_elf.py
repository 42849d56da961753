"""Reading ELF files: as readelf reads them, whatever they are made of, and without holding them in memory."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layer_builder.ground.errors import UnsafeWheelError
from layer_builder.ground.target import Target
from layer_builder.wheels import elf
from layer_builder.wheels.elf import Collector, ElfFacts, VersionNeed
from tests.conftest import sampled
from tests.unit.builder.native_maker import (
    WHEELHOUSE,
    Library,
    compile_one,
    facts_of,
    module_source,
    needs_gcc,
    needs_readelf,
)
from tests.unit.builder.wheel_maker import make_wheel

E_TYPE, E_MACHINE = 16, 18  # offsets in the file header
EM_ARM, EM_386 = 40, 3


# ---- against readelf ----


def readelf(file: Path) -> ElfFacts:
    """Read the facts out of readelf's text."""
    run = subprocess.run(
        ["readelf", "--wide", "--file-header", "--program-headers", "--dynamic", "--version-info", file],
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )
    text = run.stdout.decode("utf-8", "backslashreplace")

    def dynamic(tag: str) -> list[str]:
        return re.findall(rf"\({tag}\).*\[(.*)\]", text)

    def found(pattern: str) -> str | None:
        match = re.search(pattern, text)
        return match[1] if match else None

    machine = found(r"Machine: +(.*)") or ""
    names = {"Advanced Micro Devices X86-64": "x86_64", "AArch64": "aarch64"}
    is_program = found(r"Type: +(\w+)") == "EXEC" or "PIE" in (found(r"\(FLAGS_1\) +Flags: (.*)") or "")
    runpath = dynamic("RUNPATH")
    return ElfFacts(
        "",
        machine=names.get(machine, machine),
        kind="executable" if is_program else "library",
        needed=tuple(dynamic("NEEDED")),
        soname=next(iter(dynamic("SONAME")), None),
        rpath=tuple(folder for path in dynamic("RPATH") for folder in path.split(":")),
        runpath=tuple(runpath[0].split(":")) if runpath else None,
        versions=readelf_versions(text),
        interpreter=found(r"program interpreter: (.*)\]") or None,
        size=file.stat().st_size,
    )


def readelf_versions(text: str) -> tuple[VersionNeed, ...]:
    highest: dict[tuple[str, str], VersionNeed] = {}
    library = ""
    for line in text.partition("Version needs section")[2].splitlines():
        if match := re.search(r"File: (\S+)", line):
            library = match[1]
        elif (match := re.search(r"Name: (\S+)  Flags: (\S+)", line)) and match[2] != "WEAK":
            numbered = re.fullmatch(r"([A-Za-z]+)_([\d.]+)", match[1])
            need = VersionNeed(library, *(numbered.groups() if numbered else (match[1], "")))
            known = highest.setdefault((library, need.family), need)
            if need.number > known.number:
                highest[library, need.family] = need
    return tuple(highest[key] for key in sorted(highest))


def comparable(facts: ElfFacts) -> dict[str, object]:
    """Leave out what readelf is not asked for."""
    return {name: getattr(facts, name) for name in ElfFacts.__slots__ if name not in ("path", "is_module")}


@pytest.mark.sample(1)
@needs_readelf
@pytest.mark.index
@pytest.mark.parametrize("architecture", sampled(["arm64", "x86_64"], lambda one: one == "arm64"))
@pytest.mark.parametrize("package", ["numpy", "opencv-python", "pandas", "cryptography", "psycopg2-binary"])
def test_real_wheels_as_readelf_reads_them(package: str, architecture: str, tmp_path: Path) -> None:
    wheel = WHEELHOUSE.get(package, Target.of("python3.13", architecture))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    native = {}
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
            native[str(path.relative_to(tmp_path))] = path
    found = {facts.path: facts for facts in elf.scan(wheel)}
    assert found.keys() == native.keys() != set()
    for path, file in native.items():
        assert comparable(found[path]) == comparable(readelf(file)), path


@needs_readelf
def test_this_machines_own_programs_as_readelf_reads_them() -> None:
    files = {
        Path(name).resolve() for name in (sys.executable, shutil.which("sh"), shutil.which("ls")) if name
    }
    native = [file for file in files if file.read_bytes()[:4] == b"\x7fELF"]
    assert native
    for file in native:
        facts = facts_of(file, file.name)
        assert comparable(facts) == comparable(readelf(file)), file
        assert facts.kind == "executable"
        assert facts.interpreter


@needs_gcc
@needs_readelf
@pytest.mark.parametrize("runpath", [False, True])
def test_search_paths_as_readelf_reads_them(tmp_path: Path, runpath: bool) -> None:
    compile_one(tmp_path, Library("b/libb.so.1", soname="libb.so.1"))
    paths = "$ORIGIN/../b:/opt/lib:${ORIGIN}"
    file = compile_one(tmp_path, Library("a/liba.so", ("b/libb.so.1",), rpath=paths, runpath=runpath))
    facts = facts_of(file, "a/liba.so")
    assert comparable(facts) == comparable(readelf(file))
    assert (facts.runpath if runpath else facts.rpath) == ("$ORIGIN/../b", "/opt/lib", "${ORIGIN}")
    assert facts.needed[0] == "libb.so.1"


# ---- kinds and names ----


@needs_gcc
@pytest.mark.parametrize(
    ("name", "is_module"),
    [
        ("_core.cpython-313-x86_64-linux-gnu.so", True),
        ("_core.abi3.so", True),
        ("_core.so", True),
        ("other.so", False),
        ("lib_core.so", False),
        ("_core.so.1", False),
    ],
)
def test_a_module_defines_what_python_calls(tmp_path: Path, name: str, is_module: bool) -> None:
    compile_one(tmp_path, Library(f"pkg/{name}", source=module_source("_core")))
    assert facts_of(tmp_path / "pkg" / name, f"pkg/{name}").is_module is is_module


@needs_gcc
def test_a_symbol_is_found_wherever_the_table_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "".join(f"int filler_{number:04}(void) {{ return 0; }}\n" for number in range(200))
    file = compile_one(tmp_path, Library("_core.so", source=source + module_source("_core")))
    for size in range(16, 80):
        monkeypatch.setattr(elf, "_CHUNK", size)
        assert facts_of(file, "_core.so").is_module


@needs_gcc
@pytest.mark.parametrize(
    ("flags", "name", "kind"),
    [
        (("-shared",), "libx.so", "library"),
        ((), "tool", "executable"),
        (("-no-pie",), "tool", "executable"),
        (("-static",), "tool", "executable"),
        (("-c",), "thing.o", "other"),
    ],
)
def test_kinds(tmp_path: Path, flags: tuple[str, ...], name: str, kind: str) -> None:
    file = compile_one(tmp_path, Library(name, source="int main(void) { return 0; }", flags=flags))
    assert facts_of(file, name).kind == kind


@needs_gcc
def test_a_file_of_debug_information_is_no_library(tmp_path: Path) -> None:
    if shutil.which("objcopy") is None:
        pytest.skip("there is no objcopy on this machine")
    file = compile_one(tmp_path, Library("libx.so", flags=("-shared", "-g")))
    subprocess.run(["objcopy", "--only-keep-debug", file, tmp_path / "libx.so.debug"], check=True)
    assert facts_of(tmp_path / "libx.so.debug", "libx.so.debug").kind == "other"


@needs_gcc
@pytest.mark.parametrize(
    ("number", "machine"), [(EM_ARM, "arm"), (EM_386, "386"), (183, "aarch64"), (62, "x86_64")]
)
def test_machines(tmp_path: Path, number: int, machine: str) -> None:
    file = compile_one(tmp_path, Library("libx.so"))
    data = bytearray(file.read_bytes())
    struct.pack_into("<H", data, E_MACHINE, number)
    file.write_bytes(data)
    assert facts_of(file, "libx.so").machine == machine


@needs_gcc
def test_section_headers_are_not_needed(tmp_path: Path) -> None:
    file = compile_one(tmp_path, Library("liba.so", soname="liba.so.1", rpath="$ORIGIN"))
    whole = facts_of(file, "liba.so")
    data = bytearray(file.read_bytes())
    struct.pack_into("<Q", data, 40, 0)  # e_shoff
    struct.pack_into("<HH", data, 60, 0, 0)  # e_shnum, e_shstrndx
    file.write_bytes(data)
    assert facts_of(file, "liba.so") == whole
    assert whole.soname == "liba.so.1"


# ---- broken and hostile files ----


@needs_gcc
def test_a_file_cut_anywhere_is_read_or_called_broken(tmp_path: Path) -> None:
    data = compile_one(tmp_path, Library("liba.so", rpath="$ORIGIN")).read_bytes()
    cut = tmp_path / "cut.so"
    for length in [*range(4, 600, 7), *range(600, len(data), 501)]:
        cut.write_bytes(data[:length])
        assert facts_of(cut, "cut.so").kind in ("library", "broken", "other")


@needs_gcc
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bytes_are_read_or_called_broken(tmp_path: Path, data: st.DataObject) -> None:
    original = tmp_path / "liba.so"
    if not original.exists():
        compile_one(tmp_path, Library("liba.so", rpath="$ORIGIN", soname="liba.so.1"))
    content = bytearray(original.read_bytes())
    # Headers and what they lead to are what matters; most of the file is read by nobody.
    places = st.one_of(st.integers(4, 800), st.integers(4, len(content) - 8))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(places)
        content[place : place + 8] = data.draw(st.binary(min_size=8, max_size=8))
    changed = tmp_path / "changed.so"
    changed.write_bytes(content)
    facts = facts_of(changed, "changed.so")
    assert elf.from_json(elf.to_json([facts])) == (facts,)


def test_what_only_begins_like_elf_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "x.so"
    for content in (
        b"\x7fELF",
        b"\x7fELF" + bytes(30),
        b"\x7fELF" + b"\xff" * 5000,
    ):
        file.write_bytes(content)
        assert facts_of(file, "x.so").kind == "broken"


# ---- wheels ----


@needs_gcc
def test_scan_finds_elf_files_by_content(tmp_path: Path) -> None:
    data = compile_one(tmp_path, Library("liba.so.1")).read_bytes()
    files = {
        "pkg/named.dat": data,
        "pkg/text.so": "no",
        "pkg/short.so": b"\x7fE",
        "pkg/empty.so": b"",
        "a.so": data,
    }
    wheel = make_wheel(tmp_path, "pkg", files=files)
    assert [facts.path for facts in elf.scan(wheel)] == ["a.so", "pkg/named.dat"]


def test_scan_of_no_zip_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pkg-1.0-py3-none-any.whl"
    file.write_bytes(b"no zip")
    with pytest.raises(UnsafeWheelError, match=file.name):
        elf.scan(file)


def test_scan_of_damaged_data_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "pkg", files={"pkg/a.so": b"\x7fELF" + bytes(range(256)) * 50})
    content = bytearray(wheel.read_bytes())
    with zipfile.ZipFile(wheel) as archive:
        start = archive.getinfo("pkg/a.so").header_offset + 30 + len("pkg/a.so")
    content[start + 20 : start + 40] = bytes(20)
    wheel.write_bytes(content)
    with pytest.raises(UnsafeWheelError):
        elf.scan(wheel)


@needs_gcc
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_collector_takes_chunks_of_any_size(tmp_path: Path, sizes: list[int]) -> None:
    file = tmp_path / "liba.so"
    if not file.exists():
        compile_one(tmp_path, Library("liba.so", soname="liba.so.1"))
    data = file.read_bytes()
    with Collector() as collector:
        for path in ("z/liba.so", "text.txt", "b/liba.so"):
            collector.start(path)
            left = data if path.endswith(".so") else b"text" * 100
            turn = 0
            while left:
                size = sizes[turn % len(sizes)]
                collector.write(left[:size])
                left, turn = left[size:], turn + 1
            collector.finish()
    assert collector.facts == (facts_of(file, "b/liba.so"), facts_of(file, "z/liba.so"))


@needs_gcc
def test_load_scans_once(tmp_path: Path) -> None:
    data = compile_one(tmp_path, Library("liba.so.1")).read_bytes()
    wheel = make_wheel(tmp_path / "cache", "pkg", files={"pkg/a.so": data})
    found = elf.load(wheel)
    assert found == elf.scan(wheel) != ()
    wheel.write_bytes(b"not read any more")
    assert elf.load(wheel) == found


@pytest.mark.parametrize(
    "kept", ["", "{", "[]", "{}", '{"format": 0, "files": []}', '{"format": 1, "files": [{}]}']
)
def test_load_scans_again_when_what_was_kept_is_no_use(tmp_path: Path, kept: str) -> None:
    wheel = make_wheel(tmp_path, "pkg")
    elf.load(wheel)
    record = next(tmp_path.glob("elf-*.json"))
    record.write_text(kept)
    assert elf.load(wheel) == ()
    assert elf.from_json(record.read_text()) == ()


VERSIONS = st.builds(
    VersionNeed, st.text(min_size=1), st.sampled_from(["GLIBC", "GCC"]), st.sampled_from(["2.34", ""])
)
FACTS = st.builds(
    ElfFacts,
    path=st.text(),
    machine=st.sampled_from(["x86_64", "aarch64", ""]),
    kind=st.sampled_from(["library", "executable", "other", "broken"]),
    needed=st.lists(st.text()).map(tuple),
    soname=st.none() | st.text(),
    rpath=st.lists(st.text()).map(tuple),
    runpath=st.none() | st.lists(st.text()).map(tuple),
    versions=st.lists(VERSIONS).map(tuple),
    interpreter=st.none() | st.text(),
    is_module=st.booleans(),
    size=st.integers(0),
)


@given(st.lists(FACTS).map(tuple))
def test_json_keeps_everything(facts: tuple[ElfFacts, ...]) -> None:
    assert elf.from_json(elf.to_json(facts)) == facts


MEMORY = """
import re, sys
from pathlib import Path
from layer_builder.wheels import elf
for wheel in sys.argv[1:]:
    assert elf.scan(Path(wheel))
# Not getrusage: its peak begins with that of the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10)
"""


@pytest.mark.long
@pytest.mark.index
def test_memory_stays_far_below_the_files_size() -> None:
    target = Target.of("python3.13", "x86_64")
    wheels = [WHEELHOUSE.get(name, target) for name in ("opencv-python", "numpy")]
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, *wheels],
        env={"PYTHONPATH": str(Path(elf.__file__).parents[1])},
        check=True,
        capture_output=True,
    )
    largest = max(facts.size for wheel in wheels for facts in elf.scan(wheel)) >> 20
    used = int(run.stdout)
    assert used < 50 < largest
