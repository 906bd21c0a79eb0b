"""Key presses: many packets, one digit, however they are lost, repeated and shuffled."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.media.telephone_events import KEYS, LAPSE, Pressed, Receiver, packets


def heard(stream: list[tuple[int, bytes]]) -> str:
    receiver = Receiver()
    pressed = [one for step, (at, payload) in enumerate(stream) for one in receiver.receive(at, payload, step * 0.02)]
    return "".join(one.digit for one in pressed + receiver.lapse(len(stream) * 0.02 + LAPSE))


def pressing(digits: str) -> list[tuple[int, bytes]]:
    return [(1000 * press, payload) for press, digit in enumerate(digits) for payload in packets(digit)]


def test_each_key_is_told_once_with_its_length() -> None:
    receiver = Receiver()
    told = [one for payload in packets("5", frames=8) for one in receiver.receive(7, payload, 0.0)]
    assert told == [Pressed("5", 0.16)]
    assert heard(pressing(KEYS)) == KEYS


def test_a_key_is_told_at_its_first_end_packet() -> None:
    receiver = Receiver()
    stream = packets("#", frames=4)
    assert [bool(receiver.receive(7, payload, 0.0)) for payload in stream] == [False] * 4 + [True, False, False]


def test_a_key_whose_ends_were_lost_is_told_when_it_lapses_or_the_next_begins() -> None:
    receiver = Receiver()
    assert receiver.receive(7, packets("1")[0], 1.0) == []
    assert receiver.lapse(1.0 + LAPSE / 2) == []
    assert [one.digit for one in receiver.lapse(1.0 + LAPSE)] == ["1"]
    assert receiver.lapse(9.0) == []
    assert receiver.receive(7, packets("1")[-1], 9.0) == []
    receiver.receive(2000, packets("2")[0], 10.0)
    assert [one.digit for one in receiver.receive(4000, packets("3")[0], 10.1)] == ["2"]


def test_late_packets_of_an_old_key_are_not_a_new_one() -> None:
    receiver = Receiver()
    receiver.receive(1000, packets("1")[-1], 0.0)
    receiver.receive(2000, packets("2")[-1], 0.1)
    assert receiver.receive(1000, packets("1")[-1], 0.2) == []


@given(st.text(KEYS, min_size=1, max_size=12), st.integers(0, 2**32), st.floats(0, 0.3))
def test_digits_survive_loss_and_small_reordering(digits: str, seed: int, loss: float) -> None:
    chance = random.Random(seed)
    stream = []
    for press, digit in enumerate(digits):
        payloads = packets(digit)
        kept = [one for one in payloads if chance.random() >= loss] or payloads[:1]
        kept = sorted(kept, key=lambda _: chance.random())
        stream += [(1000 * press, one) for one in kept]
    assert heard(stream) == digits


@given(st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.binary(max_size=8)), max_size=40))
def test_noise_tells_keys_or_nothing(stream: list[tuple[int, bytes]]) -> None:
    assert set(heard(stream)) <= set(KEYS)


@pytest.mark.parametrize("digit", ["", "x", "12", "é"])
def test_what_is_no_key_is_refused(digit: str) -> None:
    with pytest.raises(ValueError):
        packets(digit)
