"""The story of a masked call, read from top to bottom in `IncomingCall.story` and `Call.connect`.

One call is one task. `sipedge.circuits` holds its legs and its media and raises `Over` for whatever ends it, so the
story only says what comes next; `Call.finish` puts everything back, whatever way it ended. `sipedge.outgoing` has the
other beginning: the app asks for the call, and both people are rung.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final, NoReturn

import structlog

from masking import interactions, numbering, routes
from masking.demands import Action
from masking.house import Unavailable
from masking.interactions import Decision, Ending, Told
from masking.logs import place
from masking.numbering import Number
from masking.routes import Challenge, Claimed, Refusal, Route, Stranger
from masking.sentences import OURS
from sipedge import announcements, consultations, dialogues, refusing, reporting, snapshots, taping, trunks
from sipedge.causes import ROUTING_ERROR
from sipedge.circuits import Circuit, Demand, Exchange, Leave, Over, media_failed
from sipedge.hunting import Hunt, Sought
from sipedge.legs import Agreed, DialledLeg
from sipedge.media import sdp
from sipedge.media.plane import Digit, PlaneError, RecordingFailed
from sipedge.media.spoken import Asset
from sipedge.sip.events import Answered, Invited
from sipedge.trunks import Trunk

log = structlog.get_logger("sipedge.calls")

LOOKS_EVERY: Final = 1.0  # seconds between two looks at a session whose end ends its calls
BEEPS_EVERY: Final = 15.0  # seconds, while a recording runs that a beep tells of


MISSED: Final = frozenset({"busy", "declined", "no_answer", "unreachable"})


class Call:
    """One attempt of somebody to reach somebody else through a session. How it begins, its kind says in `story`."""

    def __init__(self, exchange: Exchange, interaction: str) -> None:
        self.exchange = exchange
        self.house = exchange.house
        self.circuit = Circuit(exchange, interaction)
        self.id = interaction
        self.state = "invited"
        self.facts: interactions.Call | None = None
        self.route: Route | None = None
        self.tenant = ""  # whose call it is, once that is known
        self.begun = False  # it holds its slot
        self.opening = True  # its second leg has not left yet
        self.ahead_at: float | None = None  # when the first leg was answered ahead of the second, if it was
        self._shown: list[Number] = []  # the virtual numbers that its legs see
        self._teller = exchange.facts.of(self.house, self.id)
        self._taken: list[Trunk] = []
        self.chosen = OURS  # the sentences it speaks
        self._rang = False
        self._keys = reporting.Keys()
        self._answered_at = 0.0
        self.recorded = False  # a recording of it has begun, and stands
        self.stopped = False  # … or has been ended before its call
        self._wanted = False  # one was asked for before the callee answered
        self._proven = 0  # of the notices, so many are told
        self._bridged: Awaitable[object] | None = None  # the bridge, where it was asked for with the answer

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"

    async def run(self) -> None:
        """Tells the story, then puts everything back; never raises on what a peer or a neighbour did."""
        self.exchange.calls[self.id] = self
        over = Over("platform", "fault", 500)
        try:
            await self.story()
        except Over as end:
            over = end.with_traceback(None)  # its frames point back at it: cut here, nothing waits for the collector
        except Exception as error:  # one call's failure ends that call alone, and is told without what a peer sent
            self.exchange.counts["faults"] += 1
            log.error("call_failed", interaction=self.id, state=self.state, error=type(error).__name__, at=place(error))
        finally:
            try:
                await self.finish(over)
            finally:
                del self.exchange.calls[self.id]

    def leave(self) -> None:
        """The edge is leaving: the call ends now."""
        self.circuit.inbox.put(Leave())

    # ---- the story ---------------------------------------------------------------------------------------------------

    async def story(self) -> NoReturn:
        """From the first word to the last BYE. Every step leads to the next or raises `Over`."""
        raise NotImplementedError

    async def connect(self, route: Route) -> NoReturn:
        """The second half of every story: whoever is to be reached is rung, answers, and both talk."""
        answer = await self.reach_callee(route)
        if self._wanted:
            route = taping.demanded(self, route)
        if route.confirmed_by_key:
            await dialogues.confirm(self, 2, route.callee_language, self.agree(answer))
        await self.answer_caller(route, answer)
        await taping.tell_both(self, route)
        await self.bridge()
        await self.talk(route)

    def begin(self, route: Route, *shown: str) -> None:
        """From here on the call holds its slot, and `finish` gives it back. `shown`: the virtual numbers that its legs
        see."""
        if not self.begun:
            self.state = "routed"
            self.begun = True
            self.route = route
            self.chosen = route.announcements
            self.facts = interactions.Call.of(route)
            if not self._taken:
                self.tenant = route.tenant
            self._shown = [Number.parse(number) for number in shown]
            self.exchange.shown.update(self._shown)

    def answered_ahead(self, route: Route, at: float) -> None:
        """The first leg was answered at `at`, before the second is rung: it is billed from there."""
        self.ahead_at = at
        self.tell(interactions.answered_fact, "platform", route.decision, at=at)
        self.keep_snapshot()

    async def reach_callee(self, route: Route) -> Answered:
        """Rings the callee."""
        if self.ahead_at is None:
            await self.circuit.open(legs=2)
            return await self.ring(route)
        try:
            return await self.ring(route)
        except Over as over:
            await dialogues.say_why(self, over)
            raise

    async def ring(self, route: Route) -> Answered:
        """The callee's phone rings, and sees the number that the callee knows."""
        sought = Sought(
            leg=2,
            phones=(route.callee, *route.further),
            shows=route.shows,
            trunk=route.trunk,
            country=route.country,
            ring_timeout=route.ring_timeout,
        )
        return await Hunt(self, sought).reach()

    def dials(self, number: int) -> None:
        """A leg is about to leave."""
        self.state = "dialling"
        if number == 2 and self.circuit.first.over:  # gave up while we asked the core: then nobody's phone rings
            raise Over("caller", "canceled", 487)

    def passes_early_media(self, leg: DialledLeg) -> bool:
        """Does the caller hear what the callee's network says before the answer?"""
        return leg.number == 2 and leg.trunk.config.early_media == "pass" and self.ahead_at is None

    async def rings(self, leg: DialledLeg) -> None:
        """The callee's 180 and 183 both reach the caller as 180 without a description: a network may speak the real
        number in its early media, so that passes only on trunks that say so."""
        self.state = "ringing"
        if leg.number == 2 and not self._rang:
            self._rang = True
            self.tell(interactions.ringing_fact)
            if self.ahead_at is None:
                self.circuit.caller.ring()
            else:
                await self.circuit.ring_back(self.trunk.country)

    async def answer_caller(self, route: Route, answer: Answered) -> None:
        """The caller's 200 goes out at once, unless it has it, and the recording begins here."""
        circuit, theirs = self.circuit, self.agree(answer)
        if self.ahead_at is None:
            circuit.answer_caller()
        self.state = "answered"
        self._answered_at = circuit.loop.time()
        self.tell(interactions.answered_fact)
        try:
            connected = circuit.plane.connect(self.id, 2, theirs.terms)
            if not route.record and circuit.offer is not None:  # nothing is to be told first: the bridge goes along
                self._bridged = circuit.plane.bridge(self.id)
            await taping.begin(self, route)
            await connected
            if circuit.offer is None:
                await circuit.delayed_answer()
        except PlaneError as problem:
            raise media_failed(problem) from None
        circuit.first.codec = circuit.offer.codec.name if circuit.offer is not None else None
        self.keep_snapshot()

    def agree(self, answer: Answered) -> Agreed:
        """What the answer of somebody we called leads to."""
        leg = self.circuit.leg(answer.leg)
        assert isinstance(leg, DialledLeg)
        try:
            theirs = self.circuit.read(leg.described(answer), leg.trunk, sdp.EVENTS_PAYLOAD)
        except sdp.BadSdp:
            theirs = None
        if theirs is None:
            raise Over("platform", "media", 480, 88)
        leg.agreed, leg.codec = theirs, theirs.codec.name
        return theirs

    async def bridge(self) -> None:
        """They hear each other."""
        try:
            await (self._bridged or self.circuit.plane.bridge(self.id))
        except PlaneError as problem:
            raise media_failed(problem) from None
        self.state = "bridged"
        self._proven = len(self.circuit.spoken)
        self.tell(interactions.bridged_fact, tuple(self.circuit.spoken))

    async def talk(self, route: Route) -> NoReturn:
        """Until one of them hangs up, or the time is over: the call's own, or its session's where that ends it."""
        self.circuit.first.let_go()
        limit, session_ends = self._answered_at + route.call_time_limit, inf
        warned = not 0 < route.warning_at < route.call_time_limit
        beeps_at = self.circuit.loop.time() + BEEPS_EVERY if route.told == "beep" else inf
        while True:
            now = self.circuit.loop.time()
            if route.ends_with_session:
                session_ends = await self.session_ends(route, session_ends)
            ends = min(limit, session_ends)
            if now >= ends:
                raise Over("platform", "limit" if limit <= session_ends else "session_end", 200)
            if not warned and now >= ends - route.warning_at:
                await self.warn()
                warned = True
            if now >= beeps_at:
                await taping.beep(self)
                beeps_at = now + BEEPS_EVERY
            next_look = now + LOOKS_EVERY if route.ends_with_session else inf
            await self.pass_keys(route, min(ends if warned else ends - route.warning_at, next_look, beeps_at))

    async def session_ends(self, route: Route, known: float) -> float:
        """When the call's session ends, by the loop's clock, as it is now: it may be closed, and prolonged. While the
        core cannot say, what it said before stands."""
        try:
            return self.circuit.loop.time() + await routes.seconds_left(self.house, route)
        except Unavailable:
            return known

    async def pass_keys(self, route: Route, until: float) -> None:
        """They talk by themselves; keys that one phone tells in words of its own reach the other in its own."""
        while (heard := await self.circuit.hear(until)) is not None:
            if isinstance(heard, Demand):
                await taping.obey(self, route, heard.action)
            elif isinstance(heard, Digit):
                await self.circuit.pass_key(heard)
                if self._keys.complete(heard, self.circuit.loop.time()):
                    await reporting.report(self, route, heard)

    async def warn(self) -> None:
        """Both hear that their time runs out; like every prompt of ours it is in no recording."""
        try:
            await self.circuit.plane.warn(self.id, 1)
            await self.circuit.plane.warn(self.id, 2)
        except PlaneError as problem:
            log.warning("not_warned", interaction=self.id, problem=problem.code)

    # ---- what the app asks of the recording --------------------------------------------------------------------------

    def demand(self, action: Action) -> None:
        """Something is asked while the call is up. Before its bridge only a recording can be."""
        if self.state == "bridged":
            self.circuit.inbox.put(Demand(action))
        elif action == "start":
            self._wanted = True

    # ---- what it is given --------------------------------------------------------------------------------------------

    @property
    def trunk(self) -> Trunk:
        """The trunk of the first leg."""
        return self.circuit.first.trunk

    def take(self, trunk: Trunk) -> int | None:
        """A place on a trunk, where the call counts once; the Q.850 cause when there is none."""
        if trunk not in self._taken:
            shares, now, first = self.exchange.shares, self.circuit.loop.time(), not self._taken
            full = shares.full(trunk, self.tenant, now, first=first)
            if full is not None:
                return full
            shares.take(trunk, self.tenant, now, first=first)
            self._taken.append(trunk)
        return None

    def sentence(self, situation: str, language: str | None = None, leg: int = 1) -> Asset | None:
        """What a leg is told in a situation, in its language where we know it; None: nothing."""
        country = self.circuit.legs[leg].trunk.country
        return announcements.sentence(self.chosen, self.house.voices, situation, language, country)

    def prompt(self, situation: str, language: str | None = None, leg: int = 1) -> Asset:
        """As `sentence`, where something is always said."""
        asset = self.sentence(situation, language, leg)
        assert asset is not None, "the core takes no silence for it"
        return asset

    def ask(self, question: Callable[[], Awaitable[object]]) -> None:
        """Something the core is to be told behind the call's back, again and again until it hears."""
        self._teller.ask(question)

    # ---- what is told and kept ---------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The second leg has left, or never will: the admission counts on hearing it once."""
        if self.opening:
            self.opening = False
            self.exchange.admission.opened()

    def recording_failed(self, event: RecordingFailed) -> None:
        taping.broken(self, event)

    def tell(self, fact: Callable[..., Told], *more: object, last: bool = False, at: float | None = None) -> None:
        """Tells the core a fact, as of now or `at`."""
        assert self.facts is not None
        self._teller.tell(fact(self.facts, self.house.now() if at is None else at, *more), last=last)

    def tell_missed(self, over: Over) -> None:
        """Whoever was rung and not reached may want to call back, also where the other gave up while they rang."""
        assert self.facts is not None and self.route is not None
        if self.facts.reached or not self.route.to_participant:
            return
        gave_up = self._rang and over.blame == "caller" and over.reason in ("canceled", "hangup")
        if gave_up:
            self.tell(interactions.missed_fact, self.route, "callee", "canceled")
        elif over.reason in MISSED and over.blame != "platform":
            self.tell(interactions.missed_fact, self.route, over.blame, over.reason)

    def keep_snapshot(self) -> None:
        """What another edge needs to end this call properly, should this one die."""
        facts, circuit = self.facts, self.circuit
        if facts is not None:
            endpoint = self.exchange.driver.endpoint
            dialogs = [endpoint.dialog(leg.token) for leg in circuit.legs.values()]
            snapshot = snapshots.Snapshot(
                tenant=facts.tenant,
                trunk=self.trunk.name,
                at=self.house.now(),
                answered_at=self.house.now(),
                recording=facts.recording,
            )
            state = snapshots.write(self.house, self.id, snapshot, [one for one in dialogs if one is not None])
            self._teller.tell(Told(facts, state=state))

    # ---- the end -----------------------------------------------------------------------------------------------------

    async def finish(self, over: Over) -> None:
        """Ends legs, media and slot, once, and gives back what was taken."""
        self.opened()
        bridged, self.state = self.state == "bridged", "ended"
        circuit = self.circuit
        circuit.end(over)
        self.exchange.shares.give(self._taken, self.tenant)
        for number in self._shown:
            self.exchange.shown[number] -= 1
            if not self.exchange.shown[number]:
                del self.exchange.shown[number]
        if self.begun:
            self.tell_missed(over)
            legs = tuple([leg.facts() for leg in circuit.legs.values()])
            ending = Ending(blame=over.blame, reason=over.reason, sip_code=over.code, legs=legs)
            untold = not bridged or len(circuit.spoken) > self._proven
            self.tell(interactions.ended_fact, ending, tuple(circuit.spoken) if untold else (), last=True)
        await circuit.close()


