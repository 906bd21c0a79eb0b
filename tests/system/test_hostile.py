"""Under hostile input memory stays within bounds, the log has no traceback, strangers get no byte, and calls go on."""

from __future__ import annotations

import re
import socket

import pytest

from tests.system.hostile import attack_beside
from tests.system.mutate import Mutator
from tests.system.service import Service
from tests.system.sipp import Phones, accepts, ack, bye, hears, invite, is_asked, picks_up, trying, waits

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(150)]

SEED, COUNT = 4475, 5000


def test_the_same_seed_gives_the_same_messages() -> None:
    def some(seed: int) -> list[bytes]:
        mutator = Mutator(seed, "127.0.0.1", "127.0.0.2", ["+84"])
        return [mutator.message() for _ in range(200)]

    assert some(1) == some(1) and some(1) != some(2)
    assert len(set(some(1))) > 190


def test_bent_messages_hurt_nobody_and_calls_go_on(service: Service, phones: Phones) -> None:
    place = service.place
    customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)
    session = service.open_session(customer, driver)
    dialled = session["participants"][0]["proxies"][0]["number"]
    calls = 0

    def call() -> None:
        nonlocal calls
        with phones.waits_for_call(place.callee, is_asked("INVITE"), *picks_up(), is_asked("BYE"), accepts()) as callee:
            rings = [invite(), trying(), hears(180, within=1000), hears(200, within=1000)]
            steps = [*rings, ack(), waits(300), bye(), hears(200)]
            with phones.calls(dialled, place.caller, customer.number, *steps) as caller:
                caller.finish(), callee.finish()
        calls += 1

    outcome = attack_beside(call, service, COUNT, SEED, trunk=place.moscow)
    assert calls >= 2 and outcome.sent == COUNT
    assert outcome.bytes_to_strangers == 0
    assert outcome.answers, "the trunk's messages were read"
    assert outcome.memory_peak - outcome.memory_before < 200 << 20
    assert "Traceback" not in service.log()


def exchanged(service: Service, message: bytes) -> bytes:
    """The first answer to a datagram from a trunk's address, empty when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        trunk.bind((service.place.moscow, 0))
        trunk.settimeout(0.3)
        trunk.sendto(message, (service.place.edge, 5060))
        try:
            return trunk.recv(65535)
        except TimeoutError:
            return b""


def test_a_malformed_request_is_answered_by_no_more_than_itself(service: Service) -> None:
    place = service.place
    whole = Mutator(1, place.edge, place.moscow, ["+842471000000"])
    request = next(m for m in iter(whole.valid, b"") if m.startswith(b"INVITE"))
    via = re.search(rb"Via: [^\r]*\r\n", request)
    assert via
    broken = [
        request.replace(b"CSeq: ", b"CSeq: x"), request.replace(b"Call-ID:", b"Call-No:"),
        request.replace(b"From:", b"Form:"), request.replace(b"Max-Forwards: ", b"Max-Forwards: -"),
        request.replace(b"SIP/2.0\r\n", b"SIP/3.0\r\n", 1), request.replace(b"Content-Length: ", b"Content-Length: 9"),
        request.replace(via[0], b""), request.replace(b"To: <", b"To: <<<"), b"OPTIONS sip:x SIP/2.0\r\n\r\n",
        b"INVITE\r\n\r\n",        b"\r\n\r\n", b"\0" * 40, request[:90],
        b"OPTIONS sip:a SIP/2.0\r\n" + via[0] + b"\r\n",
    ]  # fmt: skip
    answers = [(message, exchanged(service, message)) for message in broken]
    too_large = [(message[:40], answer[:40]) for message, answer in answers if len(answer) > len(message)]
    assert too_large == []
    assert any(answer.startswith(b"SIP/2.0 400") for _, answer in answers)
