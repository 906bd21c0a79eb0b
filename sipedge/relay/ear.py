"""An ear in the place of the other leg: what a leg says is listened to for keys instead of being sent on."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from recordings.keytones import BLOCK, SURE, key_in
from sipedge.media import g711
from sipedge.media.g711 import FRAME, RATE
from sipedge.media.telephone_events import Pressed

if TYPE_CHECKING:
    from sipedge.media.plane import CodecName, Terms
    from sipedge.relay.streams import Leg


class Ear:
    """Keeps what `streams.Leg._read` writes to the leg that hears, and sends nowhere: the packet path knows no ears."""

    def __init__(self, leg: Leg, heard: Callable[[Pressed], None]) -> None:
        self.leg = leg
        self.audio_out = 0
        self.events_out: int | None = None
        self.ssrc = self.sent = self.octets = 0
        self.out_sequence = self.out_timestamp = self.out_at = 0
        self._detector = Detector()
        self._heard = heard

    @property
    def terms(self) -> Terms | None:
        """As the leg's own: what it says is not coded anew."""
        return self.leg.terms

    def next_timestamp(self, now: int) -> int:
        return now

    def _push(self, second: int, sequence: int, timestamp: int, payload: bytes, now: int) -> None:
        """Key presses by RFC 4733 are told by the leg itself."""

    def _send(self, packet: memoryview | bytes) -> int:
        terms = self.leg.terms
        if terms is not None:
            for key in self._detector.hear(terms.codec, bytes(packet[12:])):
                self._heard(Pressed(key, SURE * FRAME / RATE))
        return len(packet)


class Detector:
    """Hears one stream of G.711; `hear` gives each key once. Tones of 60 ms and more are always heard; a key is over
    when two blocks do not hold it."""

    def __init__(self) -> None:
        self._samples = array("h")
        self._key = ""  # told, and still held
        self._candidate = ""
        self._seen = 0

    def hear(self, codec: CodecName, coded: bytes) -> str:
        """Takes the next packet's payload; the keys that became sure with it."""
        self._samples.frombytes(g711.decode(codec, coded))
        found = ""
        while len(self._samples) >= BLOCK:
            found += self._take(key_in(self._samples[:BLOCK]))
            del self._samples[:BLOCK]
        return found

    def _take(self, key: str) -> str:
        if key == self._candidate:
            self._seen += 1
        else:
            self._candidate, self._seen = key, 1
        if self._seen < SURE or key == self._key:
            return ""
        self._key = key
        return key
