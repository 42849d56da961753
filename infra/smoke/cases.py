"""What is uploaded, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SUCCEEDED: Final = "SUCCEEDED"
ARCHITECTURES: Final = ("arm64", "x86_64")
_EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples/requirements"
_TOO_LARGE: Final = "pandas\npyarrow\nscipy\nscikit-learn\n"
"""Some 400 MB unzipped, of which no slimming takes a third."""
_LOCKED: Final = "idna-3.10-py3-none-any.whl"
_LOCK: Final = f"""\
lock-version = "1.0"
created-by = "smoke"

[[packages]]
name = "idna"
version = "3.10"

[[packages.wheels]]
name = "{_LOCKED}"
path = "{_LOCKED}"
hashes = {{ sha256 = "946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3" }}
"""


@dataclass(frozen=True)
class Case:
    """One requirements file, or one lock.

    Attributes:
        title: What it tries, in a word or two.
        architecture: ``arm64`` or ``x86_64``.
        stem: The folder it goes to; begins with the run's own prefix, and so do its layers' names.
        text: The file.
        expected: ``SUCCEEDED``, or the error's code.
        imports: Modules that a function with the layer must be able to import.
        spot: Whether it must run on Spot capacity.
        is_lock: Whether the file is a lock.
    """

    title: str
    architecture: str
    stem: str
    text: str
    expected: str = SUCCEEDED
    imports: tuple[str, ...] = ()
    spot: bool = False
    is_lock: bool = False

    @property
    def key(self) -> str:
        """Where in the bucket it goes."""
        return f"{self._folder}{'pylock.toml' if self.is_lock else 'requirements.txt'}"

    @property
    def manifest_key(self) -> str:
        """Where the answer comes."""
        return f"{self._folder}{'pylock-' if self.is_lock else ''}manifest.json"

    @property
    def _folder(self) -> str:
        return f"requirements/{self.architecture}/{self.stem}/"


def cases(prefix: str) -> Iterator[Case]:
    """Return both examples for both architectures, a lock, a typo, and a layer that is too large.

    Args:
        prefix: What the folders, and so the layers, are to begin with.
    """
    for example, imports in (
        ("arm64/http", ("requests", "httpx")),
        ("x86_64/data", ("pandas",)),
    ):
        text = (_EXAMPLES / example / "requirements.txt").read_text()
        name = example.partition("/")[2]
        for architecture in ARCHITECTURES:
            yield Case(name, architecture, f"{prefix}-{name}", text, imports=imports)
    yield Case("lock", "arm64", f"{prefix}-lock", _LOCK, imports=("idna",), is_lock=True)
    yield Case("typo", "arm64", f"{prefix}-typo", "requests = 2.32.3\n", "REQUIREMENTS_INVALID")
    yield Case("too large", "x86_64", f"{prefix}-large", _TOO_LARGE, "LAYER_TOO_LARGE")


def spot_case(prefix: str) -> Case:
    """Return what is built on Spot: for arm64, where it was not always to be had."""
    return Case(
        "Spot", "arm64", f"{prefix}-spot", "packaging == 24.2\n", imports=("packaging.version",), spot=True
    )
