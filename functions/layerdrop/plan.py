"""The plan of a build: input, path and settings -> targets."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layerdrop.errors import BuildError, ErrorCode
from layerdrop.layer_name import base_name, layer_name
from layerdrop.target import MAX_UNZIPPED_BYTES, Architecture, Job, Runtime, Target, target_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from layerdrop.build_input import BuildInput, Execution
    from layerdrop.input_key import InputKey
    from layerdrop.settings import Settings

NEEDED = "--needed-library="
"""The builder's option for a library that a trial found missing; its soname comes behind it."""


FIX = "--fix="
"""The builder's option for a version that mends a finding; `NAME==VERSION` comes behind it."""


@dataclass(frozen=True)
class Workshop:
    """Where the builds of one architecture run: the ARNs of a Batch queue and of job definitions.

    `source_definition` is for builds from source, which have a role of their own; None where the stack
    forbids them.
    """

    queue: str
    definition: str
    source_definition: str | None


def plan(
    build_input: BuildInput,
    execution: Execution,
    key: InputKey,
    settings: Settings,
    default_runtime: Runtime,
    workshops: Mapping[Architecture, Workshop],
    room: int = MAX_UNZIPPED_BYTES,
    *,
    try_layers: bool = False,
    resolve_layers: bool = False,
    fixes: Sequence[str] = (),
) -> tuple[Target, ...]:
    """The layers to build, one for each runtime, in the order in which the user named them.

    Of a function's size, other layers leave so much `room`, in bytes. Layers that are tried in a function are
    not imported by the job, in which so no code of packages runs. If `resolve_layers`, ResolveLayer is asked
    first for all but what is built from source. Each of the `fixes`, such as `urllib3==2.5.0`, is a version
    that mends what the watch found, and that the build may take.

    Raises:
        BuildError: SETTINGS_INVALID, when path and settings name different runtimes, or the stack forbids
            what the settings ask for.
    """
    workshop = workshops[key.architecture]
    if settings.allow_sdist and workshop.source_definition is None:
        raise BuildError(
            ErrorCode.SETTINGS_INVALID,
            f"The setting allow-sdist names {', '.join(settings.allow_sdist)}, and this stack builds nothing "
            "from source: its parameter SourceBuilds is DISABLED.",
            "Take versions that have wheels and leave the setting out; or ask whoever runs the stack.",
            {"setting": "allow-sdist", "parameter": "SourceBuilds"},
        )
    if settings.allow_sdist and not settings.refresh:
        # Code of packages runs before the lock is written, and could write its own for all builds to come.
        raise BuildError(
            ErrorCode.SETTINGS_INVALID,
            "The setting refresh = false does not go with allow-sdist: no lock of such a build is kept.",
            "Leave one of them out.",
            {"setting": "refresh"},
        )
    if settings.rebuild and (key.is_lock or not settings.refresh):
        other = "a lock" if key.is_lock else "refresh = false"
        raise BuildError(
            ErrorCode.SETTINGS_INVALID,
            f'The setting rebuild = "{settings.rebuild}" does not go with {other}, by which a build always '
            "takes the same versions.",
            "Leave one of them out: the watch tells what it finds in any layer.",
            {"setting": "rebuild"},
        )
    if key.is_lock and settings.constraints:
        raise BuildError(
            ErrorCode.SETTINGS_INVALID,
            f"The setting constraints says {settings.constraints[0]}, and a lock has the version of each "
            "package already.",
            "Give the constraints to the tool that writes the lock, and leave the setting out.",
            {"setting": "constraints"},
        )
    targets = tuple(
        _target(
            build_input,
            execution,
            key.architecture,
            runtime,
            name,
            settings,
            workshop,
            room,
            try_layers,
            fixes,
        )
        for runtime, name in layer_names(key, settings, default_runtime).items()
    )
    return tuple(replace(one, resolves=resolve_layers and not one.from_source) for one in targets)


def layer_names(key: InputKey, settings: Settings, default_runtime: Runtime) -> dict[Runtime, str]:
    """The names of the layers that a file asks for, by runtime.

    Raises:
        BuildError: SETTINGS_INVALID, when path and settings name different runtimes.
    """
    if key.runtime and settings.runtimes and settings.runtimes != (key.runtime,):
        raise BuildError(
            ErrorCode.SETTINGS_INVALID,
            f"The path says {key.runtime}, the setting runtimes says {', '.join(settings.runtimes)}.",
            "Name runtimes in one place only: in the path for one, in the settings for several.",
            {"setting": "runtimes"},
        )
    base = settings.name or base_name(key)
    runtimes = settings.runtimes or (key.runtime or default_runtime,)
    return {runtime: layer_name(base, runtime, key.architecture) for runtime in runtimes}


