"""A real edge in the test's own event loop, on a real Redis, with the real relay as a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from masking import interactions, locks, opening, services, sessions
from masking.access import SCOPES, Access
from masking.config import (
    Config,
    Listener,
    MediaSection,
    RedisSection,
    ServiceSection,
    SipSection,
    StirSection,
    TenantSection,
    TrunkSection,
    WebhooksSection,
)
from masking.consent import EVERYWHERE, ConsentPolicy
from masking.house import House, open_house
from masking.interactions import Interaction
from masking.services import ServiceChange
from masking.sessions import NewParticipant, NewSession, Session
from pools.inventory import Item
from sipedge.edge import Edge
from sipedge.media import spoken
from sipedge.media.spoken import Asset
from tests.edge.phones import Address, Phone
from tests.recordings.phones import LOCK

CUSTOMER, DRIVER, STRANGER = "+84901234567", "+84907654321", "+84912345678"
X = [f"+8424710000{n:02}" for n in range(1, 9)]
ACCESS = Access("default", "key_test", frozenset(SCOPES))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edge")
    (path / "run").mkdir()
    (path / "spool").mkdir()
    return path


def free_range(size: int) -> str:
    """Media ports nobody uses now."""
    dice = random.Random(os.getpid())
    for _ in range(50):
        first = dice.randrange(20_000, 60_000, 2)
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + size):
                    sock = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return f"{first}-{first + size - 1}"
    raise AssertionError("no free ports")


class RelayProcess:
    """`python -m sipedge.relay`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ports = free_range(600)  # a port rests after its call
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "sipedge.relay", "--socket", str(self.path), "--ports", self.ports]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert b"ready" in self.process.stdout.readline()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="session")
def relay(data_dir: Path) -> Iterator[RelayProcess]:
    process = RelayProcess(data_dir / "run" / "relay.sock")
    process.start()
    yield process
    process.kill()


class Place:
    """An edge, its house, and the phones around it."""

    def __init__(self, edge: Edge, house: House, address: Address, config: Config) -> None:
        self.edge = edge
        self.house = house
        self.address = address
        self.config = config

    async def numbers(self, *numbers: str, trunk: str = "", country: str = "VN", service: str = "default") -> None:
        held_by = (await services.get(self.house, "default", service)).id
        await self.house.inventory.add("default", held_by, [Item(number, country, trunk) for number in numbers])

    async def session(self, *people: str, **more: Any) -> Session:
        return await self.open_session([NewParticipant(identifier=number) for number in people], **more)

    async def open_session(self, people: list[NewParticipant], **more: Any) -> Session:
        new = NewSession(participants=people, **({"record": "never"} | more))
        return (await opening.open_session(self.house, ACCESS, new))[0]

    async def interaction(self, session: str, seconds: float = 3.0) -> Interaction:
        """The session's last interaction, once it has ended."""
        async with asyncio.timeout(seconds):
            while True:
                found = interactions.fold(await sessions.timeline(self.house, ACCESS, session))
                if found and found[-1].ended_at is not None:
                    return found[-1]
                await asyncio.sleep(0.01)

    async def idle(self, seconds: float = 3.0) -> None:
        """No call is up and everything is told."""
        async with asyncio.timeout(seconds):
            while self.edge.exchange.calls or self.edge.exchange.facts.untold:
                await asyncio.sleep(0.01)


def trunk(name: str, *phones: Phone, uri: Phone | None = None, to: str = "", **more: Any) -> TrunkSection:
    """A trunk whose only sources are these phones, and whose calls go to the first (or to `uri`, or as `to` says)."""
    target = uri or (phones[0] if phones else None)
    values: dict[str, Any] = {
        "name": name,
        "carrier": "carrier",
        "uri": to or (f"sip:{target.address[0]}:{target.address[1]};transport=udp" if target is not None else ""),
        "sources": [f"{phone.address[0]}:{phone.address[1]}" for phone in phones],
        "country": "VN",
        "options_ping": 0,
    }
    return TrunkSection(**(values | more))


Opener = Callable[..., Awaitable[Place]]
Make = Callable[..., Phone]