class IncomingCall(Call):
    """A participant, or anybody else, dials a virtual number."""

    def __init__(self, exchange: Exchange, invited: Invited, trunk: Trunk) -> None:
        super().__init__(exchange, exchange.house.token("int_"))
        self.caller = self.circuit.called(invited, trunk)
        self._offer_is_bad = False

    async def story(self) -> NoReturn:
        """From INVITE to BYE."""
        await self.admit()
        if numbering.is_emergency(self.trunk.country, self.caller.request.uri.digits):
            await refusing.emergency(self)
        caller = trunks.caller(self.trunk, self.caller.request)
        self.refuse_loop(caller)
        claimed = await self.claim(caller)
        if isinstance(claimed, Stranger):
            claimed = await consultations.introduce(self, claimed)
        if isinstance(claimed, Challenge):
            claimed = await dialogues.challenge(self, claimed)
        if isinstance(claimed, Refusal):
            await refusing.refuse(self, claimed)
        self.hold(claimed)
        if claimed.question is not None:
            await consultations.intercept(self, claimed, claimed.question)
        if self.ahead_at is not None:
            self.answered_ahead(claimed, self.ahead_at)
        await self.connect(claimed)

    async def admit(self) -> None:
        """May the trunk, and the tenant, have one more call, and can we speak with this one?"""
        if self.exchange.shares:
            self.tenant = await self.exchange.shares.tenant_of(self.house, self.trunk, self.caller.request)
        full = self.take(self.trunk)
        if full is not None:
            self.exchange.counts["trunk_limit"] += 1
            raise Over("platform", "trunk_limit", 480, full)
        try:
            self.circuit.offer = self.circuit.read(self.caller.request, self.trunk)
        except sdp.BadSdp:
            self._offer_is_bad = True

    def refuse_loop(self, caller: Number | None) -> None:
        """A caller that is a number which a call of ours is showing is that very call, sent back to us by the network
        (a phone that forwards to one of our numbers). Max-Forwards does not survive that way, so it is told by this
        (RFC 7332 1, RFC 3261 16.3)."""
        if caller is not None and self.exchange.shown[caller]:
            self.exchange.counts["loops"] += 1
            self.refused("no_binding", reason="loop")
            raise Over("caller", "loop", 482, ROUTING_ERROR)

    async def claim(self, caller: Number | None) -> Claimed:
        """One question to the core, one round trip: who is behind (dialled number, caller)?"""
        self.state = "claiming"
        request = self.caller.request
        called = trunks.dialled(self.trunk, request)
        if called is None:
            self.refused("no_binding")
            return Refusal(interaction=self.id, decision="no_binding")
        if self.exchange.facts.tell_ends():  # what has ended is in nobody's way: told in the same write, just before
            await asyncio.sleep(0)
        now = self.house.now()
        try:
            return await routes.claim(
                self.house,
                called=called,
                caller=caller,
                interaction=self.id,
                owner=self.exchange.owner,
                trunk=self.trunk.name,
                at=now,
                attestation=self.exchange.stir.attested(request, self.trunk.country, caller, called, now),
            )
        except Unavailable:  # fail closed: nobody is routed unmasked
            self.exchange.unsure[self.id] = self.circuit.loop.time()
            self.exchange.counts["core_unavailable"] += 1
            raise Over("platform", "unavailable", 503) from None

    def hold(self, route: Route) -> None:
        """The call has its slot, also while its caller is asked for a PIN."""
        self.begin(route, route.shows)
        self.check_offer()

    def check_offer(self) -> None:
        """Can we hear this caller at all?"""
        if self._offer_is_bad:
            raise Over("caller", "media", 488)

    async def answer_ahead(self) -> None:
        """The caller's 200 before anybody rings, since digits do not travel before it; and ears for its keys."""
        if self.ahead_at is not None:
            return
        self.check_offer()
        circuit = self.circuit
        await circuit.open(legs=2)
        circuit.answer_caller()
        self.state, self.ahead_at = "asking", self.house.now()
        self.opened()  # what comes now is a person's to do: it is no crowd at the door
        try:
            if circuit.offer is None:
                await circuit.delayed_answer()
            await circuit.plane.listen(self.id, 1)
        except PlaneError as problem:
            raise media_failed(problem) from None
        self.caller.codec = circuit.offer.codec.name if circuit.offer is not None else None
        self.keep_snapshot()

    def refused(self, decision: Decision, **more: str) -> None:
        """Tells of a refusal that the core was not asked about."""
        at, data = self.house.now(), {"reason": decision, "trunk": self.trunk.name, **more}
        self.ask(lambda: interactions.refused(self.house, interaction=self.id, decision=decision, at=at, data=data))
