"""The SAM template as CloudFormation gets it: its code packaged, translated by AWS's own translator."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]
from samtranslator.internal.managed_policies import get_bundled_managed_policy_map  # type: ignore[import-untyped]
from samtranslator.model.exceptions import (  # type: ignore[import-untyped]
    InvalidDocumentException,
)
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
from samtranslator.translator import translator as sam  # type: ignore[import-untyped]
from samtranslator.yaml_helper import intrinsics_multi_constructor  # type: ignore[import-untyped]

from local.clients import isolated_session
from local.intrinsics import TemplateError

Upload = Callable[[str, bytes], str]
"""Keeps a packaged file under a name and returns its ``s3://`` URL."""

NOT_CODE: Final = frozenset({"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})


# samtranslator's own reads with the loader that is written in Python, ten times as long.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


_Loader.add_multi_constructor("!", intrinsics_multi_constructor)


def read_template(text: str) -> dict[str, Any]:
    """Return what a template says; of intrinsic functions, the long form."""
    document: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 (a safe one)
    return document


def translate(template: Path, upload: Upload) -> dict[str, Any]:
    """Package and translate a SAM template, and those nested in it.

    Args:
        template: The template, of source or out of ``sam build``; local paths in it are relative to it.
        upload: Takes what ``sam package`` would upload, nested templates included, these translated (as
            CloudFormation does it for each where it is made).

    Raises:
        TemplateError: It is not valid SAM.
    """
    document = read_template(template.read_text())
    package(document, template.parent, upload)
    policies = get_bundled_managed_policy_map("aws")
    translator = sam.Translator(policies, Parser(), boto_session=_session())
    try:
        translated: dict[str, Any] = translator.translate(document, parameter_values={})
    except InvalidDocumentException as error:
        raise TemplateError("; ".join(str(cause.message) for cause in error.causes)) from error
    finally:
        translator.metrics.publish()  # to nobody; it complains otherwise
    return translated


# A translator holds the policy templates that come with it against their schema, each time that one is made.
sam.make_policy_template_for_function_plugin = cache(sam.make_policy_template_for_function_plugin)


@cache
def _session() -> Any:
    """Return one that is asked for its region only; without, the translator looks for the developer's."""
    return isolated_session()


def package(document: dict[str, Any], folder: Path, upload: Upload) -> None:
    """Upload the local files that a SAM template names, and name the uploads instead."""
    defaults = document.get("Globals", {}).get("Function", {})
    packages: dict[Path, str] = {}

    def package_folder(relative: str) -> str:
        source = (folder / relative).resolve()
        if source not in packages:
            packages[source] = upload(f"{source.name}.zip", zip_folder(source))
        return packages[source]

    for name, resource in document["Resources"].items():
        properties = resource.setdefault("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            properties["CodeUri"] = package_folder(properties.get("CodeUri") or defaults["CodeUri"])
        elif resource["Type"] == "AWS::Serverless::LayerVersion":
            properties["ContentUri"] = package_folder(properties["ContentUri"])
        elif resource["Type"] == "AWS::Serverless::Application":
            nested = translate(folder / properties["Location"], upload)
            url = upload(f"{name}.template", json.dumps(nested).encode())
            properties["Location"] = url.replace("s3://", "https://s3.amazonaws.com/", 1)
        elif isinstance(properties.get("DefinitionUri"), str):
            definition = (folder / properties["DefinitionUri"]).read_bytes()
            json.loads(definition)  # a syntax error is better told here than by the service
            properties["DefinitionUri"] = upload(f"{name}.asl.json", definition)
    defaults.pop("CodeUri", None)


def zip_folder(folder: Path) -> bytes:
    """Return a deployment package of a folder; the same files give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as package_file:
        for path in sorted(_code_files(folder)):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.external_attr = (path.stat().st_mode & 0o777) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            package_file.writestr(entry, path.read_bytes())
    return content.getvalue()


def _code_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            if path.name not in NOT_CODE:
                yield from _code_files(path)
        else:
            yield path
