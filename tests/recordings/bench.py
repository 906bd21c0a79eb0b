"""What sealing and hashing add to a recording: `python -m tests.recordings.bench`.

The same tapes of the same calls go, turn by turn, into a sealed capture and into a plain one (framed and checked by
CRC-32, as captures were before they were sealed), and the same capture is rendered and encoded, turn by turn, into a
sealed file with its SHA-256 and into a plain one. CPU time of this process, user and system, per second of a call with
two voices. Prints rows of `bench.json` as one JSON list.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from loadtests.goals import alone
from loadtests.measure import Row, row
from recordings import opus
from recordings.analysis import Listener
from recordings.capture import BATCH, BEGIN, G711, HEAD, PACKETS, STAMP, Capture
from recordings.chunks import SALT, sealed
from recordings.render import pcm, survey
from recordings.waves import encoded
from tests.recordings.phones import LOCK, Phone, Sent, batches, ns, opened, record

CALLS: Final = 50
SECONDS: Final = 40.0
WINDOW: Final = 0.8  # what the tap collects for


class PlainCapture:
    """As `Capture`, but readable."""

    def __init__(self, path: Path) -> None:
        unborn = path.with_suffix(".unborn")
        path.parent.mkdir(exist_ok=True)
        self._fd = os.open(unborn, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        body = msgspec.json.encode({"recording": path.stem, "started_at": 0.0, "channels": (G711, G711)})
        os.writev(self._fd, [HEAD.pack(len(body), BEGIN, zlib.crc32(body, BEGIN)), body])
        os.link(unborn, path)
        unborn.unlink()

    def append_tapes(self, origin: int, tapes: list[tuple[int, memoryview]]) -> None:
        pieces: list[bytes | memoryview] = []
        for channel, tape in tapes:
            batch = BATCH.pack(channel, origin)
            checksum = zlib.crc32(tape, zlib.crc32(batch, PACKETS))
            pieces += (HEAD.pack(len(batch) + len(tape), PACKETS, checksum) + batch, tape)
        os.writev(self._fd, pieces)

    def close(self) -> None:
        os.close(self._fd)


def spent(work: Callable[[], None]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def tapes_of(*voices: list[Sent]) -> list[list[tuple[int, memoryview]]]:
    """What a tap gives its writer, window after window."""

    def tape(window: list[Sent]) -> memoryview:
        return memoryview(b"".join(STAMP.pack(ns(one.came), len(one.datagram)) + one.datagram for one in window))

    windows = [list(batches(said, WINDOW)) for said in voices]
    return [[(channel, tape(window)) for channel, window in enumerate(pair)] for pair in zip(*windows, strict=True)]


def capturing(folder: Path, tapes: list[list[tuple[int, memoryview]]], turn: int) -> tuple[float, float]:
    """CPU-seconds of the sealed and of the plain writing, call by call in turn."""

    def sealed_one(name: str) -> None:
        written = Capture.create(folder, name, (G711, G711), 0.0, LOCK, os.urandom(32))
        for window in tapes:
            written.append_tapes(0, window)
        written.abandon()

    def plain_one(name: str) -> None:
        written = PlainCapture(folder / f"{name}.capture")
        for window in tapes:
            written.append_tapes(0, window)
        written.close()

    ours = plain = 0.0
    for call in range(CALLS):
        ours += spent(lambda name=f"rec_{turn}_{call}": sealed_one(name))  # type: ignore[misc]
        plain += spent(lambda name=f"plain_{turn}_{call}": plain_one(name))  # type: ignore[misc]
    for path in folder.iterdir():
        path.unlink()
    return ours, plain


def storing(path: Path, folder: Path) -> tuple[float, float]:
    """CPU-seconds of rendering and encoding into a sealed file with its hash, and into a plain one."""

    def write(name: str, pieces: Iterator[bytes]) -> None:
        with open(folder / name, "wb") as file:
            for piece in pieces:
                file.write(piece)

    def kept() -> Iterator[bytes]:
        reader = opened(path)
        rendering = survey(reader)
        return encoded("opus", pcm(reader, rendering), rendering.samples, rendering.kept)

    def hashed() -> Iterator[bytes]:
        digest = sha256()
        for piece in kept():
            digest.update(piece)
            yield piece

    ours = spent(lambda: write("sealed", sealed(hashed(), bytes(32), "rec_1", os.urandom(SALT))))
    return ours, spent(lambda: write("plain", kept()))


def examining(folder: Path) -> float:
    """CPU-seconds of decoding what was kept, and of listening to it."""

    def listen() -> None:
        ear, data = Listener(), (folder / "plain").read_bytes()
        for piece in opus.decoded(io.BytesIO(data), opus.length(data)):
            ear.hear(piece)
        ear.heard()

    return spent(listen)


def run(runs: int) -> list[Row]:
    """`sealing`: from the tap's tapes to the file in the store; `sealed-capture`: the relay's writer alone; `encode`:
    how much faster than it was spoken a core renders, encodes, seals, reads back and measures a call."""
    dice = Random(1)
    voices = [Phone(source=source).says(SECONDS, dice) for source in (1, 2)]
    tapes = tapes_of(*voices)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spool").mkdir()
        pairs = [capturing(folder / "spool", tapes, turn) for turn in range(3 * runs)]
        path = record(folder / "done", *voices, length=SECONDS)
        storing(path, folder)  # the codec is loaded
        stored, examined = [], []
        for _ in range(runs):
            stored.append(storing(path, folder))
            examined.append(examining(folder))
    writing = [(ours / CALLS, plain / CALLS) for ours, plain in pairs]
    whole = [(one + two, other + third) for (one, other), (two, third) in zip(writing, stored, strict=False)]
    speed = [SECONDS / (ours + heard) for (ours, _), heard in zip(stored, examined, strict=True)]
    return [beside("sealing", whole), beside("sealed-capture", writing), alone("encode", "x real time", speed, 0)]


def beside(name: str, pairs: list[tuple[float, float]]) -> Row:
    """CPU-seconds of one call, sealed and plain, as a row."""
    ours, plain = ([seconds * 1e6 / SECONDS for seconds in one] for one in zip(*pairs, strict=True))
    return row(name, "us CPU per call-second", ours, "plain", plain)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    sys.stdout.write(json.dumps(run(parser.parse_args().runs)) + "\n")
