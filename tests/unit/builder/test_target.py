"""Which wheels load on which runtime."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker, default_environment
from packaging.tags import parse_tag

from layer_builder.ground.errors import UsageError
from layer_builder.ground.target import ARCHITECTURES, RUNTIMES, Target

TARGETS = [Target(runtime, architecture) for runtime in RUNTIMES.values() for architecture in ARCHITECTURES]
GLIBC = {"python3.11": 26, "python3.12": 34, "python3.13": 34, "python3.14": 34}
MACHINE = {"arm64": "aarch64", "x86_64": "x86_64"}


def rank(target: Target, tag: str) -> int | None:
    """The place of the best of a compressed tag set; None if none loads."""
    places = [target.tags.index(one) for one in parse_tag(tag) if one in target.tags]
    return min(places, default=None)


@given(
    target=st.sampled_from(TARGETS),
    glibc=st.integers(5, 45),
    machine=st.sampled_from(["aarch64", "x86_64", "i686", "ppc64le"]),
    python=st.integers(8, 16),
)
def test_a_compiled_wheel_loads_exactly_on_its_machine_and_python_from_its_glibc_on(
    target: Target, glibc: int, machine: str, python: int
) -> None:
    minor = target.runtime.version[1]
    # manylinux on aarch64 begins with glibc 2.17 (PEP 599)
    oldest = 17 if machine == "aarch64" else 5
    fits = machine == MACHINE[target.architecture] and oldest <= glibc <= GLIBC[target.runtime.name]
    platform = f"manylinux_2_{glibc}_{machine}"
    assert (rank(target, f"cp3{python}-cp3{python}-{platform}") is not None) == (fits and python == minor)
    assert (rank(target, f"cp3{python}-abi3-{platform}") is not None) == (fits and python <= minor)
    assert rank(target, f"py3-none-{platform}") is None or fits


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_nearest_wheel_is_the_best(target: Target) -> None:
    minor = target.runtime.version[1]
    newest, machine = GLIBC[target.runtime.name], target.machine
    order = [
        f"cp3{minor}-cp3{minor}-manylinux_2_{newest}_{machine}",
        f"cp3{minor}-cp3{minor}-manylinux_2_17_{machine}",
        f"cp3{minor}-cp3{minor}-manylinux2014_{machine}",
        f"cp3{minor}-abi3-manylinux_2_17_{machine}",
        f"cp38-abi3-manylinux_2_17_{machine}",
        f"py3-none-manylinux_2_17_{machine}",
        "py3-none-any",
    ]
    ranks = [rank(target, tag) for tag in order]
    assert None not in ranks
    assert ranks == sorted(ranks)  # type: ignore[type-var]


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(
    "platform",
    ["musllinux_1_2_x86_64", "musllinux_1_2_aarch64", "win_amd64", "macosx_11_0_arm64", "linux_i686"],
)
def test_other_systems_never_load(target: Target, platform: str) -> None:
    minor = target.runtime.version[1]
    assert rank(target, f"cp3{minor}-cp3{minor}-{platform}") is None
    assert rank(target, f"py3-none-{platform}") is None


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_free_threaded_builds_never_load(target: Target) -> None:
    minor = target.runtime.version[1]
    assert rank(target, f"cp3{minor}-cp3{minor}t-manylinux_2_17_{target.machine}") is None


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_markers_are_those_of_lambda(target: Target) -> None:
    assert target.environment.keys() == default_environment().keys()
    minor = target.runtime.version[1]
    marker = Marker(
        f"python_version == '3.{minor}' and python_full_version >= '3.{minor}.0' and sys_platform == 'linux'"
        f" and platform_machine == '{MACHINE[target.architecture]}' and os_name == 'posix'"
        " and platform_system == 'Linux' and implementation_name == 'cpython'"
    )
    assert marker.evaluate(target.environment)  # type: ignore[arg-type]


def test_uv_is_never_given_less_than_loads() -> None:
    for target in TARGETS:
        assert set(target.tags) <= set(target.as_uv_sees_it.tags)


@pytest.mark.parametrize(
    ("runtime", "architecture"), [("python3.9", "arm64"), ("python3.13", "amd64"), ("", "")]
)
def test_unknown_targets_are_named_with_the_known_ones(runtime: str, architecture: str) -> None:
    with pytest.raises(UsageError) as caught:
        Target.of(runtime, architecture)
    assert "python3.13" in caught.value.hint or "x86_64" in caught.value.hint
