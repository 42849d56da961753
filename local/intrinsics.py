"""CloudFormation's parameters, conditions and functions, worked out.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from local.settings import ACCOUNT_ID, REGION


class TemplateError(Exception):
    """The template asks for something that does not exist, or that this deployer does not know."""


NO_VALUE: Final = object()
"""``AWS::NoValue``: the property that holds it is left out."""

PLACEHOLDER: Final = re.compile(r"\$\{(!?)([^}]+)\}")


@dataclass
class Scope:
    """What references stand for; grows while resources are made.

    Attributes:
        values: Of parameters, pseudo parameters and resources, for ``Ref``.
        attributes: Of resources by logical id and attribute name, for ``Fn::GetAtt``.
        conditions: By name, as written in the template.
        mappings: By name.
    """

    values: dict[str, Any]
    attributes: dict[tuple[str, str], Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    mappings: Mapping[str, Any] = field(default_factory=dict)

    def ref(self, name: str) -> Any:
        """Return what ``Ref`` gives.

        Raises:
            TemplateError: No such parameter or resource.
        """
        if name not in self.values:
            raise TemplateError(f"Ref to {name}, which is no parameter and no resource made so far")
        return self.values[name]

    def attribute(self, resource: str, name: str) -> Any:
        """Return what ``Fn::GetAtt`` gives.

        Raises:
            TemplateError: The resource has no such attribute here.
        """
        if (resource, name) not in self.attributes:
            raise TemplateError(f"Fn::GetAtt of {resource}.{name}, which the embedded AWS does not provide")
        return self.attributes[resource, name]

    def condition(self, name: str) -> bool:
        """Return whether a named condition holds.

        Raises:
            TemplateError: There is no such condition.
        """
        if name not in self.conditions:
            raise TemplateError(f"There is no condition {name}")
        return bool(evaluate(self.conditions[name], self))


def pseudo_parameters(stack: str) -> dict[str, Any]:
    """Return the values that CloudFormation itself provides."""
    return {
        "AWS::AccountId": ACCOUNT_ID,
        "AWS::NoValue": NO_VALUE,
        "AWS::Partition": "aws",
        "AWS::Region": REGION,
        "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT_ID}:stack/{stack}/local",
        "AWS::StackName": stack,
        "AWS::URLSuffix": "amazonaws.com",
    }


def parameter_values(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Return every parameter's value.

    Raises:
        TemplateError: One is missing, unknown, no text (CloudFormation takes nothing else), or not allowed.
    """
    if unknown := sorted(given.keys() - declared.keys()):
        raise TemplateError(f"The template has no parameter {unknown[0]}")
    values: dict[str, Any] = {}
    for name, declaration in declared.items():
        value = given.get(name, declaration.get("Default"))
        if value is None:
            raise TemplateError(f"Parameter {name} has no default and no value")
        if isinstance(value, dict | list):
            raise TemplateError(f"Parameter {name} must be a text, and is {value!r}")
        value = str(value)
        if not _may_be(value, declaration):
            raise TemplateError(f"Parameter {name} may not be {value!r}")
        is_list = declaration["Type"] == "CommaDelimitedList" or declaration["Type"].startswith("List<")
        values[name] = [item.strip() for item in value.split(",")] if is_list else value
    return values


def _may_be(value: str, declaration: Mapping[str, Any]) -> bool:
    allowed = [str(choice) for choice in declaration.get("AllowedValues", [value])]
    if value not in allowed or not re.fullmatch(declaration.get("AllowedPattern", "(?s).*"), value):
        return False
    if not declaration.get("MinLength", 0) <= len(value) <= declaration.get("MaxLength", len(value)):
        return False
    if declaration["Type"] != "Number":
        return True
    try:
        number = float(value)
    except ValueError:
        return False
    return bool(declaration.get("MinValue", number) <= number <= declaration.get("MaxValue", number))


def evaluate(value: Any, scope: Scope) -> Any:
    """Return a template's value with every function replaced by its result.

    Raises:
        TemplateError: Something is referred to that is not there, or a function is not known here.
    """
    if isinstance(value, list):
        return [result for item in value if (result := evaluate(item, scope)) is not NO_VALUE]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(name, argument)] = value.items()
        if name in FUNCTIONS:
            return FUNCTIONS[name](argument, scope)
        if name.startswith("Fn::"):
            raise TemplateError(f"The embedded AWS does not know the function {name}")
    results = {name: evaluate(item, scope) for name, item in value.items()}
    return {name: result for name, result in results.items() if result is not NO_VALUE}


def references(value: Any) -> Iterator[str]:
    """Return the names that a value refers to: resources, parameters and pseudo parameters alike."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "Ref":
                yield item
            elif name == "Fn::GetAtt":
                yield _resource_and_attribute(item)[0]
            elif name == "Fn::Sub":
                text, variables = _text_and_variables(item)
                names = {found.split(".")[0] for literal, found in PLACEHOLDER.findall(text) if not literal}
                yield from names - variables.keys()
                yield from references(variables)
            else:
                yield from references(item)


def _resource_and_attribute(argument: Any) -> tuple[str, str]:
    resource, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
    return resource, attribute


def _text_and_variables(argument: Any) -> tuple[str, dict[str, Any]]:
    return (argument, {}) if isinstance(argument, str) else (argument[0], argument[1])


def _get_att(argument: Any, scope: Scope) -> Any:
    return scope.attribute(*_resource_and_attribute(argument))


def _if(argument: Any, scope: Scope) -> Any:
    condition, when_true, when_false = argument
    return evaluate(when_true if scope.condition(condition) else when_false, scope)


def _sub(argument: Any, scope: Scope) -> str:
    text, variables = _text_and_variables(argument)

    def value(match: re.Match[str]) -> str:
        literal, name = match.groups()
        if literal:
            return f"${{{name}}}"
        if name in variables:
            return str(evaluate(variables[name], scope))
        return str(scope.attribute(*name.split(".", 1)) if "." in name else scope.ref(name))

    return PLACEHOLDER.sub(value, text)


def _join(argument: Any, scope: Scope) -> str:
    separator, items = argument
    return str(separator).join(str(item) for item in evaluate(items, scope))


def _select(argument: Any, scope: Scope) -> Any:
    index, items = evaluate(argument, scope)
    return items[int(index)]


def _split(argument: Any, scope: Scope) -> list[str]:
    separator, text = evaluate(argument, scope)
    return str(text).split(separator)


def _find_in_map(argument: Any, scope: Scope) -> Any:
    name, first, second = evaluate(argument, scope)
    try:
        return scope.mappings[name][first][second]
    except KeyError as error:
        raise TemplateError(f"Mapping {name} has no {first}.{second}") from error


def _equals(argument: Any, scope: Scope) -> bool:
    left, right = evaluate(argument, scope)
    return str(left) == str(right)


FUNCTIONS: Final[Mapping[str, Callable[[Any, Scope], Any]]] = {
    "Ref": lambda argument, scope: scope.ref(argument),
    "Condition": lambda argument, scope: scope.condition(argument),
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::Sub": _sub,
    "Fn::Join": _join,
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::FindInMap": _find_in_map,
    "Fn::Equals": _equals,
    "Fn::And": lambda argument, scope: all(evaluate(argument, scope)),
    "Fn::Or": lambda argument, scope: any(evaluate(argument, scope)),
    "Fn::Not": lambda argument, scope: not evaluate(argument, scope)[0],
}
