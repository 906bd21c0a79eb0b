"""Property tests of every parser that reads what strangers wrote: bent seeds never surprise it, whatever bends them.

The long and coverage-guided run of the same targets is `python -m loadtests.fuzz`.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import WORDS, seeds_of
from tests.fuzz.targets import TARGETS

SEEDS = {target: seeds_of(target) for target in TARGETS}
EXAMPLES = {"sip": 400, "stream": 400, "sdp": 600, "rtp": 600, "rtcp": 600, "digest": 400, "identity": 400}
QUICK = 0.005  # seconds of CPU: what one message may cost


@st.composite
def bent(draw: st.DrawFn, target: str) -> bytes:
    """A seed with pieces cut out, put in, doubled or taken from another seed."""
    data = draw(st.sampled_from(SEEDS[target]))
    for _ in range(draw(st.integers(0, 5))):
        at, length = draw(st.integers(0, len(data))), draw(st.sampled_from([0, 1, 2, 7, 40, 200]))
        other = draw(st.sampled_from(SEEDS[target]))
        twice, end = data[at : at + length] * 2, other[-length:]
        put = draw(st.one_of(st.sampled_from(WORDS[target]), st.binary(max_size=8), st.sampled_from([twice, end])))
        data = data[:at] + put + data[at + length :]
    return data


@pytest.mark.parametrize("target", TARGETS)
def test_bent_input_never_surprises_its_reader(target: str) -> None:
    @settings(max_examples=EXAMPLES[target])
    @given(bent(target))
    def look(data: bytes) -> None:
        TARGETS[target](data)

    look()


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes_never_surprise_its_reader(target: str) -> None:
    @settings(max_examples=150)
    @given(st.binary(max_size=3000))
    def look(data: bytes) -> None:
        TARGETS[target](data)

    look()


@pytest.mark.parametrize("target", TARGETS)
def test_every_seed_is_read_quickly(target: str) -> None:
    for seed in SEEDS[target]:
        assert min(cost(target, seed) for _ in range(5)) < QUICK, seed[:60]


# What makes careless readers slow: one thing, as often as a datagram or a stream's message holds it.
REPEATED = [
    b"X:y\r\n", b"Via: SIP/2.0/UDP x;branch=z9hG4bK1,", b"\r\n ", b"\r\n", b'"', b"\\", b"<", b">", b";a=b", b",",
    b"%41", b" ", b"\t", b"(", b"a=rtpmap:8 PCMA/8000\r\n",
    b"m=audio 9 RTP/AVP 8\r\n", b"\0", b"\xc3\xa9", b"sip:", b"--b\r\n",
]  # fmt: skip


@pytest.mark.parametrize("piece", REPEATED, ids=repr)
def test_no_piece_repeated_makes_a_message_slow(piece: bytes) -> None:
    """Reading takes time linear in the message: 60 kB cost less than 30 times what 4 kB do, or next to nothing."""
    for place in (
        b"From: ",
        b"Via: ",
        b"Contact: ",
        b"Call-ID: ",
        b"Subject: ",
        b"Content-Type: ",
        b"P-Asserted-Identity: ",
    ):
        head = SEEDS["sip"][0].partition(b"\r\n")
        short, long = (
            head[0] + b"\r\n" + place + piece * (size // len(piece)) + b"\r\n" + head[2] for size in (4_000, 60_000)
        )
        for target in ("sip", "sdp", "digest"):
            quick, slow = (min(cost(target, data) for _ in range(3)) for data in (short, long))
            assert slow < max(30 * quick, 2 * QUICK), (target, place)


def cost(target: str, data: bytes) -> float:
    """CPU seconds of one reading."""
    begin = time.thread_time()
    TARGETS[target](data)
    return time.thread_time() - begin
