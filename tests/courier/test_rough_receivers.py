"""A receiver that fails in every way there is, for an hour: everything at least once, in the order of its session, and
nothing of it felt by another tenant.

The clock is the test's own; only slowness takes real time, a fiftieth of what it stands for.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import post, webhooks
from masking.config import WebhooksSection
from masking.webhooks import NewWebhookEndpoint
from tests.courier.receiver import OK, Heard, Receiver, receiver, status
from tests.courier.test_webhooks import Street
from tests.masking.world import World

PACE = 30  # how much faster than real slowness is
MOODS = ("down", "500", "redirect", "slow", "silent", "nonsense", "forgetful", "well")
TURNS, SESSIONS = 32, 6  # of an hour


class Rough(Receiver):
    """`taken`: (session, seq) of what it took, in order; what it did not answer with 2xx it has not taken, except for
    what it forgot to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.mood = "well"
        self.taken: list[tuple[str, int]] = []
        self.seen: Counter[str] = Counter()

    def judge(self, one: Heard) -> bytes | None:
        self.seen[one.headers["webhook-id"]] += 1
        place = one.event["session"], one.event["seq"]
        match self.mood:
            case "500":
                return status(500)
            case "redirect":
                return status(307, "Location: http://127.0.0.1:1/")
            case "nonsense":
                return b"200 fine\r\n\r\n"
            case "forgetful":  # it has done its work, and its answer is lost
                self.taken.append(place)
                return None
            case _:
                self.taken.append(place)
                return OK


@pytest.fixture
async def rough() -> AsyncIterator[Rough]:
    found = Rough()
    found.answer = found.judge

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if found.mood == "down":  # as if nobody listened
            writer.transport.abort()
            return
        await found.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()


@pytest.fixture
async def streets(
    world: World, archived: AsyncEngine, rough: Rough, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Street, Street, Receiver]]:
    """Tenant acme, whose receiver is rough, and tenant other, whose receiver is well."""
    monkeypatch.setattr(post, "WHOLE", post.WHOLE / PACE)
    config = msgspec.structs.replace(world.house.config, webhooks=WebhooksSection(allow_private=True))
    world.house = house = replace(world.house, config=config)
    async with AsyncExitStack() as stack:
        well = await stack.enter_async_context(receiver())
        found = []
        for tenant, url in (("acme", rough.url), ("other", well.url)):
            made = await webhooks.create(house, tenant, NewWebhookEndpoint(url=url), since=0)
            street = await Street(world, house, archived, made, tenant).begin()
            stack.push_async_callback(street.post.close)
            found.append(street)
        yield found[0], found[1], well


async def test_an_hour_of_every_failure_costs_no_event_no_order_and_no_other_tenant(
    streets: tuple[Street, Street, Receiver], rough: Rough
) -> None:
    mine, others, well = streets
    dice = random.Random(7)
    moods = [mood for mood in MOODS for _ in range(TURNS // len(MOODS))]
    dice.shuffle(moods)
    happened: Counter[str] = Counter()
    for mood in moods:
        rough.mood, rough.held = mood, asyncio.Event()
        if mood not in ("slow", "silent"):
            rough.held.set()
        sessions = [f"ses_{dice.randrange(SESSIONS)}" for _ in range(dice.randrange(1, 8))]
        happened.update(sessions)
        await mine.happen(*sessions)
        await others.happen(*(f"{name}_of_others" for name in sessions))
        before = len(well.heard)
        carrying = asyncio.create_task(mine.carry())
        await others.carry()  # while the rough one is silent still: nobody waits for it
        assert len(well.heard) - before == len(sessions), "another tenant has it all within its turn"
        if mood == "slow":
            await asyncio.sleep(10 / PACE)
            rough.held.set()
        await carrying
        rough.held.set()
        await mine.world.later(3600 / TURNS)
    rough.mood, rough.held = "well", None
    async with asyncio.timeout(10.0):
        while {state for _, state, _ in await mine.states()} != {"delivered"}:
            await mine.carry()
            await mine.world.later(600)
    for session, count in happened.items():
        first = list(dict.fromkeys(seq for name, seq in rough.taken if name == session))
        assert first == list(range(1, count + 1)), f"{session}: all, in order"
    assert len(rough.seen) == sum(happened.values()), "one id an event, however often it came"
    assert max(rough.seen.values()) > 1, "some came more than once"
