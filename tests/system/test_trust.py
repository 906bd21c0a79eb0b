"""Callers who must say more than their number: PINs keyed by phones we did not write, and what the session is told."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.baresip import Baresip, host_address
from tests.system.service import Person, Service
from tests.system.sipp import (
    PCMA,
    Phones,
    accepts,
    ack,
    answers,
    bye,
    hears,
    invite,
    is_asked,
    picks_up,
    refusal_ack,
    request,
    sent,
    trying,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(120)]

Session = dict[str, Any]
IS_HUNG_UP = [is_asked("BYE"), accepts()]
SIPP_EVENTS = PCMA.replace("101", "96")  # the number SIPp's own keys carry
_services = itertools.count(1)


@pytest.fixture
def zone(service: Service) -> str:
    """A service whose numbers ask strangers for a PIN."""
    name = f"zone-{next(_services)}"
    service.post("/v1/services", {"unique_name": name, "out_of_session": "pin"}, 201)
    number = next(_services)
    service.import_numbers([f"+8424730{number:03}{n:02}" for n in range(2)], "vn-main", name)
    return name


@pytest.fixture
def pair(service: Service) -> tuple[Person, Person]:
    return service.person("customer", service.place.caller), service.person("driver", service.place.callee)


def proxy(session: Session, of: int = 0) -> tuple[str, str]:
    """The number a participant dials, and its PIN."""
    found = session["participants"][of]["proxies"][0]
    return found["number"], found["pin"]


def keys(digits: str) -> str:
    """SIPp's own keys (RFC 4733)."""
    return f'<nop><action><exec play_dtmf="{digits}"/></action></nop>'


def tells(cseq: int, key: str) -> list[str]:
    """One key by INFO."""
    head = request("INFO", str(cseq)).strip()
    body = f"Signal={key}\nDuration=160\n"
    info = f"{head}\nContent-Type: application/dtmf-relay\nContent-Length: [len]\n\n{body}"
    return [f'<send retrans="500"><![CDATA[\n\n{info}]]></send>', hears(200)]


def test_a_stranger_keys_the_pin_by_rfc_4733_and_is_who_it_was_given_to(
    service: Service, phones: Phones, pair: tuple[Person, Person], zone: str
) -> None:
    session = service.open_session(*pair, service=zone, pin={"policy": "unknown_caller", "length": 6})
    number, pin = proxy(session)
    stranger = service.person("second phone", service.place.caller)
    steps = [
        invite(SIPP_EVENTS),
        trying(),
        hears(200),
        ack(),
        waits(300),
        keys(pin + "#"),
        waits(4500),
        bye(),
        hears(200),
    ]
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        with phones.calls(number, service.place.caller, stranger.number, *steps) as caller:
            caller.finish()
        invited = callee.finish()[0]
    assert proxy(session, 1)[0] in invited.header("From") and pin not in invited.text
    told = service.ended_interaction(session["id"])
    assert (told["decision"], told["status"], told["answered_by"]) == ("pin", "completed", "callee")
    assert told["from"] == session["participants"][0]["id"]
    assert 1 < told["conversation"] < told["billable"] < 6


def test_a_known_phone_keys_four_digits_by_info_where_everybody_is_asked(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair, pin={"policy": "always"})
    number, pin = proxy(session)
    keyed = [step for place, key in enumerate(pin[:4]) for step in tells(2 + place, key)]
    steps = [invite(), trying(), hears(200), ack(), *keyed, is_asked("BYE"), accepts()]
    busy = [is_asked("INVITE"), answers("486 Busy Here"), is_asked("ACK")]
    with phones.waits_for_call(service.place.callee, *busy) as callee:
        with phones.calls(number, service.place.caller, pair[0].number, *steps) as caller:
            caller.finish()
        callee.finish()
    assert not caller.received("SIP/2.0 180")
    told = service.ended_interaction(session["id"])
    assert (told["decision"], told["status"], told["answered_by"]) == ("pin", "busy", "platform")
    assert [leg["sip_code"] for leg in told["legs"]] == [200, 486]
    assert told["billable"] > 2, "the sentence that said so was heard" and told["conversation"] == 0


