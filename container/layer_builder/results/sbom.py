"""The layer's bill of materials, as CycloneDX 1.6 JSON (ECMA-424): its packages, their files and licenses.

The same layer has the same document, to the byte: no clock and no chance go into it, and its serial number
comes from the layer's digest.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from layer_builder import __version__
from layer_builder.ground import wording

if TYPE_CHECKING:
    from layer_builder.results.report import Layer, Package, Report, SystemPackage

NAME = "sbom.cdx.json"


def document(layer: Layer, report: Report) -> bytes:
    """Write the bill of a layer that was made (UTF-8)."""
    components = [_component(package) for package in sorted(report.packages, key=lambda one: one.name)]
    components += [_system_component(package) for package in report.system_packages]
    whole = f"layer:{layer.digest}"
    return _json(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'urn:layerdrop:{layer.digest}')}",
            "version": 1,
            "metadata": {
                "tools": {
                    "components": [{"type": "application", "name": "layer-builder", "version": __version__}]
                },
                "component": {
                    "type": "library",
                    "bom-ref": whole,
                    "name": layer.name,
                    "version": layer.digest,
                    "hashes": [_hash(base64.b64decode(layer.code_sha256).hex())],
                    "properties": [
                        {"name": "layerdrop:architecture", "value": report.architecture},
                        {"name": "layerdrop:runtime", "value": report.runtime},
                    ],
                },
            },
            "components": components,
            "dependencies": [{"ref": whole, "dependsOn": [one["bom-ref"] for one in components]}],
        }
    )


def _component(package: Package) -> dict[str, Any]:
    # https://github.com/package-url/purl-spec, type pypi: the name normalized, a version's plus sign escaped.
    purl = f"pkg:pypi/{package.name}@{quote(package.version, safe='.-_~')}?file_name={quote(package.wheel)}"
    more: dict[str, Any] = {"hashes": [_hash(package.sha256)]}
    if package.provenance:
        more["externalReferences"] = [{"type": "attestation", "url": package.provenance}]
    if package.publishers:
        more["properties"] = [
            {"name": "layerdrop:publisher", "value": wording.publisher(one)} for one in package.publishers
        ]
    return _library(package, purl, **more)


def _system_component(package: SystemPackage) -> dict[str, Any]:
    # purl's type rpm: the distribution as namespace, epoch as qualifier. The repositories are Amazon Linux's.
    epoch, _, version = package.version.rpartition(":")
    qualifiers = {"arch": package.architecture, "epoch": epoch, "upstream": package.source}
    query = "&".join(f"{name}={quote(value)}" for name, value in qualifiers.items() if value)
    purl = f"pkg:rpm/amzn/{quote(package.name)}@{quote(version, safe='.-_~')}?{query}"
    files = [{"type": "file", "name": file.path, "hashes": [_hash(file.sha256)]} for file in package.files]
    return _library(package, purl, components=files)


def _library(package: Package | SystemPackage, purl: str, **more: object) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        **more,
    }
    if package.license:
        component["licenses"] = [_license(package.license)]
    return component


def _license(text: str) -> dict[str, Any]:
    """Give an SPDX expression as one, and anything else as the name of a license."""
    try:
        return {"expression": canonicalize_license_expression(text)}
    except (InvalidLicenseExpression, RecursionError):  # whoever made the wheel wrote it
        return {"license": {"name": text}}


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"
