"""Sockets: strangers get nothing, known peers get what they asked for, nobody gets more than his share."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time

import pytest

from masking.config import Listener
from sipedge import connections, streams, wire
from sipedge.sip.events import Failed, Invited
from sipedge.sip.flows import Flow
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, Place, X, trunk

OPTIONS = (
    "OPTIONS sip:edge SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:9;branch=z9hG4bK{branch};rport\r\n"
    "From: <sip:a@b>;tag=1\r\nTo: <sip:edge>\r\nCall-ID: {branch}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


def options(transport: str = "UDP") -> bytes:
    return OPTIONS.format(transport=transport, branch=os.urandom(6).hex()).encode()


def tcp_address(place: Place) -> tuple[str, int]:
    listener = next(one for one in place.edge.driver.wire.listeners if one.transport == "tcp")
    return listener.host, listener.port


async def read(reader: asyncio.StreamReader, seconds: float = 2.0) -> bytes:
    async with asyncio.timeout(seconds):
        try:
            return await reader.read(65536)
        except ConnectionError:
            return b""


async def test_a_stranger_gets_no_byte(open_edge: Opener, phones: Make) -> None:
    friend, stranger = phones(CUSTOMER), phones(CUSTOMER)
    place = await open_edge(trunk("all", friend), listen=("udp", "tcp"))
    for data in (options(), b"INVITE", b"\r\n\r\n", os.urandom(500), b"SIP/2.0 200 OK\r\n\r\n"):
        stranger.send(data, place.address)
    stranger.call(place.address, X[0])
    await stranger.silence(0.1)
    assert stranger.heard == []
    assert place.edge.driver.wire.counts["stranger_datagrams"] >= 6
    reader, writer = await asyncio.open_connection(*tcp_address(place))  # its port is in no trunk's sources
    writer.write(options("TCP"))
    assert await read(reader) == b""
    writer.close()
    assert place.edge.driver.wire.counts["stranger_connections"] == 1


async def test_where_we_only_ask_no_request_is_taken(open_edge: Opener, phones: Make) -> None:
    friend, target = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("all", friend, uri=target))
    target.send(options(), place.address)
    await target.silence(0.05)
    assert target.heard == [] and place.edge.driver.counts["stranger_requests"] == 1


async def test_a_call_over_tcp_comes_and_goes_by_its_own_connection(open_edge: Opener, phones: Make) -> None:
    callee = phones(DRIVER)
    place = await open_edge(trunk("all", callee, sources=["127.0.0.1"]), listen=("udp", "tcp"))
    await place.numbers(X[0])
    await place.session(CUSTOMER, DRIVER)
    reader, writer = await asyncio.open_connection(*tcp_address(place))
    host, port = writer.get_extra_info("sockname")
    body = callee.sdp()
    invite = (
        f"INVITE sip:{X[0]}@edge SIP/2.0\r\nVia: SIP/2.0/TCP {host}:{port};branch=z9hG4bKt1\r\n"
        f"From: <sip:{CUSTOMER}@b>;tag=1\r\nTo: <sip:{X[0]}@edge>\r\nCall-ID: t1\r\nCSeq: 1 INVITE\r\n"
        f"Contact: <sip:me@{host}:{port};transport=tcp>\r\nMax-Forwards: 70\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    for at in range(0, len(invite), 40):  # in pieces, as TCP may deliver it
        writer.write(invite[at : at + 40])
        await asyncio.sleep(0)
    invited = await callee.expect(Invited)
    callee.answer(invited)
    heard = b""
    while b"SIP/2.0 200" not in heard:
        heard += await read(reader)
    callee.hang_up(invited.leg)
    # Without an ACK of ours the BYE waits (RFC 3261 15.1.1): acknowledge, then it comes by this connection.
    tag = heard.split(b"To: ")[-1].split(b"tag=")[1].split(b"\r\n")[0].decode()
    contact = heard.split(b"Contact: <")[-1].split(b">")[0].decode()
    writer.write(
        (
            f"ACK {contact} SIP/2.0\r\nVia: SIP/2.0/TCP {host}:{port};branch=z9hG4bKt2\r\n"
            f"From: <sip:{CUSTOMER}@b>;tag=1\r\nTo: <sip:{X[0]}@edge>;tag={tag}\r\nCall-ID: t1\r\nCSeq: 1 ACK\r\n"
            "Content-Length: 0\r\n\r\n"
        ).encode()
    )
    assert (await read(reader)).startswith(b"BYE ")
    writer.close()


async def test_a_trunk_over_tcp_is_called_by_one_connection(open_edge: Opener, phones: Make) -> None:
    caller = phones(CUSTOMER)
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def carrier(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            heard.put_nowait(data)
        writer.close()

    server = await asyncio.start_server(carrier, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    place = await open_edge(
        trunk("all", caller, uri=caller),
        trunk("tcp", to=f"sip:127.0.0.1:{port};transport=tcp", sources=["127.0.0.9"]),
        listen=("udp", "tcp"),
    )
    await place.numbers(X[0], trunk="tcp")
    await place.session(CUSTOMER, DRIVER)
    leg = caller.call(place.address, X[0])
    async with asyncio.timeout(2.0):
        invite = await heard.get()
    assert invite.startswith(f"INVITE sip:{DRIVER}@127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/TCP ".encode())
    assert b";transport=tcp>" in invite
    caller.cancel(leg)
    await place.idle()
    server.close()


async def test_a_trunk_that_refuses_connections_is_passed_over(open_edge: Opener, phones: Make) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    place = await open_edge(
        trunk("callers", caller, carrier="callers"),
        trunk("down", to=f"sip:127.0.0.1:{port};transport=tcp", sources=["127.0.0.9"]),
        trunk("spare", callee, priority=2),
        listen=("udp", "tcp"),
    )
    await place.numbers(X[0], trunk="down")
    await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0])
    await callee.expect(Invited, 1.0)


async def test_a_peer_has_only_so_many_connections(
    open_edge: Opener, phones: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_PER_SOURCE", 3)
    place = await open_edge(trunk("all", phones(CUSTOMER), sources=["127.0.0.1"]), listen=("udp", "tcp"))
    held = [await asyncio.open_connection(*tcp_address(place)) for _ in range(4)]
    assert await read(held[3][0]) == b""
    held[0][1].close()
    async with asyncio.timeout(2.0):
        while len(place.edge.driver.wire.streams) > 2:
            await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection(*tcp_address(place))
    writer.write(options("TCP"))
    assert (await read(reader)).startswith(b"SIP/2.0 200 ")
    for _, each in [*held, (reader, writer)]:
        each.close()


async def test_a_slow_drip_is_cut_off_and_others_are_served(open_edge: Opener, phones: Make) -> None:
    place = await open_edge(trunk("all", phones(CUSTOMER), sources=["127.0.0.1"]), listen=("udp", "tcp"))
    reader, writer = await asyncio.open_connection(*tcp_address(place))
    writer.write(options("TCP")[:60])
    await asyncio.sleep(0.05)
    other_reader, other = await asyncio.open_connection(*tcp_address(place))
    other.write(options("TCP"))
    assert (await read(other_reader)).startswith(b"SIP/2.0 200 ")
    edge = place.edge
    edge.endpoint.timeout(edge.loop.time() + 5.1)  # half a message, five seconds old
    edge.driver.drive()
    assert await read(reader) == b""
    writer.close()
    other.close()


async def test_who_connects_and_says_nothing_is_cut_off_soon(
    open_edge: Opener, phones: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FIRST_SECONDS", 0.1)
    place = await open_edge(trunk("all", phones(CUSTOMER), sources=["127.0.0.1"]), listen=("udp", "tcp"))
    mute_reader, mute = await asyncio.open_connection(*tcp_address(place))
    reader, writer = await asyncio.open_connection(*tcp_address(place))
    writer.write(options("TCP"))
    assert (await read(reader)).startswith(b"SIP/2.0 200 ")
    assert await read(mute_reader) == b""
    writer.write(options("TCP"))
    assert (await read(reader)).startswith(b"SIP/2.0 200 ")
    mute.close()
    writer.close()


async def test_silent_connections_are_closed(open_edge: Opener, phones: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.1)
    place = await open_edge(trunk("all", phones(CUSTOMER), sources=["127.0.0.1"]), listen=("udp", "tcp"))
    reader, writer = await asyncio.open_connection(*tcp_address(place))
    writer.write(options("TCP"))
    assert (await read(reader)).startswith(b"SIP/2.0 200 ")
    assert await read(reader) == b""
    writer.close()
    assert place.edge.driver.wire.counts["connections_idle"] == 1


async def test_no_answer_is_larger_than_a_malformed_request(open_edge: Opener, phones: Make) -> None:
    friend = phones(CUSTOMER)
    friend.deaf = True
    place = await open_edge(trunk("all", friend))
    dice = random.Random(11)
    whole = friend.said_invite(place.address, X[0])
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(dice.randrange(1, 12)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        data = bytes(broken[: dice.randrange(1, len(broken))])
        before = len(friend.heard)
        friend.send(data, place.address)
        await asyncio.sleep(0.001)
        for answer in friend.heard[before:]:
            if not answer.startswith((b"SIP/2.0 100", b"SIP/2.0 183", b"SIP/2.0 404")):
                assert len(answer) <= len(data), (answer, data)
    assert place.edge.exchange.counts["faults"] == 0
    for call in list(place.edge.exchange.calls.values()):
        call.leave()
    await place.idle()


async def test_an_advertised_address_is_what_peers_are_shown(open_edge: Opener, phones: Make) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller), trunk("callees", callee), advertise="edge.example:5999")
    await place.numbers(X[0], trunk="callees")
    await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0])
    invited = await callee.expect(Invited)
    assert (invited.request.via.host, invited.request.via.port) == ("edge.example", 5999)
    contact = invited.request.contact
    assert contact is not None and (contact.uri.host, contact.uri.port) == ("edge.example", 5999)


async def test_behind_a_wildcard_the_address_towards_the_peer_is_shown(open_edge: Opener, phones: Make) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller), trunk("callees", callee), host="0.0.0.0")
    await place.numbers(X[0], trunk="callees")
    await place.session(CUSTOMER, DRIVER)
    caller.call(("127.0.0.1", place.address[1]), X[0])
    invited = await callee.expect(Invited)
    assert (invited.request.via.host, invited.request.via.port) == ("127.0.0.1", place.address[1])


async def listen_for(
    heard: asyncio.Queue[tuple[bytes, asyncio.StreamWriter]], pongs: int = 0
) -> tuple[asyncio.Server, int]:
    """A TCP listener that keeps what it hears, and answers so many pings."""
    left = pongs

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        while data := await reader.read(65536):
            heard.put_nowait((data, writer))
            if data == b"\r\n\r\n" and left:
                left -= 1
                writer.write(b"\r\n")
        heard.put_nowait((b"", writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("pongs", [0, 2])
async def test_a_connection_of_ours_is_kept_alive_and_given_up_when_a_peer_that_answered_falls_silent(
    open_edge: Opener, phones: Make, monkeypatch: pytest.MonkeyPatch, pongs: int
) -> None:
    """RFC 5626 4.4.1: double CRLF there, single CRLF back."""
    monkeypatch.setattr(streams, "PING_SECONDS", 0.0)
    monkeypatch.setattr(streams, "PING_SPREAD", 1)
    monkeypatch.setattr(streams, "PONG_SECONDS", 0.01)
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.05)
    heard: asyncio.Queue[tuple[bytes, asyncio.StreamWriter]] = asyncio.Queue()
    server, port = await listen_for(heard, pongs)
    place = await open_edge(trunk("all", phones(CUSTOMER)), listen=("udp", "tcp"))
    sockets = place.edge.driver.wire
    sockets.send(sockets.flow_to("tcp", "127.0.0.1", port), options("TCP"))
    async with asyncio.timeout(3.0):
        assert (await heard.get())[0].startswith(b"OPTIONS ")
        for _ in range(pongs + 1):
            assert (await heard.get())[0] == b"\r\n\r\n"
        if pongs:
            assert (await heard.get())[0] == b"", "it answered twice, then no more: that connection is dead"
            assert sockets.counts["connections_dead"] == 1
        else:
            assert (await heard.get())[0] == b"\r\n\r\n", "it never answered: that proves nothing"
            assert len(sockets.streams) == 1
    server.close()


async def test_a_long_request_to_a_trunk_that_leaves_the_transport_open_goes_by_tcp_or_else_by_udp(
    open_edge: Opener, phones: Make
) -> None:
    """RFC 3261 18.1.1: the phone takes datagrams; nothing listens at its port for TCP until the second call."""
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    host, port = callee.address
    place = await open_edge(
        trunk("callers", caller, carrier="callers"),
        trunk("open", callee, to=f"sip:{host}:{port}"),
        listen=("udp", "tcp"),
        advertise=f"{'x' * 60}.{'y' * 60}.{'z' * 60}.{'w' * 60}.example",  # in Via, Contact, From, PAI
    )
    await place.numbers(X[0], trunk="open")
    await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0])
    callee.respond(await callee.expect(Invited, 1.5), 486)
    assert (await caller.expect(Failed)).status == 486
    first = callee.heard[0]
    assert len(first) > 1300 and b"\r\nVia: SIP/2.0/UDP " in first and b"transport=tcp" not in first
    assert place.edge.driver.wire.counts["tcp_unreachable"] == 1
    # What was refused is not tried again for a while: the next call is not held up by it.
    caller.call(place.address, X[0])
    callee.respond(await callee.expect(Invited, 1.5), 486)
    assert (await caller.expect(Failed)).status == 486
    assert place.edge.driver.wire.counts["tcp_unreachable"] == 1
    place.edge.driver.wire.streams._refused.clear()
    invites: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            invites.put_nowait(data)
        writer.close()

    server = await asyncio.start_server(serve, host, port)
    leg = caller.call(place.address, X[0])
    async with asyncio.timeout(2.0):
        invite = await invites.get()
    assert invite.startswith(b"INVITE ") and b"\r\nVia: SIP/2.0/TCP " in invite
    contact = next(line for line in invite.split(b"\r\n") if line.startswith(b"Contact: "))
    assert contact.endswith(b".example:%d;transport=tcp>" % tcp_address(place)[1])
    caller.cancel(leg)
    await place.idle()
    server.close()


async def test_a_trunk_that_names_udp_gets_datagrams_whatever_their_length(open_edge: Opener, phones: Make) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(
        trunk("callers", caller, carrier="callers"),
        trunk("udp", callee),
        listen=("udp", "tcp"),
        advertise=f"{'x' * 60}.{'y' * 60}.{'z' * 60}.{'w' * 60}.example",
    )
    await place.numbers(X[0], trunk="udp")
    await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0])
    callee.respond(await callee.expect(Invited), 486)
    assert len(callee.heard[0]) > 1300 and place.edge.driver.wire.counts["tcp_unreachable"] == 0


async def test_a_connection_of_ours_comes_from_where_we_listen(open_edge: Opener, phones: Make) -> None:
    """Carriers know us by an address."""
    heard: asyncio.Queue[tuple[bytes, asyncio.StreamWriter]] = asyncio.Queue()
    server, port = await listen_for(heard)
    place = await open_edge(trunk("all", phones(CUSTOMER)), listen=("tcp",), host="127.0.0.7")
    sockets = place.edge.driver.wire
    sockets.send(sockets.flow_to("tcp", "127.0.0.1", port), options("TCP"))
    async with asyncio.timeout(3.0):
        _, writer = await heard.get()
    assert writer.get_extra_info("peername")[0] == "127.0.0.7"
    server.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_icmp_gives_back_what_reached_nobody_and_the_socket_still_hears(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[tuple[bytes, Flow]] = asyncio.Queue()
    one = wire.Wire(
        loop,
        allowed=lambda *source: True,
        turned_away=lambda data, flow, ahead: False,
        received=lambda data, flow: came.put_nowait((data, flow)),
        settle=lambda: None,
        failed=lambda flow: None,
        unreached=lambda quoted, flow: came.put_nowait((b"unreached " + quoted, flow)),
        closed=lambda flow: None,
        wall=time.time,
    )
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.bind((host, 0))
        there = peer.getsockname()[:2]
        bound = await one.listen(Listener("udp", host, 0))
        with socket.socket(family, socket.SOCK_DGRAM) as gone:
            gone.bind((host, 0))
            nowhere = one.flow_to("udp", *gone.getsockname()[:2])
        for _ in range(3):  # an error reported on the next send costs that one nothing
            one.send(nowhere, options())
            one.send(one.flow_to("udp", *there), b"still sent")
            assert peer.recv(100) == b"still sent"
            quoted, flow = await asyncio.wait_for(came.get(), 2.0)
            assert quoted.startswith(b"unreached OPTIONS sip:edge") and b"branch=" in quoted and flow == nowhere
            peer.sendto(b"still heard", (bound.host, bound.port))
            assert (await asyncio.wait_for(came.get(), 2.0))[0] == b"still heard"
        one.close()


async def test_who_comes_to_one_of_several_listeners_is_shown_that_one(open_edge: Opener, phones: Make) -> None:
    place = await open_edge(trunk("all", phones(CUSTOMER), sources=["127.0.0.1"]), listen=("tcp", "tcp"))
    sockets = place.edge.driver.wire
    for listener in sockets.listeners:
        reader, writer = await asyncio.open_connection(listener.host, listener.port)
        writer.write(options("TCP"))
        assert (await read(reader)).startswith(b"SIP/2.0 200 ")
        (stream,) = sockets.streams._streams.values()
        assert sockets.advertise(stream.flow) == f"{listener.host}:{listener.port}"
        writer.close()
        async with asyncio.timeout(2.0):
            while len(sockets.streams):
                await asyncio.sleep(0.01)
