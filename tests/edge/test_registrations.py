"""Registering with trunks: when it is asked again, and what a registrar is told (RFC 3261 10)."""

from __future__ import annotations

import asyncio
import os
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking.logins import LoginSection
from sipedge import registrations
from sipedge.registrations import Heard, Registration
from sipedge.sip.digest import Credentials
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Failed, Invited, Requested
from sipedge.sip.gate import Gate, Verdict
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, Place, X, trunk
from tests.edge.phones import Phone

LOGIN = LoginSection(username="masking", realm="carrier.example", password="open sesame")
WE_ARE = Credentials("masking", "open sesame", "carrier.example")
GRANTED = Heard(200, granted=600)


def registration(expires: int = 600) -> Registration:
    return Registration(expires, Random(5))


def test_a_registration_is_renewed_at_half_its_time_and_holds_for_all_of_it() -> None:
    one = registration()
    assert one.state(0.0) == "waiting" and one.due == 0.0
    one.asked()
    assert one.due is None
    one.heard(GRANTED, 1.0)
    assert one.due == 301.0
    assert one.state(600.9) == "registered" and one.state(601.1) == "waiting"
    one.heard(Heard(200, granted=4), 301.0)
    assert one.due == 305.0  # a registrar that grants next to nothing is not asked all the time


def test_a_registration_that_fails_is_asked_again_after_ever_longer_pauses_and_holds_while_it_held() -> None:
    one = registration()
    one.heard(GRANTED, 0.0)
    pauses = []
    for _ in range(12):
        one.heard(Heard(503), 300.0)
        assert one.due is not None
        pauses.append(one.due - 300.0)
    assert one.state(300.0) == "registered" and one.state(601.0) == "failed"
    assert 1.5 <= pauses[0] <= 2.5 and all(pause <= 1.25 * registrations.PAUSE_LAST for pause in pauses)
    assert pauses[-1] >= 0.75 * registrations.PAUSE_LAST
    one.heard(GRANTED, 400.0)
    one.heard(Heard(408), 700.0)
    assert one.due is not None and one.due < 703.0  # the pauses begin anew


@pytest.mark.parametrize(
    ("heard", "least", "most"),
    [(Heard(403), 45, 75), (Heard(401), 45, 75), (Heard(503, wait=100), 75, 125), (Heard(503, wait=9999), 225, 375),
     (Heard(200), 1.5, 2.5), (Heard(423, at_least=30), 1.5, 2.5)],
)  # fmt: skip
def test_a_registrar_that_says_no_is_believed_for_a_while(heard: Heard, least: float, most: float) -> None:
    one = registration()
    one.heard(heard, 0.0)
    assert one.due is not None and least <= one.due <= most
    assert one.state(0.0) == "failed"


def test_rfc_3261_10_2_8_a_registrar_that_wants_longer_gets_longer_at_once() -> None:
    one = registration(60)
    one.heard(Heard(423, at_least=1800), 5.0)
    assert (one.due, one.expires, one.failures) == (5.0, 1800, 0)
    one.heard(Heard(423, at_least=1800), 5.0)
    assert one.failures == 1


HEARD = st.builds(Heard, st.sampled_from([200, 401, 403, 408, 423, 500, 503]), *[st.integers(0, 2**32)] * 3)


@given(st.lists(st.tuples(HEARD, st.floats(0, 1e6)), max_size=40))
def test_whatever_registrars_say_we_ask_again_and_never_without_a_pause_for_ever(
    story: list[tuple[Heard, float]],
) -> None:
    one, now, at_once = registration(60), 0.0, 0
    for heard, seconds in story:
        now += seconds
        one.asked()
        one.heard(heard, now)
        assert one.due is not None and one.due >= now
        at_once = at_once + 1 if one.due == now else 0
        assert at_once <= 40 and one.expires <= registrations.LONGEST


# ---- with a registrar ------------------------------------------------------------------------------------------------


