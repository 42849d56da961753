"""The lines that Lambda itself writes around what a function prints, and the end of a log for Invoke.

https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
"""

import base64
import math
import signal
from typing import Final

TAIL_BYTES: Final = 4096
"""https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html, LogResult"""


def start_line(request_id: str, version: str) -> str:
    """Return the line before an event's log."""
    return f"START RequestId: {request_id} Version: {version}"


def end_lines(
    request_id: str,
    milliseconds: float,
    memory: int,
    used: int,
    init_ms: float | None = None,
    status: str = "",
) -> list[str]:
    """Return the lines after an event's log.

    Args:
        request_id: The event's.
        milliseconds: How long the handler took.
        memory: The function's memory in MiB.
        used: The most that its process has ever held, in MiB.
        init_ms: How long the import of its module took, with a worker's first event; it is billed as well:
            https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/
        status: How it ended if not well, as Lambda words it: ``timeout``, ``error\\tError Type: …``.
    """
    billed = math.ceil(milliseconds + (init_ms or 0.0))
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {milliseconds:.2f} ms",
        f"Billed Duration: {billed} ms",
        f"Memory Size: {memory} MB",
        f"Max Memory Used: {used} MB",
        *([] if init_ms is None else [f"Init Duration: {init_ms:.2f} ms"]),
        *([f"Status: {status}"] if status else []),
    ]
    return [f"END RequestId: {request_id}", "\t".join(fields) + "\t"]


def tail(text: str) -> str:
    """Return the last 4 KB of a log, base64."""
    return base64.b64encode(text.encode("utf-8", "replace")[-TAIL_BYTES:]).decode()


def exit_reason(code: int | None) -> str:
    """Return how Lambda words the end of a process with this return code; negative is a signal's number.

    Signals have the names that the C library gives them: ``segmentation fault``.
    """
    if not code:
        return "Runtime exited without providing a reason"
    if code > 0:
        return f"Runtime exited with error: exit status {code}"
    name = signal.strsignal(-code) or f"signal {-code}"
    return f"Runtime exited with error: signal: {name.lower()}"
