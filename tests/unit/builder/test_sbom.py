"""The bill of materials, held against CycloneDX's own reader and schema."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from layer_builder.results import sbom
from layer_builder.results.report import Layer, Package, Report, SystemFile, SystemPackage, Zip

pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
from cyclonedx.model import ExternalReferenceType
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

LAYER = Layer(
    "web", "d", None, "0" * 64, "A" * 43 + "=", Zip("s3://b/layers/x.zip", "b", "layers/x.zip", 1000, 2000)
)


def report(*packages: Package) -> Report:
    return Report("arm64", "python3.13", packages=list(packages))


def package(name: str, version: str = "1.0", license_: str | None = None) -> Package:
    return Package(name, version, f"{name}-{version}-py3-none-any.whl", "1" * 64, 20, license_)


def checked(content: bytes) -> dict[str, Any]:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(content.decode())
    assert problem is None, problem
    document: dict[str, Any] = json.loads(content)
    return document


@pytest.mark.parametrize(
    ("text", "licenses"),
    [
        (None, None),
        ("MIT", [{"expression": "MIT"}]),
        ("mit or apache-2.0", [{"expression": "MIT OR Apache-2.0"}]),
        ("BSD License, ISC License (ISCL)", [{"license": {"name": "BSD License, ISC License (ISCL)"}}]),
        ("(" * 5000, [{"license": {"name": "(" * 5000}}]),
        ("(" * 5000 + "MIT" + ")" * 5000, [{"license": {"name": "(" * 5000 + "MIT" + ")" * 5000}}]),
        ("LicenseRef-Ours", [{"expression": "LicenseRef-Ours"}]),
        ("Ünser \"own\" 'thing'\u2028", [{"license": {"name": "Ünser \"own\" 'thing'\u2028"}}]),
    ],
)
def test_a_license_is_an_expression_or_a_name(text: str | None, licenses: list[Any] | None) -> None:
    document = checked(sbom.document(LAYER, report(package("app", license_=text))))
    assert document["components"][0].get("licenses") == licenses


def test_another_tool_reads_what_is_in_the_layer() -> None:
    packages = [package("zope-interface", "7.2+cu118"), package("app", license_="MIT"), package("dep")]
    content = sbom.document(LAYER, report(*packages))
    bom = Bom.from_json(checked(content))  # type: ignore[attr-defined]
    found = {component.name: component for component in bom.components}
    assert sorted(found) == ["app", "dep", "zope-interface"]
    for one in packages:
        component = found[one.name]
        assert component.version == one.version
        assert [hash_.content for hash_ in component.hashes] == [one.sha256]
        assert component.purl.type == "pypi"
        assert (component.purl.name, component.purl.version) == (one.name, one.version)
        assert component.purl.qualifiers == {"file_name": one.wheel}
    assert bom.metadata.component.version == LAYER.digest


def test_another_tool_reads_who_published_a_package() -> None:
    where = "https://index.example/integrity/app/1.0/app-1.0-py3-none-any.whl/provenance"
    publishers = (
        {"kind": "GitHub", "repository": "acme/app", "workflow": "release.yml", "environment": None},
        {"kind": "Google", "email": "robot@acme.iam.gserviceaccount.com"},
        {"kind": "\u0627\u0644<script>"},
    )
    attested = replace(package("app"), attested=True, provenance=where, publishers=publishers)
    content = sbom.document(LAYER, report(attested, package("dep")))
    bom = Bom.from_json(checked(content))  # type: ignore[attr-defined]
    found = {component.name: component for component in bom.components}
    (reference,) = found["app"].external_references
    assert (reference.type, str(reference.url)) == (ExternalReferenceType.ATTESTATION, where)
    assert {(one.name, one.value) for one in found["app"].properties} == {
        ("layerdrop:publisher", "GitHub: acme/app, release.yml"),
        ("layerdrop:publisher", "Google: robot@acme.iam.gserviceaccount.com"),
        ("layerdrop:publisher", "\u0627\u0644<script>"),
    }
    assert not found["dep"].external_references
    assert not found["dep"].properties


def test_the_same_layer_has_the_same_bill_and_another_one_another_number() -> None:
    one, two = package("app"), package("dep")
    first = sbom.document(LAYER, report(one, two))
    assert sbom.document(LAYER, report(two, one)) == first
    other = json.loads(sbom.document(replace(LAYER, digest="1" * 64), report(one, two)))
    assert other["serialNumber"] != json.loads(first)["serialNumber"]


def test_system_packages_are_components_with_their_files() -> None:
    files = (SystemFile("lib/libodbc.so.2", "2" * 64, 7), SystemFile("lib/libodbcinst.so.2", "3" * 64, 9))
    version = "1:2.3.9-6.amzn2023.0.3"
    system = SystemPackage(
        "unixODBC", version, "aarch64", "GPLv2+ and LGPLv2+", "unixODBC-2.3.9-6.src.rpm", files
    )
    whole = replace(report(package("pyodbc")), system_packages=[system])
    bom = Bom.from_json(checked(sbom.document(LAYER, whole)))  # type: ignore[attr-defined]
    [found] = [one for one in bom.components if one.name == "unixODBC"]
    assert found.purl.to_string() == (
        "pkg:rpm/amzn/unixODBC@2.3.9-6.amzn2023.0.3?arch=aarch64&epoch=1&upstream=unixODBC-2.3.9-6.src.rpm"
    )
    assert {file.name: file.hashes[0].content for file in found.components} == {
        file.path: file.sha256 for file in files
    }
