"""A trial: which modules a function is to import from a layer, and what comes of its answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from layerdrop import missing_libraries, wording, writable
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.objects import read_at_most
from layerdrop.plan import needed_libraries
from layerdrop.report import invalid
from layerdrop.trial_answer import Answer, ImportFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_s3 import S3Client

    from layerdrop.target import Target

MEMORY_MB = 1024
"""Memory of the function that tries a layer."""
WRAPPERS_PYTHONPATH = "/var/runtime:/opt/python"
"""As wrappers set it (OpenTelemetry's, Application Signals'); the runtime then adds no folder of a layer."""
TIMEOUT_SECONDS = 120
"""Its time for all imports, as much as an import check of the builder's has."""
MAX_ROUNDS = 5
"""How often a layer is built again with libraries that a trial found missing."""
PREFIX = "trials/"
SCHEMA = "layerdrop/trial/1"

_MAX_MODULES = 5000
_MAX_TOLD = 8000  # characters of the modules' names that are told with their times
_MAX_LIBRARIES = 1000  # characters of the names of all libraries that are added
_MAX_WARNINGS = 10
_MAX_RECORD_BYTES = 1 << 20
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_LONGEST_NAME = 200
_PACKAGE = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.ASCII)

Result = Literal["passed", "not_run", "disabled", "needs_libraries"]


@dataclass(frozen=True)
class Modules:
    """The modules of one package to be imported.

    Attributes:
        package: its normalized name.
        essential: those that must import.
        others: those whose failure is only worth a warning.
        advice: what people should know of it when it cannot be imported; may be empty.
    """

    package: str
    essential: tuple[str, ...]
    others: tuple[str, ...]
    advice: str = ""


def modules(checks: Mapping[str, Any]) -> tuple[Modules, ...]:
    """What there is to import, as the builder's report says it.

    Raises:
        BuildError: REPORT_INVALID. The job that wrote it may have run code of packages.
    """
    imports = checks.get("imports")
    told = imports.get("packages", []) if isinstance(imports, dict) else []
    try:
        # A text tells how much was left out of a list that was too long for the report.
        found = tuple(_modules(one) for one in told if not isinstance(one, str))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise invalid(f"The build's report names no modules that can be imported: {error}.") from error
    if sum(len(one.essential) + len(one.others) for one in found) > _MAX_MODULES:
        raise invalid(f"The build's report names more than {_MAX_MODULES:,} modules.")
    return found


def differs_wrapped(checks: Mapping[str, Any]) -> bool | None:
    """Whether a wrapper's PYTHONPATH may change what the imports find; None where the report says nothing."""
    imports = checks.get("imports")
    told = imports.get("with_pythonpath") if isinstance(imports, dict) else None
    return {"same": False, "differs": True}.get(told) if isinstance(told, str) else None


def _modules(document: Mapping[str, Any]) -> Modules:
    package = document["package"]
    if not (len(package) <= _LONGEST_NAME and _PACKAGE.fullmatch(package)):
        raise ValueError(f"{wording.as_json(package)} is no package")
    return Modules(
        package,
        _names(document["essential"]),
        _names(document["others"]),
        str(document["advice"])[: wording.MAX_SENTENCE],
    )


def _names(listed: Sequence[Any]) -> tuple[str, ...]:
    for name in listed:
        if not (isinstance(name, str) and len(name) <= _LONGEST_NAME and _MODULE.fullmatch(name)):
            raise ValueError(f"{wording.as_json(name)} is no module")
    return tuple(dict.fromkeys(listed))


@dataclass(frozen=True)
class Trial:
    """What became of a layer version in a function.

    Attributes:
        result: `passed`; `not_run`, which says nothing about the layer; `disabled`; or `needs_libraries`:
            shared libraries are missing that may be added.
        reason: why it was not run.
        imports_ms: milliseconds of each import that worked, the longest first if there are many.
        cold_start_ms: of the function's start and all imports; None where Lambda does not tell.
        memory_mb: most that the function used; None where Lambda does not tell.
        warnings: modules that people may do without and that could not be imported, in words.
        libraries: the sonames of those that are missing.
        with_pythonpath: how imports go with `WRAPPERS_PYTHONPATH`; `same` when that changes nothing; empty if
            nobody knows.
    """

    result: Result
    reason: str = ""
    imports_ms: Mapping[str, float] = field(default_factory=dict)
    cold_start_ms: float | None = None
    memory_mb: int | None = None
    warnings: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    with_pythonpath: Literal["", "same", "passed", "failed"] = ""

    def to_json(self) -> dict[str, Any]:
        """The trial as the state machine carries it."""
        told: dict[str, Any] = {"result": self.result}
        if self.reason:
            told["reason"] = self.reason
        if self.result == "passed":
            told |= {
                "imports_ms": dict(self.imports_ms),
                "cold_start_ms": self.cold_start_ms,
                "memory_mb": self.memory_mb,
                "warnings": list(self.warnings),
            }
        if self.with_pythonpath:
            told["with_pythonpath"] = self.with_pythonpath
        return told

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        return cls(
            document["result"],
            document.get("reason", ""),
            document.get("imports_ms", {}),
            document.get("cold_start_ms"),
            document.get("memory_mb"),
            tuple(document.get("warnings", ())),
            with_pythonpath=document.get("with_pythonpath", ""),
        )


