"""Runs inside a Lambda worker process: imports the handler once, then answers events until the pipe closes.

The counterpart of the runtime interface client in AWS's images. It imports nothing of ours: the handler must
find the standard library, the dependencies and its own folder (the working directory), as it would under
``/var/task``.

Messages are JSON lines on the socket named by the first argument. From us: ``{"ready": true}`` once, then one
``{"payload", "error"}`` an event; to us: ``{"event", "request_id", "deadline"}``.

With a third argument, the place of the layers, it runs in the function's own Python, confined: it looks for
modules as Lambda does, leaves the lines around an event's log to whoever is outside, and answers with the
payload as text and the event's id.
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
    """Return an exception the way Lambda's Python runtime reports it, which leaves its own frame out."""
    trace = error.__traceback__ and error.__traceback__.tb_next
    return {
        "errorMessage": str(error),
        "errorType": error_type or type(error).__name__,
        "requestId": request_id,
        "stackTrace": traceback.format_tb(trace),
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


def answer(
    handler: Handler,
    event: object,
    context: LambdaContext,
    tell: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run one event; whatever it raises becomes an answer, too, which ``tell`` may log in Lambda's words."""
    try:
        result = handler(event, context)
    except InitializationError as error:
        return {
            "payload": error_document(error, context.aws_request_id, error.error_type),
            "error": "Unhandled",
        }
    except Exception as error:  # noqa: BLE001 (the runtime's job: any exception is the caller's to see)
        document = error_document(error, context.aws_request_id)
        if tell:
            tell(document)
        else:
            traceback.print_exc()
        return {"payload": document, "error": "Unhandled"}
    try:
        json.dumps(result)
    except (TypeError, ValueError) as error:
        message = TypeError(f"Unable to marshal response: {error}")
        document = error_document(message, context.aws_request_id, "Runtime.MarshalError")
        if tell:
            tell(document)
        return {"payload": document, "error": "Unhandled"}
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


def set_search_path(layers: str) -> None:
    """Have modules found as in Lambda; a PYTHONPATH of the function stands in for the layers' folders.

    https://docs.aws.amazon.com/lambda/latest/dg/python-package.html#python-package-searchpath
    """
    import site

    own = sys.path.pop(0)  # of this file, where the runtime's own packages are, too
    standard = sys.path[:]
    task = os.environ["LAMBDA_TASK_ROOT"]
    minor = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    folders = [f"{layers}/python/lib/{minor}/site-packages", f"{layers}/python"]
    folders = [task, *([] if "PYTHONPATH" in os.environ else folders)]
    # All of them first: code in `.pth` files finds the standard library; folders that they name come last.
    sys.path[:] = [*folders, *standard, own]
    for folder in folders:
        site.addsitedir(folder)
    # What `import site` gives every program; the machine's own packages, which it would give too, stay away.
    site.setquit()
    site.setcopyright()
    site.sethelper()


def failure_at_import(error: BaseException, name: str) -> dict[str, Any]:
    """Return why there is no handler, as Lambda's runtime tells it."""
    module = name.rpartition(".")[0]
    trace = traceback.format_tb(error.__traceback__)
    if isinstance(error, ImportError):
        kind, message, trace = "Runtime.ImportModuleError", f"Unable to import module '{module}': {error}", []
    elif isinstance(error, SyntaxError):
        kind, message = "Runtime.UserCodeSyntaxError", f"Syntax error in module '{module}': {error}"
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
    elif isinstance(error, HandlerMissingError):
        kind, message, trace = "Runtime.HandlerNotFound", str(error), []
    elif not module:
        kind, message, trace = "Runtime.MalformedHandlerName", f"Bad handler '{name}': {error}", []
    else:
        kind, message = type(error).__name__, str(error)
    return {"errorMessage": message, "errorType": kind, "requestId": "", "stackTrace": trace}


def print_error(document: dict[str, Any]) -> None:
    """Log an error's description as Lambda's runtime does: one event, its lines apart by carriage returns."""
    lines = [
        f"[ERROR] {document['errorType']}: {document['errorMessage']}",
        "Traceback (most recent call last):",
    ]
    for entry in document["stackTrace"]:
        lines += entry.splitlines()
    print("\r".join(lines), flush=True)


def main_confined(descriptor: int, arn: str, layers: str) -> None:
    """Import the function's module and answer events until the other side closes.

    Args:
        descriptor: Of the socket.
        arn: The function's.
        layers: Where they are.
    """
    os.set_inheritable(descriptor, False)
    connection = socket.socket(fileno=descriptor)
    lines = connection.makefile("rw", encoding="utf-8", errors="surrogatepass")

    def send(message: dict[str, Any]) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    # The time that it took to get here counts, too.
    send({"started": time.monotonic() - time.process_time()})
    set_search_path(layers)
    name = os.environ["_HANDLER"]
    handler, failed = None, None
    try:
        handler = find_handler(name)
    except Exception as error:  # noqa: BLE001 (reported with each event, as Lambda does)
        failed = failure_at_import(error, name)
        print_error(failed)
    send({"ready": True})
    for line in lines:
        request = json.loads(line)
        request_id, context = (
            request["request_id"],
            LambdaContext(request["request_id"], arn, request["deadline"]),
        )
        if handler is None:
            response: dict[str, Any] = {"payload": failed, "error": "Unhandled"}
        else:
            response = answer(handler, request["event"], context, print_error)
        for stream in (sys.stdout, sys.stderr):
            if stream and not stream.closed:  # by the function's code
                stream.flush()
        payload = json.dumps(response["payload"])
        send({"request_id": request_id, "payload": payload, "error": response["error"]})


if __name__ == "__main__":
    if len(sys.argv) > 3:
        main_confined(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    else:
        main(int(sys.argv[1]), sys.argv[2])
