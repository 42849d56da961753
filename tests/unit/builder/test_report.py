"""The report and its schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

import layer_builder
from layer_builder.ground import errors
from layer_builder.ground.errors import BuildError
from layer_builder.layer import bytecode
from layer_builder.proof import import_check, libraries, prove
from layer_builder.results.report import Layer, Package, Report, SystemFile, SystemPackage, Zip
from layer_builder.system_libraries import bundling, package_manager, rpm

SCHEMA = json.loads(
    Path(layer_builder.__file__).with_name("schemas").joinpath("report.schema.json").read_text()
)
VALIDATOR = Draft202012Validator(SCHEMA)
MODULES = (errors, bytecode, import_check, libraries, package_manager, prove, rpm, bundling)
KINDS = {one for module in MODULES for one in vars(module).values() if isinstance(one, type)}
CODES = sorted((one for one in KINDS if issubclass(one, BuildError)), key=lambda kind: kind.code)


def succeeded() -> Report:
    place = Zip("s3://b/layers/x.zip", "b", "layers/x.zip", 1000, 2000)
    layer = Layer("web", "requests", None, "0" * 64, "A" * 43 + "=", place)
    package = Package("requests", "2.32.3", "requests-2.32.3-py3-none-any.whl", "1" * 64, 2000, "Apache-2.0")
    file = SystemFile("lib/libodbc.so.2", "2" * 64, 500)
    system = SystemPackage("unixODBC", "2.3.9-6", "aarch64", "LGPLv2+", "unixODBC-2.3.9-6.src.rpm", (file,))
    return Report(
        "arm64",
        "python3.13",
        ["requests==2.32.3"],
        layer,
        [package],
        [system],
        warnings=["w"],
        timings={"resolve": 0.5},
    )


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_a_success_follows_the_schema() -> None:
    document = json.loads(succeeded().to_json())
    VALIDATOR.validate(document)
    assert document["status"] == "SUCCEEDED"


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.code)
def test_every_error_follows_the_schema(kind: type[BuildError]) -> None:
    report = succeeded()
    report.error = kind("It went wrong: ü.", hint="Try.", details={"paths": [Path("x")], "number": 1})
    document = json.loads(report.to_json())
    VALIDATOR.validate(document)
    assert (document["status"], document["layer"], document["error"]["code"]) == ("FAILED", None, kind.code)
    assert kind("x").exit_status in (2, 75)


def test_the_schema_lists_exactly_the_codes_there_are() -> None:
    assert sorted(SCHEMA["$defs"]["error"]["properties"]["code"]["enum"]) == sorted(
        {kind.code for kind in CODES}
    )


def test_an_empty_report_of_a_failure_is_one_too() -> None:
    VALIDATOR.validate(json.loads(Report(error=BuildError("x")).to_json()))


def test_a_success_without_a_layer_is_none() -> None:
    with pytest.raises(ValidationError):
        VALIDATOR.validate(json.loads(Report().to_json()))


def test_steps_are_timed_also_when_they_fail() -> None:
    report = Report()
    with pytest.raises(ZeroDivisionError), report.timed("merge"):
        raise ZeroDivisionError
    assert report.timings["merge"] >= 0
