"""Token buckets before the parser: a source and a trunk have their rate, and what ends calls has room when nothing else
has."""

from __future__ import annotations

import asyncio
import random

import pytest

from masking.config import Config, SipSection
from sipedge.floods import BURST, LEAST, MESSAGES_A_CALL, PIECE, REMEMBERED, Floods, rate_of
from sipedge.sip.events import Acked, Ended, Invited
from sipedge.trunks import TrunkTable
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, X, trunk
from tests.edge.test_trunks import section
from tests.edge.test_wire import options, tcp_address

OTHER = b"OPTIONS sip:x SIP/2.0\r\n"
FRIEND, NEIGHBOUR = ("10.1.0.1", 5060), ("10.1.0.2", 5060)


def floods(**more: int) -> Floods:
    table = TrunkTable([section("wide", "10.1.0.0/16", **more), section("other", "10.2.0.0/16", **more)])
    return Floods(table.senders)


def passed(flood: Floods, count: int, source: tuple[str, int], now: float, data: bytes = OTHER) -> int:
    return sum(not flood.drops(data, source, now) for _ in range(count))


def test_a_source_has_its_burst_and_then_its_rate() -> None:
    flood = floods(max_cps=50)
    rate = MESSAGES_A_CALL * 50
    first = passed(flood, 5_000, FRIEND, 100.0)
    assert first == pytest.approx(BURST * rate, abs=2)
    assert flood.counts == {"flood_source": 5_000 - first}
    dice = random.Random(7)
    moments = sorted(dice.uniform(100.0, 110.0) for _ in range(50_000))
    through = sum(passed(flood, 1, FRIEND, now) for now in moments)
    assert through == pytest.approx(10 * rate, rel=0.01)
    assert passed(flood, 5_000, FRIEND, 200.0) == pytest.approx(BURST * rate, abs=2), "all of it again after a rest"


def test_the_usual_messages_of_a_full_trunk_are_never_too_many() -> None:
    flood = floods(max_cps=50)
    for call in range(50 * 60):  # a minute at its limit, twelve messages a call, all from one address
        assert passed(flood, 12, FRIEND, call / 50) == 12
    assert flood.counts == {}


def test_a_trunk_of_few_calls_has_room_and_one_without_a_limit_has_much() -> None:
    table = TrunkTable([section("slow", "10.1.0.1", max_cps=1), section("free", "10.2.0.1", max_cps=0)])
    slow, free = table.trunks
    assert rate_of(slow) == LEAST and rate_of(free) == 80_000


@pytest.mark.parametrize("data", [b"SIP/2.0 200 OK", b"BYE sip:x", b"ACK sip:x", b"CANCEL sip:x", b"PRACK sip:x"])
def test_what_ends_calls_and_answers_pass_when_nothing_else_does(data: bytes) -> None:
    flood = floods(max_cps=50)
    passed(flood, 5_000, FRIEND, 0.0)
    assert passed(flood, 100, FRIEND, 0.0, data) == 100
    assert passed(flood, 10_000, FRIEND, 0.0, data) < BURST * MESSAGES_A_CALL * 50, "but not without end"


def test_a_flooding_source_costs_its_neighbours_and_other_trunks_nothing() -> None:
    flood = floods(max_cps=50)
    passed(flood, 100_000, FRIEND, 0.0)
    assert passed(flood, 1_000, NEIGHBOUR, 0.0) == 1_000
    assert passed(flood, 1_000, ("10.2.0.9", 5060), 0.0) == 1_000


def test_many_sources_of_one_trunk_share_its_bucket() -> None:
    flood = floods(max_cps=50)
    through = sum(passed(flood, 100, (f"10.1.{n // 250}.{n % 250}", 5060), 0.0) for n in range(1_000))
    assert through == pytest.approx(2 * BURST * MESSAGES_A_CALL * 50, abs=2)
    assert flood.counts["flood_trunk"] == 100_000 - through


def test_another_port_of_a_source_is_the_same_source() -> None:
    flood = floods(max_cps=1)
    assert sum(passed(flood, 1, ("10.1.0.1", port), 0.0) for port in range(1024, 11_024)) <= BURST * LEAST


