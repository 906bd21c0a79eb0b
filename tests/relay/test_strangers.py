"""RTP bleed and injection: whoever is not the declared peer is not heard, hears nothing, and is counted."""

from __future__ import annotations

import random
import socket

import pytest

from sipedge.media import plane, rtp
from sipedge.media.plane import Bridge, Connect, Done, Measure, Measures, Terms
from tests.relay.peers import Edge, Phone, talk

ELSEWHERE = ["127.0.0.2", "127.0.0.77", "127.9.9.9"]


def test_spray_from_other_addresses_is_neither_heard_nor_answered(
    edge: Edge, call: str, alice: Phone, bob: Phone
) -> None:
    alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
    only_us = {"cidrs": ("127.0.0.1/32",)}
    edge.connect(call, 1, alice, **only_us)
    edge.connect(call, 2, bob, **only_us)
    edge.ask(Bridge(call), Done)
    attackers = [Phone(host=host) for host in ELSEWHERE]
    for attacker in attackers:
        attacker.ssrc, attacker.sequence = alice.ssrc, alice.sequence  # it knows all but the address

    def spray() -> None:
        for attacker in attackers:
            for attacker.to in (alice.to, bob.to):
                attacker.say(b"\x2a" * 160)

    talk(alice, bob, frames=50, meanwhile=spray)
    assert len(bob.heard) == len(alice.heard) == 50
    assert not any(packet.payload == b"\x2a" * 160 for packet in alice.heard + bob.heard)
    for attacker in attackers:
        attacker.listen()
        assert attacker.heard == []
        attacker.__exit__()
    for leg in edge.close(call).legs:
        assert leg.received == 50 and leg.dropped == {"outside": 150}


def test_the_right_address_with_the_wrong_port_is_a_stranger(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)
    with Phone() as mallory:
        mallory.to, mallory.ssrc = alice.to, alice.ssrc
        talk(alice, mallory, frames=10)
        assert len(bob.wait_for(10)) == 10 and mallory.heard == []
    assert edge.close(call).legs[0].dropped == {"wrong_port": 10}


def test_packets_for_a_leg_without_a_peer_are_spray(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
    talk(alice, frames=5)
    edge.connect(call, 1, alice)
    talk(bob, frames=5)
    first, second = edge.close(call).legs
    assert first.dropped == {"spray": 5} and second.dropped == {"spray": 5}


def test_noise_from_the_peer_itself_is_counted_by_its_reason(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)
    chance = random.Random(7)
    for _ in range(20):
        alice.socket.sendto(bytes((chance.randrange(0x40),)) + chance.randbytes(40), alice.to)  # not version 2
        alice.socket.sendto(rtp.build(99, 1, 2, alice.ssrc, b"x" * 20), alice.to)  # a type nobody agreed on
    alice.socket.sendto(b"", alice.to)
    alice.socket.sendto(b"\x80\x08" + b"x" * 1900, alice.to)  # longer than a packet may be
    talk(alice, frames=5)
    assert len(bob.wait_for(5)) == 5
    assert edge.close(call).legs[0].dropped == {"bad_version": 22, "payload": 20}


def test_ten_thousand_broken_packets_end_no_call(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)
    chance = random.Random(11)
    plain = rtp.build(8, 1, 2, alice.ssrc, b"\xd5" * 20)
    for index in range(10_000):
        broken = bytearray(plain[: chance.randrange(len(plain))] + chance.randbytes(chance.randrange(8)))
        for _ in range(min(3, len(broken))):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        alice.socket.sendto(broken, alice.to)
        alice.control.sendto(broken, (alice.to[0], alice.to[1] + 1))
        if index % 100 == 0:
            edge.ask(Measure(), Measures)  # lets the relay take them all
    bob.listen(0.1)
    talk(alice, frames=60)  # over a second: the budget against floods is new
    assert [packet.payload for packet in bob.heard][-1][:1] != b"" and len(bob.heard) >= 50
    assert edge.close(call).legs[0].dropped["bad_version"] > 1000


def test_a_flood_from_the_peer_is_cut_to_a_budget(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)

    def taken() -> int:
        measures = edge.ask(Measure(), Measures)
        return measures.received + sum(measures.dropped.values())

    before = taken()
    for index in range(1, 5001):
        alice.say(b"\xd5" * 160)
        if index % 50 == 0:  # as fast as the relay reads, so that the kernel loses nothing
            bob.listen()
            while taken() < before + index:
                continue
    bob.listen(0.1)
    first = edge.close(call).legs[0]
    assert first.dropped["flood"] > 2000 and first.received + first.dropped["flood"] == 5000
    assert len(bob.heard) == first.received


def test_a_symmetric_leg_learns_its_peers_port_once(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    """SDP says one port, NAT another: the first packets say which; a later source is a stranger."""
    alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
    edge.connect(call, 1, alice, port=9, symmetric=True)
    edge.connect(call, 2, bob)
    edge.ask(Bridge(call), Done)
    with Phone() as mallory, Phone(host="127.0.0.5") as outsider:
        mallory.to = outsider.to = alice.to
        mallory.say(b"\x2a" * 160)  # a single packet makes nobody the peer
        talk(alice, bob, frames=10)
        talk(mallory, frames=10)
        talk(outsider, frames=10)
        talk(alice, bob, frames=10)
        assert mallory.heard == outsider.heard == []
    assert len(alice.heard) >= 16
    assert len(bob.heard) == 17  # three packets told who the peer is
    assert edge.close(call).legs[0].dropped == {"wrong_port": 20}


def test_a_symmetric_leg_never_learns_an_address_outside(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
    edge.connect(call, 1, alice, symmetric=True, cidrs=("127.0.0.1/32",))
    edge.connect(call, 2, bob)
    edge.ask(Bridge(call), Done)
    with Phone(host="127.0.0.5") as outsider:
        outsider.to = alice.to
        talk(outsider, bob, frames=10)
        assert outsider.heard == [] and bob.heard == []
    talk(alice, bob, frames=10)
    assert len(bob.heard) == 7
    assert edge.close(call).legs[0].dropped == {"outside": 10}


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "0.0.0.0", "localhost", "", "::1"]
)
def test_an_address_outside_the_trunks_networks_is_refused(edge: Edge, call: str, host: str) -> None:
    edge.open(call)
    failed = edge.ask(Connect(call, 1, Terms(host, 4000, "PCMA", ("127.0.0.0/8",))), plane.Failed)
    assert failed.code == "address_refused"


def test_media_sent_to_one_of_our_own_ports_would_run_in_a_circle(edge: Edge, call: str) -> None:
    ports = edge.open(call)
    for port in (ports[1], ports[1] + 1):
        failed = edge.ask(Connect(call, 1, Terms("127.0.0.1", port, "PCMA", ("127.0.0.0/8",))), plane.Failed)
        assert failed.code == "address_refused"


def test_no_other_process_can_share_a_port_of_a_call(edge: Edge, call: str, alice: Phone) -> None:
    port = edge.open(call, legs=1)[0]
    edge.connect(call, 1, alice)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            thief.setsockopt(socket.SOL_SOCKET, option, 1)
            with pytest.raises(OSError):
                thief.bind(("127.0.0.1", port))
