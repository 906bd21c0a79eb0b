"""Recordings as they are kept: to the sample as long, each voice on its channel, silent where nothing was kept."""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import AsyncIterator, Iterator
from random import Random

import av
import pytest

from recordings import opus
from recordings.analysis import Listener
from recordings.render import HEAD, wav_head
from recordings.waves import Decoded, encoded, examine


def sound(*channels: list[int]) -> bytes:
    both = array("h", bytes(4 * len(channels[0])))
    both[0::2], both[1::2] = array("h", channels[0]), array("h", channels[1])
    return both.tobytes()


def tone(hertz: float, samples: int, since: int = 0, level: int = 9000) -> list[int]:
    return [round(level * math.sin(2 * math.pi * hertz * at / 8000)) if at >= since else 0 for at in range(samples)]


def pieces(pcm: bytes, size: int = 8000 * 4) -> Iterator[bytes]:
    return iter([pcm[at : at + size] for at in range(0, len(pcm), size)])


def file_of(pcm: bytes, kept: int = 0) -> bytes:
    return b"".join(opus.encoded(pieces(pcm), kept))


def heard(file: bytes, samples: int) -> tuple[array[int], array[int]]:
    wave = b"".join(opus.decoded(io.BytesIO(file), samples))
    assert wave[:HEAD] == wav_head(samples)
    both = array("h", wave[HEAD:])
    return both[0::2], both[1::2]


def power(samples: array[int], hertz: float) -> float:
    turn = 2 * math.pi * hertz / 8000
    real = sum(s * math.cos(turn * at) for at, s in enumerate(samples))
    imaginary = sum(s * math.sin(turn * at) for at, s in enumerate(samples))
    return 2 * (real * real + imaginary * imaginary) / (len(samples) * (sum(s * s for s in samples) or 1))


@pytest.mark.parametrize("samples", [8000, 8001, 8159, 12_345, 8000 * 3 + 77, 8000 * 61 - 1])
def test_it_is_to_the_sample_as_long_as_it_was(samples: int) -> None:
    file = file_of(sound(tone(440, samples), tone(880, samples)))
    assert opus.length(file) == samples
    assert [len(one) for one in heard(file, samples)] == [samples, samples]


def test_a_page_that_is_none_is_no_page() -> None:
    file = file_of(sound(tone(440, 16_000), tone(880, 16_000)))
    assert opus.length(file[:-30] + b"OggS" + bytes(26)) == 16_000


def test_each_voice_is_on_its_channel_alone() -> None:
    samples = 8000 * 4
    left, right = heard(file_of(sound(tone(440, samples), tone(880, samples, 16_000))), samples)
    assert power(left, 440) > 0.98 and power(right[16_400:], 880) > 0.98
    assert power(left[16_400:], 880) < 0.001 and power(right[16_400:], 440) < 0.001
    assert not any(right[:15_900]), "who says nothing is silent"


def test_nothing_rings_before_it_was_kept() -> None:
    samples, kept = 8000 * 3, 12_345
    pcm = sound(tone(440, samples, kept), tone(880, samples, kept))
    left, right = heard(file_of(pcm, kept), samples)
    assert not any(left[:kept]) and not any(right[:kept]) and any(left[kept : kept + 160])
    early, _ = heard(file_of(pcm), samples)
    assert any(early[:kept]), "which the codec alone would not see to"


def test_a_player_we_did_not_write_plays_it() -> None:
    file = file_of(sound(tone(440, 80_000), tone(880, 80_000)))
    with av.open(io.BytesIO(file), "r") as container:
        stream = container.streams.audio[0]
        assert (container.format.name, stream.codec_context.name) == ("ogg", "opus")
        assert stream.codec_context.layout.name == "stereo"
        assert container.duration is not None and container.duration / 1e6 == pytest.approx(10.0, abs=0.02)
    assert len(file) < 80_000 * 4 / 4


def test_what_is_no_recording_or_ends_early_is_said_to_be() -> None:
    file = file_of(sound(tone(440, 80_000), tone(880, 80_000)))
    for bent in (b"", b"OggS", b"OggS" + bytes(40), Random(1).randbytes(5000), file[:20]):
        with pytest.raises(opus.NotDecoded):
            opus.length(bent)
    with pytest.raises(opus.NotDecoded):
        heard(b"OggS" + Random(1).randbytes(5000), 8000)
    with pytest.raises(opus.NotDecoded):
        heard(file[: len(file) // 2], 80_000)


class Held:
    """An original in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def size(self) -> int:
        return len(self.data)

    async def get(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        yield self.data[start:end]


async def test_what_is_shorter_than_a_second_stays_a_wav() -> None:
    for samples in (0, 1, 160, 7999):
        pcm = sound(tone(440, samples), tone(880, samples))
        original = Held(b"".join(encoded("opus", pieces(pcm), samples, 0)))
        found = await examine(original)
        assert (found.original.format, found.bytes, found.sha256) == ("wav", HEAD + len(pcm), found.original.sha256)


async def test_any_part_of_its_wav_is_the_part_of_the_whole() -> None:
    original = Held(file_of(sound(tone(440, 20_001), tone(880, 20_001)), 3000))
    found = await examine(original)
    assert (found.original.format, found.original.bytes) == ("opus", len(original.data))
    assert (found.bytes, found.duration) == (HEAD + 4 * 20_001, 20_001 / 8000)
    wave = Decoded(original, found.bytes)
    whole = b"".join([piece async for piece in wave.get()])
    assert len(whole) == await wave.size() == found.bytes
    dice = Random(2)
    spans = [(0, 1), (40, 50), (44, 44), (0, 44), (found.bytes - 1, None), (0, 10**9), (10**9, None)]
    spans += [(dice.randrange(found.bytes), dice.randrange(found.bytes)) for _ in range(10)]
    for start, end in spans:
        assert b"".join([piece async for piece in wave.get(start, end)]) == whole[start:end]


def test_what_it_sounds_like_is_measured() -> None:
    second, silence = tone(400, 8000, level=16_384), [0] * 8000
    pcm = sound(second + silence + second + silence, silence + silence + second + silence)
    ear = Listener()
    for piece in pieces(pcm, 4444):
        ear.hear(piece)
    found = ear.heard()
    assert found.loudness[0] == pytest.approx(-9.0, abs=0.2) and found.loudness[1] == pytest.approx(-9.0, abs=0.2)
    assert found.silence == pytest.approx(0.5, abs=0.11), "a pause up to 0.2 s belongs to what was said"
    assert found.talk_over == pytest.approx(0.25, abs=0.06)
    assert [len(peaks) for peaks in found.peaks] == [200, 200]
    assert set(found.peaks[0][2:48]) == {50} and not any(found.peaks[1][:98])
    nothing = Listener().heard()
    assert (nothing.loudness, nothing.silence, nothing.peaks) == ((-96.3, -96.3), 0.0, ((), ()))
