"""The story of a masked call, told by two phones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sipedge.sip.events import Answered, Ended, Invited, Progressed, Responded
from tests.edge.conftest import CUSTOMER, DRIVER, Opener, Place, X, trunk
from tests.edge.phones import Phone, media_of

Make = Callable[[str], Phone]


async def two_phones(open_edge: Opener, phones: Make, **session: object) -> tuple[Place, Phone, Phone, str, str, str]:
    """A caller and a callee with a session between them: place, both, session id, what is dialled, what is shown."""
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller), trunk("callees", callee))
    await place.numbers(*X[:2], trunk="callees")
    opened = await place.session(CUSTOMER, DRIVER, **session)
    dialled = opened.participants[0].proxies[0].number
    shown = opened.participants[1].proxies[0].number
    return place, caller, callee, opened.id, dialled, shown


async def test_a_masked_call_rings_bridges_and_ends(open_edge: Opener, phones: Make) -> None:
    place, caller, callee, session, dialled, shown = await two_phones(open_edge, phones)
    leg = caller.call(place.address, dialled)
    invited = await callee.expect(Invited)
    assert invited.request.uri.digits == DRIVER
    assert invited.request.from_.uri.digits == shown
    assert [one.uri.digits for one in invited.request.identities] == [shown]
    callee.respond(invited, 180)
    assert (await caller.expect(Progressed)).status == 180
    callee.answer(invited)
    answered = await caller.expect(Answered)
    await callee.expect(object)  # the ACK
    to_caller, to_callee = media_of(answered.response.body), media_of(invited.request.body)
    for start in range(0, 50, 5):
        caller.speak(to_caller, 17, start=start)
        callee.speak(to_callee, 23, start=start)
        await asyncio.sleep(0.02)
    assert callee.heard_marker(17) and caller.heard_marker(23)
    caller.hang_up(leg)
    await callee.expect(Ended)
    assert (await caller.expect(Responded)).status == 200
    told = await place.interaction(session)
    assert (told.status, told.hangup_by, told.answered_by, told.decision) == ("completed", "caller", "callee", "routed")
    assert [one.trunk for one in told.legs] == ["callers", "callees"]
    assert [one.codec for one in told.legs] == ["PCMA", "PCMA"]
