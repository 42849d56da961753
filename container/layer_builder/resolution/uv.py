"""The uv command: finds a set of versions that satisfies requirements, for a target that need not be at hand.

What goes in is written by us: requirements on standard input, an environment of our own making, no
configuration files. uv itself goes wherever an index leads it, and so may code that it builds: unless the
index is the public one alone and nothing is built, an index on loopback (`relay`) stands in the place of the
real ones. What comes out is a lock file (pylock.toml, PEP 751) and, when there is none, uv's explanation.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from layer_builder.ground import cooldown
from layer_builder.ground.errors import IndexUnreachableError, SdistBuildError
from layer_builder.indexes import public_index
from layer_builder.indexes import sources as source_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from layer_builder.ground.cooldown import Cooldown
    from layer_builder.ground.interpreter import Interpreter
    from layer_builder.ground.settings import Settings
    from layer_builder.ground.target import Target
    from layer_builder.indexes.sources import Sources
    from layer_builder.requirements.origins import Origins
    from layer_builder.resolution.relay import Relay

# What the public index itself announces: its pages are good for ten minutes, its files never change.
_FRESHNESS = '{ api = "max-age=600", files = "max-age=365000000, immutable" }'
_BUILD_FILE_BYTES = 2 << 30  # of one file
_BUILD_PROCESSES = 4096
TIMEOUT = 600  # seconds; uv's own time limits on requests are much shorter
_POLL = 0.2  # seconds, between looks at whether a process has ended whose pipes stay open
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of uv came to.

    Attributes:
        status: uv's.
        lock: its text; empty when it failed.
        stderr: what it said.
        addresses: where files are in truth, by the addresses that the lock has for them, if those differ.
        ageless: projects that no cooldown was applied to, as the installation spares their index.
        provenances: where indexes say who published files, by where those are in truth, if pages were read.
    """

    status: int
    lock: str
    stderr: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    ageless: frozenset[str] = frozenset()
    provenances: Mapping[str, str] = field(default_factory=dict)


def compile_lock(
    requirements: Sequence[str],
    constraints: Sequence[str],
    target: Target,
    settings: Settings,
    origins: Origins,
    *,
    sources: Sequence[str] = (),
    python: Interpreter | None = None,
    counting: Cooldown | None = None,
) -> Outcome:
    """Resolve requirements for a target to wheels only, whatever this machine is.

    Args:
        requirements: one a line, as we wrote them.
        constraints: versions that are ruled out.
        target: what to resolve for.
        settings: of the installation.
        origins: what the requirements say of where packages come from.
        sources: projects that are taken as sources, and which uv may build to learn what they depend on.
        python: the interpreter that does that, of the target's version.
        counting: how long ago files must have been uploaded, those that builds need among them.

    Raises:
        IndexUnreachableError: it takes too long.
        IndexDeniedError, AddressRefusedError, …: see `sources.Sources.files_of`.
    """
    places = source_list.of(settings, origins)
    if not python and not sources and places.is_public:
        question = _Question(tuple(requirements), tuple(constraints), target, settings, counting)
        if run := _begun.pop(question, None):
            return run.outcome()
        with _started(question) as run:
            return run.outcome()
    with tempfile.TemporaryDirectory(prefix="layer-builder-") as folder:
        # Not into a file, which the code of a source that is built could write again.
        command = [
            *_command(target, python),
            *cooldown.uv_options(counting),
            *(f"--no-binary={name}" for name in sources),
            *_constrained(constraints, folder),
        ]
        more = _build_environment(folder, python) if python else {}
        with _in_time(sources), _relayed(places, folder, counting) as (relay, environment):
            if python:
                done = _run_confined(command, requirements, environment | more, folder, python, relay)
            else:
                done = _run(command, requirements, environment)
        if relay.error and (done.returncode != 0 or relay.misled):
            raise relay.error
        lock = done.stdout if done.returncode == 0 else ""
        said = relay.without_address(done.stderr)
        ageless = frozenset(relay.ageless)
        return Outcome(done.returncode, lock, said, relay.addresses, ageless, relay.provenances)


