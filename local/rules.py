"""A template's Rules: what its parameters must be together, asked before anything is made.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from local.intrinsics import TemplateError

Values = Mapping[str, Any]


def check(rules: Mapping[str, Any], values: Values) -> None:
    """Hold all rules against the values of parameters and pseudo parameters.

    Raises:
        TemplateError: An assertion does not hold (the message is its description), or a rule has a function
            that is not known here.
    """
    for name, rule in rules.items():
        if not _holds(rule.get("RuleCondition", True), values):
            continue
        for assertion in rule["Assertions"]:
            if not _holds(assertion["Assert"], values):
                raise TemplateError(f"Rule {name}: {assertion.get('AssertDescription', assertion['Assert'])}")


def _holds(expression: Any, values: Values) -> bool:
    if isinstance(expression, bool):
        return expression
    [(function, argument)] = expression.items()
    if function not in FUNCTIONS:
        raise TemplateError(f"The embedded AWS does not know the function {function} in a rule")
    return FUNCTIONS[function](argument, values)


def _text(value: Any, values: Values) -> str:
    if not isinstance(value, dict):
        return str(value)
    [(function, name)] = value.items()
    if function != "Ref" or name not in values:
        raise TemplateError(f"A rule can refer to parameters only, not to {function} {name}")
    return str(values[name])


def _equals(argument: Any, values: Values) -> bool:
    left, right = argument
    return _text(left, values) == _text(right, values)


def _contains(argument: Any, values: Values) -> bool:
    choices, value = argument
    return _text(value, values) in [str(choice) for choice in choices]


# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-rules.html
FUNCTIONS: Final[Mapping[str, Callable[[Any, Values], bool]]] = {
    "Fn::And": lambda argument, values: all(_holds(item, values) for item in argument),
    "Fn::Contains": _contains,
    "Fn::Equals": _equals,
    "Fn::Not": lambda argument, values: not _holds(argument[0], values),
    "Fn::Or": lambda argument, values: any(_holds(item, values) for item in argument),
}
