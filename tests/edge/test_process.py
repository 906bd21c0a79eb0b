"""The edge as a process: ready, killed, back, drained, measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from masking import interactions, locks, opening, services, sessions
from masking.config import load
from masking.house import House, open_house
from masking.interactions import Interaction
from masking.sessions import NewParticipant, NewSession
from pools.grants import LiveCall
from pools.inventory import Item
from sipedge.__main__ import host_name, is_gone
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited
from tests.edge.conftest import ACCESS, CUSTOMER, DRIVER, Make, RelayProcess, X, free_range
from tests.edge.phones import Address, Phone
from tests.recordings.phones import LOCK

CONFIG = """
[service]
data_dir = "{data_dir}"
[redis]
url = "{redis}"
[sip]
listen = ["udp:127.0.0.1:{port}", "tcp:127.0.0.1:{port}"]
[[trunk]]
name = "callers"
carrier = "c"
uri = "sip:127.0.0.1:{caller}"
sources = ["127.0.0.1:{caller}"]
country = "VN"
options_ping = 0
[[trunk]]
name = "callees"
carrier = "c"
uri = "sip:127.0.0.1:{callee}"
sources = ["127.0.0.1:{callee}"]
country = "VN"
options_ping = 0
"""


class Process:
    """`python -m sipedge`, started again as often as a test wants."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.log: list[bytes] = []
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str) -> dict[str, object]:
        command = [sys.executable, "-m", "sipedge", "--config", str(self.config), *arguments]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, stdout=pipe)
        assert self.process.stdout is not None
        async with asyncio.timeout(10.0):
            return dict(json.loads(await self.process.stdout.readline()))

    async def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(10.0):
            return await self.process.wait()


Running = tuple[Process, House, tuple[Phone, Phone], Address]


@pytest.fixture
async def running(tmp_path: Path, redis_url: str, relay: RelayProcess, phones: Make) -> AsyncIterator[Running]:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    port = int(free_range(2).split("-")[0])
    text = CONFIG.format(
        data_dir=relay.path.parent.parent,
        redis=redis_url,
        port=port,
        caller=caller.address[1],
        callee=callee.address[1],
    )
    path = tmp_path / "masking.toml"
    await asyncio.to_thread(path.write_text, text)
    process = Process(path)
    config = await asyncio.to_thread(load, path, {})
    async with open_house(config, now=time.time, random=os.urandom, archive=False, budget=1.0) as house:
        await locks.tell(house, "default", locks.Lock("k1", LOCK.public))
        service = (await services.get(house, "default", "default")).id
        await house.inventory.add("default", service, [Item(X[0], "VN", "callees")])
        yield process, house, (caller, callee), ("127.0.0.1", port)
    if process.process is not None and process.process.returncode is None:
        await process.end(signal.SIGKILL)
    if process.process is not None:
        process.process._transport.close()  # type: ignore[attr-defined]


async def open_one(house: House) -> str:
    people = [NewParticipant(identifier=CUSTOMER), NewParticipant(identifier=DRIVER)]
    return (await opening.open_session(house, ACCESS, NewSession(participants=people, record="always")))[0].id


async def ended(house: House, session: str) -> Interaction:
    async with asyncio.timeout(10.0):
        while True:
            found = interactions.fold(await sessions.timeline(house, ACCESS, session))
            if found and found[-1].ended_at is not None:
                return found[-1]
            await asyncio.sleep(0.02)


async def test_calls_of_a_killed_edge_are_ended_by_the_next(running: Running) -> None:
    process, house, people, address = running
    ready = await process.start()
    assert ready["sip"] == [f"{kind}:{address[0]}:{address[1]}" for kind in ("udp", "tcp")]
    session = await open_one(house)
    caller, callee = people
    caller.call(address, X[0])
    invited = await callee.expect(Invited)
    callee.answer(invited)
    await caller.expect(Answered)
    await callee.expect(Acked)
    async with asyncio.timeout(2.0):  # the snapshot is told
        while not any(b"dialogs" in call.facts for call in await live(house)):
            await asyncio.sleep(0.01)
    assert CUSTOMER[1:].encode() not in (await live(house))[0].facts
    await process.end(signal.SIGKILL)
    began = time.monotonic()
    await process.start()
    await caller.expect(Ended, 6.0)
    await callee.expect(Ended, 6.0)
    assert time.monotonic() - began < 5.0
    told = await ended(house, session)
    assert (told.status, told.reason, told.hangup_by) == ("failed", "owner_lost", "platform")
    assert len([one for one in await sessions.timeline(house, ACCESS, session) if one.type == "call.ended"]) == 1
    caller.call(address, X[0])  # and the slot is free again
    await callee.expect(Invited)


async def live(house: House) -> list[LiveCall]:
    return [call for shard in await house.inventory.shard_names() for call in await house.leases.live_calls(shard)]


async def test_sigterm_refuses_new_calls_and_ends_when_the_last_call_does(running: Running) -> None:
    process, house, people, address = running
    await process.start("--drain", "5")
    session = await open_one(house)
    caller, callee = people
    leg = caller.call(address, X[0])
    callee.answer(await callee.expect(Invited))
    await caller.expect(Answered)
    await callee.expect(Acked)
    assert process.process is not None
    process.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.2)
    caller.call(address, X[0])
    assert (await caller.expect(Failed)).status == 503
    caller.hang_up(leg)
    await callee.expect(Ended)
    async with asyncio.timeout(3.0):
        assert await process.process.wait() == 0
    assert (await ended(house, session)).status == "completed"


async def test_the_counters_can_be_read_beside_it(running: Running) -> None:
    process, house, people, address = running
    await process.start()
    caller, _ = people
    caller.call(address, "+84247199999", body=b"")
    assert (await caller.expect(Failed)).status == 404
    assert process.process is not None
    path = house.config.run_dir / f"edge-{process.process.pid}.metrics.sock"
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    page = await reader.read()
    assert page.startswith(b"HTTP/1.1 200 OK")
    for line in (b'masking_sip_events_total{event="refused_no_binding"} 1.0', b"masking_sip_relay_up 1.0"):
        assert line in page
    assert CUSTOMER[1:].encode() not in page
    writer.close()
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"x" * 20_000)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    await process.end(signal.SIGTERM)
    assert not path.exists()


async def test_a_configuration_that_cannot_be_used_stops_the_start_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "masking.toml"
    path.write_text("[sip]\nlissen = []\n")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "sipedge", "--config", str(path), stderr=pipe)
    _, said = await process.communicate()
    assert process.returncode == 2 and b"lissen" in said and b"listen" in said and b"Traceback" not in said


def test_a_dead_predecessor_on_this_machine_is_known() -> None:
    assert not is_gone(f"edge-{host_name()}.{os.getpid()}.abcd")
    assert is_gone(f"edge-{host_name()}.{2**22 + 7}.abcd")
    assert not is_gone("edge-elsewhere.1.abcd")
    assert not is_gone("edge-odd")
