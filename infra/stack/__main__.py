"""What make calls for the stack's owner, such as ``python -m stack delete``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from botocore import exceptions
from rich.console import Console

from stack import preflight, release, removal, takeover
from stack.config import ConfigError, StackConfig
from stack.inventory import NeverDeployedError, NoStackError, find, made_bucket, place, take
from stack.release import ReleaseError
from stack.removal import RemovalError
from stack.takeover import TakeoverError
from stack.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import boto3

    from stack.inventory import Inventory

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/manage-versioning-examples.html
_VERSIONING_SETTLES = timedelta(minutes=15)
INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""

_SIGNED_OUT = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.TokenRetrievalError,
    exceptions.SSOError,
)
_SIGNED_OUT_CODES = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("samconfig.toml"), help="default: %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("preflight", help="look for what would make the deployment fail")
    checking.add_argument("--ci", action="store_true", help="nobody is there to answer")
    commands.add_parser("protect", help="have CloudFormation refuse to delete the stack")
    commands.add_parser("delete", help="delete the stack")
    releasing = commands.add_parser("release", help="make layers' names free for other files")
    releasing.add_argument("names", nargs="+", metavar="NAME")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    run = {"preflight": _preflight, "protect": _protect, "delete": _delete, "release": _release}[
        options.command
    ]
    try:
        return run(StackConfig.read(options.config), console, options)
    except KeyboardInterrupt:
        console.print("\nInterrupted. What CloudFormation has begun goes on.")
        return INTERRUPTED
    except (
        ConfigError,
        NoStackError,
        ReleaseError,
        RemovalError,
        TakeoverError,
        exceptions.BotoCoreError,
        exceptions.ClientError,
    ) as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(_in_words(error))
        return 1


def _preflight(config: StackConfig, _console: Console, options: argparse.Namespace) -> int:
    """Say what stands against deploying; the only line on standard output are sam's arguments."""
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    first = config.parameters is None and not options.ci
    if first and sys.stdin.isatty():
        console.print("Layerdrop's first deployment from here; sam will ask for the same two first.")
        config = replace(
            config,
            name=_asked(console, "Stack name", config.name),
            region=_asked(console, "Region", config.session().region_name),
        )
    session = config.session()
    to = preflight.identify(session, config.name, config.parameters or {})
    console.print(f"Deploying {to.name} to {to.region}, account {to.account}, as {to.caller}")
    stops = False
    templates = Templates.read()
    for finding in preflight.check(session, to, templates):
        stops |= _say(console, finding)
    kept = takeover.look(session, to, templates)
    if isinstance(kept, preflight.Finding):
        stops |= _say(console, kept)
    if stops:
        console.print("Nothing was deployed.")
        return 1
    if isinstance(kept, takeover.Kept):
        console.print(
            f"Taking over the bucket {kept.bucket}, which an earlier stack has left, with all that is in it; "
            f"names of layers that have their owners: {kept.layers} …"
        )
        takeover.take_over(session, to.name, kept.bucket)
    if options.ci:
        # Both are for the command line: of its questions' answers sam keeps only those that say yes.
        sys.stdout.write("--no-confirm-changeset --no-fail-on-empty-changeset\n")
    elif first:
        sys.stdout.write(f"--guided --stack-name {to.name} --region {to.region}\n")
    return 0


def _say(console: Console, finding: preflight.Finding) -> bool:
    """Print a finding, and return whether it stops the deployment."""
    console.print(f"  - {finding.what}")
    if finding.todo:
        console.print(f"    hint: {finding.todo}")
    return finding.stops


def _asked(console: Console, question: str, default: str | None) -> str:
    console.print(f"{question} [{default}]: " if default else f"{question}: ", end="")
    return sys.stdin.readline().strip() or default or ""


def _protect(config: StackConfig, console: Console, _options: argparse.Namespace) -> int:
    """Have CloudFormation refuse to delete the stack."""
    session = config.session()
    try:
        find(session, config.name)
    except NeverDeployedError as error:
        console.print(str(error))  # whoever said no to the change set has had their way
        return 0
    session.client("cloudformation").update_termination_protection(
        StackName=config.name, EnableTerminationProtection=True
    )
    console.print(f"The stack {config.name} is protected from deletion; make delete lifts that.")
    if since := made_bucket(session, config.name):
        settled = since + _VERSIONING_SETTLES
        if settled > datetime.now(UTC):
            console.print(
                f"Its bucket is new: until {settled.astimezone():%H:%M} S3 may not know everywhere that it "
                "keeps versions. A file that is uploaded before may not be found; then upload it again."
            )
    return 0


