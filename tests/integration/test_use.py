"""The recipes of docs/use.md, taken from the page: checked as AWS checks them, and deployed."""

import io
import json
import platform
import re
import zipfile
from pathlib import Path
from typing import Any

import cfnlint.api
import pytest

from local.intrinsics import TemplateError
from local.server import EmbeddedAws
from local.translate import translate

ROOT = Path(__file__).parents[2]
HERE = {"aarch64": "arm64"}.get(platform.machine(), "x86_64")
LAYER = "web-py313-arm64"
LAMBDA_MAY = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
POINTER = f"/layerdrop/{LAYER}"
BLOCK = re.compile(r"^```yaml\n# (\w+\.yaml)\n(.*?)^```", re.DOTALL | re.MULTILINE)
RECIPES = dict(BLOCK.findall((ROOT / "docs/use.md").read_text()))


@pytest.fixture
def recipe(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A recipe, with code beside it."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.py").write_text("def handler(event, context): pass\n")
    path = tmp_path / request.param
    path.write_text(RECIPES[request.param])
    return path


def with_role(aws: EmbeddedAws, recipe: Path) -> Path:
    """The same with a role of its own: SAM's has a policy of AWS's, which the embedded AWS lacks."""
    iam = aws.clients.get("iam")
    try:
        role = iam.create_role(
            RoleName="web", AssumeRolePolicyDocument=json.dumps({"Statement": [LAMBDA_MAY]})
        )["Role"]
    except iam.exceptions.EntityAlreadyExistsException:
        role = iam.get_role(RoleName="web")["Role"]
    text = recipe.read_text()
    # Functions with layers run here on this machine's architecture alone.
    text = text.replace("[arm64]", f"[{HERE}]")
    recipe.write_text(text.replace("      Handler:", f"      Role: {role['Arn']}\n      Handler:"))
    return recipe


def released(aws: EmbeddedAws) -> str:
    """A further version, its own parameter, and the pointer, as ReleaseLayer leaves them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("python/web.py", "")
    arn = aws.clients.lambda_.publish_layer_version(
        LayerName=LAYER, Content={"ZipFile": stream.getvalue()}, CompatibleRuntimes=["python3.13"]
    )["LayerVersionArn"]
    aws.clients.ssm.put_parameter(Name=f"{POINTER}/{arn.rpartition(':')[2]}", Value=arn, Type="String")
    aws.clients.ssm.put_parameter(Name=POINTER, Value=arn, Type="String", Overwrite=True)
    return str(arn)


def layers(aws: EmbeddedAws, function: Any) -> list[str]:
    # CloudFormation waits for it as well.
    aws.clients.lambda_.get_waiter("function_active_v2").wait(
        FunctionName=function, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    found = aws.clients.lambda_.get_function_configuration(FunctionName=function)
    return [layer["Arn"] for layer in found["Layers"]]


def test_the_page_has_its_recipes() -> None:
    assert RECIPES.keys() == {"pointer.yaml", "pin.yaml"}


@pytest.mark.parametrize("recipe", RECIPES, indirect=True)
def test_a_recipe_is_valid(recipe: Path) -> None:
    """By AWS's own translator, and by cfn-lint before and after it."""
    translated = json.dumps(translate(recipe, lambda name, _: f"s3://bucket/{name}"))
    for text in (recipe.read_text(), translated):
        matches = cfnlint.api.lint(text, regions=["us-east-1"])
        # The account's number in an ARN is what a pin is.
        assert [match for match in matches if match.rule.id != "I3042"] == []


@pytest.mark.parametrize("recipe", ["pointer.yaml"], indirect=True)
def test_the_pointer_is_followed_at_the_next_deployment(aws: EmbeddedAws, recipe: Path) -> None:
    first = released(aws)
    with_role(aws, recipe)
    stack = aws.deploy(recipe, "follows")
    assert layers(aws, stack.values["Web"]) == [first]
    second = released(aws)
    assert layers(aws, stack.values["Web"]) == [first], "nothing happens to a function by itself"
    stack = aws.deploy(recipe, "follows", earlier=stack)
    assert layers(aws, stack.values["Web"]) == [second]
    pinned = {"WebLayer": f"{POINTER}/{first.rpartition(':')[2]}"}
    stack = aws.deploy(recipe, "follows", pinned, earlier=stack)
    assert layers(aws, stack.values["Web"]) == [first]
    with pytest.raises(TemplateError, match="there is no /layerdrop/another"):
        aws.deploy(recipe, "lost", {"WebLayer": "/layerdrop/another"})


@pytest.mark.parametrize("recipe", ["pin.yaml"], indirect=True)
def test_a_pin_stays(aws: EmbeddedAws, recipe: Path) -> None:
    first = released(aws)
    with_role(aws, recipe)
    stack = aws.deploy(recipe, "pinned", {"WebLayer": first})
    assert layers(aws, stack.values["Web"]) == [first]
    released(aws)
    stack = aws.deploy(recipe, "pinned", {"WebLayer": first}, earlier=stack)
    assert layers(aws, stack.values["Web"]) == [first]
