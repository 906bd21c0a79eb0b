"""The courier as a process: ready, killed, stopped, waiting its turn, and refusing to start."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive, interactions, opening, services, sessions
from masking.access import SCOPES, Access
from masking.config import load
from masking.house import House, open_house
from masking.interactions import Call, Ending
from masking.refusals import NotFound
from masking.routes import Route, claim
from masking.sessions import NewSession, Session
from pools.inventory import Item
from pools.numbers import Number
from pools.redis import Unavailable
from tests.masking.world import CUSTOMER, DRIVER, participants, proxy
from tests.redis_server import RedisServer

pytestmark = pytest.mark.service
ACCESS = Access("default", "key_test", frozenset(SCOPES))


class Courier:
    """`python -m masking.courier` under the test's own eyes."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self.process: asyncio.subprocess.Process | None = None
        self._heard = b""

    async def start(self) -> None:
        """Returns when it says that it is ready."""
        self.process = await self.begin()
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 30)
        assert msgspec.json.decode(line)["event"] == "ready"

    async def begin(self) -> asyncio.subprocess.Process:
        words = [sys.executable, "-m", "masking.courier", "--config", str(self._config)]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe)

    async def says(self, word: str) -> None:
        """Returns when its log has a line with the word."""
        assert self.process is not None and self.process.stderr is not None
        async with asyncio.timeout(30):
            while word.encode() not in self._heard:
                self._heard += await self.process.stderr.readline()

    async def end(self, signal_number: signal.Signals) -> tuple[int, str]:
        """Its exit code and its log."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal_number)
        _, log = await asyncio.wait_for(self.process.communicate(), 30)
        code = self.process.returncode
        self.process = None
        assert code is not None
        return code, (self._heard + log).decode()


@pytest.fixture
def configuration(tmp_path: Path, redis_url: str, archive_url: str) -> Path:
    path = tmp_path / "masking.toml"
    path.write_text(
        f'[service]\ndata_dir = "{tmp_path}"\n[redis]\nurl = "{redis_url}"\n[archive]\nurl = "{archive_url}"\n'
    )
    return path


@pytest.fixture
async def house(configuration: Path) -> AsyncIterator[House]:
    config = await asyncio.to_thread(load, configuration, {})
    async with open_house(config, now=time.time, random=os.urandom, budget=5.0) as opened:
        service = (await services.get(opened, "default", "default")).id
        items = [Item(f"+8424710001{place:02}", "VN", "") for place in range(40)]
        await opened.inventory.add("default", service, items)
        yield opened


@pytest.fixture
async def courier(configuration: Path) -> AsyncIterator[Courier]:
    made = Courier(configuration)
    yield made
    if made.process is not None:
        await made.end(signal.SIGKILL)


async def until(what: Callable[[], Any], seconds: float) -> float:
    """Waits until `what()` holds; how long it took. Fails when it never does."""
    began = time.monotonic()
    while not await what():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def open_one(house: House, name: str) -> Session:
    new = NewSession(participants=participants(CUSTOMER, DRIVER), unique_name=name, pair_quarantine=0)
    return (await opening.open_session(house, ACCESS, new))[0]


async def call(house: House, session: Session, interaction: str) -> Call:
    number = Number.parse(proxy(session, 0, 1))
    route = await claim(
        house,
        called=number,
        caller=Number.parse(CUSTOMER),
        interaction=interaction,
        owner="edge-1",
        trunk="carrier-vn",
        at=house.now(),
    )
    assert isinstance(route, Route)
    found = Call.of(route)
    await interactions.answered(house, found, house.now())
    return found


def archived(house: House, interaction: str, status: str) -> Callable[[], Any]:
    async def there() -> bool:
        try:
            return (await interactions.get(house, "default", interaction)).status == status
        except NotFound:
            return False

    return there


async def test_an_interaction_is_readable_within_two_seconds(house: House, courier: Courier) -> None:
    await courier.start()
    session = await open_one(house, "order-1")
    made = await call(house, session, "int_1")
    await interactions.ended(house, made, house.now(), Ending(blame="caller", reason="hangup", sip_code=200))
    assert await until(archived(house, "int_1", "completed"), 10) < 2
    code, log = await courier.end(signal.SIGTERM)
    assert code == 0 and "Traceback" not in log, log


async def test_kills_at_any_moment_leave_every_event_once(house: House, courier: Courier) -> None:
    engine: AsyncEngine | None = house.archive
    assert engine is not None
    names: list[str] = []

    calm = asyncio.Event()

    async def traffic() -> None:
        while not calm.is_set():
            place = len(names)
            session = await open_one(house, f"order-{place}")
            names.append(session.id)
            made = await call(house, session, f"int_{place}")
            await interactions.ended(house, made, house.now(), Ending(blame="caller", reason="hangup", sip_code=200))
            await sessions.close(house, ACCESS, session.id)
            await asyncio.sleep(0.03)

    busy = asyncio.create_task(traffic())
    for death in range(4):
        await courier.start()
        # Into the middle of its work, wherever that is: it takes batches all the time.
        await asyncio.sleep(0.05 + 0.11 * death)
        await courier.end(signal.SIGKILL)
    calm.set()
    await busy
    await courier.start()

    async def all_there() -> bool:
        async with engine.connect() as connection:
            rows = await archive.events_after(connection, "default", 0, 10_000, ("session.closed",))
        return len(rows) == len(names)

    await until(all_there, 20)
    for place, name in enumerate(names):
        live = await sessions.timeline(house, ACCESS, name)
        async with engine.connect() as connection:
            bodies = await archive.events_of(connection, "default", name)
        assert [msgspec.json.decode(body, type=type(live[0])) for body in bodies] == live
        assert (await interactions.get(house, "default", f"int_{place}")).status == "completed"


async def test_a_dead_edges_call_is_ended_while_nobody_else_can(house: House, courier: Courier) -> None:
    await courier.start()
    session = await open_one(house, "order-1")
    await house.leases.beat("edge-1", 1_000)
    await call(house, session, "int_1")
    assert await until(archived(house, "int_1", "failed"), 20) < 10
    events = await sessions.timeline(house, ACCESS, session.id)
    assert [event.type for event in events].count("call.ended") == 1


async def test_a_second_courier_waits_and_takes_over(house: House, configuration: Path, courier: Courier) -> None:
    await courier.start()
    second = Courier(configuration)
    await second.start()
    try:
        await courier.end(signal.SIGKILL)
        session = await open_one(house, "order-1")
        made = await call(house, session, "int_1")
        await interactions.ended(house, made, house.now(), Ending(blame="caller", reason="hangup", sip_code=200))
        await until(archived(house, "int_1", "completed"), 15)
    finally:
        code, log = await second.end(signal.SIGTERM)
    assert code == 0 and "Traceback" not in log


async def test_redis_gone_and_back_again_is_waited_for(tmp_path: Path, configuration: Path, courier: Courier) -> None:
    server = RedisServer(tmp_path, durable=True)
    await asyncio.to_thread(server.start)
    text = await asyncio.to_thread(configuration.read_text)
    own = re.sub(r'(?<=\[redis\]\nurl = ")[^"]*', server.url, text)
    await asyncio.to_thread(configuration.write_text, own)
    try:
        await courier.start()
        config = await asyncio.to_thread(load, configuration, {})
        async with open_house(config, now=time.time, random=os.urandom, budget=5.0) as house:
            service = (await services.get(house, "default", "default")).id
            await house.inventory.add("default", service, [Item("+842471000001", "VN", "")])
            session = await open_one(house, "order-1")
            await asyncio.to_thread(server.stop)
            with pytest.raises(Unavailable):
                await call(house, session, "int_0")
            await courier.says("courier_waits")
            await asyncio.to_thread(server.start)
            made = await call(house, session, "int_1")
            await interactions.ended(house, made, house.now(), Ending(blame="caller", reason="hangup", sip_code=200))
            await until(archived(house, "int_1", "completed"), 15)
        code, log = await courier.end(signal.SIGTERM)
        assert code == 0 and "Traceback" not in log, log
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('[archive]\nurl = "postgresql://nobody:geheim@127.0.0.1:1/none"\n', "cannot be used"),
        ('[redis]\nurl = "unix:///nowhere/redis.sock"\n', "Redis"),
        ("[nonsense]\n", "nonsense"),
    ],
)
async def test_what_cannot_start_says_why(tmp_path: Path, redis_url: str, section: str, said: str) -> None:
    path = tmp_path / "masking.toml"
    redis = "" if "[redis]" in section else f'[redis]\nurl = "{redis_url}"\n'
    path.write_text(f'[service]\ndata_dir = "{tmp_path}"\n{redis}{section}')
    process = await Courier(path).begin()
    out, log = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode in (1, 2) and out == b""
    assert said in log.decode() and "Traceback" not in log.decode() and "geheim" not in log.decode()
