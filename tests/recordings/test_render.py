"""From a capture to sound: the right sample at the right time in the right channel, whatever the network did."""

from __future__ import annotations

import io
import struct
import wave
from array import array
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings.capture import Capture
from recordings.g711 import LINEAR, pcm16
from recordings.render import QUIETEST, Gap, duration_of, levels, survey, wav
from tests.recordings.phones import (
    FOREIGN,
    NUMBERED,
    SPAN,
    STEP,
    Phone,
    Runs,
    Sent,
    begin,
    encode,
    hear,
    ns,
    numbered,
    opened,
    play,
    power_at,
    record,
    tone,
    value_of,
)

RATE = 8000


SAMPLE = 1.1 / RATE


def misplaced(samples: array[int], talk: list[Sent], by: float = SAMPLE) -> list[int]:
    """The packets that are not heard, or not where they were spoken give or take `by` seconds."""
    runs = Runs(samples)
    return [one.number for one in talk if runs.error(one.number, one.left) > by]


def test_g711_is_the_law_of_the_recommendation() -> None:
    # ITU-T G.711 tables 1 and 2: silence, the loudest step and the smallest of each sign.
    assert [LINEAR["PCMA"][code] for code in (0xD5, 0x55, 0xAA, 0x2A)] == [8, -8, 32256, -32256]
    assert [LINEAR["PCMU"][code] for code in (0xFF, 0x7F, 0x80, 0x00)] == [0, 0, 32124, -32124]
    for codec, values in LINEAR.items():
        assert array("h", bytes(pcm16(codec, bytes(range(256))))).tolist() == list(values)
        assert all(encode(codec, value) in (code, 0x7F, 0xFF) for code, value in enumerate(values))


def test_each_phone_is_heard_in_its_own_channel_and_nowhere_else(tmp_path: Path) -> None:
    caller = Phone(voice=tone(440)).says(2.0, Random(1))
    callee = Phone(voice=tone(880, "PCMU"), kind=0, source=7).says(2.0, Random(2))
    played = play(record(tmp_path, caller, callee, length=2.0))
    left, right = played.left[800:-800], played.right[800:-800]
    assert power_at(left, 440) > 0.99 and power_at(left, 880) < 0.001
    assert power_at(right, 880) > 0.99 and power_at(right, 440) < 0.001


