"""Imports what the user asked for, from the finished zip, as a function would find it.

Only where the runtime's Python is at hand and the machine is of the target's architecture; elsewhere the
answer is "not run" with the reason. And only as a second opinion, for what no file says about itself (a
module that fails, a library loaded by name): this machine may have libraries that Lambda has not, so the
authority is `prove`.

The modules run in a process of their own: the layer in a temporary folder instead of /opt, Lambda's
environment without credentials, limits on time and memory, no network and no rights where the kernel allows
that (see `import_worker`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from layer_builder import base_libraries, confinement, files, interpreter
from layer_builder.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from layer_builder.interpreter import Interpreter
    from layer_builder.target import Target

FORMAT = 1  # of kept results; raise it when the check or their form changes

_WORKER = Path(__file__).with_name("import_worker.py")
_COPY = 1 << 18  # bytes
_OUTPUT = 4096  # bytes of the modules' own output that are kept, from its end
_POLL_SECONDS = 0.05
_UNPACKERS = 4
_ANSWERS = 1 << 20  # bytes of answers that are taken at most
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
_MISSING_LIBRARY = re.compile(r"(lib[^\s:'\"]+\.so[.\d]*): cannot open shared object file")
_MISSING_VERSION = re.compile(r"version [`']([A-Za-z]+)_([\d.]+)' not found")


class ImportCheckError(BuildError):
    """A module that the user asked for cannot be imported from the layer."""

    code: ClassVar[str] = "IMPORT_FAILED"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the modules may use; memory is what a process can write to, files are each file's length."""

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
    """

    package: str
    module: str
    message: str
    location: str
    hint: str


@dataclass(frozen=True, slots=True)
class Result:
    """How the check went.

    Attributes:
        status: `passed`; `failed`; or `not_run`, which says nothing about the layer.
        reason: why it was not run.
        python: the interpreter's full version.
        modules: those that were imported.
        failures: essential modules that were not.
        warnings: the other modules that were not, in words.
        confined: what the modules could not reach: `network` is `none` or `host`, `user` who they ran as.
        seconds: the imports' wall time, interpreter start included.
        output: the end of what the modules printed, when some failed.
    """

    status: Literal["passed", "failed", "not_run"]
    reason: str = ""
    python: str = ""
    modules: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
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
        if self.failures:
            check["failures"] = [asdict(failure) for failure in self.failures]
        return check

    @property
    def error(self) -> ImportCheckError | None:
        """What to raise."""
        if not self.failures:
            return None
        first = self.failures[0]
        where = f" ({first.location})" if first.location else ""
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
    others = sorted(outer - set(essential))[: _MAX_MODULES - len(essential)]
    return Modules(package, tuple(essential), tuple(others))


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
    result = _run(layer, target, packages, found, limits, scratch)
    if record and result.status == "passed":
        files.write_atomically(Path(record), json.dumps(asdict(result)).encode())
    return result


def _unfit(target: Target) -> str:
    """Say why this machine cannot stand in for the runtime, if so."""
    machine = platform.machine()
    if machine != target.machine:
        return f"this machine is {machine}, the layer is for {target.machine}"
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
    limits: Limits,
    scratch: Path | None,
) -> Result:
    with tempfile.TemporaryDirectory(
        prefix="layer-builder-", dir=scratch, ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o755)  # the modules run as nobody, if that can be
        unpack(layer, folder / "opt")
        for part, mode in (("task", 0o755), ("tmp", 0o1777), ("home", 0o555)):
            (folder / part).mkdir()
            (folder / part).chmod(mode)
        wanted = [module for package in packages for module in package.essential]
        wanted += [module for package in packages for module in package.others]
        config = {
            "site": str(folder / "opt" / target.site_packages),
            "python": str(folder / "opt/python"),
            "task": str(folder / "task"),
            "modules": wanted,
            "limits": asdict(limits),
        }
        conversation = _converse(
            [str(found.path), "-I", "-S", "-B", str(_WORKER), "confine"],
            config,
            _environment(folder, target, found),
            limits.wall_seconds,
        )
    return _judge(packages, conversation, found, target)


def unpack(layer: Path, folder: Path) -> None:
    """Unpack a layer's zip, to be read only, as Lambda mounts it; several files at a time.

    Raises:
        OSError: a file cannot be written.
    """
    with zipfile.ZipFile(layer) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
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


def _environment(folder: Path, target: Target, found: Interpreter) -> dict[str, str]:
    """Make Lambda's environment (AWS Lambda Developer Guide, "Defined runtime environment variables").

    Without credentials, and with paths into our folders. The user's home does not exist, as in Lambda.
    """
    libraries = [found.environment["LD_LIBRARY_PATH"]] if "LD_LIBRARY_PATH" in found.environment else []
    return {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{target.runtime.name}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "AWS_LAMBDA_FUNCTION_NAME": "import-check",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_REGION": "us-east-1",
        "HOME": str(folder / "home/sbx_user1051"),
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

    answers: list[dict[str, Any]]
    output: str
    ending: str
    seconds: float


def _converse(
    command: list[str], config: dict[str, Any], environment: dict[str, str], wall_seconds: int
) -> _Conversation:
    """Start the worker and listen until it is done or its time is over; then end whatever it started."""
    confinement.hide()
    answers, answering = os.pipe()
    output, printing = os.pipe()
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            [*command, str(answering), json.dumps(config)],
            env=environment,
            cwd=config["task"],
            stdin=subprocess.DEVNULL,
            stdout=printing,
            stderr=printing,
            pass_fds=(answering,),
            start_new_session=True,
        )
    except OSError as error:
        os.close(answers)
        os.close(output)
        return _Conversation([], str(error), "did not start", 0.0)
    finally:
        os.close(answering)
        os.close(printing)
    try:
        said, printed, in_time = _listen(process, answers, output, start + wall_seconds)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        os.close(answers)
        os.close(output)
    lines = _lines(said)
    ending = ""
    if not in_time:
        ending = f"did not finish in {wall_seconds} seconds"
    elif not any("done" in line for line in lines):
        ending = _ended(status)
    return _Conversation(
        lines, printed.decode("utf-8", "replace"), ending, round(time.monotonic() - start, 3)
    )


def _listen(
    process: subprocess.Popen[bytes], answers: int, output: int, deadline: float
) -> tuple[bytes, bytes, bool]:
    """Read both pipes, keeping only so much of each; say whether that ended before the deadline."""
    said, printed = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for descriptor in (answers, output):
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return bytes(said), bytes(printed), False
            ended = process.poll() is not None
            ready = selector.select(0 if ended else min(left, _POLL_SECONDS))
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fd)
                elif key.fd == output:
                    printed = (printed + chunk)[-_OUTPUT:]
                elif len(said) < _ANSWERS:
                    said += chunk
            # Processes that outlive ours may hold the pipes open: what is in them now is all we wait for.
            if ended and not ready:
                break
    return bytes(said), bytes(printed), True


def _lines(text: bytes) -> list[dict[str, Any]]:
    lines = []
    for line in text.splitlines():
        with suppress(ValueError):
            answer = json.loads(line)
            if isinstance(answer, dict):
                lines.append(answer)
    return lines


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended the process with status {status}"
    name = signal.Signals(-status).name if -status in signal.valid_signals() else str(-status)
    return f"ended the process by signal {name}"


def _judge(
    packages: Sequence[Modules], conversation: _Conversation, found: Interpreter, target: Target
) -> Result:
    answers, output, ending = conversation.answers, conversation.output, conversation.ending
    confined = next((line["confined"] for line in answers if "confined" in line), None)
    if not isinstance(confined, dict):
        return Result("not_run", f"{found.path} could not be started: {output.strip()[-200:] or ending}")
    owner = {module: package for package in packages for module in (*package.essential, *package.others)}
    # The modules' own code can write to the same pipe, so nothing is taken for granted.
    lines = [line for line in answers if line.get("module") in owner]
    errors = {line["module"]: line["error"] for line in lines if _is_error(line.get("error"))}
    imported = tuple(line["module"] for line in lines if "seconds" in line)
    if ending:
        begun = [line["module"] for line in lines if line["module"] not in {*imported, *errors}]
        culprit = begun[-1] if begun else next(iter(owner))
        errors.setdefault(culprit, {"type": "", "text": ending})
    failures, warnings, ours = [], [], []
    for module, error in errors.items():
        package = owner[module]
        if reason := _machines_fault(error, target):
            ours.append(f"{module}: {reason}")
        elif module in package.essential:
            failures.append(_failure(package.package, module, error))
        else:
            warnings.append(f"{package.package}: `import {module}` fails: {_message(error)}.")
    if ours and not failures:
        return Result("not_run", f"this machine cannot import {'; '.join(ours)}", found.version, imported)
    return Result(
        "failed" if failures else "passed",
        python=found.version,
        modules=imported,
        failures=tuple(failures),
        warnings=tuple(warnings),
        confined=dict(confined),
        seconds=conversation.seconds,
        output=output if failures else "",
    )


def _is_error(told: Any) -> bool:
    return isinstance(told, dict) and isinstance(told.get("type"), str) and isinstance(told.get("text"), str)


def _machines_fault(error: Mapping[str, Any], target: Target) -> str:
    """Recognize what Lambda has and this machine has not."""
    if error.get("standard"):
        return f"its Python was built without {error['missing']}"
    for text in (error["text"], *error.get("causes", ())):
        if (match := _MISSING_LIBRARY.search(text)) and match[1] in base_libraries.base(target.machine):
            return f"it has no {match[1]}"
        if match := _MISSING_VERSION.search(text):
            ceiling = base_libraries.ceilings(target.runtime.glibc)
            if match[1] in ceiling and not base_libraries.is_newer(match[1], match[2], ceiling):
                return f"its libraries have no {match[1]}_{match[2]}"
    return ""


def _failure(package: str, module: str, error: Mapping[str, Any]) -> Failure:
    location = f"{error['file']}:{error['line']}" if error.get("file") else ""
    return Failure(package, module, _message(error), location, _hint(package, error))


def _message(error: Mapping[str, Any]) -> str:
    lines = str(error["text"]).strip().splitlines()
    text = " ".join(line.strip() for line in lines[:3] if line.strip())[:300].rstrip(".")
    return ": ".join(part for part in (error["type"], text) if part) or "no reason given"


def _hint(package: str, error: Mapping[str, Any]) -> str:
    for text in (error["text"], *error.get("causes", ())):
        if match := _MISSING_LIBRARY.search(text):
            return base_libraries.remedy(package, [match[1]])
    if not error["type"]:
        limits = Limits()
        return (
            f"Modules get {limits.wall_seconds} seconds and {limits.memory_bytes >> 30} GiB here, more than"
            f" most functions have when they start."
        )
    if missing := error.get("missing"):
        return (
            f"Add the package that has the module {missing.partition('.')[0]} to the requirements;"
            f" {package} does not require it by itself."
        )
    if needs := base_libraries.RUN_TIME_NEEDS.get(package):
        return needs.advice
    if error["type"] in ("PermissionError", "OSError", "FileNotFoundError"):
        return (
            "In Lambda only /tmp can be written, and there is no home folder: many packages take a folder"
            " from an environment variable of the function."
        )
    return "The output in the details says more; a newer or older version of the package may work."
