"""The recording tap: audio is copied by the packet path, collected for 800 ms, written by a thread.

A packet is copied once, onto its channel's tape; a tape goes to the writer as it is and comes back to be used again.
The relay never waits for a disk: what the writer has not taken when a bound is reached is dropped, counted, and named
in the capture as a gap. Each job runs on the writer's thread, in the order given; `Spool` is that thread's side of a
recording, `Tap` the loop's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from recordings.capture import STAMP, Capture, on_tape
from recordings.seals import Lock
from sipedge.media.plane import Recorded
from sipedge.relay.background import Background, Job
from sipedge.relay.loop import SECOND

CALL_BOUND: Final = 2_000  # packets of one call that may wait for the disk: 20 s of both channels
BOUND: Final = 100_000  # packets of all calls: about 25 MB
TAPE: Final = 8_192  # bytes of a channel between two flushes: 44 packets of 20 ms, more turn it over early
LITTLE: Final = TAPE // 4  # bytes that are copied, so that a tape that waits for the disk is mostly full
SPARE: Final = 2_048  # tapes that are kept to be used again: 20 MB
STAMPS: Final = tuple(struct.Struct(f"{STAMP.format}{size}s").pack_into for size in range(1_501))
"""By the size of a packet: writes (tape, offset, came, size, buffer that begins with the packet)."""

Batch: TypeAlias = tuple[int, memoryview]  # channel, what a tape holds


class Tapes:
    """Tapes that nobody uses. The loop's thread takes them, the writer's gives them back: one step each, so that no
    lock is needed."""

    def __init__(self) -> None:
        self._spare: list[bytearray] = []

    def __len__(self) -> int:
        return len(self._spare)

    def take(self) -> bytearray:
        """A tape, whatever stands on it."""
        return self._spare.pop() if self._spare else bytearray(TAPE + STAMP.size + len(STAMPS))

    def give(self, held: memoryview) -> None:
        """The tape behind what was written; copies are nothing to keep."""
        if isinstance(held.obj, bytearray) and len(self._spare) < SPARE:
            self._spare.append(held.obj)


class Track:
    """One channel between two flushes: a packet's own few bytes are all the memory that recording it touches."""

    __slots__ = ("_tapes", "at", "count", "full", "lost", "lost_since", "tape")

    def __init__(self, tapes: Tapes) -> None:
        self.tape = tapes.take()
        self.at = 0  # where the next packet goes; never beyond TAPE
        self.count = 0
        self.full: list[memoryview] = []
        self.lost = 0
        self.lost_since = 0
        self._tapes = tapes

    def take(self) -> tuple[int, list[memoryview]]:
        """How many packets came since this was last asked, and their tapes."""
        self.turn()
        taken = self.count, self.full
        self.count, self.full = 0, []
        return taken

    def turn(self) -> None:
        """Begins at the front again."""
        held = memoryview(self.tape)[: self.at]
        if self.at > LITTLE:
            self.tape = self._tapes.take()
        else:
            held = memoryview(bytes(held))
        self.full.append(held)
        self.at = 0


class Backlog:
    """Packets of all calls: given by the loop's thread, written (or lost) by the writer's. One thread per counter."""

    __slots__ = ("given", "tapes", "written")

    def __init__(self) -> None:
        self.given = 0
        self.written = 0
        self.tapes = Tapes()


