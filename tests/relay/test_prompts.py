"""What the relay says itself: at the pace of speech, told when it ends, and never over anything else."""

from __future__ import annotations

import itertools
import wave
from pathlib import Path

import pytest

from sipedge.media import g711, plane, tones
from sipedge.media.plane import BadAsset, Bridge, Done, Failed, Play, PlayFinished, Playing, Press, RingBack, Stop
from sipedge.relay.prompts import Assets, BadWave, frames_of, read_wave
from tests.relay.peers import SEAL, Edge, Phone, strength, talk, tone


def asset(folder: Path, frequency: int = 600, samples: int = 3_960, rate: int = 8000, channels: int = 1) -> str:
    path = folder / f"tone-{frequency}-{samples}-{rate}-{channels}.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(tone(frequency, 0, samples))
    return str(path)


def test_a_prompt_is_paced_at_twenty_milliseconds_and_told_when_it_ends(
    edge: Edge, call: str, alice: Phone, tmp_path: Path
) -> None:
    edge.open(call, legs=1)
    edge.connect(call, 1, alice)
    path = asset(tmp_path)
    playing = edge.ask(Play(call, 1, path), Playing)
    alice.listen(0.6)
    finished = edge.event(PlayFinished)
    assert (finished.call, finished.leg, finished.play, finished.asset) == (call, 1, playing.play, path)
    assert finished.whole and finished.at is None and finished.to is None
    assert len(alice.heard) == 25  # 3,960 samples and 40 of silence
    assert strength(alice.sound()[: 2 * 3_960], 600) > 0.99
    assert alice.arrivals[-1] - alice.arrivals[0] == pytest.approx(0.48, abs=0.03)
    steps = [then - at for at, then in itertools.pairwise(alice.arrivals)]
    assert sorted(steps)[len(steps) // 2] == pytest.approx(0.02, abs=0.004)
    for before, one in itertools.pairwise(alice.heard):
        assert one.sequence == before.sequence + 1 & 0xFFFF
        assert one.timestamp == before.timestamp + 160 & 0xFFFFFFFF
    assert [packet.marker for packet in alice.heard] == [True] + [False] * 24


def test_each_leg_hears_its_own_prompt_in_its_own_codec(edge: Edge, call: str, alice: Phone, tmp_path: Path) -> None:
    with Phone("PCMU") as bob:
        edge.open(call)
        edge.connect(call, 1, alice)
        edge.connect(call, 2, bob)
        edge.ask(Play(call, 1, asset(tmp_path, 500)), Playing)
        edge.ask(Play(call, 2, asset(tmp_path, 700)), Playing)
        assert {edge.event(PlayFinished).leg, edge.event(PlayFinished).leg} == {1, 2}
        alice.listen(0.05)
        bob.listen(0.05)
        assert strength(alice.sound(), 500) > 0.9 and strength(bob.sound(), 700) > 0.9


def test_a_repeated_prompt_goes_on_until_it_is_stopped(edge: Edge, call: str, alice: Phone, tmp_path: Path) -> None:
    edge.open(call, legs=1)
    edge.connect(call, 1, alice)
    edge.ask(Play(call, 1, asset(tmp_path, samples=320), repeat=True), Playing)
    alice.wait_for(12)
    edge.ask(Stop(call, 1), Done)
    assert not edge.event(PlayFinished).whole
    alice.listen(0.05)
    alice.heard.clear()
    alice.listen(0.1)
    assert alice.heard == []
    edge.ask(Stop(call, 1), Done)


def test_a_new_prompt_takes_the_place_of_the_old_one(edge: Edge, call: str, alice: Phone, tmp_path: Path) -> None:
    edge.open(call, legs=1)
    edge.connect(call, 1, alice)
    first = edge.ask(RingBack(call, 1, "VN"), Playing)
    second = edge.ask(Play(call, 1, asset(tmp_path)), Playing)
    ended, whole = edge.event(PlayFinished), edge.event(PlayFinished)
    assert (ended.play, ended.whole) == (first.play, False)
    assert (whole.play, whole.whole) == (second.play, True)


def test_the_bridge_ends_prompts_and_a_prompt_interrupts_the_bridge(
    edge: Edge, call: str, alice: Phone, bob: Phone, tmp_path: Path
) -> None:
    alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
    edge.connect(call, 1, alice)
    edge.connect(call, 2, bob)
    edge.ask(RingBack(call, 1, "VN"), Playing)
    edge.ask(Bridge(call), Done)
    assert not edge.event(PlayFinished).whole
    edge.ask(Play(call, 1, asset(tmp_path, 600)), Playing)
    alice.listen()
    alice.heard.clear()
    talk(alice, bob, frames=20)
    assert strength(alice.sound(), 600) > 0.95  # not a frame of the other phone among it
    assert strength(bob.sound(), 440) > 0.95
    edge.event(PlayFinished)
    alice.heard.clear()
    talk(bob, frames=10, frequencies=(880,), hearing=(alice,))
    assert strength(alice.sound(), 880) > 0.95


def test_the_warning_is_two_pips_and_then_both_hear_each_other_again(
    edge: Edge, call: str, alice: Phone, tmp_path: Path
) -> None:
    with Phone() as bob:
        alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
        edge.connect(call, 1, alice)
        edge.connect(call, 2, bob)
        edge.ask(plane.Record(call, "rec_w", str(tmp_path), SEAL), Done)
        edge.ask(Bridge(call), Done)
        for leg in (1, 2):
            edge.ask(plane.Warn(call, 1 if leg == 1 else 2), Playing)
        assert {edge.event(PlayFinished).leg, edge.event(PlayFinished).leg} == {1, 2}
        for phone in (alice, bob):
            phone.listen(0.05)
            assert len(phone.heard) == 20 and strength(phone.sound()[: 2 * 1_200], 1_400) > 0.9
        assert edge.ask(plane.End(call), plane.Recorded).packets == 0, "in no recording"
        alice.heard.clear()
        talk(bob, frames=10)
        alice.listen(0.05)
        assert alice.heard


def test_what_was_keyed_is_confirmed_by_one_pip_to_that_phone_alone(edge: Edge, call: str, alice: Phone) -> None:
    with Phone() as bob:
        alice.to, bob.to = (("127.0.0.1", port) for port in edge.open(call))
        edge.connect(call, 1, alice)
        edge.connect(call, 2, bob)
        edge.ask(Bridge(call), Done)
        edge.ask(plane.Confirm(call, 1), Playing)
        assert edge.event(PlayFinished).leg == 1
        alice.listen(0.05)
        bob.listen(0.05)
        assert len(alice.heard) == 15 and strength(alice.sound()[: 2 * 2_400], 1_000) > 0.9
        assert not bob.heard


def test_ring_back_sounds_as_in_the_country(edge: Edge, call: str, alice: Phone) -> None:
    edge.open(call, legs=1)
    edge.connect(call, 1, alice)
    edge.ask(RingBack(call, 1, "VN"), Playing)
    alice.wait_for(60)
    sound = alice.sound()
    assert strength(sound[:16_000], 425) > 0.99
    assert strength(sound[16_000:], 425) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    ("country", "frequencies"), [("VN", [425]), ("us", [440, 480]), ("GB", [400, 450]), ("ZZ", [425])]
)
def test_every_country_rings(country: str, frequencies: list[int]) -> None:
    pcm = tones.ring_back(country)
    on = tones.RING_BACK.get(country.upper(), tones.RING_BACK["VN"]).cadence[0]
    first = pcm[: round(on * 8000) * 2]
    assert sum(strength(first, frequency) for frequency in frequencies) > 0.98
    assert len(pcm) % (2 * g711.FRAME) == 0


