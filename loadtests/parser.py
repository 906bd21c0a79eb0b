"""INVITEs read per CPU-second: the fields an edge needs, by our parser and by sippy's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from loadtests.measure import Row, row
from sipedge.media import sdp
from sipedge.sip.messages import Request, parse

BODY = "\r\n".join([
    "v=0", "o=carrier 53655765 2353687637 IN IP4 10.0.0.8", "s=-", "c=IN IP4 10.0.0.8", "t=0 0",
    "m=audio 40000 RTP/AVP 8 0 101", "a=rtpmap:8 PCMA/8000", "a=rtpmap:0 PCMU/8000",
    "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15", "a=ptime:20", "a=sendrecv", "",
])  # fmt: skip


def invite(number: int) -> bytes:
    """A carrier's INVITE: no two have the same numbers, branches, tag, Call-ID, CSeq, or media port."""
    caller, called = f"+8490{7_000_000 + number}", f"+84247{1_000_000 + number % 5_000}"
    body = BODY.replace("53655765", f"{53655765 + number}").replace("40000", f"{10_000 + number % 50_000}")
    return "\r\n".join([
        f"INVITE sip:{called}@10.0.0.1:5060 SIP/2.0",
        f"Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-524287-{number};rport",
        f"Via: SIP/2.0/UDP 10.0.0.8:5060;branch=z9hG4bK-77-{number};received=10.0.0.8",
        "Record-Route: <sip:10.0.0.9;lr;ftag=abc>", "Max-Forwards: 68",
        f'From: "Driver" <sip:{caller}@10.0.0.8:5060>;tag=8812uac{number}', f"To: <sip:{called}@10.0.0.1:5060>",
        f"Call-ID: {number}-13499@10.0.0.8", f"CSeq: {number + 1} INVITE",
        f"Contact: <sip:{caller}@10.0.0.8:5060;transport=udp>",
        "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO", "Supported: 100rel, timer, replaces",
        "User-Agent: carrier/7.2", f"P-Asserted-Identity: <sip:{caller}@carrier.example>", "Privacy: none",
        "Session-Expires: 1800", "Min-SE: 90", f"P-Charging-Vector: icid-value=af3b{number};icid-generated-at=10.0.0.8",
        "Accept: application/sdp", "Date: Sun, 22 Nov 2026 04:00:00 GMT", "Content-Type: application/sdp",
        f"Content-Length: {len(body)}", "", body,
    ]).encode()  # fmt: skip


Read = Callable[[Any], tuple[Any, ...]]
"""Reads a message into what an edge needs: the called user, From's user and tag, To's tag, the branch of the topmost
Via, Call-ID, CSeq's number and method, Contact's user, Max-Forwards, the user of P-Asserted-Identity, and of the SDP
the audio's address, port and codecs."""


def ours(data: bytes) -> tuple[Any, ...]:
    message = parse(data)
    assert isinstance(message, Request)
    contact, audio = message.contact, sdp.parse(message.description).audio
    assert contact is not None and audio is not None
    return (
        message.uri.user, message.from_.uri.user, message.from_.tag, message.to.tag, message.via.branch,
        message.call_id, message.cseq.number, message.cseq.method, contact.uri.user, message.max_forwards,
        message.identities[0].uri.user,
        audio.host, audio.port, [one.payload for one in audio.formats],
    )  # fmt: skip


def sippys() -> Read:
    """sippy reads a header when it is asked for, so it is asked for the same."""
    from sippy.SipRequest import SipRequest

    def read(text: str) -> tuple[Any, ...]:
        request = SipRequest(text)
        sender, cseq, body = request.getHFBody("from"), request.getHFBody("cseq"), request.getBody()
        body.parse()
        audio = body.content.sections[0]
        return (
            request.getRURI().username, sender.getUri().url.username, sender.getTag(),
            request.getHFBody("to").getTag() or "", request.getHFBody("via").getBranch(),
            request.getHFBody("call-id").body, *cseq.getCSeq(), request.getHFBody("contact").getUri().url.username,
            request.getHFBody("max-forwards").number, request.getHFBody("p-asserted-identity").getUri().url.username,
            audio.c_header.addr, audio.m_header.port, audio.m_header.formats,
        )  # fmt: skip

    return read


def rate(read: Callable[[Any], Any], messages: Sequence[Any]) -> float:
    """Messages per CPU-second."""
    began = time.process_time()
    for message in messages:
        read(message)
    return len(messages) / (time.process_time() - began)


def run(runs: int = 7, count: int = 8000) -> list[Row]:
    read = sippys()
    messages = [invite(number) for number in range(count)]
    texts = [message.decode() for message in messages[: count // 4]]
    if [read(text) for text in texts[:100]] != [ours(message) for message in messages[:100]]:
        raise AssertionError("the two do not read the same")
    mine, theirs = [], []
    for _ in range(runs):
        mine.append(rate(ours, messages))
        theirs.append(rate(read, texts))
    return [row("parser", "INVITE/CPU-s", mine, "sippy", theirs, 0)]
