"""Imports what the user asked for, from the finished zip, as a function would find it.

Only where the runtime's Python is at hand and the machine is of the target's architecture; elsewhere the
answer is "not run" with the reason. And only as a second opinion, for what no file says about itself (a
module that fails, a library loaded by name): the authority is `prove`. The machine's own libraries are hidden
from the modules (see `surroundings`); where that cannot be, what they took of them counts as missing.

The modules run in a process of their own: the layer in a temporary folder instead of /opt, Lambda's
environment without credentials, limits on time and memory, and no network, files, processes and rights as far
as the kernel allows that (see `confinement`).

They are found on the runtime's own search path. Where a wrapper's PYTHONPATH would make that another one (no
`.pth` files, not `Target.searched_first`), they are imported once more with that.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import math
import os
import platform
import posixpath
import re
import selectors
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from layer_builder.ground import confinement, confinement_worker, files, interpreter
from layer_builder.ground.errors import BuildError
from layer_builder.ground.wording import listed
from layer_builder.proof import base_libraries, import_answers, missing_libraries, surroundings, writable
from layer_builder.proof.libraries import MissingLibraryError
from layer_builder.proof.loader import LAYER_ROOT
from layer_builder.wheels import elf

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from layer_builder.ground.confinement import Confined
    from layer_builder.ground.interpreter import Interpreter
    from layer_builder.ground.target import Target
    from layer_builder.proof.import_answers import Answers, Error
    from layer_builder.proof.surroundings import Surroundings

FORMAT = 5  # of kept results; raise it when the check or their form changes

_WORKER = Path(__file__).with_name("import_worker.py")
_COPY = 1 << 18  # bytes
_OUTPUT = 4096  # bytes of the modules' own output that are kept, from its end
_POLL_SECONDS = 0.05
_PAUSE_SECONDS = 0.0005
_UNPACKERS = 4
_WATCH_SECONDS = 0.25
_ANSWERS = 16 << 20  # bytes of answers that are taken at most
# Folders of a check, and what they are in Lambda.
_PLACES = {
    "opt": LAYER_ROOT,
    "home": posixpath.dirname(writable.HOME),
    "task": "/var/task",
    "tmp": writable.TMP,
}
_NAME_BYTES = 255  # of one part of a path, on all usual file systems
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_MAX_FILES = 65_536  # temporary ones
_MAX_MODULES = 100  # of one package
_DEPTH = 4  # of namespace packages, such as google.cloud.storage
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# Top-level names that wheels hold by mistake or for other purposes than being imported.
_NOT_MODULES = frozenset(
    {
        "bench",
        "benchmarks",
        "conftest",
        "docs",
        "doc",
        "example",
        "examples",
        "scripts",
        "setup",
        "test",
        "tests",
    }
)
_UNASKED = re.compile(r"(?:site|user)customize[./]")  # Python imports these at its start
_MISSING_MODULE = re.compile(r"No module named '(\w{1,127})")
_MISSING_VERSION = re.compile(r"version [`']([A-Za-z]+)_(\d{1,9}(?:\.\d{1,9}){0,9})' not found", re.ASCII)


class ImportCheckError(BuildError):
    """A module that the user asked for cannot be imported from the layer."""

    code: ClassVar[str] = "IMPORT_FAILED"


class UnpackError(BuildError):
    """The finished layer cannot be unpacked, so Lambda could not either, or not to where it should."""

    code: ClassVar[str] = "LAYER_NOT_UNPACKABLE"


class LayerChangedError(BuildError):
    """The zip is not what was written: code that was imported from it changed it."""

    code: ClassVar[str] = "LAYER_CHANGED"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the modules may use.

    Attributes:
        wall_seconds: until all ends.
        cpu_seconds: of one process.
        memory_bytes: that a process can write to.
        file_bytes: of one file, and of all together that lie in the folder for temporary files: as many as
            Lambda's /tmp has unless a function asks for more.
        open_files: of one process.
    """

    wall_seconds: int = 120
    cpu_seconds: int = 120
    memory_bytes: int = 3 << 30
    file_bytes: int = 512 << 20
    open_files: int = 1024


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of one package to be imported.

    Attributes:
        package: the project's normalized name.
        essential: those that must import.
        others: those whose failure is only worth a warning: they often need packages that are optional.
    """

    package: str
    essential: tuple[str, ...]
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An import that did not work.

    Attributes:
        package: the package whose module it is.
        module: the module.
        message: the exception's last line, or how the process ended.
        location: file and line within site-packages, when it is there.
        hint: what to do.
        libraries: the shared libraries that it lacks, by soname, as far as that is told.
        borrowed: whether it did work, with those libraries of this machine.
    """

    package: str
    module: str
    message: str
    location: str
    hint: str
    libraries: tuple[str, ...] = ()
    borrowed: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How the check went.

    Attributes:
        status: `passed`; `failed`; or `not_run`, which says nothing about the layer.
        reason: why it was not run.
        python: the interpreter's full version.
        modules: those that were imported.
        failures: essential modules that were not.
        warnings: in words, the other modules that were not, and those that are not with a PYTHONPATH.
        wrapped: how imports go with a wrapper's PYTHONPATH; `same` when that changes nothing.
        confined: what the modules could reach, and who they ran as: see `confinement.Confined.held`.
        seconds: the imports' wall time, interpreter start included.
        output: the end of what the modules printed, when some failed.
    """

    status: Literal["passed", "failed", "not_run"]
    reason: str = ""
    python: str = ""
    modules: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    wrapped: Literal["", "same", "passed", "failed"] = ""
    confined: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    output: str = ""

    @property
    def check(self) -> dict[str, Any]:
        """The part of the report."""
        if self.status == "not_run":
            return {"status": self.status, "reason": self.reason}
        check: dict[str, Any] = {
            "status": self.status,
            "python": self.python,
            "modules": list(self.modules),
            "seconds": self.seconds,
            **self.confined,
        }
        if self.wrapped:
            check["with_pythonpath"] = self.wrapped
        if self.failures:
            check["failures"] = [asdict(failure) for failure in self.failures]
        return check

    @property
    def error(self) -> ImportCheckError | MissingLibraryError | None:
        """What to raise."""
        if not self.failures:
            return None
        first = self.failures[0]
        where = f" ({first.location})" if first.location else ""
        if first.borrowed:
            return MissingLibraryError(
                f"{first.package}: `import {first.module}` {first.message}.",
                hint=first.hint,
                details={"failures": [asdict(failure) for failure in self.failures]},
            )
        return ImportCheckError(
            f"{first.package}: `import {first.module}` fails: {first.message}{where}.",
            hint=first.hint,
            details={"failures": [asdict(failure) for failure in self.failures], "output": self.output},
        )


def modules_of(package: str, paths: Iterable[str], target: Target) -> Modules:
    """Find what a package offers for import, from its files in the layer.

    Names come from the files themselves (opencv-python has cv2, pillow has PIL), not from top_level.txt,
    which newer wheels leave out. A folder without __init__.py is a namespace: the packages in it are what
    there is to import.

    Args:
        package: the project's normalized name.
        paths: its files' places in the layer.
        target: says where site-packages is, and which extension modules its Python imports.
    """
    prefix = f"{target.site_packages}/"
    suffixes = (
        "/__init__.py",
        "/__init__.pyc",
        ".cpython-{}{}-{}-linux-gnu.so".format(*target.runtime.version, target.machine),
        ".abi3.so",
        ".so",
        ".py",
    )
    found: dict[str, bool] = {}  # module: whether it is a package
    for path in paths:
        inside = path.removeprefix(prefix)
        suffix = next((suffix for suffix in suffixes if inside.endswith(suffix)), None)
        if suffix is None or inside == path:
            continue
        parts = inside.removesuffix(suffix).split("/")
        if len(parts) <= _DEPTH and all(_IDENTIFIER.fullmatch(part) for part in parts) and _is_offered(parts):
            name = ".".join(parts)
            found[name] = found.get(name, False) or suffix.startswith("/")
    # What lies inside a package is reached by importing that.
    outer = {name for name in found if not any(found.get(parent) for parent in _parents(name))}
    outer = {name for name in outer if "._" not in f".{name}"} or outer
    named = {name for name in outer if _same(name, package)}
    top = {name for name in outer if "." not in name}
    if top:
        # Namespaces beside real modules are other things: examples, data.
        outer = top | named
    # Of a package that has its own name, this is what people import; the rest may need optional packages, as
    # may single modules in namespaces.
    essential = sorted(named or {name for name in outer if found[name] or name in top})[:_MAX_MODULES]
    if needs := base_libraries.RUN_TIME_NEEDS.get(package):
        essential += [name for name in needs.modules if name in found and name not in essential]
    others = sorted(outer - set(essential))[: _MAX_MODULES - len(essential)]
    return Modules(package, tuple(essential), tuple(others))


def left(packages: Sequence[Modules], *, differs: bool) -> dict[str, Any]:
    """Say what there is to import, for somebody else who does it: in the pipeline, a function on Lambda.

    Of each package that the requirements name, its modules, and what people should know of it when they fail;
    and whether there is any use in importing them with a wrapper's PYTHONPATH as well (`differs_wrapped`).
    """
    return {
        "status": "not_run",
        "reason": "--no-import-check was given",
        "with_pythonpath": "differs" if differs else "same",
        "packages": [{**asdict(package), "advice": _advice(package.package)} for package in packages],
    }


def _advice(package: str) -> str:
    needs = base_libraries.RUN_TIME_NEEDS.get(package)
    return needs.advice if needs else ""


def _is_offered(parts: Sequence[str]) -> bool:
    return parts[0] not in _NOT_MODULES and not (parts[-1].startswith("__") and parts[-1].endswith("__"))


def _parents(name: str) -> Iterable[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _same(module: str, package: str) -> bool:
    return re.sub(r"[-_.]+", "-", module).lower() == package


def check(
    layer: Path,
    target: Target,
    packages: Sequence[Modules],
    *,
    kept: Path | None = None,
    digest: str = "",
    limits: Limits | None = None,
    scratch: Path | None = None,
    code_sha256: str = "",
    elsewhere: Collection[str] = (),
) -> Result:
    """Import modules from a layer's zip.

    Args:
        layer: the zip.
        target: what it is for.
        packages: what to import.
        kept: a folder for results that passed: the same layer, modules and interpreter need no second trial.
        digest: names the layer's content; without it nothing is kept.
        limits: what the modules may use.
        scratch: where to unpack the layer (default: the system's folder for temporary files).
        code_sha256: of the zip, in base64: after the modules ran, it must still have that.
        elsewhere: projects (by normalized name) that the function has from elsewhere: an import that only
            lacks these says nothing about the layer.

    Raises:
        UnpackError: the zip cannot be unpacked, for another reason than a full disk.
        LayerChangedError: the zip was changed while the modules ran.
        OSError: there is no room, or no folder, to unpack it.
    """
    limits = limits or Limits()
    if not any(package.essential or package.others for package in packages):
        return Result("not_run", "the required packages have no modules")
    if reason := _unfit(target):
        return Result("not_run", reason)
    found = interpreter.find("{}.{}".format(*target.runtime.version))
    if found is None:
        return Result("not_run", f"there is no {target.runtime.name} on this machine")
    record = kept and digest and kept / f"{_key(digest, packages, found)}.json"
    if record:
        with suppress(OSError, ValueError, TypeError):
            return _revive(json.loads(Path(record).read_bytes()))
    seen = surroundings.of(found, target.machine)
    if seen is None:
        return Result("not_run", f"this machine's loader does not tell what {found.path} needs")
    result = _run(layer, target, packages, found, seen, limits, scratch, elsewhere)
    if code_sha256 and (now := _sha256(layer)) != code_sha256:
        raise LayerChangedError(
            "The layer's zip was changed while its modules were imported: "
            f"it has the SHA-256 {now}, and was written with {code_sha256}.",
            hint="A package does this on purpose. Find out which, and do without it.",
            details={"modules": list(result.modules)},
        )
    if record and result.status == "passed":
        files.write_atomically(Path(record), json.dumps(asdict(result)).encode())
    return result


def _unfit(target: Target) -> str:
    """Say why this machine cannot stand in for the runtime, if so."""
    machine = platform.machine()
    if machine != target.machine:
        here = {"aarch64": "arm64"}.get(machine, machine)  # in the option's words
        return f"this machine is {here}, the layer is for {target.architecture}"
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    if name != "glibc":
        return "this machine's C library is not glibc"
    if tuple(map(int, version.split("."))) < target.runtime.glibc:
        return f"this machine's glibc {version} is older than the runtime's"
    return ""


def _key(digest: str, packages: Sequence[Modules], found: Interpreter) -> str:
    parts = [FORMAT, digest, found.version, str(found.path), [asdict(package) for package in packages]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _revive(fields: dict[str, Any]) -> Result:
    return Result(
        **{
            **fields,
            "modules": tuple(fields["modules"]),
            "warnings": tuple(fields["warnings"]),
            "failures": (),
        }
    )


def _run(
    layer: Path,
    target: Target,
    packages: Sequence[Modules],
    found: Interpreter,
    seen: Surroundings,
    limits: Limits,
    scratch: Path | None,
    elsewhere: Collection[str],
) -> Result:
    with tempfile.TemporaryDirectory(
        prefix="layer-builder-", dir=scratch, ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o755)  # the modules run as nobody, if that can be
        _unpack(layer, folder / "opt")
        for part, mode in (("task", 0o755), ("tmp", 0o1777), ("home", 0o555), ("root", 0o755)):
            (folder / part).mkdir()
            (folder / part).chmod(mode)
        wanted = [module for package in packages for module in package.essential]
        wanted += [module for package in packages for module in package.others]
        environment = _environment(folder, target, found, seen)
        result = _import(folder, wanted, packages, found, seen, target, environment, limits, elsewhere)
        if result.status != "passed":
            return result
        with zipfile.ZipFile(layer) as archive:
            differs = differs_wrapped(archive.namelist(), target)
        if not differs:
            return replace(result, wrapped="same")
        environment["PYTHONPATH"] = str(folder / "opt" / target.site_packages)
        again = list(result.modules)
        wrapped = _import(folder, again, packages, found, seen, target, environment, limits, elsewhere)
    return replace(
        result,
        wrapped="passed" if wrapped.status == "passed" and not wrapped.warnings else "failed",
        warnings=(*result.warnings, *_wrapped_warnings(wrapped, target)),
        seconds=round(result.seconds + wrapped.seconds, 3),
    )


def _import(
    folder: Path,
    wanted: Sequence[str],
    packages: Sequence[Modules],
    found: Interpreter,
    seen: Surroundings,
    target: Target,
    environment: dict[str, str],
    limits: Limits,
    elsewhere: Collection[str],
) -> Result:
    """Import modules from an unpacked layer in a process of their own."""
    config = {
        "site": str(folder / "opt" / target.site_packages),
        "searched_first": str(folder / "opt" / target.searched_first),
        "wrapped": "PYTHONPATH" in environment,
        "task": str(folder / "task"),
        "layer": f"{folder}/",
        "modules": wanted,
    }
    (folder / "modules.json").unlink(missing_ok=True)
    (folder / "modules.json").write_text(json.dumps(config))
    (folder / "modules.json").chmod(0o444)
    try:
        conversation = _converse(folder, found, seen, environment, limits, wanted)
    finally:
        files.empty(folder / "tmp")
    asked = [
        Modules(
            package.package,
            tuple(module for module in package.essential if module in wanted),
            tuple(module for module in package.others if module in wanted),
        )
        for package in packages
    ]
    return _judge(asked, conversation.shown(folder), found, seen, target, elsewhere)


def differs_wrapped(paths: Iterable[str], target: Target) -> bool:
    """Tell whether imports may find something else when a wrapper has set PYTHONPATH.

    Where a layer has neither `.pth` files nor the folder that is searched first, nor what Python runs of its
    own accord, both ways find the same files in the same order.

    Args:
        paths: of the layer's files, in it.
        target: says where modules are, and which folder is searched first.
    """
    for path in paths:
        if path.startswith(f"{target.searched_first}/"):
            return True
        folder, _, name = path.rpartition("/")
        if folder == target.site_packages and name.endswith(".pth"):
            return True
        inside = path.removeprefix(f"{target.site_packages}/")
        if inside != path and _UNASKED.match(inside):
            return True
    return False


def _wrapped_warnings(wrapped: Result, target: Target) -> Iterator[str]:
    where = f"where PYTHONPATH is /opt/{target.site_packages}, as OpenTelemetry's wrapper sets it"
    if wrapped.status == "not_run":
        yield f"It is not known whether the imports work {where}: {wrapped.reason}."
    for one in wrapped.failures:
        yield (
            f"{one.package}: `import {one.module}` fails {where}: {one.message}. Python processes no .pth"
            f" file of that folder then."
        )
    for warning in wrapped.warnings:
        yield f"{warning.removesuffix('.')}, {where}."


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return base64.b64encode(hashlib.file_digest(stream, "sha256").digest()).decode()


def _unpack(layer: Path, folder: Path) -> None:
    try:
        unpack(layer, folder)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise
        where = f"{str(error.filename).removeprefix(f'{folder}/')}: " if isinstance(error, OSError) else ""
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        reason = import_answers.clean(f"{where}{reason}".rstrip("."))
        raise UnpackError(
            f"The finished layer cannot be unpacked: {reason}.",
            hint="A package has a file that cannot be where it says. Take another version of it.",
            details={"reason": reason},
        ) from error


def unpack(layer: Path, folder: Path) -> None:
    """Unpack a layer's zip, to be read only, as Lambda mounts it; several files at a time.

    Raises:
        OSError: a file cannot be written.
        ValueError, zipfile.BadZipFile: it would be written elsewhere, or is broken.
    """
    with zipfile.ZipFile(layer) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        for member in members:
            _check_path(member)
        folders = {""}
        for member in members:
            parent = member.filename.rpartition("/")[0]
            while parent not in folders:
                folders.add(parent)
                parent = parent.rpartition("/")[0]
        for parent in sorted(folders):
            (folder / parent).mkdir()

        def some(part: list[zipfile.ZipInfo]) -> None:
            for member in part:
                executable = member.external_attr >> 16 & 0o111
                with archive.open(member) as source, open(f"{folder}/{member.filename}", "xb") as copy:  # noqa: PTH123 (thousands of them)
                    shutil.copyfileobj(source, copy, _COPY)
                    os.fchmod(copy.fileno(), 0o555 if executable else 0o444)

        from concurrent.futures import ThreadPoolExecutor

        workers = min(_UNPACKERS, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            # Neighbors are of one package, with large files side by side: each worker takes some everywhere.
            list(pool.map(some, (members[start::workers] for start in range(workers))))
    for parent in folders:
        (folder / parent).chmod(0o555)


def _check_path(member: zipfile.ZipInfo) -> None:
    """See that a file is to lie where its header says, below the folder (a newer zipfile takes another name
    from an extra field).

    Raises:
        ValueError: it is not.
    """
    parts = member.filename.split("/")
    if (
        member.filename != member.orig_filename
        or any(part in ("", ".", "..") or "\0" in part for part in parts)
        or any(len(part.encode("utf-8", "surrogatepass")) > _NAME_BYTES for part in parts)
    ):
        raise ValueError(f"{member.orig_filename!r} is no path within a layer")


def _environment(folder: Path, target: Target, found: Interpreter, seen: Surroundings) -> dict[str, str]:
    """Make Lambda's environment (AWS Lambda Developer Guide, "Defined runtime environment variables").

    Without credentials, and with paths into our folders. The user's home does not exist, as in Lambda.
    """
    libraries = dict.fromkeys([*found.environment.values(), *seen.folders])
    return {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{target.runtime.name}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "AWS_LAMBDA_FUNCTION_NAME": "import-check",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_REGION": "us-east-1",
        "HOME": f"{folder}{writable.HOME}",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "LAMBDA_TASK_ROOT": str(folder / "task"),
        "LANG": "en_US.UTF-8",
        "LD_LIBRARY_PATH": ":".join([*libraries, str(folder / "opt/lib")]),
        "PATH": f"/usr/local/bin:/usr/bin:/bin:{folder / 'opt/bin'}",
        "TMPDIR": str(folder / "tmp"),
        "TZ": ":UTC",
    }


@dataclass(frozen=True, slots=True)
class _Conversation:
    """What the worker said, the end of the modules' output, how it ended if not well, and its seconds."""

    answers: Answers
    output: str
    ending: str
    seconds: float
    confined: dict[str, str]
    failure: str = ""

    def shown(self, folder: Path) -> _Conversation:
        """Give the words with the paths that they would have in Lambda."""

        def text(words: str) -> str:
            for part, place in _PLACES.items():
                words = words.replace(f"{folder}/{part}", place)
            return words

        errors = tuple(
            (module, replace(error, text=text(error.text), causes=tuple(map(text, error.causes))))
            for module, error in self.answers.errors
        )
        return replace(self, answers=replace(self.answers, errors=errors), output=text(self.output))


def _converse(
    folder: Path,
    found: Interpreter,
    seen: Surroundings,
    environment: dict[str, str],
    limits: Limits,
    wanted: Sequence[str],
) -> _Conversation:
    """Start the worker and listen until it is done or its time is over; then end whatever it started."""
    answers, answering = os.pipe()
    output, printing = os.pipe()
    place = folder / "modules.json"
    rules = confinement.Rules(
        root=folder / "root",
        read=[
            *(str(folder / part) for part in ("opt", "task", "home")),
            *(str(place), str(_WORKER)),
        ],
        machine=seen.read,
        tmp=limits.file_bytes,
        scratch={str(folder / "tmp"): limits.file_bytes},
        needs=[str(found.path), str(place), str(_WORKER), str(folder / "opt")],
        limits={
            "DATA": limits.memory_bytes,
            "CPU": limits.cpu_seconds,
            "FSIZE": limits.file_bytes,
            "NOFILE": limits.open_files,
        },
        wall_seconds=limits.wall_seconds,
    )
    command = [str(found.path), "-I", "-S", "-B", str(_WORKER), str(answering), str(place)]
    start = time.monotonic()
    try:
        with confinement.confined(
            rules,
            command,
            environment,
            cwd=str(folder / "task"),
            keep=(answering,),
            stdin=subprocess.DEVNULL,
            stdout=printing,
            stderr=printing,
        ) as worker:
            os.close(answering)
            os.close(printing)
            answering = printing = -1
            watch = _Watch(folder / "tmp", limits, worker)
            said, printed, ending = _listen(worker, answers, output, watch)
    except OSError as error:
        return _Conversation(import_answers.Answers(), "", "", 0.0, {}, f"did not start ({error})")
    finally:
        for descriptor in (answers, output, answering, printing):
            if descriptor >= 0:
                os.close(descriptor)
    heard = import_answers.parse(said, frozenset(wanted))
    answered = {*heard.imported, *(module for module, _ in heard.errors)}
    # Without a status, what the modules started may still be at work.
    if not ending and not (heard.done and answered == {*wanted} and worker.status is not None):
        ending = _ended(worker.status)
    text = import_answers.clean(printed.decode("utf-8", "replace"), _OUTPUT)
    seconds = round(time.monotonic() - start, 3)
    return _Conversation(heard, text, ending, seconds, worker.held, worker.failure)


def _listen(worker: Confined, answers: int, output: int, watch: _Watch) -> tuple[bytes, bytes, str]:
    """Read both pipes, keeping only so much of each, until the worker ended; say why if it was not let."""
    said, printed = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for descriptor in (answers, output):
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        while not (objection := watch.objection()):
            # Nothing outlives the supervisor; should it have been killed, what is in the pipes is all we wait
            # for. And they may be closed long before.
            ended = worker.process.poll() is not None
            if not selector.get_map():
                if ended:
                    break
                time.sleep(_PAUSE_SECONDS)
                continue
            ready = selector.select(0 if ended else _POLL_SECONDS)
            if ended and not ready:
                break
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fd)
                elif key.fd == output:
                    printed = (printed + chunk)[-_OUTPUT:]
                elif len(said) < _ANSWERS:
                    said += chunk
    return bytes(said), bytes(printed), objection