def judge(target: Target, wanted: Sequence[Modules], answer: Answer) -> Trial:
    """Decide what an answer means.

    Raises:
        BuildError: IMPORT_FAILED, a module that must import does not.
    """
    failed, owner, essential = _failed(wanted, answer), _owner(wanted), must(wanted)
    fatal = {name: failed[name] for name in essential if name in failed}
    if not fatal:
        told = _longest_first(answer.imported)
        total = None if answer.init_ms is None else round(answer.init_ms + sum(answer.imported.values()), 1)
        warnings = (
            f"{owner[name].package}: `import {name}` fails: {message(error)}."
            for name, error in list(failed.items())[:_MAX_WARNINGS]
        )
        return Trial(
            "passed", "", told, total, answer.memory_mb, tuple(wording.sentence(one) for one in warnings)
        )
    if reason := _elsewhere(target, fatal):
        return Trial("not_run", reason)
    if target.bundles and target.round < MAX_ROUNDS and (libraries := _missing(target, fatal)):
        return Trial("needs_libraries", libraries=libraries)
    raise _failure(target, owner, fatal, answer)


def wrapped(trial: Trial, wanted: Sequence[Modules], answer: Answer) -> Trial:
    """Add to a trial that passed what a function with `WRAPPERS_PYTHONPATH` answered; failures only warn."""
    owner, failed = _owner(wanted), _failed(wanted, answer)
    warnings = (
        f"{owner[name].package}: `import {name}` fails where PYTHONPATH is {WRAPPERS_PYTHONPATH}, as"
        f" OpenTelemetry's wrapper sets it: {message(error)}. Python processes no .pth file of a layer then."
        for name, error in list(failed.items())[:_MAX_WARNINGS]
    )
    return replace(
        trial,
        with_pythonpath="failed" if failed else "passed",
        warnings=(*trial.warnings, *map(wording.sentence, warnings)),
    )


def imported(wanted: Sequence[Modules], answer: Answer) -> tuple[Modules, ...]:
    """Those of the modules that were imported."""
    return tuple(
        replace(
            one,
            essential=tuple(name for name in one.essential if name in answer.imported),
            others=tuple(name for name in one.others if name in answer.imported),
        )
        for one in wanted
    )


def _owner(wanted: Sequence[Modules]) -> dict[str, Modules]:
    return {name: one for one in wanted for name in (*one.essential, *one.others)}


def _failed(wanted: Sequence[Modules], answer: Answer) -> dict[str, ImportFailure]:
    """The modules that were not imported; if the function ended, the one that did that."""
    failed, owner, essential = dict(answer.failed), _owner(wanted), must(wanted)
    if answer.ended:
        # Whoever was at it, else the first that nothing was said of: they are tried in order.
        silent = [name for name in (*essential, *owner) if name not in {**answer.imported, **failed}]
        failed[answer.at or (silent or list(owner))[0]] = ImportFailure("", answer.ended)
        # What must import and was never come to has not passed.
        if not any(name in failed for name in essential) and silent and silent[0] in essential:
            failed[silent[0]] = ImportFailure("", answer.ended)
    return failed


_MISSING_MODULE = re.compile(r"No module named '(\w{1,127})")


def _elsewhere(target: Target, fatal: Mapping[str, ImportFailure]) -> str:
    """Say what the imports lack, if all of it is excluded: the function has it from elsewhere.

    Modules are mostly called as their projects are.
    """
    excluded = set(map(_normalized, target.exclude))
    reasons = []
    for module, error in fatal.items():
        found = map(_MISSING_MODULE.search, (error.text, *error.causes))
        lacks = next((one[1] for one in found if one and _normalized(one[1]) in excluded), None)
        if lacks is None:
            return ""
        reasons.append(f"{module} needs {lacks}, which is excluded and in no layer that alongside names")
    return wording.sentence("; ".join(reasons))


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _missing(target: Target, fatal: Mapping[str, ImportFailure]) -> tuple[str, ...]:
    """The libraries to add: none that was to be there already, for then adding does not help."""
    texts = [text for error in fatal.values() for text in (error.text, *error.causes)]
    named, known = missing_libraries.named(texts), needed_libraries(target)
    # All of them go into a job's command, of which ECS takes some 8,000 characters.
    if set(named) & set(known) or sum(map(len, (*named, *known))) > _MAX_LIBRARIES:
        return ()
    return named


def _longest_first(imported: Mapping[str, float]) -> dict[str, float]:
    """The imports' times; in the order of the imports, unless there are too many to tell."""
    if sum(map(len, imported)) <= _MAX_TOLD:
        return dict(imported)
    told, room = {}, _MAX_TOLD
    for name, ms in sorted(imported.items(), key=lambda item: -item[1]):
        room -= len(name)
        if room < 0:
            break
        told[name] = ms
    return told


