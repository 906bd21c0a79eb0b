"""DNS as SIP uses it: from a trunk's name to the machines behind it (RFC 3263 4).

NAPTR says which transports a domain prefers, SRV which machines and ports serve one of them, A and AAAA their
addresses. What a `uri` says itself is not asked: a port rules out SRV, a transport NAPTR. A domain without such records
is a host.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sipedge.targets import Hop, Place, Target, default_port

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as DnsResolver

PATIENCE: Final = 1.5  # seconds for one question
UNTOLD: Final = 60.0  # seconds an answer is good for that brings no time to live
SERVICES: Final = {"sip+d2u": "udp", "sip+d2t": "tcp", "sips+d2t": "tls"}
LABELS: Final = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}


class NotFound(Exception):
    """The name leads nowhere, or nobody could say so."""


class Found(NamedTuple):
    """The machines of a name, and for how many seconds."""

    places: tuple[Place, ...]
    seconds: float


class _Records(NamedTuple):
    records: list[Any]
    seconds: float


class Resolver:
    """Asks `server` ("address" or "address:port"; empty: as this machine is set up, its hosts file included).
    `transports`: those we could use."""

    def __init__(self, server: str = "", transports: tuple[str, ...] = ("udp", "tcp", "tls")) -> None:
        self._server = server
        self._transports = transports
        self._dns: DnsResolver | None = None

    async def locate(self, target: Target) -> Found:
        """The machines behind a target that names its host. Raises `NotFound`."""
        ways = [(0, target.transport, "")] if not target.open_transport else []
        seconds = [3600.0]
        if target.open_port:
            if target.open_transport:
                ways = await self._transports_of(target.host, seconds)
            found = await asyncio.gather(*(self._services(target.host, *way, seconds) for way in ways))
            places = tuple(place for each in found for place in each)
            if places:
                return Found(places, min(seconds))
        hops = await self._addresses(target.host, target.transport, target.port, seconds)
        if not hops:
            raise NotFound
        return Found((Place((), 0, hops),), min(seconds))

    async def _transports_of(self, domain: str, seconds: list[float]) -> list[tuple[int, str, str]]:
        """Transports and the names of their SRV records, the preferred first (RFC 3263 4.1)."""
        records = await self._ask(domain, "NAPTR", seconds)
        ways = [
            (
                record.order,
                record.preference,
                SERVICES.get(record.service.decode().lower(), ""),
                str(record.replacement),
            )
            for record in records
            if record.flags.lower() == b"s"
        ]
        usable = [(way[2], way[3]) for way in sorted(ways) if way[2] in self._transports]
        if not usable:  # then every transport is asked for, as RFC 3263 4.1 has it for who knows of no NAPTR
            usable = [(transport, "") for transport in self._transports]
        return [(rank, transport, name) for rank, (transport, name) in enumerate(usable)]

    async def _services(self, domain: str, rank: int, transport: str, name: str, seconds: list[float]) -> list[Place]:
        """The machines of one transport (RFC 3263 4.2); none where the domain has no such service."""
        records = await self._ask(name or f"{LABELS[transport]}.{domain}", "SRV", seconds)
        served = [record for record in records if str(record.target) != "."]  # ".": not here (RFC 2782)
        hops = await asyncio.gather(
            *(self._addresses(str(record.target), transport, record.port, seconds) for record in served)
        )
        return [
            Place((rank, record.priority), record.weight, found)
            for record, found in zip(served, hops, strict=True)
            if found
        ]

    async def _addresses(self, host: str, transport: str, port: int, seconds: list[float]) -> tuple[Hop, ...]:
        host, port = host.rstrip("."), port or default_port(transport)
        if self._server:
            asked = await asyncio.gather(self._ask(host, "A", seconds), self._ask(host, "AAAA", seconds))
            found = [str(record.address) for records in asked for record in records]
        else:
            seconds.append(UNTOLD)
            try:
                async with asyncio.timeout(2 * PATIENCE):
                    loop = asyncio.get_running_loop()
                    told = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (OSError, TimeoutError, UnicodeError):
                return ()
            found = [str(one[4][0]) for one in told]
        return tuple(Hop(transport, address, port) for address in dict.fromkeys(found))

    async def _ask(self, name: str, kind: str, seconds: list[float]) -> list[Any]:
        """The records of a name, their time to live noted in `seconds`; none where there are none, or nobody says."""
        # Read when a trunk first names its host: most name an address, and this library is half a process of ours.
        import dns.exception
        import dns.resolver

        client = self._dns
        if client is None:
            client = self._dns = await asyncio.to_thread(_client, self._server)
        try:
            answer = await client.resolve(name, kind, raise_on_no_answer=False, lifetime=PATIENCE, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoNameservers, dns.exception.DNSException):
            seconds.append(UNTOLD)
            return []
        seconds.append(float(answer.chaining_result.minimum_ttl))
        return list(answer.rrset or ())


def _client(server: str) -> DnsResolver:
    """Reads /etc/resolv.conf where no server is given, which blocks."""
    import dns.asyncresolver

    client = dns.asyncresolver.Resolver(configure=not server)
    if server:
        host, _, port = server.rpartition(":") if server.count(":") == 1 or server.startswith("[") else (server, "", "")
        client.nameservers, client.port = [host.strip("[]")], int(port or 53)
    return client
