"""The pages about the deployment against what is deployed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from layerdrop.errors import ErrorCode
from local.translate import read_template
from tests.unit.infra.templates import IMAGE, ROOT, translated
from tests.unit.infra.test_operations import own_metrics
from tests.whole import whole

if TYPE_CHECKING:
    from pathlib import Path

SOURCE: dict[str, Any] = read_template((ROOT / "template.yaml").read_text())
DEPLOY = (ROOT / "docs/deploy.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "local/README.md"]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def rows(text: str) -> list[list[str]]:
    """The cells of each table's rows."""
    lines = [line for line in text.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in lines]


def section(title: str) -> str:
    [found] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", DEPLOY, re.DOTALL | re.MULTILINE)
    return str(found)


def test_every_parameter_has_its_row() -> None:
    named = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows(section("Parameters"))))
    assert sorted(named) == sorted(SOURCE["Parameters"])


def test_defaults_are_those_of_the_template() -> None:
    for names, default, _ in rows(section("Parameters")):
        for name in re.findall(r"`(\w+)`", names):
            given = str(SOURCE["Parameters"][name]["Default"])
            if given:
                assert default.replace("`", "").split()[0].rstrip(":") == given, name
            else:
                assert "`" not in default.replace("`container/Dockerfile`", ""), name


def alarms_of_all() -> dict[str, Any]:
    """What the alarms watch, by their names; the image's are in a template of their own."""
    resources = {**whole()["Resources"], **translated(IMAGE)["Resources"]}
    return {n: r["Properties"] for n, r in resources.items() if r["Type"] == "AWS::CloudWatch::Alarm"}


def test_every_alarm_has_its_row() -> None:
    alarms = set(alarms_of_all())
    assert (
        set(re.findall(r"`(\w+Alarm)`", " ".join(row[0] for row in rows(section("Look after it"))))) == alarms
    )


def test_every_output_that_is_named_is_there() -> None:
    named = set(re.findall(r"output\s+`(\w+)`", DEPLOY))
    assert {"JobSecurityGroup", "Dashboard"} <= named <= set(SOURCE["Outputs"])


def test_what_costs_is_counted_right() -> None:
    text = section("Cost")
    metrics = sum(
        len([m for m in a["Metrics"] if "MetricStat" in m]) if "Metrics" in a else 1
        for a in alarms_of_all().values()
    )
    assert f"{metrics} alarm metrics " in text
    assert f"up to {len(own_metrics())} metrics of its own" in text
    machine = json.loads((ROOT / "statemachine/build_layers.asl.json").read_text())
    passed = {*all_goes_well(machine), *all_goes_well(machine["States"]["BuildLayers"]["ItemProcessor"])}
    assert {"TryLayer", "ReleaseLayer", "BuildSucceeded"} <= passed
    assert f"{len(passed)} states " in text


def all_goes_well(machine: dict[str, Any]) -> list[str]:
    """The states that an execution passes in which nothing fails and every layer is tried once."""
    chosen = {"IsItResolved": "ResolveLayer", "IsItTried": "TryLayer", "DidItSucceed": "BuildSucceeded"}
    passed = [machine["StartAt"]]
    while "Next" in (state := machine["States"][passed[-1]]) or "Default" in state:
        passed.append(chosen.get(passed[-1]) or state.get("Next") or state["Default"])
    return passed


def test_what_costs_is_added_up_right() -> None:
    found = rows(section("Cost"))
    start = next(i for i, row in enumerate(found) if row[-2:] == ["arm64", "x86_64"])
    end = next(i for i in range(start, len(found)) if "together" in found[i][0])
    for column in (2, 3):
        total = sum(float(row[column]) for row in found[start + 2 : end])
        assert float(found[end][column].strip("*")) == round(total, 4)
    # vCPU-hours and GB-hours of a minute.
    fargate = next(row for row in found if row[0] == "Fargate")
    arm_cpu, arm_memory, x86_cpu, x86_memory = map(float, re.findall(r"\d\.\d{5,}", fargate[1]))
    assert float(fargate[2]) == round((arm_cpu + 2 * arm_memory) / 60, 5)
    assert float(fargate[3]) == round((x86_cpu + 2 * x86_memory) / 60, 5)


def anchors(page: Path) -> set[str]:
    """How GitHub names a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def places(title: str) -> set[str]:
    """The files that a list of places in CONTRIBUTING.md leads to."""
    [found] = re.findall(rf"^### {title}\n(.*?)(?=^### |\Z)", CONTRIBUTING, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"\]\(([^)]+)\)", found))


SYSTEM_LIBRARIES = "container/layer_builder/system_libraries/bundling.py"


@pytest.mark.parametrize(
    ("title", "words", "besides"),
    [
        # Besides: what the setting does, and where the words are told to people.
        (
            "A setting of the settings block",
            r"system[-_]libraries",
            {SYSTEM_LIBRARIES, "container/layer_builder/proof/base_libraries.py", "container/Dockerfile"},
        ),
        ("A setting of the settings block", r"share[-_]with|SOURCE_JOB_DEFINITION", set()),
        ("An error code", r"WHEEL_TOO_COMPLEX|JOB_NOT_STARTED|BUILD_ABORTED", set()),
        ("A runtime", r"\b3\.14\b|_CEILINGS =", set()),
        ("A service or a call to the embedded AWS", r"\"ssm\"|[^.]ssm_client\(|EventsService\(", set()),
    ],
)
def test_lists_of_places_are_whole(title: str, words: str, besides: set[str]) -> None:
    """What already there is of the kind, looked for in all that is deployed and in the embedded AWS."""
    listed = places(title)
    assert [name for name in listed if not (ROOT / name).is_file()] == []
    code = [*ROOT.glob("container/*"), ROOT / "template.yaml"]
    for folder in ("functions/layerdrop", "container/layer_builder", "local"):
        code += [file for kind in ("*.py", "*.json") for file in (ROOT / folder).rglob(kind)]
    spoken = {
        str(file.relative_to(ROOT))
        for file in code
        if file.is_file() and file.suffix != ".txt" and re.search(words, file.read_text())
    }
    assert spoken, "the words are of nothing that is there"
    assert sorted(spoken - listed - besides) == []


def test_every_code_has_its_row() -> None:
    text = (ROOT / "docs/manifest.md").read_text()
    documented = set(re.findall(r"`([A-Z][A-Z_]+)`", " ".join(row[0] for row in rows(text))))
    report = json.loads((ROOT / "container/layer_builder/schemas/report.schema.json").read_text())
    of_the_builder = set(report["$defs"]["error"]["properties"]["code"]["enum"])
    assert documented == {*map(str, ErrorCode), *of_the_builder}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    for name in re.findall(
        r"`((?:container|docs|functions|infra|local|statemachine|tests)/[\w./-]+)`", page.read_text()
    ):
        assert (ROOT / name).exists(), name
