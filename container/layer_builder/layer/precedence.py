"""Which of two packages keeps a path that both have: the one that pip would leave there.

pip unpacks a package after those it depends on, and the alphabetically later before the earlier, and what is
unpacked last stays. So a package that others depend on yields to them. (pip peels the leaves off the
dependency graph round by round; within a cycle it goes by the depth from the root, here by the alphabet
alone.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layer_builder.ground.target import Target
    from layer_builder.wheels.wheel import Wheel


def ranked(wheels: Sequence[Wheel], target: Target) -> list[str]:
    """Order the packages' names: of two that have the same path, the earlier keeps it.

    The order follows from the wheels and the target alone, so that the layer does.
    """
    from packaging.markers import UndefinedEnvironmentName
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    present = {wheel.pick.name for wheel in wheels}
    needs: dict[str, set[str]] = {name: set() for name in present}
    for wheel in wheels:
        for line in wheel.requires:
            try:
                requirement = Requirement(line)
                applies = requirement.marker is None or requirement.marker.evaluate(
                    {**target.environment, "extra": ""}
                )
            except (ValueError, RecursionError, UndefinedEnvironmentName):
                continue  # uv has resolved it; it can only be a spelling that packaging does not take
            name = canonicalize_name(requirement.name)
            if applies and name in present and name != wheel.pick.name:
                needs[wheel.pick.name].add(name)
    order: list[str] = []  # from the last to yield to the first
    while needs:
        leaves = {name for name, needed in needs.items() if not needed} or set(needs)
        order += sorted(leaves, reverse=True)
        needs = {name: needed - leaves for name, needed in needs.items() if name not in leaves}
    return order[::-1]
