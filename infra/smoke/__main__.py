"""The command behind ``make smoke``."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
from botocore import exceptions
from rich.console import Console
from stack.inventory import NoStackError
from stack.removal import RemovalError

from smoke import checks, examine, leftovers
from smoke.builds import build
from smoke.cases import cases, spot_case
from smoke.checks import FAILED, NOT_CHECKED, PASSED, Check, Times
from smoke.deployment import DeploymentError, OwnStack
from smoke.leftovers import LeftoverError
from smoke.trial import TrialRole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from smoke.builds import Answer
    from smoke.cases import Case
    from smoke.jobs import Job

INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""
NAME = "layerdrop-smoke-"
_FAULTS = (
    exceptions.BotoCoreError,
    exceptions.ClientError,
    DeploymentError,
    LeftoverError,
    NoStackError,
    OSError,
    RemovalError,
)
STANDING = "the stack stood before: none was deployed"


@dataclass
class Run:
    """One run, and what it found so far.

    Attributes:
        session: The account and region.
        stem: What its folders, layers, functions and role begin with.
        patience: Seconds until an upload is given up.
        emulated: Whether this is the embedded AWS.
        parameters: What the person wants for the stack's parameters.
        checks, times: What was found.
    """

    session: boto3.Session
    stem: str
    patience: float
    emulated: bool
    console: Console
    parameters: Mapping[str, str]
    checks: list[Check] = field(default_factory=list)
    times: list[Times] = field(default_factory=list)

    def own_stack(self, stack: OwnStack) -> None:
        """Deploy, try, update to Spot, and try that."""
        began = time.monotonic()
        bucket = stack.deploy()
        self._note(
            "first deployment", PASSED, f"{time.monotonic() - began:.0f} s, the images' builds included"
        )
        self._try(bucket, cases(self.stem))
        began = time.monotonic()
        stack.deploy(Arm64Capacity="FARGATE_SPOT")
        self._note("second deployment, arm64 on Spot", PASSED, f"{time.monotonic() - began:.0f} s")
        self._try(bucket, [spot_case(self.stem)])

    def standing_stack(self, bucket: str) -> None:
        """Try a stack that stands."""
        self._try(bucket, cases(self.stem))
        for what in (
            "first deployment",
            "second deployment, arm64 on Spot",
            "Spot, arm64: the job ran on it",
        ):
            self._note(what, NOT_CHECKED, STANDING)

    def _try(self, bucket: str, files: Iterable[Case]) -> None:
        jobs: list[Job] = []
        answers: list[Answer] = []
        for answer in build(self.session, bucket, files, self.patience):
            self._add(examine.check_answer(answer))
            answers.append(answer)
        # Not before all answers are there: an import takes its time, and the answers' is measured.
        for answer in answers:
            job = examine.find_job(self.session, answer)
            self.times.append(examine.times_of(answer, job))
            if answer.case.spot:
                self._add(examine.check_spot(answer, job))
            if job:
                jobs.append(job)
        with TrialRole(self.session, self.stem, self.parameters) as role:
            for answer in answers:
                if imported := examine.check_import(self.session, role, answer, self.emulated):
                    self._add(imported)
        for check in examine.check_images(self.session, jobs, self.emulated):
            self._add(check)

    def _note(self, what: str, result: str, detail: str) -> None:
        self._add(Check(what, result, detail))

    def _add(self, check: Check) -> None:
        self.checks.append(check)
        self.console.print(f"{check.result:>11}  {check.what}", highlight=False, markup=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return 0 if nothing failed, and all is deleted."""
    options = _parser().parse_args(arguments)
    if options.endpoint_url:
        os.environ["AWS_ENDPOINT_URL"] = options.endpoint_url
    console = Console(soft_wrap=not sys.stdout.isatty(), highlight=False, markup=False)
    try:
        session = boto3.Session(profile_name=options.profile, region_name=options.region)
        account = session.client("sts").get_caller_identity()["Account"]
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        console.print(f"It is not known which account and region are meant: {error}")
        return 1
    name = options.delete or f"{NAME}{secrets.token_hex(3)}"
    stack = OwnStack(session, name, options.profile, dict(options.parameter))
    stem = leftovers.stem_of(name)
    if options.delete:
        if options.bucket:
            return 0 if _delete_builds(session, options.bucket, stem, console) else 1
        return 0 if _delete_stack(stack, console) else 1
    where = f"account {account}, region {session.region_name}"
    if options.bucket:
        console.print(f"Trying the stack with the bucket {options.bucket} in {where}")
    elif not _agreed(name, where, options.yes, console):
        console.print("Nothing was done.")
        return 1
    elif not _can_succeed(stack, console):
        console.print("Nothing was deployed.")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run(session, stem, options.minutes * 60, bool(options.endpoint_url), console, stack.parameters)
    return _run(run, stack, options.bucket, console)


