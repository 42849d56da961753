"""Who may do what on the embedded AWS: each call of a role is held against its policies, and noted.

A function's handler, a job and a state machine sign with the key of their role, which the gate before this
has checked. The account's owner may do everything. (On AWS a bucket's policy binds the
owner, too.)
"""

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from moto.iam.models import Role, iam_backends
from moto.logs.models import logs_backends
from moto.s3.models import s3_backends

from local.calls import Call, UnknownCallError, call_of, request_of
from local.errors import CallError, answer
from local.gate import ROLE
from local.permissions import Permission, UnknownPermissionError, permissions_of, told_of_missing
from local.policies import PolicyError, Statement, denials_of, is_allowed, statements_of
from local.settings import ACCOUNT_ID, REGION

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Authorization:
    """Lets calls through that their caller may make.

    Attributes:
        used: What roles were allowed, by their names.
        refused: What they were not, and the reason.
    """

    def __init__(self, application: "WSGIApplication") -> None:
        self._application = application
        self._lock = threading.Lock()
        self._read: dict[str, list[Statement]] = {}
        self._denials: dict[str, list[Statement]] = {}
        self.used: set[tuple[str, Permission]] = set()
        self.refused: list[tuple[str, str]] = []

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        name = environ[ROLE]
        if name is None:
            return self._application(environ, start_response)
        try:
            role = _role(name)
            call = call_of(request_of(environ))
            missing = [wanted for wanted in permissions_of(call) if not self._allows(role, wanted)]
        except (UnknownCallError, UnknownPermissionError, UnknownRoleError, PolicyError) as error:
            # Whoever adds a call to Layerdrop says in local/permissions.py what it takes.
            why = f"what local/permissions.py or local/policies.py does not know: {error}"
            return self._refuse(name, why, environ, start_response)
        if missing:
            return self._refuse(name, _words(missing[0]), environ, start_response)
        return self._pass_on(role, call, environ, start_response)

    def _pass_on(
        self,
        role: Role,
        call: Call,
        environ: "WSGIEnvironment",
        start_response: "StartResponse",
    ) -> Iterable[bytes]:
        listing = told_of_missing(call)
        if listing is None:
            return self._application(environ, start_response)
        answers: list[Any] = []

        def keep(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            answers.append((status, headers, *rest))
            return None

        body = self._application(environ, keep)
        status, headers, *rest = answers[0]
        if status.startswith("404") and not self._allows(role, listing):
            if hasattr(body, "close"):
                body.close()
            return self._refuse(role.name, _words(listing), environ, start_response, expected=True)
        start_response(status, headers, *rest)
        return body

    def _allows(self, role: Role, wanted: Permission) -> bool:
        allowed = is_allowed(wanted, self.statements(role)) and not self._is_denied(wanted)
        if allowed:
            with self._lock:
                self.used.add((role.name, wanted))
        return allowed

    def _is_denied(self, wanted: Permission) -> bool:
        """Whether the policy of the bucket that it is about says no."""
        name = wanted.resource.removeprefix("arn:aws:s3:::").partition("/")[0]
        bucket = s3_backends[ACCOUNT_ID]["aws"].buckets.get(name)
        if not wanted.action.startswith("s3:") or bucket is None or not bucket.policy:
            return False
        text = bucket.policy if isinstance(bucket.policy, str) else bucket.policy.decode()
        if text not in self._denials:
            self._denials[text] = denials_of(json.loads(text))
        # The loopback stands in for TLS.
        asked = replace(wanted, context=(*wanted.context, ("aws:securetransport", "true")))
        return any(statement.applies_to(asked) for statement in self._denials[text])

    def may_log(self, role: str, group: str) -> bool:
        """Tell whether a function with this role, by its ARN, gets its log written.

        https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-permissions.html
        """
        place = f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{group}"
        wanted = [
            Permission("logs:CreateLogStream", f"{place}:*"),
            Permission("logs:PutLogEvents", f"{place}:log-stream:*"),
        ]
        if group not in logs_backends[ACCOUNT_ID][REGION].groups:
            wanted.append(Permission("logs:CreateLogGroup", f"{place}:*"))
        try:
            statements = self.statements(_role(role.rpartition("/")[2]))
        except (UnknownRoleError, PolicyError):
            return False
        return all(is_allowed(one, statements) for one in wanted)

    def statements(self, role: Role) -> list[Statement]:
        """Return all statements of a role's policies."""
        texts = [
            *role.policies.values(),
            *(str(vars(policy)["document"]) for policy in role.managed_policies.values()),
        ]
        found = []
        for text in texts:
            if text not in self._read:
                self._read[text] = statements_of(json.loads(text))
            found += self._read[text]
        return found

    def _refuse(
        self,
        role: str,
        why: str,
        environ: "WSGIEnvironment",
        start_response: "StartResponse",
        expected: bool = False,
    ) -> Iterable[bytes]:
        if not expected:
            with self._lock:
                self.refused.append((role, why))
        code = "AccessDenied" if "/s3/" in environ.get("HTTP_AUTHORIZATION", "") else "AccessDeniedException"
        message = f"User: arn:aws:iam::{ACCOUNT_ID}:role/{role} is not authorized to perform: {why}"
        return answer(CallError(HTTPStatus.FORBIDDEN, code, message), environ, start_response)


class UnknownRoleError(Exception):
    """There is no such role: it was deleted, or never made."""


def _role(name: str) -> Role:
    for role in list(iam_backends[ACCOUNT_ID]["aws"].roles.values()):
        if role.name == name:
            return role
    raise UnknownRoleError(f"the role {name}")


def _words(wanted: Permission) -> str:
    return f"{wanted.action} on resource: {wanted.resource}"
