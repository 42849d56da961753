import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from layer_builder.ground import errors as builder_errors
from layer_builder.results import report as builder_report
from layerdrop.build_input import BuildInput, Execution
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.manifest import Outcome, PublishedVersion, finished
from layerdrop.report import Report
from layerdrop.target import Job, Target

INPUT = BuildInput("bucket", "requirements/arm64/web/requirements.txt", "v", "e", "0A", 1)
EXECUTION = Execution("arn", "web-1", "2026-11-20T10:00:00Z")
JOB = Job("n", "q", "d", ())
TARGET = Target(
    "py313-arm64", "arm64", "python3.13", "web-py313-arm64", None, None, (), JOB, "builds/web-1/secret/"
)
SHA256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
COOLDOWN = {
    "duration": "7 days",
    "cutoff": "2026-11-14T10:00:00Z",
    "fixes": [{"package": "urllib3", "version": "2.5.0", "until": "2026-11-19T10:00:00Z"}],
    "exempt": ["ours"],
    "left_out": [
        {
            "package": "six",
            "version": "2.0",
            "taken": "1.17.0",
            "uploaded": "2026-11-20T10:00:00Z",
            "admitted_from": "2026-11-27T10:00:00Z",
        },
        {"package": "app", "version": "9", "taken": None, "uploaded": None, "admitted_from": None},
    ],
}


def written(error: builder_errors.BuildError | None = None) -> builder_report.Report:
    """A report by the builder's own hand."""
    return builder_report.Report(
        architecture="arm64",
        runtime="python3.13",
        requirements=["requests"],
        layer=None if error else builder_report.Layer(
            "web-py313-arm64", "requests", None, "a" * 64, SHA256,
            builder_report.Zip("layer.zip", None, None, 22, 0),
        ),
        packages=[builder_report.Package("six", "1.17.0", "six-1.17.0-py3-none-any.whl", "b" * 64, 5, None)],
        system_packages=[
            builder_report.SystemPackage(
                "unixODBC", "2.3.9-6", "aarch64", "LGPLv2+", "unixODBC-2.3.9-6.src.rpm",
                (builder_report.SystemFile("lib/libodbc.so.2", "c" * 64, 7),),
            )
        ],
        warnings=["watch out"],
        timings={"resolve": 0.5},
        error=error,
    )  # fmt: skip


def document(**changes: Any) -> dict[str, Any]:
    fresh: dict[str, Any] = json.loads(written().to_json())
    return fresh | changes


def test_reads_what_the_builder_writes(
    report_schema: jsonschema.Draft202012Validator, manifest_schema: jsonschema.Draft202012Validator
) -> None:
    text = written().to_json().decode()
    report_schema.validate(json.loads(text))
    report = Report.from_text(text)
    layer = report.layer_for(TARGET, "bucket")
    assert (layer.description, layer.code_sha256, layer.is_reused) == ("requests", SHA256, False)
    manifest = finished(
        INPUT,
        EXECUTION,
        "2026-11-20T10:00:01Z",
        [Outcome(TARGET, PublishedVersion("arn:aws:lambda:::layer:web:1", 1, False, "layers/a.zip"), report)],
    ).to_json()
    manifest_schema.validate(manifest)
    # What the manifest tells of the packages is what the report tells, but for where that was read.
    for part in ("packages", "system_packages"):
        told = json.loads(text)[part]
        told = [{name: one[name] for name in one if name not in ("provenance", "publishers")} for one in told]
        assert manifest["layers"][0][part] == told != []
    assert manifest["layers"][0]["warnings"] == ["watch out"]


