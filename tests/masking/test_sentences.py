"""Which sentence is spoken: what a folder of the operator's holds, and what a session may choose."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from masking import sentences, serve
from masking.config import BadConfig, Config, MediaSection, ServiceSection
from masking.refusals import Invalid
from masking.sentences import OURS, Announcements, Voice
from tests.masking.world import World


def spoken(folder: Path, name: str, seconds: float = 0.2, rate: int = 8000) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(b"\x10\x00" * round(seconds * rate))
    return path


def test_a_folder_of_wav_files_is_read_by_language_and_name(tmp_path: Path) -> None:
    spoken(tmp_path, "vi/our_notice.wav", 1.5)
    spoken(tmp_path, "zh-HK/our_notice.wav")
    found = sentences.read(str(tmp_path))
    assert {key: voice.duration for key, voice in found.items()} == {
        ("vi", "our_notice"): 1.5,
        ("zh-hk", "our_notice"): 0.2,
    }
    assert found["vi", "our_notice"].path.is_absolute() and sentences.read("") == {}


@pytest.mark.parametrize("fault", ["no folder", "no wav", "too long", "other rate", "other name"])
def test_a_file_that_cannot_be_spoken_stops_the_start_by_name(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "none" if fault == "no folder" else tmp_path
    match fault:
        case "no wav":
            spoken(tmp_path, "vi/words.wav").write_bytes(b"words")
        case "too long":
            spoken(tmp_path, "vi/words.wav", 10.1)
        case "other rate":
            spoken(tmp_path, "vi/words.wav", rate=16000)
        case "other name":
            spoken(tmp_path, "vi/Our Words.wav")
    config = Config(service=ServiceSection(data_dir=str(tmp_path / "data")), media=MediaSection(voices=str(folder)))
    with pytest.raises(BadConfig, match=r"media\.voices"):
        serve.prepare(config)


def test_a_session_says_what_its_service_left_open() -> None:
    service = Announcements(trip_ended="goodbye", no_answer=None)
    session = Announcements(trip_ended=None, connecting="hello").over(service)
    assert session.said() == {"trip_ended": None, "no_answer": None, "connecting": "hello"}
    assert [session.of(name) for name in ("connecting", "no_answer", "press_key")] == ["hello", None, "press_key"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(session), type=Announcements) == session


async def test_only_sentences_that_somebody_recorded_are_taken(world: World) -> None:
    lasting = {"long": 5.0, "short": 3.0}
    voices = {("vi", name): Voice(Path(name), "0", seconds) for name, seconds in lasting.items()}
    house = replace(world.house, voices=voices)
    for fine in (OURS, Announcements(recording_notice="short", trip_ended="long", no_binding="not_allowed")):
        assert sentences.checked(house, fine) is fine
    for wrong in (Announcements(trip_ended="nowhere"), Announcements(recording_notice="long")):
        with pytest.raises(Invalid):
            sentences.checked(house, wrong)
