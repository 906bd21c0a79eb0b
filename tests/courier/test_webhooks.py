"""Webhooks as their receiver sees them: everything at least once, in order, signed, and no further than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive, post, webhooks
from masking.breakers import LONGEST, TRIPS_AT, Breaker
from masking.config import WebhooksSection
from masking.courier import owed
from masking.courier.line import Line
from masking.courier.patience import GIVE_UP, pause
from masking.courier.postroom import PostRoom
from masking.events import Event, append_loose, event_id, moment
from masking.house import House
from masking.post import Post
from masking.webhooks import Kept, NewWebhookEndpoint, WebhookEndpointChange, WebhookEndpointSecret, may_reach
from tests.courier.conftest import Round
from tests.courier.receiver import OK, Heard, Receiver, receiver, status
from tests.masking.world import World

Wanted = Callable[[], bool]


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as found:
        yield found


@pytest.fixture
def house(world: World) -> House:
    config = msgspec.structs.replace(world.house.config, webhooks=WebhooksSection(allow_private=True))
    world.house = replace(world.house, config=config)
    return world.house


class Street:
    """One endpoint's line, walked by hand, with events put where the courier puts them."""

    def __init__(
        self, world: World, house: House, engine: AsyncEngine, made: WebhookEndpointSecret, tenant: str = "acme"
    ) -> None:
        self.world = world
        self.tenant = tenant
        self.house = house
        self.engine = engine
        self.made = made
        self.post = Post(allow_private=True)
        self.line: Line
        self.counts: dict[str, int] = {}

    async def begin(self) -> Street:
        """A line as a courier that has just started makes it."""
        kept = await webhooks.get(self.house, self.tenant, self.made.id)
        self.line = Line(self.house, self.engine, kept, self.post, lambda: 0.5)
        return self

    async def happen(self, *sessions: str, tenant: str = "", kind: str = "call.ringing") -> None:
        rows = []
        for session in sessions:
            seq = self.counts[session] = self.counts.get(session, 0) + 1
            event = Event(
                id=event_id(session, seq),
                type=kind,  # type: ignore[arg-type]
                occurred_at=moment(self.house.now()),
                session=session,
                seq=seq,
                data={},
            )
            rows.append(
                {
                    "id": event.id,
                    "tenant": tenant or self.tenant,
                    "session": session,
                    "seq": seq,
                    "type": kind,
                    "occurred_at": self.house.now(),
                    "body": msgspec.json.encode(event).decode(),
                }
            )
        async with self.engine.begin() as connection:
            await connection.execute(archive.events.insert(), rows)

    async def carry(self) -> None:
        while await self.line.round():
            pass

    async def states(self) -> list[tuple[int, str, int]]:
        """(position, state, attempts) of all that was tried or waits."""
        table = archive.webhook_deliveries
        async with self.engine.connect() as connection:
            query = table.select().where(table.c.endpoint == self.made.id).order_by(table.c.position)
            rows = (await connection.execute(query)).all()
        return [(int(row.position), row.state, row.attempts) for row in rows]


@pytest.fixture
async def street(world: World, house: House, archived: AsyncEngine, there: Receiver) -> AsyncIterator[Street]:
    made = await webhooks.create(house, "acme", NewWebhookEndpoint(url=there.url), since=0)
    found = await Street(world, house, archived, made).begin()
    yield found
    await found.post.close()


async def test_every_event_arrives_once_in_the_order_of_its_session_and_signed(street: Street, there: Receiver) -> None:
    await street.happen("ses_a", "ses_b", "ses_a", "ses_b", "ses_a")
    await street.carry()
    for session in ("ses_a", "ses_b"):
        mine = [one for one in there.heard if one.event["session"] == session]
        assert [one.event["seq"] for one in mine] == list(range(1, len(mine) + 1))
    assert len(there.heard) == 5
    assert all(one.signed_with(street.made.secret) for one in there.heard)
    assert all(one.headers["webhook-id"] == one.event["id"] for one in there.heard)
    assert all(abs(int(one.headers["webhook-timestamp"]) - street.house.now()) <= 1 for one in there.heard)
    await (await street.begin()).carry()
    assert len(there.heard) == 5, "a courier that starts anew sends nothing twice"


