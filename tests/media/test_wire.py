"""The framing of the media plane's messages: split anywhere, bounded, and never more than the named error."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.media import plane, wire
from sipedge.media.plane import Connect, Failed, Open, Ports, Reply, Request, Terms
from sipedge.media.wire import BadFrame, Frames

TERMS = Terms("10.1.2.3", 4000, "PCMA", ("10.0.0.0/8",), dtmf=101)
REQUESTS = [Request(1, Open("c1")), Request(2, Connect("c1", 2, TERMS)), Request(3, plane.List())]


@given(st.lists(st.integers(1, 200), max_size=40))
def test_frames_come_out_whole_however_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(map(wire.encode, REQUESTS))
    frames, got, at = Frames(), [], 0
    for cut in [*cuts, len(stream)]:
        got += [wire.decode_request(body) for body in frames.feed(stream[at : at + cut])]
        at += cut
    assert got == REQUESTS


def test_an_over_long_frame_is_fatal() -> None:
    with pytest.raises(BadFrame) as bad:
        list(Frames().feed((wire.MAX_FRAME + 1).to_bytes(4, "big")))
    assert bad.value.fatal


def test_the_id_of_a_bad_request_is_read_where_it_can_be() -> None:
    body = msgspec.msgpack.encode({"id": 9, "command": {"type": "unheard_of"}})
    with pytest.raises(BadFrame) as bad:
        wire.decode_request(body)
    assert bad.value.id == 9
    with pytest.raises(BadFrame) as worse:
        wire.decode_request(b"\xc1")
    assert worse.value.id == 0


@pytest.mark.parametrize(
    "change", [{"port": 0}, {"port": 65_536}, {"dtmf": 128}, {"payload": -1}, {"codec": "opus"}, {"direction": "up"}]
)
def test_terms_out_of_range_are_no_request(change: dict[str, object]) -> None:
    body = msgspec.msgpack.encode({"id": 1, "command": msgspec.to_builtins(REQUESTS[1].command)})
    command = msgspec.msgpack.decode(body)["command"]
    command["terms"] |= change
    with pytest.raises(BadFrame):
        wire.decode_request(msgspec.msgpack.encode({"id": 1, "command": command}))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    for decode in (wire.decode_request, wire.decode_message):
        try:
            decode(body)
        except BadFrame:
            pass


def test_a_deeply_nested_frame_is_refused() -> None:
    with pytest.raises(BadFrame):
        wire.decode_request(b"\x91" * 60_000 + b"\xc0")


def test_every_failure_is_an_error_of_its_own() -> None:
    for code in get_args(plane.FailureCode):
        reply = wire.decode_message(wire.encode(Reply(1, Failed(code, "why")))[4:])
        assert isinstance(reply, Reply) and isinstance(reply.result, Failed)
        assert reply.result.error().code == code
        assert str(reply.result.error()) == "why"


def test_messages_read_back_as_they_were_sent() -> None:
    for message in (
        Reply(4, Ports("127.0.0.1", (20_000, 20_002))),
        plane.PlayFinished("c1", 1, 7, "a.wav", True, 0.02, 3.4),
        plane.Digit("c1", 2, "#", 0.16),
        plane.CallLost("c1", "claimed"),
    ):
        assert wire.decode_message(wire.encode(message)[4:]) == message