@pytest.mark.parametrize("found", [None, COOLDOWN], ids=["none", "some"])
def test_the_manifest_tells_of_a_cooldown_as_the_builder_does(
    report_schema: jsonschema.Draft202012Validator,
    manifest_schema: jsonschema.Draft202012Validator,
    found: dict[str, Any] | None,
) -> None:
    one = written()
    one.cooldown = found
    report_schema.validate(json.loads(one.to_json()))
    report = Report.from_text(one.to_json().decode())
    outcome = Outcome(
        TARGET, PublishedVersion("arn:aws:lambda:::layer:web:1", 1, False, "layers/a.zip"), report
    )
    manifest = finished(INPUT, EXECUTION, "2026-11-20T10:00:01Z", [outcome]).to_json()
    manifest_schema.validate(manifest)
    assert manifest["layers"][0]["cooldown"] == found
    old = json.loads(one.to_json())
    if found:
        del old["cooldown"]["fixes"]
        assert (Report.from_text(json.dumps(old)).cooldown or {})["fixes"] == []
    del old["cooldown"]
    assert Report.from_text(json.dumps(old)).cooldown is None
    with pytest.raises(BuildError):
        Report.from_text(json.dumps({**old, "cooldown": ["7 days"]}))


PUBLISHER = {"kind": "GitHub", "repository": "a/b", "workflow": "release.yml", "environment": None}


def test_the_manifest_tells_who_published_a_wheel(
    report_schema: jsonschema.Draft202012Validator, manifest_schema: jsonschema.Draft202012Validator
) -> None:
    one = written()
    where = "https://index.example/x"
    one.packages = [
        replace(package, attested=True, provenance=where, publishers=(PUBLISHER,)) for package in one.packages
    ]
    report_schema.validate(json.loads(one.to_json()))
    report = Report.from_text(one.to_json().decode())
    outcome = Outcome(
        TARGET, PublishedVersion("arn:aws:lambda:::layer:web:1", 1, False, "layers/a.zip"), report
    )
    manifest = finished(INPUT, EXECUTION, "2026-11-20T10:00:01Z", [outcome]).to_json()
    manifest_schema.validate(manifest)
    (package,) = manifest["layers"][0]["packages"]
    assert (package["publisher"], package["attested"]) == (PUBLISHER, True)
    old = json.loads(one.to_json())
    for name in ("publisher", "attested", "provenance", "publishers"):
        del old["packages"][0][name]
    (package,) = Report.from_text(json.dumps(old)).packages
    assert (package["publisher"], package["attested"]) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"attested": "yes"},
        {"publisher": "acme"},
        {"publisher": {}},
        {"publisher": {"kind": "k" * 301}},
        {"publisher": {"kind": "k", **{str(number): "x" for number in range(10)}}},
        {"publisher": {"kind": "k", "x" * 301: None}},
    ],
)
def test_a_publisher_is_a_few_short_texts(change: dict[str, Any]) -> None:
    report = json.loads(written().to_json())
    report["packages"][0] |= change
    with pytest.raises(BuildError) as caught:
        Report.from_text(json.dumps(report))
    assert caught.value.problem.code == ErrorCode.REPORT_INVALID


def test_reads_what_the_builder_wrote_before_it_knew_of_system_packages() -> None:
    old = document()
    del old["system_packages"]
    assert not Report.from_text(json.dumps(old)).system_packages


@pytest.mark.parametrize("hint", ["", "Do that."])
def test_reads_the_builder_s_errors(
    hint: str,
    report_schema: jsonschema.Draft202012Validator,
    manifest_schema: jsonschema.Draft202012Validator,
) -> None:
    error = builder_errors.BuildError("It broke.", hint=hint)
    text = written(error).to_json().decode()
    report_schema.validate(json.loads(text))
    report = Report.from_text(text)
    assert report.error is not None
    assert (report.error.code, report.error.message) == (error.code, "It broke.")
    manifest_schema.validate(
        finished(
            INPUT, EXECUTION, "2026-11-20T10:00:01Z", [Outcome(TARGET, report=report, problem=report.error)]
        ).to_json()
    )


def without(path: str) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            report = report[parent]
        del report[last]

    return change


