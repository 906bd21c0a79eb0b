"""How many messages a source and a trunk may send: token buckets that are asked before anything is read.

Calls are bounded elsewhere (`max_cps`, `max_calls`, `admission`); this bounds everything else that a known source can
send: OPTIONS, retransmissions, requests in no dialog, nonsense. A bucket holds what its trunk's calls can need, many
times over, so whoever meets it is broken or hostile.

A bucket is one number: the time at which it will be full again (the virtual scheduling form of a leaky bucket, as in
ITU-T I.371 annex A).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from sipedge.trunks import Trunk

log = structlog.get_logger("sipedge.floods")

MESSAGES_A_CALL: Final = 20.0  # five to twelve are usual, both legs counted; the rest is for what gets lost
LEAST: Final = 200.0  # messages a second of a trunk with few calls
UNBOUNDED: Final = 4_000.0  # calls a second, where a trunk's `max_cps` is off
BURST: Final = 2.0  # seconds of the rate that may come at once
URGENT: Final = 2.0  # times as deep for what ends calls and for answers
SHARE: Final = 2.0  # a trunk's bucket in those of one source: no source alone empties it
REMEMBERED: Final = 4_096  # sources
PIECE: Final = 400  # bytes of a stream that count as a message
TOLD: Final = 60.0  # seconds between two lines of log about one trunk

_URGENT: Final = (b"SIP/2.0 ", b"BYE ", b"ACK ", b"CANCEL ", b"PRACK ")


class Floods:
    """The buckets of all sources and trunks. `trunks_of(host, port)`: whose source that is; a front proxy is nobody's,
    and trusted to send what it should."""

    def __init__(self, trunks_of: Callable[[str, int], Sequence[Trunk]]) -> None:
        self.counts: Counter[str] = Counter()
        self._trunks_of = trunks_of
        self._sources: dict[str, float] = {}  # address → when its bucket is full again
        self._trunks: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._apart: dict[str, float] = {}  # seconds from one message to the next at a trunk's rate

    def drops(self, data: bytes, source: tuple[str, int], now: float) -> bool:
        """Is this datagram too many? Then it is nobody's any more."""
        trunks = self._trunks_of(*source)
        if not trunks:
            return False
        mine, ours = self._with(trunks[0], source[0], 1.0, now)
        if mine > now + BURST or ours > now + BURST:
            deep = now + BURST * (URGENT if data.startswith(_URGENT) else 1.0)
            if mine > deep or ours > deep:
                self._count("source" if mine > deep else "trunk", trunks[0].name, now)
                return True
        self._keep(trunks[0].name, source[0], mine, ours, now)
        return False

    def rests(self, size: int, source: tuple[str, int], now: float) -> float:
        """Seconds for which a stream that brought `size` bytes should not be read; 0.0 when it may go on."""
        trunks = self._trunks_of(*source)
        if not trunks:
            return 0.0
        trunk, host = trunks[0], source[0]
        mine, ours = self._with(trunk, host, max(1.0, size / PIECE), now)
        self._keep(trunk.name, host, mine, ours, now)
        ahead = max(mine, ours) - now
        if ahead <= BURST:
            return 0.0
        self._count("source" if mine - now > BURST else "trunk", trunk.name, now)
        return ahead - BURST

    def _with(self, trunk: Trunk, host: str, messages: float, now: float) -> tuple[float, float]:
        """When the source's and the trunk's buckets would be full again with so many messages more."""
        apart = self._apart.get(trunk.name)
        if apart is None:
            apart = self._apart[trunk.name] = 1.0 / rate_of(trunk)
        mine, ours = self._sources.get(host, now), self._trunks.get(trunk.name, now)
        more = messages * apart
        return (mine if mine > now else now) + more, (ours if ours > now else now) + more / SHARE

    def _keep(self, trunk: str, host: str, mine: float, ours: float, now: float) -> None:
        if len(self._sources) >= REMEMBERED and host not in self._sources:
            self._forget(now)
        self._sources[host], self._trunks[trunk] = mine, ours

    def _forget(self, now: float) -> None:
        """Sources whose bucket is full again; where nobody's is, all of them: their trunk's bucket holds them."""
        self._sources = {host: full for host, full in self._sources.items() if full > now}
        if len(self._sources) >= REMEMBERED:
            self._sources.clear()

    def _count(self, whose: str, trunk: str, now: float) -> None:
        self.counts[f"flood_{whose}"] += 1
        if now - self._told.get(trunk, -TOLD) >= TOLD:
            self._told[trunk] = now
            log.warning("flood", trunk=trunk, of=whose)


def rate_of(trunk: Trunk) -> float:
    """Messages a second that one source of this trunk may send."""
    return max(LEAST, MESSAGES_A_CALL * (trunk.config.max_cps or UNBOUNDED))