class _Watch:
    """Looks now and then whether it is time to stop: by the clock, or for the room that files take.

    The latter only where there is no file system of its own size for them.
    """

    def __init__(self, folder: Path, limits: Limits, worker: Confined) -> None:
        self._folder, self._limit, self._worker = folder, limits.file_bytes, worker
        self._seconds = limits.wall_seconds
        self._deadline = time.monotonic() + limits.wall_seconds
        self._next = time.monotonic() + _WATCH_SECONDS

    def objection(self) -> str:
        """Say why it is time to stop, if it is."""
        if time.monotonic() > self._deadline:
            return f"did not finish in {self._seconds} seconds"
        if time.monotonic() < self._next:
            return ""
        self._worker.learn()
        if not _has_own_tmp(self._worker.held) and self._bytes() > self._limit:
            return f"wrote more than {self._limit >> 20} MiB of temporary files"
        self._next = time.monotonic() + _WATCH_SECONDS
        return ""

    def _bytes(self) -> float:
        """Count files by the room they take, those included that have no name any more but are open."""
        found: dict[tuple[int, int], int] = {}
        folders = [str(self._folder)]
        for folder in folders:
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if len(found) > _MAX_FILES:
                            return math.inf
                        _note(entry.stat(follow_symlinks=False), found)
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:  # what is below cannot be counted
                    return math.inf
        for pid in confinement_worker.descendants(self._worker.process.pid):
            with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
                for entry in descriptors:
                    with suppress(OSError):
                        status = entry.stat()
                        if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                            _note(status, found)
        return sum(found.values())