@dataclass(frozen=True, slots=True)
class _Question:
    """What uv is asked of the public index: see `compile_lock`."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    target: Target
    settings: Settings
    counting: Cooldown | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """uv at work on a question."""

    question: _Question
    process: subprocess.Popen[bytes]
    is_configured: bool
    deadline: float

    def outcome(self) -> Outcome:
        """Wait for its answer; if it has none, have it look at the index again."""
        with _in_time():
            done = _finished(self.process, self.question.requirements, self.deadline)
            if done.returncode == 1 and self.is_configured:  # what is wanted may be younger than what is kept
                environment = public_index.environment(self.question.settings)
                command = [*map(str, self.process.args), "--refresh"]  # type: ignore[arg-type]
                done = _run(command, self.question.requirements, environment)
        return Outcome(done.returncode, done.stdout if done.returncode == 0 else "", done.stderr)


# What uv is at work on before it is asked.
_begun: dict[_Question, _Run] = {}


@contextmanager
def begun(
    requirements: Sequence[str], constraints: Sequence[str], target: Target, settings: Settings
) -> Iterator[None]:
    """Have uv begin with what `compile_lock` will ask of the public index: that then waits for this run.

    If it asks something else, or nothing, the run ends with the context.
    """
    question = _Question(tuple(requirements), tuple(constraints), target, settings)
    with _started(question) as run:
        _begun[question] = run
        try:
            yield
        finally:
            _begun.pop(question, None)


@contextmanager
def _started(question: _Question) -> Iterator[_Run]:
    """Start uv with a question to the public index; it ends with the context."""
    settings = question.settings
    with tempfile.TemporaryDirectory(prefix="layer-builder-") as folder:
        command = [
            *_command(question.target, None),
            *cooldown.uv_options(question.counting),
            *_constrained(question.constraints, folder),
        ]
        configuration = _configuration(settings)
        if configuration:
            file = Path(folder, "uv.toml")
            file.write_text(configuration, encoding="utf-8")
            command += ["--config-file", str(file)]
        deadline = time.monotonic() + TIMEOUT
        with _process(command, public_index.environment(settings)) as process:
            _hand_over(process, question.requirements)
            yield _Run(question, process, bool(configuration), deadline)


def _constrained(constraints: Sequence[str], folder: str) -> list[str]:
    """Write constraints where uv reads them, and the options that end its command."""
    ending = ["--format", "pylock.toml", "--no-header"]
    if not constraints:
        return ending
    file = Path(folder, "constraints.txt")
    file.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
    return [*ending, "--constraints", str(file)]


@contextmanager
def _relayed(
    places: Sources, folder: str, counting: Cooldown | None = None
) -> Iterator[tuple[Relay, dict[str, str]]]:
    """Give uv a relay for its index, an environment in which that is all it knows, and a cache of its own.

    Addresses of a relay are good for one run, so what is kept under them is, too.
    """
    from layer_builder.resolution.relay import Relay

    with Relay(places, counting) as relay:
        yield (
            relay,
            {
                **public_index.OURS,
                "UV_DEFAULT_INDEX": relay.url,
                "UV_CACHE_DIR": str(Path(folder, "uv-cache")),
                "UV_HTTP_RETRIES": "0",  # the relay is patient
                "UV_HTTP_TIMEOUT": "300",
                "NO_PROXY": "127.0.0.1",
                "HOME": folder,
            },
        )


def _configuration(settings: Settings) -> str:
    """Have answers of the public index kept as long as it allows, whatever a mirror on the way leaves out."""
    if not (url := public_index.address(settings)):
        return ""
    return f"[[index]]\nurl = {json.dumps(url)}\ndefault = true\ncache-control = {_FRESHNESS}\n"


def _build_environment(home: str, python: Interpreter) -> dict[str, str]:
    """Give what builds of sources need on top: compilers on the PATH, a HOME of their own, a fixed date."""
    from layer_builder.ground import confinement

    confinement.hide()
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": home,
        "TMPDIR": home,
        "SOURCE_DATE_EPOCH": "315532800",  # 1980-01-01, as in layers
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
        **python.environment,
    }


def build_wheel(
    file: Path,
    folder: Path,
    python: Interpreter,
    settings: Settings,
    origins: Origins,
    counting: Cooldown | None = None,
) -> Outcome:
    """Build a source distribution to a wheel in `folder`/out, isolated, with `folder` as its HOME.

    What the build needs comes from the indexes too, as wheels only, and subject to the same cooldown.

    Raises:
        subprocess.TimeoutExpired: it takes more than `TIMEOUT` seconds; nothing of it runs on.
        IndexDeniedError, AddressRefusedError, …: see `sources.Sources.files_of`.
    """
    command = [
        *(public_index.uv(), "build", "--wheel", "--no-build"),  # of others
        *cooldown.uv_options(counting),
        *("--python", str(python.path), "--out-dir", str(folder / "out")),
        *("--color", "never", "--no-progress", str(file)),
    ]
    with _relayed(source_list.of(settings, origins), str(folder), counting) as (relay, environment):
        environment |= _build_environment(str(folder), python)
        done = _run_confined(command, (), environment, str(folder), python, relay, file)
    if relay.error and done.returncode != 0:
        raise relay.error
    return Outcome(done.returncode, "", relay.without_address(f"{done.stdout}{done.stderr}"))


def _command(target: Target, python: Interpreter | None) -> list[str]:
    return [
        public_index.uv(),
        *("pip", "compile", "-"),
        # Any interpreter will do, and one that is named is not searched for.
        *("--python", str(python.path) if python else sys.executable),
        *("--python-version", target.runtime.patch),
        *("--python-platform", target.uv_platform),
        *("--only-binary", ":all:"),
        *("--color", "never"),
        "--no-progress",
    ]


def _run(
    command: list[str], lines: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    with _process(command, environment) as process:
        return _finished(process, lines, time.monotonic() + TIMEOUT)


def _run_confined(
    command: list[str],
    lines: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    python: Interpreter,
    relay: Relay,
    *files_read: Path,
) -> subprocess.CompletedProcess[str]:
    """Run uv where it will start code of packages: with this one folder, and the relay for a network.

    Compilers are where the system, the PATH and /opt have them.
    """
    from layer_builder.ground import confinement

    searched = [one for one in os.get_exec_path() if Path(one).is_absolute() and Path(one) != Path.home()]
    with tempfile.TemporaryDirectory(prefix="layer-builder-") as root:
        Path(root).chmod(0o755)
        rules = confinement.Rules(
            root=Path(root),
            read=[command[0], *confinement.parts_of(python), *map(str, files_read), *searched, "/opt"],
            write=[folder],
            needs=[command[0], str(python.path), *map(str, files_read), folder],
            port=urlsplit(relay.url).port,
            limits={"FSIZE": _BUILD_FILE_BYTES, "NPROC": _BUILD_PROCESSES},
            wall_seconds=TIMEOUT,
        )
        with confinement.confined(
            rules,
            command,
            environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        ) as one:
            stdout, stderr = _exchange(one.process, _text(lines), time.monotonic() + TIMEOUT)
    status = 1 if one.status is None else one.status
    told = stderr.decode(errors="replace") or one.failure
    return subprocess.CompletedProcess(command, status, stdout.decode(errors="replace"), told)


@contextmanager
def _in_time(sources: Sequence[str] = ()) -> Iterator[None]:
    """Say what took too long: code of sources, if that may have run, else the index."""
    try:
        yield
    except subprocess.TimeoutExpired as error:
        if sources:
            names = ", ".join(sources)
            raise SdistBuildError(
                f"What {names} depends on was not known within {TIMEOUT} seconds.",
                hint="The build of its source does not end; take a version that has a wheel.",
                details={"package": sources[0], "output": []},
            ) from error
        raise IndexUnreachableError(
            f"No versions were found within {TIMEOUT} seconds.",
            hint="Try again; if it stays so, pin more versions.",
        ) from error


@contextmanager
def _process(command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a session of its own, so that what it starts ends with it, whatever happens."""
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _hand_over(process: subprocess.Popen[bytes], lines: Sequence[str]) -> None:
    """Write a process its input at once, if the pipe has room for it; else `_exchange` does it bit by bit."""
    text = _text(lines)
    if process.stdin and len(text) <= _CHUNK:  # as much as a pipe holds (pipe(7))
        with suppress(BrokenPipeError):
            process.stdin.write(text)
        process.stdin.close()


