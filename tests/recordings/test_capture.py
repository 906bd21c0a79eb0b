"""The capture: what was written before the writer's end is there, whatever that end was."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from recordings.capture import (
    G711,
    STAMP,
    CaptureBroken,
    Closed,
    Dropped,
    End,
    Keep,
    Packets,
    Record,
    path_of,
    writer_lives,
)
from recordings.render import survey, wav
from recordings.seals import NotOpened
from tests.recordings.phones import Phone, begin, hear, opened, play, record


def facts(path: Path) -> list[object]:
    """The records in a form that compares: datagrams as bytes."""

    def fact(record: Record) -> object:
        if isinstance(record, Packets):
            return record.channel, record.arrivals, [bytes(datagram) for datagram in record.datagrams]
        return record

    return [fact(record) for record in opened(path)]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    capture = begin(tmp_path / "spool")
    capture.append(0, [-5, 20_000_000], [b"one", b"another"])
    capture.append(1, [7], [b""])
    capture.keep(30_000_000)
    capture.dropped(1, 40_000_000, 50_000_000, 3)
    capture.end(2**40)
    capture.close(2**40 + 1)
    reader = opened(capture.path)
    assert reader.begun.recording == "rec_1"
    assert reader.begun.started_at == 1_700_000_000.0
    assert reader.begun.channels == (dict(G711), dict(G711))
    assert facts(capture.path) == [
        (0, (-5, 20_000_000), [b"one", b"another"]),
        (1, (7,), [b""]),
        Keep(30_000_000),
        Dropped(1, 40_000_000, 50_000_000, 3),
        End(2**40),
        Closed(2**40 + 1),
    ]
    assert capture.path.stat().st_size == capture.size
    assert capture.path.stat().st_mode & 0o777 == 0o600


def test_tapes_written_together_are_read_as_if_written_one_by_one(tmp_path: Path) -> None:
    together, apart = begin(tmp_path, "rec_1"), begin(tmp_path, "rec_2")
    batches = [(0, [1, 2], [b"one", b"two"]), (1, [-3], [b"three"]), (0, [], [])]
    tapes = [
        (channel, b"".join(STAMP.pack(at + 70, len(one)) + one for at, one in zip(arrivals, datagrams, strict=True)))
        for channel, arrivals, datagrams in batches
    ]
    together.append_tapes(70, tapes)
    for batch in batches:
        apart.append(*batch)
    assert facts(together.path) == facts(apart.path)
    before = together.size
    with files_no_longer_than(before + 50), pytest.raises(OSError):
        together.append_tapes(70, tapes)
    assert together.path.stat().st_size == together.size == before
    for capture in (together, apart):
        capture.abandon()


def test_a_tail_torn_at_any_byte_leaves_every_record_before_it(tmp_path: Path) -> None:
    capture = begin(tmp_path)
    head, ends = capture.size, []
    writes: list[Callable[[], None]] = [
        lambda: capture.keep(0),
        lambda: capture.append(0, [1, 2], [b"\x80\x08" + bytes(20), b"\x80\x08" + bytes(9)]),
        lambda: capture.append(1, [3], [b"\x80\x08" + bytes(15)]),
        lambda: capture.dropped(0, 5, 6, 1),
        lambda: capture.end(9),
        lambda: capture.close(10),
    ]
    for write in writes:
        write()
        ends.append(capture.size)
    whole, everything = capture.path.read_bytes(), facts(capture.path)
    torn = tmp_path / "torn.capture"
    for size in range(len(whole)):
        torn.write_bytes(whole[:size])
        if size < head:
            with pytest.raises(CaptureBroken):
                opened(torn)
        else:
            assert facts(torn) == everything[: sum(end <= size for end in ends)]
            survey(opened(torn), 1.0)


def test_a_torn_call_renders_at_every_byte(tmp_path: Path) -> None:
    path = record(tmp_path, Phone().says(0.12, Random(1)), Phone(source=9).says(0.12, Random(2)), length=0.12)
    whole, torn = path.read_bytes(), tmp_path / "torn.capture"
    for size in range(begin(tmp_path / "head").size, len(whole), 3):
        torn.write_bytes(whole[:size])
        assert len(play(torn, 0.12).file) == 44 + 960 * 4


def test_a_flipped_byte_ends_the_reading_and_is_never_heard(tmp_path: Path) -> None:
    path = record(tmp_path, Phone().says(0.1, Random(1)), length=0.1)
    whole, everything = path.read_bytes(), facts(path)
    flipped = tmp_path / "flipped.capture"
    for at in range(len(whole)):
        flipped.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            read = facts(flipped)
        except (CaptureBroken, NotOpened):
            continue
        assert read == everything[: len(read)]
        assert len(read) < len(everything)


def test_records_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    capture = begin(tmp_path)
    capture._write(200, b"something that is not known yet")
    capture.keep(5)
    assert facts(capture.path) == [Keep(5)]
    capture.abandon()


def test_a_capture_that_says_nothing_readable_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "rec_1.capture"
    for content in (b"", b"RIFF", os.urandom(4096), struct.pack("<IBI", 18, 1, 0) + b"{}" + bytes(16)):
        path.write_bytes(content)
        with pytest.raises(CaptureBroken):
            opened(path)


def test_a_recording_has_one_capture(tmp_path: Path) -> None:
    capture = begin(tmp_path)
    with pytest.raises(FileExistsError):
        begin(tmp_path)
    assert writer_lives(capture.path)
    assert os.listdir(tmp_path) == ["rec_1.capture"]
    capture.abandon()


@pytest.mark.parametrize("name", ["", "../rec_1", "rec/1", "rec.1", "+84901234567", "r" * 81])
def test_a_name_that_is_no_recording_id_makes_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="recording id"):
        begin(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_tells_a_living_writer_from_a_dead_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        writer_lives(path_of(tmp_path, "rec_1"))
    capture = begin(tmp_path)
    assert writer_lives(capture.path)
    assert writer_lives(capture.path)
    capture.close(0)
    assert not writer_lives(capture.path)
    capture.abandon()


WRITER = """
import sys, time
from pathlib import Path
from random import Random
from tests.recordings.phones import Phone, begin, hear
capture = begin(Path(sys.argv[1]))
capture.keep(0)
hear(capture, 0, Phone().says(2.0, Random(1)))
print("written", flush=True)
time.sleep(60)
"""


def test_a_killed_writer_loses_nothing_it_wrote(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    path = path_of(tmp_path, "rec_1")
    assert writer_lives(path)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert not writer_lives(path)
    played = play(path, 2.5)
    assert played.rendering.duration == 2.5
    assert all(played.left[:15900])
    assert [(gap.channel, gap.to) for gap in played.rendering.gaps] == [(1, 2.5), (2, 2.5)]
    assert 1.9 <= played.rendering.gaps[0].from_ <= 2.0


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """A disk that is full: the kernel writes up to here and then refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_tears_no_record_and_later_ones_are_read(tmp_path: Path) -> None:
    capture = begin(tmp_path)
    capture.keep(0)
    before = capture.size
    with files_no_longer_than(before + 100), pytest.raises(OSError):
        capture.append(0, [1], [bytes(170)])
    with files_no_longer_than(before), pytest.raises(OSError):
        capture.append(0, [2], [bytes(170)])
    assert capture.path.stat().st_size == before
    capture.dropped(0, 1, 2, 2)
    capture.close(3)
    assert facts(capture.path) == [Keep(0), Dropped(0, 1, 2, 2), Closed(3)]


def test_a_full_disk_at_the_beginning_leaves_no_file(tmp_path: Path) -> None:
    with files_no_longer_than(10), pytest.raises(OSError):
        begin(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_capture_has_no_footer_and_no_writer(tmp_path: Path) -> None:
    capture = begin(tmp_path)
    capture.keep(0)
    hear(capture, 0, Phone().says(0.2, Random(1)))
    capture.abandon()
    assert not writer_lives(capture.path)
    reader = opened(capture.path)
    assert b"".join(wav(reader, survey(reader, 0.2)))[:4] == b"RIFF"
    with pytest.raises(OSError):
        capture.keep(1)
