import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from local.intrinsics import TemplateError
from local.settings import ROOT, TEMPLATE
from local.translate import translate, zip_folder

SAM = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {CodeUri: code/, Runtime: python3.13, Handler: a.handler}
Resources:
  First: {Type: AWS::Serverless::Function}
  Second:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: other/}
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties: {DefinitionUri: machine.json, Role: "arn:aws:iam::123456789012:role/x"}
"""


class Store:
    def __init__(self) -> None:
        self.uploads: list[tuple[str, bytes]] = []

    def __call__(self, name: str, content: bytes) -> str:
        self.uploads.append((name, content))
        return f"s3://box/{len(self.uploads)}/{name}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("code", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text(f"# {folder}\n")
    (tmp_path / "machine.json").write_text('{"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}')
    (tmp_path / "template.yaml").write_text(SAM)
    return tmp_path


def test_code_and_definitions_are_packaged_once_each_and_named(project: Path) -> None:
    store = Store()
    resources = translate(project / "template.yaml", store)["Resources"]
    assert resources["First"]["Properties"]["Code"] == {"S3Bucket": "box", "S3Key": "1/code.zip"}
    assert resources["Second"]["Properties"]["Code"] == {"S3Bucket": "box", "S3Key": "2/other.zip"}
    location = resources["Machine"]["Properties"]["DefinitionS3Location"]
    assert location == {"Bucket": "box", "Key": "3/Machine.asl.json"}
    assert [name for name, _ in store.uploads] == ["code.zip", "other.zip", "Machine.asl.json"]
    with zipfile.ZipFile(io.BytesIO(store.uploads[1][1])) as package:
        assert package.read("a.py") == b"# other\n"


def test_two_functions_of_one_folder_share_a_package(project: Path) -> None:
    (project / "template.yaml").write_text(SAM.replace("other/", "code/"))
    store = Store()
    translate(project / "template.yaml", store)
    assert [name for name, _ in store.uploads] == ["code.zip", "Machine.asl.json"]


def test_a_definition_that_is_no_json_is_an_error(project: Path) -> None:
    (project / "machine.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        translate(project / "template.yaml", Store())


def test_what_sam_refuses_is_told_in_its_words(project: Path) -> None:
    (project / "template.yaml").write_text(SAM.replace("Runtime: python3.13, ", ""))
    with pytest.raises(TemplateError, match="Runtime"):
        translate(project / "template.yaml", Store())


def test_the_stack_is_translated_whole() -> None:
    store = Store()
    resources = translate(TEMPLATE, store)["Resources"]
    assert not [r["Type"] for r in resources.values() if r["Type"].startswith("AWS::Serverless")]
    with zipfile.ZipFile(io.BytesIO(store.uploads[0][1])) as package:
        names = set(package.namelist())
    for resource in resources.values():
        if resource["Type"] == "AWS::Lambda::Function":
            module, _, _ = resource["Properties"]["Handler"].rpartition(".")
            assert f"{module.replace('.', '/')}.py" in names


def test_packaging_needs_neither_region_nor_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    translate(TEMPLATE, Store())


def test_the_same_files_give_the_same_package(project: Path) -> None:
    (project / "code" / "sub").mkdir()
    (project / "code" / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (project / "code" / "sub" / "run.sh").chmod(0o755)
    first = zip_folder(project / "code")
    (project / "code" / "__pycache__").mkdir()
    (project / "code" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"x")
    os.utime(project / "code" / "a.py", (1, 1))
    assert zip_folder(project / "code") == first
    with zipfile.ZipFile(io.BytesIO(first)) as package:
        assert package.getinfo("sub/run.sh").external_attr >> 16 & 0o777 == 0o755
    (project / "code" / "a.py").write_text("# changed\n")
    assert zip_folder(project / "code") != first


def test_the_examples_are_where_the_demo_looks() -> None:
    assert sorted(
        path.relative_to(ROOT / "examples").as_posix() for path in ROOT.glob("examples/**/*.txt")
    ) == [
        "requirements/arm64/http/requirements.txt",
        "requirements/x86_64/data/requirements.txt",
    ]
