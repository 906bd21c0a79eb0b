"""One call in the relay: two legs (or one), what plays to them, whether they hear each other, what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from sipedge.media.plane import (
    Closed,
    Digit,
    Event,
    MediaBack,
    MediaSilent,
    PlayFinished,
    Recorded,
    RecordingFailed,
    Terms,
)
from sipedge.media.plane import Leg as LegNumber
from sipedge.media.telephone_events import Pressed
from sipedge.relay.background import Job
from sipedge.relay.ear import Ear
from sipedge.relay.loop import SECOND, Loop
from sipedge.relay.prompts import Emit, Frames, Player
from sipedge.relay.streams import Leg
from sipedge.relay.tap import Tap

KEYS: Final = "keys"  # what plays while keys are pressed
NUMBERS: Final[tuple[LegNumber, LegNumber]] = (1, 2)


@dataclass(slots=True)
class Playing:
    """What plays to a leg."""

    play: int
    asset: str
    player: Player | None = None
    began: int = 0


class Call:
    """A call; `tell` brings its events to whoever owns it."""

    def __init__(
        self, id: str, loop: Loop, legs: list[Leg], silent_after: float, tell: Callable[[Event], None]
    ) -> None:
        self.id = id
        self.legs = legs
        self.tell = tell
        self.tap: Tap | None = None
        self.bridged_at: int | None = None
        self.paused = False  # the recording
        self._loop = loop
        self._silent_after = int(silent_after * SECOND)
        self._told_silent = [False for _ in legs]
        self._playing: dict[LegNumber, Playing] = {}
        self._ears: dict[LegNumber, Ear] = {}
        for leg in legs:
            leg.on_digit = self._digit_teller(leg.number)

    def leg(self, number: LegNumber) -> Leg | None:
        """A leg by its number, None when it was not opened."""
        return self.legs[number - 1] if number <= len(self.legs) else None

    # ---- who hears whom ----

    def connect(self, leg: Leg, terms: Terms) -> None:
        """Gives a leg its peer. Raises `OSError`."""
        if leg.terms is not None and leg.terms.codec != terms.codec:
            self.stop(leg.number, self._loop.now)  # its frames are coded for the old codec
        try:
            leg.connect(terms)
        finally:
            self._route()

    def bridge(self, now: int) -> None:
        """Lets the legs hear each other; stops prompts; a begun recording keeps audio."""
        for number in NUMBERS:
            self.stop(number, now)
        if self.bridged_at is None:
            self.bridged_at = now
        if self.tap is not None:
            self.tap.keep(now)
        self._route()

    def listen(self, leg: Leg) -> None:
        """Hears keys in what the leg says, until the legs hear each other."""
        self._ears[leg.number] = Ear(leg, self._digit_teller(leg.number, "tone"))
        self._route()

    def _route(self) -> None:
        for leg in self.legs:
            other = self.legs[-leg.number]  # of two legs the other one, of one leg itself
            hears = (
                self.bridged_at is not None
                and other is not leg
                and leg.may_receive
                and other.may_send
                and other.number not in self._playing
            )
            leg.hears = other if hears else None if self.bridged_at is not None else self._ears.get(leg.number)
            kept = self.tap is not None and self.tap.kept_at is not None and not self.paused
            leg.track = self.tap.tracks[leg.number - 1] if self.tap is not None and kept else None

    # ---- prompts ----

    def play(self, leg: Leg, play: int, asset: str, frames: Frames, repeat: bool, emit: Emit | None = None) -> None:
        """Plays frames to a leg instead of anything else it would hear."""
        now = self._loop.now
        self.stop(leg.number, now)
        playing = self._playing[leg.number] = Playing(play, asset, began=now)
        self._route()

        def finished(whole: bool, at: int) -> None:
            if self._playing.get(leg.number) is playing:
                del self._playing[leg.number]
            self._route()
            tap = self.tap
            self.tell(
                PlayFinished(
                    call=self.id,
                    leg=leg.number,
                    play=play,
                    asset=asset,
                    whole=whole,
                    at=None if tap is None else (playing.began - tap.began) / SECOND,
                    to=None if tap is None else (at - tap.began) / SECOND,
                )
            )

        playing.player = Player(self._loop, leg, frames, repeat, finished, emit)

    def press(self, leg: Leg, plays: Iterator[int], payloads: list[bytes]) -> int:
        """Presses a key for a leg to hear, after those that still are; the number it plays under."""
        playing = self._playing.get(leg.number)
        if playing is not None and playing.asset == KEYS and playing.player is not None:
            playing.player.add(payloads)
            return playing.play
        play = next(plays)
        self.play(leg, play, KEYS, payloads, False, leg.press)
        return play

    def stop(self, number: LegNumber, now: int) -> None:
        """Stops what plays to a leg."""
        playing = self._playing.get(number)
        if playing is not None and playing.player is not None:
            playing.player.stop(now)

    # ---- recording ----

    def record(self, tap: Tap) -> None:
        """Begins a recording."""
        self.tap, self.paused = tap, False

    def keep(self, now: int) -> None:
        """The recording keeps audio from now on."""
        self.paused = False
        if self.tap is not None:
            self.tap.keep(now)
        self._route()

    def pause(self) -> None:
        """The recording keeps nothing from now on, which is silence in it."""
        self.paused = True
        self._route()

    def end(self, now: int) -> Recorded | None:
        """Ends the recording; None when there is none."""
        tap, self.tap = self.tap, None
        self._route()
        return None if tap is None else tap.end(now)

    def recording_failed(self, recording: str, detail: str) -> None:
        """The disk refused; the call goes on."""
        self.tell(RecordingFailed(self.id, recording, detail))

    # ---- once a while ----

    def often(self, now: int) -> None:
        """Every 200 ms: keys whose end was lost."""
        for leg in self.legs:
            leg.lapse(now)

    def flush(self) -> list[Job]:
        """Every 800 ms: audio for the writer."""
        return [] if self.tap is None else self.tap.flush()

    def refresh(self, now: int) -> None:
        """Every second: budgets, and whether somebody fell silent; who is back is told first."""
        fell_silent: list[MediaSilent] = []
        for leg in self.legs:
            leg.refresh(now)
            silent = now - leg.heard_at
            index = leg.number - 1
            told, self._told_silent[index] = self._told_silent[index], silent >= self._silent_after and leg.may_receive
            if told and not self._told_silent[index]:
                self.tell(MediaBack(self.id, leg.number))
            elif self._told_silent[index] and not told:
                fell_silent.append(MediaSilent(self.id, leg.number, silent / SECOND))
        for event in fell_silent:
            self.tell(event)

    def report(self, now: int, wall: float) -> None:
        """Every five seconds: our RTCP."""
        for leg in self.legs:
            leg.report(now, wall)

    def _digit_teller(self, number: LegNumber, way: Literal["event", "tone"] = "event") -> Callable[[Pressed], None]:
        return lambda pressed: self.tell(Digit(self.id, number, pressed.digit, pressed.seconds, way))

    # ---- the end ----

    def close(self, now: int) -> Closed:
        """Ends everything and closes the sockets."""
        for number in NUMBERS:
            self.stop(number, now)
        recorded = self.end(now)
        bridged = 0.0 if self.bridged_at is None else (now - self.bridged_at) / SECOND
        self.bridged_at = None
        statistics = tuple(leg.statistics() for leg in self.legs)
        self._ears.clear()
        for leg in self.legs:
            leg.close()
            leg.on_digit = _nobody
        return Closed(self.id, statistics, recorded, bridged)


def _nobody(pressed: Pressed) -> None:
    """A closed call tells nobody."""
