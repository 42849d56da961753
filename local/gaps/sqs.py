"""SQS: queues that functions take their messages from, by event source mappings of Lambda.

moto invokes the function within SendMessage, with as many messages as there are at that moment, and puts
back at once what failed.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from moto.awslambda.models import EventSourceMapping, LambdaBackend, LambdaFunction, lambda_backends
from moto.sqs.models import Queue, sqs_backends

from local.clients import Clients
from local.gaps import Replacements
from local.lambda_runtime import Answer, ShutDownError
from local.settings import ACCOUNT_ID, REGION

logger = logging.getLogger(__name__)

LONGEST_WINDOW: Final = 0.5
"""Seconds for which messages are gathered, at most; AWS takes the whole of the mapping's window."""
RETRY_SECONDS: Final = 0.2
"""Before messages are seen again whose function has failed. AWS waits for the queue's visibility timeout."""
RECEIVED_AT_ONCE: Final = 10
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html"""

Invoke = Callable[[LambdaFunction, object], Answer]


class SqsService:
    """moto's queues, and what takes messages from them for functions.

    Args:
        clients: Clients of the embedded AWS: each mapping calls with the role of its function.
        invoke: Invokes a function and waits for its answer.
    """

    def __init__(self, clients: Clients, invoke: Invoke) -> None:
        self._clients = clients
        self._invoke = invoke
        self._pollers: dict[str, list[_Poller]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def install(self, replacements: Replacements) -> None:
        """Replace what moto does with a mapping, and have it tell of messages."""
        create = LambdaBackend.create_event_source_mapping
        replacements.put(LambdaBackend, "create_event_source_mapping", self._creating(create))
        replacements.put(Queue, "add_message", self._adding(Queue.add_message))

    def close(self) -> None:
        """Take no more messages, and wait for the invocations under way."""
        with self._lock:
            self._stopped = True
            pollers = [poller for of_queue in self._pollers.values() for poller in of_queue]
        for poller in pollers:
            poller.stop()
        for poller in pollers:
            poller.join()

    def _creating(self, original: Any) -> Any:
        def create_event_source_mapping(backend: LambdaBackend, spec: dict[str, Any]) -> EventSourceMapping:
            mapping: EventSourceMapping = original(backend, spec)
            queue = sqs_backends[ACCOUNT_ID][REGION].get_queue(mapping.event_source_arn.rpartition(":")[2])
            # So that moto does not do it.
            queue.lambda_event_source_mappings.pop(mapping.function_arn, None)
            most = int((mapping.scaling_config or {}).get("MaximumConcurrency", 2))
            with self._lock:
                if not self._stopped:
                    pollers = [_Poller(mapping, queue, self._clients, self._invoke) for _ in range(most)]
                    self._pollers.setdefault(mapping.event_source_arn, []).extend(pollers)
                    for poller in pollers:
                        poller.start()
            return mapping

        return create_event_source_mapping

    def _adding(self, original: Any) -> Any:
        def add_message(queue: Queue, message: Any) -> None:
            original(queue, message)
            for poller in self._pollers.get(queue.queue_arn, ()):
                poller.look()

        return add_message


class _Poller:
    """Takes messages of one queue for one function: one of as many as may be at it at once."""

    def __init__(self, mapping: EventSourceMapping, queue: Queue, clients: Clients, invoke: Invoke) -> None:
        self._mapping = mapping
        self._queue = queue
        self._invoke = invoke
        self._url = f"{clients.get('sqs').meta.endpoint_url}/{ACCOUNT_ID}/{queue.name}"
        self._function: LambdaFunction = lambda_backends[ACCOUNT_ID][REGION].get_function(
            mapping.function_arn
        )
        self._sqs = clients.of_role(str(self._function.role)).get("sqs")
        self._window = min(float(mapping.max_batch_window or 0), LONGEST_WINDOW)
        self._stop = threading.Event()
        self._work = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event source mapping")
        # Lambda asks this of each queue.
        self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["VisibilityTimeout"])

    def start(self) -> None:
        self._thread.start()

    def look(self) -> None:
        self._work.set()

    def stop(self) -> None:
        self._stop.set()
        self._work.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._work.wait()
            if self._stop.wait(self._window):
                return
            self._work.clear()
            try:
                while not self._stop.is_set() and (messages := self._receive()):
                    self._handle(messages)
            except ShutDownError:
                return
            except Exception:  # as the service would: it goes on, and what it took is seen again some day
                logger.exception("Messages for a function were not handled")

    def _receive(self) -> list[Mapping[str, Any]]:
        """All that is there, up to the mapping's batch."""
        found: list[Mapping[str, Any]] = []
        while len(found) < self._mapping.batch_size:
            most = min(RECEIVED_AT_ONCE, self._mapping.batch_size - len(found))
            answer = self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=most, MessageSystemAttributeNames=["All"]
            )
            if not answer.get("Messages"):
                break
            found += answer["Messages"]
        return found

    def _handle(self, messages: Sequence[Mapping[str, Any]]) -> None:
        answer = self._invoke(self._function, {"Records": [self._record(message) for message in messages]})
        if not answer.error:
            for first in range(0, len(messages), RECEIVED_AT_ONCE):
                entries = [
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages[first : first + RECEIVED_AT_ONCE])
                ]
                self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
            return
        if self._stop.wait(RETRY_SECONDS):
            return
        backend = sqs_backends[ACCOUNT_ID][REGION]
        for message in messages:
            backend.change_message_visibility(self._queue.name, message["ReceiptHandle"], 0)

    def _record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        # https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._mapping.event_source_arn,
            "awsRegion": REGION,
        }
