"""The relay may die under live calls: they end at both phones, new ones get 503, and all is well when it is back."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from masking import services
from masking.config import Config, Listener, MediaSection, RedisSection, ServiceSection
from masking.house import open_house
from pools.inventory import Item
from sipedge import media_plane
from sipedge.edge import Edge
from sipedge.media.plane import CallLost, Event, PlaneGone
from sipedge.media_plane import RelayClient
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Place, RelayProcess, Scene, X, trunk


@pytest.fixture
async def own_relay(tmp_path: Path) -> AsyncIterator[RelayProcess]:
    """A relay that may be killed."""
    (tmp_path / "run").mkdir()
    process = RelayProcess(tmp_path / "run" / "relay.sock")
    await asyncio.to_thread(process.start)
    yield process
    await asyncio.to_thread(process.kill)


async def test_calls_end_when_the_relay_dies_and_come_again_when_it_is_back(
    own_relay: RelayProcess, redis_url: str, tmp_path: Path, phones: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_plane, "CLAIM_SECONDS", 0.5)
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    config = Config(
        service=ServiceSection(data_dir=str(tmp_path)),
        redis=RedisSection(url=redis_url),
        media=MediaSection(ports=own_relay.ports),
        trunk=[trunk("callers", caller), trunk("callees", callee)],
    )
    async with open_house(config, now=time.time, random=os.urandom, archive=False, budget=1.0) as house:
        edge = Edge(house, random=random.Random(1), owner="edge-relay.1.a", is_gone=lambda _: False)
        async with edge.running([Listener("udp", "127.0.0.1", 0)], drain=0.0) as bound:
            place = Place(edge, house, (bound[0].host, bound[0].port), config)
            service = await services.get(house, "default", "default")
            await house.inventory.add("default", service.id, [Item(X[0], "VN", "callees")])
            scene = Scene(place, caller, callee, await place.session(CUSTOMER, DRIVER))
            await up(scene)
            await asyncio.to_thread(own_relay.kill)
            await caller.expect(Ended, 2.0)
            await callee.expect(Ended, 2.0)
            told = await scene.interaction()
            assert (told.reason, told.hangup_by) == ("media_lost", "platform")
            scene.call()
            failed = await caller.expect(Failed)
            assert failed.status == 503 and failed.response is not None and failed.response.retry_after
            await asyncio.to_thread(own_relay.start)
            async with asyncio.timeout(5.0):
                while not edge.plane.up:
                    await asyncio.sleep(0.02)
            leg = await up(scene)
            caller.hang_up(leg)
            await callee.expect(Ended)
            await place.idle()


async def up(scene: Scene) -> str:
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    await scene.bridged()
    return leg


async def test_a_connection_that_breaks_and_comes_back_loses_no_call(own_relay: RelayProcess) -> None:
    client = RelayClient(own_relay.path, "edge-a")
    heard: list[Event] = []
    up_again = asyncio.Event()
    running = asyncio.create_task(client.run(up_again.set))
    await up_again.wait()
    await client.open("int_one", heard.append)
    assert await client.calls() == ("int_one",)
    up_again.clear()
    assert client._link is not None
    client._link.transport.abort()
    await up_again.wait()
    assert heard == [] and await client.calls() == ("int_one",)
    assert (await client.measure()).calls == 1
    closed = await client.close("int_one")
    assert closed.call == "int_one"
    running.cancel()


async def test_another_edge_that_claims_a_call_takes_it_away(own_relay: RelayProcess) -> None:
    one, two = RelayClient(own_relay.path, "edge-a"), RelayClient(own_relay.path, "edge-b")
    heard: list[Event] = []
    ready = [asyncio.Event(), asyncio.Event()]
    running = [asyncio.create_task(client.run(up.set)) for client, up in zip((one, two), ready, strict=True)]
    for up_now in ready:
        await up_now.wait()
    await one.open("int_one", heard.append)
    assert await two.claim(["int_one", "int_none"], heard.append) == ("int_one",)
    async with asyncio.timeout(2.0):
        while not heard:
            await asyncio.sleep(0.01)
    assert heard == [CallLost("int_one", "claimed")]
    await two.close("int_one")
    for task in running:
        task.cancel()


async def test_what_is_asked_of_no_relay_fails_at_once(tmp_path: Path) -> None:
    client = RelayClient(tmp_path / "nobody.sock", "edge-a")
    with pytest.raises(PlaneGone):
        await client.open("int_one", lambda _: None)
    assert not client.up
