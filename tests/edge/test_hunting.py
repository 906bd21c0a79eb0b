"""A person with several phones that ring in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from masking import sessions
from masking.sessions import NewParticipant, Session
from sipedge.sip.events import Acked, Answered, Cancelled, Ended, Failed, Invited, Progressed
from tests.edge.conftest import ACCESS, CUSTOMER, DRIVER, Make, Opener, Place, X, trunk
from tests.edge.phones import Phone

SECOND = "+84987650001"


class Shift:
    """A driver with two phones, behind a trunk each, and a customer who calls."""

    def __init__(self, place: Place, customer: Phone, first: Phone, second: Phone, session: Session) -> None:
        self.place, self.customer, self.first, self.second, self.session = place, customer, first, second, session.id
        self.dialled, self.shown = (one.proxies[0].number for one in session.participants)

    def call(self) -> str:
        return self.customer.call(self.place.address, self.dialled)

    async def rings(self, phone: Phone, number: str) -> Invited:
        invited = await phone.expect(Invited)
        assert invited.request.uri.digits == number and invited.request.from_.uri.digits == self.shown
        return invited


Set = Callable[..., Awaitable[Shift]]


@pytest.fixture
async def shift(open_edge: Opener, phones: Make) -> Set:
    async def set_(**more: Any) -> Shift:
        customer, first, second = phones(CUSTOMER), phones(DRIVER), phones(SECOND)
        place = await open_edge(
            trunk("customers", customer, prefixes=["+84901"]),
            trunk("drivers", first, prefixes=["+84907"]),
            trunk("spare", second, prefixes=["+8498"]),
        )
        await place.numbers(*X[:2])
        driver = NewParticipant(identifiers=[DRIVER, SECOND], ring="sequential")
        session = await place.open_session([NewParticipant(identifier=CUSTOMER), driver], **more)
        return Shift(place, customer, first, second, session)

    return set_


@pytest.mark.parametrize("code", [486, 404, 503])
async def test_the_next_phone_rings_when_one_is_busy_or_not_reached(shift: Set, code: int) -> None:
    scene = await shift()
    leg = scene.call()
    scene.first.respond(await scene.rings(scene.first, DRIVER), code)
    taken = await scene.rings(scene.second, SECOND)
    scene.second.respond(taken, 180)
    assert (await scene.customer.expect(Progressed)).status == 180
    scene.second.answer(taken)
    await scene.second.expect(Acked)
    await scene.customer.expect(Answered)
    scene.customer.hang_up(leg)
    await scene.second.expect(Ended)
    told = await scene.place.interaction(scene.session)
    assert (told.status, told.legs[1].trunk, told.legs[1].sip_code) == ("completed", "spare", 200)


async def test_each_phone_rings_for_its_share_and_the_caller_hears_one_ringing(shift: Set) -> None:
    scene = await shift(ring_timeout=5)
    scene.call()
    ringing = await scene.rings(scene.first, DRIVER)
    scene.first.respond(ringing, 180)
    assert (await scene.customer.expect(Progressed)).status == 180
    await scene.first.expect(Cancelled, 3.5)
    second = await scene.rings(scene.second, SECOND)
    scene.second.respond(second, 180)
    await scene.second.expect(Cancelled, 3.5)
    assert (await scene.customer.expect(Failed)).status == 480
    told = await scene.place.interaction(scene.session)
    assert (told.status, told.reason) == ("no_answer", "no_answer")
    kinds = [event.type for event in await sessions.timeline(scene.place.house, ACCESS, scene.session)]
    assert kinds.count("call.ringing") == kinds.count("call.missed") == 1


async def test_whoever_declines_is_not_sought_on_another_phone(shift: Set) -> None:
    scene = await shift()
    scene.call()
    scene.first.respond(await scene.rings(scene.first, DRIVER), 603)
    assert (await scene.customer.expect(Failed)).status == 603
    await scene.second.silence(0.05)


async def test_the_phone_that_came_nearest_says_how_the_call_ended(shift: Set) -> None:
    scene = await shift()
    scene.call()
    scene.first.respond(await scene.rings(scene.first, DRIVER), 486)
    scene.second.respond(await scene.rings(scene.second, SECOND), 404)
    assert (await scene.customer.expect(Failed)).status == 486
    told = await scene.place.interaction(scene.session)
    assert (told.status, told.legs[1].sip_code) == ("busy", 404)
