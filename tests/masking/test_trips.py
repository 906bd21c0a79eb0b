"""Sessions of every kind, opened, closed, reopened, changed and called in any order, on a real Valkey whose time the
test moves: whatever happens, one dialling means one session, what the API shows is what calls do, and nobody who dials
a number they had reaches anybody but whom they had it with, or support."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from masking import amending, reopening, services, sessions
from masking.events import moment
from masking.latecalls import LateCallWish
from masking.pins import Pin
from masking.refusals import CannotReopen, Invalid, NumberPoolExhausted, ParticipantConflict, SessionClosed
from masking.routes import Challenge, Refusal, Route, keyed
from masking.services import ServiceChange
from masking.sessions import NewParticipant, Session, SessionChange
from masking.stages import Stage
from pools.keyring import Keyring
from pools.redis import Redis
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, STRANGER, World
from tests.redis_server import RedisServer

PEOPLE = [CUSTOMER, DRIVER, MERCHANT, STRANGER, MUSCOVITE]
SUPPORT = "+842473009999"
LATE = {
    "announce": LateCallWish(policy="announce"),
    "reopen": LateCallWish(policy="reopen"),
    "forward": LateCallWish(policy="forward", forward_to=SUPPORT),
}
TTL, QUARANTINE, OVERLAP = 100, 40, 30
Dialled = tuple[str, str, str | None]  # a phone, an X, an extension
PLACES = st.integers(0, 20)
SESSIONS: Any = {
    "people": st.lists(st.sampled_from(PEOPLE), min_size=2, max_size=3, unique=True),
    "service": st.sampled_from(["default", "default", "default", "axe", "pin"]),
    "model": st.sampled_from([None, "shared", "per_party"]),
    "quarantine": st.sampled_from([0, QUARANTINE, QUARANTINE]),
    "late": st.sampled_from(sorted(LATE)),
    "staged": st.booleans(),
}
SPANS = st.sampled_from([1, 10, 20, OVERLAP, QUARANTINE, TTL - 1, TTL, TTL + QUARANTINE])


def scarce(size: int) -> bytes:
    """Chance, but for PINs and extensions: those are of eight, so that they would meet were nobody looking."""
    return os.urandom(size) if size not in (8, 16) else bytes(size - 1) + bytes([os.urandom(1)[0] % 8])


@dataclass
class Trip:
    """What the test knows of a session: who took part by which number, since the API never shows one."""

    id: str
    numbers: dict[str, str]  # participant -> number
    late: str
    quarantine: int
    rests: dict[Dialled, float] = field(default_factory=dict)  # what was dialled, until when
    had: set[tuple[str, str]] = field(default_factory=set)  # (number, X) that anybody of it ever dialled
    overlaps: dict[tuple[str, str], float] = field(default_factory=dict)  # those of replaced numbers, until


class Trips(RuleBasedStateMachine):
    """Every rule does one thing as an app or a phone does it; then everything that is dialled is looked at."""

    def __init__(self, server: RedisServer, keyring: Keyring, folder: Path) -> None:
        super().__init__()
        assert server.ask("FLUSHALL") == b"+OK\r\n"
        self.runner = asyncio.Runner()
        self.redis = Redis(server.url, budget=2)
        self.world: World = self.run(World.make(self.redis, keyring, folder))
        self.world.house = replace(self.world.house, random=scarce)
        self.trips: list[Trip] = []
        self.numbers: list[str] = []

    def run(self, story: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(story)

    def teardown(self) -> None:
        try:
            for number in self.numbers:
                for person in PEOPLE:
                    self.dial(person, number)
        finally:
            self.run(self.redis.close())
            self.runner.close()

    @initialize(first=st.lists(st.fixed_dictionaries(SESSIONS), min_size=2, max_size=4))
    def fill(self, first: list[dict[str, Any]]) -> None:
        house = self.world.house
        for name, wishes in (
            ("default", {}),
            ("axe", {"number_model": "extension"}),
            ("pin", {"out_of_session": "pin"}),
        ):
            if name != "default":
                self.run(services.create(house, "acme", ServiceChange(unique_name=name, **wishes)))  # type: ignore[arg-type]
            self.numbers += self.run(self.world.pool(2, service=name))
        self.numbers += self.run(self.world.pool(2, "RU"))
        for wishes in first:
            self.open(**wishes)

    # ---- what an app does ----------------------------------------------------------------------------------------

    @rule(**SESSIONS)
    def open(self, people: list[str], service: str, model: Any, quarantine: int, late: str, staged: bool) -> None:
        wishes: dict[str, Any] = {
            "pair_quarantine": quarantine,
            "late_call": LATE[late],
            "ttl": TTL,
            "service": service,
        }
        if service == "default":
            wishes["number_model"] = model
        if service == "pin":
            wishes["pin"] = Pin(policy="unknown_caller", length=6)
        if staged:
            wishes["stages"] = self.stages()
        try:
            session = self.run(self.world.open(*people, **wishes))
        except NumberPoolExhausted:
            return
        self.trips.append(
            Trip(session.id, dict(zip([one.id for one in session.participants], people, strict=True)), late, quarantine)
        )

    def stages(self) -> list[Stage]:
        now = self.world.now[0]
        return [
            Stage(name="offer", until=moment(now + 20), direction="b_to_a"),
            Stage(name="active", until=moment(now + 60)),
            Stage(name="grace", direction="a_to_b"),
        ]

    def some(self, place: int) -> Trip | None:
        return self.trips[place % len(self.trips)] if self.trips else None

    @rule(place=PLACES)
    def close(self, place: int) -> None:
        if trip := self.some(place):
            self.run(sessions.close(self.world.house, self.world.access, trip.id))

    @rule(place=PLACES)
    def reopen(self, place: int) -> None:
        if trip := self.some(place):
            try:
                self.run(reopening.reopen(self.world.house, self.world.access, trip.id, ttl=TTL, expires_at=None))
            except CannotReopen:
                pass

    @rule(place=PLACES)
    def extend(self, place: int) -> None:
        if trip := self.some(place):
            self.tried(sessions.extend(self.world.house, self.world.access, trip.id, ttl=2 * TTL, expires_at=None))

    @rule(place=PLACES, staged=st.booleans())
    def stage(self, place: int, staged: bool) -> None:
        if trip := self.some(place):
            wish = SessionChange(stages=self.stages() if staged else [])
            self.tried(sessions.change(self.world.house, self.world.access, trip.id, wish))

    @rule(place=PLACES, who=st.integers(0, 2), person=st.sampled_from(PEOPLE))
    def swap(self, place: int, who: int, person: str) -> None:
        trip = self.some(place)
        if trip is None:
            return
        old = list(trip.numbers)[who % len(trip.numbers)]
        new = NewParticipant(identifier=person)
        after = self.tried(amending.swap(self.world.house, self.world.access, trip.id, old, new))
        if after is not None:
            [came] = {one.id for one in after.participants} - set(trip.numbers)
            del trip.numbers[old]
            trip.numbers[came] = person

    @rule(place=PLACES, which=st.integers(0, 5))
    def renumber(self, place: int, which: int) -> None:
        trip = self.some(place)
        view = self.view(trip) if trip is not None else None
        if trip is None or view is None:
            return
        numbers = sorted({proxy.number for one in view.participants for proxy in one.proxies})
        old = numbers[which % len(numbers)]
        story = amending.replace_number(self.world.house, self.world.access, trip.id, old, OVERLAP)
        if self.tried(story) is not None:
            for person in trip.numbers.values():
                trip.overlaps[person, old] = self.world.now[0] + OVERLAP

    def tried(self, story: Coroutine[Any, Any, Session]) -> Session | None:
        try:
            found: Session = self.run(story)
        except (SessionClosed, NumberPoolExhausted, ParticipantConflict, Invalid):
            return None
        return found

    @rule(span=SPANS)
    def pass_time(self, span: int) -> None:
        self.run(self.world.later(span))

    @rule(place=PLACES, which=st.integers(0, 3), short=st.booleans())
    def pass_time_to_an_edge(self, place: int, which: int, short: bool) -> None:
        """To when a session ends, its numbers have rested, or a stage is over, or just before; then all who ever
        dialled a number of it do."""
        if trip := self.some(place):
            session = self.run(sessions.get(self.world.house, self.world.access, trip.id))
            ends = (session.closed_at or session.expires_at).timestamp()
            edges = [ends, ends + trip.quarantine, *(one.until.timestamp() for one in session.stages if one.until)]
            edge = edges[which % len(edges)]
            self.run(self.world.later(max(0.0, round(edge - self.world.now[0], 3) - 0.001 * short)))
            for person, number in sorted({way[:2] for way in trip.rests if way[0] in PEOPLE}):
                self.dial(person, number)

    # ---- what a phone does ---------------------------------------------------------------------------------------

    @rule(place=st.integers(0, 7))
    def call(self, place: int) -> None:
        for person in PEOPLE:
            self.dial(person, self.numbers[place])

    def dial(self, person: str, number: str) -> None:
        """The call, and where the number leads to many, every extension that there ever was, and another."""
        met = self.met(person, number, None, self.world.dial(number, person))
        if not isinstance(met, Challenge) or not met.extension:
            return
        known = {extension for trip in self.trips for _, _, extension in trip.rests if extension is not None}
        for extension in sorted(known | {"999"}):
            self.world.calls += 1
            attempt = msgspec.structs.replace(met.attempt, interaction=f"int_{self.world.calls}")
            asked = msgspec.structs.replace(met, attempt=attempt)
            self.met(person, number, extension, keyed(self.world.house, asked, extension))

    def met(self, person: str, number: str, extension: str | None, call: Coroutine[Any, Any, Any]) -> Any:
        """What the call meets. Whoever is reached is whom the API shows, or was had with that number before; nobody is
        reached otherwise."""
        dialled = (person, number, extension)
        ways = [(trip.id, to) for trip in self.trips for to in self.reaches(trip, *dialled)]
        lived = {trip.id for trip in self.trips if self.view(trip) is not None}
        met = self.run(call)
        if ways and not isinstance(met, Challenge):
            assert isinstance(met, Route) == self.lets(ways[0], person), "the stage of the time says who calls whom"
            assert isinstance(met, Route) or met.decision == "direction"
        if not isinstance(met, Route):
            assert not ways or isinstance(met, Refusal), "a phone that is bound is asked for nothing"
            return met
        self.run(self.world.house.leases.append(met.session, [], end_call=met.interaction))
        [trip] = [trip for trip in self.trips if trip.id == met.session]
        callee = met.callee.reveal()
        if ways:
            assert ways == [(met.session, callee)]
        elif met.decision == "ended":
            assert (person, number) in trip.had and (trip.late, callee) == ("forward", SUPPORT)
        elif trip.id not in lived:
            assert (person, number) in trip.had and trip.late == "reopen", "the call has opened it again"
            assert self.reaches(trip, *dialled) == [callee] or self.goes_on(trip, person, number, callee)
        else:
            assert self.goes_on(trip, person, number, callee)
        return met

    def lets(self, way: tuple[str, str], person: str) -> bool:
        """Does the session's stage let the person call the other one?"""
        trip = next(trip for trip in self.trips if trip.id == way[0])
        view = self.run(sessions.get(self.world.house, self.world.access, trip.id))
        order = [trip.numbers[one.id] for one in view.participants]
        ways = {"offer": (1, 0), "grace": (0, 1)}
        return view.stage not in ways or ways[view.stage] == (order.index(person), order.index(way[1]))

    def goes_on(self, trip: Trip, person: str, number: str, callee: str) -> bool:
        """Is it a replaced number, which works for a while and is shown no more?"""
        within = self.world.now[0] < trip.overlaps[person, number]
        return within and {callee, person} <= set(trip.numbers.values())

    # ---- what must hold ------------------------------------------------------------------------------------------

    def view(self, trip: Trip) -> Session | None:
        """The session as the API shows it, while it is open."""
        view: Session = self.run(sessions.get(self.world.house, self.world.access, trip.id))
        return view if view.status != "closed" else None

    def reaches(self, trip: Trip, person: str, number: str, extension: str | None = None) -> list[str]:
        """Whom the person reaches by that dialling, as the API shows it."""
        view = self.view(trip)
        return [
            trip.numbers[proxy.to]
            for one in (view.participants if view is not None else [])
            for proxy in one.proxies
            if (trip.numbers[one.id], proxy.number, proxy.extension) == (person, number, extension)
        ]

    @invariant()
    def one_dialling_means_one_thing(self) -> None:
        """Nothing that is dialled means two open sessions, or one while it rests from another."""
        seen: dict[Dialled, tuple[str, str]] = {}
        for trip in self.trips:
            shown = self.shown(trip)
            for way, to in shown.items():
                assert seen.setdefault(way, (trip.id, to)) == (trip.id, to)
                trip.had.add(way[:2])
                trip.rests[way] = inf
            for way in [way for way, until in trip.rests.items() if until == inf and way not in shown]:
                trip.rests[way] = self.ended(trip, way) + trip.quarantine
        for way, (owner, _) in seen.items():
            assert all(trip.rests.get(way, 0) <= self.world.now[0] for trip in self.trips if trip.id != owner)

    def shown(self, trip: Trip) -> dict[Dialled, str]:
        """What may be dialled of an open session, and whom it means: phone, X and extension, or X and PIN."""
        found: dict[Dialled, str] = {}
        view = self.view(trip)
        for one in view.participants if view is not None else []:
            for proxy in one.proxies:
                found[trip.numbers[one.id], proxy.number, proxy.extension] = proxy.to
                if proxy.pin is not None:
                    found["whoever keys", proxy.number, proxy.pin] = proxy.to
        return found

    def ended(self, trip: Trip, way: Dialled) -> float:
        """When it did: with its session, or while that lives, now, or after an overlap."""
        session: Session = self.run(sessions.get(self.world.house, self.world.access, trip.id))
        if session.closed_at is not None:
            return session.closed_at.timestamp()
        return max(self.world.now[0], trip.overlaps.get(way[:2], 0))


def test_whatever_happens_to_sessions_one_dialling_means_one_of_them(
    redis_server: RedisServer, keyring: Keyring, tmp_path: Path
) -> None:
    class Machine(Trips):
        def __init__(self) -> None:
            super().__init__(redis_server, keyring, tmp_path)

    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    found = settings(  # a story of these takes minutes to make shorter: it is told as it was found
        max_examples=8,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=checks,
        phases=[Phase.explicit, Phase.generate],
    )
    run_state_machine_as_test(Machine, settings=found)
