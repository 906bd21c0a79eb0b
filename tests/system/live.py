"""A call that is up, with speech both ways, for as long as a judge wants it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from tests.system.service import Person, Service, eventually
from tests.system.sipp import (
    PCMA,
    Phones,
    Sipp,
    accepts,
    ack,
    answers,
    bye,
    hears,
    invite,
    is_asked,
    trying,
    waits,
)


class Voice:
    """One end's RTP: a packet of `sound` every 20 ms from `open` on, and the times at which packets came."""

    def __init__(self, address: str, sound: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.settimeout(0.005)
        self._payload = bytes([sound]) * 160
        self._target: tuple[str, int] | None = None
        self._done = threading.Event()
        self.heard: list[tuple[float, bytes]] = []
        self._thread = threading.Thread(target=self._talk, daemon=True)

    @property
    def sdp(self) -> str:
        return PCMA.replace("[media_port]", str(self._socket.getsockname()[1]))

    def sdp_of(self, host: str) -> str:
        """Its description in plain text, for phones that are not SIPp."""
        return self.sdp.replace("[media_ip]", host).replace("\n", "\r\n")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()

    def open(self, sdp: str) -> None:
        """Talks to where that SDP of the other side points."""
        lines = sdp.splitlines()
        host = next(line.split()[-1] for line in lines if line.startswith("c="))
        self._target = host, int(next(line.split()[1] for line in lines if line.startswith("m=audio")))

    def _talk(self) -> None:
        number, due = 0, time.monotonic()
        while not self._done.is_set():
            try:
                self.heard.append((time.monotonic(), self._socket.recv(2048)))
            except (TimeoutError, ConnectionError):
                pass  # nothing yet; or the port we send to is closed, which is the judge's business, not the phone's
            if time.monotonic() >= due:
                due += 0.02
                if self._target:
                    head = struct.pack("!BBHII", 0x80, 8, number & 0xFFFF, 160 * number & 0xFFFFFFFF, 0xB0B0)
                    number += 1
                    try:
                        self._socket.sendto(head + self._payload, self._target)
                    except ConnectionError:
                        continue

    def times_of(self, sound: int) -> list[float]:
        """When packets of that sound came."""
        return [at for at, packet in list(self.heard) if packet[12:].count(sound) > 150]

    def longest_pause(self, sound: int, since: float) -> float:
        """The longest time without such a packet from `since` until now."""
        times = [since, *(at for at in self.times_of(sound) if at > since), time.monotonic()]
        return max(b - a for a, b in zip(times, times[1:], strict=False))


CUSTOMERS_SOUND, DRIVERS_SOUND = 0x15, 0x35


@dataclass
class LiveCall:
    """A call between a customer and a driver, both talking."""

    session: dict[str, Any]
    caller: Sipp
    callee: Sipp
    caller_voice: Voice
    callee_voice: Voice

    def bridged(self, within: float = 9.0) -> None:
        """Waits until each hears the other: the notice is over."""
        eventually(lambda: len(self.callee_voice.times_of(CUSTOMERS_SOUND)) > 25, within, "the customer's voice")
        eventually(lambda: len(self.caller_voice.times_of(DRIVERS_SOUND)) > 25, within, "the driver's voice")

    def ended(self, within: float = 20.0) -> None:
        """Waits until both phones have told their stories well."""
        self.caller.finish(within)
        self.callee.finish(within)


@contextmanager
def live_call(
    service: Service, phones: Phones, *, seconds: float = 60.0, session: dict[str, Any] | None = None,
    people: tuple[Person, Person] | None = None, **fields: Any,
) -> Iterator[LiveCall]:  # fmt: skip
    """A call up for `seconds`; the caller then hangs up. `fields`: of the session opened unless one is given."""
    place = service.place
    if people is None:
        people = service.person("customer", place.caller), service.person("driver", place.callee)
    session = session or service.open_session(*people, **fields)
    dialled = session["participants"][0]["proxies"][0]["number"]
    with Voice(place.caller, CUSTOMERS_SOUND) as customer, Voice(place.callee, DRIVERS_SOUND) as driver:
        rings = [is_asked("INVITE"), answers("180 Ringing"), answers("200 OK", driver.sdp, options='retrans="500"'),
                 is_asked("ACK"), is_asked("BYE", within=120_000), accepts()]  # fmt: skip
        talks = [
            invite(customer.sdp),
            trying(),
            hears(180),
            hears(200),
            ack(),
            waits(round(seconds * 1000)),
            bye(),
            hears(200),
        ]
        with (
            phones.waits_for_call(place.callee, *rings) as callee,
            phones.calls(dialled, place.caller, people[0].number, *talks) as caller,
        ):
            answer = eventually(lambda: caller.received("SIP/2.0 200"), 8, "the callee's answer")[0]
            customer.open(answer.body)
            driver.open(callee.received("INVITE")[0].body)
            yield LiveCall(session, caller, callee, customer, driver)
