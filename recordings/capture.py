"""A call's audio as it arrives: one append-only file that survives kill -9 at any byte.

The media relay writes it, from a writer thread, in batches of 800 ms; the finisher renders it after the call.

    file    = record*
    record  = length u32 · kind u8 · attempt u32 · clear · box        (little endian; length = of clear and box)
    box     = AES-256-GCM of what may not be read · tag (16 bytes)    all before it is its associated data
    BEGIN   = json {"recording", "started_at", "channels": [{"<payload type>": "PCMA"}, ...], "key", "box"} · tag
    PACKETS = channel u8 · origin i64 · box of a tape
    tape    = (came i64 · length u16 · RTP datagram)*             arrival = came - origin
    KEEP    = at i64 · tag      from here on audio is kept; everything before is silence
    DROPPED = channel u8 · since i64 · until i64 · count u32 · tag    audio that came and could not be written
    END     = at i64 · tag      the first BYE
    CLOSED  = at i64 · tag      the footer: the writer went in order, all that arrived before `at` stands above

The recording's data key is made here, stands in BEGIN sealed to its tenant (`recordings.seals`), and is forgotten with
the writer: whoever has this file, or writes it, cannot read it. A record's nonce is its number in the file and its
`attempt`, which grows whenever the disk refused one, so that none is used twice; a record that was flipped, dropped,
moved or taken from another recording does not open.

All times are nanoseconds of the relay's monotonic clock since the recording began (the caller's 200), so they may be
negative for a packet that came just before. A reader stops at the first record that is cut short or does not open, and
skips kinds it does not know, so a later version may add some. Datagrams are stored as they came: writing
one costs a copy, and everything that needs thought (order, loss, clocks) is thought about after the call.

The writer holds an exclusive flock on the file while it lives; the kernel drops it with the process, so `writer_lives`
is never wrong about a crash. Nothing is fsynced: a killed process loses nothing, a power cut loses what the kernel had
not written.

Errors: `CaptureBroken` (a ValueError) when a file has no readable BEGIN, or not one of this data key; OSError from the
disk, after which the file still ends at a whole record and the next append may succeed (count what was lost with
`dropped`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recordings.seals import TAG_SIZE, Lock, cipher, seal

G711: Final[Mapping[int, str]] = {0: "PCMU", 8: "PCMA"}
"""The static payload types of RFC 3551 table 4; a relay whose SDP agreed on these passes it for each channel."""

BEGIN, PACKETS, KEEP, DROPPED, END, CLOSED = range(1, 7)

HEAD = struct.Struct("<IBI")
TIME = struct.Struct("<q")
LOSS = struct.Struct("<BqqI")
BATCH = struct.Struct("<Bq")
NONCE = struct.Struct(">QI")
STAMP = struct.Struct("<qH")
LONGEST_RECORD = 1 << 24
LONGEST_BEGIN = 4096
PURPOSE = "capture"
SUFFIX = ".capture"

RECORDING_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


class CaptureBroken(ValueError):
    """The file is no capture, or was cut before its first record was whole: nothing in it is playable."""


class Begun(msgspec.Struct, frozen=True):
    """What was known when the recording began."""

    recording: str
    started_at: float
    channels: tuple[dict[int, str], ...]
    key: str
    box: bytes
    """The data key, sealed to the tenant's key `key`."""


class Packets(msgspec.Struct, frozen=True):
    """Datagrams of one channel in the order of their arrival."""

    channel: int
    arrivals: tuple[int, ...]
    datagrams: tuple[memoryview, ...]


class Keep(msgspec.Struct, frozen=True):
    at: int


class Dropped(msgspec.Struct, frozen=True):
    channel: int
    since: int
    until: int
    count: int


class End(msgspec.Struct, frozen=True):
    at: int


class Closed(msgspec.Struct, frozen=True):
    at: int


Record = Packets | Keep | Dropped | End | Closed


def path_of(directory: Path, recording_id: str) -> Path:
    """Where the capture of a recording lies. ValueError when the id could name anything else."""
    if not RECORDING_ID.fullmatch(recording_id):
        raise ValueError("a recording id is 1..80 letters, digits, '_' or '-'")
    return directory / (recording_id + SUFFIX)


def left_behind(directory: Path, before: float) -> list[str]:
    """The recordings whose captures nobody writes and nobody has written to since `before` (epoch seconds)."""
    old = [path for path in directory.glob("*" + SUFFIX) if path.stat().st_mtime < before]
    return sorted(path.stem for path in old if not writer_lives(path))


