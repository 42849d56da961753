"""Layers whose wheels leave libraries to the system, completed out of real RPMs by a real dnf."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jsonschema import Draft202012Validator

import layer_builder
from layer_builder.ground import interpreter
from layer_builder.proof import base_libraries, import_check, surroundings
from layer_builder.wheels import elf
from tests.native.repository import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.native.conftest import Built, Manager

pytestmark = [
    pytest.mark.long,
    pytest.mark.index,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="these tests run layers for x86_64"),
]

# Pinned, so that what is missing does not change with their releases.
OPENCV, PYODBC, MAGIC = "opencv-python==4.12.0.88", "pyodbc==5.3.0", "python-magic==0.4.27"
RASTERIO, LIGHTGBM, WEASYPRINT = "rasterio==1.4.3", "lightgbm==4.6.0", "weasyprint==66.0"
CAIROSVG, PYZBAR = "cairosvg==2.8.2", "pyzbar==0.1.9"
AUTO, CHECK = ("--system-libraries", "auto"), ("--system-libraries", "check")
NO_IMPORTS = "--no-import-check"
BASE = base_libraries.base("x86_64")
VALIDATOR = Draft202012Validator(
    json.loads((Path(layer_builder.__file__).with_name("schemas") / "report.schema.json").read_text())
)


def bundled(built: Built) -> set[str]:
    """The libraries that the report says were added; the zip has exactly these, byte by byte."""
    VALIDATOR.validate(built.report)
    assert built.zip, built.said
    files = {file["path"]: file for package in built.report["system_packages"] for file in package["files"]}
    with zipfile.ZipFile(built.zip) as layer:
        assert {name for name in layer.namelist() if name.startswith("lib/")} == files.keys()
        for path, file in files.items():
            content = layer.read(path)
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    return {path.removeprefix("lib/") for path in files}


def unpacked(built: Built, folder: Path) -> Path:
    assert built.zip, built.said
    import_check.unpack(built.zip, folder / "opt")
    return folder / "opt"


def run_in(layer: Path, code: str) -> list[str]:
    """Run code in a clean Python 3.13 that has the layer and nothing else; return what it printed."""
    found = interpreter.find("3.13")
    if found is None:
        pytest.skip("there is no Python 3.13 on this machine")
    libraries = [found.environment["LD_LIBRARY_PATH"]] if "LD_LIBRARY_PATH" in found.environment else []
    done = subprocess.run(
        [str(found.path), "-S", "-B", "-c", code],
        cwd=layer,
        env={
            "LD_LIBRARY_PATH": ":".join([*libraries, str(layer / "lib")]),
            "PYTHONPATH": str(layer / "python"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# What a process has loaded from below a folder, by name.
LOADED = """
import os
for line in open("/proc/self/maps"):
    path = line.rstrip("\\n").partition("/")[2]
    if ".so" in path:
        print("/" + path)
