"""One build's options, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layer_builder.ground import cooldown, fixes
from layer_builder.ground.cooldown import Rule
from layer_builder.ground.errors import UsageError
from layer_builder.ground.limits import MAX_DESCRIPTION, MAX_LICENSE, MAX_NAME, MAX_UNZIPPED_BYTES
from layer_builder.proof import missing_libraries

if TYPE_CHECKING:
    from layer_builder.ground.fixes import Fix

DEFAULT_RUNTIME = "python3.13"
DEFAULT_ARCHITECTURE = "arm64"
CHECK, AUTO = "check", "auto"  # what to do about missing shared libraries
MAX_NEEDED_LIBRARIES = 100

# A package's name as RPM takes it, so that none can be an option, a pattern or a path to a package manager.
_SYSTEM_PACKAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")

# https://packaging.python.org/en/latest/specifications/name-normalization/
_PROJECT = re.compile(r"[A-Z0-9]|[A-Z0-9][A-Z0-9._-]{0,126}[A-Z0-9]", re.IGNORECASE | re.ASCII)


def staged(name: str, staging: str, attempt: int) -> str:
    """Say where a build leaves something below its prefix: no attempt needs to replace another's."""
    return f"{staging}{attempt}/{name}"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for.

    Attributes:
        path: a file or `s3://` URL of requirements; empty when they are given inline.
        version_id: which version of the S3 object to read; empty for the newest.
        inline: requirements, `|` for newlines; empty when a file is given.
        name: the layer's name.
        runtime: Lambda's identifier, such as `python3.13`.
        architecture: `arm64` or `x86_64`.
        description: the layer's; None for the requirements themselves.
        license: the layer's, as a person writes it.
        output: a file, a folder or an `s3://` prefix (both end with a slash) for the zip; empty for NAME.zip
        here.
        report: a file or `s3://` URL for the report; empty for none.
        staging: an `s3://` prefix, ending with a slash, for all that the build leaves, in the place of
        `output` and `report`: in a folder called like the attempt, and nothing that is there is replaced.
        attempt: which try of one job this is, from 1.
        reuse: with `staging`, the `s3://` prefix where finished layers are found; empty to look nowhere.
        publish_bucket: upload there and publish a layer version; empty to only make the zip.
        publish_prefix: the key's prefix in that bucket.
        allow_sdist: projects that may be built from source.
        constraints: versions that packages must have if they are needed, such as `urllib3<2`.
        bytecode: whether compiled bytecode is added where it can be had and fits.
        system_libraries: `("auto",)`: missing shared libraries are bundled; `("check",)`: they are an error;
        else names of system packages whose libraries are bundled besides.
        needed_libraries: sonames that a trial of the layer found missing, to be bundled as well.
        import_check: whether what was asked for is imported from the finished zip, where that can be.
        size_limit: how many bytes the layer may have unzipped.
        fit: whether a layer over that limit is made to fit by leaving out what it can do without.
        slim: whether that is left out of a layer of any size.
        exclude: projects that are left out of the layer although something requires them.
        cooldown: how long ago what is chosen must have been uploaded, such as `7 days`; empty for no matter.
        cooldown_exempt: projects of which the newest may be taken all the same.
        fixes: versions that mend something, such as `urllib3==2.5.0`: at least these are taken, and of those
        projects no cooldown keeps what was uploaded up to then.
    """

    path: str = ""
    version_id: str = ""
    inline: str = ""
    name: str = "layer"
    runtime: str = DEFAULT_RUNTIME
    architecture: str = DEFAULT_ARCHITECTURE
    description: str | None = None
    license: str | None = None
    output: str = ""
    report: str = ""
    staging: str = ""
    attempt: int = 1
    reuse: str = ""
    publish_bucket: str = ""
    publish_prefix: str = "python"
    allow_sdist: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    bytecode: bool = True
    system_libraries: tuple[str, ...] = (AUTO,)
    needed_libraries: tuple[str, ...] = ()
    import_check: bool = True
    size_limit: int = MAX_UNZIPPED_BYTES
    fit: bool = True
    slim: bool = False
    exclude: tuple[str, ...] = ()
    cooldown: str = ""
    cooldown_exempt: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()

    @property
    def rule(self) -> Rule | None:
        """The cooldown that is asked for."""
        if not self.cooldown:
            return None
        return Rule(cooldown.parse(self.cooldown), cooldown.normalized(self.cooldown_exempt))

    @property
    def report_place(self) -> str:
        """Where the report goes, given or staged; empty for nowhere."""
        return staged("report.json", self.staging, self.attempt) if self.staging else self.report

    @property
    def bundles(self) -> bool:
        """Whether missing shared libraries are to be bundled."""
        return self.system_libraries != (CHECK,)

    @property
    def system_packages(self) -> tuple[str, ...]:
        """The system packages that are named."""
        return tuple(sorted(set(self.system_libraries) - {CHECK, AUTO}))

    @property
    def sdist_projects(self) -> frozenset[str]:
        """The projects that may be built from source, by their normalized names."""
        return cooldown.normalized(self.allow_sdist)

    @property
    def excluded(self) -> frozenset[str]:
        """The projects that are left out, by their normalized names."""
        return cooldown.normalized(self.exclude)

    @property
    def fixed(self) -> tuple[Fix, ...]:
        """The fixes, one a project: the greatest version that is asked for."""
        return fixes.greatest(map(fixes.parse, self.fixes))

    def __post_init__(self) -> None:
        """Check what can be checked without asking anyone.

        Raises:
            UsageError: options that contradict each other, or that Lambda would not take
            (API_PublishLayerVersion).
        """
        if bool(self.path) == bool(self.inline):
            raise UsageError(
                "Give the requirements once: a file with -p or the lines themselves with -r.",
                hint="layer-builder -r 'requests==2.32.3|httpx==0.27.2' -n http",
            )
        if self.version_id and not self.path.startswith("s3://"):
            raise UsageError("--version-id goes with an s3:// URL.")
        self._check_places()
        if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}", self.name):
            raise UsageError(
                f"{self.name!r} is no name of a layer.",
                hint=f"A name has letters, digits, - and _, at most {MAX_NAME} of them.",
            )
        for name in self.system_libraries:
            alone = name in (CHECK, AUTO) and len(self.system_libraries) > 1
            if alone or not _SYSTEM_PACKAGE.fullmatch(name):
                raise UsageError(
                    f"--system-libraries does not take {name!r}{' beside others' if alone else ''}.",
                    hint=f"Give {CHECK}, {AUTO}, or names of packages such as unixODBC.",
                )
        if wrong := next((name for name in self.exclude if not _PROJECT.fullmatch(name)), None):
            hint = "Give the name of a package such as boto3."
            raise UsageError(f"--exclude does not take {wrong!r}.", hint=hint)
        self._check_needed_libraries()
        self._check_cooldown()
        if self.size_limit < 1:
            raise UsageError("--size-limit is a number of bytes, at least 1.")
        if self.description is not None and len(self.description) > MAX_DESCRIPTION:
            raise UsageError(f"The description has more than {MAX_DESCRIPTION} characters.")
        if self.license is not None and len(self.license) > MAX_LICENSE:
            raise UsageError(f"The license has more than {MAX_LICENSE} characters.")

    def _check_needed_libraries(self) -> None:
        for name in self.needed_libraries:
            if not missing_libraries.is_soname(name):
                raise UsageError(
                    f"--needed-library does not take {name!r}.",
                    hint="Give a shared library's name as it is loaded, such as libvips.so.42.",
                )
        if len(self.needed_libraries) > MAX_NEEDED_LIBRARIES:
            raise UsageError(f"--needed-library goes {MAX_NEEDED_LIBRARIES} times at most.")
        if self.needed_libraries and not self.bundles:
            raise UsageError(f"--needed-library has no meaning beside --system-libraries {CHECK}.")

    def _check_cooldown(self) -> None:
        try:
            cooldown.parse(self.cooldown or "7 days")
        except ValueError as error:
            raise UsageError(
                f"--cooldown does not take {self.cooldown!r}.", hint=f"Give {cooldown.GOOD}."
            ) from error
        if wrong := next((name for name in self.cooldown_exempt if not _PROJECT.fullmatch(name)), None):
            hint = "Give the name of a package such as boto3."
            raise UsageError(f"--cooldown-exempt does not take {wrong!r}.", hint=hint)
        for one in self.fixes:
            try:
                fixes.parse(one)
            except ValueError as error:
                hint = "Give a package and the version that mends it, such as urllib3==2.5.0."
                raise UsageError(f"--fix does not take {one!r}.", hint=hint) from error

    def _check_places(self) -> None:
        if self.output and self.publish_bucket:
            raise UsageError("-s says where the zip goes, so --output has no meaning beside it.")
        if self.staging and (self.output or self.report or self.publish_bucket):
            raise UsageError("--staging says where all goes, so --output, --report and -s do not go with it.")
        if self.reuse and not self.staging:
            raise UsageError("--reuse goes with --staging.")
        for name, prefix in (("--staging", self.staging), ("--reuse", self.reuse)):
            if prefix and not (prefix.startswith("s3://") and prefix.endswith("/")):
                raise UsageError(f"{name} takes an s3:// prefix that ends in /, not {prefix!r}.")