class Capture:
    """The writing side. Not thread-safe: one writer thread owns it. Every method may block on the disk."""

    def __init__(self, fd: int, path: Path, cipher: AESGCM) -> None:
        self.path = path
        self.size = 0
        """Bytes of whole records written so far."""
        self._fd = fd
        self._cipher = cipher
        self._records = 0
        self._attempt = 0

    @classmethod
    def create(
        cls,
        directory: Path,
        recording_id: str,
        channels: Sequence[Mapping[int, str]],
        started_at: float,
        lock: Lock,
        data_key: bytes,
    ) -> Capture:
        """Starts `<directory>/<recording_id>.capture`, making the directory when there is none.

        `channels`: for channel 0 (the caller's phone) and channel 1 (the callee's phone) the RTP payload types that are
        audio, and their codec, "PCMA" or "PCMU" (see `G711`). Other payload types are never rendered, so keypad events
        cannot be heard. `started_at`: epoch seconds of the caller's 200. `lock`: whose recording it is; `data_key`: 32
        random bytes of this recording alone. FileExistsError when the recording already has a capture.
        """
        path = path_of(directory, recording_id)
        box = seal(lock, recording_id, data_key)
        begun = Begun(recording_id, started_at, tuple(dict(types) for types in channels), lock.key, box)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The name appears once the lock is held and the head is whole: nobody ever sees a capture without its writer.
        unborn = path.with_suffix(".unborn")
        fd = os.open(unborn, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            capture = cls(fd, path, cipher(data_key, recording_id, PURPOSE))
            capture._write(BEGIN, msgspec.json.encode(begun))
            os.link(unborn, path)
        except BaseException:
            os.close(fd)
            raise
        finally:
            unborn.unlink(missing_ok=True)
        return capture

    def append(self, channel: int, arrivals: Sequence[int], datagrams: Sequence[bytes]) -> None:
        """Adds RTP datagrams of one channel (0 or 1) in the order they arrived, with their arrivals in ns since begin.

        The two sequences are of one length; datagrams are whole RTP packets, header included.
        """
        stamped = zip(arrivals, datagrams, strict=True)
        self.append_tapes(0, [(channel, b"".join([STAMP.pack(at, len(one)) + one for at, one in stamped]))])

    def append_tapes(self, origin: int, tapes: Sequence[tuple[int, bytes | memoryview]]) -> None:
        """Adds (channel, tape) in one write: the kernel's part is the dearest, and takes the tapes from where they are.

        `origin`: the clock's time of begin. At most 500 tapes at once.
        """
        self._put([(PACKETS, BATCH.pack(channel, origin), tape) for channel, tape in tapes])

    def keep(self, at: int) -> None:
        """From `at` (ns since begin) on audio is kept: the notice has ended on both legs. Without it all is silence."""
        self._write(KEEP, TIME.pack(at))

    def dropped(self, channel: int, since: int, until: int, count: int) -> None:
        """`count` packets that arrived between `since` and `until` could not be kept: the recording will list a gap."""
        self._write(DROPPED, LOSS.pack(channel, since, until, count))

    def end(self, at: int) -> None:
        """The first BYE came at `at` ns since begin: the recording is exactly this long."""
        self._write(END, TIME.pack(at))

    def close(self, at: int) -> None:
        """Writes the footer (all that arrived before `at` ns stands above) and lets the finisher have the file."""
        try:
            self._write(CLOSED, TIME.pack(at))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Lets go of the file without a footer, as a crash would; what was written stays playable. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, kind: int, body: bytes) -> None:
        self._put([(kind, body, b"")])

    def _put(self, records: Sequence[tuple[int, bytes, bytes | memoryview]]) -> None:
        """Writes records (kind, what may be read, what may not) in one go, all or none."""
        pieces: list[bytes] = []
        whole, attempt, encrypt = 0, self._attempt, self._cipher.encrypt
        for number, (kind, clear, secret) in enumerate(records, self._records):
            length = len(clear) + len(secret) + TAG_SIZE
            head = HEAD.pack(length, kind, attempt) + clear
            pieces += (head, encrypt(NONCE.pack(number, attempt), secret, head))
            whole += HEAD.size + length
        written = 0
        try:
            written = os.writev(self._fd, pieces)
        finally:
            if written != whole:
                self._attempt += 1  # these nonces may lie on the disk
                # A torn record in the middle would hide every later one from the reader.
                os.ftruncate(self._fd, self.size)
        if written != whole:
            raise OSError(errno.ENOSPC, "no space left for the capture")
        self.size += whole
        self._records += len(records)


