"""boto3 clients of the embedded AWS, for its own use and for those who talk to it from the same process."""

import os
import threading
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config

from local.keys import Key, Keyring
from local.settings import REGION

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient


def isolated_session(key: Key | None = None) -> boto3.Session:
    """Return a session in which neither the developer's profile nor ``~/.aws`` has a say."""
    core = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    core.set_config_variable("config_file", os.devnull)
    core.set_config_variable("credentials_file", os.devnull)
    if key:
        core.set_credentials(key.id, key.secret)
    return boto3.Session(botocore_session=core, region_name=REGION)


class Clients:
    """One client a service, made once: a client is safe to share between threads, making one is not.

    Args:
        endpoint: The embedded AWS.
        keys: Those that it knows.
        key: Who calls; default: the owner of the account.
    """

    def __init__(self, endpoint: str, keys: Keyring, key: Key | None = None) -> None:
        self._session = isolated_session(key or keys.owner)
        self._endpoint = endpoint
        self._keys = keys
        self._made: dict[str, Any] = {}
        self._of_roles: dict[str, Clients] = {}
        self._lock = threading.Lock()

    def of_role(self, arn: str) -> "Clients":
        """Return clients that call in a role's name, as a service does on its behalf."""
        with self._lock:
            if arn not in self._of_roles:
                self._of_roles[arn] = Clients(self._endpoint, self._keys, self._keys.of_role(arn))
            return self._of_roles[arn]

    def get(self, service: str) -> Any:
        """Return the client of a service by its boto3 name."""
        with self._lock:
            if service not in self._made:
                self._made[service] = self._session.client(  # type: ignore[call-overload]
                    service,
                    endpoint_url=self._endpoint,
                    config=Config(
                        max_pool_connections=128,
                        # As the Step Functions service does: a Lambda task is called once, however long it
                        # takes.
                        retries={"total_max_attempts": 1},
                        read_timeout=1000,
                        proxies={},
                        s3={"addressing_style": "path"},
                    ),
                )
            return self._made[service]

    @property
    def s3(self) -> "S3Client":
        """Objects, layers' zips and manifests."""
        return self.get("s3")  # type: ignore[no-any-return]

    @property
    def lambda_(self) -> "LambdaClient":
        """Functions and layers."""
        return self.get("lambda")  # type: ignore[no-any-return]

    @property
    def stepfunctions(self) -> "SFNClient":
        """Executions and their history."""
        return self.get("stepfunctions")  # type: ignore[no-any-return]

    @property
    def batch(self) -> "BatchClient":
        """Build jobs."""
        return self.get("batch")  # type: ignore[no-any-return]

    @property
    def ssm(self) -> "SSMClient":
        """Pointers to the newest layer versions."""
        return self.get("ssm")  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for client in (*self._made.values(), *self._of_roles.values()):
                client.close()
            self._made.clear()
            self._of_roles.clear()
