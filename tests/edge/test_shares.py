"""What one tenant is guaranteed holds under another's flood, and nobody gets more than it may have."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking import interactions, opening, originating, services, sessions
from masking.access import SCOPES, Access
from masking.config import BadConfig, TenantSection, TrunkSection, load
from masking.originating import Wanted
from masking.sessions import NewParticipant, NewSession
from pools.inventory import Item
from sipedge.causes import CONGESTION, NO_CIRCUIT
from sipedge.shares import Shares
from sipedge.sip.events import Answered, Cancelled, Ended, Failed, Invited
from sipedge.trunks import Trunk
from tests.edge.conftest import ACCESS, CUSTOMER, DRIVER, Make, Opener, Place, X, trunk
from tests.edge.phones import Phone

SURE = TenantSection(
    name="sure", guaranteed_channels={"callers": 8, "callees": 8}, guaranteed_cps={"callers": 12, "callees": 12}
)


def one_trunk(max_calls: int, max_cps: int) -> Trunk:
    section = TrunkSection(
        name="t", uri="sip:127.0.0.1:5070", sources=["127.0.0.1"], country="VN", max_calls=max_calls, max_cps=max_cps
    )
    return Trunk(section)


# ---- by itself -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0.0, 0.2)), max_size=300))
def test_whatever_others_do_what_is_guaranteed_is_there_and_no_trunk_takes_more_than_it_may(
    moves: list[tuple[str, bool, float]],
) -> None:
    here = one_trunk(max_calls=12, max_cps=20)
    sections = [
        TenantSection(name="a", guaranteed_channels={"t": 5}, guaranteed_cps={"t": 6}),
        TenantSection(name="b", guaranteed_channels={"t": 3}, guaranteed_cps={"t": 2}, max_channels=6, max_cps=9),
    ]
    shares, live, now, begun = Shares(sections, [here]), Counter[str](), 100.0, list[tuple[float, str]]()
    for tenant, begins, later in moves:
        now += later
        if not begins:
            if live[tenant]:
                live[tenant] -= 1
                shares.give([here], tenant)
            continue
        full = shares.full(here, tenant, now, first=True)
        sure = {"a": (5, 6), "b": (3, 2)}.get(tenant, (0, 0))
        lately = sum(1 for at, who in begun if who == tenant and at > now - 1.0)
        if live[tenant] < sure[0] and lately < sure[1] / 2:  # a bucket of six a second is full again in one
            assert full is None, "it is guaranteed"
        if full is None:
            shares.take(here, tenant, now, first=True)
            live[tenant] += 1
            begun.append((now, tenant))
        assert here.calls == live.total() <= 12 and live["b"] <= 6
        assert sum(1 for at, _ in begun if at > now - 1.0) <= 2 * 20, "a second's worth at once, and a second's"


def test_a_tenants_own_limits_have_their_causes_and_are_counted() -> None:
    here, there = one_trunk(100, 100), one_trunk(100, 100)
    shares = Shares([TenantSection(name="b", max_channels=2, max_cps=3)], [here])
    for _ in range(2):
        assert shares.full(here, "b", 10.0, first=True) is None
        shares.take(here, "b", 10.0, first=True)
    assert shares.full(here, "b", 10.0, first=True) == NO_CIRCUIT
    assert shares.full(there, "b", 10.0, first=False) is None, "a call that has its place may go by another trunk"
    shares.give([here], "b")
    shares.take(here, "b", 10.0, first=True)
    shares.give([here], "b")
    assert shares.full(here, "b", 10.0, first=True) == CONGESTION
    assert shares.full(here, "b", 11.0, first=True) is None and shares.of["b"].refused == {"34": 1, "42": 1}
    assert not shares.assured("+84", 11.0) and bool(shares) and not Shares([TenantSection(name="c")], [here])


@pytest.mark.parametrize(
    ("tenant", "said"),
    [
        ("guaranteed_channels = { nowhere = 1 }", "no such trunk; known are: callers"),
        ("guaranteed_channels = { callers = 11 }", "on trunk callers: 11, over its max_calls, 10"),
        ("guaranteed_cps = { callers = 6 }", "over its max_cps, 5"),
        ("guaranteed_cps = { callers = -1 }", "expected a number"),
        ("guaranteed_channels = { callers = 5 }\nmax_channels = 4", "more than its own max_channels, 4"),
    ],
)
def test_nobody_is_promised_what_is_not_there(tmp_path: Any, tenant: str, said: str) -> None:
    path = tmp_path / "masking.toml"
    path.write_text(
        '[[trunk]]\nname = "callers"\nuri = "sip:127.0.0.1:5070"\nsources = ["127.0.0.1"]\ncountry = "VN"\n'
        f'max_calls = 10\nmax_cps = 5\n[[tenant]]\nname = "acme"\n{tenant}\n'
    )
    with pytest.raises(BadConfig, match=said):
        load(path, {})


# ---- at the edge -----------------------------------------------------------------------------------------------------


class Callers:
    """Many people on one phone, each calling when told; what became of them."""

    def __init__(self, phone: Phone, holds: float) -> None:
        self.phone = phone
        self.holds = holds  # seconds after the answer
        self.codes: Counter[int] = Counter()
        self.causes: Counter[int | None] = Counter()
        self.legs: set[str] = set()
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        while True:
            event = await self.phone._events.get()
            match event:
                case Answered():
                    self.codes[200] += 1
                    self.phone.loop.call_later(self.holds, self.hang_up, event.leg)
                case Failed():
                    self.codes[event.status] += 1
                    self.causes[event.response.cause if event.response is not None else None] += 1
                case _:
                    pass

    def hang_up(self, leg: str) -> None:
        self.phone.hang_up(leg)

    async def call(self, place: Place, dialled: list[str], rate: float, seconds: float) -> int:
        """As fast as `rate` a second; how many calls."""
        count = round(rate * seconds)
        for n in range(count):
            self.phone.call(place.address, dialled[n % len(dialled)], from_=f"<sip:+84901{n % len(dialled):06}@c>")
            await asyncio.sleep(1.0 / rate)
        return count


async def answer(phone: Phone) -> None:
    """Everybody answers at once."""
    while True:
        event = await phone._events.get()
        if isinstance(event, Invited):
            phone.answer(event)
        elif isinstance(event, (Ended, Cancelled)):
            continue


async def sessions_of(place: Place, tenant: str, numbers: list[str], people: str) -> list[str]:
    """One session on each number: what its first person dials."""
    access = Access(tenant, "key_test", frozenset(SCOPES))
    await place.house.redis.command("SADD", "tenants", tenant)
    service = await services.get(place.house, tenant, "default")
    await place.house.inventory.add(tenant, service.id, [Item(number, "VN", "callees") for number in numbers])
    dialled = []
    for n in range(len(numbers)):
        pair = [NewParticipant(identifier=f"+84901{n:06}"), NewParticipant(identifier=f"{people}{n:06}")]
        new = NewSession(participants=pair, record="never", max_concurrent_calls=100)
        session, _ = await opening.open_session(place.house, access, new)
        dialled.append(session.participants[0].proxies[0].number)
    return dialled


@pytest.mark.parametrize("guaranteed", [True, False])
async def test_a_tenants_guaranteed_calls_are_set_up_while_another_floods_their_trunk(
    open_edge: Opener, phones: Make, guaranteed: bool
) -> None:
    ours, theirs, callees = phones("+84901000000"), phones("+84901000001"), phones("+84902000000")
    small: dict[str, Any] = {"max_calls": 12, "max_cps": 25}
    place = await open_edge(
        trunk("callers", ours, theirs, **small), trunk("callees", callees, **small), tenants=(SURE,) * guaranteed
    )
    sure = await sessions_of(place, "sure", [f"+8424710000{n:02}" for n in range(8)], "+84902")
    flood = await sessions_of(place, "flood", [f"+8424710001{n:02}" for n in range(8)], "+84903")
    answering = asyncio.create_task(answer(callees))
    a, b = Callers(ours, holds=0.1), Callers(theirs, holds=1.0)
    flooding = asyncio.create_task(b.call(place, flood, rate=120.0, seconds=1.8))
    await asyncio.sleep(0.4)  # the flood has taken all it can get
    asked = await a.call(place, sure, rate=8.0, seconds=1.25)
    await flooding
    await asyncio.sleep(0.5)
    b.holds = 0.0
    for call in list(place.edge.exchange.calls.values()):
        call.leave()
    await place.idle(5.0)
    for task in (answering, a.reading, b.reading):
        task.cancel()
    assert a.codes.total() == asked and b.codes.total() > 100
    if guaranteed:
        assert a.codes == {200: asked}
        assert place.edge.shares.of["sure"].total == 0 and not +place.edge.shares.of["sure"].calls
    else:
        assert a.codes[200] < asked / 2, "else the test shows nothing"
    # Beyond a trunk's own limit it is 480 with Q.850 34 or 42, never 503.
    assert set(b.codes) <= {200, 480} and set(b.causes) <= {NO_CIRCUIT, CONGESTION}
    assert b.codes[200] >= 4, "what is left is everybody's"
    assert [one.calls for one in place.edge.trunks.trunks] == [0, 0]


async def test_a_guaranteed_call_gets_through_an_overloaded_edge_and_an_unknown_number_does_not(
    open_edge: Opener, phones: Make
) -> None:
    ours, callees = phones("+84901000000"), phones("+84902000000")
    place = await open_edge(trunk("callers", ours), trunk("callees", callees), tenants=(SURE,))
    [sure] = await sessions_of(place, "sure", ["+842471000000"], "+84902")
    answering = asyncio.create_task(answer(callees))
    a = Callers(ours, holds=0.05)
    await a.call(place, [sure], rate=20.0, seconds=0.05)  # from now on the edge knows whose number it is
    async with asyncio.timeout(5.0):
        while a.codes[200] < 1:
            await asyncio.sleep(0.01)
    place.edge.admission.rate = place.edge.admission._tokens = 0.0
    place.edge.admission.sample = lambda signals, now: ()  # type: ignore[method-assign]
    await a.call(place, [sure, "+842471999999"], rate=10.0, seconds=0.6)
    async with asyncio.timeout(5.0):
        while a.codes.total() < 7:
            await asyncio.sleep(0.01)
    await place.idle(5.0)
    for task in (answering, a.reading):
        task.cancel()
    assert a.codes == {200: 4, 503: 3}


async def test_a_call_that_the_app_asks_for_is_its_tenants_too(open_edge: Opener, phones: Make) -> None:
    customer, driver = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(
        trunk("customers", customer, prefixes=["+84901"]),
        trunk("drivers", driver, prefixes=["+84907"]),
        tenants=(TenantSection(name="default", max_channels=1),),
    )
    await place.numbers(*X[:2])
    session = await place.session(CUSTOMER, DRIVER, max_concurrent_calls=2)
    wish = Wanted(from_=session.participants[0].id)
    await originating.originate(place.house, ACCESS, session.id, wish)
    first = await customer.expect(Invited)
    share = place.edge.shares.of["default"]
    assert share.total == 1 and share.calls == {"customers": 1}
    second = await originating.originate(place.house, ACCESS, session.id, wish)
    async with asyncio.timeout(5.0):
        while (told := await interaction_of(place, session.id, second.id)).ended_at is None:
            await asyncio.sleep(0.02)
    assert told.status == "failed" and share.refused == {str(NO_CIRCUIT): 1}
    await customer.silence(0.1)
    customer.respond(first, 486)
    await place.idle()
    assert share.total == 0


async def interaction_of(place: Place, session: str, name: str) -> interactions.Interaction:
    found = interactions.fold(await sessions.timeline(place.house, ACCESS, session))
    return next(one for one in found if one.id == name)
