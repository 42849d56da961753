"""``make up``: the embedded AWS served until Ctrl-C, with what to type against it."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from local.clients import Clients
from local.environment import ACCESS_KEY, SECRET_KEY
from local.inputs import example_inputs
from local.progress import label
from local.server import EmbeddedAws
from local.settings import BUCKET, REGION, TEMPLATE
from local.watch import Upload, Watcher

LOOK_SECONDS: Final = 0.5
LOOK_SHARE: Final = 10
"""How many times longer than a look the pause after it is, at least."""


def serve(port: int, console: Console, template: Path = TEMPLATE) -> None:
    """Serve until interrupted.

    Args:
        port: Where to listen.
        console: Where to say what to type, and later the answer to each upload.
        template: What to deploy, of source or out of ``sam build``.

    Raises:
        PortInUseError: Someone else listens there.
    """
    with EmbeddedAws(port) as aws:
        with console.status("Deploying the stack on an embedded AWS …"):
            stack = aws.deploy(template)
        aws.warm_in_background()
        for line in instructions(aws.endpoint):
            console.print(line, soft_wrap=True)
        for answer in answers(aws.clients, stack.outputs["StateMachine"]):
            console.print(answer, soft_wrap=True)


def instructions(endpoint: str) -> Iterator[Text]:
    """Return the lines to show at the start.

    Each command names the endpoint and brings its own credentials: in any shell, it reaches nothing else.
    """
    example = example_inputs()[0]
    manifest = Upload(BUCKET, example.key, "").manifest_key
    aws = f"{_shown(Path(sys.executable).with_name('aws'))} --endpoint-url {endpoint}"
    credentials = (
        f"AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} AWS_DEFAULT_REGION={REGION}"
    )
    if "HTTP_PROXY" in os.environ or "http_proxy" in os.environ:
        credentials += " NO_PROXY=127.0.0.1"
    yield Text("Layerdrop on an embedded AWS, until Ctrl-C", style="bold")
    yield Text.assemble(("  endpoint  ", "dim"), endpoint)
    yield Text.assemble(("  bucket    ", "dim"), BUCKET)
    for what, command in (
        ("Build a layer", f"s3 cp {_shown(example.file)} s3://{BUCKET}/{example.key}"),
        ("Read the answer", f"s3 cp s3://{BUCKET}/{manifest} -"),
        ("Upload a folder of them", f"s3 sync YOUR-FOLDER s3://{BUCKET}/requirements/"),
    ):
        yield Text(f"\n{what}:", style="bold")
        yield Text(f"{credentials} {aws} {command}", style="cyan")
    yield Text("\nAnswers:", style="bold")


def answers(clients: Clients, state_machine: str) -> Iterator[Text]:
    """Return a line for each upload once it is answered, for ever."""
    watcher = Watcher(clients, state_machine)
    while True:
        began = time.monotonic()
        for upload, seconds in watcher.newly_ended():
            manifest = watcher.manifest(upload)
            when = (f"{time.strftime('%H:%M:%S')}  ", "dim")
            if manifest is None:
                yield Text.assemble(when, f"{label(upload)}: replaced by a newer upload")
            elif manifest["status"] == "SUCCEEDED":
                arns = ", ".join(layer["layer_version_arn"] for layer in manifest["layers"])
                yield Text.assemble(when, ("✓ ", "green"), f"{label(upload)} in {seconds:.1f} s: {arns}")
            else:
                error = manifest["error"]
                told = f"{label(upload)}: {error['code']}: {error['message']}"
                yield Text.assemble(when, ("✗ ", "bold red"), told)
        # Looking at a thousand builds is work that would slow them down.
        time.sleep(max(LOOK_SECONDS, LOOK_SHARE * (time.monotonic() - began)))


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
