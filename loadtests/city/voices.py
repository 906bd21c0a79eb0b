"""The sound of a phone: a tone out every 20 ms, and a count of how much of the other's tone came in.

Both sides speak A-law, which a relay passes on as it is, so a packet of the other's voice is known by its bytes.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Final

from loadtests.city.orders import Role
from sipedge.media import g711, rtp
from sipedge.softphone import sounds

TONES: Final[dict[Role, int]] = {"customer": 440, "driver": 660}
FRAME_SECONDS: Final = g711.FRAME / g711.RATE
LATE: Final = 5  # frames that are sent in one go after a stop
_PORT_TRIES = 64


def _frames(frequency: int) -> list[bytes]:
    """A second of a tone in packets: a whole number of its waves, so that it can be said over and over."""
    coded = g711.encode("PCMA", sounds.tone(frequency))
    return [coded[at : at + g711.FRAME] for at in range(0, len(coded), g711.FRAME)]


FRAMES: Final[dict[Role, list[bytes]]] = {role: _frames(frequency) for role, frequency in TONES.items()}
KNOWN: Final[dict[Role, frozenset[bytes]]] = {role: frozenset(frames) for role, frames in FRAMES.items()}


class Voice:
    """One phone's RTP sockets (RTP on an even port, RTCP above it) and the thread that speaks and listens."""

    def __init__(self, host: str, role: Role, ssrc: int) -> None:
        """Raises OSError when no pair of ports is free."""
        self._media, self._control = _pair(host)
        self.port = int(self._media.getsockname()[1])
        self.heard = 0  # packets of the other's tone
        self.other = 0  # notices, ring-back, silence
        self.sent = 0
        self.unsent = 0  # frames left out because this process was held up: its fault, not the service's
        self._says, self._knows = FRAMES[role], KNOWN["driver" if role == "customer" else "customer"]
        self._ssrc = ssrc
        self._remote: tuple[str, int] | None = None
        self._over = threading.Event()

    def speak_to(self, remote: tuple[str, int]) -> None:
        """Sends there from now on; later calls only change where."""
        begins = self._remote is None
        self._remote = remote
        if begins:
            threading.Thread(target=self._talk, daemon=True).start()

    def close(self) -> None:
        """Stops; the sockets are closed by the thread that uses them."""
        self._over.set()
        if self._remote is None:
            self._release()

    def _talk(self) -> None:
        began, count = time.monotonic(), 0
        while not self._over.wait(max(0.0, began + count * FRAME_SECONDS - time.monotonic())):
            late = int((time.monotonic() - began) / FRAME_SECONDS) - count
            if late > LATE:  # as a real phone does it: a gap, and no speech that is ever more behind its time
                count, self.unsent = count + late, self.unsent + late
            said = rtp.build(8, count, count * g711.FRAME, self._ssrc, self._says[count % len(self._says)])
            with suppress(OSError):
                self._media.sendto(said, self._remote or ("", 0))
                self.sent += 1
            self._listen()
            count += 1
        self._release()

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            while True:
                packet = self._media.recv(rtp.MAX_BYTES)
                if packet[rtp.HEADER_BYTES :] in self._knows:
                    self.heard += 1
                else:
                    self.other += 1

    def _release(self) -> None:
        self._media.close()
        self._control.close()


def _pair(host: str) -> tuple[socket.socket, socket.socket]:
    for _ in range(_PORT_TRIES):
        media, control = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with suppress(OSError):
            media.bind((host, 0))
            port = int(media.getsockname()[1])
            if port % 2 == 0:
                control.bind((host, port + 1))
                media.setblocking(False)
                return media, control
        media.close()
        control.close()
    raise OSError("no free pair of ports")
