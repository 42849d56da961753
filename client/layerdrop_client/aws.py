"""Every call to AWS."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from layerdrop_client import history
from layerdrop_client.keys import PREFIX, is_input, manifest_key, vulnerabilities_key
from layerdrop_client.manifests import Manifest
from layerdrop_client.problems import CommandError
from layerdrop_client.syncing import Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import timedelta

    from layerdrop_client.place import Place

Item = TypeVar("Item")
Result = TypeVar("Result")

CLAIMS = "claims/"
POINTERS = "/layerdrop/"
AT_ONCE = 16
"""Requests at the same time, at most."""
_MOST_BYTES = 64 * 1024 * 1024
_DENIED = ("AccessDenied", "AccessDeniedException", "403")
# 412: the condition does not hold; 409: another write is under way; 404: there is nothing any more.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
_LOST_RACE = (404, 409, 412)


@dataclass(frozen=True)
class Claim:
    """Whose a layer's name is.

    Attributes:
        key: The input that has it; None if it is nobody's, or cannot be read.
        readable: Whether the claim is one.
        until: Until when somebody may be publishing under it, in seconds since the epoch.
        etag: Of the claim as it was read.
        lease: As the claim has it.
    """

    key: str | None
    readable: bool
    until: float
    etag: str
    lease: Any


@dataclass(frozen=True)
class UsingFunction:
    """A function and the versions of layers that it has, by the layers' ARNs."""

    name: str
    layers: Mapping[str, int]