def _target(
    build_input: BuildInput,
    execution: Execution,
    architecture: Architecture,
    runtime: Runtime,
    name: str,
    settings: Settings,
    workshop: Workshop,
    room: int,
    try_layers: bool,
    fixes: Sequence[str],
) -> Target:
    identity = target_id(runtime, architecture)
    staging = _staging(execution.name, identity)
    definition = (settings.allow_sdist and workshop.source_definition) or workshop.definition
    target = Target(
        id=identity,
        architecture=architecture,
        runtime=runtime,
        layer_name=name,
        description=settings.description,
        license=settings.license,
        share_with=settings.share_with,
        # An execution's name has at most 80 characters, a job's 128, of the same alphabet.
        job=Job(f"{execution.name}-{identity}", workshop.queue, definition, ()),
        staging=staging,
        from_source=bool(settings.allow_sdist),
        alongside=settings.alongside,
        exclude=settings.exclude,
        is_tried=try_layers,
        bundles=settings.system_libraries != ("check",),
        rebuild=settings.rebuild or "",
        vulnerability_ignore=settings.vulnerability_ignore,
    )
    # What others chose freely is tied to its option with `=`: by itself it might look like an option. These
    # stay in the command, all others go into a file (options_file.py).
    command = [
        f"--path=s3://{build_input.bucket}/{build_input.key}",
        f"--version-id={build_input.version_id}",
        f"--name={name}",
        f"--architecture={architecture}",
        f"--runtime={runtime}",
        f"--reuse=s3://{build_input.bucket}/{target.shelf}",
        f"--staging=s3://{build_input.bucket}/{staging}",
    ]
    if settings.description is not None:
        command.append(f"--description={settings.description}")
    if settings.license is not None:
        command.append(f"--license={settings.license}")
    for package in settings.allow_sdist:
        command += ["--allow-sdist", package]
    if not settings.bytecode:
        command.append("--no-bytecode")
    for constraint in settings.constraints:
        command.append(f"--constraint={constraint}")
    for how in settings.system_libraries:
        command.append(f"--system-libraries={how}")
    command += _about_size(settings, room)
    command += _about_age(settings, fixes)
    if try_layers:
        command.append("--no-import-check")
    return replace(target, job=replace(target.job, command=tuple(command)))


def build_again(target: Target, bucket: str, libraries: Sequence[str]) -> Target:
    """The target with shared libraries that a trial found missing, by their sonames, for another job.

    What the earlier one left is never replaced, so this one leaves its own elsewhere.
    """
    staging = _staging(target.execution, target.id)
    kept = [word for word in target.job.command if not word.startswith("--staging=")]
    needed = [f"{NEEDED}{library}" for library in libraries]
    number = target.round + 1
    first_name = target.job.name.removesuffix(f"-{target.round}") if target.round else target.job.name
    command = (*kept, f"--staging=s3://{bucket}/{staging}", *needed)
    job = replace(target.job, name=f"{first_name}-{number}", command=command, attempts=None)
    return replace(target, job=job, staging=staging, round=number, is_known=False)


def needed_libraries(target: Target) -> tuple[str, ...]:
    """The sonames that earlier rounds have found missing."""
    return tuple(word.removeprefix(NEEDED) for word in target.job.command if word.startswith(NEEDED))


def _staging(execution: str, identity: str) -> str:
    # Whoever holds the role of another job must not come upon it: 144 bits that only the job is told.
    return f"builds/{execution}/{identity}/{secrets.token_urlsafe(18)}/"


def _about_age(settings: Settings, fixes: Sequence[str]) -> Iterator[str]:
    """The builder's options that say how old versions must be."""
    if settings.cooldown:
        yield f"--cooldown={settings.cooldown}"
    for package in settings.cooldown_exempt:
        yield f"--cooldown-exempt={package}"
    for fix in fixes:
        yield f"{FIX}{fix}"


def _about_size(settings: Settings, room: int) -> Iterator[str]:
    """The builder's options that say how large the layer may be, and what may go for that."""
    if not settings.fit:
        yield "--no-fit"
    if settings.slim:
        yield "--slim"
    for package in settings.exclude:
        yield f"--exclude={package}"
    limit = min(settings.size_limit or MAX_UNZIPPED_BYTES, room)
    if limit < MAX_UNZIPPED_BYTES:
        yield f"--size-limit={limit}"
