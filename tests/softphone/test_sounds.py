"""What the phones' ears can tell apart."""

from __future__ import annotations

import math
import random
from array import array
from pathlib import Path

import pytest

from sipedge.media import rtp
from sipedge.softphone.audio import Ear, Mouth
from sipedge.softphone.sounds import TONES, dominant, level, power, read_wav, silence, tone, write_wav


@pytest.mark.parametrize("frequency", TONES)
def test_a_tone_is_known_by_its_frequency(frequency: int) -> None:
    assert dominant(tone(frequency, 0.25)) == frequency
    assert power(tone(frequency), frequency) == pytest.approx(1.0, abs=0.02)


def test_speech_noise_and_silence_have_no_frequency() -> None:
    luck = random.Random(1)
    noise = array("h", (luck.randrange(-9000, 9000) for _ in range(8000))).tobytes()
    assert dominant(noise) == 0
    assert dominant(silence(0.5)) == 0
    assert dominant(b"") == 0
    assert level(silence(0.5)) == -math.inf and level(b"") == -math.inf


def test_a_tone_half_as_loud_is_six_decibels_lower() -> None:
    assert level(tone(440, 1, 8000)) - level(tone(440, 1, 4000)) == pytest.approx(6.02, abs=0.01)


def test_a_wav_file_comes_back_as_it_went(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(440, 0.1))
    assert read_wav(tmp_path / "a.wav") == tone(440, 0.1)


def packet(timestamp: int, ssrc: int = 1) -> rtp.Packet:
    return rtp.Packet(8, 0, timestamp & 0xFFFFFFFF, ssrc, b"")


def frame(value: int) -> bytes:
    return array("h", [value] * 160).tobytes()


def test_what_is_heard_lies_where_its_time_says_whatever_order_it_came_in() -> None:
    ear = Ear()
    start = 0xFFFFFF00  # the clock wraps within
    for at, value in [(0, 1), (480, 4), (160, 2), (-160, 9), (480, 4)]:
        ear.hear(packet(start + at), frame(value), 0.0)
    assert bytes(ear.pcm) == frame(1) + frame(2) + frame(0) + frame(4)


def test_a_new_source_goes_on_when_it_began() -> None:
    ear = Ear()
    ear.hear(packet(5_000), frame(1), 10.0)
    ear.hear(packet(77, ssrc=2), frame(2), 10.06)
    assert bytes(ear.pcm) == frame(1) + frame(0) + frame(0) + frame(2)
    ear.hear(packet(1 << 30, ssrc=3), frame(3), 10.06)
    assert bytes(ear.pcm)[-320:] == frame(3)


def test_an_ear_remembers_ten_minutes() -> None:
    ear = Ear()
    ear.hear(packet(0), frame(1), 0.0)
    ear.hear(packet(8_000 * 700), frame(2), 700.0)
    assert len(ear.pcm) == 320


def test_a_mouth_says_a_clip_once_or_over_and_over() -> None:
    mouth = Mouth()
    assert mouth.frame() == b""
    mouth.say(frame(1) + frame(2)[:100], loop=False)
    assert [mouth.frame(), mouth.frame(), mouth.frame()] == [frame(1), frame(2)[:100] + bytes(220), b""]
    mouth.say(frame(1) + frame(2), loop=True)
    assert [mouth.frame() for _ in range(5)] == [frame(1), frame(2), frame(1), frame(2), frame(1)]
    mouth.say(b"", loop=True)
    assert mouth.frame() == b""
