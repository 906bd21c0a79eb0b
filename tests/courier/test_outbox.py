"""From the outboxes to the archive: everything, once, in order, whoever is killed in between."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import sqlalchemy as sql

from masking import amending, archive, interactions, sessions, shelves
from masking.courier.outbox import Displaced, Outbox
from masking.events import Event, moment
from masking.interactions import Call, Channel, Ending, Leg, Notice
from masking.refusals import NotFound
from masking.routes import Route
from masking.sessions import NewParticipant, Session, SessionChange
from pools.leases import Leases
from pools.numbers import Number
from pools.redis import Redis
from recordings import catalogue
from tests.courier.conftest import Round
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, STRANGER, World, proxy

NOTICE = Notice(asset="notice-vi", sha256="00" * 32, leg=1, at=0.02, to=3.4)


async def talk(world: World, session: Session, seconds: float = 9.0) -> Call:
    """A recorded call of the customer's, from the dial to the hanging up."""
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(route, Route)
    call, now = Call.of(route), world.house.now
    await world.later(1)
    await interactions.ringing(world.house, call, now())
    await world.later(2)
    await interactions.answered(world.house, call, now())
    channels = (
        Channel(index=1, participant=route.from_participant),
        Channel(index=2, participant=route.to_participant),
    )
    await interactions.recording_started(world.house, call, now(), channels)
    await world.later(3.5)
    await interactions.bridged(world.house, call, now(), (NOTICE,))
    await world.later(seconds)
    legs = (Leg(trunk="carrier-vn", sip_code=200, q850=16, codec="PCMA"), Leg(trunk="carrier-vn", sip_code=200))
    ending = Ending(blame="caller", reason="hangup", sip_code=200, legs=legs)
    assert await interactions.ended(world.house, call, now(), ending)
    assert not await interactions.ended(world.house, call, now(), ending), "the second end writes nothing"
    return call


