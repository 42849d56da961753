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
        nested: Those in it, by the logical id of the resource that they are for.
        twice: Logical ids of those that share their template with another.
    """

    root: Template
    nested: Mapping[str, Template]
    twice: frozenset[str]

    def name(self, stack: str, resource: str) -> str:
        """What a nested stack's resource is called in the whole: as in its template, if that is used once."""
        return stack + resource if stack in self.twice else resource

    def called(self, path: str) -> str:
        """What ``STACK.RESOURCE``, or a resource of the root, is called in the whole."""
        stack, _, resource = path.rpartition(".")
        return self.name(stack, resource) if stack else resource


@cache
def parts(path: Path = TEMPLATE) -> Parts:
    """Translate a template and those nested in it."""
    nested: dict[str, Any] = {}

    def upload(name: str, content: bytes) -> str:
        if name.endswith(".template"):
            nested[name.removesuffix(".template")] = json.loads(content)
        return f"s3://code/{name}"

    root = translate(path, upload)
    alike = Counter(json.dumps(template) for template in nested.values())
    twice = {name for name, template in nested.items() if alike[json.dumps(template)] > 1}
    return Parts(root, nested, frozenset(twice))


def whole(path: Path = TEMPLATE) -> dict[str, Any]:
    """Return one template of the same resources, whose references lead to each other."""
    given = parts(path)
    inlined = {name: template for name, template in given.nested.items() if name not in LEFT}
    root = _Root(given)
    found: dict[str, Any] = {"Resources": {}, "Conditions": {}}
    for section, items in found.items():
        own = given.root.get(section, {})
        items |= {name: root.replaced(item) for name, item in own.items() if name not in inlined}
        for stack, template in inlined.items():
            inner = _Nested(given, stack)
            for name, item in template.get(section, {}).items():
                assert inner.named(name) not in items, f"two of {inner.named(name)}"
                items[inner.named(name)] = inner.replaced(item)
    outputs = {name: root.replaced(output) for name, output in given.root["Outputs"].items()}
    return {**given.root, **found, "Outputs": outputs}


class _Root:
    """The root's references, put in terms of the whole."""

    def __init__(self, given: Parts) -> None:
        self.parts = given

    def named(self, name: str) -> str:
        return name

    def ref(self, name: str) -> Any:
        return {"Ref": name}

    def get(self, name: str, attribute: str) -> Any:
        if name not in self.parts.nested or name in LEFT:
            return {"Fn::GetAtt": [self.named(name), attribute]}
        output = self.parts.nested[name]["Outputs"][attribute.removeprefix("Outputs.")]
        return _Nested(self.parts, name).replaced(output["Value"])

    def replaced(self, value: Any) -> Any:
        """A value with its references and names of conditions replaced."""
        if isinstance(value, list):
            return [self.replaced(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if function in FUNCTIONS:
                return FUNCTIONS[function](self, argument)
        found = {name: self.replaced(item) for name, item in value.items()}
        if isinstance(value.get("Condition"), str):
            found["Condition"] = self.named(value["Condition"])
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


class _Nested(_Root):
    """Likewise of a nested stack: its parameters become what it is given."""

    def __init__(self, given: Parts, stack: str) -> None:
        super().__init__(given)
        self._stack = stack
        handed_on = given.root["Resources"][stack]["Properties"].get("Parameters", {})
        self._parameters = {
            name: handed_on.get(name, declared.get("Default"))
            for name, declared in given.nested[stack].get("Parameters", {}).items()
        }

    def named(self, name: str) -> str:
        return self.parts.name(self._stack, name)

    def ref(self, name: str) -> Any:
        assert name != "AWS::StackName", "a nested stack has another name"
        if name in self._parameters:
            return _Root(self.parts).replaced(self._parameters[name])
        return {"Ref": name if name.startswith("AWS::") else self.named(name)}

    def get(self, name: str, attribute: str) -> Any:
        return {"Fn::GetAtt": [self.named(name), attribute]}


FUNCTIONS: Mapping[str, Callable[[_Root, Any], Any]] = {
    "Ref": lambda at, name: at.ref(name),
    "Condition": lambda at, name: {
        "Condition": at.named(name) if isinstance(name, str) else at.replaced(name)
    },
    "Fn::GetAtt": lambda at, way: at.get(*(way.split(".", 1) if isinstance(way, str) else way)),
    "Fn::If": lambda at, choice: {"Fn::If": [at.named(choice[0]), *map(at.replaced, choice[1:])]},
    "Fn::Sub": lambda at, argument: at.substituted(argument),
}


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
