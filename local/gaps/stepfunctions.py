"""Step Functions: batch:submitJob.sync as AWS runs it, and calls to the other services without overhead."""

# ruff: noqa: SLF001 (replacing moto's insides is what this module is for)
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, lru_cache
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from moto.core.config import default_user_config
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task.credentials import StateCredentials
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_callback as callback,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_batch import (
    StateTaskServiceBatch,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import boto_client, json_path
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.parser.models import StepFunctionsParserBackend, stepfunctions_parser_backends
from moto.stepfunctions.parser.utils import TMP_THREADS

from local.clients import Clients
from local.gaps import Replacements
from local.gaps.batch import LocalJob, job_by_id
from local.settings import ACCOUNT_ID, REGION

DEFINITIONS: Final = 16
"""Of state machines that are kept parsed."""
HISTORIES = 500
"""Of executions that have ended, the newest, are kept, 0.1 MB each. AWS keeps all of them, for 90 days."""
WATCH_SECONDS: Final = 10.0
"""Then it is looked again; the ends of the job, of its time and of the execution are told at once."""


class StepFunctionsService:
    """moto's ASL interpreter, switched on, less the differences to AWS that matter here."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._stopping = threading.Event()
        self._ended: deque[Execution] = deque()

    def install(self, replacements: Replacements) -> None:
        """Replace what moto does in tasks and at the start of an execution."""
        put, batch = replacements.put, StateTaskServiceBatch
        put(default_user_config, "stepfunctions", {"execute_state_machine": True})
        # moto reads each path anew each time, which takes longer than all else that a state does.
        for module in (json_path, result_path):
            put(module, "parse", cache(module.parse))
        # And each definition anew for each execution, 0.1 s of it. Running does not change what it parses to:
        # attempts and the like are in an execution's environment, as a Map's items share the one, too.
        parse = staticmethod(lru_cache(DEFINITIONS)(AmazonStateLanguageParser.parse))
        put(AmazonStateLanguageParser, "parse", parse)
        # moto makes a boto3 client a task, out of the developer's own profile; slow, and not thread-safe.
        put(boto_client, "boto3", _SharedClients(self._clients))
        # And makes calls in nobody's name; AWS makes them in that of the state machine's role.
        for module in _users_of_clients():
            put(module, "boto_client_for", self._client)
        put(batch, "_normalise_parameters", _parameters_to_boto)
        put(batch, "_normalise_response", _response_from_boto)
        put(batch, "_build_sync_resolver", _watching(batch._build_sync_resolver, self._clients))
        put(batch, "_eval_sync", _terminating(batch._eval_sync))
        for end in ("set_ended", "set_stop", "set_error", "set_timed_out"):
            put(Environment, end, _told(getattr(Environment, end)))
        # The resolver waits by itself.
        put(callback, "_DELAY_SECONDS_SYNC_CONDITION_CHECK", 0)
        # The end of the embedded AWS does not wait for a retry.
        put(retrier_decl, "time", SimpleNamespace(sleep=self._stopping.wait))
        put(Execution, "get_start_execution_details", _with_text(Execution.get_start_execution_details))
        put(Execution, "__init__", _running(Execution.__init__))
        put(Execution, "stop", _remembered(Execution.stop))
        put(ExecutionWorker, "start", _stoppable(ExecutionWorker.start))
        communication = BaseExecutionWorkerCommunication
        put(communication, "terminated", self._forgetting(_aborted(communication.terminated)))
        backend = StepFunctionsParserBackend
        put(backend, "start_execution", _named(backend.start_execution))

    def _client(self, service: str, state_credentials: StateCredentials, **_region: str) -> Any:
        return self._clients.of_role(state_credentials.role_arn).get(service)

    def _forgetting(self, original: Any) -> Any:
        # moto keeps every history, and grows with each upload.
        def terminated(communication: BaseExecutionWorkerCommunication) -> None:
            original(communication)
            self._ended.append(communication.execution)
            while len(self._ended) > HISTORIES:
                with suppress(IndexError):  # another thread was there first
                    worker: Any = self._ended.popleft().exec_worker
                    worker.env.event_manager._history_event_list.clear()

        return terminated

    def stop(self) -> None:
        """Stop every running execution."""
        self._stopping.set()
        for machine in stepfunctions_parser_backends[ACCOUNT_ID][REGION].state_machines:
            for execution in machine.executions:
                if isinstance(execution, Execution) and execution.status == ExecutionStatus.RUNNING:
                    execution.stop(stop_date=datetime.now(UTC), error=None, cause=None)

    def join(self, seconds: float) -> None:
        """Wait until the executions have noticed."""
        deadline = time.monotonic() + seconds
        for thread in TMP_THREADS:
            thread.join(max(0, deadline - time.monotonic()))
        TMP_THREADS.clear()


class _SharedClients:
    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def client(self, *, service_name: str, **_options: object) -> Any:
        return self._clients.get(service_name)


def _users_of_clients() -> list[ModuleType]:
    inside = "moto.stepfunctions.parser.asl.component."
    modules = [module for name, module in sys.modules.items() if name.startswith(inside)]
    return [module for module in modules if "boto_client_for" in vars(module)]


# The parameters of a task begin with capitals whatever the service; those of Batch's API do not, and moto
# sends them as they are. https://docs.aws.amazon.com/step-functions/latest/dg/connect-batch.html
def _parameters_to_boto(
    task: StateTaskServiceBatch,
    parameters: dict[str, Any],
    boto_service_name: str | None = None,
    service_action_name: str | None = None,
) -> None:
    task._to_boto_request(parameters, _operation(task, boto_service_name, service_action_name).input_shape)


def _response_from_boto(
    task: StateTaskServiceBatch,
    response: Any,
    boto_service_name: str | None = None,
    service_action_name: str | None = None,
) -> None:
    task._from_boto_response(response, _operation(task, boto_service_name, service_action_name).output_shape)


def _operation(task: StateTaskServiceBatch, service: str | None, action: str | None) -> Any:
    model = boto_client.boto_client_for(REGION, task._get_boto_service_name(service)).meta.service_model
    method = task._get_boto_service_action(action)
    return model.operation_model(next(name for name in model.operation_names if xform_name(name) == method))


class _JobWatch:
    """What moto calls again and again until it returns the finished job, or raises its failure."""

    def __init__(
        self, job: LocalJob, describe: Callable[[], Any], clients: Clients, env: Environment
    ) -> None:
        self._job = job
        self._describe = describe
        self._clients = clients
        self._told = threading.Event()
        job.when_finished(self._told.set)
        vars(env)["when_over"] = self._told.set

    def __call__(self) -> Any:
        self._told.wait(WATCH_SECONDS)
        return self._describe() if self._job.finished.is_set() else None

    def terminate(self, reason: str) -> None:
        """End the job unless it has ended."""
        if not self._job.finished.is_set():
            # Refused, or the embedded AWS is at its end: then the job is ended otherwise, or runs on.
            with suppress(BotoCoreError, ClientError):
                self._clients.batch.terminate_job(jobId=self._job.job_id, reason=reason)


def _watching(original: Any, clients: Clients) -> Any:
    # moto asks for each job's state every half second.
    def build(
        task: StateTaskServiceBatch, env: Environment, state_credentials: StateCredentials, **rest: Any
    ) -> _JobWatch:
        job = job_by_id(env.stack[-1]["JobId"])
        describe = original(task, env=env, state_credentials=state_credentials, **rest)
        return _JobWatch(job, describe, clients.of_role(state_credentials.role_arn), env)

    return build


def _told(original: Any) -> Any:
    # moto has whoever waits for a job look now and then whether the execution goes on.
    def end(env: Environment, *args: Any, **kwargs: Any) -> None:
        original(env, *args, **kwargs)
        vars(env).get("when_over", bool)()

    return end


def _terminating(original: Any) -> Any:
    # moto lets the job run on when the task times out or the execution is stopped; Step Functions terminates
    # it: https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-sync
    def eval_sync(task: StateTaskServiceBatch, sync_resolver: _JobWatch, **rest: Any) -> Any:
        try:
            return original(task, sync_resolver=sync_resolver, **rest)
        finally:
            sync_resolver.terminate("Step Functions stopped the task that waited for this job")

    return eval_sync


def _with_text(original: Any) -> Any:
    # moto puts a datetime object into the context object, where AWS has text.
    def details(execution: Execution) -> Any:
        described = original(execution)
        described.start_time = execution.start_date.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return described

    return details


def _running(original: Any) -> Any:
    # moto's has no status between being listed and being started.
    def init(execution: Execution, *args: Any, **kwargs: Any) -> None:
        original(execution, *args, **kwargs)
        execution.exec_status = ExecutionStatus.RUNNING

    return init


def _stoppable(original: Any) -> Any:
    # moto makes what a stop acts on in the execution's thread, and cannot stop one whose thread is late.
    def start(worker: ExecutionWorker) -> None:
        environment = worker.env = worker._get_evaluation_environment()
        vars(worker)["_get_evaluation_environment"] = lambda: environment
        original(worker)

    return start


def _remembered(original: Any) -> Any:
    def stop(execution: Execution, *args: Any, **kwargs: Any) -> None:
        vars(execution)["was_stopped"] = True
        original(execution, *args, **kwargs)

    return stop


def _aborted(original: Any) -> Any:
    # moto calls an execution FAILED when its stop makes the task under way fail.
    def terminated(communication: BaseExecutionWorkerCommunication) -> None:
        original(communication)
        execution = communication.execution
        if vars(execution).get("was_stopped") and execution.exec_status == ExecutionStatus.FAILED:
            execution.exec_status, execution.error, execution.cause = ExecutionStatus.ABORTED, None, None

    return terminated


def _named(original: Any) -> Any:
    # moto takes any name, and in a race twice the same.
    one_by_one = threading.Lock()

    def start_execution(
        backend: StepFunctionsParserBackend, state_machine_arn: str, name: str | None = None, *rest: Any
    ) -> Any:
        if name is not None:
            backend._validate_name(name)
        with one_by_one:
            # moto keeps them for ever.
            TMP_THREADS[:] = [thread for thread in TMP_THREADS if thread.is_alive()]
            return original(backend, state_machine_arn, name, *rest)

    return start_execution
