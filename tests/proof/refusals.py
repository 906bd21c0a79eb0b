"""Every kind of "no" a caller can be told, and what exactly comes back: the answers may not tell them apart
(contract: "Same wording, code and timing").

The tests compare words and order on a few tries; the soak compares times on thousands.
"""

from __future__ import annotations

import itertools
import json
import re
import select
import socket
import statistics
import subprocess
import time
from dataclasses import dataclass

import httpx2

from tests.proof.phones import body, header
from tests.system.service import MASKING, Service

OFFER = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"
    "a=rtpmap:8 PCMA/8000\r\n"
)
# What differs from call to call, whoever calls whom: identifiers, ports, and what the caller wrote itself.
FREE = re.compile(
    rb"(?m)^(?:Via|From|To|Call-ID|Contact):.*$|(?<=^o=- )\d+|(?<=^m=audio )\d+|(?<=^Content-Length: )\d+"
)
TURN = itertools.count()
PAUSE = 0.004  # seconds between two tries: what is measured is an edge at ease


@dataclass(frozen=True)
class Told:
    """One refusal: messages in order without what is free, the audio that came with them, and seconds to the first and
    to the final answer."""

    messages: tuple[bytes, ...]
    packets: tuple[bytes, ...]
    first: float
    final: float

    @property
    def status(self) -> int:
        return int(self.messages[-1].split()[1])


@dataclass(frozen=True)
class No:
    """A call that is refused: the number dialled, and the From it comes with."""

    dialled: str
    from_: str


def kinds(service: Service) -> dict[str, No]:
    """Sets up each kind once, on the UDP trunk; all spelled in the same length."""
    host = service.place.at(11)
    caller, callee = (service.person(role, service.place.at(at)) for role, at in (("c", 11), ("d", 21)))
    live = service.open_session(caller, callee, service="over-udp")
    ended = service.open_session(caller, callee, service="over-udp")
    others = [service.person(role, service.place.at(at)) for role, at in (("e", 11), ("f", 21))]
    elsewhere = service.open_session(*others, service="over-udp")
    service.post(f"/v1/sessions/{ended['id']}:close")
    stranger = service.person("stranger", host)

    def x(session: dict[str, object]) -> str:
        participants: list[dict[str, list[dict[str, str]]]] = session["participants"]  # type: ignore[assignment]
        return participants[0]["proxies"][0]["number"]

    def by(number: str) -> str:
        return f"<sip:{number}@{host}>"

    taken = {x(session) for session in (live, ended, elsewhere)}
    free = next(number for number in (f"+842471000{n:03d}" for n in range(8)) if number not in taken)
    return {
        "no binding": No(free, by(stranger.number)),
        "a wrong caller": No(x(live), by(stranger.number)),
        "a caller of another session": No(x(live) if x(elsewhere) != x(live) else x(ended), by(stranger.number)),
        "a stranger on an ended pair's number": No(x(ended), by(stranger.number)),
        "another tenant's number": No(rival(service), by(stranger.number)),
        "no number of ours": No("+842471888001", by(stranger.number)),
        "a withheld caller": No(x(live), f"<sip:anonymous@{host}>"),
        "a withheld caller where nobody is bound": No(free, f"<sip:anonymous@{host}>"),
        "a caller in national spelling": No(x(live), by("0" + stranger.number[3:])),
    }


def rival(service: Service) -> str:
    """A number that another tenant holds on the same trunk."""
    command = [str(MASKING), "keys", "create", "--tenant", "rival", "--scope", "numbers", "--scope", "sessions",
               "--config", str(service.config_path), "--json"]  # fmt: skip
    made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    number = "+842471999001"
    rows = {"phone_numbers": [{"phone_number": number, "trunk": "over-udp"}]}
    key = {"Authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    with httpx2.Client(base_url=service.ready["http"], headers=key, timeout=15.0) as api:
        people = [{"identifier": service.person(role, "nowhere").number, "role": role} for role in ("g", "h")]
        assert api.post("/v1/services/default/phone_numbers", json=rows).status_code == 201
        assert api.post("/v1/sessions", json={"participants": people, "record": "never"}).status_code == 201
    return number


def refuse(service: Service, no: No, *, offers: bool) -> Told:
    """Calls once. `offers`: with SDP, so that it is told why; else the code comes at once."""
    place, turn = service.place, next(TURN)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as voice,
    ):
        line.bind((place.at(11), 0))
        voice.bind((place.at(11), 0))
        host, port = line.getsockname()
        offer = OFFER.format(host=host, port=voice.getsockname()[1]) if offers else ""
        head = [
            f"INVITE sip:{no.dialled}@{place.edge} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bKno{turn:06d};rport",
            "Max-Forwards: 70",
            f"From: {no.from_};tag=no",
            f"To: <sip:{no.dialled}@{place.edge}>",
            f"Call-ID: no{turn:06d}",
            "CSeq: 1 INVITE",
            f"Contact: <sip:{host}:{port}>",
            *(["Content-Type: application/sdp"] if offer else []),
            f"Content-Length: {len(offer)}",
        ]
        asked = ("\r\n".join([*head, "", ""]) + offer).encode()
        began = time.monotonic()
        line.sendto(asked, (place.edge, 5060))
        messages, packets, first, final = listen(line, voice, began)
        to = header(final, "To")
        ack = asked.partition(b"\r\n\r\n")[0].replace(b"INVITE", b"ACK").replace(head[4].encode(), f"To: {to}".encode())
        ack = ack.replace(f"Content-Length: {len(offer)}".encode(), b"Content-Length: 0")
        line.sendto(ack.replace(b"Content-Type: application/sdp\r\n", b"") + b"\r\n\r\n", (place.edge, 5060))
        return Told(tuple(messages), tuple(packets), first, time.monotonic() - began)


def listen(line: socket.socket, voice: socket.socket, began: float) -> tuple[list[bytes], list[bytes], float, bytes]:
    """Until the final answer, within 10 s."""
    messages: list[bytes] = []
    packets: list[bytes] = []
    first = 0.0
    while True:
        ready = select.select([line, voice], [], [], 10.0)[0]
        assert ready, "no final answer"
        if voice in ready:
            packets.append(voice.recv(2048)[12:])
        if line in ready:
            answer = line.recv(65535)
            first = first or time.monotonic() - began
            messages.append(FREE.sub(b"*", answer))
            assert not body(answer) or b"m=audio" in answer
            if answer.split()[1] >= b"200":
                return messages, packets, first, answer


def unhurried(service: Service, no: No) -> Told:
    """One refusal by somebody who has looked: a busy machine answers 503 unread, and is asked again a little later."""
    for _ in range(20):
        told = refuse(service, no, offers=False)
        time.sleep(PAUSE if told.status == 404 else 0.5)
        if told.status == 404:
            return told
    raise AssertionError(f"busy for 10 s: {told.messages[-1][:40]!r}")


def medians(service: Service, asked: dict[str, No], tries: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds to the first and to the final answer of each kind, over that many interleaved tries."""
    told: dict[str, list[Told]] = {name: [] for name in asked}
    for turn in range(tries):
        names = list(asked)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            told[name].append(unhurried(service, asked[name]))
    return {
        name: (
            1000 * statistics.median(one.first for one in some), 1000 * statistics.median(one.final for one in some)
        )
        for name, some in told.items()
    }  # fmt: skip
