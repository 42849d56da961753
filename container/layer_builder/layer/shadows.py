"""What a package's files do to modules that are not its own: the standard library's, the runtime's.

The runtime puts a layer's folders before its own on Python's search path, and runs their `.pth` files
(awslambdaric's bootstrap: `sys.path.insert(0, …)`, `site.addsitedir(…)`). So a package may replace what
others import, by accident (a `test.py` in the wrong place, a backport) or not. That is said, and left to a
person: it may be what is wanted.
"""

from __future__ import annotations

import sys
import zipfile
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

from layer_builder.ground.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from layer_builder.ground.target import Target
    from layer_builder.layer.layout import Entry

# Names of the standard library that came or went after Python 3.11: the minor version that was the first with
# them, or without (sys.stdlib_module_names of each; PEP 594, PEP 632; What's New in Python 3.12 to 3.14).
_CAME = {
    "_pydatetime": 12, "_pylong": 12, "_sha2": 12,
    "_android_support": 13, "_colorize": 13, "_interpchannels": 13, "_interpqueues": 13,
    "_interpreters": 13, "_ios_support": 13, "_opcode_metadata": 13, "_pyrepl": 13, "_suggestions": 13,
    "_sysconfig": 13, "_wmi": 13,
    "_ast_unparse": 14, "_hmac": 14, "_py_warnings": 14, "_remote_debugging": 14, "_types": 14, "_zstd": 14,
    "annotationlib": 14, "compression": 14,
}  # fmt: skip
_WENT = {
    "_bootsubprocess": 12, "_sha256": 12, "_sha512": 12, "asynchat": 12, "asyncore": 12, "distutils": 12,
    "imp": 12, "smtpd": 12,
    "_crypt": 13, "_msi": 13, "aifc": 13, "audioop": 13, "cgi": 13, "cgitb": 13, "chunk": 13, "crypt": 13,
    "imghdr": 13, "lib2to3": 13, "mailcap": 13, "msilib": 13, "nis": 13, "nntplib": 13, "ossaudiodev": 13,
    "pipes": 13, "sndhdr": 13, "spwd": 13, "sunau": 13, "telnetlib": 13, "uu": 13, "xdrlib": 13,
    "_compression": 14,
}  # fmt: skip
# Modules that the runtime brings, and the projects they are of: who asks for these knows.
_OF_RUNTIME = {
    "awslambdaric": "awslambdaric",
    "boto3": "boto3",
    "botocore": "botocore",
    "jmespath": "jmespath",
    "runtime_client": "awslambdaric",
    "s3transfer": "s3transfer",
}
# Python imports these by itself when it starts, if it finds them.
_AT_START = ("sitecustomize", "usercustomize")
_PTH_BYTES = 1 << 16


def warnings(layer: Mapping[str, Entry], target: Target) -> Iterator[str]:
    """Say, a sentence a package, what its files of a layer (by path) take the place of, or run unasked."""
    names = [*sorted(standard_library(target)), *_OF_RUNTIME, *_AT_START]
    found = {name: entry for name in names if (entry := _module(name, layer, target))}
    packages: dict[str, list[str]] = defaultdict(list)
    for name, entry in found.items():
        package = entry.wheel.pick.name
        if name not in _AT_START and _OF_RUNTIME.get(name) != package:
            packages[package].append(name)
    for package, shadowed in sorted(packages.items()):
        yield (
            f"{package} brings {listed(shadowed)}, {_whose(shadowed)}: Lambda looks into layers first, so"
            f" the function and other packages may get {package}'s."
        )
    for name in _AT_START:
        if entry := found.get(name):
            yield (
                f"{entry.wheel.pick.name} brings {name}, which Python runs by itself at the start of every"
                f" function with this layer whose PYTHONPATH names the layer's folder."
            )
    yield from _path_files(layer, target)
    yield from _searched_first(layer, target)


def standard_library(target: Target) -> frozenset[str]:
    """Name the standard library's modules of a runtime, whichever Python runs this.

    Private ones are among them: `_json` takes the place of what `json` uses.
    """
    minor = target.runtime.version[1]
    known = sys.stdlib_module_names | _CAME.keys() | _WENT.keys()
    return frozenset(name for name in known if _CAME.get(name, 0) <= minor < _WENT.get(name, minor + 1))


def _module(name: str, layer: Mapping[str, Entry], target: Target) -> Entry | None:
    """Find the file that `import NAME` would run first; folders without `__init__` come after all others."""
    for folder in (target.searched_first, target.site_packages):
        for suffix in _suffixes(target):
            for path in (f"{folder}/{name}/__init__{suffix}", f"{folder}/{name}{suffix}"):
                if entry := layer.get(path):
                    return entry
    return None


@cache
def _suffixes(target: Target) -> tuple[str, ...]:
    machine = "cpython-{}{}-{}-linux-gnu".format(*target.runtime.version, target.machine)
    return f".{machine}.so", ".abi3.so", ".so", ".py", ".pyc"


def _whose(names: list[str]) -> str:
    of_runtime = [name for name in names if name in _OF_RUNTIME]
    if not of_runtime:
        return "which the standard library has"
    if len(of_runtime) == len(names):
        return "which the runtime has"
    return "which the standard library and the runtime have"


def _has_code(entry: Entry) -> bool:
    """Tell whether a `.pth` file has lines of code; of one that is odd, assume it."""
    member = entry.member
    if entry.size > _PTH_BYTES or (
        member and member.method not in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)
    ):
        return True
    content = bytearray()
    entry.feed(content.extend)
    return any(line.startswith((b"import ", b"import\t")) for line in content.splitlines())


def _path_files(layer: Mapping[str, Entry], target: Target) -> Iterator[str]:
    """Tell of `.pth` files: lines that begin with `import` are run, others are folders (docs of `site`)."""
    runs: dict[str, list[str]] = defaultdict(list)
    adds: dict[str, list[str]] = defaultdict(list)
    folders = (target.searched_first, target.site_packages)
    for path, entry in sorted(layer.items()):
        folder, _, name = path.rpartition("/")
        if not path.endswith(".pth") or folder not in folders:
            continue
        (runs if _has_code(entry) else adds)[entry.wheel.pick.name].append(name)
    for package, names in sorted(runs.items()):
        yield (
            f"{package} brings {listed(names)}, which Python runs at the start of every function with this"
            f" layer, whether or not it imports {package}."
        )
    for package, names in sorted(adds.items()):
        yield (
            f"{package} brings {listed(names)}, which adds to the folders that every function with this"
            f" layer imports from."
        )


def _searched_first(layer: Mapping[str, Entry], target: Target) -> Iterator[str]:
    """Tell of files in the folder that Lambda searches before the one that modules are in."""
    packages: dict[str, list[str]] = defaultdict(list)
    folder = f"{target.searched_first}/"
    for path, entry in sorted(layer.items()):
        if path.startswith(folder):
            packages[entry.wheel.pick.name].append(path)
    for package, found in sorted(packages.items()):
        yield (
            f"{package} brings {listed(found)}: Lambda looks there first, so these take the place of modules"
            f" of the same name; where a wrapper has set PYTHONPATH they are not found."
        )
