"""From a trunk's name to the machines behind it, asked of a DNS server (RFC 3263 4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from sipedge import names, resolver
from sipedge.names import Names
from sipedge.resolver import NotFound, Resolver
from sipedge.sip.events import Failed, Invited
from sipedge.targets import Hop, Place, Target
from sipedge.trunks import TrunkTable
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, X, trunk
from tests.edge.dns_server import DnsServer
from tests.edge.test_trunks import section

Records = dict[tuple[str, str], list[str]]
Serve = Callable[..., "asyncio.Future[DnsServer]"]

ADDRESSES: Records = {
    ("one.example", "A"): ["10.0.0.1"],
    ("two.example", "A"): ["10.0.0.2"],
    ("two.example", "AAAA"): ["2001:db8::2"],
    ("sbc.example", "A"): ["10.0.0.9"],
}
UDP: Records = {("_sip._udp.sbc.example", "SRV"): ["10 60 5070 one.example.", "20 0 5080 two.example."]}
TCP: Records = {("_sip._tcp.sbc.example", "SRV"): ["5 1 5071 one.example."]}
TLS: Records = {("_sips._tcp.sbc.example", "SRV"): ["1 1 5061 two.example."]}
UDP_MACHINES = [
    ((10,), 60, [Hop("udp", "10.0.0.1", 5070)]),
    ((20,), 0, [Hop("udp", "10.0.0.2", 5080), ("udp", "2001:db8::2", 5080)]),
]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., object]]:
    async with AsyncExitStack() as stack:

        async def open_(*records: Records, ttl: int = 60) -> DnsServer:
            merged = {key: value for each in records for key, value in each.items()}
            return await stack.enter_async_context(DnsServer(merged, ttl))

        yield open_


def plain(places: tuple[Place, ...]) -> list[tuple[tuple[int, ...], int, list[Hop]]]:
    """The machines by rank; without the transport's own rank where there is one transport."""
    one = len({place.rank[:1] for place in places}) == 1
    return sorted((p.rank[1:] if one else p.rank, p.weight, list(p.hops)) for p in places)


@pytest.mark.parametrize(
    ("uri", "machines", "asked"),
    [
        ("sip:sbc.example;transport=udp", UDP_MACHINES, {"SRV", "A", "AAAA"}),
        ("sip:sbc.example:5099", [((), 0, [Hop("udp", "10.0.0.9", 5099)])], {"A", "AAAA"}),
        ("sip:sbc.example;transport=tcp", [((5,), 1, [Hop("tcp", "10.0.0.1", 5071)])], {"SRV", "A", "AAAA"}),
        (
            "sips:sbc.example",
            [((1,), 1, [Hop("tls", "10.0.0.2", 5061), ("tls", "2001:db8::2", 5061)])],
            {"SRV", "A", "AAAA"},
        ),
        ("sip:one.example", [((), 0, [Hop("udp", "10.0.0.1", 5060)])], {"NAPTR", "SRV", "A", "AAAA"}),
        ("sip:one.example;transport=tls", [((), 0, [Hop("tls", "10.0.0.1", 5061)])], {"SRV", "A", "AAAA"}),
    ],
)
async def test_what_the_uri_leaves_open_dns_decides(serve: Serve, uri: str, machines: object, asked: set[str]) -> None:
    server = await serve(ADDRESSES, UDP, TCP, TLS)
    found = await Resolver(server.address).locate(Target.parse(uri))
    assert plain(found.places) == machines
    assert {kind for _, kind in server.asked} == asked


async def test_naptr_says_which_transport_is_preferred_and_which_names_serve_it(serve: Serve) -> None:
    naptr: Records = {
        ("sbc.example", "NAPTR"): [
            '50 50 "s" "SIPS+D2T" "" _sips._tcp.sbc.example.',
            '90 50 "s" "SIP+D2T" "" _tcp.elsewhere.example.',
            '90 60 "S" "sip+d2u" "" _sip._udp.sbc.example.',
            '10 10 "u" "E2U+sip" "!^.*$!sip:info@sbc.example!" .',
            '20 10 "s" "SIP+D2S" "" _sip._sctp.sbc.example.',
        ],
        ("_tcp.elsewhere.example", "SRV"): ["0 0 5060 two.example."],
    }
    server = await serve(ADDRESSES, UDP, TCP, TLS, naptr)
    target = Target.parse("sip:sbc.example")
    found = await Resolver(server.address).locate(target)
    by_rank = sorted((place.rank, place.hops[0]) for place in found.places)
    assert by_rank == [
        ((0, 1), Hop("tls", "10.0.0.2", 5061)),
        ((1, 0), Hop("tcp", "10.0.0.2", 5060)),
        ((2, 10), Hop("udp", "10.0.0.1", 5070)),
        ((2, 20), Hop("udp", "10.0.0.2", 5080)),
    ]
    assert ("_sip._tcp.sbc.example", "SRV") not in server.asked  # NAPTR named another
    without = await Resolver(server.address, ("udp", "tcp")).locate(target)
    assert {hop.transport for place in without.places for hop in place.hops} == {"udp", "tcp"}


async def test_without_naptr_every_transport_is_asked_for(serve: Serve) -> None:
    server = await serve(ADDRESSES, UDP, TCP)
    found = await Resolver(server.address).locate(Target.parse("sip:sbc.example"))
    assert sorted((place.rank, place.hops[0].transport) for place in found.places) == [
        ((0, 10), "udp"),
        ((0, 20), "udp"),
        ((1, 5), "tcp"),
    ]


