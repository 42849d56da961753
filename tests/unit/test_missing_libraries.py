"""What a failing import's words say of the libraries it lacks: the builder's module, and the functions'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layer_builder.proof import missing_libraries as of_builder
from layerdrop import missing_libraries as of_functions

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(params=[of_builder, of_functions], ids=["builder", "functions"])
def missing_libraries(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def test_both_are_one_module() -> None:
    """They are deployed apart and share no code; what the one learns, the other must know."""
    one, other = (Path(str(module.__file__)).read_text() for module in (of_builder, of_functions))
    assert one == other


# What packages say, word for word as they said it without their libraries, and what that comes to.
CASES = [
    (["libGL.so.1: cannot open shared object file: No such file or directory"], ["libGL.so.1"]),
    # xgboost, llama_cpp: the loader's words within theirs, and a file of their own.
    (
        [
            "XGBoost Library (libxgboost.so) could not be loaded.\n"
            "Error message(s): ['libgomp.so.1: cannot open shared object file: No such file or directory']"
        ],
        ["libgomp.so.1"],
    ),
    (
        [
            "Failed to load shared library '/opt/python/llama_cpp/lib/libllama.so': libgomp.so.1: cannot open"
            " shared object file: No such file or directory"
        ],
        ["libgomp.so.1"],
    ),
    # pyvips, by cffi.
    (
        [
            "cannot load library 'libvips.so.42': libvips.so.42: cannot open shared object file: No such file"
            " or directory.  Additionally, ctypes.util.find_library() did not manage to locate a library"
            " called 'libvips.so.42'"
        ],
        ["libvips.so.42"],
    ),
    # weasyprint tries Windows' name first, and tells of that one.
    (
        [
            "cannot load library 'libgobject-2.0-0': libgobject-2.0-0: cannot open shared object file: No"
            " such file or directory.  Additionally, ctypes.util.find_library() did not manage to locate a"
            " library called 'libgobject-2.0-0'"
        ],
        ["libgobject-2.0.so.0"],
    ),
    (["cannot load library 'libpango-1.0-0': error 0x7e"], ["libpango-1.0.so.0"]),
    # cairocffi, and so cairosvg.
    (
        [
            'no library called "cairo-2" was found\nno library called "cairo" was found\n'
            'no library called "libcairo-2" was found\n'
            "cannot load library 'libcairo.so.2': libcairo.so.2: cannot open shared object file: No such file"
            " or directory\n"
            "cannot load library 'libcairo.2.dylib': libcairo.2.dylib: cannot open shared object file: No"
            " such file or directory"
        ],
        ["libcairo.so.2"],
    ),
    (["failed to find libmagic.  Check your installation"], ["libmagic.so.1"]),
    (["Unable to find zbar shared library"], ["libzbar.so.0"]),
    (["PortAudio library not found"], ["libportaudio.so.2"]),
    (["sndfile library not found using ctypes.util.find_library"], ["libsndfile.so.1"]),
    (["The 'enchant' C library was not found and maybe needs to be installed."], ["libenchant-2.so.2"]),
    # psycopg, of several causes.
    (["no pq wrapper available.", "ImportError: libpq library not found"], ["libpq.so.5"]),
    # The same name twice is one.
    (
        ["liba.so.1: cannot open shared object file", "OSError: liba.so.1: cannot open shared object file"],
        ["liba.so.1"],
    ),
    # Names without a version that nobody knows, other systems', paths, and what is no library.
    (["cannot load library 'frobnicate': no"], []),
    (["cannot load library 'libfrob-ng': no"], []),
    (["cannot load library 'foo.dll': error 0x7e", "libfoo.dylib: cannot open shared object file"], []),
    (["/opt/python/foo/libown.so: cannot open shared object file: No such file or directory"], []),
    (["../libown.so.1: cannot open shared object file: No such file or directory"], []),
    (["No module named 'libfoo.so.1'", "the file was not found", ""], []),
    (["--installroot=x.so: cannot open shared object file", "lib*.so.1: cannot open shared object file"], []),
]


@pytest.mark.parametrize(("texts", "libraries"), CASES, ids=lambda value: str(value)[:60])
def test_names_are_read_out_of_the_words(
    missing_libraries: ModuleType, texts: list[str], libraries: list[str]
) -> None:
    assert list(missing_libraries.named(texts)) == libraries


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text() | st.sampled_from([text for texts, _ in CASES for text in texts]), max_size=4)
)
def test_whatever_is_said_few_names_of_a_strict_form_come_out(
    missing_libraries: ModuleType, texts: list[str]
) -> None:
    found = missing_libraries.named([*texts, "".join(texts)])
    assert len(found) <= missing_libraries.MOST
    assert len(set(found)) == len(found)
    for name in found:
        assert missing_libraries.is_soname(name)
        assert not set(name) & set("/ *?[]'\"\\\n")
        assert not name.startswith(("-", "."))


@pytest.mark.attack("a failing import names a thousand libraries, and costs much to read")
def test_many_and_long_names_are_cut(missing_libraries: ModuleType) -> None:
    text = "".join(f"lib{number}.so.1: cannot open shared object file\n" for number in range(10_000))
    assert len(missing_libraries.named([text])) == missing_libraries.MOST
    assert missing_libraries.named(["a" * 1_000_000 + " library not found"]) == ()


@pytest.mark.parametrize(
    "name", ["libvips.so.42", "libstdc++.so.6", "libGL.so", "libQt5Core.so.5", "a.so.1.0.2k"]
)
def test_these_are_sonames(missing_libraries: ModuleType, name: str) -> None:
    assert missing_libraries.is_soname(name)


@pytest.mark.parametrize(
    "name",
    ["", "libvips", "-lib.so.1", "--x.so", "lib*.so", "/lib/a.so.1", "../a.so", "a b.so", "liba.so.",
     "liba.so/1", "liba.so\n", "libä.so.1", "l" * 200 + ".so", "liba.so.1.2.3.4.5"],
)  # fmt: skip
def test_these_are_not(missing_libraries: ModuleType, name: str) -> None:
    assert not missing_libraries.is_soname(name)