class Spool:
    """The writer's side of one recording. Its counts are written by the writer's thread only, and read by the loop."""

    def __init__(self, backlog: Backlog, failed: Callable[[str], None]) -> None:
        self.written = 0
        self.failed = 0
        self._backlog = backlog
        self._capture: Capture | None = None
        self._failed = failed
        self._told = False
        self._keep: int | None = None  # owed to the capture: the disk refused it, it must come before what follows
        self._gaps: dict[int, tuple[int, int, int]] = {}

    def create(
        self,
        directory: Path,
        recording: str,
        channels: Sequence[Mapping[int, str]],
        started_at: float,
        lock: Lock,
        data_key: bytes,
        done: Callable[[str | None], None],
    ) -> None:
        """Begins the capture, which the holder of the lock's private key can read; `done(None)`, or `done(why not)`."""
        try:
            self._capture = Capture.create(directory, recording, channels, started_at, lock, data_key)
        except (OSError, ValueError) as error:
            done(_reason(error))
        else:
            done(None)

    def append(self, began: int, batches: Sequence[Batch], count: int) -> None:
        """Writes batches of `count` packets; a disk that refuses costs them, and gaps are noted when it takes again."""
        if not self._try(lambda capture: capture.append_tapes(began, batches)):
            self.failed += count
            for channel, tape in batches:
                came = [at - began for at, _ in on_tape(tape)]
                self.gap(channel, came[0], came[-1], len(came))
        for _, tape in batches:
            self._backlog.tapes.give(tape)
        self.written += count
        self._backlog.written += count

    def gap(self, channel: int, since: int, until: int, count: int) -> None:
        """Notes packets that could not be kept, joined to those already owed."""
        begun, _, owed = self._gaps.get(channel, (since, until, 0))
        self._gaps[channel] = (begun, until, owed + count)

    def keep(self, at: int) -> None:
        """Audio counts from here on."""
        self._keep = at
        self._try(lambda capture: None)

    def end(self, at: int) -> None:
        """The recording's last instant."""
        if self._try(lambda capture: capture.end(at)):
            self._try(lambda capture: capture.close(at))
        if self._capture is not None:
            self._capture.abandon()
            self._capture = None

    def _try(self, write: Callable[[Capture], None]) -> bool:
        """Writes what is owed, then this; False when the disk refuses."""
        capture = self._capture
        if capture is None:
            return True
        try:
            if self._keep is not None:
                capture.keep(self._keep)
                self._keep = None
            for channel in list(self._gaps):
                capture.dropped(channel, *self._gaps[channel])
                del self._gaps[channel]
            write(capture)
        except OSError as error:
            if not self._told:
                self._told = True
                self._failed(_reason(error))
            return False
        return True


class Tap:
    """The loop's side of one recording: begins at `began`, keeps nothing until `keep`, ends once."""

    def __init__(self, recording: str, began: int, spool: Spool, writer: Background, backlog: Backlog) -> None:
        self.recording = recording
        self.began = began
        self.kept_at: int | None = None
        self.tracks = (Track(backlog.tapes), Track(backlog.tapes))
        self.packets = 0
        self.dropped = 0
        self._spool = spool
        self._writer = writer
        self._backlog = backlog
        self._given = 0

    def keep(self, now: int) -> None:
        """Audio counts from here on; once."""
        if self.kept_at is None:
            self.kept_at = now
            self._writer.do(partial(self._spool.keep, now - self.began))

    def flush(self) -> list[Job]:
        """What the writer is to do with what was collected since the last flush."""
        began, spool = self.began, self._spool
        jobs: list[Job] = []
        batches: list[Batch] = []
        taken = 0
        for channel, track in enumerate(self.tracks):
            if not track.count:
                continue
            count, tapes = track.take()
            if not self._room(taken + count):
                if not track.lost:
                    track.lost_since = self._first(tapes)
                track.lost += count
                self.dropped += count
                for tape in tapes:
                    self._backlog.tapes.give(tape)
                continue
            if track.lost:
                jobs.append(partial(spool.gap, channel, track.lost_since, self._first(tapes), track.lost))
                track.lost = 0
            taken += count
            batches += [(channel, tape) for tape in tapes]
        if batches:
            self._given += taken
            self._backlog.given += taken
            self.packets += taken
            jobs.append(partial(spool.append, began, batches, taken))
        return jobs

    def _first(self, tapes: Sequence[memoryview]) -> int:
        """When the first packet of these tapes came, since the recording began."""
        came: int = STAMP.unpack_from(tapes[0])[0]
        return came - self.began

    def _room(self, count: int) -> bool:
        """May so many more packets wait for the disk?"""
        waiting, all_waiting = self._given - self._spool.written, self._backlog.given - self._backlog.written
        return waiting + count <= CALL_BOUND and all_waiting + count <= BOUND

    def end(self, now: int) -> Recorded:
        """Ends the recording: all that was collected, then the end."""
        jobs = self.flush()
        at = now - self.began
        for channel, track in enumerate(self.tracks):
            if track.lost:
                jobs.append(partial(self._spool.gap, channel, track.lost_since, at, track.lost))
        jobs.append(partial(self._spool.end, at))
        self._writer.do(*jobs)
        return Recorded(
            recording=self.recording,
            duration=at / SECOND,
            kept_from=None if self.kept_at is None else (self.kept_at - self.began) / SECOND,
            packets=self.packets,
            dropped=self.dropped + self._spool.failed,
        )


def _reason(error: OSError | ValueError) -> str:
    """Why, without the file's name."""
    return error.strerror or "disk error" if isinstance(error, OSError) else str(error)
