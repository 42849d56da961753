"""Logs, traces and metrics, the same for each function; the template names service, namespace and level."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from aws_lambda_powertools import Logger, Metrics, Tracer

from layerdrop.aws import TryLaterError
from layerdrop.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.typing import LambdaContext

Result = TypeVar("Result")

logger = Logger()
# Nothing but calls to AWS is worth a subsegment; patching every library known would cost start-up time.
tracer = Tracer(patch_modules=["botocore"])
metrics = Metrics()


def name_work(execution: str | None, **more: str) -> None:
    """Name what is being worked on in every line from here on, those with metrics included, and in the trace.

    Args:
        execution: The execution's name; None when there is none.
        more: What else helps to find the lines.
    """
    for name, value in {"execution": execution, **more}.items():
        logger.append_keys(**{name: value})
        metrics.add_metadata(name, value)
        tracer.put_annotation(name, value or "")


def failures_logged(
    handler: Callable[[dict[str, Any], LambdaContext], Result],
) -> Callable[[dict[str, Any], LambdaContext], Result]:
    """Have a handler log what it raises: the line that Lambda writes itself does not name the execution."""

    @wraps(handler)
    def logging(event: dict[str, Any], context: LambdaContext) -> Result:
        try:
            return handler(event, context)
        except BuildError as error:
            logger.warning("Refused", code=error.problem.code, reason=error.problem.message)
            raise
        except TryLaterError as error:
            logger.warning("To be tried again", reason=str(error))
            raise
        except Exception:
            logger.exception("Failed")
            raise

    return logging
