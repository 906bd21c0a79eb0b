"""Callers whose number does not say enough: PINs, intents, and what a session may limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from masking import intents, interactions, opening, pins, records, routes, services, sessions, shelves
from masking.interactions import Interaction
from masking.pins import Pin
from masking.refusals import Invalid, NumberPoolExhausted, SessionClosed
from masking.routes import Challenge, Claimed, Refusal, Route
from masking.services import ServiceChange
from masking.sessions import NewSession, Session, SessionChange
from tests.masking.test_sessions import refusal
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, STRANGER, World, participants, proxy

ALWAYS, UNKNOWN = Pin(policy="always"), Pin(policy="unknown_caller")


def pin_of(session: Session, source: int = 0, target: int = 1) -> str:
    to = session.participants[target].id
    return next(one.pin or "" for one in session.participants[source].proxies if one.to == to)


async def asks(world: World) -> None:
    await services.change(world.house, "acme", "default", ServiceChange(out_of_session="pin"))


async def challenged(world: World, number: str, caller: str | None, **more: Any) -> Challenge:
    asked = await world.dial(number, caller, **more)
    assert isinstance(asked, Challenge)
    return asked


async def keyed(world: World, asked: Challenge, digits: str) -> Claimed | None:
    return await routes.keyed(world.house, asked, digits)


async def told(world: World, session: Session) -> Interaction:
    events = await records.events_of(world.house, "acme", session.id)
    return interactions.fold(events)[-1]


async def test_every_way_has_a_pin_of_its_own(world: World) -> None:
    await world.pool(4)
    session = await world.open(CUSTOMER, DRIVER, MERCHANT, pin=UNKNOWN)
    found = [one.pin for person in session.participants for one in person.proxies]
    assert len(set(found)) == 6 and all(pin is not None and len(pin) == 8 and pin.isdigit() for pin in found)
    assert await sessions.get(world.house, world.access, session.id) == session
    assert session.pin == UNKNOWN


async def test_a_pin_is_in_no_event_no_list_and_nowhere_in_redis(world: World) -> None:
    await world.pool(2)
    session = await world.open(pin=ALWAYS)
    chosen = [pin_of(session), pin_of(session, 1, 0)]
    events = await records.events_of(world.house, "acme", session.id)
    assert not any(pin in str(event) for event in events for pin in chosen)
    listed = (await shelves.listing(world.house, world.access)).data
    assert [one.pin for one in listed[0].participants[0].proxies] == [None]
    for key in await world.house.redis.command("KEYS", "*"):
        dump = await world.house.redis.command("DUMP", key)
        assert not any(pin.encode() in key + dump for pin in chosen)
    holder = await world.house.leases.read(session.id)
    assert holder is not None and not any(pin in repr(records.unpacked(holder.fields["record"])) for pin in chosen)


async def test_a_session_without_a_pin_shows_none(world: World) -> None:
    await world.pool(2)
    session = await world.open()
    assert pin_of(session) == "" and session.pin == Pin()


async def test_the_same_request_again_shows_the_same_pins(world: World) -> None:
    await world.pool(2)
    new = NewSession(participants=participants(CUSTOMER, DRIVER), unique_name="order-1", pin=ALWAYS)
    first, _ = await opening.open_session(world.house, world.access, new)
    again, opened = await opening.open_session(world.house, world.access, new)
    assert not opened and again == first
    new = msgspec.structs.replace(new, unique_name=None)
    one, _ = await opening.open_session(world.house, world.access, new, token="t")
    two, _ = await opening.open_session(world.house, world.access, new, token="t")
    assert one == two and pin_of(one)


async def test_a_closed_session_shows_no_pin(world: World) -> None:
    await world.pool(2)
    session = await world.open(pin=ALWAYS)
    closed = await sessions.close(world.house, world.access, session.id)
    assert pin_of(closed) == ""


@pytest.mark.parametrize(
    "pin", [Pin(policy="unknown_caller", length=4), Pin(policy="none", length=5), Pin(policy="always", length=5)]
)
async def test_a_pin_that_is_too_short_is_named(world: World, pin: Pin) -> None:
    await world.pool(1)
    refused = await refusal(world, pin=pin)
    assert isinstance(refused, Invalid) and refused.errors[0].field == "pin.length"


async def test_pins_get_longer_when_no_number_has_room_for_another_of_their_length(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.pool(1)
    monkeypatch.setattr(pins, "SHORTEST", 5)
    short = Pin(policy="unknown_caller", length=5)
    lengths: Counter[int] = Counter()
    for pair in range(12):
        session = await world.open(f"+849011111{pair:02}", f"+849022222{pair:02}", pin=short)
        lengths[len(pin_of(session))] += 2
    assert lengths == {5: 10, 6: 14}, "ten of five digits are one in ten thousand"


async def test_when_the_longest_finds_no_number_either_the_pool_is_exhausted(world: World) -> None:
    await world.pool(1)
    await world.open(pin=UNKNOWN)
    assert isinstance(await refusal(world, pin=UNKNOWN), NumberPoolExhausted)


async def test_a_stranger_who_keys_a_pin_is_who_it_was_given_to(world: World) -> None:
    await world.pool(2)
    await asks(world)
    session = await world.open(pin=UNKNOWN)
    asked = await challenged(world, proxy(session, 0, 1), STRANGER)
    assert asked.route is None and not asked.suffices(pin_of(session))
    route = await keyed(world, asked, pin_of(session))
    assert isinstance(route, Route)
    assert (route.from_participant, route.to_participant) == tuple(one.id for one in session.participants)
    assert await world.types(session.id) == ["session.opened", "number.leased", "call.initiated"]


async def test_a_known_phone_needs_no_pin_where_only_strangers_do(world: World) -> None:
    await world.pool(2)
    await asks(world)
    session = await world.open(pin=UNKNOWN)
    assert isinstance(await world.dial(proxy(session, 0, 1), CUSTOMER), Route)


@pytest.mark.parametrize("caller", [STRANGER, None])
async def test_every_stranger_is_asked_whether_or_not_a_session_is_live(world: World, caller: str | None) -> None:
    number = (await world.pool(1))[0]
    await asks(world)
    asked = await challenged(world, number, caller)
    assert await keyed(world, asked, "12345678") is None
    refusal = await routes.give_up(world.house, asked)
    assert (refusal.decision, refusal.session, refusal.tenant) == ("pin", None, "acme")


async def test_where_everybody_is_asked_a_known_phone_keys_four_digits_of_its_own_pin(world: World) -> None:
    await world.pool(2)
    session = await world.open(pin=ALWAYS)
    asked = await challenged(world, proxy(session, 0, 1), CUSTOMER)
    pin = pin_of(session)
    wrong = "0000" if pin[:4] != "0000" else "1111"
    assert await keyed(world, asked, wrong) is None
    assert await keyed(world, asked, pin[:3]) is None
    for digits in (pin[:4], pin):
        route = await keyed(world, asked, digits)
        assert asked.suffices(digits) and isinstance(route, Route) and asked.route is not None
        assert (route.session, route.decision, asked.route.decision) == (session.id, "pin", "routed")
    assert pin not in repr(asked)


async def test_a_known_phone_that_gives_up_frees_the_slot(world: World) -> None:
    await world.pool(2)
    session = await world.open(pin=ALWAYS)
    asked = await challenged(world, proxy(session, 0, 1), CUSTOMER)
    refused = await routes.give_up(world.house, asked)
    assert (refused.decision, refused.session) == ("pin", session.id)
    one = await told(world, session)
    assert (one.status, one.decision, one.from_) == ("refused", "pin", session.participants[0].id)
    assert isinstance(await world.dial(proxy(session, 1, 0), DRIVER), Challenge), "not a busy line"


async def test_wrong_pins_are_budgeted_per_caller_and_per_number(world: World) -> None:
    first, second = await world.pool(2)
    await asks(world)
    for _ in range(3):
        assert await keyed(world, await challenged(world, first, STRANGER), "11111111") is None
    for _ in range(2):
        assert await keyed(world, await challenged(world, second, STRANGER), "11111111") is None
    asked = await challenged(world, second, STRANGER)
    assert not await routes.may_key(world.house, asked), "the caller has had its five"
    refused = await keyed(world, asked, "11111111")
    assert isinstance(refused, Refusal) and refused.decision == "pin"
    for _ in range(2):
        asked = await challenged(world, first, None)
        assert await routes.may_key(world.house, asked) and await keyed(world, asked, "11111111") is None
    assert not await routes.may_key(world.house, await challenged(world, first, MERCHANT)), "so has the number"
    assert await routes.may_key(world.house, await challenged(world, second, MERCHANT))


async def test_a_right_pin_costs_nothing_and_many_tries_at_once_are_no_more_tries(world: World) -> None:
    await world.pool(2)
    await asks(world)
    session = await world.open(pin=UNKNOWN, max_concurrent_calls=50)
    number = proxy(session, 0, 1)
    for _ in range(7):
        assert isinstance(await keyed(world, await challenged(world, number, STRANGER), pin_of(session)), Route)
    tries = [await challenged(world, number, STRANGER) for _ in range(20)]
    wrong = "00000000" if pin_of(session) != "00000000" else "11111111"
    answers = await asyncio.gather(*(keyed(world, one, wrong) for one in tries))
    assert Counter(type(one).__name__ for one in answers) == {"NoneType": 5, "Refusal": 15}


async def test_the_pin_of_an_ended_session_is_as_wrong_as_any(world: World) -> None:
    await world.pool(2)
    await asks(world)
    session = await world.open(pin=UNKNOWN)
    await sessions.close(world.house, world.access, session.id)
    before = await world.types(session.id)
    asked = await challenged(world, proxy(session, 0, 1), STRANGER)
    assert await keyed(world, asked, pin_of(session)) is None
    assert await world.types(session.id) == before


async def test_below_the_sessions_trust_a_known_phone_is_asked_too(world: World) -> None:
    await world.pool(2)
    session = await world.open(caller_trust="verified")
    number = proxy(session, 0, 1)
    assert len(pin_of(session)) == 8
    for attestation in (None, "B", "C", "failed"):
        asked = await challenged(world, number, CUSTOMER, attestation=attestation)
        await routes.give_up(world.house, asked)
        assert (await told(world, session)).attestation == attestation
    assert isinstance(await world.dial(number, CUSTOMER, attestation="A"), Route)
    assert (await told(world, session)).attestation == "A"


async def test_an_intent_stands_in_for_the_pin_of_a_known_phone_once_for_a_minute(world: World) -> None:
    await world.pool(2)
    session = await world.open(pin=ALWAYS, max_concurrent_calls=9)
    number, customer = proxy(session, 0, 1), session.participants[0].id
    intent = await intents.announce(world.house, world.access, session.id, customer)
    assert intent.numbers == [number]
    assert isinstance(await world.dial(number, DRIVER), Challenge), "somebody else's"
    assert isinstance(await world.dial(number, CUSTOMER), Route)
    assert isinstance(await world.dial(number, CUSTOMER), Challenge), "once"
    await intents.announce(world.house, world.access, session.id, customer, session.participants[1].id)
    await world.later(61)
    assert isinstance(await world.dial(number, CUSTOMER), Challenge), "for a minute"


async def test_an_intent_names_a_withheld_caller_unless_two_could_be_meant(world: World) -> None:
    await world.pool(1)
    await asks(world)
    session = await world.open(pin=UNKNOWN, max_concurrent_calls=9)
    other = await world.open(MERCHANT, STRANGER, pin=UNKNOWN)
    number, customer = proxy(session, 0, 1), session.participants[0].id
    assert proxy(other, 0, 1) == number
    await intents.announce(world.house, world.access, session.id, customer)
    route = await world.dial(number, None)
    assert isinstance(route, Route) and route.from_participant == customer
    await intents.announce(world.house, world.access, session.id, customer)
    await intents.announce(world.house, world.access, other.id, other.participants[0].id)
    assert isinstance(await world.dial(number, None), Challenge)


async def test_an_intent_wants_an_open_session_and_one_of_its_people(world: World) -> None:
    await world.pool(2)
    session = await world.open()
    with pytest.raises(Invalid) as caught:
        await intents.announce(world.house, world.access, session.id, "par_nobody")
    assert caught.value.errors[0].field == "participant"
    with pytest.raises(Invalid) as caught:
        await intents.announce(world.house, world.access, session.id, session.participants[0].id, "par_nobody")
    assert caught.value.errors[0].field == "to"
    await sessions.close(world.house, world.access, session.id)
    with pytest.raises(SessionClosed):
        await intents.announce(world.house, world.access, session.id, session.participants[0].id)


@pytest.mark.parametrize(
    ("direction", "open_ways"),
    [
        ("both", {"customer>driver", "driver>customer"}),
        ("none", set()),
        ("a_to_b", {"customer>driver"}),
        ("b_to_a", {"driver>customer"}),
        ("driver->customer", {"driver>customer"}),
        ("customer_to_driver", {"customer>driver"}),
        ("customer->driver, driver->customer", {"customer>driver", "driver>customer"}),
    ],
)
async def test_a_direction_says_who_may_call_whom(world: World, direction: str, open_ways: set[str]) -> None:
    await world.pool(2)
    session = await world.open(direction=direction, max_concurrent_calls=9)
    allowed = set()
    for caller, ends in ((CUSTOMER, (0, 1)), (DRIVER, (1, 0))):
        claimed = await world.call(proxy(session, *ends), caller)
        if isinstance(claimed, Route):
            allowed.add(f"{claimed.from_role}>{claimed.to_role}")
        else:
            assert claimed.decision == "direction" and (await told(world, session)).decision == "direction"
    assert allowed == open_ways


async def test_a_direction_that_names_nobody_is_refused_and_a_patch_turns_one_round(world: World) -> None:
    await world.pool(2)
    for direction in ("up", "customer->moon", "customer->customer", "a->", "->"):
        refused = await refusal(world, direction=direction)
        assert isinstance(refused, Invalid) and refused.errors[0].field == "direction"
    session = await world.open(direction="a_to_b")
    changed = await sessions.change(world.house, world.access, session.id, SessionChange(direction="b_to_a"))
    assert changed.direction == "b_to_a"
    assert isinstance(await world.call(proxy(session, 0, 1), CUSTOMER), Refusal)
    assert isinstance(await world.call(proxy(session, 1, 0), DRIVER), Route)


async def test_a_session_of_messages_alone_refuses_calls_until_its_mode_changes(world: World) -> None:
    await world.pool(2)
    session = await world.open(mode="message_only")
    refused = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(refused, Refusal) and refused.decision == "mode"
    assert (await told(world, session)).decision == "mode"
    await sessions.change(world.house, world.access, session.id, SessionChange(mode="voice_only"))
    assert isinstance(await world.call(proxy(session, 0, 1), CUSTOMER), Route)


async def test_attempts_an_hour_are_counted_and_the_next_is_a_refused_interaction(world: World) -> None:
    await world.pool(2)
    session = await world.open(max_call_attempts_per_hour=2, max_concurrent_calls=9)
    assert session.max_call_attempts_per_hour == 2
    for _ in range(2):
        assert isinstance(await world.call(proxy(session, 0, 1), CUSTOMER), Route)
    refused = await world.call(proxy(session, 1, 0), DRIVER)
    assert isinstance(refused, Refusal) and (refused.decision, refused.reason) == ("limit", "attempts")
    one = await told(world, session)
    assert (one.status, one.decision, one.reason) == ("refused", "limit", "attempts")
    assert (await world.house.leases.read(session.id)).calls == 2  # type: ignore[union-attr]
