"""Where messages may be sent. Whoever may name a target must not thereby speak to what only this machine can reach
(server-side request forgery, CWE-918): the metadata service of a cloud, a database on loopback.

A name is resolved once, every address judged, and the connection made to an address that was judged, so that a name
server that answers differently the second time changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable
from typing import Any

INTERNET, LAN, MACHINE = "internet", "lan", "machine"
REACHES = (INTERNET, LAN, MACHINE)
"""What may be reached: public addresses; private ones of a home or a company as well; this machine's loopback, too."""

_PRIVATE = [
    ipaddress.ip_network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
# Where clouds tell a machine its own credentials; those that are no link-local addresses.
_METADATA = [
    ipaddress.ip_address(each)
    for each in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_AF = (socket.AF_INET, socket.AF_INET6)


class OutOfReachError(OSError):
    """Nothing that a target's name stands for may be reached."""


def allowed(address: str, reach: str) -> bool:
    """Say whether an IP address may be spoken to.

    >>> [allowed("192.168.1.9", reach) for reach in REACHES], allowed("169.254.169.254", MACHINE)
    ([False, True, True], False)
    """
    try:
        found = _inner(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if found in _METADATA or found.is_link_local or found.is_multicast or found.is_unspecified:
        return False
    if found.is_loopback:
        return reach == MACHINE
    if any(found.version == each.version and found in each for each in _PRIVATE):
        return reach != INTERNET
    return found.is_global


def addresses(host: str, port: int, reach: str) -> list[str]:
    """Return the addresses of a host that may be spoken to, in the order in which to try them.

    Raises:
        OutOfReachError: there is none.
        OSError: the name is not known.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is too long, or empty
        raise OSError("no such name") from error
    named = list(dict.fromkeys(str(each[4][0]) for each in found if each[0] in _AF))
    good = [each for each in named if allowed(each, reach)]
    if not good:
        raise OutOfReachError("out of reach")
    return good


def confine(reach: str, refused: Callable[[], None]) -> None:
    """Let this process connect only to what may be reached, for ever; `refused` is called before what is refused fails.

    For a child that runs a library which makes connections of its own (PEP 578: an audit hook cannot be removed).
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            return
        sock, address = arguments[:2]
        good = allowed(str(address[0]), reach) if sock.family in _AF and address else reach == MACHINE
        if not good:
            refused()
            raise OutOfReachError("out of reach")

    sys.addaudithook(hook)


def _inner(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address inside an IPv6 one, where a translator would find one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None) or address
    return address
