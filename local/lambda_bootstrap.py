"""Runs inside a Lambda worker process: imports the handler once, then answers events until the pipe closes.

The counterpart of the runtime interface client in AWS's images. It imports nothing of ours: the handler must
find the standard library, the dependencies and its own folder (the working directory), as it would under
``/var/task``.

Messages are JSON lines on the socket named by the first argument. From us: ``{"ready": true}`` once, then one
``{"payload", "error"}`` an event; to us: ``{"event", "request_id", "deadline"}``.
"""

import importlib
import json
import os
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

Handler = Callable[[Any, Any], Any]


def most_memory() -> int:
    """Return the most memory that this process ever held, in MiB."""
    try:
        # ru_maxrss would count what the parent held when it forked.
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 (pathlib costs a start 5 ms)
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class LambdaContext:
    """The context object: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html."""

    identity = None
    client_context = None

    def __init__(self, request_id: str, arn: str, deadline: float) -> None:
        self.aws_request_id = request_id
        self.invoked_function_arn = arn
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self._deadline = deadline

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds left before the worker is killed."""
        return max(0, int((self._deadline - time.time()) * 1000))


def find_handler(name: str) -> Handler:
    """Import ``module.function``.

    Raises:
        HandlerMissingError: There is no such function.
    """
    module_name, _, function = name.rpartition(".")
    module = importlib.import_module(module_name.replace("/", "."))
    if not hasattr(module, function):
        raise HandlerMissingError(f"Handler '{function}' missing on module '{module_name}'")
    return getattr(module, function)  # type: ignore[no-any-return]


def error_document(error: BaseException, request_id: str, error_type: str | None = None) -> dict[str, Any]:
    """Return an exception the way Lambda's Python runtime reports it."""
    return {
        "errorMessage": str(error),
        "errorType": error_type or type(error).__name__,
        "requestId": request_id,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


def failing_handler(error: Exception, name: str) -> Handler:
    """Return a handler that fails each event with what went wrong at import, as Lambda does."""
    if isinstance(error, ImportError):
        error_type, message = "Runtime.ImportModuleError", f"Unable to import module '{name}': {error}"
    elif isinstance(error, HandlerMissingError):
        error_type, message = "Runtime.HandlerNotFound", str(error)
    else:
        error_type, message = type(error).__name__, str(error)
    traceback.print_exception(error)

    def fail(_event: object, _context: object) -> None:
        raise InitializationError(message, error_type)

    return fail


class HandlerMissingError(Exception):
    """The module has no function of the handler's name."""


class InitializationError(Exception):
    """The module could not be imported; carries Lambda's name for the reason."""

    def __init__(self, message: str, error_type: str) -> None:
        super().__init__(message)
        self.error_type = error_type


def answer(handler: Handler, event: object, context: LambdaContext) -> dict[str, Any]:
    """Run one event; whatever it raises becomes an answer, too."""
    try:
        result = handler(event, context)
    except InitializationError as error:
        return {
            "payload": error_document(error, context.aws_request_id, error.error_type),
            "error": "Unhandled",
        }
    except Exception as error:  # noqa: BLE001 (the runtime's job: any exception is the caller's to see)
        traceback.print_exc()
        return {"payload": error_document(error, context.aws_request_id), "error": "Unhandled"}
    try:
        json.dumps(result)
    except (TypeError, ValueError) as error:
        message = TypeError(f"Unable to marshal response: {error}")
        return {
            "payload": error_document(message, context.aws_request_id, "Runtime.MarshalError"),
            "error": "Unhandled",
        }
    return {"payload": result, "error": None}


def main(descriptor: int, arn: str) -> None:
    """Import the handler and serve events until the other side closes."""
    os.set_inheritable(descriptor, False)
    name = os.environ["_HANDLER"]
    sys.path.insert(0, str(os.environ["LAMBDA_TASK_ROOT"]))
    try:
        handler = find_handler(name)
    except Exception as error:  # noqa: BLE001 (reported with each event, as Lambda does)
        handler = failing_handler(error, name.rpartition(".")[0])
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rw", encoding="utf-8") as lines:

        def send(message: dict[str, Any]) -> None:
            lines.write(json.dumps(message) + "\n")
            lines.flush()

        send({"ready": True})
        for line in lines:
            request = json.loads(line)
            request_id, started = request["request_id"], time.monotonic()
            version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
            print(f"START RequestId: {request_id} Version: {version}", flush=True)
            response = answer(handler, request["event"], LambdaContext(request_id, arn, request["deadline"]))
            # The parent waits for the END line: it is the last that belongs to this event.
            print(
                f"REPORT RequestId: {request_id}\tDuration: {(time.monotonic() - started) * 1000:.2f} ms\t"
                f"Memory Size: {os.environ['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']} MB\t"
                f"Max Memory Used: {most_memory()} MB\n"
                f"END RequestId: {request_id}",
                flush=True,
            )
            send(response)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
