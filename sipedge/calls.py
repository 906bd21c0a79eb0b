"""The story of a masked call, read from top to bottom in `Call.story`.

One call is one task. `sipedge.circuits` holds its legs and its media and raises `Over` for whatever ends it, so the
story only says what comes next; `Call.finish` puts everything back, whatever way it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from masking import interactions, numbering, routes
from masking.access import DEFAULT_TENANT
from masking.house import Unavailable
from masking.interactions import Channel, Decision, Ending, Told
from masking.logs import place
from masking.numbering import Number
from masking.routes import Challenge, Claimed, Refusal, Route
from sipedge import announcements, dialogues, session_timers, snapshots, trunks
from sipedge.causes import NO_ANSWER, ROUTING_ERROR, TIMER_EXPIRED, human
from sipedge.circuits import Circuit, Exchange, Leave, Over, media_failed
from sipedge.legs import Agreed, cause_in
from sipedge.media import sdp
from sipedge.media.plane import Digit, PlaneError
from sipedge.media.spoken import Asset
from sipedge.sip.events import Answered, Failed, Invited, Progressed
from sipedge.sip.messages import Malformed
from sipedge.targets import Hop
from sipedge.trunks import Trunk

log = structlog.get_logger("sipedge.calls")

SILENCE: Final = 2.0  # seconds without any response, not even 100, until a trunk is passed over

# A trunk that answers so has not reached the person: another may be tried. No human says any of these.
PASSED_OVER: Final = frozenset({408, 500, 502, 503, 504})
# What a callee's network says that a caller is told in the same words; everything else is 480.
UNREACHABLE: Final = frozenset({404, 480, 484, 488})


class Call:
    """One attempt to reach somebody through a session."""

    def __init__(self, exchange: Exchange, invited: Invited, trunk: Trunk) -> None:
        self.exchange = exchange
        self.house = exchange.house
        self.trunk = trunk
        self.circuit = Circuit(exchange, invited, trunk)
        self.id = self.circuit.id
        self.state = "invited"
        self.facts: interactions.Call | None = None
        self._begun = False
        self._shown: Number | None = None  # the virtual number that the callee sees
        self._teller = exchange.facts.of(self.house, self.id)
        self._taken: list[Trunk] = []
        self._offer_is_bad = False
        self._dialled_at = self._answered_at = 0.0
        self.keypad_at: float | None = None  # when the caller was answered for a keypad dialogue
        self._recording = False
        self.opening = True  # its second leg has not left yet
        self._bridged: Awaitable[object] | None = None  # the bridge, where it was asked for with the answer

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.state} {self.trunk.name}>"

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
        """From INVITE to BYE. Every step leads to the next or raises `Over`."""
        self.admit()
        if numbering.is_emergency(self.trunk.country, self.circuit.caller.request.uri.digits):
            await self.refuse_emergency()
        caller = trunks.caller(self.trunk, self.circuit.caller.request)
        self.refuse_loop(caller)
        claimed = await self.claim(caller)
        if isinstance(claimed, Challenge):
            claimed = await dialogues.challenge(self, claimed)
        if isinstance(claimed, Refusal):
            await self.refuse(claimed)
        self.begin(claimed)
        answer = await self.reach_callee(claimed)
        if claimed.confirmed_by_key:
            await dialogues.confirm(self, claimed, self.agree(answer))
        await self.answer_caller(claimed, answer)
        await self.tell_both(claimed)
        await self.bridge()
        await self.talk(claimed)

    def refuse_loop(self, caller: Number | None) -> None:
        """A caller that is a number which a call of ours is showing is that very call, sent back to us by the network
        (a phone that forwards to one of our numbers). Max-Forwards does not survive that way, so it is told by this
        (RFC 7332 1, RFC 3261 16.3)."""
        if caller is not None and self.exchange.shown[caller]:
            self.exchange.counts["loops"] += 1
            self._refused("no_binding", reason="loop")
            raise Over("caller", "loop", 482, ROUTING_ERROR)

    def admit(self) -> None:
        """May the trunk have one more call, and can we speak with this one?"""
        full = self.trunk.full(self.circuit.loop.time())
        if full is not None:
            self.exchange.counts["trunk_limit"] += 1
            raise Over("platform", "trunk_limit", 480, full)
        self._take(self.trunk)
        try:
            self.circuit.offer = self.circuit.read(self.circuit.caller.request, self.trunk)
        except sdp.BadSdp:
            self._offer_is_bad = True

    async def claim(self, caller: Number | None) -> Claimed:
        """One question to the core, one round trip: who is behind (dialled number, caller)?"""
        self.state = "claiming"
        request = self.circuit.caller.request
        called = trunks.dialled(self.trunk, request)
        if called is None:
            self._refused("no_binding")
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

    def begin(self, route: Route) -> None:
        """From here on the call holds its slot, and `finish` gives it back."""
        if not self._begun:
            self.state = "routed"
            self._begun = True
            self.facts = interactions.Call.of(route)
            self._shown = Number.parse(route.shows)
            self.exchange.shown[self._shown] += 1
        self.check_offer()

    def check_offer(self) -> None:
        """Can we hear this caller at all?"""
        if self._offer_is_bad:
            raise Over("caller", "media", 488)

    async def reach_callee(self, route: Route) -> Answered:
        """Rings the callee, by one trunk after the other until one of them reaches the person or says why not."""
        if self.keypad_at is None:
            await self.circuit.open(legs=2)
            return await self.ring(route)
        self._tell(interactions.answered_fact, "platform", route.decision, at=self.keypad_at)
        self.keep_snapshot()
        try:
            return await self.ring(route)
        except Over as over:
            await dialogues.say_why(self, over)
            raise

    async def ring(self, route: Route) -> Answered:
        """The trunks, best first."""
        deadline = self.circuit.loop.time() + route.ring_timeout
        failure = Over("platform", "no_trunk", 480, 3)
        for trunk in self._trunks_to(route):
            full = trunk.full(self.circuit.loop.time()) if trunk not in self._taken else None
            if full is not None:
                failure = Over("platform", "trunk_limit", 480, full)
                continue
            self._take(trunk)
            trunk.health.begins(self.circuit.loop.time())
            outcome = await self.try_trunk(trunk, route, deadline)
            now = self.circuit.loop.time()
            if isinstance(outcome, Answered):
                trunk.health.answered(now)
                return outcome
            if isinstance(outcome, Failed) and not self.goes_on(outcome):
                if outcome.status in (401, 407):  # it does not know us: nobody was reached
                    self.exchange.counts["trunk_refused_us"] += 1
                    trunk.health.failed(now)
                else:
                    trunk.health.reached(now)
                raise said_by_callee(outcome)
            self.exchange.counts["trunks_passed_over"] += 1
            trunk.doubted = True
            trunk.health.failed(now, rest_asked_by(outcome))
            failure = Over("callee", "unreachable", 480, cause_in(outcome) if outcome else TIMER_EXPIRED)
        raise failure

    def _trunks_to(self, route: Route) -> list[Trunk]:
        exchange, now = self.exchange, self.circuit.loop.time()
        return exchange.trunks.leaving(route.trunk, route.country, route.callee, exchange.random, now)

    async def try_trunk(self, trunk: Trunk, route: Route, deadline: float) -> Answered | Failed | None:
        """By one of the trunk's machines after the other (RFC 3263 4.3): how the last attempt ended."""
        outcome: Answered | Failed | None = None
        for hop in trunk.targets.in_order(self.circuit.loop.time(), self.exchange.random):
            outcome = await self.dial(trunk, hop, route, deadline)
            if isinstance(outcome, Failed) and (least := session_timers.wanted(outcome)):
                outcome = await self.dial(trunk, hop, route, deadline, least)
            if isinstance(outcome, Answered) or (outcome is not None and not self.goes_on(outcome)):
                trunk.targets.works(hop)
                break
            if outcome is None or outcome.status == 503:  # said by it, or that it could not be reached
                trunk.targets.failed(hop, self.circuit.loop.time())
        return outcome

    def goes_on(self, failed: Failed) -> bool:
        """Is there anything left to try after this?"""
        return self.state != "ringing" and passed_over(failed)

    async def dial(
        self, trunk: Trunk, hop: Hop, route: Route, deadline: float, interval: int = 0
    ) -> Answered | Failed | None:
        """One attempt: how it ended, None when the machine stayed silent. `interval`: the session's, where it has to be
        longer than ours."""
        self.state = "dialling"
        if self.circuit.caller.over:  # gave up while we asked the core: then nobody's phone rings
            raise Over("caller", "canceled", 487)
        leg = self.circuit.dial(trunk, hop, route, interval or self.house.config.sip.session_expires)
        self._opened()
        self._dialled_at = self.circuit.loop.time()
        silent_at = min(deadline, self._dialled_at + SILENCE)
        while True:
            match await self.circuit.hear(deadline if leg.heard_of else silent_at):
                case Answered() | Failed() as outcome:
                    return outcome
                case Progressed(status=183, response=early) if early.description and self.passes_early_media(trunk):
                    await self.relay_ringing()
                    await self.circuit.pass_early_media(leg, early)
                case Progressed():
                    await self.relay_ringing()
                case None if not leg.heard_of:
                    return None
                case None if self.circuit.loop.time() >= deadline:
                    (trunk.health.reached if leg.rung else trunk.health.failed)(deadline)
                    raise Over("callee", "no_answer", 480, NO_ANSWER)

    def passes_early_media(self, trunk: Trunk) -> bool:
        """Does the caller hear what the callee's network says before the answer?"""
        return trunk.config.early_media == "pass" and self.keypad_at is None

    async def relay_ringing(self) -> None:
        """The callee's 180 and 183 both reach the caller as 180 without a description: a network may speak the real
        number in its early media, so that passes only on trunks that say so."""
        if self.circuit.callee is not None and self.circuit.callee.rung and self.state != "ringing":
            self.state = "ringing"
            now = self.circuit.loop.time()
            self.circuit.callee.trunk.health.rang(now - self._dialled_at, now)
            self._tell(interactions.ringing_fact)
            if self.keypad_at is None:
                self.circuit.caller.ring()
            else:
                await self.circuit.ring_back(self.trunk.country)

    async def answer_caller(self, route: Route, answer: Answered) -> None:
        """The caller's 200 goes out at once, unless it has it, and the recording begins here."""
        circuit, theirs = self.circuit, self.agree(answer)
        if self.keypad_at is None:
            circuit.answer_caller()
        self.state = "answered"
        self._answered_at = circuit.loop.time()
        self._tell(interactions.answered_fact)
        try:
            connected = circuit.plane.connect(self.id, 2, theirs.terms)
            if not route.record and circuit.offer is not None:  # nothing is to be told first: the bridge goes along
                self._bridged = circuit.plane.bridge(self.id)
            await self.record(route)
            await connected
            if circuit.offer is None:
                await circuit.delayed_answer()
        except PlaneError as problem:
            raise media_failed(problem) from None
        circuit.caller.codec = circuit.offer.codec.name if circuit.offer is not None else None
        self.keep_snapshot()

    def agree(self, answer: Answered) -> Agreed:
        """What the callee's answer leads to."""
        callee = self.circuit.callee
        assert callee is not None
        try:
            theirs = self.circuit.read(callee.described(answer), callee.trunk, sdp.EVENTS_PAYLOAD)
        except sdp.BadSdp:
            theirs = None
        if theirs is None:
            raise Over("platform", "media", 480, 88)
        callee.agreed, callee.codec = theirs, theirs.codec.name
        return theirs

    async def record(self, route: Route) -> None:
        """Begins the recording the route asks for; one that cannot begin is neither announced nor kept."""
        if not route.record or route.recording is None:
            return
        try:
            await self.circuit.plane.record(self.id, route.recording, str(self.house.config.spool_dir))
        except PlaneError as problem:
            self.exchange.counts["recordings_not_begun"] += 1
            log.error("recording_not_begun", interaction=self.id, recording=route.recording, problem=problem.code)
            if self.facts is not None:
                self.facts.recording = None
            return
        self._recording = True
        channels = (
            Channel(index=1, participant=route.from_participant, role=route.from_role),
            Channel(index=2, participant=route.to_participant, role=route.to_role),
        )
        self._tell(interactions.recording_started_fact, channels)

    async def tell_both(self, route: Route) -> None:
        """The notice, to both at once, each in its own language. Nobody is recorded who was not told: without the
        notice there is no recording."""
        if not self._recording or self.circuit.callee is None:
            return
        spoken = (
            announcements.notice(route.caller_language, self.trunk.country),
            announcements.notice(route.callee_language, self.circuit.callee.trunk.country),
        )
        try:
            await self.circuit.speak(spoken)
        except PlaneError as problem:
            log.error("notice_not_spoken", interaction=self.id, problem=problem.code)
            self._recording = False
            try:
                await self.circuit.plane.end(self.id)
            except PlaneError as worse:
                raise media_failed(worse) from None

    async def bridge(self) -> None:
        """They hear each other."""
        try:
            await (self._bridged or self.circuit.plane.bridge(self.id))
        except PlaneError as problem:
            raise media_failed(problem) from None
        self.state = "bridged"
        self._tell(interactions.bridged_fact, tuple(self.circuit.spoken))

    async def talk(self, route: Route) -> NoReturn:
        """Until one of them hangs up, or the time is over."""
        self.circuit.caller.request.let_go()
        limit = self._answered_at + route.call_time_limit
        if 0 < route.warning_at < route.call_time_limit:
            await self.pass_keys(limit - route.warning_at)
            await self.warn()
        await self.pass_keys(limit)
        raise Over("platform", "limit", 200)

    async def pass_keys(self, until: float) -> None:
        """They talk by themselves; keys that one phone tells in words of its own reach the other in its own."""
        while (heard := await self.circuit.hear(until)) is not None:
            if isinstance(heard, Digit):
                await self.circuit.pass_key(heard)

    async def warn(self) -> None:
        """Both hear that their time runs out; like every prompt of ours it is in no recording."""
        try:
            await self.circuit.plane.warn(self.id, 1)
            await self.circuit.plane.warn(self.id, 2)
        except PlaneError as problem:
            log.warning("not_warned", interaction=self.id, problem=problem.code)

    # ---- refusing ----------------------------------------------------------------------------------------------------

    async def refuse(self, refusal: Refusal) -> NoReturn:
        """No call: what the caller hears, and the code that follows."""
        self.exchange.counts[f"refused_{refusal.decision}"] += 1
        self._begun = False  # it is told, and its slot is free
        if refusal.decision == "limit" and refusal.reason is None:
            over = Over("platform", "limit", 486)
            if self.keypad_at is not None:
                await dialogues.say_why(self, over)
            raise over
        _, code = announcements.SPOKEN[refusal.decision]
        if refusal.session is not None:
            self.facts = interactions.Call(
                interaction=self.id,
                session=refusal.session,
                tenant=refusal.tenant or DEFAULT_TENANT,
                owner=self.exchange.owner,
            )
        await self.announce(announcements.refusal(refusal.decision, self.trunk.country), refusal.decision, code)

    async def refuse_emergency(self) -> NoReturn:
        """Never masked, and told so before anything else is asked: hang up and dial it yourself."""
        self.exchange.counts["refused_emergency"] += 1
        self._refused("emergency", dialled=self.circuit.caller.request.uri.digits)
        await self.announce(announcements.emergency(self.trunk.country), "emergency", 403)

    async def announce(self, asset: Asset | None, why: str, code: int) -> NoReturn:
        """One announcement, then the code; the code alone where nothing can be heard."""
        self._opened()  # what is left is the relay's to speak: seconds of it are no crowd at the door
        way = self.trunk.config.announce
        if self.keypad_at is not None and asset is not None:
            try:
                await self.circuit.speak((asset,))
            except PlaneError as problem:
                log.warning("announcement_not_spoken", interaction=self.id, problem=problem.code)
        elif asset is not None and self.circuit.offer is not None and way != "none":
            self.state = "announcing"
            try:
                await self.circuit.open(legs=1)
            except Over:
                raise Over("platform", why, code) from None
            try:
                await (self.answer_ourselves() if way == "answer" else self.progress())
                await self.circuit.speak((asset,))
            except PlaneError as problem:
                log.warning("announcement_not_spoken", interaction=self.id, problem=problem.code)
        raise Over("platform", why, code)

    async def progress(self) -> None:
        """183: early media, no charge."""
        if not self.circuit.caller.progress(self.circuit.our_answer()):
            raise Over("caller", "canceled", 487)

    async def answer_ourselves(self) -> None:
        """For carriers that mute early media: 200, and the interaction says that the platform answered."""
        self.circuit.answer_caller()
        await self.circuit.acked()
        if self.facts is not None:
            self._tell(interactions.answered_fact, "platform")

    # ---- keypad dialogues (`sipedge.dialogues`) ----------------------------------------------------------------------

    async def answer_first(self) -> None:
        """The caller's 200 before anybody rings, since digits do not travel before it; and ears for its keys."""
        if self.keypad_at is not None:
            return
        self.check_offer()
        circuit = self.circuit
        await circuit.open(legs=2)
        circuit.answer_caller()
        self.state, self.keypad_at = "asking", self.house.now()
        self._opened()  # what comes now is a person's to do: it is no crowd at the door
        try:
            if circuit.offer is None:
                await circuit.delayed_answer()
            await circuit.plane.listen(self.id, 1)
        except PlaneError as problem:
            raise media_failed(problem) from None
        circuit.caller.codec = circuit.offer.codec.name if circuit.offer is not None else None
        self.keep_snapshot()

    def prompt(self, name: str, language: str | None = None) -> Asset:
        """What the caller is told, in its language where we know it."""
        return announcements.prompt(name, language, self.trunk.country)

    def ask(self, question: Callable[[], Awaitable[object]]) -> None:
        """Something the core is to be told behind the call's back, again and again until it hears."""
        self._teller.ask(question)

    # ---- what is told and kept ---------------------------------------------------------------------------------------

    def _opened(self) -> None:
        """The second leg has left, or never will: the admission counts on hearing it once."""
        if self.opening:
            self.opening = False
            self.exchange.admission.opened()

    def _take(self, trunk: Trunk) -> None:
        """A call counts once on every trunk it touches."""
        if trunk not in self._taken:
            trunk.take()
            self._taken.append(trunk)

    def _tell(self, fact: Callable[..., Told], *more: object, last: bool = False, at: float | None = None) -> None:
        """Tells the core a fact, as of now or `at`."""
        assert self.facts is not None
        self._teller.tell(fact(self.facts, self.house.now() if at is None else at, *more), last=last)

    def _refused(self, decision: Decision, **more: str) -> None:
        """Tells of a refusal that the core was not asked about."""
        at, data = self.house.now(), {"reason": decision, "trunk": self.trunk.name, **more}
        self._teller.ask(
            lambda: interactions.refused(self.house, interaction=self.id, decision=decision, at=at, data=data)
        )

    def keep_snapshot(self) -> None:
        """What another edge needs to end this call properly, should this one die."""
        facts, circuit = self.facts, self.circuit
        if facts is not None:
            endpoint = self.exchange.driver.endpoint
            legs = [leg for leg in (circuit.caller, circuit.callee) if leg is not None]
            dialogs = [endpoint.dialog(leg.token) for leg in legs]
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
        self._opened()
        bridged, self.state = self.state == "bridged", "ended"
        circuit = self.circuit
        circuit.end(over)
        for trunk in self._taken:
            trunk.give()
        if self._shown is not None:
            self.exchange.shown[self._shown] -= 1
            if not self.exchange.shown[self._shown]:
                del self.exchange.shown[self._shown]
        if self._begun:
            legs = (circuit.caller.facts(), *((circuit.callee.facts(),) if circuit.callee is not None else ()))
            ending = Ending(blame=over.blame, reason=over.reason, sip_code=over.code, legs=legs)
            self._tell(interactions.ended_fact, ending, () if bridged else tuple(circuit.spoken), last=True)
        await circuit.close()


def passed_over(failed: Failed) -> bool:
    """Did the trunk fail to reach the person? A gateway's 503 that means "busy" has reached them."""
    return human(failed.status, cause_in(failed)) in PASSED_OVER


def rest_asked_by(outcome: Failed | None) -> int | None:
    """The seconds of a 503's Retry-After (RFC 3261 21.5.4)."""
    if outcome is None or outcome.status != 503 or outcome.response is None:
        return None
    try:
        return outcome.response.retry_after
    except Malformed:
        return None


def said_by_callee(failed: Failed) -> Over:
    """A callee that was reached and did not answer: who said it, in which of our words."""
    cause = cause_in(failed)
    match human(failed.status, cause):
        case 486 | 600:
            return Over("callee", "busy", 486, cause)
        case 603 | 607 | 608:
            return Over("callee", "declined", 603, cause)
        case code if code in UNREACHABLE:
            return Over("callee", "unreachable", code, cause)
        case _:
            return Over("callee", "unreachable", 480, cause)