def writer_lives(path: Path) -> bool:
    """Whether the process that writes this capture still holds it. FileNotFoundError when there is none."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def on_tape(tape: memoryview) -> Iterator[tuple[int, memoryview]]:
    """When each packet of a tape came, and its datagram. ValueError where the tape is not whole."""
    at, end = 0, len(tape)
    try:
        while at < end:
            came, length = STAMP.unpack_from(tape, at)
            at += STAMP.size + length
            yield came, tape[at - length : at]
    except struct.error:
        raise ValueError("the tape is not whole") from None


def wipe(path: Path) -> None:
    """Deletes a capture so that not even the blocks it leaves on the disk open again: its sealed key goes first."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        head = min(os.fstat(fd).st_size, LONGEST_BEGIN)
        os.ftruncate(fd, head)
        os.pwrite(fd, bytes(head), 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    path.unlink(missing_ok=True)


def _packets(clear: bytes, tape: bytes) -> Packets:
    channel, origin = BATCH.unpack(clear)
    arrivals, datagrams = [], []
    for came, datagram in on_tape(memoryview(tape)):
        arrivals.append(came - origin)
        datagrams.append(datagram)
    return Packets(channel, tuple(arrivals), tuple(datagrams))


READINGS: Final[Mapping[int, Callable[[bytes, bytes], Record]]] = {
    PACKETS: _packets,
    KEEP: lambda clear, _: Keep(*TIME.unpack(clear)),
    DROPPED: lambda clear, _: Dropped(*LOSS.unpack(clear)),
    END: lambda clear, _: End(*TIME.unpack(clear)),
    CLOSED: lambda clear, _: Closed(*TIME.unpack(clear)),
}


class Raw(msgspec.Struct, frozen=True):
    """A record as it stands in the file."""

    kind: int
    attempt: int
    head: bytes
    """What may be read, the record's own head before it."""
    box: bytes

    @property
    def clear(self) -> bytes:
        return self.head[HEAD.size :]


def _next(read: Callable[[int], bytes]) -> Raw | None:
    """The next whole record, or None at the end of what is there."""
    head = read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, kind, attempt = HEAD.unpack(head)
    clear = BATCH.size if kind == PACKETS else length - TAG_SIZE
    if not clear + TAG_SIZE <= length <= LONGEST_RECORD or clear < 0:
        return None
    body = read(length)
    return Raw(kind, attempt, head + body[:clear], body[clear:]) if len(body) == length else None


def begun_of(path: Path) -> Begun:
    """What a capture says of itself to anybody; nothing of it is proven. `CaptureBroken`, FileNotFoundError."""
    with path.open("rb") as file:
        record = _next(file.read)
    if record is None or record.kind != BEGIN:
        raise CaptureBroken("the capture has no readable beginning")
    try:
        return msgspec.json.decode(record.clear, type=Begun)
    except msgspec.MsgspecError as error:
        raise CaptureBroken("the capture's beginning says nothing readable") from error


class CaptureReader:
    """The reading side: what a capture holds, up to the first torn record. Every iteration reads the file anew."""

    def __init__(self, path: Path, data_key: bytes) -> None:
        self.path = path
        self.begun = begun_of(path)
        self._cipher = cipher(data_key, self.begun.recording, PURPOSE)
        if next(self._opened(), None) is None:
            raise CaptureBroken("the capture's beginning was altered")

    def __iter__(self) -> Iterator[Record]:
        for kind, clear, secret in self._opened():
            if (reading := READINGS.get(kind)) is not None:
                yield reading(clear, secret)

    def _opened(self) -> Iterator[tuple[int, bytes, bytes]]:
        """(kind, what could be read, what could not) of each record that is whole and in its place."""
        with self.path.open("rb", buffering=1 << 18) as file:
            number = 0
            while (record := _next(file.read)) is not None:
                try:
                    nonce = NONCE.pack(number, record.attempt)
                    secret = self._cipher.decrypt(nonce, record.box, record.head)
                except InvalidTag:
                    return
                yield record.kind, record.clear, secret
                number += 1


def open_for_reading(path: Path, data_key: bytes) -> CaptureReader:
    """Opens a capture whatever its writer's end was. CaptureBroken when not even its beginning is whole."""
    return CaptureReader(path, data_key)