async def test_after_a_rotation_both_secrets_sign_for_a_day(street: Street, there: Receiver) -> None:
    newer = await webhooks.rotate_secret(street.house, "acme", street.made.id)
    await street.begin()
    await street.happen("ses_a")
    await street.carry()
    assert there.heard[0].signed_with(newer.secret) and there.heard[0].signed_with(street.made.secret)
    await street.world.later(webhooks.ROTATION + 1)
    await street.happen("ses_a")
    await street.carry()
    assert there.heard[1].signed_with(newer.secret) and not there.heard[1].signed_with(street.made.secret)


async def test_an_event_that_fails_holds_back_its_own_session_and_no_other(street: Street, there: Receiver) -> None:
    there.answer = lambda one: status(500) if one.event["session"] == "ses_a" else OK
    await street.happen("ses_a", "ses_b", "ses_a", "ses_b")
    await street.carry()
    assert [(one.event["session"], one.event["seq"]) for one in there.heard if one.event["session"] == "ses_a"] == [
        ("ses_a", 1)
    ]
    assert sum(one.event["session"] == "ses_b" for one in there.heard) == 2
    there.answer = lambda _: OK
    await street.happen("ses_a")
    await street.carry()
    await street.world.later(5)
    await street.carry()
    assert [one.event["seq"] for one in there.heard if one.event["session"] == "ses_a"] == [1, 1, 2, 3]


async def test_the_first_retry_comes_within_five_seconds(street: Street, there: Receiver) -> None:
    there.answer = lambda _: status(503)
    await street.happen("ses_a")
    await street.carry()
    there.answer = lambda _: OK
    await street.world.later(5)
    await street.carry()
    assert there.seqs == [1, 1]
    assert await street.states() == [(1, "delivered", 2)]


@pytest.mark.parametrize(
    ("answer", "error"),
    [(status(302, "Location: http://127.0.0.1:1/"), "redirect"), (None, "broken"), (b"nonsense\r\n\r\n", "broken")],
)
async def test_a_redirect_and_a_broken_answer_are_failures(
    street: Street, there: Receiver, answer: bytes | None, error: str
) -> None:
    there.answer = lambda _: answer
    await street.happen("ses_a")
    await street.carry()
    assert len(there.heard) == 1, "nobody went where the redirect pointed"
    async with street.engine.connect() as connection:
        (row,) = (await connection.execute(archive.webhook_deliveries.select())).all()
    assert (row.state, row.error) == ("pending", error)


async def test_a_receiver_that_never_answers_is_not_waited_for(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "WHOLE", 0.2)

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    outcome = await street.post.send(f"http://127.0.0.1:{port}/", {}, b"{}")
    assert (outcome.status, outcome.error, outcome.delivered) == (None, "timeout", False)
    silent.close()


async def test_an_endless_answer_is_not_read_to_its_end(street: Street, there: Receiver) -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100_000
    there.answer = lambda _: endless
    assert (await street.post.send(there.url, {}, b"{}")).delivered


async def test_a_receiver_down_for_an_hour_gets_everything_in_order_when_it_is_back(
    street: Street, there: Receiver
) -> None:
    up = False
    there.answer = lambda _: OK if up else status(500)
    for minute in range(60):
        await street.happen("ses_a", "ses_b", f"ses_{minute}")
        await street.carry()
        await street.world.later(60)
    refused = len(there.heard)
    assert refused < 120, "a receiver that answers nobody is asked once a minute, not for every event"
    up = True
    for _ in range(200):
        await street.carry()
        await street.world.later(60)
    got = there.heard[refused:]
    for session in ("ses_a", "ses_b"):
        assert [one.event["seq"] for one in got if one.event["session"] == session] == list(range(1, 61))
    assert {one.event["session"] for one in got} == {"ses_a", "ses_b", *(f"ses_{n}" for n in range(60))}