def _note(status: os.stat_result, found: dict[tuple[int, int], int]) -> None:
    found[status.st_dev, status.st_ino] = status.st_blocks * 512


def _ended(status: int | None) -> str:
    if status is None:
        return "ended the process in a way that left no trace"
    if status >= 0:
        return f"ended the process with status {status}"
    name = signal.Signals(-status).name if -status in signal.valid_signals() else str(-status)
    return f"ended the process by signal {name}"


def _judge(
    packages: Sequence[Modules],
    conversation: _Conversation,
    found: Interpreter,
    seen: Surroundings,
    target: Target,
    elsewhere: Collection[str],
) -> Result:
    answers, output, ending = conversation.answers, conversation.output, conversation.ending
    if conversation.failure or not conversation.confined or (ending and not answers.begun):
        reason = conversation.failure or output.strip()[-200:] or ending
        return Result("not_run", f"{found.path} could not be started: {reason}")
    owner = {module: package for package in packages for module in (*package.essential, *package.others)}
    errors = dict(answers.errors)
    if ending:
        # Whoever was at it, else who was never heard of, else the last.
        silent = [module for module in owner if module not in errors and module not in answers.imported]
        begun = [module for module in answers.begun if module in silent]
        culprit = (begun or silent[:1] or list(owner))[-1]
        errors[culprit] = import_answers.Error("", ending)
    imported = tuple(module for module in answers.imported if module not in errors)
    failures, warnings, ours = [], [], []
    for module, error in errors.items():
        package = owner[module]
        reason = _machines_fault(error, target, conversation.confined) or _excluded(error, elsewhere)
        if reason:
            ours.append(f"{module}: {reason}")
        elif module in package.essential:
            failures.append(_failure(package.package, module, error))
        else:
            warnings.append(f"{package.package}: `import {module}` fails: {_message(error)}.")
    for module, libraries in _borrowed(answers, seen, conversation.confined).items():
        failure = _borrowing(owner[module].package, module, libraries)
        if module in owner[module].essential:
            failures += [failure] if module not in errors else []
        else:
            warnings.append(f"{failure.package}: `import {module}` {failure.message}.")
    if ours and not failures:
        return Result("not_run", f"this machine cannot import {'; '.join(ours)}", found.version, imported)
    return Result(
        "failed" if failures else "passed",
        python=found.version,
        modules=imported,
        failures=tuple(failures),
        warnings=tuple(warnings),
        confined=conversation.confined,
        seconds=conversation.seconds,
        output=output if failures else "",
    )


