"""What a layer is built for: a Lambda runtime on an architecture, and what follows from that.

Wheels say by their tags where they load. A wheel tagged `manylinux_2_28` needs glibc 2.28 or newer, so the
list of tags a runtime takes starts at the runtime's own glibc and goes down: a fixed tag such as
`manylinux2014` gives old releases, and a bare `linux` gives ones that do not load (PEP 600).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from layer_builder.ground.errors import UsageError

if TYPE_CHECKING:
    from packaging.tags import Tag

SITE_PACKAGES = "python"
ARCHITECTURES = ("arm64", "x86_64")
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}

# The legacy names of PEP 600, by architecture: manylinux1 and manylinux2010 exist on x86_64 only.
_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_OLDEST_GLIBC_MINOR = {"aarch64": 17, "x86_64": 5}


@dataclass(frozen=True, slots=True)
class Runtime:
    """One Lambda runtime.

    Attributes:
        name: Lambda's identifier, `python3.13`.
        patch: the full Python version that the runtime is known to have reached. AWS patches runtimes without
        naming
            versions, so this is a floor: a release that asks for a newer patch is not chosen until it is
            raised here.
        glibc: the C library of the runtime's Amazon Linux.
        uv_glibc: the nearest glibc that uv has a platform for; where it differs, `resolve` narrows the
        choice.
    """

    name: str
    patch: str
    glibc: tuple[int, int]
    uv_glibc: tuple[int, int]

    @property
    def version(self) -> tuple[int, int]:
        """Python's major and minor version."""
        major, minor, *_ = self.patch.split(".")
        return int(major), int(minor)


# Operating systems: AWS Lambda Developer Guide, "Lambda runtimes": 3.11 on Amazon Linux 2 (glibc 2.26), 3.12
# and newer on Amazon Linux 2023 (glibc 2.34). Patch versions: 3.13.9 and 3.14.0 were reported of the public
# base images in January 2026 (aws-lambda-base-images issues 364 and 374); 3.11.14 and 3.12.12 are the
# releases of the same weeks.
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("python3.11", "3.11.14", glibc=(2, 26), uv_glibc=(2, 28)),
        Runtime("python3.12", "3.12.12", glibc=(2, 34), uv_glibc=(2, 34)),
        Runtime("python3.13", "3.13.9", glibc=(2, 34), uv_glibc=(2, 34)),
        Runtime("python3.14", "3.14.0", glibc=(2, 34), uv_glibc=(2, 34)),
    )
}


@dataclass(frozen=True)
class Target:
    """A runtime on an architecture (`arm64` or `x86_64`, as Lambda names them)."""

    runtime: Runtime
    architecture: str

    @classmethod
    def of(cls, runtime: str, architecture: str) -> Target:
        """Look a target up by Lambda's names.

        Raises:
            UsageError: there is no such runtime or architecture here.
        """
        if architecture not in ARCHITECTURES:
            raise UsageError(
                f"There is no architecture {architecture!r}.", hint=f"Take one of {', '.join(ARCHITECTURES)}."
            )
        if runtime not in RUNTIMES:
            raise UsageError(
                f"There is no runtime {runtime!r} here.", hint=f"Take one of {', '.join(RUNTIMES)}."
            )
        return cls(RUNTIMES[runtime], architecture)

    def __str__(self) -> str:
        return f"{self.runtime.name} on {self.architecture}"

    @property
    def machine(self) -> str:
        """The machine as Python and wheels name it: `aarch64` or `x86_64`."""
        return _MACHINES[self.architecture]

    @property
    def uv_platform(self) -> str:
        """The value of uv's `--python-platform` that takes every wheel this target loads."""
        major, minor = self.runtime.uv_glibc
        return f"{self.machine}-manylinux_{major}_{minor}"

    @property
    def as_uv_sees_it(self) -> Target:
        """The target with the tags that uv takes, which may be more than the runtime's."""
        return replace(self, runtime=replace(self.runtime, glibc=self.runtime.uv_glibc))

    @property
    def site_packages(self) -> str:
        """Where modules go inside a layer: a folder on every search path that functions are known to have.

        Lambda's own search path has it, before the runtime's own packages. Wrappers that set PYTHONPATH
        (OpenTelemetry's, Application Signals') name it too, but not `searched_first`, and with a PYTHONPATH
        the runtime adds neither (open-telemetry/opentelemetry-lambda issues 655 and 1714).
        """
        return SITE_PACKAGES

    @cached_property
    def searched_first(self) -> str:
        """The layer's folder that Lambda searches before `site_packages`; nothing is put there."""
        return "python/lib/python{}.{}/site-packages".format(*self.runtime.version)

    @property
    def interpreter(self) -> str:
        """The runtime's interpreter inside Lambda."""
        return "/var/lang/bin/python{}.{}".format(*self.runtime.version)

    def platforms(self) -> list[str]:
        """List the platform tags that load here, best first: from the runtime's glibc down."""
        major, newest = self.runtime.glibc
        tags = []
        for minor in range(newest, _OLDEST_GLIBC_MINOR[self.machine] - 1, -1):
            tags.append(f"manylinux_{major}_{minor}_{self.machine}")
            if (major, minor) in _LEGACY:
                tags.append(f"{_LEGACY[major, minor]}_{self.machine}")
        return [*tags, f"linux_{self.machine}"]

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """Every wheel tag that loads here, best first."""
        from packaging.tags import compatible_tags, cpython_tags

        version, platforms = self.runtime.version, self.platforms()
        nodot = "cp{}{}".format(*version)
        return (
            *cpython_tags(version, abis=[nodot], platforms=platforms),
            *compatible_tags(version, interpreter=nodot, platforms=platforms),
        )

    @property
    def environment(self) -> dict[str, str]:
        """The values of environment markers (PEP 508) inside Lambda, whatever machine this runs on.

        Kernel release and version differ between hosts of Lambda, so no package can depend on them: they are
        empty.
        """
        return {
            "implementation_name": "cpython",
            "implementation_version": self.runtime.patch,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.runtime.patch,
            "python_version": "{}.{}".format(*self.runtime.version),
            "sys_platform": "linux",
        }