async def test_after_75_hours_an_event_is_a_dead_letter_that_can_be_replayed(street: Street, there: Receiver) -> None:
    there.answer = lambda _: status(500)
    await street.happen("ses_a", "ses_a")
    for _ in range(400):
        await street.carry()
        await street.world.later(1800)
    assert [state for _, state, _ in await street.states()] == ["dead", "dead"]
    attempts = [count for _, _, count in await street.states()]
    assert 10 <= attempts[0] <= 25
    there.answer = lambda _: OK
    there.heard.clear()
    wish = webhooks.Replay(tenant="acme", endpoint=street.made.id, only_dead=True)
    async with street.engine.begin() as connection:
        assert await owed.replay(connection, wish, street.house.now()) == 2
    await street.world.later(61)
    await street.carry()
    assert there.seqs == [1, 2]
    assert [state for _, state, _ in await street.states()] == ["delivered", "delivered"]


async def test_410_gone_disables_the_endpoint(street: Street, there: Receiver) -> None:
    there.answer = lambda _: status(410)
    await street.happen("ses_a")
    await street.carry()
    kept = await webhooks.get(street.house, "acme", street.made.id)
    assert kept.endpoint.status == "disabled"
    await (await street.begin()).carry()
    await street.happen("ses_b")
    await street.carry()
    assert len(there.heard) == 1
    woken = WebhookEndpointChange(status="enabled")
    await webhooks.change(street.house, "acme", street.made.id, woken, since=2)
    there.answer = lambda _: OK
    await street.world.later(5)
    await street.happen("ses_c")
    await (await street.begin()).carry()
    assert {one.event["session"] for one in there.heard[1:]} == {"ses_a", "ses_c"}, "b happened while it was disabled"


async def test_an_endpoint_gets_the_types_it_asked_for_of_its_own_tenant(street: Street, there: Receiver) -> None:
    change = WebhookEndpointChange(events=["call.*", "session.closed"])
    await webhooks.change(street.house, "acme", street.made.id, change, since=0)
    await street.begin()
    await street.happen("ses_a", kind="session.opened")
    await street.happen("ses_a", kind="call.ended")
    await street.happen("ses_a", kind="session.closed")
    await street.happen("ses_z", tenant="other", kind="call.ended")
    await street.carry()
    assert [one.event["type"] for one in there.heard] == ["call.ended", "session.closed"]


async def test_a_failure_between_sending_and_writing_sends_again_under_the_same_id(
    street: Street, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise OSError("the archive is away")

    await street.happen("ses_a")
    with monkeypatch.context() as broken:
        broken.setattr(owed, "write", lost)
        with pytest.raises(OSError, match="away"):
            await street.line.round()
    await street.carry()
    assert len({one.headers["webhook-id"] for one in there.heard}) == 1 and len(there.heard) == 2


async def test_a_name_that_leads_inside_is_not_followed(street: Street, there: Receiver) -> None:
    guarded = Post(allow_private=False)
    outcome = await guarded.send(f"http://localhost:{there.port}/hook", {}, b"{}")
    assert (outcome.status, outcome.error) == (None, "forbidden_address") and there.heard == []
    outcome = await guarded.send("http://no-such-name.invalid/", {}, b"{}")
    assert outcome.error in ("unreachable", "timeout")
    await guarded.close()


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("8.8.8.8", True, True),
        ("10.0.0.1", False, True),
        ("127.0.0.1", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("::1", False, True),
        ("fe80::1%eth0", False, False),
        ("2002:0a00:0001::", False, True),
        ("64:ff9b::7f00:1", False, True),
        ("2606:4700::1111", True, True),
        ("0.0.0.0", False, False),
        ("255.255.255.255", False, True),
    ],
)
def test_where_a_delivery_may_go(address: str, public: bool, private: bool) -> None:
    assert (may_reach(address, False), may_reach(address, True)) == (public, private)


@given(attempts=st.integers(1, 200), dice=st.floats(0, 1))
def test_pauses_grow_and_stay_within_their_spread(attempts: int, dice: float) -> None:
    assert pause(attempts, dice) <= pause(attempts + 1, 1.0) * 2
    assert (attempts > 1 or pause(attempts, dice) <= 5.0) and pause(attempts, dice) <= 15 * 3600


def test_the_attempts_of_an_event_span_75_hours() -> None:
    at, attempts = 0.0, 1
    while at < GIVE_UP:
        at += pause(attempts, 0.5)
        attempts += 1
    assert 12 <= attempts <= 20


