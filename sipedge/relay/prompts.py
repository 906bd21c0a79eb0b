"""What the relay says itself: WAV files and ring-back tones, one 20 ms frame at a time, by the loop's clock."""

from __future__ import annotations

import wave
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from sipedge.media import g711, tones
from sipedge.media.plane import CodecName
from sipedge.relay.loop import Loop, Timer
from sipedge.relay.streams import FRAME_NS, Leg

MAX_SECONDS: Final = 600
_CACHED: Final = 256
_BEHIND: Final = 10 * FRAME_NS  # a loop that was held up longer does not catch up in a burst

Frames: TypeAlias = Sequence[bytes]


class Emit(Protocol):
    """Sends one frame; `first`: it begins after a pause."""

    def __call__(self, payload: bytes, now: int, *, first: bool = False) -> None: ...


class BadWave(ValueError):
    """Not a WAV file of 8 kHz 16-bit mono, missing, empty, or over `MAX_SECONDS`. The text holds no path."""


def read_wave(path: str) -> bytes:
    """The PCM of an asset. Raises `BadWave`. Blocks on the disk."""
    try:
        with wave.open(path, "rb") as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, g711.RATE):
                raise BadWave("not 8 kHz 16-bit mono")
            if not 0 < file.getnframes() <= MAX_SECONDS * g711.RATE:
                raise BadWave("empty or too long")
            return file.readframes(file.getnframes())
    except (OSError, wave.Error, EOFError, ValueError) as error:
        if isinstance(error, BadWave):
            raise
        raise BadWave("no readable WAV file") from None


def frames_of(pcm: bytes, codec: CodecName) -> Frames:
    """Coded frames of 20 ms; the last one is filled with silence."""
    coded = g711.encode(codec, pcm)
    coded += bytes((g711.SILENCE[codec],)) * (-len(coded) % g711.FRAME)
    return [coded[at : at + g711.FRAME] for at in range(0, len(coded), g711.FRAME)]


class Assets:
    """Coded prompts, the ones last used at hand. `find` never blocks; `load` does, so a background thread calls it."""

    def __init__(self) -> None:
        self._cache: OrderedDict[tuple[str, CodecName], Frames] = OrderedDict()

    def find(self, asset: str, codec: CodecName) -> Frames | None:
        """The frames of an asset that was loaded before."""
        frames = self._cache.get((asset, codec))
        if frames is not None:
            self._cache.move_to_end((asset, codec))
        return frames

    def add(self, asset: str, codec: CodecName, frames: Frames) -> None:
        """Keeps an asset; the one unused longest makes room."""
        self._cache[asset, codec] = frames
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)

    @staticmethod
    def load(asset: str, codec: CodecName) -> Frames:
        """Reads and codes a file. Raises `BadWave`."""
        return frames_of(read_wave(asset), codec)

    @staticmethod
    def ring_back(country: str, codec: CodecName) -> Frames:
        """One cycle of a country's ring-back tone."""
        return frames_of(tones.ring_back(country), codec)

    @staticmethod
    def warning(asset: str, codec: CodecName) -> Frames:
        """The pips that say a call's time runs out."""
        return frames_of(tones.warning(), codec)

    @staticmethod
    def confirmation(asset: str, codec: CodecName) -> Frames:
        """The pip that says that what was keyed was taken."""
        return frames_of(tones.confirmation(), codec)


class Player:
    """Plays frames to one leg; `finished(whole, now)` is called once, however it ends. `emit`: how a frame leaves, by
    default as audio."""

    def __init__(
        self, loop: Loop, leg: Leg, frames: Frames, repeat: bool, finished: Callable[[bool, int], None],
        emit: Emit | None = None,
    ) -> None:  # fmt: skip
        self.began = loop.now
        self._loop = loop
        self._leg = leg
        self._frames = frames
        self._repeat = repeat
        self._finished = finished
        self._emit = emit or leg.emit
        self._at = 0
        self._due = loop.now
        self._timer: Timer | None = None
        self._first = True
        self._play(loop.now)

    def _play(self, now: int) -> None:
        if self._at == len(self._frames):
            if not self._repeat:
                self._end(True, now)
                return
            self._at = 0
        if self._leg.may_send:
            self._emit(self._frames[self._at], now, first=self._first)
            self._first = False
        self._at += 1
        self._due += FRAME_NS
        if now - self._due > _BEHIND:
            self._due = now
        self._timer = self._loop.call_at(self._due, self._play)

    def add(self, frames: Frames) -> None:
        """Plays these too, once it is through with what it has."""
        self._frames = [*self._frames, *frames]

    def stop(self, now: int) -> None:
        """Ends it before its end."""
        if self._timer is not None:
            self._timer.cancel()
        self._end(False, now)

    def _end(self, whole: bool, now: int) -> None:
        finished, self._finished = self._finished, _already
        finished(whole, now)


def _already(whole: bool, now: int) -> None:
    """A player ends once."""
