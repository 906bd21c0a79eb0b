"""Session descriptions: what is read, what is refused, and that nothing of a peer's text is ever written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.media import sdp
from sipedge.media.sdp import BadSdp, Format, Origin, Outside

PHONE = b"""v=0\r
o=alice 2890844526 2890844527 IN IP4 10.1.2.3\r
s=Alice's phone\r
i=about Alice\r
e=alice@example.com\r
c=IN IP4 10.1.2.3\r
t=0 0\r
a=tool:alicephone 1.0\r
m=video 51372 RTP/AVP 99\r
a=rtpmap:99 h263-1998/90000\r
m=audio 49170 RTP/AVP 96 0 8 97 101 13\r
a=rtpmap:96 opus/48000/2\r
a=rtpmap:97 iLBC/8000\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-16\r
a=ptime:20\r
a=candidate:1 1 UDP 2130706431 10.1.2.3 49170 typ host\r
a=sendrecv\r
"""
LINE = re.compile(rb"(v=0|o=- \d+ \d+ IN IP[46] [0-9a-f.:]+|s=-|c=IN IP[46] [0-9a-f.:]+|t=0 0"
                  rb"|m=\S+ \d+ \S+( \d+)+|a=rtpmap:\d+ (PCMA|PCMU|telephone-event)/8000|a=fmtp:\d+ 0-15|a=ptime:20"
                  rb"|a=(sendrecv|sendonly|recvonly|inactive))")  # fmt: skip


def audio(*lines: str, host: str = "10.1.2.3", formats: str = "8", session: str = "") -> bytes:
    head = f"v=0\r\no=- 1 7 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n{session}"
    return (head + f"m=audio 4000 RTP/AVP {formats}\r\n" + "".join(f"{line}\r\n" for line in lines)).encode()


def test_the_first_live_audio_stream_passes_with_the_codecs_we_know() -> None:
    read = sdp.parse(PHONE)
    assert read.version == 2890844527
    assert [stream.kind for stream in read.streams] == ["video", "audio"]
    stream = read.audio
    assert stream is not None and (stream.host, stream.port, stream.ptime) == ("10.1.2.3", 49170, 20)
    assert stream.formats == (Format("PCMU", 0), Format("PCMA", 8), Format("telephone-event", 101))
    assert stream.events == 101


def test_an_answer_keeps_the_m_lines_in_place_and_refuses_all_but_one() -> None:
    read = sdp.parse(PHONE)
    assert read.audio is not None
    chosen = sdp.choose(read.audio)
    assert chosen == Format("PCMU", 0)
    text = sdp.answer(read, Origin(7, 3), "127.0.0.1", 20000, chosen)
    assert text == (
        b"v=0\r\no=- 7 3 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=video 0 RTP/AVP 0\r\n"
        b"m=audio 20000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        b"a=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    )


def test_an_offer_reads_back_as_what_was_meant() -> None:
    text = sdp.offer(Origin(5), "2001:db8::1", 20002, ("PCMU", "PCMA"), "sendonly")
    stream = sdp.parse(text).audio
    assert stream is not None and stream.host == "2001:db8::1" and stream.direction == "sendonly"
    assert [one.name for one in stream.formats] == ["PCMU", "PCMA", "telephone-event"]
    assert Origin(5).next() == Origin(5, 2)


def test_the_secure_stream_of_a_best_effort_offer_is_passed_over() -> None:
    body = audio(formats="0").replace(b"m=audio 4000", b"m=audio 4002 RTP/SAVP 8\r\nm=audio 4000")
    read = sdp.parse(body)
    assert read.audio is read.streams[1]
    chosen = sdp.choose(read.streams[1])
    assert chosen is not None
    text = sdp.answer(read, Origin(1), "127.0.0.1", 20000, chosen)
    assert b"m=audio 0 RTP/SAVP 0\r\nm=audio 20000 RTP/AVP 0" in text


def test_a_static_number_given_to_another_codec_is_not_that_codec() -> None:
    stream = sdp.parse(audio("a=rtpmap:0 GSM/8000", "a=rtpmap:97 PCMA/8000", formats="0 97")).audio
    assert stream is not None and stream.formats == (Format("PCMA", 97),)


def test_telephone_events_on_another_clock_are_not_ours() -> None:
    stream = sdp.parse(audio("a=rtpmap:101 telephone-event/48000", formats="8 101")).audio
    assert stream is not None and stream.events is None


@pytest.mark.parametrize(
    ("peer", "ours"),
    [("sendrecv", "sendrecv"), ("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")],
)
def test_what_a_peer_sends_we_receive(peer: str, ours: str) -> None:
    for body in (audio(f"a={peer}"), audio(session=f"a={peer}\r\n")):
        stream = sdp.parse(body).audio
        assert stream is not None
        chosen = sdp.choose(stream)
        assert chosen is not None
        assert sdp.terms(stream, chosen, ["10.0.0.0/8"]).direction == ours


def test_an_old_style_hold_has_no_address_and_hears_nothing() -> None:
    stream = sdp.parse(audio(host="0.0.0.0")).audio
    assert stream is not None and stream.host is None and stream.direction == "sendonly"
    with pytest.raises(BadSdp):
        sdp.terms(stream, Format("PCMA", 8), ["0.0.0.0/0"])


def test_terms_carry_both_numbers_of_telephone_events() -> None:
    stream = sdp.parse(audio("a=rtpmap:96 telephone-event/8000", formats="8 96")).audio
    assert stream is not None
    terms = sdp.terms(stream, Format("PCMA", 8), ["10.0.0.0/8"], events_in=101, symmetric=True)
    assert (terms.dtmf, terms.dtmf_in, terms.symmetric, terms.payload) == (96, 101, True, 8)


def test_an_address_outside_the_trunks_networks_is_outside() -> None:
    stream = sdp.parse(audio(host="169.254.169.254")).audio
    assert stream is not None
    with pytest.raises(Outside):
        sdp.terms(stream, Format("PCMA", 8), ["10.0.0.0/8"])


@pytest.mark.parametrize(
    ("address", "cidrs", "expected"),
    [
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("10.1.2.3", ("10.1.2.3",), True),
        ("10.1.2.3", ("10.1.2.3:5060",), True),
        ("10.1.2.3", ("10.1.2.4", "192.168.0.0/16"), False),
        ("10.1.2.3", (), False),
        ("224.0.0.1", ("0.0.0.0/0",), False),
        ("255.255.255.255", ("0.0.0.0/0",), False),
        ("0.0.0.0", ("0.0.0.0/0",), False),
        ("::ffff:10.1.2.3", ("10.0.0.0/8", "::/0"), False),
        ("::1", ("::1",), True),
        ("2001:db8::7", ("[2001:db8::]/32", "2001:db8::/32"), True),
        ("fe80::1%eth0", ("::/0",), False),
        ("phone.example.com", ("0.0.0.0/0",), False),
        ("", ("0.0.0.0/0",), False),
    ],
)
def test_inside_takes_literal_unicast_addresses_only(address: str, cidrs: tuple[str, ...], expected: bool) -> None:
    assert sdp.inside(address, cidrs) is expected


def test_a_network_that_is_none_is_an_error_of_ours() -> None:
    with pytest.raises(BadSdp):
        sdp.networks(("ten",))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"v=1\r\n",
        b"v=0\r\n",
        b"hello",
        audio(host="phone.example.com"),
        audio(host="224.2.1.1/127"),
        audio(host="224.2.1.1"),
        audio(host="255.255.255.255"),
        audio(host="1.2.3.4.5"),
        audio("c=IN IP6 10.0.0.1"),
        audio("c=IN IP4"),
        audio("c=IN IP6 ::ffff:10.0.0.1"),
        audio("c=IN IP6 fe80::1%lo"),
        audio().replace(b"4000", b"65536"),
        audio().replace(b"4000", b"-1"),
        audio().replace(b"4000", b"4000/2"),
        audio(formats="4294967296"),
        audio(formats="eight"),
        audio().replace(b" 8\r\n", b"\r\n"),
        audio(formats=" ".join("8" * 70)),
        audio("a=rtpmap:300 X/8000"),
        audio("a=rtpmap:101"),
        audio("a=rtpmap:101 telephone-event"),
        audio("a=rtpmap:101 \x01/8000"),
        audio("a=ptime:soon"),
        audio("a=fmtp:101 0-15\0"),
        audio("nonsense"),
        audio(*["m=audio 4000 RTP/AVP 8"] * 16),
        audio(*["a=x"] * 600),
        audio("a=" + "x" * 20_000),
        audio().replace(b"o=- 1 7", b"o=- 1"),
        audio().replace(b"o=- 1 7", b"o=- 1 seven"),
        b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n",
    ],
)
def test_a_description_we_cannot_use_is_refused(body: bytes) -> None:
    with pytest.raises(BadSdp) as refused:
        sdp.parse(body)
    assert "example" not in str(refused.value)


PIECES = st.sampled_from(
    [
        b"v=0",
        b"o=- 1 1 IN IP4 10.0.0.1",
        b"s=-",
        b"t=0 0",
        b"c=IN IP4 10.0.0.1",
        b"c=IN IP6 ::1",
        b"m=audio 4000 RTP/AVP 8",
        b"m=audio 4000 RTP/AVP 0 8 101",
        b"m=video 1 RTP/AVP 9",
        b"m=image 1 udptl t38",
        b"a=rtpmap:101 telephone-event/8000",
        b"a=rtpmap:8 PCMA/8000/1",
        b"a=sendonly",
        b"a=ptime:20",
        b"a=secret:alice",
        b"i=alice",
    ]
)


@given(st.lists(PIECES | st.binary(max_size=40), max_size=30), st.sampled_from([b"\r\n", b"\n"]))
def test_whatever_comes_is_read_or_refused_and_our_text_is_ours_alone(lines: list[bytes], end: bytes) -> None:
    body = end.join([b"v=0", *lines])
    try:
        read = sdp.parse(body)
    except BadSdp:
        return
    stream = read.audio
    chosen = None if stream is None else sdp.choose(stream)
    if chosen is None:
        return
    text = sdp.answer(read, Origin(1), "127.0.0.1", 20000, chosen)
    assert text.endswith(b"\r\n")
    assert all(LINE.fullmatch(line) for line in text[:-2].split(b"\r\n"))
    again = sdp.parse(text)
    assert len(again.streams) == len(read.streams)
    assert [one.port for one in again.streams if one.port] == [20000]


@given(st.binary(max_size=300), st.integers(0, len(PHONE)), st.integers(0, 60))
def test_a_mutated_description_raises_nothing_else(noise: bytes, at: int, cut: int) -> None:
    try:
        sdp.parse(PHONE[:at] + noise + PHONE[at + cut :])
    except BadSdp:
        pass


LINES = st.sampled_from([
    "v=0", "o=- 1 7 IN IP4 10.1.2.3", "o=a\xa0b 1 7 IN IP4 h", "s=-", "i=x", "c=IN IP4 10.1.2.3", "c=IN IP4 0.0.0.0",
    "t=0 0", "b=AS:64", "a=sendonly", "m=audio 4000 RTP/AVP 8 0 101", "m=audio 0 RTP/AVP 8", "m=audio 65536 RTP/AVP 8",
    "m=audio 4000/1 RTP/AVP 8", "m=video 5 RTP/AVP 99", "a=rtpmap:8 PCMA/8000", "a=rtpmap:8 X/8000", "a=ptime:30",
    "a=rtpmap:101 telephone-event/8000", "a=inactive", "a=x\x85", "a", "", "x=y",
])  # fmt: skip
HEAD = ("v=0", "o=- 1 7 IN IP4 10.1.2.3", "s=-", "c=IN IP4 10.1.2.3", "t=0 0", "m=audio 4000 RTP/AVP 8 0 101")


@given(st.integers(0, len(HEAD)), st.lists(LINES, max_size=8), st.booleans())
def test_a_usual_description_reads_as_a_strange_one_does(kept: int, more: list[str], whole: bool) -> None:
    """Line ends of one character are never read at one stroke, and say the same."""
    lines = [*HEAD[:kept], *more, *(HEAD[kept:] if whole else ())]

    def read(end: str) -> object:
        try:
            return sdp.parse("".join([line + end for line in lines]).encode("latin-1"))
        except BadSdp as problem:
            return str(problem)

    assert read("\r\n") == read("\n")
