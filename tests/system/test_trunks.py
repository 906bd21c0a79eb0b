"""Trunks as carriers run them: Kamailio as registrar and authenticating proxy, SIPp that asks for a password or has to
give one, and ways out that are not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.system.kamailio import Kamailio
from tests.system.service import Person, Service, Trunk, eventually, take_place
from tests.system.sipp import (
    PCMA,
    Message,
    Phones,
    Sipp,
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

PASSWORD, REALM = "a-very-long-pass-phrase", "carrier.example"
LOGIN = {"username": "masking", "realm": REALM, "password": PASSWORD}
NUMBERS = {"sha": "+842471000031", "md5": "+842471000032", "closed": "+842471000033", "refusing": "+842471000034"}
MD5_ONLY = {"authenticate.algorithms": ["MD5"]}  # SIPp reads the first challenge alone, and knows no other algorithm
PEOPLE_AT = {"sha": 52, "md5": 62}
HANGS_UP = [ack(), waits(200), bye(), hears(200)]
IS_HUNG_UP = [is_asked("BYE"), accepts()]


def login(key: str) -> dict[str, str]:
    return {f"{key}.{name}": value for name, value in LOGIN.items()}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two carriers that know us by password (`.51` SHA-256, `.61` MD5; their people at `.52` and `.62`), a trunk that
    has to give one (`.53`), and two carriers whose first way out is not there (`.54` UDP, `.56` TCP; second: `.55`)."""
    root = tmp_path_factory.mktemp("trunks")
    place = take_place()

    def asks(name: str, switch: int, people: int) -> Trunk:
        more = {
            "register": True,
            "register_expires": 60,
            "announce": "none",
            "media": [place.at(people)],
            **login("auth"),
        }
        return Trunk(name, f"sip:{place.at(switch)}:5060", [place.at(switch)], more=more)

    def way(name: str, carrier: str, host: int, priority: int, transport: str = "udp") -> Trunk:
        uri = f"sip:{place.at(host)}:5080;transport={transport}"
        return Trunk(name, uri, [place.at(host)], more={"carrier": carrier, "priority": priority})

    trunks = [
        Trunk("callers", f"sip:{place.caller}:5080", [place.caller]),
        asks("sha", 51, 52),
        asks("md5", 61, 62),
        Trunk("guarded", f"sip:{place.at(53)}:5080", [place.at(53)], more=login("authenticate") | MD5_ONLY),
        way("closed", "one", 54, 1),
        way("open", "one", 55, 2),
        way("refusing", "two", 56, 1, "tcp"),
        way("willing", "two", 55, 2),
    ]
    with ExitStack() as stack:
        for name, algorithm, switch in (("sha", "SHA-256", 51), ("md5", "MD5", 61)):
            switch_at, people_at = place.at(switch), place.at(switch + 1)
            stack.enter_context(
                Kamailio(root / name, switch_at, people_at, realm=REALM, password=PASSWORD, algorithm=algorithm)
            )
        service = stack.enter_context(Service(root / "service", place=place, trunks=trunks))
        for trunk, number in NUMBERS.items():
            service.import_numbers([number], trunk)
        yield service
        service.stop()
        for trunk in PEOPLE_AT:  # draining took the registrations back: now it is Kamailio that knows of nobody
            (refused,) = heard(called_through(service, root, trunk), "SIP/2.0 404")
            assert refused.start == "SIP/2.0 404 Not Registered"
        assert PASSWORD not in service.log() and "Traceback" not in service.log()


@pytest.fixture
def phones(service: Service, tmp_path: Path) -> Phones:
    return Phones(tmp_path, service.place.edge)


def metric(service: Service, name: str, trunk: str) -> float | None:
    page = httpx2.get(f"{service.ready['http']}/metrics").text
    for line in page.splitlines():
        if line.startswith(name) and f'trunk="{trunk}"' in line:
            return float(line.rsplit(" ", 1)[1])
    return None


def pair(service: Service, *addresses: int) -> tuple[Person, Person]:
    place = service.place
    people = [place.at(host) for host in addresses]
    return service.person("customer", place.caller), service.person("driver", *people)


def heard(messages: list[Message], start: str) -> list[Message]:
    return [message for message in messages if message.received and message.start.startswith(start)]


@pytest.mark.parametrize("trunk", ["sha", "md5"])
def test_a_carrier_that_knows_us_by_name_and_password_takes_our_calls(
    service: Service, phones: Phones, trunk: str
) -> None:
    """RFC 3261 22.3, RFC 8760: Kamailio challenges the INVITE with 407 and lets the second one through."""
    people = PEOPLE_AT[trunk]
    customer, driver = pair(service, people)
    session = service.open_session(customer, driver)
    while session["participants"][0]["proxies"][0]["number"] != NUMBERS[trunk]:
        session = service.open_session(customer, driver)
    routes = "[last_Record-Route:]"
    answer = [answers("200 OK", PCMA, options='retrans="500"', extra=routes), is_asked("ACK"), *IS_HUNG_UP]
    with (
        phones.waits_for_call(
            service.place.at(people), is_asked("INVITE"), answers("180 Ringing", extra=routes), *answer
        ) as callee,
        phones.calls(
            NUMBERS[trunk], service.place.caller, customer.number, invite(), trying(), hears(180), hears(200), *HANGS_UP
        ) as caller,
    ):
        caller.finish()
        (invited,) = heard(callee.finish(), "INVITE")
    assert driver.number in invited.start and customer.number not in invited.text
    assert invited.header("CSeq") == "2 INVITE"
    assert service.ended_interaction(session["id"])["legs"][1]["trunk"] == trunk


