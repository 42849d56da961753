"""IAM policies, judged: what the statements of a role allow, and those of a bucket deny.

As AWS judges the identity policies of one account, in those elements that the templates use; a policy with
anything else is an error, never a guess.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from local.permissions import Permission

ELEMENTS: Final = {"Sid", "Effect", "Action", "Resource", "Condition"}


class PolicyError(Exception):
    """A policy has an element or a condition that is not judged here."""


@dataclass(frozen=True)
class Statement:
    """A statement; `conditions` are operator, key in lower case, and values."""

    sid: str
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def applies_to(self, permission: Permission) -> bool:
        """Whether it says anything of what is wanted."""
        return (
            any(matches(pattern.lower(), permission.action.lower()) for pattern in self.actions)
            and any(matches(pattern, permission.resource) for pattern in self.resources)
            and all(holds(*condition, dict(permission.context)) for condition in self.conditions)
        )


def statements_of(document: Mapping[str, Any]) -> list[Statement]:
    """Read a policy.

    Raises:
        PolicyError: It has an element that is not judged here, or lacks one.
    """
    return [_statement(given) for given in _listed(document["Statement"])]


def denials_of(document: Mapping[str, Any]) -> list[Statement]:
    """Read the policy of a resource, here one that takes something from everybody.

    Raises:
        PolicyError: It gives something, or means somebody, which is not judged here.
    """
    given = _listed(document["Statement"])
    if any((one.get("Effect"), one.get("Principal")) != ("Deny", "*") for one in given):
        raise PolicyError("a resource's policy that does more than to deny something to everybody")
    return [_statement({key: value for key, value in one.items() if key != "Principal"}) for one in given]


def is_allowed(permission: Permission, statements: Iterable[Statement]) -> bool:
    """Whether a statement allows it and none denies it."""
    verdicts = {statement.allows for statement in statements if statement.applies_to(permission)}
    return verdicts == {True}


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits: an asterisk stands for any characters, a question mark for one.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
    """
    return _expression(pattern).fullmatch(text) is not None


def holds(operator: str, key: str, wanted: Sequence[str], context: Mapping[str, str]) -> bool:
    """Whether a condition holds; one whose key the request lacks does not, unless it asks for that.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    if operator == "Null":
        return any((value.lower() == "true") == (key not in context) for value in wanted)
    return key in context and any(OPERATORS[operator](value, context[key]) for value in wanted)


OPERATORS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "ArnEquals": matches,
    "ArnLike": matches,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
    "StringEquals": lambda wanted, found: wanted == found,
    "StringLike": matches,
}


WILDCARDS: Final = {"*": ".*", "?": "."}


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    parts = (
        ".*" if part == "*" else "." if part == "?" else re.escape(part)
        for part in re.split(r"([*?])", pattern)
    )
    return re.compile("".join(parts), re.DOTALL)


def _statement(given: Mapping[str, Any]) -> Statement:
    if given.keys() - ELEMENTS or not {"Effect", "Action", "Resource"} <= given.keys():
        raise PolicyError(f"a statement with the elements {sorted(given)}")
    conditions = []
    for operator, keys in given.get("Condition", {}).items():
        if operator not in OPERATORS.keys() | {"Null"}:
            raise PolicyError(f"the condition operator {operator}")
        conditions += [
            (operator, key.lower(), tuple(map(str, _listed(value)))) for key, value in keys.items()
        ]
    return Statement(
        sid=given.get("Sid", ""),
        allows={"Allow": True, "Deny": False}[given["Effect"]],
        actions=tuple(_listed(given["Action"])),
        resources=tuple(_listed(given["Resource"])),
        conditions=tuple(conditions),
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