def _borrowed(answers: Answers, seen: Surroundings, confined: Mapping[str, str]) -> dict[str, list[str]]:
    """Find the libraries of this machine that modules have loaded, by the module that brought them."""
    # An empty one of their own: what lies there, modules have made.
    own = (f"{writable.TMP}/",) if _has_own_tmp(confined) else ()
    found = {}
    for module, paths in answers.loaded:
        if machines := [path for path in paths if not path.startswith(own) and seen.is_machines(path)]:
            found[module] = sorted({_soname(path) for path in machines})
    return found


def _soname(path: str) -> str:
    """Read a library's name; of a file that is none, or is no more, the file's."""
    with suppress(OSError, ValueError):
        if stat.S_ISREG(Path(path).stat().st_mode):
            with Path(path).open("rb") as file:
                return elf.read(file, path).soname or posixpath.basename(path)
    return import_answers.clean(posixpath.basename(path))


def _borrowing(package: str, module: str, libraries: Sequence[str]) -> Failure:
    message = f"loads {listed(libraries)} of this machine, which neither the layer nor the runtime has"
    return Failure(
        package, module, message, "", _lacking(package, libraries), tuple(libraries), borrowed=True
    )


def _lacking(package: str, libraries: Sequence[str]) -> str:
    known = base_libraries.RUN_TIME_NEEDS
    loading = (needs for needs in known.values() if not {*libraries}.isdisjoint(needs.libraries))
    if needs := known.get(package) or next(loading, None):
        return needs.advice
    return base_libraries.remedy(package, libraries)


