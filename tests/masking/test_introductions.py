"""Callers whom nobody is bound to: what their app learns of them, and the sessions that it opens for them."""

from __future__ import annotations

from typing import Any

import pytest

from masking import callers, introductions, opening, services
from masking.callers import Lookup
from masking.events import loose_outbox
from masking.questions import Advice, Answer
from masking.refusals import Invalid, InvalidPhoneNumber, NumberPoolExhausted
from masking.routes import Challenge, Known, Refusal, Route, Stranger
from masking.services import ServiceChange
from masking.sessions import NewParticipant, NewSession
from pools.numbers import Number
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, STRANGER, World, proxy

URL = "https://app.example.com/calls"


@pytest.fixture
async def dialled(world: World) -> str:
    """A number of a service whose app is asked about strangers."""
    (number, *_) = await world.pool(3)
    await services.change(world.house, "acme", "default", ServiceChange(out_of_session_url=URL))
    return number


async def stranger(world: World, dialled: str, caller: str | None = STRANGER) -> Stranger:
    met = await world.dial(dialled, caller)
    assert isinstance(met, Stranger)
    return met


async def told(world: World, met: Stranger) -> dict[str, Any]:
    """What the app is told."""
    return (await introductions.question(world.house, met)).data


def session(token: str, **more: Any) -> dict[str, Any]:
    people = [{"caller_token": token, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]
    return {"participants": people, **more}


async def advised(world: World, met: Stranger, **answer: Any) -> Known:
    return await introductions.introduced(world.house, met, Advice(Answer(**answer), None, 0.1))


async def refusals(world: World) -> list[dict[str, Any]]:
    found = await loose_outbox(world.house, "0", 100)
    return [one.counted("acme", 1).data for one in found if one.type == "call.refused"]


async def test_the_app_learns_what_was_dialled_and_a_handle_it_may_ask_for(world: World, dialled: str) -> None:
    met = await stranger(world, dialled)
    data = await told(world, met)
    assert data["dialled"] == dialled
    asked = callers.look_up(world.house, "acme", Lookup(STRANGER))
    assert data["caller"]["id"] == asked.caller
    assert asked.caller != callers.look_up(world.house, "other", Lookup(STRANGER)).caller, "a tenant's own"
    assert (await told(world, await stranger(world, dialled, None)))["caller"] is None
    with pytest.raises(InvalidPhoneNumber):
        callers.look_up(world.house, "acme", Lookup("113"))
    everything = repr(met) + repr(Lookup(STRANGER)) + str(data)
    assert STRANGER[3:] not in everything and "+84" + STRANGER[3:] not in everything


async def test_a_session_of_the_apps_is_opened_and_the_call_goes_on_over_it(world: World, dialled: str) -> None:
    met = await stranger(world, dialled)
    token = (await told(world, met))["caller"]["token"]
    route = await advised(world, met, session=session(token, unique_name="order-7"))
    assert isinstance(route, Route)
    assert (route.dialled, route.from_role, route.to_role) == (dialled, "customer", "driver")
    assert route.callee == Number.parse(DRIVER) and route.question is None
    assert await world.types(route.session) == ["session.opened", "number.leased", "call.initiated"]
    back = await world.call(route.shows, DRIVER)
    assert isinstance(back, Refusal) and back.decision == "limit", "the driver calls the same session back"


async def test_a_session_that_the_app_has_opened_itself_is_named_by_its_id(world: World, dialled: str) -> None:
    first, second, third = [await stranger(world, dialled) for _ in range(3)]
    foreign = await world.open(CUSTOMER, DRIVER)
    for met, wrong, code in ((first, foreign.id, "invalid_request"), (second, "ses_nowhere", "not_found")):
        assert await advised(world, met, session=wrong) == plain(met)
        assert (await refusals(world))[-1]["problem"]["code"] == code
    opened = await world.open(STRANGER, DRIVER, MERCHANT)
    route = await advised(world, third, session=opened.id, to="merchant")
    assert isinstance(route, Route) and route.callee == Number.parse(MERCHANT)


def plain(met: Stranger) -> Refusal:
    """What every stranger meets."""
    return Refusal(interaction=met.attempt.interaction, decision="no_binding", tenant="acme")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({}, "no_binding"),
        ({"verdict": "deny"}, "out_of_session"),
        ({"verdict": "deny", "reason": "closed_today"}, "out_of_session:closed_today"),
        ({"session": {"participants": 7}}, "out_of_session_failed"),
        ({"session": {"participants": [{"identifier": "+84123"}, {"identifier": DRIVER}]}}, "out_of_session_failed"),
        ({"session": {"service": "nowhere", "participants": []}}, "out_of_session_failed"),
    ],
)
async def test_without_a_session_a_stranger_meets_what_every_stranger_meets(
    world: World, dialled: str, answer: dict[str, Any], reason: str
) -> None:
    met = await stranger(world, dialled)
    assert await advised(world, met, **answer) == plain(met)
    assert (await refusals(world))[-1]["reason"] == reason
    await services.change(world.house, "acme", "default", ServiceChange(out_of_session="pin"))
    then = await advised(world, await stranger(world, dialled), **answer)
    assert isinstance(then, Challenge) == (reason == "no_binding"), "an app that says nothing leaves it to the PIN"