def _failure(
    target: Target, owner: Mapping[str, Modules], fatal: Mapping[str, ImportFailure], answer: Answer
) -> BuildError:
    failures = [
        {
            "package": owner[name].package,
            "module": name,
            "message": message(error),
            "location": f"{error.file}:{error.line}" if error.file else "",
            "hint": _hint(owner[name], error),
        }
        for name, error in fatal.items()
    ]
    first = failures[0]
    where = f" ({first['location']})" if first["location"] else ""
    return BuildError(
        ErrorCode.IMPORT_FAILED,
        f"{first['package']}: `import {first['module']}` fails in a {target.runtime} function: "
        f"{first['message']}{where}.",
        first["hint"],
        {"failures": failures, "output": answer.output[-3000:]},
    )


def message(error: ImportFailure) -> str:
    """An import's failure in some words."""
    lines = error.text.strip().splitlines()
    text = " ".join(line.strip() for line in lines[:3] if line.strip())[:300].rstrip(".")
    return ": ".join(part for part in (error.type, text) if part) or "no reason given"


# Words of Lambda's for a process that was killed, as when it wants more memory than it has.
_MEMORY = ("signal: killed", "OutOfMemory", "memory")


def _hint(module: Modules, error: ImportFailure) -> str:
    """What to do about it, as the builder says it of an import of its own."""
    if module.advice:
        return module.advice
    if libraries := missing_libraries.named((error.text, *error.causes)):
        return (
            f"{', '.join(libraries)} is neither in the layer nor in the runtime: take a package whose wheels "
            'bring it, or have it bundled from Amazon Linux: system-libraries = "auto", or the name of its '
            "package."
        )
    if not error.type:
        if "timed out" in error.text:
            return f"All imports together have {TIMEOUT_SECONDS} seconds; most functions have less to start."
        if any(word in error.text for word in _MEMORY):
            return (
                f"The function that tries a layer has {MEMORY_MB:,} MB of memory; if yours has more, ask "
                "whoever runs the stack to set TryLayers to DISABLED."
            )
        return "The output in the details says more; a newer or older version of the package may work."
    if error.missing and not error.standard:
        return (
            f"Add the package that has the module {error.missing.partition('.')[0]} to the requirements; "
            f"{module.package} does not require it by itself."
        )
    texts = (f"{error.type}: {error.text}", *error.causes)
    modules = [name.partition("/")[0].partition(".")[0] for name in (error.file, *module.essential)]
    if advice := writable.advice(texts, modules):
        return advice
    if error.type in ("PermissionError", "OSError", "FileNotFoundError"):
        return (
            "In Lambda only /tmp can be written, and there is no home folder: many packages take a folder"
            " from an environment variable of the function."
        )
    return "The output in the details says more; a newer or older version of the package may work."


def order(wanted: Sequence[Modules]) -> tuple[str, ...]:
    """The modules as they are to be imported: those first that must be."""
    return tuple(dict.fromkeys([*must(wanted), *(name for one in wanted for name in one.others)]))


def must(wanted: Sequence[Modules]) -> tuple[str, ...]:
    """Those that must be imported."""
    return tuple(dict.fromkeys(name for one in wanted for name in one.essential))


def joined(first: Answer, second: Answer, suspect: str) -> Answer:
    """A function's answer at its second try, without what ended the first: the suspect, if nobody knows."""
    failed = {first.at or suspect: ImportFailure("", first.ended), **second.failed}
    memory = max(filter(None, (first.memory_mb, second.memory_mb)), default=None)
    return replace(second, failed=failed, init_ms=first.init_ms, memory_mb=memory)


@dataclass(frozen=True)
class TrialRecords:
    """The trials that passed, `trials/<layer name>/<version>.json`: as a version stays, so do they."""

    s3: S3Client
    bucket: str

    def find(
        self, layer_name: str, version: int, wanted: Sequence[Modules], beside: Sequence[str]
    ) -> Trial | None:
        """The trial of a version, if it passed with at least these modules, beside these very layers.

        What is alongside is no part of a layer: the same version without it may lack what it had.
        """
        content = read_at_most(self.s3, self.bucket, _key(layer_name, version), _MAX_RECORD_BYTES)
        try:
            document = json.loads(content or b"null")
            if document["schema"] != SCHEMA or not set(order(wanted)) <= set(document["modules"]):
                return None
            if document["alongside"] != [*beside]:
                return None
            return Trial.from_json(document["trial"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def keep(
        self, layer_name: str, version: int, wanted: Sequence[Modules], beside: Sequence[str], trial: Trial
    ) -> None:
        """Write down that a version passed with these modules, beside these layers."""
        document = {
            "schema": SCHEMA,
            "modules": sorted(order(wanted)),
            "alongside": [*beside],
            "trial": trial.to_json(),
        }
        self.s3.put_object(
            Bucket=self.bucket,
            Key=_key(layer_name, version),
            Body=json.dumps(document).encode(),
            ContentType="application/json",
        )


def _key(layer_name: str, version: int) -> str:
    return f"{PREFIX}{layer_name}/{version}.json"
