"""The templates of infra/, as written and as CloudFormation gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import yaml
from samtranslator.internal.managed_policies import get_bundled_managed_policy_map
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from local.translate import read_template

ROOT = Path(__file__).parents[3]
IMAGE = ROOT / "infra/image.yaml"
NETWORK = ROOT / "infra/network.yaml"
SCRIPT = ROOT / "container/build_image.sh"


def translated(template: Path) -> dict[str, Any]:
    """Return the template without SAM, its code packaged as if by ``sam package``."""
    document: dict[str, Any] = read_template(template.read_text())
    for resource in document["Resources"].values():
        for name in ("CodeUri", "ContentUri"):
            if name in resource.get("Properties", {}):
                resource["Properties"][name] = "s3://bucket/key"
    session = boto3.Session(region_name="eu-west-1")
    translator = Translator(get_bundled_managed_policy_map("aws"), Parser(), boto_session=session)
    result: dict[str, Any] = translator.translate(document, parameter_values={})
    return result


def recipe() -> dict[str, Any]:
    """Return the buildspec."""
    document = read_template(IMAGE.read_text())
    result: dict[str, Any] = yaml.safe_load(document["Mappings"]["Recipe"]["BuildSpec"]["Text"])
    return result


def commands() -> list[str]:
    """Return the buildspec's commands, in order."""
    return [command for phase in recipe()["phases"].values() for command in phase["commands"]]
