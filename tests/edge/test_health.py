"""What keeps an edge well: names, load, the order of facts, the inbox."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from masking import interactions
from masking.house import House, Unavailable
from masking.interactions import Told
from masking.number_health import silent_trunks
from sipedge import edge as edges
from sipedge import facts
from sipedge.facts import Facts
from sipedge.inbox import Inbox
from sipedge.orphans import beat
from sipedge.sip.events import Failed, Invited
from tests.edge.conftest import CUSTOMER, Make, Opener, Stage, trunk


async def test_an_overloaded_edge_refuses_new_calls_cheaply(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "MAX_CALLS", 0)
    scene = await stage()
    scene.call()
    failed = await scene.caller.expect(Failed)
    assert failed.status == 503 and failed.response is not None and 1 <= (failed.response.retry_after or 0) <= 5
    assert scene.place.edge.exchange.counts["overloaded"] >= 1
    monkeypatch.undo()
    scene.call()
    await scene.callee.expect(Invited)


async def test_new_calls_are_turned_away_before_they_are_read(stage: Stage) -> None:
    scene = await stage()
    edge = scene.place.edge
    edge.admission.rate = edge.admission._tokens = 0.0
    scene.call()
    failed = await scene.caller.expect(Failed)
    assert failed.status == 503 and failed.response is not None and 1 <= (failed.response.retry_after or 0) <= 5
    async with asyncio.timeout(2.0):
        while not edge.driver.door.counts["refusals_acknowledged"]:
            await asyncio.sleep(0.01)
    assert edge.driver.door.counts["refused"] == 1 and edge.endpoint.statistics()["server_transactions"] == 0
    edge.admission.rate = edge.admission._tokens = 100.0
    scene.call()
    await scene.callee.expect(Invited)


async def test_an_address_is_shown_as_the_peer_reaches_it(open_edge: Opener, phones: Make) -> None:
    place = await open_edge(trunk("all", phones(CUSTOMER)), host="0.0.0.0")
    wire = place.edge.driver.wire
    assert wire.host_towards("127.0.0.1") == "127.0.0.1"
    assert wire.host_towards("::1") == "::1"


async def test_an_edge_says_again_and_again_which_trunks_are_dead(stage: Stage) -> None:
    exchange = (await stage()).place.edge.exchange
    carrier = exchange.trunks.trunks[0]
    await beat(exchange)
    assert await silent_trunks(exchange.house) == set()
    carrier.health.pinged(False)
    await beat(exchange)
    assert await silent_trunks(exchange.house) == {carrier.name}


class Core:
    """Stands for the core: keeps what it was told, append by append; `away` times Redis is away, `refuses` one fact."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.appends: list[list[str]] = []
        self.away = 0
        self.refuses = ""
        monkeypatch.setattr(interactions, "tell", self.tell)

    async def tell(self, house: House, told: list[Told]) -> bool:
        assert house is HOUSE
        kinds = [one.event[0] for one in told if one.event is not None]
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        if self.refuses in kinds:
            raise ValueError("a fact the core refuses")
        self.appends.append(kinds)
        return True


HOUSE = cast(House, object())
CALL = interactions.Call(interaction="int_one", session="ses_one", tenant="default")


def told(kind: str, ends: bool = False) -> Told:
    return Told(CALL, (kind, 1, b"{}"), ends=ends)


async def test_facts_that_come_together_are_one_append_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    core, all_facts = Core(monkeypatch), Facts()
    teller = all_facts.of(HOUSE, "int_one")
    for kind in ("ringing", "answered", "bridged"):
        teller.tell(told(kind))
    assert all_facts.untold == {"int_one"} and core.appends == []
    await all_facts.settle(2.0)
    assert core.appends == [["ringing", "answered", "bridged"]] and not all_facts.untold


async def test_facts_are_told_again_until_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "RETRY_SECONDS", (0.001,))
    core, all_facts = Core(monkeypatch), Facts()
    core.away = 3
    asked: list[str] = []

    async def ask() -> None:
        asked.append("refused")

    teller = all_facts.of(HOUSE, "int_one")
    teller.tell(told("ringing"))
    teller.hurry()
    await asyncio.sleep(0)
    teller.ask(ask)
    teller.tell(told("ended", ends=True), last=True)
    await all_facts.settle(2.0)
    assert core.appends == [["ringing"], ["ended"]] and asked == ["refused"] and core.away == 0


async def test_a_fact_the_core_refuses_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    core, all_facts = Core(monkeypatch), Facts()
    core.refuses = "wrong"
    teller = all_facts.of(HOUSE, "int_one")
    for kind in ("ringing", "wrong", "bridged"):
        teller.tell(told(kind))
    await all_facts.settle(2.0)
    assert core.appends == [["ringing"], ["bridged"]] and not all_facts.untold


async def test_the_end_of_a_call_is_told_before_the_next_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "GATHER_SECONDS", 30.0)
    core, all_facts = Core(monkeypatch), Facts()
    teller = all_facts.of(HOUSE, "int_one")
    teller.tell(told("bridged"))
    assert not all_facts.tell_ends()
    await asyncio.sleep(0.01)
    assert core.appends == []
    teller.tell(told("ended", ends=True), last=True)
    assert all_facts.tell_ends() and not all_facts.tell_ends()
    await asyncio.sleep(0)
    assert core.appends == [["bridged", "ended"]]


async def test_facts_of_many_calls_are_told_at_once_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "GATHER_SECONDS", 0.04)
    core, all_facts = Core(monkeypatch), Facts()
    for name in ("int_one", "int_two", "int_three"):
        all_facts.of(HOUSE, name).tell(told("ended", ends=True), last=True)
        await asyncio.sleep(0.005)
    assert core.appends == []
    async with asyncio.timeout(1.0):
        while not core.appends:
            await asyncio.sleep(0.001)
    assert core.appends == [["ended"]] * 3


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
