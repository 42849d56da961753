"""The command line: what is asked for, who does it, and how it ends."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from botocore import exceptions

from layerdrop_client import __version__
from layerdrop_client.answers import document
from layerdrop_client.aws import Aws
from layerdrop_client.commands.catalogue import LONGEST, Wish, catalogue
from layerdrop_client.commands.check import check
from layerdrop_client.commands.ci import ci
from layerdrop_client.commands.diff import diff
from layerdrop_client.commands.drop import drop
from layerdrop_client.commands.listing import list_layers
from layerdrop_client.commands.logs import logs
from layerdrop_client.commands.release import release
from layerdrop_client.commands.rollback import rollback
from layerdrop_client.commands.show import show
from layerdrop_client.commands.sync import Wanted, sync
from layerdrop_client.commands.users import users
from layerdrop_client.commands.waiting import Patience
from layerdrop_client.commands.watch import watch
from layerdrop_client.following import StillBuildingError
from layerdrop_client.keys import short
from layerdrop_client.place import DEFAULT_STACK, Place
from layerdrop_client.problems import AGAIN, BUG, INTERRUPTED, USER, CommandError, Problem
from layerdrop_client.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)
_DENIED_CODES = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_MOST_NAMED = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _options(arguments)
    screen = Screen(options.output == "json")
    # What ends a job in CI ends as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _COMMANDS[options.command](screen, options)
    except CommandError as error:
        return _failed(screen, error.problem, error.status)
    except StillBuildingError as error:
        return _left(screen, error, _place(options))
    except KeyboardInterrupt:
        screen.news("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough; Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        problem, status = _in_words(error, _place(options))
        return _failed(screen, problem, status)
    except Exception as error:  # noqa: BLE001 (whatever it is, it ends with its own status, and its words)
        screen.news(traceback.format_exc())
        problem = Problem(
            "INTERNAL", f"{type(error).__name__}: {error}", "This is a fault of layerdrop: please report it."
        )
        return _failed(screen, problem, BUG)


def _failed(screen: Screen, problem: Problem, status: int) -> int:
    screen.document(document("error", error=problem.to_json()))
    screen.problem(problem)
    return status


def _left(screen: Screen, error: StillBuildingError, place: Place) -> int:
    """Say that builds go on, and how to see them again."""
    why = "Interrupted" if error.status == INTERRUPTED else "No answer in the time that there was"
    goes = "the build goes on" if len(error.keys) == 1 else f"{len(error.keys)} builds go on"
    keys = [short(key) for key in error.keys] if len(error.keys) <= _MOST_NAMED else []
    problem = Problem("STILL_BUILDING", f"{why}: {goes}.", f"Watch again: {place.command('watch', *keys)}")
    screen.document(document("error", error=problem.to_json() | {"keys": list(error.keys)}))
    screen.news(problem.message)
    screen.hint(problem.hint)
    return error.status


def _in_words(error: exceptions.BotoCoreError | exceptions.ClientError, place: Place) -> tuple[Problem, int]:
    """What AWS said, or did not, as a problem with its exit status."""
    if isinstance(error, _SIGNED_OUT):
        near = (
            "Paste the lines that `make up` printed."
            if place.is_near
            else "Sign in: aws sso login, or --profile."
        )
        return Problem("SIGNED_OUT", f"There are no credentials for AWS: {error}", near), USER
    if isinstance(error, exceptions.NoRegionError):
        return Problem("NO_REGION", "No region is named.", "Give --region, or set AWS_REGION."), USER
    if isinstance(error, exceptions.ClientError):
        code = error.response["Error"].get("Code", "")
        said = error.response["Error"].get("Message", str(error))
        if code in _SIGNED_OUT_CODES:
            return Problem("SIGNED_OUT", f"AWS does not take the credentials: {said}", "Sign in again."), USER
        if code in _DENIED_CODES:
            hint = "docs/client.md has the actions that each command needs."
            return Problem("ACCESS_DENIED", f"{error.operation_name} was denied: {said}", hint), USER
        return Problem("AWS_REFUSED", f"{error.operation_name}: {said}", ""), AGAIN
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        hint = "Does `make up` run?" if place.is_near else "Check the network, --region and --endpoint-url."
        return Problem("AWS_UNREACHABLE", str(error), hint), AGAIN
    return Problem("AWS_UNUSABLE", str(error), "Check --profile, --region and the AWS configuration."), USER


# ---------------------------------------------------------------- who does it


def _drop(screen: Screen, options: argparse.Namespace) -> int:
    return drop(Aws(_place(options)), screen, options.file, options.key, _patience(options))


def _sync(screen: Screen, options: argparse.Namespace) -> int:
    wanted = Wanted(options.delete, options.dry_run)
    return sync(Aws(_place(options)), screen, options.folder, wanted, _patience(options))


def _watch(screen: Screen, options: argparse.Namespace) -> int:
    return watch(Aws(_place(options)), screen, options.keys, _patience(options))


def _catalogue(screen: Screen, options: argparse.Namespace) -> int:
    wish = Wish(options.open, options.good_for, options.save)
    return catalogue(Aws(_place(options)), screen, wish)


_COMMANDS: dict[str, Callable[[Screen, argparse.Namespace], int]] = {
    "drop": _drop,
    "sync": _sync,
    "watch": _watch,
    "list": lambda screen, options: list_layers(Aws(_place(options)), screen),
    "show": lambda screen, options: show(Aws(_place(options)), screen, options.name),
    "diff": lambda screen, options: diff(
        Aws(_place(options)), screen, options.name, options.first, options.second
    ),
    "logs": lambda screen, options: logs(Aws(_place(options)), screen, options.name),
    "users": lambda screen, options: users(Aws(_place(options)), screen, options.name),
    "rollback": lambda screen, options: rollback(Aws(_place(options)), screen, options.name, options.version),
    "release": lambda screen, options: release(Aws(_place(options)), screen, options.name),
    "catalogue": _catalogue,
    "check": lambda screen, options: check(screen, options.file, options.key),
    "ci": lambda _screen, options: ci(options.step),
}


def _place(options: argparse.Namespace) -> Place:
    """Which stack is meant; what a person gave as options is repeated in commands that are told."""
    given = [
        f"--{name.replace('_', '-')}={value}"
        for name in ("stack", "region", "profile", "endpoint_url")
        if (value := getattr(options, name, None))
    ]
    return Place(
        getattr(options, "stack", None) or os.environ.get("LAYERDROP_STACK") or DEFAULT_STACK,
        # boto3 alone does not know AWS_REGION, which other SDKs and CI go by.
        getattr(options, "region", None) or os.environ.get("AWS_REGION") or None,
        getattr(options, "profile", None),
        getattr(options, "endpoint_url", None) or os.environ.get("AWS_ENDPOINT_URL"),
        tuple(given),
    )


def _patience(options: argparse.Namespace) -> Patience:
    return Patience(getattr(options, "wait", True), getattr(options, "timeout", 60.0) * 60)


# ---------------------------------------------------------------- what is asked for


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    # These first: argparse takes no argument that may be left out from behind an option.
    common, rest = _everywhere().parse_known_args(arguments)
    options = _parser().parse_args(rest, common)
    options.output = getattr(options, "output", "table")
    return options


def _parser() -> argparse.ArgumentParser:
    everywhere = _everywhere()
    parser = argparse.ArgumentParser(
        prog="layerdrop",
        description="Turns requirements files into AWS Lambda layers, by a Layerdrop stack.",
        epilog="exit status: 0 done; 2 yours to mend; 75 try again; 70 ours to mend; 130 interrupted",
        parents=[everywhere],
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, what: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=what, description=f"{what[0].upper()}{what[1:]}.", parents=[everywhere]
        )

    dropping = add("drop", "upload a file, and say what became of it")
    dropping.add_argument("file", type=Path, metavar="FILE")
    key = "its place, such as arm64/web (default: the part of its path from arm64/ or x86_64/ on)"
    dropping.add_argument("key", nargs="?", metavar="KEY", help=key)
    syncing = add("sync", "upload what a folder has and the bucket has not, by content")
    syncing.add_argument("folder", type=Path, metavar="FOLDER", help="has arm64/ or x86_64/ in it")
    syncing.add_argument("--delete", action="store_true", help="delete inputs that the folder has not")
    syncing.add_argument("--dry-run", action="store_true", help="only say what would be done")
    watching = add("watch", "follow builds until they are answered")
    watching.add_argument(
        "keys", nargs="*", metavar="KEY", help="such as arm64/web (default: all that are built)"
    )
    add("list", "list all layers and files")
    for name, what in (
        ("show", "show what a layer has"),
        ("logs", "print what the last build of a layer logged"),
        ("users", "list the functions that use a layer, and which of its versions"),
        ("release", "make a layer's name free for another file"),
    ):
        add(name, what).add_argument("name", metavar="NAME", help="the layer's, such as web-py313-arm64")
    comparing = add("diff", "say what is different between two versions of a layer")
    comparing.add_argument("name", metavar="NAME")
    comparing.add_argument("first", type=int, metavar="V1")
    comparing.add_argument("second", type=int, metavar="V2")
    back = add("rollback", "point to another version of a layer")
    back.add_argument("name", metavar="NAME")
    back.add_argument("version", type=int, metavar="VERSION")
    page = add("catalogue", "open the page of all layers, or copy it")
    opening = "in a browser (default: if there is a terminal)"
    page.add_argument("--open", action=argparse.BooleanOptionalAction, default=None, help=opening)
    lasting = "how long the address is good, such as 30m, 12h or 7d, the longest (default: 1h)"
    page.add_argument("--for", dest="good_for", type=_time, default="1h", metavar="TIME", help=lasting)
    page.add_argument("--save", type=Path, metavar="FOLDER", help="copy page and documents into a folder")
    checking = add("check", "build a file on this machine, without AWS, and say what the layer would be")
    checking.add_argument("file", type=Path, metavar="FILE")
    checking.add_argument("key", nargs="?", metavar="KEY", help="as of drop: says architecture and runtime")
    steps = add("ci", "run a step of GitHub's action, whose inputs are in the environment")
    steps.add_argument("step", choices=("sync", "preview", "comment"))
    return parser


def _everywhere() -> argparse.ArgumentParser:
    """Options that may stand before the command or after it, so neither place has a default."""
    parser = argparse.ArgumentParser(
        prog="layerdrop", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS
    )
    group = parser.add_argument_group("which stack, and how to tell")
    group.add_argument("--stack", metavar="NAME", help=f"default: LAYERDROP_STACK, else {DEFAULT_STACK}")
    group.add_argument("--region", metavar="NAME", help="default: as for any AWS tool")
    group.add_argument("--profile", metavar="NAME", help="of the AWS configuration")
    group.add_argument("--endpoint-url", metavar="URL", help="another AWS, such as that of make up")
    group.add_argument("--output", choices=("table", "json"), help="default: table")
    group.add_argument("--wait", action=argparse.BooleanOptionalAction, help="for answers (default: yes)")
    group.add_argument("--timeout", type=_minutes, metavar="MINUTES", help="to wait at most (default: 60)")
    return parser


def _time(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9]\d{0,4})([mhd])", text)
    units = {"m": "minutes", "h": "hours", "d": "days"}
    lasts = timedelta(**{units[found[2]]: int(found[1])}) if found else None
    if lasts is None or lasts > LONGEST:
        raise argparse.ArgumentTypeError("give a time such as 30m, 12h or 7d, which is the longest")
    return lasts


def _minutes(text: str) -> float:
    number = float(text)
    if not 0 < number <= 24 * 60:
        raise argparse.ArgumentTypeError("give minutes, up to a day's 1440")
    return number
