"""Where a trunk's requests go: what its `uri` says, which addresses that comes to, and which of them failed lately.

A trunk is one name, and often several machines: RFC 3263 finds them, RFC 2782 says in which order they are tried. One
that could not be reached is left out for a while, so that the next call need not find out again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from random import Random
from typing import Final, NamedTuple

BLOCKED_SECONDS: Final = 30.0  # that a target which failed is left out
REMEMBERED: Final = 4_096


class Target(NamedTuple):
    """A trunk's `uri`. `secure`: `sips:`, TLS on every hop. `open_transport`, `open_port`: it does not say them, so DNS
    may; until then they are the defaults."""

    transport: str
    host: str
    port: int
    secure: bool = False
    open_transport: bool = False
    open_port: bool = False

    @classmethod
    def parse(cls, uri: str) -> Target:
        """Of a `uri` that the configuration has checked."""
        scheme, _, rest = uri.partition(":")
        where, _, parameters = rest.partition(";")
        secure = scheme.lower() == "sips"
        said = parameters.lower().partition("transport=")[2]
        transport = "tls" if secure else said or "udp"
        if where.startswith("["):
            host, _, port = where[1:].partition("]")
            port = port[1:]
        else:
            host, _, port = where.partition(":")
        return cls(transport, host, int(port or default_port(transport)), secure, not (secure or said), not port)

    @property
    def hostport(self) -> str:
        """As a URI names it: what DNS has to say stays its own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.open_port and self.named else f"{host}:{self.port}"

    @property
    def named(self) -> bool:
        """Does it name its host instead of giving an address?"""
        return address(self.host) is None


class Hop(NamedTuple):
    """One machine's one door."""

    transport: str
    host: str  # an address
    port: int


class Place(NamedTuple):
    """The addresses of one SRV record, or of the host itself. The lowest `rank` is tried first (NAPTR order and
    preference, SRV priority); among equals `weight` is the share of requests."""

    rank: tuple[int, ...]
    weight: int
    hops: tuple[Hop, ...]


class Targets:
    """The machines behind one trunk."""

    def __init__(self, target: Target) -> None:
        self._places: tuple[Place, ...] = ()
        self._hops: frozenset[tuple[str, int]] = frozenset()
        self._blocked: dict[Hop, float] = {}
        if not target.named:
            self.learn([Place((), 0, (Hop(target.transport, target.host, target.port),))])

    def learn(self, places: Iterable[Place]) -> None:
        """What DNS says now."""
        self._places = tuple(places)
        self._hops = frozenset((hop.host, hop.port) for place in self._places for hop in place.hops)
        self._blocked = {hop: until for hop, until in self._blocked.items() if (hop.host, hop.port) in self._hops}

    def __contains__(self, where: tuple[str, int]) -> bool:
        return where in self._hops

    @property
    def first(self) -> Hop | None:
        """The best by rank alone; None: nothing is known (yet)."""
        return min(self._places, key=lambda place: place.rank).hops[0] if self._places else None

    def in_order(self, now: float, random: Random) -> list[Hop]:
        """Every machine in the order to try them in: those that failed lately left out, unless all did."""
        if len(self._places) == 1:
            hops = list(self._places[0].hops)
        else:
            drawn = [(place.rank, -_draw(place.weight, random), place.hops) for place in self._places]
            hops = [hop for _, _, place in sorted(drawn) for hop in place]
        if not self._blocked:
            return hops
        blocked = self.blocked(now)
        return [hop for hop in hops if hop not in blocked] or hops

    def blocked(self, now: float) -> frozenset[Hop]:
        """Those that failed lately."""
        return frozenset(hop for hop, until in self._blocked.items() if until > now)

    def failed(self, hop: Hop, now: float) -> None:
        """It could not be reached, stayed silent, or said 503 (RFC 3263 4.3)."""
        self._blocked[hop] = now + BLOCKED_SECONDS

    def works(self, hop: Hop) -> None:
        if self._blocked:
            self._blocked.pop(hop, None)


def default_port(transport: str) -> int:
    return 5061 if transport == "tls" else 5060


def _draw(weight: int, random: Random) -> float:
    """A weighted lot: the largest goes first, a weight of 0 has nearly no chance (RFC 2782)."""
    return float(random.random() ** (1.0 / (weight or 0.01)))


@lru_cache(REMEMBERED)
def address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A literal address, scope cut; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
