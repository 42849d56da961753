"""Package managers that find what a repository made on the spot has."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HEAD = """\
#!/bin/sh
printf '%s\\n' "$*" >>LOG
[ -z "$LD_LIBRARY_PATH$AWS_SECRET_ACCESS_KEY" ] || exit 9
HOME=RPM_HOME
real() { DNF --config=CONFIG --releasever=2023 --disableplugin=local "$@"; }
options=
for argument; do
    case $argument in
        --setopt=cachedir=*) options="$options $argument" ;;
        --forcearch=*) FOREIGN ;;
        -*) echo "error: Unknown option $argument" >&2; exit 1 ;;
    esac
done
"""
_DNF = f'{_HEAD}real "$@"\n'
# It takes what there is of what it is asked for, and ends well even if that is nothing: see the sources of
# microdnf 3.8, dnf/plugins/download/dnf-command-download.c. libdnf, below it, passes over a repository that
# it cannot read.
_MICRODNF = (
    _HEAD
    + """\
case " $* " in *" download "*) ;; *) exit 1 ;; esac
for argument; do
    case $argument in
        -* | download) ;;
        *) said=$(real $options download "$argument" 2>&1) || case $said in
               *"Ignoring repositories"*)
                   echo "(process:1): libdnf-WARNING **: Skipping refresh of test: cannot update" >&2 ;;
               *"No package"*) ;;
               *) printf '%s\\n' "$said" >&2; exit 1 ;;
           esac ;;
    esac
done
echo Complete.
"""
)


@dataclass(frozen=True)
class Manager:
    """A package manager on the PATH.

    Attributes:
        folder: where its program is.
    """

    folder: Path

    @property
    def asked(self) -> list[list[str]]:
        """What it was asked, command by command."""
        log = self.folder / "log"
        return [shlex.split(line) for line in log.read_text().splitlines()] if log.exists() else []


def make(
    folder: Path,
    repositories: Mapping[str, Path],
    kind: str = "dnf",
    exclude: str = "",
    address: str = "",
    home: str = "",
) -> Manager:
    """Make a dnf that has the repositories' packages: the real one, or one with microdnf's narrow ways.

    Args:
        folder: an empty one for its program and configuration.
        repositories: by machine.
        kind: `dnf` or `microdnf`.
        exclude: a package that is not to be found.
        address: where the repository is, if not in its folder.
        home: the home that it is to find, in place of the one it is given.
    """
    (folder / "repositories").mkdir(parents=True)
    address = address or f"file://{folder}/$basearch"
    for machine, place in repositories.items():
        (folder / machine).symlink_to(place)
    (folder / "repositories/test.repo").write_text(
        f"[test]\nname=test\nbaseurl={address}\nenabled=1\ngpgcheck=0\nexcludepkgs={exclude}\nretries=1\n"
    )
    # To go on without a repository that does not answer is what Fedora and Amazon Linux configure.
    (folder / "dnf.conf").write_text(f"[main]\nreposdir={folder}/repositories\nskip_if_unavailable=True\n")
    program = folder / kind
    program.write_text(
        (_DNF if kind == "dnf" else _MICRODNF)
        .replace("FOREIGN", 'options="$options $argument"' if kind == "dnf" else "exit 1")
        .replace("RPM_HOME", home or "$HOME")
        .replace("LOG", str(folder / "log"))
        .replace("DNF", str(shutil.which("dnf")))
        .replace("CONFIG", str(folder / "dnf.conf"))
    )
    program.chmod(0o755)
    if kind != "dnf":
        (folder / "dnf").symlink_to(kind)
    return Manager(folder)
