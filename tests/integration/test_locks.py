"""`refresh = false` through the whole pipeline: the same file, the same layer, whatever is published."""

import uuid
from typing import Any

import pytest

from local.server import EmbeddedAws
from tests.unit.builder.wheel_maker import Index, make_wheel

from .conftest import Pipeline

BUCKET = "layerdrop-locked"
FIXED = "# /// layer\n# refresh = false\n# ///\napp\n"

pytestmark = pytest.mark.long


def test_the_same_file_is_the_same_layer(aws: EmbeddedAws, tmp_path: Any) -> None:
    with Index(tmp_path) as index:
        port = index.url.split(":")[2].partition("/")[0]
        parameters = {"BucketName": BUCKET, "IndexUrl": index.url, "OutboundPort": port}
        stack = Pipeline(aws, aws.deploy(stack="locked", parameters=parameters), BUCKET)

        def build(name: str, text: str) -> tuple[str, Any]:
            """Build; return the version of app that is in the layer, and the layer's version."""
            manifest = stack.build(f"requirements/x86_64/{name}/requirements.txt", text)
            assert manifest["status"] == "SUCCEEDED", manifest["error"]
            [layer] = manifest["layers"]
            return layer["packages"][0]["version"], layer["version"]

        def publish(version: str) -> None:
            make_wheel(tmp_path, "app", version, files={"app.py": f"x = {uuid.uuid4().hex!r}\n"})

        publish("1.0")
        assert build("same", FIXED) == ("1.0", 1)
        assert build("fresh", "app\n") == ("1.0", 1)
        publish("2.0")
        assert build("same", FIXED) == ("1.0", 1)
        assert build("fresh", "app\n") == ("2.0", 2)
        assert build("same", FIXED + "# so that it is another file\n") == ("2.0", 2)
        # What was said before is known for as long as it is: the first content comes to its own layer again.
        assert build("same", FIXED) == ("1.0", 1)
