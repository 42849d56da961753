"""S3: complete event notifications, delivered after the answer; writes that exclude each other; checksums."""

# ruff: noqa: SLF001 (replacing moto's insides is what this module is for)
import base64
import hashlib
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from moto.awslambda.models import LambdaFunction, lambda_backends
from moto.iam.access_control import PermissionResult
from moto.s3 import notifications
from moto.s3.exceptions import S3ClientError
from moto.s3.models import FakeBucket, FakeKey, S3Backend
from moto.s3.notifications import S3NotificationEvent
from moto.s3.responses import S3Response

from local.gaps import Replacements
from local.s3_events import Created, Sequencer, event_document
from local.settings import ACCOUNT_ID, REGION

Send = Callable[[LambdaFunction, object], None]


class S3Service:
    """moto's buckets, telling functions what is created in them.

    Args:
        send: Invokes a function asynchronously.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sequencer = Sequencer()
        self._writing = threading.RLock()
        self._waiting = threading.local()

    def install(self, replacements: Replacements) -> None:
        """Replace what moto does at a write."""
        # moto's events carry neither version nor sequencer and encode slashes; it runs the function within
        # the upload, and hides a failure.
        replacements.put(notifications, "send_event", self._note)
        # moto obeys a Deny without looking at its condition. Policies are judged before a call gets here, in
        # local/authorization.py.
        replacements.put(FakeBucket, "get_permission", lambda *_: PermissionResult.NEUTRAL)
        # moto copies all objects of a bucket, and keeps the copies, each time that versions are listed.
        replacements.add(FakeKey, "__deepcopy__", lambda key, _memo: key)
        # moto sorts all of a bucket's versions to list those of one key.
        listing = _narrowed(S3Backend.list_object_versions)
        replacements.put(S3Backend, "list_object_versions", listing)
        # moto believes the checksum that an upload claims.
        replacements.put(S3Response, "_get_checksum", _compared(S3Response._get_checksum))
        # moto looks at If-Match and If-None-Match and writes later, with others between; the order of
        # versions could differ from that of sequencers. And a function must not see an object before its
        # metadata is there.
        for operation in ("put_object", "copy_object", "_key_response_post", "delete_object"):
            replacements.put(S3Response, operation, self._exclusive(getattr(S3Response, operation)))

    def _exclusive(self, original: Any) -> Any:
        def write(response: S3Response, *args: Any, **kwargs: Any) -> Any:
            with self._writing:
                self._waiting.events = []
                result = original(response, *args, **kwargs)
                events, self._waiting.events = self._waiting.events, []
            for function, event in events:
                self._send(function, event)
            return result

        return write

    def _note(
        self, account_id: str, event_name: S3NotificationEvent, bucket: FakeBucket, key: FakeKey
    ) -> None:
        if bucket.notification_configuration is None:
            return
        if event_name == S3NotificationEvent.OBJECT_CREATED_PUT_EVENT and key.multipart:
            return  # moto tells the end of a multipart upload twice, here as a Put
        created = Created(
            event=event_name.removeprefix("s3:"),
            bucket=bucket.name,
            key=key.name,
            version_id=key.version_id if bucket.is_versioned else None,
            etag=key.etag.strip('"'),
            size=key.size,
        )
        for notification in bucket.notification_configuration.cloud_function:
            if notification.matches(event_name, key.name):
                document = event_document(
                    created, notification.id, self._sequencer.next(), bucket.region_name, account_id
                )
                function = lambda_backends[ACCOUNT_ID][REGION].get_function(notification.arn)
                self._waiting.events.append((function, document))


def _narrowed(original: Any) -> Any:
    def list_object_versions(
        backend: S3Backend, bucket_name: str, *marked: Any, prefix: str = "", **named: Any
    ) -> Any:
        keys = backend.get_bucket(bucket_name).keys
        fitting = [keys.getlist(name) for name in list(keys) if name.startswith(prefix)]
        bucket = SimpleNamespace(keys=SimpleNamespace(iterlists=lambda: enumerate(fitting)))
        part = SimpleNamespace(get_bucket=lambda _name: bucket)
        return original(part, bucket_name, *marked, prefix=prefix, **named)

    return list_object_versions


class BadDigestError(S3ClientError):
    """An upload whose content has another checksum than it says."""

    def __init__(self) -> None:
        super().__init__("BadDigest", "The SHA256 you specified did not match the calculated checksum.")


def _compared(original: Any) -> Any:
    def get_checksum(response: S3Response, *args: Any) -> Any:
        claimed = response.headers.get("x-amz-checksum-sha256")
        found = base64.b64encode(hashlib.sha256(response.body or b"").digest()).decode()
        if claimed and claimed != found:
            raise BadDigestError
        return original(response, *args)

    return get_checksum
