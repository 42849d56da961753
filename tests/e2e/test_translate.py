import json
import subprocess
import sys
from pathlib import Path

import pytest

from local.settings import ROOT

from .conftest import SHELL


@pytest.mark.long  # make lint does it
def test_linters_get_the_template_and_the_state_machine_as_deployed(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "local", "translate", str(tmp_path)], cwd=ROOT, env=SHELL, check=True
    )
    template = json.loads((tmp_path / "template.json").read_text())
    assert not [r for r in template["Resources"].values() if r["Type"].startswith("AWS::Serverless")]
    text = (tmp_path / "build_layers.asl.json").read_text()
    assert "${" not in text
    assert "arn:aws:states:::batch:submitJob.sync" in json.dumps(json.loads(text))
