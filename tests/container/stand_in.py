"""A base image out of Debian packages, for a machine that cannot fetch Amazon Linux's.

It has what the real one has that the Dockerfile and the builder use: bash as sh, the coreutils, rpm, and a
dnf. That one does what is asked of the real one, which is microdnf, and refuses everything else, so that
nothing can come to rely on more. Its repository is the folder /repository, if something mounts one there. The
interpreters are Debian's of several releases; one that Debian never had comes from this machine, or else is
an empty package.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder.ground.interpreter import find
from tests.container.debian import DebianError, Suite, locked, unpack

if TYPE_CHECKING:
    from tests.container.engine import Engine

SUITE = "trixie"
_BASE = (
    *("bash", "coreutils", "grep", "sed", "tar", "base-files", "base-passwd", "libstdc++6", "zlib1g"),
    *("rpm", "rpm2cpio"),
)
RELEASE = "2023.0.20230101"
_PYTHONS = {"3.11": "bookworm", "3.12": "", "3.13": SUITE, "3.14": "forky"}
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_PACKAGES = "usr/lib/stand-in"

# The image's metadata: a machine may reach the package index through a certificate authority of its own.
CHANGES = (f"ENV SSL_CERT_FILE=/{_CERTIFICATES} PIP_CERT=/{_CERTIFICATES}",)

_DNF = f"""\
#!/bin/bash
set -eu
cache=
case ${{1:-}} in --setopt=cachedir=*) cache=${{1#*cachedir=}}; shift ;; esac
command=${{1:-}}; shift
names=()
for argument; do
  case $argument in
    -y | --nodocs | --setopt=install_weak_deps=0) ;;
    -*) echo "error: Unknown option $argument" >&2; exit 1 ;;
    *) names+=("$argument") ;;
  esac
done
case "$command ${{names[*]}}" in
  "clean all") ;;
  "install "*)
    for name in "${{names[@]}}"; do
      [ -f "/{_PACKAGES}/$name.tar" ] || {{ echo "error: No package matches '$name'" >&2; exit 1; }}
      /{_PACKAGES}/tar -C / -xf "/{_PACKAGES}/$name.tar"
      rm "/{_PACKAGES}/$name.tar"
    done ;;
  "download "*)
    mkdir -p "${{cache:?where nobody can write}}"
    for name in "${{names[@]}}"; do
      # As microdnf does: what there is of it, into the working folder; all is well when there is none.
      while read -r provided file; do
        if [ "$provided" = "$name" ]; then cp "/repository/$file" .; fi
      done </repository/provides
    done ;;
  *) echo "error: Unknown command: $command" >&2; exit 1 ;;
esac
"""

# Debian's rpm knows no package of the distribution's release.
_RPM = f"""\
#!/bin/bash
if [ "$*" = "--query --queryformat %{{VERSION}} system-release" ]; then
  printf '%s' {RELEASE}
else
  exec /{_PACKAGES}/rpm "$@"
fi
"""


def make(folder: Path) -> Path:
    """Return the file system of the base image as a tar file, made at the first call and kept in the folder.

    Raises:
        DebianError: this machine has no apt, or its mirror lacks what is needed.
    """
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    image = folder / f"stand-in-{digest}.tar"
    with locked(folder):
        if not image.is_file():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _make(image, Path(scratch))
    return image


def missing(docker: Engine, image: str) -> set[str]:
    """Return the minor versions that an image on this base was to have and has not."""
    found = docker.run(
        "run", "--rm", "--entrypoint=/bin/sh", image, "-c", "echo /usr/bin/python3.*"
    ).stdout.split()
    return {minor for minor in _PYTHONS if f"/usr/bin/python{minor}" not in found}


def _make(image: Path, scratch: Path) -> None:
    root = scratch / "root"
    suite = Suite(scratch / SUITE, SUITE)
    base = suite.closure(*_BASE)
    # First what makes /bin and the like links into /usr.
    unpack(suite.fetch("base-files"), root)
    unpack(suite.fetch(*base), root)
    _settle(root)
    for minor in _PYTHONS:
        _add_python(minor, root, base, scratch)
    _pack(root, scratch / "image.tar")
    for old in image.parent.glob("stand-in-*.tar"):
        old.unlink()
    (scratch / "image.tar").rename(image)


def _settle(root: Path) -> None:
    """Do what the packages' scripts would."""
    (root / "usr/bin/sh").symlink_to("bash")
    for name in ("passwd", "group"):
        shutil.copyfile(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    (root / "tmp").chmod(0o1777)
    machine = os.environ.get("SSL_CERT_FILE") or f"/{_CERTIFICATES}"
    (root / _CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(machine, root / _CERTIFICATES)
    (root / _PACKAGES).mkdir()
    # The real image has no tar.
    (root / "usr/bin/tar").rename(root / _PACKAGES / "tar")
    for path in (root / "usr/share/doc", root / "usr/share/locale", root / "usr/share/man"):
        shutil.rmtree(path, ignore_errors=True)
    (root / "usr/bin/rpm").rename(root / _PACKAGES / "rpm")
    for name, text in (("dnf", _DNF), ("rpm", _RPM)):
        program = root / "usr/bin" / name
        program.write_text(text)
        program.chmod(0o755)


def _add_python(minor: str, root: Path, base: list[str], scratch: Path) -> None:
    files = scratch / f"python{minor}"
    (files / "usr").mkdir(parents=True)
    try:
        unpack(_python_packages(minor, base, scratch), files)
        (files / f"usr/lib/python{minor}/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    except DebianError:
        if machine := find(minor):
            _copy_python(machine.path, minor, files / "usr")
    shutil.rmtree(files / "usr/share/doc", ignore_errors=True)
    _pack(files, root / _PACKAGES / f"python{minor}.tar")
    shutil.rmtree(files)


def _python_packages(minor: str, base: list[str], scratch: Path) -> list[Path]:
    release = _PYTHONS[minor]
    if not release:
        raise DebianError(f"no release of Debian has Python {minor}")
    suite = Suite(scratch / release, release)
    names = suite.closure(f"python{minor}", f"python{minor}-venv", *(base if release == SUITE else ()))
    # Libraries are the base's own and come with its Python; a mixture of releases would not start.
    own = [n for n in names if (n not in base if release == SUITE else re.search(rf"python{minor}|-whl$", n))]
    return suite.fetch(*own)


def _copy_python(executable: Path, minor: str, prefix: Path) -> None:
    """Copy an interpreter that finds its library by its own place, as one built from source does."""
    (prefix / "bin").mkdir()
    (prefix / "lib").mkdir()
    shutil.copy2(executable.resolve(), prefix / f"bin/python{minor}")
    for library in (executable.parent.parent / "lib").glob(f"libpython{minor}.so.*"):
        shutil.copy2(library, prefix / "lib")
    shutil.copytree(
        executable.parent.parent / f"lib/python{minor}",
        prefix / f"lib/python{minor}",
        symlinks=True,
        ignore=shutil.ignore_patterns("__pycache__", "test", "tests", "site-packages", "config-*"),
    )


def _pack(root: Path, tar: Path) -> None:
    def as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    with tarfile.open(tar, "w") as archive:
        archive.add(root, arcname=".", filter=as_root)
