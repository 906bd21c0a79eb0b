"""A declared peer that sends nonsense: the other phone hears clean RTP of ours or nothing, and the relay goes on."""

from __future__ import annotations

import random
import time

from tests.fuzz.seeds import rtcp_seeds, rtp_seeds
from tests.relay.peers import Edge, Phone, talk

SEED, COUNT = 3550, 1_200


def bent(dice: random.Random, seeds: list[bytes]) -> bytes:
    """A packet with bytes flipped, cut out, doubled, or cut short."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.choice([0, 1, 1, 2, 5])):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(5):
            case 0:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del data[at : at + dice.choice([1, 4, 60])]
            case 2:
                data[at:at] = data[at : at + dice.choice([1, 12, 400])] * 2
            case 3 if data:
                data[0] = dice.choice([0x80, 0x8F, 0x90, 0xA0, 0xBF, 0x40, 0xC0])
            case _:
                data = data[:at]
    return bytes(data[:2_000])


def test_bent_packets_of_the_peer_itself_pass_as_clean_ones_or_not_at_all(
    edge: Edge, call: str, alice: Phone, bob: Phone
) -> None:
    edge.bridged(call, alice, bob)
    dice = random.Random(SEED)
    sources: set[bytes] = set()
    heard = 0
    media, reports = rtp_seeds(), rtcp_seeds()
    for n in range(COUNT):
        alice.socket.sendto(bent(dice, media), alice.to)
        if n % 4 == 0:
            alice.control.sendto(bent(dice, reports), (alice.to[0], alice.to[1] + 1))
        if n % 40 == 39:  # under the ceiling of a flood, so that each is looked at
            time.sleep(0.1)
            for packet in everything(bob):
                assert packet[0] == 0x80, "no padding, no extension, no contributing source"
                assert packet[1] & 0x7F in (8, 101), "what was agreed"
                sources.add(packet[8:12])
                heard += 1
    assert 0 < heard <= COUNT and len(sources) == 1, "one stream, and it is ours"
    alice.ssrc, alice.sequence = 77, 1000
    before = len(bob.heard)
    talk(alice, bob, frames=30)
    assert len(bob.heard) - before >= 25, "and then a voice again"
    counted = edge.close(call).legs[0].dropped
    assert counted["bad_version"] > 20 and counted["rtcp"] > 20


def everything(phone: Phone) -> list[bytes]:
    """What waits in its socket, as it came."""
    phone.socket.setblocking(False)
    packets: list[bytes] = []
    while True:
        try:
            packets.append(phone.socket.recv(2048))
        except BlockingIOError:
            return packets