@pytest.mark.parametrize("trunk", ["sha", "md5"])
def test_a_carrier_we_registered_with_sends_its_calls_to_our_contact(
    service: Service, phones: Phones, trunk: str
) -> None:
    """RFC 3261 10: the Request-URI is our Contact then, and To says which number was dialled."""
    eventually(lambda: metric(service, "masking_sip_trunk_registered", trunk) == 1.0, 8, f"{trunk} registered")
    refused = heard(called_through(service, phones.folder, trunk), "SIP/2.0 404")
    assert refused and "Q.850" in refused[0].header("Reason")  # it is our "nobody is bound", not Kamailio's


def called_through(service: Service, folder: Path, trunk: str) -> list[Message]:
    """A call of a stranger to us by way of that trunk's registrar: 404 whoever says it."""
    people = PEOPLE_AT[trunk]
    place = service.place
    stranger = service.person("stranger", place.at(people))
    head = f"""INVITE sip:masking@{place.at(people - 1)} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[caller]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:[local_ip]:[local_port];transport=[transport]>"""
    switch = Phones(folder, place.at(people - 1))
    steps = [invite(head=head), trying(), hears(404), refusal_ack()]
    with switch.calls(NUMBERS[trunk], place.at(people), stranger.number, *steps) as phone:
        return phone.finish()


def gives(password: str) -> list[str]:
    """An INVITE, its challenge, and the INVITE with an answer to it, as SIPp makes it."""
    again = request("INVITE", "2", uri="sip:[service]@[remote_ip]:[remote_port]", to="")
    return [
        invite(),
        trying(),
        '<recv response="401" auth="true" timeout="9000"></recv>',
        refusal_ack(),
        sent(f"{again}[authentication username=masking password={password}]", PCMA, 'retrans="500"'),
        trying(),
    ]


def guest(service: Service, phones: Phones, dialled: str, who: Person, *steps: str) -> Sipp:
    place = service.place
    return Sipp(
        phones.folder, "guest", list(steps),
        [f"{place.edge}:5060", "-i", place.at(53), "-mi", place.at(53), "-p", "5090", "-s", dialled,
         "-key", "caller", who.number, "-m", "1", "-t", "u1", "-timeout", "30", "-timeout_error",
         "-auth_uri", f"{dialled}@{place.edge}:5060"],
    )  # fmt: skip


def test_a_trunk_that_has_to_authenticate_is_let_in_with_its_password_and_only_with_it(
    service: Service, phones: Phones
) -> None:
    """RFC 3261 22.1, RFC 7616: SIPp answers our challenge."""
    customer, driver = service.person("customer", service.place.at(53)), service.person("driver", service.place.at(55))
    session = service.open_session(customer, driver)
    dialled = session["participants"][0]["proxies"][0]["number"]
    with guest(service, phones, dialled, customer, *gives("guessed"), hears(401), refusal_ack("2")) as phone:
        phone.finish()
    assert service.interactions(session["id"]) == []
    answered = [hears(480, within=12000), refusal_ack("2")]
    with guest(service, phones, dialled, customer, *gives(PASSWORD), *answered) as phone:
        phone.finish()
    assert service.ended_interaction(session["id"])["legs"][0]["trunk"] == "guarded"


@pytest.mark.parametrize("trunk", ["closed", "refusing"])
def test_rfc_3261_18_4_a_way_out_that_is_not_there_costs_no_time(service: Service, phones: Phones, trunk: str) -> None:
    """ICMP port unreachable on UDP, connection refused on TCP: the carrier's second way out at once."""
    customer, driver = pair(service, 55)
    session = service.open_session(customer, driver)
    while session["participants"][0]["proxies"][0]["number"] != NUMBERS[trunk]:
        session = service.open_session(customer, driver)
    began = time.monotonic()
    with (
        phones.waits_for_call(service.place.at(55), is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee,
        phones.calls(
            NUMBERS[trunk], service.place.caller, customer.number, invite(), trying(), hears(180), hears(200), *HANGS_UP
        ) as caller,
    ):
        caller.finish()
        callee.finish()
    assert time.monotonic() - began < 2.0  # silence alone would have taken that
    assert service.ended_interaction(session["id"])["legs"][1]["trunk"] in ("open", "willing")
    assert (metric(service, 'masking_sip_trunk_attempts_total{outcome="failed"', trunk) or 0) >= 1
