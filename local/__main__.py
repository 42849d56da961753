"""The commands behind make targets: ``python -m local up``, ``demo`` and, for linters, ``translate``."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from local.intrinsics import TemplateError
from local.keys import KeyFileError
from local.settings import PORT, TEMPLATE, PortInUseError
from local.terminal import Terminal

INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return _run(options)
    except KeyboardInterrupt:
        return 0 if options.command == "up" else INTERRUPTED
    except (TemplateError, TimeoutError, PortInUseError, KeyFileError) as error:
        Terminal(stderr=True).print(str(error), soft_wrap=True, style="red", highlight=False, markup=False)
        return 1


def _run(options: argparse.Namespace) -> int:
    # moto makes sessions of its own: of a developer's account, by a profile that may not even be there.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    # Imported late: moto takes a second or two, and a wrong option should be told at once.
    from local import demo, inputs, up

    if options.command == "up":
        parameters = {"VulnerabilityDatabase": options.vulnerability_database}
        up.serve(options.port, Terminal(), options.template, parameters)
        return 0
    if options.command == "translate":
        write_translated(options.folder, options.template)
        return 0
    if options.file:
        chosen = [inputs.file_input(options.file, options.architecture, options.runtime)]
    else:
        chosen = inputs.example_inputs()
    return demo.run(chosen, Terminal(), options.out, options.template)


def write_translated(folder: Path, source: Path) -> None:
    """Write the translated templates and the state machine as it is deployed, for linters.

    A nested template is called like the resource that it is for.

    Args:
        folder: Where to write them.
        source: The template, of source or out of ``sam build``.

    Raises:
        TemplateError: The template cannot be deployed here.
    """
    from local.server import EmbeddedAws
    from local.translate import translate

    folder.mkdir(parents=True, exist_ok=True)

    def upload(name: str, content: bytes) -> str:
        if name.endswith(".template"):
            document = json.loads(content)
            path = (folder / name).with_suffix(".json")
            path.write_text(json.dumps(document, indent=2) + "\n")
        return f"s3://layerdrop-artifacts/{name}"

    template = translate(source, upload)
    (folder / "template.json").write_text(json.dumps(template, indent=2) + "\n")
    with EmbeddedAws() as aws:
        stack = aws.deploy(source)
        machine = aws.clients.stepfunctions.describe_state_machine(
            stateMachineArn=stack.outputs["StateMachine"]
        )
    (folder / "build_layers.asl.json").write_text(machine["definition"])


def _interrupt(_number: int, _frame: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave workers and files behind
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="Layerdrop on an embedded AWS.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("up", help="serve until Ctrl-C")
    serve.add_argument("--port", type=int, default=PORT, help="where to listen (default: %(default)s)")
    asking = "where WatchLayers asks what is known of the packages of layers (default: nowhere)"
    serve.add_argument("--vulnerability-database", default="NONE", metavar="URL", help=asking)
    show = commands.add_parser("demo", help="build the two examples, or one file of your own")
    show.add_argument("--file", type=_existing_file, help="a requirements file or a lock")
    show.add_argument("--architecture", choices=("arm64", "x86_64"), default="arm64")
    show.add_argument("--runtime", help="python3.11 … python3.14 (default: the stack's)")
    show.add_argument(
        "--out", type=Path, default=Path("out"), help="folder for zips and manifests (default: %(default)s)"
    )
    lint = commands.add_parser("translate", help="write the translated template and state machine")
    lint.add_argument("folder", type=Path)
    for command in (serve, show, lint):
        command.add_argument(
            "--template",
            type=_existing_file,
            default=TEMPLATE,
            help="the stack; .aws-sam/build/template.yaml for what sam build made (default: the source)",
        )
    return parser


def _existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


if __name__ == "__main__":
    sys.exit(main())
