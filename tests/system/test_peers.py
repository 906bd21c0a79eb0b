"""Phones and proxies of other makes, over every transport, at both sides of a masked call."""

from __future__ import annotations

import array
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.ports import free_port
from tests.system.baresip import RATE, Baresip, host_address, share_of
from tests.system.kamailio import Front
from tests.system.linphone import Linphone
from tests.system.service import Person, Place, Service, Trunk, running, take_place
from tests.system.sipp import (
    PCMA,
    Phones,
    accepts,
    callee_bye,
    hears,
    invite,
    is_asked,
    is_invited_and_keeps_caller,
    picks_up,
    refusal_ack,
    request,
    sent,
    trying,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(90)]

LOOPBACK = "127.0.0.1"  # where linphone connects from, whatever address it is bound to


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Service]:
    """One that listens for UDP, TCP and TLS, with a trunk for callers and one for callees over each stream."""
    place = take_place()
    own = authority.sign("edge.example", place.edge, f"dns:{place.edge}")
    # Media is received where the first of these is: on the machine's own address, where baresip's comes from.
    here = [f"udp:{place.edge}:5060", f"tcp:{place.edge}:5060", f"tls:{place.edge}:5061"]
    listen = [f"tls:{host_address()}:{free_port()}", *here]
    settings: dict[str, dict[str, Any]] = {
        "sip": {"listen": listen, "proxies": [place.at(2)]},
        "sip.tls": {"certificate": own.certificate, "key": own.key, "authorities": authority.bundle},
    }
    root = tmp_path_factory.mktemp("service")
    with running(root, place=place, trunks=trunks(place), settings=settings) as service:
        yield service
        assert service.leaks() == []
        assert "Traceback" not in service.log()


def trunks(place: Place) -> list[Trunk]:
    more = {"carrier": "vn", "early_media": "pass", "media": [place.caller, place.callee, LOOPBACK, host_address()]}
    return [
        Trunk("callers", f"sip:{place.caller}:5070;transport=tcp", [place.caller, LOOPBACK], more=more),
        Trunk("vn-main", f"sip:{place.callee}:5080;transport=tcp", [place.callee], more=more),
        Trunk("vn-front", f"sip:{place.at(2)}:5060;transport=udp", [place.at(12), place.at(24)]),
        Trunk("vn-tls", f"sips:{place.callee}:5091", [place.second_trunk], more=more),
    ]


@pytest.fixture
def people(service: Service) -> tuple[Person, Person]:
    place = service.place
    return service.person("customer", place.caller, LOOPBACK), service.person("driver", place.callee, LOOPBACK)


def routed_bye() -> str:
    return callee_bye().replace("Call-ID: [call_id]", "Call-ID: [call_id]\n[routes]")