def at(key: str) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        report["layer"]["zip"] |= {"bucket": "bucket", "key": key, "location": f"s3://bucket/{key}"}

    return change


def setting(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            report = report[parent]
        report[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        without("schema"),
        without("layer"),
        without("packages"),
        without("layer.zip"),
        without("layer.zip.key"),
        without("layer.code_sha256"),
        setting("schema", "layerdrop/report/2"),
        setting("layer", "yes"),
        setting("packages", 5),
        setting("packages", [{"name": "x"}]),
        setting("system_packages", [{"name": "x"}]),
        setting("system_packages", "x"),
        setting("checks", ["x"]),
        setting("layer.zip.bytes", "many"),
        setting("layer.digest", "../" + "a" * 61),
        setting("layer.digest", "A" * 64),
        setting("layer.code_sha256", "A" * 43 + "=-2"),
        setting("layer.description", "x" * 257),
        setting("error", {"code": "<script>", "message": "m", "hint": "h", "details": {}}),
    ],
)
def test_refuses_what_is_no_report(change: Callable[[dict[str, Any]], None]) -> None:
    report = copy.deepcopy(document())
    change(report)
    with pytest.raises(BuildError) as caught:
        Report.from_text(json.dumps(report))
    assert caught.value.problem.code == ErrorCode.REPORT_INVALID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"report"',
        "{",
        "[" * 100_000,
        json.dumps(document(checks={"ratio": float("nan")})),
        json.dumps(document(checks={"size": float("inf")})),
        json.dumps(document()).replace('"checks": {}', '"checks": {"deep": ' + "[" * 500 + "]" * 500 + "}"),
        json.dumps(document()).replace('"checks": {}', '"checks": {"deep": [1, {"size": -1e999}]}'),
        json.dumps(document()).replace('"bytes": 22', '"bytes": 1e999'),
        json.dumps(document()).replace('"unzipped_bytes": 5', '"unzipped_bytes": 1e999'),
        json.dumps(document()).replace('"bytes": 7', '"bytes": 1e999'),
    ],
)  # fmt: skip
@pytest.mark.attack("a forged report holds what cannot be read, or not be written again")
def test_refuses_hostile_text(text: str) -> None:
    with pytest.raises(BuildError) as caught:
        Report.from_text(text)
    assert caught.value.problem.code == ErrorCode.REPORT_INVALID


@pytest.mark.parametrize(
    "change",
    [
        setting("layer", None),
        setting("layer.name", "another-py313-arm64"),
        setting("layer.zip.bucket", "elsewhere"),
        setting("layer.zip.key", f"layers/{'a' * 64}.zip"),
        at("builds/mine.zip"),
        at("requirements/arm64/requirements.txt"),
        at(f"layers/{'b' * 64}.zip"),
        at(f"layers/another-py313-arm64/{'a' * 64}.zip"),
        at(f"layers/../layers/{'a' * 64}.zip"),
        setting("layer.license", "MIT"),
    ],
)
@pytest.mark.attack("a forged report names another layer's zip, or another layer")
def test_a_layer_must_be_the_one_asked_for(change: Callable[[dict[str, Any]], None]) -> None:
    report = copy.deepcopy(document())
    change(report)
    with pytest.raises(BuildError) as caught:
        Report.from_text(json.dumps(report)).layer_for(TARGET, "bucket")
    assert caught.value.problem.code == ErrorCode.REPORT_INVALID


def test_half_a_surrogate_does_not_keep_the_answer_from_being_written() -> None:
    report = Report.from_text(json.dumps(document(warnings=["half \ud800"])))
    outcome = Outcome(
        TARGET, PublishedVersion("arn:aws:lambda:::layer:web:1", 1, False, "layers/a.zip"), report
    )
    body = finished(INPUT, EXECUTION, "2026-11-20T10:00:01Z", [outcome]).to_bytes()
    assert json.loads(body)["layers"][0]["warnings"] == [r"half \ud800"]
