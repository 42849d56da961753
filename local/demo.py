"""``make demo``: requirements files or locks go in, layers come out, and each step between is shown."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from local import catalogue, progress
from local.inputs import Input, upload_all
from local.results import Result, keep, no_manifest, show_results
from local.server import EmbeddedAws
from local.settings import TEMPLATE
from local.watch import Watcher, follow


def run(inputs: Sequence[Input], console: Console, out: Path, template: Path = TEMPLATE) -> int:
    """Build the layers of all files at once on an embedded AWS of their own.

    Args:
        inputs: What to upload.
        console: Where to show it.
        out: Gets the zips and the manifests.
        template: What to deploy, of source or out of ``sam build``.

    Returns:
        The exit status: 0 when every layer was published, else 1.
    """
    with EmbeddedAws() as aws:
        with console.status("Deploying the stack on an embedded AWS …"):
            stack = aws.deploy(template)
        aws.warm_in_background()
        console.print(f"The stack stands on an embedded AWS at {aws.endpoint}", highlight=False)
        began = upload_all(inputs, aws.clients)
        watcher = Watcher(aws.clients, stack.outputs["StateMachine"])
        final = progress.show(follow(watcher, list(began)), began, console)
        answers = [
            Result(upload, watcher.manifest(upload) or no_manifest(state), state.finished - began[upload])
            for upload, state in final.items()
        ]
        for answer in answers:
            keep(answer, aws.clients, out)
        show_results(answers, console)
        console.print(f"Zips and manifests are in {out}/", highlight=False)
        if catalogue.write(aws, stack):
            console.print(f"All layers as a page: {catalogue.keep(aws, out)}", highlight=False)
    return 0 if all(answer.succeeded for answer in answers) else 1