def _run(run: Run, stack: OwnStack, bucket: str, console: Console) -> int:
    interrupted, deleted = False, False
    try:
        if bucket:
            run.standing_stack(bucket)
        else:
            run.own_stack(stack)
    except KeyboardInterrupt:
        interrupted = True
        console.print("Interrupted.")
    except _FAULTS as error:
        run.checks.append(Check("the run to its end", FAILED, str(error)))
    finally:
        console.print("Deleting what was made …")
        deleted = (
            _delete_builds(run.session, bucket, run.stem, console)
            if bucket
            else _delete_stack(stack, console)
        )
    run.checks.append(Check("all deleted again", PASSED if deleted else FAILED))
    checks.show(run.checks, run.times, console)
    if interrupted:
        if bucket:
            late = RuntimeError("builds that were under way go on, and leave more behind")
            _say_how_to_finish(run.session, [f"layerdrop-{run.stem}", "--bucket", bucket], late, console)
        return INTERRUPTED
    return 1 if checks.failed(run.checks) else 0


def _agreed(name: str, where: str, yes: bool, console: Console) -> bool:
    console.print(
        f"This deploys the stack {name} to {where}, builds eight files there, and deletes all of it again.\n"
        "It takes about half an hour and costs well under a dollar."
    )
    if yes:
        return True
    console.print(f"Type the stack's name to go on ({name}): ", end="")
    return sys.stdin.readline().strip() == name


def _can_succeed(stack: OwnStack, console: Console) -> bool:
    """Say what stands against deploying, in seconds and not at the end of a deployment."""
    try:
        findings = list(stack.look())
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        console.print(f"What would make the deployment fail could not be looked for: {error}")
        return False
    for finding in findings:
        console.print(f"  - {finding.what}")
        if finding.todo:
            console.print(f"    hint: {finding.todo}")
    return not any(finding.stops for finding in findings)


def _delete_stack(stack: OwnStack, console: Console) -> bool:
    try:
        stack.delete()
    except (*_FAULTS, KeyboardInterrupt) as error:
        _say_how_to_finish(stack.session, [stack.name], error, console)
        return False
    return True


def _delete_builds(session: boto3.Session, bucket: str, stem: str, console: Console) -> bool:
    try:
        leftovers.delete_builds(session, bucket, stem)
    except (*_FAULTS, KeyboardInterrupt) as error:
        _say_how_to_finish(session, [f"layerdrop-{stem}", "--bucket", bucket], error, console)
        return False
    return True


def _say_how_to_finish(
    session: boto3.Session, what: Sequence[str], error: BaseException, console: Console
) -> None:
    command = ["PYTHONPATH=infra", ".venv/bin/python", "-m", "smoke", "--delete", *what]
    command += ["--region", session.region_name]
    if session.profile_name != "default":
        command += ["--profile", session.profile_name]
    console.print(
        f"Not all could be deleted: {str(error) or 'interrupted'}\nTo finish, in the project's folder:\n"
    )
    console.print(shlex.join(command))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m smoke", description=__doc__)
    parser.add_argument("--region", help="default: the shell's")
    parser.add_argument("--profile", help="default: the shell's")
    parser.add_argument(
        "--parameter", action="append", default=[], type=_parameter, metavar="NAME=VALUE",
        help="a parameter of the stack, such as VpcId=vpc-…; may be given several times",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=30, help="until an upload is given up (%(default)s)")
    parser.add_argument("--yes", action="store_true", help="do not ask before anything is made")
    parser.add_argument("--bucket", help="of a stack that stands: deploy and delete none, try that one")
    parser.add_argument("--endpoint-url", help="the embedded AWS's, with --bucket")
    parser.add_argument("--delete", metavar="STACK", type=_own, help="only delete what a run has left")
    return parser


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _own(name: str) -> str:
    if not re.fullmatch(rf"{NAME}[0-9a-f]{{6}}", name):
        raise argparse.ArgumentTypeError(f"{name} is not the stack of a run: those are called {NAME}…")
    return name


if __name__ == "__main__":
    sys.exit(main())
