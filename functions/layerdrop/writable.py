"""What to do about an import that writes where Lambda lets nothing be written.

Pure, and with the standard library only: the builder judges imports of its own, a function those of a trial.
Both have this module, word for word, as a test holds.

A function can write to /tmp alone, and the home folder of its user does not exist (AWS Lambda Developer
Guide, "Lambda execution environment"; `~` leads to `/home/sbx_user1051`). Many packages take another folder
from an environment variable; the table is data, each from the package's own documentation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HOME = "/home/sbx_user1051"
TMP = "/tmp"  # noqa: S108 (Lambda's)

# By the module that does it.
_VARIABLES = {
    "datasets": "HF_HOME",
    "easyocr": "EASYOCR_MODULE_PATH",
    "huggingface_hub": "HF_HOME",
    "jsii": "JSII_RUNTIME_PACKAGE_CACHE_ROOT",
    "matplotlib": "MPLCONFIGDIR",
    "mem0": "MEM0_DIR",
    "nltk": "NLTK_DATA",
    "numba": "NUMBA_CACHE_DIR",
    "torch": "TORCH_HOME",
    "transformers": "HF_HOME",
    "ultralytics": "YOLO_CONFIG_DIR",
}
# Python's words for EACCES, EROFS and, below a home that is not there, ENOENT; Node's, for jsii's.
_REFUSED = re.compile(r"\[Errno (?:13|30)\]|\b(?:EROFS|EACCES)\b|Read-only file system")
_IN_HOME = re.compile(r"/home/sbx_user\d+\b")
_IN_TMP = re.compile(rf"['\"]{re.escape(TMP)}(?:/(?!layer-builder-)|['\"])")
# numba, of a function that is to be cached beside its module or in the home folder.
_NO_CACHE = re.compile(r"cannot cache function .{1,200}: no locator available")


def advice(texts: Iterable[str], modules: Iterable[str]) -> str:
    """Say which variable to set, if the words are about writing where nothing can be written; else nothing.

    Args:
        texts: the exception's words, and those of the exceptions behind it, with paths as in Lambda.
        modules: top-level modules that may have done it, the likeliest first.
    """
    variable = next((_VARIABLES[module] for module in modules if module in _VARIABLES), "")
    for text in texts:
        if _NO_CACHE.search(text):
            variable = "NUMBA_CACHE_DIR"
        elif not _REFUSED.search(text) and not _IN_HOME.search(text):
            continue
        elif not variable and not _IN_HOME.search(text):
            break  # something beside a home folder, which only the package's documentation tells
        name = variable or "HOME"
        return (
            "In Lambda only /tmp can be written, and there is no home folder: set the function's environment"
            f" variable {name}, as in {name}={TMP}."
        )
    return ""


def is_refused_in_tmp(text: str) -> bool:
    """Tell whether something could not be written in /tmp, where Lambda lets it."""
    return bool(_REFUSED.search(text) and _IN_TMP.search(text))
