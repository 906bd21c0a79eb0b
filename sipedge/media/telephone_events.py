"""Key presses on the wire (RFC 4733): many packets of one event become one digit, and one digit many packets."""

from __future__ import annotations

from typing import Final

import msgspec

KEYS: Final = "0123456789*#ABCD"
LAPSE: Final = 0.25  # seconds without a packet after which an event whose end was lost has ended
RATE: Final = 8000


class Pressed(msgspec.Struct, frozen=True):
    """One key, told once; `seconds` it was held."""

    digit: str
    seconds: float


class Receiver:
    """Hears the events of one leg. Repeated end packets, lost ends and reordering make no second digit.

    An event is known by its RTP timestamp (RFC 4733 2.2.1); it ends by its E bit, by the next event, or by `lapse`.
    """

    __slots__ = ("_digit", "_ended", "_heard", "_held", "_timestamp")

    def __init__(self) -> None:
        self._timestamp: int | None = None
        self._digit = ""
        self._held = 0
        self._heard = 0.0
        self._ended = True

    def receive(self, timestamp: int, payload: bytes, now: float) -> list[Pressed]:
        """Takes one packet's payload; keys that ended by it. A payload that is no event is ignored."""
        if len(payload) < 4 or payload[0] >= len(KEYS):
            return []
        digit, last, held = KEYS[payload[0]], payload[1] >= 0x80, int.from_bytes(payload[2:4], "big")
        pressed: list[Pressed] = []
        if timestamp != self._timestamp:
            if self._timestamp is not None and timestamp - self._timestamp & 0x80000000:
                return []  # a late packet of an event told long ago
            pressed = self._end()
            self._timestamp, self._digit, self._held, self._ended = timestamp, digit, held, False
        self._heard = now
        self._held = max(self._held, held)
        return pressed + self._end() if last else pressed

    def lapse(self, now: float) -> list[Pressed]:
        """The key whose end packets were all lost, once no packet of it came for `LAPSE` seconds."""
        return self._end() if not self._ended and now - self._heard >= LAPSE else []

    def _end(self) -> list[Pressed]:
        if self._ended:
            return []
        self._ended = True
        return [Pressed(self._digit, self._held / RATE)]


def told(content_type: str, body: bytes) -> str | None:
    """The key that an INFO tells of (`application/dtmf-relay`, `application/dtmf`); None when it tells of none."""
    if content_type == "application/dtmf":
        signal = body.strip()
    elif content_type == "application/dtmf-relay":
        rows = (row.partition(b"=") for row in body.splitlines())
        signal = next((value.strip() for name, _, value in rows if name.strip().lower() == b"signal"), b"")
    else:
        return None
    named = {b"10": "*", b"11": "#"}.get(signal, signal.decode("ascii", "replace").upper())
    return named if len(named) == 1 and named in KEYS else None


def packets(digit: str, frames: int = 8, volume: int = 10) -> list[bytes]:
    """The payloads of one key press, one per 20 ms and three ends (RFC 4733 2.5.1.4).

    All carry one RTP timestamp; the first packet has the marker bit. `frames`: how long, in 20 ms. Raises `ValueError`
    for what is no key.
    """
    event = KEYS.index(digit.upper()) if len(digit) == 1 else -1
    if event < 0 or frames < 1:
        raise ValueError("not a key")
    payloads = [bytes((event, volume)) + (160 * frame).to_bytes(2, "big") for frame in range(1, frames + 1)]
    end = bytes((event, 0x80 | volume)) + (160 * frames).to_bytes(2, "big")
    return payloads + [end] * 3
