"""The spoken sentences: every file is what the manifest says, short enough, and says the right numbers."""

from __future__ import annotations

import hashlib
import wave
from pathlib import Path

import pytest

from masking.numbering import emergency_numbers
from recordings.render import levels
from sipedge.media import spoken

CLIPS = Path(spoken.__file__).parent.parent / "softphone" / "clips"
COUNTRIES = ["VN", "RU", "US", "GB", "IN", "TH", "ID", "SG"]
REFUSALS = ["no_binding", "trip_ended", "not_allowed"]
DIALOGUES = [
    "enter_pin",
    "wrong_pin",
    "enter_extension",
    "press_key",
    "callee_busy",
    "no_answer",
    "not_connected",
    "connecting",
]
DIGITS = {
    "en": "zero one two three four five six seven eight nine".split(),
    "vi": "không một hai ba bốn năm sáu bảy tám chín".split(),
}


@pytest.mark.parametrize("asset", spoken.ASSETS.values(), ids=lambda asset: asset.id)
def test_a_sentence_is_what_the_manifest_says_and_as_loud_as_the_others(asset: spoken.Asset) -> None:
    assert hashlib.sha256(asset.path.read_bytes()).hexdigest() == asset.sha256
    with wave.open(str(asset.path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        assert file.getnframes() / 8000 == asset.duration
    assert asset.text
    assert 1.0 < asset.duration <= (4.0 if asset.id.endswith("recording_notice") else 10.0)
    assert -25 < levels(asset.path)[0] < -15


def test_every_language_says_everything_and_nothing_lies_about_unlisted() -> None:
    names = {"recording_notice", "emergency", *REFUSALS, *DIALOGUES, *(f"emergency_{country}" for country in COUNTRIES)}
    assert set(spoken.ASSETS) == {(language, name) for language in ("vi", "en") for name in names}
    assert {asset.path for asset in spoken.ASSETS.values()} == set(spoken.VOICES.rglob("*.wav"))


def numbers_in(text: str, language: str) -> list[str]:
    """The numbers that a text spells digit by digit."""
    found = [""]
    for word in text.replace(",", " ,").replace(".", " .").lower().split():
        if word in DIGITS[language]:
            found[-1] += str(DIGITS[language].index(word))
        else:
            found.append("")
    return [number for number in found if number]


@pytest.mark.parametrize("language", ["vi", "en"])
@pytest.mark.parametrize("country", COUNTRIES)
def test_a_caller_in_need_is_told_the_country_s_own_numbers(country: str, language: str) -> None:
    told = numbers_in(spoken.asset(language, spoken.emergency(country)).text, language)
    assert emergency_numbers(country)[0] in told
    assert set(told) <= set(emergency_numbers(country))
    if country == "VN":
        assert told == ["112", "113", "114", "115"]


def test_who_speaks_no_language_of_ours_hears_english() -> None:
    assert spoken.asset("ru", "no_binding") is spoken.asset("en", "no_binding")
    assert spoken.asset("vi-VN", "no_binding") is spoken.asset("VI", "no_binding") is spoken.ASSETS["vi", "no_binding"]
    assert spoken.asset("", "no_binding").id == "en/no_binding"
    assert spoken.emergency("vn") == "emergency_VN"
    assert spoken.emergency("FR") == spoken.emergency("../../x") == "emergency"
    with pytest.raises(KeyError):
        spoken.asset("en", "a sentence that nobody wrote")


def test_the_demo_s_speech_is_two_voices_of_some_seconds() -> None:
    for name in ("customer", "driver"):
        with wave.open(str(CLIPS / f"{name}.wav")) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
            assert 5 < file.getnframes() / 8000 < 8
        assert -25 < levels(CLIPS / f"{name}.wav")[0] < -15
    assert (CLIPS / "customer.wav").read_bytes() != (CLIPS / "driver.wav").read_bytes()


def test_all_the_speech_together_is_small() -> None:
    files = [*spoken.VOICES.rglob("*.wav"), *CLIPS.rglob("*.wav")]
    assert sum(path.stat().st_size for path in files) < 3 << 20