"""


def png(rows: list[list[tuple[int, int, int]]]) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    pixels = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in rows)
    data = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("lines", "modules", "libraries"),
    [
        (OPENCV, "cv2", {"libGL.so.1", "libgthread-2.0.so.0"}),
        (PYODBC, "pyodbc", {"libodbc.so.2", "libltdl.so.7"}),
        (RASTERIO, "rasterio, rasterio.warp", {"libexpat.so.1"}),
        (LIGHTGBM, "lightgbm", {"libgomp.so.1"}),
        (WEASYPRINT, "weasyprint", {"libgobject-2.0.so.0", "libpangoft2-1.0.so.0", "libfontconfig.so.1"}),
    ],
)
def test_no_setting_is_needed(
    build: Callable[..., Built],
    manager: Callable[..., Manager],
    tmp_path: Path,
    lines: str,
    modules: str,
    libraries: set[str],
) -> None:
    built = build(manager("microdnf"), lines)
    names = bundled(built)
    assert libraries <= names
    assert not names & BASE
    assert built.report["checks"]["imports"]["status"] == "passed"
    files = [file for package in built.report["system_packages"] for file in package["files"]]
    assert all(file["needed_by"] for file in files)
    # The same in a process that nobody confines: what it loads is the layer's, Python's, or in the base list.
    layer = unpacked(built, tmp_path)
    found = interpreter.find("3.13")
    seen = found and surroundings.of(found, "x86_64")
    assert seen
    loaded = run_in(layer, f"import {modules}\n{LOADED}")
    outside = [path for path in loaded if not path.startswith(f"{layer}/")]
    assert [path for path in outside if seen.is_machines(path)] == []
    assert not names & {Path(path).name for path in outside}
    # Nothing was missed without any of it.
    failed = build(None, lines)
    assert (failed.status, failed.zip) == (2, None)
    assert failed.report["error"]["code"] in {"MISSING_SHARED_LIBRARY", "IMPORT_FAILED"}
    assert libraries & {
        library
        for one in failed.report["error"]["details"].get(
            "missing", failed.report["error"]["details"].get("failures")
        )
        for library in one.get("libraries", [one.get("library")])
    }


@pytest.mark.attack("a layer passes because the machine that builds has libraries that are loaded by name")
@pytest.mark.parametrize("lines", [WEASYPRINT, CAIROSVG, MAGIC, PYZBAR])
def test_libraries_of_this_machine_prove_nothing(build: Callable[..., Built], lines: str) -> None:
    built = build(None, lines, *CHECK)
    assert (built.status, built.report["error"]["code"]) == (2, "IMPORT_FAILED"), built.said


def test_without_the_setting_the_list_and_the_two_ways_out_are_said(build: Callable[..., Built]) -> None:
    built = build(None, OPENCV, *CHECK)
    error = built.report["error"]
    assert (built.status, error["code"], built.zip) == (2, "MISSING_SHARED_LIBRARY", None)
    assert "libGL.so.1" in error["message"]
    assert {"libGL.so.1", "libgthread-2.0.so.0", "libxcb.so.1"} <= {
        one["library"] for one in error["details"]["missing"]
    }
    assert "opencv-python-headless" in error["hint"]
    assert 'system-libraries = "auto"' in error["hint"]


def test_opencv_decodes_an_image_with_what_was_bundled(
    build: Callable[..., Built], manager: Callable[..., Manager], tmp_path: Path
) -> None:
    dnf = manager()
    built = build(dnf, OPENCV, *AUTO)
    names = bundled(built)
    assert {"libGL.so.1", "libGLX.so.0", "libX11.so.6", "libgthread-2.0.so.0"} <= names
    assert not names & BASE
    checks = built.report["checks"]
    assert {checks[name]["status"] for name in ("elf", "glibc", "libraries", "size")} == {"passed"}

    layer = unpacked(built, tmp_path)
    image = tmp_path / "image.png"
    image.write_bytes(png([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (9, 8, 7)]]))
    decode = f"import cv2; print(cv2.imread({str(image)!r}).tolist())\n{LOADED}"
    pixels, *loaded = run_in(layer, decode)
    assert json.loads(pixels) == [[[0, 0, 255], [0, 255, 0]], [[255, 0, 0], [7, 8, 9]]]
    # All of it was needed, and none of it came from this machine.
    assert {Path(path).name for path in loaded if path.startswith(f"{layer}/lib/")} == names
    assert not names & {Path(path).name for path in loaded if not path.startswith(f"{layer}/")}

    # The second opinion of the machine's own loader: nothing is missing, the rest is the runtime's.
    module = next(layer.glob("python/cv2/cv2*.so"))
    told = subprocess.run(
        ["ldd", str(module)], env={"LD_LIBRARY_PATH": str(layer / "lib"), "PATH": os.environ["PATH"]},
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "not found" not in told
    elsewhere = [line.split()[0] for line in told.splitlines() if str(layer) not in line]
    assert {Path(name).name for name in elsewhere} <= BASE | {"linux-vdso.so.1"}

    # Package, version, license and source of each file, for the bill of materials too.
    licenses = {package["name"]: package["license"] for package in built.report["system_packages"]}
    assert licenses == {name: PACKAGES[name][0] for name in licenses}
    assert all(
        package["version"].endswith("-1.test") and package["source"].endswith(".src.rpm")
        for package in built.report["system_packages"]
    )
    bill = json.loads(Path(built.zip or "").with_name("sbom.cdx.json").read_text())
    system = {one["name"]: one for one in bill["components"] if one["purl"].startswith("pkg:rpm/")}
    assert system.keys() == licenses.keys()
    told_files = {
        file["name"]: file["hashes"][0]["content"] for one in system.values() for file in one["components"]
    }
    assert told_files == {
        file["path"]: file["sha256"] for one in built.report["system_packages"] for file in one["files"]
    }


def test_microdnf_gives_the_same_bytes_from_the_few_options_it_has(
    build: Callable[..., Built], manager: Callable[..., Manager], tmp_path: Path
) -> None:
    """The wrapper refuses every option that microdnf has not, and ends well when it has found nothing."""
    digests = set()
    for kind, cache in (("dnf", "one"), ("microdnf", "other")):
        program = manager(kind)
        built = build(program, PYODBC, *AUTO, LAYER_BUILDER_CACHE=str(tmp_path / cache))
        assert bundled(built) == {"libodbc.so.2", "libltdl.so.7"}
        assert built.zip
        digests.add(hashlib.sha256(built.zip.read_bytes()).hexdigest())
        assert [question[1:] for question in program.asked] == [
            ["download", "libodbc.so.2()(64bit)"],
            ["download", "libltdl.so.7()(64bit)"],
        ]
        assert all(question[0].startswith("--setopt=cachedir=/") for question in program.asked)
    assert len(digests) == 1


@pytest.mark.skipif(not shutil.which("microdnf"), reason="there is no microdnf on this machine")
def test_a_real_microdnf_understands_the_command(tmp_path: Path, repositories: dict[str, Path]) -> None:
    """Where Debian has none, Fedora and its relatives do."""
    from layer_builder.system_libraries.package_manager import PackageManager

    (tmp_path / "repositories").mkdir()
    (tmp_path / "repositories/test.repo").write_text(
        f"[test]\nname=test\nbaseurl=file://{repositories['x86_64']}\nenabled=1\ngpgcheck=0\n"
    )
    program = tmp_path / "dnf"
    program.write_text(
        f'#!/bin/sh\nexec microdnf --setopt=reposdir={tmp_path}/repositories --releasever=2023 "$@"\n'
    )
    program.chmod(0o755)
    found = PackageManager(str(program), "x86_64").download(
        ["libodbc.so.2()(64bit)", "nothing.so.1()(64bit)"], tmp_path
    )
    assert [file.name.partition("-")[0] for file in found] == ["unixODBC"]


def test_pyodbc_imports_with_what_was_bundled(
    build: Callable[..., Built], manager: Callable[..., Manager], tmp_path: Path
) -> None:
    failed = build(None, PYODBC)
    assert failed.report["error"]["code"] == "MISSING_SHARED_LIBRARY"
    built = build(manager(), PYODBC, *AUTO)
    names = bundled(built)
    layer = unpacked(built, tmp_path)
    loaded = run_in(layer, f"import pyodbc; pyodbc.drivers()\n{LOADED}")
    assert {Path(path).name for path in loaded if path.startswith(f"{layer}/lib/")} == names


def test_a_named_package_brings_all_its_libraries_and_what_they_need(
    build: Callable[..., Built], manager: Callable[..., Manager]
) -> None:
    built = build(manager(), PYODBC, "--system-libraries", "unixODBC", NO_IMPORTS)
    names = bundled(built)
    assert names >= {"libodbc.so.2", "libodbcinst.so.2", "libodbccr.so.2", "libltdl.so.7"}
    assert [package["name"] for package in built.report["system_packages"]] == ["libtool-ltdl", "unixODBC"]
    assert (
        not bundled(build(manager("microdnf"), PYODBC, "--system-libraries", "unixODBC", NO_IMPORTS)) ^ names
    )


def test_a_library_loaded_by_name_is_hinted_at_and_found_like_any_other(
    build: Callable[..., Built], manager: Callable[..., Manager], tmp_path: Path
) -> None:
    plain = build(None, MAGIC, NO_IMPORTS, *CHECK)
    assert any("in its package file-libs" in warning for warning in plain.report["warnings"])
    built = build(manager(), MAGIC, "--system-libraries", "file-libs", NO_IMPORTS)
    assert bundled(built) == {"libmagic.so.1", "liblzma.so.5", "libbz2.so.1.0"}
    assert not any("libmagic" in warning for warning in built.report["warnings"])
    layer = unpacked(built, tmp_path)
    loaded = run_in(layer, f"import magic\n{LOADED}")
    assert f"{layer}/lib/libmagic.so.1" in loaded
    # Nor need anybody name it: the table does, a trial may.
    for options in ((), ("--needed-library", "libmagic.so.1")):
        again = build(manager(f"dnf-{len(options)}"), MAGIC, *options)
        assert again.report["layer"]["digest"] == built.report["layer"]["digest"]
        assert again.report["checks"]["imports"]["status"] == "passed"
    # python-magic tries the soname; pyzbar asks ctypes.util.find_library, which finds nothing in a layer.
    [package] = [one for one in built.report["system_packages"] if one["name"] == "file-libs"]
    assert package["files"][0]["needed_by"] == ["python-magic"]


def test_what_the_runtime_has_is_never_bundled(
    build: Callable[..., Built], manager: Callable[..., Manager]
) -> None:
    built = build(
        manager(), PYODBC, "--system-libraries", "zlib", "--system-libraries", "libstdc++", NO_IMPORTS
    )
    assert bundled(built) == {"libodbc.so.2", "libltdl.so.7"}


def test_what_is_installed_on_the_machine_hides_nothing(
    build: Callable[..., Built],
    manager: Callable[..., Manager],
    repositories: dict[str, Path],
    tmp_path: Path,
) -> None:
    home, packages = tmp_path / "home", sorted(map(str, repositories["x86_64"].glob("*.rpm")))
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    place = subprocess.run(
        ["rpm", "--eval", "%_dbpath"], env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()
    if not place.startswith(str(home)):
        pytest.skip("this machine's rpm keeps its database where a test must not write")
    subprocess.run(
        ["rpm", "--install", "--justdb", "--nodeps", "--noscripts", *packages],
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    dnf = manager(home=str(home))
    listed = subprocess.run(
        ["/usr/bin/dnf", f"--config={dnf.folder}/dnf.conf", "--releasever=2023", "list", "--installed"],
        env=environment, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "unixODBC" in listed
    assert f"HOME={home}" in (dnf.folder / "dnf").read_text()
    built = build(dnf, PYODBC, *AUTO, NO_IMPORTS)
    assert bundled(built) == {"libodbc.so.2", "libltdl.so.7"}


def test_a_library_that_no_repository_has_is_named(
    build: Callable[..., Built], manager: Callable[..., Manager]
) -> None:
    for kind in ("dnf", "microdnf"):
        built = build(manager(kind, exclude="unixODBC"), PYODBC, *AUTO)
        error = built.report["error"]
        assert (built.status, error["code"], built.zip) == (2, "LIBRARY_NOT_IN_REPOSITORY", None)
        assert "libodbc.so.2" in error["message"]
        assert "pyodbc" in error["message"]
        # Also when it is a library's library.
        built = build(manager(kind, exclude="libtool-ltdl"), PYODBC, *AUTO)
        assert built.report["error"]["code"] == "LIBRARY_NOT_IN_REPOSITORY"
        assert "libltdl.so.7, which unixODBC (rpm) needs" in built.report["error"]["message"]
        # A package of that name.
        built = build(manager(kind), PYODBC, "--system-libraries", "no-such-package")
        assert built.report["error"]["code"] == "LIBRARY_NOT_IN_REPOSITORY"
        assert "no-such-package" in built.report["error"]["message"]


def test_a_repository_out_of_reach_is_worth_another_try(
    build: Callable[..., Built], manager: Callable[..., Manager]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        for kind in ("dnf", "microdnf"):
            built = build(manager(kind, address=address), PYODBC, *AUTO)
            error = built.report["error"]
            assert (built.status, error["code"], built.zip) == (75, "MISSING_SHARED_LIBRARY", None)
            assert error["details"]["bundling"]["code"] == "REPOSITORY_UNREACHABLE"
            named = build(manager(f"{kind}-named", address=address), PYODBC, "--system-libraries", "unixODBC")
            assert (named.status, named.report["error"]["code"]) == (75, "REPOSITORY_UNREACHABLE")


def test_a_layer_for_arm64_is_completed_and_proved_on_x86_64(
    build: Callable[..., Built], manager: Callable[..., Manager]
) -> None:
    built = build(manager(), OPENCV, *AUTO, "--architecture", "arm64")
    assert {"libGL.so.1", "libGLX.so.0", "libX11.so.6"} <= bundled(built)
    assert built.zip
    facts = [fact for fact in elf.scan(built.zip) if fact.path.startswith("lib/")]
    assert {(fact.machine, fact.kind) for fact in facts} == {("aarch64", "library")}
    checks = built.report["checks"]
    assert {checks[name]["status"] for name in ("elf", "glibc", "libraries", "size")} == {"passed"}
    assert checks["imports"]["status"] == "not_run"

    # microdnf has packages of its own machine only.
    built = build(manager("microdnf"), OPENCV, *AUTO, "--architecture", "arm64")
    assert (built.status, built.report["error"]["code"]) == (2, "MISSING_SHARED_LIBRARY")
    assert "finds packages of x86_64 only" in built.report["error"]["hint"]


def test_for_amazon_linux_2_nothing_is_even_asked(
    build: Callable[..., Built], manager: Callable[..., Manager]
) -> None:
    dnf = manager()
    built = build(dnf, PYODBC, *AUTO, "--runtime", "python3.11")
    error = built.report["error"]
    assert (built.status, error["code"], dnf.asked) == (2, "MISSING_SHARED_LIBRARY", [])
    assert "python3.12" in error["hint"]
    # Nor is bundling recommended there.
    hint = build(None, PYODBC, "--runtime", "python3.11", *CHECK).report["error"]["hint"]
    assert "system-libraries" not in hint


def test_a_lock_rebuilds_the_same_layer(build: Callable[..., Built], manager: Callable[..., Manager]) -> None:
    dnf = manager()
    first = build(dnf, PYODBC, *AUTO, NO_IMPORTS)
    assert first.zip
    lock = first.zip.with_name("pylock.toml")
    again = build(dnf, "", "--path", str(lock), *AUTO, NO_IMPORTS)
    assert again.zip, again.said
    assert again.zip.read_bytes() == first.zip.read_bytes()
    assert again.report["layer"]["digest"] == first.report["layer"]["digest"]