def heard_tone(samples: array.array[int], hertz: int) -> bool:
    """Was there a quarter of a second of it? A phone on a busy machine stutters."""
    size = RATE // 4
    return any(share_of(samples[at : at + size], hertz) > 0.9 for at in range(0, len(samples) - size, size // 4))


def test_linphone_at_both_sides_over_tcp_with_early_media_prack_hold_and_session_timers(
    service: Service, people: tuple[Person, Person], tmp_path: Path
) -> None:
    place, (customer, driver) = service.place, people
    session = service.open_session(customer, driver)
    x, y = (participant["proxies"][0]["number"] for participant in session["participants"])
    with (
        Linphone(tmp_path, driver.number, place.callee, 5080, hertz=880, early=True, reliable=True) as callee,
        Linphone(tmp_path, customer.number, place.caller, 5070, hertz=440, expires=90) as caller,
    ):
        caller.does(f"call sip:{x}@{place.edge}:5060;transport=tcp")
        assert callee.says(r"incoming call from sip:([^@]+)@")[1] == y
        caller.says("early media")
        callee.does("answer 1")
        caller.says("Media streams established")
        time.sleep(2)
        caller.does("pause")
        caller.says("is now paused")
        caller.does("resume 1")
        caller.says("(?s)is now paused.*Media streams established")
        callee.does("terminate")
        caller.says("ended")
    assert heard_tone(caller.heard(), 880) and heard_tone(callee.heard(), 440)
    asked, answers = callee.messages("PRACK "), caller.messages("SIP/2.0 200")
    assert re.search(r"(?m)^RAck: \d+ 1 INVITE", asked[0]), "the callee's 183 was acknowledged"
    assert all("Session-Expires: 90;refresher=uac" in answer for answer in answers if "INVITE" in answer)
    assert ["INVITE" in answer for answer in answers].count(True) == 3
    told = service.ended_interaction(session["id"])
    assert (told["status"], told["hangup_by"]) == ("completed", "callee")


def test_linphone_calls_over_tls_and_baresip_answers_over_tls(
    service: Service, people: tuple[Person, Person], authority: Authority, tmp_path: Path
) -> None:
    place, (customer, driver) = service.place, people
    service.post("/v1/services", {"unique_name": "tls"}, 201)
    service.import_numbers(["+842471000099"], "vn-tls", service="tls")
    session = service.open_session(customer, driver, service="tls")
    x, y = (participant["proxies"][0]["number"] for participant in session["participants"])
    own = authority.sign(place.callee)
    both = tmp_path / "callee.pem"
    both.write_text(Path(own.certificate).read_text() + Path(own.key).read_text())
    service.legs[driver.name] |= {host_address()}
    with (
        Baresip(tmp_path, driver.number, place.callee, 5090, hertz=880, transport="tls", certificate=str(both),
                authorities=authority.bundle) as callee,
        Linphone(tmp_path, customer.number, place.caller, 5072, transport="tls", hertz=440,
                 authorities=authority.bundle) as caller,
    ):  # fmt: skip
        callee.is_ready()
        caller.does(f"call sip:{x}@{place.edge}:5061;transport=tls")
        caller.says("Media streams established")
        time.sleep(2)
        assert callee.saw_caller() == y
        caller.does("terminate")
        callee.says("terminated|closed")
    assert heard_tone(caller.heard(), 880) and heard_tone(callee.heard(), 440)
    assert service.ended_interaction(session["id"])["status"] == "completed"


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_baresip_calls_and_linphone_answers(
    service: Service, people: tuple[Person, Person], authority: Authority, tmp_path: Path, transport: str
) -> None:
    place, (customer, driver) = service.place, people
    session = service.open_session(customer, driver)
    x, y = (participant["proxies"][0]["number"] for participant in session["participants"])
    where = f"{place.edge}:{5061 if transport == 'tls' else 5060};transport={transport}"
    service.legs[customer.name] |= {host_address()}
    with (
        Linphone(tmp_path, driver.number, place.callee, 5080, hertz=880, answers=True) as callee,
        Baresip(tmp_path, customer.number, place.caller, 5074, hertz=440, transport=transport, dial=f"sip:{x}@{where}",
                authorities=authority.bundle) as caller,
    ):  # fmt: skip
        caller.says("Call established")
        time.sleep(2)
        caller.hang_up()
        callee.says("ended")
        assert callee.says(r"incoming call from sip:([^@]+)@")[1] == y
    assert heard_tone(caller.heard(), 880) and heard_tone(callee.heard(), 440)
    told = service.ended_interaction(session["id"])
    assert (told["status"], told["hangup_by"]) == ("completed", "caller")


@pytest.mark.parametrize("hiding", [False, True], ids=["record-route", "topos"])
def test_behind_kamailio_as_a_front_proxy_a_call_is_made_held_refreshed_and_ended_by_the_callee(
    service: Service, tmp_path: Path, hiding: bool
) -> None:
    """Every request inside both dialogs takes the road through the proxy, which with topos has rewritten all of it."""
    place = service.place
    phones = Phones(tmp_path, place.at(2))
    at_caller, at_callee = place.at(12), place.at(24)
    customer, driver = service.person("customer", at_caller), service.person("driver", at_callee)
    for person in (customer, driver):
        service.legs[person.name].add(place.at(2))
    name = f"front-{hiding}".lower()
    service.post("/v1/services", {"unique_name": name}, 201)
    service.import_numbers([f"+84247100008{int(hiding)}"], "vn-front", service=name)
    session = service.open_session(customer, driver, service=name)
    x, y = (participant["proxies"][0]["number"] for participant in session["participants"])
    held = PCMA.replace("a=sendrecv", "a=sendonly")
    routed = "[routes]\n"
    hold = [sent(request("INVITE", "2", extra=routed), held, 'retrans="500"'), trying(), hears(200),
            sent(request("ACK", "2", extra=routed))]  # fmt: skip
    refresh = [sent(request("UPDATE", "3", extra=routed), options='retrans="500"'), hears(200)]
    called = [is_invited_and_keeps_caller(), *picks_up(), waits(600), routed_bye(), hears(200)]
    with Front(tmp_path / "front", place.at(2), place.edge, at_callee, "vn-front", hiding=hiding):
        with phones.waits_for_call(at_callee, *called) as callee:
            steps = [invite(), trying(), hears(180), hears(200), sent(request("ACK", "1", extra=routed))]
            told = [is_asked("BYE"), accepts()]
            with phones.calls(x, at_caller, customer.number, *steps, *hold, *refresh, *told) as caller:
                heard = caller.finish()
            rang = callee.finish()
    assert y in rang[0].header("From") and customer.number not in rang[0].text
    assert not rang[0].header("X-Masking-Trunk")
    assert any("a=recvonly" in message.body for message in heard)
    edge_seen = [message for message in heard if message.received and f"@{place.edge}:" in message.header("Contact")]
    assert bool(edge_seen) != hiding, "topos keeps our own address from the carrier, and we do not mind"
    ended = service.ended_interaction(session["id"])
    assert (ended["status"], ended["hangup_by"]) == ("completed", "callee")


def test_behind_the_proxy_a_call_that_names_no_trunk_is_refused(service: Service, tmp_path: Path) -> None:
    place = service.place
    phones = Phones(tmp_path, place.at(2))
    with Front(tmp_path / "front", place.at(2), place.edge, place.at(24), "nobody", hiding=False):
        steps = [invite(), trying(), hears(403), refusal_ack()]
        with phones.calls("+842471000000", place.at(12), "+84901", *steps) as caller:
            caller.finish()