def test_answers_from_where_we_only_ask_are_counted_too_and_a_front_proxys_are_not() -> None:
    proxy = Config(sip=SipSection(proxies=["10.9.0.1"])).sip.proxy_entries
    asked = section("asked", "10.1.0.1", uri="sip:10.8.0.1:5070", max_cps=1)
    flood = Floods(TrunkTable([asked], proxy).senders)
    assert passed(flood, 5_000, ("10.8.0.1", 5070), 0.0, b"SIP/2.0 200 OK") <= 2 * BURST * LEAST
    assert passed(flood, 5_000, ("10.9.0.1", 5060), 0.0) == 5_000


def test_whom_no_trunk_names_is_not_counted_here() -> None:
    flood = floods(max_cps=1)
    assert passed(flood, 10_000, ("192.0.2.99", 5060), 0.0) == 10_000
    assert flood.rests(1_000_000, ("192.0.2.99", 5060), 0.0) == 0.0


def test_spoofed_sources_fill_no_memory() -> None:
    flood = floods(max_cps=5_000)
    for n in range(20_000):
        passed(flood, 1, (f"10.1.{n // 250}.{n % 250}", 5060), n / 100_000)
        assert len(flood._sources) <= REMEMBERED


def test_a_stream_rests_for_as_long_as_it_is_ahead_of_its_rate() -> None:
    flood = floods(max_cps=50)
    rate = MESSAGES_A_CALL * 50
    assert flood.rests(400, FRIEND, 0.0) == 0.0
    assert flood.rests(int(400 * rate * BURST), FRIEND, 0.0) == pytest.approx(1 / rate)
    assert flood.rests(400 * 500, FRIEND, 0.0) == pytest.approx(501 / rate)
    assert flood.rests(1, FRIEND, 9.0) == 0.0
    assert flood.counts == {"flood_source": 2}
    many = [flood.rests(400 * 1_500, (f"10.1.1.{n}", 5060), 20.0) for n in range(4)]
    assert many[0] == 0.0 and many[-1] > 0.0 and flood.counts["flood_trunk"] >= 1


async def test_a_flood_of_datagrams_is_dropped_unread_and_a_call_that_stands_ends_well(
    open_edge: Opener, phones: Make
) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("one", caller, max_cps=1), trunk("two", callee))
    await place.numbers(*X[:2], trunk="two")
    session = await place.session(CUSTOMER, DRIVER)
    leg = caller.call(place.address, session.participants[0].proxies[0].number)
    callee.answer(await callee.expect(Invited))
    await callee.expect(Acked)
    async with asyncio.timeout(5.0):
        while not any(call.state == "bridged" for call in place.edge.exchange.calls.values()):
            await asyncio.sleep(0.01)
    answered = len(caller.heard)
    for _ in range(20):
        for _ in range(100):
            caller.send(options(), place.address)
        await asyncio.sleep(0)
    caller.hang_up(leg)
    await callee.expect(Ended)
    assert len(caller.heard) - answered < 1_500
    assert place.edge.driver.floods.counts["flood_source"] > 500
    await place.idle()


async def test_a_flood_over_a_stream_waits_in_its_senders_own_queue(open_edge: Opener, phones: Make) -> None:
    friend = phones(CUSTOMER)
    place = await open_edge(trunk("all", friend, sources=["127.0.0.1"], max_cps=50), listen=("udp", "tcp"))
    reader, writer = await asyncio.open_connection(*tcp_address(place))
    sent = [options("TCP") for _ in range(8_000)]
    began = asyncio.get_running_loop().time()
    writer.write(b"".join(sent))
    answers = b""
    async with asyncio.timeout(20.0):
        while answers.count(b"\r\n\r\n") < len(sent):
            answers += await reader.read(65536)
    rate = MESSAGES_A_CALL * 50
    least = sum(map(len, sent)) / PIECE / rate - BURST
    last = 262_144 / PIECE / rate  # one piece, at most, behind which nothing waits
    assert asyncio.get_running_loop().time() - began > least - last > 0.5
    assert place.edge.driver.floods.counts["flood_source"] > 0
    writer.close()