def test_a_file_that_is_no_prompt_is_refused(edge: Edge, call: str, alice: Phone, tmp_path: Path) -> None:
    edge.open(call, legs=1)
    edge.connect(call, 1, alice)
    text = tmp_path / "notes.wav"
    text.write_text("hello")
    for path in (
        str(text),
        str(tmp_path / "nothing.wav"),
        str(tmp_path),
        "",
        "a\0b",
        asset(tmp_path, rate=16_000),
        asset(tmp_path, samples=800, channels=2),
        asset(tmp_path, samples=0),
    ):
        failed = edge.ask(Play(call, 1, path), Failed)
        assert failed.code == "bad_asset" and isinstance(failed.error(), BadAsset)
        assert "/" not in failed.detail


def test_a_leg_without_a_peer_plays_nothing(edge: Edge, call: str, tmp_path: Path) -> None:
    edge.open(call)
    assert edge.ask(Play(call, 1, asset(tmp_path)), Failed).code == "bad_request"


def test_a_prompt_that_is_being_read_when_its_call_ends_is_not_played(
    edge: Edge, call: str, alice: Phone, tmp_path: Path
) -> None:
    edge.open(call, legs=1)
    edge.connect(call, 1, alice)
    path = asset(tmp_path, samples=400_000)  # long enough to be read for a while
    play, close = edge.send(Play(call, 1, path)), edge.send(plane.Close(call))
    assert isinstance(edge.result(close), plane.Closed)
    answer = edge.result(play)
    assert isinstance(answer, Failed) and answer.code == "unknown_call"


def test_assets_are_kept_until_others_are_used_more() -> None:
    assets = Assets()
    for number in range(300):
        assets.add(f"{number}.wav", "PCMA", [b""])
        assets.find("0.wav", "PCMA")
    assert assets.find("0.wav", "PCMA") is not None
    assert assets.find("1.wav", "PCMA") is None and assets.find("299.wav", "PCMA") is not None
    assert assets.find("299.wav", "PCMU") is None


def test_the_last_frame_is_filled_with_silence() -> None:
    frames = frames_of(bytes(2 * 161), "PCMU")
    assert [len(frame) for frame in frames] == [160, 160] and frames[1] == b"\xff" * 160


def test_a_prompt_longer_than_ten_minutes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * 8000 * 601))
    with pytest.raises(BadWave):
        read_wave(str(path))


def test_keys_are_pressed_one_after_the_other_and_only_for_who_takes_them(edge: Edge, call: str, alice: Phone) -> None:
    edge.open(call)
    edge.connect(call, 1, alice)
    with Phone(dtmf=None) as bob:
        edge.connect(call, 2, bob)
        assert edge.ask(Press(call, 2, "1"), Failed).code == "bad_request"
    assert edge.ask(Press(call, 1, "x"), Failed).code == "bad_request"
    first, second = (edge.ask(Press(call, 1, key), Playing) for key in "1D")
    assert first == second, "the second waits for the first"
    assert edge.event(PlayFinished).whole
    alice.listen(0.05)
    assert [packet.payload_type for packet in alice.heard] == [101] * 22
    assert [packet.payload[0] for packet in alice.heard] == [1] * 11 + [15] * 11
    assert [packet.marker for packet in alice.heard] == ([True] + [False] * 10) * 2
    begins = [packet.timestamp for packet in alice.heard if packet.marker]
    assert begins[1] - begins[0] == pytest.approx(220 * 8, abs=320), "as much later as it was pressed"
    for before, one in itertools.pairwise(alice.heard):
        assert one.sequence == before.sequence + 1 & 0xFFFF
