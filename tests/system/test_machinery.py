"""What carriers do to a call while it is made and while it stands, told by SIPp: one story for each clause."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.service import Person, Service
from tests.system.sipp import (
    PCMA,
    Phones,
    accepts,
    ack,
    bye,
    hears,
    is_asked,
    picks_up,
    refusal_ack,
    request,
    trying,
)

pytestmark = [pytest.mark.service, pytest.mark.peer]

Session = dict[str, Any]
IS_HUNG_UP = [is_asked("BYE"), accepts()]


@pytest.fixture
def pair(service: Service) -> tuple[Person, Person]:
    """A customer who calls from the caller's address and a driver on the main trunk's."""
    place = service.place
    return service.person("customer", place.caller), service.person("driver", place.callee, place.second_trunk)


def dials(session: Session, of: int = 0) -> str:
    return str(session["participants"][of]["proxies"][0]["number"])


def in_parts(handling: str) -> str:
    """An INVITE as a carrier with an ISUP side sends it (RFC 3204): the description is one part of two."""
    head = request("INVITE", "1", uri="sip:[service]@[remote_ip]:[remote_port]", to="").strip()
    isup = f"Content-Type: application/isup;version=itu-t92+\nContent-Disposition: signal;handling={handling}\n\nCANARY"
    body = f"--part\nContent-Type: application/sdp\n\n{PCMA}\n--part\n{isup}\n--part--\n"
    kind = "Content-Type: multipart/mixed;boundary=part\nMIME-Version: 1.0\n"
    return f'<send retrans="500"><![CDATA[\n\n{head}\n{kind}Content-Length: [len]\n\n{body}]]></send>'


# --- bodies of several parts (RFC 5621)


def test_of_a_body_in_parts_the_description_alone_is_taken(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [in_parts("optional"), trying(), hears(180), hears(200), ack(), bye(), hears(200)]
        with phones.calls(dials(session), service.place.caller, pair[0].number, *steps) as caller:
            caller.finish()
        invited = callee.finish()[0]
    assert invited.header("Content-Type") == "application/sdp" and "CANARY" not in invited.text


def test_a_part_that_must_be_understood_and_is_not_is_refused(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    with phones.calls(
        dials(session), service.place.caller, pair[0].number, in_parts("required"), hears(415), refusal_ack()
    ) as caller:
        assert "application/sdp" in caller.finish()[-2].header("Accept")