async def test_a_call_becomes_one_interaction_and_one_recording(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open(unique_name="order-1")
    call = await talk(world, session)
    await courier.carry()
    found = await interactions.get(world.house, "acme", call.interaction)
    assert [found] == await interactions.of_session(world.house, "acme", session.id)
    assert (found.status, found.decision, found.hangup_by, found.answered_by) == (
        "completed",
        "routed",
        "caller",
        "callee",
    )
    assert (found.billable, found.conversation, found.recordings) == (12.5, 9.0, [call.recording])
    assert found.dialled == proxy(session, 0, 1) and found.legs[0].codec == "PCMA"
    assert (found.from_, found.to) == tuple(one.id for one in session.participants)
    async with courier.engine.connect() as connection:
        row = await catalogue.get(connection, "acme", str(call.recording))
    assert row is not None and row.recording.status == "processing"
    assert row.ended_at == world.house.now() and row.recording.unique_name == "order-1"
    assert row.recording.notices[0].asset == "notice-vi" and row.recording.channels[1].index == 2
    assert len(await courier.rows(catalogue.recordings)) == 1
    live = await sessions.get(world.house, world.access, session.id)
    assert live.status == "in_progress"
    [stored] = await courier.rows(archive.sessions)
    assert msgspec.json.decode(stored.body, type=Session) == live


async def test_a_recording_is_found_by_who_was_on_the_call_and_by_nobody_else(world: World, courier: Round) -> None:
    await world.pool(2)
    session = await world.open()
    first = await talk(world, session)
    await courier.carry()
    replacement = NewParticipant(identifier=STRANGER)
    session = await amending.swap(world.house, world.access, session.id, session.participants[1].id, replacement)
    second = await talk(world, session)
    await courier.carry()

    async def of(person: str) -> list[str]:
        narrowed = catalogue.Filter(person=world.house.keyring.index(Number.parse(person)))
        async with courier.engine.connect() as connection:
            page = await catalogue.page(connection, "acme", narrowed, before=None, limit=9)
        return [one.id for one in page]

    assert await of(CUSTOMER) == [second.recording, first.recording]
    assert await of(DRIVER) == [first.recording]
    assert await of(STRANGER) == [second.recording]
    assert await of(MERCHANT) == []


async def test_the_pauses_of_a_recording_are_told_by_where_they_lie_in_it(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open()
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(route, Route)
    call, now = Call.of(route), world.house.now
    await interactions.recording_started(world.house, call, now(), ())
    for seconds, what in ((2.5, "paused"), (0.5, "paused"), (3.0, "resumed"), (1.0, "paused")):
        await world.later(seconds)
        await interactions.tell(
            world.house,
            [interactions.recording_changed_fact(call, now(), what)],  # type: ignore[arg-type]
        )
    await interactions.ended(world.house, call, now(), Ending(blame="caller", reason="hangup", sip_code=200))
    await courier.carry()
    async with courier.engine.connect() as connection:
        row = await catalogue.get(connection, "acme", str(call.recording))
    assert row is not None
    assert [(one.at, one.to) for one in row.recording.pauses] == [(2.5, 6.0), (7.0, None)]


async def test_events_are_read_alike_from_redis_and_from_the_archive(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open()
    await talk(world, session)
    await sessions.close(world.house, world.access, session.id)
    live = await sessions.timeline(world.house, world.access, session.id)
    shown = await sessions.get(world.house, world.access, session.id)
    await courier.carry()
    await world.house.redis.command("FLUSHALL")
    assert await sessions.timeline(world.house, world.access, session.id) == live
    assert [event.seq for event in live] == list(range(1, len(live) + 1))
    assert await sessions.get(world.house, world.access, session.id) == shown
    assert len(await interactions.of_session(world.house, "acme", session.id)) == 1
    stranger = msgspec.structs.replace(world.access, tenant="other")
    with pytest.raises(NotFound):
        await sessions.timeline(world.house, stranger, session.id)


async def test_no_persons_number_stands_in_the_archive(world: World, courier: Round) -> None:
    await world.pool(3)
    session = await world.open(unique_name="order-1")
    await talk(world, session)
    await world.call(proxy(session, 0, 1), STRANGER)
    await world.call(MERCHANT, CUSTOMER)
    await sessions.close(world.house, world.access, session.id)
    await courier.carry()
    tables = [*archive.metadata.sorted_tables, *catalogue.metadata.sorted_tables]
    rows = "".join([repr(await courier.rows(table)) for table in tables])
    for person in (CUSTOMER, DRIVER, MERCHANT, STRANGER):
        assert person[-8:] not in rows
    assert proxy(session, 0, 1) in rows, "the scan sees what is there"


class Killed(BaseException):
    """The courier's process died here."""


@pytest.mark.parametrize("moment_of_death", ["before the commit", "between commit and trim", "between two trims"])
async def test_a_killed_courier_loses_nothing_and_doubles_nothing(
    world: World, courier: Round, waiting: Redis, monkeypatch: pytest.MonkeyPatch, moment_of_death: str
) -> None:
    await world.pool(5)
    await world.pool(2, "RU")
    session = await world.open(CUSTOMER, DRIVER)
    call = await talk(world, session)
    await world.call(proxy(session, 0, 1), STRANGER)
    trims = 0

    async def die(*_: object) -> None:
        nonlocal trims
        trims += 1
        if moment_of_death != "between two trims" or trims == 2:
            raise Killed

    victim = (
        "masking.courier.outbox.Batch.write" if moment_of_death == "before the commit" else "pools.leases.Leases.trim"
    )
    other = await world.open(CUSTOMER, MERCHANT)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(victim, die)
        await courier.outbox.round(wait_ms=1)
        raise Killed  # one shard alone has nothing between two trims
    heir = Round(world, Outbox(world.house, courier.engine, Leases(waiting)), courier.sweeper, courier.engine)
    await sessions.close(world.house, world.access, other.id)
    await heir.carry()
    for one in (session, other):
        archived = [event_of(row) for row in await heir.rows(archive.events) if row.session == one.id]
        assert archived == await sessions.timeline(world.house, world.access, one.id)
    loose = [row for row in await heir.rows(archive.events) if row.session is None]
    assert [(row.type, row.seq) for row in loose] == [("call.refused", 1)]
    assert {row.id for row in await heir.rows(archive.interactions)} >= {call.interaction}
    assert len(await heir.rows(catalogue.recordings)) == 1
    for shard in await world.house.inventory.shard_names():
        assert await world.house.leases.outbox(shard) == [], "what is archived is trimmed"


def event_of(row: Any) -> Event:
    return msgspec.json.decode(row.body, type=Event)


async def test_of_two_couriers_one_takes_a_batch(world: World, courier: Round, waiting: Redis) -> None:
    await world.pool(1)
    first = await world.open()
    await courier.carry()
    slow = Outbox(world.house, courier.engine, Leases(waiting))
    await slow.round(wait_ms=1)
    await sessions.change(world.house, world.access, first.id, SessionChange(record="never"))
    await courier.carry()
    await sessions.close(world.house, world.access, first.id)
    # It still believes what it read before the other's batch.
    with pytest.raises(Displaced):
        await slow.round(wait_ms=1)
    assert await slow.round(wait_ms=1) > 0, "then it begins again from the archive's own position"
    types = [row.type for row in await courier.rows(archive.events)]
    assert types.count("session.updated") == types.count("session.closed") == 1


async def test_a_strangers_call_is_an_event_of_the_numbers_tenant(world: World, courier: Round) -> None:
    [number] = await world.pool(1)
    await world.call(number, STRANGER)
    await world.call(number, None)
    await world.call(DRIVER, CUSTOMER)
    await interactions.refused(
        world.house,
        interaction="int_sos",
        decision="emergency",
        at=world.house.now(),
        data={"reason": "emergency", "dialled": "113", "trunk": "carrier-vn"},
    )
    await courier.carry()
    rows = await courier.rows(archive.events)
    assert [(row.tenant, row.session, row.seq, row.type) for row in rows] == [
        ("acme", None, seq, "call.refused") for seq in (1, 2, 3, 4)
    ]
    emergency = event_of(rows[-1])
    assert (emergency.session, emergency.data["reason"]) == (None, "emergency")
    assert event_of(rows[2]).data["dialled"] is None, "what was dialled may be a person"
    found = await interactions.get(world.house, "acme", "int_sos")
    assert (found.status, found.decision, found.session) == ("refused", "emergency", None)


async def test_an_unreadable_entry_holds_up_no_other(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open()
    await world.house.leases.append(session.id, [("never.heard_of", None, b"{}"), ("call.ended", None, b"not json")])
    await world.house.leases.append(session.id, [("recording.started", None, b'{"interaction":"int_x"}')])
    await sessions.close(world.house, world.access, session.id)
    await courier.carry()
    [row] = await courier.rows(archive.sessions)
    assert row.status == "closed"


async def test_an_archive_younger_than_its_sessions_learns_them_from_redis(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open()
    await courier.carry()
    async with courier.engine.begin() as connection:
        for table in (archive.sessions, archive.events, archive.positions):
            await connection.execute(table.delete())
    await sessions.close(world.house, world.access, session.id)
    fresh = Outbox(world.house, courier.engine, courier.outbox._waiting)
    await fresh.round(wait_ms=1)
    [row] = await courier.rows(archive.sessions)
    assert (row.tenant, row.status) == ("acme", "closed")


async def test_lists_show_what_was_just_done_and_page_without_gaps(world: World, courier: Round) -> None:
    await world.pool(40)
    opened: list[str] = []
    for place in range(12):
        opened.append((await world.open(unique_name=f"order-{place % 3}-{place}")).id)
        await world.later(1)
        if place == 8:
            await courier.carry()
    await world.open(CUSTOMER, MERCHANT, expires_at=moment(world.house.now() + 5))
    await world.later(5)
    closed = await sessions.close(world.house, world.access, opened[2])
    seen: list[str] = []
    before = None
    while True:
        page = await shelves.listing(world.house, world.access, limit=5, before=before)
        seen += [session.id for session in page.data]
        before = page.next
        if before is None:
            break
    assert len(seen) == 13 and seen[1:] == opened[::-1]
    shut = await shelves.listing(world.house, world.access, status="closed")
    assert {session.id for session in shut.data} == {closed.id, seen[0]}
    [named] = (await shelves.listing(world.house, world.access, unique_name="order-1-10")).data
    assert named.id == opened[10]
    number = named.participants[0].proxies[0].number
    held = (await shelves.listing(world.house, world.access, number=number, limit=500)).data
    assert named.id in {session.id for session in held}
    assert (await shelves.listing(world.house, world.access, number="+842471999999")).data == []


async def test_a_batch_larger_than_one_statement_is_taken_in(world: World, courier: Round) -> None:
    await world.pool(2)
    session = await world.open()
    facts = [
        ("session.updated", None, msgspec.json.encode({"expires_at": moment(1_900_000_000 + n)})) for n in range(700)
    ]
    await world.house.leases.append(session.id, facts)
    assert await courier.carry() == 702
    [row] = await courier.rows(archive.sessions)
    assert row.expires_at == 1_900_000_699 and row.seq == 702


async def test_positions_only_ever_grow(world: World, courier: Round) -> None:
    await world.pool(3)
    for _ in range(3):
        await world.open()
        await courier.carry()
    async with courier.engine.connect() as connection:
        first = await archive.events_after(connection, "acme", 0, 4)
        rest = await archive.events_after(connection, "acme", first[-1][0], 100)
        only = await archive.events_after(connection, "acme", 0, 100, ("session.opened",))
        places = list((await connection.execute(sql.select(archive.events.c.position))).scalars())
    assert [place for place, _ in first + rest] == sorted(places) and len(only) == 3