async def test_an_app_that_does_not_answer_leaves_a_stranger_a_stranger(world: World, dialled: str) -> None:
    met = await stranger(world, dialled)
    assert await introductions.introduced(world.house, met, Advice(None, "timeout", 2.0)) == plain(met)
    withheld = await stranger(world, dialled, None)
    assert await advised(world, withheld, session=session("clt_x")) == plain(withheld)


async def test_a_token_stands_for_its_caller_once_within_a_minute(world: World, dialled: str) -> None:
    def wish(token: str) -> NewSession:
        people = [NewParticipant(caller_token=token), NewParticipant(identifier=DRIVER)]
        return NewSession(participants=people)

    token = await callers.token(world.house, "acme", Number.parse(STRANGER))
    ttl = await world.house.redis.command("PTTL", f"caller:{{acme}}:{token}")
    assert 55_000 < ttl <= 60_000
    opened, _ = await opening.open_session(world.house, world.access, wish(token))
    assert isinstance(await world.call(proxy(opened, 0, 1), STRANGER), Route)
    for used in (token, "clt_unknown"):
        with pytest.raises(Invalid) as refused:
            await opening.open_session(world.house, world.access, wish(used))
        assert refused.value.errors[0].field == "participants[0].caller_token"
    another = await callers.token(world.house, "other", Number.parse(STRANGER))
    with pytest.raises(Invalid):
        await opening.open_session(world.house, world.access, wish(another))


async def test_a_token_is_not_used_up_by_a_session_that_was_refused(world: World, dialled: str) -> None:
    token = await callers.token(world.house, "acme", Number.parse(STRANGER))
    people = [NewParticipant(caller_token=token), NewParticipant(identifier=DRIVER)]
    for _ in range(3):
        await world.open(STRANGER, DRIVER)
    with pytest.raises(NumberPoolExhausted):
        await opening.open_session(world.house, world.access, NewSession(participants=people))
    await world.pool(1)
    await opening.open_session(world.house, world.access, NewSession(participants=people))


async def test_a_token_beside_a_number_is_refused(world: World, dialled: str) -> None:
    people = [NewParticipant(caller_token="clt_x", identifier=STRANGER), NewParticipant(identifier=DRIVER)]
    with pytest.raises(Invalid) as refused:
        await opening.open_session(world.house, world.access, NewSession(participants=people))
    assert refused.value.errors[0].field == "participants[0].caller_token"


async def test_the_number_of_a_dispatch_leads_to_whom_the_app_names_and_nothing_is_leased_before(world: World) -> None:
    dispatch, other = await world.pool(2)
    for wrong in (
        ServiceChange(dispatch_number=dispatch),
        ServiceChange(dispatch_number="+84247999999", intercept_url=URL),
    ):
        with pytest.raises(Invalid) as refused:
            await services.change(world.house, "acme", "default", wrong)
        assert refused.value.errors[0].field == "dispatch_number"
    wish = ServiceChange(dispatch_number=dispatch, intercept_url=URL, intercept_timeout_ms=900)
    await services.change(world.house, "acme", "default", wish)
    met = await stranger(world, dispatch)
    assert (met.asked, met.url, met.within) == ("call.dispatch", URL, 0.9)
    token = (await told(world, met))["caller"]["token"]
    route = await advised(world, met, session=session(token, unique_name="order-9"))
    assert isinstance(route, Route)
    assert (route.dialled, route.shows) == (dispatch, other), "the dispatch's own number is never leased"
    again = await stranger(world, dispatch)
    token = (await told(world, again))["caller"]["token"]
    busy = await advised(world, again, session=session(token, unique_name="order-9"))
    assert isinstance(busy, Refusal) and (busy.decision, busy.session) == ("limit", route.session)
    no = await stranger(world, dispatch)
    assert await advised(world, no, verdict="deny", reason="no_order") == plain(no)
    assert (await refusals(world))[-1]["reason"] == "dispatch:no_order"
    with pytest.raises(NumberPoolExhausted):
        await world.open(STRANGER, DRIVER)