def _machines_fault(error: Error, target: Target, confined: Mapping[str, str]) -> str:
    """Recognize what Lambda has and this machine has not."""
    if error.standard:
        return f"its Python was built without {error.missing}"
    own_tmp = _has_own_tmp(confined)
    for text in (error.text, *error.causes):
        for library in missing_libraries.named([text]):
            if library in base_libraries.base(target.machine):
                return f"it has no {library}"
        if not own_tmp and writable.is_refused_in_tmp(text):
            return "it gives no /tmp to be written"
        if match := _MISSING_VERSION.search(text):
            ceiling = base_libraries.ceilings(target.runtime.glibc)
            if match[1] in ceiling and not base_libraries.is_newer(match[1], match[2], ceiling):
                return f"its libraries have no {match[1]}_{match[2]}"
    return ""


def _has_own_tmp(confined: Mapping[str, str]) -> bool:
    return "mount namespace" in confined.get("by", "")


def _excluded(error: Error, elsewhere: Collection[str]) -> str:
    """Recognize what the function has from elsewhere; modules are mostly called as projects are."""
    for text in (error.text, *error.causes):
        if (match := _MISSING_MODULE.search(text)) and re.sub(r"[-_.]+", "-", match[1]).lower() in elsewhere:
            return f"{match[1]} is excluded from the layer"
    return ""