class Scene:
    """A session between two phones behind two trunks of one carrier; the numbers leave by the callee's."""

    def __init__(self, place: Place, caller: Phone, callee: Phone, session: Session) -> None:
        self.place = place
        self.caller = caller
        self.callee = callee
        self.session = session.id
        self.dialled = session.participants[0].proxies[0].number
        self.shown = session.participants[1].proxies[0].number

    def call(self, **more: Any) -> str:
        return self.caller.call(self.place.address, self.dialled, **more)

    async def interaction(self) -> Interaction:
        return await self.place.interaction(self.session)

    async def event(self, kind: str, seconds: float = 3.0) -> dict[str, Any]:
        """The data of the session's last event of that type, once there is one."""
        async with asyncio.timeout(seconds):
            while True:
                found = [e for e in await sessions.timeline(self.place.house, ACCESS, self.session) if e.type == kind]
                if found:
                    return found[-1].data
                await asyncio.sleep(0.01)

    async def bridged(self) -> None:
        async with asyncio.timeout(5.0):
            while not any(call.state == "bridged" for call in self.place.edge.exchange.calls.values()):
                await asyncio.sleep(0.01)


Stage = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def open_edge(redis_url: str, relay: RelayProcess, data_dir: Path) -> AsyncIterator[Opener]:
    """Opens an edge with these trunks; closed after the test, when it must have nothing left."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_(
            *trunks: TrunkSection,
            listen: tuple[str, ...] = ("udp",),
            host: str = "127.0.0.1",
            media: dict[str, Any] | None = None,
            stir: StirSection | None = None,
            tenants: tuple[TenantSection, ...] = (),
            **sip: Any,
        ) -> Place:
            config = Config(
                service=ServiceSection(data_dir=str(data_dir)),
                redis=RedisSection(url=redis_url),
                media=MediaSection(ports=relay.ports, **(media or {})),
                sip=SipSection(**sip),
                stir=stir or StirSection(),
                webhooks=WebhooksSection(allow_private=True),
                trunk=list(trunks),
                tenant=list(tenants),
            )
            house = await stack.enter_async_context(
                open_house(config, now=time.time, random=os.urandom, archive=False, budget=1.0)
            )
            await locks.tell(house, "default", locks.Lock("k1", LOCK.public))
            owner = f"edge-test.{os.getpid()}.{os.urandom(4).hex()}"
            edge = Edge(house, random=random.Random(7), owner=owner, is_gone=lambda owner: "gone" in owner)
            listeners = [Listener(kind, host, 0) for kind in listen]  # type: ignore[arg-type]
            bound = await stack.enter_async_context(edge.running(listeners, drain=0.0))
            return Place(edge, house, (bound[0].host, bound[0].port), config)

        yield open_


@pytest.fixture
async def phones() -> AsyncIterator[Callable[[str], Phone]]:
    """Makes phones, closed after the test."""
    made: list[Phone] = []

    def make(number: str, host: str = "127.0.0.1") -> Phone:
        made.append(Phone(number, host))
        return made[-1]

    yield make
    for phone in made:
        phone.close()


@pytest.fixture
async def stage(open_edge: Opener, phones: Callable[[str], Phone]) -> AsyncIterator[Stage]:
    """Sets a `Scene`; after the test no call, no leg and no trunk's place may be left over."""
    scenes: list[Scene] = []

    async def set_(
        languages: tuple[str | None, str | None] = (None, None),
        media: dict[str, Any] | None = None,
        policy: ConsentPolicy = EVERYWHERE,
        **session: Any,
    ) -> Scene:
        caller, callee = phones(CUSTOMER), phones(DRIVER)
        place = await open_edge(trunk("callers", caller), trunk("callees", callee), media=media)
        await place.numbers(*X[:2], trunk="callees")
        await services.change(place.house, "default", "default", ServiceChange(consent_policy=policy))
        people = [
            NewParticipant(identifier=number, role=f"r{index}", language=languages[index])
            for index, number in enumerate((CUSTOMER, DRIVER))
        ]
        scenes.append(Scene(place, caller, callee, await place.open_session(people, **session)))
        return scenes[-1]

    yield set_
    for scene in scenes:
        for call in list(scene.place.edge.exchange.calls.values()):
            call.leave()
        await scene.place.idle()
        assert [trunk.calls for trunk in scene.place.edge.trunks.trunks] == [0, 0]


@pytest.fixture(autouse=True)
def short_voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sentence takes 0.3 s; how long the real ones are is the voices' own test."""
    path = tmp_path / "short.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\x00\x10" * 2400)
    for key, asset in spoken.ASSETS.items():
        short = Asset(asset.id, path, asset.text, asset.sha256, 0.3)
        monkeypatch.setitem(spoken.ASSETS, key, short)