class Registrar:
    """A phone that takes REGISTERs, of those who know the password."""

    def __init__(self, phone: Phone, expires: int = 600) -> None:
        self.phone = phone
        self.phone.endpoint = Endpoint(entropy=os.urandom, methods=("INVITE", "ACK", "BYE", "CANCEL", "REGISTER"))
        self.gate = Gate(os.urandom)
        self.expires = expires
        self.verdicts: list[Verdict] = []

    async def is_asked(self, *, contact: str | None = None) -> Requested:
        """One REGISTER, challenged, then answered."""
        while True:
            asked = await self.phone.expect(Requested)
            assert asked.request.method == "REGISTER"
            verdict = self.gate.judge(asked.request, WE_ARE, "127.0.0.1", 0.0)
            self.verdicts.append(verdict)
            if verdict is not Verdict.WELCOME:
                challenges = self.gate.challenges(WE_ARE, "127.0.0.1", 0.0)
                self.phone.respond(asked, 401, headers=challenges)
                continue
            bound = contact or f"{asked.request.headers['contact'][0]};expires={self.expires}"
            self.phone.respond(
                asked, 200, headers=[("Contact", "<sip:another@192.0.2.9>;expires=3"), ("Contact", bound)]
            )
            return asked


async def registered(place: Place, name: str, state: str = "registered") -> None:
    async with asyncio.timeout(3.0):
        while place.edge.registrations.states()[name] != state:
            await asyncio.sleep(0.01)


async def test_a_trunk_is_registered_with_and_a_call_to_that_contact_is_one_to_the_number_in_to(
    open_edge: Opener, phones: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "TICK", 0.02)
    carrier, callee = phones(CUSTOMER), phones(DRIVER)
    registrar = Registrar(carrier)
    place = await open_edge(
        trunk("carrier", carrier, carrier="carrier", auth=LOGIN, register=True), trunk("callees", callee)
    )
    await place.numbers(X[0], trunk="callees")
    await place.session(CUSTOMER, DRIVER)
    assert place.edge.registrations.states() == {"carrier": "waiting"}
    asked = await registrar.is_asked()
    request = asked.request
    host, port = place.address
    assert request.headers["contact"] == [f"<sip:masking@{host}:{port}>"]
    assert request.target == f"sip:{carrier.address[0]}:{carrier.address[1]}"
    assert request.to.text == request.from_.text == f"sip:masking@{carrier.address[0]}"
    assert registrar.verdicts == [Verdict.UNKNOWN, Verdict.WELCOME]
    await registered(place, "carrier")

    carrier.endpoint.invite(
        asked.flow,
        f"sip:masking@{host}:{port}",
        0.0,
        from_=f"<sip:{CUSTOMER}@carrier.example>",
        to=f"<sip:{X[0]}@carrier.example>",
        body=carrier.sdp(),
    )
    carrier.drive()
    callee.respond(await callee.expect(Invited), 486)
    assert (await carrier.expect(Failed)).status == 486


async def test_a_registration_is_renewed_in_one_series_and_taken_back_when_we_leave(
    open_edge: Opener, phones: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "TICK", 0.02)
    monkeypatch.setattr(registrations, "SOON", 0.05)
    carrier = phones(CUSTOMER)
    registrar = Registrar(carrier, expires=1)
    place = await open_edge(trunk("carrier", carrier, auth=LOGIN, register=True))
    first = (await registrar.is_asked()).request
    second = (await registrar.is_asked()).request
    assert first.call_id == second.call_id and first.cseq.number < second.cseq.number
    await registered(place, "carrier")
    leaving = asyncio.ensure_future(place.edge.registrations.leave())
    last = (await registrar.is_asked(contact="<sip:nobody@192.0.2.1>")).request
    await leaving
    assert last.header("expires") == "0" and last.call_id == first.call_id
    assert place.edge.registrations.states() == {"carrier": "waiting"}


async def test_a_registrar_that_does_not_know_us_is_told_nothing_more_for_a_while(
    open_edge: Opener, phones: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "TICK", 0.02)
    carrier = phones(CUSTOMER)
    Registrar(carrier)
    place = await open_edge(trunk("carrier", carrier, auth=LOGIN, register=True))
    carrier.respond(await carrier.expect(Requested), 403)
    await registered(place, "carrier", "failed")
    await carrier.silence(0.2)
    assert b"Authorization" not in b"".join(carrier.heard)