def _failure(package: str, module: str, error: Error) -> Failure:
    location = f"{error.file}:{error.line}" if error.file else ""
    libraries = missing_libraries.named([error.text, *error.causes])
    hint = _hint(package, module, error, libraries)
    return Failure(package, module, _message(error), location, hint, libraries)


def _message(error: Error) -> str:
    lines = error.text.strip().splitlines()
    text = " ".join(line.strip() for line in lines[:3] if line.strip())[:300].rstrip(".")
    return ": ".join(part for part in (error.type, text) if part) or "no reason given"


def _hint(package: str, module: str, error: Error, libraries: Sequence[str]) -> str:
    if libraries:
        return _lacking(package, libraries)
    if not error.type:
        limits = Limits()
        return (
            f"Modules get {limits.wall_seconds} seconds and {limits.memory_bytes >> 30} GiB here, more than"
            f" most functions have when they start."
        )
    if missing := error.missing:
        return (
            f"Add the package that has the module {missing.partition('.')[0]} to the requirements;"
            f" {package} does not require it by itself."
        )
    if needs := base_libraries.RUN_TIME_NEEDS.get(package):
        return needs.advice
    texts = [f"{error.type}: {error.text}", *error.causes]
    modules = [place.partition("/")[0].partition(".")[0] for place in (error.file, module)]
    if advice := writable.advice(texts, modules):
        return advice
    if error.type in ("PermissionError", "OSError", "FileNotFoundError"):
        return (
            "In Lambda only /tmp can be written, and there is no home folder: many packages take a folder"
            " from an environment variable of the function."
        )
    return "The output in the details says more; a newer or older version of the package may work."
