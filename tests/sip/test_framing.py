"""Cutting a stream into messages: whatever pieces it comes in, the same messages come out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.sip.framing import Framer
from sipedge.sip.messages import MAX_MESSAGE


def message(body: bytes = b"", name: bytes = b"Content-Length") -> bytes:
    return b"OPTIONS sip:a SIP/2.0\r\nVia: x\r\n" + name + b": %d\r\n\r\n" % len(body) + body


PIECES = [
    message(),
    message(b"v=0\r\n\r\nm=audio\r\n"),
    message(b"x" * 300, b"l"),
    message(b"\r\n\r\n", b"CONTENT-LENGTH \t"),
    b"\r\n\r\n",
    b"\r\n",
]


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(each, len(stream)) for each in at), len(stream)]
    return [stream[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def fed(pieces: list[bytes]) -> tuple[list[bytes], str, int, bool]:
    framer = Framer()
    out = [whole for piece in pieces for whole in framer.feed(piece)]
    return out, framer.broken, framer.pings, framer.unfinished


@given(st.lists(st.sampled_from(PIECES), max_size=6), st.lists(st.integers(0, 1500), max_size=8))
def test_a_stream_gives_the_same_messages_however_it_is_cut(parts: list[bytes], at: list[int]) -> None:
    stream = b"".join(parts)
    whole = fed([stream])
    assert fed(cut(stream, at)) == whole
    assert fed([bytes([octet]) for octet in stream]) == whole
    assert whole[0] == [part for part in parts if part.startswith(b"OPTIONS")]


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([*PIECES, b"Content-Length: 7\r\n", b"\r\n\r\n"]), max_size=8),
    st.data(),
)
def test_garbage_is_judged_alike_however_it_is_cut(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    at = data.draw(st.lists(st.integers(0, len(stream)), max_size=5))
    assert fed(cut(stream, at))[:2] == fed([stream])[:2]


def test_pings_between_messages_are_counted_and_pongs_are_not() -> None:
    framer = Framer()
    assert framer.feed(b"\r\n\r\n\r\n" + message() + b"\r\n\r\n") == [message()]
    assert framer.pings == 2


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"OPTIONS sip:a SIP/2.0\r\nVia: x\r\n\r\n", "no single Content-Length"),
        (b"OPTIONS sip:a SIP/2.0\r\nl: 0\r\nContent-Length: 4\r\n\r\nabcd", "no single Content-Length"),
        (b"OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n", "no single Content-Length"),
        (b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 65530\r\n\r\n", "message too long"),
        (b"OPTIONS sip:a SIP/2.0\r\nX: " + b"a" * MAX_MESSAGE, "headers too long"),
    ],
)
def test_a_stream_that_cannot_be_framed_is_broken_for_good(stream: bytes, why: str) -> None:
    framer = Framer()
    assert framer.feed(message() + stream) == [message()]
    assert framer.broken == why
    assert framer.feed(message()) == []


def test_half_a_message_is_known_as_such() -> None:
    framer = Framer()
    for piece, unfinished in [(b"\r", False), (b"\n", False), (b"O", True), (b"PTIONS", True)]:
        framer.feed(piece)
        assert framer.unfinished is unfinished


def test_a_long_message_in_small_pieces_costs_no_more_than_its_length() -> None:
    framer = Framer()
    body = b"x" * 60_000
    stream = message(body)
    out = [whole for at in range(0, len(stream), 10) for whole in framer.feed(stream[at : at + 10])]
    assert out == [stream]
