"""Opening, changing, closing: what a session is, and what it refuses to be."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from masking import opening, records, services, sessions
from masking.events import moment
from masking.refusals import (
    ContainsPhoneNumber,
    GeoUnavailable,
    Invalid,
    InvalidPhoneNumber,
    NotBuilt,
    NotFound,
    NumberPoolExhausted,
    ParticipantConflict,
    Refused,
    SessionClosed,
    UniqueNameConflict,
)
from masking.routes import Route
from masking.services import ServiceChange
from masking.sessions import NewSession, SessionChange
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, World, numbers_of, participants, proxy


async def refusal(world: World, *numbers: str, **wishes: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await world.open(*numbers, **wishes)
    return caught.value


async def test_a_session_has_the_shape_of_the_contract(world: World) -> None:
    await world.pool(2)
    session = await world.open(CUSTOMER, DRIVER, unique_name="order-1042", ttl=3600, metadata={"city": "HAN"})
    customer, driver = session.participants
    assert session.id.startswith("ses_") and len(session.id) == 4 + 6 + 22
    assert (session.status, session.service, session.record) == ("open", "default", "always")
    assert session.expires_at == moment(world.house.now()) + timedelta(hours=1)
    assert (customer.display, driver.display) == ("+8490…67", "+8490…21")
    assert customer.proxies[0].to == driver.id and driver.proxies[0].to == customer.id
    assert customer.proxies[0].number == driver.proxies[0].number
    assert customer.proxies[0].extension is None and customer.proxies[0].pin is None
    assert await sessions.get(world.house, world.access, session.id) == session
    assert await world.types(session.id) == ["session.opened", "number.leased"]


async def test_its_first_event_tells_the_whole_session(world: World) -> None:
    await world.pool(1)
    session = await world.open(unique_name="costs $x0", metadata={"price": "$x0 $from $$"})
    opened = (await records.events_of(world.house, "acme", session.id))[0]
    assert msgspec.convert({k: v for k, v in opened.data.items() if k != "tenant"}, sessions.Session) == session
    assert (opened.seq, opened.session, opened.occurred_at) == (1, session.id, moment(world.house.now()))


async def test_three_people_reach_each_other_pair_by_pair(world: World) -> None:
    await world.pool(6)
    session = await world.open(CUSTOMER, DRIVER, MERCHANT)
    people = [CUSTOMER, DRIVER, MERCHANT]
    for source in range(3):
        assert len({one.number for one in session.participants[source].proxies}) == 2
        for target in {0, 1, 2} - {source}:
            route = await world.call(proxy(session, source, target), people[source])
            assert isinstance(route, Route), (source, target)
            assert route.callee.reveal() == people[target]
            assert route.shows == proxy(session, target, source)
            await world.house.leases.append(session.id, [], end_call=route.interaction)


async def test_two_countries_get_a_number_each(world: World) -> None:
    await world.pool(3, "VN")
    await world.pool(3, "RU")
    session = await world.open(CUSTOMER, MUSCOVITE)
    assert proxy(session, 0, 1).startswith("+84") and proxy(session, 1, 0).startswith("+7")
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(route, Route)
    assert (route.shows, route.trunk, route.country) == (proxy(session, 1, 0), "carrier-ru", "RU")
    back = await world.call(proxy(session, 1, 0), MUSCOVITE)
    assert not isinstance(back, Route), "one call at a time"


async def test_a_country_without_numbers_borrows_softly_and_refuses_strictly(world: World) -> None:
    await world.pool(3, "VN")
    session = await world.open(CUSTOMER, MUSCOVITE, geo_match="soft")
    assert all(number.startswith("+84") for number in numbers_of(session))
    strict = await refusal(world, CUSTOMER, MUSCOVITE, geo_match="strict")
    assert isinstance(strict, GeoUnavailable)
    shared = await world.open(CUSTOMER, MUSCOVITE, geo_match="country/strict", number_model="shared")
    assert len(numbers_of(shared)) == 1, "a shared X is of the first participant's country"


async def test_per_party_is_taken_when_nothing_shared_is_free(world: World) -> None:
    await world.pool(2)
    first = await world.open(CUSTOMER, DRIVER)
    [held] = numbers_of(first)
    other = await world.open(CUSTOMER, MERCHANT)
    [second] = numbers_of(other)
    assert second != held
    # DRIVER holds one number and CUSTOMER both: nothing is free for CUSTOMER, whatever the model.
    short = await refusal(world, CUSTOMER, DRIVER)
    assert isinstance(short, NumberPoolExhausted)
    assert short.needed >= 1 and short.retry_after == 3600 + 1800
    # MERCHANT and DRIVER each hold another number: no X for both, but one for each.
    crossed = await world.open(MERCHANT, DRIVER)
    assert proxy(crossed, 0, 1) == held and proxy(crossed, 1, 0) == second


async def test_the_model_a_service_asks_for_is_kept_to(world: World) -> None:
    await world.pool(4)
    session = await world.open(CUSTOMER, DRIVER, number_model="per_party")
    assert len(numbers_of(session)) == 2
    shared = await world.open(CUSTOMER, DRIVER, number_model="shared")
    assert len(numbers_of(shared)) == 1 and not set(numbers_of(shared)) & set(numbers_of(session))


async def test_an_empty_service_says_that_it_needs_numbers(world: World) -> None:
    short = await refusal(world)
    assert isinstance(short, NumberPoolExhausted) and short.extra == {"needed": 1, "retry_after": 60}


@pytest.mark.parametrize(
    ("identifier", "kind"),
    [
        ("113", InvalidPhoneNumber),
        ("+84113", InvalidPhoneNumber),
        ("0901234567", InvalidPhoneNumber),
        ("+8490123456", InvalidPhoneNumber),
        ("hello", InvalidPhoneNumber),
        ("", InvalidPhoneNumber),
        ("+84٩٠١٢٣٤٥٦٧", InvalidPhoneNumber),
        (CUSTOMER, ParticipantConflict),
        ("+84 90 123 45 67", ParticipantConflict),
    ],
)
async def test_a_participant_is_a_person_with_a_valid_number(
    world: World, identifier: str, kind: type[Refused]
) -> None:
    await world.pool(2)
    refused = await refusal(world, CUSTOMER, identifier)
    assert isinstance(refused, kind)
    assert refused.errors[0].field == "participants[1].identifier"
    said = f"{refused.detail} {refused.errors}"
    assert not identifier or identifier not in said


async def test_a_virtual_number_is_no_participant(world: World) -> None:
    [number] = await world.pool(1)
    refused = await refusal(world, CUSTOMER, number)
    assert isinstance(refused, InvalidPhoneNumber) and refused.errors[0].problem == "is a virtual number"


@pytest.mark.parametrize(
    "wishes",
    [
        {"metadata": {"note": "call +84 90 765 43 21 please"}},
        {"metadata": {"note": "0912345678"}},
        {"metadata": {"0912345678": "note"}},
        {"metadata": {"tail": "x907654321x"}},
        {"unique_name": "+84907654321"},
        {"unique_name": "84907654321"},
    ],
)
async def test_no_free_text_carries_a_phone_number(world: World, wishes: dict[str, Any]) -> None:
    await world.pool(1)
    refused = await refusal(world, **wishes)
    assert isinstance(refused, ContainsPhoneNumber)
    assert "907654321" not in f"{refused.detail}{refused.errors}" and "0912345678" not in f"{refused.errors}"


async def test_an_order_number_is_no_phone_number(world: World) -> None:
    await world.pool(2)
    session = await world.open(unique_name="20261122000123", metadata={"order": "1042", "trip": "trip-884422"})
    assert session.unique_name == "20261122000123"


@pytest.mark.parametrize(
    ("wishes", "field"),
    [
        ({"ttl": 59}, "ttl"),
        ({"ttl": 170 * 86400 + 1}, "ttl"),
        ({"expires_at": moment(1_700_000_000)}, "expires_at"),
        ({"expires_at": moment(1_800_000_000).replace(tzinfo=None)}, "expires_at"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 257}}, "metadata.k"),
        ({"unique_name": "a\x01x0"}, "unique_name"),
    ],
)
async def test_a_wrong_field_is_named(world: World, wishes: dict[str, Any], field: str) -> None:
    await world.pool(1)
    refused = await refusal(world, **wishes)
    assert isinstance(refused, Invalid) and refused.errors[0].field == field


@pytest.mark.parametrize(
    "field",
    [
        {"geo_match_level": "region"},
        {"degrade": ["pin"]},
    ],
)
async def test_what_is_not_built_is_named_and_refused(world: World, field: dict[str, Any]) -> None:
    await world.pool(1)
    refused = await refusal(world, **field)
    assert isinstance(refused, NotBuilt)
    assert [error.field for error in refused.errors] == list(field)


async def test_the_same_name_and_people_is_the_same_session(world: World) -> None:
    await world.pool(2)
    new = NewSession(participants=participants(CUSTOMER, DRIVER), unique_name="order-1")
    again = NewSession(participants=participants(DRIVER, CUSTOMER), unique_name="order-1")
    first, created = await opening.open_session(world.house, world.access, new)
    second, repeated = await opening.open_session(world.house, world.access, again)
    assert (created, repeated) == (True, False) and second == first


async def test_the_same_name_with_others_is_a_conflict_that_names_the_session(world: World) -> None:
    await world.pool(2)
    first = await world.open(unique_name="order-1")
    refused = await refusal(world, CUSTOMER, MERCHANT, unique_name="order-1")
    assert isinstance(refused, UniqueNameConflict) and refused.extra == {"session": first.id}


async def test_a_name_is_free_again_after_close_and_after_expiry(world: World) -> None:
    await world.pool(4)
    first = await world.open(unique_name="order-1", ttl=60)
    await sessions.close(world.house, world.access, first.id)
    second = await world.open(CUSTOMER, MERCHANT, unique_name="order-1", ttl=60)
    await world.later(61)
    third = await world.open(unique_name="order-1")
    assert len({first.id, second.id, third.id}) == 3


async def test_names_of_services_and_tenants_do_not_meet(world: World) -> None:
    await services.create(world.house, "acme", ServiceChange(unique_name="food"))
    await world.pool(2)
    await world.pool(2, service="food")
    first = await world.open(unique_name="order-1")
    second = await world.open(CUSTOMER, MERCHANT, unique_name="order-1", service="food")
    assert (first.service, second.service, second.record) == ("default", "food", "never")


async def test_of_many_who_open_a_name_at_once_one_does(world: World) -> None:
    await world.pool(30)
    new = NewSession(participants=participants(CUSTOMER, DRIVER), unique_name="order-1")
    found = await asyncio.gather(*(opening.open_session(world.house, world.access, new) for _ in range(20)))
    assert len({session.id for session, _ in found}) == 1
    assert [created for _, created in found].count(True) == 1


async def test_a_request_repeated_under_its_token_opens_one_session(world: World) -> None:
    await world.pool(5)
    new = NewSession(participants=participants(CUSTOMER, DRIVER))
    first, _ = await opening.open_session(world.house, world.access, new, token="acme/key-1")
    again, _ = await opening.open_session(world.house, world.access, new, token="acme/key-1")
    other, _ = await opening.open_session(world.house, world.access, new, token="acme/key-2")
    assert again == first and other.id != first.id


async def test_closing_writes_its_events_once_and_keeps_its_end(world: World) -> None:
    await world.pool(1)
    session = await world.open(ttl=600)
    await world.later(10)
    closed = await sessions.close(world.house, world.access, session.id)
    assert (closed.status, closed.closed_reason) == ("closed", "api")
    assert closed.expires_at == session.expires_at and closed.closed_at == moment(world.house.now())
    assert await sessions.close(world.house, world.access, session.id) == closed
    assert await world.types(session.id) == ["session.opened", "number.leased", "session.closed", "number.released"]


async def test_a_session_past_its_time_is_closed_before_anybody_swept_it(world: World) -> None:
    await world.pool(1)
    session = await world.open(ttl=60)
    await world.later(60)
    found = await sessions.get(world.house, world.access, session.id)
    assert (found.status, found.closed_reason, found.closed_at) == ("closed", "expired", session.expires_at)
    with pytest.raises(SessionClosed):
        await sessions.extend(world.house, world.access, session.id, ttl=600, expires_at=None)
    with pytest.raises(SessionClosed):
        await sessions.change(world.house, world.access, session.id, SessionChange(record="never"))
    closed = await sessions.close(world.house, world.access, session.id)
    assert closed.closed_reason == "expired"
    assert (await world.types(session.id))[2:] == ["session.expired", "session.closed", "number.released"]


async def test_extending_moves_the_end_and_says_so(world: World) -> None:
    await world.pool(1)
    session = await world.open(ttl=60, unique_name="order-1")
    await world.later(30)
    longer = await sessions.extend(world.house, world.access, session.id, ttl=600, expires_at=None)
    assert longer.expires_at == moment(world.house.now() + 600)
    by_default = await sessions.extend(world.house, world.access, session.id, ttl=None, expires_at=None)
    assert by_default.expires_at == moment(world.house.now() + 3600)
    await world.later(3599)
    assert (await sessions.get(world.house, world.access, session.id)).status == "open"
    assert (await world.types(session.id)).count("session.updated") == 2


async def test_a_patch_changes_what_it_says_and_nothing_else(world: World) -> None:
    await world.pool(1)
    session = await world.open(metadata={"city": "HAN", "gone": "x"})
    wish = SessionChange(metadata={"car": "red", "gone": None}, record="never", max_concurrent_calls=2, ttl=7200)
    changed = await sessions.change(world.house, world.access, session.id, wish)
    assert changed.metadata == {"city": "HAN", "car": "red"}
    assert (changed.record, changed.max_concurrent_calls) == ("never", 2)
    assert changed.expires_at == moment(world.house.now() + 7200)
    assert changed.participants == session.participants
    for call in ("int_a", "int_b"):
        assert isinstance(await world.call(proxy(session, 0, 1), CUSTOMER, call), Route)


async def test_patches_at_once_are_all_kept(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    wishes = [SessionChange(metadata={f"k{n}": "v"}) for n in range(8)]
    await asyncio.gather(*(sessions.change(world.house, world.access, session.id, wish) for wish in wishes))
    assert len((await sessions.get(world.house, world.access, session.id)).metadata) == 8


async def test_another_tenants_session_is_not_there(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    stranger = msgspec.structs.replace(world.access, tenant="other")
    for name in (session.id, "ses_nonsense", "x"):
        with pytest.raises(NotFound):
            await sessions.get(world.house, stranger, name)
        with pytest.raises(NotFound):
            await sessions.close(world.house, stranger, name)
        with pytest.raises(NotFound):
            await sessions.change(world.house, stranger, name, SessionChange(record="never"))
    assert (await sessions.get(world.house, world.access, session.id)).status == "open"


async def test_no_persons_number_stands_in_redis(world: World) -> None:
    await world.pool(4)
    await world.pool(2, "RU")
    session = await world.open(CUSTOMER, DRIVER, unique_name="order-1")
    await world.open(CUSTOMER, MUSCOVITE)
    await refusal(world, CUSTOMER, MERCHANT, unique_name="order-1")
    assert isinstance(await world.call(proxy(session, 0, 1), CUSTOMER), Route)
    await world.call(proxy(session, 0, 1), MERCHANT)
    await world.call(MERCHANT, CUSTOMER)
    await sessions.close(world.house, world.access, session.id)
    command = world.house.redis.command
    dump = b"".join([name + (await command("DUMP", name)) for name in await command("KEYS", "*")])
    for person in (CUSTOMER, DRIVER, MERCHANT, MUSCOVITE):
        assert person[-8:].encode() not in dump
    assert proxy(session, 0, 1).encode() in dump, "the scan sees what is there"
