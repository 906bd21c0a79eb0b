"""The tap: what was said after `keep` is in the capture, whatever happens to the relay, the edge or the disk."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from recordings import capture
from recordings.capture import CaptureReader, Closed, Dropped, End, Keep, Packets, writer_lives
from sipedge.media import g711, plane, rtp
from sipedge.media.plane import Bridge, Done, Failed, PlayFinished, Playing, Record, Recorded, RingBack
from sipedge.media.telephone_events import packets
from sipedge.relay.background import Background
from sipedge.relay.tap import STAMPS, Backlog, Spool, Tap
from tests.recordings.phones import LOCK
from tests.relay.peers import SEAL, Edge, Phone, Relay, strength, talk, written


def voice(reader: CaptureReader, channel: int, codec: plane.CodecName = "PCMA") -> bytes:
    """What a channel holds, as PCM."""
    kept = [record for record in reader if isinstance(record, Packets) and record.channel == channel]
    return b"".join(g711.decode(codec, rtp.parse(bytes(one)).payload) for record in kept for one in record.datagrams)


def kinds(reader: CaptureReader) -> list[type]:
    return [type(record) for record in reader if not isinstance(record, Packets)]


def test_both_voices_are_kept_each_in_its_channel_from_the_bridge_on(
    edge: Edge, call: str, alice: Phone, tmp_path: Path
) -> None:
    with Phone("PCMU") as bob:
        alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
        edge.connect(call, 1, alice)
        edge.connect(call, 2, bob)
        began = time.monotonic()
        edge.ask(Record(call, "rec_a", str(tmp_path), SEAL), Done)
        edge.ask(RingBack(call, 1, "VN"), Playing)
        talk(alice, bob, frames=15, frequencies=(1500, 1500))  # before anybody was told
        edge.ask(Bridge(call), Done)
        kept = time.monotonic() - began
        finished = edge.event(PlayFinished)
        talk(alice, bob, frames=40)
        recorded = edge.ask(plane.End(call), Recorded)
        ended = time.monotonic() - began
        talk(alice, bob, frames=5, frequencies=(1500, 1500))  # after the first BYE
        edge.close(call)
    assert (recorded.recording, recorded.packets, recorded.dropped) == ("rec_a", 80, 0)
    assert recorded.kept_from == pytest.approx(kept, abs=0.05)
    assert recorded.duration == pytest.approx(ended, abs=0.05)
    assert finished.at == pytest.approx(0.0, abs=0.1) and finished.to == pytest.approx(recorded.kept_from, abs=0.02)
    reader = written(tmp_path / "rec_a.capture")
    assert kinds(reader) == [Keep, End, Closed]
    assert strength(voice(reader, 0), 440) > 0.99 and strength(voice(reader, 1, "PCMU"), 880) > 0.99
    (end,) = (record for record in reader if isinstance(record, End))
    assert end.at == round(recorded.duration * 1e9)
    assert not writer_lives(tmp_path / "rec_a.capture")


def test_keys_are_never_recorded(edge: Edge, call: str, alice: Phone, bob: Phone, tmp_path: Path) -> None:
    edge.bridged(call, alice, bob)
    edge.ask(Record(call, "rec_k", str(tmp_path), SEAL), Done)
    edge.ask(plane.Keep(call), Done)
    talk(alice, frames=5)
    for payload in packets("9"):
        alice.say(payload, 101, advance=0)
    talk(alice, frames=5)
    edge.close(call)
    reader = written(tmp_path / "rec_k.capture")
    datagrams = [one for record in reader if isinstance(record, Packets) for one in record.datagrams]
    assert [rtp.parse(bytes(one)).payload_type for one in datagrams] == [8] * 10


def test_a_burst_longer_than_a_tape_is_kept_in_order(
    edge: Edge, call: str, alice: Phone, bob: Phone, tmp_path: Path
) -> None:
    """As after a stall of the network: two seconds at once, and a packet as long as any may be."""
    edge.bridged(call, alice, bob)
    edge.ask(Record(call, "rec_b", str(tmp_path), SEAL), Done)
    edge.ask(plane.Keep(call), Done)
    said = [bytes([0xD5, index]) * 80 for index in range(100)] + [bytes(1488)]
    for payload in said:
        alice.say(payload)
    bob.wait_for(len(said))
    closed = edge.close(call)
    assert closed.recorded is not None and closed.recorded.packets == len(said)
    reader = written(tmp_path / "rec_b.capture")
    kept = [one for record in reader if isinstance(record, Packets) for one in record.datagrams]
    assert [rtp.parse(bytes(one)).payload for one in kept] == said


def test_a_recording_switched_on_during_a_call_keeps_from_then_on_but_for_its_pauses(
    edge: Edge, call: str, alice: Phone, bob: Phone, tmp_path: Path
) -> None:
    edge.bridged(call, alice, bob)
    edge.ask(Record(call, "rec_d", str(tmp_path / "deep" / "er"), SEAL), Done)
    talk(alice, bob, frames=10, frequencies=(1500, 1500))
    for _ in range(2):
        edge.ask(plane.Keep(call), Done)
        talk(alice, bob, frames=10)
        edge.ask(plane.Pause(call), Done)
        talk(alice, bob, frames=10, frequencies=(1500, 1500))
    closed = edge.close(call)
    assert closed.recorded is not None and closed.recorded.packets == 40
    assert strength(voice(written(tmp_path / "deep" / "er" / "rec_d.capture"), 0), 440) > 0.99


def test_the_codec_under_another_number_can_be_read(
    edge: Edge, call: str, alice: Phone, bob: Phone, tmp_path: Path
) -> None:
    edge.open(call)
    edge.connect(call, 1, alice, payload=97)
    edge.connect(call, 2, bob)
    edge.ask(Record(call, "rec_n", str(tmp_path), SEAL), Done)
    edge.close(call)
    assert written(tmp_path / "rec_n.capture").begun.channels[0] == {0: "PCMU", 8: "PCMA", 97: "PCMA"}


def test_a_second_recording_and_a_relative_folder_are_refused(edge: Edge, call: str, tmp_path: Path) -> None:
    edge.open(call)
    assert edge.ask(plane.End(call), Failed).code == "bad_request"
    assert edge.ask(plane.Keep(call), Failed).code == "bad_request"
    assert edge.ask(plane.Pause(call), Failed).code == "bad_request"
    assert edge.ask(Record(call, "rec_r", "spool", SEAL), Failed).code == "bad_request"
    edge.ask(Record(call, "rec_r", str(tmp_path), SEAL), Done)
    assert edge.ask(Record(call, "rec_s", str(tmp_path), SEAL), Failed).code == "bad_request"


def test_a_folder_that_cannot_be_written_is_an_answer(edge: Edge, call: str, alice: Phone, bob: Phone) -> None:
    edge.bridged(call, alice, bob)
    failed = edge.ask(Record(call, "rec_x", "/proc/nowhere", SEAL), Failed)
    assert failed.code == "capture_failed" and "nowhere" not in failed.detail
    assert edge.ask(Record(call, "../rec", "/tmp", SEAL), Failed).code == "capture_failed"
    talk(alice, frames=5)
    assert len(bob.wait_for(5)) == 5
    assert edge.ask(plane.End(call), Failed).code == "bad_request"


def recorded_call(relay: Relay, folder: Path, alice: Phone, bob: Phone) -> Edge:
    edge = relay.edge()
    edge.bridged("c1", alice, bob)
    edge.ask(Record("c1", "rec_c", str(folder), SEAL), Done)
    edge.ask(plane.Keep("c1"), Done)
    return edge


def test_what_was_said_before_a_kill_is_readable(own_relay: Relay, tmp_path: Path, alice: Phone, bob: Phone) -> None:
    with recorded_call(own_relay, tmp_path, alice, bob):
        talk(alice, bob, frames=100)
        own_relay.process.send_signal(signal.SIGKILL)
        own_relay.process.wait()
    path = tmp_path / "rec_c.capture"
    assert not writer_lives(path)
    reader = written(path)
    sound = voice(reader, 0)
    assert len(sound) >= 2 * 160 * 55 and strength(sound, 440) > 0.99  # all but the last 800 ms
    assert kinds(reader) == [Keep]


def test_an_orderly_end_closes_captures(own_relay: Relay, tmp_path: Path, alice: Phone, bob: Phone) -> None:
    with recorded_call(own_relay, tmp_path, alice, bob):
        talk(alice, bob, frames=30)
        own_relay.process.terminate()
        assert own_relay.process.wait(10) == 0
    reader = written(tmp_path / "rec_c.capture")
    assert kinds(reader) == [Keep, End, Closed]
    assert len(voice(reader, 0)) == len(voice(reader, 1)) == 2 * 160 * 30
    assert not Path(own_relay.path).exists()


# ---- the tap alone, with a disk that misbehaves ---------------------------------------------------------------------


class Disk:
    """A capture in memory; `broken` while it refuses."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.broken = False

    def _do(self, *what: object) -> None:
        if self.broken:
            raise OSError(28, "No space left on device", "/spool/rec_t.capture")
        self.said.append(what)

    def append_tapes(self, origin: int, tapes: Sequence[tuple[int, memoryview]]) -> None:
        for channel, tape in tapes:
            arrivals = [came - origin for came, _ in capture.on_tape(tape)]
            self._do("append", channel, arrivals, len(arrivals))

    def dropped(self, *what: int) -> None:
        self._do("dropped", *what)

    def keep(self, at: int) -> None:
        self._do("keep", at)

    def end(self, at: int) -> None:
        self._do("end", at)

    def close(self, at: int) -> None:
        self._do("close", at)

    def abandon(self) -> None:
        self.said.append(("abandon",))


