"""Environment variables of the processes that the embedded AWS starts: built from nothing, never inherited.

A developer's own AWS_* variables, profile and credentials must not reach a handler or a builder: with them a
mistake could act on a real account. What a process needs from the machine is listed here by name.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Final

from local.keys import Key
from local.settings import REGION

FROM_THE_MACHINE: Final = (
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "XDG_CACHE_HOME",
    # A private certificate authority, and the way out through a proxy.
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
)  # fmt: skip
FOR_THE_FUNCTIONS: Final = ("LAYER_BUILDER_INDEX_URL",)
FOR_THE_BUILDER: Final = ("LAYER_BUILDER_CACHE", "LAYER_BUILDER_INDEX_URL", "PYENV_ROOT")


def key_variables(key: Key) -> dict[str, str]:
    """Return what has any AWS SDK or the aws command sign with a key."""
    return {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret}


def aws_variables(endpoint: str) -> dict[str, str]:
    """Return what points any AWS SDK or the aws command at ``endpoint``, and away from everything else."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # Not even a setting out of ~/.aws (an endpoint, a retry mode) may change what happens here.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def child_environment(
    endpoint: str, also: Sequence[str] = (), machine: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the environment of a handler or a builder, to which the key of its role is added.

    Args:
        endpoint: The embedded AWS, ``http://127.0.0.1:PORT``.
        also: Names to take from the machine beside those that every process needs.
        machine: The environment to take them from.
    """
    passed = {name: machine[name] for name in (*FROM_THE_MACHINE, *also) if name in machine}
    return passed | past_proxies(machine) | aws_variables(endpoint)


def past_proxies(machine: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what leads to the loopback past any proxy, and elsewhere as the machine says."""
    own = machine.get("no_proxy") or machine.get("NO_PROXY")
    without_proxy = ",".join(filter(None, [own, "127.0.0.1", "localhost"]))
    return {"NO_PROXY": without_proxy, "no_proxy": without_proxy}
