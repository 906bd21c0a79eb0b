"""Trunks: whose request this is, who calls whom by it, and by which trunk the second leg leaves.

Which trunk a request belongs to is decided by where it came from: the most specific `sources` entry (address:port, then
the longest prefix), among equals the trunk that owns the dialled number, then file order. Behind a front proxy of ours
the proxy says it, in `X-Masking-Trunk`. Nothing else in a request has a say.

Which trunk the second leg leaves by is decided by the number it shows: that number's own trunk first; another
only where the two carriers allow it (same carrier, or `cli = "any"`) and it serves the destination's country.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from random import Random
from typing import Final

from masking import numbering
from masking.config import Source, TrunkSection
from masking.logins import LoginSection
from masking.numbering import Number
from sipedge.causes import CONGESTION, NO_CIRCUIT
from sipedge.sip.digest import Credentials
from sipedge.sip.flows import Flow
from sipedge.sip.gate import username
from sipedge.sip.messages import Malformed, Request
from sipedge.sip.uris import NameAddr, name_addr, sip_uri
from sipedge.targets import Target, Targets
from sipedge.targets import address as address_of
from sipedge.trunk_health import Health, shares

REMEMBERED: Final = 4_096  # sources whose trunk is kept at hand; spoofed ones must not fill the memory

OwnerOf = Callable[[Number], Awaitable[str | None]]  # a virtual number -> the name of the trunk it belongs to


def _credentials(login: LoginSection) -> Credentials | None:
    if not login.given:
        return None
    return Credentials(login.username, login.password, login.realm, tuple(login.algorithms))


class Bucket:
    """So many a second, and a second's worth at once. `rate` 0: none."""

    __slots__ = ("_at", "_left", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._left = float(rate)
        self._at = 0.0

    def has(self, now: float) -> bool:
        """Is there one?"""
        self._left = min(self.rate, self._left + (now - self._at) * self.rate)
        self._at = now
        return self._left >= 1.0

    def spend(self) -> None:
        """Takes one."""
        self._left -= 1.0


class Trunk:
    """One trunk: what the configuration says of it, and how it fares."""

    __slots__ = (
        "calls", "carrier", "config", "countries", "country", "credentials", "doubted", "everybodys", "guest", "health",
        "media", "name", "target", "targets",
    )  # fmt: skip

    def __init__(self, config: TrunkSection) -> None:
        self.config = config
        self.name = config.name
        self.carrier = config.carrier_name
        self.country = config.country
        self.countries = frozenset(config.served_countries)
        self.media = tuple(str(network) for network in config.media_networks)
        self.target = Target.parse(config.uri)
        self.targets = Targets(self.target)
        self.health = Health()
        self.credentials = _credentials(config.auth)  # who we are to it
        self.guest = _credentials(config.authenticate)  # who it has to show to be; None: its address is enough
        self.doubted = False  # a call met silence here: ask now
        self.calls = 0
        self.everybodys = Bucket(config.max_cps)  # of its calls a second, what nobody is guaranteed

    def __repr__(self) -> str:
        return f"<Trunk {self.name} {self.calls} calls>"

    def full(self, now: float, kept: int = 0, *, sure: bool = False) -> int | None:
        """None when one more call may begin, else the Q.850 cause: 34 no circuit, 42 congestion. `kept`: places that
        are others'; `sure`: its part of the calls a second is guaranteed (`sipedge.shares`)."""
        if self.config.max_calls and self.calls + kept >= self.config.max_calls:
            return NO_CIRCUIT
        if self.config.max_cps and not sure and not self.everybodys.has(now):
            return CONGESTION
        return None

    def take(self, *, guaranteed: bool = False) -> None:
        """One call more; `give` when it is over."""
        self.calls += 1
        if not guaranteed:
            self.everybodys.spend()

    def give(self) -> None:
        self.calls -= 1

    def serves(self, callee: Number, destination: str | None) -> bool:
        """May it carry calls to this number, whose country is `destination` (None: unknown)?"""
        if destination is not None and destination not in self.countries:
            return False
        return not self.config.prefixes or numbering.longest_prefix(callee, self.config.prefixes) > 0

    def request_uri(self, number: Number) -> str:
        """Where a person is asked for. This reveals the number, to that person's own leg."""
        uri = sip_uri(numbering.write(number, self.config.number_format, self.country), self.target.hostport)
        return f"sips{uri.removeprefix('sip')}" if self.target.secure else uri

    @property
    def identity(self) -> str:
        """The SIP domain that its certificate has to name."""
        return self.config.tls.identity or self.target.host

    def shown(self, virtual: str, hostport: str) -> str:
        """A virtual number as From and P-Asserted-Identity show it on this trunk."""
        return name_addr(sip_uri(_shown(virtual, self.config.number_format, self.country), hostport))


@lru_cache(REMEMBERED)
def _shown(virtual: str, form: numbering.NumberFormat, country: str) -> str:
    """A virtual number's spelling. It is no person's, so it may be remembered."""
    number = numbering.read(country, virtual)
    return virtual if number is None else numbering.write(number, form, country)


class TrunkTable:
    """All trunks in file order, and the questions asked of them."""

    def __init__(self, trunks: Iterable[TrunkSection], proxies: Iterable[Source] = ()) -> None:
        self.trunks = tuple(Trunk(section) for section in trunks)
        self.named = {trunk.name: trunk for trunk in self.trunks}
        self._entries = [(entry, trunk) for trunk in self.trunks for entry in trunk.config.source_entries]
        self._proxies = tuple(proxies)
        self._remembered: dict[tuple[str, int], tuple[Trunk, ...]] = {}
        self._askers: dict[tuple[str, str, int], bool] = {}

    # ---- whose request -------------------------------------------------------------------------------------------

    def candidates(self, host: str, port: int) -> tuple[Trunk, ...]:
        """The trunks whose `sources` name this address most specifically, in file order; () for a stranger."""
        found = self._remembered.get((host, port))
        if found is None:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            found = self._remembered[host, port] = self._find(host, port)
        return found

    def _find(self, host: str, port: int) -> tuple[Trunk, ...]:
        best: tuple[bool, int] = (False, -1)
        found: list[Trunk] = []
        for entry, trunk in self._entries:
            if not _covers(entry, host, port):
                continue
            rank = (entry.port is not None, entry.network.prefixlen)
            if rank > best:
                best, found = rank, [trunk]
            elif rank == best and trunk not in found:
                found.append(trunk)
        return tuple(found)

    def is_proxy(self, host: str, port: int) -> bool:
        return any(_covers(entry, host, port) for entry in self._proxies)

    def may_ask(self, transport: str, host: str, port: int) -> bool:
        """May requests come from here by this transport?"""
        known = self._askers.get((transport, host, port))
        if known is None:
            if len(self._askers) >= REMEMBERED:
                self._askers.clear()
            known = self._askers[transport, host, port] = self._find_asker(transport, host, port)
        return known

    def _find_asker(self, transport: str, host: str, port: int) -> bool:
        candidates = self.candidates(host, port)
        if transport != "tls":  # there is nothing that proves who asks
            candidates = tuple([trunk for trunk in candidates if not trunk.config.tls.mutual])
        return bool(candidates) or self.is_proxy(host, port)

    def may_answer(self, transport: str, host: str, port: int) -> bool:
        """May answers come from here? Those to what we ask come from a trunk's own `uri`, named in `sources` or not."""
        return self.may_ask(transport, host, port) or any((host, port) in trunk.targets for trunk in self.trunks)

    def senders(self, host: str, port: int) -> tuple[Trunk, ...]:
        """Whose a message from here is before it is read: the trunks that name the source, else those that are called
        there; a front proxy's is nobody's yet."""
        found = self.candidates(host, port)
        if found or self.is_proxy(host, port):
            return found
        return tuple([trunk for trunk in self.trunks if (host, port) in trunk.targets])

    async def of(self, request: Request, flow: Flow, owner_of: OwnerOf) -> Trunk | None:
        """The trunk a new request belongs to; None: nobody's, and nobody is answered."""
        host, port = flow.remote
        if self.is_proxy(host, port):
            name = request.header("x-masking-trunk")
            if name is not None:
                return self.named.get(name.strip())
        # A certificate that was proven names the trunk; without one none of those that demand it comes into question.
        candidates = [
            t for t in self.candidates(host, port) if (t.name == flow.peer if flow.peer else not t.config.tls.mutual)
        ]
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        name = username(request)
        for trunk in candidates:  # unproved as yet: whoever begins the call has it proved
            if name and trunk.guest is not None and trunk.guest.username == name:
                return trunk
        for trunk in candidates:
            number = dialled(trunk, request)
            if number is not None and await owner_of(number) == trunk.name:
                return trunk
        return candidates[0]

    # ---- the second leg ------------------------------------------------------------------------------------------

    def leaving(self, shows: str | None, country: str, callee: Number, random: Random, now: float) -> list[Trunk]:
        """The trunks a call showing a number may leave by, best first.

        `shows`: name of the number's own trunk, None: any trunk of the number's `country`. The longest prefix of the
        callee's number goes first, then priority; equals share by weight and health. A dead trunk comes after all that
        live, a resting one not at all.
        """
        own = self.named.get(shows) if shows is not None else None
        destination = numbering.country_of(callee)
        ranked: dict[tuple[bool, bool, int, int], list[Trunk]] = {}
        for trunk in self.trunks:
            if not self._may_show(trunk, own, shows, country) or not trunk.serves(callee, destination):
                continue
            state = trunk.health.state(now)
            if state == "resting":
                continue
            first = trunk is own if own is not None else trunk.country == country
            prefix = numbering.longest_prefix(callee, trunk.config.prefixes)
            rank = (state == "dead", not first, -prefix, trunk.config.priority)
            ranked.setdefault(rank, []).append(trunk)
        return [trunk for rank in sorted(ranked) for trunk in _shared(ranked[rank], random, now)]

    def dead(self, now: float) -> list[str]:
        """The names of those that carry nothing while another may."""
        return [trunk.name for trunk in self.trunks if trunk.health.state(now) == "dead"]

    @staticmethod
    def _may_show(trunk: Trunk, own: Trunk | None, shows: str | None, country: str) -> bool:
        if trunk.config.cli == "any" or trunk is own:
            return True
        if own is not None:
            return trunk.carrier == own.carrier
        return shows is None and trunk.country == country


def _covers(entry: Source, host: str, port: int) -> bool:
    if entry.port is not None and entry.port != port:
        return False
    address = address_of(host)
    return address is not None and address.version == entry.network.version and address in entry.network


def _shared(equals: list[Trunk], random: Random, now: float) -> list[Trunk]:
    """A random order in which a trunk of twice the weight comes first twice as often (as RFC 2782 means weights), as
    far as its health lets it."""
    if len(equals) == 1:
        return equals
    parts = shares([trunk.health for trunk in equals], now)
    drawn = [random.random() ** (1.0 / (max(t.config.weight, 1) * part)) for t, part in zip(equals, parts, strict=True)]
    return [equals[at] for at in sorted(range(len(equals)), key=drawn.__getitem__, reverse=True)]


# ---- who calls whom --------------------------------------------------------------------------------------------------


def dialled(trunk: Trunk, request: Request) -> Number | None:
    """The number a caller dialled: the Request-URI's user part, as the trunk's country spells numbers. A registrar may
    put the Contact we registered there, and leave the number in To (RFC 3261 16.5)."""
    if trunk.config.register and trunk.credentials is not None and request.uri.user == trunk.credentials.username:
        return numbering.read(trunk.country, request.to.uri.digits)
    return numbering.read(trunk.country, request.uri.digits)


def caller(trunk: Trunk, request: Request) -> Number | None:
    """Who calls, by the first header of `caller_from` that holds a usable number; None: withheld.

    A P-Asserted-Identity under `Privacy: id` still identifies the caller *to us* (RFC 3325 7): nobody else sees it.
    """
    for header in trunk.config.caller_from:
        for address in _IDENTITIES[header](request):
            number = numbering.read(trunk.country, address.uri.digits)
            if number is not None:
                return number
    return None


def _from(request: Request) -> list[NameAddr]:
    return [request.from_]


def _asserted(request: Request) -> list[NameAddr]:
    return request.identities


def _remote_party(request: Request) -> list[NameAddr]:
    value = request.header("remote-party-id")
    try:
        return [NameAddr.parse(value)] if value is not None else []
    except Malformed:
        return []


_IDENTITIES: Final[dict[str, Callable[[Request], list[NameAddr]]]] = {
    "p-asserted-identity": _asserted,
    "from": _from,
    "remote-party-id": _remote_party,
}
