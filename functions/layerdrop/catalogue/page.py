"""The catalogue's page: one HTML file that asks for nothing else, made from the catalogue's index.

Names, licences, publishers and advisories are written by strangers. So the shell is rendered with autoescape,
the index goes into it as JSON that nothing in it can end, page.js makes texts of it and never markup, and the
page's own policy (https://www.w3.org/TR/CSP3/) allows that script and that style alone, and no request.
"""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from layerdrop.wording import shortened, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER: Final = Path(__file__).parent

# The longest that is good for something is a key, with 1,024 bytes:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_LONGEST: Final = 1024
# Some packages have a licence's whole text in the place of its name.
_LONGEST_LICENSE: Final = 200

# What is shown of a layer once somebody opens it; a browser reads it no sooner.
_DETAILS: Final = ("warnings", "history")

_RECIPES: Final = (
    ("SAM, CloudFormation", "pointer.yaml", "Takes the newest version at each deployment."),
    ("SAM, pinned", "pin.yaml", "Takes the version that stands in git, and works with sam local."),
    ("CDK", "app.mjs", "Takes the version that cdk.context.json in git names."),
    ("Terraform", "main.tf", "Takes the newest version at each plan."),
    ("Serverless", "serverless.yml", "Takes the newest version when the service is packaged."),
    ("AWS CLI", "aws.sh", "Replaces all layers of a function, at once."),
)
"""Label, file in recipes/ and what it does. The files are the blocks of docs/use.md, in which page.js puts a
layer's own name, ARN, region, account, runtime and architecture in the place of the example's."""


def render(index: Mapping[str, Any]) -> bytes:
    """Return the page: HTML in UTF-8, not compressed.

    Args:
        index: The catalogue's index by its schema, `layerdrop/catalogue/1`.
    """
    packages = _Packages()
    layers = [_overview(layer, packages) for layer in index["layers"]]
    details = [_shown({name: layer[name] for name in _DETAILS}) for layer in index["layers"]]
    catalogue = {
        **{name: _shown(value) for name, value in index.items() if name != "layers"},
        "layers": layers,
        "packages": packages.rows,
    }
    script, style = ((_FOLDER / name).read_text() for name in ("page.js", "page.css"))
    page = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            catalogue=catalogue,
            details=details,
            recipes=_recipes(),
            script=script,
            script_hash=_hash(script),
            style=style,
            style_hash=_hash(style),
        )
    )
    return page.encode()


@dataclass
class _Packages:
    """Packages as rows, each once: thousands of layers have a few hundred of them in common."""

    rows: list[Any] = field(default_factory=list)
    _numbers: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def number(self, package: Mapping[str, Any]) -> int:
        """Return the row of a package, which is made at its first sight."""
        publisher = package.get("publisher")
        key = (
            package["name"],
            package["version"],
            package["license"],
            package.get("unzipped_bytes"),
            None if publisher is None else tuple(sorted(publisher.items(), key=str)),
            package.get("attested"),
        )
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append([
                _shown(package["name"]),
                _shown(package["version"]),
                _license(package["license"]),
                _shown(package.get("unzipped_bytes")),
                _shown(publisher),
                package.get("attested"),
            ])  # fmt: skip
        return self._numbers[key]


def _overview(layer: Mapping[str, Any], packages: _Packages) -> dict[str, Any]:
    """What is shown and searched of a layer in the list; packages by their rows."""
    listed = {"packages", "system_packages", "license", "digest", *_DETAILS}
    return {
        **{name: _shown(value) for name, value in layer.items() if name not in listed},
        "license": _license(layer["license"]),
        "packages": [packages.number(package) for package in layer["packages"]],
        "system_packages": [packages.number(package) for package in layer["system_packages"]],
        "warnings": len(layer["warnings"]),
    }


def _shown(value: Any) -> Any:
    """The JSON value, its texts with nothing hidden in them and none too long; what JSON lacks is null."""
    if isinstance(value, str):
        return visible(shortened(value, _LONGEST))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_shown(name): _shown(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_shown(entry) for entry in value]
    return value


def _license(text: str | None) -> str | None:
    return None if text is None else visible(shortened(text, _LONGEST_LICENSE))


def _recipes() -> list[dict[str, str]]:
    folder = _FOLDER / "recipes"
    return [
        {"label": label, "file": file, "does": does, "text": (folder / file).read_text()}
        for label, file, does in _RECIPES
    ]


@cache
def _environment() -> Environment:
    # Not by the file's extension: whatever is rendered here is HTML.
    environment = Environment(autoescape=True, loader=FileSystemLoader(_FOLDER), undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _hash(text: str) -> str:
    """A source of the Content Security Policy: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
