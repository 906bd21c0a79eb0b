"""UDP sockets of one leg: a listener that owns the port, and beside it one connected to the peer.

The kernel gives a datagram to the connected socket when its source is the peer and to the listener otherwise, so a
stranger's packet never reaches the packet path, and can still be counted.
"""

from __future__ import annotations

import socket
from typing import Final, TypeAlias

Address: TypeAlias = tuple[str, int]

EXPEDITED: Final = 0xB8  # DSCP EF for voice (RFC 4594 4.1)


def family_of(host: str) -> socket.AddressFamily:
    """The family of a literal address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Listeners on an even port and the odd one after it. Raises `OSError` when either is taken."""
    rtp = _bound(host, port)
    try:
        return rtp, _bound(host, port + 1)
    except OSError:
        rtp.close()
        raise


def _new(family: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.setblocking(False)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED)
    else:
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED)
    return one


def _bound(host: str, port: int) -> socket.socket:
    one = _new(family_of(host))
    try:
        one.bind((host, port))
    except OSError:
        one.close()
        raise
    return one


def connect_beside(listener: socket.socket, peer: Address) -> socket.socket:
    """A second socket on the listener's port, connected to the peer.

    Between its bind and its connect it may catch a stranger's datagram: its first reads must check the source.
    The port is shared for these microseconds only, so that no other process can ever share it.
    """
    host, port = listener.getsockname()[:2]
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one = _new(listener.family)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((host, port))
        one.connect(peer)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        one.close()
        raise
    finally:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return one
