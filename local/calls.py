"""What a request to AWS asks for, read as botocore's own models of AWS's APIs describe it."""

import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

SIGNATURE: Final = re.compile(r"Credential=(?P<key>[^/]+)/\d{8}/[^/]+/(?P<service>[^/]+)/aws4_request")
NAMES: Final = {"states": "stepfunctions", "monitoring": "cloudwatch"}
"""boto3's names of services that sign with another one."""
PLACEHOLDER: Final = re.compile(r"\\\{(\w+)(\\\+)?\\\}")


class UnknownCallError(Exception):
    """No operation of the service looks like this request."""


@dataclass(frozen=True)
class Request:
    """An HTTP request.

    Attributes:
        path: Without the query, decoded.
        query: Names and values, decoded.
        headers: By their names in lower case.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Call:
    """A call of an operation.

    Attributes:
        service: boto3's name of the service.
        operation: As the API calls it.
        parameters: By the API's names: those in address, query and headers, and a JSON body's.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any]


def service_of(authorization: str) -> str:
    """Return what service a request is signed for; of presigned addresses, all are S3's."""
    signature = SIGNATURE.search(authorization)
    return signature["service"] if signature else "s3"


def request_of(environ: "WSGIEnvironment") -> Request:
    """Return a request, whose body can still be read by others."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    # A large body is an object's, which says nothing of the call.
    body = b""
    if 0 < length <= 1 << 20:
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    return Request(
        method=environ["REQUEST_METHOD"],
        path=environ.get("PATH_INFO", "")
        .encode("latin-1")
        .decode(errors="replace"),  # WSGI's way to pass UTF-8
        query=dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)),
        headers=headers,
        body=body,
    )


def call_of(request: Request) -> Call:
    """Return what a signed request calls.

    Raises:
        UnknownCallError: It is not signed, or nothing known, or names calls in two ways.
    """
    signature = SIGNATURE.search(request.headers.get("authorization", ""))
    if signature is None:
        raise UnknownCallError("a request without a signature")
    service = NAMES.get(signature["service"], signature["service"])
    model = model_of(service)
    if model.protocol == "query":
        given = dict(parse_qsl(request.body.decode())) | dict(request.query)
        return Call(service, given.pop("Action", ""), given)
    # moto believes a header, a query and a form before the address, whatever the service.
    target = request.headers.get("x-amz-target")
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if (target and "targetPrefix" not in model.metadata) or "Action" in request.query or form:
        raise UnknownCallError(
            f"{service} {request.method} {request.path}, with another call named beside it"
        )
    if target:
        return Call(service, target.rpartition(".")[2], _document(request))
    operations = _by_method(service).get(request.method, [])
    matches = (match for operation in operations if (match := _matched(operation, request)))
    # The one that asks for the most: GetObject's address is that of GetObjectTagging without its query.
    best = max(matches, key=lambda match: match[0], default=None)
    if best is None:
        raise UnknownCallError(f"{service} {request.method} {request.path}")
    return best[1]


@cache
def model_of(service: str) -> ServiceModel:
    """Return botocore's model of a service.

    Raises:
        UnknownCallError: There is no such service.
    """
    loader = Loader()
    if service not in loader.list_available_services("service-2"):
        raise UnknownCallError(f"the service {service}")
    return ServiceModel(loader.load_service_model(service, "service-2"), service)


@cache
def _by_method(service: str) -> Mapping[str, list[OperationModel]]:
    model, found = model_of(service), defaultdict(list)
    for name in model.operation_names:
        operation = model.operation_model(name)
        if not operation.deprecated:  # it has a successor at the same address
            found[operation.http["method"]].append(operation)
    return found


def _matched(operation: OperationModel, request: Request) -> tuple[int, Call] | None:
    form, query = _address(operation)
    found = form.fullmatch(request.path)
    if not found or not query.items() <= request.query.items():
        return None
    given: dict[str, Any] = {}
    sources = {"uri": found.groupdict(), "querystring": request.query, "header": request.headers}
    demands = len(query)
    for member, location, key, needed in _members(operation):
        if key in sources[location]:
            given[member] = sources[location][key]
        elif needed:
            return None
        demands += needed
    if operation.service_model.protocol == "rest-json" and "payload" not in _input(operation):
        given |= _document(request)
    return demands, Call(operation.service_model.service_name, operation.name, given)


@cache
def _address(operation: OperationModel) -> tuple[re.Pattern[str], dict[str, str]]:
    # /{Bucket}/{Key+}?tagging: a plus takes slashes, too; what follows the question mark must be there.
    path, _, query = operation.http["requestUri"].partition("?")

    def group(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>.+)" if match[2] else f"(?P<{match[1]}>[^/]+)"

    return re.compile(PLACEHOLDER.sub(group, re.escape(path)) + "/?"), dict(parse_qsl(query, True))


@cache
def _members(operation: OperationModel) -> tuple[tuple[str, str, str, bool], ...]:
    return tuple(_read_members(operation))


def _read_members(operation: OperationModel) -> Iterator[tuple[str, str, str, bool]]:
    shape = operation.input_shape
    if shape is None:
        return
    for name, member in shape.members.items():
        location = member.serialization.get("location")
        if location in ("uri", "querystring", "header"):
            key = member.serialization.get("name", name)
            needed = name in shape.required_members
            yield name, location, key.lower() if location == "header" else key, needed


def _input(operation: OperationModel) -> Mapping[str, Any]:
    return operation.input_shape.serialization if operation.input_shape else {}


def _document(request: Request) -> dict[str, Any]:
    try:
        document = json.loads(request.body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
