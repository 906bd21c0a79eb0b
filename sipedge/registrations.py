"""Registering with trunks that learn from it where we are (RFC 3261 10.2).

`Registration` is what one trunk's registration does next, without a socket or a clock of its own; `Registrations` asks
for all of them. The Contact names our own address and the trunk's user name, nothing else. A registration is renewed at
half its time, and one that fails is tried again after ever longer pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, Literal, NamedTuple

import structlog

from sipedge.driver import Driver
from sipedge.sip.digest import MAX_TRIES
from sipedge.sip.events import Responded
from sipedge.sip.grammar import Malformed, read_int
from sipedge.sip.messages import NameAddr, Response
from sipedge.sip.uris import Uri, sip_uri
from sipedge.targets import Hop
from sipedge.trunks import Trunk

log = structlog.get_logger("sipedge.registrations")

TICK: Final = 0.5
PAUSE_FIRST: Final = 2.0  # seconds after the first failure, doubling
PAUSE_LAST: Final = 300.0
PAUSE_UNKNOWN: Final = 60.0  # after one that says our name or password is wrong: it will be so again
LONGEST: Final = 86_400  # seconds: nobody makes us promise more
SOON: Final = 5.0  # a registrar that grants less than ten seconds is asked every five
LEAVE_SECONDS: Final = 1.0  # what un-registering may take
REFUSED: Final = frozenset({401, 403, 404, 407})

State = Literal["waiting", "registered", "failed"]


class Heard(NamedTuple):
    """What an answer to REGISTER says: the seconds granted (0: gone), those it wants at least, those to wait."""

    status: int
    granted: int = 0
    at_least: int = 0
    wait: int = 0


class Registration:
    """One trunk's registration. `expires`: the seconds we ask for; `now` never runs backwards."""

    def __init__(self, expires: int, random: Random) -> None:
        self.expires = expires
        self.until = 0.0  # it holds so long
        self.failures = 0
        self.due: float | None = 0.0  # when to ask next; None: an answer is awaited, or we have left
        self.gone = False  # we have left: what is answered now comes too late
        self._random = random

    def state(self, now: float) -> State:
        if now < self.until:
            return "registered"
        return "failed" if self.failures else "waiting"

    def asked(self) -> None:
        self.due = None

    def heard(self, heard: Heard, now: float) -> None:
        """Takes the answer (408 for none, 503 where there was no way)."""
        if self.gone:
            return
        if heard.status < 300 and heard.granted:
            self.failures = 0
            self.until = now + heard.granted
            self.due = now + max(heard.granted / 2, min(SOON, heard.granted))
            return
        if heard.status == 423 and self.expires < heard.at_least <= LONGEST:  # RFC 3261 10.2.8
            self.expires = heard.at_least
            self.due = now
            return
        self.failures += 1
        pause = min(PAUSE_LAST, PAUSE_FIRST * 2.0 ** min(self.failures - 1, 20))
        if heard.status in REFUSED:
            self.until = 0.0
            pause = max(pause, PAUSE_UNKNOWN)
        pause = max(pause, min(heard.wait, PAUSE_LAST))
        self.due = now + pause * self._random.uniform(0.75, 1.25)  # many who lost one registrar return one by one

    def leave(self, now: float) -> bool:
        """Nothing more is asked; True when something stands, or may come to stand, that is to be taken back."""
        stands = self.state(now) == "registered" or self.due is None
        self.gone, self.until, self.due = True, 0.0, None
        return stands


def read(answer: Responded, contact: Uri) -> Heard:
    """An answer in our words. What it grants stands at our own Contact, else in Expires (RFC 3261 10.2.4)."""
    response = answer.response
    if response is None:
        return Heard(answer.status)
    try:
        if answer.status < 300:
            return Heard(answer.status, granted=_granted(response, contact))
        at_least = _seconds(response.header("min-expires")) if answer.status == 423 else 0
        return Heard(answer.status, at_least=at_least, wait=response.retry_after or 0)
    except Malformed:
        return Heard(answer.status)


def _granted(response: Response, contact: Uri) -> int:
    for value in response.values("contact"):
        bound = NameAddr.parse(value)
        ours = (bound.uri.user, bound.uri.host, bound.uri.port) == (contact.user, contact.host, contact.port)
        if ours and "expires" in bound.params:
            return _seconds(bound.params["expires"])
    return _seconds(response.header("expires"))


