"""Calls through a real relay: who hears whom, in which codec, under whose numbers."""

from __future__ import annotations

import itertools
import socket

import pytest

from sipedge.media import plane, rtcp, rtp
from sipedge.media.plane import Bridge, Digit, Done, RingBack
from sipedge.media.telephone_events import packets
from tests.relay.peers import Edge, Phone, Relay, strength, talk


def test_each_phone_hears_the_other_and_only_the_other(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)
    talk(alice, bob, frames=50)
    assert len(alice.heard) == len(bob.heard) == 50
    assert strength(alice.sound(), 880) > 0.99 > 0.01 > strength(alice.sound(), 440)
    assert strength(bob.sound(), 440) > 0.99 > 0.01 > strength(bob.sound(), 880)
    closed = edge.close(call)
    assert [(leg.received, leg.sent, leg.lost, leg.dropped) for leg in closed.legs] == [(50, 50, 0, {})] * 2
    assert closed.bridged > 0.9


def test_nothing_is_relayed_before_the_bridge(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
    edge.connect(call, 1, alice)
    edge.connect(call, 2, bob)
    talk(alice, bob, frames=10)
    assert alice.heard == bob.heard == []
    edge.ask(Bridge(call), Done)
    talk(alice, bob, frames=10)
    assert len(alice.heard) == len(bob.heard) == 10


def test_phones_of_two_laws_understand_each_other(edge: Edge, call: str, alice: Phone) -> None:
    with Phone("PCMU") as bob:
        edge.bridged(call, alice, bob)
        talk(alice, bob, frames=40)
        assert {packet.payload_type for packet in alice.heard} == {8}
        assert {packet.payload_type for packet in bob.heard} == {0}
        assert strength(alice.sound(), 880) > 0.99
        assert strength(bob.sound(), 440) > 0.99


def test_a_dynamic_payload_type_is_mapped(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
    edge.connect(call, 1, alice, payload=97)
    edge.connect(call, 2, bob)
    edge.ask(Bridge(call), Done)
    for kind in (97, 97, 8, 8):  # the number of either description may come
        alice.say(b"\xd5" * 160, kind)
    bob.say(b"\xd5" * 160)
    bob.wait_for(3)
    alice.wait_for(1)
    assert {packet.payload_type for packet in bob.heard} == {8}
    assert alice.heard[0].payload_type == 97


def test_our_stream_has_our_own_source_and_no_seam(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    """Ring-back, then the other phone, then the other phone under a new source: one stream."""
    alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
    edge.connect(call, 1, alice)
    edge.connect(call, 2, bob)
    edge.ask(RingBack(call, 1, "VN"), plane.Playing)
    alice.wait_for(10)
    edge.ask(Bridge(call), Done)
    talk(bob, frames=10, hearing=(alice,))
    bob.ssrc, bob.sequence, bob.timestamp = bob.ssrc ^ 1, 5, 9
    talk(bob, frames=10, hearing=(alice,))
    assert len({packet.ssrc for packet in alice.heard}) == 1
    assert alice.heard[0].ssrc not in (bob.ssrc, bob.ssrc ^ 1)
    for (before, at), (one, then) in itertools.pairwise(zip(alice.heard, alice.arrivals, strict=True)):
        assert one.sequence == before.sequence + 1 & 0xFFFF
        passed = (one.timestamp - before.timestamp & 0xFFFFFFFF) / 8000
        assert passed == 0.02 or (one.marker and passed == pytest.approx(then - at, abs=0.1))
    assert [packet.marker for packet in alice.heard].count(True) == 3


def test_extensions_and_contributors_do_not_pass(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)
    head = rtp.build(8, 1, 160, 5, b"")
    alice.socket.sendto(bytes((0xB2,)) + head[1:] + b"csr1csr2\xbe\xde\0\1+849voice\0\0\3", alice.to)
    alice.socket.sendto(rtp.build(8, 2, 320, 5, b"plain"), alice.to)
    assert [packet.payload for packet in bob.wait_for(2)] == [b"voice", b"plain"]


def test_loss_stays_loss_and_late_packets_stay_late(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)
    for sequence in (10, 11, 14, 13, 15):
        alice.socket.sendto(rtp.build(8, sequence, 160 * sequence, 5, bytes((sequence,)) * 160), alice.to)
    heard = bob.wait_for(5)
    begin = heard[0].sequence
    assert [packet.sequence - begin & 0xFFFF for packet in heard] == [0, 1, 4, 3, 5]
    assert [(packet.timestamp - heard[0].timestamp & 0xFFFFFFFF) // 160 for packet in heard] == [0, 1, 4, 3, 5]
    assert edge.close(call).legs[0].lost == 1


def test_keys_pass_under_the_other_sides_number_and_are_told(edge: Edge, call: str, alice: Phone) -> None:
    with Phone("PCMU", dtmf=96) as bob:
        edge.bridged(call, alice, bob)
        talk(alice, frames=5)
        for digit in "42#":
            for index, payload in enumerate(packets(digit, frames=3)):
                alice.say(payload, 101, marker=index == 0, advance=0)
            alice.timestamp += 800
        talk(alice, frames=5)
        heard = bob.wait_for(28)
        assert [packet.payload_type for packet in heard] == [0] * 5 + [96] * 18 + [0] * 5
        keys = [packet for packet in heard if packet.payload_type == 96]
        assert [packet.payload[0] for packet in keys] == [4] * 6 + [2] * 6 + [11] * 6
        assert len({packet.timestamp for packet in keys}) == 3
        assert [packet.sequence - heard[0].sequence & 0xFFFF for packet in heard] == list(range(28))
        assert [edge.event(Digit).digit for _ in "42#"] == ["4", "2", "#"]


def test_keys_are_told_but_not_sent_to_a_phone_that_takes_none(edge: Edge, call: str, alice: Phone) -> None:
    with Phone(dtmf=None) as bob:
        edge.bridged(call, alice, bob)
        talk(alice, frames=3)
        for payload in packets("7", frames=3):
            alice.say(payload, 101, advance=0)
        talk(alice, frames=3)
        heard = bob.wait_for(6)
        assert {packet.payload_type for packet in heard} == {8}
        assert [packet.sequence - heard[0].sequence & 0xFFFF for packet in heard] == list(range(6))
        assert edge.event(Digit).digit == "7"


@pytest.mark.parametrize("direction", ["recvonly", "inactive"])
def test_a_phone_that_holds_hears_nothing(
    edge: Edge, call: str, alice: Phone, bob: Phone, direction: plane.Direction
) -> None:
    edge.bridged(call, alice, bob)
    talk(alice, bob, frames=5)
    edge.connect(call, 1, alice, direction=direction)
    alice.heard.clear()
    bob.heard.clear()
    talk(alice, bob, frames=5)
    assert alice.heard == []
    assert len(bob.heard) == (5 if direction == "recvonly" else 0)


def test_a_leg_takes_a_new_peer(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)
    talk(alice, bob, frames=5)
    with Phone() as carol:
        edge.connect(call, 2, carol)
        carol.to = bob.to
        alice.heard.clear()
        talk(alice, bob, carol, frames=5, frequencies=(440, 880, 660))
        assert len(bob.heard) == 5 and len(carol.heard) == 5
        assert strength(alice.sound(), 660) > 0.9
    assert edge.close(call).legs[1].dropped == {"wrong_port": 5}


def test_rtcp_is_ours_and_theirs_ends_here(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)
    for phone in (alice, bob):
        phone.control.settimeout(7)
    for phone, port in ((alice, alice.to[1]), (bob, bob.to[1])):
        block = rtcp.Block(1, 0.5, 3, 4, 5, 6, 7)
        phone.control.sendto(rtcp.build(phone.ssrc, "alice-at-home", None, [block]), ("127.0.0.1", port + 1))
    talk(alice, bob, frames=10)
    data = alice.control.recv(2048)
    report = rtcp.parse(data)
    assert b"alice-at-home" not in data + bob.control.recv(2048)
    assert report.ssrc == alice.heard[0].ssrc
    (block,) = report.blocks
    assert block.ssrc == alice.ssrc and block.lost == 0 and block.highest == alice.sequence - 1 & 0xFFFF
    answer = rtcp.Block(report.ssrc, 0.25, 3, 4, 5, report.middle, 0)
    alice.control.sendto(rtcp.build(alice.ssrc, "x", None, [answer]), ("127.0.0.1", alice.to[1] + 1))
    bob.control.sendto(b"noise", ("127.0.0.1", bob.to[1] + 1))
    edge.ask(plane.List(), plane.Held)
    first, second = edge.close(call).legs
    assert first.reported_loss == 0.25 and first.round_trip is not None and first.round_trip < 1.0
    assert second.dropped == {"rtcp": 1}


def test_a_call_through_ipv6_is_a_call(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The address family follows the address the relay is bound to."""
    with Relay(tmp_path_factory.mktemp("six"), bind="::1") as relay, relay.edge() as edge:
        port = edge.open("c6", legs=1)[0]
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as phone:
            phone.bind(("::1", 0))
            phone.settimeout(5)
            terms = plane.Terms("::1", phone.getsockname()[1], "PCMA", ("::1/128",))
            edge.ask(plane.Connect("c6", 1, terms), Done)
            edge.ask(RingBack("c6", 1, "VN"), plane.Playing)
            data, source = phone.recvfrom(2048)
            assert source[:2] == ("::1", port) and len(rtp.parse(data).payload) == 160
