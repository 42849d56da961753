"""A package that takes the place of another's files, of the standard library or of the runtime's modules."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from layer_builder.ground import interpreter
from layer_builder.ground.target import RUNTIMES, Target
from layer_builder.layer import archive, shadows
from tests.unit.builder.wheel_maker import Content, load, make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layer_builder.layer.archive import Plan
    from tests.security.builder.conftest import Build
    from tests.unit.builder.wheel_maker import Index

TARGET = Target.of("python3.13", "arm64")
_TABLE = [zlib.crc32(bytes([byte])) ^ zlib.crc32(b"\0") for byte in range(256)]


def forged(evil: bytes, like: bytes) -> bytes:
    """Fill up a content so that it has the length and the CRC-32 of another: its last four bytes do it."""
    evil = evil.ljust(len(like) - 4, b"#")
    table = {entry >> 24: (index, entry) for index, entry in enumerate(_TABLE)}
    now, wanted = zlib.crc32(evil) ^ 0xFFFFFFFF, zlib.crc32(like) ^ 0xFFFFFFFF
    indexes = []
    for _ in range(4):  # backwards: which row of the table was used follows from the highest byte
        index, entry = table[wanted >> 24]
        indexes.append(index)
        wanted = ((wanted ^ entry) << 8 | index) & 0xFFFFFFFF
    patch = bytearray()
    for index in reversed(indexes):
        patch.append((now ^ index) & 0xFF)
        now = _TABLE[index] ^ now >> 8
    content = evil + bytes(patch)
    assert (zlib.crc32(content), len(content)) == (zlib.crc32(like), len(like))
    return content


def plan(
    folder: Path, *wheels: tuple[str, Mapping[str, str | bytes | Content]], target: Target = TARGET
) -> Plan:
    return archive.plan([load(make_wheel(folder, name, files=files)) for name, files in wheels], target)


GOOD = b"def verify(signature):\n    return signature.is_valid() and signature.is_fresh()\n"
EVIL = forged(b"def verify(signature):\n    return True\n", GOOD)
METHODS = [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2]


@pytest.mark.attack(
    "a package replaces a file of another by one of equal length with a forged CRC-32, unseen"
)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("other", METHODS)
def test_a_forged_checksum_hides_no_other_content(tmp_path: Path, method: int, other: int) -> None:
    assert GOOD != EVIL
    assert (zlib.crc32(GOOD), len(GOOD)) == (zlib.crc32(EVIL), len(EVIL))
    planned = plan(
        tmp_path,
        ("victim", {"victim.py": Content(GOOD, method=other)}),
        ("evil", {"evil.py": "", "victim.py": Content(EVIL, method=method)}),
    )
    assert [one for one in planned.warnings if "victim.py is in both evil and victim" in one]


@pytest.mark.attack("a wheel says that a file has the CRC-32 of another package's, which is not so")
def test_a_checksum_that_only_the_directory_has_is_refused(index: Index, build: Build) -> None:
    file = make_wheel(index.folder, "evil", files={"evil.py": "", "victim.py": Content(EVIL[:-4] + b"....")})
    crc = zlib.crc32(EVIL[:-4] + b"....").to_bytes(4, "little")
    file.write_bytes(file.read_bytes().replace(crc, zlib.crc32(GOOD).to_bytes(4, "little")))
    answer = build("-r", "evil")
    assert (answer.status, answer.code) == (2, "UNSAFE_WHEEL")


@hypothesis_settings(deadline=None, max_examples=50)
@given(st.binary(max_size=2_000), st.binary(max_size=2_000), st.sampled_from(METHODS[:2]))
def test_equal_files_are_no_conflict_and_others_are(
    tmp_path_factory: pytest.TempPathFactory, one: bytes, other: bytes, method: int
) -> None:
    for content in (one, other):
        planned = plan(
            tmp_path_factory.mktemp("wheels"),
            ("victim", {"x.bin": Content(one, method=method)}),
            ("evil", {"x.bin": Content(content)}),
        )
        assert bool(planned.warnings) == (content != one)


def said(folder: Path, files: Mapping[str, str | bytes | Content], name: str = "evil",
         target: Target = TARGET) -> tuple[str, ...]:  # fmt: skip
    return plan(folder, (name, {"own_module.py": "", **files}), target=target).warnings


SHADOWS = {
    "json.py": "json", "json/__init__.py": "json", "_json.cpython-313-aarch64-linux-gnu.so": "_json",
    "_json.abi3.so": "_json", "_json.so": "_json", "typing.py": "typing", "ssl.pyc": "ssl",
    "asyncio/__init__.py": "asyncio", "xml/__init__.abi3.so": "xml", "evil-1.0.data/purelib/os.py": "os",
    "evil-1.0.data/platlib/secrets.py": "secrets", "boto3/__init__.py": "boto3", "boto3.py": "boto3",
    "botocore/__init__.py": "botocore", "awslambdaric/__init__.py": "awslambdaric",
    "runtime_client.cpython-313-aarch64-linux-gnu.so": "runtime_client",
    "s3transfer/__init__.py": "s3transfer", "jmespath/__init__.py": "jmespath",
    "sitecustomize.py": "sitecustomize", "usercustomize.py": "usercustomize",
}  # fmt: skip


@pytest.mark.attack("a package brings a module of the standard library's or the runtime's name")
@pytest.mark.parametrize(("path", "name"), SHADOWS.items(), ids=SHADOWS)
def test_modules_of_others_are_told(tmp_path: Path, path: str, name: str) -> None:
    (warning,) = said(tmp_path, {path: ""})
    assert warning.startswith(f"evil brings {name}, which ")


HARMLESS = [
    "json.txt", "json", "xml/data.json", "xml/etree.py", "pkg/json.py",
    "json.cpython-312-aarch64-linux-gnu.so",
    "json.cpython-313-x86_64-linux-gnu.so", "boto3/session.py", "boto3_stubs/__init__.py",
    "json-stubs/__init__.py",
    "evil-1.0.data/data/share/json.py", "evil-1.0.data/scripts/json.py", "test/__init__.py",
    "pkg/x.pth", "x.pth.txt",
    "requests/__init__.py", "jsonschema.py", "telnetlib.py", "distutils/__init__.py",
]  # fmt: skip


@pytest.mark.parametrize("path", HARMLESS)
def test_what_takes_nobodys_place_is_not_told(tmp_path: Path, path: str) -> None:
    assert said(tmp_path, {path: ""}) == ()


@pytest.mark.parametrize("name", ["boto3", "botocore", "awslambdaric", "s3transfer", "jmespath"])
def test_who_asks_for_the_runtimes_own_packages_knows(tmp_path: Path, name: str) -> None:
    assert said(tmp_path, {f"{name}/__init__.py": ""}, name) == ()


def test_backports_are_told_where_the_library_has_them(tmp_path: Path) -> None:
    for minor, path, count in ((12, "telnetlib.py", 1), (13, "telnetlib.py", 0), (13, "annotationlib.py", 0),
                               (14, "annotationlib.py", 1), (11, "distutils/__init__.py", 1),
                               (12, "distutils/__init__.py", 0)):  # fmt: skip
        folder = tmp_path / f"{minor}-{path.partition('.')[0].partition('/')[0]}"
        assert len(said(folder, {path: ""}, target=Target.of(f"python3.{minor}", "arm64"))) == count


def test_many_names_are_one_sentence(tmp_path: Path) -> None:
    (warning,) = said(tmp_path, {f"{name}.py": "" for name in ("json", "csv", "boto3", "botocore")})
    assert "boto3" in warning
    assert "csv" in warning
    assert "which the standard library and the runtime have" in warning


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_standard_library_is_that_of_the_runtime(runtime: str) -> None:
    """As its own interpreter has it, where there is one."""
    found = interpreter.find(runtime.removeprefix("python"))
    if found is None:
        pytest.skip(f"there is no {runtime} on this machine")
    script = "import json, sys; print(json.dumps(sorted(sys.stdlib_module_names)))"
    names = subprocess.run(
        [found.path, "-I", "-c", script], env=found.environment, capture_output=True, check=True
    )
    assert shadows.standard_library(Target.of(runtime, "arm64")) == set(json.loads(names.stdout))


PTH = {
    "import os; os.system('id')\n": True,
    "import\tos\n": True,
    "# a comment\n../elsewhere\nimport sys; exec('x')\n": True,
    "/tmp/evil\n": False,
    "": False,
    "#" * 70_000: True,
}


@pytest.mark.attack("a package brings a .pth file, which is run at each start of a function, imported or not")
@pytest.mark.parametrize(("content", "runs"), PTH.items(), ids=[repr(one[:20]) for one in PTH])
def test_path_files_are_told(tmp_path: Path, content: str, runs: bool) -> None:
    (warning,) = said(tmp_path, {"evil.pth": content})
    assert warning.startswith("evil brings evil.pth, which ")
    assert ("runs at the start of every function" in warning) == runs
    assert ("adds to the folders" in warning) != runs


@pytest.mark.attack("a package lays files where Lambda looks before the folder that modules are in")
@pytest.mark.parametrize("path", ["{}", "evil-1.0.data/data/{}", "evil-1.0.data/purelib/{}"])
def test_what_lambda_finds_first_is_told(tmp_path: Path, path: str) -> None:
    folder = "lib/python3.13/site-packages"
    names = ("requests/__init__.py", "boto3/__init__.py", "x.pth")
    warnings = said(tmp_path, {path.format(f"{folder}/{name}"): "" for name in names})
    assert [one.partition(",")[0] for one in warnings[:2]] == ["evil brings boto3", "evil brings x.pth"]
    assert warnings[2].startswith(f"evil brings python/{folder}/boto3/__init__.py, ")
    assert "Lambda looks there first" in warnings[2]
    assert said(tmp_path / "other", {path.format("lib/python3.12/site-packages/x.py"): ""}) == ()


def test_what_site_runs_is_what_is_said_to_run(tmp_path: Path) -> None:
    """Python's own `site` is the judge."""
    code = "import sys; print('ran')"
    lines = [code, code.replace(" ", "\t", 1), f" {code}", "imports", "print('ran')", f"#{code}"]
    for number, line in enumerate(lines):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "x.pth").write_text(line + "\n")
        script = f"import site; site.addsitedir({str(folder)!r})"
        ran = subprocess.run(
            [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
        )
        (warning,) = said(folder / "wheel", {"x.pth": line + "\n"})
        assert ("runs at the start" in warning) == ("ran" in ran.stdout)


@pytest.mark.parametrize(
    ("name", "path", "content"),
    [
        (
            "setuptools",
            "distutils-precedence.pth",
            "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = 1\n",
        ),
        (
            "zope-x",
            "zope_x-1.0-py3.12-nspkg.pth",
            "import sys, types, os;has_mfs = sys.version_info > (3, 5)\n",
        ),
    ],
)
def test_well_known_path_files_are_told_in_words_that_are_true_of_them(
    tmp_path: Path, name: str, path: str, content: str
) -> None:
    (warning,) = said(tmp_path, {path: content}, name)
    assert warning == (
        f"{name} brings {path}, which Python runs at the start of every function with this layer,"
        f" whether or not it imports {name}."
    )


def test_the_report_has_it(index: Index, build: Build) -> None:
    make_wheel(
        index.folder, "evil", files={"evil.py": "", "boto3/__init__.py": "", "evil.pth": "import os\n"}
    )
    answer = build("-r", "evil")
    assert answer.status == 0
    assert [
        one for one in answer.report["warnings"] if one.startswith("evil brings boto3, which the runtime has")
    ]
    assert [
        one for one in answer.report["warnings"] if one.startswith("evil brings evil.pth, which Python runs")
    ]


@pytest.mark.attack("a package's Requires-Dist lines make the judge of conflicts stumble")
@pytest.mark.parametrize(
    "line",
    [
        "victim; python_version ~= 'x'",
        "victim; extra == 'a' and evil == 'b'",
        "victim; " + "(" * 5_000,
        "((",
        "a" * 50_000,
    ],
)
def test_odd_requirements_of_packages_in_conflict(tmp_path: Path, line: str) -> None:
    wheels = [
        load(make_wheel(tmp_path, "victim", files={"x.py": "1"})),
        load(make_wheel(tmp_path, "evil", files={"x.py": "2"}, requires=(line,))),
    ]
    assert archive.plan(wheels, TARGET).warnings