def _finished(
    process: subprocess.Popen[bytes], lines: Sequence[str], deadline: float
) -> subprocess.CompletedProcess[str]:
    stdout, stderr = _exchange(process, _text(lines), deadline)
    return subprocess.CompletedProcess(
        process.args, process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace")
    )


def _text(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _exchange(process: subprocess.Popen[bytes], text: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Hand a process its input and take its output until it ends, whoever else holds its pipes open by then.

    `communicate` would wait for all of them: code that a source brings along may be one.

    Raises:
        subprocess.TimeoutExpired: it has not ended by the deadline (of `time.monotonic`).
    """
    said: dict[IO[bytes] | None, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    rest = memoryview(text)
    with selectors.DefaultSelector() as pipes:
        for pipe in filter(None, said):
            pipes.register(pipe, selectors.EVENT_READ)
        if process.stdin and not process.stdin.closed:
            os.set_blocking(process.stdin.fileno(), False)
            pipes.register(process.stdin, selectors.EVENT_WRITE)
        while pipes.get_map():
            ended = process.poll() is not None
            ready = pipes.select(0 if ended else _POLL)
            if ended and not any(key.fileobj in said for key, _ in ready):
                break
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, TIMEOUT)
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    with suppress(BrokenPipeError):
                        rest = rest[os.write(key.fd, rest[:_CHUNK]) :] if rest else rest
                        if rest:
                            continue
                    pipes.unregister(key.fileobj)
                    process.stdin.close()
                elif chunk := os.read(key.fd, _CHUNK):
                    said[key.fileobj] += chunk  # type: ignore[index]
                else:
                    pipes.unregister(key.fileobj)
    process.wait(max(0, deadline - time.monotonic()))
    return bytes(said[process.stdout]), bytes(said[process.stderr])
