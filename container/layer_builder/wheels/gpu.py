"""Packages that are of use on a machine with a GPU alone, which Lambda has not.

Some of them are larger than any layer, and come along with packages that work without (xgboost requires
NVIDIA's NCCL). So they may be larger than others' files: a layer leaves them out to fit.
"""

from __future__ import annotations

_NAMES = frozenset({"pytorch-triton", "triton"})

MAX_FILE_BYTES = 1 << 30
MAX_UNZIPPED_BYTES = 2 << 30


def is_gpu(name: str) -> bool:
    """Tell whether a project (by its normalized name) is one of these."""
    return name in _NAMES or name.startswith("nvidia-")