def test_wrong_pins_end_in_the_plain_refusal(
    service: Service, phones: Phones, pair: tuple[Person, Person], zone: str
) -> None:
    session = service.open_session(*pair, service=zone, pin={"policy": "unknown_caller"})
    number, pin = proxy(session)
    stranger = service.person("guesser", service.place.caller)
    wrong = "1" if pin[0] != "1" else "2"
    for _ in range(2):  # the sixth is one too many
        cseq, keyed = 2, []
        for _ in range(3):
            for key in wrong + "#":
                keyed += tells(cseq, key)
                cseq += 1
            keyed.append(waits(300))
        with phones.calls(
            number, service.place.caller, stranger.number,
            invite(), trying(), hears(200), ack(), *keyed, is_asked("BYE", within=14000), accepts(),
        ) as caller:  # fmt: skip
            caller.finish(30)
    assert service.interactions(session["id"]) == []


def test_an_intent_lets_a_withheld_caller_through_once(
    service: Service, phones: Phones, pair: tuple[Person, Person], zone: str
) -> None:
    session = service.open_session(*pair, service=zone, pin={"policy": "unknown_caller"})
    number, _ = proxy(session)
    customer = session["participants"][0]["id"]
    intent = service.post(f"/v1/sessions/{session['id']}:intend", {"participant": customer})
    assert intent["numbers"] == [number]
    steps = [invite(), trying(), hears(180), hears(200), ack(), waits(200), bye(), hears(200)]
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        with phones.calls(number, service.place.caller, "anonymous", *steps) as caller:
            caller.finish()
        callee.finish()
    told = service.ended_interaction(session["id"])
    assert (told["decision"], told["from"]) == ("routed", customer)
    again = [invite(), trying(), hears(200), ack(), waits(200), bye(), hears(200)]
    with phones.calls(number, service.place.caller, "anonymous", *again) as caller:
        caller.finish()


def test_a_call_into_a_session_of_messages_is_told_off(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair, mode="message_only")
    refused = [invite(), trying(), hears(183), hears(403, within=14000), refusal_ack()]
    with phones.calls(proxy(session)[0], service.place.caller, pair[0].number, *refused) as caller:
        caller.finish()
    told = service.ended_interaction(session["id"])
    assert (told["decision"], told["status"]) == ("mode", "refused")


def test_a_text_on_a_trunk_is_405_and_one_refused_interaction(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair, mode="voice_only")
    head = request("MESSAGE", "1", uri="sip:[service]@[remote_ip]:[remote_port]", to="").strip()
    text = sent(head + "\nContent-Type: text/plain\n", "hello").replace("Content-Type: application/sdp\n", "")
    with phones.calls(proxy(session)[0], service.place.caller, pair[0].number, text, hears(405)) as caller:
        caller.finish()
    told = service.ended_interaction(session["id"])
    assert (told["type"], told["decision"], told["status"]) == ("message", "mode", "refused")


# --- baresip, whose keys are pressed on its console


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Service]:
    """A service on the machine's own address, where baresip's media comes from. Its packets are not captured: others
    may be talking there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host_address(), 0))
        listen = f"{host_address()}:{probe.getsockname()[1]}"
    with Service(tmp_path / "service", settings={"sip": {"listen": [f"udp:{listen}"]}}) as service:
        service.import_numbers([f"+8424740000{n:02}" for n in range(2)], "vn-main")
        yield service
        assert service.leaks() == []
        assert "Traceback" not in service.log()


def test_baresip_keys_a_pin_and_talks(beside: Service, tmp_path: Path) -> None:
    service = beside
    customer, driver = (service.person(name, service.place.caller, service.place.callee) for name in ("an", "binh"))
    session = service.open_session(customer, driver, pin={"policy": "always"})
    number, pin = proxy(session)
    with Baresip(tmp_path, driver.number, service.place.callee, 5080, hertz=880) as callee:
        callee.is_ready()
        target = f"sip:{number}@{service.ready['sip'][0].removeprefix('udp:')}"
        with Baresip(
            tmp_path, customer.number, service.place.caller, 5070, hertz=440, dial=target, keys=True
        ) as caller:
            caller.says("Call established")
            time.sleep(0.5)
            caller.presses(pin[:4])
            assert callee.saw_caller() == proxy(session, 1)[0]
            time.sleep(1.0)
    told = service.ended_interaction(session["id"])
    assert (told["decision"], told["status"]) == ("pin", "completed") and told["conversation"] > 0.5
