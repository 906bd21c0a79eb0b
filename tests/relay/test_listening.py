"""The relay hears keys in a leg's audio while it is asked to."""

from __future__ import annotations

from array import array

import pytest

from sipedge.media import plane, tones
from sipedge.media.plane import BadRequest, Bridge, Digit, Done, Failed, Feel, Felt, Listen
from sipedge.relay.prompts import frames_of
from tests.relay.peers import Edge, Phone


def key_five(codec: plane.CodecName) -> list[bytes]:
    """0.1 s of the key 5, and as much silence."""
    return list(frames_of((tones.sound((770, 1336), 800) + array("h", bytes(1600))).tobytes(), codec))


@pytest.mark.parametrize("codec", ["PCMA", "PCMU"])
def test_a_tone_is_a_digit_until_the_bridge(edge: Edge, call: str, codec: plane.CodecName) -> None:
    with Phone(codec) as caller, Phone(codec) as callee:
        caller.to, callee.to = (("127.0.0.1", port) for port in edge.open(call))
        edge.connect(call, 1, caller)
        for frame in key_five(codec):
            caller.say(frame)
        for _ in range(2):  # what was said before has been read when the relay has gone round twice
            edge.ask(Feel(), Felt)
        edge.ask(Listen(call, 1), Done)
        for frame in key_five(codec):
            caller.say(frame)
        assert edge.event(Digit) == Digit(call, 1, "5", 0.04, "tone")
        edge.connect(call, 2, callee)
        edge.ask(Bridge(call), Done)
        for frame in key_five(codec):
            caller.say(frame)
        callee.listen(0.2)
        assert [packet.payload for packet in callee.heard[-10:]] == key_five(codec)
        edge.close(call)  # answered after whatever it had to tell
        assert edge.events == []


def test_only_a_leg_that_was_opened_is_listened_to(edge: Edge, call: str) -> None:
    edge.open(call, legs=1)
    refused = edge.ask(Listen(call, 2), Failed)
    assert isinstance(refused.error(), BadRequest)
