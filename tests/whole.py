"""The stack as one template: what is nested is put in the place where it is used.

Tests ask what is deployed, and not which file it stands in. The templates of the image and of the network are
left as they are: they have tests of their own.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from local.settings import TEMPLATE
from local.translate import translate

LEFT = frozenset({"BuilderImage", "Network"})
PLACEHOLDER = re.compile(r"\$\{([^!}][^}]*)\}")
Template = Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """A stack's templates, translated.

    Attributes:
        root: The one that is deployed.
        nested: Those in it, and in these, by the logical id of the resource that they are for.
        parents: The stack that each of them is in; that of the root has no name.
        twice: Logical ids of those that share their template with another.
    """

    root: Template
    nested: Mapping[str, Template]
    parents: Mapping[str, str]
    twice: frozenset[str]

    def template(self, stack: str) -> Template:
        """The template of a nested stack, or of the root, which has no name."""
        return self.nested[stack] if stack else self.root

    def name(self, stack: str, resource: str) -> str:
        """What a nested stack's resource is called in the whole: as in its template, if that is used once."""
        return stack + resource if stack in self.twice else resource

    def called(self, path: str) -> str:
        """What a resource is called in the whole, by the way to it: ``STACK.STACK.RESOURCE``."""
        stacks, _, resource = path.rpartition(".")
        return self.name(stacks.rpartition(".")[2], resource)


@cache
def parts(path: Path = TEMPLATE) -> Parts:
    """Translate a template and those nested in it."""
    nested: dict[str, Any] = {}

    def upload(name: str, content: bytes) -> str:
        if name.endswith(".template"):
            stack = name.removesuffix(".template")
            assert stack not in nested, f"two of {stack}"
            nested[stack] = json.loads(content)
        return f"s3://code/{name}"

    root = translate(path, upload)
    alike = Counter(json.dumps(template) for template in nested.values())
    twice = {name for name, template in nested.items() if alike[json.dumps(template)] > 1}
    parents = {
        name: stack
        for stack, template in {"": root, **nested}.items()
        for name in template["Resources"]
        if name in nested
    }
    return Parts(root, nested, parents, frozenset(twice))


def whole(path: Path = TEMPLATE) -> dict[str, Any]:
    """Return one template of the same resources, whose references lead to each other."""
    given = parts(path)
    found: dict[str, Any] = {"Resources": {}, "Conditions": {}}
    for stack in ("", *(name for name in given.nested if name not in LEFT)):
        scope = _Scope(given, stack)
        for name, item in given.template(stack).get("Resources", {}).items():
            if name not in given.nested or name in LEFT:
                assert scope.named(name) not in found["Resources"], f"two of {scope.named(name)}"
                found["Resources"][scope.named(name)] = _settled(scope.replaced(item))
        for name, item in given.template(stack).get("Conditions", {}).items():
            condition = _asked(scope.replaced(item))
            if condition != {"Condition": name}:
                assert found["Conditions"].setdefault(name, condition) == condition, f"two of {name}"
    outputs = {
        name: _settled(_Scope(given, "").replaced(item)) for name, item in given.root["Outputs"].items()
    }
    return {**given.root, **found, "Outputs": outputs}


class _Scope:
    """A template's references put in terms of the whole: its parameters become what it is given."""

    def __init__(self, given: Parts, stack: str) -> None:
        self._parts = given
        self._stack = stack
        self._parameters: dict[str, Any] = {}
        if stack:
            self._outer = _Scope(given, given.parents[stack])
            resource = given.template(given.parents[stack])["Resources"][stack]
            handed_on = resource["Properties"].get("Parameters", {})
            self._parameters = {
                name: handed_on.get(name, declared.get("Default"))
                for name, declared in given.nested[stack].get("Parameters", {}).items()
            }

    def named(self, name: str) -> str:
        """What a resource is called."""
        return self._parts.name(self._stack, name)

    def ref(self, name: str) -> Any:
        """What Ref gives."""
        if name in self._parameters:
            return self._outer.replaced(self._parameters[name])
        if not self._stack or name.startswith("AWS::"):
            assert name != "AWS::StackName" or not self._stack, "a nested stack has another name"
            return {"Ref": name}
        return {"Ref": self.named(name)}

    def get(self, name: str, attribute: str) -> Any:
        """What Fn::GetAtt gives: of a nested stack, what its output is."""
        if name not in self._parts.nested or name in LEFT:
            return {"Fn::GetAtt": [self.named(name), attribute]}
        output = self._parts.nested[name]["Outputs"][attribute.removeprefix("Outputs.")]
        return _Scope(self._parts, name).replaced(output["Value"])

    def replaced(self, value: Any) -> Any:
        """A value with its references replaced."""
        if isinstance(value, list):
            return [self.replaced(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if function in FUNCTIONS:
                return FUNCTIONS[function](self, argument)
        found = {name: self.replaced(item) for name, item in value.items()}
        if "Type" in value and "DependsOn" in value:
            found["DependsOn"] = [self.named(name) for name in _listed(value["DependsOn"])]
        return found

    def substituted(self, argument: Any) -> Any:
        """A text whose placeholders are replaced."""
        text, own = (argument, {}) if isinstance(argument, str) else argument
        variables = {name: self.replaced(item) for name, item in own.items()}

        def put(match: re.Match[str]) -> str:
            name = match[1]
            if name in own:
                return match[0]
            found = self.get(*name.split(".", 1)) if "." in name else self.ref(name)
            written = _written(found)
            if written is None:
                variables[name.replace(".", "")] = found
                return f"${{{name.replace('.', '')}}}"
            return written

        text = PLACEHOLDER.sub(put, text)
        return {"Fn::Sub": [text, variables] if variables else text}


FUNCTIONS: Mapping[str, Callable[[_Scope, Any], Any]] = {
    "Ref": lambda at, name: at.ref(name),
    "Fn::GetAtt": lambda at, way: at.get(*(way.split(".", 1) if isinstance(way, str) else way)),
    "Fn::Sub": lambda at, argument: at.substituted(argument),
}


def _asked(condition: Any) -> Any:
    """A condition; whether there is what another one's choice gives or leaves empty, is that other one."""
    match condition:
        case {"Fn::Not": [{"Fn::Equals": [{"Fn::If": [str() as name, {"Ref": _}, ""]}, ""]}]}:
            return {"Condition": name}
    return condition


def _settled(resource: Any) -> Any:
    """A resource in which nothing asks what has been asked already, around it or for the resource itself."""

    def settled(value: Any, true: frozenset[str]) -> Any:
        if isinstance(value, list):
            return [settled(item, true) for item in value]
        if not isinstance(value, dict):
            return value
        if "Fn::If" in value:
            name, one, other = value["Fn::If"]
            if name in true:
                return settled(one, true)
            return {"Fn::If": [name, settled(one, true | {name}), settled(other, true)]}
        return {name: settled(item, true) for name, item in value.items()}

    return settled(resource, frozenset([resource["Condition"]] if "Condition" in resource else []))


def _written(found: Any) -> str | None:
    """How a value is written within a text, if it can be."""
    if not isinstance(found, dict):
        return str(found)
    [(function, argument)] = found.items()
    if function == "Ref":
        return f"${{{argument}}}"
    if function == "Fn::GetAtt":
        return f"${{{'.'.join(argument)}}}"
    return argument if function == "Fn::Sub" and isinstance(argument, str) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
