"""What a build of a target would take today: ResolveLayer is asked, which writes nothing when it looks."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from packaging.utils import canonicalize_name

from layerdrop import wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mypy_boto3_lambda import LambdaClient

    from layerdrop.build_input import BuildInput
    from layerdrop.target import Target

logger = logging.getLogger(__name__)

FIX: Final = "--fix="
"""The builder's option for a version that mends a finding: `--fix=NAME==VERSION`."""
LOOK_SECONDS: Final = 60
"""How long a look may take: ResolveLayer gives up after 45 seconds."""

_MAX_BYTES: Final = 6 << 20  # of a function's answer: Developer Guide, "Lambda quotas"


class UnclearError(Exception):
    """Only a build's job can tell."""


class ImpossibleError(Exception):
    """A build of it would fail: a code and a message, as its manifest would have them."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = wording.sentence(message)
        super().__init__(f"{code}: {self.message}")


class NotNowError(Exception):
    """It cannot be looked at now: there is no time left, or the function is too busy or out of order."""


@dataclass(frozen=True)
class Resolver:
    """The function ResolveLayer.

    Attributes:
        seconds_left: how much longer the whole call may take.
    """

    lambda_client: LambdaClient
    function: str
    seconds_left: Callable[[], float]

    def look(self, build_input: BuildInput, target: Target, fixes: Sequence[str] = ()) -> dict[str, str]:
        """What a build of the target would take today: versions by package.

        Args:
            build_input: The upload.
            target: Its target.
            fixes: `NAME==VERSION` of versions that mend findings.

        Raises:
            ImpossibleError: it would fail.
            UnclearError: only a build's job can tell.
            NotNowError: it cannot be looked at now.
        """
        if self.seconds_left() < LOOK_SECONDS:
            raise NotNowError("there is no time left")
        command = (*target.job.command, *(f"{FIX}{one}" for one in fixes))
        asked = replace(target, job=replace(target.job, command=command))
        event = {"look": True, "input": build_input.to_json(), "target": asked.to_json()}
        try:
            answer = self.lambda_client.invoke(FunctionName=self.function, Payload=json.dumps(event).encode())
            with answer["Payload"] as payload:
                document = json.loads(payload.read(_MAX_BYTES + 1))
        except (ClientError, BotoCoreError) as error:
            raise NotNowError(str(error)) from error
        except (ValueError, RecursionError) as error:
            raise NotNowError("its answer is no JSON") from error
        if "FunctionError" in answer:
            raise _failure(document)
        packages = document.get("packages") if isinstance(document, dict) else None
        if packages is None:
            raise UnclearError
        return {str(canonicalize_name(one["name"])): str(one["version"]) for one in packages}


def changes(
    has: Iterable[Mapping[str, Any]], would_have: Mapping[str, str]
) -> tuple[dict[str, str | None], ...]:
    """What a rebuild would change, by package: `from` is None for one that is new, `to` for one that goes."""
    before = {str(canonicalize_name(one["name"])): str(one["version"]) for one in has}
    return tuple(
        {"package": name, "from": before.get(name), "to": would_have.get(name)}
        for name in sorted({*before, *would_have})
        if before.get(name) != would_have.get(name)
    )


def _failure(document: Any) -> Exception:
    """What a function's error means: https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html."""
    kind = document.get("errorType") if isinstance(document, dict) else None
    if kind != "BuildError":
        # It is killed after its time, or has a fault: a job would have more of both.
        logger.warning("ResolveLayer failed at a look: %s", wording.word(str(kind)))
        return UnclearError()
    try:
        told = json.loads(document["errorMessage"])
        return ImpossibleError(str(told["code"]), str(told["message"]))
    except (ValueError, TypeError, KeyError):
        return UnclearError()
