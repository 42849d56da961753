"""A cooldown of the whole stack, which no upload can lower."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.server import EmbeddedAws
from tests.unit.builder.wheel_maker import Index, make_wheel

from .conftest import Pipeline

BUCKET = "layerdrop-cooled"
BLOCK = "# /// layer\n{}# ///\n"
DAYS = {"app-1.0": 30, "app-2.0": 1, "ours-1.0": 30, "ours-2.0": 1}

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def cooled(aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Build on a stack with a cooldown, from an index of which one package has no upload time."""
    folder, now = tmp_path_factory.mktemp("index"), datetime.now(UTC)
    for which in (*DAYS, "timeless-1.0"):
        name, version = which.split("-")
        make_wheel(folder, name, version)

    def uploaded(filename: str) -> str | None:
        days = DAYS.get("-".join(filename.split("-")[:2]))
        return days and (now - timedelta(days=days)).isoformat()  # type: ignore[return-value]

    with Index(folder, uploaded=uploaded) as index:
        parameters = {
            "BucketName": BUCKET,
            "IndexUrl": index.url,
            "OutboundPort": index.url.split(":")[2].partition("/")[0],
            "Cooldown": "7 days",
            "CooldownExempt": "Ours,timeless",
        }
        stack = Pipeline(aws, aws.deploy(stack="cooled", parameters=parameters), BUCKET)
        yield lambda name, text: stack.build(f"requirements/x86_64/{name}/requirements.txt", text)


def test_every_build_waits_and_only_the_stack_exempts(cooled: Any) -> None:
    manifest = cooled("all", "app\nours\ntimeless\n")
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    [layer] = manifest["layers"]
    versions = {package["name"]: package["version"] for package in layer["packages"]}
    assert versions == {"app": "1.0", "ours": "2.0", "timeless": "1.0"}
    assert (layer["cooldown"]["duration"], layer["cooldown"]["exempt"]) == ("7 days", ["ours", "timeless"])
    assert [one["version"] for one in layer["cooldown"]["left_out"]] == ["2.0"]


@pytest.mark.parametrize("block", ['# cooldown = "1 hour"\n', '# cooldown-exempt = ["app"]\n'])
@pytest.mark.attack("uploader: settings that lower the stack's cooldown")
def test_an_upload_cannot_lower_it(cooled: Any, block: str) -> None:
    manifest = cooled("lower", BLOCK.format(block) + "app == 2.0\n")
    assert manifest["error"]["code"] == "PACKAGE_TOO_YOUNG"
    assert "have the installation exempt app (CooldownExempt of the stack)" in manifest["error"]["hint"]


def test_an_upload_can_raise_it(cooled: Any) -> None:
    manifest = cooled("raise", BLOCK.format('# cooldown = "2 days"\n') + "ours\n")
    assert [package["version"] for package in manifest["layers"][0]["packages"]] == ["1.0"]