async def test_a_service_that_is_not_there_and_machines_without_an_address_are_none(serve: Serve) -> None:
    gone: Records = {
        ("_sip._udp.sbc.example", "SRV"): ["0 0 0 ."],
        ("_sip._tcp.sbc.example", "SRV"): ["1 1 1 no.example."],
    }
    server = await serve(ADDRESSES, gone)
    found = await Resolver(server.address, ("udp", "tcp")).locate(Target.parse("sip:sbc.example"))
    assert plain(found.places) == [((), 0, [Hop("udp", "10.0.0.9", 5060)])]
    with pytest.raises(NotFound):
        await Resolver(server.address).locate(Target.parse("sip:nobody.example"))


async def test_an_answer_is_good_for_its_shortest_time_to_live(serve: Serve) -> None:
    server = await serve(ADDRESSES, UDP, ttl=17)
    found = await Resolver(server.address).locate(Target.parse("sip:sbc.example;transport=udp"))
    assert found.seconds <= 17


async def test_a_server_that_says_nothing_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "PATIENCE", 0.1)
    server = await serve(ADDRESSES)
    server.deaf = True
    began = time.monotonic()
    with pytest.raises(NotFound):
        await Resolver(server.address).locate(Target.parse("sip:sbc.example"))
    assert time.monotonic() - began < 2.0


async def test_names_are_asked_again_when_their_time_is_over_and_kept_while_nobody_answers(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "TICK", 0.02)
    monkeypatch.setattr(names, "LEAST", 0.05)
    monkeypatch.setattr(names, "AGAIN", 0.05)
    monkeypatch.setattr(resolver, "PATIENCE", 0.2)
    server = await serve(ADDRESSES, ttl=0)
    table = TrunkTable([section("a", "10.0.0.1", uri="sip:sbc.example:5070"), section("b", "10.0.0.1")])
    targets = table.named["a"].targets
    keeper = Names(table, Resolver(server.address))
    await keeper.look_up()
    assert targets.first == Hop("udp", "10.0.0.9", 5070) and ("10.0.0.9", 5070) in targets
    running = asyncio.create_task(keeper.run())
    server.records["sbc.example", "A"] = ["10.0.0.10"]
    async with asyncio.timeout(3.0):
        while targets.first != Hop("udp", "10.0.0.10", 5070):
            await asyncio.sleep(0.02)
        server.deaf = True
        before = len(server.asked)
        while len(server.asked) < before + 4:
            await asyncio.sleep(0.02)
    assert targets.first == Hop("udp", "10.0.0.10", 5070)
    running.cancel()


async def test_a_call_goes_to_the_machines_of_its_trunks_name_one_after_the_other(
    open_edge: Opener, phones: Make, serve: Serve
) -> None:
    """One is not there, the second says 503, the third answers for the person; the first two are left out after."""
    caller, second, third = phones(CUSTOMER), phones(DRIVER, "127.0.0.3"), phones(DRIVER, "127.0.0.4")
    gone = phones(DRIVER, "127.0.0.2")
    ports = [phone.address[1] for phone in (gone, second, third)]
    gone.close()
    records: Records = {
        ("_sip._udp.sbc.example", "SRV"): [f"{n} 1 {port} m{n}.example." for n, port in enumerate(ports)],
        **{(f"m{n}.example", "A"): [f"127.0.0.{n + 2}"] for n in range(3)},
    }
    server = await serve(records)
    place = await open_edge(
        trunk("callers", caller, carrier="callers"),
        trunk("named", to="sip:sbc.example;transport=udp", sources=["127.0.0.9"]),
        resolver=server.address,
    )
    await place.numbers(X[0], trunk="named")
    await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0])
    invited = await second.expect(Invited, 1.5)
    assert invited.request.target == f"sip:{DRIVER}@sbc.example"  # what DNS says stays between it and us
    second.respond(invited, 503)
    invited = await third.expect(Invited, 1.5)
    third.respond(invited, 486)
    assert (await caller.expect(Failed)).status == 486
    caller.call(place.address, X[0])
    third.respond(await third.expect(Invited, 1.5), 486)
    assert (await caller.expect(Failed)).status == 486
    await second.silence(0.05)


async def test_a_trunk_whose_name_is_unknown_is_passed_over_until_it_is_known(
    open_edge: Opener, phones: Make, serve: Serve
) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    server = await serve({})
    uri = f"sip:sbc.example:{callee.address[1]};transport=udp"
    place = await open_edge(
        trunk("callers", caller, carrier="callers"),
        trunk("named", to=uri, sources=["127.0.0.9"]),
        resolver=server.address,
    )
    await place.numbers(X[0], trunk="named")
    await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0])
    assert (await caller.expect(Failed)).status == 480
    server.records["sbc.example", "A"] = ["127.0.0.1"]
    place.edge.names._due = dict.fromkeys(place.edge.names._due, 0.0)
    await place.edge.names.look_up()
    caller.call(place.address, X[0])
    assert (await callee.expect(Invited)).request.uri.host == "sbc.example"


async def test_without_a_resolver_of_its_own_the_machines_hosts_file_counts() -> None:
    found = await Resolver().locate(Target.parse("sip:localhost:5070"))
    assert Hop("udp", "127.0.0.1", 5070) in found.places[0].hops