def _delete(config: StackConfig, console: Console, _options: argparse.Namespace) -> int:
    """Say what would go and what would stay, ask, and do it."""
    session = config.session()
    inventory = take(session, config)
    console.print(f"Stack {inventory.name} in {inventory.region}, account {inventory.account}")
    _list(console, "To be deleted, for good:", removal.what_goes(inventory))
    _list(console, "Kept, so that functions in use keep working:", removal.what_stays(inventory))
    console.print(f"\nType the stack's name to delete it ({inventory.name}): ", end="")
    if sys.stdin.readline().strip() != inventory.name:
        console.print("\nNothing was deleted.")
        return 1
    console.print("Deleting, which takes some minutes …")
    removal.remove(session, inventory)
    console.print(f"The stack {inventory.name} is gone.")
    _deregister(session, inventory, console)
    _sweep(session, inventory, console)
    if inventory.bucket:
        _silence(session, inventory.bucket, console)
    if any(removal.what_stays(inventory)):
        _list(console, "Kept:", removal.what_stays(inventory))
        if inventory.bucket:
            console.print(
                "\nAnother make deploy of that name takes the bucket over, with the layers' owners."
            )
        console.print("\nTo remove that, too, once no function uses the layers any more:\n")
        for line in removal.by_hand(inventory, config.profile):
            console.print(line)
    return 0


def _deregister(session: boto3.Session, inventory: Inventory, console: Console) -> None:
    try:
        if count := removal.deregister(session, inventory):
            console.print(f"Deregistered, too: {count} earlier revisions of its job definitions.")
    except exceptions.ClientError as error:
        console.print(
            f"Earlier revisions of its job definitions stay ({error}): they cost nothing, and can be "
            f"deregistered in the Batch console, where their names begin with {inventory.name}-."
        )


def _sweep(session: boto3.Session, inventory: Inventory, console: Console) -> None:
    try:
        if count := removal.sweep(session, inventory):
            console.print(f"Deleted, too: functions that were trying a layer, {count} of them.")
    except exceptions.ClientError as error:
        console.print(
            f"Whether functions that were trying a layer are left is not known ({error}): they cost nothing, "
            f"and their names begin with {inventory.name}-try-."
        )


def _silence(session: boto3.Session, bucket: str, console: Console) -> None:
    try:
        if removal.silence(session, bucket):
            console.print(f"The bucket {bucket} calls no function of the stack any more.")
    except exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":  # somebody has deleted it by hand
            console.print(
                f"The bucket {bucket} still has a notification to a function that is gone ({error}): remove "
                "it in the S3 console, under the bucket's properties."
            )


def _release(config: StackConfig, console: Console, options: argparse.Namespace) -> int:
    """Say whose the names are and what follows, ask, and release them."""
    session = config.session()
    where = place(session, config.name)
    # make passes several names as one word.
    names = dict.fromkeys(name for given in options.names for name in given.split())
    claims = [release.look(session, where, name) for name in names]
    for claimed in claims:
        for line in release.in_words(claimed):
            console.print(line)
    console.print(
        "\nOnce released, a name is owned by the first upload that asks for it. Its build publishes the next "
        "version and moves the pointer /layerdrop/NAME, which others may follow. Versions that are there "
        "stay."
    )
    console.print("Type release to go on: ", end="")
    if sys.stdin.readline().strip() != "release":
        console.print("\nNothing was released.")
        return 1
    for claimed in claims:
        release.release(session, where, claimed)
        console.print(f"{claimed.name} is free: upload the file that shall own it, once more if it is there.")
    return 0


def _list(console: Console, title: str, lines: Iterable[str]) -> None:
    console.print(f"\n{title}")
    for line in lines:
        console.print(f"  - {line}")


def _in_words(error: Exception) -> str:
    code = error.response["Error"]["Code"] if isinstance(error, exceptions.ClientError) else ""
    if isinstance(error, _SIGNED_OUT) or code in _SIGNED_OUT_CODES:
        return (
            "There are no valid AWS credentials: sign in to the account first (aws configure, aws sso login)."
        )
    if isinstance(error, exceptions.NoRegionError):
        return "It is not known which region is meant: make deploy writes it down, or set AWS_DEFAULT_REGION."
    if isinstance(error, RemovalError):
        return f"CloudFormation could not delete everything:\n{error}\nMend that, and run make delete again."
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