class Aws:
    """One stack's bucket, layers and executions; looked for when it is first needed.

    Args:
        place: Which account, region and stack.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._session = boto3.Session(profile_name=place.profile, region_name=place.region)
        self._made: dict[str, Any] = {}

    @property
    def bucket(self) -> str:
        """Where files and manifests are.

        Raises:
            CommandError: STACK_NOT_FOUND.
        """
        return self._outputs["Bucket"]

    @property
    def state_machine(self) -> str:
        """The state machine's ARN.

        Raises:
            CommandError: STACK_NOT_FOUND.
        """
        return self._outputs["StateMachine"]

    def _client(self, service: str) -> Any:
        if service not in self._made:
            # An address of one's own is no domain with a name for each bucket.
            s3: Any = {"addressing_style": "path"} if self.place.endpoint_url else {}
            config = Config(
                max_pool_connections=AT_ONCE, retries={"mode": "standard", "total_max_attempts": 6}, s3=s3
            )
            self._made[service] = self._session.client(
                service, endpoint_url=self.place.endpoint_url, config=config
            )  # type: ignore[call-overload]
        return self._made[service]

    @cached_property
    def _outputs(self) -> dict[str, str]:
        client, name = self._client("cloudformation"), self.place.stack
        where = f"in {client.meta.region_name}" + (
            f" at {client.meta.endpoint_url}" if self.place.endpoint_url else ""
        )
        hint = (
            "Name it with --stack or LAYERDROP_STACK, and its region with --region; `make deploy` makes one."
        )
        try:
            [stack] = client.describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":  # "… does not exist"
                raise
            raise CommandError("STACK_NOT_FOUND", f"There is no stack {name} {where}.", hint) from error
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}
        if not {"Bucket", "StateMachine"} <= outputs.keys():
            raise CommandError(
                "STACK_NOT_FOUND", f"The stack {name} {where} is not one of Layerdrop's.", hint
            )
        return outputs

    # ------------------------------------------------------------ files and their answers

    def upload(self, key: str, content: bytes) -> str:
        """Put an input into the bucket; return its version's id."""
        stored = self._client("s3").put_object(
            Bucket=self.bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256"
        )
        return str(stored["VersionId"])

    def stored(self, key: str) -> Stored | None:
        """What the bucket has under a key."""
        try:
            head = self._client("s3").head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if _status(error) != 404:
                raise
            return None
        return Stored(
            head["VersionId"], head["ETag"].strip('"'), head.get("ChecksumSHA256"), head["LastModified"]
        )

    def inputs(self) -> list[str]:
        """The keys of all inputs."""
        return [key for key in self._keys(PREFIX) if is_input(key)]

    def delete(self, key: str) -> None:
        """Delete an input; the bucket keeps its versions for a while."""
        self._client("s3").delete_object(Bucket=self.bucket, Key=key)

    def content(self, key: str, version_id: str) -> bytes | None:
        """An input as it was uploaded; None if that version is gone."""
        return self._read(key, VersionId=version_id)

    def manifest(self, key: str) -> Manifest | None:
        """What lies beside an input; None if it is no manifest of that input."""
        content = self._read(manifest_key(key))
        found = Manifest.read(content) if content is not None else None
        return found if found and found.key == key else None

    def findings(self, key: str, name: str, version: int) -> list[Mapping[str, Any]]:
        """What the watch knows against a version of a layer, the worst first; empty without a watch, too."""
        try:
            document = json.loads(self._read(vulnerabilities_key(key)) or b"null")
        except (ValueError, RecursionError):
            document = None
        match document:
            case {"layers": {**layers}}:
                match layers.get(name):
                    case {"version": int() as watched, "findings": [*found]} if watched == version:
                        return [one for one in found if isinstance(one, dict)]
        return []

    def manifests(self, key: str) -> Iterator[Manifest]:
        """All that are kept of an input, the newest first."""
        wanted = manifest_key(key)
        pages = (
            self._client("s3")
            .get_paginator("list_object_versions")
            .paginate(Bucket=self.bucket, Prefix=wanted)
        )
        listed = [one for page in pages for one in page.get("Versions", ()) if one["Key"] == wanted]
        for one in sorted(listed, key=lambda one: one["LastModified"], reverse=True):
            content = self._read(wanted, VersionId=one["VersionId"])
            if content is not None and (found := Manifest.read(content)) and found.key == key:
                yield found

    def _keys(self, prefix: str) -> list[str]:
        pages = (
            self._client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        )
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def _read(self, key: str, most: int = _MOST_BYTES, **which: str) -> bytes | None:
        try:
            response = self._client("s3").get_object(Bucket=self.bucket, Key=key, **which)
        except ClientError as error:
            if _status(error) != 404:
                raise
            return None
        with response["Body"] as body:
            return bytes(body.read(most))

    # ------------------------------------------------------------ the catalogue

    @property
    def catalogue_address(self) -> str | None:
        """Where CloudFront shows the catalogue; None if nothing but the bucket has it."""
        address = self._outputs.get("Catalogue", "")
        return address if address.startswith("https://") else None

    def is_there(self, key: str) -> bool:
        """Whether the bucket has an object."""
        return self.stored(key) is not None

    def presigned(self, key: str, good_for: timedelta) -> str:
        """An address that an object can be read at for a while, by whoever has it."""
        # Signed as of old, S3 would refuse it in new regions and for encrypted objects.
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
        # And asked elsewhere than in the bucket's region, it would send whoever asks there, where nothing is
        # signed; boto3 goes there by itself with this style of addresses alone.
        s3: Any = {"addressing_style": "path" if self.place.endpoint_url else "virtual"}
        client = self._session.client(
            "s3",
            endpoint_url=self.place.endpoint_url,
            config=Config(signature_version="s3v4", s3=s3),
        )
        return str(
            client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self.bucket, "Key": key},
                ExpiresIn=int(good_for.total_seconds()),
            )
        )

    def fetch(self, key: str, most: int) -> bytes | None:
        """An object's bytes as they are kept, up to so many; None if there is none."""
        return self._read(key, most)

    # ------------------------------------------------------------ layers

    def layer_names(self) -> list[str]:
        """The names of all layers that were ever asked for."""
        return [key.removeprefix(CLAIMS).removesuffix(".json") for key in self._keys(CLAIMS)]

    def claim(self, name: str) -> Claim | None:
        """Whose a layer's name is; None if nobody ever asked for it."""
        try:
            response = self._client("s3").get_object(Bucket=self.bucket, Key=f"{CLAIMS}{name}.json")
        except ClientError as error:
            if _status(error) != 404:
                raise
            return None
        with response["Body"] as body:
            content = body.read(_MOST_BYTES)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        match document:
            case {"key": str() | None as key, "lease": {"until": int() | float() as until} as lease}:
                return Claim(key, True, until, response["ETag"], lease)
            case {"key": str() | None as key, "lease": None}:
                return Claim(key, True, 0.0, response["ETag"], None)
        return Claim(None, False, 0.0, response["ETag"], None)

    def unclaim(self, name: str, claim: Claim) -> bool:
        """Make a name nobody's if its claim is still the one that was read; say whether it was.

        The object stays: what the stack has made is known by its claims.
        """
        document = {"schema": "layerdrop/claim/1", "key": None, "lease": claim.lease}
        try:
            self._client("s3").put_object(
                Bucket=self.bucket,
                Key=f"{CLAIMS}{name}.json",
                Body=(json.dumps(document) + "\n").encode(),
                ContentType="application/json",
                IfMatch=claim.etag,
            )
        except ClientError as error:
            if _status(error) not in _LOST_RACE:
                raise
            return False
        return True

    def candidate(self, name: str) -> Mapping[str, Any] | None:
        """The note of what is published under a name and not released, if there is any."""
        content = self._read(f"trials/{name}/candidate.json")
        try:
            document = json.loads(content or b"null")
        except (ValueError, RecursionError):
            return None
        found = document.get("candidate") if isinstance(document, dict) else None
        return found if isinstance(found, dict) else None

    def pointers(self) -> dict[str, str]:
        """The version that each layer's pointer names, as ARN, by the layers' names."""
        pages = self._client("ssm").get_paginator("get_parameters_by_path").paginate(Path=POINTERS)
        return {
            one["Name"].removeprefix(POINTERS): one["Value"] for page in pages for one in page["Parameters"]
        }

    def pointer(self, name: str) -> str | None:
        """The ARN that a layer's pointer holds."""
        client = self._client("ssm")
        try:
            return str(client.get_parameter(Name=POINTERS + name)["Parameter"]["Value"])
        except client.exceptions.ParameterNotFound:
            return None

    def point(self, name: str, arn: str) -> None:
        """Move a layer's pointer."""
        self._client("ssm").put_parameter(Name=POINTERS + name, Value=arn, Type="String", Overwrite=True)

    def versions(self, name: str) -> list[Mapping[str, Any]]:
        """A layer's versions as Lambda lists them, the newest first."""
        pages = self._client("lambda").get_paginator("list_layer_versions").paginate(LayerName=name)
        return [item for page in pages for item in page["LayerVersions"]]

    def version(self, name: str, number: int) -> Mapping[str, Any] | None:
        """What Lambda says of a version, with an address where its zip can be read for ten minutes."""
        client = self._client("lambda")
        try:
            found: Mapping[str, Any] = client.get_layer_version(LayerName=name, VersionNumber=number)
        except client.exceptions.ResourceNotFoundException:
            return None
        return found

    def grants(self, name: str, number: int) -> set[str]:
        """Who may use a version beside its account: principals, and organizations."""
        client = self._client("lambda")
        try:
            policy = client.get_layer_version_policy(LayerName=name, VersionNumber=number)["Policy"]
        except client.exceptions.ResourceNotFoundException:
            return set()
        return {_grantee(statement) for statement in json.loads(policy)["Statement"]}

    def functions(self) -> Iterator[UsingFunction]:
        """Every function of the account in this region that has a layer."""
        pages = self._client("lambda").get_paginator("list_functions").paginate()
        for page in pages:
            for function in page["Functions"]:
                arns = [layer["Arn"].split(":") for layer in function.get("Layers", ())]
                if layers := {":".join(arn[:7]): int(arn[7]) for arn in arns if len(arn) == 8}:
                    yield UsingFunction(function["FunctionName"], layers)

    # ------------------------------------------------------------ builds

    def progress(self, execution: str) -> history.Progress | None:
        """How far an execution is; None for who may not know."""
        try:
            return history.read(self.events(execution), self._job_state)
        except ClientError as error:
            if _code(error) not in (*_DENIED, "ExecutionDoesNotExist"):
                raise
            return None

    def events(self, execution: str) -> list[Mapping[str, Any]]:
        """An execution's history, oldest first."""
        pages = self._client("stepfunctions").get_paginator("get_execution_history")
        return [event for page in pages.paginate(executionArn=execution) for event in page["events"]]

    def running(self, key: str) -> str | None:
        """The name of a running execution that builds an input."""
        client = self._client("stepfunctions")
        pages = client.get_paginator("list_executions")
        for page in pages.paginate(stateMachineArn=self.state_machine, statusFilter="RUNNING"):
            for execution in page["executions"]:
                described = client.describe_execution(executionArn=execution["executionArn"])
                if json.loads(described["input"]).get("input", {}).get("key") == key:
                    return str(execution["name"])
        return None

    def job(self, job_id: str) -> Mapping[str, Any] | None:
        """What Batch says of a job; for about a day after its end."""
        jobs = self._client("batch").describe_jobs(jobs=[job_id])["jobs"]
        return jobs[0] if jobs else None

    def _job_state(self, job_id: str) -> str:
        try:
            job = self.job(job_id)
        except ClientError as error:
            if _code(error) not in _DENIED:
                raise
            return ""
        tries = len(job.get("attempts", ())) if job else 0
        shown = history.in_words(job["status"]) if job else ""
        return f"{shown}, try {tries}" if tries > 1 else shown

    def log(self, group: str, stream: str) -> Iterator[Mapping[str, Any]]:
        """The events of a log stream, oldest first; none if its time is over."""
        client = self._client("logs")
        pages = client.get_paginator("filter_log_events").paginate(
            logGroupName=group, logStreamNames=[stream]
        )
        try:
            for page in pages:
                yield from page["events"]
        except client.exceptions.ResourceNotFoundException:
            return

    def for_each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Call for each item, some at a time; results in the items' order."""
        for service in ("s3", "stepfunctions", "batch"):
            self._client(service)  # a client is safe to share between threads, making one is not
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(function, items))


def _grantee(statement: Mapping[str, Any]) -> str:
    organization = statement.get("Condition", {}).get("StringEquals", {}).get("aws:PrincipalOrgID")
    principal = statement.get("Principal", {})
    told = principal.get("AWS", "") if isinstance(principal, dict) else principal
    # arn:aws:iam::ACCOUNT:root
    return str(organization or (told.split(":")[4] if told.startswith("arn:") else told))


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
