"""A small RPM repository of real libraries: Debian's, packed as Amazon Linux packs its own.

They are those of Debian 12, whose files need no newer glibc than Lambda's runtimes have, but for libexpat,
which is linked anew.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.container.debian import DebianError, Suite, locked, unpack

SUITE = "bookworm"
PROGRAMS = ("dnf", "rpm", "rpm2archive", "rpmbuild", "createrepo_c")
_FOLDER = Path(__file__).parents[2] / ".cache/native"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

# Package and license as they are on Amazon Linux; where its files come from on Debian. The last two have the
# runtime's own libraries: nothing of them may get into a layer.
PACKAGES = {
    "libglvnd": ("MIT", ("libglvnd0",)),
    "libglvnd-glx": ("MIT", ("libgl1", "libglx0")),
    "libX11": ("MIT", ("libx11-6",)),
    "libxcb": ("MIT", ("libxcb1",)),
    "libXau": ("MIT", ("libxau6",)),
    "libXdmcp": ("MIT", ("libxdmcp6",)),
    "libbsd": ("BSD", ("libbsd0",)),
    "libmd": ("BSD", ("libmd0",)),
    "glib2": ("LGPLv2+", ("libglib2.0-0",)),
    "pcre2": ("BSD", ("libpcre2-8-0",)),
    "libffi": ("MIT", ("libffi8",)),
    "libmount": ("LGPLv2+", ("libmount1",)),
    "libblkid": ("LGPLv2+", ("libblkid1",)),
    "libselinux": ("Public Domain", ("libselinux1",)),
    "unixODBC": ("GPLv2+ and LGPLv2+", ("libodbc2", "libodbcinst2", "libodbccr2")),
    "libtool-ltdl": ("LGPLv2+", ("libltdl7",)),
    "file-libs": ("BSD", ("libmagic1",)),
    "xz-libs": ("Public Domain", ("liblzma5",)),
    "bzip2-libs": ("BSD", ("libbz2-1.0",)),
    "keyutils-libs": ("GPLv2+ and LGPLv2+", ("libkeyutils1",)),
    "libgomp": ("GPLv3+ with exceptions", ("libgomp1",)),
    "expat": ("MIT", ("libexpat1", "libexpat1-dev")),
    "pango": ("LGPLv2+", ("libpango-1.0-0", "libpangoft2-1.0-0")),
    "harfbuzz": ("MIT", ("libharfbuzz0b", "libharfbuzz-subset0")),
    "fontconfig": ("MIT", ("libfontconfig1",)),
    "freetype": ("FTL", ("libfreetype6",)),
    "fribidi": ("LGPLv2+", ("libfribidi0",)),
    "graphite2": ("LGPLv2+", ("libgraphite2-3",)),
    "libthai": ("LGPLv2+", ("libthai0",)),
    "libdatrie": ("LGPLv2+", ("libdatrie1",)),
    "libpng": ("zlib", ("libpng16-16",)),
    "libbrotli": ("MIT", ("libbrotli1",)),
    "zlib": ("zlib", ("zlib1g",)),
    "libstdc++": ("GPLv3+ with exceptions", ("libstdc++6",)),
}

_HEAD = """\
%global debug_package %{nil}
%global _build_id_links none
%global __os_install_post %{nil}
%global _binary_payload w3.zstdio
Name: everything
Version: 1
Release: 1
Summary: Real libraries for tests
License: test
%description
Real libraries for tests.
%install
cp -a %{content}/. %{buildroot}/
"""
_PACKAGE = """\
%package -n NAME
Version: VERSION
Release: 1.test
Summary: NAME for tests
License: LICENSE
%description -n NAME
NAME for tests.
%files -n NAME -f %{content}/../NAME.files
"""


def at_hand(machine: str) -> Path:
    """Return the repository of a machine's libraries, made at the first call; if it cannot be, skip."""
    if absent := [name for name in PROGRAMS if not shutil.which(name)]:
        pytest.skip(f"there is no {', no '.join(absent)} on this machine")
    try:
        return _kept(_FOLDER, machine)
    except DebianError as error:
        pytest.skip(f"no RPM repository can be made here: {error}")


def _kept(folder: Path, machine: str) -> Path:
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    repository = folder / f"rpm-{machine}-{digest}"
    with locked(folder):
        if not repository.is_dir():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _make(Path(scratch), machine).rename(repository)
            for old in folder.glob(f"rpm-{machine}-*"):
                if old != repository:
                    shutil.rmtree(old)
    return repository


def _make(scratch: Path, machine: str) -> Path:
    suite = Suite(scratch / "apt", SUITE, _MACHINES[machine])
    content = scratch / "content"
    (content / "usr/lib64").mkdir(parents=True)
    spec = _HEAD
    for name, (license_, sources) in PACKAGES.items():
        debs = suite.fetch(*sources)
        root = scratch / "root" / name
        unpack(debs, root)
        if machine == platform.machine():
            _link_anew(root)
        version = debs[0].name.split("_")[1].partition("%3a")[2] or debs[0].name.split("_")[1]
        taken = _libraries(root, machine, content / "usr/lib64")
        (scratch / f"{name}.files").write_text("".join(f"/usr/lib64/{file}\n" for file in taken))
        spec += (
            _PACKAGE.replace("NAME", name)
            .replace("VERSION", version.partition("-")[0].partition("+")[0])
            .replace("LICENSE", license_)
        )
    (scratch / "everything.spec").write_text(spec)
    _run(
        "rpmbuild", "-bb", "--quiet", f"--target={machine}-linux", f"--define=_topdir {scratch}/top",
        f"--define=content {content}", str(scratch / "everything.spec"),
    )  # fmt: skip
    repository = scratch / "top/RPMS" / machine
    _run("createrepo_c", "--quiet", str(repository))
    return repository


# What libexpat takes of glibc 2.36, for its hash tables' seed.
_RANDOM = """\
#include <stddef.h>
#include <sys/random.h>
__attribute__((visibility("hidden"))) void arc4random_buf(void *start, size_t length) {
    for (char *at = start; length;) {
        ssize_t got = getrandom(at, length, 0);
        if (got > 0) { at += got; length -= got; }
    }
}
__attribute__((visibility("hidden"))) unsigned arc4random(void) {
    unsigned value;
    arc4random_buf(&value, sizeof value);
    return value;
}
"""


def _link_anew(root: Path) -> None:
    """Make libexpat of Debian's own object files, so that it needs no more than glibc 2.25."""
    compiler = shutil.which("gcc")
    for archive in root.glob("**/libexpat.a") if compiler else ():
        for old in archive.parent.glob("libexpat.so*"):
            old.unlink()
        for old in root.glob("lib/*/libexpat.so*"):
            old.unlink()
        (root / "random.c").write_text(_RANDOM)
        library, archives = (
            str(archive.parent / "libexpat.so.1"),
            f"-Wl,--whole-archive,{archive},--no-whole-archive",
        )
        source = str(root / "random.c")
        _run("gcc", "-shared", "-fPIC", "-Wl,-soname,libexpat.so.1", "-o", library, source, archives)


def _libraries(root: Path, machine: str, target: Path) -> list[str]:
    taken = []
    for file in sorted(root.glob(f"**/{machine}-linux-gnu/*.so*")):
        if not file.is_dir():
            shutil.copy2(file, target / file.name, follow_symlinks=False)
            taken.append(file.name)
    if not taken:
        raise DebianError(f"{root.name} has no libraries here")
    return taken


def _run(*command: str) -> None:
    done = subprocess.run(command, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
