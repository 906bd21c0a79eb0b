"""The recording tap: audio is copied by the packet path, collected for 400 ms, written by a thread.

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
from sipedge.media.plane import Recorded
from sipedge.relay.background import Background, Job
from sipedge.relay.loop import SECOND

CALL_BOUND: Final = 2_000  # packets of one call that may wait for the disk: 20 s of both channels
BOUND: Final = 100_000  # packets of all calls: about 25 MB


TAPE: Final = 8_192  # bytes of a channel between two flushes: 44 packets of 20 ms, more turn it over early
STAMPS: Final = tuple(struct.Struct(f"{STAMP.format}{size}s").pack_into for size in range(1_501))
"""By the size of a packet: writes (tape, offset, came, size, buffer that begins with the packet)."""

Batch: TypeAlias = tuple[int, bytes]  # channel, tape


class Track:
    """One channel between two flushes, on a tape that is used over and over: a packet's own few bytes are all the
    memory that recording it touches."""

    __slots__ = ("at", "count", "full", "lost", "lost_since", "tape")

    def __init__(self) -> None:
        self.tape = bytearray(TAPE + STAMP.size + len(STAMPS))
        self.at = 0  # where the next packet goes; never beyond TAPE
        self.count = 0
        self.full: list[bytes] = []
        self.lost = 0
        self.lost_since = 0

    def take(self) -> tuple[int, bytes]:
        """How many packets came since this was last asked, and their tape."""
        self.turn()
        taken = self.count, self.full[0] if len(self.full) == 1 else b"".join(self.full)
        self.count, self.full = 0, []
        return taken

    def turn(self) -> None:
        """Begins at the front again."""
        self.full.append(bytes(memoryview(self.tape)[: self.at]))
        self.at = 0


class Backlog:
    """Packets of all calls: given by the loop's thread, written (or lost) by the writer's. One thread per counter."""

    __slots__ = ("given", "written")

    def __init__(self) -> None:
        self.given = 0
        self.written = 0


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
        done: Callable[[str | None], None],
    ) -> None:
        """Begins the capture; `done(None)`, or `done(why not)`."""
        try:
            self._capture = Capture.create(directory, recording, channels, started_at)
        except (OSError, ValueError) as error:
            done(_reason(error))
        else:
            done(None)

    def append(self, began: int, batches: Sequence[Batch], count: int) -> None:
        """Writes batches of `count` packets; a disk that refuses costs them, and gaps are noted when it takes again."""
        if not self._try(lambda capture: capture.append_tapes(began, batches)):
            self.failed += count
            for channel, tape in batches:
                came = [at - began for at, _ in on_tape(memoryview(tape))]
                self.gap(channel, came[0], came[-1], len(came))
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
        self.tracks = (Track(), Track())
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
            count, tape = track.take()
            if not self._room(taken + count):
                if not track.lost:
                    track.lost_since = self._first(tape)
                track.lost += count
                self.dropped += count
                continue
            if track.lost:
                jobs.append(partial(spool.gap, channel, track.lost_since, self._first(tape), track.lost))
                track.lost = 0
            taken += count
            batches.append((channel, tape))
        if batches:
            self._given += taken
            self._backlog.given += taken
            self.packets += taken
            jobs.append(partial(spool.append, began, batches, taken))
        return jobs

    def _first(self, tape: bytes) -> int:
        """When the first packet of a tape came, since the recording began."""
        came: int = STAMP.unpack_from(tape)[0]
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