def test_a_breaker_trips_after_failures_on_end_and_closes_with_one_success() -> None:
    breaker = Breaker()
    for _ in range(TRIPS_AT - 1):
        breaker.failed(100.0)
    assert breaker.may_send(100.0) and not breaker.probing
    breaker.failed(100.0)
    assert not breaker.may_send(100.0) and breaker.probing and breaker.may_send(105.0)
    for _ in range(50):
        breaker.failed(200.0)
    assert breaker.may_send(200.0 + LONGEST)
    breaker.succeeded()
    assert breaker.may_send(200.0) and not breaker.probing


async def until(look: Wanted | Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while True:
            found = look()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


async def test_the_post_room_tells_new_endpoints_tests_replays_and_lets_go_of_removed_ones(
    courier: Round, world: World, house: House, archived: AsyncEngine, there: Receiver
) -> None:
    room = PostRoom(house, archived, lambda: 0.5)
    courier.outbox._house = house
    courier.outbox._tell = room.tell
    running = asyncio.create_task(room.run())
    await world.pool(5)
    mine = await webhooks.create(house, "acme", NewWebhookEndpoint(url=there.url), since=0)
    other = await webhooks.create(house, "acme", NewWebhookEndpoint(url=there.url + "2"), since=0)
    session = await world.open()
    await courier.carry()
    await until(lambda: {"/hook", "/hook2"} <= {one.path for one in there.heard})
    await append_loose(house, "acme", "webhook.test", house.now(), {"endpoint": mine.id})
    await courier.carry()
    await until(lambda: any(one.event["type"] == "webhook.test" for one in there.heard))
    assert {one.path for one in there.heard if one.event["type"] == "webhook.test"} == {"/hook"}
    await webhooks.remove(house, "acme", other.id)
    before = len(there.heard)
    await webhooks.ask_replay(house, webhooks.Replay(tenant="acme", endpoint=mine.id, session=session.id))
    await until(lambda: len(there.heard) > before)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert all(one.event["session"] == session.id for one in there.heard[before:])
    for one in there.heard:
        assert b"901234567" not in one.body and b"907654321" not in one.body


async def test_a_receiver_that_hangs_delays_no_other_endpoint(
    courier: Round, world: World, house: House, archived: AsyncEngine, there: Receiver
) -> None:
    async with receiver() as slow:
        hanging = asyncio.Event()

        async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hanging.wait()
            writer.close()

        stuck = await asyncio.start_server(hang, "127.0.0.1", 0)
        slow.port = stuck.sockets[0].getsockname()[1]
        await webhooks.create(house, "acme", NewWebhookEndpoint(url=slow.url), since=0)
        await webhooks.create(house, "acme", NewWebhookEndpoint(url=there.url), since=0)
        room = PostRoom(house, archived, lambda: 0.5)
        courier.outbox._house, courier.outbox._tell = house, room.tell
        running = asyncio.create_task(room.run())
        await world.pool(5)
        await world.open()
        await courier.carry()
        await until(lambda: len(there.heard) >= 2)
        running.cancel()
        hanging.set()
        await asyncio.gather(running, return_exceptions=True)
        stuck.close()


async def test_the_log_forgets_what_is_old_and_what_belongs_to_nobody(street: Street, there: Receiver) -> None:
    await street.happen("ses_a", "ses_b")
    await street.carry()
    async with street.engine.begin() as connection:
        await owed.forget(connection, [street.made.id], street.house.now() + owed.DELIVERED_KEPT - 1)
    assert len(await street.states()) == 2
    async with street.engine.begin() as connection:
        await owed.forget(connection, [street.made.id], street.house.now() + owed.DELIVERED_KEPT + 1)
        assert await owed.cursor(connection, await _kept(street)) == 2
    assert await street.states() == []
    async with street.engine.begin() as connection:
        await owed.forget(connection, [], street.house.now())
        assert await owed.cursor(connection, await _kept(street)) == 0


async def _kept(street: Street) -> Kept:
    return await webhooks.get(street.house, "acme", street.made.id)


def test_a_delivery_is_read_as_it_was_sent() -> None:
    one = Heard("/hook", {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}, b"{}")
    assert not one.signed_with("whsec_AAAA"), "the test's own verifier tells a wrong signature"
