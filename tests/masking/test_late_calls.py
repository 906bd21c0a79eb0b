"""What a participant meets who calls after the end: the announcement, the session once more, or a support number."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from masking import amending, interactions, records, reopening, services, sessions
from masking.interactions import Ending
from masking.latecalls import KeptLateCall, LateCallWish, moved
from masking.refusals import Invalid, InvalidPhoneNumber
from masking.routes import Refusal, Route
from masking.services import ServiceChange
from masking.sessions import NewParticipant, Session, SessionChange
from tests.masking.test_explaining import compared
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, STRANGER, World, proxy

SUPPORT = "+842473009999"
FORWARD = LateCallWish(policy="forward", forward_to=SUPPORT)
REOPEN = LateCallWish(policy="reopen")


async def ended(world: World, *people: str, **wishes: Any) -> tuple[Session, str]:
    """A session that was closed, and the number its first participant dials."""
    session = await world.open(*people, **wishes)
    await sessions.close(world.house, world.access, session.id)
    return session, proxy(session, 0, 1)


@pytest.mark.parametrize("people", [(CUSTOMER, DRIVER), (CUSTOMER, MUSCOVITE), (MUSCOVITE, CUSTOMER)])
@pytest.mark.parametrize("lapsed", [False, True])
async def test_a_late_call_goes_to_the_support_number_that_sees_what_was_dialled(
    world: World, people: tuple[str, str], lapsed: bool
) -> None:
    await world.pool(2)
    await world.pool(2, "RU")
    session = await world.open(*people, late_call=FORWARD, record="always")
    if lapsed:
        await world.later(3600)
    else:
        await sessions.close(world.house, world.access, session.id)
    x = proxy(session, 0, 1)
    met = await world.call(x, people[0])
    assert isinstance(met, Route) and met.callee.reveal() == SUPPORT
    assert (met.dialled, met.shows, met.decision, met.record) == (x, x, "ended", False)
    assert (met.from_participant, met.to_participant) == (session.participants[0].id, "")
    busy = await world.call(x, people[0])
    assert isinstance(busy, Refusal) and busy.decision == "limit"
    call = interactions.Call.of(met)
    await interactions.answered(world.house, call, world.now[0])
    await interactions.ended(world.house, call, world.now[0] + 5, Ending(blame="caller", reason="hangup", sip_code=200))
    told = interactions.fold(await records.events_of(world.house, "acme", session.id))[0]
    assert (told.decision, told.forwarded, told.to, told.status) == ("ended", True, None, "completed")
    await compared(world, people[0], x)
    await world.later(1800)
    gone = await world.call(x, people[0])
    assert isinstance(gone, Refusal) and gone.decision == "no_binding", "after the quarantine X is nobody's"


async def test_a_late_call_opens_the_session_again_and_is_put_through(world: World) -> None:
    await world.pool(1)
    session, x = await ended(world, late_call=REOPEN, ttl=600)
    await compared(world, STRANGER, x)
    met = await compared(world, DRIVER, x)
    assert met.decision == "routed"
    view = await sessions.get(world.house, world.access, session.id)
    assert view.status != "closed" and (await world.types(session.id)).count("session.reopened") == 1
    assert isinstance(await world.call(x, CUSTOMER), Refusal), "one call at once, as ever"


async def test_after_its_time_and_between_two_countries_a_session_is_reopened_too(world: World) -> None:
    await world.pool(1)
    await world.pool(1, "RU")
    session = await world.open(CUSTOMER, MUSCOVITE, late_call=REOPEN, unique_name="order-1")
    await world.later(3600)
    assert (await compared(world, MUSCOVITE, proxy(session, 1, 0))).decision == "routed"


async def test_what_cannot_go_on_is_announced(world: World) -> None:
    [x] = await world.pool(1)
    session, _ = await ended(world, late_call=REOPEN, unique_name="order-1")
    other = await world.open(MERCHANT, STRANGER, unique_name="order-1")
    assert (await compared(world, CUSTOMER, x)).decision == "ended", "its name is another session's"
    await sessions.close(world.house, world.access, other.id)
    await world.house.inventory.set_state("acme", await service_id(world), x, "suspended")
    assert (await compared(world, CUSTOMER, x)).decision == "unavailable"
    await world.house.inventory.set_state("acme", await service_id(world), x, "active")
    await world.house.redis.command("HSET", f"{{{session.id[4:10]}}}s:{session.id}", "reason", "abuse")
    assert (await compared(world, CUSTOMER, x)).decision == "ended", "it ended for a reason that stands"


async def service_id(world: World) -> str:
    return (await services.get(world.house, "acme", "default")).id


async def test_a_session_with_a_lost_number_stays_closed(world: World) -> None:
    numbers = await world.pool(3)
    session, x = await ended(world, CUSTOMER, DRIVER, MERCHANT, late_call=REOPEN)
    lost = next(number for number in numbers if number != x)
    await world.house.inventory.set_state("acme", await service_id(world), lost, "retired")
    assert (await compared(world, CUSTOMER, x)).decision == "ended"
    assert await reopening.for_late_call(world.house, session.id[:-1], "par_x") is False


@pytest.mark.parametrize("late_call", [REOPEN, FORWARD])
async def test_who_was_replaced_reaches_support_at_most(world: World, late_call: LateCallWish) -> None:
    await world.pool(1)
    session = await world.open(late_call=late_call)
    x = proxy(session, 0, 1)
    gone = session.participants[1].id
    await amending.swap(world.house, world.access, session.id, gone, NewParticipant(identifier=STRANGER))
    for close in (False, True):
        if close:
            await sessions.close(world.house, world.access, session.id)
        told = await compared(world, DRIVER, x)
        assert (told.decision, told.forwarded) == ("ended", late_call is FORWARD)
        await world.house.leases.append(session.id, [], end_call=f"int_{world.calls}")


async def test_limits_hold_for_late_calls_and_directions_do_not(world: World) -> None:
    await world.pool(2)
    _, silent = await ended(world, late_call=FORWARD, mode="message_only")
    assert (await compared(world, CUSTOMER, silent)).decision == "mode"
    session, x = await ended(world, late_call=FORWARD, direction="driver->customer", max_call_attempts_per_hour=1)
    assert (await compared(world, CUSTOMER, x)).forwarded
    await world.house.leases.append(session.id, [], end_call=f"int_{world.calls}")
    assert (await compared(world, CUSTOMER, x)).decision == "limit"


async def test_a_session_takes_its_services_word_and_may_have_another(world: World) -> None:
    made = await services.create(world.house, "acme", ServiceChange(unique_name="rides", late_call=FORWARD))
    assert (made.late_call.policy, made.late_call.display) == ("forward", "+8424…99")
    await services.change(world.house, "acme", "rides", ServiceChange(ttl=600))
    await world.pool(3, service="rides")
    session, x = await ended(world, service="rides")
    assert session.late_call == made.late_call
    assert (await compared(world, CUSTOMER, x)).forwarded, "the service kept its number through another change"
    session, x = await ended(world, service="rides", late_call=LateCallWish(policy="announce"))
    assert (await compared(world, CUSTOMER, x)).decision == "ended"
    await services.change(world.house, "acme", "rides", ServiceChange(late_call=REOPEN))
    session = await world.open(service="rides")
    assert session.late_call.policy == "reopen"
    wish = SessionChange(late_call=FORWARD)
    assert (await sessions.change(world.house, world.access, session.id, wish)).late_call == made.late_call
    await sessions.close(world.house, world.access, session.id)
    assert (await compared(world, CUSTOMER, proxy(session, 0, 1))).forwarded


async def test_a_policy_that_has_lost_its_support_number_is_the_announcement(world: World) -> None:
    lost = KeptLateCall(policy="forward", display="+8424…99")
    assert moved(world.house, lost, "svc_a", "letters") == KeptLateCall(policy="announce")


async def test_the_support_number_is_shown_nowhere(world: World) -> None:
    made = await services.create(world.house, "acme", ServiceChange(unique_name="rides", late_call=FORWARD))
    await world.pool(2, service="rides")
    session, x = await ended(world, service="rides")
    await world.call(x, CUSTOMER)
    seen = [msgspec.json.encode(made), msgspec.json.encode(session), repr(FORWARD).encode()]
    await world.house.redis.command("CONFIG", "SET", "rdbcompression", "no")
    keys = await world.house.redis.command("KEYS", "*")
    seen += [key + (await world.house.redis.command("DUMP", key)) for key in keys]
    assert not any(SUPPORT[4:].encode() in text for text in seen)
    assert not any(b"sealed" in text for text in seen[:3])


@pytest.mark.parametrize(
    ("wish", "refusal"),
    [
        (LateCallWish(policy="forward"), Invalid),
        (LateCallWish(policy="reopen", forward_to=SUPPORT), Invalid),
        (LateCallWish(policy="forward", forward_to="113"), InvalidPhoneNumber),
        (LateCallWish(policy="forward", forward_to="+842471000000"), InvalidPhoneNumber),
    ],
)
async def test_a_support_number_is_one(world: World, wish: LateCallWish, refusal: type[Invalid]) -> None:
    assert (await world.pool(1))[0] == "+842471000000"
    with pytest.raises(refusal):
        await world.open(late_call=wish)
    with pytest.raises(refusal):
        await services.change(world.house, "acme", "default", ServiceChange(late_call=wish))


async def test_a_call_to_be_forwarded_that_finds_the_session_open_again_is_put_through(world: World) -> None:
    await world.pool(1)
    session, x = await ended(world, late_call=FORWARD)
    ask = world.house.leases.route

    async def meanwhile(*words: Any, **more: Any) -> Any:
        if words[7:8] == ("forward",):
            await reopening.reopen(world.house, world.access, session.id, ttl=None, expires_at=None)
        return await ask(*words, **more)

    world.house.leases.route = meanwhile  # type: ignore[method-assign]
    met = await world.call(x, CUSTOMER)
    assert isinstance(met, Route) and met.callee.reveal() == DRIVER and met.decision == "routed"
