"""EventBridge: rules that invoke functions or publish to topics, and Step Functions' own events."""

import json
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jsonpath_ng.ext
from jsonpath_ng.ext.parser import parse
from moto.awslambda.models import LambdaFunction, lambda_backends
from moto.events.models import Rule, events_backends
from moto.sns.models import sns_backends
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication

from local.gaps import Replacements
from local.settings import ACCOUNT_ID, REGION

logger = logging.getLogger(__name__)

Send = Callable[[LambdaFunction, object], None]


class EventsService:
    """moto's rules, with the targets and the events that it lacks.

    Args:
        send: Invokes a function asynchronously.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    def install(self, replacements: Replacements) -> None:
        """Replace what moto does with an event that matches, and at the end of an execution."""
        replacements.put(Rule, "send_to_targets", self._sending(Rule.send_to_targets))
        # moto makes the parser of a target's paths anew for each event: as much work as all the rest of it.
        replacements.put(jsonpath_ng.ext, "parse", cache(parse))
        communication = BaseExecutionWorkerCommunication
        replacements.put(communication, "terminated", _telling(communication.terminated))

    def strike(self) -> None:
        """Send the functions of hourly schedules what EventBridge sends them once an hour.

        https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
        """
        for rule in list(events_backends[ACCOUNT_ID][REGION].event_buses["default"].rules.values()):
            if rule.scheduled_expression != "rate(1 hour)" or rule.state != "ENABLED":
                continue
            event = {
                "version": "0",
                "id": str(uuid.uuid4()),
                "detail-type": "Scheduled Event",
                "source": "aws.events",
                "account": ACCOUNT_ID,
                "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "region": REGION,
                "resources": [rule.arn],
                "detail": {},
            }
            for target in rule.targets:
                self._invoke(target["Arn"], event)

    def _sending(self, original: Any) -> Any:
        # moto knows neither functions nor topics as targets, takes a schedule for a pattern of all, and does
        # what a disabled rule says.
        def send_to_targets(rule: Rule, event: Any, transform_input: bool = True) -> None:
            if rule.scheduled_expression or rule.state != "ENABLED":
                return
            ours = {"lambda": self._invoke, "sns": _publish}
            targets = rule.targets
            if rule.event_pattern.matches_event(event):
                for target in targets:
                    if deliver := ours.get(target["Arn"].split(":")[2]):
                        deliver(target["Arn"], event)
            rest = [target for target in targets if target["Arn"].split(":")[2] not in ours]
            if rest:
                rule.targets = rest
                try:
                    original(rule, event, transform_input)
                finally:
                    rule.targets = targets

        return send_to_targets

    def _invoke(self, arn: str, event: Any) -> None:
        self._send(lambda_backends[ACCOUNT_ID][REGION].get_function(arn), event)


def _publish(arn: str, event: Any) -> None:
    sns_backends[ACCOUNT_ID][REGION].publish(json.dumps(event), arn=arn)


def _telling(original: Any) -> Any:
    # moto tells nobody that an execution has ended. AWS does, with these fields and no error:
    # https://docs.aws.amazon.com/step-functions/latest/dg/cw-events.html
    def terminated(communication: BaseExecutionWorkerCommunication) -> None:
        original(communication)
        execution = communication.execution.to_describe_output()
        stopped = execution["stopDate"]
        detail = {
            "executionArn": execution["executionArn"],
            "stateMachineArn": execution["stateMachineArn"],
            "name": execution["name"],
            "status": str(execution["status"].value),
            "startDate": int(execution["startDate"].timestamp() * 1000),
            "stopDate": int(stopped.timestamp() * 1000) if stopped else None,
            "input": execution["input"],
            "output": execution.get("output"),
        }
        entry = {
            "Source": "aws.states",
            "DetailType": "Step Functions Execution Status Change",
            "Detail": json.dumps(detail),
            "Resources": [execution["executionArn"]],
        }
        try:
            events_backends[ACCOUNT_ID][REGION].put_events([entry])
        except Exception:  # whatever it is, the execution has ended; AWS delivers these by best effort, too
            logger.exception("The end of an execution was not told")

    return terminated
