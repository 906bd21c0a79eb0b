"""A carrier's worth of phones, for programs that wait: one SIP address, and as many people behind it as one likes.

    with Carrier(edge="127.0.0.1:5060", listen="127.0.0.1:5070") as carrier:      # 5070: the `uri` of a trunk
        call = carrier.phone("+84901234567").call("+842471000001")
        ringing = carrier.phone("+84907654321").answer()
        call.answered()
        ringing.say(440)
        assert call.hears(440)
        call.hang_up()

The phones (`phone`, `calls`) live on an event loop in a thread of their own; everything here may be called from any
other thread, and waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from sipedge.media.g711 import RATE
from sipedge.softphone import sounds
from sipedge.softphone.calls import Call
from sipedge.softphone.phone import Phone

T = TypeVar("T")
PATIENCE = 10.0  # seconds that whatever a person waits for may take
GLANCE = 0.3  # seconds of sound that one listens to at once


class NobodyRang(AssertionError):
    """No call came to that phone in time."""


class Carrier:
    """`edge`: where the service listens for SIP (UDP). `listen`: where it sends calls to people, the `uri` of a trunk,
    which names this address among its `sources` too; port 0 lets the kernel choose."""

    def __init__(self, edge: str, listen: str = "127.0.0.1:0") -> None:
        self.edge = edge
        host, _, port = listen.rpartition(":")
        self._phone = Phone((host, int(port)))
        self._ringing: defaultdict[str, asyncio.Queue[Call]] = defaultdict(asyncio.Queue)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="carrier", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self._phone.__aenter__())
        except OSError:
            self._end()
            raise
        self._sorting = asyncio.run_coroutine_threadsafe(self._sort(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._sorting.cancel()
        with contextlib.suppress(TimeoutError):
            self.run(self._phone.__aexit__())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        """host:port, once entered."""
        host, port = self._phone.address
        return f"{host}:{port}"

    def phone(self, number: str) -> Handset:
        """The phone of the person with that number (E.164)."""
        return Handset(self, number)

    def quiet(self) -> None:
        """Ends every call and forgets who rang."""
        self.run(self._quiet())

    async def _quiet(self) -> None:
        for call in list(self._phone.calls):
            with contextlib.suppress(TimeoutError):
                await call.hangup()
        self._ringing.clear()

    async def _sort(self) -> None:
        """Every call for somebody rings at once, as a phone does."""
        while True:
            call = await self._phone.incoming()
            await call.ring()
            self._ringing[call.dialled].put_nowait(call)

    # -- for its phones ---------------------------------------------------------------------------------------------

    def run(self, waiting: Coroutine[Any, Any, T], timeout: float = PATIENCE) -> T:
        """What came of something that is awaited on the phones' loop; TimeoutError when nothing did."""
        running = asyncio.run_coroutine_threadsafe(waiting, self._loop)
        try:
            return running.result(timeout)
        except TimeoutError:
            running.cancel()
            raise

    async def dial(self, caller: str, dialled: str) -> Call:
        return await self._phone.dial(f"sip:{dialled}@{self.edge}", caller=caller, asserted=caller)

    async def next_for(self, number: str) -> Call:
        """The next call for a person whose caller still holds."""
        while True:
            call = await self._ringing[number].get()
            if not call.ended_by:
                return call


class Handset:
    """One person's phone."""

    def __init__(self, carrier: Carrier, number: str) -> None:
        self._carrier = carrier
        self.number = number

    def call(self, dialled: str) -> Talk:
        """Dials (E.164, or as the trunk's country spells it) and returns at once: `answered` waits."""
        return Talk(self._carrier, self._carrier.run(self._carrier.dial(self.number, dialled)))

    def ringing(self, timeout: float = PATIENCE) -> Talk:
        """Waits until it rings, and does not pick up yet; NobodyRang when it does not within so many seconds."""
        try:
            return Talk(self._carrier, self._carrier.run(self._carrier.next_for(self.number), timeout))
        except TimeoutError:
            raise NobodyRang(f"no call came within {timeout:g} s") from None

    def answer(self, timeout: float = PATIENCE) -> Talk:
        """Waits until it rings, and picks up."""
        return self.ringing(timeout).pick_up()


class Talk:
    """One call, as the person at the phone has it."""

    def __init__(self, carrier: Carrier, call: Call) -> None:
        self._carrier = carrier
        self._call = call

    def __repr__(self) -> str:
        return repr(self._call)

    @property
    def shown(self) -> str:
        """The number this phone shows: who is calling. Of a call that came in."""
        return self._call.shown

    @property
    def status(self) -> int:
        """SIP's word for what came of it: 200 when it was answered; 0 while it rings."""
        return self._call.status

    @property
    def ended_by(self) -> str:
        """`us`, `peer`, or nothing while it stands."""
        return self._call.ended_by

    @property
    def setup(self) -> float:
        """Seconds from dialling to the answer."""
        return self._call.setup

    def answered(self, timeout: float = 30.0) -> Self:
        """Waits for the answer. Raises CallFailed with its `status` when it is a refusal."""
        self._carrier.run(self._call.answered(timeout), timeout + 1.0)
        return self

    def pick_up(self) -> Self:
        self._carrier.run(self._call.answer())
        return self

    def decline(self, status: int = 603) -> None:
        """Refuses it: 603 declined, 486 busy."""
        self._carrier.run(self._call.decline(status))

    def hang_up(self) -> None:
        self._carrier.run(self._call.hangup())

    def over(self, timeout: float = PATIENCE) -> Self:
        """Waits until it has ended, whoever ended it."""
        self._carrier.run(self._call.over(timeout), timeout + 1.0)
        return self

    def press(self, digits: str) -> None:
        """Presses keys."""
        self._carrier.run(self._do(lambda: self._call.press(digits)))

    def say(self, sound: int | bytes) -> None:
        """A tone of so many hertz (one of `sounds.TONES`), or PCM (16-bit mono, 8 kHz), over and over from now on."""
        pcm = sounds.tone(sound) if isinstance(sound, int) else sound
        self._carrier.run(self._do(lambda: self._call.play(pcm, loop=True)))

    @property
    def heard(self) -> bytes:
        """Everything heard so far, as PCM (16-bit mono, 8 kHz)."""
        return self._carrier.run(self._do(lambda: self._call.heard))

    def hears(self, tone: int, timeout: float = PATIENCE) -> bool:
        """Is that tone what is heard now, or within so many seconds? A recording notice comes first where there is
        one."""
        deadline = time.monotonic() + timeout
        while sounds.dominant(self.heard[-2 * round(GLANCE * RATE) :]) != tone:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    @staticmethod
    async def _do(what: Callable[[], T]) -> T:
        return what()
