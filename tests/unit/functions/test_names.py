"""Names of layers, executions and jobs, held against what AWS publishes with its API models."""

import re
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdrop import input_key
from layerdrop.build_input import BuildInput, Execution
from layerdrop.execution_name import execution_name
from layerdrop.layer_name import base_name, layer_name
from layerdrop.plan import Workshop, plan
from layerdrop.settings import Settings
from layerdrop.target import ARCHITECTURES, RUNTIMES, Architecture, Runtime

SESSION = botocore.session.get_session()
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)
segments = st.lists(
    st.text(
        st.characters(exclude_characters="/", exclude_categories=("Cs",)), min_size=1, max_size=80
    ).filter(lambda name: name not in (".", "..") and not name.lower().startswith("python")),
    max_size=5,
)


def limits(service: str, operation: str, member: str) -> dict[str, Any]:
    """What a service's API model says of a member's text."""
    shape = SESSION.get_service_model(service).operation_model(operation).input_shape
    metadata: dict[str, Any] = shape.members[member].metadata
    return metadata


def lambda_takes(name: str) -> bool:
    """The model's length is that of an ARN; a name's stands in the pattern."""
    return bool(re.fullmatch(limits("lambda", "PublishLayerVersion", "LayerName")["pattern"], name))


@given(
    segments,
    text.map(lambda name: name.replace("/", "")),
    st.sampled_from(RUNTIMES),
    st.sampled_from(ARCHITECTURES),
)
def test_layer_names_are_what_lambda_takes(
    folders: list[str], stem: str, runtime: Runtime, architecture: Architecture
) -> None:
    key = input_key.parse("/".join(["requirements", architecture, *folders, f"{stem}requirements.txt"]))
    name = layer_name(base_name(key), runtime, architecture)
    assert lambda_takes(name)
    assert name.endswith(("arm64", "x86_64"))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("requirements/arm64/requirements.txt", "layer-py313-arm64"),
        ("requirements/arm64/web/requirements.txt", "web-py313-arm64"),
        ("requirements/arm64/python3.13/web/requirements.txt", "web-py313-arm64"),
        ("requirements/arm64/web-requirements.txt", "web-py313-arm64"),
        ("requirements/arm64/team/web/dev_requirements.txt", "team-web-dev-py313-arm64"),
        ("requirements/arm64/a b.c/requirements.txt", "a-b-c-py313-arm64"),
        ("requirements/arm64/-requirements.txt", "layer-py313-arm64"),
    ],
)
def test_layer_names_follow_the_path(key: str, name: str) -> None:
    assert layer_name(base_name(input_key.parse(key)), "python3.13", "arm64") == name


@pytest.mark.parametrize("length", range(120, 145))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_long_names_fill_what_lambda_takes_and_no_more(length: int, architecture: Architecture) -> None:
    base = "n" * length
    whole = f"{base}-py313-{architecture}"
    name = layer_name(base, "python3.13", architecture)
    assert lambda_takes(name)
    assert (name == whole) == lambda_takes(whole)
    assert name == whole or not lambda_takes(name + "n")


@given(st.text("ab-_", min_size=1, max_size=300), st.text("ab-_", min_size=1, max_size=300))
def test_different_bases_and_targets_give_different_names(one: str, other: str) -> None:
    names = {
        (base, runtime, architecture): layer_name(base, runtime, architecture)
        for base in (one, other)
        for runtime in RUNTIMES
        for architecture in ARCHITECTURES
    }
    assert len(set(names.values())) == len(names)


inputs = st.builds(
    BuildInput, bucket=text, key=text, version_id=text, etag=text, sequencer=text, size=st.integers(0)
)


@given(inputs)
def test_execution_names_are_what_step_functions_and_batch_take(build_input: BuildInput) -> None:
    name = execution_name(build_input)
    assert len(name) <= limits("stepfunctions", "StartExecution", "name")["max"]
    # The model has no pattern; the API reference lists what is refused, none of it a letter, digit or hyphen.
    assert re.fullmatch(r"[A-Za-z0-9-]+", name)
    for target in plan(
        build_input,
        Execution("arn", name, "now"),
        input_key.InputKey("x86_64", None, (), ""),
        Settings(runtimes=RUNTIMES),
        "python3.13",
        {"x86_64": Workshop("queue", "definition", None)},
    ):
        # Batch: up to 128 letters, digits, hyphens and underscores, the first a letter or digit.
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", target.job.name)


@given(inputs, inputs)
def test_one_event_has_one_name(one: BuildInput, other: BuildInput) -> None:
    same_event = (one.bucket, one.key, one.version_id, one.sequencer) == (
        other.bucket,
        other.key,
        other.version_id,
        other.sequencer,
    )
    assert (execution_name(one) == execution_name(other)) == same_event
    assert execution_name(one) == execution_name(replace(one, etag=other.etag, size=other.size))


def test_each_part_of_the_identity_counts() -> None:
    base = BuildInput("bucket", "requirements/arm64/web/requirements.txt", "v", "e", "0A", 1)
    changed = [
        replace(base, bucket="other"),
        replace(base, key=base.key + "x"),
        replace(base, version_id="w"),
        replace(base, sequencer="0B"),
        # Joined without a mark, these two would be one.
        replace(base, version_id="v0", sequencer="A"),
    ]
    assert len({execution_name(event) for event in [base, *changed]}) == len(changed) + 1


def test_an_execution_name_tells_a_person_what_it_is() -> None:
    event = BuildInput("bucket", "requirements/arm64/team web/requirements.txt", "v", "e", "0A", 1)
    assert execution_name(event).startswith("arm64-team-web-")