class Writer(Background):
    """Does its jobs when told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def do(self, *jobs: Callable[[], None]) -> None:
        self.jobs += jobs

    def work(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()

    def create(*how: object) -> Disk:
        return disk

    monkeypatch.setattr(capture.Capture, "create", create)
    return disk


def tap_on(writer: Writer, told: list[str], backlog: Backlog | None = None) -> Tap:
    backlog = backlog or Backlog()
    spool = Spool(backlog, told.append)
    spool.create(Path("/"), "rec_t", ({}, {}), 0.0, LOCK, bytes(32), lambda why: None)
    return Tap("rec_t", 1_000, spool, writer, backlog)


def say(tap: Tap, channel: int, *arrivals: int) -> None:
    """As the packet path does it, with packets of one byte."""
    track = tap.tracks[channel]
    for at in arrivals:
        STAMPS[1](track.tape, track.at, at, 1, b"x")
        track.at += capture.STAMP.size + 1
        track.count += 1


def test_times_in_the_capture_count_from_the_recordings_begin(disk: Disk) -> None:
    writer = Writer()
    tap = tap_on(writer, [])
    tap.keep(1_500)
    tap.keep(1_600)
    say(tap, 1, 2_000, 3_000)
    recorded = tap.end(9_000)
    writer.work()
    assert disk.said == [
        ("keep", 500), ("append", 1, [1_000, 2_000], 2), ("end", 8_000), ("close", 8_000), ("abandon",)
    ]  # fmt: skip
    assert recorded == Recorded("rec_t", 8e-6, 5e-7, 2, 0)


def test_a_disk_that_stands_still_costs_packets_and_never_memory(disk: Disk) -> None:
    writer = Writer()
    tap = tap_on(writer, [])
    for turn in range(300):
        say(tap, 0, *range(10_000 * turn + 1_000, 10_000 * turn + 1_010))
        writer.do(*tap.flush())
    assert tap.packets == 2_000 and tap.dropped == 1_000
    assert sum(1 for _ in writer.jobs) == 200
    writer.work()
    say(tap, 0, 9_000_000)
    writer.do(*tap.flush())
    tap.end(9_500_000)
    writer.work()
    assert ("dropped", 0, 2_000_000, 8_999_000, 1_000) in disk.said
    assert disk.said.index(("dropped", 0, 2_000_000, 8_999_000, 1_000)) < disk.said.index(("append", 0, [8_999_000], 1))


def test_what_is_lost_to_the_very_end_is_named(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipedge.relay.tap.BOUND", 1)
    writer = Writer()
    tap = tap_on(writer, [])
    say(tap, 1, 2_000, 3_000)
    assert tap.end(4_000).dropped == 2
    writer.work()
    assert disk.said[0] == ("dropped", 1, 1_000, 3_000, 2)


def test_a_full_disk_is_told_once_and_the_gap_is_named_when_it_takes_again(disk: Disk) -> None:
    writer, told = Writer(), list[str]()
    tap = tap_on(writer, told)
    disk.broken = True
    for turn in range(3):
        say(tap, 0, 2_000 + turn)
        writer.do(*tap.flush())
        writer.work()
    assert told == ["No space left on device"]
    disk.broken = False
    say(tap, 0, 3_000)
    recorded = tap.end(4_000)
    writer.work()
    assert recorded.dropped == 3
    assert disk.said[0] == ("dropped", 0, 1_000, 1_002, 3)
    assert disk.said[1] == ("append", 0, [2_000], 1)


def test_a_disk_that_fills_up_is_told_and_the_call_goes_on(
    own_relay: Relay, tmp_path: Path, alice: Phone, bob: Phone
) -> None:
    """The kernel itself refuses to let the file grow, for a while."""
    with recorded_call(own_relay, tmp_path, alice, bob) as edge:
        resource.prlimit(own_relay.process.pid, resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        talk(alice, bob, frames=60)
        failed = edge.event(plane.RecordingFailed)
        assert (failed.call, failed.recording) == ("c1", "rec_c") and str(tmp_path) not in failed.detail
        resource.prlimit(own_relay.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        talk(alice, bob, frames=30)
        recorded = edge.ask(plane.End("c1"), Recorded)
        assert len(bob.heard) == len(alice.heard) == 90
        assert recorded.packets == 180 and recorded.dropped > 0
        edge.close("c1")
    own_relay.process.terminate()
    assert own_relay.process.wait(10) == 0
    records = list(written(tmp_path / "rec_c.capture"))
    kept = sum(len(record.datagrams) for record in records if isinstance(record, Packets))
    lost = sum(record.count for record in records if isinstance(record, Dropped))
    assert kept + lost == 180 and lost == recorded.dropped
    assert isinstance(records[-1], Closed)


def test_a_full_disk_refuses_a_recording_and_the_call_goes_on(
    edge: Edge, call: str, tmp_path: Path, alice: Phone, bob: Phone
) -> None:
    edge.bridged(call, alice, bob)
    (tmp_path / "rec_f.unborn").symlink_to("/dev/full")
    assert edge.ask(Record(call, "rec_f", str(tmp_path), SEAL), Failed).code == "capture_failed"
    talk(alice, frames=3)
    assert len(bob.wait_for(3)) == 3


def test_what_the_disk_refused_comes_before_what_it_takes_again(disk: Disk) -> None:
    """A capture without its `keep` would be silence from end to end."""
    writer = Writer()
    tap = tap_on(writer, [])
    disk.broken = True
    tap.keep(1_500)
    say(tap, 1, 2_000)
    writer.do(*tap.flush())
    writer.work()
    disk.broken = False
    tap.end(4_000)
    writer.work()
    assert disk.said[:3] == [("keep", 500), ("dropped", 1, 1_000, 1_000, 1), ("end", 3_000)]


def test_jobs_that_raise_do_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    background, done = Background("test"), threading.Event()
    background.do(lambda: os.stat("/no/such/file") and None, done.set)
    assert done.wait(5) and background.finish(5.0)
    assert "a job failed" in caplog.text
