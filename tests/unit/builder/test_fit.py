"""What is left out to make a layer fit: only what nothing needs, only as much as it takes."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layer_builder.ground.target import Target
from layer_builder.layer import archive, fit
from layer_builder.layer.fit import GPU, HEADERS, STUBS, TESTS
from tests.unit.builder.native_maker import Library, compile_one, module_source, needs_gcc
from tests.unit.builder.wheel_maker import Content, load, make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layer_builder.layer.archive import Plan
    from layer_builder.layer.fit import Fitted

TARGET = Target.of("python3.13", "x86_64")
Files = dict[str, str | bytes | Content]


def plan_of(folder: Path, packages: Mapping[str, Files], **more: Any) -> Plan:
    # Each in a folder of its own, as in the cache: what is known of a wheel lies beside it.
    wheels = [make_wheel(folder / name, name, files=files, **more) for name, files in packages.items()]
    return archive.plan([load(wheel) for wheel in wheels], TARGET)


def paths(plan: Plan) -> set[str]:
    return {entry.path.removeprefix("python/") for entry in plan.entries}


def gone(plan: Plan, fitted: Fitted) -> set[str]:
    return paths(plan) - paths(fitted.plan)


PACKAGE: Files = {
    "pkg/__init__.py": "x = 1\n",
    "pkg/core.h": "h" * 100,
    "pkg/lib/libpkg.a": "a" * 200,
    "pkg/_fast.pyx": "p" * 50,
    "pkg/core.pyi": "s" * 300,
    "pkg/py.typed": "",
    "pkg/tests/__init__.py": "",
    "pkg/tests/test_core.py": "t" * 500,
    "pkg/tests/data/table.csv": "d" * 500,
    "pkg/testing/__init__.py": "def check(): pass\n",
    "pkg/data/tests.csv": "not tests",
}
TRITON: Files = {"triton/__init__.py": "g" * 1000, "triton/backend.so.1": "g" * 1000}


def test_slim_leaves_out_all_of_it_and_nothing_else(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"pkg": PACKAGE, "triton": TRITON})
    fitted = fit.slim(plan, ["pkg"])
    assert {group.what: (group.files, group.bytes) for group in fitted.groups} == {
        HEADERS: (3, 350), STUBS: (1, 300), TESTS: (3, 1000), GPU: (2, 2000),
    }  # fmt: skip
    assert gone(plan, fitted) == {
        *("pkg/core.h", "pkg/lib/libpkg.a", "pkg/_fast.pyx", "pkg/core.pyi"),
        *("pkg/tests/__init__.py", "pkg/tests/test_core.py", "pkg/tests/data/table.csv"),
        *TRITON,
    }
    assert sum(fitted.plan.sizes.values()) == sum(entry.size for entry in fitted.plan.entries)
    assert fitted.check["bytes"] == plan.unzipped_bytes - fitted.plan.unzipped_bytes


@pytest.mark.parametrize(
    ("excess", "kinds"),
    [
        (0, []),
        (1, [HEADERS]),
        (350, [HEADERS]),
        (351, [HEADERS, STUBS]),
        (651, [HEADERS, STUBS, TESTS]),
        (1651, [HEADERS, STUBS, TESTS, GPU]),
        (9999, [HEADERS, STUBS, TESTS, GPU]),
    ],
)
def test_only_what_is_needed_in_this_order(tmp_path: Path, excess: int, kinds: list[str]) -> None:
    plan = plan_of(tmp_path, {"pkg": PACKAGE, "triton": TRITON})
    limit = plan.unzipped_bytes - excess
    fitted = fit.fit(plan, limit, ["pkg"])
    assert [group.what for group in fitted.groups] == kinds
    assert (fitted.plan.unzipped_bytes <= limit) == (excess < 9999)
    assert fit.fit(plan, limit + 77, ["pkg"], added=77).groups == fitted.groups


def test_the_packages_with_most_of_it_go_first(tmp_path: Path) -> None:
    packages: dict[str, Files] = {
        name: {f"{name}.py": "", f"{name}.h": "x" * size}
        for name, size in {"a": 10, "b": 300, "c": 300, "d": 5}.items()
    }
    plan = plan_of(tmp_path, packages)
    for excess, taken in ((300, ["b"]), (301, ["b", "c"]), (601, ["b", "c", "a"])):
        (group,) = fit.fit(plan, plan.unzipped_bytes - excess, []).groups
        assert list(group.packages) == taken


KEPT: dict[str, tuple[Files, str]] = {
    "tests: imported absolutely": ({"pkg/x.py": "import pkg.tests.test_core as t\n"}, TESTS),
    "tests: from their package": ({"pkg/x.py": "from pkg import core, tests\n"}, TESTS),
    "tests: from a bracket": ({"pkg/x.py": "from pkg import (\n    core,\n    tests,\n)\n"}, TESTS),
    "tests: over two lines": ({"pkg/x.py": "from pkg import core, \\\n    tests\n"}, TESTS),
    "tests: from within": ({"pkg/x.py": "from pkg.tests.test_core import helper\n"}, TESTS),
    "tests: relatively": ({"pkg/x.py": "from .tests import test_core\n"}, TESTS),
    "tests: relatively, by name": ({"pkg/x.py": "from . import tests\n"}, TESTS),
    "tests: from below": ({"pkg/sub/x.py": "from ..tests.test_core import helper\n"}, TESTS),
    "tests: from below, by name": ({"pkg/sub/x.py": "from .. import tests\n"}, TESTS),
    "tests: within a function": ({"pkg/x.py": "def f():\n    import pkg.tests\n"}, TESTS),
    "tests: by name": ({"pkg/x.py": "import importlib\nimportlib.import_module('pkg.tests')\n"}, TESTS),
    "tests: of another package": ({"other.py": "from pkg.tests import test_core\n"}, TESTS),
    "tests: of a command": ({"pkg-1.0.data/scripts/run": "#!python\nimport pkg.tests\n"}, TESTS),
    "tests: compiled in": ({"pkg/x.so": b"\0" * 9 + b"\0pkg.tests\0"}, TESTS),
    "tests: compiled in, with a module": ({"pkg/x.abi3.so": b"\0pkg.tests.test_core\0"}, TESTS),
    "tests: a file": ({"pkg/x.py": "open(dirname(__file__) + '/tests/data/table.csv')\n"}, TESTS),
    "tests: a file, in parts": ({"pkg/x.py": "join(dirname(__file__), 'tests', 'data')\n"}, TESTS),
    "tests: a path": ({"pkg/x.py": "Path(__file__).parent / 'tests' / 'data'\n"}, TESTS),
    "stubs: lazy_loader": ({"pkg/x.py": "import lazy_loader as l\nl.attach_stub(__name__, 'x')\n"}, STUBS),
    "stubs: as data": ({"pkg/x.py": "def find(m): return m + '.pyi'\n"}, STUBS),
    "headers: by name": ({"pkg/x.py": "load('core.h', 'libpkg.a', '_fast.pyx')\n"}, HEADERS),
    "headers: by kind": ({"pkg/x.py": "f.endswith(('.h', '.a')) or glob(\"*.pyx\")\n"}, HEADERS),
}  # fmt: skip


@pytest.mark.parametrize(("files", "kind"), KEPT.values(), ids=KEPT)
def test_what_something_needs_stays(tmp_path: Path, files: Files, kind: str) -> None:
    plan = plan_of(tmp_path, {"pkg": PACKAGE | files})
    assert kind not in {group.what for group in fit.slim(plan, []).groups}
    # And without that file it would have gone.
    bare = plan_of(tmp_path / "bare", {"pkg": PACKAGE})
    assert kind in {group.what for group in fit.slim(bare, []).groups}


def test_tests_that_an_entry_point_names_stay(tmp_path: Path) -> None:
    points = "[pytest11]\npkg = pkg.tests.test_core\n"
    plan = plan_of(tmp_path, {"pkg": PACKAGE}, entry_points=points)
    assert TESTS not in {group.what for group in fit.slim(plan, []).groups}


def test_tests_that_only_tests_need_go_and_those_that_needed_ones_need_stay(tmp_path: Path) -> None:
    files: Files = {
        "pkg/__init__.py": "from pkg.a.tests import helper\n",
        "pkg/a/tests/test_a.py": "from pkg.b.tests import other\n",
        "pkg/b/tests/test_b.py": "",
        "pkg/c/tests/test_c.py": "from pkg.d.tests import other\n# c\n",
        "pkg/d/tests/test_d.py": "# d\n",
        "conftest.py": "import pkg.c.tests\n",
        "pkg/e/tests/data.csv": "no module of a test\n",
        "pkg/test/client.py": "an API, as django's\n",
    }
    plan = plan_of(tmp_path, {"pkg": files})
    assert gone(plan, fit.slim(plan, [])) == {"pkg/c/tests/test_c.py", "pkg/d/tests/test_d.py"}


NOT_NAMED = [
    "self.tests = 1\n", "# run the tests\n", "x = 'tests'\n", "import pkg.testing\n",
    "from pkg import testing\n", "from pkg.testing import tests_of\n", "import unittest\n",
    "path = os.path.join(dirname(__file__), 'tests')\n",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_NAMED)
def test_words_alone_keep_nothing(tmp_path: Path, text: str) -> None:
    plan = plan_of(tmp_path, {"pkg": {**PACKAGE, "pkg/x.py": text}})
    assert TESTS in {group.what for group in fit.slim(plan, []).groups}


@pytest.mark.attack("a package has a folder whose name stands for another one's when tests are looked for")
def test_folders_of_the_same_dotted_name_all_stay(tmp_path: Path) -> None:
    files: Files = {
        "pkg/__init__.py": "import pkg.sub.tests\n",
        "pkg/sub/tests/test_x.py": "x",
        "pkg.sub/tests/test_x.py": "x",
    }
    plan = plan_of(tmp_path, {"pkg": files})
    assert gone(plan, fit.slim(plan, [])) == set()


def test_dist_info_stays_whole(tmp_path: Path) -> None:
    replaced = {"tests/test_x.py": "x", "x.h": "x", "licenses/x.pyi": "x"}
    plan = plan_of(tmp_path, {"pkg": PACKAGE, "nvidia-x": {"nvidia/x/a.so": "x"}}, replaced=replaced)
    fitted = fit.slim(plan, [])
    assert {path for path in gone(plan, fitted) if ".dist-info" in path} == set()
    assert GPU in {group.what for group in fitted.groups}


@pytest.mark.parametrize(
    "odd",
    [
        {"pkg/odd.py": Content(b"x = 1\n" * 100, method=zipfile.ZIP_BZIP2)},
        {"lib/python3.13/site-packages/pkg2/x.py": "x = 1\n"},
    ],
    ids=["compressed in another way", "in the folder that is searched first"],
)
def test_where_a_module_cannot_be_read_nothing_goes(tmp_path: Path, odd: Files) -> None:
    plan = plan_of(tmp_path, {"pkg": PACKAGE | odd, "triton": TRITON})
    assert fit.slim(plan, []).groups == ()


GPU_KEPT: dict[str, tuple[str, Files]] = {
    "triton: imported": ("triton", {"app.py": "import os\nimport triton.language\n"}),
    "triton: something of it": ("triton", {"app.py": "from triton import jit\n"}),
    "nvidia-x: imported": ("nvidia-x", {"app.py": "import nvidia.x\n"}),
    "nvidia-x: through the namespace": ("nvidia-x", {"app.py": "from nvidia import x\n"}),
}


@pytest.mark.parametrize(("name", "app"), GPU_KEPT.values(), ids=GPU_KEPT)
def test_gpu_packages_stay_that_imports_need(tmp_path: Path, name: str, app: Files) -> None:
    packages: dict[str, Files] = {"app": app, "triton": TRITON, "nvidia-x": {"nvidia/x/__init__.py": "x"}}
    plan = plan_of(tmp_path, packages)
    (group,) = fit.slim(plan, ["app"]).groups
    assert list(group.packages) == [{"triton": "nvidia-x"}.get(name, "triton")]
    lazy = "def f():\n    import triton, nvidia.x\ntry:\n    import nvidia.x\nexcept ImportError: x = 1\n"
    plan = plan_of(tmp_path / "lazy", {**packages, "app": {"app.py": lazy}})
    (group,) = fit.slim(plan, ["app"]).groups
    assert set(group.packages) == {"triton", "nvidia-x"}
    (group,) = fit.slim(plan, ["app", name]).groups
    assert name not in group.packages


@needs_gcc
def test_gpu_libraries_stay_that_are_linked(tmp_path: Path) -> None:
    """Also those that only such a library needs."""
    made = tmp_path / "made"
    for soname, needed in (("libz.so.9", ()), ("liby.so.9", ("libz.so.9",)), ("libn.so.9", ())):
        compile_one(made, Library(soname, soname=soname, needed=needed))
    module = compile_one(made, Library("app.abi3.so", source=module_source("app"), needed=("liby.so.9",)))
    packages: dict[str, Files] = {
        "app": {"app.abi3.so": module.read_bytes()},
        "nvidia-y": {"nvidia/y/liby.so.9": (made / "liby.so.9").read_bytes()},
        "nvidia-z": {"nvidia/z/libz.so.9": (made / "libz.so.9").read_bytes()},
        "nvidia-n": {"nvidia/n/libn.so.9": (made / "libn.so.9").read_bytes()},
    }
    (group,) = fit.slim(plan_of(tmp_path, packages), ["app"]).groups
    assert set(group.packages) == {"nvidia-n"}


@pytest.mark.sample(2)
@pytest.mark.attack("a package's modules are written so that to search them takes hours")
@pytest.mark.parametrize(
    "text",
    [
        b"a" * 3_000_000,
        b"from a import (\n" * 200_000,
        b"from " + b"." * 3_000_000,
        b".tests" * 500_000,
        b"a.tests" * 400_000,
        b"'tests/" * 400_000,
        b"__file__ '" + b"tests/" * 500_000,
        b"from a import \\\n" * 200_000,
        b".h'" * 1_000_000,
        b"import tests\n" * 200_000,
    ],
    ids=lambda text: text[:20].decode(),
)  # fmt: skip
def test_searching_takes_no_longer_than_reading(tmp_path: Path, text: bytes) -> None:
    import time

    files: Files = {**PACKAGE, "pkg/x.py": b"__file__ tests\n" + text, "pkg/y.so": text}
    plan = plan_of(tmp_path, {"pkg": files})
    start = time.process_time()
    fit.slim(plan, [])
    assert time.process_time() - start < 20


NAMES = st.sampled_from(["pkg", "core", "tests", "test", "x", "data"])
PATHS = st.builds(
    lambda folders, name: "/".join([*folders, name]),
    st.lists(NAMES, min_size=1, max_size=3),
    st.sampled_from(["__init__.py", "test_x.py", "a.h", "b.pyi", "c.csv", "m.py"]),
)
TEXTS = st.sampled_from(
    ["", "import pkg.tests\n", "from . import tests\n", "x = 'a.h'\n", "from ..test import x\n"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(PATHS, TEXTS, max_size=12), st.integers(0, 200))
def test_what_goes_follows_from_the_wheels_and_the_limit(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, str], excess: int
) -> None:
    plan = plan_of(tmp_path_factory.mktemp("one"), {"pkg": {"pkg0.py": "", **files}, "b": {"b.h": "xx"}})
    limit = plan.unzipped_bytes - excess
    one = fit.fit(plan, limit, [])
    again = fit.fit(
        plan_of(tmp_path_factory.mktemp("two"), {"b": {"b.h": "xx"}, "pkg": {"pkg0.py": "", **files}}),
        limit,
        [],
    )
    assert (paths(one.plan), one.groups) == (paths(again.plan), again.groups)
    most = fit.slim(plan, [])
    assert paths(most.plan) <= paths(one.plan) <= paths(plan)
    assert one.plan.unzipped_bytes <= max(limit, most.plan.unzipped_bytes)
    assert sum(one.plan.sizes.values()) == sum(entry.size for entry in one.plan.entries)
    # No module that is left names tests that are not.
    left = paths(one.plan)
    for path, text in files.items():
        if path in left and "pkg.tests" in text and "test" not in path.rpartition("/")[0]:
            tests = {name for name in paths(plan) if name.startswith("pkg/tests/")}
            assert {name for name in tests if name.endswith(".py")} <= left
