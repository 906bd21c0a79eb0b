"""The edge of one process: sockets, endpoint, trunks, relay and calls, put together, kept healthy, and taken down.

edge = Edge(house, clock and dice …)
async with edge.running():      # listening; calls are answered
    …
# left: new calls were refused, live ones waited for, the rest ended; every fact told
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from random import Random
from typing import Any, Final

import structlog

from masking import post, texts
from masking.config import TRANSPORTS, Listener
from masking.consultations import Consultant
from masking.house import House, Unavailable
from masking.logs import place
from masking.numbering import Number
from masking.originating import Command
from sipedge import demands, outgoing
from sipedge.admission import Admission, Door, Signals
from sipedge.calls import IncomingCall
from sipedge.circuits import Exchange
from sipedge.collector import Collector, Longest
from sipedge.driver import Driver
from sipedge.facts import Facts
from sipedge.floods import Floods
from sipedge.media.plane import PlaneError
from sipedge.media_plane import RelayClient
from sipedge.names import Names
from sipedge.orphans import Orphans, beat, heartbeat
from sipedge.outgoing import OutgoingCall
from sipedge.pings import Pings
from sipedge.registrations import Registrations
from sipedge.resolver import Resolver
from sipedge.shares import Shares
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Invited, Requested
from sipedge.sip.flows import Flow
from sipedge.sip.gate import Gate, Verdict
from sipedge.sip.messages import Request
from sipedge.sip.uris import Uri
from sipedge.stir import Verifier
from sipedge.tls import Credentials
from sipedge.trunks import Trunk, TrunkTable, caller, dialled

log = structlog.get_logger("sipedge.edge")

METHODS: Final = ("INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "OPTIONS", "INFO")
EXTENSIONS: Final = ("100rel", "timer")
BODIES: Final = ("application/sdp", "multipart/mixed", "application/dtmf-relay", "application/dtmf")
MAX_CALLS: Final = 20_000
TEXTS_AT_ONCE: Final = 50
SAMPLE_SECONDS: Final = 0.1  # between two looks at how late everything is
NEIGHBOURS_SECONDS: Final = 0.5  # … at how late the relay and Redis are
STORY: Final = "story"  # the tasks that are calls


class Edge:
    """One edge worker. `owner` is its heartbeat name; `is_gone(owner)` whether another owner is known to be dead."""

    def __init__(self, house: House, *, random: Random, owner: str, is_gone: Callable[[str], bool]) -> None:
        self.house = house
        config = house.config
        self.loop = asyncio.get_running_loop()
        self.trunks = TrunkTable(config.trunk, config.sip.proxy_entries)
        self.plane = RelayClient(config.relay_socket, owner)
        self.admission = Admission(self.loop.time())
        self.shares = Shares(config.tenant, self.trunks.trunks)
        self.tls = Credentials(config.sip, self.trunks) if config.sip.tls.certificate else None
        usable = ("udp", "tcp", "tls") if self.tls is not None else ("udp", "tcp")
        self.names = Names(self.trunks, Resolver(config.sip.resolver, usable))
        self.endpoint = Endpoint(
            entropy=house.random,
            advertise=lambda flow: self.driver.advertise(flow),
            route=self._next_hop,
            methods=METHODS,
            extensions=EXTENSIONS,
            accept=BODIES,
            admit=self._admit,
            widen=self._widen,
        )
        self.driver = Driver(
            self.loop,
            self.endpoint,
            may_ask=self.trunks.may_ask,
            may_answer=self.trunks.may_answer,
            advertise=config.sip.advertise,
            invited=self._invited,
            requested=self._requested,
            texted=self._texted,
            wall=house.now,
            tls=self.tls,
            floods=Floods(self.trunks.senders),
            door=lambda send: Door(
                self.admission,
                secret=house.random(16),
                random=random,
                send=send,
                full=self._is_full,
                assured=self.shares.assured,
            ),
        )
        self.exchange = Exchange(
            house=house,
            driver=self.driver,
            trunks=self.trunks,
            plane=self.plane,
            facts=Facts(),
            admission=self.admission,
            random=random,
            owner=owner,
            stir=Verifier(config.stir),
            consultant=Consultant(house),
            shares=self.shares,
            media_host=config.media.advertise,
        )
        self.orphans = Orphans(self.exchange, is_gone)
        self.gate = Gate(house.random)
        self.registrations = Registrations(self.driver, self.trunks.trunks, house.token, random)
        self.draining = False
        self.lateness = 0.0
        self.pauses = Longest(self.loop.time())
        self.collector = Collector(house.now)
        self._relay_late: float | None = None  # until the admission has heard of it
        self._redis_trip: float | None = None
        self._telling_texts = 0
        self._answering = 0  # invitations whose `Call` is not made yet
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- life --------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self, listeners: list[Listener], drain: float = 30.0) -> AsyncIterator[list[Listener]]:
        """Listens and serves; gives where it listens. On leaving, live calls get `drain` seconds to end themselves."""
        with contextlib.suppress(Unavailable):  # a call must never be claimed for an owner nobody has heard of
            await beat(self.exchange)
            await self.house.leases.prepare()
        await asyncio.to_thread(self.exchange.stir.load)
        await asyncio.to_thread(post.trusted)
        relay_up = asyncio.Event()
        background = [self._start(self.plane.run(relay_up.set)), self._start(heartbeat(self.exchange))]
        try:
            with contextlib.suppress(TimeoutError):  # without the relay calls are 503, which says more than no answer
                async with asyncio.timeout(5.0):
                    await relay_up.wait()
            if self.tls is not None:
                await asyncio.to_thread(self.tls.load)
            await self.names.look_up()
            bound = [await self.driver.wire.listen(listener) for listener in listeners]
            background += [
                self._start(Pings(self.driver, self.trunks, self.exchange.random).run()),
                self._start(self.names.run()),
                self._start(self.registrations.run()),
                *([self._start(self.tls.keep())] if self.tls is not None else []),
                self._start(self.orphans.run()),
                self._start(demands.serve(self.exchange, self.exchange.owner)),
                self._start(outgoing.serve(self.exchange, self._has_room, self._ordered)),
                self._start(self._watch_load()),
                self._start(self.collector.tidy(lambda: len(self.exchange.calls))),
                self._start(self._watch_neighbours()),
            ]
            yield bound
            await self._drain(drain)
        finally:
            for task in background:
                task.cancel()
            self.driver.close()
            await self.exchange.consultant.close()

    def _start(self, work: Coroutine[Any, Any, None], name: str | None = None) -> asyncio.Task[None]:
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_failed", error=type(error).__name__, at=place(error))

    async def _drain(self, seconds: float) -> None:
        """No new calls; those that are up may end by themselves for a while, then they are ended."""
        self.draining = self.endpoint.refusing = True
        log.info("draining", calls=len(self.exchange.calls))
        await self.registrations.leave()
        stories = [task for task in self._tasks if task.get_name() == STORY]
        if stories:
            await asyncio.wait(stories, timeout=seconds)
            for call in list(self.exchange.calls.values()):
                call.leave()
            await asyncio.wait(stories, timeout=2.0)
        await self.exchange.facts.settle(2.0)

    async def _watch_load(self) -> None:
        """Tells the admission how late everything is."""
        while True:
            before = self.loop.time()
            await asyncio.sleep(SAMPLE_SECONDS)
            self.lateness = self.loop.time() - before - SAMPLE_SECONDS
            self.pauses.add(max(self.lateness, self.driver.wire.take_longest_wait()), self.loop.time())
            signals = Signals(self.lateness, self.driver.wire.take_wait(), self._relay_late, self._redis_trip)
            self._relay_late = self._redis_trip = None
            for name in self.admission.sample(signals, self.loop.time()):
                self.exchange.counts[f"late_{name}"] += 1

    async def _watch_neighbours(self) -> None:
        """Asks the relay how late it is and Redis for nothing at all: how long that takes is the answer."""
        while True:
            await asyncio.sleep(NEIGHBOURS_SECONDS)
            before = self.loop.time()
            try:
                await self.house.redis.command("PING")
            except Unavailable:  # then nothing can be routed, and refusing costs least
                pass
            self._redis_trip = self.loop.time() - before
            try:
                self._relay_late = (await self.plane.feel()).late
            except PlaneError:
                self._relay_late = 0.0
            # A fault between the door and the call would keep that call's place for ever: they are counted anew.
            self.admission.recount(self._answering + sum(call.opening for call in self.exchange.calls.values()))

    def _is_full(self, source: tuple[str, int], user: str, now: float) -> int | None:
        """Why the trunk of that source, or the tenant of that number, may begin no more calls; None also where the
        source does not tell which trunk."""
        trunks = self.trunks.candidates(*source)
        return self.shares.full(trunks[0], self.shares.spelled(user), now, first=True) if len(trunks) == 1 else None

    def _admit(self, request: Request, now: float) -> bool:
        """May this INVITE begin a call?"""
        user = request.uri.user
        if len(self.exchange.calls) + self.shares.kept_from(self.shares.spelled(user)) >= MAX_CALLS:
            self.exchange.counts["overloaded"] += 1
            return False
        invite = f"{request.call_id} {request.header('cseq')}"
        return self.admission.take(invite, now, assured=self.shares.assured(user, now))

    def _has_room(self) -> bool:
        """Would this edge take up a call that the app asks for?"""
        crowded = len(self.exchange.calls) >= MAX_CALLS or self.admission.closed(self.loop.time())
        return not (self.draining or crowded)

    def _ordered(self, command: Command) -> bool:
        """Takes one up; False: it is for another edge."""
        if command.interaction in self.exchange.calls:  # asked for again while it is up
            return True
        if not self.admission.take(command.interaction, self.loop.time()):
            return False
        self._start(OutgoingCall(self.exchange, command).run(), STORY)
        return True

    # ---- what arrives ------------------------------------------------------------------------------------------------

    def _invited(self, event: Invited) -> None:
        self._answering += 1
        self._start(self._answer(event), STORY)

    async def _answer(self, event: Invited) -> None:
        try:
            trunk = await self.trunks.of(event.request, event.flow, self._owner_of)
            challenges = self._challenge(event, trunk) if trunk is not None else []
            call = IncomingCall(self.exchange, event, trunk) if trunk is not None and not challenges else None
        except Exception as error:  # a caller is never left without a final answer
            log.error("call_not_begun", error=type(error).__name__, at=place(error))
            self.exchange.counts["faults"] += 1
            self.admission.opened()
            self._refuse(event, 500)
            return
        finally:
            self._answering -= 1
        if call is not None:
            await call.run()
            return
        self.admission.opened()
        if challenges:
            self._refuse(event, 401, challenges)
        else:  # a proxy of ours that does not say by which trunk
            self.exchange.counts["unnamed_trunk"] += 1
            self._refuse(event, 403)

    def _challenge(self, event: Invited, trunk: Trunk) -> list[tuple[str, str]]:
        """What a call of a trunk that has to authenticate is asked; nothing once it has."""
        guest, host, now = trunk.guest, event.flow.remote[0], self.loop.time()
        if guest is None:
            return []
        verdict = self.gate.judge(event.request, guest, host, now)
        if verdict is Verdict.WELCOME:
            return []
        known = "authorization" in event.request.headers
        self.exchange.counts[f"auth_{verdict.name.lower()}" if known else "auth_asked"] += 1
        return self.gate.challenges(guest, host, now, stale=verdict is Verdict.STALE)

    def _refuse(self, event: Invited, code: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.endpoint.respond(event.transaction, code, self.loop.time(), headers=headers)
        self.driver.say()

    async def _owner_of(self, number: Number) -> str | None:
        try:
            found = await self.house.inventory.find(number)
        except Unavailable:  # the claim, which comes next, says so to the caller
            return None
        return found.trunk if found is not None else None

    def _texted(self, request: Request, flow: Flow) -> None:
        """A text on a trunk was answered 405; the session it was meant for is told, unless too many come at once."""
        if self._telling_texts < TEXTS_AT_ONCE:
            self._telling_texts += 1
            self._start(self._tell_text(request, flow))

    async def _tell_text(self, request: Request, flow: Flow) -> None:
        try:
            trunk = await self.trunks.of(request, flow, self._owner_of)
            if trunk is not None and trunk.guest is not None:  # its 405 asked for no proof: anybody may have sent it
                return
            called = dialled(trunk, request) if trunk is not None else None
            sender = caller(trunk, request) if trunk is not None else None
            if trunk is not None and called is not None and sender is not None:
                name, now = f"{request.call_id} {request.via.branch} {request.cseq.number}", self.house.now()
                await texts.refused(self.house, called=called, caller=sender, trunk=trunk.name, request=name, at=now)
        except Unavailable:  # nobody was promised to be told
            self.exchange.counts["texts_not_told"] += 1
        finally:
            self._telling_texts -= 1

    def _requested(self, event: Requested) -> None:
        """Requests that are no part of a call's story; those that would change a session have no call any more."""
        match event.request.method:
            case "OPTIONS":
                busy = self.endpoint.refusing or self.admission.closed(self.loop.time())
                code = 503 if busy and event.leg is None else 200
            case "INVITE" | "UPDATE" | "PRACK":
                code = 481
            case "INFO" if event.leg is not None:
                code = 200
            case _:
                code = 405 if event.leg is None else 501
        headers = [("Allow", ", ".join(METHODS))] if code in (200, 405) else []
        if event.request.method == "OPTIONS":
            headers.append(("Supported", ", ".join(EXTENSIONS)))
        if code == 503:
            headers.append(("Retry-After", str(self.exchange.random.randint(1, 5))))
        self.endpoint.respond(event.transaction, code, self.loop.time(), headers=headers)
        self.driver.say()

    def _widen(self, flow: Flow) -> Flow | None:
        """The stream that takes a request too long for a datagram (RFC 3261 18.1.1): only towards a trunk whose `uri`
        leaves the transport open, and that has not just refused one."""
        if not any(trunk.target.open_transport and flow.remote in trunk.targets for trunk in self.trunks.trunks):
            return None
        stream = self.driver.wire.flow_to("tcp", *flow.remote)
        return stream if self.driver.wire.serves(stream) else None

    def _next_hop(self, flow: Flow, uri: Uri) -> Flow:
        """Where a request inside a call goes: by the call's own connection while it stands (RFC 5923), else to the
        peer's Contact or first Route when that is a trunk's or a proxy's address, else back where the call came from. A
        Contact behind a NAT, or one that points at a stranger, is never followed."""
        if self.driver.wire.streams.stands(flow):
            return flow
        secure = (
            flow.transport == "tls" or uri.scheme == "sips"
        )  # what began over TLS never leaves it (RFC 3261 26.2.2)
        transport = "tls" if secure else uri.params.get("transport", flow.transport).lower()
        port = uri.port or (5061 if secure else 5060)
        if transport in TRANSPORTS and self.trunks.may_answer(transport, uri.host, port):
            known = self.trunks.candidates(uri.host, port)
            return self.driver.wire.flow_to(transport, uri.host, port, flow.peer or (known[0].name if known else ""))
        return flow
