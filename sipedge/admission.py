"""How many new calls a second this edge takes, and what becomes of the others.

Calls that stand come first. While the event loop, the socket queue, the relay and Redis keep time, every call is taken;
when one of them falls behind, the rate of accepted calls falls to a part of what was last accepted, and rises again
while all keep time (additive increase, multiplicative decrease, RFC 6357 3). What is not taken gets its 503 with
Retry-After from a light scan of five headers, because refusing must cost a fraction of a call: at ten times the load
there is time for nothing else (RFC 5390 5, requirement 4).

Refusals leave as their INVITEs are read, before any other work: a bounded portion of it follows (`sipedge.lanes`), then
the sockets are looked at again, so that a refused caller waits milliseconds however much there is to do.

Order of work: BYE, ACK, PRACK > responses > requests inside calls > new INVITE and its CANCEL > OPTIONS and the rest.
Only new INVITEs are ever refused here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from hashlib import blake2s
from random import Random
from typing import Final, NamedTuple

from sipedge.sip.flows import Flow

STALE: Final = 0.4  # seconds in our socket queue after which an INVITE is dropped: T1 is 0.5, it is on its way again
LONG: Final = 0.1  # … after which its call could not be set up in time; while there are others, those are taken
FLOOR: Final = 100.0  # calls a second that are always taken: a measure may be wrong
CEILING: Final = 4_000.0
BURST: Final = 0.1  # seconds of the rate that may come at once
CUT: Final = (0.75, 0.5)  # of what was served: at first, and while that does not help
NEAR: Final = 0.9  # of what was served: up to there the rate rises quickly
QUICK: Final = 1.3  # times, a sample
SLOW: Final = 1.02
EASE: Final = 0.03  # of the ceiling, a sample, once nobody is refused any more
FIRM: Final = 2  # looks in a row at one of them: late once is a pause of the machine, late twice is load
FADE: Final = 0.98  # a sample, of the best that was ever served: what was possible may be possible again
OPENING: Final = 24  # calls on their way from INVITE to second leg that are a crowd, which no sample sees so soon
CALM: Final = 8  # … and no longer are one
CROWDED: Final = 0.1  # seconds that a crowd is borne with: it may be what a pause of ours left behind
CRUSH: Final = 96  # … that are never borne with
FEW: Final = 16  # … that are borne with on any machine
SOON: Final = 0.06  # seconds of work before a call's second leg leaves that keep its set-up short
REMEMBERED: Final = 16.0  # seconds; an INVITE is sent again within that, whatever became of its first copy


class Signals(NamedTuple):
    """How late everything was since the last sample, in seconds; None: nobody has looked since."""

    loop: float | None = None  # the event loop
    queue: float | None = None  # what datagrams waited for their turn, on average
    relay: float | None = None  # the relay's timed work
    redis: float | None = None  # one round trip


LIMITS: Final = {"loop": 0.1, "queue": 0.04, "relay": 0.02, "redis": 0.15}


class Admission:
    """The rate, and the calls taken from it. `now` is any clock in seconds that never runs backwards."""

    def __init__(self, now: float) -> None:
        self.rate = CEILING
        self.opening = 0  # calls taken whose second leg has not left yet
        self._tokens = CEILING * BURST
        self._at = now  # when the tokens were last counted
        self._sampled = now
        self._crowded: float | None = None  # since when
        self._refused = 0
        self._opened = 0
        self._late = dict.fromkeys(LIMITS, 0)  # looks in a row
        self._cuts = 0  # in a row
        self._best = 0.0  # calls a second that were served
        self.admitted = Lately(now)
        self.refused = Lately(now)

    def sample(self, signals: Signals, now: float) -> tuple[str, ...]:
        """Draws the rate after a look at everything, about ten times a second; names what fell behind."""
        for name, found in zip(Signals._fields, signals, strict=True):
            if found is not None:
                self._late[name] = self._late[name] + 1 if found > LIMITS[name] else 0
        behind = tuple([name for name, looks in self._late.items() if looks])
        self._best = best = max(self._opened / max(now - self._sampled, 0.001), self._best * FADE)
        self._opened, self._sampled = 0, now
        self._count(now)
        if any(looks >= FIRM for looks in self._late.values()):
            self._late = dict.fromkeys(LIMITS, 0)  # what was cut must show before more is cut
            self.rate = max(FLOOR, min(self.rate, CUT[min(self._cuts, 1)] * best))
            self._tokens = min(self._tokens, self.rate * BURST)
            self._cuts += 1
        elif not behind:
            self._cuts = 0
            self._rise(best)
        self._refused = 0
        return behind

    def _rise(self, best: float) -> None:
        if not self._refused:
            self.rate = min(CEILING, self.rate + CEILING * EASE)
        elif self.rate < NEAR * best:
            self.rate = min(NEAR * best, self.rate * QUICK)
        else:
            self.rate = min(CEILING, self.rate * SLOW)

    @property
    def drawn(self) -> bool:
        """Is the rate below all that may come, because something fell behind and stayed there?"""
        return self.rate < CEILING

    @property
    def strained(self) -> bool:
        """Has anything fallen behind of late? Then who may not have more gets none of what is left."""
        return self.drawn or self._crowded is not None

    def closed(self, now: float, ahead: int = 0) -> bool:
        """Would a new call be refused now, with so many `ahead` of it that wait to be read? Asking takes nothing."""
        self._count(now)
        opening = self.opening + ahead
        if self._tokens < 1.0 + ahead or opening >= self._crush:
            return True
        return opening >= OPENING and self._crowded is not None and now - self._crowded > CROWDED

    @property
    def _crush(self) -> float:
        """Calls on their way that are never borne with. Once the rate was drawn it says what this machine can do, and
        so how many are set up in time."""
        return min(CRUSH, max(FEW, self.rate * SOON)) if self.drawn else CRUSH

    def take(self, invite: str, now: float, *, assured: bool = False) -> bool:
        """Takes one more call, or not. `invite` names it: Call-ID and CSeq. `assured`: it is guaranteed, so that the
        others wait for the place it takes."""
        if self.closed(now) and not assured:
            self._refused += 1
            return False
        self._tokens -= 1.0
        self.opening += 1
        if self.opening >= OPENING and self._crowded is None:
            self._crowded = now
        self.admitted.add(invite, now)
        return True

    def opened(self) -> None:
        """The work of taking a call is done, whatever became of it: that is what this machine can do when it is
        busy."""
        self.opening -= 1
        if self.opening < CALM:
            self._crowded = None
        self._opened += 1

    def recount(self, opening: int) -> None:
        """How many calls are truly between INVITE and second leg, counted from the calls themselves."""
        self.opening = opening
        if opening < CALM:
            self._crowded = None

    def turn_away(self, invite: str, now: float) -> None:
        """A call was refused unread. Sent again it is refused again, so that its caller hears one answer."""
        self._refused += 1
        self.refused.add(invite, now)

    def _count(self, now: float) -> None:
        self._tokens = min(self.rate * BURST, self._tokens + (now - self._at) * self.rate)
        self._at = now


class Lately:
    """Names of the last `REMEMBERED` to twice that many seconds; a few bytes each."""

    __slots__ = ("_before", "_now", "_turned")

    def __init__(self, now: float) -> None:
        self._before: set[int] = set()
        self._now: set[int] = set()
        self._turned = now

    def __len__(self) -> int:
        return len(self._now) + len(self._before)

    def add(self, name: str, now: float) -> None:
        if now - self._turned > REMEMBERED:
            self._before = self._now if now - self._turned <= 2 * REMEMBERED else set()
            self._now, self._turned = set(), now
        self._now.add(hash(name))

    def __contains__(self, name: str) -> bool:
        return hash(name) in self._now or hash(name) in self._before


class Door:
    """Stands before the parser: what comes by datagram and need not be read goes no further."""

    def __init__(
        self,
        admission: Admission,
        *,
        secret: bytes,
        random: Random,
        send: Callable[[Flow, bytes], None],
        full: Callable[[tuple[str, int], str, float], int | None] = lambda source, user, now: None,
        assured: Callable[[str, float], bool] = lambda user, now: False,
    ) -> None:
        """`full(source, user, now)`: the Q.850 cause why the trunk of that source may begin no more calls to the number
        that a Request-URI spells as `user`, or None; `assured(user, now)`: is one to it guaranteed?"""
        self.admission = admission
        self._full = full
        self._assured = assured
        self._over = Lately(0.0)  # refused for their own trunk's sake
        self.counts: Counter[str] = Counter()
        self._secret = secret
        self._random = random
        self._send = send

    def keeps(self, data: bytes, flow: Flow, age: float, now: float, ahead: int = 0) -> bool:
        """True: it was refused or needs no answer. `age`: how long it waited in the socket, in seconds; `ahead`: how
        many calls wait to be read before it."""
        if data.startswith(b"INVITE "):
            admission = self.admission
            suspicious = age > STALE or bool(admission.refused) or admission.strained or admission.closed(now, ahead)
            return suspicious and self._judge(data, flow, age, now, ahead)
        if data.startswith(b"ACK ") and (self.admission.refused or self._over) and acknowledges(data):
            self.counts["refusals_acknowledged"] += 1
            return True
        return False

    def _judge(self, data: bytes, flow: Flow, age: float, now: float, ahead: int) -> bool:
        admission = self.admission
        scanned = scan(data)
        if scanned is None or scanned.invite in admission.admitted:
            return False
        again = scanned.invite in admission.refused
        if age > STALE and not again:  # its sender has given this copy up, and the next one is on its way
            self.counts["stale"] += 1
            return True
        user = dialled(data)
        if not again and self._over_its_own_limit(scanned, user, flow, now):
            return True
        in_time = not admission.closed(now, ahead) and not (age > LONG and admission.drawn)
        if not again and (in_time or self._assured(user, now)):
            return False
        admission.turn_away(scanned.invite, now)
        self.counts["refused"] += 1
        answer = "503 Service Unavailable", f"Retry-After: {self._random.randint(1, 5)}"
        self._send(flow, refusal(scanned, flow.remote, *answer, self._secret))
        return True

    def _over_its_own_limit(self, scanned: Scanned, user: str, flow: Flow, now: float) -> bool:
        """One trunk's flood takes nothing from the others: beyond its own limit it has its 480 before it costs a
        place."""
        cause = 42 if scanned.invite in self._over else self._full(flow.remote, user, now)
        if cause is None:
            return False
        self._over.add(scanned.invite, now)
        self.counts["trunk_limit"] += 1
        answer = "480 Temporarily Unavailable", f"Reason: Q.850;cause={cause}"
        self._send(flow, refusal(scanned, flow.remote, *answer, self._secret))
        return True


# ---- what a datagram is, without reading it ------------------------------------------------------------------------

_LINE: Final = re.compile(rb"\r\n(via|v|from|f|to|t|call-id|i|cseq)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_LONG: Final = {b"v": b"via", b"f": b"from", b"t": b"to", b"i": b"call-id"}
_DIALLED: Final = re.compile(rb"INVITE sips?:([+0-9A-Za-z._~-]{1,64})[;@]", re.IGNORECASE)
_TO_TAG: Final = re.compile(rb"\r\n(?:to|t)[ \t]*:[^\r\n]*;[ \t]*tag[ \t]*=", re.IGNORECASE)
_ODD_VIA: Final = re.compile(r"[,()\"]|received|rport[ \t]*=", re.IGNORECASE)
_RPORT: Final = re.compile(r";rport(?=;|$)", re.IGNORECASE)
_FIRST: Final = (b"BYE ", b"ACK ", b"PRACK ")
_LAST: Final = {b"INVITE ": 3, b"CANCEL ": 3, b"OPTIONS": 4, b"REGISTE": 4, b"SUBSCRI": 4, b"MESSAGE": 4, b"PUBLISH": 4}
_MARK: Final = "busy"  # our To tags inside calls are hexadecimal: none begins like this
_OUR_MARK: Final = re.compile(rb"\r\n(?:to|t)[ \t]*:[^\r\n]*;tag=busy", re.IGNORECASE)


URGENCIES: Final = 5
BEGINS_A_CALL: Final = 3


def urgency(data: bytes) -> int:
    """Where a datagram stands in the order of work; 0 goes first. CANCEL goes with the INVITEs: one that overtook its
    own would find nothing."""
    if data.startswith(_FIRST):
        return 0
    if data.startswith(b"SIP/2.0 "):
        return 1
    last = _LAST.get(data[:7], 2)
    return 2 if last == BEGINS_A_CALL and data[0] == 73 and inside(data) else last


def inside(data: bytes) -> bool:
    """Does this request belong to a call?"""
    return _TO_TAG.search(data) is not None


def acknowledges(data: bytes) -> bool:
    """Is this the ACK of a refusal made here? It has nothing to say to anybody."""
    return data.startswith(b"ACK ") and _OUR_MARK.search(data) is not None


class Scanned(NamedTuple):
    """The five headers of an INVITE that its refusal repeats, as written."""

    vias: tuple[str, ...]
    from_: str
    to: str
    call_id: str
    cseq: str

    @property
    def invite(self) -> str:
        """What the call is known by here."""
        return f"{self.call_id} {self.cseq}"


def dialled(data: bytes) -> str:
    """The user part of an INVITE's Request-URI, as written and without its parameters; "" where it has none."""
    found = _DIALLED.match(data)
    return found[1].decode() if found is not None else ""