def _seconds(text: str | None) -> int:
    return min(read_int(text, 2**32 - 1), LONGEST) if text is not None else 0


class Registrations:
    """Keeps every trunk that says `register = true` registered."""

    def __init__(self, driver: Driver, trunks: Iterable[Trunk], token: Callable[[str], str], random: Random) -> None:
        """`token(prefix)` makes an unguessable name: each registration's Call-ID, for as long as we run."""
        self._driver = driver
        self._random = random
        self._hops: dict[Trunk, Hop] = {}  # which of its machines was asked last
        self._all = {t: Registration(t.config.register_expires, random) for t in trunks if t.config.register}
        self._call_ids = {trunk: token("reg-") for trunk in self._all}
        self._seq = 1
        self._told: dict[Trunk, State] = dict.fromkeys(self._all, "waiting")

    def states(self) -> dict[str, State]:
        """By the name of the trunk."""
        now = self._driver.loop.time()
        return {trunk.name: registration.state(now) for trunk, registration in self._all.items()}

    async def run(self) -> None:
        """Until cancelled."""
        while self._all:
            now = self._driver.loop.time()
            for trunk, registration in self._all.items():
                if registration.due is not None and registration.state(now) == "registered" and self._lost(trunk):
                    registration.due = now  # calls came by that connection
                if registration.due is not None and registration.due <= now:
                    self._ask(trunk, registration, registration.expires)
                self._tell(trunk, registration.state(now))
            await asyncio.sleep(TICK)

    async def leave(self) -> None:
        """Takes back what stands, so that no call is sent here any more; waits for the registrars, but not for long."""
        waiting = []
        for trunk, registration in self._all.items():
            if registration.leave(self._driver.loop.time()):
                waiting.append(self._ask(trunk, registration, 0))
        if waiting:
            await asyncio.wait(waiting, timeout=LEAVE_SECONDS)

    def _ask(self, trunk: Trunk, registration: Registration, expires: int) -> asyncio.Future[None]:
        """REGISTER; the future is done when it is answered."""
        answered: asyncio.Future[None] = self._driver.loop.create_future()
        now = self._driver.loop.time()
        registration.asked()
        hops = trunk.targets.in_order(now, self._random)
        if not hops or trunk.credentials is None:
            registration.heard(Heard(503), now)
            answered.set_result(None)
            return answered
        hop = self._hops[trunk] = hops[0]
        flow = self._driver.wire.flow_to(*hop, trunk.name)
        scheme = "sips" if trunk.target.secure else "sip"
        host = f"[{trunk.target.host}]" if ":" in trunk.target.host else trunk.target.host
        own = f"<{scheme}{sip_uri(trunk.credentials.username, host).removeprefix('sip')}>"
        way = "" if flow.transport == "udp" or trunk.target.secure else f";transport={flow.transport}"
        contact = scheme + sip_uri(trunk.credentials.username, self._driver.advertise(flow), way).removeprefix("sip")
        transaction = self._driver.endpoint.send_request(
            flow,
            "REGISTER",
            f"{scheme}:{trunk.target.hostport}",
            now,
            from_=own,
            to=own,
            headers=[("Contact", f"<{contact}>"), ("Expires", str(expires))],
            call_id=self._call_ids[trunk],
            seq=self._seq,
            credentials=trunk.credentials,
        )
        self._seq += MAX_TRIES + 1

        def hear(answer: Responded) -> None:
            now = self._driver.loop.time()
            registration.heard(read(answer, Uri.parse(contact)), now)
            if answer.status in (408, 503):  # RFC 3263 4.3: then another of its machines
                trunk.targets.failed(hop, now)
            else:
                trunk.targets.works(hop)
            if not answered.done():
                answered.set_result(None)

        self._driver.await_answer(transaction, hear)
        self._driver.say()
        return answered

    def _lost(self, trunk: Trunk) -> bool:
        """Has the connection gone by which the registrar reaches us?"""
        wire, hop = self._driver.wire, self._hops.get(trunk)
        return hop is not None and hop[0] != "udp" and not wire.streams.stands(wire.flow_to(*hop, trunk.name))

    def _tell(self, trunk: Trunk, state: State) -> None:
        if state != self._told[trunk]:
            self._told[trunk] = state
            log.warning("trunk_registration", trunk=trunk.name, state=state)
