"""A flow names the road a message took: transport, the two addresses, and for a stream which connection."""

from __future__ import annotations

from typing import NamedTuple


class Flow(NamedTuple):
    """Where bytes came from, or go to. Hashable, comparable, serialisable as part of a dialog snapshot.

    `connection` tells streams apart (any positive number the driver chooses); 0 on UDP. A driver that no longer has
    that connection opens a new one to `remote`, or reports `Endpoint.transport_failed`. `peer` is the driver's name for
    who has to be at the other end of a TLS connection: two of them at one address are two flows.
    """

    transport: str  # "udp", "tcp" or "tls"
    remote: tuple[str, int]
    local: tuple[str, int]
    connection: int = 0
    peer: str = ""

    @property
    def reliable(self) -> bool:
        """True when the transport itself resends: then the tables run no resend timers (RFC 3261 17.1.1.2)."""
        return self.transport != "udp"
