"""What downloads may reach, and as whom."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layer_builder.credentials import Login

_INTERNET, _PRIVATE, _LOOPBACK, _NEVER = "the internet", "a private network", "this machine", "no host"
# Instance metadata and task credentials over IPv6 (Amazon EC2 User Guide, "Instance metadata").
_AWS_LOCAL = "fd00:ec2::/32"


@dataclass(frozen=True, eq=False)
class Access:
    """What requests may reach, and as whom.

    Attributes:
        origins: of the indexes that the installation names or allows: what is in their kind of network may be
            reached beside the internet.
        logins: credentials, by the origin that they are for.
    """

    origins: frozenset[str] = frozenset()
    logins: Mapping[str, Login] = field(default_factory=dict, repr=False)

    def permits(self, address: str) -> bool:
        """Tell whether an IP address may be connected to."""
        kind = kind_of(address)
        return kind == _INTERNET or (kind != _NEVER and kind in self._kinds)

    @cached_property
    def _kinds(self) -> frozenset[str]:
        """The kinds of networks that the indexes themselves are in."""
        kinds = set()
        for origin in self.origins:
            parts = urlsplit(origin)
            with suppress(OSError, ValueError):
                kinds |= {kind_of(address) for address in addresses_of(parts.hostname or "", parts.port or 0)}
        return frozenset(kinds - {_NEVER})


def kind_of(address: str) -> str:
    """Say which sort of network an IP address belongs to."""
    import ipaddress

    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return _LOOPBACK
    # Link-local is where a machine's and a task's credentials are served, and never an index.
    if (
        ip.is_link_local
        or ip.is_unspecified
        or ip.is_multicast
        or (ip.version == 6 and ip in ipaddress.ip_network(_AWS_LOCAL))
    ):
        return _NEVER
    return _INTERNET if ip.is_global else _PRIVATE


def addresses_of(host: str, port: int) -> list[str]:
    """Resolve a name to IP addresses.

    Raises:
        OSError: it cannot be.
    """
    import socket

    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))