def scan(data: bytes) -> Scanned | None:
    """The headers of an INVITE that begins a call; None when it is inside one, or anything about it is unusual: then
    the parser is asked."""
    head = data.partition(b"\r\n\r\n")[0]
    if not head.isascii() or not head.replace(b"\r\n", b"").decode().isprintable() or b"\r\n " in head:
        return None
    vias: list[str] = []
    once: dict[bytes, str] = {}
    for written, value in _LINE.findall(head):
        name = written.lower()
        name = _LONG.get(name, name)
        if name == b"via":
            vias.append(value.decode())
        elif name in once or not value:
            return None
        else:
            once[name] = value.decode()
    if len(once) < 4 or not vias or _ODD_VIA.search(vias[0]) or _TO_TAG.search(head):
        return None
    return Scanned(tuple(vias), once[b"from"], once[b"to"], once[b"call-id"], once[b"cseq"])


def refusal(scanned: Scanned, source: tuple[str, int], line: str, header: str, secret: bytes) -> bytes:
    """The answer, to be sent to `source`: its tag comes out the same each time (RFC 3261 8.2.7)."""
    tag = blake2s(f"{scanned.vias[0]} {scanned.call_id}".encode(), key=secret, digest_size=8).hexdigest()
    top = _RPORT.sub(f";rport={source[1]}", scanned.vias[0], count=1)  # RFC 3581 4
    vias = "".join([f"Via: {via}\r\n" for via in (f"{top};received={source[0]}", *scanned.vias[1:])])
    return (
        f"SIP/2.0 {line}\r\n{vias}From: {scanned.from_}\r\nTo: {scanned.to};tag={_MARK}{tag}\r\n"
        f"Call-ID: {scanned.call_id}\r\nCSeq: {scanned.cseq}\r\n{header}\r\nContent-Length: 0\r\n\r\n"
    ).encode()
