"""What keeps an edge well: names, load, the order of facts, the inbox."""

from __future__ import annotations

import asyncio

import pytest

from masking.house import Unavailable
from sipedge import edge as edges
from sipedge import facts, names
from sipedge.facts import Facts
from sipedge.inbox import Inbox
from sipedge.sip.events import Failed, Invited
from sipedge.trunks import TrunkTable
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, Stage, X, trunk
from tests.edge.test_trunks import section


async def test_a_trunk_may_be_named_by_host(open_edge: Opener, phones: Make) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(
        trunk("callers", caller), trunk("callees", callee, uri=None, sources=["127.0.0.1"], carrier="named")
    )
    named = place.edge.trunks.named["callees"]
    named.target = named.target._replace(host="localhost")
    named.address = None
    await place.numbers(X[0], trunk="callees")
    await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0])
    assert (await caller.expect(Failed)).status == 480  # its address is not known yet
    await names.look_up(place.edge.trunks)
    assert named.address == ("127.0.0.1", callee.address[1])
    caller.call(place.address, X[0])
    invited = await callee.expect(Invited)
    assert invited.request.uri.host == "localhost"


async def test_a_name_nobody_knows_leaves_what_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    table = TrunkTable([section("a", "10.0.0.1", uri="sip:sbc.invalid:5070")])
    assert table.trunks[0].address is None
    table.trunks[0].address = ("10.0.0.7", 5070)

    async def unknown(*_: object, **__: object) -> object:
        raise OSError("no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    await names.look_up(table)
    assert table.trunks[0].address == ("10.0.0.7", 5070)


async def test_an_overloaded_edge_refuses_new_calls_cheaply(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "MAX_CALLS", 0)
    scene = await stage()
    async with asyncio.timeout(2.0):
        while not scene.place.edge.endpoint.refusing:
            await asyncio.sleep(0.01)
    scene.call()
    failed = await scene.caller.expect(Failed)
    assert failed.status == 503 and failed.response is not None and 1 <= (failed.response.retry_after or 0) <= 5
    assert scene.place.edge.exchange.counts["overloaded"] >= 1
    monkeypatch.undo()
    async with asyncio.timeout(2.0):
        while scene.place.edge.endpoint.refusing:
            await asyncio.sleep(0.01)


async def test_an_address_is_shown_as_the_peer_reaches_it(open_edge: Opener, phones: Make) -> None:
    place = await open_edge(trunk("all", phones(CUSTOMER)), host="0.0.0.0")
    wire = place.edge.driver.wire
    assert wire.host_towards("127.0.0.1") == "127.0.0.1"
    assert wire.host_towards("::1") == "::1"


async def test_facts_are_told_in_order_and_again_until_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "RETRY_SECONDS", (0.001,))
    told: list[str] = []
    failing = {"answered": 3, "bridged": 1}

    def fact(name: str) -> facts.Fact:
        async def tell() -> None:
            if failing.get(name, 0):
                failing[name] -= 1
                raise Unavailable("away")
            if name == "wrong":
                raise ValueError("a fact the core refuses")
            told.append(name)

        return tell

    all_facts = Facts()
    teller = all_facts.of("int_one")
    for name in ("ringing", "answered", "wrong", "bridged"):
        teller.tell(fact(name))
    await asyncio.sleep(0)
    assert all_facts.untold == {"int_one"}
    teller.tell(fact("ended"))
    await all_facts.settle(2.0)
    assert sorted(told) == ["answered", "bridged", "ended", "ringing"] and not all_facts.untold
    assert told.index("ringing") == 0


async def test_the_end_of_a_call_is_told_without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "GATHER_SECONDS", 30.0)
    told: list[str] = []

    def fact(name: str) -> facts.Fact:
        async def tell() -> None:
            told.append(name)

        return tell

    all_facts = Facts()
    teller = all_facts.of("int_one")
    teller.tell(fact("bridged"))
    await asyncio.sleep(0.01)
    assert told == []
    teller.tell(fact("ended"), last=True)
    await all_facts.settle(1.0)
    assert told == ["bridged", "ended"]


async def test_an_inbox_gives_what_came_or_nothing_in_time() -> None:
    loop = asyncio.get_running_loop()
    inbox: Inbox[int] = Inbox(loop)
    assert await inbox.get(loop.time() + 0.01) is None
    inbox.put(1)
    inbox.put(2)
    assert [await inbox.get(None), await inbox.get(loop.time() - 1)] == [1, 2]
    loop.call_later(0.01, inbox.put, 3)
    assert await inbox.get(loop.time() + 5) == 3


async def test_a_fault_of_ours_in_one_message_costs_the_next_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = await stage()

    def broken(*_: object) -> None:
        raise RuntimeError(f"sip:{CUSTOMER}")

    with monkeypatch.context() as once:
        once.setattr(scene.place.edge.endpoint, "receive", broken)
        scene.call()
        await asyncio.sleep(0.05)
    with monkeypatch.context() as twice:
        twice.setattr(scene.place.edge.driver, "_invited", broken)
        scene.call()
        await asyncio.sleep(0.05)
    assert scene.place.edge.driver.counts["faults"] >= 2
    said = capsys.readouterr()
    assert CUSTOMER[1:] not in said.out + said.err
    scene.call()
    await scene.callee.expect(Invited)
