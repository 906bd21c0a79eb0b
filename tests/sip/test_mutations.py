"""Broken, mixed and doubled messages: read, or malformed, and never anything else.

Small here; `MASKING_MUTATIONS` makes it as long as wanted, `MASKING_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random

from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Invited
from sipedge.sip.flows import Flow
from sipedge.sip.messages import Malformed, parse
from tests.sip.test_torture import SERVED
from tests.sip.world import SDP, entropy

COUNT = int(os.environ.get("MASKING_MUTATIONS", "4000"))
SEED = int(os.environ.get("MASKING_SEED", "20261122"))
UDP = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.9", 5060))
ISUP = b"Content-Type: application/isup\r\nContent-Disposition: signal;handling=optional\r\n\r\n\x01"
IN_PARTS = b"--b\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--b\r\n" + ISUP + b"\r\n--b--\r\n"
TCP = Flow("tcp", ("192.0.2.1", 40_000), ("192.0.2.9", 5060), 1)
SPLINTERS = [
    *(b"\r\n", b"\r\n ", b"\r\n\r\n", b"\0", b"\xff", b"\xc2\x85", b" ", b"\t", b"\\", b"%", b"%00", b'"', b"<", b">"),
    *(b";", b",", b":", b"@", b"*", b"sip:", b"tel:", b";tag=x", b";branch=z9hG4bK", b";lr", b";maddr=203.0.113.1"),
    *(b"Via: SIP/2.0/UDP x", b"Content-Length: 99999", b"l:-1", b"2147483648", b"-1", b"9" * 40, b"SIP/2.0"),
    *(b"ACK", b"CANCEL", b"BYE", b"PRACK", b"A" * 600),
]


def mutate(luck: random.Random, seeds: list[bytes]) -> bytes:
    data = bytearray(luck.choice(seeds))
    for _ in range(luck.choice([1, 1, 2, 3, 8])):
        at = luck.randrange(len(data) + 1)
        match luck.randrange(6):
            case 0:
                data[at:at] = luck.choice(SPLINTERS)
            case 1:
                del data[at : at + luck.choice([1, 2, 10, 80])]
            case 2:
                data[at : at + 1] = bytes([luck.randrange(256)])
            case 3:
                other = luck.choice(seeds)
                cut = luck.randrange(len(other) + 1)
                data[at:] = other[cut:]
            case 4:
                lines = bytes(data).split(b"\r\n")
                luck.shuffle(lines)
                data = bytearray(b"\r\n".join(lines)) if luck.random() < 0.2 else data + luck.choice(lines) + b"\r\n"
            case _:
                chunk = bytes(data[at : at + luck.choice([1, 5, 40])])
                data[at:at] = chunk * luck.choice([1, 2, 20])
    return bytes(data)


def speaker(seed: str, max_transactions: int = 100_000) -> Endpoint:
    """One that knows every extension we do."""
    methods = ("INVITE", "ACK", "BYE", "CANCEL", "PRACK", "OPTIONS", "INFO", "UPDATE")
    return Endpoint(
        entropy=entropy(seed), methods=methods, extensions=("100rel", "timer"), max_transactions=max_transactions
    )


def conversation() -> list[bytes]:
    """Every kind of message of a real call, as seeds."""
    alice, bob = speaker("m1"), speaker("m2")
    heard: list[bytes] = []

    def pump() -> None:
        while sends := [(bob, data) for _, data in alice.take_sends()] + [
            (alice, data) for _, data in bob.take_sends()
        ]:
            for side, data in sends:
                heard.append(data)
                side.receive(data, UDP, 0.0)

    requires = [("Require", "100rel"), ("Session-Expires", "90;refresher=uac")]
    leg = alice.invite(
        UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:a@h>", to="<sip:b@h>", headers=requires, body=IN_PARTS,
        content_type="multipart/mixed;boundary=b",
    )  # fmt: skip
    pump()
    (invited,) = bob.take_events()
    assert isinstance(invited, Invited)
    for status in (180, 200):
        bob.respond(invited.transaction, status, 0.0, body=SDP)
        pump()
    alice.request(leg, "INFO", 0.0, body=b"Signal=1\r\n", content_type="application/dtmf-relay")
    pump()
    for method in ("UPDATE", "INVITE"):
        alice.request(leg, method, 0.0, body=SDP, content_type="application/sdp")
        pump()
    alice.bye(leg, 0.0)
    pump()
    return heard


def test_mutated_messages_are_parsed_or_malformed() -> None:
    luck = random.Random(SEED + 1)
    seeds = [*SERVED.values(), *conversation()]
    read = 0
    for _ in range(COUNT):
        try:
            message = parse(mutate(luck, seeds))
            read += 1
            for name in (
                "contact",
                "record_routes",
                "require",
                "identities",
                "privacy",
                "session_expires",
                "cause",
                "content_type",
            ):
                try:
                    getattr(message, name)
                except Malformed:
                    continue
        except Malformed:
            continue
    assert COUNT // 20 < read < COUNT, "the mutations are neither all harmless nor all hopeless"
