"""Asynchronous invocation: accepted at once, tried up to three times, then given to the on-failure queue.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

import json
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from local.lambda_runtime import Answer, Function, ShutDownError

logger = logging.getLogger(__name__)

RETRY_DELAYS: Final = (0.2, 0.4)
"""Seconds before the second and the third try. AWS waits one and two minutes."""

SendMessage = Callable[[str, str, str, Mapping[str, str]], None]
"""Takes the ARNs of the sender's role and of a queue or a function, a body and string attributes."""


@dataclass(frozen=True)
class FailureHandling:
    """A function's EventInvokeConfig and DeadLetterConfig, as far as they are followed here.

    ``retries`` is 0 to 2; ``destination`` is the ARN of an SQS queue or a function, ``dead_letters`` that
    of a queue, or None.
    """

    retries: int = 2
    destination: str | None = None
    dead_letters: str | None = None


class AsyncInvocations:
    """Events on their way to functions whose callers did not wait."""

    def __init__(self, invoke: Callable[[Function, object, str], Answer], send_message: SendMessage) -> None:
        self._invoke = invoke
        self._send_message = send_message
        self._stop = threading.Event()
        self._accepting = threading.Lock()
        self._threads = ThreadPoolExecutor(32, thread_name_prefix="asynchronous invocation")

    def accept(self, function: Function, event: object, handling: FailureHandling) -> None:
        """Take an event; what becomes of it shows only in what the function does, or at the destination.

        One that comes after ``close`` is dropped.
        """
        with self._accepting:
            if not self._stop.is_set():
                delivery = self._threads.submit(self._deliver, function, event, handling)
                delivery.add_done_callback(_log_failure)

    def close(self) -> None:
        """Drop what was not tried yet and wait for the tries under way."""
        with self._accepting:
            self._stop.set()
        self._threads.shutdown(cancel_futures=True)

    def _deliver(self, function: Function, event: object, handling: FailureHandling) -> None:
        request_id = str(uuid.uuid4())  # the same at each try
        answer = Answer("null", None)
        for attempt in range(1 + handling.retries):
            if attempt and self._stop.wait(RETRY_DELAYS[attempt - 1]):
                return
            try:
                answer = self._invoke(function, event, request_id)
            except ShutDownError:
                return
            if not answer.error:
                return
        if handling.destination:
            record = failure_record(function, event, answer, request_id, 1 + handling.retries)
            self._send_message(function.role, handling.destination, json.dumps(record), {})
        if handling.dead_letters:
            reason = json.loads(answer.payload).get("errorMessage", "")
            attributes = {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": reason[:1024]}
            self._send_message(function.role, handling.dead_letters, json.dumps(event), attributes)


def _log_failure(delivery: "Future[None]") -> None:
    if not delivery.cancelled() and (error := delivery.exception()):
        logger.error("An asynchronous invocation was lost", exc_info=error)


def failure_record(
    function: Function, event: object, answer: Answer, request_id: str, tries: int
) -> dict[str, Any]:
    """Return what Lambda sends to an on-failure destination.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    return {
        "version": "1.0",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{function.arn}:{function.version}",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": tries,
        },
        "requestPayload": event,
        "responseContext": {
            "statusCode": 200,
            "executedVersion": function.version,
            "functionError": answer.error,
        },
        "responsePayload": json.loads(answer.payload),
    }
