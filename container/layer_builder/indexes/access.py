"""What downloads may reach, and as whom."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network

    from layer_builder.ground.login import Login

_INTERNET, _PRIVATE, _LOOPBACK, _NEVER = "the internet", "a private network", "this machine", "no host"
_SPECIAL = {
    _LOOPBACK: "127.0.0.0/8 ::1/128",
    # Link-local is where a machine's and a task's credentials are served, and never an index; over IPv6 AWS
    # has them in fd00:ec2::/32 (Amazon EC2 User Guide, "Instance metadata"). Then: no host, and many.
    _NEVER: "169.254.0.0/16 fe80::/10 fd00:ec2::/32 0.0.0.0/8 ::/128 224.0.0.0/4 255.255.255.255/32 ff00::/8",
    _PRIVATE: "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 192.0.0.0/24 192.0.2.0/24 "
    "192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 "
    "2001::/23 2001:db8::/32 3fff::/20",
}


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
    """Say which sort of network an IP address belongs to; of one that carries others, the worst of theirs.

    The answer is the same with every version of Python: `ipaddress` has changed its mind about what is
    global (https://docs.python.org/3/library/ipaddress.html#ipaddress.IPv4Address.is_global).
    """
    import ipaddress

    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and (carried := _carried(ip.packed)):
        kinds = {kind_of(str(ipaddress.IPv4Address(one))) for one in carried}
        return next(kind for kind in (_NEVER, _LOOPBACK, _PRIVATE, _INTERNET) if kind in kinds)
    for kind, networks in _networks().items():
        if any(ip in network for network in networks):
            return kind
    return _INTERNET if ip.version == 4 or ip in ipaddress.ip_network("2000::/3") else _PRIVATE


def _carried(packed: bytes) -> list[bytes]:
    """List the IPv4 addresses that an IPv6 address may be delivered to, by a gateway or by this machine."""
    head, tail = packed[:12], packed[12:]
    if packed[:15] == bytes(15) and packed[15] < 2:
        return []  # :: and ::1 are themselves
    # IPv4-compatible and -mapped (RFC 4291, 2.5.5), -translated (RFC 2765), well-known NAT64 (RFC 6052, 2.1).
    if head in (bytes(12), bytes(10) + b"\xff\xff", bytes(8) + b"\xff\xff\0\0", b"\0\x64\xff\x9b" + bytes(8)):
        return [tail]
    if packed.startswith(b"\0\x64\xff\x9b\0\1"):
        # NAT64 of a local network (RFC 8215), whose prefix may have any length of RFC 6052, 2.2 from /48 on.
        if not any(packed[6:12]):
            return [tail]
        lengths_48_56_64 = packed[6:8] + packed[9:11], packed[7:8] + packed[9:12], packed[9:13]
        return [*lengths_48_56_64, tail]
    if packed.startswith(b"\x20\x02"):  # 6to4 (RFC 3056)
        return [packed[2:6]]
    if packed.startswith(b"\x20\x01\0\0"):  # Teredo (RFC 4380, 4): the server, and the client, inverted
        return [packed[4:8], bytes(byte ^ 0xFF for byte in tail)]
    if packed[8:12] in (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe"):  # ISATAP (RFC 5214, 6.1)
        return [tail]
    return []


@cache
def _networks() -> dict[str, list[IPv4Network | IPv6Network]]:
    """List the networks that are not the internet: IANA's special-purpose address registries, and AWS's own.

    https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry
    """
    from ipaddress import ip_network

    return {kind: [ip_network(network) for network in text.split()] for kind, text in _SPECIAL.items()}


def addresses_of(host: str, port: int) -> list[str]:
    """Resolve a name to IP addresses.

    Raises:
        OSError: it cannot be.
    """
    import socket

    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))
