"""Keys heard in the audio, and speech that is none."""

from __future__ import annotations

import random
from array import array

import pytest

from recordings.keytones import BLOCK, HIGH, KEYS, LOW, key_in, silenced
from sipedge.media import g711, spoken, tones
from sipedge.relay.ear import Detector
from sipedge.relay.prompts import read_wave
from sipedge.softphone.sounds import read_wav

ALL = "".join(KEYS)


def tone(key: str, seconds: float, *, level: int = 3_000, twist: float = 1.0, off: float = 1.0) -> array[int]:
    """Both frequencies of a key; `twist`: the high one's amplitude over the low one's; `off`: both shifted so far."""
    row = next(place for place, line in enumerate(KEYS) if key in line)
    low = tones.sound((round(LOW[row] * off),), round(seconds * 8000), level)
    high = tones.sound((round(HIGH[KEYS[row].index(key)] * off),), round(seconds * 8000), round(level * twist))
    return array("h", map(sum, zip(low, high, strict=True)))


def pause(seconds: float) -> array[int]:
    return array("h", bytes(2 * round(seconds * 8000)))


def heard(samples: array[int], codec: str = "PCMA", packet: int = 160) -> str:
    detector, coded = Detector(), g711.encode(codec, samples.tobytes())  # type: ignore[arg-type]
    return "".join(
        detector.hear(codec, coded[at : at + packet])  # type: ignore[arg-type]
        for at in range(0, len(coded), packet)
    )


@pytest.mark.parametrize("codec", ["PCMA", "PCMU"])
@pytest.mark.parametrize("packet", [80, 160, 240, 333])
def test_every_key_is_heard_once_whatever_the_packets(codec: str, packet: int) -> None:
    keyed = array("h")
    for key in ALL:
        keyed += tone(key, 0.07) + pause(0.06)
    assert heard(keyed, codec, packet) == ALL


def test_a_key_pressed_twice_is_two_keys_and_one_held_is_one() -> None:
    assert heard(tone("5", 0.1) + pause(0.07) + tone("5", 0.1) + pause(0.1)) == "55"
    assert heard(tone("5", 3.0)) == "5"


@pytest.mark.parametrize(
    "more", [{"level": 400}, {"level": 12_000}, {"twist": 1.9}, {"twist": 0.5}, {"off": 1.012}, {"off": 0.988}]
)
def test_weak_loud_twisted_and_detuned_tones_are_heard(more: dict[str, float]) -> None:
    for key in ALL:
        assert heard(pause(0.013) + tone(key, 0.1, **more) + pause(0.1)) == key  # type: ignore[arg-type]


def test_a_key_is_heard_through_noise() -> None:
    dice = random.Random(1)
    for key in ALL:
        noisy = array("h", (sample + round(dice.gauss(0, 300)) for sample in tone(key, 0.1)))
        assert heard(noisy) == key


@pytest.mark.parametrize(
    "sound",
    [
        pause(1.0),
        tones.sound((440,), 8000, 8000),
        tones.sound((350, 440), 8000, 8000),
        tones.sound((697,), 8000, 8000),
        tones.sound((697, 770), 8000, 8000),
        tones.sound((697, 1209, 1477), 8000, 5000),
        tones.sound((1_100,), 8000, 8000),
        tone("5", 0.02) + pause(0.1),
        tone("5", 0.1, level=60),
    ],
)
def test_what_is_no_key_is_none(sound: array[int]) -> None:
    assert heard(sound) == ""


def test_a_block_of_noise_holds_no_key() -> None:
    dice = random.Random(2)
    for _ in range(300):
        assert key_in([round(dice.gauss(0, 4000)) for _ in range(160)]) == ""


def test_no_sentence_that_is_spoken_here_sounds_like_a_key() -> None:
    clips = spoken.VOICES.parent.parent / "softphone" / "clips"
    said = [read_wave(str(asset.path)) for asset in spoken.ASSETS.values()]
    said += [read_wav(path) for path in sorted(clips.glob("*.wav"))]
    assert sum(map(len, said)) / 16_000 > 120, "two minutes of speech and more"
    assert [heard(array("h", pcm)) for pcm in said] == [""] * len(said)


def speech() -> array[int]:
    """Half a minute of people."""
    clips = spoken.VOICES.parent.parent / "softphone" / "clips"
    return array("h", b"".join(read_wav(path) for path in sorted(clips.glob("*.wav"))))


@pytest.mark.parametrize("piece", [8000, 160, 1234])
def test_keys_are_silent_in_what_is_kept_and_the_rest_is_as_it_was(piece: int) -> None:
    """A card's number, keyed while somebody talks before and after."""
    said, keyed = speech()[:16_000], array("h")
    for key in "4111111111111111#":
        keyed += tone(key, 0.08) + pause(0.05)
    whole = said + pause(0.1) + keyed + said
    pcm = whole.tobytes()
    kept = b"".join(silenced(pcm[at : at + 2 * piece] for at in range(0, len(pcm), 2 * piece)))
    assert len(kept) == len(pcm)
    begins = len(said) + 800
    assert heard(array("h", kept)) == "" and heard(whole) == "4111111111111111#"
    card = array("h", kept)[begins : begins + len(keyed)]
    assert not any(card), "not a trace of it"
    assert kept[: 2 * len(said)] == said.tobytes()
    assert kept[-2 * (len(said) - 2 * BLOCK) :] == said.tobytes()[4 * BLOCK :]


def test_speech_is_kept_as_it_was_said() -> None:
    clips = [read_wave(str(asset.path)) for asset in spoken.ASSETS.values()] + [speech().tobytes()]
    for pcm in clips:
        assert b"".join(silenced([pcm])) == pcm
    assert b"".join(silenced([])) == b"" and b"".join(silenced([b"\1\0"])) == b"\1\0"
