"""What Lambda's runtimes bring in native libraries, and what to do when a package needs more.

All tables are data: a line more is all that a new case takes. Package names are normalized (PEP 503).
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# The C library's own, then the compiler's run-time libraries and zlib, which the runtimes' Python itself is
# linked to. Not libexpat (the base images have it, the managed runtime has not), not libcrypt, libnsl and
# libatomic (packages of their own on Amazon Linux 2023).
_EVERYWHERE = frozenset(
    {
        *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"),
        *("libresolv.so.2", "libanl.so.1"),
        *("libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
    }
)
# The vector math library came to aarch64 with glibc 2.38 only.
_BY_MACHINE = {
    "aarch64": frozenset({"ld-linux-aarch64.so.1"}),
    "x86_64": frozenset({"ld-linux-x86-64.so.2", "libmvec.so.1"}),
}

# In the images as dependencies of their package manager, and allowed to every manylinux wheel (PEP 600's
# list), but nobody promises them to a function.
_DOUBTFUL = frozenset({"libglib-2.0.so.0", "libgobject-2.0.so.0", "libgthread-2.0.so.0"})

# Highest symbol versions, by the runtime's glibc. Amazon Linux 2: gcc 7.3, zlib 1.2.7; Amazon Linux 2023: gcc
# 11.4, zlib 1.2.11. What a gcc release defines: the libstdc++ manual, "ABI Policy and Guidelines"; libgcc
# names the versions of its symbols after gcc's own.
_CEILINGS = {
    (2, 26): {"GLIBC": "2.26", "GLIBCXX": "3.4.24", "CXXABI": "1.3.11", "GCC": "7.3", "ZLIB": "1.2.7"},
    (2, 34): {"GLIBC": "2.34", "GLIBCXX": "3.4.29", "CXXABI": "1.3.13", "GCC": "11.4", "ZLIB": "1.2.11"},
}
# Amazon Linux 2023's, whose packages system libraries are taken from; they may need all of it.
SYSTEM_GLIBC = (2, 34)
# Marks of glibc features instead of numbers: the first of them, GLIBC_ABI_DT_RELR, came with 2.36.
_FEATURE_PREFIX = "GLIBC_ABI_"
_FEATURE_GLIBC = "2.36"


def base(machine: str) -> frozenset[str]:
    """Return the sonames that every runtime on this machine (`aarch64`, `x86_64`) has."""
    return _EVERYWHERE | _BY_MACHINE[machine]


def doubtful(python: str) -> frozenset[str]:
    """Return the sonames that a runtime of this Python (`3.13`) may well have, but is not bound to."""
    return _DOUBTFUL | {f"libpython{python}.so.1.0"}


def is_interpreter(library: str) -> bool:
    """Tell whether a library is Python's own, of which a process must not have a second one."""
    return library.startswith("libpython")


def ceilings(glibc: tuple[int, int]) -> dict[str, str]:
    """Return the highest symbol version of each family in runtimes with this C library."""
    return _CEILINGS[glibc]


def is_newer(family: str, version: str, ceiling: dict[str, str]) -> bool:
    """Tell whether a version need is beyond what the runtime defines; of unknown families it is not."""
    if family.startswith(_FEATURE_PREFIX):
        return _number(_FEATURE_GLIBC) > _number(ceiling["GLIBC"])
    return bool(version) and family in ceiling and _number(version) > _number(ceiling[family])


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


_HEADLESS = "Require {} instead: the same cv2, without windows."
_DISPLAY = "It is for drawing on a display, which Lambda has not: look for a headless build of {package}."
_GPU = "It is for GPUs, which Lambda has not: look for a CPU build of {package}."

# What to require instead, or to do, by the package that lacks libraries.
_BY_PACKAGE = {
    "opencv-python": _HEADLESS.format("opencv-python-headless"),
    "opencv-contrib-python": _HEADLESS.format("opencv-contrib-python-headless"),
    "pyodbc": "For SQL Server require pymssql, which brings all it needs; for other databases their own"
    " driver package. pyodbc needs unixODBC, and the database's ODBC driver beside it.",
    "lightgbm": "lightgbm's wheels leave the OpenMP library libgomp.so.1 to the system. scikit-learn's"
    " HistGradientBoosting models bring theirs.",
    "psycopg2": "Require psycopg2-binary instead: it brings libpq.",
    "mysqlclient": "Require pymysql instead: it needs no client library.",
}

# Nvidia's, not libcurl and libcups.
_GPUS = (
    *("libcuda*.so*", "libcudart*.so*", "libcublas*.so*", "libcudnn*.so*", "libcufft*.so*", "libcufile*.so*"),
    *("libcupti*.so*", "libcurand*.so*", "libcusolver*.so*", "libcusparse*.so*", "libcutensor*.so*"),
    *("libnccl*.so*", "libnvidia*.so*", "libnvinfer*.so*", "libnvjitlink*.so*", "libnvJitLink*.so*"),
    *("libnvjpeg*.so*", "libnvrtc*.so*", "libnvToolsExt*.so*", "libnvshmem*.so*"),
)
# The same for any other package, by patterns of the missing library; the first match counts.
_BY_LIBRARY = (
    ("lib[GX]*.so.*", _DISPLAY),
    ("libxcb*.so.*", _DISPLAY),
    ("lib[SI][MC]*.so.6", _DISPLAY),
    *((pattern, _GPU) for pattern in _GPUS),
    (
        "libc.musl-*",
        "The file is made for Alpine Linux (musl), Lambda's is glibc: take another version of {package}.",
    ),
    (
        "libexpat.so.*",
        "Lambda's images have libexpat, the managed runtime has not: take a version of {package} that brings"
        " it.",
    ),
)
_ANYTHING_ELSE = (
    "Look for a version or a variant of {package} that brings it (often called -binary or -headless)."
)


