"""The proof: what stops a build, what is only worth a word, and how both are said."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest

from layer_builder.ground.limits import MAX_UNZIPPED_BYTES
from layer_builder.ground.target import ARCHITECTURES, RUNTIMES, Target
from layer_builder.layer import archive
from layer_builder.proof import base_libraries, sizes
from layer_builder.proof.native import LayerElf
from layer_builder.proof.prove import check, prove
from layer_builder.proof.sizes import LayerFile
from layer_builder.wheels import elf
from layer_builder.wheels.elf import VersionNeed
from tests.conftest import sampled
from tests.unit.builder.native_maker import (
    WHEELHOUSE,
    Library,
    compile_all,
    compile_one,
    layer_of,
    library,
    module,
    module_source,
    needs_gcc,
)
from tests.unit.builder.wheel_maker import Content, load, make_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layer_builder.proof.prove import Proof
    from layer_builder.wheels.elf import ElfFacts

TARGET = Target.of("python3.13", "x86_64")
SITE = TARGET.site_packages
WHEEL = "pkg-1.0-cp313-cp313-manylinux_2_17_x86_64.whl"


def item(path: str, facts: ElfFacts, package: str = "pkg", wheel: str = WHEEL) -> LayerElf:
    place = path if path.startswith(("bin/", "lib/")) else f"{SITE}/{path}"
    return LayerElf(place, package, wheel, facts)


def proof_of(*items: LayerElf, target: Target = TARGET, accepted: Sequence[str] = ()) -> Proof:
    files = [LayerFile(item.path, item.package, item.facts.size) for item in items]
    return check(files, items, target, accepted=accepted)


def codes(proof: Proof) -> list[str]:
    return [error.code for error in proof.errors]


# ---- real packages ----

# As found in the packages themselves (FACTS), per architecture alike.
OPENCV_LACKS = {
    *("libGL.so.1", "libxcb.so.1", "libX11.so.6", "libXext.so.6", "libSM.so.6", "libICE.so.6"),
    *("libglib-2.0.so.0", "libgthread-2.0.so.0"),
}
COMPLETE = (
    *("opencv-python-headless", "psycopg2-binary", "lxml", "numpy", "pandas", "pillow", "cryptography"),
    "shapely",
)


@pytest.mark.index
@pytest.mark.parametrize(
    "architecture", sampled(ARCHITECTURES, lambda architecture: architecture == "x86_64")
)
class TestRealPackages:
    @pytest.mark.sample(2)
    @pytest.mark.parametrize("package", COMPLETE)
    def test_complete_ones_pass(self, package: str, architecture: str) -> None:
        target = Target.of("python3.13", architecture)
        proof = prove(WHEELHOUSE.plan([package], target), target)
        assert (proof.errors, proof.missing, proof.warnings) == ((), (), ())
        assert proof.checks["elf"]["files"] > 0
        assert {part["status"] for part in proof.checks.values()} == {"passed"}

    @pytest.mark.sample(1)
    @pytest.mark.parametrize("package", ["numpy", "pandas", "lxml", "psycopg2-binary"])
    def test_the_newest_for_amazon_linux_2_pass_too(self, package: str, architecture: str) -> None:
        target = Target.of("python3.11", architecture)
        proof = prove(WHEELHOUSE.plan([package], target), target)
        assert (proof.errors, proof.warnings) == ((), ())

    def test_opencv_lacks_what_a_display_needs(self, architecture: str) -> None:
        target = Target.of("python3.13", architecture)
        proof = prove(WHEELHOUSE.plan(["opencv-python"], target), target)
        assert {missing.library for missing in proof.missing} == OPENCV_LACKS
        assert {missing.library for missing in proof.missing if missing.stops} == {
            "libGL.so.1",
            "libxcb.so.1",
        }
        assert proof.error
        assert proof.error.code == "MISSING_SHARED_LIBRARY"
        assert "opencv-python" in proof.error.message
        assert "libGL.so.1" in proof.error.message
        assert "opencv-python-headless" in proof.error.hint
        told = json.dumps(proof.error.details)
        assert all(library in told for library in OPENCV_LACKS)

    @pytest.mark.sample(1)
    @pytest.mark.parametrize(
        ("package", "lacked"),
        [("pyodbc", "libodbc.so.2"), ("rasterio", "libexpat.so.1"), ("lightgbm", "libgomp.so.1")],
    )
    def test_others_lack_one_library(self, package: str, lacked: str, architecture: str) -> None:
        target = Target.of("python3.13", architecture)
        plan = WHEELHOUSE.plan([package], target)
        proof = prove(plan, target)
        assert codes(proof) == ["MISSING_SHARED_LIBRARY"]
        assert [missing.library for missing in proof.missing] == [lacked]
        assert not prove(plan, target, accepted=[lacked]).errors

    @pytest.mark.sample(1)
    @pytest.mark.parametrize(
        ("package", "word"),
        [
            ("numba", "omppool"),
            ("debugpy", "attach_linux_amd64.so"),
            ("selenium", "selenium-manager"),
            ("weasyprint", "libpango-1.0.so.0"),
            ("python-magic", "libmagic.so.1"),
            ("pyzbar", "libzbar.so.0"),
        ],
    )
    def test_optional_parts_are_worth_a_word(self, package: str, word: str, architecture: str) -> None:
        if package == "debugpy" and architecture == "x86_64":
            pytest.skip("for x86_64 it has what it needs")
        target = Target.of("python3.13", architecture)
        proof = prove(WHEELHOUSE.plan([package], target), target)
        assert not proof.errors
        assert any(package in warning and word in warning for warning in proof.warnings)

    def test_a_wheel_of_the_other_architecture_is_refused(self, architecture: str) -> None:
        other = next(name for name in ARCHITECTURES if name != architecture)
        target = Target.of("python3.13", architecture)
        # lxml's modules carry the machine in their names, cryptography's does not.
        for package in ("cryptography", "lxml"):
            plan = archive.plan([load(WHEELHOUSE.get(package, Target.of("python3.13", other)))], target)
            assert codes(prove(plan, target)) == ["WRONG_MACHINE"]

    def test_wheels_of_a_newer_system_are_refused_on_amazon_linux_2(self, architecture: str) -> None:
        newer = WHEELHOUSE.get("cryptography", Target.of("python3.13", architecture))
        target = Target.of("python3.11", architecture)
        proof = prove(archive.plan([load(newer)], target), target)
        needs = {
            version for facts in elf.scan(newer) for version in facts.versions if version.family == "GLIBC"
        }
        assert max(need.number for need in needs) > target.runtime.glibc
        assert codes(proof) == ["RUNTIME_TOO_OLD"]
        assert "python3.12" in proof.errors[0].hint
        assert "GLIBC_2.26" in proof.errors[0].message

    def test_facts_are_kept_beside_the_wheel(self, architecture: str) -> None:
        target = Target.of("python3.13", architecture)
        plan = WHEELHOUSE.plan(["shapely"], target)
        first = prove(plan, target)
        record = next(WHEELHOUSE.get("shapely", target).parent.glob("elf-*.json"))
        record.write_text(elf.to_json([]))
        assert first.checks["elf"]["files"] > 0
        assert prove(plan, target).checks["elf"]["files"] == 0
        record.unlink()


@pytest.mark.index
def test_base_and_ceilings_against_auditwheels_policies() -> None:
    """What auditwheel lets a wheel take from a system is no less than what we say the system has."""
    with zipfile.ZipFile(WHEELHOUSE.get("auditwheel", TARGET)) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("manylinux-policy.json"))
        policies = {policy["name"]: policy for policy in json.loads(wheel.read(name))}
    for glibc, gcc_is in (((2, 26), "at least"), ((2, 34), "exactly")):
        policy = policies["manylinux_{}_{}".format(*glibc)]
        ours = base_libraries.ceilings(glibc)
        for architecture in ARCHITECTURES:
            target = Target.of("python3.13", architecture)
            assert base_libraries.base(target.machine) <= {
                *policy["lib_whitelist"],
                "ld-linux-aarch64.so.1",
            } | {"ld-linux-x86-64.so.2"}
            for family in ("GLIBC", "GLIBCXX", "CXXABI"):
                versions = [v for v in policy["symbol_versions"][target.machine][family] if v[0].isdecimal()]
                highest = max(tuple(map(int, v.split("."))) for v in versions)
                known = tuple(map(int, ours[family].split(".")))
                # A policy is as old as the oldest system with that glibc; Amazon Linux 2 has a newer gcc.
                assert known == highest if gcc_is == "exactly" or family == "GLIBC" else known >= highest


# ---- machines ----


@needs_gcc
def test_a_module_for_another_machine_stops_the_build(tmp_path: Path) -> None:
    module_file = compile_one(tmp_path, Library(f"{SITE}/pkg/_core.abi3.so", source=module_source("_core")))
    (own,) = layer_of(tmp_path)
    target = next(
        Target.of("python3.13", a)
        for a in ARCHITECTURES
        if Target.of("python3.13", a).machine == own.facts.machine
    )
    assert not check([], [own], target).errors
    data = bytearray(module_file.read_bytes())
    struct.pack_into("<H", data, 18, 8)  # MIPS
    module_file.write_bytes(data)
    proof = check([], layer_of(tmp_path), target)
    assert codes(proof) == ["WRONG_MACHINE"]
    assert "pkg/_core.abi3.so is made for mips" in proof.errors[0].message
    assert proof.checks["elf"]["status"] == "failed"


def arm(facts: ElfFacts) -> ElfFacts:
    return dataclasses.replace(facts, machine="aarch64")


@pytest.mark.parametrize(
    ("files", "stops"),
    [
        # A module that Python would try to import.
        ({"pkg/_core.abi3.so": arm(module("_core"))}, True),
        ({"pkg/_core.cpython-313-x86_64-linux-gnu.so": arm(module("_core"))}, True),
        # Modules of other Pythons or, by their name, of other machines are never tried, but must not be all.
        ({"pkg/_core.cpython-312-x86_64-linux-gnu.so": arm(module("_core")), "a.so": module("a")}, False),
        ({"pkg/_core.cpython-313-aarch64-linux-gnu.so": arm(module("_core")), "a.so": module("a")}, False),
        ({"pkg/_core.cpython-313-aarch64-linux-gnu.so": arm(module("_core"))}, True),
        # One build for each machine.
        ({"pkg/arm/_core.so": arm(module("_core")), "pkg/x86/_core.so": module("_core")}, False),
        ({"pkg/arm/_core.so": arm(module("_core")), "pkg/x86/_other.so": module("_other")}, True),
        # A library: useless alone, one of several otherwise.
        ({"pkg/libx.so": arm(library("libx"))}, True),
        ({"pkg/libx-arm.so": arm(library("libx")), "pkg/libx-x86.so": library("libx")}, False),
        # Programs and test data.
        ({"pkg/tool": arm(library("tool", kind="executable"))}, False),
        ({"pkg/tests/data/libx.so": arm(library("libx"))}, False),
        ({"pkg/tests/_core.so": arm(module("_core"))}, False),
        ({"pkg/kernel.o": arm(library("kernel", kind="other"))}, False),
    ],
)
def test_files_for_other_machines(files: dict[str, ElfFacts], stops: bool) -> None:
    proof = proof_of(*(item(path, facts) for path, facts in files.items()))
    assert codes(proof) == (["WRONG_MACHINE"] if stops else [])
    if not stops and not any(facts.kind == "other" for facts in files.values()):
        assert any("aarch64" in warning for warning in proof.warnings)


def test_a_wheel_for_any_machine_may_hold_libraries_for_some() -> None:
    facts = arm(library("libx"))
    assert not proof_of(item("pkg/libx.so", facts, wheel="pkg-1.0-py3-none-any.whl")).errors


def test_an_added_system_library_must_fit() -> None:
    assert codes(proof_of(item("lib/libx.so.1", arm(library("libx")), "libx", ""))) == ["WRONG_MACHINE"]


def test_unreadable_files_are_worth_a_word_if_they_look_like_libraries() -> None:
    broken = elf.ElfFacts("", machine="", kind="broken")
    proof = proof_of(item("pkg/libx.so.1", broken), item("pkg/picture.dat", broken))
    assert not proof.errors
    assert len(proof.warnings) == 1
    assert "libx.so.1" in proof.warnings[0]
    assert "picture.dat" not in proof.warnings[0]


# ---- versions ----


def needing(family: str, version: str, soname: str = "libc.so.6", **facts: object) -> ElfFacts:
    need = VersionNeed(soname, family, version)
    return module("_core", versions=(need,), **{"needed": (soname,), **facts})


@pytest.mark.parametrize(
    ("runtime", "family", "version", "soname", "stops"),
    [
        ("python3.13", "GLIBC", "2.34", "libc.so.6", False),
        ("python3.13", "GLIBC", "2.35", "libm.so.6", True),
        ("python3.13", "GLIBC", "2.4", "libc.so.6", False),
        ("python3.11", "GLIBC", "2.26", "libc.so.6", False),
        ("python3.11", "GLIBC", "2.27", "libc.so.6", True),
        ("python3.13", "GLIBCXX", "3.4.29", "libstdc++.so.6", False),
        ("python3.13", "GLIBCXX", "3.4.30", "libstdc++.so.6", True),
        ("python3.11", "GLIBCXX", "3.4.24", "libstdc++.so.6", False),
        ("python3.11", "GLIBCXX", "3.4.25", "libstdc++.so.6", True),
        ("python3.13", "CXXABI", "1.3.13", "libstdc++.so.6", False),
        ("python3.13", "CXXABI", "1.3.14", "libstdc++.so.6", True),
        ("python3.13", "GCC", "11.0", "libgcc_s.so.1", False),
        ("python3.13", "GCC", "12.0.0", "libgcc_s.so.1", True),
        ("python3.11", "GCC", "7.0.0", "libgcc_s.so.1", False),
        ("python3.13", "ZLIB", "1.2.9", "libz.so.1", False),
        ("python3.11", "ZLIB", "1.2.9", "libz.so.1", True),
        ("python3.13", "GLIBC_ABI_DT_RELR", "", "libc.so.6", True),
        ("python3.13", "GLIBC_PRIVATE", "", "libc.so.6", False),
        ("python3.13", "CXXABI_TM_1", "", "libstdc++.so.6", False),
    ],
)
def test_version_ceilings(runtime: str, family: str, version: str, soname: str, stops: bool) -> None:
    target = Target.of(runtime, "x86_64")
    facts = needing(family, version, soname)
    files = [LayerElf(f"{target.site_packages}/pkg/_core.abi3.so", "pkg", WHEEL, facts)]
    proof = check([], files, target)
    assert codes(proof) == (["RUNTIME_TOO_OLD"] if stops else [])
    assert proof.checks["glibc"]["status"] == ("failed" if stops else "passed")
    if stops:
        assert str(VersionNeed(soname, family, version)) in proof.errors[0].message


def test_versions_of_a_library_in_the_layer_have_no_ceiling() -> None:
    facts = needing("GLIBCXX", "3.4.33", "libstdc++.so.6", rpath=("$ORIGIN",))
    own = library("libstdc++.so.6", soname="libstdc++.so.6")
    assert not proof_of(item("pkg/_core.so", facts), item("pkg/libstdc++.so.6", own)).errors
    # With a runpath instead, the runtime's is found first.
    late = dataclasses.replace(facts, rpath=(), runpath=("$ORIGIN",))
    assert codes(proof_of(item("pkg/_core.so", late), item("pkg/libstdc++.so.6", own))) == ["RUNTIME_TOO_OLD"]


def test_versions_of_optional_files_are_worth_a_word() -> None:
    proof = proof_of(item("pkg/tests/_core.so", needing("GLIBC", "2.38")))
    assert not proof.errors
    assert any("GLIBC_2.38" in warning for warning in proof.warnings)


def test_the_way_out_names_only_runtimes_that_help() -> None:
    target = Target.of("python3.11", "x86_64")
    path = f"{target.site_packages}/pkg/_core.so"
    helped = check([], [LayerElf(path, "pkg", WHEEL, needing("GLIBC", "2.28"))], target).errors[0]
    assert all(name in helped.hint for name in RUNTIMES if name != "python3.11")
    assert "python3.11" not in helped.hint
    helpless = check([], [LayerElf(path, "pkg", WHEEL, needing("GLIBC", "2.39"))], target).errors[0]
    assert "python3" not in helpless.hint


def test_the_highest_versions_are_reported() -> None:
    proof = proof_of(item("pkg/_a.so", needing("GLIBC", "2.9")), item("pkg/_b.so", needing("GLIBC", "2.17")))
    highest = proof.checks["glibc"]["highest"]["GLIBC"]
    assert highest == {"version": "2.17", "package": "pkg", "file": f"/opt/{SITE}/pkg/_b.so"}


# ---- libraries ----


@needs_gcc
def test_a_chain_of_compiled_libraries_with_a_gap(tmp_path: Path) -> None:
    libs = f"{SITE}/pkg.libs"
    compile_all(
        tmp_path,
        [
            Library(f"{libs}/libleaf.so.1", soname="libleaf.so.1"),
            Library(f"{libs}/libmid.so.1", (f"{libs}/libleaf.so.1",), soname="libmid.so.1"),
            Library(
                f"{SITE}/pkg/_core.abi3.so",
                (f"{libs}/libmid.so.1",),
                rpath="$ORIGIN/../pkg.libs",
                source=module_source("_core"),
            ),
        ],
    )
    machine = layer_of(tmp_path)[0].facts.machine
    target = Target.of("python3.13", {"aarch64": "arm64"}.get(machine, machine))
    assert not check([], layer_of(tmp_path), target).errors
    (tmp_path / libs / "libleaf.so.1").unlink()
    proof = check([], layer_of(tmp_path), target)
    assert [missing.library for missing in proof.missing] == ["libleaf.so.1"]
    assert codes(proof) == ["MISSING_SHARED_LIBRARY"]
    assert "pkg needs libleaf.so.1 (for pkg.libs/libmid.so.1)" in proof.errors[0].message


def lacking(*names: str, **facts: object) -> ElfFacts:
    return module("_core", needed=(*names, "libc.so.6"), **facts)


def test_several_packages_that_lack_libraries_are_all_named() -> None:
    proof = proof_of(
        item("one/_core.so", lacking("liba.so.1"), "one"),
        item("cv2/cv2.abi3.so", lacking("liba.so.1", "libGL.so.1"), "opencv-python"),
    )
    assert proof.error
    assert proof.error.message.startswith("opencv-python needs libGL.so.1 and liba.so.1")
    assert "one" in proof.error.message
    assert "opencv-python-headless" in proof.error.hint
    assert [entry["library"] for entry in proof.error.details["missing"]] == ["libGL.so.1", "liba.so.1"]


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("pkg/plugins/libp.so", library("libp.so", needed=("liba.so.1",))),
        ("pkg/tests/_core.so", lacking("liba.so.1")),
        ("pkg/_core.cpython-312-x86_64-linux-gnu.so", lacking("liba.so.1")),
        ("pkg/helper", library("helper", kind="executable", needed=("liba.so.1",))),
        ("numba/np/ufunc/tbbpool.cpython-313-x86_64-linux-gnu.so", lacking("liba.so.1")),
        ("mysql/vendor/plugin/webauthn.so", library("webauthn.so", needed=("liba.so.1",))),
        ("mysql/vendor/private/sasl2/libs.so.3.0", library("libs.so.3", needed=("liba.so.1",))),
    ],
)
def test_what_optional_files_lack_is_worth_a_word(path: str, facts: ElfFacts) -> None:
    package = path.partition("/")[0].replace("mysql", "mysql-connector-python")
    proof = proof_of(item(path, facts, package))
    assert not proof.errors
    assert [(missing.library, missing.essential) for missing in proof.missing] == [("liba.so.1", False)]
    assert any("liba.so.1" in warning and path in warning for warning in proof.warnings)


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("pkg/libp.so", library("libp.so", needed=("liba.so.1",))),
        ("pkg/plugins/_core.so", lacking("liba.so.1")),
        ("mysql/vendor/libssl.so.3", library("libssl.so.3", needed=("liba.so.1",))),
        ("bin/tool", library("tool", kind="executable", needed=("liba.so.1",))),
        ("lib/libs.so.1", library("libs.so.1", needed=("liba.so.1",))),
    ],
)
def test_what_essential_files_lack_stops_the_build(path: str, facts: ElfFacts) -> None:
    assert codes(proof_of(item(path, facts))) == ["MISSING_SHARED_LIBRARY"]


def test_a_library_in_the_lib_folder_ends_the_lack() -> None:
    lacks = item("pkg/_core.so", lacking("libodbc.so.2"))
    added = item("lib/libodbc.so.2", library("libodbc.so.2", needed=("libltdl.so.7",)), "unixODBC", "")
    proof = proof_of(lacks, added)
    assert [missing.library for missing in proof.missing] == ["libltdl.so.7"]
    more = item("lib/libltdl.so.7", library("libltdl.so.7"), "libtool-ltdl", "")
    assert not proof_of(lacks, added, more).missing


@pytest.mark.parametrize("name", ["libglib-2.0.so.0", "libgthread-2.0.so.0", "libpython3.13.so.1.0"])
def test_what_the_runtime_may_have_is_worth_a_word(name: str) -> None:
    proof = proof_of(item("pkg/_core.so", lacking(name)))
    assert not proof.errors
    assert [missing.doubtful for missing in proof.missing] == [True]
    assert any(name in warning for warning in proof.warnings)


def test_another_pythons_library_is_missing() -> None:
    assert codes(proof_of(item("pkg/_core.so", lacking("libpython3.12.so.1.0")))) == [
        "MISSING_SHARED_LIBRARY"
    ]


def test_what_is_elsewhere_in_the_layer_may_have_been_loaded_before() -> None:
    proof = proof_of(
        item("one/_core.so", lacking("liba.so.1"), "one"),
        item("two.libs/liba-77.so.1", library("liba", soname="liba.so.1"), "two"),
    )
    assert not proof.errors
    assert not proof.missing
    assert any("liba.so.1" in w and "two.libs/liba-77.so.1" in w for w in proof.warnings)


def test_an_accepted_lack_is_worth_a_word() -> None:
    proof = proof_of(item("pkg/_core.so", lacking("liba.so.1")), accepted=["liba.so.1"])
    assert not proof.errors
    assert any("liba.so.1" in warning and "accepted" in warning for warning in proof.warnings)


@pytest.mark.parametrize(
    "name", ["libexpat.so.1", "libcrypt.so.1", "libnsl.so.1", "libatomic.so.1", "libgomp.so.1", "libssl.so.3"]
)
def test_what_systems_often_have_and_lambda_has_not(name: str) -> None:
    assert codes(proof_of(item("pkg/_core.so", lacking(name)))) == ["MISSING_SHARED_LIBRARY"]


def test_the_vector_math_library_is_of_x86_64_only() -> None:
    facts = lacking("libmvec.so.1")
    assert not proof_of(item("pkg/_core.so", facts)).errors
    target = Target.of("python3.13", "arm64")
    assert codes(check([], [item("pkg/_core.so", arm(facts))], target)) == ["MISSING_SHARED_LIBRARY"]


def test_a_file_for_alpine_says_so() -> None:
    proof = proof_of(item("pkg/_core.so", module("_core", needed=("libc.musl-x86_64.so.1",))))
    assert "Alpine" in proof.errors[0].hint


# ---- what runs later ----


@pytest.mark.parametrize("package", base_libraries.RUN_TIME_NEEDS)
def test_needs_at_run_time_are_said_until_they_are_met(package: str) -> None:
    needs = base_libraries.RUN_TIME_NEEDS[package]
    own = LayerFile(f"{SITE}/{package}/__init__.py", package, 10)
    absent = [*needs.libraries, *needs.programs]
    (warning,) = check([own], [], TARGET).warnings
    assert warning.startswith(f"{package} ")
    assert absent[0] in warning
    assert needs.remedy
    assert needs.remedy in warning
    met = [own, *(LayerFile(f"lib/{name}", "x", 1) for name in needs.libraries)]
    met += [LayerFile(f"bin/{name}", "x", 1) for name in needs.programs]
    assert not check(met, [], TARGET).warnings


# ---- sizes ----


def test_sizes_add_up() -> None:
    files = [
        LayerFile("a/x.py", "a", 100),
        LayerFile("a/x.pyi", "a", 10),
        LayerFile("a/tests/x.py", "a", 20),
        LayerFile("a/tests/x.pyi", "a", 5),
        LayerFile("a/__pycache__/x.cpython-313.pyc", "a", 70),
        LayerFile("a/include/x.h", "a", 3),
        LayerFile("b/x.py", "b", 1000),
        LayerFile("botocore/tests/x.py", "botocore", 4000),
    ]
    measured = sizes.measure(files)
    assert measured.total == sum(file.size for file in files)
    assert list(measured.packages.items()) == [("botocore", 4000), ("b", 1000), ("a", 208)]
    by_kind = {what.partition(" ")[0]: sum(parts.values()) for what, parts in measured.could_go.items()}
    assert by_kind == {"the": 4000, "bytecode": 70, "tests": 25, "type": 10, "sources,": 3}
    assert measured.check["left_bytes"] == MAX_UNZIPPED_BYTES - measured.total
    assert not measured.error
    assert not measured.warning


@pytest.mark.parametrize(
    ("total", "status"), [(MAX_UNZIPPED_BYTES, "passed"), (MAX_UNZIPPED_BYTES + 1, "failed")]
)
def test_the_limit_is_exact(total: int, status: str) -> None:
    proof = check([LayerFile("a", "big", total - 5), LayerFile("b.pyi", "small", 5)], [], TARGET)
    assert proof.checks["size"]["status"] == status
    assert codes(proof) == (["LAYER_TOO_LARGE"] if status == "failed" else [])
    if status == "passed":
        assert any("leaves 0.0 MB" in warning for warning in proof.warnings)
    else:
        assert f"{total:,}" in proof.errors[0].message
        assert "big" in proof.errors[0].hint
        assert "type stubs" in proof.errors[0].hint


def test_an_empty_layer_is_measured() -> None:
    assert check([], [], TARGET).checks["size"]["largest"] == []


# ---- the whole ----


@needs_gcc
def test_a_planned_layer_is_proved_where_its_files_will_be(tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    compile_all(
        libraries,
        [
            Library("share/libx.so.1", soname="libx.so.1"),
            Library(
                "_core.abi3.so", ("share/libx.so.1",), rpath="$ORIGIN/../share", source=module_source("_core")
            ),
        ],
    )
    data = "pkg-1.0.data"
    files = {
        f"{data}/platlib/pkg/_core.abi3.so": Content((libraries / "_core.abi3.so").read_bytes()),
        f"{data}/data/share/libx.so.1": Content((libraries / "share/libx.so.1").read_bytes()),
        "pkg/__init__.py": "",
    }
    machine = layer_of(libraries)[0].facts.machine
    target = Target.of("python3.13", {"aarch64": "arm64"}.get(machine, machine))
    wheel = load(make_wheel(tmp_path, "pkg", files=files))
    proof = prove(archive.plan([wheel], target), target)
    assert not proof.errors
    assert proof.checks["elf"]["files"] == 2
    assert proof.checks["size"]["unzipped_bytes"] == sum(
        entry.size for entry in archive.plan([wheel], target).entries
    )


def test_errors_come_most_telling_first_with_the_others_in_the_details() -> None:
    proof = check(
        [LayerFile("x", "big", MAX_UNZIPPED_BYTES + 1)],
        [
            item("pkg/_a.abi3.so", arm(module("_a"))),
            item("pkg/_b.abi3.so", needing("GLIBC", "2.99")),
            item("pkg/_c.abi3.so", lacking("liba.so.1")),
        ],
        TARGET,
    )
    assert proof.error
    assert proof.error.code == "WRONG_MACHINE"
    also = [other["code"] for other in proof.error.details["also"]]
    assert also == ["RUNTIME_TOO_OLD", "MISSING_SHARED_LIBRARY", "LAYER_TOO_LARGE"]


def test_the_checks_are_json_and_small() -> None:
    items = [item(f"pkg/_m{number}.abi3.so", lacking("liba.so.1", "libm.so.6")) for number in range(500)]
    proof = proof_of(*items)
    assert len(json.dumps(proof.checks)) < 5000
    assert proof.error
    assert len(json.dumps(proof.error.details)) < 5000
    assert not re.search(r"\s\s", proof.error.message)
