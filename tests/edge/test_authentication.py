"""Trunks that want to know who we are, and trunks that have to show who they are."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
import pytest

from masking.logins import LoginSection
from sipedge.sip.digest import Credentials
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited, Responded
from sipedge.sip.gate import Gate, Verdict
from sipedge.sip.messages import Request, Response, parse
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, Place, X, trunk
from tests.edge.phones import Phone

LOGIN = LoginSection(username="masking", realm="carrier.example", password="open sesame")
WE_ARE = Credentials("masking", "open sesame", "carrier.example")


def heard(phone: Phone, start: bytes) -> list[Request | Response]:
    return [parse(data) for data in phone.heard if data.startswith(start)]


async def asked(open_edge: Opener, phones: Make, login: LoginSection) -> tuple[Place, Phone, Phone, str]:
    """A caller, and a callee behind a trunk that challenges."""
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller, carrier="callers"), trunk("callees", callee, auth=login))
    await place.numbers(X[0], trunk="callees")
    session = await place.session(CUSTOMER, DRIVER)
    return place, caller, callee, session.id


async def test_a_trunk_that_challenges_is_told_who_we_are_in_the_same_call(open_edge: Opener, phones: Make) -> None:
    place, caller, callee, session = await asked(open_edge, phones, LOGIN)
    gate = Gate(os.urandom)
    leg = caller.call(place.address, X[0])
    first = await callee.expect(Invited)
    callee.respond(first, 407, headers=[("Proxy-Authenticate", _challenge(gate)[0])])
    second = await callee.expect(Invited)
    assert (second.request.call_id, second.request.from_.tag) == (first.request.call_id, first.request.from_.tag)
    assert second.request.cseq.number == first.request.cseq.number + 1
    as_asked = parse(callee.heard[-1].replace(b"Proxy-Authorization", b"Authorization"))
    assert isinstance(as_asked, Request)
    assert gate.judge(as_asked, WE_ARE, "127.0.0.1", 0.0) is Verdict.WELCOME
    callee.answer(second)
    await caller.expect(Answered)
    await callee.expect(Acked)
    caller.hang_up(leg)
    await caller.expect(Responded)
    await callee.expect(Ended)
    told = await place.interaction(session)
    assert (told.status, told.legs[1].sip_code) == ("completed", 200)


@pytest.mark.parametrize("spoil", ["realm", "password"])
async def test_a_trunk_that_will_not_know_us_is_believed_and_counted(
    open_edge: Opener, phones: Make, spoil: str
) -> None:
    login = msgspec.structs.replace(LOGIN, **{spoil: "another"})
    place, caller, callee, _ = await asked(open_edge, phones, login)
    caller.call(place.address, X[0])
    for _try in range(1 if spoil == "realm" else 2):
        callee.respond(
            await callee.expect(Invited), 401, headers=[("WWW-Authenticate", _challenge(Gate(os.urandom))[1])]
        )
    assert (await caller.expect(Failed)).status == 480
    await callee.silence(0.05)
    await place.idle()
    assert place.edge.exchange.counts["trunk_refused_us"] == 1
    assert (b"authorization" in b"".join(callee.heard).lower()) == (spoil == "password")
    assert b"another" not in b"".join(callee.heard)


def _challenge(gate: Gate) -> Sequence[str]:
    return [value for _, value in gate.challenges(WE_ARE, "127.0.0.1", 0.0)]


async def guarded(open_edge: Opener, phones: Make) -> tuple[Place, Phone, Phone, str]:
    """A caller behind a trunk that has to authenticate, and a callee."""
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller, carrier="callers", authenticate=LOGIN), trunk("callees", callee))
    await place.numbers(X[0], trunk="callees")
    session = await place.session(CUSTOMER, DRIVER)
    return place, caller, callee, session.id


async def test_a_trunk_that_has_to_authenticate_gets_its_calls_once_it_does(open_edge: Opener, phones: Make) -> None:
    place, caller, callee, _ = await guarded(open_edge, phones)
    leg = caller.call(place.address, X[0], credentials=WE_ARE)
    callee.answer(await callee.expect(Invited))
    await caller.expect(Answered)
    await callee.expect(Acked)
    assert not heard(callee, b"INVITE")[0].headers.get("authorization")  # it is nobody's business on the other leg
    caller.hang_up(leg)
    await caller.expect(Responded)
    await callee.expect(Ended)
    await place.idle()
    (refused,) = heard(caller, b"SIP/2.0 401")
    assert [value.split("algorithm=")[1][:3] for value in refused.headers["www-authenticate"]] == ["SHA", "MD5"]
    assert place.edge.exchange.counts["auth_asked"] == 1


@pytest.mark.parametrize("who", [None, WE_ARE._replace(password="guess"), WE_ARE._replace(username="eve")])
async def test_without_the_password_nobody_is_called_and_nothing_is_learnt(
    open_edge: Opener, phones: Make, who: Credentials | None
) -> None:
    place, caller, callee, _ = await guarded(open_edge, phones)
    for dialled in (X[0], X[1]):  # a session, none: the same answer
        caller.call(place.address, dialled, credentials=who)
        assert (await caller.expect(Failed)).status == 401
    await callee.silence(0.05)
    assert place.edge.exchange.counts["auth_asked"] == 2
    assert place.edge.exchange.counts["auth_unknown"] == (2 if who else 0)
    assert place.edge.trunks.named["callers"].calls == 0
    assert place.edge.admission.opening == 0
    assert not place.edge.driver._legs  # an unproved caller leaves nothing behind


async def test_what_was_said_once_lets_nobody_in_again(open_edge: Opener, phones: Make) -> None:
    place, caller, callee, _ = await guarded(open_edge, phones)
    caller.call(place.address, X[0], credentials=WE_ARE)
    callee.respond(await callee.expect(Invited), 486)
    assert (await caller.expect(Failed)).status == 486
    (said,) = [data for data in caller.said if data.startswith(b"INVITE") and b"Authorization" in data]
    branch = parse(said).via.branch.encode()
    caller.send(said.replace(branch, branch + b"x").replace(b"CSeq: 2 ", b"CSeq: 3 "), place.address)
    await callee.silence(0.2)
    again = heard(caller, b"SIP/2.0 401")[-1]
    assert all("stale=true" in value for value in again.headers["www-authenticate"])
    assert place.edge.exchange.counts["auth_stale"] == 1


async def test_of_trunks_behind_one_address_the_name_says_which_and_a_stranger_hears_nothing(
    open_edge: Opener, phones: Make
) -> None:
    caller, callee, stranger = phones(CUSTOMER), phones(DRIVER), phones(CUSTOMER)
    other = LoginSection(username="other", realm="carrier.example", password="x")
    place = await open_edge(
        trunk("first", caller, carrier="first", authenticate=other),
        trunk("second", caller, carrier="second", authenticate=LOGIN),
        trunk("callees", callee),
    )
    await place.numbers(X[0], trunk="callees")
    session = await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0], credentials=WE_ARE)
    callee.respond(await callee.expect(Invited), 486)
    assert (await caller.expect(Failed)).status == 486
    assert (await place.interaction(session.id)).legs[0].trunk == "second"
    stranger.call(place.address, X[0], credentials=WE_ARE)
    await stranger.silence(0.1)
    assert stranger.heard == []
