"""What is said of an import that writes where it must not: by the builder's module, and the functions'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_builder.proof import writable as of_builder
from layerdrop import writable as of_functions

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(params=[of_builder, of_functions], ids=["builder", "functions"])
def writable(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def test_both_are_one_module() -> None:
    one, other = (Path(str(module.__file__)).read_text() for module in (of_builder, of_functions))
    assert one == other


@pytest.mark.parametrize(
    ("text", "module", "variable"),
    [
        ("OSError: [Errno 30] Read-only file system: '/home/sbx_user1051'", "mem0", "MEM0_DIR"),
        ("PermissionError: [Errno 13] Permission denied: '/home/sbx_user1070/.x'", "pkg", "HOME"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/home/sbx_user1051/x'", "pkg", "HOME"),
        ("Error: EROFS: read-only file system, mkdir '/home/sbx_user1051'", "jsii",
         "JSII_RUNTIME_PACKAGE_CACHE_ROOT"),
        ("RuntimeError: cannot cache function 'f': no locator available for file '/opt/python/x'", "x",
         "NUMBA_CACHE_DIR"),
        ("OSError: [Errno 30] Read-only file system: '/opt/python/x'", "transformers", "HF_HOME"),
        # Not about that, or nobody knows.
        ("OSError: [Errno 30] Read-only file system: '/opt/python/pkg/x'", "pkg", ""),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'node'", "jsii", ""),
        ("ValueError: no", "transformers", ""),
    ],
)  # fmt: skip
def test_the_variable_that_moves_a_folder_is_named(
    writable: ModuleType, text: str, module: str, variable: str
) -> None:
    advice = writable.advice([text], [module])
    assert (f" {variable}=/tmp." in advice) if variable else not advice


def test_a_refusal_in_tmp_is_told_from_others(writable: ModuleType) -> None:
    assert writable.is_refused_in_tmp("[Errno 13] Permission denied: '/tmp/x'")
    assert writable.is_refused_in_tmp("[Errno 30] Read-only file system: '/tmp'")
    assert not writable.is_refused_in_tmp("[Errno 13] Permission denied: '/tmpx'")
    assert not writable.is_refused_in_tmp("[Errno 13] Permission denied: '/tmp/layer-builder-x/opt/y'")
    assert not writable.is_refused_in_tmp("no such thing: '/tmp/x'")
