"""Building again what has findings, as soon as that mends any: for files with `rebuild = "fixed"`.

What decides is what a build would take, looked at without one, and what the database says of that. Plain
resolving may mend a finding. Where ranges admit a version that mends it and the cooldown does not, that very
version is named to the builder as a fix.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

from layerdrop.execution_name import execution_name
from layerdrop.watch.advisories import version_of
from layerdrop.watch.looking import ImpossibleError
from layerdrop.watch.osv import Package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mypy_boto3_stepfunctions import SFNClient

    from layerdrop.build_input import BuildInput
    from layerdrop.watch.findings import Finding

    Still = Callable[[Mapping[Package, frozenset[str]]], Mapping[Package, frozenset[str]]]

_MOST_TRIES: Final = 20
_DIGEST_LENGTH: Final = 24

Hole = tuple[str, str, str]
"""A layer's name, a package and the id of a finding in it."""
Contents = dict[str, dict[str, str]]
"""What layers would have: versions by package, by layer name."""
Holes = dict[Hole, str]
"""Holes that are gone, and with which version; empty where the package is gone, too."""


class Look(Protocol):
    """Looks at what a layer would have, with such fixes; as `looking.Resolver.look` for its target."""

    def __call__(self, layer_name: str, fixes: Sequence[str]) -> dict[str, str]:
        """Tell its versions by package."""


@dataclass(frozen=True)
class Mended:
    """What a build would mend, with which fixes (`NAME==VERSION`)."""

    holes: Holes
    fixes: tuple[str, ...]


def mended(
    layers: Iterable[str],
    wanted: Mapping[str, Sequence[Finding]],
    fixes: Sequence[str],
    look: Look,
    still: Still,
) -> Mended | None:
    """What a build of a file would mend today; None if nothing.

    Args:
        layers: The names of all layers that a build of the file makes: a fix has to suit each of them.
        wanted: The open findings, by layer name.
        fixes: Those that a build of it takes already.
        look: What a layer would have.
        still: Which holes, by what they are called, are in a package still.

    Raises:
        UnclearError: only the build's job can tell, of one of the layers at least.
        NotNowError: it cannot be looked at now.
        DatabaseError: the database cannot be asked now.
    """
    plain = _looked(layers, fixes, look)
    if fixes and len(plain) < len(_looked(layers, (), look)):
        # What was a fix once does not go any more: such a version may have been withdrawn.
        fixes, plain = (), _looked(layers, (), look)
    taken, best = tuple(fixes), _mended(plain, wanted, still)
    tries = 0
    for package, versions in _candidates(wanted).items():
        for version in versions:
            if not _open(package, wanted, best) or tries == _MOST_TRIES:
                break
            tries += 1
            tried = (*(one for one in taken if not one.startswith(f"{package}==")), f"{package}=={version}")
            with_it = _looked(plain, tried, look)
            if len(with_it) < len(plain):
                continue
            found = _mended(with_it, wanted, still)
            if found.keys() > best.keys():
                taken, best = tried, found
    return Mended(best, taken) if best else None


def _looked(layers: Iterable[str], fixes: Sequence[str], look: Look) -> Contents:
    """What layers would have, of those that a build would make."""
    contents: Contents = {}
    for name in sorted(layers):
        try:
            contents[name] = look(name, fixes)
        except ImpossibleError:
            continue
    return contents


def _mended(
    contents: Contents,
    wanted: Mapping[str, Sequence[Finding]],
    still: Still,
) -> Holes:
    gone: Holes = {}
    moved: dict[Hole, tuple[Package, Finding]] = {}
    for name, findings in wanted.items():
        for finding in findings if name in contents else ():
            hole, version = (name, finding.package, finding.id), contents[name].get(finding.package)
            if version is None:
                gone[hole] = ""
            elif version != finding.version:
                moved[hole] = Package(finding.package, version), finding
    names: dict[Package, frozenset[str]] = {}
    for package, finding in moved.values():
        names[package] = names.get(package, frozenset()) | finding.names
    left = still(names) if names else {}
    gone |= {
        hole: package.version
        for hole, (package, finding) in moved.items()
        if not finding.names & left[package]
    }
    return gone


def _candidates(wanted: Mapping[str, Sequence[Finding]]) -> dict[str, list[str]]:
    """The versions that advisories name as mended, by package, from the smallest on."""
    named: dict[str, set[str]] = {}
    for findings in wanted.values():
        for finding in findings:
            named.setdefault(finding.package, set()).update(finding.fixed_in)
    found = {}
    for package, texts in sorted(named.items()):
        versions = {text: version for text in texts if (version := version_of(text))}
        found[package] = sorted(versions, key=lambda text: versions[text])
    return found


def _open(package: str, wanted: Mapping[str, Sequence[Finding]], best: Holes) -> bool:
    return any(
        finding.package == package and (name, package, finding.id) not in best
        for name, findings in wanted.items()
        for finding in findings
    )


@dataclass(frozen=True)
class Builds:
    """The state machine that builds layers."""

    step_functions: SFNClient
    state_machine_arn: str

    def start(self, upload: BuildInput, sequencer: str, what: Mended) -> bool:
        """Build an upload again, once for what that mends.

        Args:
            upload: The newest upload.
            sequencer: Of the event that it came with, so that the answer is the same upload's.
            what: What it mends.

        Returns:
            Whether there was no such build before.
        """
        build_input = replace(upload, sequencer=sequencer)
        slug = execution_name(build_input).rpartition("-")[0]
        identity = [upload.key, upload.version_id, sorted(what.holes.items())]
        digest = sha256(json.dumps(identity).encode()).hexdigest()[:_DIGEST_LENGTH]
        try:
            self.step_functions.start_execution(
                stateMachineArn=self.state_machine_arn,
                # As long as its name is known, 90 days, no other begins:
                # https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
                name=f"{slug}-mend-{digest}",
                input=json.dumps({"input": build_input.to_json()}),
            )
        except self.step_functions.exceptions.ExecutionAlreadyExists:
            return False
        return True
