"""A relay on an IPv6 address: the same calls, the same deaf ear for strangers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from recordings.capture import Packets
from sipedge.media import plane, rtcp, rtp
from sipedge.media.plane import Done, Record
from tests.relay.peers import SEAL, Edge, Phone, Relay, strength, talk, written

HERE = "::1"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with Relay(tmp_path_factory.mktemp("relay"), bind=HERE) as relay:
        yield relay


def test_a_call_is_heard_recorded_and_reported(edge: Edge, call: str, tmp_path: Path) -> None:
    with Phone(host=HERE) as alice, Phone("PCMU", host=HERE) as bob:
        edge.bridged(call, alice, bob)
        edge.ask(Record(call, "rec_6", str(tmp_path), SEAL), Done)
        edge.ask(plane.Keep(call), Done)
        talk(alice, bob, frames=50)
        assert len(alice.heard) == len(bob.heard) == 50
        assert strength(bob.sound(), 440) > 0.99 and strength(alice.sound(), 880) > 0.99
        alice.control.sendto(rtcp.build(alice.ssrc, "alice", None), (HERE, alice.to[1] + 1))
        alice.control.settimeout(6.0)
        said = rtcp.parse(alice.control.recv(2048))  # ours comes every five seconds
        first, second = edge.close(call).legs
    assert said.ssrc != alice.ssrc and (first.received, second.received) == (50, 50)
    assert first.dropped == second.dropped == {}
    records = list(written(tmp_path / "rec_6.capture"))
    assert sum(len(one.datagrams) for one in records if isinstance(one, Packets)) == 100


def test_strangers_are_neither_heard_nor_answered(edge: Edge, call: str) -> None:
    with Phone(host=HERE) as alice, Phone(host=HERE) as bob, Phone(host=HERE) as mallory:
        edge.bridged(call, alice, bob)
        mallory.to, mallory.ssrc, mallory.sequence = alice.to, alice.ssrc, alice.sequence

        def spray() -> None:
            mallory.say(b"\x2a" * 160)

        talk(alice, bob, frames=30, hearing=(mallory,), meanwhile=spray)
        assert len(bob.heard) == 30 and not any(one.payload == b"\x2a" * 160 for one in bob.heard)
        assert mallory.heard == []
        assert edge.close(call).legs[0].dropped == {"wrong_port": 30}


def test_a_symmetric_leg_learns_the_port_once(edge: Edge, call: str) -> None:
    with Phone(host=HERE) as alice, Phone(host=HERE) as bob:
        alice.to, bob.to = ((HERE, port) for port in edge.open(call))
        edge.connect(call, 1, alice, port=9, symmetric=True)
        edge.connect(call, 2, bob)
        edge.ask(plane.Bridge(call), Done)
        talk(alice, bob, frames=10)
        assert bob.heard and alice.heard
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as mallory:
            mallory.bind((HERE, 0))
            mallory.settimeout(0.2)
            for _ in range(10):
                mallory.sendto(rtp.build(8, 1, 1, alice.ssrc, b"\x2a" * 160), alice.to)
            talk(alice, bob, frames=5)
            with pytest.raises(TimeoutError):
                mallory.recv(2048)
        assert not any(one.payload == b"\x2a" * 160 for one in bob.heard)
        edge.close(call)