def test_the_file_is_stereo_pcm_that_others_read(tmp_path: Path) -> None:
    played = play(record(tmp_path, Phone().says(1.0, Random(1)), [], length=1.2345))
    with wave.open(io.BytesIO(played.file)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        assert file.getnframes() == len(played.left) == len(played.right) == 9876
    assert duration_of(len(played.file)) == played.rendering.duration == 1.2345
    assert set(played.right) == {0}


def test_a_phone_on_our_clock_is_copied_sample_for_sample(tmp_path: Path) -> None:
    sent = Phone(delay=0.005, jitter=0.0005).says(60.0, Random(3))
    samples = play(record(tmp_path, sent, length=60.01)).left
    expected = array("h", b"".join(bytes(pcm16("PCMA", numbered(n))) for n in range(3000)))
    start = next(i for i, sample in enumerate(samples) if sample)
    assert 40 <= start <= 44
    assert samples[start : start + len(expected)] == expected[: len(samples) - start]


network = st.builds(
    Phone,
    first_stamp=st.integers(0, 2**32 - 1),
    first_sequence=st.integers(0, 2**16 - 1),
    starts=st.floats(0, 0.5),
    ppm=st.floats(-200, 200),
    jitter=st.floats(0, 0.1),
    loss=st.floats(0, 0.3),
    twice=st.floats(0, 0.1),
    swapped=st.floats(0, 0.1),
)


@settings(max_examples=150, deadline=None)
@given(phone=network, other=network, seconds=st.floats(1.0, 8.0), seed=st.integers(0, 2**32))
def test_under_loss_jitter_and_disorder_every_packet_is_heard_in_its_place(
    phone: Phone, other: Phone, seconds: float, seed: int
) -> None:
    random = Random(seed)
    talks = phone.says(seconds, random), other.but(source=5).says(seconds, random)
    length = seconds + 1.0
    with TemporaryDirectory() as folder:
        played = play(record(Path(folder), *talks, length=length))
    assert abs(played.rendering.duration - length) < 0.001 * length
    assert played.rendering.gaps == ()
    for talk, samples in zip(talks, played.both, strict=True):
        came = {one.number for one in talk}
        # Nothing is lost, nothing is heard twice: as many samples as packets that came.
        assert abs(sum(1 for sample in samples if sample) - SPAN * len(came)) <= 0.001 * SPAN * len(came) + 2
        assert misplaced(samples, talk, by=0.02) == []


@pytest.mark.parametrize("jitter", [0.0, 0.1])
def test_an_hour_of_two_wrong_clocks_drifts_less_than_20_ms(tmp_path: Path, jitter: float) -> None:
    """One crystal is 100 ppm slow and the other 100 ppm fast: 0.72 s apart after an hour, if nobody cared."""
    silence = bytes([0xD5]) * SPAN

    def voice(n: int) -> bytes:
        return numbered(7) if n % 1500 == 0 else silence

    capture = begin(tmp_path)
    capture.keep(0)
    talks = [
        Phone(voice=voice, ppm=ppm, jitter=jitter, loss=0.1 * jitter, source=ppm + 500).says(3600.0, Random(ppm))
        for ppm in (-100, 100)
    ]
    for channel, talk in enumerate(talks):
        hear(capture, channel, talk)
    capture.end(ns(3600.5))
    capture.close(ns(3600.5))
    reader = opened(capture.path)
    rendering = survey(reader)
    assert rendering.duration == 3600.5
    file = b"".join(wav(reader, rendering))
    for channel, talk in enumerate(talks):
        samples = array("h", file[44:])[channel::2]
        marks = [one for one in talk if one.number % 1500 == 0]
        assert len(marks) > 100
        runs = Runs(samples)
        assert [mark.number for mark in marks if runs.error(7, mark.left) >= 0.02] == []


def test_a_clock_that_is_off_is_followed_without_a_click(tmp_path: Path) -> None:
    """A tone stretched by 0.1 % has no step in it that the tone itself has not."""
    sent = Phone(voice=tone(250), ppm=1000).says(40.0, Random(1))
    samples = play(record(tmp_path, sent, length=40.0)).left[8000:-8000]
    steepest = max(abs(b - a) for a, b in zip(samples, samples[1:], strict=False))
    clean = array("h", b"".join(bytes(pcm16("PCMA", tone(250)(n))) for n in range(50)))
    assert steepest <= max(abs(b - a) for a, b in zip(clean, clean[1:], strict=False))
    assert 0 not in {sum(map(abs, samples[i : i + 8])) for i in range(0, len(samples) - 8, 8)}


def test_a_new_source_starts_a_new_clock(tmp_path: Path) -> None:
    random = Random(4)
    first = Phone(source=1, first_stamp=1000, first_sequence=5)
    second = Phone(source=2, first_stamp=4_000_000_000, first_sequence=60_000, starts=3.1)
    talk = first.says(3.0, random) + second.says(3.0, random)
    samples = play(record(tmp_path, talk, length=6.2)).left
    assert misplaced(samples, talk) == []


def test_two_sources_at_once_do_not_garble_each_other(tmp_path: Path) -> None:
    """Some packets of a stranger's stream between those of the call: the call's own stay where they are."""
    random = Random(4)
    own = Phone(source=1).says(4.0, random)
    stray = Phone(source=2, first_stamp=77, voice=lambda n: bytes([FOREIGN]) * SPAN, starts=1.0).sends(
        [3, 40, 41], random
    )
    samples = play(record(tmp_path, sorted(own + stray, key=lambda one: one.came), length=4.0)).left
    assert misplaced(samples, own[:-1]) == []
    assert -32256 not in samples


def test_rtp_time_that_jumps_is_anchored_anew(tmp_path: Path) -> None:
    random = Random(5)
    for name, jump in (("forward", 1_000_000), ("a_bit", 2800), ("back", -1_000_000), ("far", 2**31)):
        before = Phone(first_stamp=500).says(2.0, random)
        after = Phone(first_stamp=(500 + 16000 + jump) & 0xFFFFFFFF, first_sequence=100, starts=2.0)
        talk = before + after.says(2.0, random)
        samples = play(record(tmp_path, talk, length=4.0, name=name)).left
        assert misplaced(samples, talk[:-1]) == []


def test_a_phone_that_stops_its_clock_on_hold_is_heard_at_its_return(tmp_path: Path) -> None:
    random = Random(6)
    before = Phone().says(2.0, random)
    held = Phone(first_stamp=100 * SPAN, first_sequence=100, starts=12.0).says(2.0, random)
    played = play(record(tmp_path, before + held, length=14.0))
    assert misplaced(played.left, before + held) == []
    assert set(played.left[2 * RATE : 12 * RATE]) == {0}
    assert played.rendering.gaps == ()


def test_silence_that_was_not_sent_is_silence_of_the_same_length(tmp_path: Path) -> None:
    talk = Phone().sends([*range(50), *range(400, 450)], Random(1))
    played = play(record(tmp_path, talk, length=9.5))
    assert misplaced(played.left, talk) == []
    assert set(played.left[RATE : 8 * RATE]) == {0}
    assert played.rendering.gaps == ()


def test_a_network_that_stood_still_moves_nothing(tmp_path: Path) -> None:
    """Three seconds of packets come at once; they lie where they were spoken, and so does all that follows."""
    talk = [
        Sent(one.number, one.left, max(one.came, 5.0 + one.left / 1000) if one.left >= 2 else one.came, one.datagram)
        for one in Phone().says(12.0, Random(1))
    ]
    samples = play(record(tmp_path, talk, length=12.0)).left
    assert misplaced(samples, talk[:-1]) == []


def test_a_beginning_that_waited_is_put_right_by_what_follows(tmp_path: Path) -> None:
    talk = [
        Sent(one.number, one.left, max(one.came, 0.35 + one.left / 1000), one.datagram)
        for one in Phone().says(8.0, Random(1))
    ]
    samples = play(record(tmp_path, talk, length=8.0)).left
    assert misplaced(samples, talk, by=0.026) == []


def test_a_packet_later_than_a_second_is_dropped_and_overwrites_nothing(tmp_path: Path) -> None:
    talk = Phone().says(6.0, Random(1))
    late = Sent(10, talk[10].left, 5.0, talk[10].datagram)
    on_time = [one for one in talk if one.number != 10]
    samples = play(record(tmp_path, sorted([*on_time, late], key=lambda one: one.came), length=6.0)).left
    assert set(samples[10 * SPAN : 11 * SPAN]) == {0}
    assert misplaced(samples, on_time[:-1]) == []


def test_of_a_packet_that_came_twice_the_first_copy_counts(tmp_path: Path) -> None:
    talk = Phone().says(1.0, Random(1))
    forged = talk[20].datagram[:12] + bytes([FOREIGN]) * SPAN
    talk.insert(22, Sent(20, talk[20].left, talk[21].came, forged))
    assert -32256 not in play(record(tmp_path, talk, length=1.0)).left


def test_a_flood_ahead_of_time_does_not_move_what_was_said_before(tmp_path: Path) -> None:
    talk = Phone().says(5.0, Random(1))
    flood = [Sent(n, 5.0, 5.0 + n * 1e-6, Phone().datagram(n)) for n in range(250, 5000)]
    played = play(record(tmp_path, talk + flood, length=6.0))
    assert played.rendering.duration == 6.0
    assert misplaced(played.left, talk) == []


def test_nothing_before_the_notice_was_over_is_kept(tmp_path: Path) -> None:
    talk = Phone().says(4.0, Random(1))
    played = play(record(tmp_path, talk, talk, length=4.0, kept=1.51))
    for samples in played.both:
        assert set(samples[: round(1.51 * RATE)]) == {0}
        assert all(samples[round(1.51 * RATE) :])


def test_a_call_that_ended_during_the_notice_is_silence_and_has_no_gap(tmp_path: Path) -> None:
    played = play(record(tmp_path, Phone().says(2.0, Random(1)), length=2.0, kept=None))
    assert (set(played.left), played.rendering.gaps, played.rendering.playable) == ({0}, (), True)


def test_what_came_before_the_beginning_and_after_the_end_is_cut(tmp_path: Path) -> None:
    played = play(record(tmp_path, Phone(starts=-0.105).says(4.0, Random(1)), length=3.0))
    assert len(played.left) == 3 * RATE
    assert [played.left[i] for i in (0, 119, 120, 279, 280)] == [value_of(n) for n in (5, 5, 6, 6, 7)]


def test_keypad_events_and_comfort_noise_are_never_heard(tmp_path: Path) -> None:
    talk = Phone().says(1.0, Random(1))
    keys = [Sent(n, n * STEP, n * STEP, Phone(kind=101).datagram(n)) for n in range(50, 100)]
    noise = [Sent(n, n * STEP, n * STEP, Phone(kind=13).datagram(n)) for n in range(100, 150)]
    assert set(play(record(tmp_path, talk + keys + noise, length=3.0)).left[RATE:]) == {0}


def test_odd_packets_are_read_by_their_own_headers_and_rubbish_is_not_heard(tmp_path: Path) -> None:
    audio = numbered(9)
    header = struct.pack("!BHII", 8, 1, 160, 1)
    extension = struct.pack("!HH", 0xBEDE, 1) + bytes(4)
    odd = bytes([0x80 | 0x20 | 0x10 | 2]) + header + bytes(8) + extension + audio + bytes(3) + bytes([4])
    rubbish = [b"", b"\x80", bytes(12), bytes([0x40]) + header + audio, b"\x80" + header]
    rubbish += [b"\x80" + header + audio * 13]
    rubbish += [bytes([0x80 | 0x10]) + header + b"\0", bytes([0x80 | 0x20]) + header + bytes([255])]
    capture = begin(tmp_path)
    capture.keep(0)
    capture.append(0, [ns(0.5 + i / 1000) for i in range(len(rubbish))], rubbish)
    capture.append(0, [ns(1.0)], [odd])
    capture.end(ns(2.0))
    capture.close(ns(2.0))
    samples = play(capture.path).left
    assert [i for i, sample in enumerate(samples) if sample] == list(range(RATE, RATE + SPAN))
    assert samples[RATE] == value_of(9)


@settings(max_examples=60, deadline=None)
@given(datagrams=st.lists(st.binary(max_size=400), max_size=30), seed=st.integers(0, 2**16))
def test_no_datagram_whatever_stops_the_rendering(datagrams: list[bytes], seed: int) -> None:
    random = Random(seed)
    with TemporaryDirectory() as folder:
        capture = begin(Path(folder))
        capture.keep(0)
        for datagram in datagrams:
            capture.append(random.randrange(2), [random.randrange(-(10**9), 3 * 10**9)], [b"\x80\x08" + datagram])
        capture.end(ns(2.0))
        capture.close(ns(2.0))
        assert len(play(capture.path).left) == 2 * RATE


def cut_off(folder: Path, *, kept: float | None, seconds: float) -> Capture:
    capture = begin(folder)
    if kept is not None:
        capture.keep(ns(kept))
    hear(capture, 0, Phone().says(seconds, Random(1)))
    capture.abandon()
    return capture


def test_a_dead_writer_leaves_a_gap_up_to_the_known_end(tmp_path: Path) -> None:
    played = play(cut_off(tmp_path, kept=0.0, seconds=3.0).path, 10.0)
    assert played.rendering.duration == 10.0
    assert played.rendering.gaps == (Gap(2.98, 10.0, 1), Gap(2.98, 10.0, 2))
    assert played.rendering.playable


def test_a_dead_writer_whose_calls_end_nobody_knows_ends_where_it_stopped(tmp_path: Path) -> None:
    rendering = play(cut_off(tmp_path, kept=0.0, seconds=3.0).path).rendering
    assert (rendering.duration, rendering.gaps, rendering.playable) == (2.98, (), True)


def test_a_writer_that_died_before_anything_was_kept_left_nothing_playable(tmp_path: Path) -> None:
    assert not survey(opened(cut_off(tmp_path, kept=None, seconds=3.0).path), 10.0).playable


def test_a_writer_that_closed_before_the_end_leaves_a_gap_from_there(tmp_path: Path) -> None:
    capture = begin(tmp_path)
    capture.keep(0)
    hear(capture, 1, Phone().says(1.0, Random(1)))
    capture.close(ns(2.0))
    assert play(capture.path, 5.0).rendering.gaps == (Gap(2.0, 5.0, 1), Gap(2.0, 5.0, 2))


def test_dropped_packets_are_gaps_of_their_channel_joined_and_within_the_recording(tmp_path: Path) -> None:
    capture = begin(tmp_path)
    capture.keep(ns(1.0))
    capture.dropped(0, ns(0.2), ns(0.4), 10)  # before anything was kept: nobody misses it
    capture.dropped(0, ns(2.0), ns(2.18), 10)
    capture.dropped(0, ns(2.2), ns(2.38), 10)
    capture.dropped(1, ns(3.9), ns(4.5), 30)
    capture.end(ns(4.0))
    capture.close(ns(4.6))
    assert play(capture.path).rendering.gaps == (Gap(2.0, 2.4, 1), Gap(3.9, 4.0, 2))


def test_the_known_end_never_overrules_the_first_bye(tmp_path: Path) -> None:
    path = record(tmp_path, Phone().says(1.0, Random(1)), length=1.0)
    rendering = play(path, 30.0).rendering
    assert (rendering.duration, rendering.gaps) == (1.0, ())


@pytest.mark.parametrize(("end", "samples"), [(-5, 0), (0, 0), (2**62, 24 * 3600 * RATE)])
def test_an_end_out_of_reason_is_brought_back_to_it(tmp_path: Path, end: int, samples: int) -> None:
    capture = begin(tmp_path)
    capture.end(end)
    capture.close(0)
    assert survey(opened(capture.path)).samples == samples


def test_the_same_capture_renders_to_the_same_bytes(tmp_path: Path) -> None:
    path = record(tmp_path, Phone(jitter=0.05, loss=0.1).says(3.0, Random(1)), length=3.0)
    assert play(path).file == play(path).file


def test_levels_are_those_of_each_channel(tmp_path: Path) -> None:
    played = play(record(tmp_path, Phone(voice=tone(440)).says(2.0, Random(1)), [], length=2.0))
    path = tmp_path / "x.wav"
    path.write_bytes(played.file)
    # A sine of amplitude 12000: 20 log10(12000 / 32768 / sqrt 2).
    assert levels(path) == [pytest.approx(-11.7, abs=0.15), QUIETEST]
    assert levels(io.BytesIO(played.file)) == levels(path)


def test_numbered_packets_can_be_told_apart() -> None:
    assert len(NUMBERED) > 100 and len({value_of(n) for n in range(len(NUMBERED))}) == len(NUMBERED)
