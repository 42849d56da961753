"""``make up``: the embedded AWS served until Ctrl-C, with what to type against it."""

import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from local import catalogue
from local.clients import Clients
from local.environment import key_variables, past_proxies
from local.inputs import EXAMPLES
from local.keys import Key, machine_key
from local.progress import label
from local.server import EmbeddedAws
from local.settings import BUCKET, REGION, TEMPLATE
from local.watch import Watcher

LOOK_SECONDS: Final = 0.5
LOOK_SHARE: Final = 10
"""How many times longer than a look the pause after it is, at least."""


def serve(
    port: int,
    console: Console,
    template: Path = TEMPLATE,
    parameters: Mapping[str, str] | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        port: Where to listen.
        console: Where to say what to type, and later the answer to each upload.
        template: What to deploy, of source or out of ``sam build``.
        parameters: Of the stack, beside those that fit this machine.

    Raises:
        PortInUseError: Someone else listens there.
        KeyFileError: The key of this machine cannot be kept.
    """
    with EmbeddedAws(port, key=machine_key()) as aws:
        with console.status("Deploying the stack on an embedded AWS …"):
            stack = aws.deploy(template, parameters=parameters)
            aws.warm_in_background()
            page = catalogue.address(aws) if catalogue.write(aws, stack) else None
        aws.keep_time()
        for line in instructions(aws.endpoint, aws.keys.owner, page=page):
            console.print(line, soft_wrap=True)
        for answer in answers(aws.clients, stack.outputs["StateMachine"]):
            console.print(answer, soft_wrap=True)


STRONGER: Final = (
    "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)  # fmt: skip
"""What in a shell would have a say beside the lines above, or before them:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html"""
PROXIES: Final = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def instructions(
    endpoint: str, key: Key, machine: Mapping[str, str] = os.environ, page: str | None = None
) -> Iterator[Text]:
    """Return the lines to show at the start: what to paste into a shell once, and commands for it.

    In that shell the commands reach nothing else, whatever it had set before.

    Args:
        endpoint: The embedded AWS, ``http://127.0.0.1:PORT``.
        key: Its owner's.
        machine: The environment, for its proxies.
        page: Where the catalogue is, if it could be written.
    """
    yield Text("Layerdrop on an embedded AWS, until Ctrl-C", style="bold")
    yield Text.assemble(("  endpoint  ", "dim"), endpoint)
    yield Text.assemble(("  bucket    ", "dim"), BUCKET)
    yield Text(
        "\nOnce, in the shell that talks to it (whoever has this key may run code as you):", style="bold"
    )
    # Version 2 of the aws command goes by AWS_REGION first, version 1 knows AWS_DEFAULT_REGION only.
    region = {"AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}
    for variables in (
        {"AWS_ENDPOINT_URL": endpoint},
        *({name: value} for name, value in key_variables(key).items()),
        region,
        past_proxies(machine) if any(machine.get(name) for name in PROXIES) else {},
    ):
        if variables:
            given = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
            yield Text(f"export {given}", style="cyan")
    yield Text(f"unset {' '.join(STRONGER)}", style="cyan")
    # At its end: what the shell has already goes before it.
    yield Text(f'export PATH="$PATH":{shlex.quote(str(Path(sys.executable).parent))}', style="cyan")
    for what, command in (
        ("Build two layers", f"layerdrop sync {_shown(EXAMPLES / 'requirements')}"),
        ("Build one of your own", "layerdrop drop requirements.txt arm64/web"),
        ("See what there is", "layerdrop list"),
        ("Or by any AWS tool", f"aws s3 cp requirements.txt s3://{BUCKET}/requirements/arm64/web/"),
    ):
        yield Text(f"\n{what}:", style="bold")
        yield Text(command, style="cyan")
    if page:
        yield Text("\nAll layers as a page, in a browser on this machine, for a week:", style="bold")
        yield Text(page, style="cyan")
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