def remedy(package: str, libraries: Iterable[str]) -> str:
    """Say what to do about a package whose needed libraries are neither in the layer nor in the runtime."""
    if package in _BY_PACKAGE:
        return _BY_PACKAGE[package]
    for library in libraries:
        for pattern, text in _BY_LIBRARY:
            if fnmatchcase(library, pattern):
                return text.format(package=package)
    return _ANYTHING_ELSE.format(package=package)


_NOT_IN_LINUX = (*_GPUS, "libc.musl-*")


def in_linux(library: str) -> bool:
    """Tell whether a distribution may have a library: not GPUs' and not another C library's."""
    return not any(fnmatchcase(library, pattern) for pattern in _NOT_IN_LINUX)


# Extension modules and libraries that a package tries and can do without: package, and pattern of the path
# within site-packages.
_OPTIONAL = (
    ("numba", "numba/np/ufunc/tbbpool.*"),  # two of its three threading layers
    ("numba", "numba/np/ufunc/omppool.*"),
    # Ways to log in, each loaded when a server asks for it: WebAuthn wants libudev, Kerberos libkeyutils.
    ("mysql-connector-python", "mysql/vendor/plugin/*"),
    ("mysql-connector-python", "mysql/vendor/private/*"),
)
# Folders whose contents are no part of the program, and one whose libraries are loaded on request (Qt's).
_TEST_FOLDERS = frozenset({"test", "tests", "testing", "testdata", "test_data", "fixtures", "examples"})
_PLUGIN_FOLDER = "plugins"


def is_optional(package: str, path: str, is_module: bool) -> bool:
    """Tell whether a package works without this file (its path is within site-packages)."""
    folders = path.split("/")[:-1]
    if not _TEST_FOLDERS.isdisjoint(folders) or (_PLUGIN_FOLDER in folders and not is_module):
        return True
    return any(package == name and fnmatchcase(path, pattern) for name, pattern in _OPTIONAL)


@dataclass(frozen=True, slots=True)
class RunTimeNeeds:
    """What a package looks for while it runs, invisible to ELF's lists.

    Attributes:
        libraries: sonames that it loads with dlopen (ctypes, cffi).
        programs: commands that it starts.
        remedy: what to do.
        packages: those of Amazon Linux 2023 that have the libraries.
        besides: what it needs beside its libraries, which no bundling brings.
        brought_by: projects of which one brings all of it.
        modules: those that load the libraries, where the package's own name does not.
    """

    libraries: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    remedy: str = ""
    packages: tuple[str, ...] = ()
    besides: str = ""
    brought_by: frozenset[str] = frozenset()
    modules: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """What to do, and where the libraries are."""
        if not self.packages:
            return self.remedy
        names, one = ", ".join(self.packages), len(self.packages) == 1
        return (
            f"{self.remedy} Amazon Linux 2023 has the libraries in its package{'' if one else 's'} {names}."
        )


_FFMPEG = "Bring ffmpeg; the package imageio-ffmpeg has one, whose path can be set."

RUN_TIME_NEEDS = {
    "weasyprint": RunTimeNeeds(
        (
            *("libgobject-2.0.so.0", "libpango-1.0.so.0", "libpangoft2-1.0.so.0"),
            *("libharfbuzz.so.0", "libharfbuzz-subset.so.0", "libfontconfig.so.1"),
        ),
        remedy="It needs fonts beside its libraries; fpdf2 and reportlab make PDFs without either.",
        packages=("fontconfig", "glib2", "harfbuzz", "pango"),
        besides="fonts, and FONTCONFIG_PATH=/opt/fonts (or wherever a fonts.conf names them)",
    ),
    "python-magic": RunTimeNeeds(
        ("libmagic.so.1",),
        remedy="Require puremagic or filetype instead: they need no library, and no database file.",
        packages=("file-libs",),
        besides="the database: bring a magic.mgc, and name it in the variable MAGIC",
    ),
    "pyzbar": RunTimeNeeds(
        ("libzbar.so.0",),
        remedy="Require zxing-cpp instead: it brings all it needs, and pyzbar looks in no folder of a layer.",
        modules=("pyzbar.pyzbar",),
    ),
    "cairocffi": RunTimeNeeds(("libcairo.so.2",), remedy="It needs cairo.", packages=("cairo",)),
    "pyvips": RunTimeNeeds(
        ("libvips.so.42",),
        remedy="Require pyvips-binary beside it: it brings libvips.",
        brought_by=frozenset({"pyvips-binary"}),
    ),
    "pdfkit": RunTimeNeeds(
        programs=("wkhtmltopdf",), remedy="Bring wkhtmltopdf; or take fpdf2 or reportlab."
    ),
    "pytesseract": RunTimeNeeds(programs=("tesseract",), remedy="Bring tesseract and its language data."),
    "pdf2image": RunTimeNeeds(
        programs=("pdftoppm", "pdfinfo"),
        remedy="Require pypdfium2 or pymupdf instead, or bring poppler's programs.",
    ),
    "pydub": RunTimeNeeds(programs=("ffmpeg", "ffprobe"), remedy=_FFMPEG),
    "ffmpeg-python": RunTimeNeeds(programs=("ffmpeg",), remedy=_FFMPEG),
    "gitpython": RunTimeNeeds(programs=("git",), remedy="Require dulwich instead, or bring git."),
    "jsii": RunTimeNeeds(
        programs=("node",),
        remedy="What stands on it (the CDK) makes stacks before they are deployed, by way of Node.js.",
    ),
    "pypandoc": RunTimeNeeds(programs=("pandoc",), remedy="Require pypandoc-binary instead."),
}
